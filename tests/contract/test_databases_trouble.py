"""Databases that are locked, slow, frozen, restarted or changed under the adapter: late or UNAVAILABLE, never wrong."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from pathlib import Path
from urllib.parse import quote

import pytest

from adapter_frames import Bureau, grants
from adapter_support import ANNA, AS_OF, BO, CHEN, Owner, attribute, resident
from adapters.database import DatabaseError, connect_to
from adapters.mapping import Database
from servers import READER, Server, fresh_name
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
EXPECTED = [YES, NO, UNKNOWN]

# A driver that fails to connect leaves its socket to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TABLES = """
CREATE TABLE person (id_card VARCHAR(20), months INTEGER, note VARCHAR(50));
CREATE INDEX person_id ON person (id_card);
CREATE TABLE home (id_card VARCHAR(20), rooms INTEGER);
CREATE TABLE loads (loaded_at VARCHAR(30))
"""

MAPPING = """
[data.person]
table = "person"
subject = "id_card"
loaded = "SELECT max(loaded_at) FROM loads"

[data.home]
table = "home"
subject = "id_card"

[attribute.months]
data = "person"
value = "months"

[attribute.spoilt]
data = "person"
value = "{spoilt}"

[attribute.slow]
data = "person"
value = "{slow}"

[attribute.pause]
data = "person"
value = "{pause}"

[attribute.counted]
data = "person"
value = "{counted}"

[attribute.rooms]
data = "home"
value = "rooms"
"""

EXPRESSIONS = {
    "sqlite": {
        "spoilt": "json_extract(note, '$.n')",
        "slow": "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c)",
        "pause": "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 99999) SELECT count(*) FROM c)",
    },
    "postgresql": {
        "spoilt": "CAST(note AS integer)",
        "slow": "(SELECT 1 FROM pg_sleep(600 + months))",
        "pause": "(SELECT 1 FROM pg_sleep(0.1 + 0 * months))",
    },
    "mariadb": {
        "spoilt": "(SELECT h.rooms FROM home h WHERE h.id_card = person.note)",
        "slow": "benchmark(1000000000000, md5(months))",
        "pause": "sleep(0.1 + 0 * months)",
        "counted": "counted(months)",
    },
}

PUBLISHED = "".join(
    attribute(name, 'type = "integer"\nat_least = [1, 12]')
    for name in ("months", "spoilt", "slow", "pause", "counted", "rooms")
)

ROWS: dict[str, list[tuple[object, ...]]] = {
    "person": [(ANNA, 12, None), (BO, 3, None)],
    "home": [(ANNA, 2), ("twice", 1), ("twice", 2)],
    "loads": [("2026-09-19",)],
}

Make = Callable[..., Owner]


@pytest.fixture(params=("sqlite", "postgresql", "mariadb"))
def family(request: pytest.FixtureRequest) -> str:
    family: str = request.param
    return family


@pytest.fixture(params=("postgresql", "mariadb"))
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes an owner in a database of a family."""
    with ExitStack() as made:

        def make(family: str, settings: str = "") -> Owner:
            owner = Owner(
                tmp_path,
                tables=TABLES,
                rows=ROWS,
                mapping=MAPPING.format(**{"counted": "months"} | EXPRESSIONS[family]),
                published=PUBLISHED,
                server=None if family == "sqlite" else request.getfixturevalue(family),
                settings=settings,
            )
            made.callback(owner.close)
            return owner

        yield make


