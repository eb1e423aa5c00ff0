"""`zhiwang sweep` against real processes: whatever ends it, nothing is asked twice and nothing is lost.

What counts is the owners' own logs: how many cases stand there, under how many requests.
"""

from __future__ import annotations

import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from breaking_support import RealCity
from exchange.sweep.journal import RESERVE_BYTES
from sweep_processes import (
    IDENTIFIER,
    OWNERS,
    ROWS,
    WAIT,
    Asked,
    asked_once,
    begin,
    check_whole,
    command,
    eventually,
    finish,
    results,
    write_roster,
)

pytestmark = pytest.mark.timeout(400)  # real processes, and the machine may have other work


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("sweeping"), OWNERS)
    yield city
    city.stop()


@pytest.fixture
def roster(city: RealCity, tmp_path: Path) -> Path:
    """As many rows as a sweep of some seconds needs."""
    return write_roster(city, tmp_path / "名册.csv")


def test_a_sweep_that_is_killed_goes_on_and_no_owner_logs_a_case_twice(city: RealCity, roster: Path) -> None:
    asked = Asked(city)
    words = command(city, roster)
    for killed in range(2):
        before = len(asked.cases("hrss"))
        process = begin(words)
        eventually(lambda least=before: len(asked.cases("hrss")) > least, process)  # type: ignore[misc]  # bound now
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not roster.with_name("results.csv").exists(), killed
    journal = roster.with_name("results.csv.sweep")
    assert journal.stat().st_mode & 0o777 == 0o600
    assert not IDENTIFIER.search(journal.read_bytes().decode("latin-1"))
    with closing(sqlite3.connect(journal)) as connection:
        (on_the_way,) = connection.execute("SELECT count(*) FROM flight").fetchone()
    assert on_the_way, "it was killed when nothing was on the way, which shows nothing"
    other = begin([*words, "--role", "edu/inspector"])
    _, refusal = other.communicate(timeout=WAIT)
    assert (other.returncode, "another reference, official, role" in refusal) == (2, True), refusal
    summary = finish(words)
    assert summary["outcomes"] == {"ANSWERED": ROWS, "DENIED": 0, "UNAVAILABLE": 0, "NOT_ASKED": 0}
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_on_the_way_arrive_and_the_next_run_goes_on(
    city: RealCity, roster: Path, number: signal.Signals
) -> None:
    asked = Asked(city)
    words = command(city, roster)
    process = begin(words)
    eventually(lambda: bool(asked.cases("hrss")), process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 128 + number, errors
    assert "Interrupted" in errors
    with closing(sqlite3.connect(roster.with_name("results.csv.sweep"))) as connection:
        assert connection.execute("SELECT count(*) FROM flight").fetchone() == (0,)
    finish(words)
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)


@pytest.mark.parametrize("place", ["hub", "hrss"])
def test_a_restart_on_the_way_loses_no_row_and_asks_none_twice(city: RealCity, roster: Path, place: str) -> None:
    asked = Asked(city)
    process = begin(command(city, roster, "--until", "5m"))
    eventually(lambda: len(asked.cases("hrss")) > 1, process)
    city.fleet.kill(place)
    city.start(place)
    city.wait_ready()
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, (output, errors[-3000:])
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)


def test_rows_that_an_owner_could_not_answer_stand_so_until_the_next_run_asks_that_owner_alone(
    city: RealCity, roster: Path
) -> None:
    roster.write_bytes(b"".join(roster.read_bytes().splitlines(keepends=True)[:301]))
    asked = Asked(city)
    words = command(city, roster)
    city.fleet.kill("hrss")
    try:
        summary = finish([*words, "--until", "12s"], status=1)
    finally:
        city.start("hrss")
        city.wait_ready()
    assert summary["outcomes"] == {"ANSWERED": 0, "DENIED": 0, "UNAVAILABLE": 300, "NOT_ASKED": 0}
    line = results(roster)[0]
    assert (line["outcome"], line["insured"]) == ("UNAVAILABLE", "UNAVAILABLE")
    assert line["words"]
    assert roster.with_name("results.csv.sweep").exists()
    summary = finish(words)
    assert summary["outcomes"] == {"ANSWERED": 300, "DENIED": 0, "UNAVAILABLE": 0, "NOT_ASKED": 0}
    assert asked_once(asked) == dict.fromkeys(OWNERS, 300)


def test_a_roster_replaced_meanwhile_ends_the_sweep_and_put_back_it_goes_on(city: RealCity, roster: Path) -> None:
    asked, words = Asked(city), command(city, roster)
    lines = roster.read_bytes().splitlines(keepends=True)
    process = begin(words)
    eventually(lambda: bool(asked.cases("hrss")), process)
    other = roster.with_name("other.csv")
    other.write_bytes(b"".join([lines[0], *reversed(lines[1:])]))
    other.replace(roster)
    _, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, "was changed meanwhile" in errors) == (2, True), errors
    assert not roster.with_name("results.csv").exists()
    refused = begin(words)
    _, errors = refused.communicate(timeout=WAIT)
    assert (refused.returncode, "another roster, or this one before it was changed" in errors) == (2, True), errors
    roster.write_bytes(b"".join(lines))
    finish(words)
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)


def test_a_quota_that_is_full_loses_no_answer_and_with_room_the_sweep_goes_on(city: RealCity, roster: Path) -> None:
    asked, words = Asked(city), command(city, roster)
    process = begin(words)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The journal with the room that it sets aside and the first request (74 KB); not with the second one (147 KB).
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (RESERVE_BYTES + (480 << 10), hard))
    _, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, "is full" in errors) == (1, True), errors
    assert not roster.with_name("results.csv").exists()
    assert 0 < sum(asked_once(asked).values()) < ROWS, "nothing was answered, or nothing was left"
    finish(words)
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)
