"""One owner over every kind of source that an adapter reads: what the contract suite is run with.

A table is described once, with its columns' types and Python values; each driver puts it where it belongs: into SQLite,
into a real PostgreSQL or MariaDB, or into CSV and XLSX files of a directory.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar, Protocol

from openpyxl import Workbook

from adapter_support import make_database
from adapters.extracts import Extracts
from adapters.mapping import Mapping as MappingFile
from servers import Server, fresh_name

Value = str | int | float | date | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a scenario.

    Attributes:
        columns: Type of each column: text, integer, decimal or date.
        rows: Its rows.
        subject: Column of the identifier.
    """

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Value]]
    subject: str


Tables = Mapping[str, Table]


class Driver(Protocol):
    """Where the tables of a scenario lie."""

    def lay_out(self, directory: Path, tables: Tables, loaded: datetime) -> str:
        """Make the tables; the beginning of the mapping over them."""

    def replace(self, directory: Path, tables: Tables, loaded: datetime) -> None:
        """Put a later load into the place of the first one."""

    def loaded(self) -> str:
        """Line of a data set that says when it was loaded; nothing if that is known by itself."""

    def opened(self, mapping: MappingFile, path: Path) -> MappingFile:
        """The mapping that can be read."""

    def close(self) -> None:
        """Give back what the tables took."""


class _Sql:
    """Tables of a database that a nightly load fills."""

    types: ClassVar[Mapping[str, str]] = {
        "text": "varchar(80)",
        "integer": "integer",
        "decimal": "numeric(12,2)",
        "date": "date",
    }

    def schema(self, tables: Tables) -> list[str]:
        statements = ["CREATE TABLE zw_loaded (at varchar(40))"]
        for name, table in tables.items():
            columns = ", ".join(f"{column} {self.types[kind]}" for column, kind in table.columns.items())
            statements += [
                f"CREATE TABLE {name} ({columns})",
                f"CREATE INDEX {name}_subject ON {name} ({table.subject})",
            ]
        return statements

    def rows(self, tables: Tables, loaded: datetime) -> dict[str, Sequence[Sequence[Value]]]:
        return {"zw_loaded": [(loaded.isoformat(),)], **{name: table.rows for name, table in tables.items()}}

    def loaded(self) -> str:
        return 'loaded = "SELECT max(at) FROM zw_loaded"'

    def opened(self, mapping: MappingFile, path: Path) -> MappingFile:
        del path
        return mapping


class Sqlite(_Sql):
    """A file of SQLite, which a load replaces."""

    types: ClassVar[Mapping[str, str]] = {"text": "text", "integer": "integer", "decimal": "numeric", "date": "text"}

    def lay_out(self, directory: Path, tables: Tables, loaded: datetime) -> str:
        rows = {
            name: [[one.isoformat() if isinstance(one, date) else one for one in row] for row in values]
            for name, values in self.rows(tables, loaded).items()
        }
        make_database(directory / "new.db", ";".join(self.schema(tables)), rows).rename(directory / "data.db")
        return '[database]\nurl = "sqlite:///file:data.db?mode=ro&uri=true"\n'

    def replace(self, directory: Path, tables: Tables, loaded: datetime) -> None:
        self.lay_out(directory, tables, loaded)

    def close(self) -> None:
        pass


class Served(_Sql):
    """A database of a real server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = fresh_name()

    def lay_out(self, directory: Path, tables: Tables, loaded: datetime) -> str:
        del directory
        self._server.create(self._name)
        self._server.execute(self._name, *self.schema(tables), rows=self.rows(tables, loaded))
        return f'[database]\nurl = "{self._server.url(self._name)}"\n'

    def replace(self, directory: Path, tables: Tables, loaded: datetime) -> None:
        del directory
        rows = self.rows(tables, loaded)
        emptied = [f"DELETE FROM {name}" for name in rows]  # noqa: S608 - our own tables
        self._server.execute(self._name, *emptied, rows=rows)

    def close(self) -> None:
        self._server.drop(self._name)


class Files:
    """CSV or XLSX files of a directory.

    Args:
        suffix: "csv" or "xlsx".
        encoding: Of CSV.
    """

    def __init__(self, suffix: str, encoding: str = "utf-8") -> None:
        self._suffix = suffix
        self._encoding = encoding
        self.extracts: Extracts | None = None

    def lay_out(self, directory: Path, tables: Tables, loaded: datetime) -> str:
        (directory / "files").mkdir(exist_ok=True)
        text = '[database]\nurl = "files:files"\n'
        for name, table in tables.items():
            path = directory / "files" / f"{name}_{loaded:%Y%m%d}.{self._suffix}"
            columns = ", ".join(f'"{column}"' for column in table.columns)
            text += f'[file.{name}]\npath = "{name}_*.{self._suffix}"\ncolumns = [{columns}]\nsettle = 0\n'
            if self._suffix == "csv":
                text += f'encoding = "{self._encoding}"\n'
                write_csv(path, [list(table.columns), *table.rows], encoding=self._encoding)
            else:
                write_xlsx(path, [list(table.columns), *table.rows])
            os.utime(path, (loaded.timestamp(), loaded.timestamp()))
        return text

    def replace(self, directory: Path, tables: Tables, loaded: datetime) -> None:
        self.lay_out(directory, tables, loaded)
        assert self.extracts is not None
        self.extracts.look()
        assert not self.extracts.problems

    def loaded(self) -> str:
        return ""

    def opened(self, mapping: MappingFile, path: Path) -> MappingFile:
        self.extracts = Extracts(path.parent / "private")
        opened, warnings = self.extracts.begin(mapping, path)
        assert not warnings
        return opened

    def close(self) -> None:
        if self.extracts is not None:
            self.extracts.close()


def write_csv(path: Path, rows: Sequence[Sequence[Value]], *, encoding: str = "utf-8", separator: str = ",") -> Path:
    """A CSV file as a database exports it."""
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


def write_xlsx(path: Path, rows: Sequence[Sequence[object]], *, sheet: str = "人员") -> Path:
    """A workbook of one sheet; numbers and dates are cells of their types."""
    book = Workbook(write_only=True)
    page = book.create_sheet(sheet)
    for row in rows:
        page.append(list(row))
    book.save(path)
    return path


DRIVERS = ("sqlite", "postgresql", "mariadb", "csv", "csv gb18030", "xlsx")


def make_driver(name: str, server: Server | None = None) -> Driver:
    """A driver by its name; `server` for those that need one."""
    if server is not None:
        return Served(server)
    if name == "sqlite":
        return Sqlite()
    suffix, _, encoding = name.partition(" ")
    return Files(suffix, encoding or "utf-8")


def moment(day: date, hour: int = 8) -> datetime:
    """A time of loading."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
