"""Whether the database account can write. It must not: an adapter only reads, and so must whoever steals its URL.

Each attempt is made so that it would change nothing if it succeeded (no row matches, or what is to be made is there
and what is to be removed is not; and it is rolled back), and must be refused by the database itself. An attempt that
fails for another reason than a missing right proves nothing, and counts as a finding too. Rights may be given for a
single column, so every column that the mapping uses is tried; PostgreSQL is also asked for any other, and for TRUNCATE,
which could not be tried without a lock on the table.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, column, delete, false, insert, null, select, table, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import Column, MetaData, Table
from sqlalchemy.sql import Executable
from sqlalchemy.sql.ddl import CreateTable, DropTable
from sqlalchemy.types import Integer

from adapters.messages import told
from adapters.usage import Use

PROBE_TABLE = "zhiwang_write_probe"
"""With a random number behind it, the name of a table that no database has."""

_MYSQL = frozenset({"mysql", "mariadb"})

_NO_RIGHT_STATES = frozenset({"42501", "25006"})
"""insufficient_privilege; read_only_sql_transaction, which only a standby gives a transaction that asked to write."""

_NO_TARGET_STATES = frozenset({"42809", "55000", "0A000", "428C9"})
"""A view or foreign table that nobody can write to; a generated column."""

_NO_RIGHT_NUMBERS = frozenset({1031, 1036, 1044, 1142, 1143, 1227, 1288, 1290, 1348, 1394, 1395, 1471})
"""No right to the database, table, column or at all; a server, table or view that nobody can write to."""


_POSTGRESQL_RIGHTS = text("""
    SELECT has_any_column_privilege(c.oid, 'INSERT') AND pg_relation_is_updatable(c.oid, true) & 8 <> 0,
        has_any_column_privilege(c.oid, 'UPDATE') AND pg_relation_is_updatable(c.oid, true) & 4 <> 0,
        has_table_privilege(c.oid, 'TRUNCATE') AND c.relkind IN ('r', 'p', 'f')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name AND NOT pg_is_in_recovery()""")
"""Rights to any column of a table, or to one of a view through which its table can be written (bits by CmdType)."""


@dataclass(frozen=True, slots=True)
class Writable:
    """Something that the account may do, or that could not be found out.

    Attributes:
        what: The kind of statement and its table.
        unclear: Why it could not be found out; None if it is permitted.
    """

    what: str
    unclear: str | None = None

    def __str__(self) -> str:
        return self.what if self.unclear is None else f"{self.what} ({self.unclear})"


def writable(engine: Engine, uses: Sequence[Use]) -> list[Writable]:
    """What the account is allowed to change; empty if nothing.

    Args:
        engine: Over the adapter's connections.
        uses: The tables of the mapping, also those within its SELECTs.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    found: dict[str, Writable] = {}
    with engine.connect() as connection, _asking_to_write(connection):
        for what, statement in _attempts(engine.dialect.name, uses):
            if what not in found:
                verdict = _try(connection, what, statement)
                if verdict is not None:
                    found[what] = verdict
        if engine.dialect.name == "postgresql":
            found |= {what: Writable(what) for what in _granted(connection, uses)}
    return list(found.values())


def _granted(connection: Connection, uses: Iterable[Use]) -> Iterator[str]:
    """What PostgreSQL says that the account may do, also to columns that nobody uses."""
    for use in uses:
        place = {"schema": use.table.schema, "name": use.table.name}
        for insert_, update_, truncate in connection.execute(_POSTGRESQL_RIGHTS, place):
            words = {"INSERT INTO": insert_, "UPDATE": update_, "TRUNCATE": truncate}
            yield from (f"{word} {use.table.title}" for word, may in words.items() if may)


def _columns(family: str, use: Use) -> list[str]:
    """The columns to be tried."""
    if family == "sqlite":
        # It knows no rights to columns, and no other value can be given to a generated one.
        return use.in_order()[:1]
    if family in _MYSQL:
        # It shows an account only the columns to which it has some right.
        return [one.name for one in use.table.columns]
    return use.in_order()


def _attempts(family: str, uses: Iterable[Use]) -> Iterator[tuple[str, Executable]]:
    first = None
    for use in uses:
        columns = _columns(family, use)
        if not columns:
            continue
        # A schema is written only where the mapping must write it too, so that search paths are tried as they are.
        schema, title = None if use.table.visible else use.table.schema, use.table.title
        target = table(use.table.name, *map(column, columns), schema=schema)
        first = first if first is not None else target
        nothing = select(null()).select_from(target).where(false())
        for name in columns:
            yield f"INSERT INTO {title}", insert(target).from_select([name], nothing)
            yield f"UPDATE {title}", update(target).values({name: null()}).where(false())
        # The word is for a person; what runs is built by SQLAlchemy.
        yield f"DELETE FROM {title}", delete(target).where(false())  # noqa: S608 - a label, never run
    probe = Table(f"{PROBE_TABLE}_{secrets.token_hex(8)}", MetaData(), Column("n", Integer))
    if family not in _MYSQL:
        yield "CREATE TABLE", CreateTable(probe)
        return
    # There DDL commits by itself: what would be made is there already, and what would be removed is not.
    if first is not None:
        there = Table(first.name, MetaData(), Column("n", Integer), schema=first.schema)
        yield "CREATE TABLE", CreateTable(there, if_not_exists=True)
    yield "DROP TABLE", DropTable(probe, if_exists=True)


@contextmanager
def _asking_to_write(connection: Connection) -> Iterator[None]:
    """A session that is read-only by its settings hides what the account may do, so the attempts ask for more."""
    if connection.dialect.name not in _MYSQL:
        yield
        return
    connection.exec_driver_sql("SET SESSION TRANSACTION READ WRITE")
    try:
        yield
    finally:
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")


def _try(connection: Connection, what: str, statement: Executable) -> Writable | None:
    """Try inside a transaction of the database's own, which is always rolled back."""
    begin = "BEGIN" if connection.dialect.name == "sqlite" else "START TRANSACTION READ WRITE"
    try:
        connection.exec_driver_sql(begin)
    except DBAPIError as error:
        return _verdict(what, error)
    try:
        connection.execute(statement)
    except DBAPIError as error:
        return _verdict(what, error)
    else:
        return Writable(what)
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _verdict(what: str, error: DBAPIError) -> Writable | None:
    """None if the database refused because the right is missing."""
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        refused = original.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY or "because it is a view" in str(original)
    elif original.args and isinstance(original.args[0], int):
        refused = original.args[0] in _NO_RIGHT_NUMBERS
    else:
        refused = getattr(original, "sqlstate", None) in _NO_RIGHT_STATES | _NO_TARGET_STATES
    return None if refused else Writable(what, told(error))
