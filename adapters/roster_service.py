"""RosterService and ReferralService: what the owner does with lists of its own people, recorded before it is done.

An entry stands for 5,000 people at most, and their rows of the index are written in its transaction, so that answers
wait for milliseconds and not for a whole list. A list that was recorded in part only is not used: the command that
drew it has not released it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import date
from typing import Final, NamedTuple, TypeVar

import grpc

from adapters.mapping import Roster
from adapters.trace import Stand, Trace
from audit.entry import Event
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.identity import Identity, Kind
from certs.referrals import verify_key
from certs.signing import CertificateVerifier
from policy.authorise import reference_dates
from policy.model import Directory
from policy.referrals import allowed_referral, check_forms, check_listing
from zhiwang.adapter.v1 import roster_pb2, roster_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.call import Caller, Peer, current_peer
from zhiwang.wire.clock import day_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import is_token
from zhiwang.wire.identifiers import Scheme, contains_identifier
from zhiwang.wire.lists import BLOCK
from zhiwang.wire.server import RpcRules

MAX_REASON: Final = 200
"""Characters of why names are handed on."""

HASH_SIZE: Final = 32

RULES: Final[RpcRules] = {
    "/zhiwang.adapter.v1.RosterService/RecordRoster": frozenset[Caller]({Kind.SYSTEM, Kind.ADMIN}),
    "/zhiwang.adapter.v1.ReferralService/Refer": frozenset[Caller]({Kind.ADMIN}),
}
"""Who may call what, for `zhiwang.wire.server.build_server`."""


_Request = TypeVar("_Request", roster_pb2.RecordRosterRequest, roster_pb2.ReferRequest)


class Keeper(NamedTuple):
    """The owner whose lists they are.

    Attributes:
        department: Its name.
        rosters: Of its mapping.
        log: Its log; its store holds the index.
        trace: The index.
        schemes: Scheme of each kind of subject, by the directory in force.
        directory: The one in force; raises DIRECTORY_EXPIRED without one.
        verifier: Of certificates.
        clock: Seconds since the epoch.
        peer: Gives the caller of the RPC that is being served.
    """

    department: str
    rosters: Mapping[str, Roster]
    log: YearlyLog | LogStore
    trace: Trace
    schemes: Callable[[], Mapping[str, Scheme]]
    directory: Callable[[], Directory]
    verifier: CertificateVerifier
    clock: Callable[[], float]
    peer: Callable[[], Peer] = current_peer

    def caller(self) -> Identity:
        """Who calls.

        Raises:
            RefusedError: RPC_NOT_ALLOWED: somebody of another department.
        """
        caller = self.peer().identity
        if caller.department != self.department:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{caller.short} is not of {self.department}")
        return caller

    def roster(self, step: audit_pb2.RosterStep | audit_pb2.PeopleReferred) -> Roster:
        """The roster of a step, by the mapping with which the adapter runs.

        Raises:
            RefusedError: NAME_UNKNOWN, REFERENCE_INVALID or OFFICIAL_INVALID.
        """
        roster = self.rosters.get(step.roster)
        if roster is None:
            raise RefusedError(Reason.NAME_UNKNOWN, f"the adapter runs without a [roster.{step.roster}]")
        for name, reason in (("reference", Reason.REFERENCE_INVALID), ("official", Reason.OFFICIAL_INVALID)):
            if not is_token(getattr(step, name)):
                raise RefusedError(reason, field=name)
        return roster

    def canonical(self, people: roster_pb2.People, kind: str) -> list[str]:
        """Identifiers in canonical form.

        Raises:
            RefusedError: REQUEST_TOO_LARGE, SLOT_UNKNOWN or IDENTIFIER_INVALID.
        """
        scheme = self.schemes().get(people.kind)
        if scheme is None or people.kind != kind:
            raise RefusedError(Reason.SLOT_UNKNOWN, f"the roster is of kind {kind}", field="people.kind")
        if not 0 < len(people.identifiers) <= BLOCK:
            raise RefusedError(Reason.REQUEST_TOO_LARGE, f"1 to {BLOCK} people at a time", field="people.identifiers")
        today = day_of(self.clock())
        return [scheme.canonical(one, today=today) for one in people.identifiers]

    def append(self, event: Event, kind: str, identifiers: list[str]) -> int:
        """Commit an entry with the index rows of whom it is about. Blocks.

        Returns:
            Its index in the newest log.
        """
        log = YearlyLog.adopt(self.log)
        entry = log.new_entry(event)
        with log.transaction() as connection:
            appended = log.append(connection, [entry])
            position = appended.position
            self.trace.insert(connection, [self.trace.row(kind, one, position, Stand(1)) for one in identifiers])
        log.committed(appended)
        return appended.first


class RosterServicer(roster_pb2_grpc.RosterServiceServicer):
    """Records what a department does with lists of its own people."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def RecordRoster(  # noqa: N802 - named by the .proto file
        self,
        request_iterator: AsyncIterator[roster_pb2.RecordRosterRequest],
        context: grpc.aio.ServicerContext,
    ) -> roster_pb2.RecordRosterResponse:
        """Check the step, then record it for all whom it is about."""
        del context
        step = audit_pb2.RosterStep()

        def begin(first: roster_pb2.RecordRosterRequest) -> Roster:
            step.CopyFrom(first.step)
            return self._check(step)

        index = await _record(self._keeper, step, request_iterator, begin)
        return roster_pb2.RecordRosterResponse(index=index)

    def _check(self, step: audit_pb2.RosterStep) -> Roster:
        keeper = self._keeper
        step.by, step.people = keeper.caller().uri, 0
        roster = keeper.roster(step)
        if step.action not in {audit_pb2.ROSTER_ACTION_DRAWN, audit_pb2.ROSTER_ACTION_INVITED}:
            raise RefusedError(Reason.REQUEST_MALFORMED, field="step.action")
        if len(step.commitment) != HASH_SIZE:
            raise RefusedError(Reason.REQUEST_MALFORMED, field="step.commitment")
        directory = keeper.directory()
        step.directory_version = directory.version
        matter = directory.matters.get(step.matter)
        if matter is None or step.matter != roster.matter or keeper.department not in matter.requesters:
            raise RefusedError(Reason.MATTER_NOT_ALLOWED, f"[roster.{step.roster}] is for {roster.matter}")
        check_forms(matter, step.reference, step.official)
        check_listing(directory, keeper.department, keeper.caller(), step.official, keeper.clock())
        try:
            date.fromisoformat(step.as_of)
        except ValueError:
            raise RefusedError(Reason.REQUEST_MALFORMED, field="step.as_of") from None
        if step.action == audit_pb2.ROSTER_ACTION_DRAWN:
            now = keeper.clock()
            days = sorted(day.isoformat() for day in reference_dates(matter, now, now))
            if step.as_of not in days:
                raise RefusedError(Reason.DATE_NOT_PUBLISHED, f"{step.matter} is as of {' or '.join(days)}")
        return roster


