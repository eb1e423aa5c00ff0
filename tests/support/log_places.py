"""Where logs stand in tests: an SQLite file, or a database of a real PostgreSQL, to be made, opened and looked into."""

from __future__ import annotations

import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from sqlalchemy import Engine

from audit.origins import year_at
from audit.postgres import open_postgres
from audit.postgres_schema import Roles, removal, script
from audit.postgres_tables import Part
from audit.schema import TABLES, Tables
from audit.shards import tables_of
from audit.sqlite import open_sqlite
from servers import Server, fresh_name

WRITER = "hub"
ROLES = Roles(WRITER)
YEARS = range(2016, year_at(time.time()) + 2)
"""For which there is room in a database beside the first log."""


class Place(ABC):
    """Where one test's log stands.

    Attributes:
        beside: What stands before the names of tables that `prepare` made.
    """

    beside: ClassVar[str]

    @abstractmethod
    def create(self) -> Engine:
        """Make it, with no log in it that was begun."""

    @abstractmethod
    def open(self) -> Engine:
        """An engine as another process would open it."""

    @abstractmethod
    def prepare(self, *statements: str) -> None:
        """What an administrator adds: statements that concern no table of the log."""

    @abstractmethod
    def install(self, *logs: Tables) -> None:
        """What an administrator does before a further log is made here."""

    @abstractmethod
    def copy(self) -> Place:
        """Another place with the same in it, as a copy of the disk is. No process may have this one open."""

    @abstractmethod
    def replace(self, copy: Place) -> None:
        """Put a copy in place of what is here, as who restores an old disk. No process may have either open."""

    @abstractmethod
    def remove(self, year: int) -> None:
        """What an administrator does to finish a removal that is recorded."""

    @abstractmethod
    def drop(self) -> None:
        """Take it away, and its copies."""


class SqliteFile(Place):
    beside = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copies = 0

    def create(self) -> Engine:
        return open_sqlite(self.path, create=True)

    def open(self) -> Engine:
        return open_sqlite(self.path)

    def prepare(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def install(self, *logs: Tables) -> None:
        pass  # whoever can write the file can make it

    def copy(self) -> SqliteFile:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._copies += 1
        other = SqliteFile(self.path.with_name(f"{self.path.stem}-copy{self._copies}.db"))
        shutil.copy(self.path, other.path)
        return other

    def replace(self, copy: Place) -> None:
        assert isinstance(copy, SqliteFile)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy.path, self.path)

    def remove(self, year: int) -> None:
        pass  # the process has done it

    def drop(self) -> None:
        pass  # the directory goes with its test


class PostgresDatabase(Place):
    """A database of its own, with the log's owner, writer and reader.

    Args:
        server: In which.
        own: Tables of the process's own beside its log.
    """

    beside = "beside."

    def __init__(self, server: Server, own: Part | None = None) -> None:
        self.server = server
        self.own = own
        self.name = fresh_name()
        self._copies: list[PostgresDatabase] = []

    def create(self) -> Engine:
        self.create_empty()
        return self.open()

    def create_empty(self) -> None:
        """What the administrator does; there is room for the logs of `YEARS`."""
        self.server.execute("", f"CREATE DATABASE {self.name} TEMPLATE {_prepared(self.server, self.own)}")

    def copy(self) -> PostgresDatabase:
        """Made by the server; nobody may be connected to this one."""
        other = PostgresDatabase(self.server, self.own)
        self.server.execute("", f"CREATE DATABASE {other.name} TEMPLATE {self.name}")
        self._copies.append(other)
        return other

    def replace(self, copy: Place) -> None:
        assert isinstance(copy, PostgresDatabase)
        self.server.drop(self.name)
        self.server.execute("", f"ALTER DATABASE {copy.name} RENAME TO {self.name}")

    def install(self, *logs: Tables) -> None:
        self.run(script(ROLES, *logs, beside=self.own))

    def run(self, statements: str) -> None:
        """What the administrator runs."""
        with self.raw("postgres") as connection:
            connection.execute(statements.encode())

    def open(self) -> Engine:
        return open_postgres(self.url())

    def url(self, account: str = WRITER) -> str:
        return self.server.url(self.name, account)

    def raw(self, account: str = WRITER) -> psycopg.Connection[Any]:
        """A connection as any other program makes it."""
        return psycopg.connect(self.url(account).replace("+psycopg", ""), autocommit=True)

    def unlocked(self, change: Callable[[psycopg.Connection[Any]], object]) -> None:
        """What a determined hand does, and hides: a change behind the triggers' backs."""
        with self.raw("postgres") as connection:
            tables = [
                row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'zhiwang'")
            ]
            for table in tables:
                connection.execute(f"ALTER TABLE zhiwang.{table} DISABLE TRIGGER ALL".encode())
            change(connection)
            for table in tables:
                names = connection.execute(
                    "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal",
                    (f"zhiwang.{table}",),
                )
                for (name,) in names.fetchall():
                    connection.execute(f"ALTER TABLE zhiwang.{table} ENABLE ALWAYS TRIGGER {name}".encode())

    def prepare(self, *statements: str) -> None:
        with self.raw("postgres") as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS beside")
            connection.execute(f"GRANT USAGE ON SCHEMA beside TO {WRITER}")
            connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA beside GRANT ALL ON TABLES TO {WRITER}")
            connection.execute("SET search_path = beside")
            for statement in statements:
                connection.execute(statement.encode())

    def remove(self, year: int) -> None:
        self.run(removal(ROLES, year, tables_of(year)))

    def drop(self) -> None:
        for place in (*self._copies, self):
            self.server.drop(place.name)


_PREPARED: dict[tuple[Server, int], str] = {}


def _prepared(server: Server, own: Part | None) -> str:
    """Name of a database that the script was run in, from which others are made quickly."""
    if name := _PREPARED.get((server, id(own))):
        return name
    place = PostgresDatabase(server, own)
    server.execute("", f"CREATE DATABASE {place.name} TEMPLATE template0")
    place.install(TABLES, *(Tables(str(year)) for year in YEARS))
    _PREPARED[server, id(own)] = place.name
    return place.name


def as_place(place: Place | Path) -> Place:
    return SqliteFile(place) if isinstance(place, Path) else place
