"""Hands in a database over several years: what nobody can do to a year that ended, to one that has not begun, or to
what tells between them; and what goes on where an administrator has forgotten a year."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from psycopg import errors

import audit_support as support
import yearly_support as years
from audit.backend import PostgresBackend
from audit.fsck import Examined
from audit.fsck_store import examine_years
from audit.holds import Hold, HoldBook
from audit.postgres_schema import removal, upgrade
from audit.query import EVERYTHING, Query
from audit.retention import fate, going, remove, survey
from audit.schema import TABLES, Tables
from audit.yearly import YearlyLog
from log_places import ROLES, WRITER, YEARS, PostgresDatabase
from servers import Server
from yearly_support import Calendar
from zhiwang.wire.errors import FatalError, RefusedError

# S608: the statements are the examples of this file; nothing in them comes from outside.
# ruff: noqa: S608
LOG = support.HUB.log_origin
HASH = "'\\x" + "22" * 32 + "'"
TILE = "'\\x" + "33" * 8192 + "'"
ENDED, NEWEST, COMING = "", "_2022", "_2023"


def writes(suffix: str, size: int) -> list[str]:
    """What would change a log's tables, or append beside the head that is signed."""
    entry, tile, head = (f"zhiwang.log_{kind}{suffix}" for kind in ("entry", "tile", "head"))
    return [
        f"UPDATE {entry} SET data = '' WHERE idx = 0",
        f"UPDATE {entry} SET data = ''",
        f"DELETE FROM {entry}",
        f"TRUNCATE {entry}",
        f"TRUNCATE {entry}, {tile}, {head}",
        f"INSERT INTO {entry} VALUES ({size + 1}, {HASH}, {HASH}, '')",
        f"INSERT INTO {entry} VALUES (0, {HASH}, {HASH}, '') ON CONFLICT (idx) DO UPDATE SET data = ''",
        f"UPDATE {tile} SET hashes = {TILE}",
        f"DELETE FROM {tile}",
        f"TRUNCATE {tile}",
        f"INSERT INTO {tile} VALUES (0, 7, {TILE})",
        f"UPDATE {head} SET size = size + 1",
        f"UPDATE {head} SET root = {HASH}",
        f"DELETE FROM {head}",
        f"INSERT INTO {head} VALUES (2, 0, {HASH}, '', '')",
    ]


CLOSED = [
    # Where a log that goes on would take it.
    f"INSERT INTO zhiwang.log_entry VALUES (301, {HASH}, {HASH}, '')",
    f"INSERT INTO zhiwang.log_tile VALUES (0, 1, {TILE})",
    "UPDATE zhiwang.log_head SET checkpoint = ''",
    f"INSERT INTO zhiwang.log_entry_2023 VALUES (0, {HASH}, {HASH}, '')",
    "UPDATE zhiwang.log_head_2023 SET size = size",
]
REGISTRY = [
    "UPDATE zhiwang.log_shard SET size = 5",
    "UPDATE zhiwang.log_shard SET successor = 2024",
    "DELETE FROM zhiwang.log_shard",
    "TRUNCATE zhiwang.log_shard CASCADE",
    f"INSERT INTO zhiwang.log_shard VALUES (0, 2023, 1, {HASH}, '', '', '')",
    f"INSERT INTO zhiwang.log_shard VALUES (2019, 2023, 1, {HASH}, '', '', '')",
    f"INSERT INTO zhiwang.log_shard VALUES (2022, 2021, 1, {HASH}, '', '', '')",
    "INSERT INTO zhiwang.log_shard_removed VALUES (0, 2022, 1, 1)",
    "INSERT INTO zhiwang.log_shard_removed VALUES (2022, 2022, 1, 0)",
    "TRUNCATE zhiwang.log_shard_removed",
    "DELETE FROM zhiwang.log_shard_removed",
]
CHANGES = [*writes(ENDED, 301), *writes(NEWEST, 4), *writes(COMING, 0), *CLOSED, *REGISTRY]
POWERS = [
    "ALTER TABLE zhiwang.log_entry_2022 DISABLE TRIGGER ALL",
    "ALTER TABLE zhiwang.log_entry_2022 DISABLE TRIGGER log_entry_2022_never",
    "ALTER TABLE zhiwang.log_shard DISABLE TRIGGER ALL",
    "DROP TRIGGER log_shard_next ON zhiwang.log_shard",
    "DROP TABLE zhiwang.log_entry",
    "DROP FUNCTION zhiwang.log_head_end",
    "CREATE TABLE zhiwang.log_entry_2031 (n integer)",
    "LOCK TABLE zhiwang.log_shard IN ACCESS EXCLUSIVE MODE",
    "SELECT FROM zhiwang.log_shard FOR UPDATE",
    "UPDATE zhiwang.log_shard_removed SET done = 1",
]


