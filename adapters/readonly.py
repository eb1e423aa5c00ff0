"""Whether the database account can write. It must not: an adapter only reads, and so must whoever steals its URL.

Each attempt is made so that it would change nothing if it succeeded (no row matches, and it is rolled back), and must
be refused by the database itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, Engine, column, delete, false, table, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import Column, MetaData, Table
from sqlalchemy.sql import Executable
from sqlalchemy.sql.ddl import CreateTable
from sqlalchemy.types import Integer

from adapters.mapping import DataSet, Mapping

PROBE_TABLE = "zhiwang_write_probe"


def writable(engine: Engine, mapping: Mapping) -> list[str]:
    """What the account is allowed to change, in words; empty if nothing.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be reached.
    """
    found = []
    with engine.connect() as connection:
        for what, statement in _attempts(engine, mapping.data.values()):
            if _permitted(connection, statement):
                found.append(what)
    return found


def _attempts(engine: Engine, data_sets: Iterable[DataSet]) -> Iterator[tuple[str, Executable]]:
    for data in data_sets:
        if data.table is None:
            continue
        schema, _, name = data.table.rpartition(".")
        target = table(name, column(data.subject), schema=schema or None)
        unchanged = {data.subject: target.c[data.subject]}
        yield f"UPDATE {data.table}", update(target).values(unchanged).where(false())
        # The word is for a person; what runs is built by SQLAlchemy.
        yield f"DELETE FROM {data.table}", delete(target).where(false())  # noqa: S608 - a label, never run
    if engine.dialect.name not in {"mysql", "mariadb"}:
        # There it would commit by itself, so only the tables are tried.
        yield "CREATE TABLE", CreateTable(Table(PROBE_TABLE, MetaData(), Column("n", Integer)))


def _permitted(connection: Connection, statement: Executable) -> bool:
    """Try inside a transaction of the database's own, which is always rolled back."""
    # A session that is read-only by its settings hides what the account may do, so the attempt asks for more.
    begin = "BEGIN" if connection.dialect.name == "sqlite" else "START TRANSACTION READ WRITE"
    try:
        connection.exec_driver_sql(begin)
    except DBAPIError:
        return False
    try:
        connection.execute(statement)
    except DBAPIError:
        return False
    else:
        return True
    finally:
        connection.exec_driver_sql("ROLLBACK")
