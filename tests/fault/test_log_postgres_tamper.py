"""Hands in the database: what PostgreSQL refuses to the hub's account and to the owner, and what opening finds out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

import audit_support as support
from audit.postgres import open_postgres
from audit.postgres_schema import Roles, script
from audit.reader import LogReader
from audit.store import LogStore
from log_places import ROLES, WRITER, PostgresDatabase
from servers import Server
from zhiwang.wire.errors import FatalError, Reason

# S608: the statements are the examples of this file; nothing in them comes from outside.
# ruff: noqa: S608
SIZE = 601
SECOND = "'\\x" + "22" * 32 + "'"
TILE = "'\\x" + "33" * 8192 + "'"

CHANGES = [
    "UPDATE zhiwang.log_entry SET data = '' WHERE idx = 5",
    "UPDATE zhiwang.log_entry SET idx = 9999 WHERE idx = 600",
    "DELETE FROM zhiwang.log_entry WHERE idx = 600",
    "DELETE FROM zhiwang.log_entry WHERE false",
    "TRUNCATE zhiwang.log_entry",
    "TRUNCATE zhiwang.log_head, zhiwang.log_tile, zhiwang.log_entry",
    f"INSERT INTO zhiwang.log_entry VALUES (5, {SECOND}, {SECOND}, '')",
    f"INSERT INTO zhiwang.log_entry VALUES (5, {SECOND}, {SECOND}, '') ON CONFLICT (idx) DO UPDATE SET data = ''",
    f"INSERT INTO zhiwang.log_entry VALUES (602, {SECOND}, {SECOND}, '')",
    f"INSERT INTO zhiwang.log_entry VALUES (601, {SECOND}, {SECOND}, ''), (603, {SECOND}, {SECOND}, '')",
    f"INSERT INTO zhiwang.log_entry VALUES (-1, {SECOND}, {SECOND}, '')",
    f"INSERT INTO zhiwang.log_entry VALUES (NULL, {SECOND}, {SECOND}, '')",
    f"""MERGE INTO zhiwang.log_entry e USING (VALUES (5)) AS v (idx) ON e.idx = v.idx
        WHEN MATCHED THEN UPDATE SET data = {SECOND}""",
    """MERGE INTO zhiwang.log_entry e USING (VALUES (5)) AS v (idx) ON e.idx = v.idx WHEN MATCHED THEN DELETE""",
    f"UPDATE zhiwang.log_tile SET hashes = {TILE} WHERE idx = 0",
    "DELETE FROM zhiwang.log_tile",
    "TRUNCATE zhiwang.log_tile",
    f"INSERT INTO zhiwang.log_tile VALUES (0, 0, {TILE})",
    f"INSERT INTO zhiwang.log_tile VALUES (0, 0, {TILE}) ON CONFLICT (level, idx) DO UPDATE SET hashes = {TILE}",
    f"INSERT INTO zhiwang.log_tile VALUES (0, 7, {TILE})",
    f"INSERT INTO zhiwang.log_tile VALUES (1, 1, {TILE})",
    "UPDATE zhiwang.log_head SET size = 600",
    "UPDATE zhiwang.log_head SET size = 602",
    f"UPDATE zhiwang.log_head SET root = {SECOND}",
    "UPDATE zhiwang.log_head SET id = 2",
    "DELETE FROM zhiwang.log_head",
    f"INSERT INTO zhiwang.log_head VALUES (2, 601, {SECOND}, '', '')",
    f"INSERT INTO zhiwang.log_head VALUES (1, 601, {SECOND}, '', '') ON CONFLICT (id) DO UPDATE SET size = 600",
]
"""What an owner is refused by triggers and constraints, and everybody else by rights too."""

POWERS = [
    "ALTER TABLE zhiwang.log_entry DISABLE TRIGGER ALL",
    "ALTER TABLE zhiwang.log_entry DISABLE TRIGGER log_entry_never",
    "DROP TRIGGER log_entry_never ON zhiwang.log_entry",
    "DROP TABLE zhiwang.log_head",
    "ALTER TABLE zhiwang.log_entry ADD COLUMN note text",
    "CREATE TABLE zhiwang.mine (n integer)",
    "CREATE INDEX mine ON zhiwang.log_entry (key)",
    "CREATE RULE mine AS ON UPDATE TO zhiwang.log_entry DO INSTEAD NOTHING",
    "CREATE TRIGGER mine BEFORE INSERT ON zhiwang.log_entry EXECUTE FUNCTION zhiwang.log_entry_never()",
    "CREATE OR REPLACE FUNCTION zhiwang.log_entry_never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "ALTER FUNCTION zhiwang.log_head_lock() SECURITY INVOKER",
    "ALTER TABLE zhiwang.log_entry OWNER TO hub",
    "LOCK TABLE zhiwang.log_head IN ACCESS EXCLUSIVE MODE",
    "SELECT FROM zhiwang.log_head FOR UPDATE",
    "SET session_replication_role = replica",
    "SET ROLE hub_owner",
    "ALTER ROLE hub SUPERUSER",
    "CREATE ROLE mine",
    "CREATE EXTENSION adminpack",
]


@pytest.fixture(scope="module")
def untouched(postgresql: Server) -> Iterator[PostgresDatabase]:
    untouched = PostgresDatabase(postgresql)
    store = support.make_store(untouched)
    support.append(store, SIZE - 1)
    support.close(store)
    yield untouched
    untouched.drop()


@pytest.fixture
def place(untouched: PostgresDatabase) -> Iterator[PostgresDatabase]:
    place = untouched.copy()
    yield place
    place.drop()


def refusal(connection: psycopg.Connection[Any], statement: str) -> type[Exception] | None:
    """How the database refuses a statement, if it does."""
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except errors.Error as error:
        return type(error)
    return None


def test_the_hubs_account_can_do_nothing_but_read_and_append(place: PostgresDatabase) -> None:
    with place.raw() as connection:
        for statement in [*CHANGES, *POWERS]:
            assert refusal(connection, statement) is errors.InsufficientPrivilege, statement
        with (
            pytest.raises(errors.InsufficientPrivilege),
            connection.cursor().copy(b"COPY zhiwang.log_entry FROM STDIN") as copy,
        ):
            copy.write_row((601, b"2" * 32, b"2" * 32, b""))
    assert support.check_log(place) == SIZE


def test_the_function_that_appends_takes_no_stale_head_and_no_gap(place: PostgresDatabase) -> None:
    append = "SELECT zhiwang.log_entry_append(%s, %s, %s, %s, '', '', %b::bytea[], %b, %b::bytea[], '{}', '{}', '{}')"
    with place.raw() as connection:
        row = connection.execute("SELECT size, root FROM zhiwang.log_head").fetchone()
        assert row is not None
        size, root = row
        key = [b"2" * 32]
        for stale in ((size - 1, root), (size, b"2" * 32), (size + 1, root), (None, root)):
            with pytest.raises(errors.IntegrityConstraintViolation, match="its head has moved"):
                connection.execute(append, (*stale, size + 1, b"3" * 32, key, key, [b"x"]))
        for claimed in (size, size + 2, size - 1):
            with pytest.raises(errors.IntegrityConstraintViolation, match="only grows"):
                connection.execute(append, (size, root, claimed, b"3" * 32, key, key, [b"x"]))
        with pytest.raises(errors.CheckViolation):
            connection.execute(append, (size, root, size + 1, b"3" * 32, [b"short"], key, [b"x"]))
    assert support.check_log(place) == SIZE


def test_a_reader_can_only_read(place: PostgresDatabase) -> None:
    with place.raw("postgres") as admin:
        admin.execute("DROP ROLE IF EXISTS auditor")
        admin.execute("CREATE ROLE auditor LOGIN IN ROLE hub_reader")
    with place.raw("auditor") as connection:
        assert connection.execute("SELECT count(*) FROM zhiwang.log_entry").fetchone() == (SIZE,)
        for statement in [*CHANGES, *POWERS, "SELECT zhiwang.log_head_lock()"]:
            assert refusal(connection, statement) is errors.InsufficientPrivilege, statement
    assert support.check_log(place) == SIZE


def test_an_auditor_verifies_the_whole_log_with_a_readers_rights(place: PostgresDatabase) -> None:
    with place.raw("postgres") as admin:
        admin.execute("DROP ROLE IF EXISTS auditor")
        admin.execute("CREATE ROLE auditor LOGIN IN ROLE hub_reader")
    engine = open_postgres(place.url("auditor"))
    reader = LogReader(engine)
    with reader.backend.reading.connect() as connection:
        head, _ = reader.load(connection, support.HUB.log_origin, support.signer(), support.verifier())
    assert reader.verify_all(support.HUB.log_origin, lambda _done, _size: None) == head
    assert head.size == SIZE
    engine.dispose()


def test_even_the_owner_is_refused_everything_but_appending(place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection:
        # Triggers are for every session, also for one that plays back what another server did.
        for role in ("origin", "replica"):
            connection.execute("RESET ROLE")
            connection.execute(f"SET session_replication_role = {role}".encode())
            connection.execute("SET ROLE hub_owner")
            for statement in CHANGES:
                with pytest.raises(errors.IntegrityError):
                    connection.execute(statement.encode())
            with (
                pytest.raises(errors.IntegrityConstraintViolation, match="next index"),
                connection.cursor().copy(b"COPY zhiwang.log_entry FROM STDIN") as copy,
            ):
                copy.write_row((700, b"2" * 32, b"2" * 32, b""))
    assert support.check_log(place) == SIZE


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE zhiwang.log_entry DISABLE TRIGGER log_entry_never", "log_entry trigger log_entry_never"),
        ("ALTER TABLE zhiwang.log_head DISABLE TRIGGER ALL", "log_head trigger log_head_grow"),
        ("ALTER TABLE zhiwang.log_entry ENABLE TRIGGER log_entry_never", "log_entry trigger log_entry_never"),
        ("DROP TRIGGER log_tile_next ON zhiwang.log_tile", "log_tile trigger log_tile_next"),
        (
            "CREATE TRIGGER more BEFORE INSERT ON zhiwang.log_entry EXECUTE FUNCTION zhiwang.log_entry_never()",
            "log_entry trigger more",
        ),
        (
            """CREATE OR REPLACE TRIGGER log_head_grow BEFORE UPDATE OF size ON zhiwang.log_head
            FOR EACH ROW EXECUTE FUNCTION zhiwang.log_head_grow()""",
            "log_head trigger log_head_grow",
        ),
        (
            """CREATE OR REPLACE FUNCTION zhiwang.log_entry_never() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'""",
            "log_entry_never",
        ),
        ("ALTER FUNCTION zhiwang.log_head_lock() RESET search_path", "log_head_lock"),
        ("ALTER FUNCTION zhiwang.log_head_lock() SECURITY INVOKER", "log_head_lock"),
        (
            "CREATE FUNCTION zhiwang.log_head_lock(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "log_head_lock (n integer)",
        ),
        ("ALTER TABLE zhiwang.log_entry ADD COLUMN note text", "log_entry column note"),
        ("ALTER TABLE zhiwang.log_entry DROP CONSTRAINT log_entry_key_check", "log_entry constraint CHECK"),
        ("ALTER TABLE zhiwang.log_entry ALTER COLUMN data DROP NOT NULL", "log_entry column data"),
        ("ALTER TABLE zhiwang.log_entry ALTER COLUMN data SET DEFAULT ''", "log_entry column data"),
        ("ALTER TABLE zhiwang.log_tile SET UNLOGGED", "log_tile"),
        ("ALTER TABLE zhiwang.log_entry ENABLE ROW LEVEL SECURITY", "log_entry"),
        ("CREATE RULE quiet AS ON UPDATE TO zhiwang.log_entry DO INSTEAD NOTHING", "log_entry"),
        ("CREATE INDEX quicker ON zhiwang.log_entry (key)", "log_entry index quicker"),
        ("CREATE TABLE zhiwang.child () INHERITS (zhiwang.log_entry)", "log_entry"),
        ("GRANT INSERT ON zhiwang.log_entry TO hub", "hub has INSERT on log_entry"),
        ("GRANT UPDATE (data) ON zhiwang.log_entry TO hub_reader", "hub_reader has UPDATE on log_entry"),
        ("GRANT TRUNCATE ON zhiwang.log_head TO PUBLIC", "PUBLIC has TRUNCATE on log_head"),
        ("GRANT EXECUTE ON FUNCTION zhiwang.log_head_lock() TO PUBLIC", "PUBLIC has EXECUTE on log_head_lock"),
        ("GRANT EXECUTE ON FUNCTION zhiwang.log_head_lock() TO hub_reader", "several accounts may append"),
        ("GRANT CREATE ON SCHEMA zhiwang TO hub", "hub has CREATE on zhiwang"),
        ("ALTER TABLE zhiwang.log_head OWNER TO postgres", "can log in or is a superuser"),
        ("GRANT hub_owner TO hub", "is a member of the log's owner"),
        ("ALTER ROLE hub SUPERUSER", "is a superuser"),
        ("ALTER ROLE hub CREATEROLE", "can make roles"),
        ("GRANT pg_write_all_data TO hub", "may write to every table"),
        ("ALTER DATABASE {name} OWNER TO hub", "owns the database"),
        ("DROP TABLE zhiwang.log_tile", "log_tile"),
        ("DROP SCHEMA zhiwang CASCADE", "holds no tables"),
    ],
)
def test_a_log_whose_keepers_were_changed_does_not_open(place: PostgresDatabase, statement: str, said: str) -> None:
    undo = ["REVOKE hub_owner FROM hub", "ALTER ROLE hub NOSUPERUSER NOCREATEROLE", "REVOKE pg_write_all_data FROM hub"]
    try:
        with place.raw("postgres") as connection:
            connection.execute(statement.format(name=place.name).encode())
        with pytest.raises(FatalError) as caught:
            support.reopen(place)
    finally:
        with place.raw("postgres") as connection:
            for one in undo:
                connection.execute(one.encode())
    assert caught.value.reason is Reason.LOG_UNAVAILABLE
    assert said in (caught.value.detail or "")


