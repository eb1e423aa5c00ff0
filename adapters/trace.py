"""The index of who was asked about: which entries of the owner's log concern a subject, for the owner alone.

A row stands for one subject of one entry: HMAC(key of the year, kind and identifier), the entry's index, and where in
the request the subject stood. It is written in the entry's transaction. The keys are files beside the store, one a
year; without a year's key nobody can tell any more whom that year's entries were about, not even the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hmac import digest
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from adapters.ledger import open_key
from adapters.rows import Reading, fetch, write
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.header import MAX_SLOTS

SUBJECT_SIZE: Final = 16
"""Bytes of a subject in the index."""

CLOSED: Final = 1 << (2 * MAX_SLOTS)
"""Of a part: everything about the subject was refused, since its requester had guessed too often."""
SPENT: Final = CLOSED << 1
"""Of a part: what compares was refused for that reason."""

SCHEMA: Final = (
    """CREATE TABLE trace (
        year INTEGER NOT NULL,
        subject BLOB NOT NULL,
        entry INTEGER NOT NULL,
        part INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (year, subject, entry)
    ) WITHOUT ROWID""",
)
"""Table of the index in the adapter's store."""

_INSERT: Final = "INSERT OR IGNORE INTO trace (year, subject, entry, part) VALUES (?, ?, ?, ?)"


def slot_part(slot: int) -> int:
    """The part of who stands in a slot of the header."""
    return 1 << slot


def value_part(value: int) -> int:
    """The part of who is a compared value of the header."""
    return 1 << (MAX_SLOTS + value)


def upgrade(connection: Connection) -> None:
    """Bring the table of an older release up to date: its rows did not say where in a request a subject stood."""
    columns = {row[1] for row in fetch(connection, "PRAGMA table_info(trace)")}
    if "part" not in columns:
        connection.exec_driver_sql("ALTER TABLE trace ADD COLUMN part INTEGER NOT NULL DEFAULT 0")


class Row(NamedTuple):
    """A row of the index.

    Attributes:
        part: Where the subject stood, by `slot_part` and `value_part`, with `CLOSED` and `SPENT`; 0 if that is not
            known.
    """

    year: int
    subject: bytes
    entry: int
    part: int


class Found(NamedTuple):
    """An entry that concerns a subject, and where the subject stood in it."""

    entry: int
    part: int


class Trace:
    """Writes and reads the index.

    Args:
        directory: Where the keys of the years are (0600). One is made when its year begins.
        clock: Seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._year = 0
        self._key = b""

    def row(self, kind: str, identifier: str, entry: int, part: int) -> Row:
        """Index row of a subject of the entry at an index."""
        year = datetime.fromtimestamp(self._clock(), CITY_TIME).year
        if year != self._year:
            self._key = open_key(self._directory / f"trace-{year}.key", create=True)
            self._year = year
        return Row(year, _subject(self._key, kind, identifier), entry, part)

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows in the entries' transaction."""
        if rows:
            write(connection, _INSERT, rows)

    def years(self) -> list[int]:
        """Years whose keys are there, ascending: of their entries the owner can still tell whom they were about."""
        names = (path.name for path in self._directory.glob("trace-????.key"))
        return sorted(int(name[6:10]) for name in names if name[6:10].isdecimal())

    def subjects(self, kind: str, identifier: str) -> Mapping[int, bytes]:
        """What stands for a subject, in each year.

        Raises:
            OSError: A key cannot be read.
            ValueError: A key is damaged.
        """
        return {
            year: _subject(open_key(self._directory / f"trace-{year}.key", create=False), kind, identifier)
            for year in self.years()
        }

    def find(self, connection: Reading, kind: str, identifier: str) -> list[Found]:
        """Entries that concern a subject, newest first.

        Raises:
            OSError: A key cannot be read.
            ValueError: A key is damaged.
            FatalError: LOG_UNAVAILABLE: the store failed.
        """
        select = "SELECT entry, part FROM trace WHERE year = ? AND subject = ?"
        found = [
            Found(*row) for key in self.subjects(kind, identifier).items() for row in fetch(connection, select, key)
        ]
        return sorted(found, reverse=True)


def _subject(key: bytes, kind: str, identifier: str) -> bytes:
    return digest(key, f"{kind}\0{identifier}".encode(), "sha256")[:SUBJECT_SIZE]
