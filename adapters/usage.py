"""Which tables and columns of the database a mapping uses: for grants, for write attempts, to name what a plan reads.

A SELECT of the mapping is read word by word, against the tables that the database has; nothing is parsed that cannot
be known by that. Where a SELECT says `*`, the whole table is used. What is found may be too much by a column whose name
is also a function's, and is never too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy import Connection, bindparam, text

from adapters.mapping import DataSet, MappedAttribute
from adapters.mapping import Mapping as MappingFile

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
    | "(?P<double>(?:[^"]|"")*)" | `(?P<back>(?:[^`]|``)*)`
    | (?P<bind>(?<![:\w\\]):[A-Za-z_]\w*)
    | (?P<number>\d[\w.]*)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<mark>\S)""",
    re.VERBOSE,
)

_BEFORE_TABLE = frozenset({"FROM", "JOIN", ",", "(", "."})
_CLAUSES = """ON WHERE JOIN LEFT RIGHT INNER CROSS FULL OUTER NATURAL USING GROUP ORDER HAVING UNION EXCEPT INTERSECT
    LIMIT OFFSET FETCH FOR WINDOW SET AS FORCE USE IGNORE PARTITION TABLESAMPLE LATERAL STRAIGHT_JOIN SELECT AND OR"""
_NO_ALIAS = frozenset(_CLAUSES.split())

_SQLITE = """SELECT 'main', m.name, p.name, p.type,
        CASE WHEN m.type = 'table' AND m.sql NOT LIKE '%collate%' THEN 'BINARY' ELSE '' END, 1
    FROM sqlite_master m JOIN pragma_table_xinfo(m.name) p
    WHERE m.type IN ('table', 'view') ORDER BY m.name, p.cid"""
_POSTGRESQL = r"""SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        coalesce(co.collname, '') || CASE WHEN co.collisdeterministic THEN '' ELSE ' (nondeterministic)' END,
        pg_table_is_visible(c.oid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_collation co ON co.oid = a.attcollation
    WHERE c.relname = ANY(:names) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
        AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, c.relname, a.attnum"""
_MYSQL = """SELECT table_schema, table_name, column_name, column_type, coalesce(collation_name, ''),
        table_schema = database()
    FROM information_schema.columns
    WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys') AND table_name IN :names
    ORDER BY table_schema, table_name, ordinal_position"""


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """A column as the database describes it; the collation is empty where it has none or the database does not tell."""

    name: str
    type: str
    collation: str


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A table or view that the database has.

    Attributes:
        schema: Its schema; of MySQL and MariaDB the database.
        visible: Whether its name alone reaches it.
    """

    schema: str
    name: str
    columns: tuple[KnownColumn, ...]
    visible: bool

    @property
    def title(self) -> str:
        """As a person would write it."""
        return self.name if self.visible else f"{self.schema}.{self.name}"


Tables: TypeAlias = "Mapping[str, Sequence[KnownTable]]"
"""By name in lower case, which several may share."""


@dataclass(slots=True)
class Use:
    """What is used of one table.

    Attributes:
        table: The table.
        columns: Names of its used columns.
        whole: Whether a SELECT says `*`, so that every column is used.
        aliases: What the SELECT calls it, in lower case.
    """

    table: KnownTable
    columns: set[str] = field(default_factory=set)
    whole: bool = False
    aliases: set[str] = field(default_factory=set)

    def in_order(self) -> list[str]:
        """Used columns in the table's order."""
        return [one.name for one in self.table.columns if self.whole or one.name in self.columns]


@dataclass(frozen=True, slots=True)
class Word:
    """A name in SQL: its text without quotes, and whether it stood in them."""

    text: str
    quoted: bool


def read_tables(connection: Connection, mapping: MappingFile) -> list[KnownTable]:
    """The tables of the database whose names stand in the mapping, with all their columns.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be read.
    """
    family = connection.dialect.name
    sets = [*mapping.data.values(), *(roster.as_data for roster in mapping.roster.values())]
    names = sorted({name for data in sets for name in _names(data)})
    if not names:
        return []
    if family == "sqlite":
        rows = connection.execute(text(_SQLITE)).all()
    elif family == "postgresql":
        names += [name.lower() for name in names]
        rows = connection.execute(text(_POSTGRESQL), {"names": names}).all()
    else:
        statement = text(_MYSQL).bindparams(bindparam("names", expanding=True))
        rows = connection.execute(statement, {"names": names}).all()
    tables: dict[tuple[str, str], tuple[list[KnownColumn], bool]] = {}
    for schema, table, column, kind, collation, visible in rows:
        entry = tables.setdefault((schema, table), ([], bool(visible)))
        entry[0].append(KnownColumn(column, str(kind), collation))
    return [KnownTable(*place, tuple(columns), visible) for place, (columns, visible) in tables.items()]


def used_by(data: DataSet, attributes: Iterable[MappedAttribute], tables: Tables, family: str) -> list[Use]:
    """What one data set and the attributes over it use.

    Args:
        data: The data set.
        attributes: Attributes that lie in it.
        tables: Those of `read_tables`, by their names in lower case.
        family: SQLAlchemy's name of the database.
    """
    reading = _Reading(tables, family)
    if data.table is not None:
        reading.take_table(data.table)
        expressions = [part for one in attributes for part in _expressions(one)]
        for use in reading.uses.values():
            own = [data.subject, data.name, None if data.region is None else data.region.column]
            for column in own:
                use.columns |= reading.columns(use.table, Word(column, quoted=True)) if column else set()
            for expression in expressions:
                for word in words_of(expression):
                    if isinstance(word, Word):
                        use.columns |= reading.columns(use.table, word)
    else:
        reading.take_select(data.select or "")
    if data.loaded is not None:
        loading = _Reading(tables, family)
        loading.take_select(data.loaded)
        for place, use in loading.uses.items():
            kept = reading.uses.setdefault(place, use)
            kept.columns |= use.columns
            kept.whole |= use.whole
    return list(reading.uses.values())


