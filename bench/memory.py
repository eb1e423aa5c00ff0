"""memory: resident memory of hub, adapter, agent and registrar over a million answers, asked through the agent.

Rosters by `VerifyBatch` and counters by `Verify` at the same time, everything real: processes, mTLS, logs, ledger. What
a map could be keyed by changes as it does in a city: nobody is asked about twice within a million answers, every batch
and every single case has a reference of its own, and officials and places come from as many as a city has. So whatever
is kept of each of them shows, while logs, ledger, replay store and index of subjects grow on disk.

What a process holds is read at steps; its largest (VmHWM) at the end is held against its largest after 100,000 answers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Final

from bench.owners import JURISDICTION, MATTER, OWNERS, RunningOwners, case, claims, running
from bench.result import Result
from bench.rows import person
from exchange.client.case import Context
from exchange.client.messages import verify_request
from exchange.demo.build import ROLE
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel

OWNER: Final = OWNERS[0]
ROWS: Final = 1_000_000
BASELINE: Final = 100_000
STEPS: Final = (10_000, 50_000, BASELINE, *range(200_000, 1_000_001, 100_000))
LONG_STEPS: Final = (*STEPS, *range(2_000_000, 10_000_001, 1_000_000))
"""Answers after which memory is read."""

SECONDS: Final = 60.0
"""That a call may take."""

SINGLES: Final = 0.1
"""Part of all answers that is asked one case at a time: 33,000 calls in a million answers, each with entries of its own
in both logs, where a batch has one for 256 cases."""

CALLERS: Final = 8
"""Who wait for single cases, and"""

STREAMS: Final = 3
"""batches that are open at a time."""

BATCH: Final = 512
"""Cases of one batch, which has a reference, an official and a place of its own, and"""

MESSAGE: Final = 128
"""cases of one message."""

OFFICIALS: Final = 2000
"""Who ask, in turn. One person is always asked about in one of 660 places, about as many as Shenzhen has communities,
since an owner counts in how many somebody is."""

FOR_BATCHES: Final = 800_000
"""People who are asked about in batches; the others singly."""

FLAT: Final = 1.1
"""What a process may have held at its largest, of what that was after 100,000 answers. There bounded caches are still
filling: SQLite's, 2 MiB a connection, of logs that are small until then, and decisions by place. And"""

LATE: Final = 1.02
"""of what it was after half of all answers. A fiftieth of 115 MiB is 140 bytes for each of the 17,000 requests of the
second half, less than anything that could be kept of one with its key."""

MEASURED: Final = {
    "memory_hub": "hub",
    "memory_adapter": OWNER,
    "memory_agent": "agent",
    "memory_registrar": "registrar",
}
JUDGED: Final = frozenset({"memory_hub", "memory_adapter", "memory_agent"})
"""Nobody asks the registrar anything here; it is shown beside them."""

_KIB: Final = 1024


@dataclass(slots=True)
class Read:
    """What a process holds at one moment, in MiB (proc(5), status).

    Attributes:
        now: Resident.
        anonymous: Of it, what is not of files.
        most: Resident at its largest.
    """

    now: float
    anonymous: float
    most: float


