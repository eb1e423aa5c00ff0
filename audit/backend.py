"""The databases that a log can stand in, SQLite and PostgreSQL. What is asked of them is in `audit.database`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Connection, Engine

from audit import postgres, postgres_check, schema, shards, sqlite
from audit.appended import Head
from audit.database import Backend, Row, Tile, as_head
from audit.origins import FIRST
from audit.schema import TABLES, Tables
from audit.shards import Ended, Removal
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason

WAIT_SECONDS: Final = 5.0
"""How long readers are waited for before the write-ahead log, which still holds what was removed, is emptied."""

_log = structlog.get_logger(__name__)


def backend_of(engine: Engine, tables: Tables = TABLES) -> Backend:
    """The backend for an engine."""
    return PostgresBackend(engine, tables) if engine.dialect.name == "postgresql" else SqliteBackend(engine, tables)


class SqliteBackend(Backend):
    """In an SQLite file. The hot path goes to the driver directly; SQLAlchemy costs more than SQLite's own work."""

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

    def install_years(self, connection: Connection) -> None:
        """Make the tables; a store of an older release has none."""
        shards.install(connection)

    def check_years(self, connection: Connection, log: str) -> list[Ended]:
        """See `Backend.check_years`."""
        shards.check(connection)
        ended = self.logs(connection)
        shards.check_known(log, ended, shards.there(connection))
        return ended

    def logs(self, connection: Connection) -> list[Ended]:
        """As of `Backend`; none in a store of an older release, which knows of no years."""
        return super().logs(connection) if shards.installed(connection) else []

    def has_ended(self, connection: Connection) -> bool:
        """The transaction had the right to write from its beginning."""
        return shards.successor(connection, self.year) is not None

    def check_prepared(self, connection: Connection) -> None:
        """Whoever can write the file can make the tables."""

    def end(self, connection: Connection, ended: Ended) -> None:
        """Put triggers in place that refuse everything."""
        schema.end(connection, self.tables)
        shards.record_end(connection, ended)

    def end_without_entries(self, connection: Connection, ended: Ended, removal: Removal) -> None:
        """There are no tables that would have to be emptied."""
        shards.record_end(connection, ended)
        shards.record_removal(connection, ended.year, removal.year, removal.index)
        shards.record_removed(connection, ended.year)

    def record_removal(self, connection: Connection, year: int, recorded_year: int, recorded_index: int) -> None:
        """From now on the triggers let go."""
        shards.record_removal(connection, year, recorded_year, recorded_index)

    def remove(self, year: int, batch: int, progress: Callable[[int], None]) -> bool | None:
        """Delete and overwrite them in small transactions, and drop the tables."""
        for done in shards.emptied(self.engine, year, batch):
            progress(done)
        with self.writing() as connection:
            shards.finish_removal(connection, year)
        return sqlite.clear_log(self.engine, WAIT_SECONDS)

    def locked_head(self, connection: Connection) -> Head | None:
        """The transaction had the right to write from its beginning."""
        return as_head(sqlite.driver(connection).execute(self._head).fetchone())

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


_TURNS: Final[WeakKeyDictionary[Engine, RLock]] = WeakKeyDictionary()
"""Of each database, who of this process's threads writes."""


class PostgresBackend(Backend):
    """In a PostgreSQL database, whose server may serve several processes that append to the log.

    This process may only read, and call the functions that `audit.postgres_schema` gives it.
    """

    def __init__(self, engine: Engine, tables: Tables) -> None:
        super().__init__(engine, tables)
        # The right edge of the tree belongs to whoever holds the head. The server frees the head when a connection is
        # lost, which its thread has yet to notice: so within this process a lock says who holds it. It is one for all
        # years, since a transaction goes on from one to the next.
        self._turn = _TURNS.setdefault(engine, RLock())
        # What the server has told of the head to the transaction that holds it, so that it is asked once.
        self._held: tuple[Any, Head | None, bool] | None = None
        self._end = self.sql("SELECT {head}_end(?, ?, ?, ?, ?, ?)")
        self._lock_head = self.sql("SELECT size, root, checkpoint, certificate, ended FROM {head}_lock()")
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

    def check(self, connection: Connection, *, ended: bool = False) -> None:  # noqa: ARG002 - its triggers look it up
        """Check tables, triggers, functions and rights."""
        postgres_check.check(connection, self.tables)

    def install_years(self, connection: Connection) -> None:
        """An administrator has made them."""

    def check_years(self, connection: Connection, log: str) -> list[Ended]:
        """See `Backend.check_years`. Tables of a year that never began stand there in advance."""
        postgres_check.check_years(connection)
        for account in postgres_check.members(connection):
            _log.warning("an account can become the owner of the log's tables", account=account, origin=log)
        ended = self.logs(connection)
        begun = {FIRST, *(year for one in ended for year in (one.year, one.successor))}
        made = postgres_check.there(connection)
        shards.check_known(log, ended, {shards.tables_of(year).entry for year in made & begun})
        return ended

    def has_ended(self, connection: Connection) -> bool:
        """Waits until no other process holds the head."""
        _, ended = self._hold(connection)
        return ended

    def check_prepared(self, connection: Connection) -> None:
        """Check what an administrator has made."""
        postgres_check.check_prepared(connection, self.tables)

    def end(self, connection: Connection, ended: Ended) -> None:
        """Write the row by which the triggers refuse everything; the function compares the head with what is told."""
        head, self._held = ended.head, None
        connection.exec_driver_sql(
            self._end, (ended.successor, head.size, head.root, head.checkpoint, head.certificate, ended.opened)
        )

    def end_without_entries(self, connection: Connection, ended: Ended, removal: Removal) -> None:
        """The tables of that year are needed to say so; then an administrator drops them."""
        self.check_prepared(connection)
        self.end(connection, ended)
        self.record_removal(connection, ended.year, removal.year, removal.index)

    def record_removal(self, connection: Connection, year: int, recorded_year: int, recorded_index: int) -> None:
        """From now on an administrator may drop the tables, by what `zhiwang audit retention --sql` prints."""
        connection.exec_driver_sql("SELECT log_shard_let_go(%s, %s, %s)", (year, recorded_year, recorded_index))

    def remove(self, year: int, batch: int, progress: Callable[[int], None]) -> bool | None:  # noqa: ARG002 - not ours
        """This process may not."""
        return None

    def locked_head(self, connection: Connection) -> Head | None:
        """Waits until no other process holds it."""
        head, _ = self._hold(connection)
        return head

    def _hold(self, connection: Connection) -> tuple[Head | None, bool]:
        """The head, which this transaction holds from now on, and whether its log has ended."""
        held, transaction = self._held, connection.get_transaction()
        if held is None or transaction is None or held[0] is not transaction:
            row = connection.exec_driver_sql(self._lock_head).first()
            # Nothing but this transaction's own append or end can move it.
            held = self._held = (connection.get_transaction(), as_head(row and row[:4]), bool(row and row[4]))
        _, head, ended = held
        return head, ended

    def append(
        self, connection: Connection, before: Head, head: Head, rows: Sequence[Row], tiles: Sequence[Tile]
    ) -> None:
        """See `Backend.append`; the function compares the head with `before` by itself."""
        self._held = None
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
