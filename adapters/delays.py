"""Entries that citizens are not told of yet: which orders are in force, and whom they concern.

An order is an entry of the owner's log (`EntriesDelayed`), made before it has any effect, and ends by itself at its
date. The store only keeps where these entries are; what they say is read from the log, so nobody can lengthen one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from adapters.rows import Reading, fetch, write
from audit.entry import decode_entry
from audit.holds import check_order
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import is_token

MAX_DELAY: Final = 366 * 86_400
"""Seconds for which one order may last. A longer investigation renews it, and every renewal is an entry."""

DELAY_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS delay (entry INTEGER PRIMARY KEY)"
"""Where the orders are in the log; stores that older releases made lack it."""

_NANOS: Final = 1_000_000_000

Entries = Callable[[int, int], Sequence[bytes]]
"""Gives committed entries: of a first index, so many."""


@dataclass(frozen=True, slots=True)
class Access:
    """What an order may name of an access."""

    department: str
    official: str
    matter: str
    reference: str


@dataclass(frozen=True, slots=True)
class Delays:
    """The orders in force at some moment."""

    orders: tuple[audit_pb2.EntriesDelayed, ...] = ()

    def cover(self, access: Access) -> bool:
        """Whether citizens are not told of an access yet."""
        return any(
            all(
                not wanted or wanted == found
                for wanted, found in (
                    (order.department, access.department),
                    (order.official, access.official),
                    (order.matter, access.matter),
                    (order.reference, access.reference),
                )
            )
            for order in self.orders
        )


def check(order: audit_pb2.EntriesDelayed, now: float) -> None:
    """Whether an order may be made.

    Raises:
        RefusedError: ORDER_INVALID or DELAY_INVALID, with its field.
    """
    check_order(order.order)
    for name in ("official", "matter", "reference", "department"):
        text = getattr(order, name)
        if text and not is_token(text):
            raise RefusedError(Reason.DELAY_INVALID, "not short ASCII, or holds an identifier", field=name)
    if not (order.official or order.matter or order.reference):
        raise RefusedError(
            Reason.DELAY_INVALID,
            "say which: an official, a matter or a reference; a department alone is too much",
            field="reference",
        )
    lasts = order.until_time.seconds - now
    if not 0 < lasts <= MAX_DELAY or not 0 <= order.until_time.nanos < _NANOS:
        raise RefusedError(Reason.DELAY_INVALID, "a delay ends within 366 days from now", field="until_time")


def insert(connection: Connection, entry: int) -> None:
    """An order was appended at this position, in this transaction."""
    write(connection, "INSERT INTO delay (entry) VALUES (?)", [(entry,)])


def in_force(connection: Reading, entries: Entries, kept: Callable[[int], bool], now: float) -> Delays:
    """The orders that have not ended.

    Args:
        connection: To the store.
        entries: Reads the log.
        kept: Whether an entry is still there; orders that went with their year have ended long ago.
        now: Seconds since the epoch.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    orders = []
    for (at,) in fetch(connection, "SELECT entry FROM delay"):
        if not kept(at):
            continue
        (data,) = entries(at, 1)
        entry = decode_entry(data)
        order = entry.entries_delayed
        # However long it says: no order outlives its bound.
        if now < min(order.until_time.seconds, entry.time.seconds + MAX_DELAY):
            orders.append(order)
    return Delays(tuple(orders))
