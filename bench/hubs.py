"""two_hubs: whole verifications by one hub and by two that share a log in PostgreSQL, in turns, in one run.

What a second hub adds on a machine of its own is CPU; here all processes share the cores of one machine, so rates side
by side say only what the second hub costs. The figures that carry over are CPU seconds for a verification of each
process, and how the log's transactions share entries.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.city import case
from bench.machine import cpu_seconds
from bench.postgres import Durable, durable
from bench.result import Result
from exchange.client.case import Case, CaseResult, Context, Status
from exchange.client.client import Client
from exchange.demo import build
from exchange.demo.build import MATTER, ROLE, SYSTEM
from hubs_support import SharedCity, shared_city
from log_places import PostgresDatabase
from zhiwang.wire.profile import load_profile

OWNER = "hrss"
CLAIM = "guardian: hrss.insured_months at_least 12"
JURISDICTION = "nbs:4403"
CALLERS = 64
ROUNDS = 5
ROUND_SECONDS = 3.0
ROSTER = 4_000
"""Cases of one round of bulk."""


@dataclass(slots=True)
class Side:
    """Agents of one hub, or of two.

    Attributes:
        rates: Verifications or cases a second, one for each round.
        cpu: CPU seconds for each, by process.
        groups: Entries of the hubs' log in one transaction.
        commits: Transactions of the hubs' log a second.
    """

    client: Client
    rates: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    groups: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """A round was only to warm up."""
        for figures in (self.rates, self.cpu, self.groups, self.commits):
            figures.clear()

    def spent(self, *names: str) -> float:
        """Median CPU seconds for one verification, of these processes together."""
        return statistics.median(sum(one.get(name, 0.0) for name in names) for one in self.cpu)


@dataclass(slots=True)
class Stage:
    """Everything that runs, and its readings."""

    city: SharedCity
    server: Durable
    place: PostgresDatabase

    def context(self) -> Context:
        """Why the bench asks."""
        return Context(MATTER, "2026-000001", "bench-1", ROLE, JURISDICTION)

    def cases(self) -> list[Case]:
        """Each applicant's guardian."""
        found = [case(application, [CLAIM]) for application in self.city.applications]
        subjects = [next((one for one in each.subjects if one.slot == "guardian"), None) for each in found]
        return [
            Case((subject,), each.claims, each.key) for subject, each in zip(subjects, found, strict=True) if subject
        ]

    def read(self) -> dict[str, float]:
        """CPU seconds so far, by process; those of the database together."""
        main = int((self.server.directory / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text(encoding="ascii").split()
        database = sum(map(_alive, (main, *map(int, children))))
        pids = {"client": os.getpid(), **{name: self.city.fleet.pids[name] for name in (*self.city.hubs, OWNER)}}
        return {"database": database, **{name: cpu_seconds(pid) for name, pid in pids.items()}}

    def entries(self) -> int:
        """Of the hubs' log."""
        return self._count("SELECT count(*) FROM zhiwang.log_entry")

    def commits(self, start: int) -> int:
        """Transactions that appended from an entry on: each row names its own."""
        return self._count(f"SELECT count(DISTINCT xmin::text) FROM zhiwang.log_entry WHERE idx >= {start}")  # noqa: S608  a number

    def _count(self, statement: str) -> int:
        with self.place.raw("postgres") as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0]) if row is not None else 0

    def sizes(self) -> dict[str, float]:
        """Bytes that stand for one entry: of the hubs' log, its search database, and the owner's store."""
        tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname ~ '^log_'"
        state, own = self.city.layout.state("hub"), self.city.layout.state(OWNER)
        return {
            "log": self._count(tables) / self.entries(),
            "search": sum(path.stat().st_size for path in state.rglob("search*")) / self.entries(),
            "owner": sum(path.stat().st_size for path in own.glob("adapter.db*")) / self.city.count(OWNER, "log_entry"),
        }

    async def measure(self, side: Side, work: Callable[[Client], Awaitable[int]]) -> None:
        """One round."""
        first = await asyncio.to_thread(self.entries)
        before, started = self.read(), time.perf_counter()
        done = await work(side.client)
        seconds, after = time.perf_counter() - started, self.read()
        side.rates.append(done / seconds)
        side.cpu.append({name: (after[name] - before[name]) / done for name in after})
        commits = await asyncio.to_thread(self.commits, first)
        side.groups.append((await asyncio.to_thread(self.entries) - first) / commits)
        side.commits.append(commits / seconds)


