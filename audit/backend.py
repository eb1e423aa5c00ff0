"""What a log needs of the database that it stands in, where SQLite and PostgreSQL differ.

A write transaction belongs to one writer at a time, among all threads and processes that share the log: on SQLite from
its beginning (BEGIN IMMEDIATE), on PostgreSQL from where it reads the head, whose row it then holds. So whoever signs
a head has read the one before it and nobody can put another in between; there is nothing to be tried again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import Any, Final

from sqlalchemy import Connection, Engine

from audit import postgres, postgres_check, schema, sqlite
from audit.appended import Head
from audit.schema import TABLES, Tables
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason

Row = tuple[int, bytes, bytes, bytes]
"""Index, key, leaf hash and data of an entry."""

Tile = tuple[int, int, bytes]
"""Tile level, index and hashes of a complete tile."""

_HEAD: Final = "SELECT size, root, checkpoint, certificate FROM {head}"


class Backend(ABC):
    """The database of one log.

    Args:
        engine: From `audit.sqlite.open_sqlite` or `audit.postgres.open_postgres`.
        tables: Of the log.

    Attributes:
        reading: The engine for transactions that only read, each in one snapshot: they wait for no writer and stop
            none.
        yearly: Whether a log ends with its year, and the next one's is begun by this process.
    """

    yearly: bool

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.reading = self._reading(engine)
        self._head = self.sql(_HEAD)

    @abstractmethod
    def sql(self, text: str) -> str:
        """A statement with the log's tables in it and the driver's marks for parameters in place of `?`."""

    @staticmethod
    @abstractmethod
    def _reading(engine: Engine) -> Engine:
        """See `reading`."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction in which `locked_head` and `append` may be called. It is durable once it has ended well."""

    @abstractmethod
    def install(self, connection: Connection) -> None:
        """Make an empty log of size 0 within a write transaction, as far as this process may make it.

        Raises:
            FatalError: LOG_UNAVAILABLE: there is a log already, or what others have to make is not there.
        """

    @abstractmethod
    def check(self, connection: Connection, *, ended: bool = False) -> None:
        """Check that everything in the database that keeps the log append-only is as it was made.

        Args:
            connection: In a transaction.
            ended: Whether nothing is appended to the log any more.

        Raises:
            FatalError: LOG_UNAVAILABLE: it is not, or there is no log.
        """

    @abstractmethod
    def end(self, connection: Connection) -> None:
        """Let nothing be appended any more, from this write transaction on.

        Raises:
            FatalError: LOG_UNAVAILABLE: in this database a log does not end with its year (`yearly`).
        """

    def head(self, connection: Connection) -> Head | None:
        """The stored head, as of the transaction's snapshot."""
        return _as_head(connection.exec_driver_sql(self._head).first())

    @abstractmethod
    def locked_head(self, connection: Connection) -> Head | None:
        """The stored head, which nobody else can move from now to the end of this write transaction."""

    @abstractmethod
    def append(
        self, connection: Connection, before: Head, head: Head, rows: Sequence[Row], tiles: Sequence[Tile]
    ) -> None:
        """Write entries, the tiles that they complete and the new head, within a write transaction.

        Raises:
            FatalError: LOG_UNAVAILABLE: the head is no longer `before`.
        """

    @abstractmethod
    def renew(self, *, failed: bool) -> None:
        """Before a log is opened: see to it that what is read then is what the database keeps.

        Args:
            failed: The log has stopped, so that connections may be broken and memory may differ from the disk.

        Raises:
            FatalError: LOG_UNAVAILABLE: it could not be done.
        """


def backend_of(engine: Engine, tables: Tables = TABLES) -> Backend:
    """The backend for an engine."""
    return PostgresBackend(engine, tables) if engine.dialect.name == "postgresql" else SqliteBackend(engine, tables)


