"""The way to the hub: one stream to one of several hubs, frames of requests out, frames of results in.

A request stays with its bytes until it is answered or its time is over. When a stream breaks, the next one (to the
same hub or another) carries the same bytes again, which an owner answers with the same reply; nothing is sealed twice.
Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import grpc
import structlog

from audit.checkpoint import Checkpoint
from exchange.client.check import Delivery, Frame
from exchange.client.heads import Heads, OtherLogError
from exchange.deadlines import Deadlines
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.channel import RenewableChannel, is_cancelled, refusal_of
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.gather import Gathering

CONNECT_SECONDS = 5.0
"""How long one hub may take to let us in."""

PATIENCE = 3.0
"""Seconds without any hub after which a request is refused at once, rather than at the end of its time."""

BACKOFF = (0.05, 2.0)
"""Shortest and longest pause, in seconds, after all hubs were tried in vain; a random part of it is waited."""

MAX_SENDINGS = 8
"""How often one request is sent, at most: what ends every stream that carries it must not go round for ever."""

MARGIN = 0.05
"""Seconds of a deadline that are kept back, so that the hub's own word on it still arrives."""

log = structlog.get_logger(__name__)


class _Item:
    """One request that is waited for."""

    __slots__ = ("bulk", "correlation_id", "deadline", "future", "request", "sendings", "size")

    def __init__(
        self,
        correlation_id: int,
        request: sealed_pb2.SealedRequest,
        deadline: float,
        future: asyncio.Future[Delivery],
        *,
        bulk: bool,
    ) -> None:
        self.correlation_id = correlation_id
        self.request = request
        self.size = request.ByteSize()
        self.deadline = deadline
        self.future = future
        self.bulk = bulk
        self.sendings = 0


class _Link:
    """One stream. Ends when the stream does; what was not answered is the transport's to send again."""

    def __init__(self, call: grpc.aio.StreamStreamCall, known: tuple[str, int], now: Callable[[], float]) -> None:
        self._call = call
        self._known = known
        self._now = now
        self._frames: asyncio.Queue[list[_Item]] = asyncio.Queue()
        self._sent: dict[int, bool] = {}
        self.gathering: Gathering[_Item] = Gathering(self._frames.put_nowait, alive=lambda item: not item.future.done())

    @property
    def unanswered(self) -> frozenset[int]:
        """Correlation ids that have left and have no result."""
        return frozenset(self._sent)

    async def write(self) -> None:
        """Send frames as they leave the gathering, until the stream ends."""
        while True:
            items = await self._frames.get()
            now = self._now()
            origin, size = self._known
            frame = exchange_pb2.ExchangeStreamRequest(known_tree_size=size, known_origin=origin)
            self._known = "", 0  # from here on the hub proves each head from the one before
            for item in items:
                item.sendings += 1
                self._sent[item.correlation_id] = item.bulk
                left = int(max(item.deadline - now - MARGIN, 0.001) * 1000)
                one = frame.items.add(correlation_id=item.correlation_id, request=item.request)
                one.timeout.seconds, milliseconds = divmod(left, 1000)
                one.timeout.nanos = milliseconds * 1_000_000
            await self._call.write(frame)

    async def read(self) -> exchange_pb2.ExchangeStreamResponse | None:
        """The next frame of results; None at the end of the stream."""
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return None
        return response if isinstance(response, exchange_pb2.ExchangeStreamResponse) else None

    def settle(self, response: exchange_pb2.ExchangeStreamResponse) -> None:
        """Count what was answered, so that the next frame may leave."""
        bulk = [self._sent.pop(item.correlation_id) for item in response.items if item.correlation_id in self._sent]
        self.gathering.answered(interactive=bulk.count(False), bulk=bulk.count(True))

    def close(self) -> None:
        """End the stream; an abandoned one would never be collected."""
        self.gathering.close()
        self._call.cancel()


