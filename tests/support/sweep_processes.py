"""A sweep by real processes: its command, its results, and what owners' own logs say of it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from breaking_support import RealCity
from exchange.demo.processes import zhiwang
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2

OWNERS = ("hrss", "health")
ROWS = 2600
CLAIMS = ("guardian: hrss.insured_months at_least 12", "child: health.parent related @guardian")
IDENTIFIER = re.compile(r"440399[0-9]{11}[0-9X]")
WAIT = 100.0


def write_roster(city: RealCity, path: Path, rows: int = ROWS) -> Path:
    """So many rows about the same few people again and again, each row with its key."""
    with path.open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["编号", "学生身份证号", "监护人身份证号", "监护人姓名"])
        for number in range(rows):
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

    def _accesses(self, owner: str) -> Iterator[audit_pb2.OwnerAccess]:
        for entry in self._city.entries(owner, self._before[owner]):
            if entry.WhichOneof("event") == "owner_access":
                yield entry.owner_access

    def cases(self, owner: str) -> list[int]:
        """Cases of each request of a roster."""
        found = {}
        for access in self._accesses(owner):
            header = sealed_pb2.Header.FromString(access.header)
            assert header.priority == sealed_pb2.PRIORITY_BULK
            assert header.request_id not in found, "one request stands twice in an owner's log"
            found[header.request_id] = access.cases
        return list(found.values())

    def headers(self) -> Counter[bytes]:
        """How often each header stands in an owner's log, by its hash."""
        return Counter(sha256(access.header).digest() for owner in OWNERS for access in self._accesses(owner))


def eventually(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked_once(asked: Asked) -> dict[str, int]:
    return {owner: sum(asked.cases(owner)) for owner in OWNERS}


def check_whole(roster: Path, rows: int = ROWS) -> None:
    found = results(roster)
    assert [one["key"] for one in found] == [f"R{number}" for number in range(rows)]
    assert {one["outcome"] for one in found} == {"ANSWERED"}
    text = roster.with_name("results.csv").read_text("utf-8")
    assert not IDENTIFIER.search(text)
    assert roster.with_name("results.csv").stat().st_mode & 0o777 == 0o600
    assert not roster.with_name("results.csv.sweep").exists()
