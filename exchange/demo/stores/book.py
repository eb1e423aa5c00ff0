"""A department's SQLite database while it is being written, and the spellings that its clerks use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from exchange.demo import codes, names
from exchange.demo.chance import happens, source


class Book:
    """One database that nobody reads yet.

    Args:
        connection: To an empty database.
        rng: Decides which clerk wrote a row.
        now: Time of the run; data sets are loaded shortly before.
    """

    def __init__(self, connection: sqlite3.Connection, rng: Random, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self.rng = rng

    def create(self, schema: str) -> None:
        """Create tables and indexes; sqlite3's own executescript would commit half-way."""
        for statement in schema.split(";"):
            self._connection.execute(statement)

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows with as many values as the table has columns."""
        iterator: Iterator[tuple[Any, ...]] = iter(rows)
        first = next(iterator, None)
        if first is not None:
            statement = f'INSERT INTO "{table}" VALUES ({",".join("?" * len(first))})'  # noqa: S608 - table names of this package
            self._connection.execute(statement, first)
            self._connection.executemany(statement, iterator)

    def loaded(self, days: float) -> str:
        """Return the time, in UTC, so many days ago, at which a data set was loaded."""
        return f"{self._now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"

    def lower(self, identifier: str) -> str:
        """Return an identifier as typed without the shift key."""
        return identifier.lower()

    def wide(self, identifier: str) -> str:
        """Return an identifier as typed with a Chinese input method, now and then."""
        return codes.full_width(identifier) if happens(self.rng, 0.1) else identifier

    def old(self, identifier: str) -> str:
        """Return an identifier with 15 digits where a row has not been touched since 1999, as some have not."""
        return (codes.fifteen(identifier) or identifier) if happens(self.rng, 0.3) else identifier

    def dotted(self, name: str) -> str:
        """Return a name with whichever middle dot the clerk's keyboard has."""
        return name.replace("·", self.rng.choice(names.MIDDLE_DOTS)) if "·" in name else name


@contextmanager
def opened(path: Path, seed: str, now: datetime) -> Iterator[Book]:
    """Create a database, readable by its owner alone, and commit what is written to it.

    Raises:
        FileExistsError: The file is there already; nothing is overwritten.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nobody else has the file, and a half-written one is thrown away with its directory.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        yield Book(connection, source(seed), now.astimezone(UTC))
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
    finally:
        connection.close()
