"""SQLite files as this project's stores use them: durable, created deliberately, with transactions that mean it.

An adapter keeps its replay rows, charges and sealed replies in the file of its log, so it opens that file here too. Who
is trusted with what: whoever can write the file can destroy the log but not rewrite it unnoticed; the triggers of
`audit.schema` stop accidents and hasty hands, the signed tree finds the rest.

The engine begins every transaction with BEGIN IMMEDIATE, so that a transaction that reads and then writes never finds
its snapshot outdated; `reading` gives the same engine for transactions that only read. Connections are made with
Python's `sqlite3` in its plain mode (`isolation_level = None`), because its own way of beginning transactions would
begin them late and let DDL slip out of them.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from audit.trouble import trouble
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import sync_path

BUSY_SECONDS: Final = 10.0
"""How long a transaction waits for another process's before it fails."""
CHECKPOINT_PAGES: Final = 4000
"""Pages of the write-ahead log (16 MiB) at which it is copied into the file. The COMMIT that does so takes ten times as
long as others and more: at SQLite's own 1,000 pages one in eighty groups of 32 entries, here one in three hundred."""
CONNECTIONS: Final = 8
"""Connections held; as many more may be opened for a moment."""

_BEGIN_OPTION: Final = "zhiwang_begin"
_FILE_MODE: Final = 0o600


def open_sqlite(path: Path, *, create: bool = False) -> Engine:
    """An engine over the file at `path`.

    Args:
        path: The database file. SQLite keeps `-wal` and `-shm` beside it; they belong to it.
        create: Make the file, readable by its owner only; it must not exist. Otherwise it must.

    Raises:
        FatalError: LOG_UNAVAILABLE: the file is there, or is not, or is no database.
    """
    if create:
        _create(path)
    elif not _is_there(path):
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"there is no store at {path}; it is made once, by the `init` of this process, and never by a start. "
            "If there was one, bring it back from its disk or backup",
        )
    address = f"{path.absolute().as_uri()}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with reading(engine).connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    except Exception as error:
        engine.dispose()
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{path} cannot be opened as a database: {trouble(error)}") from error
    if mode != "wal":
        engine.dispose()
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"{path} does not take write-ahead logging; keep it on a local file system, where locks work",
        )
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine and connections, for transactions that only read: they wait for no writer and stop none."""
    return engine.execution_options(**{_BEGIN_OPTION: "BEGIN DEFERRED"})


def open_readonly(path: Path) -> Engine:
    """An engine over a file that somebody else may be writing; it can write nothing. One connection, one snapshot.

    Raises:
        FatalError: LOG_UNAVAILABLE: the file is not there.
    """
    if not path.is_file():
        raise FatalError(Reason.LOG_UNAVAILABLE, f"there is no store at {path}")
    address = f"{path.absolute().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN DEFERRED"))
    return engine


def force_to_disk(engine: Engine, *, wait: bool) -> None:
    """Copy the write-ahead log into the database file and sync both.

    After a failed sync the kernel may call pages clean that never reached the disk; this writes and syncs all of them
    again, and fails if that fails.

    Args:
        engine: Of the file; no transaction may be open in this thread.
        wait: Until other connections are out of the way. Otherwise what is in use stays as it is.

    Raises:
        FatalError: LOG_UNAVAILABLE: it could not be done.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)" if wait else "PRAGMA wal_checkpoint(PASSIVE)")
        busy = wait and any(row[0] for row in cursor.fetchall())
    except sqlite3.Error as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the store cannot be written to disk: {trouble(error)}") from error
    finally:
        connection.close()
    if busy:
        raise FatalError(Reason.LOG_UNAVAILABLE, "the store is in use and could not be written to disk; try again")


def clear_log(engine: Engine, patience: float) -> bool:
    """Copy the write-ahead log into the database file, and empty it, unless somebody is in the way.

    Writers have to wait while this waits for readers, so its patience is theirs.

    Args:
        engine: Of the file; no transaction may be open in this thread.
        patience: Seconds to wait for others.

    Returns:
        Whether it is empty.

    Raises:
        FatalError: LOG_UNAVAILABLE: the file cannot be written.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return not any(row[0] for row in cursor.fetchall())
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return False
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the store cannot be written to disk: {trouble(error)}") from error
    finally:
        connection.close()


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{path} cannot be looked at: {trouble(error)}") from error


def _create(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{path} exists; a store is never made over another") from None
    except OSError as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{path} cannot be made: {trouble(error)}") from error
    try:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_path(path.parent)
    except OSError as error:
        raise FatalError(
            Reason.LOG_UNAVAILABLE, f"{path} was made and may not last: {trouble(error)}. Remove the file before"
        ) from error


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    cursor = connection.cursor()
    # Before the mode: a connection that waits for none would fail where another process recovers the file.
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    # Without it the rows that INSERT OR REPLACE takes away would fire no DELETE trigger.
    cursor.execute("PRAGMA recursive_triggers = ON")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def driver(connection: Connection | PoolProxiedConnection) -> sqlite3.Connection:
    """The driver's own connection, for the few statements of a hot path; the transaction remains SQLAlchemy's.

    Through SQLAlchemy each costs more than SQLite's work on it. What fails raises `sqlite3.Error`.
    """
    held = connection.connection if isinstance(connection, Connection) else connection
    found = held.driver_connection
    assert isinstance(found, sqlite3.Connection)  # noqa: S101 - `open_sqlite` makes no other
    return found


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN IMMEDIATE")
    try:
        # Through SQLAlchemy it costs a tenth of what the log's whole transaction does.
        driver(connection).execute(statement)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error
