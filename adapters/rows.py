"""The adapter's own rows in its store, asked for without SQLAlchemy's share of the cost.

A frame asks the store half a dozen small questions; through SQLAlchemy each costs more than SQLite's work on it. The
transaction remains SQLAlchemy's.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, PoolProxiedConnection

from audit.sqlite import driver
from zhiwang.wire.errors import FatalError, Reason

Reading: TypeAlias = "Connection | sqlite3.Connection"
"""A connection that only reads: a snapshot's, or that of a transaction."""


class Snapshots:
    """Held connections to the store for reading. Safe to use from several threads.

    Args:
        engine: Of the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[PoolProxiedConnection] = deque()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One state of the store; waits for no writer and stops none.

        Raises:
            FatalError: LOG_UNAVAILABLE: the store failed.
        """
        try:
            held = self._idle.pop()
        except IndexError:
            held = self._engine.raw_connection()
        snapshot = driver(held)
        try:
            snapshot.execute("BEGIN DEFERRED")
            try:
                yield snapshot
            finally:
                snapshot.execute("ROLLBACK")
        except sqlite3.Error as error:
            held.invalidate()
            raise _failed(error) from None
        self._idle.append(held)


def fetch(connection: Reading, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Rows of a SELECT.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    try:
        return _driver(connection).execute(sql, parameters).fetchall()
    except sqlite3.Error as error:
        raise _failed(error) from None


def write(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """One statement for each row.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    try:
        _driver(connection).executemany(sql, rows)
    except sqlite3.Error as error:
        raise _failed(error) from None


def _driver(connection: Reading) -> sqlite3.Connection:
    return connection if isinstance(connection, sqlite3.Connection) else driver(connection)


def _failed(error: sqlite3.Error) -> FatalError:
    # The driver's text may quote what was to be written.
    return FatalError(
        Reason.LOG_UNAVAILABLE, f"the store failed: {getattr(error, 'sqlite_errorname', type(error).__name__)}"
    )


def padded_marks(count: int) -> str:
    """Question marks for an IN list, as many as the next power of two: few statements serve all sizes."""
    return ",".join("?" * (1 << max(count - 1, 0).bit_length()))


def pad(values: Sequence[Any]) -> list[Any]:
    """Values for `padded_marks`; null equals nothing."""
    return [*values, *[None] * ((1 << max(len(values) - 1, 0).bit_length()) - len(values))]
