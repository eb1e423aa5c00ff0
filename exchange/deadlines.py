"""Many deadlines with one timer of the event loop.

A timer of its own for each request would cost more than the heap here does. An alarm that is called off lets go of its
item at once, and the heap is cleared of such alarms once they are half of it, so that settled requests hold no memory
until their deadlines, a minute and hundreds of thousands of them later.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MANY = 256
"""Alarms that are called off, from which on it is looked whether they are half of the heap."""

GRAIN = 0.005
"""Seconds by which an alarm may come late: one timer serves all that fall within them."""


class Alarm(Generic[T]):
    """One deadline. `cancel` calls it off."""

    __slots__ = ("_called_off", "item")

    def __init__(self, item: T, called_off: Callable[[], None]) -> None:
        self.item: T | None = item
        self._called_off = called_off

    def cancel(self) -> None:
        """Call it off and let go of the item."""
        if self.item is not None:
            self.item = None
            self._called_off()


class Deadlines(Generic[T]):
    """Alarms in the order of their times. Owned by the event loop that runs when it is made.

    Args:
        expired: Takes an item whose time has come. Must not raise.
        clock: Seconds since the epoch.
    """

    def __init__(self, expired: Callable[[T], None], clock: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expired = expired
        self._clock = clock
        self._heap: list[tuple[float, int, Alarm[T]]] = []
        self._off = 0  # alarms in the heap that are called off
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, when: float, item: T) -> Alarm[T]:
        """Call `expired` with `item` at `when` seconds since the epoch, or at once if that is past."""
        alarm = Alarm(item, self._called_off)
        first = not self._heap or when < self._heap[0][0]
        heapq.heappush(self._heap, (when, next(self._numbers), alarm))
        if first or self._timer is None:
            self._arm()
        return alarm

    def close(self) -> None:
        """Call everything off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        self._off = 0

    def _called_off(self) -> None:
        self._off += 1
        if self._off >= MANY and self._off * 2 > len(self._heap):
            # In place, since this may be called while it rings.
            self._heap[:] = [entry for entry in self._heap if entry[2].item is not None]
            heapq.heapify(self._heap)
            self._off = 0

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, self._heap[0][0] - self._clock()) + GRAIN, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock()
        heap = self._heap
        while heap and (heap[0][2].item is None or heap[0][0] <= now):
            alarm = heapq.heappop(heap)[2]
            item, alarm.item = alarm.item, None
            if item is None:
                self._off -= 1
            else:
                self._expired(item)
        if heap and self._timer is None:
            self._arm()
