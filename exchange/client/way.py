"""The way to one hub: connect, know whether it serves, send frames of requests, take frames of results, come back.

A way asks the hub how it is before it trusts a request to it, and goes on listening: a hub that stops says so before it
takes nothing more. A hub that no longer says anything while requests wait is asked once more, and left if it is silent;
one that no longer reads is left though it says that it is well.
Which hub gets a request is `transport.py`'s. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from exchange.client.check import Delivery
from exchange.client.heads import Heads, OtherLogError
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.channel import RenewableChannel, is_cancelled, refusal_of
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.gather import Gathering
from zhiwang.wire.outbox import Outbox

CONNECT_SECONDS = 5.0
"""How long one hub may take to let us in, and again to say how it is."""

BACKOFF = (0.05, 2.0)
"""Shortest and longest pause, in seconds, after a hub was tried in vain; a random part of it is waited."""

MARGIN = 0.05
"""Seconds of a deadline that are kept back, so that the hub's own word on it still arrives."""

SILENCE = 1.0
"""Seconds without a word from a hub that has requests of ours, after which it is asked how it is."""

PROBE_SECONDS = 2.0
"""Seconds that it has to say so; then what it has goes to another hub."""

FORGET_AFTER = 30.0
"""Seconds after its deadline for which a request that was sent and given up still counts as being with its hub."""

STALL_SECONDS = 30.0
"""How long one frame may wait for a hub to take it; then the stream is opened anew. gRPC answers health and probes even
where nobody reads the stream."""

REST_SECONDS = 1.0
"""How long a hub that could not reach an owner is not the first to be asked for that owner again."""

log = structlog.get_logger(__name__)


class Item:
    """One request that is waited for.

    Attributes:
        correlation_id: Unique among all of this client's.
        request: Sent as often as it takes, in these same bytes.
        size: Of it, in bytes.
        owner: Whom it is for.
        deadline: When its caller gives up, on the loop's clock.
        future: Its result.
        bulk: Whether nobody waits at a counter.
        sendings: How often it was sent.
        refused: Hubs that would not carry it.
    """

    __slots__ = ("bulk", "correlation_id", "deadline", "future", "owner", "refused", "request", "sendings", "size")

    def __init__(
        self,
        correlation_id: int,
        request: sealed_pb2.SealedRequest,
        owner: str,
        deadline: float,
        future: asyncio.Future[Delivery],
        *,
        bulk: bool,
    ) -> None:
        self.correlation_id = correlation_id
        self.request = request
        self.size = request.ByteSize()
        self.owner = owner
        self.deadline = deadline
        self.future = future
        self.bulk = bulk
        self.sendings = 0
        self.refused: frozenset[str] = frozenset()


class WayEvents(Protocol):
    """What the transport does about what happens on a way. Called from the event loop; must not raise."""

    def opened(self, way: Way) -> None:
        """The hub takes requests."""

    def came(self, way: Way, response: exchange_pb2.ExchangeStreamResponse) -> bool:
        """Results came; whether the head of the hub's log that came with them verifies."""

    def lost(self, way: Way, items: Sequence[Item]) -> None:
        """The stream is gone, and these have no result."""

    def refused(self, way: Way, error: RefusedError) -> None:
        """The stream could not be opened, or broke, for a reason."""

    def elsewhere(self, way: Way) -> bool:
        """Whether another hub could take what this one has."""


