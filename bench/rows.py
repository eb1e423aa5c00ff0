"""row_growth: the cost of an answer at 10^4, 10^5 and 10^6 subject rows, on SQLite, PostgreSQL and MariaDB, in one run.

A whole frame goes through the adapter: certificate, signature, replay, policy, seal, ledger, SQL, log, signature,
reply. The same statement alone, over the same connection, is measured beside it, and sizes are measured in turns, so
that what the machine does meanwhile falls on all alike. It needs PostgreSQL and MariaDB on this machine; what is
missing is left out and named.
"""

from __future__ import annotations

import csv
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from adapter_frames import Bureau, grants
from adapter_support import AS_OF, attribute, resident
from adapters.statements import Plan
from bench.result import Result
from servers import MissingError, Server, running
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.records import Outcome

SIZES = (10_000, 100_000, 1_000_000)
FRAMES = (1, 128)
"""Subjects of a frame."""

ROUNDS = 15
REPEATS = {1: 16, 128: 3}
"""Frames of one round, by their subjects."""

GROWTH = 1.2
"""What an answer may cost at a million rows, of what it costs at ten thousand."""

TARGET = "at most 1.2"

TABLES = "CREATE TABLE person (id_card VARCHAR(18), full_name VARCHAR(40), region VARCHAR(12), months INTEGER)"
INDEX = "CREATE INDEX person_id ON person (id_card)"
MAPPING = """
[data.person]
table = "person"
subject = "id_card"
region = { column = "region", codes = "nbs" }

[attribute.months]
data = "person"
value = "months"
"""
PUBLISHED = attribute("months", 'type = "integer"\nat_least = [6, 12]') + grants(["hrss.months at_least"])


def _people(count: int) -> Iterator[str]:
    """Identifiers of invented people: a thousand for each day from 1 January 1975 on."""
    for days in range(-(-count // 1000)):
        born = f"{date(1975, 1, 1) + timedelta(days):%Y%m%d}"
        for serial in range(min(1000, count - 1000 * days)):
            yield resident(serial, born)


def _load(bureau: Bureau, count: int) -> None:
    """Fill the table as a nightly load does, then index it."""
    rows = ((person, f"人{i}", "440306001001", i % 24) for i, person in enumerate(_people(count)))
    if bureau.server is None:
        connection = sqlite3.connect(bureau.database)
        connection.executemany("INSERT INTO person VALUES (?, ?, ?, ?)", rows)
        connection.execute(INDEX)
        connection.execute("ANALYZE")
        connection.commit()
        connection.close()
        return
    path = bureau.server.directory / "load.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    path.chmod(0o644)
    load, analyze = f"COPY person FROM '{path}' (FORMAT csv)", "VACUUM ANALYZE person"
    if bureau.server.family == "mariadb":
        load = f"LOAD DATA INFILE '{path}' INTO TABLE person CHARACTER SET utf8mb4 FIELDS TERMINATED BY ','"
        analyze = "ANALYZE TABLE person"
    bureau.change(load, INDEX, analyze)
    path.unlink()


@dataclass(slots=True)
class Side:
    """One owner with one number of rows.

    Attributes:
        frame: Seconds a subject through the adapter, round by round, by subjects of a frame.
        sql: The same of the statement alone.
    """

    bureau: Bureau
    rows: int
    people: list[str]
    plan: Plan
    frame: dict[int, list[float]] = field(default_factory=lambda: {subjects: [] for subjects in FRAMES})
    sql: dict[int, list[float]] = field(default_factory=lambda: {subjects: [] for subjects in FRAMES})

    def round(self, subjects: int, chance: random.Random) -> None:
        """Measure a handful of frames and of bare statements about people drawn from the whole table."""
        repeats = REPEATS[subjects]
        groups = [chance.sample(self.people, subjects) for _ in range(repeats)]
        requests = [
            self.bureau.request(["child: hrss.months at_least 12"], [{"child": person} for person in group])
            for group in groups
        ]
        frames = []
        for request in requests:
            frame = adapter_pb2.RequestFrame()
            frame.items.add(correlation_id=1, request=request)
            frames.append(frame)
        started = time.perf_counter()
        replies = [self.bureau.frames.process(frame) for frame in frames]
        self.frame[subjects].append((time.perf_counter() - started) / (repeats * subjects))
        for request, reply in zip(requests, replies, strict=True):
            outcomes = self.bureau.open(request, reply.items[0])
            if not set(outcomes) <= {Outcome.YES, Outcome.NO}:
                raise RuntimeError(f"an owner of {self.rows} rows does not know its people")
        spellings = scheme("resident").spellings
        groups = [chance.sample(self.people, subjects) for _ in range(repeats)]
        asked = [[(spellings(person), None, "4403", ("12",)) for person in group] for group in groups]
        with self.bureau.source.lend() as lent:
            started = time.perf_counter()
            for rows in asked:
                self.bureau.source.run(lent, self.plan, AS_OF, rows)
            self.sql[subjects].append((time.perf_counter() - started) / (repeats * subjects))


def _measure_family(name: str, server: Server | None, directory: Path) -> list[Result]:
    with ExitStack() as stack:
        sides = []
        for size in SIZES:
            place = directory / f"{name}-{size}"
            place.mkdir()
            bureau = Bureau(place, tables=TABLES, rows={}, mapping=MAPPING, published=PUBLISHED, server=server)
            stack.callback(bureau.close)
            print(f"… {name}: {size} rows", file=sys.stderr)
            _load(bureau, size)
            plan = bureau.source.plan("person", (("months", Predicate.AT_LEAST),))
            sides.append(Side(bureau, size, list(_people(size)), plan))
        chance = random.Random(7)  # noqa: S311 - the same people in every run
        for number in range(ROUNDS + 1):
            for subjects in FRAMES:
                for side in sides:
                    side.round(subjects, chance)
            if number == 0:
                # The first round compiles statements and warms caches.
                for side in sides:
                    side.frame = {subjects: [] for subjects in FRAMES}
                    side.sql = {subjects: [] for subjects in FRAMES}
        return [result for subjects in FRAMES for result in _results(name, sides, subjects)]


def _results(name: str, sides: list[Side], subjects: int) -> Iterator[Result]:
    """Each size beside the least; names end with the subjects of a frame and the rows."""
    least = sides[0]
    for side in sides[1:]:
        what = f"{name} {subjects} {side.rows:.0e}".replace("e+0", "e")
        whole = [statistics.median(one.frame[subjects]) * 1e6 for one in (side, least)]
        bare = [statistics.median(one.sql[subjects]) * 1e6 for one in (side, least)]
        last = side is sides[-1]
        grown = whole[0] / whole[1]
        yield Result(
            f"row_growth {what}",
            whole[0],
            "µs a subject",
            whole[1],
            grown,
            TARGET if last else "",
            grown <= GROWTH if last else None,
        )
        yield Result(f"row_growth_sql {what}", bare[0], "µs a subject", bare[1], bare[0] / bare[1], "", None)


async def measure() -> list[Result]:
    """Measure each database that is here."""
    results = []
    with tempfile.TemporaryDirectory(prefix="zhiwang-rows-") as temporary:
        for name in ("sqlite", "postgresql", "mariadb"):
            try:
                server = None if name == "sqlite" else running(name)
            except MissingError as error:
                print(f"row_growth: {name} skipped: {error}", file=sys.stderr)
                continue
            results += _measure_family(name, server, Path(temporary))
    return results