@pytest.fixture(scope="module")
def untouched(postgresql: Server) -> Iterator[PostgresDatabase]:
    """A log of 2021 with 301 entries, and one of 2022 with 4; there is room for more years."""
    untouched, clock = PostgresDatabase(postgresql), Calendar()
    log = years.make(untouched, clock)
    years.append(log, 300)
    clock.set("2022-01-01")
    years.append(log, 3)
    years.close(log)
    yield untouched
    untouched.drop()


@pytest.fixture
def place(untouched: PostgresDatabase) -> Iterator[PostgresDatabase]:
    place = untouched.copy()
    yield place
    place.drop()


@pytest.fixture
def clock() -> Calendar:
    return Calendar("2022-02-01")


def refusal(connection: psycopg.Connection[Any], statement: str) -> type[Exception] | None:
    """How the database refuses a statement, if it does."""
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except errors.Error as error:
        return type(error)
    return None


def check(place: PostgresDatabase) -> None:
    assert years.check(place) == [f"{LOG}/2022", LOG]


def test_the_hubs_account_can_change_nothing_in_any_year(place: PostgresDatabase) -> None:
    with place.raw() as connection:
        for statement in [*CHANGES, *POWERS, *removal(ROLES, 0, TABLES).split(";\n")[1:2]]:
            assert refusal(connection, statement) is errors.InsufficientPrivilege, statement
    check(place)


def test_even_the_owner_writes_to_no_year_but_the_newest_and_never_back(place: PostgresDatabase) -> None:
    with place.raw("postgres") as connection:
        for role in ("origin", "replica"):
            connection.execute("RESET ROLE")
            connection.execute(f"SET session_replication_role = {role}".encode())
            connection.execute("SET ROLE hub_owner")
            for statement in CHANGES:
                refused = refusal(connection, statement)
                assert refused is not None, statement
                assert issubclass(refused, errors.IntegrityError), statement
    check(place)


APPEND = (
    "SELECT zhiwang.log_entry{}_append(%s, %s, %s, %s, '', '', %b::bytea[], %b, %b::bytea[], '{{}}', '{{}}', '{{}}')"
)


def appending(connection: psycopg.Connection[Any], suffix: str) -> None:
    row = connection.execute(f"SELECT size, root FROM zhiwang.log_head{suffix}".encode()).fetchone()
    assert row is not None
    size, root = row
    key = [b"2" * 32]
    connection.execute(APPEND.format(suffix).encode(), (size, root, size + 1, b"3" * 32, key, key, [b"x"]))


@pytest.mark.parametrize("suffix", [ENDED, COMING])
def test_the_function_that_appends_takes_nothing_for_another_year_than_the_newest(
    place: PostgresDatabase, suffix: str
) -> None:
    with place.raw() as connection, pytest.raises(errors.IntegrityConstraintViolation, match="not of the newest year"):
        appending(connection, suffix)
    check(place)


def test_who_began_before_the_year_ended_appends_nothing_to_it_afterwards(place: PostgresDatabase) -> None:
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    with place.raw() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.autocommit = False
        connection.execute("SELECT FROM zhiwang.log_head_2022")  # the snapshot, in which 2022 goes on
        clock.set("2023-01-01")
        years.append(log, 1)
        with pytest.raises(errors.SerializationFailure):
            appending(connection, "_2022")
        connection.rollback()
    years.close(log)
    assert years.check(place) == [f"{LOG}/2023", f"{LOG}/2022", LOG]


