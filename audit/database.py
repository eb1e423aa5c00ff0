"""What a log needs of the database that it stands in, where SQLite and PostgreSQL differ.

A write transaction belongs to one writer at a time, among all threads and processes that share the log: on SQLite from
its beginning (BEGIN IMMEDIATE), on PostgreSQL from where it reads the head, whose row it then holds. So whoever signs
a head has read the one before it and nobody can put another in between; there is nothing to be tried again.

A log ends with its year (`audit.yearly`). In a file its process makes the next one's tables; in PostgreSQL an
administrator has made them, and only an administrator can remove those of a year that is no longer kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from sqlalchemy import Connection, Engine

from audit import shards
from audit.appended import Head
from audit.origins import FIRST
from audit.schema import Tables
from audit.shards import Ended, Removal

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
        year: Of the log; 0 for the first.
    """

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.year = int(tables.suffix or FIRST)
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

    # From year to year. What is asked of all logs of the database does not depend on `tables`.

    @abstractmethod
    def install_years(self, connection: Connection) -> None:
        """Make what tells from year to year, as far as this process may and it is not there, in a write transaction."""

    @abstractmethod
    def check_years(self, connection: Connection, log: str) -> list[Ended]:
        """The logs that have ended, the oldest first, once what tells of them is as it was made.

        Of every log in the database must be known which it is, and none may stand there again once it was removed. What
        is not looked at are the logs themselves.

        Args:
            connection: In a transaction.
            log: The identity's `log_origin`, for messages.

        Raises:
            FatalError: LOG_UNAVAILABLE: something was changed, added or taken away.
        """

    def logs(self, connection: Connection) -> list[Ended]:
        """The logs that have ended, the oldest first, unchecked."""
        return shards.ended_of(connection.exec_driver_sql(self.sql(shards.ENDED)))

    def removals(self, connection: Connection) -> int:
        """How far removals have come: rises with each that is recorded or finished."""
        return int(connection.exec_driver_sql(self.sql(shards.REMOVALS)).scalar_one())

    def goes_on(self, connection: Connection) -> bool:
        """Whether another log goes on from this one, in the transaction's snapshot."""
        return connection.exec_driver_sql(self.sql(shards.SUCCESSOR), (self.year,)).first() is not None

    @abstractmethod
    def has_ended(self, connection: Connection) -> bool:
        """Whether the log has ended; if not, nobody else can end it from now to the end of this write transaction."""

    @abstractmethod
    def check_prepared(self, connection: Connection) -> None:
        """Check that the log can begin: that there is room for it, or that this process can make it.

        Raises:
            FatalError: LOG_UNAVAILABLE: others have to do something before; says what.
        """

    @abstractmethod
    def end(self, connection: Connection, ended: Ended) -> None:
        """Let nothing be appended any more, from this write transaction on, and write down how it ended."""

    @abstractmethod
    def end_without_entries(self, connection: Connection, ended: Ended, removal: Removal) -> None:
        """Write down how a log ended whose entries are not kept, where it never stood: it is copied without them.

        Raises:
            FatalError: LOG_UNAVAILABLE: others have to do something before; says what.
        """

    @abstractmethod
    def record_removal(self, connection: Connection, year: int, recorded_year: int, recorded_index: int) -> None:
        """The entries of a year are to go; in the transaction of the entry that says so."""

    @abstractmethod
    def remove(self, year: int, batch: int, progress: Callable[[int], None]) -> bool | None:
        """Remove the entries of a year whose removal is recorded; may be broken off and called again.

        Args:
            year: Of the log.
            batch: Entries that one transaction deletes.
            progress: Told how many entries have been deleted.

        Returns:
            Whether no bytes of them are left in the store's files; None if only an administrator may remove them.
        """

    # Of this log.

    def head(self, connection: Connection) -> Head | None:
        """The stored head, as of the transaction's snapshot."""
        return as_head(connection.exec_driver_sql(self._head).first())

    def is_empty(self, connection: Connection) -> bool:
        """Whether no entry stands in its tables, as of the transaction's snapshot."""
        return connection.exec_driver_sql(self.sql("SELECT idx FROM {entry} LIMIT 1")).first() is None

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


def as_head(row: Any) -> Head | None:
    """The head in a row of the table of heads, if there is one."""
    return None if row is None else Head(*row)
