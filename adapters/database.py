"""The department's database: opened for reading only, over connections that are held, and never quoted.

Statements of the hot path go to the driver directly, since SQLAlchemy's execution costs more than SQLite's point
query; SQLAlchemy opens the connections and compiles the statements. No message of a database is ever logged or raised,
since it may quote a value; only its class and code are.

Engines, and what their sessions are set to, stand in `adapters/sessions.py`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import SQLAlchemyError

from adapters.mapping import Database, sqlite_location
from adapters.sessions import UrlError, open_engine
from adapters.turns import Turns
from zhiwang.wire.records import Outcome

Parameters = Sequence[Any] | dict[str, Any]

Stamp = tuple[int, int] | None
"""Which file an SQLite database is: device and inode; None if there is none, or for another database."""

_PROGRESS_STEPS = 20_000
_SQLITE_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_SQLSTATE_OF_ROWS = frozenset({"21", "22", "2F", "38", "39", "P0"})
"""Classes of what a record can cause: a subquery of several rows, a value that cannot be read, an error of a function.

Everything else (a grant or a column that is gone, a deadlock, a server that ends) is not the fault of one subject.
"""
_SQLSTATE_TIMEOUT = "57014"
_MYSQL_OF_ROWS = frozenset({1139, 1242, 1264, 1292, 1300, 1365, 1366, 1367, 1411, 1441, 1644, 1690, 3141, 3146})
"""The same as MySQL and MariaDB number it. Their SQLSTATEs, which PyMySQL 2 passes on, are coarser: HY000 is any."""
_MYSQL_TIMEOUTS = frozenset({1205, 1969, 3024})

_log = structlog.get_logger(__name__)


class DatabaseError(Exception):
    """The database as a whole, or a data set of it, cannot be read now.

    Attributes:
        outcome: What the claims get: DATABASE_UNAVAILABLE or TIMED_OUT.
    """

    def __init__(self, outcome: Outcome = Outcome.DATABASE_UNAVAILABLE) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


class StatementError(Exception):
    """The database refused one statement and goes on: a bad row, or a data set that is not what it was.

    Attributes:
        kind: Class and code of the driver's error.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def connect_to(database: Database, base: Path) -> Connections:
    """Held connections to the mapping's database.

    Raises:
        FileError: As `open_engine`.
        UrlError: As `open_engine`.
    """
    engine = open_engine(database, base)
    file = base / sqlite_location(database.url)[0] if engine.dialect.name == "sqlite" else None
    return Connections(engine, database.timeout, database.connections, file)


class Connections:
    """Held connections to one database. Safe to use from several threads; each connection serves one at a time.

    Args:
        engine: From `open_engine`.
        timeout: Seconds for which a thread waits for a connection, and after which SQLite gives a statement up; other
            databases know that from `open_engine`.
        count: How many there are at most.
        file: The file of an SQLite database. A nightly load may put another in its place.

    Attributes:
        statements: How many have been run.
    """

    def __init__(self, engine: Engine, timeout: float, count: int, file: Path | None = None) -> None:
        self.engine = engine
        self.timeout = timeout
        self.statements = 0
        self._counting = threading.Lock()
        # Taken before a connection is looked for, so that whoever waits is woken by the next one that comes back.
        self.turns = Turns(count)
        # Each with the stamp of the file that it was opened on.
        self._idle: deque[tuple[PoolProxiedConnection, Stamp]] = deque()
        self._file = file

    @contextmanager
    def lend(self, *, bulk: bool = False) -> Iterator[Lent]:
        """One connection for a while.

        Args:
            bulk: Whether it is for a roster. Then whoever else waits for one goes first, also between two of its
                statements.

        Raises:
            DatabaseError: There is none to be had.
        """
        lent = Lent(self, bulk=bulk)
        try:
            yield lent
        finally:
            lent.end()

    def wait(self, *, bulk: bool) -> None:
        """Wait until a connection may be taken.

        Raises:
            DatabaseError: There is none to be had.
        """
        if not self.turns.acquire(bulk=bulk, timeout=self.timeout):
            _log.warning("every connection is in use")
            raise DatabaseError

    def take(self) -> tuple[PoolProxiedConnection, Stamp, bool]:
        """A connection, the file that it reads, and whether it was in use before.

        Raises:
            DatabaseError: There is none to be had.
        """
        stamp = self._stamp()
        while True:
            try:
                connection, seen = self._idle.pop()
            except IndexError:
                return self.connect(), stamp, False
            if seen == stamp:
                return connection, seen, True
            # It reads a file that is no longer there.
            connection.invalidate()

    def connect(self) -> PoolProxiedConnection:
        """A new connection.

        Raises:
            DatabaseError: There is none to be had.
        """
        try:
            return self.engine.raw_connection()
        except (SQLAlchemyError, UrlError, OSError, self.errors) as error:
            _log.warning("database unavailable", error=kind_of(error))
            raise DatabaseError from None

    def give(self, connection: PoolProxiedConnection, seen: Stamp) -> None:
        """Take a good connection back, with what `take` told of its file; a replaced file is let go at once."""
        if seen == self._stamp():
            self._idle.append((connection, seen))
        else:
            connection.invalidate()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop()[0].invalidate()
        self.engine.dispose()

    def _stamp(self) -> Stamp:
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)

    def execute(
        self, connection: PoolProxiedConnection, sql: str, parameters: Parameters | None, *, describe: bool
    ) -> list[Any]:
        """Rows of a statement, or the description of their columns; raises the driver's errors."""
        with self._counting:
            self.statements += 1
        driver: Any = connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            # It asks every few thousand steps of its machine whether to go on.
            deadline = time.monotonic() + self.timeout
            driver.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
        return _rows(connection, sql, parameters, describe=describe)

    def lost(self, error: Exception, connection: PoolProxiedConnection) -> bool:
        """Whether an error says that the connection is gone."""
        dialect = self.engine.dialect
        driver: Any = connection.dbapi_connection
        return isinstance(error, dialect.loaded_dbapi.Error) and dialect.is_disconnect(error, driver, None)

    @property
    def errors(self) -> type[Exception]:
        """What the driver raises."""
        errors: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        return errors