def months(owner: Owner) -> list[Outcome]:
    return owner.ask("months at_least", ANNA, BO, CHEN, value="12")


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_a_locked_table_times_out_and_others_go_on(server: Server, make: Make) -> None:
    owner = make(server.family, "timeout = 1")
    assert months(owner) == EXPECTED
    with server.admin(owner.name) as admin:
        if server.family == "postgresql":
            admin.exec_driver_sql("BEGIN")
            admin.exec_driver_sql("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
        else:
            admin.exec_driver_sql("LOCK TABLES person WRITE")
        with pytest.raises(DatabaseError) as caught:
            months(owner)
        assert caught.value.outcome is Outcome.TIMED_OUT
        assert owner.ask("rooms at_least", ANNA, CHEN, value="1") == [YES, UNKNOWN]
        admin.exec_driver_sql("ROLLBACK" if server.family == "postgresql" else "UNLOCK TABLES")
    assert months(owner) == EXPECTED


def test_in_a_frame_a_locked_table_costs_its_own_claims_only(server: Server, tmp_path: Path) -> None:
    bureau = Bureau(
        tmp_path,
        tables=TABLES,
        rows=ROWS,
        mapping=MAPPING.format(**{"counted": "months"} | EXPRESSIONS[server.family]),
        published=PUBLISHED + grants(["hrss.months at_least", "hrss.rooms at_least"]),
        server=server,
        settings="timeout = 1",
    )
    claims = ["child: hrss.months at_least 12", "child: hrss.rooms at_least 1"]
    try:
        with server.admin(bureau.name) as admin:
            if server.family == "postgresql":
                admin.exec_driver_sql("BEGIN")
                admin.exec_driver_sql("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
            else:
                admin.exec_driver_sql("LOCK TABLES person WRITE")
            assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.TIMED_OUT, YES]
            admin.exec_driver_sql("ROLLBACK" if server.family == "postgresql" else "UNLOCK TABLES")
        assert bureau.ask_all(claims, {"child": ANNA}) == [YES, YES]
    finally:
        bureau.close()


def test_a_locked_file_is_unavailable_and_comes_back(make: Make) -> None:
    owner = make("sqlite", "timeout = 1")
    assert months(owner) == EXPECTED
    writer = sqlite3.connect(owner.database, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseError):
        months(owner)
    writer.execute("ROLLBACK")
    writer.close()
    assert months(owner) == EXPECTED


def test_a_statement_that_takes_too_long_ends_once_and_on_the_server(family: str, make: Make) -> None:
    owner = make(family, "timeout = 1")
    assert months(owner) == EXPECTED
    opened: list[object] = []
    connect = owner.connections.connect
    owner.connections.connect = lambda: opened.append(None) or connect()  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(DatabaseError) as caught:
        owner.ask("slow at_least", ANNA, value="1")
    assert caught.value.outcome is Outcome.TIMED_OUT
    # It was not tried a second time over another connection.
    assert not opened
    if owner.server is not None:
        assert eventually(lambda: not owner.server.running_statements()), owner.server.running_statements()  # type: ignore[union-attr]  # looked at above
    assert months(owner) == EXPECTED


def test_whoever_waits_gets_the_next_connection_that_comes_back(family: str, make: Make) -> None:
    owner = make(family, "connections = 2\ntimeout = 20")
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(owner.ask, "pause at_least", ANNA, value="12") for _ in range(24)]
        answers = [one.result() for one in asked]
    assert {tuple(one) for one in answers} <= {(YES,), (NO,)}
    assert len({tuple(one) for one in answers}) == 1
    if owner.server is not None:
        with owner.server.admin(owner.name) as admin:
            counted = (
                f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{READER}'"  # noqa: S608 - a constant
                if owner.server.family == "postgresql"
                else f"SELECT count(*) FROM information_schema.processlist WHERE user = '{READER}'"  # noqa: S608 - a constant
            )
            assert admin.exec_driver_sql(counted).scalar_one() == 2


def test_who_waits_in_vain_is_told_so(family: str, make: Make) -> None:
    owner = make(family, "connections = 1\ntimeout = 1")
    with owner.source.lend(), pytest.raises(DatabaseError) as caught:
        months(owner)
    assert caught.value.outcome is Outcome.DATABASE_UNAVAILABLE
    assert months(owner) == EXPECTED