class Carrier(Protocol):
    """What carries sealed requests to owners and brings their results: `Transport`, or a city in this process."""

    @property
    def pending(self) -> int:
        """Requests that are waited for."""

    @property
    def connected(self) -> bool:
        """Whether requests are taken."""

    async def ready(self, seconds: float) -> bool:
        """Wait until requests are taken, for so many seconds at most; whether they are."""

    async def exchange(self, request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool) -> Delivery:
        """Send a request and wait for its result; as `Transport.exchange`."""


class Transport:
    """Sends requests, gives results.

    Args:
        channels: A channel for each hub, in the order of preference.
        heads: Verifies what the hubs' logs say.
        jitter: Gives a number in [0, 1).
    """

    def __init__(
        self, channels: Mapping[str, RenewableChannel], heads: Heads, jitter: Callable[[], float] = random.random
    ) -> None:
        self._channels = channels
        self._targets: Sequence[str] = tuple(channels)
        self._heads = heads
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Item] = {}
        self._deadlines: Deadlines[_Item] = Deadlines(self._expire, self._loop.time)
        self._link: _Link | None = None
        self._connected = asyncio.Event()
        self._current = 0
        self._lost = self._loop.time()
        self._tried = False
        self._trouble = Reason.HUB_UNREACHABLE
        self._task = self._loop.create_task(self._run())
        for target, channel in channels.items():
            channel.on_renewal(partial(self._renewed, target))

    @property
    def connected(self) -> bool:
        """Whether a hub takes requests."""
        return self._link is not None

    async def ready(self, seconds: float) -> bool:
        """Wait until a hub takes requests, for so many seconds at most; whether one does."""
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    @property
    def pending(self) -> int:
        """Requests that are waited for."""
        return len(self._pending)

    @property
    def channel(self) -> grpc.aio.Channel:
        """To the hub that is in use, or was last: for calls beside the stream."""
        return self._channels[self._targets[self._current]].current

    async def exchange(self, request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool) -> Delivery:
        """Send a request and wait for its result, whose proofs are the caller's to check (`check_answer`).

        Args:
            request: Sent as often as it takes, in these same bytes.
            seconds: How long, at most.
            bulk: Whether nobody waits at a counter.

        Raises:
            RefusedError: HUB_UNREACHABLE, DEADLINE_EXCEEDED or SHUTTING_DOWN; PROOF_INVALID or a certificate's, if the
                head of the hub's log that came with the result does not verify; or why the hub refused us.
        """
        now = self._loop.time()
        if self._task.done():
            raise RefusedError(Reason.SHUTTING_DOWN)
        if self._link is None and self._tried and now - self._lost > PATIENCE:
            raise RefusedError(self._trouble)
        item = _Item(next(self._numbers), request, now + seconds, self._loop.create_future(), bulk=bulk)
        self._pending[item.correlation_id] = item
        alarm = self._deadlines.set(item.deadline, item)
        if self._link is not None:
            self._link.gathering.add(item, item.size, bulk=bulk)
        try:
            return await item.future
        finally:
            alarm.cancel()
            self._pending.pop(item.correlation_id, None)

    async def close(self) -> None:
        """End the stream and whatever still waits."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._deadlines.close()
        self._fail(tuple(self._pending.values()), Reason.SHUTTING_DOWN)

    async def _run(self) -> None:
        pause, longest = BACKOFF
        in_vain = 0
        while True:
            target = self._targets[self._current]
            served = False
            try:
                if await self._connect(target):
                    served = await self._serve(target)
            except OtherLogError:
                # The same hub again, told what was seen of the log that it has.
                continue
            except grpc.aio.AioRpcError as error:
                self._refused(target, refusal_of(error))
            if served:
                in_vain = 0
                pause = BACKOFF[0]
                continue
            self._current = (self._current + 1) % len(self._targets)
            in_vain += 1
            if in_vain >= len(self._targets):
                in_vain = 0
                self._tried = True
                await asyncio.sleep(pause * self._jitter())
                pause = min(pause * 2, longest)

    async def _connect(self, target: str) -> bool:
        channel = self._channels[target].current
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

    async def _serve(self, target: str) -> bool:
        """Run one stream to its end; whether it gave any result."""
        stub = exchange_pb2_grpc.ExchangeServiceStub(self._channels[target].current)
        known = self._heads.known_origin(target), self._heads.known(target)
        link = _Link(stub.ExchangeStream(), known, self._loop.time)
        for item in self._pending.values():
            link.gathering.add(item, item.size, bulk=item.bulk)
        self._link = link
        self._connected.set()
        log.info("hub connected", hub=target, waiting=len(self._pending))
        writer = self._loop.create_task(link.write())
        served = False
        try:
            while (response := await link.read()) is not None:
                link.settle(response)
                if not self._deliver(target, response):
                    # The hub goes on to prove each head from this one, which we did not take: only a stream that begins
                    # with what we know can be believed again, of this hub or of another.
                    break
                served = True
                self._trouble = Reason.HUB_UNREACHABLE
        finally:
            self._link = None
            self._connected.clear()
            self._lost = self._loop.time()
            self._tried = False
            self._spend(link)
            writer.cancel()
            link.close()
            # A write that failed has ended the reading too; that error is the one to tell.
            await asyncio.gather(writer, return_exceptions=True)
        log.info("hub ended the stream", hub=target, waiting=len(self._pending))
        return served

    def _deliver(self, target: str, response: exchange_pb2.ExchangeStreamResponse) -> bool:
        """Hand out results; whether the head of the hub's log that came with them verifies."""
        checkpoint: Checkpoint | None = None
        has_log = response.HasField("hub_log")
        try:
            if has_log:
                checkpoint = self._heads.check_hub(target, response.hub_log)
        except RefusedError as error:
            log.error("answers withheld: the hub's log does not verify", hub=target, detail=error.detail)  # noqa: TRY400  no trace
            self._trouble = error.reason
            for one in response.items:
                item = self._pending.get(one.correlation_id)
                if item is not None and not item.future.done():
                    item.future.set_exception(RefusedError(error.reason, error.detail))
            return False
        frame = Frame(response.hub_log if has_log else None, checkpoint, response.owner_logs, self._heads.check_owner)
        for one in response.items:
            item = self._pending.get(one.correlation_id)
            if item is not None and not item.future.done():
                item.future.set_result(Delivery(one.result, frame, one.owner_log, item.sendings))
        return True

    def _refused(self, target: str, error: ZhiwangError) -> None:
        """A stream ended with an error. What says "not you" is told to all that wait; the rest passes."""
        log.warning("hub not reached", hub=target, reason=error.reason.name, detail=error.detail)
        self._trouble = error.reason
        if error.reason.status not in {"UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}:
            self._fail(tuple(self._pending.values()), error.reason)
        elif error.reason.status != "UNAVAILABLE":
            self._trouble = Reason.HUB_UNREACHABLE

    def _spend(self, link: _Link) -> None:
        lost = [self._pending[number] for number in link.unanswered if number in self._pending]
        self._fail([item for item in lost if item.sendings >= MAX_SENDINGS], Reason.HUB_UNREACHABLE)

    def _fail(self, items: Sequence[_Item], reason: Reason) -> None:
        for item in items:
            if not item.future.done():
                item.future.set_exception(RefusedError(reason))

    def _expire(self, item: _Item) -> None:
        if not item.future.done():
            reason = Reason.DEADLINE_EXCEEDED if item.sendings and self._link is not None else self._trouble
            item.future.set_exception(RefusedError(reason))

    def _renewed(self, target: str) -> None:
        """Our certificate changed: a stream on the old connection must not outlive it."""
        if self._link is not None and self._targets[self._current] == target:
            self._link.close()
