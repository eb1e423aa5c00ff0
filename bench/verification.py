"""single_throughput, single_latency and student: whole verifications with everything on, beside a plain relay."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from bench.city import RunningCity, case, running
from bench.machine import CpuMeter, fsync_seconds
from bench.relay import Relay
from bench.relay import running as running_relay
from bench.result import Result
from exchange.client.case import Case, Status
from exchange.demo.build import HUB, OWNERS, SYSTEM

CALLERS = 64
ROUNDS = 5
ROUND_SECONDS = 3.0
LATENCY_CALLS = 200
OWNER = "hrss"
CLAIM = "guardian: hrss.insured_months at_least 12"
RESIDENTS = 20_000
STUDENTS = 500
ENTRY_SIZE = 4096
"""About what one commit writes: pages of the WAL."""

ROSTER = 10_000
CITY_SECONDS = 0.26
"""What the city that inspired us reported for one student."""

FASTER = 100

Call = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Sizes:
    """Bytes of the last request and of its result, for a relay that carries the same."""

    request: int = 0
    reply: int = 0


def _watch_sizes(city: RunningCity, sizes: Sizes) -> None:
    """Have the client's transport note how large its messages are."""
    transport = city.client.transport
    exchange = transport.exchange

    async def noted(request, seconds, *, bulk, owner=""):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  wraps as it is
        delivery = await exchange(request, seconds, bulk=bulk, owner=owner)
        sizes.request = request.ByteSize()
        heads = [*delivery.frame.owner_logs[:1], delivery.frame.hub_log]
        sizes.reply = delivery.result.ByteSize() + sum(head.ByteSize() for head in heads if head is not None)
        return delivery

    transport.exchange = noted  # type: ignore[method-assign]


def _cases(city: RunningCity) -> Iterator[Case]:
    """Every applicant's guardian, round and round."""
    singles = []
    for application in city.city.applications:
        whole = case(application, [CLAIM])
        guardian = next((subject for subject in whole.subjects if subject.slot == "guardian"), None)
        if guardian is not None:
            singles.append(Case((guardian,), whole.claims, whole.key))
    return itertools.cycle(singles)


@dataclass(slots=True)
class Side:
    """One of the two that are measured in turn.

    Attributes:
        rates: Calls a second, one for each round.
        cpu: CPU seconds a call, by process, one dict for each round.
        waits: Seconds that single calls took.
    """

    call: Call
    meter: CpuMeter
    rates: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def load(self, seconds: float = ROUND_SECONDS) -> None:
        """One round with 64 callers, each waiting for its answer before it asks again."""
        done = 0
        stop = time.perf_counter() + seconds
        before, started = self.meter.read(), time.perf_counter()

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                await self.call()
                done += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        elapsed = time.perf_counter() - started
        after = self.meter.read()
        self.rates.append(done / elapsed)
        self.cpu.append({name: (after[name] - before[name]) / done for name in after})

    async def wait(self) -> None:
        """Some calls one after the other."""
        for _ in range(LATENCY_CALLS):
            started = time.perf_counter()
            await self.call()
            self.waits.append(time.perf_counter() - started)

    def cpu_of(self, name: str) -> float:
        """Median CPU seconds a call of one process."""
        return statistics.median(round_[name] for round_ in self.cpu)


def _relay_side(relay: Relay, size: int) -> Side:
    payload = os.urandom(size)
    return Side(lambda: relay.call(payload), CpuMeter(relay.pids))


def _ours(city: RunningCity) -> Side:
    cases, context = _cases(city), city.context()

    async def verify() -> None:
        result = await city.client.verify(next(cases), context)
        (claim,) = result.claims
        if claim.status is not Status.ANSWERED:
            raise RuntimeError(f"not answered: {claim.reason}")

    pids = {"hub": city.pids["hub"], "adapter": city.pids[OWNER], "client": os.getpid()}
    return Side(verify, CpuMeter(pids))


async def measure_single() -> list[Result]:
    """64 callers, then one, in turns with the relay."""
    async with running(RESIDENTS, STUDENTS) as city:
        ours, sizes = _ours(city), Sizes()
        _watch_sizes(city, sizes)
        for _ in range(20):
            await ours.call()
        layout = city.town.layout
        identities = (layout.identity(SYSTEM), layout.identity(HUB), layout.identity(f"{OWNER}/adapter/main"))
        async with running_relay(layout.root, *identities, sizes.reply) as relay:
            plain = _relay_side(relay, sizes.request)
            for side in (ours, plain):
                await side.load(1.0)
                side.rates.clear()
                side.cpu.clear()
            for _ in range(ROUNDS):
                await ours.load()
                await plain.load()
            for _ in range(ROUNDS):
                await ours.wait()
                await plain.wait()
        disk = fsync_seconds(layout.directory, ENTRY_SIZE)
    rate, baseline = statistics.median(ours.rates), statistics.median(plain.rates)
    ratio = statistics.median(a / b for a, b in zip(ours.rates, plain.rates, strict=True))
    wait = statistics.median(ours.waits)
    floor = statistics.median(plain.waits) + 2 * disk
    bounds = (1.0, 2.0)
    results = [
        Result("single_throughput", rate, "verifications/s", baseline, ratio, "at least 1.0", ratio >= bounds[0]),
        Result("single_latency", wait * 1e3, "ms", floor * 1e3, wait / floor, "at most 2", wait / floor <= bounds[1]),
    ]
    for name, other in (("client", "client"), ("hub", "relay"), ("adapter", "echo")):
        cost, beside = ours.cpu_of(name) * 1e6, plain.cpu_of(other) * 1e6
        results.append(Result(f"single_cpu_{name}", cost, "µs/verification", beside, cost / beside, "", None))
    return results


async def measure_student() -> list[Result]:
    """The enrolment matter for a roster of 10,000."""
    async with running(ROSTER * 20, ROSTER) as city:
        cases = [case(application) for application in city.city.applications]
        meter = CpuMeter({**city.pids, "client": os.getpid()})
        before, started = meter.read(), time.perf_counter()
        claims = students = unanswered = 0
        async for result in city.client.verify_many(cases, city.context()):
            students += 1
            claims += len(result.claims)
            unanswered += sum(claim.status is not Status.ANSWERED for claim in result.claims)
        seconds = (time.perf_counter() - started) / students
        after = meter.read()
    if unanswered or students != ROSTER:
        raise RuntimeError(f"{unanswered} claims of {students} students were not answered")
    spent = {name: (after[name] - before[name]) / students * 1e6 for name in after}
    owners = sum(spent[name] for name in OWNERS)
    ratio = CITY_SECONDS / seconds
    return [
        Result("student", seconds * 1e3, "ms/student", CITY_SECONDS * 1e3, ratio, "at least 100", ratio >= FASTER),
        Result("student_claims", claims / students, "claims/student", 10.0, claims / students / 10, "", None),
        *(
            Result(f"student_cpu_{name}", cost, "µs/student", seconds * 1e6, cost / (seconds * 1e6), "", None)
            for name, cost in (("client", spent["client"]), ("hub", spent["hub"]), ("adapters", owners))
        ),
    ]
