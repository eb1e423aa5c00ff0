"""The adapter's own rows in its store, which is a file of SQLite or a database of PostgreSQL.

Every statement here and in the modules that use it means the same to both, with `?` for its parameters. A frame asks
the store half a dozen small questions; through SQLAlchemy each costs more than SQLite's work on it, so a file's driver
is asked directly. A server's answer takes longer than SQLAlchemy does. The transaction remains SQLAlchemy's.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Semaphore
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, PoolProxiedConnection
from sqlalchemy.exc import SQLAlchemyError

from audit import postgres
from audit.sqlite import driver
from audit.trouble import trouble
from zhiwang.wire.errors import FatalError, Reason

Reading: TypeAlias = "Connection | sqlite3.Connection"
"""A connection that only reads: a snapshot's, or that of a transaction."""


_GATES: Final[WeakKeyDictionary[Engine, Semaphore]] = WeakKeyDictionary()
"""Of each database, how many snapshots may still be taken."""


class Snapshots:
    """Connections to the store for reading; those to a file are held. Safe to use from several threads.

    Args:
        engine: Of the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[PoolProxiedConnection] = deque()

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """One state of the store; waits for no writer and stops none.

        Raises:
            FatalError: LOG_UNAVAILABLE: the store failed.
        """
        if in_file(self._engine):
            with self._read_file() as snapshot:
                yield snapshot
            return
        # Who holds a snapshot may need another connection to read the log: half of them are left for that.
        gate = _GATES.setdefault(self._engine, Semaphore(postgres.CONNECTIONS // 2))
        try:
            with gate, postgres.reading(self._engine).connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _failed(error) from None

    @contextmanager
    def _read_file(self) -> Iterator[sqlite3.Connection]:
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


def in_file(place: Engine | Reading) -> bool:
    """Whether a store is a file of SQLite."""
    return isinstance(place, sqlite3.Connection) or place.dialect.name == "sqlite"


@cache
def _marked(sql: str) -> str:
    """A statement with the marks that PostgreSQL's driver takes for parameters."""
    return sql.replace("?", "%s")


def fetch(connection: Reading, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Rows of a SELECT.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    try:
        if isinstance(connection, Connection) and not in_file(connection):
            return list(connection.exec_driver_sql(_marked(sql), tuple(parameters)))
        return _driver(connection).execute(sql, parameters).fetchall()
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise _failed(error) from None


def write(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """One statement for each row.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    try:
        if in_file(connection):
            _driver(connection).executemany(sql, rows)
        elif rows:
            connection.exec_driver_sql(_marked(sql), [tuple(row) for row in rows])
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise _failed(error) from None


def _driver(connection: Reading) -> sqlite3.Connection:
    return connection if isinstance(connection, sqlite3.Connection) else driver(connection)


def _failed(error: sqlite3.Error | SQLAlchemyError) -> FatalError:
    # The driver's text may quote what was to be written.
    return FatalError(Reason.LOG_UNAVAILABLE, f"the store failed: {trouble(error)}")


def padded_marks(count: int) -> str:
    """Question marks for an IN list, as many as the next power of two: few statements serve all sizes."""
    return ",".join("?" * (1 << max(count - 1, 0).bit_length()))


def pad(values: Sequence[Any]) -> list[Any]:
    """Values for `padded_marks`; null equals nothing."""
    return [*values, *[None] * ((1 << max(len(values) - 1, 0).bit_length()) - len(values))]
