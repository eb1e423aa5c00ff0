"""Attached adapters: who is there, which of them gets a request, and what happens on each link.

An adapter dials the hub and keeps one stream open; each of its replicas does. A `Link` is one such stream, owned by the
event loop; `Links` knows them all and chooses, among the replicas that hold the sealing key of a request, the one with
the fewest requests outstanding. What requests mean, what replies prove and what is recorded is `exchange/hub.py`'s.

Every ticket handed to a link comes back exactly once: in a reply frame (`LinkEvents.replied`), or from `withdraw`,
`lose` or `forget`. Then it is the hub's again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from audit.years import YearsView
from certs.identity import Identity
from certs.owner_keys import VerifiedOwnerKey
from exchange.owner_log import OwnerLog
from exchange.verify import Access
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.gather import Gathering, Limits
from zhiwang.wire.outbox import Outbox

MAX_KEYS = 16
"""Sealing keys that one replica may announce."""

MAX_LINKS_PER_OWNER = 64
"""Replicas of all adapters of one department."""

MAX_CREDIT = 4096
"""Requests that an adapter is given at a time, whatever credit it states."""

MAX_QUEUED = 4096
"""Requests that wait for one link's credit; beyond, OVERLOADED. Bulk may take half of the places."""

MAX_REPLICA_NAME = 64
"""Characters of a replica's name."""

RETURN_MARGIN = 0.05
"""Seconds, at most, of a deadline that each hop keeps back so that its own answer still arrives."""

FORGET_AFTER = 30.0
"""Seconds after its deadline for which a late reply to a request is still waited for, so that it can be recorded."""


STALL_SECONDS = 30.0
"""How long one message may wait for an adapter to take it; then its link is ended. gRPC answers probes even for an
adapter that reads nothing, and what is forgotten would leave its place in the credit to more that is not read."""


def margin(seconds: float) -> float:
    """What a hop keeps back of the `seconds` that it was given."""
    return min(RETURN_MARGIN, seconds / 10)


class Ticket:
    """One request on its way to an owner and back. Owned by the event loop.

    Attributes:
        access: The request and the decision about it.
        deadline: When its caller must have a result, seconds since the epoch, return margin already taken off.
        bulk: Whether nobody waits at a counter.
        size: Bytes of the request.
        known: Size of the owner's log that had been seen when it was sent; a reply must be proved from there.
        known_origin: Of which of the owner's logs.
        link: Where it waits or was sent; None before.
        number: Correlation id on that link; 0 until it was sent.
        wanted: Whether it shall still be sent. What was sent is recorded whether wanted or not.
    """

    __slots__ = ("access", "bulk", "deadline", "known", "known_origin", "link", "number", "size", "wanted")

    def __init__(self, access: Access, deadline: float, *, bulk: bool, size: int) -> None:
        self.access = access
        self.deadline = deadline
        self.bulk = bulk
        self.size = size
        self.known = 0
        self.known_origin = ""
        self.link: Link | None = None
        self.number = 0
        self.wanted = True


class LinkEvents(Protocol):
    """What the hub does about what happens on links. Called from the event loop; must not raise."""

    def replied(self, link: Link, frame: adapter_pb2.ReplyFrame, tickets: Sequence[Ticket | None]) -> None:
        """A frame of replies came; `tickets` stand beside its items, None where the number is unknown."""

    def related(self, link: Link, answer: adapter_pb2.Related) -> None:
        """The adapter says how two heads of its log are related."""