class ReferralServicer(roster_pb2_grpc.ReferralServiceServicer):
    """Records that names are handed to another department, if the owner's own rule allows it."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def Refer(  # noqa: N802 - named by the .proto file
        self,
        request_iterator: AsyncIterator[roster_pb2.ReferRequest],
        context: grpc.aio.ServicerContext,
    ) -> roster_pb2.ReferResponse:
        """Check the referral, then record it for all whom it is about."""
        del context
        referred = audit_pb2.PeopleReferred()

        def begin(first: roster_pb2.ReferRequest) -> Roster:
            referred.CopyFrom(first.referral.referred)
            return self._check(referred, first.referral.key)

        index = await _record(self._keeper, referred, request_iterator, begin)
        return roster_pb2.ReferResponse(index=index)

    def _check(self, referred: audit_pb2.PeopleReferred, statement: roster_pb2.ReferralKeyStatement) -> Roster:
        keeper = self._keeper
        now = keeper.clock()
        referred.by, referred.people = keeper.caller().uri, 0
        roster = keeper.roster(referred)
        if len(referred.file_hash) != HASH_SIZE or not referred.count:
            raise RefusedError(Reason.REQUEST_MALFORMED, field="referral.referred")
        text = referred.reason
        if not 0 < len(text) <= MAX_REASON or not text.isprintable() or contains_identifier(text, grouped=True):
            raise RefusedError(Reason.NOTE_INVALID, field="referral.referred.reason")
        key = verify_key(statement, keeper.verifier, now)
        directory = keeper.directory()
        rule = allowed_referral(
            directory, keeper.department, referred.roster, referred.matter, referred.official, key.holder, now
        )
        check_forms(directory.matters[referred.matter], referred.reference, referred.official)
        referred.recipient, referred.key_id = key.holder.uri, key.key_id
        referred.role, referred.rule_id, referred.directory_version = rule.to, rule.id, directory.version
        return roster


async def _record(
    keeper: Keeper,
    event: audit_pb2.RosterStep | audit_pb2.PeopleReferred,
    requests: AsyncIterator[_Request],
    begin: Callable[[_Request], Roster],
) -> int:
    """Let the first request begin an event, and record it for all whom the others name.

    Returns:
        The index of the last entry.

    Raises:
        RefusedError: As `begin` refuses; REQUEST_MALFORMED: other people were named than the event counts.
    """
    roster: Roster | None = None
    index = done = 0
    async for request in requests:
        if roster is None:
            roster = begin(request)
            if not event.count:
                index = await asyncio.to_thread(keeper.append, event, roster.kind, [])
            continue
        identifiers = keeper.canonical(request.people, roster.kind)
        event.people = len(identifiers)
        done += len(identifiers)
        index = await asyncio.to_thread(keeper.append, event, roster.kind, identifiers)
    if roster is None or done != event.count:
        raise RefusedError(Reason.REQUEST_MALFORMED, f"{done} of {event.count} people were named")
    return index
