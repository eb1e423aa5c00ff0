"""What every session of a log in PostgreSQL is set to, what is refused at its start, and what is never said."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

import audit_support as support
from audit import postgres
from audit.postgres import checked_url, is_encrypted, open_postgres
from audit.trouble import cause_of
from log_places import PostgresDatabase
from servers import Server
from zhiwang.wire.errors import FatalError, Reason

SECRET = "correct horse"


@pytest.fixture
def place(postgresql: Server) -> Iterator[PostgresDatabase]:
    place = PostgresDatabase(postgresql)
    support.close(support.make_store(place))
    yield place
    place.drop()


def shown(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def test_every_session_is_durable_bounded_and_says_who_it_is(place: PostgresDatabase) -> None:
    with place.raw("postgres") as admin:
        # What a database or an account was set to years ago decides nothing.
        admin.execute(f"ALTER DATABASE {place.name} SET synchronous_commit = off".encode())
        admin.execute(f"ALTER DATABASE {place.name} SET search_path = public".encode())
        admin.execute(f"ALTER DATABASE {place.name} SET default_transaction_isolation = serializable".encode())
    store = support.reopen(place)
    wanted = {
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "3s",
        "search_path": "zhiwang, pg_temp",
        "application_name": "zhiwang log",
    }
    with store.transaction() as connection:
        assert {name: shown(connection, name) for name in wanted} == wanted
    with store.reading.connect() as connection:
        assert shown(connection, "transaction_isolation") == "repeatable read"
        assert shown(connection, "transaction_read_only") == "on"
    with store.transaction() as connection:
        assert shown(connection, "transaction_read_only") == "off"  # the same session, used for reading before
    support.close(store)


def test_a_session_that_is_not_set_as_asked_for_is_not_used(
    place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = postgres._arguments

    def as_a_pooler_passes_them_on() -> dict[str, Any]:
        return real() | {"options": "-c lock_timeout=10s -c search_path=zhiwang,\\ pg_temp"}

    monkeypatch.setattr(postgres, "_arguments", as_a_pooler_passes_them_on)
    with pytest.raises(FatalError, match=r"idle_in_transaction_session_timeout, statement_timeout\. Is there a pooler"):
        place.open()


def test_a_temporary_table_of_the_same_name_deceives_nobody(place: PostgresDatabase) -> None:
    store = support.reopen(place)
    done = support.append(store, 3)
    with store.transaction() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE log_head (size bigint, root bytea) ON COMMIT DROP")
        more = store.append(connection, support.new_entries(store, 1))
    store.committed(more)
    support.close(store)
    assert support.check_log(place, done, more) == 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "must name a database"),
        ("no url", "must name a database"),
        ("sqlite:///log.db", "must name a database"),
        ("postgresql+asyncpg://hub@db/log", "must name a database"),
        ("mysql+pymysql://hub@db/log", "must name a database"),
        ("postgresql://db/log", "must name a database"),
        ("postgresql://hub@db", "must name a database"),
        (f"postgresql://hub:{SECRET}@db/log", "holds a password"),
        (f"postgresql://hub@db/log?password={SECRET}", "holds a password"),
        (f"postgresql://hub:{SECRET}@horse@db/log", "holds a password"),
        ("postgresql://hub@db/log?options=-csynchronous_commit%3Doff", "decides what a session is"),
        ("postgresql://hub@db/log?service=other", "decides what a session is"),
        ("postgresql://hub@db/log?passfile=other", "decides what a session is"),
    ],
)
def test_a_url_that_is_none_or_says_too_much_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        checked_url(url)
    assert SECRET not in str(caught.value)
    with pytest.raises(FatalError, match=said):
        open_postgres(url)


def test_an_option_that_libpq_does_not_take_is_told_without_the_password(
    place: PostgresDatabase, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(SECRET)
    for option in ("sslmoode=require", "sslmode=nonsense"):
        with pytest.raises(FatalError) as caught:
            open_postgres(f"{place.url()}&{option}", password)
        assert caught.value.reason is Reason.LOG_UNAVAILABLE
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"secret", 0o640, "can be read by others"),
        (b"", 0o600, "on its first line"),
        (b"\nsecret", 0o600, "on its first line"),
        (b"\xff\xfe", 0o600, "on its first line"),
        (None, 0, "No such file"),
    ],
)
def test_a_password_file_is_private_and_holds_a_password(
    place: PostgresDatabase, tmp_path: Path, content: bytes | None, mode: int, said: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(FatalError, match=said):
        open_postgres(place.url(), path)


def test_a_server_that_cannot_be_reached_is_named_with_its_database(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"log at .*, cannot be reached as hub: connection"):
        open_postgres(f"postgresql+psycopg://hub@/log?host={tmp_path}")


def test_a_server_that_is_too_old_is_refused(place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "OLDEST", 99)
    with pytest.raises(FatalError, match="it takes 99 or newer"):
        place.open()


def test_a_connection_that_leaves_the_machine_in_clear_is_known_for_it(place: PostgresDatabase) -> None:
    engine = place.open()
    with engine.connect() as connection:
        assert is_encrypted(connection)  # a Unix socket
        assert postgres.careless(connection) == ["fsync"]  # as servers of tests are
    engine.dispose()


def test_what_a_server_says_of_values_is_never_passed_on(place: PostgresDatabase) -> None:
    store = support.reopen(place)
    with pytest.raises(FatalError) as caught, store.transaction() as connection:
        connection.exec_driver_sql("SELECT (%s || 'x')::bigint", (SECRET,))
    chain: BaseException | None = caught.value
    assert "InvalidTextRepresentation 22P02" in str(caught.value)
    assert SECRET not in str(chain)
    assert SECRET not in (store.stopped or "")
    support.close(store)


def test_a_connection_that_is_cut_while_it_waits_says_so(place: PostgresDatabase) -> None:
    with closing(place.raw()) as connection, place.raw("postgres") as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of the driver; what is made of it is the promise
            connection.execute("SELECT 1")
    assert cause_of(caught.value).startswith("AdminShutdown 57P01")


def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    held.append(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        with pytest.raises(FatalError, match="cannot be reached as hub: connection timeout expired"):
            open_postgres(f"postgresql+psycopg://hub@127.0.0.1:{silent.getsockname()[1]}/log")
        for one in held:
            one.close()