class _Stream:
    """One stream to the hub."""

    def __init__(self, call: grpc.aio.StreamStreamCall, known: Callable[[], tuple[str, int]]) -> None:
        self._call = call
        self._known: Callable[[], tuple[str, int]] | None = known
        self._now = asyncio.get_running_loop().time
        self._frames: Outbox[list[Item]] = Outbox()
        self._sent: dict[int, Item] = {}
        self._writing: float | None = None  # since when a frame waits to be taken
        self.heard = self._now()
        self.gathering: Gathering[Item] = Gathering(self._leave, alive=lambda item: not item.future.done())

    @property
    def load(self) -> int:
        """Requests that gather, wait to be written since the hub does not read, or have left and have no result."""
        return self.gathering.queued + self.gathering.unanswered

    @property
    def unanswered(self) -> int:
        """Requests that have left and have no result."""
        return len(self._sent)

    def _leave(self, items: list[Item]) -> None:
        # Interactive and bulk never share a frame.
        self._frames.put(items, bulk=items[0].bulk)

    async def write(self) -> None:
        """Send frames as they leave the gathering, until the stream ends."""
        while (gathered := await self._frames.get()) is not None:
            items = self._wanted(gathered)
            if not items:
                continue
            now = self._now()
            frame = exchange_pb2.ExchangeStreamRequest()
            if self._known is not None:
                # From here on the hub proves each head from the one before.
                frame.known_origin, frame.known_tree_size = self._known()
                self._known = None
            if not self._sent:
                self.heard = now
            for item in items:
                item.sendings += 1
                self._sent[item.correlation_id] = item
                left = int(max(item.deadline - now - MARGIN, 0.001) * 1000)
                one = frame.items.add(correlation_id=item.correlation_id, request=item.request)
                one.timeout.seconds, milliseconds = divmod(left, 1000)
                one.timeout.nanos = milliseconds * 1_000_000
            self._writing = now
            await self._call.write(frame)
            self._writing = None

    def _wanted(self, items: list[Item]) -> list[Item]:
        """Those of a frame whose callers still wait. What was given up before it left is asked nowhere."""
        self._over([item for item in items if item.future.done()])
        return [item for item in items if not item.future.done()]

    def _over(self, items: Sequence[Item]) -> None:
        """Count what is answered or given up, so that the next frame may leave."""
        bulk = sum(item.bulk for item in items)
        self.gathering.answered(interactive=len(items) - bulk, bulk=bulk)

    @property
    def stalled(self) -> bool:
        """Whether the hub has not taken a frame for so long that it will not."""
        return self._writing is not None and self._now() - self._writing > STALL_SECONDS

    def forget(self) -> None:
        """Let go of what was given up: what has not left, and what the hub has and is overdue beyond reason.

        A hub that reads or answers nothing would otherwise have it kept for as long as the stream lives.
        """
        for frame in self._frames.withdraw():
            if items := self._wanted(frame):
                self._leave(items)
        past = self._now() - FORGET_AFTER
        overdue = [item for item in self._sent.values() if item.future.done() and item.deadline < past]
        for item in overdue:
            del self._sent[item.correlation_id]
        self._over(overdue)

    async def read(self) -> exchange_pb2.ExchangeStreamResponse | None:
        """The next frame of results; None at the end of the stream."""
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return None
        self.heard = self._now()
        return response if isinstance(response, exchange_pb2.ExchangeStreamResponse) else None

    def own(self, response: exchange_pb2.ExchangeStreamResponse) -> None:
        """Drop results of what was not sent here: no hub may speak for requests that another has."""
        for place in reversed(range(len(response.items))):
            if response.items[place].correlation_id not in self._sent:
                del response.items[place]

    def settle(self, response: exchange_pb2.ExchangeStreamResponse) -> None:
        """Take what was answered as done."""
        found = [self._sent.pop(item.correlation_id, None) for item in response.items]
        self._over([item for item in found if item is not None])

    def abandon(self) -> None:
        """Let whoever reads it see its end."""
        self._call.cancel()

    def close(self) -> list[Item]:
        """End the stream, since an abandoned one would never be collected; what it had and nobody answered."""
        self._call.cancel()
        items = [*self._sent.values(), *self.gathering.close()]
        for frame in self._frames.withdraw():
            items += frame
        self._sent.clear()
        return items