def _rows(connection: PoolProxiedConnection, sql: str, parameters: Parameters | None, *, describe: bool) -> list[Any]:
    cursor = connection.cursor()
    try:
        if parameters is None:
            cursor.execute(sql)
        else:
            cursor.execute(sql, parameters)
        return list(cursor.description if describe else cursor.fetchall())
    finally:
        cursor.close()


class Lent:
    """A connection while one thread uses it.

    Args:
        connections: Where it comes from and goes back to.
        bulk: Whether it is for a roster.

    Raises:
        DatabaseError: There is none to be had.
    """

    __slots__ = ("_bulk", "_connection", "_connections", "_holds", "_seen", "_used")

    def __init__(self, connections: Connections, *, bulk: bool = False) -> None:
        self._connections = connections
        self._bulk = bulk
        self._holds = False
        self._connection: PoolProxiedConnection | None = None
        self._begin()

    def _begin(self) -> None:
        self._connections.wait(bulk=self._bulk)
        self._holds = True
        try:
            self._connection, self._seen, self._used = self._connections.take()
        except BaseException:
            self.end()
            raise

    @property
    def seen(self) -> Stamp:
        """Which file it reads."""
        return self._seen

    def fetch(self, sql: str, parameters: Parameters | None = None) -> list[Any]:
        """Rows of a statement in the driver's own form; without parameters, `%` in it stands for itself.

        Raises:
            StatementError: The database refused this statement, and a record may be why.
            DatabaseError: It cannot be read, or took too long.
        """
        return self._run(sql, parameters, describe=False)

    def describe(self, sql: str, parameters: Parameters | None = None) -> list[Any]:
        """Columns of a statement's result, as the driver tells them (PEP 249, `Cursor.description`).

        Raises:
            StatementError: As `fetch`.
            DatabaseError: As `fetch`.
        """
        return self._run(sql, parameters, describe=True)

    def _run(self, sql: str, parameters: Parameters | None, *, describe: bool) -> list[Any]:
        connections = self._connections
        if self._bulk and connections.turns.awaited:
            self._give_way()
        started = time.monotonic()
        if self._connection is None:
            self._connection, self._seen, self._used = connections.take()
        try:
            return connections.execute(self._connection, sql, parameters, describe=describe)
        except connections.errors as error:
            judged = _judged(error, lost=connections.lost(error, self._connection))
        if isinstance(judged, StatementError):
            raise judged
        self._discard()
        late = time.monotonic() - started >= connections.timeout
        if not self._used or late or judged.outcome is Outcome.TIMED_OUT:
            raise judged
        # It was held while the database restarted or was replaced: once more, over a new one.
        self._connection, self._used = connections.connect(), False
        return self._run(sql, parameters, describe=describe)

    def _give_way(self) -> None:
        """Let somebody at a counter go first.

        Raises:
            DatabaseError: There was no connection to be had again; or another file stands in the place of the one that
                was read, and what was read of both would not belong together.
        """
        seen = self._seen
        self.end()
        self._begin()
        if self._seen != seen:
            _log.info("the file was replaced while a roster was read")
            raise DatabaseError

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()

    def end(self) -> None:
        """Give it back, if it is still good."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                self._connections.give(connection, self._seen)
        finally:
            if self._holds:
                self._holds = False
                self._connections.turns.release()


def _judged(error: Exception, *, lost: bool) -> StatementError | DatabaseError:
    """Whether a driver's error concerns one statement or the database."""
    code = getattr(error, "sqlite_errorcode", None)
    state = getattr(error, "sqlstate", None)
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if (
        (code is not None and code & 0xFF == sqlite3.SQLITE_INTERRUPT)
        or state == _SQLSTATE_TIMEOUT
        or number in _MYSQL_TIMEOUTS
    ):
        _log.warning("statement timed out", error=kind_of(error))
        return DatabaseError(Outcome.TIMED_OUT)
    if code is not None:
        of_row = code & 0xFF not in _SQLITE_OUTAGES
    elif number is not None:
        of_row = number in _MYSQL_OF_ROWS
    elif state is not None:
        of_row = state[:2] in _SQLSTATE_OF_ROWS
    else:
        # Refused by the driver itself, before the database saw it.
        of_row = not lost
    if lost or not of_row:
        _log.warning("database unavailable", error=kind_of(error))
        return DatabaseError()
    return StatementError(kind_of(error))


def kind_of(error: Exception) -> str:
    """Class and code of a driver's error. Its text may quote a value and is never used."""
    code = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None) or ""
    if not code and error.args and isinstance(error.args[0], int):
        code = error.args[0]
    return f"{type(error).__name__} {code}".strip()
