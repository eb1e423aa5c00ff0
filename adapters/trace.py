"""The index of who was asked about: which entries of the owner's log concern a subject, for the owner alone.

A row stands for one subject of one entry: HMAC(key of the year, kind and identifier), the entry's index, and where in
the request the subject stood. It is written in the entry's transaction. The keys are files, one a year
(`adapters.store_keys`); without a year's key nobody can tell any more whom that year's entries were about, not even the
owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from adapters.rows import Reading, fetch, write
from adapters.store_keys import match, open_key, trace_key, trace_key_name, trace_years
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.header import MAX_SLOTS
from zhiwang.wire.keyed import Keyed

SUBJECT_SIZE: Final = 16
"""Bytes of a subject in the index."""

SCHEMA: Final = (
    """CREATE TABLE trace (
        year INTEGER NOT NULL,
        subject BLOB NOT NULL,
        entry INTEGER NOT NULL,
        part INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (year, subject, entry)
    ) WITHOUT ROWID""",
)
"""Table of the index in the adapter's store."""

_SIGN: Final = 63
"""Bit of the sign in an integer of SQLite; a request has as many claims as there are bits."""

_INSERT: Final = "INSERT INTO trace (year, subject, entry, part, refused) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


def slot_part(slot: int) -> int:
    """The part of who stands in a slot of the header."""
    return 1 << slot


def value_part(value: int) -> int:
    """The part of who is a compared value of the header."""
    return 1 << (MAX_SLOTS + value)


def upgrade(connection: Connection) -> None:
    """Bring the table of an older release up to date: its rows did not say where in a request a subject stood."""
    columns = {row[1] for row in fetch(connection, "PRAGMA table_info(trace)")}
    for column in ("part", "refused"):
        if column not in columns:
            connection.exec_driver_sql(f"ALTER TABLE trace ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


class Stand(NamedTuple):
    """Where a subject stood in a request.

    Attributes:
        part: By `slot_part` and `value_part`; 0 if that is not known.
        refused: The claims that were refused about it, by a bit for each index, since its requester had guessed too
            often; in a roster, in any of the cases in which it stood.
    """

    part: int
    refused: int = 0


class Row(NamedTuple):
    """A row of the index; of `refused` the 64 bits, as SQLite's signed integers hold them."""

    year: int
    subject: bytes
    entry: int
    part: int
    refused: int


class Found(NamedTuple):
    """An entry that concerns a subject, and where the subject stood in it."""

    entry: int
    stand: Stand


class Trace:
    """Writes and reads the index.

    Args:
        directory: Where the keys of the years are (0600). One is made when its year begins.
        clock: Seconds since the epoch.
        apart: Whether replicas of this adapter have directories of their own with the same keys.
    """

    def __init__(self, directory: Path, clock: Callable[[], float], *, apart: bool = False) -> None:
        self._directory = directory
        self._clock = clock
        self._apart = apart
        self._year = 0
        self._key = b""
        self._keyed = Keyed(self._key)
        self._matched = 0
        # Of the year, in seconds since the epoch: first moment, and first moment of the next.
        self._begins = self._ends = 0.0

    def row(self, kind: str, identifier: str, entry: int, stand: Stand) -> Row:
        """Index row of a subject of the entry at an index."""
        now = self._clock()
        if not self._begins <= now < self._ends:
            self._turn(datetime.fromtimestamp(now, CITY_TIME).year)
        part, refused = stand
        return Row(
            self._year,
            _subject(self._keyed, kind, identifier),
            entry,
            part,
            refused - ((refused >> _SIGN) << (_SIGN + 1)),
        )

    def _turn(self, year: int) -> None:
        self._key = trace_key(self._directory, year, apart=self._apart)
        self._keyed = Keyed(self._key)
        self._year = year
        self._begins, self._ends = (datetime(one, 1, 1, tzinfo=CITY_TIME).timestamp() for one in (year, year + 1))

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows in the entries' transaction.

        Raises:
            FatalError: LOG_UNAVAILABLE: another replica indexes under another key, or the store failed.
        """
        if not rows:
            return
        # Told by what stood there before: what this transaction writes may be rolled back.
        if self._apart and self._matched != self._year and match(connection, trace_key_name(self._year), self._key):
            self._matched = self._year
        write(connection, _INSERT, rows)

    def years(self) -> list[int]:
        """Years whose keys are there, ascending: of their entries the owner can still tell whom they were about."""
        return trace_years(self._directory)

    def subjects(self, kind: str, identifier: str) -> Mapping[int, bytes]:
        """What stands for a subject, in each year.

        Raises:
            OSError: A key cannot be read.
            ValueError: A key is damaged.
        """
        return {
            year: _subject(Keyed(open_key(self._directory / trace_key_name(year), create=False)), kind, identifier)
            for year in self.years()
        }

    def find(self, connection: Reading, kind: str, identifier: str) -> list[Found]:
        """Entries that concern a subject, newest first.

        Raises:
            OSError: A key cannot be read.
            ValueError: A key is damaged.
            FatalError: LOG_UNAVAILABLE: the store failed.
        """
        select = "SELECT entry, part, refused FROM trace WHERE year = ? AND subject = ?"
        found = [
            Found(entry, Stand(part, refused % (1 << (_SIGN + 1))))
            for key in self.subjects(kind, identifier).items()
            for entry, part, refused in fetch(connection, select, key)
        ]
        return sorted(found, reverse=True)


def _subject(keyed: Keyed, kind: str, identifier: str) -> bytes:
    return keyed.digest(f"{kind}\0{identifier}".encode())[:SUBJECT_SIZE]