def test_a_restart_under_load_costs_time_and_never_an_answer(server: Server, make: Make) -> None:
    owner = make(server.family, "connections = 4\ntimeout = 5")
    stop = threading.Event()
    answered = [0] * 4
    wrong: list[object] = []

    def ask(number: int) -> None:
        while not stop.is_set():
            try:
                outcomes = months(owner)
            except DatabaseError:
                time.sleep(0.02)
                continue
            except Exception as error:  # noqa: BLE001 - nothing else may come
                wrong.append(repr(error))
                return
            answered[number] += 1
            if outcomes != EXPECTED:
                wrong.append(outcomes)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            assert eventually(lambda: min(answered) > 0)
            server.stop()
            time.sleep(0.2)
            server.start()
            answered[:] = [0] * 4
        assert eventually(lambda: min(answered) > 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_restart_between_two_questions_is_not_noticed(server: Server, make: Make) -> None:
    owner = make(server.family)
    assert months(owner) == EXPECTED
    server.stop()
    server.start()
    assert months(owner) == EXPECTED


def test_a_server_that_is_away_is_unavailable_and_readiness_says_so(server: Server, make: Make) -> None:
    owner = make(server.family, "timeout = 1")
    assert months(owner) == EXPECTED
    server.stop()
    try:
        with pytest.raises(DatabaseError):
            months(owner)
        with pytest.raises(DatabaseError):
            owner.source.look()
    finally:
        server.start()
    owner.source.look()
    assert months(owner) == EXPECTED


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Its processes stopped, each thread of them: until a thread has noticed, it goes on answering."""
    pids = server.pids()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        tasks = [task / "stat" for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        assert eventually(lambda: all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_falls_silent_holds_nobody_for_ever(server: Server, make: Make) -> None:
    owner = make(server.family, "timeout = 1")
    assert months(owner) == EXPECTED
    with frozen(server), pytest.raises(DatabaseError):
        months(owner)
    assert eventually(lambda: _answers(owner))


def test_a_server_that_is_frozen_before_anybody_connects_is_unavailable_until_it_thaws(
    server: Server, make: Make
) -> None:
    owner = make(server.family, "timeout = 1")
    with frozen(server):
        for _ in range(2):
            with pytest.raises(DatabaseError) as caught:
                months(owner)
            assert caught.value.outcome is Outcome.DATABASE_UNAVAILABLE
    assert eventually(lambda: _answers(owner))


class Silent:
    """Stands before a PostgreSQL and passes everything on, but what its server says after `patience` messages.

    Args:
        server: Before which.
        directory: Of the socket on which it listens; its path is short.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self.patience: float = 0
        self._server = server.socket()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / server.socket().name))
        self._listening.listen()
        self._opened = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                self._opened += [client, server]
                server.connect(str(self._server))
                threading.Thread(target=self._pass, args=(client, server, inf), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, self.patience), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, patience: float) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if patience > 0:
                    target.sendall(data)
                patience -= 1


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_a_server_that_falls_silent_while_a_session_begins_holds_nobody_for_ever(
    postgresql: Server, tmp_path_factory: pytest.TempPathFactory, patience: int
) -> None:
    """From the moment at which the kernel accepts a connection to the driver's own first questions."""
    name = fresh_name()
    postgresql.create(name)
    with tempfile.TemporaryDirectory() as short:
        before = Silent(postgresql, Path(short))
        url = postgresql.url(name).replace(quote(str(postgresql.socket().parent), ""), quote(short, ""))
        url = url.replace(str(postgresql.socket().parent), short)
        connections = connect_to(Database(url=url, timeout=1), tmp_path_factory.getbasetemp())
        try:
            before.patience = patience
            for _ in range(2):
                with pytest.raises(DatabaseError) as caught, connections.lend():
                    pass
                assert caught.value.outcome is Outcome.DATABASE_UNAVAILABLE
            before.patience = inf
            with connections.lend() as lent:
                assert lent.fetch("SELECT 7") == [(7,)]
        finally:
            connections.close()
            before.close()
            postgresql.drop(name)


def _answers(owner: Owner) -> bool:
    try:
        return months(owner) == EXPECTED
    except DatabaseError:
        return False


