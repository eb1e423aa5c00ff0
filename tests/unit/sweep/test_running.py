"""A sweep asks every row once, however it is ended, and knows at each moment what it has asked."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from exchange.client.case import Answer, Status
from exchange.client.roster import CHUNK, WINDOW
from exchange.demo.codes import resident
from exchange.sweep import asking, running
from exchange.sweep.disk import is_full
from exchange.sweep.findings import Finding
from exchange.sweep.journal import Entry, Journal, JournalError, State, journal_of
from exchange.sweep.mapping import MappingError
from sweep_support import COLUMNS, Bench, Wire, people, refusing, results
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import MAX_LIFETIME, Header

OWNERS = {"police", "health", "civil"}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(running, "RETRY_SECONDS", (0.01, 0.05))


async def test_every_row_has_its_line_in_the_rosters_order_with_its_reason_if_it_was_not_asked(tmp_path: Path) -> None:
    wire = Wire()
    rows: list[tuple[object, ...]] = list(people(5))
    rows[1] = ("R1", "440399195001010011", "某人", "街道")  # a wrong check digit
    rows[3] = ("R0", *rows[3][1:])
    with Bench(tmp_path, rows, wire) as bench:
        run = await bench.run()
        assert run.tally[State.REFUSED] == 2
        written = bench.write()
    found = results(bench.out)
    assert [(one["row"], one["key"], one["outcome"], one["reason"], one["column"]) for one in found] == [
        ("2", "R0", "ANSWERED", "", ""),
        ("3", "R1", "NOT_ASKED", "IDENTIFIER_INVALID", "身份证号"),
        ("4", "R2", "ANSWERED", "", ""),
        ("5", "R0", "NOT_ASKED", "KEY_TWICE", "编号"),
        ("6", "R4", "ANSWERED", "", ""),
    ]
    assert found[1]["words"].startswith("证件号码")
    assert {one["街道"] for one in found} == {"街道"}
    assert written.outcomes == {"ANSWERED": 3, "NOT_ASKED": 2}
    assert "440399" not in bench.out.read_text("utf-8")
    assert wire.cases == dict.fromkeys(OWNERS, 3)


async def test_no_more_is_in_hand_than_the_window_however_long_the_roster(tmp_path: Path) -> None:
    wire = Wire()
    full = asyncio.Event()

    async def held() -> None:
        if wire.now == WINDOW * len(OWNERS):
            await asyncio.sleep(0.1)  # whoever does not keep to the window sends more now
            full.set()
        await full.wait()

    wire.held = held
    with Bench(tmp_path, list(people(1800)), wire) as bench:
        await bench.run()
    assert wire.most == WINDOW * len(OWNERS)
    assert wire.cases == dict.fromkeys(OWNERS, 1800)


async def test_a_reply_that_was_lost_is_had_by_the_same_bytes(tmp_path: Path) -> None:
    wire = Wire()
    wire.after = refusing(RefusedError(Reason.OWNER_FAILED), 3, "health")
    with Bench(tmp_path, list(people(300)), wire) as bench:
        run = await bench.run()
    assert run.tally[State.ANSWERED] == 300
    assert wire.cases == dict.fromkeys(OWNERS, 300), "the lost replies were asked for by other bytes"


async def test_an_owner_that_was_away_is_asked_again_and_the_others_are_not(tmp_path: Path) -> None:
    wire = Wire()
    wire.before = refusing(RefusedError(Reason.OWNER_NOT_ATTACHED), 5, "health")
    with Bench(tmp_path, list(people(600)), wire, patience=60.0) as bench:
        run = await bench.run()
        assert run.tally[State.ANSWERED] == 600
        bench.write()
    assert wire.cases == dict.fromkeys(OWNERS, 600)
    assert {one["outcome"] for one in results(bench.out)} == {"ANSWERED"}
    assert all(one["ruling"] for one in results(bench.out)), "answers of two askings are judged as one case"


async def test_what_nobody_answered_stands_unavailable_when_the_time_is_over_and_is_asked_by_the_next_run(
    tmp_path: Path,
) -> None:
    wire = Wire()
    wire.before = refusing(RefusedError(Reason.BULK_CLOSED), 10**9, "police")
    with Bench(tmp_path, list(people(300)), wire, patience=0.2) as bench:
        run = await bench.run()
        assert (run.tally[State.OPEN], run.waiting) == (300, 300)
        bench.write()
    found = results(bench.out)
    assert {(one["outcome"], one["reason"]) for one in found} == {("UNAVAILABLE", "BULK_CLOSED")}
    assert {one["ruling"] for one in found} <= {"CHECK_BY_HAND", "DATA_DISAGREES"}
    assert {one["living"] for one in found} <= {"YES", "NO", "UNKNOWN"}
    assert {one["aged"] for one in found} == {"UNAVAILABLE"}
    wire.before = lambda _header: None
    with Bench(tmp_path, None, wire) as again:
        assert again.begin()
        await again.run()
    assert wire.cases == dict.fromkeys(OWNERS, 300)


async def test_rows_for_which_the_time_was_too_short_say_so(tmp_path: Path) -> None:
    wire = Wire()
    with Bench(tmp_path, list(people(3)), wire, until=time.time() - 1) as bench:
        await bench.run()
        bench.write()
    assert not wire.seen
    assert {(one["outcome"], one["reason"]) for one in results(bench.out)} == {("NOT_ASKED", "TIME_OVER")}
    with Bench(tmp_path, None, wire) as again:
        run = await again.run()
    assert run.tally[State.ANSWERED] == 3


class KilledError(Exception):
    """The process is no more."""


@pytest.mark.parametrize("moment", ["before the owner had it", "after the owner had it"])
async def test_what_was_on_the_way_when_it_was_killed_lands_by_the_same_bytes(tmp_path: Path, moment: str) -> None:
    wire = Wire()
    killing = _nth(4, KilledError())
    if moment.startswith("before"):
        wire.before = killing
    else:
        wire.after = killing
    with Bench(tmp_path, list(people(1100)), wire) as bench:
        with pytest.raises(KilledError):
            await bench.run()
        on_the_way = len(bench.journal.flights())
        assert on_the_way
    wire.before = wire.after = lambda _header: None
    with Bench(tmp_path, None, wire) as again:
        run = await again.run()
        assert run.tally[State.ANSWERED] == 1100
        assert not again.journal.flights()
    assert wire.cases == dict.fromkeys(OWNERS, 1100), "a case was asked twice"


async def test_what_was_on_the_way_too_long_ago_is_asked_anew(tmp_path: Path) -> None:
    wire = Wire()
    wire.before = _nth(2, KilledError())
    with Bench(tmp_path, list(people(300)), wire) as bench:
        with pytest.raises(KilledError):
            await bench.run()
        old = {flight.request for flight in bench.journal.flights()}
        assert old
    wire.before = lambda _header: None
    with Bench(tmp_path, None, wire) as again:
        again.client._clock = lambda: time.time() + 61
        again.begin()
        await running.Sweep(
            again.client,
            again.roster,
            again.reader,
            again.journal,
            again.context,
            again.stopping,
            until=0.0,
            patience=0,
        ).run()
        assert not again.journal.flights(), "what is too old for its owner is forgotten"


async def test_a_clock_that_was_set_back_does_not_make_a_request_live_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    wire.before = _nth(1, KilledError())
    with Bench(tmp_path, list(people(3)), wire) as bench, pytest.raises(KilledError):
        await bench.run()
    left: list[float] = []

    async def note(_sealed: object, seconds: float, *, bulk: bool) -> None:
        assert bulk
        left.append(seconds)
        raise RefusedError(Reason.HUB_UNREACHABLE)

    with Bench(tmp_path, None, wire) as again:
        monkeypatch.setattr(again.client, "_clock", lambda: time.time() - 86_400)
        monkeypatch.setattr(again.client, "_carry", note)
        again.begin()
        again.more["until"] = 0.0
        await again.run()
    assert left
    assert max(left) <= MAX_LIFETIME


async def test_told_to_stop_it_takes_what_is_on_the_way_and_asks_nothing_more(tmp_path: Path) -> None:
    wire = Wire()
    with Bench(tmp_path, list(people(2000)), wire) as bench:
        wire.after = lambda _header: bench.stopping.set()
        run = await bench.run()
        assert run.tally[State.ANSWERED] < 2000
        with pytest.raises(RefusedError):
            await run._keep(["2/1"], "police", b"", b"")
        assert not bench.journal.flights()
        known = sum(one.settled for entry in bench.journal.entries(0, 10**6) for one in entry.findings)
    asked = sum(header.cases * len(header.claims) for header in wire.seen.values())
    assert known == asked > 0, "an answer that had come was not written down"


async def test_on_a_full_disk_every_answer_finds_room_and_nothing_more_is_asked(tmp_path: Path) -> None:
    wire = Wire()
    with Bench(tmp_path, list(people(2000)), wire) as bench:
        bench.begin()
        pages = bench.journal._connection.execute("PRAGMA page_count").fetchone()[0]
        bench.journal._connection.execute(f"PRAGMA max_page_count = {pages + 60}")
        run = await bench.run()
        assert run.full
        assert run.tally[State.OPEN] > 0
        known = sum(one.settled for entry in bench.journal.entries(0, 10**6) for one in entry.findings)
        assert known == sum(header.cases * len(header.claims) for header in wire.seen.values())
    with Bench(tmp_path, None, wire) as again:
        run = await again.run()
        assert run.tally[State.ANSWERED] == 2000
    assert wire.cases == dict.fromkeys(OWNERS, 2000)


async def test_an_answer_for_which_there_is_no_room_takes_that_which_was_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "FULL_SECONDS", 0.01)
    wire = Wire()
    with Bench(tmp_path, list(people(600)), wire) as bench:
        settle = bench.journal.settle

        def full_until_released(*given: Any) -> None:
            if bench.journal._connection.execute("SELECT count(*) FROM reserve").fetchone() != (0,):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            settle(*given)

        monkeypatch.setattr(bench.journal, "settle", full_until_released)
        run = await bench.run()
        assert run.full
        known = sum(one.settled for entry in bench.journal.entries(0, 10**6) for one in entry.findings)
        assert known == sum(header.cases * len(header.claims) for header in wire.seen.values()) > 0


def test_room_that_was_set_aside_is_there_when_the_disk_is_full(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "x.sweep")
    journal.take_in({"roster": "x"}, ((number, None, None, "") for number in range(1000)))
    journal.set_aside(0)
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    findings = [Finding(claim, 0, 0, Status.ANSWERED, Answer.YES, "", 1, "") for claim in range(100)]
    entries = [Entry(number, State.ANSWERED, "", "", findings) for number in range(1000)]
    with pytest.raises(sqlite3.Error) as caught:
        journal.settle(entries, ())
    assert is_full(caught.value)
    assert journal.count()[State.OPEN] == 1000
    journal.set_aside(0)
    journal.release()
    journal.settle(entries, ())
    assert journal.entries(5, 5) == [entries[5]]
    journal.close()


async def test_only_what_differs_from_earlier_results_is_written(tmp_path: Path) -> None:
    wire, rows = Wire(), list(people(6))
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    with Bench(first, [*rows, ("gone", *rows[0][1:])], wire) as bench:
        await bench.run()
        bench.write()
    wire.before = refusing(RefusedError(Reason.NOT_GRANTED), 1, "health")
    changed = [("R1", resident_in_turn(), "某人", "街道") if row[0] == "R1" else row for row in rows]
    with Bench(second, [*changed, ("new", *rows[0][1:])], Wire()) as bench:
        await bench.run()
        written = bench.write(before=first / "results.csv", full=second / "full.csv")
    found = {one["key"]: one["changed"] for one in results(bench.out)}
    assert found.pop("new") == "new"
    assert set(found) <= {"R1"}
    assert all(" → " in change for change in found.values())
    assert (written.changed, written.gone) == (len(found) + 1, 1)
    assert [one["key"] for one in results(second / "full.csv")] == [*(row[0] for row in rows), "new"]


def resident_in_turn() -> str:
    """Somebody of whom everything is unknown (`personas.py`)."""
    return resident(date(2000, 1, 1), 3)


async def test_a_journal_goes_on_with_its_own_sweep_only_and_one_process_has_it(tmp_path: Path) -> None:
    wire = Wire()
    with Bench(tmp_path, list(people(3)), wire) as bench:
        assert not bench.begin()
        assert bench.begin()
        with pytest.raises(JournalError, match="another sweep has"):
            Journal.open(journal_of(bench.out))
        assert bench.journal.path.stat().st_mode & 0o777 == 0o600
    keyless = COLUMNS.model_copy(update={"key": None})
    for rows, columns, other in ((None, keyless, "other columns"), (list(people(4)), COLUMNS, "another roster")):
        with Bench(tmp_path, rows, wire, columns=columns) as bench, pytest.raises(JournalError, match=other):
            bench.begin()


async def test_a_key_that_would_carry_an_identifier_into_the_results_is_refused(tmp_path: Path) -> None:
    rows = [*people(2), (f"办-{next(people(1))[1]}", *next(people(1))[1:])]
    with Bench(tmp_path, rows, Wire()) as bench:
        with pytest.raises(MappingError, match="row 4: the key would carry an identifier"):
            bench.begin()
        assert bench.journal.meta == {}, "half a roster was taken in"


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sweep").write_text("something else altogether, and long enough to be looked at")
    with pytest.raises(JournalError, match="cannot be used as a journal"):
        Journal.open(tmp_path / "x.sweep")


def _nth(number: int, error: Exception) -> Callable[[Header], None]:
    count = [0]

    def check(_header: Header) -> None:
        count[0] += 1
        if count[0] >= number:
            raise error

    return check


async def test_a_roster_of_any_length_needs_the_same_memory(tmp_path: Path) -> None:
    """The short form of `make sweep-long`, which reads a real process's memory over a million rows."""
    few, many = WINDOW * CHUNK, 3 * WINDOW * CHUNK
    peaks = {}
    for rows in (few, many):
        place = tmp_path / str(rows)
        place.mkdir()
        with Bench(place, list(people(rows)), Wire()) as bench:
            gc.collect()
            tracemalloc.start()
            try:
                sweep = await bench.run()
                peaks[rows] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert sweep.tally[State.ANSWERED] == rows
            assert not bench.client.rows, "keys of rows that are settled are kept"
    # How many answers meet in memory is chance; all of them kept would be 2.5 times as much and more.
    assert peaks[many] < 1.8 * peaks[few], peaks
