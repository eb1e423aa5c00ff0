"""`zhiwang matter run` with points, broken in the middle of its search: it goes on, and nobody is asked twice.

What counts is the owners' own logs: about how many people each claim was asked, at each cell, beside a run that nothing
interrupted.
"""

from __future__ import annotations

import csv
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from breaking_support import RealCity
from exchange.demo.matters import Case, rosters
from exchange.demo.processes import zhiwang
from exchange.sweep.journal import State
from policy.authorise import local_date
from sweep_processes import IDENTIFIER, WAIT, begin, eventually, finish, results
from zhiwang.exchange.v1 import sealed_pb2

OWNERS = ("health", "housing", "hrss", "police", "title")
TIMES = 4
"""How often the roster's people stand in it, so that it takes some seconds."""
FIRST = "61"
pytestmark = pytest.mark.timeout(500)  # eight processes, and the machine may have other work


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("searching"), OWNERS, residents=700, students=40)
    yield city
    city.stop()


@pytest.fixture(scope="module")
def case(city: RealCity) -> Case:
    return rosters(city.city, local_date(time.time()))["school-points"]


def write_roster(case: Case, path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(case.lines[0].cells))
        writer.writeheader()
        for turn in range(TIMES):
            writer.writerows({**line.cells, "编号": f"{turn}-{line.cells['编号']}"} for line in case.lines)
    return path


def command(city: RealCity, case: Case, roster: Path) -> list[str]:
    subjects = [word for subject in case.subjects for word in ("--subject", subject)]
    return [
        *zhiwang("matter", "run", case.matter, "--profile", str(city.layout.system_profile), "--reference"),
        *(case.reference, "--official", "clerk-17", "--roster", str(roster), "--key", "编号", *subjects),
        *("--out", str(roster.with_name("results.csv")), "--until", "8m", "--json"),
    ]


class Asked:
    """About how many people each claim was asked since this was made, as the owners have logged it."""

    def __init__(self, city: RealCity) -> None:
        self._city = city
        self._before = {owner: city.count(owner, "log_entry") for owner in OWNERS}
        self._looked = self._before["hrss"]

    def people(self) -> Counter[tuple[str, str, str]]:
        found: Counter[tuple[str, str, str]] = Counter()
        seen = set()
        for owner in OWNERS:
            for entry in self._city.entries(owner, self._before[owner]):
                if entry.WhichOneof("event") == "owner_access":
                    header = sealed_pb2.Header.FromString(entry.owner_access.header)
                    assert header.request_id not in seen, "one request stands twice in an owner's log"
                    seen.add(header.request_id)
                    for claim in header.claims:
                        found[owner, claim.attribute, claim.cell] += entry.owner_access.cases
        return found

    def searching(self) -> bool:
        """Whether anybody has just been asked about at a cell to which only the search comes."""
        entries = self._city.entries("hrss", self._looked)
        self._looked += len(entries)
        accesses = [entry.owner_access for entry in entries if entry.WhichOneof("event") == "owner_access"]
        headers = [sealed_pb2.Header.FromString(one.header) for one in accesses]
        return any(claim.cell not in {"", FIRST} for header in headers for claim in header.claims)


@pytest.fixture(scope="module")
def uninterrupted(
    city: RealCity, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, str]], Counter[tuple[str, str, str]]]:
    roster = write_roster(case, tmp_path_factory.mktemp("whole") / "roster.csv")
    asked = Asked(city)
    finish(command(city, case, roster), status=1)
    found = results(roster)
    for one, line in zip(found, case.lines * TIMES, strict=True):
        assert one["ruling"] == line.ruling
        assert line.ruling == "DATA_DISAGREES" or (int(one["points_least"]), int(one["points_most"])) == line.points
    return found, asked.people()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_is_ended_goes_on_and_comes_to_what_it_would_have_come_to(
    ending: signal.Signals,
    city: RealCity,
    case: Case,
    uninterrupted: tuple[list[dict[str, str]], Counter[tuple[str, str, str]]],
    tmp_path: Path,
) -> None:
    roster, asked = write_roster(case, tmp_path / "roster.csv"), Asked(city)
    words = command(city, case, roster)
    process = begin(words)
    eventually(asked.searching, process)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == (-ending if ending is signal.SIGKILL else 128 + ending), errors
    assert not IDENTIFIER.search(errors)
    assert not roster.with_name("results.csv").exists()
    with closing(sqlite3.connect(roster.with_name("results.csv.sweep"))) as journal:
        (left,) = journal.execute("SELECT count(*) FROM row WHERE state = ?", (State.OPEN,)).fetchone()
    assert left, "it was over already, which shows nothing"
    finish(words, status=1)
    assert results(roster) == uninterrupted[0]
    assert asked.people() == uninterrupted[1]


def test_a_restart_of_hub_and_owner_in_the_middle_of_a_search_asks_nobody_twice(
    city: RealCity,
    case: Case,
    uninterrupted: tuple[list[dict[str, str]], Counter[tuple[str, str, str]]],
    tmp_path: Path,
) -> None:
    roster, asked = write_roster(case, tmp_path / "roster.csv"), Asked(city)
    process = begin(command(city, case, roster))
    eventually(asked.searching, process)
    for place in ("hrss", "hub"):
        city.fleet.kill(place)
        city.start(place)
        city.wait_ready()
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 1, errors[-3000:]
    assert results(roster) == uninterrupted[0]
    assert asked.people() == uninterrupted[1]