def test_a_bad_row_spoils_neither_its_group_nor_its_neighbours(family: str, make: Make) -> None:
    owner = make(family)
    bad = {"sqlite": "not json", "postgresql": "12abc", "mariadb": "twice"}[family]
    good = {"sqlite": '{"n": 12}', "postgresql": "12", "mariadb": ANNA}[family]
    people = [resident(serial) for serial in range(100, 140)]
    owner.insert("person", [(person, 12, bad if index in {3, 17} else good) for index, person in enumerate(people)])
    outcomes = owner.ask("spoilt at_least", *people, value="1")
    assert outcomes == [UNKNOWN if index in {3, 17} else YES for index in range(len(people))]


def test_a_grant_that_is_gone_makes_its_data_set_unavailable_and_no_other(server: Server, make: Make) -> None:
    owner = make(server.family)
    who, table = (
        (READER, "person") if server.family == "postgresql" else (f"{READER}@localhost", f"{owner.name}.person")
    )
    if server.family == "mariadb":
        owner.change(
            f"REVOKE ALL PRIVILEGES ON {owner.name}.* FROM {who}",
            *(f"GRANT SELECT ON {owner.name}.{name} TO {who}" for name in ("person", "home", "loads")),
        )
    assert months(owner) == EXPECTED
    owner.change(f"REVOKE ALL PRIVILEGES ON {table} FROM {who}")
    for _ in range(2):
        with pytest.raises(DatabaseError):
            months(owner)
    assert owner.ask("rooms at_least", ANNA, CHEN, value="1") == [YES, UNKNOWN]
    owner.change(f"GRANT SELECT ON {table} TO {who}")
    assert months(owner) == EXPECTED


def test_a_column_that_was_renamed_makes_its_data_set_unavailable_until_it_is_back(family: str, make: Make) -> None:
    owner = make(family)
    assert months(owner) == EXPECTED
    owner.change("ALTER TABLE person RENAME COLUMN months TO monate")
    for _ in range(2):
        with pytest.raises(DatabaseError):
            months(owner)
    assert owner.ask("rooms at_least", ANNA, CHEN, value="1") == [YES, UNKNOWN]
    owner.change("ALTER TABLE person RENAME COLUMN monate TO months")
    assert months(owner) == EXPECTED


def test_a_column_of_another_type_needs_no_restart(server: Server, make: Make) -> None:
    owner = make(server.family)
    with owner.source.lend() as lent:
        for _ in range(8):  # often enough for psycopg to prepare the statement, whose result may then not change
            owner.now += 3
            first = owner.source.loaded(lent, "person")
    kind = "ALTER COLUMN loaded_at TYPE DATE USING loaded_at::date"
    owner.change(f"ALTER TABLE loads {kind if server.family == 'postgresql' else 'MODIFY loaded_at DATE'}")
    owner.now += 3
    assert eventually(lambda: _loaded(owner) == first)


def _loaded(owner: Owner) -> object:
    try:
        with owner.source.lend() as lent:
            return owner.source.loaded(lent, "person")
    except DatabaseError:
        return None


def test_an_expression_is_evaluated_once_for_each_record(make: Make) -> None:
    owner = make("mariadb")
    owner.change(
        "CREATE FUNCTION counted(n INT) RETURNS INT NOT DETERMINISTIC "
        "BEGIN SET @zw_calls = coalesce(@zw_calls, 0) + 1; RETURN n; END",
        f"GRANT EXECUTE ON {owner.name}.* TO {READER}@localhost",
    )
    with owner.source.lend() as lent:
        plan = owner.source.plan("person", (("counted", Predicate.AT_LEAST), ("months", Predicate.AT_LEAST)))
        rows = [((person,), None, None, ["1", "12"]) for person in (ANNA, BO)]
        assert owner.source.run(lent, plan, AS_OF, rows) == [bytes([YES, YES]), bytes([YES, NO])]
        assert lent.fetch("SELECT @zw_calls") == [(2,)]


def test_the_accounts_session_only_reads(server: Server, make: Make) -> None:
    owner = make(server.family)
    with owner.source.lend() as lent, pytest.raises(DatabaseError):
        lent.fetch("DELETE FROM person WHERE id_card = 'nobody'")
