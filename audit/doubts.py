"""What was appended and is not known to be committed, since the answer to its COMMIT was lost with the connection.

Whoever appended it was told that the log is unavailable and tries again with the same entries. By then a later
transaction has looked them up, and those that are in the log after all are not appended twice. Bounded; owned as the
log's edge is, and read by any thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple

from audit.appended import Appended

DOUBTS: Final = 64
"""Transactions whose outcome can be in doubt at a time: those of a process's threads, one after the other."""

SETTLED: Final = 8192
"""Entries of which it is remembered that they are in the log after all."""


class Doubt(NamedTuple):
    """One transaction's entries.

    Attributes:
        origin: Of the log.
        first: Index of the first entry.
        keys: Of the entries, in order.
    """

    origin: str
    first: int
    keys: list[bytes]


class Doubts:
    """Those of one identity's logs."""

    def __init__(self) -> None:
        self._open: deque[Doubt] = deque(maxlen=DOUBTS)
        # Replaced whole; readers take the reference.
        self._settled: Mapping[bytes, tuple[str, int]] = {}

    def add(self, doubt: Doubt) -> None:
        """Entries were appended in a transaction that has not ended."""
        self._open.append(doubt)

    def committed(self, appended: Appended) -> None:
        """It has been committed."""
        for doubt in [one for one in list(self._open) if one[:2] == (appended.origin, appended.first)]:
            with suppress(ValueError):
                self._open.remove(doubt)

    def settle(self, find: Callable[[Doubt], Mapping[bytes, int]]) -> None:
        """Look up what is in doubt, when no other transaction can still bring it in.

        Args:
            find: Gives the index of each entry that is in the log, by key.
        """
        found = dict(self._settled)
        for doubt in self._open:
            found |= {key: (doubt.origin, index) for key, index in find(doubt).items()}
        self._settled = dict(islice(found.items(), max(0, len(found) - SETTLED), None))
        self._open.clear()

    @property
    def settled(self) -> Mapping[bytes, tuple[str, int]]:
        """Entries that turned out to be in the log, by key: origin and index."""
        return self._settled
