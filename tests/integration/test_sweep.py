"""`zhiwang sweep` against real processes: whatever ends it, nothing is asked twice and nothing is lost.

What counts is the owners' own logs: how many cases stand there, under how many requests.
"""

from __future__ import annotations

import csv
import json
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from breaking_support import RealCity
from exchange.demo.processes import zhiwang
from zhiwang.exchange.v1 import sealed_pb2

pytestmark = pytest.mark.timeout(400)  # real processes, and the machine may have other work

OWNERS = ("hrss", "health")
ROWS = 2600
CLAIMS = ("guardian: hrss.insured_months at_least 12", "child: health.parent related @guardian")
IDENTIFIER = re.compile(r"440399[0-9]{11}[0-9X]")
WAIT = 100.0


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("sweeping"), OWNERS)
    yield city
    city.stop()


@pytest.fixture
def roster(city: RealCity, tmp_path: Path) -> Path:
    """As many rows as a sweep of some seconds needs; the same few people again and again, each row with its key."""
    path = tmp_path / "名册.csv"
    with path.open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["编号", "学生身份证号", "监护人身份证号", "监护人姓名"])
        for number in range(ROWS):
            one = city.applications[number % len(city.applications)]
            guardian = one.guardians[0] if one.guardians else one.child
            writer.writerow([f"R{number}", one.child.person.identifier, guardian.person.identifier, guardian.name])
    return path


def command(city: RealCity, roster: Path, *more: str) -> list[str]:
    out = roster.with_name("results.csv")
    claims = [word for claim in CLAIMS for word in ("--claim", claim)]
    return [
        *zhiwang("sweep", str(roster), "--profile", str(city.layout.system_profile), "--out", str(out)),
        *("--matter", "school-enrolment", "--reference", "2026-000123", "--official", "clerk-17", "--yes", "--json"),
        *(*claims, *more),
    ]


def begin(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own


def finish(words: Sequence[str], status: int = 0) -> dict[str, object]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - our own
    assert done.returncode == status, done.stderr[-3000:]
    assert not IDENTIFIER.search(done.stdout + done.stderr)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def results(roster: Path) -> list[dict[str, str]]:
    with roster.with_name("results.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


class Asked:
    """What owners have logged since this was made."""

    def __init__(self, city: RealCity) -> None:
        self._city = city
        self._before = {owner: city.count(owner, "log_entry") for owner in OWNERS}

    def cases(self, owner: str) -> list[int]:
        """Cases of each request of a roster."""
        found = {}
        for entry in self._city.entries(owner, self._before[owner]):
            if entry.WhichOneof("event") == "owner_access":
                header = sealed_pb2.Header.FromString(entry.owner_access.header)
                assert header.priority == sealed_pb2.PRIORITY_BULK
                assert header.request_id not in found, "one request stands twice in an owner's log"
                found[header.request_id] = entry.owner_access.cases
        return list(found.values())


def eventually(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked_once(asked: Asked) -> dict[str, int]:
    return {owner: sum(asked.cases(owner)) for owner in OWNERS}


def check_whole(roster: Path) -> None:
    found = results(roster)
    assert [one["key"] for one in found] == [f"R{number}" for number in range(ROWS)]
    assert {one["outcome"] for one in found} == {"ANSWERED"}
    text = roster.with_name("results.csv").read_text("utf-8")
    assert not IDENTIFIER.search(text)
    assert roster.with_name("results.csv").stat().st_mode & 0o777 == 0o600
    assert not roster.with_name("results.csv.sweep").exists()


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


def test_ctrl_c_lets_what_is_on_the_way_arrive_and_the_next_run_goes_on(city: RealCity, roster: Path) -> None:
    asked = Asked(city)
    words = command(city, roster)
    process = begin(words)
    eventually(lambda: bool(asked.cases("hrss")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 128 + signal.SIGINT, errors
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
