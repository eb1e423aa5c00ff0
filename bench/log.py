"""log_append: durable entries a second as more callers wait for theirs, beside the bare disk and beside a plain INSERT.

Three sides take turns, for each number of callers: the log itself (entries encoded, hashed, proved, signed for and
committed; each caller waits for its own and makes the next); the same bytes in groups of the same size, written and
synced by a program that does nothing else; and an SQLAlchemy INSERT with a commit for each entry, into a table of the
same columns. A ratio is the median over rounds of two sides that ran one after the other, so that what else the machine
does weighs on both. CPU time of an entry stands beside what the disk takes for it: where it is larger, the log is bound
by the processor.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, Table, create_engine, insert

from audit.appended import NewEntry
from audit.log import AuditLog
from audit.sqlite import open_sqlite
from audit.yearly import YearlyLog
from bench.keys import enrol
from bench.machine import synced
from bench.postgres import durable
from bench.result import Result
from log_places import PostgresDatabase
from servers import MissingError
from zhiwang.audit.v1 import audit_pb2

CALLERS: Final = (1, 8, 64, 256)
HEADLINE: Final = 64
"""Callers of the figure that has a target."""
ROUNDS: Final = 5
SECONDS: Final = 0.8
"""Of each side in each round."""
EVENTS: Final = 512
"""Events that are made beforehand: making them is not the log's work, encoding them is."""
HEADER_SIZE: Final = 420
CHECKPOINT_SIZE: Final = 220
SESSIONS: Final = 32
"""Threads and sessions that insert into PostgreSQL plainly, at most."""
TARGET_RATE: Final = 5000.0
TARGET_SHARE: Final = 0.5

