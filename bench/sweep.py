"""sweep_memory, sweep_rows: `zhiwang sweep` over a roster of a million rows, against a city of real processes.

The roster names the example city's applicants over and over, each row with a key of its own. While it is swept, the
resident memory of the sweep's process is read every few seconds, with what it says of itself on standard error.
Afterwards every row of the results is compared with what the generator of the city knows, and the owners' own logs say
how many cases they were asked about, and under how many requests. Anything amiss ends this with an error, not a figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, Final

from rich.console import Console

from bench.machine import cpu_seconds
from bench.result import Result, merge, show
from breaking_support import RealCity
from exchange.demo.build import DISTRICT
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.model import Application
from exchange.demo.processes import zhiwang
from exchange.demo.truth import Question, Truth
from zhiwang.exchange.v1 import sealed_pb2

ROWS: Final = 1_000_000
STUDENTS: Final = 1000
RESIDENTS: Final = 20_000
OWNERS: Final = ("hrss", "health")
CLAIMS: Final = ("guardian: hrss.insured_months at_least 12", "child: health.parent related @guardian")
NAMES: Final = ("insured", "parent")
HEADINGS: Final = ("编号", "学生身份证号", "学生姓名", "监护人身份证号", "监护人姓名")
REFERENCE: Final = "2026-000123"
CHUNK: Final = 256
"""Cases of one request, at most."""

FLAT: Final = 1.1
"""What the sweep may need of memory at its largest, of what it needed after its first tenth."""

SAMPLE_SECONDS: Final = 5.0
MIB: Final = 1 << 20

_FAR = re.compile(r"^([\d,]+)/[\d,]+ ")


@dataclass
class Watched:
    """What was seen of the process while it ran.

    Attributes:
        samples: Seconds since its start, rows settled as it said last, and resident bytes.
    """

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    settled: int = 0
    said: list[str] = field(default_factory=list)

    def listen(self, stream: IO[str]) -> None:
        """Take down what the process says."""
        for line in stream:
            self.said.append(line)
            found = _FAR.match(line)
            if found is not None:
                self.settled = int(found[1].replace(",", ""))
                print(line, end="", file=sys.stderr)


def answers_of(applications: Sequence[Application], truth: Truth) -> list[tuple[str, str]]:
    """What the city's generator knows of each applicant, in the order of the claims."""
    found = []
    for one in applications:
        party = one.guardians[0] if one.guardians else None
        person, name = (party.person, party.name) if party is not None else (None, "")
        insured = Question("hrss.insured_months", "at_least", person, DISTRICT, name, cell=12)
        parent = Question("health.parent", "related", one.child.person, DISTRICT, one.child.name, other=person)
        found.append((truth.answer(insured), truth.answer(parent)))
    return found