def test_a_year_ends_once_with_its_own_head_and_in_its_turn(place: PostgresDatabase) -> None:
    with place.raw() as connection:
        row = connection.execute("SELECT size, root, checkpoint, certificate FROM zhiwang.log_head_2022").fetchone()
        old = connection.execute("SELECT size, root, checkpoint, certificate FROM zhiwang.log_head").fetchone()
        assert row is not None
        assert old is not None
        size, root, note, certificate = row
        end = "SELECT zhiwang.log_head{}_end(%s, %s, %s, %s, %s, '')"
        for stale in ((size - 1, root), (size, b"2" * 32)):
            with pytest.raises(errors.IntegrityConstraintViolation, match="its head has moved"):
                connection.execute(end.format("_2022").encode(), (2023, *stale, note, certificate))
        with pytest.raises(errors.IntegrityConstraintViolation, match="its head has moved"):
            connection.execute(end.format("_2022").encode(), (2023, size, root, b"another", certificate))
        with pytest.raises(errors.CheckViolation):
            connection.execute(end.format("_2022").encode(), (2021, *row))
        with pytest.raises(errors.IntegrityConstraintViolation, match="not of the newest year"):
            connection.execute(end.format("").encode(), (2023, *old))
        with pytest.raises(errors.IntegrityConstraintViolation, match="not of the newest year"):
            connection.execute(end.format("_2023").encode(), (2024, *old))
    check(place)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE zhiwang.log_entry_2022 DISABLE TRIGGER log_entry_2022_never", "trigger log_entry_2022_never"),
        ("ALTER TABLE zhiwang.log_head DISABLE TRIGGER log_head_newest", "log_head trigger log_head_newest"),
        ("ALTER TABLE zhiwang.log_entry ENABLE TRIGGER log_entry_newest", "log_entry trigger log_entry_newest"),
        ("ALTER TABLE zhiwang.log_shard DISABLE TRIGGER ALL", "log_shard trigger log_shard_next"),
        ("DROP TRIGGER log_shard_removed_grow ON zhiwang.log_shard_removed", "trigger log_shard_removed_grow"),
        (
            """CREATE OR REPLACE FUNCTION zhiwang.log_entry_newest() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'""",
            "log_entry_newest",
        ),
        ("ALTER FUNCTION zhiwang.log_head_2022_end SECURITY INVOKER", "log_head_2022_end"),
        ("ALTER FUNCTION zhiwang.log_shard_let_go RESET search_path", "log_shard_let_go"),
        ("ALTER TABLE zhiwang.log_shard DROP CONSTRAINT log_shard_successor_key", "log_shard constraint UNIQUE"),
        ("GRANT INSERT ON zhiwang.log_entry_2022 TO hub", "hub has INSERT on log_entry_2022"),
        ("GRANT DELETE ON zhiwang.log_entry TO hub_reader", "hub_reader has DELETE on log_entry"),
        ("GRANT INSERT ON zhiwang.log_shard TO hub", "hub has INSERT on log_shard"),
        ("GRANT UPDATE (done) ON zhiwang.log_shard_removed TO hub", "hub has UPDATE on log_shard_removed"),
        ("GRANT EXECUTE ON FUNCTION zhiwang.log_shard_let_go TO PUBLIC", "PUBLIC has EXECUTE on log_shard_let_go"),
        ("ALTER TABLE zhiwang.log_shard OWNER TO postgres", "log_shard belongs to postgres"),
        ("DROP TABLE zhiwang.log_entry", "is missing, and nothing says that it was removed"),
        ("DROP TABLE zhiwang.log_shard CASCADE", "log_shard"),
    ],
)
def test_a_database_of_which_a_year_was_changed_is_not_opened(
    place: PostgresDatabase, clock: Calendar, statement: str, said: str
) -> None:
    place.run(statement)
    log = years.unopened(place, clock)
    with pytest.raises(FatalError) as caught:
        log.open()
    years.close(log)
    assert said in (caught.value.detail or "")


