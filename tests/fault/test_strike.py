"""System calls of whole processes are made to fail while people ask: what is answered stands in both logs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import grpc
import pytest

from breaking_support import INSURED, Forge, RealCity, exchange
from campaign.tracer import Strike, Tracer, reason_missing
from zhiwang.audit.v1 import audit_pb2

OWNER = "hrss"
SECONDS = 8.0
ASKS = 12

pytestmark = [
    pytest.mark.skipif(bool(reason_missing()), reason=f"no system call can be made to fail: {reason_missing()}"),
    pytest.mark.skipif(sys.platform != "linux", reason="the processes of the test are controlled as Linux does it"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("strike"), (OWNER,))
    yield city
    city.stop()


async def asked(city: RealCity, forge: Forge, count: int) -> tuple[list[bytes], set[str]]:
    """Hashes of the headers that were answered, and the reasons of the others."""
    answered, reasons = [], set()
    person = city.applications[0].guardians[0].person
    async with city.hub_channel() as channel:
        for _ in range(count):
            sealed = forge.request(OWNER, [INSURED], [{"guardian": (person.identifier, person.name)}], expires=59)
            try:
                result = (await exchange(channel, sealed.request, seconds=SECONDS)).result
            except grpc.aio.AioRpcError as error:
                reasons.add(error.code().name)
                await asyncio.sleep(0.1)
                continue
            if result.outcome == audit_pb2.OUTCOME_ANSWERED:
                answered.append(sha256(sealed.request.header).digest())
            else:
                reasons.add(result.reason)
    return answered, reasons


def recorded(city: RealCity, place: str) -> set[bytes]:
    """Hashes of the headers whose answer stands in a log."""
    found = set()
    for entry in city.entries(place):
        access = entry.hub_access if place == "hub" else entry.owner_access
        if access.header and (place != "hub" or entry.hub_access.outcome == audit_pb2.OUTCOME_ANSWERED):
            found.add(sha256(access.header).digest())
    return found


@pytest.mark.parametrize("place", ["hub", OWNER])
@pytest.mark.parametrize(
    "strike",
    [
        # From then on: the second may be the sync of a directory, which no answer hangs on.
        Strike("fdatasync", 2, "EIO", lasting=True),
        Strike("pwrite64", 3, "ENOSPC", lasting=True),
        Strike("fdatasync", 2),
    ],
    ids=str,
)
async def test_a_process_that_is_struck_answers_nothing_that_is_not_in_both_logs(
    city: RealCity, tmp_path: Path, place: str, strike: Strike
) -> None:
    forge = Forge(city, keys=await city.owner_keys())
    tracer = await asyncio.to_thread(Tracer, city.fleet.pids[place], tmp_path / "trace", strike)
    try:
        answered, reasons = await asked(city, forge, ASKS)
    finally:
        await asyncio.to_thread(tracer.let_go)
    if not strike.error:
        city.fleet.kill(place)
        city.start(place)
    struck = (tmp_path / "trace").read_text("ascii", "replace")
    assert "(INJECTED)" in struck if strike.error else "killed by SIGKILL" in struck
    assert reasons
    # Without anybody's help, once the disk is right again.
    await city.ready()
    async with asyncio.timeout(60):
        more: list[bytes] = []
        while not more:
            more, _ = await asked(city, Forge(city, keys=await city.owner_keys()), 1)
    for log in ("hub", OWNER):
        assert {*answered, *more} <= recorded(city, log), "answered, and not in the log"
        await city.verified(log)
