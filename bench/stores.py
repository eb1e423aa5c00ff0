"""frame_store: what a frame costs whose store is a file of SQLite, and one whose store stands in PostgreSQL.

Whole frames go through the adapter over one small table of the owner's; both sides take turns in one run, on one disk,
with a server that syncs. A frame is one transaction with one COMMIT on both sides. CPU time is the adapter's own; that
of the server's processes, and the clock on the wall, stand beside it. It needs PostgreSQL on this machine.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from adapter_frames import Bureau, grants
from adapter_support import attribute, resident
from adapters.postgres_store import STORE
from bench.machine import running_seconds
from bench.postgres import Durable, durable
from bench.result import Result
from log_places import PostgresDatabase
from servers import MissingError
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2

SHAPES: Final = ((1, 1), (22, 1), (1, 512))
"""Requests of a frame, and cases of each: one alone, as they come with 64 callers, and a chunk of a roster."""
ROUNDS: Final = 12
REPEATS: Final = {(1, 1): 12, (22, 1): 4, (1, 512): 2}
"""Frames of one round."""

TABLES: Final = "CREATE TABLE person (id_card TEXT PRIMARY KEY, region TEXT, months INTEGER);"
MAPPING: Final = """
[data.person]
table = "person"
subject = "id_card"
region = { column = "region", codes = "nbs" }

[attribute.months]
data = "person"
value = "months"
"""
PUBLISHED: Final = attribute("months", 'type = "integer"\nat_least = [6, 12]') + grants(["hrss.months at_least"])
PEOPLE: Final = [resident(number % 1000, f"19{75 + number // 1000}0101") for number in range(2000)]

INTERACTIVE, BULK = sealed_pb2.PRIORITY_INTERACTIVE, sealed_pb2.PRIORITY_BULK

Shape = tuple[int, int]


@dataclass(slots=True)
class Side:
    """An adapter and where its store stands.

    Attributes:
        server: Of the store, unless that is a file.
        cpu: CPU seconds of this process for each frame, by shape.
        served: The same of the server's processes.
        waited: Seconds for each frame.
    """

    bureau: Bureau
    server: Durable | None
    cpu: dict[Shape, list[float]] = field(default_factory=lambda: {shape: [] for shape in SHAPES})
    served: dict[Shape, list[float]] = field(default_factory=lambda: {shape: [] for shape in SHAPES})
    waited: dict[Shape, list[float]] = field(default_factory=lambda: {shape: [] for shape in SHAPES})

    def round(self, shape: Shape) -> None:
        """Measure a handful of frames."""
        count, cases = shape
        frames = []
        for turn in range(REPEATS[shape]):
            frame = adapter_pb2.RequestFrame()
            for number in range(count):
                people = [PEOPLE[(turn * 131 + number * 7 + case) % len(PEOPLE)] for case in range(cases)]
                request = self.bureau.request(
                    ["child: hrss.months at_least 12"],
                    [{"child": one} for one in people],
                    priority=BULK if cases > 1 else INTERACTIVE,
                )
                frame.items.add(correlation_id=number + 1, request=request)
            frames.append(frame)
        # The server's processes do not change: its connections are held.
        pids = [] if self.server is None else self.server.pids()
        served = sum(map(running_seconds, pids))
        for frame in frames:
            began, used = time.perf_counter(), time.process_time()
            reply = self.bureau.frames.process(frame)
            self.cpu[shape].append(time.process_time() - used)
            self.waited[shape].append(time.perf_counter() - began)
            if any(item.reason for item in reply.items):
                raise RuntimeError(f"a frame was refused: {reply.items[0].reason}")
        self.served[shape].append((sum(map(running_seconds, pids)) - served) / len(frames))

    def forget(self) -> None:
        """The first round warms caches and prepares statements."""
        for measured in (self.cpu, self.served, self.waited):
            for one in measured.values():
                one.clear()


async def measure() -> list[Result]:
    """A result for each shape: CPU of a frame in PostgreSQL, beside that in SQLite."""
    rows = {"person": [(one, "440306001001", number % 24) for number, one in enumerate(PEOPLE)]}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(durable())
        except MissingError as error:
            print(f"… frame_store is left out: {error}", file=sys.stderr)
            return []
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = PostgresDatabase(server, STORE)
        place.create_empty()
        sides = []
        for name, store in (("sqlite", None), ("postgresql", place)):
            path = directory / name
            path.mkdir()
            bureau = Bureau(path, store=store, tables=TABLES, rows=rows, mapping=MAPPING, published=PUBLISHED)
            stack.callback(bureau.close)
            sides.append(Side(bureau, server if store else None))
        gc.collect()
        gc.freeze()
        for number in range(ROUNDS + 1):
            for shape in SHAPES:
                for side in sides if number % 2 else reversed(sides):
                    side.round(shape)
            if not number:
                for side in sides:
                    side.forget()
        return [result for shape in SHAPES for result in _results(shape, *sides)]


def _results(shape: Shape, file: Side, database: Side) -> Iterator[Result]:
    what = f"frame_store {shape[0]}x{shape[1]}"
    for name, unit, ours, theirs in (
        ("", "µs of CPU", database.cpu, file.cpu),
        (" wall", "µs", database.waited, file.waited),
    ):
        value, baseline = (statistics.median(one[shape]) * 1e6 for one in (ours, theirs))
        yield Result(what + name, value, f"{unit} a frame", baseline, value / baseline, "", None)
    served = statistics.mean(database.served[shape]) * 1e6
    yield Result(f"{what} server", served, "µs of CPU a frame", 0.0, 0.0, "", None)