class SqliteBackend(Backend):
    """In an SQLite file. The hot path goes to the driver directly; SQLAlchemy costs more than SQLite's own work."""

    yearly = True

    def __init__(self, engine: Engine, tables: Tables) -> None:
        super().__init__(engine, tables)
        self._insert_entry = self.sql("INSERT INTO {entry} (idx, key, leaf_hash, data) VALUES (?, ?, ?, ?)")
        self._insert_tile = self.sql("INSERT INTO {tile} (level, idx, hashes) VALUES (?, ?, ?)")
        self._update_head = self.sql(
            "UPDATE {head} SET size = ?, root = ?, checkpoint = ?, certificate = ? WHERE size = ? AND root = ?"
        )
        self._insert_head = self.sql(
            "INSERT INTO {head} (id, size, root, checkpoint, certificate) VALUES (1, 0, ?, x'', x'')"
        )

    def sql(self, text: str) -> str:
        """See `Backend.sql`."""
        return self.tables.fill(text)

    @staticmethod
    def _reading(engine: Engine) -> Engine:
        return sqlite.reading(engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """See `Backend.writing`."""
        return self.engine.begin()

    def install(self, connection: Connection) -> None:
        """Make tables, triggers and an empty head."""
        schema.install(connection, self.tables)
        connection.exec_driver_sql(self._insert_head, (merkle.EMPTY_ROOT,))

    def check(self, connection: Connection, *, ended: bool = False) -> None:
        """Check tables and triggers."""
        schema.check(connection, self.tables, ended=ended)

    def end(self, connection: Connection) -> None:
        """Put triggers in place that refuse everything."""
        schema.end(connection, self.tables)

    def locked_head(self, connection: Connection) -> Head | None:
        """The transaction had the right to write from its beginning."""
        return _as_head(sqlite.driver(connection).execute(self._head).fetchone())

    def append(
        self, connection: Connection, before: Head, head: Head, rows: Sequence[Row], tiles: Sequence[Tile]
    ) -> None:
        """See `Backend.append`."""
        direct = sqlite.driver(connection)
        direct.executemany(self._insert_entry, rows)
        if tiles:
            direct.executemany(self._insert_tile, tiles)
        updated = direct.execute(
            self._update_head, (head.size, head.root, head.checkpoint, head.certificate, before.size, before.root)
        )
        if updated.rowcount != 1:
            raise FatalError(Reason.LOG_UNAVAILABLE, "the log's head moved inside a write transaction")

    def renew(self, *, failed: bool) -> None:
        """Force the file to disk; after a failed sync the kernel may call pages clean that never reached it."""
        sqlite.force_to_disk(self.engine, wait=failed)


class PostgresBackend(Backend):
    """In a PostgreSQL database, whose server may serve several processes that append to the log.

    This process may only read, and call the two functions that `audit.postgres_schema` tells of.
    """

    yearly = False

    def __init__(self, engine: Engine, tables: Tables) -> None:
        super().__init__(engine, tables)
        # The right edge of the tree belongs to whoever holds the head. The server frees the head when a connection is
        # lost, which its thread has yet to notice: so within this process a lock says who holds it.
        self._turn = RLock()
        self._lock_head = self.sql("SELECT size, root, checkpoint, certificate FROM {head}_lock()")
        self._append = self.sql(
            # Binary, since arrays are written as text by one regular expression for each element.
            "SELECT {entry}_append(?, ?, ?, ?, ?, ?, %b::bytea[], %b::bytea[], %b::bytea[], "
            "%b::integer[], %b::bigint[], %b::bytea[])"
        )

    def sql(self, text: str) -> str:
        """See `Backend.sql`."""
        return self.tables.fill(text).replace("?", "%s")

    @staticmethod
    def _reading(engine: Engine) -> Engine:
        return postgres.reading(engine)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """See `Backend.writing`. A commit about which the server warns is taken for one that failed."""
        with self._turn, postgres.writing(self.engine) as connection:
            yield connection

    def install(self, connection: Connection) -> None:
        """Check that the owner's script was run and that nobody has begun the log."""
        postgres_check.check(connection, self.tables)
        head = self.locked_head(connection)
        if head is None or head.size:
            raise FatalError(Reason.LOG_UNAVAILABLE, "the store holds a log already; a log is made once")

    def check(self, connection: Connection, *, ended: bool = False) -> None:  # noqa: ARG002 - none ends here
        """Check tables, triggers, functions and rights."""
        postgres_check.check(connection, self.tables)

    def end(self, connection: Connection) -> None:
        """This process may make no tables, so the log goes on in those that it has."""
        del connection
        raise FatalError(Reason.LOG_UNAVAILABLE, "in PostgreSQL a log does not end with its year")

    def locked_head(self, connection: Connection) -> Head | None:
        """Waits until no other process holds it."""
        return _as_head(connection.exec_driver_sql(self._lock_head).first())

    def append(
        self, connection: Connection, before: Head, head: Head, rows: Sequence[Row], tiles: Sequence[Tile]
    ) -> None:
        """See `Backend.append`; the function compares the head with `before` by itself."""
        _, keys, leaves, data = map(list, zip(*rows, strict=True))
        levels, indexes, hashes = (list(column) for column in zip(*tiles, strict=True)) if tiles else ([], [], [])
        connection.exec_driver_sql(
            self._append,
            (
                before.size,
                before.root,
                head.size,
                head.root,
                head.checkpoint,
                head.certificate,
                keys,
                leaves,
                data,
                levels,
                indexes,
                hashes,
            ),
        )

    def renew(self, *, failed: bool) -> None:
        """After a failure begin with new connections: the old ones may lead to a server that is no more."""
        if failed:
            self.engine.dispose()


def _as_head(row: Any) -> Head | None:
    return None if row is None else Head(*row)
