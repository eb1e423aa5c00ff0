"""Where logs stand in tests: an SQLite file, or a database of a real PostgreSQL, to be made, opened and looked into."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from sqlalchemy import Engine

from audit.postgres import open_postgres
from audit.postgres_schema import Roles, script
from audit.schema import TABLES, Tables
from audit.sqlite import open_sqlite
from servers import Server, fresh_name

WRITER = "hub"
ROLES = Roles(WRITER)


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
    def drop(self) -> None:
        """Take it away."""


class SqliteFile(Place):
    beside = ""

    def __init__(self, path: Path) -> None:
        self.path = path

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

    def drop(self) -> None:
        pass  # the directory goes with its test


class PostgresDatabase(Place):
    """A database of its own, with the log's owner, writer and reader."""

    beside = "beside."

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = fresh_name()

    def create(self) -> Engine:
        self.create_empty()
        return self.open()

    def create_empty(self) -> None:
        """What the administrator does."""
        self.server.execute("", f"CREATE DATABASE {self.name} TEMPLATE template0")
        self.install(TABLES)

    def copy(self) -> PostgresDatabase:
        """Another database with the same in it, made by the server; nobody may be connected to this one."""
        other = PostgresDatabase(self.server)
        self.server.execute("", f"CREATE DATABASE {other.name} TEMPLATE {self.name}")
        return other

    def install(self, *logs: Tables) -> None:
        with self.raw("postgres") as connection:
            connection.execute(script(ROLES, *logs).encode())

    def open(self) -> Engine:
        return open_postgres(self.url())

    def url(self, account: str = WRITER) -> str:
        return self.server.url(self.name, account)

    def raw(self, account: str = WRITER) -> psycopg.Connection[Any]:
        """A connection as any other program makes it."""
        return psycopg.connect(self.url(account).replace("+psycopg", ""), autocommit=True)

    def prepare(self, *statements: str) -> None:
        with self.raw("postgres") as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS beside")
            connection.execute(f"GRANT USAGE ON SCHEMA beside TO {WRITER}")
            connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA beside GRANT ALL ON TABLES TO {WRITER}")
            connection.execute("SET search_path = beside")
            for statement in statements:
                connection.execute(statement.encode())

    def drop(self) -> None:
        self.server.drop(self.name)


def as_place(place: Place | Path) -> Place:
    return SqliteFile(place) if isinstance(place, Path) else place