class Link:
    """One attached replica.

    Args:
        identity: Of the adapter, as TLS proved it.
        replica: Its own name for the process.
        credit: Requests that it takes at a time.
        owner_log: What the hub has seen of this adapter's log, shared by its replicas.
        events: The hub.
        clock: Seconds since the epoch.

    Attributes:
        abort: Ends the stream without waiting for what was said.
    """

    def __init__(
        self,
        identity: Identity,
        replica: str,
        credit: int,
        owner_log: OwnerLog,
        events: LinkEvents,
        clock: Callable[[], float],
        limits: Limits | None = None,
    ) -> None:
        self.identity = identity
        self.owner = identity.department
        self.replica = replica
        self.log = owner_log
        self.keys: dict[bytes, VerifiedOwnerKey] = {}
        self.statements: dict[bytes, sealed_pb2.OwnerKeyStatement] = {}
        self.draining = False
        self.abort: Callable[[ZhiwangError], None] = lambda _error: None
        self._saying: float | None = None  # since when a message waits to be taken
        self._events = events
        self._clock = clock
        self._sent: dict[int, Ticket] = {}
        self._last_number = 0
        self._outbox: Outbox[adapter_pb2.AttachResponse] = Outbox()
        self._gathering: Gathering[Ticket] = Gathering(
            self.send, limits, credit=min(credit, MAX_CREDIT), alive=lambda ticket: ticket.wanted
        )

    @property
    def load(self) -> int:
        """Requests that wait here or are unanswered."""
        return self._gathering.queued + self._gathering.unanswered

    def is_full(self, *, bulk: bool) -> bool:
        """Whether nothing more, or no more of bulk, may wait here."""
        return self._gathering.queued >= (MAX_QUEUED // 2 if bulk else MAX_QUEUED)

    def submit(self, ticket: Ticket) -> None:
        """Take a request in."""
        ticket.link = self
        self._gathering.add(ticket, ticket.size, bulk=ticket.bulk)

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        """Callers no longer wait. What was not sent never will be; of the rest the adapter is told."""
        numbers = []
        for ticket in tickets:
            ticket.wanted = False
            if ticket.number:
                numbers.append(ticket.number)
        if numbers:
            self._say(adapter_pb2.AttachResponse(cancel=adapter_pb2.Cancel(correlation_ids=numbers)))

    def announce(self, keys: Iterable[tuple[VerifiedOwnerKey, sealed_pb2.OwnerKeyStatement]]) -> None:
        """Sealing keys of this replica from now on."""
        self.keys = {}
        self.statements = {}
        for key, statement in keys:
            self.keys[key.key_id] = key
            self.statements[key.key_id] = statement

    def holds(self, key_id: bytes, now: float) -> bool:
        """Whether this replica can open what is sealed to `key_id`."""
        key = self.keys.get(key_id)
        return key is not None and now < key.not_after

    def receive(self, message: adapter_pb2.AttachRequest) -> None:
        """A message of the adapter, after Hello; keys are the caller's business, since they need a verifier.

        Raises:
            RefusedError: The adapter breaks the protocol.
        """
        kind = message.WhichOneof("message")
        if kind == "reply_frame":
            self._replied(message.reply_frame)
        elif kind == "credit":
            self._gathering.set_credit(min(message.credit.requests, MAX_CREDIT))
        elif kind == "related":
            self._events.related(self, message.related)
        elif kind == "draining":
            self.draining = True
        else:
            raise RefusedError(Reason.REQUEST_MALFORMED, "unexpected message on a link")

    def withdraw(self) -> list[Ticket]:
        """Take back what has not been sent."""
        waiting = self.log.withdraw(self) + self._gathering.close()
        tickets = [ticket for ticket in waiting if ticket.wanted]
        for ticket in tickets:
            ticket.link = None
        return tickets

    def lose(self) -> list[Ticket]:
        """The stream is gone: everything that was not answered, sent or not."""
        tickets = self.withdraw()
        tickets.extend(self._sent.values())
        self._sent.clear()
        self.log.answered(self)
        self.end()
        return tickets

    def forget(self, now: float) -> list[Ticket]:
        """Give up requests whose replies are overdue beyond reason, so that they hold no credit for ever."""
        overdue = [ticket for ticket in self._sent.values() if now > ticket.deadline + FORGET_AFTER]
        for ticket in overdue:
            del self._sent[ticket.number]
        bulk = sum(ticket.bulk for ticket in overdue)
        self._gathering.answered(len(overdue) - bulk, bulk)
        if overdue:
            self.log.answered(self)
        return overdue

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or unanswered."""
        return not self._sent and not self._gathering.queued

    def relate(self, old_size: int, new_size: int, origin: str) -> None:
        """Ask how two heads of one of the adapter's logs are related."""
        relate = adapter_pb2.Relate(old_size=old_size, new_size=new_size, origin=origin)
        self._say(adapter_pb2.AttachResponse(relate=relate))

    def drain(self) -> None:
        """Tell the adapter that the hub stops."""
        self._say(adapter_pb2.AttachResponse(draining=adapter_pb2.Draining()))

    def end(self) -> None:
        """End the stream after what was said before."""
        self._outbox.end()

    def stalled(self, now: float) -> bool:
        """Whether the adapter has not taken a message for so long that it will not."""
        return self._saying is not None and now - self._saying > STALL_SECONDS

    async def messages(self) -> AsyncIterator[adapter_pb2.AttachResponse]:
        """What the hub says on this link, until `end`."""
        while (message := await self._outbox.get()) is not None:
            self._saying = self._clock()
            yield message
            self._saying = None

    def _say(self, message: adapter_pb2.AttachResponse, *, bulk: bool = False) -> None:
        self._outbox.put(message, bulk=bulk)

    def send(self, tickets: list[Ticket]) -> None:
        """Send a frame; for the gathering, and for what `OwnerLog` kept."""
        wanted = [ticket for ticket in tickets if ticket.wanted]
        bulk = sum(ticket.bulk for ticket in tickets if not ticket.wanted)
        self._gathering.answered(len(tickets) - len(wanted) - bulk, bulk)
        admitted = self.log.admit(self, wanted) if wanted else []
        if not admitted:
            return
        message = adapter_pb2.AttachResponse()
        frame = message.request_frame
        frame.known_tree_size = known = self.log.view.known_tree_size
        frame.known_origin = origin = self.log.view.known_origin
        now = self._clock()
        for ticket in admitted:
            self._last_number += 1
            ticket.number = self._last_number
            ticket.known, ticket.known_origin = known, origin
            self._sent[ticket.number] = ticket
            item = frame.items.add(
                correlation_id=ticket.number, request=ticket.access.request, denied_claims=ticket.access.denied
            )
            left = max(0.0, ticket.deadline - now)
            microseconds = int((left - margin(left)) * 1_000_000)
            item.timeout.seconds, item.timeout.nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1000
        # Interactive and bulk never share a frame.
        self._say(message, bulk=admitted[0].bulk)

    def _replied(self, frame: adapter_pb2.ReplyFrame) -> None:
        tickets = [self._sent.pop(item.correlation_id, None) for item in frame.items]
        bulk = sum(ticket is not None and ticket.bulk for ticket in tickets)
        known = sum(ticket is not None for ticket in tickets)
        self._gathering.answered(known - bulk, bulk)
        self._events.replied(self, frame, tickets)
        self.log.answered(self)


class Links:
    """All attached adapters. Owned by the event loop.

    Args:
        view: Makes the hub's view of the log of one adapter.
    """

    def __init__(self, view: Callable[[Identity], YearsView]) -> None:
        self._make_view = view
        self._logs: dict[Identity, OwnerLog] = {}
        self._by_owner: dict[str, list[Link]] = {}

    def __iter__(self) -> Iterator[Link]:
        return (link for links in self._by_owner.values() for link in links)

    @property
    def logs(self) -> Iterable[OwnerLog]:
        """What was seen of every adapter's log."""
        return self._logs.values()

    def owner_log(self, adapter: Identity) -> OwnerLog:
        """What was seen of an adapter's log. It outlives links, so that a log cannot fall back by reconnecting."""
        owner_log = self._logs.get(adapter)
        if owner_log is None:
            owner_log = self._logs[adapter] = OwnerLog(self._make_view(adapter))
        return owner_log

    def attach(self, link: Link) -> Link | None:
        """Take a link in.

        Returns:
            The link of the same replica that this one replaces, already taken out; None if there was none.

        Raises:
            RefusedError: OVERLOADED, the department has too many replicas attached.
        """
        links = self._by_owner.setdefault(link.owner, [])
        former = next((x for x in links if x.identity == link.identity and x.replica == link.replica), None)
        if former is not None:
            links.remove(former)
        elif len(links) >= MAX_LINKS_PER_OWNER:
            raise RefusedError(Reason.OVERLOADED, "too many replicas attached")
        links.append(link)
        return former

    def detach(self, link: Link) -> None:
        """Take a link out; nothing if it was replaced before."""
        links = self._by_owner.get(link.owner, [])
        if link in links:
            links.remove(link)
        if not links:
            self._by_owner.pop(link.owner, None)

    def route(self, owner: str, key_id: bytes, now: float, *, bulk: bool) -> Link:
        """The link for a request: of the replicas that hold its sealing key, the one with least outstanding.

        Raises:
            RefusedError: OWNER_NOT_ATTACHED, KEY_UNKNOWN (none that is attached holds the key) or OVERLOADED.
        """
        best: Link | None = None
        attached = False
        for link in self._by_owner.get(owner, ()):
            if link.draining:
                continue
            attached = True
            if link.holds(key_id, now) and (best is None or link.load < best.load):
                best = link
        if best is None:
            raise RefusedError(Reason.KEY_UNKNOWN if attached else Reason.OWNER_NOT_ATTACHED)
        if best.is_full(bulk=bulk):
            raise RefusedError(Reason.OVERLOADED, "the owner's queue is full")
        return best

    def keys(self, owners: Collection[str], now: float) -> list[sealed_pb2.OwnerKeyStatement]:
        """Statements that attached adapters made and that are valid now, newest first within an owner.

        Args:
            owners: Departments; empty for all.
            now: Seconds since the epoch.
        """
        statements = []
        for owner in sorted(owners or self._by_owner):
            found = {
                key.key_id: (key.not_before, key.serial, link.statements[key.key_id])
                for link in self._by_owner.get(owner, ())
                if not link.draining
                for key in link.keys.values()
                if now < key.not_after
            }
            statements += [entry[2] for entry in sorted(found.values(), key=lambda entry: entry[:2], reverse=True)]
        return statements

    @property
    def owners(self) -> list[str]:
        """Departments with an adapter that takes requests."""
        return [owner for owner, links in self._by_owner.items() if any(not link.draining for link in links)]
