"""The hub's gRPC edge: exchanges from requesters, links from adapters.

A stream's results go out in frames: what was committed in one group of the log leaves in one frame with one head of
the hub's log. Servicers raise domain errors; `zhiwang.wire.server` maps them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import grpc
import structlog

from audit.checkpoint import Checkpoint, split_note
from audit.log import AuditLog
from audit.origins import year_of
from certs.identity import Identity
from certs.owner_keys import verify_statement
from certs.signing import CertificateVerifier
from exchange.hub import Hub
from exchange.link import MAX_KEYS, MAX_REPLICA_NAME, Link
from exchange.waiting import Delivery, Incoming, Requester, Waiting
from zhiwang.adapter.v1 import adapter_pb2, adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.call import Peer, current_call, current_peer
from zhiwang.wire.errors import Reason, RefusedError

log = structlog.get_logger(__name__)

MAX_FRAME_ITEMS = 512
"""Requests in one frame of a requester."""

MAX_RESULTS = 256
"""Results in one frame to a requester, and"""

MAX_RESULT_BYTES = 4 << 20
"""their bytes; reports of who asked are long. Results of rosters share no frame with others, and make"""

MAX_BULK_BYTES = 256 << 10
"""bytes of one: so long is waited for it."""

MAX_UNREAD = 2048
"""Results that one requester may leave unread; until it reads, none of its further frames are taken. And"""

MAX_UNREAD_BYTES = 32 << 20
"""their bytes, on one stream."""

HELLO_TIMEOUT = 10.0
"""Seconds within which an adapter says who it is."""


def _size(delivery: Delivery) -> int:
    return delivery.answer.ByteSize()


class _Stream:
    """One requester's stream. Owned by the event loop.

    Args:
        peer: Whom TLS proved.
        audit_log: The hub's log, for proofs.
        requester: What this requester has at the hub, on all its streams.

    Raises:
        RefusedError: OVERLOADED, it has too many streams.
    """

    def __init__(self, peer: Identity, audit_log: AuditLog, requester: Requester) -> None:
        requester.open_stream()
        self._requester = requester
        self.peer = peer
        self.waiting: dict[int, Waiting] = {}
        self._known = ("", 0)
        self._log = audit_log
        self._unanswered: set[int] = set()
        self._ready: deque[Delivery] = deque()
        self._ready_bulk: deque[Delivery] = deque()
        self._unread = 0
        self._wake = asyncio.Event()
        self._taken = asyncio.Event()
        self._closing = False
        self._ended = self._closed = False

    def knows(self, origin: str, size: int) -> None:
        """What the requester has verified of the hub's logs; an older state than is known already changes nothing."""
        if size and (year_of(origin), size) > (year_of(self._known[0]), self._known[1]):
            self._known = origin, size

    def incoming(self, frame: exchange_pb2.ExchangeStreamRequest) -> list[Incoming]:
        """The requests of a frame, which count as unanswered from here on.

        Raises:
            RefusedError: REQUEST_TOO_LARGE, or REQUEST_MALFORMED if a correlation id is in use.
        """
        if len(frame.items) > MAX_FRAME_ITEMS:
            raise RefusedError(Reason.REQUEST_TOO_LARGE, "too many requests in a frame")
        incoming = []
        for item in frame.items:
            if item.correlation_id in self._unanswered:
                raise RefusedError(Reason.REQUEST_MALFORMED, "a correlation id is used twice")
            self._unanswered.add(item.correlation_id)
            timeout = item.timeout.seconds + item.timeout.nanos / 1e9
            incoming.append(Incoming(item.correlation_id, item.request, timeout))
        return incoming

    def deliver(self, delivery: Delivery) -> None:
        ticket = self.waiting.pop(delivery.correlation_id, None)
        self._unanswered.discard(delivery.correlation_id)
        if self._closed:
            return
        (self._ready_bulk if ticket is not None and ticket.bulk else self._ready).append(delivery)
        self._count(_size(delivery))
        self._wake.set()

    async def room(self) -> None:
        """Until the requester has read enough of what it was answered: what nobody reads must not pile up here."""
        while len(self._ready) + len(self._ready_bulk) >= MAX_UNREAD or self._unread >= MAX_UNREAD_BYTES:
            self._taken.clear()
            await self._taken.wait()

    def close_when_answered(self) -> None:
        """Nothing more comes in; end when everything has been answered."""
        self._closing = True
        self._wake.set()

    def end(self) -> None:
        """End after what was delivered before."""
        self._ended = True
        self._wake.set()

    async def frames(self) -> AsyncIterator[exchange_pb2.ExchangeStreamResponse]:
        """What goes out. While one frame is being written, the results for the next ones gather.

        What a person waits for goes before what a roster has ready, of which one frame may go between.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready or self._ready_bulk:
                for lane, size in ((self._ready, MAX_RESULT_BYTES), (self._ready_bulk, MAX_BULK_BYTES)):
                    if lane:
                        yield await self._frame(self._cut(lane, size))
            if self._ended or (self._closing and not self._unanswered):
                return

    def _cut(self, lane: deque[Delivery], size: int) -> Sequence[Delivery]:
        """Results of one frame. They are of one log: where the year has turned, another frame begins."""
        group: list[Delivery] = []
        origin, total = "", 0
        while lane and len(group) < MAX_RESULTS:
            delivery = lane[0]
            recorded = delivery.appended.origin if delivery.appended is not None else ""
            own = _size(delivery)
            if group and ((recorded and origin and recorded != origin) or total + own > size):
                break
            origin = recorded or origin
            total += own
            group.append(lane.popleft())
        self._count(-total)
        self._taken.set()
        return group

    def _count(self, size: int) -> None:
        self._unread += size
        self._requester.unread += size

    def close(self) -> None:
        """Nobody is there to read what was delivered, or what still will be."""
        self._closed = True
        self._requester.streams -= 1
        self._count(-self._unread)

    async def _frame(self, group: Sequence[Delivery]) -> exchange_pb2.ExchangeStreamResponse:
        frame = exchange_pb2.ExchangeStreamResponse()
        parts = [delivery.appended.part(delivery.offset, 1) for delivery in group if delivery.appended is not None]
        entries: list[audit_pb2.LoggedEntry] = []
        if parts:
            origin, size = self._known
            head, entries = await self._log.frame(parts, size, origin)
            frame.hub_log.CopyFrom(head)
            # The next head of this stream is proved from this one, which is newer than its entries if the caller has
            # seen more of the log than they reach to.
            shown = Checkpoint.parse(split_note(head.checkpoint)[0])
            self.knows(shown.origin, shown.size)
        proved = iter(entries)
        owner_logs: dict[bytes, int] = {}
        for delivery in group:
            item = frame.items.add(correlation_id=delivery.correlation_id, result=delivery.answer)
            if delivery.appended is not None:
                item.result.hub_entry.CopyFrom(next(proved))
            if delivery.owner_log is not None:
                checkpoint = delivery.owner_log.checkpoint
                number = owner_logs.get(checkpoint)
                if number is None:
                    number = owner_logs[checkpoint] = len(owner_logs)
                    frame.owner_logs.append(delivery.owner_log)
                item.owner_log = number
        return frame


class _Call:
    """One unary call."""

    def __init__(self, peer: Identity) -> None:
        self.peer = peer
        self.waiting: dict[int, Waiting] = {}
        self.done: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()

    def deliver(self, delivery: Delivery) -> None:
        self.waiting.pop(delivery.correlation_id, None)
        if not self.done.done():
            self.done.set_result(delivery)


class ExchangeServicer(exchange_pb2_grpc.ExchangeServiceServicer):
    """Requesters' side.

    Args:
        hub: The work.
        clock: Seconds since the epoch.
    """

    def __init__(self, hub: Hub, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._log = hub.audit_log
        self._clock = clock
        self._streams: set[_Stream] = set()

    async def Exchange(  # noqa: N802  the RPC's name
        self,
        request: exchange_pb2.ExchangeRequest,
        context: grpc.aio.ServicerContext,
    ) -> exchange_pb2.ExchangeResponse:
        """One request."""
        call = _Call(current_peer().identity)
        incoming = Incoming(1, request.request, context.time_remaining() or 0.0)
        try:
            await self._hub.take(call, [incoming], call.waiting)
            delivery = await call.done
        finally:
            self._hub.leave(call.waiting.values())
        response = exchange_pb2.ExchangeResponse(result=delivery.answer, owner_log=delivery.owner_log)
        if delivery.appended is not None:
            part = delivery.appended.part(delivery.offset, 1)
            head, entries = await self._log.frame([part], request.known_tree_size, request.known_origin)
            response.hub_log.CopyFrom(head)
            response.result.hub_entry.CopyFrom(entries[0])
        return response

    async def ExchangeStream(  # noqa: N802  the RPC's name
        self,
        request_iterator: AsyncIterator[exchange_pb2.ExchangeStreamRequest],
        context: grpc.aio.ServicerContext,  # noqa: ARG002  the RPC's signature
    ) -> AsyncIterator[exchange_pb2.ExchangeStreamResponse]:
        """Many requests."""
        peer = current_peer()
        stream = _Stream(peer.identity, self._log, self._hub.requester(peer.identity))
        self._streams.add(stream)
        reader = asyncio.create_task(self._read(stream, peer, request_iterator))
        try:
            async for frame in stream.frames():
                peer.check()
                yield frame
            if reader.done():
                reader.result()
        finally:
            reader.cancel()
            self._streams.discard(stream)
            stream.close()
            self._hub.leave(stream.waiting.values())

    async def _read(
        self, stream: _Stream, peer: Peer, requests: AsyncIterator[exchange_pb2.ExchangeStreamRequest]
    ) -> None:
        try:
            async for frame in requests:
                peer.check()
                stream.knows(frame.known_origin, frame.known_tree_size)
                await self._hub.take(stream, stream.incoming(frame), stream.waiting)
                await stream.room()
        except BaseException:
            stream.end()
            raise
        stream.close_when_answered()

    async def GetOwnerKeys(  # noqa: N802  the RPC's name
        self,
        request: exchange_pb2.GetOwnerKeysRequest,
        context: grpc.aio.ServicerContext,  # noqa: ARG002  the RPC's signature
    ) -> exchange_pb2.GetOwnerKeysResponse:
        """Sealing keys of attached adapters."""
        return exchange_pb2.GetOwnerKeysResponse(keys=self._hub.links.keys(request.owners, self._clock()))

    def end_streams(self) -> None:
        """The process stops; everything has been answered."""
        for stream in self._streams:
            stream.end()


class AdapterServicer(adapter_pb2_grpc.AdapterServiceServicer):
    """Owners' side.

    Args:
        hub: The work.
        verifier: Checks the certificates that state sealing keys.
        name: The hub's own identity.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        hub: Hub,
        verifier: CertificateVerifier,
        name: Identity,
        clock: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._verifier = verifier
        self._name = name
        self._clock = clock

    async def Attach(  # noqa: N802  the RPC's name
        self,
        request_iterator: AsyncIterator[adapter_pb2.AttachRequest],
        context: grpc.aio.ServicerContext,  # noqa: ARG002  the RPC's signature
    ) -> AsyncIterator[adapter_pb2.AttachResponse]:
        """One replica's link."""
        peer = current_peer()
        requests = aiter(request_iterator)
        link = await self._welcome(peer, requests)
        link.abort = current_call().end
        reader = asyncio.create_task(self._read(link, peer, requests))
        try:
            yield adapter_pb2.AttachResponse(welcome=adapter_pb2.Welcome(hub=self._name.uri))
            async for message in link.messages():
                # It may not have spoken since it was revoked, and a request must not reach it all the same.
                peer.check()
                yield message
            if reader.done():
                reader.result()
        finally:
            reader.cancel()
            self._lose(link)

    async def _welcome(self, peer: Peer, requests: AsyncIterator[adapter_pb2.AttachRequest]) -> Link:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            raise RefusedError(Reason.REQUEST_MALFORMED, "no Hello on a link") from None
        if first.WhichOneof("message") != "hello":
            raise RefusedError(Reason.REQUEST_MALFORMED, "the first message of a link must be Hello")
        if self._hub.draining:
            raise RefusedError(Reason.SHUTTING_DOWN)
        hello, links = first.hello, self._hub.links
        if len(hello.replica) > MAX_REPLICA_NAME or not hello.replica.isascii() or not hello.replica.isprintable():
            raise RefusedError(Reason.REQUEST_MALFORMED, "a replica's name is short printable ASCII")
        link = Link(peer.identity, hello.replica, hello.credit, links.owner_log(peer.identity), self._hub, self._clock)
        self._announce(link, hello.keys)
        former = links.attach(link)
        if former is not None:
            self._lose(former)
        log.info("adapter attached", adapter=peer.label, replica=link.replica, keys=len(link.keys))
        return link

    def _announce(self, link: Link, statements: Iterable[sealed_pb2.OwnerKeyStatement]) -> None:
        statements = list(statements)
        if len(statements) > MAX_KEYS:
            raise RefusedError(Reason.REQUEST_MALFORMED, "too many sealing keys")
        now = self._clock()
        link.announce(
            (verify_statement(statement, self._verifier, link.owner, now), statement) for statement in statements
        )

    async def _read(self, link: Link, peer: Peer, requests: AsyncIterator[adapter_pb2.AttachRequest]) -> None:
        try:
            async for message in requests:
                peer.check()
                if message.WhichOneof("message") == "owner_keys":
                    self._announce(link, message.owner_keys.keys)
                    continue
                link.receive(message)
                if link.draining:
                    self._hub.reroute(link.withdraw())
        finally:
            link.end()

    def _lose(self, link: Link) -> None:
        self._hub.links.detach(link)
        self._hub.reroute(link.withdraw())
        unanswered = link.lose()
        self._hub.failed(unanswered, Reason.OWNER_FAILED)
        log.info("adapter detached", adapter=link.identity.short, replica=link.replica, unanswered=len(unanswered))
