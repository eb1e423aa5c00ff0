"""Places for the chunks of rosters: how many are asked about at once, and whose turn is next.

A free place goes to the caller that has the fewest, and of its rosters to the one that has the fewest; among equals to
the one whose last turn is longest ago. So a roster of any length, or many of one caller, never keep another from its
share, and whoever is alone has all places. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Waiting = deque[asyncio.Future[None]]


class ChunkPlaces:
    """The places.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        # Both in the order of their last turns.
        self._waiting: dict[str, dict[object, Waiting]] = {}
        self._callers: Counter[str] = Counter()
        self._rosters: Counter[object] = Counter()

    @property
    def free(self) -> int:
        """Places that nobody has."""
        return self._free

    @asynccontextmanager
    async def take(self, caller: str, roster: object) -> AsyncIterator[None]:
        """Wait for a place, and have it.

        Args:
            caller: Whose roster it is.
            roster: Which one; compared by identity.
        """
        if self._free:
            # Whoever waits has been given what was free before.
            self._give(caller, roster)
        else:
            await self._wait(caller, roster)
        try:
            yield
        finally:
            self._take_back(caller, roster)

    async def _wait(self, caller: str, roster: object) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, {}).setdefault(roster, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._leave(caller, roster, future)
            else:
                # It had just been given a place.
                self._take_back(caller, roster)
            raise

    def _leave(self, caller: str, roster: object, future: asyncio.Future[None]) -> None:
        """Whoever gives up waits in no row, unless its turn has just been passed over."""
        rosters = self._waiting.get(caller, {})
        waiting = rosters.get(roster, deque())
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del rosters[roster]
            if not rosters:
                del self._waiting[caller]

    def _give(self, caller: str, roster: object) -> None:
        self._free -= 1
        self._callers[caller] += 1
        self._rosters[roster] += 1

    def _take_back(self, caller: str, roster: object) -> None:
        self._free += 1
        self._callers -= Counter((caller,))
        self._rosters -= Counter((roster,))
        self._next()

    def _next(self) -> None:
        """Give a free place to whose turn it is."""
        while self._waiting:
            caller = min(self._waiting, key=self._callers.__getitem__)
            rosters = self._waiting.pop(caller)
            roster = min(rosters, key=self._rosters.__getitem__)
            waiting = rosters.pop(roster)
            future = waiting.popleft()
            # Back at the ends of their rows, if there is more.
            if waiting:
                rosters[roster] = waiting
            if rosters:
                self._waiting[caller] = rosters
            if not future.cancelled():
                self._give(caller, roster)
                future.set_result(None)
                return
