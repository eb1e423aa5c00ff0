"""batch_throughput: rosters end to end, at 1, 10, 100 and 1,000 cases a request, with one owner and with five.

Everything is on and every process real (`bench/owners.py`). In turns with it: a bare grpcio relay that carries the same
bytes in as many messages (of one case each it is the bare unary relay, which also stands beside all of them), and the
owner's statements alone, run in this process over one connection, with parameters that were made beforehand.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapter_support import AS_OF
from bench.machine import cpu_seconds
from bench.owners import CLAIMS, OWNERS, RunningOwners, case, claims, name, running
from bench.postgres import durable
from bench.relay import running as running_relay
from bench.result import Result
from bench.rows import person
from bench.sampled import SWITCH, Books
from exchange.client.case import Status
from exchange.demo.build import HUB, SYSTEM
from servers import MissingError, Server
from zhiwang.wire.identifiers import scheme

SIZES = (10_000, 1_000_000)
LONG_SIZES = (10_000, 1_000_000, 10_000_000)

CALLERS = {1: 64, 10: 32, 100: 12, 1_000: 3}
"""How many wait for their requests at a time, by cases of a request."""

POOL = 100_000
"""People of one measurement; only if there were more answers would somebody be asked about twice in it."""

ROUNDS = 3
ROUND_SECONDS = 1.0
LEAST = 20_000
"""Answers a second."""

LARGEST = 5
"""Costs of each process that are told."""

SHARE = 0.25
"""Of what the statements alone reach."""


@dataclass(slots=True)
class Side:
    """One of those that are measured in turn.

    Attributes:
        call: Asks once and gives the number of answers.
        callers: How many ask at a time.
        rates: Answers a second, one for each round.
    """

    call: Callable[[], Awaitable[int]]
    callers: int
    rates: list[float] = field(default_factory=list)

    async def load(self, seconds: float = ROUND_SECONDS) -> int:
        """One round; the number of answers."""
        done = 0
        started = time.perf_counter()
        stop = started + seconds

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                # In two steps: `done += await …` would read it before the wait, and lose what others counted meanwhile.
                answers = await self.call()
                done += answers

        await asyncio.gather(*(caller() for _ in range(self.callers)))
        self.rates.append(done / (time.perf_counter() - started))
        return done

    @property
    def rate(self) -> float:
        """Median answers a second."""
        return statistics.median(self.rates)


class _Meter:
    """CPU seconds by process, a database server's together."""

    def __init__(self, owners: RunningOwners, asked: Sequence[str], server: Server | None) -> None:
        self._pids = {"client": [os.getpid()], "hub": [owners.pids["hub"]]}
        self._pids["adapters" if len(asked) > 1 else "adapter"] = [owners.pids[owner] for owner in asked]
        self._server = server

    def read(self) -> dict[str, float]:
        pids = dict(self._pids)
        if self._server is not None:
            pids["database"] = self._server.pids()
        return {process: sum(map(cpu_seconds, of_it)) for process, of_it in pids.items()}


@dataclass(slots=True)
class _Sizes:
    """Bytes of sealed requests and of their results since they were last taken, for a relay that carries the same."""

    requests: int = 0
    replies: int = 0
    messages: int = 0

    def watch(self, owners: RunningOwners) -> None:
        """Have the client's transport note them."""
        transport = owners.client.transport
        exchange = transport.exchange

        async def noted(request, seconds, *, bulk, owner=""):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  wraps as it is
            delivery = await exchange(request, seconds, bulk=bulk, owner=owner)
            self.requests += request.ByteSize()
            self.replies += delivery.result.ByteSize()
            self.messages += 1
            return delivery

        transport.exchange = noted  # type: ignore[method-assign]


def _ours(owners: RunningOwners, asked: Sequence[str], rows: int, cases: int) -> Side:
    """Requests about people drawn from all rows. Their identifiers are made beforehand: a roster holds them."""
    chance = random.Random(rows + cases)  # noqa: S311 - the same people in every run
    texts = tuple(claim for owner in asked for claim in claims(owner, rows))
    context = owners.context()
    drawn = itertools.cycle([person(i) for i in chance.sample(range(rows), min(rows, POOL))])

    async def ask() -> int:
        roster = [case(one, texts) for one in itertools.islice(drawn, cases)]
        answers = 0
        async for results in owners.client.verify_batches(roster, context):
            for result in results:
                unanswered = [claim.reason for claim in result.claims if claim.status is not Status.ANSWERED]
                if result.reason is not None or unanswered:
                    raise RuntimeError(f"not answered: {result.reason or unanswered[0]}")
                answers += len(result.claims)
        return answers

    return Side(ask, CALLERS[cases])


def _statements(owners: RunningOwners, asked: Sequence[str], rows: int, cases: int) -> float:
    """Answers a second of the owners' statements alone, for groups of as many people as a request has."""
    chance = random.Random(rows)  # noqa: S311 - as above
    spellings = scheme("resident").spellings
    cells = tuple(cell or None for _, _, cell in CLAIMS)
    done = 0
    spent = 0.0
    while spent < ROUND_SECONDS / 3:
        for owner in asked:
            source = owners.sources[owner]
            pairs = tuple((f"{attribute}_{name(rows)}", predicate) for attribute, predicate, _ in CLAIMS)
            plan = source.plan(name(rows), pairs)
            group = [(spellings(person(i)), None, "4403", cells) for i in chance.sample(range(rows), cases)]
            sql, parameters = plan.statement(group, AS_OF)
            with source.lend() as lent:
                started = time.perf_counter()
                found = lent.fetch(sql, parameters)
                spent += time.perf_counter() - started
            if len(found) != cases:
                raise RuntimeError("a statement does not know everybody")
            done += cases * len(CLAIMS)
    return done / spent


