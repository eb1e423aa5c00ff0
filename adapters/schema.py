"""The live schema of a department's database, read for a draft: tables, columns, indexes, and what columns look like.

Nothing but names, types and counts leaves this module: sampled values are looked at and forgotten.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Engine, Text, cast, column, func, inspect, select, table, text, types
from sqlalchemy.engine.interfaces import ReflectedForeignKeyConstraint
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlalchemy.exc import DBAPIError, SAWarning, SQLAlchemyError

from adapters.vocabulary import Look, look

SAMPLE = 100
"""Rows of each table whose values are looked at."""

LONGEST = 64
"""Characters of a value that are looked at; no identifier, code or date is longer."""

_SYSTEM_SCHEMAS = frozenset({"information_schema", "mysql", "performance_schema", "sys"})

Sort: TypeAlias = Literal["text", "integer", "decimal", "date", "other"]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column.

    Attributes:
        name: As the database spells it.
        sort: What an attribute over it would be.
        sql_type: As the database calls it.
        indexed: Whether an index begins with it.
        look: What its values look like.
    """

    name: str
    sort: Sort
    sql_type: str
    indexed: bool
    look: Look


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table or view.

    Attributes:
        schema: None for the account's default one.
        name: As the database spells it.
        columns: In their order.
        view: Whether it is a view, which has no index of its own.
        key: Columns of the primary key.
        references: (columns, schema, table, columns there) of each foreign key.
    """

    schema: str | None
    name: str
    columns: tuple[ColumnFacts, ...]
    view: bool
    key: tuple[str, ...]
    references: tuple[tuple[tuple[str, ...], str | None, str, tuple[str, ...]], ...]

    @property
    def title(self) -> str:
        """Its name with its schema."""
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


def read_schema(
    engine: Engine, today: date, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> list[TableFacts]:
    """Every table and view that the account can see.

    Args:
        engine: Over read-only connections.
        today: No date in an identifier lies after it.
        progress: Told after each table how many are done, and of how many.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be read.
    """
    with engine.connect() as connection, warnings.catch_warnings():
        # A type that SQLAlchemy does not know, or an index over an expression, is no harm here.
        warnings.simplefilter("ignore", SAWarning)
        drafts = [one for schema in _schemas(inspect(connection)) for one in _reflected(inspect(connection), schema)]
        tables = []
        for done, (schema, name, columns, view, key, indexed, references) in enumerate(drafts, 1):
            looks = _looks(connection, schema, name, columns, today)
            facts = tuple(
                ColumnFacts(
                    one["name"], _sort(one["type"]), _type_name(one["type"], engine), one["name"] in indexed, seen
                )
                for one, seen in zip(columns, looks, strict=True)
            )
            tables.append(TableFacts(schema, name, facts, view, key, references))
            progress(done, len(drafts))
    return tables


def _schemas(inspector: Inspector) -> Iterator[str | None]:
    yield None
    if inspector.dialect.name != "postgresql":
        # SQLite has one; of MySQL and MariaDB, where a schema is a database, the URL names it.
        return
    for name in inspector.get_schema_names():
        if name not in _SYSTEM_SCHEMAS and not name.startswith("pg_") and name != inspector.default_schema_name:
            yield name


def _reflected(inspector: Inspector, schema: str | None) -> Iterator[tuple[Any, ...]]:
    """Everything about one schema in a few questions, not in a few for each table."""
    mysql = inspector.dialect.name in {"mysql", "mariadb"}
    kind = ObjectKind.TABLE if mysql else ObjectKind.ANY
    columns: dict[tuple[str | None, str], Any] = dict(inspector.get_multi_columns(schema=schema, kind=kind))
    if mysql:
        columns |= _columns_of_mysql_views(inspector)
    keys = inspector.get_multi_pk_constraint(schema=schema, kind=kind)
    indexes = inspector.get_multi_indexes(schema=schema, kind=kind)
    references = inspector.get_multi_foreign_keys(schema=schema, kind=kind)
    views = frozenset(inspector.get_view_names(schema=schema))
    for place in sorted(columns, key=lambda place: place[1]):
        key = tuple(keys[place]["constrained_columns"]) if keys.get(place) else ()
        led = {index["column_names"][0] for index in indexes.get(place, ()) if index["column_names"]} | set(key[:1])
        yield (
            schema,
            place[1],
            columns[place],
            place[1] in views,
            key,
            led,
            tuple(map(_reference, references.get(place, ()))),
        )


def _columns_of_mysql_views(inspector: Inspector) -> dict[tuple[str | None, str], Any]:
    """Columns of the views, which MySQL describes to SQLAlchemy only with a right (SHOW VIEW) that a reader lacks."""
    statement = text(
        "SELECT c.table_name, c.column_name, c.data_type, c.numeric_scale FROM information_schema.columns c "
        "JOIN information_schema.views v ON v.table_schema = c.table_schema AND v.table_name = c.table_name "
        "WHERE c.table_schema = database() ORDER BY c.table_name, c.ordinal_position"
    )
    known: dict[str, Any] = getattr(inspector.dialect, "ischema_names", {})
    found: dict[tuple[str | None, str], Any] = {}
    with inspector.engine.connect() as connection:
        rows = connection.execute(statement).all()
    for name, column_name, word, scale in rows:
        kind = known.get(word, types.LargeBinary)()
        if isinstance(kind, types.Numeric):
            kind.scale = scale
        found.setdefault((None, name), []).append({"name": column_name, "type": kind})
    return found


def _reference(foreign: ReflectedForeignKeyConstraint) -> tuple[tuple[str, ...], str | None, str, tuple[str, ...]]:
    return (
        tuple(foreign["constrained_columns"]),
        foreign["referred_schema"],
        foreign["referred_table"],
        tuple(foreign["referred_columns"]),
    )


def _looks(connection: Connection, schema: str | None, name: str, columns: list[Any], today: date) -> list[Look]:
    """A look at each column; an empty one for what cannot be read or is neither text nor date."""
    chosen = [i for i, one in enumerate(columns) if _sort(one["type"]) in {"text", "date"}]
    looks = [Look()] * len(columns)
    if not chosen:
        return looks
    texts = [func.substr(cast(column(columns[i]["name"]), Text), 1, LONGEST).label(f"c{i}") for i in chosen]
    try:
        rows = connection.execute(select(*texts).select_from(table(name, schema=schema)).limit(SAMPLE)).all()
    except (SQLAlchemyError, UnicodeError, LookupError):
        # The last: a name that SQLAlchemy takes for a place to fill in; the check refuses it.
        return looks
    for place, i in enumerate(chosen):
        looks[i] = look([row[place] for row in rows], today)
    return looks


def _sort(kind: types.TypeEngine[Any]) -> Sort:
    if isinstance(kind, types.Boolean | types.LargeBinary | types.ARRAY | types.JSON):
        return "other"
    if isinstance(kind, types.Integer):
        return "integer"
    if isinstance(kind, types.Numeric):
        return "integer" if kind.scale == 0 else "decimal"
    if isinstance(kind, types.Date | types.DateTime):
        return "date"
    # SQLite's columns may have no type at all.
    return "text" if isinstance(kind, types.String | types.NullType) else "other"


def _type_name(kind: types.TypeEngine[Any], engine: Engine) -> str:
    if isinstance(kind, types.NullType):
        return "no type"
    try:
        return kind.compile(dialect=engine.dialect)
    except (SQLAlchemyError, DBAPIError):
        return type(kind).__name__
