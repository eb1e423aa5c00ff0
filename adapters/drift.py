"""The columns that a mapping rests on: whether they are still what they were when the adapter began to rely on them.

A department's tables belong to the department, and change without a word. What an attribute uses is its data set's
subject, name and region column and every column that its expressions name. Of each its type, collation and nullability
are remembered and looked up again every few seconds, in the database's own catalogue for a table or view, and for a
SELECT from the description of its empty result (its names, and its types where the driver tells them).

    a column is gone, or has another type or collation   the attribute is UNAVAILABLE, until the column is again what
                                                         it was, its probes pass, or an operator starts the adapter anew
    a column may hold null, or no longer may             an alarm; a null is UNKNOWN by itself, never NO
    a column that nobody uses comes, goes or changes     nothing

What this cannot see, probes have to: another meaning under the same name and type, and tables that only a subquery or
the inside of a SELECT names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

import structlog
from sqlalchemy import Select, TableClause, false, literal_column, select
from sqlalchemy.engine.interfaces import Dialect as EngineDialect

from adapters.database import Connections, DatabaseError, Lent, Parameters, StatementError
from adapters.dialects import DIALECTS, names_of
from adapters.mapping import DataSet, MappedAttribute, Mapping
from adapters.statements import compiled_for, source
from adapters.usage import Word, words_of

_LOOSE = re.compile(r"\[([^\]]+)\]|([\w$]+)")
"""Names as SQLite takes them too, and whatever looks like one, also within texts: one column too many, at worst."""

_SQLITE = "SELECT name, type, '', \"notnull\" FROM pragma_table_xinfo(?, coalesce(?, 'main'))"
_POSTGRESQL = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(c.collname, ''), a.attnotnull
    FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
    AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')"""
_MYSQL = """
    SELECT column_name, column_type, coalesce(collation_name, ''), is_nullable = 'NO'
    FROM information_schema.columns WHERE table_name = %s AND table_schema = coalesce(%s, database())"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Column:
    """What the database says of one column.

    Attributes:
        type: As the database writes it, with its length.
        collation: Its name; empty where there is none or it is not told.
        required: Whether null is refused.
    """

    type: str
    collation: str
    required: bool

    def serves_as(self, other: Column | None) -> bool:
        """Whether statements made over this column mean the same over the other one."""
        return other is not None and (self.type, self.collation) == (other.type, other.collation)

    def beside(self, other: Column) -> Column:
        """This one and another whose name differs only in case, as one."""
        return Column(
            f"{self.type}, {other.type}", f"{self.collation}, {other.collation}", self.required and other.required
        )


Columns = dict[str, Column]
"""Columns by their name in lower case: databases differ in whether they keep the case of names.