_METADATA: Final = MetaData()
_PLAIN: Final = Table(
    "plain",
    _METADATA,
    Column("idx", Integer, primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
)


def _access() -> audit_pb2.HubAccess:
    """An entry of the size that a single verification leaves at the hub."""
    return audit_pb2.HubAccess(
        header=os.urandom(HEADER_SIZE),
        signature=os.urandom(64),
        sealed_hash=os.urandom(32),
        request_root=os.urandom(32),
        outcome=audit_pb2.OUTCOME_ANSWERED,
        directory_version=12,
        rule_ids=["enrolment-pension"],
        owner_leaf_hash=os.urandom(32),
        owner_index=123_456,
        owner_checkpoint=os.urandom(CHECKPOINT_SIZE),
    )


@dataclass(slots=True)
class Sides:
    """What was measured for one number of callers; a number for each round.

    Attributes:
        ours: Entries a second of the log.
        disk: Of the bare disk.
        plain: Of the plain INSERT.
        group: Entries of a commit.
        cpu: CPU seconds of this process for an entry.
        waited: Seconds that each entry was waited for, over all rounds.
        synced: Seconds of each write and sync of the bare disk, over all rounds.
    """

    ours: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    group: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    synced: list[float] = field(default_factory=list)


class Bench:
    """One store under test.

    Args:
        name: Of the database; empty for the default one.
        store: An open log.
        plain: A database of the same kind and on the same disk, for the plain INSERT.
        writers: Threads, at most, that insert plainly at a time; one where the database has one writer.
        directory: On the same disk.
    """

    def __init__(self, name: str, store: YearlyLog, plain: Engine, writers: int, directory: Path) -> None:
        self._name = name
        self._store = store
        self._plain = plain
        self._writers = writers
        self._directory = directory
        self._events = [_access() for _ in range(EVENTS)]
        _METADATA.create_all(plain)

    async def run(self) -> list[Result]:
        """Measure all numbers of callers."""
        log = AuditLog(self._store)
        results: list[Result] = []
        gc.freeze()  # as a hub does when it has started
        for callers in CALLERS:
            print(f"… {self._name or 'sqlite'}: {callers} callers", file=sys.stderr)
            sides = Sides()
            for number in range(ROUNDS + 1):
                if number == 1:
                    sides = Sides()  # the first round has warmed up
                await self._ours(log, callers, sides)
                self._bare(sides)
                sides.plain.append(await asyncio.to_thread(self._inserts, min(callers, self._writers)))
            results += self._results(callers, sides)
        await log.close()
        return results

    async def _ours(self, log: AuditLog, callers: int, sides: Sides) -> None:
        store, events = self._store, self._events
        heads: set[int] = set()
        counted = 0
        began, used = time.perf_counter(), time.process_time()
        stop = began + SECONDS

        async def caller(number: int) -> None:
            nonlocal counted
            while (now := time.perf_counter()) < stop:
                number += 1
                appended = await log.append([store.new_entry(events[number % EVENTS])])
                sides.waited.append(time.perf_counter() - now)
                heads.add(appended.size)
                counted += 1

        await asyncio.gather(*(caller(number) for number in range(callers)))
        sides.cpu.append((time.process_time() - used) / counted)
        sides.ours.append(counted / (time.perf_counter() - began))
        sides.group.append(counted / len(heads))

    def _bare(self, sides: Sides) -> None:
        group = sides.group[-1]
        entry = self._entry()
        size = round(group * (len(entry.key) + 32 + len(entry.data)))
        times = synced(self._directory, size, SECONDS / 2)
        sides.synced += times
        sides.disk.append(group / statistics.fmean(times))

    def _entry(self) -> NewEntry:
        return self._store.new_entry(self._events[0])

    def _inserts(self, threads: int) -> float:
        """Entries a second that so many threads insert, each with a commit."""
        stop = time.perf_counter() + SECONDS / 2

        def work(_number: int) -> int:
            done = 0
            while time.perf_counter() < stop:
                entry = self._entry()
                row = {"key": entry.key, "leaf_hash": bytes(32), "data": entry.data}
                with self._plain.begin() as connection:
                    connection.execute(insert(_PLAIN), row)
                done += 1
            return done

        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            done = sum(pool.map(work, range(threads)))
        return done / (time.perf_counter() - began)

    def _results(self, callers: int, sides: Sides) -> list[Result]:
        database = f"_{self._name}" if self._name else ""
        name = f"log_append{database}" + ("" if callers == HEADLINE else f"_{callers}")
        rate, disk, plain = map(statistics.median, (sides.ours, sides.disk, sides.plain))
        share, gain = _paired(sides.ours, sides.disk), _paired(sides.ours, sides.plain)
        group, cpu = statistics.median(sides.group), statistics.median(sides.cpu) * 1e6
        target, met = "", None
        if callers == HEADLINE:
            target = f"{TARGET_RATE:,.0f}/s and {TARGET_SHARE}"
            met = rate >= TARGET_RATE and share >= TARGET_SHARE
        waited, wrote = _percentile(sides.waited, 99) * 1000, _percentile(sides.synced, 99) * 1000
        return [
            Result(name, rate, "entries/s; disk", disk, share, target, met),
            Result(f"{name}_plain", rate, "entries/s; INSERT", plain, gain, "", None),
            Result(f"{name}_p99", waited, "ms; disk's p99", wrote, waited / wrote, "", None),
            Result(f"{name}_group", group, "a commit; callers", float(callers), group / callers, "", None),
            Result(f"{name}_cpu", cpu, "µs of CPU; disk's µs", 1e6 / disk, cpu * disk / 1e6, "", None),
        ]


def _paired(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


@contextmanager
def _sqlite(directory: Path) -> Iterator[Bench]:
    signer = enrol(directory, "centre/hub/main")["centre/hub/main"].signer()
    store = YearlyLog(open_sqlite(directory / "log.db", create=True), signer, guard=directory / "guard")
    store.create()
    plain = open_sqlite(directory / "plain.db", create=True)
    try:
        yield Bench("", store, plain, 1, directory)
    finally:
        store.engine.dispose()
        plain.dispose()


@contextmanager
def _postgresql(directory: Path) -> Iterator[Bench]:
    """Its data stands in a temporary directory beside `directory`, on the same disk."""
    signer = enrol(directory, "centre/hub/main")["centre/hub/main"].signer()
    with durable() as server:
        engine = PostgresDatabase(server).create()
        store = YearlyLog(engine, signer, guard=directory / "guard")
        store.create()
        server.execute("", "CREATE DATABASE plain")
        plain = create_engine(server.url("plain", server.account_of_admin()), pool_size=SESSIONS)
        try:
            yield Bench("postgresql", store, plain, SESSIONS, directory)
        finally:
            engine.dispose()
            plain.dispose()


_BENCHES: Final[tuple[Callable[[Path], AbstractContextManager[Bench]], ...]] = (_sqlite, _postgresql)


async def measure() -> list[Result]:
    """Append with 1, 8, 64 and 256 callers that each wait for their entry."""
    results: list[Result] = []
    for bench in _BENCHES:
        with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
            try:
                with bench(Path(temporary)) as measured:
                    results += await measured.run()
            except MissingError as error:
                print(f"… left out: {error}", file=sys.stderr)
    return results
