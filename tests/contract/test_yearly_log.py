"""What the logs of one identity promise from one year to the next."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from sqlalchemy.exc import SQLAlchemyError

import audit_support as support
import yearly_support as years
from audit.appended import Head
from audit.backup import Seen, check_copy, copy_store
from audit.checkpoint import Checkpoint, split_note
from audit.entry import decode_entry
from audit.fsck import Examined
from audit.fsck_store import examine_years
from audit.holds import Hold
from audit.origins import origin_of
from audit.proofs import check_entry
from audit.query import EVERYTHING, Query
from audit.yearly import YearlyLog
from audit.years import YearsView
from log_places import Place, PostgresDatabase, SqliteFile
from yearly_support import Calendar
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError

LOG = support.HUB.log_origin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    in_file = request.param == "sqlite"
    place = SqliteFile(tmp_path / "log.db") if in_file else PostgresDatabase(request.getfixturevalue("postgresql"))
    yield place
    place.drop()


@pytest.fixture
def clock() -> Calendar:
    return Calendar()


def first_entry(log: YearlyLog, origin: str = "") -> audit_pb2.LogOpened:
    return decode_entry(log.shard(origin).entries(0, 1)[0]).log_opened


def test_the_log_of_a_new_year_begins_with_the_end_of_the_old_one(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    before = years.append(log, 300)
    clock.set("2021-12-31T23:59:59.999")
    last = years.append(log, 2)
    assert last.origin == LOG
    assert last.first == 301
    clock.set("2022-01-01")
    first = years.append(log, 3)
    assert first.origin == log.origin == f"{LOG}/2022"
    assert first.indexes == range(1, 4)
    opened = first_entry(log)
    assert opened.origin == f"{LOG}/2022"
    assert opened.predecessor == log.ended[0].head.checkpoint == last.head.checkpoint
    assert Checkpoint.parse(split_note(opened.predecessor)[0]) == Checkpoint(LOG, 303, last.head.root)
    clock.set("2024-05-05")
    third = years.append(log, 1)
    assert third.origin == f"{LOG}/2024"
    assert first_entry(log).predecessor == first.head.checkpoint
    years.close(log)
    assert years.check(place, before, last, first, third) == [f"{LOG}/2024", f"{LOG}/2022", LOG]


def test_a_log_that_another_release_left_open_over_a_new_year_goes_on_in_this_year(
    place: Place, clock: Calendar
) -> None:
    store = support.make_store(place)
    support.append(store, 3)
    support.close(store)
    clock.set("2099-01-01")
    beyond = years.reopen(place, clock)
    assert years.append(beyond, 1).origin == LOG, "a clock beyond the certificate begins no year"
    years.close(beyond)
    assert years.check(place) == [LOG]


def test_a_clock_that_goes_back_never_opens_an_old_year_again(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    clock.set("2022-01-01")
    years.append(log, 2)
    clock.set("2021-12-31")
    assert years.append(log, 2).origin == f"{LOG}/2022"
    years.close(log)
    again = years.reopen(place, clock)
    assert years.append(again, 1).origin == f"{LOG}/2022"
    years.close(again)
    years.check(place)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO log_entry SELECT 301, key, leaf_hash, data FROM log_entry WHERE idx = 3",
        "INSERT OR REPLACE INTO log_entry SELECT idx, key, leaf_hash, data FROM log_entry WHERE idx = 3",
        "UPDATE log_entry SET data = x'00'",
        "UPDATE log_head SET checkpoint = x'00'",
        "DELETE FROM log_entry",
        "DELETE FROM log_tile",
        "DELETE FROM log_head",
        "INSERT INTO log_tile VALUES (0, 0, zeroblob(8192))",
        "UPDATE log_shard SET size = 3",
        "DELETE FROM log_shard",
        "INSERT OR REPLACE INTO log_shard SELECT * FROM log_shard",
        "INSERT INTO log_shard SELECT 1999, 2000, size, root, checkpoint, certificate, opened FROM log_shard",
        "INSERT INTO log_shard_removed VALUES (0, 2022, 1, 1)",
    ],
)
def test_a_year_that_has_ended_is_not_written_to(path: Path, clock: Calendar, statement: str) -> None:
    log = years.make(path, clock)
    years.append(log, 300)
    clock.set("2022-01-01")
    years.append(log, 3)
    years.close(log)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="the log"):
        connection.execute(statement)
    years.check(path)


@pytest.mark.parametrize(
    ("statements", "match"),
    [
        (("DROP TRIGGER log_entry_insert",), "not as they were made"),
        (("DROP TRIGGER log_shard_update",), "not as they were made"),
        (("DROP TABLE log_entry",), "is missing, and nothing says that it was removed"),
        (("DROP TABLE log_entry_2022",), "is missing"),
        (("CREATE TABLE log_entry_2031 (idx INTEGER)",), "none of its years knows"),
        (("DROP TRIGGER log_shard_delete", "DELETE FROM log_shard"), "not as they were made"),
    ],
)
def test_a_store_of_which_a_year_was_changed_is_not_opened(
    path: Path, clock: Calendar, statements: tuple[str, ...], match: str
) -> None:
    log = years.make(path, clock)
    clock.set("2022-01-01")
    years.append(log, 3)
    years.close(log)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    log = years.unopened(path, clock)
    with pytest.raises(FatalError, match=match):
        log.open()
    with pytest.raises(FatalError):
        years.append(log, 1)
    years.close(log)


def edited(path: Path, table: str, trigger: str, statement: str) -> None:
    """Change what the triggers protect, and put the trigger back as it was."""
    with closing(sqlite3.connect(path)) as connection, connection:
        ((made,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchall()
        connection.execute(f"DROP TRIGGER {trigger}")
        assert connection.execute(statement).rowcount, table
        connection.execute(made)


@pytest.mark.parametrize(
    ("table", "act", "statement", "match"),
    [
        ("log_shard", "update", "UPDATE log_shard SET size = 2", "is not the one that ended with 2"),
        ("log_shard", "update", "UPDATE log_shard SET root = zeroblob(32)", "is not the one that ended"),
        ("log_shard", "update", "UPDATE log_shard SET successor = 2023", "is missing|none of its years"),
        ("log_shard", "delete", "DELETE FROM log_shard", "none of its years knows"),
        ("log_shard", "update", "UPDATE log_shard SET opened = x''", "does not hold"),
        ("log_shard", "update", "UPDATE log_shard SET opened = x'ffff'", "cannot be read"),
        ("log_shard", "update", "UPDATE log_shard SET checkpoint = x'00'", "is not the one that ended"),
        ("log_shard", "update", "UPDATE log_shard SET successor = 12345", "is none"),
        ("log_head", "delete", "DELETE FROM log_head", "it has no head"),
        ("log_entry", "delete", "DELETE FROM log_entry WHERE idx = 2", "counts other entries"),
    ],
)
def test_an_end_that_was_changed_is_found_at_the_start(
    path: Path, clock: Calendar, table: str, act: str, statement: str, match: str
) -> None:
    log = years.make(path, clock)
    years.append(log, 2)
    clock.set("2022-01-01")
    years.append(log, 3)
    years.close(log)
    edited(path, table, f"{table}_{act}", statement)
    log = years.unopened(path, clock)
    with pytest.raises(FatalError, match=match):
        log.open()
    years.close(log)


# Guards.


def test_a_store_rolled_back_to_before_the_year_began_is_refused(place: Place, clock: Calendar, tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    log = years.make(place, clock, guard=guard)
    years.append(log, 5)
    years.close(log)
    copy = place.copy()
    log = years.reopen(place, clock, guard=guard)
    clock.set("2022-01-01")
    years.append(log, 1)
    years.close(log)
    assert Checkpoint.parse(split_note(guard.read_bytes())[0]).origin == f"{LOG}/2022"
    kept = guard.read_bytes()
    for store, faults in ((place, 0), (copy, 1)):
        found, engine, seen = Examined(), store.open(), Checkpoint.parse(split_note(kept)[0])
        examine_years(engine, LOG, seen, found)
        engine.dispose()
        assert [("rolled back to before that year began" in one.message) for one in found.faults] == [True] * faults
    back = years.unopened(copy, clock, guard=guard)
    with pytest.raises(FatalError, match="rolled back to before that year began"):
        back.open()
    with pytest.raises(FatalError):
        years.append(back, 1)
    years.close(back)
    assert guard.read_bytes() == kept, "what the guard remembers is never forgotten for an older store"


def test_a_guard_of_the_old_year_holds_the_end_of_it(place: Place, clock: Calendar, tmp_path: Path) -> None:
    """As a crash leaves it that comes after the year began and before the guard was written."""
    guard = tmp_path / "guard"
    log = years.make(place, clock, guard=guard)
    years.append(log, 5)
    years.close(log)
    old, other = guard.read_bytes(), place.copy()
    for store, guarded, more in ((place, True, 3), (other, False, 1)):
        log = years.reopen(store, clock, guard=guard if guarded else None)
        clock.set("2021-12-01")
        years.append(log, more)
        clock.set("2022-01-01")
        years.append(log, 1)
        years.close(log)
    guard.write_bytes(old)
    log = years.reopen(place, clock, guard=guard)
    years.close(log)
    # A guard that saw nine entries of the old year, and a store in which it ended with seven.
    newest = years.reopen(place, clock)
    guard.write_bytes(newest.ended[0].head.checkpoint)
    years.close(newest)
    forked = years.unopened(other, clock, guard=guard)
    with pytest.raises(FatalError, match="ended with 7 entries, but its guard has seen 9"):
        forked.open()
    years.close(forked)


def test_this_process_refuses_a_store_that_was_rolled_back_under_it(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    years.append(log, 5)
    log.engine.dispose()
    copy = place.copy()
    clock.set("2022-01-01")
    years.append(log, 1)
    log.engine.dispose()
    place.replace(copy)
    log.stop(OSError())
    with pytest.raises(FatalError, match=r"this process has seen .* rolled back to before that year"):
        log.open()
    years.close(log)


def test_a_backup_is_held_against_what_others_saw_of_every_year(path: Path, clock: Calendar, tmp_path: Path) -> None:
    log = years.make(path, clock)
    years.append(log, 5)
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    copy_store(path, before)
    middle = Checkpoint(LOG, 6, log.newest.root)
    years.append(log, 2)
    clock.set("2022-01-01")
    years.append(log, 1)
    copy_store(path, after)
    newest = Checkpoint(log.origin, log.newest.size, log.newest.root)
    end = Checkpoint(LOG, 8, log.ended[0].head.root)
    years.close(log)
    signer, verifier = support.signer(), support.verifier()
    assert check_copy(after, signer, verifier, [Seen("us", one) for one in (middle, end, newest)]).size == newest.size
    assert check_copy(before, signer, verifier, [Seen("us", middle)]).size == 6
    for seen, match in (
        (newest, r"has seen 2 of .*/2022: it must not be signed over"),
        (end, "has seen 8: it must not be signed over"),
    ):
        with pytest.raises(FatalError, match=match):
            check_copy(before, signer, verifier, [Seen("us", seen)])
    for wrong in (replace(middle, root=bytes(32)), replace(end, root=bytes(32)), replace(newest, root=bytes(32))):
        with pytest.raises(FatalError, match="somebody signed another history"):
            check_copy(after, signer, verifier, [Seen("us", wrong)])


# Several processes.


def test_of_two_processes_one_begins_the_year_and_the_other_goes_on_in_it(place: Place, clock: Calendar) -> None:
    one = years.make(place, clock)
    two = years.reopen(place, clock)
    acknowledged = [years.append(one, 2), years.append(two, 3)]
    clock.set("2022-01-01")
    acknowledged += [years.append(two, 1), years.append(one, 2), years.append(two, 1)]
    assert [one.first for one in acknowledged[2:]] == [1, 2, 4]
    assert {appended.origin for appended in acknowledged[2:]} == {f"{LOG}/2022"}
    years.close(one, two)
    assert years.check(place, *acknowledged) == [f"{LOG}/2022", LOG]


def test_a_process_whose_clock_is_late_goes_on_in_the_year_that_another_began(place: Place, clock: Calendar) -> None:
    late = Calendar("2021-12-31")
    one, two = years.make(place, clock), years.reopen(place, late)
    clock.set("2022-01-01")
    years.append(one, 1)
    assert two.refresh().size == 2
    assert two.origin == f"{LOG}/2022"
    assert years.append(two, 1).first == 2
    years.close(one, two)
    years.check(place)


def test_threads_that_append_while_the_year_turns_lose_nothing(place: Place, clock: Calendar) -> None:
    logs = [years.make(place, clock)]
    logs += [years.reopen(place, clock) for _ in range(2)]
    found: list[object] = []

    def work(log: YearlyLog) -> None:
        view = YearsView(support.checker())
        for number in range(20):
            if number == 8:
                clock.set("2022-01-01")
            appended = years.append(log, 2)
            head, logged = log.frame([appended], view.known_tree_size, view.known_origin)
            if view.newest.origin and year(view.newest.origin) > year(appended.origin):
                continue
            checkpoint = view.verify_head(head)
            for entry in logged:
                check_entry(entry, checkpoint)
            found.append(appended)

    threads = [threading.Thread(target=work, args=(log,)) for log in logs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120
    years.close(*logs)
    assert years.check(place, *found) == [f"{LOG}/2022", LOG]  # type: ignore[arg-type]  # all of them are Appended


def test_the_year_turns_while_another_thread_reads_what_is_held(
    place: Place, clock: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads may wait for the turn to write, which whoever begins the year has: so it must not be waited for."""
    log = years.make(place, clock)
    clock.set("2021-12-31T12:00")
    reads, turned, refresh = threading.Event(), threading.Event(), log.refresh
    waited: list[bool] = []

    def slow() -> Head:
        if threading.current_thread() is reader:
            reads.set()
            waited.append(turned.wait(30))
        return refresh()

    monkeypatch.setattr(log, "refresh", slow)
    reader = threading.Thread(target=log.prepare)
    reader.start()
    assert reads.wait(60)
    clock.set("2022-01-01")
    first = years.append(log, 1)
    turned.set()
    reader.join()
    assert waited == [True]
    years.close(log)
    assert years.check(place, first) == [f"{LOG}/2022", LOG]