def test_an_account_that_can_become_the_owner_is_named(place: PostgresDatabase, clock: Calendar) -> None:
    place.run("DROP ROLE IF EXISTS keeper; DROP ROLE IF EXISTS office; CREATE ROLE office; CREATE ROLE keeper LOGIN")
    try:
        place.run("GRANT hub_owner TO office; GRANT office TO keeper")
        with structlog.testing.capture_logs() as said:
            log = years.reopen(place, clock)
        years.close(log)
    finally:
        place.run("DROP ROLE keeper; DROP ROLE office")
    named = [one["account"] for one in said if one["event"] == "an account can become the owner of the log's tables"]
    assert named == ["keeper", "office"]


MORE = """(said text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE said; END $$"""


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"CREATE FUNCTION zhiwang.log_more{MORE}", "log_more(said text)"),
        (f"CREATE FUNCTION zhiwang.log_head_2031_lock{MORE}", "log_head_2031_lock(said text)"),
        (f"CREATE OR REPLACE FUNCTION zhiwang.log_shard_more{MORE}", "log_shard_more(said text)"),
        (f"CREATE FUNCTION beside.log_shard_never{MORE}", "beside.log_shard_never(said text)"),
        (
            """CREATE OR REPLACE FUNCTION zhiwang.log_entry_2023_never() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'""",
            "log_entry_2023_never()",
        ),
    ],
)
def test_a_function_that_no_script_made_and_that_has_the_owners_rights_is_too_much(
    place: PostgresDatabase, clock: Calendar, statement: str, named: str
) -> None:
    place.run("CREATE SCHEMA beside; GRANT ALL ON SCHEMA beside TO hub_owner")
    place.run(f"SET ROLE hub_owner; {statement}")
    log = years.unopened(place, clock)
    with pytest.raises(FatalError) as caught:
        log.open()
    years.close(log)
    assert f"{named} is none of the log's functions" in (caught.value.detail or "")


END = "SELECT zhiwang.log_head_2022_end(%s, size, root, checkpoint, certificate, %s) FROM zhiwang.log_head_2022"


def test_a_year_that_was_ended_with_a_stolen_password_stops_the_log_until_it_is_taken_back(
    place: PostgresDatabase, clock: Calendar
) -> None:
    log = years.reopen(place, clock)
    with place.raw() as connection:
        for beyond in (2147483647, 10_000):
            with pytest.raises(errors.CheckViolation):
                connection.execute(END, (beyond, b"x"))
        connection.execute(END, (2023, b"x"))
        connection.execute("SELECT zhiwang.log_shard_let_go(2022, 2023, 1)")
    late = years.unopened(place, clock)
    for refused in (log.refresh, log.open, late.open):
        with pytest.raises(FatalError, match=r"and .*/2023 has not begun: no process of ours did that"):
            refused()
    page = (Path(__file__).parents[2] / "docs" / "log-store.md").read_text()
    place.run(page.partition("### A year that was ended by hand")[2].partition("```sql")[2].partition("```")[0])
    log.open()
    assert years.append(log, 1).origin == f"{LOG}/2022"
    years.close(log, late)
    check(place)


def test_an_end_that_cannot_be_read_is_refused_as_what_was_changed(place: PostgresDatabase) -> None:
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    clock.set("2023-01-01")
    years.append(log, 1)
    years.close(log)
    place.unlocked(
        lambda connection: connection.execute("UPDATE zhiwang.log_shard SET opened = '\\xffff' WHERE year = 2022")
    )
    log = years.unopened(place, clock)
    with pytest.raises(FatalError) as caught:
        log.open()
    assert "how a year ended cannot be read" in (caught.value.detail or "")
    years.close(log)


# Where an administrator is needed.


def forgotten(place: PostgresDatabase) -> None:
    """Nobody has made tables for 2023."""
    place.run("DROP TABLE zhiwang.log_entry_2023, zhiwang.log_tile_2023, zhiwang.log_head_2023")
    with place.raw("postgres") as connection:
        names = connection.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'log%2023%'").fetchall()
        for (name,) in names:
            connection.execute(f"DROP FUNCTION zhiwang.{name}".encode())