def _names(data: DataSet) -> Iterator[str]:
    if data.table is not None:
        yield data.table.rpartition(".")[2]
    for sql in (data.select, data.loaded):
        yield from (word.text for word in words_of(sql or "") if isinstance(word, Word))


def _expressions(mapped: MappedAttribute) -> Iterator[str]:
    for expression in (mapped.value, mapped.where):
        if expression is not None:
            yield expression
    if mapped.valid is not None:
        yield from (mapped.valid.from_, mapped.valid.to)


def words_of(sql: str) -> Iterator[Word | str]:
    """Names as `Word`, marks as they are; texts, numbers and parameters are left out."""
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind == "word":
            yield Word(match["word"], quoted=False)
        elif kind in {"double", "back"}:
            quote = '"' if kind == "double" else "`"
            # A colon is written \: in a mapping, where it would begin a parameter otherwise.
            yield Word(match[kind].replace(quote * 2, quote).replace(r"\:", ":"), quoted=True)
        elif kind == "mark":
            yield match["mark"]


class _Reading:
    """Reads one SELECT, or takes one table."""

    def __init__(self, tables: Tables, family: str) -> None:
        self._tables = tables
        self._family = family
        self.uses: dict[tuple[str, str], Use] = {}

    def same(self, word: Word, name: str) -> bool:
        """Whether a word of SQL means this name."""
        if self._family == "postgresql":
            return (word.text if word.quoted else word.text.lower()) == name
        return word.text.casefold() == name.casefold()

    def columns(self, table: KnownTable, word: Word) -> set[str]:
        """Columns that a word means."""
        return {one.name for one in table.columns if self.same(word, one.name)}

    def take_table(self, title: str) -> None:
        """The table under `table`, as SQLAlchemy finds it."""
        schema, _, name = title.rpartition(".")
        for one in self._tables.get(name.casefold(), ()):
            if self.same(Word(name, quoted=True), one.name) and (one.schema == schema if schema else one.visible):
                self.uses[one.schema, one.name] = Use(one, aliases={one.name.casefold()})

    def take_select(self, sql: str) -> None:
        """Tables first, since an alias may be used before it is made; then columns."""
        words = list(words_of(sql))
        taken = set(self._take_tables(words))
        for place, word in enumerate(words):
            before = words[place - 1] if place else ""
            owner = words[place - 2] if place > 1 and before == "." else None
            uses = [one for one in self.uses.values() if owner is None or self._means(owner, one)]
            if word == "*" and (owner is not None or self._selects(before)):
                for use in uses:
                    use.whole = True
            elif isinstance(word, Word) and place not in taken:
                for use in uses:
                    use.columns |= self.columns(use.table, word)
        for use in self.uses.values():
            if not use.columns and not use.whole and use.table.columns:
                # count(*) needs no particular column, but the right to read one.
                use.columns.add(use.table.columns[0].name)

    def _take_tables(self, words: list[Word | str]) -> Iterator[int]:
        for place, word in enumerate(words):
            before = words[place - 1] if place else ""
            if not isinstance(word, Word) or _upper(before) not in _BEFORE_TABLE:
                continue
            schema = words[place - 2] if before == "." and place > 1 else None
            for one in self._tables.get(word.text.casefold(), ()):
                if not self.same(word, one.name) or not (
                    one.visible if schema is None else isinstance(schema, Word) and self.same(schema, one.schema)
                ):
                    continue
                use = self.uses.setdefault((one.schema, one.name), Use(one))
                use.aliases.add(one.name.casefold())
                after = place + 1
                if after < len(words) and _upper(words[after]) == "AS":
                    after += 1
                if after < len(words) and isinstance(alias := words[after], Word) and _upper(alias) not in _NO_ALIAS:
                    use.aliases.add(alias.text.casefold())
                    yield after
                yield place

    def _means(self, owner: Word | str, use: Use) -> bool:
        return isinstance(owner, Word) and owner.text.casefold() in use.aliases

    def _selects(self, before: Word | str) -> bool:
        return _upper(before) in {"SELECT", "DISTINCT", "ALL", ","}


def _upper(word: Word | str) -> str:
    if isinstance(word, str):
        return word
    return "" if word.quoted else word.text.upper()


def used(mapping: MappingFile, tables: Iterable[KnownTable], family: str) -> Mapping[str, list[Use]]:
    """What each data set and roster uses, by its name; a roster's begins with "roster "."""
    known: dict[str, list[KnownTable]] = {}
    for table in tables:
        known.setdefault(table.name.casefold(), []).append(table)
    lying: dict[str, list[MappedAttribute]] = {}
    for attribute in mapping.attribute.values():
        lying.setdefault(attribute.data, []).append(attribute)
    sets = mapping.data | {f"roster {name}": roster.as_data for name, roster in mapping.roster.items()}
    return {name: used_by(data, lying.get(name, ()), known, family) for name, data in sets.items()}


def together(uses: Iterable[list[Use]]) -> list[Use]:
    """Uses of the same table by several data sets as one, in the order of the tables' names."""
    merged: dict[tuple[str, str], Use] = {}
    for use in (one for several in uses for one in several):
        kept = merged.setdefault((use.table.schema, use.table.name), Use(use.table))
        kept.columns |= use.columns
        kept.whole |= use.whole
        kept.aliases |= use.aliases
    return [merged[place] for place in sorted(merged)]
