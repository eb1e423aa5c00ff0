"""The adapter's own rows in its store, asked for without SQLAlchemy's share of the cost.

A frame asks the store half a dozen small questions; through SQLAlchemy each costs more than SQLite's work on it. The
transaction remains SQLAlchemy's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from zhiwang.wire.errors import FatalError, Reason


def fetch(connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
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


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - audit.sqlite makes no other
    return driver


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
