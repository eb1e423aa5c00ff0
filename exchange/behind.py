"""Requests that wait for a directory which the hub does not have yet, since they must not be decided by an older one.

A requester that has just published a change asks with `min_policy_version`. Such a request is held until the directory
is there, or its deadline comes; bounded for each requester and for all, so that naming a directory which never comes
costs nobody but who names it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exchange.hub import Waiting

MAX_BEHIND: Final = 1024
"""Requests that wait at once."""
MAX_BEHIND_EACH: Final = 128
"""Of one requester."""


class Behind:
    """Owned by the event loop."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def take(self, ticket: Waiting, who: str) -> bool:
        """Hold a request, if there is room.

        Args:
            ticket: It; whatever else settles it takes it out of here.
            who: The requester.
        """
        self._waiting = [one for one in self._waiting if not one.settled]
        each = Counter(one.access.header.system for one in self._waiting)
        if len(self._waiting) >= MAX_BEHIND or each[who] >= MAX_BEHIND_EACH:
            return False
        self._waiting.append(ticket)
        return True

    def reached(self, version: int) -> list[Waiting]:
        """Those that may be decided by a directory of this version; they are held no longer."""
        self._waiting = [one for one in self._waiting if not one.settled]
        due = [one for one in self._waiting if one.access.header.min_policy_version <= version]
        self._waiting = [one for one in self._waiting if one.access.header.min_policy_version > version]
        return due
