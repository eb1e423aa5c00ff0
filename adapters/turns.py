"""Whose turn it is, among the threads of one process: a person's request goes before a roster's.

So it is with writing to the store: SQLite lets one transaction write at a time, and whoever finds another's looks again
after a pause that grows to 100 ms; here the next one begins when the one before has ended. And so it is with the
department's database, which has as many turns as the mapping allows connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """So many turns at a time.

    Args:
        count: How many.
    """

    def __init__(self, count: int = 1) -> None:
        self._condition = Condition()
        self._left = count
        self._interactive = 0  # who wait

    @property
    def awaited(self) -> bool:
        """Whether somebody waits who goes before a roster."""
        return self._interactive > 0

    def acquire(self, *, bulk: bool, timeout: float | None = None) -> bool:
        """Wait for a turn, for so many seconds at most if given; whether there was one."""
        with self._condition:
            self._interactive += not bulk
            try:
                mine = self._condition.wait_for(
                    lambda: self._left > 0 and not (bulk and self._interactive), timeout=timeout
                )
            finally:
                self._interactive -= not bulk
                if not bulk:
                    # Who goes after may go now, if there is a turn left, or nobody waits any more.
                    self._condition.notify_all()
            self._left -= mine
            return mine

    def release(self) -> None:
        """Give a turn back."""
        with self._condition:
            self._left += 1
            self._condition.notify_all()

    @contextmanager
    def take(self, *, bulk: bool) -> Iterator[None]:
        """Wait for a turn, and have it."""
        self.acquire(bulk=bulk)
        try:
            yield
        finally:
            self.release()
