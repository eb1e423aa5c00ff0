"""interactive_p99: what one who waits at a counter notices of whole rosters that run through the same hub and owner.

Rosters are asked by processes of their own, as clients (`hub`) or through the agent that the counter uses too
(`agent`); one and eight callers each wait for their answer before they ask again. Every combination is measured in
turns, a few seconds each, several rounds, in one run.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from bench.city import RunningCity, case, running
from bench.result import Result
from bench.roster import Roster, rosters, write_cases
from exchange.client.case import Case, Status
from exchange.client.messages import verify_request
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel

ASKED = "guardian: hrss.insured_months at_least 12"
"""What the counter asks, and the rosters too: it is one owner whose time they share."""

RESIDENTS = 20_000
STUDENTS = 2_000
SWEEPS = (0, 1, 4)
CALLERS = (1, 8)
ROUNDS = 3
SECONDS = 5.0
SETTLE_SECONDS = 1.0
"""After rosters began, and ended, before it is measured."""

TIMES = 3.0
"""How many times its p99 without rosters a caller's p99 may be with one."""

LEAST_SHARE = 0.5
"""What a roster keeps, at least, of its rate while eight callers ask without pause."""

Ask = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Measured:
    """One combination of rosters and callers.

    Attributes:
        waits: Seconds of each call.
        rates: Answers a second of all rosters, one for each round.
        calls: Interactive answers a second, one for each round.
    """

    waits: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The wait, in seconds, that this share of all calls did not exceed."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(len(waits) * share))]

    @property
    def rate(self) -> float:
        """Answers a second of all rosters."""
        return statistics.median(self.rates)


async def _turn(ask: Ask, callers: int, sweeps: Sequence[Roster], into: Measured) -> None:
    for roster in sweeps:
        await roster.go()
    await asyncio.sleep(SETTLE_SECONDS)
    waits: list[float] = []
    started = time.perf_counter()
    stop = started + SECONDS

    async def caller() -> None:
        while (began := time.perf_counter()) < stop:
            await ask()
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(callers)))
    if not callers:
        await asyncio.sleep(SECONDS)
    into.calls.append(len(waits) / (time.perf_counter() - started))
    into.waits += waits
    shares = [await roster.stop() for roster in sweeps]
    if any(share.others for share in shares):
        raise RuntimeError(f"claims of rosters were not answered: {shares}")
    into.rates.append(sum(share.answers / share.seconds for share in shares))
    await asyncio.sleep(SETTLE_SECONDS)


async def _side(ask: Ask, sweeps: Sequence[Roster]) -> dict[tuple[int, int], Measured]:
    """Every combination of (rosters, callers), in turns."""
    found: dict[tuple[int, int], Measured] = defaultdict(Measured)
    await _turn(ask, 1, sweeps[:1], Measured())
    for _ in range(ROUNDS):
        for number in SWEEPS:
            for callers in (*CALLERS, *((0,) if number else ())):
                await _turn(ask, callers, sweeps[:number], found[number, callers])
    return found


def _through_client(city: RunningCity, cases: Sequence[Case]) -> Ask:
    following, context = cycle(cases), city.context()

    async def ask() -> None:
        (claim,) = (await city.client.verify(next(following), context)).claims
        if claim.status is not Status.ANSWERED:
            raise RuntimeError(f"not answered: {claim.reason}")

    return ask


def _through_agent(
    stub: verification_pb2_grpc.VerificationServiceStub, city: RunningCity, cases: Sequence[Case]
) -> Ask:
    following = cycle(cases)
    context = city.context()

    async def ask() -> None:
        response = await stub.Verify(verify_request(next(following), context, receipt=False))
        (claim,) = response.result.claims
        if claim.status != verification_pb2.CLAIM_STATUS_ANSWERED:
            raise RuntimeError(f"not answered: {claim.reason}")

    return ask


def guardians(city: RunningCity) -> list[Case]:
    """One case for every applicant's guardian."""
    singles = []
    for application in city.city.applications:
        whole = case(application, [ASKED])
        guardian = next((subject for subject in whole.subjects if subject.slot == "guardian"), None)
        if guardian is not None:
            singles.append(Case((guardian,), whole.claims, whole.key))
    return singles


def _told(side: str, found: dict[tuple[int, int], Measured]) -> list[Result]:
    results = []
    for (sweeps, callers), one in found.items():
        if not callers:
            continue
        alone = found[0, callers]
        target = sweeps == 1
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            value, baseline = one.percentile(share), alone.percentile(share)
            judged = target and share > 0.9  # noqa: PLR2004  the p99
            results.append(
                Result(
                    f"interactive_{name}_{side}_{callers}_callers_{sweeps}_rosters",
                    value * 1e3,
                    "ms",
                    baseline * 1e3,
                    value / baseline,
                    f"at most {TIMES:g}" if judged else "",
                    value / baseline <= TIMES if judged else None,
                )
            )
        if sweeps:
            rate, undisturbed = one.rate, found[sweeps, 0].rate
            busiest = callers == max(CALLERS)
            results.append(
                Result(
                    f"roster_rate_{side}_{callers}_callers_{sweeps}_rosters",
                    rate,
                    "answers/s",
                    undisturbed,
                    rate / undisturbed,
                    f"at least {LEAST_SHARE:g}" if busiest else "",
                    rate / undisturbed >= LEAST_SHARE if busiest else None,
                )
            )
    return results


async def measure() -> list[Result]:
    """Through a hub and an owner; then through an agent besides."""
    results = []
    async with running(RESIDENTS, STUDENTS) as city:
        cases = guardians(city)
        path = city.town.layout.directory / "cases.json"
        write_cases(path, cases, city.context())
        profile = city.town.layout.system_profile
        async with rosters(max(SWEEPS), path, profile) as sweeps:
            results += _told("hub", await _side(_through_client(city, cases), sweeps))
        async with (
            rosters(max(SWEEPS), path, profile, city.town.agent) as sweeps,
            open_channel(city.town.agent, None) as channel,
        ):
            stub = verification_pb2_grpc.VerificationServiceStub(channel)
            results += _told("agent", await _side(_through_agent(stub, city, cases), sweeps))
    return results
