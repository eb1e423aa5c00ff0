"""What stands above retention and erasure: the holds in force, as the log itself says.

A hold is an entry (HoldPlaced): what fulfils its conditions is neither erased nor dropped with its year before its
date, when it ends by itself; HoldLifted ends it earlier. So whoever has the log knows what is held, and nothing else
has to be kept or restored. A hold is identified by the department that placed it and the number of the order. Placing
it again with the same conditions and a later date renews it.

A log that follows another one (a new year) begins with copies of the holds in force (`HoldBook.carried`), so that the
newest log alone says what is held, and an older one can go. Whoever erases or drops anything asks
`HoldBook.holds_in_force` first, and `Hold.covers`, `covers_subject` or `covers_span` of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

from audit.asking import query_of, request_of
from audit.entry import decode_entry, event_number
from audit.facts import Facts
from audit.query import EVERYTHING, Query, Scope
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.identity import Identity

if TYPE_CHECKING:
    # Whoever only asks for holds, over the wire, needs no database.
    from audit.store import LogStore
    from audit.yearly import YearlyLog  # which begins each year with what is held

MAX_SECONDS: Final = 2 * 366 * 86_400
"""How far ahead a hold may end. Whoever needs it longer renews it, and says so again in the log."""
MAX_HOLDS: Final = 1000
"""Holds of one log in force at once."""
MAX_HOLDS_EACH: Final = 50
"""Of one department, so that none takes the place of an audit office's."""
GROUP: Final = 5000
"""Entries that are read in one go."""

_ORDER: Final = re.compile(r"[0-9A-Za-z\u4e00-\u9fff（）〔〕()\[\]._/-]{1,64}")
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Hold:
    """Entries that may be neither erased nor dropped.

    Attributes:
        order: Number of the order by which they are held.
        placed_by: SPIFFE identity of who placed it.
        placed: When it was placed first, in seconds since the epoch.
        until: From then on it no longer holds.
        query: Which entries.
        scope: Of them, those that the one who placed it may read.
    """

    order: str
    placed_by: str
    placed: float
    until: float
    query: Query
    scope: Scope

    @property
    def department(self) -> str:
        """Whose hold it is."""
        return Identity.parse(self.placed_by).department

    def covers(self, facts: Facts) -> bool:
        """Whether an entry is held."""
        return self.query.admits(facts) and self.scope.admits(facts)

    def covers_subject(self, entries: Iterable[Facts]) -> bool:
        """Whether a person's trace is held: whether any of the entries is that would lose it.

        Args:
            entries: All entries in which the person was asked about.
        """
        return any(self.covers(facts) for facts in entries)

    def covers_span(self, begin: float, end: float) -> bool:
        """Whether entries of a span of time, in seconds since the epoch, can be held; its end is outside.

        Only times are compared: what else a hold asks for may or may not be among them.
        """
        since, until = self.query.since, self.query.until
        return (until is None or until > begin * _MICROSECONDS) and (since is None or since < end * _MICROSECONDS)

    def event(self) -> audit_pb2.HoldPlaced:
        """As it stands in a log."""
        placed = audit_pb2.HoldPlaced(
            order=self.order,
            placed_by=self.placed_by,
            conditions=request_of(self.query),
            scope_department=self.scope.department,
            scope_place=self.scope.place,
        )
        placed.placed_time.FromMicroseconds(round(self.placed * _MICROSECONDS))
        placed.until_time.FromMicroseconds(round(self.until * _MICROSECONDS))
        return placed

    @classmethod
    def of_event(cls, placed: audit_pb2.HoldPlaced) -> Hold:
        """The hold that an entry says.

        Raises:
            RefusedError: What it says is none. It was not written by this code, and nothing may be erased.
        """
        Identity.parse(placed.placed_by)
        scoped = placed.scope_department or placed.scope_place
        return cls(
            order=placed.order,
            placed_by=placed.placed_by,
            placed=placed.placed_time.ToMicroseconds() / _MICROSECONDS,
            until=placed.until_time.ToMicroseconds() / _MICROSECONDS,
            query=query_of(placed.conditions),
            scope=Scope(department=placed.scope_department, place=placed.scope_place) if scoped else EVERYTHING,
        )


class HoldBook:
    """The holds of one log, read from its entries: all of them once, then what is new. Safe from any thread; blocks.

    Args:
        log: The log. Of several years' the newest is read, and says by itself what is held.
    """

    def __init__(self, log: YearlyLog | LogStore) -> None:
        self._log = log
        self._lock = Lock()
        self._origin = log.origin
        self._read = 0
        # Several processes may append to a log, so two conditions can stand under one order. Then both hold.
        self._holds: dict[tuple[str, str, Query, Scope], Hold] = {}

    def holds_in_force(self, now: float) -> tuple[Hold, ...]:
        """What is held, the earliest end first.

        Args:
            now: Seconds since the epoch.

        Raises:
            FatalError: LOG_UNAVAILABLE: the log cannot be read, so nothing may be erased.
            RefusedError: An entry says a hold that is none.
        """
        # Before the lock: it may wait for the turn to write, and who has that asks us what is held (`carried`).
        self._log.refresh()
        with self._lock:
            store = self._log.shard()
            if store.origin != self._origin:
                self._origin, self._read, self._holds = store.origin, 0, {}
            size = store.newest.size
            while self._read < size:
                entries = store.entries(self._read, min(GROUP, size - self._read))
                for data in entries:
                    self._take(data)
                self._read += len(entries)
            held = [hold for hold in self._holds.values() if now < hold.until]
        return tuple(sorted(held, key=lambda hold: (hold.until, hold.department, hold.order)))

    def carried(self, now: float) -> list[audit_pb2.HoldPlaced]:
        """What a log that follows this one has to begin with, so that it says by itself what is held.

        Those that ended within `MAX_SECONDS` too: the clock by which a year begins may have leaped, and comes back.
        """
        return [hold.event() for hold in self.holds_in_force(now - MAX_SECONDS)]

    def _take(self, data: bytes) -> None:
        number = event_number(data)
        if number == audit_pb2.Entry.HOLD_PLACED_FIELD_NUMBER:
            hold = Hold.of_event(decode_entry(data).hold_placed)
            key = (hold.department, hold.order, hold.query, hold.scope)
            known = self._holds.get(key)
            if known is None or known.until < hold.until:
                self._holds[key] = hold
        elif number == audit_pb2.Entry.HOLD_LIFTED_FIELD_NUMBER:
            lifted = decode_entry(data).hold_lifted
            for key in [key for key in self._holds if key[:2] == (lifted.department, lifted.order)]:
                del self._holds[key]


def check_order(order: str) -> None:
    """Refuse what is no number of an order.

    Raises:
        RefusedError: ORDER_INVALID.
    """
    if not _ORDER.fullmatch(order) or contains_identifier(order, grouped=True):
        raise RefusedError(Reason.ORDER_INVALID, "the number of an order", field="order")


def check_until(until: float, now: float) -> None:
    """Refuse an end of a hold that has passed or is too far ahead.

    Raises:
        RefusedError: ORDER_INVALID.
    """
    if not now < until <= now + MAX_SECONDS:
        raise RefusedError(Reason.ORDER_INVALID, "a hold ends in the future, within two years", field="until_time")