def test_a_year_without_tables_is_recorded_in_the_old_log_and_goes_on_once_they_are_there(
    place: PostgresDatabase,
) -> None:
    forgotten(place)
    clock = Calendar("2022-11-30")
    log = years.reopen(place, clock)
    log.prepare()
    assert log.unprepared is None, "there is time"
    clock.set("2022-12-01")
    log.prepare()
    assert "hub init --sql --year 2023" in (log.unprepared or "")
    clock.set("2023-01-01")
    with structlog.testing.capture_logs() as said:
        late = years.append(log, 2)
    assert late.origin == f"{LOG}/2022"
    assert [one["event"] for one in said if one["log_level"] == "error"] == ["the log of a year has no room"]
    place.install(Tables("2023"))
    years.append(log, 1)
    clock.set("2023-01-01T01:00:01")
    assert years.append(log, 1).origin == f"{LOG}/2023"
    assert log.unprepared is None
    years.close(log)
    assert years.check(place, late) == [f"{LOG}/2023", f"{LOG}/2022", LOG]


def test_tables_of_a_coming_year_that_were_changed_begin_no_log(place: PostgresDatabase) -> None:
    place.run("GRANT INSERT ON zhiwang.log_entry_2023 TO hub")
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    clock.set("2023-01-01")
    assert years.append(log, 1).origin == f"{LOG}/2022"
    assert "hub has INSERT on log_entry_2023" in (log.unprepared or "")
    years.close(log)


