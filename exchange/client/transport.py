"""The way to the owners: a stream to every hub, each request on one of them, its result from that one or another.

A request goes to the hub that has the least of ours to do, among those that say that they serve and could reach its
owner lately; so load spreads by itself, leaves a hub that slows down, and comes back to one that has returned. It stays
with its bytes until it is answered or its time is over. When a stream breaks, its hub hangs, or it will not carry a
request though another might, another hub is given the same bytes, which an owner answers with the same reply; nothing
is sealed twice. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import grpc
import structlog

from audit.checkpoint import Checkpoint
from exchange.client.check import Delivery, Frame
from exchange.client.heads import Heads
from exchange.client.way import CONNECT_SECONDS, Item, Way
from exchange.deadlines import Deadlines
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.channel import RenewableChannel
from zhiwang.wire.errors import Reason, RefusedError

__all__ = ["CONNECT_SECONDS", "Carrier", "Transport"]

PATIENCE = 3.0
"""Seconds without any hub after which a request is refused at once, rather than at the end of its time."""

OTHERS_SECONDS = 1.0
"""How long a start waits for further hubs, once one is reached."""

MAX_SENDINGS = 8
"""How often one request is sent, at most: what ends every stream that carries it must not go round for ever."""

ELSEWHERE: Final = frozenset(
    {
        Reason.SHUTTING_DOWN,
        Reason.LOG_UNAVAILABLE,
        Reason.NOT_WITNESSED,
        Reason.DIRECTORY_EXPIRED,
        Reason.DIRECTORY_BEHIND,
        Reason.OWNER_NOT_ATTACHED,
        Reason.OWNER_FAILED,
        Reason.KEY_UNKNOWN,
    }
)
"""What one hub says and another may not. OVERLOADED is none of them: an overload must not be asked for twice."""

log = structlog.get_logger(__name__)


class Carrier(Protocol):
    """What carries sealed requests to owners and brings their results: `Transport`, or a city in this process."""

    @property
    def pending(self) -> int:
        """Requests that are waited for."""

    @property
    def connected(self) -> bool:
        """Whether requests are taken."""

    @property
    def serving(self) -> int:
        """How many hubs say that they serve."""

    async def ready(self, seconds: float) -> bool:
        """Wait until requests are taken, for so many seconds at most; whether they are."""

    async def exchange(
        self, request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool, owner: str = ""
    ) -> Delivery:
        """Send a request and wait for its result; as `Transport.exchange`."""


class Transport:
    """Sends requests, gives results.

    Args:
        channels: A channel for each hub, by its address.
        heads: Verifies what the hubs' logs say.
        jitter: Gives a number in [0, 1).
    """

    def __init__(
        self, channels: Mapping[str, RenewableChannel], heads: Heads, jitter: Callable[[], float] = random.random
    ) -> None:
        self._heads = heads
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Item] = {}
        self._homeless: dict[int, Item] = {}  # of them, those that are on no way
        self._deadlines: Deadlines[Item] = Deadlines(self._expire, self._loop.time)
        self._connected = asyncio.Event()
        self._lost = self._loop.time()
        self._trouble = Reason.HUB_UNREACHABLE
        self._closed = False
        self._ways = [Way(target, channel, heads, self, jitter) for target, channel in channels.items()]
        self._tasks = [self._loop.create_task(way.run()) for way in self._ways]

    @property
    def connected(self) -> bool:
        """Whether a hub takes requests."""
        return self._connected.is_set()

    async def ready(self, seconds: float) -> bool:
        """Wait until a hub takes requests, for so many seconds at most; whether one does.

        Others that are still being tried are waited for a moment: not every owner need be attached to the first.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
            async with asyncio.timeout(OTHERS_SECONDS):
                while not all(way.open or way.tried for way in self._ways):  # noqa: ASYNC110 - a moment, at the start
                    await asyncio.sleep(OTHERS_SECONDS / 100)
        except TimeoutError:
            return self.connected
        return True

    @property
    def forsaken(self) -> bool:
        """Whether every hub was tried in vain, and none was reached for a while."""
        waited = self._loop.time() - self._lost
        return not self.connected and waited > PATIENCE and all(way.tried for way in self._ways)

    @property
    def pending(self) -> int:
        """Requests that are waited for."""
        return len(self._pending)

    @property
    def serving(self) -> int:
        """How many hubs are reached and say that they serve."""
        return sum(way.well() for way in self._ways)

    @property
    def loads(self) -> Mapping[str, int | None]:
        """Requests at each hub, by its address; None for one that is not reached or does not serve."""
        return {way.target: way.load if way.well() else None for way in self._ways}

    @property
    def channels(self) -> Sequence[grpc.aio.Channel]:
        """To every hub that serves, for calls beside the streams; to all that are reached if none does, or to all."""
        ways = [way for way in self._ways if way.well()] or [way for way in self._ways if way.open] or self._ways
        return [way.channel.current for way in ways]

    async def exchange(
        self, request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool, owner: str = ""
    ) -> Delivery:
        """Send a request and wait for its result, whose proofs are the caller's to check (`check_answer`).

        Args:
            request: Sent as often as it takes, in these same bytes.
            seconds: How long, at most.
            bulk: Whether nobody waits at a counter.
            owner: Whom it is for.

        Raises:
            RefusedError: HUB_UNREACHABLE, DEADLINE_EXCEEDED or SHUTTING_DOWN; PROOF_INVALID or a certificate's, if the
                head of the hub's log that came with the result does not verify; or why the hub refused us.
        """
        now = self._loop.time()
        if self._closed:
            raise RefusedError(Reason.SHUTTING_DOWN)
        if self.forsaken:
            raise RefusedError(self._trouble)
        item = Item(next(self._numbers), request, owner, now + seconds, self._loop.create_future(), bulk=bulk)
        self._pending[item.correlation_id] = item
        alarm = self._deadlines.set(item.deadline, item)
        self._send(item)
        try:
            return await item.future
        finally:
            alarm.cancel()
            self._pending.pop(item.correlation_id, None)
            self._homeless.pop(item.correlation_id, None)

    async def close(self) -> None:
        """End the streams and whatever still waits."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._deadlines.close()
        self._fail(self._pending.values(), Reason.SHUTTING_DOWN)

    # Which hub.

    def _send(self, item: Item) -> None:
        """Give a request to the hub that is the best for it by now; without any, it waits for one."""
        open_ways = [way for way in self._ways if way.open]
        if not open_ways:
            self._homeless[item.correlation_id] = item
            return
        if len(open_ways) > 1:
            well = [way for way in open_ways if way.well(item.owner)] or [way for way in open_ways if way.well()]
            # Where none serves, one of them says why.
            open_ways = well or open_ways
        self._homeless.pop(item.correlation_id, None)
        min(open_ways, key=self._preference).add(item)

    def _preference(self, way: Way) -> tuple[int, float]:
        return way.load, self._jitter()

    def _moved(self, way: Way, item: Item, result: exchange_pb2.ExchangeResult) -> bool:
        """Whether a request that this hub would not carry was given to another."""
        if result.outcome == audit_pb2.OUTCOME_ANSWERED or len(self._ways) == 1:
            return False
        if Reason.__members__.get(result.reason) not in ELSEWHERE:
            return False
        if way.rest(item.owner):
            log.info("others are asked first", hub=way.target, owner=item.owner, reason=result.reason)
        item.refused |= {way.target}
        others = [one for one in self._ways if one.target not in item.refused and one.well(item.owner)]
        if not others:
            return False
        min(others, key=self._preference).add(item)
        return True

    # What happens on the ways.

    def opened(self, way: Way) -> None:
        """The hub takes requests."""
        self._connected.set()
        log.info("hub connected", hub=way.target, waiting=len(self._homeless))
        for item in tuple(self._homeless.values()):
            self._send(item)

    def came(self, way: Way, response: exchange_pb2.ExchangeStreamResponse) -> bool:
        """Hand out results; whether the head of the hub's log that came with them verifies."""
        checkpoint: Checkpoint | None = None
        has_log = response.HasField("hub_log")
        try:
            if has_log:
                checkpoint = self._heads.check_hub(way.target, response.hub_log)
        except RefusedError as error:
            log.error("answers withheld: the hub's log does not verify", hub=way.target, detail=error.detail)  # noqa: TRY400  no trace
            self._trouble = error.reason
            for one in response.items:
                item = self._pending.get(one.correlation_id)
                if item is not None and not item.future.done():
                    item.future.set_exception(RefusedError(error.reason, error.detail))
            return False
        self._trouble = Reason.HUB_UNREACHABLE
        frame = Frame(response.hub_log if has_log else None, checkpoint, response.owner_logs, self._heads.check_owner)
        for one in response.items:
            item = self._pending.get(one.correlation_id)
            if item is not None and not item.future.done() and not self._moved(way, item, one.result):
                item.future.set_result(Delivery(one.result, frame, one.owner_log, item.sendings))
        return True

    def lost(self, way: Way, items: Sequence[Item]) -> None:
        """The stream is gone, and these have no result: they go to another hub, or wait for one."""
        if not any(one.open for one in self._ways):
            self._connected.clear()
            self._lost = self._loop.time()
        log.info("hub ended the stream", hub=way.target, waiting=len(items))
        if self._closed:
            return
        self._fail([item for item in items if item.sendings >= MAX_SENDINGS], Reason.HUB_UNREACHABLE)
        for item in items:
            if not item.future.done():
                item.refused = frozenset()
                self._send(item)

    def refused(self, way: Way, error: RefusedError) -> None:
        """A stream ended with an error. What says "not you" is told to all that no other hub has; the rest passes."""
        log.warning("hub not reached", hub=way.target, reason=error.reason.name, detail=error.detail)
        self._trouble = error.reason
        if error.reason.status not in {"UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}:
            self._fail(tuple(self._homeless.values()), error.reason)
        elif error.reason.status != "UNAVAILABLE":
            self._trouble = Reason.HUB_UNREACHABLE

    def elsewhere(self, way: Way) -> bool:
        """Whether another hub could take what this one has."""
        return any(one is not way and one.well() for one in self._ways)

    def _fail(self, items: Iterable[Item], reason: Reason) -> None:
        for item in items:
            if not item.future.done():
                item.future.set_exception(RefusedError(reason))

    def _expire(self, item: Item) -> None:
        if not item.future.done():
            reason = Reason.DEADLINE_EXCEEDED if item.sendings and self.connected else self._trouble
            item.future.set_exception(RefusedError(reason))
