"""Requests that wait for a directory which the hub does not have yet, since they must not be decided by an older one.

A requester that has just published a change asks with `min_policy_version`. Such a request is held until the directory
is there, or its deadline comes; bounded for each department and for all, so that one department which names a directory
that never comes leaves room for the others.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from exchange.waiting import Waiting

MAX_BEHIND: Final = 1024
"""Requests that wait at once."""
MAX_BEHIND_EACH: Final = 128
"""Of one department, whatever the number of its systems."""


class Behind:
    """Owned by the event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Waiting]] = []  # with whose it is

    def __len__(self) -> int:
        """How many are held."""
        self._forget()
        return len(self._waiting)

    def take(self, ticket: Waiting, department: str) -> bool:
        """Hold a request, if there is room.

        Args:
            ticket: It; whatever else settles it takes it out of here.
            department: The requester's.
        """
        self._forget()
        each = Counter(whose for whose, _ in self._waiting)
        if len(self._waiting) >= MAX_BEHIND or each[department] >= MAX_BEHIND_EACH:
            return False
        self._waiting.append((department, ticket))
        return True

    def reached(self, version: int) -> list[Waiting]:
        """Those that may be decided by a directory of this version; they are held no longer."""
        self._forget()
        due = [one for _, one in self._waiting if one.access.header.min_policy_version <= version]
        self._waiting = [held for held in self._waiting if held[1].access.header.min_policy_version > version]
        return due

    def _forget(self) -> None:
        self._waiting = [held for held in self._waiting if not held[1].settled]
