"""Whose turn it is to write to the store, among the threads of one process: a person's request goes before a roster's.

SQLite lets one transaction write at a time, and whoever finds another's looks again after a pause that grows to 100 ms.
Here the next one begins when the one before has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """One turn at a time."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._taken = False
        self._interactive = 0  # who wait

    @contextmanager
    def take(self, *, bulk: bool) -> Iterator[None]:
        """Wait for a turn, and have it."""
        with self._condition:
            self._interactive += not bulk
            try:
                while self._taken or (bulk and self._interactive):
                    self._condition.wait()
            finally:
                self._interactive -= not bulk
            self._taken = True
        try:
            yield
        finally:
            with self._condition:
                self._taken = False
                self._condition.notify_all()