def test_a_process_that_runs_stops_where_its_rights_were_changed(place: PostgresDatabase) -> None:
    store = support.reopen(place)
    with place.raw("postgres") as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION zhiwang.log_head_lock() FROM hub")
        with pytest.raises(FatalError, match="InsufficientPrivilege 42501"):
            support.append(store, 1)
        assert not store.healthy
        connection.execute("GRANT EXECUTE ON FUNCTION zhiwang.log_head_lock() TO hub")
    store.open()
    appended = support.append(store, 1)
    support.close(store)
    assert support.check_log(place, appended) == SIZE + 1


def unlocked(place: PostgresDatabase, statement: str) -> None:
    place.unlocked(lambda connection: connection.execute(statement.encode()))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE zhiwang.log_entry SET data = data || '\\x00' WHERE idx = 599", "not the one that was hashed"),
        (f"UPDATE zhiwang.log_entry SET leaf_hash = {SECOND} WHERE idx = 599", "not the one that was hashed"),
        (f"UPDATE zhiwang.log_tile SET hashes = {TILE} WHERE idx = 1", "root recomputed"),
        ("DELETE FROM zhiwang.log_tile WHERE idx = 1", "tiles of level 0 are missing"),
        ("DELETE FROM zhiwang.log_entry WHERE idx = 600", "counts other entries"),
        ("DELETE FROM zhiwang.log_entry WHERE idx = 590", "are missing"),
        (f"UPDATE zhiwang.log_head SET root = {SECOND}", "root recomputed"),
        ("UPDATE zhiwang.log_head SET checkpoint = overlay(checkpoint PLACING 'x' FROM 1)", "does not verify"),
        ("UPDATE zhiwang.log_head SET certificate = '\\x00'", "certificate of its checkpoint does not verify"),
        ("DELETE FROM zhiwang.log_head", "no head"),
        (
            "UPDATE zhiwang.log_entry SET data = (SELECT data FROM zhiwang.log_entry WHERE idx = 1) WHERE idx = 0",
            "first entry",
        ),
    ],
)
def test_what_was_changed_without_triggers_is_found_when_the_log_is_opened(
    place: PostgresDatabase, statement: str, said: str
) -> None:
    unlocked(place, statement)
    with pytest.raises(FatalError) as caught:
        support.reopen(place)
    assert said in (caught.value.detail or "")


