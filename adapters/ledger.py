"""The guess ledger: how often a department may guess about one subject.

A yes/no oracle confirms guesses, so distinct guesses are counted: compared values for each (requesting department,
subject, attribute), names and asserted jurisdictions for each (requesting department, subject). A guess is charged
whatever comes of it; the same guess again within the window costs nothing; one that exceeds the cap is refused before
anything is evaluated. See DESIGN section 11.

The store is trusted with no identifier: scopes and guesses are 64 bits of an HMAC under a key of the owner. A collision
(one in 2^64 for each pair) could only charge too little once or too much once, and nobody without the key can look
for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection

from adapters.limits import Limits
from adapters.rows import Reading, fetch, pad, padded_marks, write
from zhiwang.wire.clock import day_of
from zhiwang.wire.keyed import Keyed

DAY = 86_400
_BATCH = 512
_KEPT_PLACES = 256
_CHARGE = (
    "INSERT INTO guess (scope, value, at) VALUES (?, ?, ?) ON CONFLICT (scope, value) DO UPDATE SET at = excluded.at"
)

SCHEMA = (
    """CREATE TABLE guess (
        scope INTEGER NOT NULL,
        value INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (scope, value)
    ) WITHOUT ROWID""",
    "CREATE INDEX guess_at ON guess (at)",
)
"""Table of the ledger in the adapter's store."""


class Charge(NamedTuple):
    """One distinct guess.

    Attributes:
        scope: Whom and what it is about, keyed.
        value: The guess, keyed.
        cap: How many distinct guesses the scope admits.
    """

    scope: int
    value: int
    cap: int


@dataclass(slots=True)
class Bill:
    """What the claims about one subject of one case cost.

    Attributes:
        shared: Charges without which no claim is evaluated: name and place.
        claims: Charges of single claims, by the claim's position.
        spent: Positions that are refused; filled by `Ledger.review`.
        closed: Whether all of them are refused.
        subject: (kind, identifier) of who is asked about.
        others: (position, kind and identifier) of whom a claim compares that subject with.
    """

    shared: list[Charge] = field(default_factory=list)
    claims: list[tuple[int, tuple[Charge, ...]]] = field(default_factory=list)
    spent: AbstractSet[int] = frozenset()
    closed: bool = False
    subject: tuple[str, str] = ("", "")
    others: list[tuple[int, tuple[str, str]]] = field(default_factory=list)


class Ledger:
    """Counts guesses in the adapter's store.

    Args:
        key: 32 bytes that only this owner has.
        limits: Caps and window.
        clock: Seconds since the epoch.
    """

    def __init__(self, key: bytes, limits: Limits, clock: Callable[[], float]) -> None:
        self._keyed = Keyed(key)
        self._limits = limits
        self._clock = clock
        # A roster asserts one place for everybody.
        self._place = lru_cache(_KEPT_PLACES)(lambda place: self._hash("g", place))

    def value(self, department: str, kind: str, identifier: str, attribute: str, guess: str) -> Charge:
        """A compared value of an attribute."""
        return Charge(
            self._hash("v", department, kind, identifier, attribute), self._hash("g", guess), self._limits.values
        )

    def name(self, department: str, kind: str, identifier: str, name: str) -> Charge:
        """A name for a subject."""
        return Charge(self._hash("n", department, kind, identifier), self._hash("g", name), self._limits.names)

    def place(self, department: str, kind: str, identifier: str, place: str) -> Charge:
        """A jurisdiction asserted for a subject."""
        return Charge(self._hash("p", department, kind, identifier), self._place(place), self._limits.places)

    def reports(self, department: str, official: str, kind: str, identifier: str) -> tuple[Charge, Charge]:
        """A report about a subject: what one official, and what its whole department, may have in a day."""
        day = day_of(self._clock()).isoformat()
        subject = self._hash("g", kind, identifier)
        return (
            Charge(self._hash("r", department, official, day), subject, self._limits.reports),
            Charge(self._hash("r", department, day), subject, self._limits.department_reports),
        )

    def _hash(self, *parts: str) -> int:
        # Parts are joined by NUL, which neither identifiers, names nor canonical values can hold.
        return int.from_bytes(self._keyed.digest("\0".join(parts).encode())[:8], "big", signed=True)

    def review(self, connection: Reading, bills: Iterable[Bill]) -> list[tuple[int, int]]:
        """Decide, in order, which charges can be paid; bills see those before them.

        Sets `spent` and `closed` of each bill.

        Returns:
            (scope, value) of what is to be charged and was not within the window.
        """
        bills = list(bills)
        scopes = {charge.scope for bill in bills for charge in bill.shared}
        scopes.update(charge.scope for bill in bills for _, charges in bill.claims for charge in charges)
        known = self._known(connection, list(scopes))
        fresh: list[tuple[int, int]] = []
        for bill in bills:
            closed = bill.closed = not _pay(bill.shared, known, fresh)
            bill.spent = {position for position, charges in bill.claims if closed or not _pay(charges, known, fresh)}
        return fresh

    def review_reports(
        self, connection: Reading, department: str, official: str, kind: str, identifier: str
    ) -> list[tuple[int, int]] | None:
        """What is due for one report, to be charged; None if it cannot be paid."""
        bill = Bill(shared=list(self.reports(department, official, kind, identifier)))
        fresh = self.review(connection, [bill])
        return None if bill.closed else fresh

    def _known(self, connection: Reading, scopes: Sequence[int]) -> dict[int, set[int]]:
        known: dict[int, set[int]] = {scope: set() for scope in scopes}
        since = int(self._clock()) - self._limits.days * DAY
        for start in range(0, len(scopes), _BATCH):
            group = scopes[start : start + _BATCH]
            marks = padded_marks(len(group))
            select = f"SELECT scope, value FROM guess WHERE scope IN ({marks}) AND at > ?"  # noqa: S608 - only marks
            for scope, value in fetch(connection, select, (*pad(group), since)):
                known[scope].add(value)
        return known

    def charge(self, connection: Connection, fresh: Sequence[tuple[int, int]]) -> None:
        """Write down what `review` said is due, within the transaction that holds the entries."""
        if fresh:
            now = int(self._clock())
            write(connection, _CHARGE, [(scope, value, now) for scope, value in fresh])

    def prune(self, connection: Connection) -> None:
        """Forget guesses that the window has left behind."""
        write(connection, "DELETE FROM guess WHERE at < ?", [(int(self._clock()) - self._limits.days * DAY,)])


def _pay(charges: Sequence[Charge], known: dict[int, set[int]], fresh: list[tuple[int, int]]) -> bool:
    """Pay all of the charges, or none if one cannot be paid."""
    due = [charge for charge in charges if charge.value not in known[charge.scope]]
    for scope, _, cap in due:
        if len(known[scope]) >= cap:
            return False
    for scope, value, _ in due:
        if value not in known[scope]:
            known[scope].add(value)
            fresh.append((scope, value))
    return True
