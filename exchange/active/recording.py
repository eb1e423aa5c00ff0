"""Recording at the owner's adapter what is done with a list, before it is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

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
        for block in _blocks(kind, people):
            yield roster_pb2.RecordRosterRequest(people=block)

    return await _recorded(
        files, target, lambda channel: roster_pb2_grpc.RosterServiceStub(channel).RecordRoster(parts(), timeout=TIMEOUT)
    )


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
        for block in _blocks(kind, people):
            yield roster_pb2.ReferRequest(people=block)

    return await _recorded(
        files, target, lambda channel: roster_pb2_grpc.ReferralServiceStub(channel).Refer(parts(), timeout=TIMEOUT)
    )


def _blocks(kind: str, people: Iterable[Person]) -> Iterator[roster_pb2.People]:
    return (roster_pb2.People(kind=kind, identifiers=identifiers) for identifiers in blocks_of(people))


async def _recorded(
    files: IdentityFiles,
    target: str,
    call: Callable[[grpc.aio.Channel], Awaitable[roster_pb2.RecordRosterResponse | roster_pb2.ReferResponse]],
) -> int:
    """Ask the adapter, once it has proved whose log it keeps."""

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> int:
        await prove(channel, checker)
        return int((await call(channel)).index)

    return await at_keeper(files, target, Kind.ADAPTER, files.identity.department, act)
