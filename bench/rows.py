"""row_growth: the cost of an answer at 10^4, 10^5 and 10^6 subject rows, on SQLite, PostgreSQL and MariaDB, in one run.

In the long form 10^7 rows stand beside them.

A whole frame goes through the adapter: certificate, signature, replay, policy, seal, ledger, SQL, log, signature,
reply. The same statement alone, over the same connection, is measured beside it, and sizes are measured in turns. The
cost is CPU time, the adapter's and the server's together: on a machine that does something else too, the clock on the
wall would tell that and not this. It needs PostgreSQL and MariaDB on this machine; what is missing is left out and
named.
"""

from __future__ import annotations

import csv
import gc
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from adapter_frames import Bureau, grants
from adapter_support import AS_OF, attribute, resident
from adapters.statements import Plan
from bench.machine import running_seconds
from bench.result import Result
from servers import MissingError, Server, running
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.records import Outcome

SIZES = (10_000, 100_000, 1_000_000)
LONG_SIZES = (10_000, 1_000_000, 10_000_000)
FRAMES = (1, 128)
"""Subjects of a frame."""

ROUNDS = 20
REPEATS = {1: 16, 128: 5}
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
_FIRST = date(1975, 1, 1)
PUBLISHED = attribute("months", 'type = "integer"\nat_least = [6, 12]') + grants(["hrss.months at_least"])


def person(number: int) -> str:
    """Identifier of an invented person: a thousand for each day from 1 January 1975 on."""
    return resident(number % 1000, f"{_FIRST + timedelta(number // 1000):%Y%m%d}")


def _load(bureau: Bureau, count: int) -> None:
    """Fill the table as a nightly load does, then index it."""
    rows = ((person(i), f"人{i}", "440306001001", i % 24) for i in range(count))
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
    # What the load leaves to be written is written now, and not while something is measured.
    finish = "CHECKPOINT" if bureau.server.family == "postgresql" else "FLUSH TABLES"
    bureau.change(load, INDEX, analyze, finish)
    path.unlink()


@dataclass(slots=True)
class Side:
    """One owner with one number of rows.

    Attributes:
        frame: CPU seconds of all frames, by subjects of a frame.
        sql: The same of the statement alone.
    """

    bureau: Bureau
    rows: int
    plan: Plan
    frame: dict[int, float] = field(default_factory=lambda: dict.fromkeys(FRAMES, 0.0))
    sql: dict[int, float] = field(default_factory=lambda: dict.fromkeys(FRAMES, 0.0))

    def _cpu(self, pids: Sequence[int]) -> float:
        """CPU seconds that this process and the server's have used."""
        return sum(map(running_seconds, pids)) + time.process_time()

    def _draw(self, subjects: int, chance: random.Random) -> list[list[str]]:
        return [[person(i) for i in chance.sample(range(self.rows), subjects)] for _ in range(REPEATS[subjects])]

    def round(self, subjects: int, chance: random.Random) -> None:
        """Measure a handful of frames and of bare statements about people drawn from the whole table."""
        groups = self._draw(subjects, chance)
        requests = [
            self.bureau.request(["child: hrss.months at_least 12"], [{"child": one} for one in group])
            for group in groups
        ]
        frames = []
        for request in requests:
            frame = adapter_pb2.RequestFrame()
            frame.items.add(correlation_id=1, request=request)
            frames.append(frame)
        # The server's processes do not change: its connections are held.
        pids = [] if self.bureau.server is None else self.bureau.server.pids()
        started = self._cpu(pids)
        replies = [self.bureau.frames.process(frame) for frame in frames]
        self.frame[subjects] += self._cpu(pids) - started
        for request, reply in zip(requests, replies, strict=True):
            outcomes = self.bureau.open(request, reply.items[0])
            if not set(outcomes) <= {Outcome.YES, Outcome.NO}:
                raise RuntimeError(f"an owner of {self.rows} rows does not know them")
        spellings = scheme("resident").spellings
        groups = self._draw(subjects, chance)
        asked = [[(spellings(one), None, "4403", ("12",)) for one in group] for group in groups]
        with self.bureau.source.lend() as lent:
            started = self._cpu(pids)
            for rows in asked:
                self.bureau.source.run(lent, self.plan, AS_OF, rows)
            self.sql[subjects] += self._cpu(pids) - started


def _measure_family(name: str, server: Server | None, directory: Path, sizes: Sequence[int]) -> list[Result]:
    with ExitStack() as stack:
        sides = []
        for size in sizes:
            place = directory / f"{name}-{size}"
            place.mkdir()
            bureau = Bureau(place, tables=TABLES, rows={}, mapping=MAPPING, published=PUBLISHED, server=server)
            stack.callback(bureau.close)
            print(f"… {name}: {size} rows", file=sys.stderr)
            _load(bureau, size)
            plan = bureau.source.plan("person", (("months", Predicate.AT_LEAST),))
            sides.append(Side(bureau, size, plan))
        # As an adapter does when it has started: else the garbage collector looks at everything that lives, again and
        # again, for a quarter of the CPU time and in whosever turn it is.
        gc.collect()
        gc.freeze()
        chance = random.Random(7)  # noqa: S311 - the same people in every run
        for number in range(ROUNDS + 1):
            for subjects in FRAMES:
                for side in chance.sample(sides, len(sides)):
                    side.round(subjects, chance)
            if number == 0:
                # The first round compiles statements and warms caches.
                for side in sides:
                    side.frame = dict.fromkeys(FRAMES, 0.0)
                    side.sql = dict.fromkeys(FRAMES, 0.0)
        return [result for subjects in FRAMES for result in _results(name, sides, subjects)]


def _results(name: str, sides: list[Side], subjects: int) -> Iterator[Result]:
    """Each size beside the least; names end with the subjects of a frame and the rows."""
    least = sides[0]
    asked = ROUNDS * REPEATS[subjects] * subjects
    for side in sides[1:]:
        what = f"{name} {subjects} {side.rows:.0e}".replace("e+0", "e")
        whole = [one.frame[subjects] / asked * 1e6 for one in (side, least)]
        bare = [one.sql[subjects] / asked * 1e6 for one in (side, least)]
        last = side is sides[-1]
        grown = whole[0] / whole[1]
        yield Result(
            f"row_growth {what}",
            whole[0],
            "µs CPU a subject",
            whole[1],
            grown,
            TARGET if last else "",
            grown <= GROWTH if last else None,
        )
        yield Result(f"row_growth_sql {what}", bare[0], "µs CPU a subject", bare[1], bare[0] / bare[1], "", None)


async def measure(sizes: Sequence[int] = SIZES) -> list[Result]:
    """Measure each database that is here."""
    results = []
    with tempfile.TemporaryDirectory(prefix="zhiwang-rows-") as temporary:
        for name in ("sqlite", "postgresql", "mariadb"):
            try:
                server = None if name == "sqlite" else running(name)
            except MissingError as error:
                print(f"row_growth: {name} skipped: {error}", file=sys.stderr)
                continue
            results += _measure_family(name, server, Path(temporary), sizes)
    return results


async def measure_long() -> list[Result]:
    """Measure them at ten million rows as well."""
    return await measure(LONG_SIZES)