def year(origin: str) -> int:
    return int(origin.rpartition("/")[2]) if origin != LOG else 0


# Readers.


def test_a_reader_follows_from_year_to_year(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    view = YearsView(support.checker())
    for text in ("2021-07-01", "2021-12-31", "2022-01-01", "2022-02-02", "2024-03-03", "2025-01-01"):
        clock.set(text)
        appended = years.append(log, 3)
        head, logged = log.frame([appended], view.known_tree_size, view.known_origin)
        checkpoint = view.verify_head(head)
        assert checkpoint == view.newest
        assert checkpoint.origin == appended.origin
        for entry in logged:
            view.check_entry(entry, checkpoint)
    assert view.given_up == 0
    assert view.ended(LOG) == Checkpoint(LOG, 7, log.ended[0].head.root)
    years.close(log)
    years.check(place)


def test_a_reader_that_slept_for_years_follows_from_whatever_it_knows(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    views = []
    for text in ("2021-07-01", "2022-01-01", "2023-01-01", "2025-01-01"):
        clock.set(text)
        for count in (1, 299):
            years.append(log, count)
            view = YearsView(support.checker())
            view.verify_head(log.head())
            views.append(view)
    for view in views:
        restored = YearsView(support.checker(), LOG)
        restored.restore(view.export())
        assert restored.verify_head(log.head(restored.known_tree_size, restored.known_origin)) == views[-1].newest
        kept = YearsView(support.checker(), f"{LOG}/2022")
        kept.restore(restored.export())
        assert kept.ended(LOG) == restored.ended(LOG)
    years.close(log)


def test_a_log_that_does_not_go_on_from_what_was_seen_is_refused(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    years.append(log, 5)
    years.close(log)
    other = place.copy()
    logs = []
    for store, more in ((place, 3), (other, 1)):
        clock.set("2021-12-01")
        logs.append(log := years.reopen(store, clock))
        seen = log.head()
        years.append(log, more)
        clock.set("2022-01-01")
        years.append(log, 1)
    seen_more = YearsView(support.checker())
    seen_more.verify_head(logs[0].shard(LOG).head())
    forked = logs[1].head(7, LOG)
    assert forked.HasField("link")
    with pytest.raises(RefusedError, match=r"without a proof|does not extend") as caught:
        seen_more.verify_head(forked)
    assert caught.value.reason is Reason.PROOF_INVALID
    view = YearsView(support.checker())
    view.verify_head(seen)
    with pytest.raises(RefusedError, match="does not show how the log before it ended"):
        view.verify_head(logs[1].head())
    for change in ("known_origin", "opened", "place"):
        head = logs[1].head(view.known_tree_size, view.known_origin)
        if change == "known_origin":
            head.link.known_origin = f"{LOG}/2020"
        elif change == "opened":
            head.link.opened[0].entry = logs[0].shard().entries(0, 1)[0]
        else:
            head.link.known_tree_size = 1
        with pytest.raises(RefusedError):
            view.verify_head(head)
    assert view.verify_head(logs[1].head(view.known_tree_size, view.known_origin)).origin == f"{LOG}/2022"
    years.close(*logs)


def test_a_reader_never_goes_back_to_a_year_that_has_ended(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    years.append(log, 5)
    view = YearsView(support.checker())
    view.verify_head(log.head())
    within, _ = log.frame([years.append(log, 1)], 6)
    later, _ = log.frame([years.append(log, 2)], 6)
    clock.set("2022-01-01")
    years.append(log, 1)
    newest = log.head(view.known_tree_size, view.known_origin)
    unrelated, _ = log.frame([years.append(log, 1)], 6, LOG)
    view.verify_head(newest)
    # Asked for before the end was known, and within it; the final head at any time; and what is proved from before.
    assert view.verify_head(within).size == 7
    assert view.verify_head(later).size == 9
    assert view.verify_head(log.shard(LOG).head()).size == 9
    assert view.verify_head(unrelated).size == 3
    assert view.wanted_link == (2, 3)
    assert view.newest.origin == f"{LOG}/2022"
    fresh = YearsView(support.checker())
    fresh.verify_head(log.head())
    with pytest.raises(RefusedError, match="ended before"):
        fresh.verify_head(within)
    years.close(log)


def test_a_head_beyond_the_end_of_a_year_is_a_fork(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    years.append(log, 5)
    log.engine.dispose()
    copy = place.copy()
    view = YearsView(support.checker())
    view.verify_head(log.head())
    other = years.reopen(copy, clock)
    beyond, _ = other.frame([years.append(other, 1)], 6)
    clock.set("2022-01-01")
    years.append(log, 1)
    view.verify_head(log.head(6, LOG))
    with pytest.raises(RefusedError, match="does not extend"):
        view.verify_head(beyond)
    years.close(log, other)


@pytest.mark.parametrize("more", [1, 3])
def test_a_new_year_that_goes_on_from_another_end_than_was_proved_is_a_fork(
    place: Place, clock: Calendar, more: int
) -> None:
    log = years.make(place, clock)
    years.append(log, 5)
    years.close(log)
    copy = place.copy()
    heads = []
    for store, count in ((place, 2), (copy, more)):
        clock.set("2021-12-01")
        log = years.reopen(store, clock)
        first = log.head()
        years.append(log, count)
        clock.set("2022-01-01")
        years.append(log, count)
        heads.append(log.head(6, LOG))
        years.close(log)
    view = YearsView(support.checker())
    view.verify_head(first)
    view.verify_head(heads[0])
    with pytest.raises(RefusedError, match="does not extend"):
        view.verify_head(heads[1], 6, LOG)
    assert view.fork is not None
    restored = YearsView(support.checker())
    restored.restore(view.export())
    with pytest.raises(RefusedError, match="does not extend"):
        restored.verify_head(heads[0])


def test_what_was_made_before_the_year_ended_is_proved_under_its_end(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    view = YearsView(support.checker())
    view.verify_head(log.head())
    before = years.append(log, 3)
    more = years.append(log, 4)
    clock.set("2022-01-01")
    years.append(log, 1)
    head, logged = log.frame([before], view.known_tree_size, view.known_origin)
    assert view.verify_head(head) == Checkpoint(LOG, 8, more.head.root)
    for entry in logged:
        view.check_entry(entry, view.newest)
    years.close(log)


def test_no_year_begins_while_a_hold_cannot_be_read_and_nothing_is_lost(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    hold = Hold("A-1", "spiffe://shenzhen/audit/auditor/one", clock.now, clock.now + 1e8, Query(), EVERYTHING).event()
    hold.placed_by = "nobody of this city"
    with log.transaction() as connection:
        broken = log.append(connection, [log.new_entry(hold)])
    log.committed(broken)
    clock.set("2022-01-01")
    with structlog.testing.capture_logs() as said:
        assert years.append(log, 2).origin == LOG
    assert [one["event"] for one in said] == ["no new year begins: a hold cannot be read"]
    assert years.append(log, 1).origin == LOG
    years.close(log)
    years.check(place)


def test_origins_of_other_logs_are_not_those_of_a_year() -> None:
    assert origin_of(LOG, 0) == LOG
    assert origin_of(LOG, 2027) == f"{LOG}/2027"


def test_reading_goes_on_while_a_statement_of_the_turn_of_the_year_fails(path: Path, clock: Calendar) -> None:
    log = years.make(path, clock)
    years.append(log, 2)
    clock.set("2022-01-01")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE log_entry_2022 (idx INTEGER)")
    with pytest.raises(FatalError):
        years.append(log, 1)
    with pytest.raises((FatalError, SQLAlchemyError)):
        years.append(log, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE log_entry_2022")
    assert log.open().size == 3
    assert years.append(log, 1).origin == f"{LOG}/2022"
    years.close(log)
    years.check(path)


def test_a_transaction_appends_more_than_once_also_where_the_year_turns_in_it(place: Place, clock: Calendar) -> None:
    log = years.make(place, clock)
    done = []
    for text in ("2021-12-31", "2022-01-01"):
        clock.set(text)
        with log.transaction() as connection:
            parts = [log.append(connection, [log.new_entry(support.event(number))]) for number in range(3)]
        for part in parts:
            log.committed(part)
        done += parts
    assert [part.first for part in done] == [1, 2, 3, 1, 2, 3]
    years.close(log)
    assert years.check(place, *done) == [f"{LOG}/2022", LOG]
