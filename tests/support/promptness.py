"""How soon what was published is in force at processes that run: noted, printed, and bounded generously."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from breaking_support import RealCity, case, context
from zhiwang.verification.v1 import verification_pb2 as api

PROMISED = 2.0
"""Seconds from publication."""

ALLOWED = 20.0
"""Seconds that a machine under load may take here: what must not happen at all is that it takes a poll or a restart."""


async def observe(observed: Callable[[], object], wanted: object, into: dict[str, float], what: str) -> None:
    """Note when something is first seen."""
    while True:
        found = observed()
        if asyncio.iscoroutine(found):
            found = await found
        if found == wanted:
            into[what] = time.time()
            return
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(*work: object) -> AsyncIterator[None]:
    """Run observers beside what is done, to their ends."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)  # type: ignore[arg-type]  # coroutines
        yield


def tell(title: str, published: float, seen: dict[str, float]) -> None:
    for what, moment in seen.items():
        print(f"\n{title}: {what} after {moment - published:.2f} s (promised {PROMISED} s)", end="")  # noqa: T201 - the measurement
        assert moment - published < ALLOWED, what
    print()  # noqa: T201 - the same


async def answered(city: RealCity, claims: Sequence[str]) -> set[str]:
    application = city.applications[1]
    request = api.VerifyRequest(context=context(application), case=case(application, claims))
    async with city.agent_stub() as stub:
        response = await stub.Verify(request, timeout=15)
    return {claim.reason or api.ClaimStatus.Name(claim.status) for claim in response.result.claims}


ANSWERED = {"CLAIM_STATUS_ANSWERED"}


async def eventually(city: RealCity, claims: Sequence[str], wanted: set[str]) -> None:
    found: set[str] = set()
    try:
        async with asyncio.timeout(40):
            while found != wanted:
                found = await answered(city, claims)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{found} where {wanted} was expected")