def test_what_lies_deep_is_found_when_everything_is_verified(place: PostgresDatabase) -> None:
    unlocked(place, "UPDATE zhiwang.log_entry SET data = data || '\\x00' WHERE idx = 3")
    store = support.reopen(place)
    with pytest.raises(FatalError, match="entry 3 is not the one that was hashed"):
        store.verify_all()
    support.close(store)


def test_the_script_makes_nothing_twice_and_changes_nothing_that_is_there(place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection, pytest.raises(errors.DuplicateTable):
        connection.execute(script(ROLES).encode())
    assert support.check_log(place) == SIZE


@pytest.mark.parametrize("name", ["", "hub; DROP", "Hub", "a" * 56, 'hub"', "hub\n"])
def test_names_of_accounts_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="account"):
        Roles(name)


def test_an_account_may_have_a_name_that_is_a_word_of_sql(untouched: PostgresDatabase) -> None:
    server = untouched.server
    server.execute("", "CREATE DATABASE reserved TEMPLATE template0")
    with psycopg.connect(server.url("reserved", "postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(script(Roles("user")).encode())
    engine = open_postgres(server.url("reserved", "user"))
    store = LogStore(engine, support.HUB.log_origin, support.signer())
    store.create()
    support.append(store, 3)
    support.close(store)
    server.drop("reserved")


def test_the_account_that_the_script_makes_has_no_password(place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection:
        rows = connection.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'hub%'").fetchall()
    assert rows
    assert {row[1] for row in rows} == {None}
    assert WRITER in {row[0] for row in rows}
    assert isinstance(connection, psycopg.Connection)
