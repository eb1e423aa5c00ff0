"""log_growth: what an append and a selective search cost as a log grows; log_verify, log_fsck: what checking it takes.

A log of each size is made by the real store, in groups as a busy hub makes them, with its search database behind it;
then the sizes take turns, so that what else the machine does weighs on all of them. An append is measured in CPU time,
the database server's included, of groups of 64: on a disk that others use too the clock would tell of them. Searched is
an official who asked ten times in the whole log, the same share at every size being what would not be selective. The
largest log is then verified as a process does that opens it whole, exported, and examined as an auditor does with the
files, beside the least that could be done: read each entry's bytes and hash them.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from audit import fetch
from audit.checkpoint import Checkpoint
from audit.fsck import examine
from audit.mirror import VKEY, Mirror, verify_by_key
from audit.query import EVERYTHING, Query, Scope
from audit.search import SearchIndex
from audit.sqlite import open_sqlite
from audit.store import LogStore
from audit.yearly import YearlyLog
from bench.keys import enrol
from bench.machine import running_seconds
from bench.postgres import durable
from bench.result import Result
from certs.signing import Signer
from log_places import PostgresDatabase
from servers import MissingError
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import merkle

SIZES: Final = (10_000, 100_000, 1_000_000)
LONG_SIZES: Final = (*SIZES, 10_000_000)
GROUP: Final = 2000
"""Entries of a transaction while a log is made."""
MEASURED_GROUP: Final = 64
"""Entries of a transaction that is measured."""
ROUNDS: Final = 25
GROUPS: Final = 12
"""Transactions of one log in one round."""
SEARCHES: Final = 20
"""Searches of one log in one round."""
RARE: Final = 10
"""Entries of the official who is looked for, at every size."""
ANSWERED: Final = 97
"""Of a hundred accesses."""
FLAT: Final = 1.2
PAGE: Final = 2000
"""Entries that are read at a time, to be exported or hashed."""
EVERY: Final = 100_000
"""Entries after which progress is told."""

_OWNERS = ("hrss", "police", "health", "housing", "title", "civil")
_ATTRIBUTES = ("pension_months", "age", "card", "lease_months", "share", "insured")


def _access(chance: random.Random, official: str) -> audit_pb2.HubAccess:
    """An access of a city: few systems and matters, many officials and references."""
    owner = chance.choice(_OWNERS)
    header = sealed_pb2.Header(
        system=f"spiffe://shenzhen/{chance.choice(('edu', 'civil', 'housing'))}/system/s{chance.randrange(4)}",
        official=official,
        role="edu/enrolment-clerk",
        matter=chance.choice(("school-enrolment", "senior-card", "housing-lease")),
        reference=f"2026-{chance.randrange(1_000_000):06d}",
        jurisdiction=f"nbs:44030{chance.randrange(3, 10)}",
        owner=owner,
        claims=[sealed_pb2.ClaimShape(attribute=name) for name in chance.sample(_ATTRIBUTES, 2)],
    )
    return audit_pb2.HubAccess(
        header=header.SerializeToString(),
        signature=os.urandom(64),
        sealed_hash=os.urandom(32),
        request_root=os.urandom(32),
        outcome=audit_pb2.OUTCOME_ANSWERED if chance.randrange(100) < ANSWERED else audit_pb2.OUTCOME_UNAVAILABLE,
        directory_version=chance.randrange(1, 30),
        owner_leaf_hash=os.urandom(32),
        owner_checkpoint=os.urandom(220),
    )


def _tell(what: str) -> None:
    print(f"… {what}", file=sys.stderr)


@dataclass(slots=True)
class Grown:
    """A log of one size.

    Attributes:
        size: Entries that it was made with.
        append: CPU seconds of an entry, for each round.
        wall: Seconds of a transaction, for each one.
        search: Seconds of a selective search, for each one.
        scoped: Of one by a reader who sees one department.
        followed: Entries that the search database took in for a second of CPU.
    """

    size: int
    store: YearlyLog
    index: SearchIndex | None
    official: str
    append: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)
    scoped: list[float] = field(default_factory=list)
    followed: float = 0.0

    def grow(self, name: str, chance: random.Random) -> None:
        """Bring it to its size."""
        store = self.store
        rare = {chance.randrange(1, self.size) for _ in range(RARE)}
        spent = 0.0
        while (start := store.newest.size) < self.size:
            self._append(
                [
                    _access(chance, self.official if place in rare else f"clerk-{chance.randrange(5000)}")
                    for place in range(start, min(start + GROUP, self.size))
                ]
            )
            began = time.process_time()
            while self.index is not None and self.index.follow():
                pass
            spent += time.process_time() - began
            if start // EVERY != store.newest.size // EVERY:
                _tell(f"{name}: {store.newest.size:,} of {self.size:,} entries")
        if self.index is not None:
            self.followed = self.size / spent

    def _append(self, events: Sequence[audit_pb2.HubAccess]) -> None:
        entries = [self.store.new_entry(event) for event in events]
        with self.store.transaction() as connection:
            appended = self.store.append(connection, entries)
        self.store.committed(appended)

    def round(self, events: Sequence[audit_pb2.HubAccess], cpu: Callable[[], float]) -> None:
        """Measure some appends and searches."""
        used = cpu()
        for _ in range(GROUPS):
            began = time.perf_counter()
            self._append(events)
            self.wall.append(time.perf_counter() - began)
        self.append.append((cpu() - used) / (GROUPS * len(events)))
        if self.index is None:
            return
        # What the appends left behind is taken in first, as in a hub at rest.
        while self.index.follow():
            pass
        size = self.store.newest.size
        for found, query, scope in (
            (self.search, Query(official=self.official), EVERYTHING),
            (self.scoped, Query(outcome="UNAVAILABLE"), Scope(department="civil")),
        ):
            for _ in range(SEARCHES):
                began = time.perf_counter()
                self.index.search(query, scope, size, 50)
                found.append(time.perf_counter() - began)


def _grow_all(
    name: str,
    signer: Signer,
    sizes: Sequence[int],
    engine: Callable[[int], Engine],
    search: Path | None,
    cpu: Callable[[], float],
) -> Iterator[list[Grown]]:
    chance = random.Random(2026)  # noqa: S311 - a benchmark's dice
    grown: list[Grown] = []
    with ExitStack() as stack:
        for size in sizes:
            opened = engine(size)
            stack.callback(opened.dispose)
            store = YearlyLog(opened, signer)
            store.create()
            stack.callback(store.close)
            index = None if search is None else SearchIndex(search / f"search-{size}.db", store.shard())
            if index is not None:
                stack.callback(index.close)
            one = Grown(size, store, index, f"seldom-{size}")
            one.grow(name, chance)
            grown.append(one)
        events = [_access(chance, f"clerk-{number}") for number in range(MEASURED_GROUP)]
        gc.freeze()  # as a hub does when it has started
        for number in range(ROUNDS):
            # Each order as often as its reverse.
            for one in grown if number % 2 else reversed(grown):
                one.round(events, cpu)
        yield grown


_grown = contextmanager(_grow_all)


def _of_sizes(name: str, unit: str, values: Sequence[tuple[int, float]]) -> list[Result]:
    """A figure at each size beside the same at the smallest; the largest has the target."""
    (small, least), (large, _) = values[0], values[-1]
    results = []
    for size, value in values[1:]:
        grown = value / least
        last = size == large
        results.append(
            Result(
                name if last else f"{name}_{size}",
                value,
                f"{unit} at {size:,}; at {small:,}",
                least,
                grown,
                f"at most {FLAT}" if last else "",
                grown <= FLAT if last else None,
            )
        )
    return results


def _median_of(
    grown: Sequence[Grown], values: Callable[[Grown], Sequence[float]], scale: float
) -> list[tuple[int, float]]:
    return [(one.size, statistics.median(values(one)) * scale) for one in grown]


def _in_sqlite(directory: Path, signer: Signer, sizes: Sequence[int]) -> list[Result]:
    def engine(size: int) -> Engine:
        return open_sqlite(directory / f"log-{size}.db", create=True)

    with _grown("sqlite", signer, sizes, engine, directory, time.process_time) as grown:
        largest = grown[-1]
        search = _median_of(grown, lambda one: one.search, 1000)
        scoped = statistics.median(largest.scoped) * 1000
        return [
            *_of_sizes("log_growth_append", "µs of CPU", _median_of(grown, lambda one: one.append, 1e6)),
            *_of_sizes("log_growth_search", "ms", search),
            Result(
                "log_growth_commit",
                statistics.median(largest.wall) * 1000,
                f"ms a group of {MEASURED_GROUP}; at {sizes[0]:,}",
                statistics.median(grown[0].wall) * 1000,
                statistics.median(largest.wall) / statistics.median(grown[0].wall),
                "",
                None,
            ),
            Result(
                "log_search_scoped", scoped, "ms; the selective search", search[-1][1], scoped / search[-1][1], "", None
            ),
            Result(
                "log_search_follow",
                largest.followed,
                f"entries/s of CPU; to {sizes[0]:,}",
                grown[0].followed,
                largest.followed / grown[0].followed,
                "",
                None,
            ),
            *_checked(largest.store.shard(), directory / "exported"),
        ]


def _in_postgresql(_directory: Path, signer: Signer, sizes: Sequence[int]) -> list[Result]:
    with durable() as server:
        pids: list[int] = []

        def cpu() -> float:
            if not pids:
                # Asked first when the logs have been made: their connections are held from then on.
                pids.extend(server.pids())
            return sum(map(running_seconds, pids)) + time.process_time()

        def engine(_size: int) -> Engine:
            return PostgresDatabase(server).create()

        with _grown("postgresql", signer, sizes, engine, None, cpu) as grown:
            return _of_sizes(
                "log_growth_append_postgresql", "µs of CPU", _median_of(grown, lambda one: one.append, 1e6)
            )


def _checked(store: LogStore, directory: Path) -> list[Result]:
    """What checking a whole log takes, by one process."""
    size = store.newest.size

    def timed(work: Callable[[], object]) -> tuple[float, float]:
        """CPU seconds and seconds of the clock."""
        began, used = time.perf_counter(), time.process_time()
        work()
        return time.process_time() - used, time.perf_counter() - began

    def told(what: str) -> Callable[[int, int], None]:
        def progress(done: int, _size: int) -> None:
            if done // EVERY != (done - 1) // EVERY:
                _tell(f"{what}: {done:,} of {size:,} entries")

        return progress

    def hashed() -> None:
        for start in range(0, size, PAGE):
            for data in store.entries(start, PAGE):
                sha256(data).digest()

    def export() -> None:
        mirror = Mirror(directory, entries=True)
        while mirror.edge.size < size:
            entries = store.entries(mirror.edge.size, PAGE)
            mirror.edge.extend([merkle.leaf_hash(data) for data in entries])
            mirror.take(entries, mirror.edge)
            mirror.edge.trim()
            told("export")(mirror.edge.size, size)
        head = store.newest
        mirror.seal(head.message(), Checkpoint(store.origin, head.size, head.root))

    def fsck() -> None:
        key = (directory / VKEY).read_text(encoding="utf-8")
        found = examine(fetch.directory(directory), lambda note: verify_by_key(note, key), progress=told("fsck"))
        if found.number or found.entries != size:
            raise RuntimeError("an exported log does not hold")

    bare = timed(hashed)
    results = []
    for name, work in (
        ("log_verify", lambda: store.verify_all(told("verify"))),
        ("log_export", export),
        ("log_fsck", fsck),
    ):
        cpu, clock = timed(work)
        each, least = cpu / size * 1e6, bare[0] / size * 1e6
        results += [
            Result(name, each, "µs of CPU; read and hashed", least, each / least, "", None),
            Result(f"{name}_clock", clock, f"s of {size:,}; read and hashed", bare[1], clock / bare[1], "", None),
        ]
    return results


def _measured(
    stores: Sequence[Callable[[Path, Signer, Sequence[int]], list[Result]]], sizes: Sequence[int]
) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
        directory = Path(temporary)
        signer = enrol(directory, "centre/hub/main")["centre/hub/main"].signer()
        for store in stores:
            try:
                results += store(directory, signer, sizes)
            except MissingError as error:
                _tell(f"without PostgreSQL: {error}")
    return results


async def measure() -> list[Result]:
    """Make logs, append to them and search them in turns, and check the largest."""
    return _measured((_in_sqlite, _in_postgresql), SIZES)


async def measure_long() -> list[Result]:
    """As `measure`, to ten million entries, of SQLite: half an hour or more."""
    return _measured((_in_sqlite,), LONG_SIZES)


async def measure_long_postgresql() -> list[Result]:
    """The same of PostgreSQL, by itself, so that what the other took so long to find is kept before."""
    return _measured((_in_postgresql,), LONG_SIZES)
