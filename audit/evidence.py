"""EvidenceService over one log: holds are placed and lifted, and what is handed out of the log is recorded in it.

Whoever may read entries may hold and produce them, and no others: a hold keeps the scope of the one who placed it, so
it reaches nothing that this one could not see. A hold is lifted by the department that placed it, or by an audit
office; so the keeper of a log cannot lift what an audit office or another department holds. Every answer comes with its
entry and its proof.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc

from audit.appended import Appended, NewEntry
from audit.asking import query_of
from audit.entry import HASH_SIZE, Event
from audit.holds import MAX_HOLDS, MAX_HOLDS_EACH, Hold, HoldBook, check_order, check_until
from audit.query import NOTHING, Scope
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.identity import Identity
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.call import Caller, Peer, current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.identity import Kind
from zhiwang.wire.server import RpcRules

_READERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.ADMIN})

RULES: Final[RpcRules] = {
    "/zhiwang.audit.v1.EvidenceService/PlaceHold": _READERS,
    "/zhiwang.audit.v1.EvidenceService/LiftHold": _READERS,
    "/zhiwang.audit.v1.EvidenceService/ListHolds": _READERS,
    "/zhiwang.audit.v1.EvidenceService/RecordProduction": _READERS,
}
"""Who may call what, for `zhiwang.wire.server.build_server`."""

MAX_QUERY: Final = 4000
"""Characters of what was selected, in words."""


class EvidenceServicer(audit_pb2_grpc.EvidenceServiceServicer):
    """Serves one log.

    Args:
        store: An open log.
        append: Records; `AuditLog.append`, or what does the same where an adapter writes.
        scope: What somebody may read of the log, as the directory in force says.
        office: Whether somebody is an audit office's auditor, as the directory in force says.
        clock: Seconds since the epoch.
        peer: Gives the caller of the RPC that is being served.
    """

    def __init__(
        self,
        store: YearlyLog | LogStore,
        append: Callable[[Sequence[NewEntry]], Awaitable[Appended]],
        *,
        scope: Callable[[Identity], Scope],
        office: Callable[[Identity], bool],
        clock: Callable[[], float] = time.time,
        peer: Callable[[], Peer] = current_peer,
    ) -> None:
        self._store = store
        self._append = append
        self._scope = scope
        self._office = office
        self._clock = clock
        self._peer = peer
        self.book = HoldBook(store)
        # From looking at what is in force to recording what changes it.
        self._changing = asyncio.Lock()

    async def PlaceHold(  # noqa: N802 - named by the .proto file
        self, request: audit_pb2.PlaceHoldRequest, context: grpc.aio.ServicerContext
    ) -> audit_pb2.PlaceHoldResponse:
        """Hold, or hold on."""
        del context
        who, scope = self._reader()
        now = self._clock()
        check_order(request.order)
        until = request.until_time.ToMicroseconds() / 1_000_000
        check_until(until, now)
        asked = query_of(request.conditions)
        async with self._changing:
            held = await asyncio.to_thread(self.book.holds_in_force, now)
            before = _of(held, who.department, request.order)
            mine = sum(hold.department == who.department for hold in held)
            if before is None and (len(held) >= MAX_HOLDS or (mine >= MAX_HOLDS_EACH and not self._office(who))):
                raise RefusedError(Reason.OVERLOADED, "too many holds are in force")
            hold = Hold(request.order, who.uri, now if before is None else before.placed, until, asked, scope)
            if before is not None:
                _check_renewal(before, hold)
            entry, head = await self._record(hold.event())
        return audit_pb2.PlaceHoldResponse(entry=entry, head=head)

    async def LiftHold(  # noqa: N802 - named by the .proto file
        self, request: audit_pb2.LiftHoldRequest, context: grpc.aio.ServicerContext
    ) -> audit_pb2.LiftHoldResponse:
        """End a hold."""
        del context
        who, _ = self._reader()
        department = request.department or who.department
        async with self._changing:
            held = await asyncio.to_thread(self.book.holds_in_force, self._clock())
            hold = _of(held, department, request.order)
            if hold is None or not (hold.department == who.department or self._office(who)):
                # A hold of others is as if it were not there.
                raise RefusedError(Reason.HOLD_UNKNOWN, f"{who.short} may lift no such hold", field="order")
            lifted = audit_pb2.HoldLifted(order=hold.order, department=hold.department, lifted_by=who.uri)
            entry, head = await self._record(lifted)
        return audit_pb2.LiftHoldResponse(entry=entry, head=head)

    async def ListHolds(  # noqa: N802 - named by the .proto file
        self, request: audit_pb2.ListHoldsRequest, context: grpc.aio.ServicerContext
    ) -> audit_pb2.ListHoldsResponse:
        """What is held: everything for who may read everything, one's own department's for others."""
        del request, context
        who, scope = self._reader()
        held = await asyncio.to_thread(self.book.holds_in_force, self._clock())
        seen = [hold.event() for hold in held if scope.everything or hold.department == who.department]
        return audit_pb2.ListHoldsResponse(holds=seen)

    async def RecordProduction(  # noqa: N802 - named by the .proto file
        self, request: audit_pb2.RecordProductionRequest, context: grpc.aio.ServicerContext
    ) -> audit_pb2.RecordProductionResponse:
        """Note that entries are handed out; the bundle is whole only with this entry."""
        del context
        who, _ = self._reader()
        asked = request.production
        check_order(asked.order)
        if (
            len(asked.query) > MAX_QUERY
            or not asked.query.isprintable()
            or any(contains_identifier(word, grouped=True) for word in asked.query.split())
        ):
            raise RefusedError(Reason.CONDITION_INVALID, "what was selected", field="query")
        await asyncio.to_thread(self._store.refresh)
        newest = self._store.shard(asked.origin).newest
        hashed = len(asked.manifest_hash) == HASH_SIZE and len(asked.previous_manifest_hash) in {0, HASH_SIZE}
        if not hashed or not 0 < asked.tree_size <= newest.size:
            raise RefusedError(Reason.REQUEST_MALFORMED, "a production names its manifest and its tree")
        produced = audit_pb2.EvidenceProduced()
        produced.CopyFrom(asked)
        produced.produced_by = who.uri
        produced.origin = asked.origin or self._store.origin
        produced.DiscardUnknownFields()
        entry, head = await self._record(produced)
        return audit_pb2.RecordProductionResponse(entry=entry, head=head)

    def _reader(self) -> tuple[Identity, Scope]:
        identity = self._peer().identity
        scope = self._scope(identity)
        if scope == NOTHING or scope.owner:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{identity.short} may hold and hand out nothing of this log")
        return identity, scope

    async def _record(self, event: Event) -> tuple[audit_pb2.LoggedEntry, audit_pb2.LogHead]:
        appended = await self._append([self._store.new_entry(event)])
        (logged,) = appended.logged()
        return logged, appended.head.message()


def _of(held: Sequence[Hold], department: str, order: str) -> Hold | None:
    return next((hold for hold in held if (hold.department, hold.order) == (department, order)), None)


def _check_renewal(before: Hold, hold: Hold) -> None:
    if (before.query, before.scope) != (hold.query, hold.scope) or hold.until <= before.until:
        raise RefusedError(Reason.HOLD_DIFFERS, "a renewal has the same conditions and a later date", field="order")
