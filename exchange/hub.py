"""The hub's work between its edges: take requests, route them, settle replies.

Owned by the event loop; only the log's append is awaited. Nothing is delivered to a caller before the COMMIT of the
hub's own entry about it, by `exchange/recording.py`. gRPC is in `exchange/service.py`, decisions in
`exchange/verify.py`, links in `exchange/link.py`, and who waits in `exchange/waiting.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import NamedTuple

import structlog

from audit.checkpoint import Checkpoint
from audit.log import AuditLog
from certs.identity import Identity
from exchange.behind import Behind
from exchange.deadlines import Deadlines
from exchange.link import Link, Links, Ticket, margin
from exchange.recording import Meter, Noted, Record, Recorder
from exchange.refusals import Refusals
from exchange.verify import (
    Access,
    Examiner,
    Untrusted,
    access_event,
    check_reply,
    known_reason,
    outcome_of,
    result,
)
from exchange.waiting import Caller, Delivery, Incoming, Requester, Waiting
from policy.directory import DirectoryHolder
from policy.model import Directory
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError

log = structlog.get_logger(__name__)

SLICE = 16
"""Requests or replies that are worked on before the event loop gets its turn: a few milliseconds."""

HOUSEKEEPING = 1.0
"""Seconds between two looks at counted refusals and overdue replies."""


class _Head(NamedTuple):
    """The verified head of an owner's log: as it is shown on, and what it says."""

    shown: audit_pb2.LogHead
    checkpoint: Checkpoint


class _Heads(NamedTuple):
    """The heads of a frame of replies; None where there is none that verifies.

    Attributes:
        newest: Of the owner's log.
        former: Of the log before.
    """

    newest: _Head | None
    former: _Head | None


def alarm(what: str, link: Link, error: ZhiwangError) -> None:
    """Tell the operator what an owner did."""
    log.error(what, adapter=link.identity.short, replica=link.replica, detail=error.detail)


def _denial(access: Access, caller: Caller, correlation_id: int) -> Record:
    """What becomes of a request that goes to no owner."""
    reason = access.reason or Reason.INTERNAL
    outcome = outcome_of(reason, audit_pb2.OUTCOME_DENIED)
    answer = result(outcome, reason, access.denied)
    return Record(access_event(access, outcome, reason), caller, correlation_id, answer)