NO_HEAD = """ALTER TABLE zhiwang.log_head_2023 DISABLE TRIGGER log_head_2023_never;
{};
ALTER TABLE zhiwang.log_head_2023 ENABLE ALWAYS TRIGGER log_head_2023_never"""
ENTRY = f"INSERT INTO zhiwang.log_entry_2023 VALUES (0, {HASH}, {HASH}, '')"
STALE = """ALTER TABLE zhiwang.log_entry_2023 DISABLE TRIGGER log_entry_2023_newest;
{};
ALTER TABLE zhiwang.log_entry_2023 ENABLE ALWAYS TRIGGER log_entry_2023_newest"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "REVOKE EXECUTE ON FUNCTION zhiwang.log_entry_2023_append FROM hub",
            "hub may not EXECUTE log_entry_2023_append",
        ),
        ("REVOKE EXECUTE ON FUNCTION zhiwang.log_head_2023_end FROM hub", "hub may not EXECUTE log_head_2023_end"),
        ("REVOKE SELECT ON zhiwang.log_tile_2023 FROM hub", "hub may not SELECT from log_tile_2023"),
        ("REVOKE INSERT ON zhiwang.log_entry_2023 FROM hub_owner", "the owner of log_entry_2023 has no INSERT on it"),
        (NO_HEAD.format("DELETE FROM zhiwang.log_head_2023"), "log_head_2023 has not the head of an empty log"),
        (STALE.format(ENTRY), "log_entry_2023 or log_tile_2023 has rows"),
    ],
)
def test_the_old_log_goes_on_where_tables_of_a_coming_year_would_let_no_log_begin(
    place: PostgresDatabase, statement: str, said: str
) -> None:
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    place.run(statement)
    log.prepare()
    assert said in (log.unprepared or "")
    clock.set("2023-01-01")
    late = years.append(log, 1)
    assert late.origin == f"{LOG}/2022"
    forgotten(place)  # as the message says
    place.install(Tables("2023"))
    clock.set("2023-01-01T01:00:01")
    assert years.append(log, 1).origin == f"{LOG}/2023"
    years.close(log)
    assert years.check(place, late) == [f"{LOG}/2023", f"{LOG}/2022", LOG]


def test_tables_in_which_another_hub_has_begun_the_year_are_room_enough(place: PostgresDatabase) -> None:
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    late = years.reopen(place, clock)
    clock.set("2023-01-01")
    years.append(log, 1)
    late.prepare()
    assert late.unprepared is None
    assert years.append(late, 1).origin == f"{LOG}/2023"
    years.close(log, late)


def removed(log: YearlyLog, clock: Calendar) -> None:
    clock.set("2023-01-02")
    remove(log, HoldBook(log), LOG, years=1, now=clock.now, note="x")


def test_entries_go_only_by_an_administrators_hand_and_after_the_log_says_so(
    place: PostgresDatabase, clock: Calendar
) -> None:
    sql = removal(ROLES, 0, TABLES)
    with pytest.raises(errors.RaiseException, match="does not say"):
        place.run(sql)
    log = years.reopen(place, clock)
    removed(log, clock)
    with pytest.raises(RefusedError, match="were removed"):
        log.shard(LOG)
    with place.raw() as connection:
        assert connection.execute("SELECT count(*) FROM zhiwang.log_entry").fetchone() == (301,)
        for statement in [*sql.split(";\n")[1:2], *writes(ENDED, 301), "DROP TABLE zhiwang.log_entry"]:
            assert refusal(connection, statement) is errors.InsufficientPrivilege, statement
    with place.raw("postgres") as connection:
        connection.execute("SET ROLE hub_owner")
        with pytest.raises(errors.IntegrityError):
            connection.execute("DELETE FROM zhiwang.log_entry")
    place.run(sql)
    with pytest.raises(errors.RaiseException, match="or it is gone"):
        place.run(sql)
    log.refresh()
    assert log.ended[0].removal is not None
    assert log.ended[0].removal.done
    years.close(log)
    with place.raw() as connection:
        left = connection.execute("SELECT count(*) FROM pg_proc WHERE proname ~ '^log_(entry|tile|head)_[a-z]'")
        assert left.fetchone() == (0,)
    assert years.check(place) == [f"{LOG}/2023", f"{LOG}/2022"]
    place.run("SET ROLE hub_owner; CREATE TABLE zhiwang.log_entry (idx bigint)")
    back = years.unopened(place, clock)
    with pytest.raises(FatalError, match="a log that was removed"):
        back.open()
    years.close(back)


def test_entries_that_went_without_a_word_in_the_log_are_noticed(place: PostgresDatabase, clock: Calendar) -> None:
    with place.raw() as connection:  # as who has stolen the hub's password, with an administrator who asks nothing
        connection.execute("SELECT zhiwang.log_shard_let_go(0, 2022, 1)")
    place.remove(0)
    log = years.unopened(place, clock)
    with pytest.raises(FatalError, match="the log does not say so"):
        log.open()
    years.close(log)


def test_a_mark_that_no_log_says_lets_no_year_go(place: PostgresDatabase, clock: Calendar) -> None:
    """As who has stolen the hub's password would have it dropped."""
    log = years.reopen(place, clock)
    with place.raw() as connection:
        for recorded in (0, 2022):
            with pytest.raises(errors.IntegrityConstraintViolation, match=r"later year|ended is recorded"):
                connection.execute(f"SELECT zhiwang.log_shard_let_go({recorded}, {recorded}, 1)".encode())
        connection.execute("SELECT zhiwang.log_shard_let_go(0, 2022, 1)")
    with pytest.raises(FatalError, match="the log does not say so"):
        log.refresh()
    assert log.ended[0].removal is None, "and nobody takes that year for gone"
    with pytest.raises(FatalError, match="the log does not say so"):
        log.open()
    assert examined(place) == [f"the entries of {LOG} are gone or to go, and the log does not say so"]
    years.close(log)
    place.unlocked(lambda admin: admin.execute("DELETE FROM zhiwang.log_shard_removed"))
    check(place)


def test_a_year_cannot_say_of_itself_that_it_is_removed(place: PostgresDatabase, clock: Calendar) -> None:
    place.unlocked(lambda admin: admin.execute("INSERT INTO zhiwang.log_shard_removed VALUES (0, 0, 1, 0)"))
    log = years.unopened(place, clock)
    with pytest.raises(FatalError, match="the log does not say so"):
        log.open()
    years.close(log)
    assert examined(place) == [f"the entries of {LOG} are gone or to go, and the log does not say so"]


