"""Recording at the owner's adapter what is done with a list, before it is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import grpc

from audit.keeping import at_keeper, prove
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from zhiwang.adapter.v1 import roster_pb2, roster_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.identity import Kind
from zhiwang.wire.lists import Person, blocks_of

TIMEOUT = 600.0
"""Seconds in which a list is recorded; 5,000 people take about a tenth of one."""


async def record_step(
    files: IdentityFiles, target: str, step: audit_pb2.RosterStep, kind: str, people: Iterable[Person]
) -> int:
    """Record a step for everybody on a list. Returns the index of the newest of its entries.

    Raises:
        ZhiwangError: As the adapter refused, or what it says does not hold.
        ListError: The list cannot be read.
    """

    def parts() -> Iterator[roster_pb2.RecordRosterRequest]:
        yield roster_pb2.RecordRosterRequest(step=step)
        for identifiers in blocks_of(people):
            yield roster_pb2.RecordRosterRequest(people=roster_pb2.People(kind=kind, identifiers=identifiers))

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> int:
        await prove(channel, checker)
        response = await roster_pb2_grpc.RosterServiceStub(channel).RecordRoster(parts(), timeout=TIMEOUT)
        return int(response.index)

    return await at_keeper(files, target, Kind.ADAPTER, files.identity.department, act)


async def record_referral(
    files: IdentityFiles, target: str, referral: roster_pb2.Referral, kind: str, people: Iterable[Person]
) -> int:
    """The same for a referral.

    Raises:
        ZhiwangError: As the adapter refused, or what it says does not hold.
        ListError: The list cannot be read.
    """

    def parts() -> Iterator[roster_pb2.ReferRequest]:
        yield roster_pb2.ReferRequest(referral=referral)
        for identifiers in blocks_of(people):
            yield roster_pb2.ReferRequest(people=roster_pb2.People(kind=kind, identifiers=identifiers))

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> int:
        await prove(channel, checker)
        response = await roster_pb2_grpc.ReferralServiceStub(channel).Refer(parts(), timeout=TIMEOUT)
        return int(response.index)

    return await at_keeper(files, target, Kind.ADAPTER, files.identity.department, act)