class Hub:
    """Everything between the edges.

    Args:
        examiner: Decides about what arrives.
        directory: The directory in force.
        audit_log: The hub's log.
        links: Attached adapters.
        clock: Seconds since the epoch.
        meter: Is told what happens, for the metrics.
        withheld: Whether nothing may be released, since witnesses have not cosigned the log for too long.
    """

    def __init__(
        self,
        *,
        examiner: Examiner,
        directory: DirectoryHolder,
        audit_log: AuditLog,
        links: Links,
        clock: Callable[[], float],
        meter: Meter | None = None,
        withheld: Callable[[], bool] = lambda: False,
    ) -> None:
        self._examiner = examiner
        self._directory = directory
        self.audit_log = audit_log
        self.links = links
        self._clock = clock
        self._meter = meter or Meter()
        self._withheld = withheld
        self._refusals = Refusals()
        self._behind = Behind()
        directory.on_change(self._release)
        self._requesters: dict[str, Requester] = {}
        self._deadlines: Deadlines[Waiting] = Deadlines(self._expired, clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self._recorder = Recorder(audit_log, self._meter, withheld, self._spawn, lambda: self.draining)
        self._idle = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests that are with an owner, or wait to be sent to one."""
        return sum(requester.count for requester in self._requesters.values())

    def requester(self, peer: Identity) -> Requester:
        """What a requester has here."""
        found = self._requesters.get(peer.uri)
        if found is None:
            found = self._requesters[peer.uri] = Requester()
        return found

    # Requests.

    async def take(self, caller: Caller, incoming: Sequence[Incoming], waiting: dict[int, Waiting]) -> None:
        """Decide about a frame of requests, and send on what may go.

        Args:
            caller: Who waits for the results.
            incoming: The frame.
            waiting: The caller's requests that are with owners, by correlation id; kept up to date while it lives.
        """
        for start in range(0, len(incoming), SLICE):
            if start:
                await asyncio.sleep(0)
            now = self._clock()
            decided: list[Record] = []
            for item in incoming[start : start + SLICE]:
                self._take(caller, item, now, waiting, decided)
            if decided:
                self._spawn(self._recorder.record(decided))

    def _take(
        self, caller: Caller, item: Incoming, now: float, waiting: dict[int, Waiting], decided: list[Record]
    ) -> None:
        peer = caller.peer
        requester = self.requester(peer)
        try:
            if self.draining:
                raise RefusedError(Reason.SHUTTING_DOWN)
            if requester.full:
                raise RefusedError(Reason.OVERLOADED, "the requester has too much in flight or unread")
            if self._withheld():
                # What could not be released does not go to an owner, who would charge it.
                raise RefusedError(Reason.NOT_WITNESSED)
            # Fails closed once the directory has expired, before anything is decided by what it says of certificates.
            _ = self._directory.current
        except ZhiwangError as error:
            self._refuse(caller, item, Untrusted(error.reason, b""), decided)
            return
        examined = self._examiner.examine(item.request, peer, now)
        if isinstance(examined, Untrusted):
            self._refuse(caller, item, examined, decided)
            return
        if requester.full_of_bulk and examined.header.bulk:
            self._refuse(caller, item, Untrusted(Reason.OVERLOADED, examined.header.hash), decided)
            return
        link = self._routed(examined, now)
        behind = link is None and self._is_behind(examined)
        if link is None and not behind:
            decided.append(_denial(examined, caller, item.correlation_id))
            return
        header = examined.header
        life = header.expire_time - now
        seconds = min(item.timeout, life) if item.timeout > 0 else life
        ticket = Waiting(examined, now, now + seconds - margin(seconds), caller, item.correlation_id, requester)
        if behind and not self._behind.take(ticket, caller.peer.department):
            decided.append(_denial(examined, caller, item.correlation_id))
            return
        requester.add(ticket)
        ticket.alarm = self._deadlines.set(ticket.deadline, ticket)
        waiting[item.correlation_id] = ticket
        if link is not None:
            link.submit(ticket)

    def _routed(self, access: Access, now: float) -> Link | None:
        """The link that takes a request; None if none does, and then its reason says why."""
        if access.reason is None:
            try:
                header = access.header
                return self.links.route(header.owner, header.owner_key_id, now, bulk=header.bulk)
            except RefusedError as error:
                access.reason = error.reason
        return None

    def _is_behind(self, access: Access) -> bool:
        """Whether nothing was decided but that the request names a directory which is still to come."""
        return (
            access.reason is Reason.DIRECTORY_BEHIND
            and access.header.min_policy_version > self._directory.current.version
        )

    def _release(self, directory: Directory) -> None:
        """Decide anew about what has waited for this directory."""
        now = self._clock()
        records = []
        for ticket in self._behind.reached(directory.version):
            caller = ticket.caller
            if caller is None:
                continue
            examined = self._examiner.examine(ticket.access.request, caller.peer, now)
            if isinstance(examined, Untrusted):
                # Its system signed it, as was seen when it came; it is no longer to be trusted.
                ticket.access.reason = examined.reason
            else:
                ticket.access = examined
                link = self._routed(examined, now)
                if link is not None:
                    link.submit(ticket)
                    continue
            self._finish(ticket)
            records.append(_denial(ticket.access, caller, ticket.correlation_id))
        if records:
            self._spawn(self._recorder.record(records))

    def _refuse(self, caller: Caller, item: Incoming, untrusted: Untrusted, decided: list[Record]) -> None:
        reason = untrusted.reason
        outcome = outcome_of(reason, audit_pb2.OUTCOME_REFUSED)
        answer = result(outcome, reason, clock_offset_ms=untrusted.clock_offset_ms)
        event = self._refusals.note(caller.peer.uri, reason, untrusted.header_hash)
        if event is None:
            self._meter.count(audit_pb2.Outcome.Name(outcome), reason.name, 1)
            caller.deliver(Delivery(item.correlation_id, answer))
        else:
            decided.append(Record(event, caller, item.correlation_id, answer))

    # Replies.

    def replied(self, link: Link, frame: adapter_pb2.ReplyFrame, tickets: Sequence[Ticket | None]) -> None:
        """A frame of replies came; `tickets` stand beside its items, None where the number is unknown."""
        # The log before first: once this frame has shown that it ended, only its end counts.
        former = self._verified(link, frame.former_log, tickets) if frame.HasField("former_log") else None
        newest = self._verified(link, frame.log, tickets) if frame.HasField("log") else None
        link.log.relate(link, self._clock())
        self._spawn(self._settle(link, frame, tickets, _Heads(newest, former)))

    def _verified(self, link: Link, head: audit_pb2.LogHead, tickets: Sequence[Ticket | None]) -> _Head | None:
        """A head that came with replies, and what it says; None if it does not verify."""
        known = ((ticket.known_origin, ticket.known) for ticket in tickets if ticket is not None)
        try:
            checkpoint = link.log.verify(head, known)
        except ZhiwangError as error:
            alarm(
                "the owner's log has forked" if link.log.view.fork else "the owner's log head does not verify",
                link,
                error,
            )
            return None
        # Its consistency with what the hub has seen is the hub's business; the requester checks note and entry.
        return _Head(audit_pb2.LogHead(checkpoint=head.checkpoint, certificate=head.certificate), checkpoint)

    async def _settle(
        self,
        link: Link,
        frame: adapter_pb2.ReplyFrame,
        tickets: Sequence[Ticket | None],
        heads: _Heads,
    ) -> None:
        records: list[Record] = []
        now = self._clock()
        for number, (item, ticket) in enumerate(zip(frame.items, tickets, strict=True)):
            if number and not number % SLICE:
                await asyncio.sleep(0)
            if not isinstance(ticket, Waiting):
                log.warning("a reply to an unknown request", adapter=link.identity.short, replica=link.replica)
                continue
            self._meter.replied(link.owner, now - ticket.arrived)
            access, caller = ticket.access, self._finish(ticket)
            if item.reason:
                reason = known_reason(item.reason)
                outcome = outcome_of(reason, audit_pb2.OUTCOME_REFUSED)
                answer = result(outcome, reason, access.denied, item.clock_offset_ms)
                records.append(Record(access_event(access, outcome, reason), caller, ticket.correlation_id, answer))
                continue
            head = heads.former if item.former else heads.newest
            try:
                owner = check_reply(access, item, None if head is None else head.checkpoint)
            except RefusedError as error:
                alarm("an owner's reply does not verify", link, error)
                head = None
            if head is None:
                records.append(self._failure(ticket, caller, Reason.PROOF_INVALID))
                continue
            answer = result(audit_pb2.OUTCOME_ANSWERED, None, access.denied)
            answer.reply.CopyFrom(item.reply)
            answer.owner_entry.CopyFrom(item.entry)
            event = access_event(access, audit_pb2.OUTCOME_ANSWERED, None, owner, head.shown.checkpoint)
            records.append(Record(event, caller, ticket.correlation_id, answer, head.shown))
        if records:
            await self._recorder.record(records)

    def related(self, link: Link, answer: adapter_pb2.Related) -> None:
        """The adapter says how two heads of its log are related. There may be more."""
        try:
            link.log.related(answer)
        except ZhiwangError as error:
            alarm(
                "the owner's log has forked" if link.log.view.fork else "no proof of how two heads are related",
                link,
                error,
            )
        link.log.relate(link, self._clock())

    def failed(self, tickets: Iterable[Ticket], reason: Reason) -> None:
        """These will not be answered: their link is lost, or nothing came back."""
        records = [
            self._failure(ticket, self._finish(ticket), reason) for ticket in tickets if isinstance(ticket, Waiting)
        ]
        if records:
            self._spawn(self._recorder.record(records))

    def reroute(self, tickets: Iterable[Ticket]) -> None:
        """Their link takes nothing more; give them to another, or fail them."""
        for ticket in tickets:
            header = ticket.access.header
            try:
                self.links.route(header.owner, header.owner_key_id, self._clock(), bulk=ticket.bulk).submit(ticket)
            except RefusedError as error:
                self.failed([ticket], Reason.OWNER_NOT_ATTACHED if error.reason is Reason.KEY_UNKNOWN else error.reason)

    def leave(self, waiting: Iterable[Waiting]) -> None:
        """Their caller has gone. What an owner already has is recorded when it replies; the rest never leaves."""
        sent: dict[Link, list[Ticket]] = {}
        unsent: list[Record] = []
        for ticket in list(waiting):
            if ticket.settled:
                # What became of it is being recorded.
                continue
            ticket.caller = None
            if ticket.alarm is not None:
                ticket.alarm.cancel()
            if ticket.number and ticket.link is not None:
                sent.setdefault(ticket.link, []).append(ticket)
            else:
                ticket.wanted = False
                unsent.append(self._failure(ticket, self._finish(ticket), Reason.DEADLINE_EXCEEDED))
        for link, tickets in sent.items():
            link.cancel(tickets)
        if unsent:
            self._spawn(self._recorder.record(unsent))

    def _expired(self, ticket: Waiting) -> None:
        caller, ticket.caller = ticket.caller, None
        if ticket.number:
            # A late reply is still recorded, so the ticket stays with its link and counts until then.
            if ticket.link is not None:
                ticket.link.cancel([ticket])
        else:
            ticket.wanted = False
            self._finish(ticket)
        # What is with no owner since the directory that it names has not come says so.
        reason = ticket.access.reason or Reason.OWNER_TIMED_OUT
        self._spawn(self._recorder.record([self._failure(ticket, caller, reason)]))

    def _failure(self, ticket: Waiting, caller: Caller | None, reason: Reason) -> Record:
        outcome = audit_pb2.OUTCOME_UNAVAILABLE
        access = ticket.access
        return Record(
            access_event(access, outcome, reason), caller, ticket.correlation_id, result(outcome, reason, access.denied)
        )

    def _finish(self, ticket: Waiting) -> Caller | None:
        """The ticket is settled: it counts no more. Returns who still waits for it."""
        if ticket.settled:
            return None
        ticket.settled = True
        ticket.requester.add(ticket, -1)
        if ticket.alarm is not None:
            ticket.alarm.cancel()
        self._check_idle()
        caller, ticket.caller = ticket.caller, None
        return caller

    # What goes on beside.

    def note_event(self, event: Noted) -> None:
        """Record something that has happened to the hub itself, in its turn."""
        self._recorder.note(event)

    def note_directory(self, directory: Directory) -> None:
        """The hub decides by another snapshot from now on."""
        self._recorder.note(
            audit_pb2.DirectoryChange(directory_version=directory.version, timestamp_hash=directory.timestamp_hash)
        )

    def _check_idle(self) -> None:
        if self.draining and not self._tasks and not self.in_flight:
            self._idle.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_idle()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the hub failed", exc_info=error)

    async def housekeep(self) -> None:
        """Record counted refusals, give up overdue replies, ask anew what was not answered about a log; for ever."""
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            events = self._refusals.flush()
            if events:
                self._spawn(self._recorder.record([Record(event) for event in events]))
            for link in list(self.links):
                link.log.relate(link, self._clock())
                if (number := link.log.given_up()) > 0:
                    log.error("heads of an owner's log will not be related", adapter=link.identity.short, count=number)
                overdue = link.forget(self._clock())
                if overdue:
                    log.error("replies overdue", adapter=link.identity.short, replica=link.replica, count=len(overdue))
                    self.failed(overdue, Reason.OWNER_TIMED_OUT)
                if link.stalled(self._clock()):
                    log.error("the adapter does not read", adapter=link.identity.short, replica=link.replica)
                    link.abort(RefusedError(Reason.OVERLOADED, "the adapter does not read"))
            for name in [name for name, requester in self._requesters.items() if requester.gone]:
                del self._requesters[name]

    async def finish(self, seconds: float) -> None:
        """Take nothing more, and wait until everything is settled and recorded, `seconds` at most."""
        self.draining = True
        self._check_idle()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping before everything was settled", in_flight=self.in_flight)
        self._deadlines.close()
        events = self._refusals.flush()
        if events:
            await self._recorder.record([Record(event) for event in events])