class Way:
    """The way to one hub, open again whenever it was lost.

    Args:
        target: Address of the hub.
        channel: To it.
        heads: Knows what was seen of its log.
        events: The transport.
        jitter: Gives a number in [0, 1).

    Attributes:
        tried: Whether the last attempt to reach the hub was in vain.
    """

    def __init__(
        self, target: str, channel: RenewableChannel, heads: Heads, events: WayEvents, jitter: Callable[[], float]
    ) -> None:
        self.target = target
        self.channel = channel
        self.tried = False
        self._heads = heads
        self._events = events
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._stream: _Stream | None = None
        self._serving = False
        self._suspected = False
        self._resting: dict[str, float] = {}
        channel.on_renewal(self._renewed)

    @property
    def open(self) -> bool:
        """Whether a stream is there."""
        return self._stream is not None

    @property
    def load(self) -> int:
        """Requests that wait here, or are with the hub."""
        stream = self._stream
        return 0 if stream is None else stream.load

    def well(self, owner: str = "") -> bool:
        """Whether the hub is open, says that it serves, and could reach the owner lately, as far as is known."""
        if self._stream is None or not self._serving or self._suspected:
            return False
        until = self._resting.get(owner)
        return until is None or self._loop.time() >= until

    def rest(self, owner: str) -> bool:
        """The hub could not carry a request to an owner: others first, for a moment. Whether that is new."""
        now = self._loop.time()
        rested = now < self._resting.get(owner, 0.0)
        self._resting[owner] = now + REST_SECONDS
        return not rested

    def add(self, item: Item) -> None:
        """Take a request; the way must be open."""
        if self._stream is None:
            raise RuntimeError("no stream to the hub")
        self._stream.gathering.add(item, item.size, bulk=item.bulk)

    async def run(self) -> None:
        """Keep the way open, until cancelled."""
        pause, longest = BACKOFF
        while True:
            served = False
            try:
                served = await self._visit()
            except OtherLogError:
                # The same hub again, told what was seen of the log that it has.
                continue
            except grpc.aio.AioRpcError as error:
                self._events.refused(self, refusal_of(error))
            if served:
                pause = BACKOFF[0]
                continue
            self.tried = True
            await asyncio.sleep(pause * self._jitter())
            pause = min(pause * 2, longest)

    async def _visit(self) -> bool:
        """From connecting to the end of the stream; whether it gave any result."""
        channel = self.channel.current
        if not await _connected(channel):
            return False
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        try:
            # TCP is up with a hub that hangs, too.
            async with asyncio.timeout(CONNECT_SECONDS):
                self._note(await health.read())
                await self._introduce(channel)
            return await self._serve(channel, health)
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return False
        finally:
            health.cancel()

    async def _introduce(self, channel: grpc.aio.Channel) -> None:
        """Of a hub that is new here, learn which log it keeps, so that it proves it from what was seen by others."""
        if self._heads.known_origin(self.target):
            return
        try:
            response = await audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint(
                audit_pb2.GetCheckpointRequest(), timeout=CONNECT_SECONDS
            )
            self._heads.introduce(self.target, response.head)
        except (grpc.aio.AioRpcError, RefusedError) as error:
            # It says so again with its first result.
            log.info("the hub's log is not known yet", hub=self.target, error=type(error).__name__)

    async def _serve(self, channel: grpc.aio.Channel, health: grpc.aio.UnaryStreamCall) -> bool:
        """Run one stream to its end; whether it gave any result."""
        call = exchange_pb2_grpc.ExchangeServiceStub(channel).ExchangeStream()
        stream = self._stream = _Stream(call, lambda: self._heads.begin(self.target))
        self.tried = False
        self._suspected = False
        self._resting.clear()
        self._events.opened(self)
        tasks = [
            self._loop.create_task(work)
            for work in (stream.write(), self._watch(health), self._attend(channel, stream))
        ]
        served = False
        try:
            while (response := await stream.read()) is not None:
                stream.own(response)
                if not self._events.came(self, response):
                    # The hub goes on to prove each head from this one, which we did not take: only a stream that begins
                    # with what we know can be believed again, of this hub or of another.
                    break
                # Until here it counts as on its way, so what a result that cannot be taken answered is lost to nobody.
                stream.settle(response)
                served = True
        finally:
            self._stream = None
            self._heads.end(self.target)
            for task in tasks:
                task.cancel()
            items = stream.close()
            # A write that failed has ended the reading too; that error is the one to tell.
            await asyncio.gather(*tasks, return_exceptions=True)
            self._events.lost(self, [item for item in items if not item.future.done()])
        return served

    async def _watch(self, health: grpc.aio.UnaryStreamCall) -> None:
        """Listen to what the hub says of itself. One that ends this ends everything."""
        try:
            while (response := await health.read()) is not grpc.aio.EOF:
                self._note(response)
        except grpc.aio.AioRpcError:
            pass
        self._serving = False

    def _note(self, response: object) -> None:
        serving = getattr(response, "status", None) == health_pb2.HealthCheckResponse.SERVING
        if serving is not self._serving:
            log.info("hub", hub=self.target, serving=serving)
        self._serving = serving

    async def _attend(self, channel: grpc.aio.Channel, stream: _Stream) -> None:
        """Leave a hub that hangs: it reads nothing, or has requests, says nothing of them and neither how it is."""
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            await asyncio.sleep(SILENCE / 2)
            stream.forget()
            if stream.stalled:
                log.warning("hub does not read", hub=self.target)
                self._renewed()
                return
            heard = stream.heard
            if not stream.unanswered or self._loop.time() - heard < SILENCE or not self._events.elsewhere(self):
                continue
            self._suspected = True
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
            except grpc.aio.AioRpcError as error:
                if stream.heard == heard:
                    log.warning("hub does not answer", hub=self.target, code=error.code().name)
                    self._renewed()
                    return
            self._suspected = False
            stream.heard = max(stream.heard, heard + SILENCE)

    def _renewed(self) -> None:
        """End the stream: it hangs, or our certificate changed and it must not outlive the old one."""
        if self._stream is not None:
            self._stream.abandon()


async def _connected(channel: grpc.aio.Channel) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
                if state in {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}:
                    return False
    except TimeoutError:
        return False
    return True