Several that differ only in case stand as one, whose type names them all.
"""


class ColumnWatch:
    """Looks at the columns of a mapping. Belongs to one thread at a time.

    Args:
        connections: To the department's database.
        mapping: Says which columns are used.
    """

    def __init__(self, connections: Connections, mapping: Mapping) -> None:
        self._connections = connections
        self._mapping = mapping
        dialect = connections.engine.dialect
        self._readers = {name: _reader(data, dialect) for name, data in mapping.data.items()}
        self._relied_on: dict[str, Columns] = {}
        self._seen: dict[str, Columns] = {}
        self.drifted: frozenset[str] = frozenset()

    def look(self) -> bool:
        """Look at every data set. The first time tells what is relied on.

        Returns:
            Whether the columns of any attribute are other than when looked at before.

        Raises:
            DatabaseError: The database cannot be reached; nothing is known.
        """
        found: dict[str, Columns] = {}
        with self._connections.lend() as lent:
            for name, read in self._readers.items():
                try:
                    found[name] = read(lent)
                except (StatementError, DatabaseError):
                    # Requests cannot read it either, and say so (DATABASE_UNAVAILABLE); so does readiness.
                    continue
        changed = False
        for name, attribute in self._mapping.attribute.items():
            if attribute.data in found:
                changed |= self._compare(name, attribute, found[attribute.data])
        return changed

    def accept(self, proven: Iterable[str]) -> None:
        """Rely from now on on the columns as they are, for attributes whose probes pass over them."""
        for name in self.drifted.intersection(proven):
            self._relied_on[name] = self._seen[name]
            self.drifted -= {name}
            _log.warning("columns as they are now are relied on: the probes pass", attribute=name)

    def _compare(self, name: str, attribute: MappedAttribute, columns: Columns) -> bool:
        """Note what became of one attribute's columns; whether anything did since the look before."""
        relied_on = self._relied_on.get(name)
        if relied_on is None:
            relied_on = _used(attribute, self._mapping.data[attribute.data], columns)
            if relied_on:
                self._relied_on[name] = self._seen[name] = relied_on
            return False
        seen = {column: columns[column] for column in relied_on if column in columns}
        if seen == self._seen[name]:
            return False
        self._seen[name] = seen
        broken = sorted(column for column, was in relied_on.items() if not was.serves_as(seen.get(column)))
        if broken:
            self.drifted |= {name}
            _log.error("columns changed", attribute=name, columns=broken, available=False)
            return True
        self.drifted -= {name}
        if seen == relied_on:
            _log.info("columns are again what they were", attribute=name)
        else:
            nullable = sorted(column for column, was in relied_on.items() if was != seen[column])
            _log.error("columns changed", attribute=name, columns=nullable, available=True)
        return True


def _used(attribute: MappedAttribute, data: DataSet, columns: Columns) -> Columns:
    """The columns that an attribute's statements read: rather one too many than one too few."""
    texts = [attribute.value, attribute.where]
    if attribute.valid is not None:
        texts += [attribute.valid.from_, attribute.valid.to]
    own = {data.subject, data.name, data.region.column if data.region is not None else None}
    used = {name.lower() for name in own if name is not None}
    for text in filter(None, texts):
        named = {word.text.lower() for word in words_of(text) if isinstance(word, Word)}
        named |= {(match[1] or match[2]).lower() for match in _LOOSE.finditer(text)}
        # What names no column that we know may read any.
        used |= named if named & columns.keys() else columns.keys()
    return {name: column for name, column in columns.items() if name in used}


def _reader(data: DataSet, dialect: EngineDialect) -> Callable[[Lent], Columns]:
    """How the columns of a data set are read."""
    relation = source(data)
    if isinstance(relation, TableClause):
        place: Parameters | None = None
        if dialect.name == "postgresql":
            catalogue, place = _POSTGRESQL, (names_of(dialect).format_table(relation),)
        elif dialect.name == "sqlite":
            catalogue, place = _SQLITE, (relation.name, relation.schema)
        elif dialect.name in {"mysql", "mariadb"}:
            catalogue, place = _MYSQL, (relation.name, relation.schema)
        if place is not None:
            return lambda lent: _columns(lent.fetch(catalogue, place))
    statement: Select[Any] = select(literal_column("*")).select_from(relation).where(false())
    compiled = compiled_for(statement, dialect)
    parameters = compiled.bind({"as_of": DIALECTS[dialect.name]().as_of(date(2000, 1, 1))})
    return lambda lent: _described(lent.describe(compiled.sql, parameters))


def _columns(rows: Iterable[tuple[Any, ...]]) -> Columns:
    """Rows of (name, type, collation, required)."""
    return _by_name((str(name), Column(str(kind), str(collation), bool(req))) for name, kind, collation, req in rows)


def _described(description: Iterable[tuple[Any, ...]]) -> Columns:
    """Of a cursor's description (PEP 249): name, type code, sizes; whether null may come is no promise there."""
    return _by_name(
        (str(name), Column(" ".join(map(str, (code, *sizes))), "", required=False))
        for name, code, _, *sizes, _ in map(tuple, description)
    )


def _by_name(columns: Iterable[tuple[str, Column]]) -> Columns:
    found: Columns = {}
    for name, column in sorted(columns, key=itemgetter(0)):
        other = found.get(name.lower())
        found[name.lower()] = column if other is None else other.beside(column)
    return found