def resident(pid: int) -> Read:
    """Memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = {
        name: int(rest.split()[0]) / _KIB for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return Read(found["VmRSS"], found["RssAnon"], found["VmHWM"])


class _Asking:
    """Asks about one person after another. Owned by the event loop.

    Attributes:
        batched: Answers that came in batches.
        single: Answers to single cases.
    """

    def __init__(self, stub: verification_pb2_grpc.VerificationServiceStub) -> None:
        self._stub = stub
        self._claims = claims(OWNER, ROWS)
        self._references = count(1)
        self._blocks = cycle(range(FOR_BATCHES // BATCH))
        self._singles = cycle(range(FOR_BATCHES, ROWS))
        self.batched = self.single = 0

    @property
    def answers(self) -> int:
        """How many came."""
        return self.batched + self.single

    def _context(self, place: int) -> Context:
        number = next(self._references)
        code = f"{place % 10:02}{place // 10 % 11:03}{place // 110 % 6:03}"
        return Context(
            MATTER,
            f"2026-{number % 1_000_000:06}",
            f"clerk-{number * 7 % OFFICIALS}",
            ROLE,
            JURISDICTION + code,
        )

    async def until(self, answers: int) -> None:
        """Ask until there are so many answers in all, as many of them singly as there should be.

        Raises:
            RuntimeError: A claim was not answered.
        """
        single = int(answers * SINGLES)

        async def roster() -> None:
            while self.batched < answers - single:
                await self._batch(next(self._blocks))

        async def counter() -> None:
            while self.single < single:
                await self._case(next(self._singles))

        async with asyncio.TaskGroup() as group:
            for work in (*(roster for _ in range(STREAMS)), *(counter for _ in range(CALLERS))):
                group.create_task(work())

    async def _case(self, number: int) -> None:
        request = verify_request(case(person(number), self._claims), self._context(number), receipt=False)
        response = await self._stub.Verify(request, timeout=SECONDS)
        self.single += _answered(response.result)

    async def _batch(self, block: int) -> None:
        context = self._context(block)
        people = range(block * BATCH, (block + 1) * BATCH)
        asked = [verify_request(case(person(one), self._claims), context, receipt=False) for one in people]

        async def requests() -> AsyncIterator[verification_pb2.VerifyBatchRequest]:
            yield verification_pb2.VerifyBatchRequest(context=asked[0].context)
            for start in range(0, len(asked), MESSAGE):
                cases = [one.case for one in asked[start : start + MESSAGE]]
                yield verification_pb2.VerifyBatchRequest(cases=cases)

        call = self._stub.VerifyBatch(requests(), timeout=SECONDS)
        try:
            async for response in call:
                self.batched += sum(map(_answered, response.results))
        finally:
            call.cancel()


def _answered(result: verification_pb2.CaseResult) -> int:
    """How many answers there are.

    Raises:
        RuntimeError: A claim has none.
    """
    for claim in result.claims:
        if claim.status != verification_pb2.CLAIM_STATUS_ANSWERED:
            raise RuntimeError(f"not answered: {claim.reason}")
    if not result.claims:
        raise RuntimeError(f"not asked: {result.reason}")
    return len(result.claims)


async def _follow(owners: RunningOwners, steps: Sequence[int]) -> dict[str, dict[int, Read]]:
    """What each process holds after each number of answers."""
    found: dict[str, dict[int, Read]] = {name: {} for name in MEASURED}
    async with open_channel(owners.agent, None) as channel:
        asking = _Asking(verification_pb2_grpc.VerificationServiceStub(channel))
        for step in steps:
            await asking.until(step)
            for name, process in MEASURED.items():
                found[name][step] = resident(owners.pids[process])
            held = ", ".join(
                f"{name.removeprefix('memory_')} {one.now:.1f} (anonymous {one.anonymous:.1f}, most {one.most:.1f})"
                for name, one in ((name, reads[step]) for name, reads in found.items())
            )
            print(f"{step:12,} answers, MiB: {held}", file=sys.stderr)
    return found


def _results(found: dict[str, dict[int, Read]], last: int) -> Iterator[Result]:
    size = "" if last == STEPS[-1] else f"_{last:.0e}".replace("e+0", "e")
    for name, reads in found.items():
        for suffix, before, most in (("", BASELINE, FLAT), ("_late", last // 2, LATE)):
            value, baseline = reads[last].most, reads[before].most
            ratio = value / baseline
            judged = name in JUDGED
            target = f"at most {most}" if judged else ""
            yield Result(
                f"{name}{suffix}{size}", value, "MiB", baseline, ratio, target, ratio <= most if judged else None
            )


async def _measure(steps: Sequence[int]) -> list[Result]:
    async with running([ROWS]) as owners:
        return list(_results(await _follow(owners, steps), steps[-1]))


async def measure() -> list[Result]:
    """A million answers."""
    return await _measure(STEPS)


async def measure_long() -> list[Result]:
    """Ten million, about a million people."""
    return await _measure(LONG_STEPS)
