"""search_growth, search_follow: a selective search, and the database that it asks, as a log grows.

Entries go through the real store, in groups as a busy hub makes them; the search database follows as it does there.
Searched is an official who asked ten times in the whole log, the same share at every size being what would not be
selective. Every figure is the median of many, in one run.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from audit.query import EVERYTHING, Query, Scope
from audit.search import SearchIndex
from audit.sqlite import open_sqlite
from audit.store import LogStore
from bench.keys import enrol
from bench.result import Result
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2

SIZES: Final = (10_000, 100_000, 1_000_000)
GROUP: Final = 2000
RARE: Final = 10
"""Entries of the official who is looked for, at every size."""
REPEATED: Final = 200
ANSWERED: Final = 97
"""Of a hundred accesses."""
FLAT: Final = 1.2

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


def _milliseconds(index: SearchIndex, query: Query, scope: Scope, size: int) -> float:
    """Median time of one page of 50."""
    times = []
    for _ in range(REPEATED):
        began = time.perf_counter()
        index.search(query, scope, size, 50)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


async def measure() -> list[Result]:
    """Grow a log and search it at each size."""
    chance = random.Random(2026)  # noqa: S311 - a benchmark's dice
    selective: dict[int, float] = {}
    followed: dict[int, float] = {}
    scoped = 0.0
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
        directory = Path(temporary)
        signer = enrol(directory, "centre/hub/main")["centre/hub/main"].signer()
        store = LogStore(open_sqlite(directory / "log.db", create=True), signer.identity.log_origin, signer)
        store.create()
        index = SearchIndex(directory / "search.db", store)
        for size in SIZES:
            rare = {chance.randrange(store.newest.size, size) for _ in range(RARE)}
            spent, began_size = 0.0, index.size
            while store.newest.size < size:
                start = store.newest.size
                entries = [
                    store.new_entry(
                        _access(chance, f"seldom-{size}" if place in rare else f"clerk-{chance.randrange(5000)}")
                    )
                    for place in range(start, min(start + GROUP, size))
                ]
                with store.transaction() as connection:
                    appended = store.append(connection, entries)
                store.committed(appended)
                began = time.process_time()
                while index.follow():
                    pass
                spent += time.process_time() - began
            followed[size] = (index.size - began_size) / spent
            selective[size] = _milliseconds(index, Query(official=f"seldom-{size}"), EVERYTHING, size)
            scoped = _milliseconds(index, Query(outcome="UNAVAILABLE"), Scope(department="civil"), size)
        index.close()
        store.close()
        store.engine.dispose()
    small, large = SIZES[0], SIZES[-1]
    growth = selective[large] / selective[small]
    return [
        Result(
            "search_growth",
            selective[large],
            f"ms at {large:,} entries",
            selective[small],
            growth,
            f"at most {FLAT} × that at {small:,}",
            growth <= FLAT,
        ),
        Result(
            "search_scoped", scoped, f"ms at {large:,} entries", selective[large], scoped / selective[large], "", None
        ),
        Result(
            "search_follow",
            followed[large],
            f"entries/s of CPU to {large:,}",
            followed[small],
            followed[large] / followed[small],
            "",
            None,
        ),
    ]
