"""Adaptive gathering: how requests share frames, at the client toward the hub and at the hub toward adapters.

A frame leaves at once if nothing is unanswered; otherwise requests gather until an answer arrives or 2 ms pass, as
Nagle's algorithm does (RFC 896). So an idle link adds no delay, and a busy one carries large frames. `Gatherer` is the
rule, a pure state machine whose time is given to it; `Gathering` runs one on an event loop. What a frame looks like on
the wire, and who waits for the answer, is the caller's.

Interactive and bulk requests gather in two lanes and never share a frame, because the answers of a frame are committed
together. Within the peer's credit, bulk may hold half at most, so that a roster never makes a person at a counter wait
for its own end; one place is left to bulk, so that it moves at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

FRAME_COUNT = 128
"""Requests in one frame, at most."""

FRAME_BYTES = 1 << 20
"""Bytes of requests in one frame, at most; a single larger request goes alone."""

BULK_BYTES = 256 << 10
"""Bytes of a frame of bulk, at most; a single larger request goes alone. An interactive frame waits until one that is
being written has left: 20 ms at 100 Mbit/s."""

FRAME_DELAY = 0.002
"""Seconds for which a request waits for company while others are unanswered, at most."""

UNLIMITED = 1 << 31
"""Credit of a peer that states none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one frame.

    Attributes:
        count: Requests, at most.
        size: Bytes, at most; a single larger request goes alone.
        bulk_size: The same, for bulk.
        delay: Seconds for which a request waits for company, at most.
    """

    count: int = FRAME_COUNT
    size: int = FRAME_BYTES
    bulk_size: int = BULK_BYTES
    delay: float = FRAME_DELAY


def portions(items: Sequence[T], size_of: Callable[[T], int], *, count: int, size: int) -> Iterator[Sequence[T]]:
    """Cut what goes out at once into messages.

    Args:
        items: What goes out.
        size_of: Bytes of one.
        count: Of one message, at most.
        size: Bytes of one message, at most; a single larger item goes alone.
    """
    start, total = 0, 0
    for place, item in enumerate(items):
        own = size_of(item)
        if place > start and (place - start == count or total + own > size):
            yield items[start:place]
            start, total = place, 0
        total += own
    if start < len(items):
        yield items[start:]


class _Lane(Generic[T]):
    """Requests of one priority, oldest first."""

    __slots__ = ("answer_came", "frame_size", "queue", "size", "unanswered")

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size
        self.queue: deque[tuple[T, int, float]] = deque()
        self.size = 0
        self.unanswered = 0
        # Whether an answer arrived while requests were gathering. Not remembered for an empty queue: the next request
        # gathers by the frames that are unanswered then.
        self.answer_came = False

    def ready(self, limits: Limits, now: float) -> bool:
        queue = self.queue
        return bool(queue) and (
            not self.unanswered
            or self.answer_came
            or len(queue) >= limits.count
            or self.size >= self.frame_size
            or now >= queue[0][2] + limits.delay
        )

    def cut(self, limits: Limits, room: int, alive: Callable[[T], bool] | None) -> list[T]:
        frame: list[T] = []
        size = 0
        count = min(limits.count, room)
        if count <= 0:
            return frame
        queue = self.queue
        while queue and len(frame) < count:
            item, item_size, _ = queue[0]
            wanted = alive is None or alive(item)
            if wanted and frame and size + item_size > self.frame_size:
                break
            queue.popleft()
            self.size -= item_size
            if wanted:
                frame.append(item)
                size += item_size
        self.answer_came = False
        self.unanswered += len(frame)
        return frame


class Gatherer(Generic[T]):
    """The rule, without clock or loop. Times are seconds of any monotonic clock.

    Args:
        limits: Bounds of a frame.
        credit: How many requests the peer takes unanswered.
        alive: Says whether a gathered request is still wanted; others are dropped when their turn comes.
    """

    __slots__ = ("_alive", "_bulk", "_credit", "_interactive", "_limits")

    def __init__(
        self, limits: Limits | None = None, *, credit: int = UNLIMITED, alive: Callable[[T], bool] | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._credit = credit
        self._alive = alive
        self._interactive: _Lane[T] = _Lane(self._limits.size)
        self._bulk: _Lane[T] = _Lane(self._limits.bulk_size)

    @property
    def queued(self) -> int:
        """Requests that have not left."""
        return len(self._interactive.queue) + len(self._bulk.queue)

    @property
    def unanswered(self) -> int:
        """Requests that have left and are not answered."""
        return self._interactive.unanswered + self._bulk.unanswered

    def add(self, item: T, size: int, now: float, *, bulk: bool = False) -> None:
        """Gather a request of `size` bytes."""
        lane = self._bulk if bulk else self._interactive
        lane.queue.append((item, size, now))
        lane.size += size

    def answered(self, interactive: int = 0, bulk: int = 0) -> None:
        """Requests that had left were answered, or are given up."""
        for lane, count in ((self._interactive, interactive), (self._bulk, bulk)):
            if count:
                lane.unanswered = max(0, lane.unanswered - count)
                lane.answer_came = bool(lane.queue)

    def set_credit(self, credit: int) -> None:
        """The peer takes another number of requests unanswered; 0 stops it."""
        self._credit = credit

    def take(self, now: float) -> list[T]:
        """The next frame that leaves; empty if none does. Call until empty."""
        interactive, bulk = self._interactive, self._bulk
        free = self._credit - interactive.unanswered - bulk.unanswered
        if free <= 0:
            return []
        if interactive.ready(self._limits, now):
            # A single place of credit cannot be divided: there interactive requests have it.
            left_to_bulk = 1 if bulk.queue and not bulk.unanswered and self._credit > 1 else 0
            frame = interactive.cut(self._limits, free - left_to_bulk, self._alive)
            if frame:
                return frame
        if bulk.ready(self._limits, now):
            share = max(1, self._credit // 2) - bulk.unanswered
            return bulk.cut(self._limits, min(free, share), self._alive)
        return []

    def due(self) -> float | None:
        """When `take` may next give a frame by time alone; None if only `add`, `answered` or credit can bring one."""
        if self._credit - self.unanswered <= 0:
            return None
        times = [lane.queue[0][2] for lane in (self._interactive, self._bulk) if lane.queue]
        return min(times) + self._limits.delay if times else None

    def withdraw(self) -> list[T]:
        """Take back everything that has not left, e.g. because the link is lost."""
        items: list[T] = []
        for lane in (self._interactive, self._bulk):
            items.extend(entry[0] for entry in lane.queue)
            lane.queue.clear()
            lane.size = 0
            lane.answer_came = False
        return items


class Gathering(Generic[T]):
    """A gatherer on the running event loop. Used from that loop only.

    What is added within one turn of the loop leaves together.

    Args:
        send: Takes a frame that leaves. Called from the loop; it must not block and must not raise.
        limits: Bounds of a frame.
        credit: How many requests the peer takes unanswered.
        alive: Says whether a gathered request is still wanted.
    """

    __slots__ = ("_closed", "_gatherer", "_limits", "_loop", "_pump_set", "_send", "_timer")

    def __init__(
        self,
        send: Callable[[list[T]], None],
        limits: Limits | None = None,
        *,
        credit: int = UNLIMITED,
        alive: Callable[[T], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._limits = limits or Limits()
        self._gatherer: Gatherer[T] = Gatherer(self._limits, credit=credit, alive=alive)
        self._pump_set = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def queued(self) -> int:
        """Requests that have not left."""
        return self._gatherer.queued

    @property
    def unanswered(self) -> int:
        """Requests that have left and are not answered."""
        return self._gatherer.unanswered

    def add(self, item: T, size: int, *, bulk: bool = False) -> None:
        """Gather a request of `size` bytes."""
        self._gatherer.add(item, size, self._loop.time(), bulk=bulk)
        self._wake()

    def answered(self, interactive: int = 0, bulk: int = 0) -> None:
        """Requests that had left were answered, or are given up."""
        self._gatherer.answered(interactive, bulk)
        if self._gatherer.queued:
            self._wake()

    def set_credit(self, credit: int) -> None:
        """The peer takes another number of requests unanswered; 0 stops it."""
        self._gatherer.set_credit(credit)
        self._wake()

    def close(self) -> list[T]:
        """Stop, and take back everything that has not left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._gatherer.withdraw()

    def _wake(self) -> None:
        if not self._pump_set and not self._closed:
            self._pump_set = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_set = False
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        while frame := self._gatherer.take(now):
            self._send(frame)
        due = self._gatherer.due()
        if due is not None:
            # A lane that its share of the credit holds back is due already: look again after a pause, not at once.
            self._timer = self._loop.call_at(max(due, now + self._limits.delay), self._pump)
