"""Requests that callers wait for at the hub: as they come, on their way, and as they are answered.

Owned by the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from audit.appended import Appended
from certs.identity import Identity
from exchange.deadlines import Alarm
from exchange.link import Ticket
from exchange.verify import Access
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.records import REPORT_SIZES

MAX_STREAMS = 64
"""Streams of one requester: programs and agents that ask under one certificate."""

MAX_UNREAD_OF_ONE = 64 << 20
"""Bytes of results that one requester may leave unread on all its streams; beyond, OVERLOADED."""

MAX_IN_FLIGHT = 4096
"""Requests of one requester that are unanswered; beyond, OVERLOADED."""

MAX_IN_FLIGHT_BYTES = 64 << 20
"""Bytes of them, with the replies of those whose replies are long. Bulk may hold half of either, so that a requester's
rosters never have its counters turned away."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request as a caller sent it.

    Attributes:
        correlation_id: The caller's.
        request: The sealed request.
        timeout: Seconds that the caller waits; 0 for as long as the request lives.
    """

    correlation_id: int
    request: sealed_pb2.SealedRequest
    timeout: float


class Delivery(NamedTuple):
    """A result for a caller.

    Attributes:
        correlation_id: The caller's.
        answer: What became of its request; the entries' proofs are not in it yet.
        appended: The committed entries that this result's is among; None if it has no entry of its own.
        offset: Which of them.
        owner_log: Head of the owner's log that covers the owner's entry; None if there is none.
    """

    correlation_id: int
    answer: exchange_pb2.ExchangeResult
    appended: Appended | None = None
    offset: int = 0
    owner_log: audit_pb2.LogHead | None = None


class Caller(Protocol):
    """Somebody who waits for results: a stream, or one call."""

    @property
    def peer(self) -> Identity:
        """Whom TLS proved."""

    def deliver(self, delivery: Delivery) -> None:
        """A result."""


class Requester:
    """How much of one requester is unanswered.

    Attributes:
        streams: That it has open.
        unread: Bytes of results that it has not taken, on all of them.
    """

    __slots__ = ("bulk_count", "bulk_size", "count", "size", "streams", "unread")

    def __init__(self) -> None:
        self.streams = self.unread = 0
        self.count = self.bulk_count = 0
        self.size = self.bulk_size = 0

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return self.count >= MAX_IN_FLIGHT or self.size >= MAX_IN_FLIGHT_BYTES or self.unread >= MAX_UNREAD_OF_ONE

    @property
    def gone(self) -> bool:
        """Whether there is nothing of it here."""
        return not self.count and not self.streams

    def open_stream(self) -> None:
        """Count another stream.

        Raises:
            RefusedError: OVERLOADED.
        """
        if self.streams >= MAX_STREAMS:
            raise RefusedError(Reason.OVERLOADED, "the requester has too many streams")
        self.streams += 1

    @property
    def full_of_bulk(self) -> bool:
        """Whether no more of bulk is taken."""
        return self.bulk_count >= MAX_IN_FLIGHT // 2 or self.bulk_size >= MAX_IN_FLIGHT_BYTES // 2

    def add(self, ticket: Ticket, times: int = 1) -> None:
        """Count a ticket; or, with -1, no more."""
        self.count += times
        self.size += times * ticket.size
        if ticket.bulk:
            self.bulk_count += times
            self.bulk_size += times * ticket.size


class Waiting(Ticket):
    """A ticket and who waits for it.

    Attributes:
        arrived: When it came, seconds since the epoch.
        caller: Who waits; None once it has its result, or has gone.
        correlation_id: The caller's.
        requester: Whose load this counts as.
        alarm: Its deadline.
        settled: Whether it counts no more; its result may still be on the way into the log.
    """

    __slots__ = ("alarm", "arrived", "caller", "correlation_id", "requester", "settled")

    def __init__(
        self,
        access: Access,
        arrived: float,
        deadline: float,
        caller: Caller,
        correlation_id: int,
        requester: Requester,
    ) -> None:
        # The reply to a request for a report is longer than the request by far, and counts beside it.
        reply = REPORT_SIZES[-1] if access.header.report else 0
        super().__init__(access, deadline, bulk=access.header.bulk, size=access.request.ByteSize() + reply)
        self.arrived = arrived
        self.caller: Caller | None = caller
        self.correlation_id = correlation_id
        self.requester = requester
        self.alarm: Alarm[Waiting] | None = None
        self.settled = False
