"""What is removed when a year's retention is over, what never is, and what still holds afterwards."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

import pytest

import audit_support as support
import yearly_support as years
from audit import retention
from audit.checkpoint import Checkpoint
from audit.entry import decode_entry
from audit.holds import Hold, HoldBook
from audit.origins import year_of
from audit.proofs import HeadView, check_entry
from audit.query import EVERYTHING, Query
from audit.retention import apply, check_note, due_time, remove, survey
from audit.search import SearchIndexes
from audit.yearly import YearlyLog
from audit.years import YearsView
from log_places import Place, PostgresDatabase, SqliteFile
from yearly_support import Calendar
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, RefusedError

LOG = support.HUB.log_origin
YEARS = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, path: Path) -> Iterator[Place]:
    in_file = request.param == "sqlite"
    place = SqliteFile(path) if in_file else PostgresDatabase(request.getfixturevalue("postgresql"))
    yield place
    place.drop()


@pytest.fixture
def clock() -> Calendar:
    return Calendar("2015-06-01")


@pytest.fixture
def log(place: Place, clock: Calendar) -> YearlyLog:
    return old_log(place, clock)


@pytest.fixture
def filed(path: Path, clock: Calendar) -> YearlyLog:
    """The same, in a file."""
    return old_log(path, clock)


def old_log(place: Place | Path, clock: Calendar) -> YearlyLog:
    """A log of 2015 with 600 entries, one of 2016 with 3, one of 2019."""
    log = years.make(place, clock)
    years.append(log, 599)
    clock.set("2016-01-01T00:00:01")
    years.append(log, 2)
    clock.set("2019-03-01")
    years.append(log, 1)
    return log


def refused(match: str) -> AbstractContextManager[object]:
    return pytest.raises(RefusedError, match=match, check=lambda error: error.reason is Reason.SHARD_KEPT)


def removal(log: YearlyLog, place: Place, origin: str, clock: Calendar, note: str = "no order, no dispute") -> None:
    remove(log, HoldBook(log), origin, years=YEARS, now=clock.now, note=note)
    place.remove(year_of(origin))
    log.refresh()


def test_a_year_is_due_when_so_many_have_passed_since_it_ended(log: YearlyLog, clock: Calendar) -> None:
    first, second = survey(log, HoldBook(log), YEARS, clock.now)
    assert (first.origin, first.size) == (LOG, 600)
    assert first.due == due_time(first.ended, YEARS)
    for text, due in (("2021-01-01T00:00:00", False), ("2021-01-01T00:00:01", True)):
        clock.set(text)
        assert (clock.now >= first.due) is due
    assert second.due > first.due
    years.close(log)


def test_the_leap_day_has_its_anniversary_in_march() -> None:
    clock = Calendar("2016-02-29")
    due = due_time(clock.now, 5)
    clock.set("2021-03-01")
    assert due == clock.now
    assert str(CITY_TIME) == "CST"


def test_exactly_what_is_due_goes_and_how_it_ended_stays(filed: YearlyLog, clock: Calendar, path: Path) -> None:
    log = filed
    clock.set("2021-01-02")
    final = log.shard(LOG).newest
    marker = b"spiffe://shenzhen/audit/auditor/one"
    assert path.read_bytes().count(marker) + Path(f"{path}-wal").read_bytes().count(marker) > 600
    kept = apply(log, HoldBook(log), {}, years=YEARS, now=clock.now, no_copy="nobody asked for one")
    assert kept == []
    one, two, _ = survey(log, HoldBook(log), YEARS, clock.now)
    assert (one.done, two.removed) == (True, False)
    assert [store.origin for store in log.shards()] == [f"{LOG}/2021", f"{LOG}/2019", f"{LOG}/2016"]
    with pytest.raises(RefusedError, match="were removed"):
        log.shard(LOG)
    assert log.ended[0].head == final
    (recorded,) = (
        entry.shard_removed
        for data in log.shard().entries(0, 10)
        if (entry := decode_entry(data)).WhichOneof("event") == "shard_removed"
    )
    assert (recorded.origin, recorded.size, recorded.root) == (LOG, 600, final.root)
    assert (recorded.retention_years, recorded.note) == (YEARS, "nobody asked for one")
    years.close(log)
    with closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert "log_entry" not in names
    assert "log_entry_2016" in names
    again = years.reopen(path, clock)
    assert again.verify_all().size == again.newest.size
    left = sum(len(again.shard(origin).entries(0, 100)) for origin in (f"{LOG}/2016", f"{LOG}/2019", ""))
    assert path.read_bytes().count(marker) <= left, "no byte of what was removed is left in the file"
    years.close(again)


def test_a_reader_who_saw_the_removed_year_to_its_end_still_follows(
    log: YearlyLog, clock: Calendar, place: Place
) -> None:
    view = YearsView(support.checker())
    view.verify_head(log.shard(LOG).head())
    clock.set("2021-01-02")
    removal(log, place, LOG, clock)
    assert view.verify_head(log.head(view.known_tree_size, view.known_origin)) == view.newest
    assert view.ended(LOG) == Checkpoint(LOG, 600, log.ended[0].head.root)
    assert not log.head(599, LOG).HasField("link"), "from the midst of a removed year nothing can be proved any more"
    years.close(log)


def test_what_was_proved_before_still_holds(log: YearlyLog, clock: Calendar, place: Place) -> None:
    old = log.shard(LOG)
    head, (logged,) = old.head(), old.logged([17], 600)
    clock.set("2021-01-02")
    removal(log, place, LOG, clock)
    assert check_entry(logged, HeadView(support.checker()).verify_head(head)).audit_read.method == "ListEntries"
    years.close(log)


def test_a_year_is_not_removed_before_its_time_nor_twice_nor_while_it_goes_on(
    log: YearlyLog, clock: Calendar, place: Place
) -> None:
    clock.set("2020-12-31")
    with refused("is kept until 2021-01-01"):
        removal(log, place, LOG, clock)
    with refused("is no log of an earlier year"):
        removal(log, place, log.origin, clock)
    with refused("is no log of an earlier year"):
        removal(log, place, "shenzhen/centre/hub/other", clock)
    clock.set("2021-01-02")
    removal(log, place, LOG, clock)
    with refused("gone already"):
        removal(log, place, LOG, clock)
    years.close(log)


def hold(log: YearlyLog, clock: Calendar, query: Query) -> None:
    placed = Hold("A-2020-7", "spiffe://shenzhen/audit/auditor/one", clock.now, clock.now + 7e6, query, EVERYTHING)
    with log.transaction() as connection:
        appended = log.append(connection, [log.new_entry(placed.event())])
    log.committed(appended)


@pytest.mark.parametrize(
    ("query", "held"), [(Query(matter="senior-card"), True), (Query(since=1_577_836_800_000_000), False)]
)
def test_what_is_held_stays(log: YearlyLog, clock: Calendar, query: Query, held: bool) -> None:  # noqa: FBT001 - a parameter
    clock.set("2020-12-20")
    hold(log, clock, query)
    clock.set("2021-01-02")
    book = HoldBook(log)
    shard = survey(log, book, YEARS, clock.now)[0]
    assert shard.holds == (("A-2020-7",) if held else ())
    if held:
        with refused("is held: A-2020-7"):
            remove(log, book, LOG, years=YEARS, now=clock.now)
        assert apply(log, book, {}, years=YEARS, now=clock.now, no_copy="x") == []
        assert len(log.shard(LOG).entries(0, 1000)) == 600
    else:
        remove(log, book, LOG, years=YEARS, now=clock.now)
    years.close(log)


def test_a_hold_that_is_placed_while_a_removal_is_prepared_stops_it(
    log: YearlyLog, clock: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.set("2021-01-02")
    survey_as_it_is, asked = retention.survey, 0

    def survey_then_hold(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        found = survey_as_it_is(*arguments)  # type: ignore[arg-type]  # passed on as they came
        if asked == 1:
            hold(log, clock, Query(matter="senior-card"))
        return found

    monkeypatch.setattr(retention, "survey", survey_then_hold)
    with refused("is held: A-2020-7"):
        remove(log, HoldBook(log), LOG, years=YEARS, now=clock.now)
    assert len(log.shard(LOG).entries(0, 1000)) == 600
    years.close(log)


def test_a_hold_goes_on_into_the_log_of_the_new_year(log: YearlyLog, clock: Calendar) -> None:
    clock.set("2019-12-20")
    hold(log, clock, Query(matter="senior-card"))
    clock.set("2020-01-02")
    years.append(log, 1)
    carried = decode_entry(log.shard().entries(1, 1)[0]).hold_placed
    assert carried.order == "A-2020-7"
    assert [one.order for one in HoldBook(log).holds_in_force(clock.now)] == ["A-2020-7"]
    years.close(log)


def test_a_clock_that_leaps_over_a_new_year_and_comes_back_ends_no_hold(log: YearlyLog, clock: Calendar) -> None:
    clock.set("2019-11-28")
    hold(log, clock, Query(matter="senior-card"))
    before = HoldBook(log).holds_in_force(clock.now)
    assert before
    clock.set("2021-02-15")
    years.append(log, 1)
    assert HoldBook(log).holds_in_force(clock.now) == ()
    clock.set("2019-11-28T00:01")
    assert years.append(log, 1).origin == f"{LOG}/2021"
    assert HoldBook(log).holds_in_force(clock.now) == before
    years.close(log)


def test_without_a_copy_or_a_reason_nothing_goes(log: YearlyLog, clock: Calendar) -> None:
    clock.set("2021-01-02")
    book, end = HoldBook(log), survey(log, HoldBook(log), YEARS, clock.now)[0].checkpoint
    shorter = Checkpoint(LOG, 599, end.root)
    assert apply(log, book, {}, years=YEARS, now=clock.now) == [LOG]
    assert apply(log, book, {LOG: shorter}, years=YEARS, now=clock.now) == [LOG]
    assert len(log.shard(LOG).entries(0, 1000)) == 600
    assert apply(log, book, {LOG: end}, years=YEARS, now=clock.now) == []
    with pytest.raises(RefusedError):
        log.shard(LOG)
    years.close(log)


def test_why_there_is_no_copy_names_no_citizen() -> None:
    for note in ("440399199001010011", "about 440399199001010011 only", "a\nb", "x" * 501):
        with pytest.raises(RefusedError):
            check_note(note)


class StopError(Exception):
    """In place of a crash."""


@pytest.mark.parametrize("step", range(6))
def test_a_removal_that_was_broken_off_is_finished_later(
    filed: YearlyLog, clock: Calendar, path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filed
    clock.set("2021-01-02")
    seen = 0

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen > step:
            raise StopError

    monkeypatch.setattr(retention, "BATCH", 150)
    with suppress(StopError):
        remove(log, HoldBook(log), LOG, years=YEARS, now=clock.now, note="x", forget=stop, progress=stop)
    years.close(log)
    log = years.reopen(path, clock)
    shard = survey(log, HoldBook(log), YEARS, clock.now)[0]
    assert shard.removed
    with pytest.raises(RefusedError, match="were removed"):
        log.shard(LOG)
    if not shard.done:
        assert apply(log, HoldBook(log), {}, years=YEARS, now=clock.now) == []
    assert survey(log, HoldBook(log), YEARS, clock.now)[0].done
    years.close(log)
    assert LOG not in years.check(path)


def test_the_process_that_serves_the_log_goes_on_and_notices(
    log: YearlyLog, clock: Calendar, place: Place, tmp_path: Path
) -> None:
    indexes = SearchIndexes(tmp_path / "search.db", log)
    while indexes.follow():
        pass
    assert indexes.of(log.shard(LOG)).search(Query(), EVERYTHING, 600, 5)[0] == [599, 598, 597, 596, 595]
    clock.set("2021-01-02")
    other = years.reopen(place, clock)
    removal(other, place, LOG, clock)
    years.append(log, 1)
    log.refresh()
    with pytest.raises(RefusedError, match="were removed"):
        log.shard(LOG)
    assert (tmp_path / "search.db").exists()
    indexes.follow()
    assert not (tmp_path / "search.db").exists()
    assert (tmp_path / "search-2016.db").exists()
    indexes.close()
    years.close(log, other)
    years.check(place)


def test_a_removed_year_does_not_come_back_unnoticed(filed: YearlyLog, clock: Calendar, path: Path) -> None:
    log = filed
    years.close(log)
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    log = years.reopen(path, clock)
    clock.set("2021-01-02")
    removal(log, SqliteFile(path), LOG, clock)
    years.close(log)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ATTACH ? AS old", (str(copy),))
        for name, sql in connection.execute(
            "SELECT name, sql FROM old.sqlite_master WHERE tbl_name IN ('log_entry', 'log_tile', 'log_head') "
            "AND type = 'table'"
        ).fetchall():
            connection.execute(sql)
            connection.execute(f"INSERT INTO main.{name} SELECT * FROM old.{name}")  # noqa: S608 - names of the log
    back = years.unopened(path, clock)
    with pytest.raises(FatalError, match="a log that was removed"):
        back.open()
    years.close(back)


def test_entries_that_are_gone_without_a_word_in_the_log_are_noticed(
    filed: YearlyLog, clock: Calendar, path: Path
) -> None:
    log = filed
    years.close(log)
    with closing(sqlite3.connect(path)) as connection, connection:
        with pytest.raises(sqlite3.IntegrityError, match="until its removal is recorded"):
            connection.execute("DELETE FROM log_entry")
        connection.execute("INSERT INTO log_shard_removed VALUES (0, 2019, 1, 0)")
        connection.execute("DELETE FROM log_entry")
        connection.execute("DELETE FROM log_tile")
        connection.execute("DELETE FROM log_head")
    again = years.unopened(path, clock)
    with pytest.raises(FatalError, match="the log does not say so"):
        again.open()
    years.close(again)
