"""An owner for tests: a database of SQLite, a mapping over it, a document beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from textwrap import dedent

from adapters.database import connect_to
from adapters.dialects import spell_list
from adapters.mapping import Mapping as MappingFile
from adapters.mapping import load_mapping
from adapters.sql import Source
from policy.document import parse_document
from policy.model import Document
from servers import Server, fresh_name
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import Scheme, scheme
from zhiwang.wire.records import Outcome

NOW = 1_790_000_000.0
"""21 September 2026."""
AS_OF = date(2026, 9, 1)

SCHEMES: Mapping[str, Scheme] = {"person": scheme("resident"), "entity": scheme("uscc"), "dwelling": scheme("house")}

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident(serial: int, born: str = "19900101") -> str:
    """The identifier of a person who does not exist: the prefix 440399 is not assigned."""
    digits = f"440399{born}{serial:03d}"
    return digits + "10X98765432"[sum(w * int(d) for w, d in zip(WEIGHTS, digits, strict=True)) % 11]


ANNA, BO, CHEN, DING = (resident(serial) for serial in (1, 2, 3, 4))


def attribute(name: str, body: str, *, subject: str = "person") -> str:
    return dedent(f"""
        [attribute.{name}]
        title = {{ zh = "{name}？", en = "{name}?" }}
        subject = "{subject}"
        counter = "0755-00000000"
        """) + dedent(body)


def document(text: str, department: str = "hrss") -> Document:
    head = f'department = "{department}"\ntitle = {{ zh = "部门", en = "Department" }}\n'
    return parse_document((head + text).encode())


def make_database(path: Path, statements: str, rows: Mapping[str, Iterable[Sequence[object]]] | None = None) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(statements)
    _insert(connection, rows or {})
    connection.close()
    return path


def _insert(connection: sqlite3.Connection, rows: Mapping[str, Iterable[Sequence[object]]]) -> None:
    for table, values in rows.items():
        for row in values:
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608 - our own
    connection.commit()


def mapping_text(body: str, database: str = "data.db", department: str = "hrss", url: str | None = None) -> str:
    url = url or f"sqlite:///file:{database}?mode=ro&uri=true"
    return f'department = "{department}"\n\n[database]\nurl = "{url}"\n' + dedent(body)


class Owner:
    """A database with its mapping and document, asked claim by claim.

    Without a server the database is a file of SQLite. `settings` are further lines of the mapping's [database].
    """

    def __init__(
        self,
        directory: Path,
        *,
        tables: str,
        rows: Mapping[str, Iterable[Sequence[object]]],
        mapping: str,
        published: str,
        server: Server | None = None,
        settings: str = "",
    ) -> None:
        self.directory = directory
        self.server = server
        self.database = directory / "data.db"
        self.mapping_path = directory / "mapping.toml"
        self.mapping_path.write_text(self.lay_out(tables, rows, f"{settings}\n{dedent(mapping)}"), "utf-8")
        self.document = document(published)
        self.mapping: MappingFile = self.opened(load_mapping(self.mapping_path, self.document))
        self.now = NOW
        self.connections = connect_to(self.mapping.database, directory)
        self.source = Source(self.connections, self.mapping, self.document.attributes, clock=lambda: self.now)

    def lay_out(self, tables: str, rows: Mapping[str, Iterable[Sequence[object]]], mapping: str) -> str:
        """Make the database; the mapping's text."""
        if self.server is None:
            make_database(self.database, tables, rows)
            return mapping_text(mapping)
        self.name = fresh_name()
        self.server.create(self.name)
        statements = [statement for statement in tables.split(";\n") if statement.strip()]
        self.server.execute(self.name, *statements, rows=rows)
        return mapping_text(mapping, url=self.server.url(self.name))

    def opened(self, mapping: MappingFile) -> MappingFile:
        """The mapping over a database that can be read."""
        return mapping

    def close(self) -> None:
        self.connections.close()
        if self.server is not None:
            self.server.drop(self.name)

    def change(self, *statements: str) -> None:
        """Change the database behind the adapter's back."""
        if self.server is not None:
            self.server.execute(self.name, *statements)
        else:
            make_database(self.database, ";\n".join(statements))

    def insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """Put further rows into a table."""
        if self.server is not None:
            self.server.execute(self.name, rows={table: rows})
        else:
            make_database(self.database, "", {table: rows})

    def ask(
        self,
        claim: str,
        *subjects: str,
        value: str | None = None,
        values: Sequence[str | None] = (),
        name: str | None = None,
        place: str = "4403",
        as_of: date = AS_OF,
    ) -> list[Outcome]:
        """Outcomes of one claim ("attribute predicate") for each subject, by one statement."""
        attribute_name, _, predicate = claim.partition(" ")
        plan = self.source.plan(self.mapping.attribute[attribute_name].data, ((attribute_name, Predicate(predicate)),))
        kind = SCHEMES[self.document.attributes[attribute_name].subject]
        given = values or [value] * len(subjects)
        rows = [
            (kind.spellings(subject), None if name is None else spell_list([name]), place, [compared])
            for subject, compared in zip(subjects, given, strict=True)
        ]
        with self.source.lend() as lent:
            return [Outcome(one[0]) for one in self.source.run(lent, plan, as_of, rows)]