def test_the_year_that_says_what_is_to_go_stays_until_it_is_gone(place: PostgresDatabase, clock: Calendar) -> None:
    log = years.reopen(place, clock)
    removed(log, clock)
    clock.set("2024-01-02")
    years.append(log, 1)
    clock.set("2025-01-03")
    book, recording = HoldBook(log), f"{LOG}/2023"
    with pytest.raises(RefusedError, match="may go: finish that first"):
        remove(log, book, recording, years=1, now=clock.now, note="x")
    place.remove(0)
    log.refresh()
    remove(log, book, recording, years=1, now=clock.now, note="x")
    years.close(log)
    place.remove(2023)
    assert years.check(place) == [f"{LOG}/2025", f"{LOG}/2024", f"{LOG}/2022"]
    assert examined(place) == []


def test_a_hold_stops_a_removal_that_was_recorded_before(place: PostgresDatabase, clock: Calendar) -> None:
    log = years.reopen(place, clock)
    removed(log, clock)
    placed = Hold("A-7", "spiffe://shenzhen/audit/auditor/one", clock.now, clock.now + 7e6, Query(), EVERYTHING)
    with log.transaction() as connection:
        appended = log.append(connection, [log.new_entry(placed.event())])
    log.committed(appended)
    book = HoldBook(log)
    found = survey(log, book, 1, clock.now)
    assert fate(found[0], clock.now)[0] == "removing_held"
    assert "A-7" in fate(found[0], clock.now)[1]
    assert going(found) == []
    with pytest.raises(RefusedError, match="is held: A-7"):
        remove(log, book, LOG, years=1, now=clock.now, note="x")
    clock.now += 7e6
    assert [one.origin for one in going(survey(log, book, 1, clock.now))] == [LOG]
    years.close(log)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE zhiwang.log_shard SET opened = ''",
        "UPDATE zhiwang.log_shard SET opened = '\\xffff'",
        "UPDATE zhiwang.log_shard SET checkpoint = 'x'",
        "UPDATE zhiwang.log_shard SET certificate = ''",
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_what_stays_of_a_year_is_what_the_newest_log_goes_on_from(
    place: PostgresDatabase,
    clock: Calendar,
    change: str,
    kept: bool,  # noqa: FBT001 - a parameter
) -> None:
    log = years.reopen(place, clock)
    removed(log, clock)
    years.close(log)
    if not kept:
        place.remove(0)
    assert examined(place) == []
    place.unlocked(lambda admin: admin.execute(f"{change} WHERE year = {2022 if kept else 0}".encode()))
    again = years.unopened(place, clock)
    with pytest.raises(FatalError, match="office"):
        again.open()
    with pytest.raises(FatalError):
        again.refresh()
    years.close(again)
    assert examined(place)


def examined(place: PostgresDatabase) -> list[str]:
    """What fsck finds of the years."""
    found, engine = Examined(), place.open()
    examine_years(engine, LOG, None, found)
    engine.dispose()
    return [fault.message.split(". Keep")[0] for fault in found.faults]


def test_a_year_that_another_process_began_is_prepared_for(place: PostgresDatabase) -> None:
    forgotten(place)
    clock = Calendar("2022-12-31")
    one, two = years.reopen(place, clock), years.reopen(place, clock, number=1)
    clock.set("2023-01-01")
    assert years.append(one, 1).origin == f"{LOG}/2022"
    assert "hub init --sql" in (one.unprepared or "")
    place.install(Tables("2023"))
    assert years.append(two, 1).origin == f"{LOG}/2023"
    assert years.append(one, 1).origin == f"{LOG}/2023"
    assert one.unprepared is None
    years.close(one, two)