async def _measure(
    owners: RunningOwners, family: str, asked: Sequence[str], rows: int, cases: int, server: Server | None
) -> list[Result]:
    sizes = _Sizes()
    exchange = owners.client.transport.exchange
    sizes.watch(owners)
    ours = _ours(owners, asked, rows, cases)
    answers = await ours.call()
    owners.client.transport.exchange = exchange  # type: ignore[method-assign]
    messages = sizes.messages
    layout = owners.layout
    identities = (layout.identity(SYSTEM), layout.identity(HUB), layout.identity(f"{asked[0]}/adapter/main"))
    payload = os.urandom(sizes.requests // messages)
    meter = _Meter(owners, asked, server)
    spent: dict[str, float] = {}
    done = 0
    alone = []
    async with running_relay(layout.root, *identities, sizes.replies // messages) as relay:

        async def pass_on() -> int:
            await asyncio.gather(*(relay.call(payload) for _ in range(messages)))
            return answers

        plain = Side(pass_on, CALLERS[cases])
        for side in (ours, plain):
            await side.load(0.5)
            side.rates.clear()
        for _ in range(ROUNDS):
            before = meter.read()
            done += await ours.load()
            for process, seconds in meter.read().items():
                spent[process] = spent.get(process, 0.0) + seconds - before.get(process, 0.0)
            await plain.load()
            alone.append(_statements(owners, asked, rows, cases))
    rate, sql = ours.rate, statistics.median(alone)
    what = f"{family} {len(asked)} {name(rows)} {cases}"
    targeted = family == "sqlite" and len(asked) == 1 and rows == max(SIZES) and cases == max(CALLERS)
    met = rate >= LEAST and rate / sql >= SHARE if targeted else None
    target = f"at least {LEAST:,}/s, and at least {SHARE} of the SQL" if targeted else ""
    return [
        Result(f"batch_throughput {what}", rate, "answers/s", sql, rate / sql, target, met),
        Result(f"batch_relay {what}", rate, "answers/s", plain.rate, rate / plain.rate, "", None),
        *(
            Result(f"batch_cpu_{process} {what}", seconds / done * 1e6, "µs CPU/answer", 1e6 / sql, 0.0, "", None)
            for process, seconds in spent.items()
        ),
    ]


async def _measure_family(family: str, server: Server | None, sizes: Sequence[int]) -> list[Result]:
    results = []
    async with running(sizes, server) as owners:
        # As an agent does when it has started: else the garbage collector goes through the directory again and again.
        gc.collect()
        gc.freeze()
        for asked in (OWNERS[:1], OWNERS):
            for rows in sizes:
                for cases in CALLERS:
                    print(f"… {family}: {len(asked)} owner(s), {rows:,} rows, {cases} cases", file=sys.stderr)
                    found = await _measure(owners, family, asked, rows, cases, server)
                    results += found
                    # Told at once: the whole takes many minutes, and may be broken off.
                    print("  " + "; ".join(f"{one.name} {one.value:,.4g}" for one in found), file=sys.stderr)
    return results


async def measure(sizes: Sequence[int] = SIZES) -> list[Result]:
    """SQLite, and PostgreSQL where it is here. Names end with owners, rows and cases of a request."""
    results = await _measure_family("sqlite", None, sizes)
    try:
        with durable() as server:
            results += await _measure_family("postgresql", server, sizes)
    except MissingError as error:
        print(f"batch_throughput: postgresql skipped: {error}", file=sys.stderr)
    return results


async def measure_profile() -> list[Result]:
    """The five largest costs of each process, sampled while 1,000 cases a request are asked of one owner."""
    rows, cases, seconds = max(SIZES), max(CALLERS), 10.0
    async with running((rows,), sampled=True) as owners:
        gc.collect()
        gc.freeze()
        places = {
            "client": (os.getpid(), owners.layout.logs / "client.json"),
            "hub": (owners.pids["hub"], owners.layout.logs / "hub.json"),
            "adapter": (owners.pids[OWNERS[0]], owners.layout.logs / f"{OWNERS[0]}.json"),
        }
        books = Books(places["client"][1])
        former = signal.signal(signal.SIGUSR1, books.ask)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        threading.Thread(target=books.run, daemon=True).start()
        try:
            ours = _ours(owners, OWNERS[:1], rows, cases)
            await ours.load()
            await _written(places)
            answers = await ours.load(seconds)
            spent = await _written(places)
        finally:
            books.stop()
            sys.setswitchinterval(interval)
            signal.signal(signal.SIGUSR1, former)
    return [
        Result(f"batch_profile {process} {place}", cost / answers * 1e6, "µs CPU/answer", all_, share, "", None)
        for process, costs in spent.items()
        for place, cost in sorted(costs.items(), key=lambda item: -item[1])[:LARGEST]
        for total in (sum(costs.values()),)
        for all_, share in ((total / answers * 1e6, cost / total),)
    ]


async def _written(places: dict[str, tuple[int, Path]]) -> dict[str, dict[str, float]]:
    """Have the books written down, and read them."""
    for pid, path in places.values():
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
    while not all(path.exists() for _, path in places.values()):  # noqa: ASYNC110 - other processes write them
        await asyncio.sleep(0.05)
    return {process: json.loads(path.read_text("utf-8")) for process, (_, path) in places.items()}


async def measure_long() -> list[Result]:
    """Owners of ten million rows as well."""
    return await measure(LONG_SIZES)
