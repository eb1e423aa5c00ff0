"""Two hubs over one log in PostgreSQL, and everybody beside them, from New Year's Eve to the new year: real processes.

Started with `clock_ahead.c`, which gives this process and all that it starts one time of day; it is a file, and written
here. Prints what was found as JSON.

    python new_year_hubs.py DIRECTORY URL-OF-THE-LOG CLOCK-FILE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc

from audit.auditor import Auditor
from audit.origins import log_of
from audit.proofs import HeadChecker
from audit.query import Query
from breaking_support import INSURED, PARENT, case, context
from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.client.receipt_verify import verify_receipt
from exchange.demo.auditing import read_log
from exchange.demo.build import CENTRE, CITY
from hubs_support import SharedCity
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name

OWNERS = ("health", "hrss")
LEAP = 5 * 3600
"""Seconds by which the clock of all is set forward: over midnight, and within a timestamp's life."""
PATIENCE = 100.0
"""Seconds, by a clock that nobody sets."""


def set_forward(clock: Path) -> None:
    beside = clock.with_suffix(".new")
    beside.write_text(f"{int(clock.read_text()) + LEAP}")
    beside.replace(clock)


async def ask(city: SharedCity, number: int) -> api.Receipt:
    """The receipt of an answer, however often it has to be asked for."""
    application = city.applications[number]
    request = api.VerifyRequest(context=context(application), case=case(application, [PARENT, INSURED]), receipt=True)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            async with city.agent_stub() as stub:
                response = await stub.Verify(request, timeout=20)
            if all(one.status == api.CLAIM_STATUS_ANSWERED for one in response.result.claims):
                receipt: api.Receipt = response.result.receipt
                return receipt
        except grpc.aio.AioRpcError:
            pass
        assert time.monotonic() < deadline, city.tail("hub")
        await asyncio.sleep(0.5)


async def origins(city: SharedCity) -> list[str]:
    """Of the newest log, as each hub shows it."""
    found = [await read_log(city.hub_address_of(one), Kind.HUB, CENTRE, city.auditor) for one in city.hubs]
    return [one.checkpoint.origin for one in found]


async def searched(city: SharedCity) -> dict[str, int]:
    """How many accesses an auditor finds in the log of each year, proved."""
    checker = HeadChecker(CertificateVerifier(city.auditor.ca_pem, frozenset), kinds={Kind.HUB})
    credentials, name = city.auditor.channel_credentials(), server_name(CITY, Kind.HUB)
    found: dict[str, int] = {}
    for hub in city.hubs:
        channel = open_channel(city.hub_address_of(hub), credentials, server_name=name)
        auditor = Auditor(audit_pb2_grpc.AuditServiceStub(channel), checker)
        counted: dict[str, int] = {}
        async for _ in auditor.search(Query(event="hub_access"), limit=0, proofs=True):
            counted[auditor.origin] = counted.get(auditor.origin, 0) + 1
        await channel.close()
        assert found in ({}, counted), "the hubs show different logs"
        found = counted
    return found


async def over_new_year(city: SharedCity, clock: Path) -> dict[str, Any]:
    receipts = [await ask(city, number) for number in range(3)]
    before = await origins(city)
    set_forward(clock)
    receipts += [await ask(city, number) for number in range(3, 6)]
    deadline = time.monotonic() + PATIENCE
    while len(set(after := await origins(city))) != 1 or after == before:
        assert time.monotonic() < deadline, after
        await asyncio.sleep(0.5)
    receipts.append(await ask(city, 6))
    return {
        "log": log_of(before[0]),
        "before": before,
        "after": after,
        "found": await searched(city),
        "receipts": [verified(city, one) for one in receipts],
    }


def verified(city: SharedCity, receipt: api.Receipt) -> int:
    """How many owners' answers a receipt proves."""
    verifier = CertificateVerifier((city.layout.root / CA_CERTIFICATE).read_bytes(), frozenset)
    return len(verify_receipt(receipt, verifier))


def main(directory: Path, url: str, clock: Path) -> None:
    city = SharedCity.build(directory, OWNERS, hub={"log": {"url": url}})
    try:
        city.join()
        city.wait_ready()
        told = asyncio.run(over_new_year(city, clock))
        for place in city.places:
            assert city.fleet.poll(place) is None, city.tail(place)
    finally:
        city.stop()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