def test_a_clock_that_leaps_and_comes_back_while_there_is_no_room_delays_no_year(place: PostgresDatabase) -> None:
    forgotten(place)
    clock = Calendar("2022-11-01")
    log = years.reopen(place, clock)
    clock.set("2023-08-01")
    assert years.append(log, 1).origin == f"{LOG}/2022"
    clock.set("2022-11-01")
    assert years.append(log, 1).origin == f"{LOG}/2022"
    place.install(Tables("2023"))
    clock.set("2023-01-01")
    assert years.append(log, 1).origin == f"{LOG}/2023"
    years.close(log)


def test_a_database_of_an_earlier_release_goes_on_by_year_once_it_was_upgraded(postgresql: Server) -> None:
    place, clock = PostgresDatabase(postgresql), Calendar()
    years.close(years.make(place, clock))
    later = ("{head}_lock", "{head}_end", "{entry}_newest")
    with place.raw("postgres") as connection:
        for table in ("log_shard_removed", "log_shard"):
            connection.execute(f"DROP TABLE zhiwang.{table}".encode())
        for name in ("let_go", "next", "never", "removed_grow"):
            connection.execute(f"DROP FUNCTION zhiwang.log_shard_{name}".encode())
        for year in YEARS:
            tables = Tables(str(year))
            connection.execute(removal_of(tables).encode())
        for name in later:
            connection.execute(f"DROP FUNCTION zhiwang.{TABLES.fill(name)} CASCADE".encode())
        connection.execute(
            """CREATE FUNCTION zhiwang.log_head_lock()
            RETURNS TABLE(size bigint, root bytea, checkpoint bytea, certificate bytea) LANGUAGE sql SECURITY DEFINER
            AS 'SELECT h.size, h.root, h.checkpoint, h.certificate FROM zhiwang.log_head h FOR UPDATE'"""
        )
        connection.execute("ALTER FUNCTION zhiwang.log_head_lock() OWNER TO hub_owner")
    log = years.unopened(place, clock)
    with pytest.raises(FatalError, match="hub init --sql --upgrade"):
        log.open()
    years.close(log)
    place.run(upgrade(ROLES, Tables("2022"), Tables("2023")))
    log = years.reopen(place, clock)
    first = years.append(log, 2)
    clock.set("2022-01-01")
    assert years.append(log, 2).origin == f"{LOG}/2022"
    years.close(log)
    assert years.check(place, first) == [f"{LOG}/2022", LOG]
    place.drop()


def removal_of(tables: Tables) -> str:
    """As if they had never been made."""
    sql = removal(ROLES, 0, tables)
    return "".join(line for line in sql.splitlines(keepends=True) if line.startswith("DROP"))


def test_the_account_of_the_hub_is_the_only_one_that_can_end_a_year(place: PostgresDatabase) -> None:
    with place.raw("postgres") as admin:
        admin.execute("DROP ROLE IF EXISTS auditor")
        admin.execute("CREATE ROLE auditor LOGIN IN ROLE hub_reader")
    with place.raw("auditor") as connection:
        assert connection.execute("SELECT successor FROM zhiwang.log_shard").fetchone() == (2022,)
        for call in (
            "log_head_2022_lock()",
            "log_head_2022_end(2023, 4, '', '', '', '')",
            "log_shard_let_go(0, 2022, 1)",
        ):
            assert refusal(connection, f"SELECT zhiwang.{call}") is errors.InsufficientPrivilege, call
    assert WRITER == "hub"


def test_who_opens_the_log_while_another_hub_turns_the_year_stands_in_the_new_one(
    place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Calendar("2022-12-31")
    log = years.reopen(place, clock)
    clock.set("2023-01-01")
    as_it_is, turned = PostgresBackend.check_years, False

    def check_then_turn(*arguments: Any) -> Any:
        nonlocal turned
        found = as_it_is(*arguments)
        if not turned:
            turned = True
            years.append(log, 1)
        return found

    monkeypatch.setattr(PostgresBackend, "check_years", check_then_turn)
    late = years.reopen(place, Calendar("2022-12-31"))
    assert turned
    assert late.origin == f"{LOG}/2023"
    assert years.append(late, 1).first == 2
    years.close(log, late)
    assert years.check(place) == [f"{LOG}/2023", f"{LOG}/2022", LOG]