def _alive(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except FileNotFoundError:
        return 0.0


def _check(result: CaseResult) -> None:
    for claim in result.claims:
        if claim.status is not Status.ANSWERED:
            raise RuntimeError(f"not answered: {claim.reason}")


def _interactive(stage: Stage) -> Callable[[Client], Awaitable[int]]:
    cases, context = itertools.cycle(stage.cases()), stage.context()

    async def work(client: Client) -> int:
        done = 0
        stop = time.perf_counter() + ROUND_SECONDS

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                _check(await client.verify(next(cases), context))
                done += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return done

    return work


def _bulk(stage: Stage) -> Callable[[Client], Awaitable[int]]:
    cases, context = itertools.cycle(stage.cases()), stage.context()

    async def work(client: Client) -> int:
        done = 0
        async for result in client.verify_many(list(itertools.islice(cases, ROSTER)), context):
            _check(result)
            done += 1
        return done

    return work


def _results(kind: str, unit: str, one: Side, two: Side) -> list[Result]:
    ratio = statistics.median(b / a for a, b in zip(one.rates, two.rates, strict=True))
    # One hub each: the other has nothing but its health to tell.
    hub = one.spent("hub", "second"), two.spent("hub", "second")
    rows = [
        Result(f"two_hubs_{kind}", statistics.median(two.rates), unit, statistics.median(one.rates), ratio, "", None)
    ]
    for name, (before, after) in {
        "hubs": hub,
        "adapter": (one.spent(OWNER), two.spent(OWNER)),
        "client": (one.spent("client"), two.spent("client")),
        "database": (one.spent("database"), two.spent("database")),
    }.items():
        figures = after * 1e6, before * 1e6
        rows.append(Result(f"two_hubs_{kind}_cpu_{name}", figures[0], "µs each", figures[1], after / before, "", None))
    for name, unit_, former, latter in (
        ("group", "entries/commit", one.groups, two.groups),
        ("commits", "commits/s", one.commits, two.commits),
    ):
        before, after = statistics.median(former), statistics.median(latter)
        rows.append(Result(f"two_hubs_{kind}_{name}", after, unit_, before, after / before, "", None))
    return rows


def _client_profile(city: SharedCity, name: str, hubs: Sequence[str]) -> Path:
    path = city.layout.directory / f"{name}.toml"
    build.write_profile_file(
        city.layout,
        path,
        SYSTEM,
        hub=hubs,
        state=f"{name}-state",
        defaults={"role": ROLE, "jurisdiction": JURISDICTION},
    )
    (city.layout.directory / f"{name}-state").mkdir(mode=0o700)
    return path


async def measure() -> list[Result]:
    """Interactive, then bulk, one hub and two in turns."""
    with durable() as server, tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as directory:
        place = PostgresDatabase(server)
        opening = shared_city(SharedCity, place, Path(directory), (OWNER,))
        # It starts loops of its own while it builds.
        city = await asyncio.to_thread(opening.__enter__)
        try:
            return await _measure(Stage(city, server, place))
        finally:
            await asyncio.to_thread(opening.__exit__, None, None, None)


async def _measure(stage: Stage) -> list[Result]:
    city, results = stage.city, []
    profiles = {
        "one": _client_profile(city, "one", city.hub_addresses[:1]),
        "two": _client_profile(city, "two", city.hub_addresses),
    }
    async with (
        await Client.open(load_profile(profiles["one"])) as single,
        await Client.open(load_profile(profiles["two"])) as double,
    ):
        for client in (single, double):
            if not await client.transport.ready(30):
                raise RuntimeError("the client finds no hub")
        for kind, unit, work in (
            ("interactive", "verifications/s", _interactive(stage)),
            ("bulk", "cases/s", _bulk(stage)),
        ):
            one, two = Side(single), Side(double)
            for side in (one, two):
                await stage.measure(side, work)
                side.forget()
            for _ in range(ROUNDS):
                await stage.measure(one, work)
                await stage.measure(two, work)
            results += _results(kind, unit, one, two)
    sizes = await asyncio.to_thread(stage.sizes)
    return [
        *results,
        *(Result(f"two_hubs_bytes_{name}", size, "bytes/entry", size, 1.0, "", None) for name, size in sizes.items()),
    ]
