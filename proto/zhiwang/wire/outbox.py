"""What waits to be written to one stream, in two lanes: what a person waits for passes what a roster has put there.

A stream carries its messages in order, so a message that is being written is waited for; what has not begun need not
be. Within a lane the order stays. Used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

IN_A_ROW = 8
"""Messages that may pass waiting bulk before one of bulk has its turn, so that it moves at all."""


class Outbox(Generic[T]):
    """The two lanes."""

    __slots__ = ("_bulk", "_ended", "_interactive", "_passed", "_wake")

    def __init__(self) -> None:
        self._interactive: deque[T] = deque()
        self._bulk: deque[T] = deque()
        self._passed = 0
        self._ended = False
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def put(self, message: T, *, bulk: bool = False) -> None:
        """Put a message in; after `end` it is dropped."""
        if not self._ended:
            (self._bulk if bulk else self._interactive).append(message)
            self._wake.set()

    def withdraw(self) -> list[T]:
        """Take back everything that is here."""
        found = [*self._interactive, *self._bulk]
        self._interactive.clear()
        self._bulk.clear()
        return found

    def end(self) -> None:
        """Nothing comes after what is here."""
        self._ended = True
        self._wake.set()

    async def get(self) -> T | None:
        """The next message, waited for; None after the last one."""
        while not self:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._interactive and not (self._bulk and self._passed >= IN_A_ROW):
            self._passed = self._passed + 1 if self._bulk else 0
            return self._interactive.popleft()
        self._passed = 0
        return self._bulk.popleft()