def write_roster(path: Path, applications: Sequence[Application], rows: int) -> None:
    """A roster of so many rows."""
    with path.open("w", encoding="gb18030", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        for number in range(rows):
            one = applications[number % len(applications)]
            party = one.guardians[0] if one.guardians else None
            guardian = (party.person.identifier, party.name) if party is not None else ("", "")
            writer.writerow([f"R{number}", one.child.person.identifier, one.child.name, *guardian])


def command(city: RealCity, roster: Path, out: Path) -> list[str]:
    """The sweep as somebody would give it."""
    return [
        *zhiwang("sweep", str(roster), "--profile", str(city.layout.system_profile), "--out", str(out), "--yes"),
        *("--matter", "school-enrolment", "--reference", REFERENCE, "--official", "bench-1", "--json"),
        *(word for claim in CLAIMS for word in ("--claim", claim)),
    ]


def run(words: Sequence[str]) -> tuple[dict[str, object], Watched, float]:
    """Sweep, and watch.

    Returns:
        What it printed, what was seen, and CPU seconds that it used.
    """
    watched = Watched()
    began = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        if process.stdout is None or process.stderr is None:
            raise RuntimeError("no pipes")
        listener = Thread(target=watched.listen, args=(process.stderr,))
        listener.start()
        used = 0.0
        while process.poll() is None:
            try:
                used = cpu_seconds(process.pid)
                watched.samples.append((time.monotonic() - began, watched.settled, _resident(process.pid)))
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(SAMPLE_SECONDS)
        told = process.stdout.read()
        listener.join()
    if process.returncode != 0:
        raise RuntimeError(f"the sweep ended with {process.returncode}: {''.join(watched.said)[-2000:]}")
    return json.loads(told), watched, used


def _resident(pid: int) -> int:
    """Resident bytes of a process (proc(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def check_results(out: Path, known: Sequence[tuple[str, str]], rows: int) -> None:
    """Compare every row with the truth.

    Raises:
        RuntimeError: One is missing, out of its order, or says something else.
    """
    count = 0
    with out.open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            wanted = (f"R{count}", "ANSWERED", *known[count % len(known)])
            if (line["key"], line["outcome"], *(line[name] for name in NAMES)) != wanted:
                raise RuntimeError(f"row {count + 2} of the results is not as the city's generator knows it")
            count += 1
    if count != rows:
        raise RuntimeError(f"the results have {count} rows, not {rows}")


def requests_of(city: RealCity, owner: str) -> list[int]:
    """Cases of each distinct request in an owner's log.

    Raises:
        RuntimeError: A request stands there twice.
    """
    found: dict[bytes, int] = {}
    for entry in city.entries(owner):
        if entry.WhichOneof("event") == "owner_access":
            header = sealed_pb2.Header.FromString(entry.owner_access.header)
            if header.request_id in found:
                raise RuntimeError(f"a request stands twice in the log of {owner}")
            found[header.request_id] = entry.owner_access.cases
    return list(found.values())


def measure(rows: int, place: Path) -> Iterator[Result]:
    """Sweep so many rows.

    Raises:
        RuntimeError: Something is not as it must be.
    """
    city = RealCity.build(place, OWNERS, residents=RESIDENTS, students=STUDENTS)
    try:
        roster, out = place / "roster.csv", place / "results.csv"
        write_roster(roster, city.applications, rows)
        told, watched, used = run(command(city, roster, out))
        check_results(out, answers_of(city.applications, Truth(city.city, ENROLMENT_DAY)), rows)
        for owner in OWNERS:
            asked = requests_of(city, owner)
            if sum(asked) != rows:
                raise RuntimeError(f"{owner} was asked about {sum(asked)} cases, not {rows}")
            least = -(-rows // CHUNK)
            print(f"{owner}: {sum(asked):,} cases in {len(asked):,} requests, {least:,} at least", file=sys.stderr)
    finally:
        city.stop()
    seconds = float(str(told["seconds"]))
    rate = rows / seconds
    early = max((size for _, settled, size in watched.samples if settled <= rows / 10), default=0)
    most = max(size for _, _, size in watched.samples)
    for at, settled, size in watched.samples[:: max(1, len(watched.samples) // 20)]:
        print(f"{at:8.0f} s {settled:12,} rows {size / MIB:8.1f} MiB", file=sys.stderr)
    name = f"{rows:.0e}".replace("e+0", "e")
    grown = most / early
    yield Result(f"sweep_memory {name}", most / MIB, "MiB", early / MIB, grown, f"at most {FLAT}", grown <= FLAT)
    yield Result(f"sweep_rows {name}", rate, "rows/s", rows / used, rate * used / rows, "", None)


def main() -> None:
    """Sweep, and write the figures down."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make sweep-long")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the roster (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zhiwang-sweep-") as temporary:
        results = list(measure(arguments.rows, Path(temporary)))
    merge(arguments.results, results)
    show(results, Console(width=max(Console().width, 120)))


if __name__ == "__main__":
    main()
