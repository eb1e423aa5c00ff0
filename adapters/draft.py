"""What a mapping could say about a schema: data sets by their likely subject, and candidates for attributes. Pure.

Everything here is a guess for a person to look at: nothing that it decides is published or granted by it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adapters.mapping import TABLE_NAME
from adapters.schema import ColumnFacts, TableFacts
from adapters.vocabulary import ENDS, LOADS, NAMES, REGIONS, STARTS, SUBJECTS, rank

LONGEST_NAME = 40
"""Characters of a drafted name; published names may have 48, and one may get a number."""

Quote = Callable[[str], str]
"""A name as the database wants it in SQL."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attribute that could be published.

    Attributes:
        name: Of the attribute.
        asks: Predicate.
        type: Published type; empty if none is needed.
        value: SQL expression; None for `exists` and `valid`.
        valid: First and last day, for `valid`.
        of: What it is over: the column's name and type, or the table's.
    """

    name: str
    asks: str
    type: str = ""
    value: str | None = None
    valid: tuple[str, str] | None = None
    of: str = ""


@dataclass(frozen=True, slots=True)
class DraftSet:
    """A data set that could be mapped.

    Attributes:
        name: Of the data set.
        title: The table's name.
        kind: Kind of subject.
        table: What stands under `table`; None if a SELECT is needed.
        select: What stands under `select` then.
        subject: Column of the identifier.
        certain: Whether name and values of that column agree.
        indexed: Whether an index begins with it; a view has none, and what is behind it is not looked at.
        named: Column of the subject's name.
        region: Column with an administrative code, and whether its values look like it.
        loaded: SELECT that might tell when the data set was loaded.
        joined: Whether the subject comes from another table.
        candidates: Attributes; the first is `exists`.
        left: Columns that no attribute was drafted for, with their types.
    """

    name: str
    title: str
    kind: str
    table: str | None
    select: str | None
    subject: str
    certain: bool
    indexed: bool
    named: str | None
    region: tuple[str, bool] | None
    loaded: str | None
    joined: bool
    candidates: tuple[Candidate, ...]
    left: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Subject:
    kind: str
    column: ColumnFacts
    prefix: str
    certain: bool


def draft(tables: Sequence[TableFacts], quote: Quote, family: str) -> tuple[list[DraftSet], list[str]]:
    """Data sets that the tables could be, and the names of tables in which no subject was found.

    Args:
        tables: From `schema.read_schema`.
        quote: Quotes a name for this database.
        family: SQLAlchemy's name of the database.
    """
    drafting = _Drafting(quote, family)
    subjects = {(one.schema, one.name): (one, found) for one in tables if (found := _subject(one)) is not None}
    sets, left = [], []
    for facts, subject in subjects.values():
        sets.append(drafting.of_table(facts, subject))
    for facts in tables:
        if (facts.schema, facts.name) in subjects:
            continue
        joined = drafting.of_reference(facts, subjects)
        if joined is None:
            left.append(facts.title)
        else:
            sets.append(joined)
    return sets, left


def _subject(facts: TableFacts) -> _Subject | None:
    """The column that most likely holds the subject: by its name and its values, then by an index."""
    found = []
    for place, column in enumerate(facts.columns):
        if column.sort != "text":
            continue
        for kind, words in SUBJECTS.items():
            said = rank(column.name, words)
            if column.look.is_of(kind, named=said is not None):
                order = (said is None, column.look.total == 0, said[0] if said else 0, not column.indexed, place)
                certain = said is not None and column.look.total > 0
                found.append((order, _Subject(kind, column, said[1] if said else "", certain)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _best(columns: Sequence[ColumnFacts], words: tuple[str, ...], prefix: str | None = None) -> ColumnFacts | None:
    """The column whose name says one of the words best; with a prefix, only columns that have just this one."""
    ranked = [
        (said[0], place)
        for place, column in enumerate(columns)
        if (said := rank(column.name, words)) is not None and (prefix is None or said[1] == prefix)
    ]
    return columns[min(ranked)[1]] if ranked else None


class _Drafting:
    """Remembers which names are taken."""

    def __init__(self, quote: Quote, family: str) -> None:
        self._quote = quote
        self._family = family
        self._sets: set[str] = set()
        self._attributes: set[str] = set()

    def of_table(self, facts: TableFacts, subject: _Subject) -> DraftSet:
        """A table that has a subject itself."""
        plain = TABLE_NAME.match(facts.title) is not None and facts.title.count(".") == (facts.schema is not None)
        select = None if plain else f"SELECT * FROM {self._table(facts.schema, facts.name)}"  # noqa: S608 - names of the schema, quoted
        named = _best([one for one in facts.columns if one.sort == "text"], NAMES[subject.kind], subject.prefix)
        return self._set(
            facts, facts, subject, named=named, table=facts.title if plain else None, select=select, joined=False
        )

    def of_reference(
        self, facts: TableFacts, subjects: dict[tuple[str | None, str], tuple[TableFacts, _Subject]]
    ) -> DraftSet | None:
        """A table whose foreign key leads to one that has a subject."""
        for columns, schema, name, there in facts.references:
            if (schema, name) not in subjects:
                continue
            other, subject = subjects[schema, name]
            named = _best([one for one in other.columns if one.sort == "text"], NAMES[subject.kind], subject.prefix)
            region = self._region(other)
            taken = [one.name for one in (subject.column, named) if one is not None] + ([region[0]] if region else [])
            own = [one.name for one in facts.columns if one.name.casefold() not in {name.casefold() for name in taken}]
            wanted = [f"p.{self._quote(one)}" for one in taken] + [f"q.{self._quote(one)}" for one in own]
            on = " AND ".join(
                f"p.{self._quote(far)} = q.{self._quote(near)}" for near, far in zip(columns, there, strict=True)
            )
            select = (
                f"SELECT {', '.join(wanted)} FROM {self._table(facts.schema, facts.name)} q "  # noqa: S608 - as above
                f"JOIN {self._table(schema, name)} p ON {on}"
            )
            return self._set(
                facts, other, subject, named=named, table=None, select=select, joined=True, skip=frozenset(columns)
            )
        return None

    def _set(
        self,
        facts: TableFacts,
        owner: TableFacts,
        subject: _Subject,
        *,
        named: ColumnFacts | None,
        table: str | None,
        select: str | None,
        joined: bool,
        skip: frozenset[str] = frozenset(),
    ) -> DraftSet:
        name = _free(slug(facts.name) or "data", self._sets)
        region = self._region(owner)
        stamp = _best([one for one in facts.columns if self._tells_time(one)], LOADS)
        used = {subject.column.name, region[0] if region else "", stamp.name if stamp else ""} | skip
        used |= {named.name} if named is not None else set()
        used |= set(facts.key) if len(facts.key) == 1 else set()
        rest = [one for one in facts.columns if one.name not in used]
        exists = Candidate(_free(name, self._attributes), "exists", of=facts.title)
        candidates = [exists, *self._candidates(name, facts, rest, named if not joined else None)]
        over = {one.of for one in candidates}
        return DraftSet(
            name=name,
            title=facts.title,
            kind=subject.kind,
            table=table,
            select=escape_colons(select) if select else None,
            subject=subject.column.name,
            certain=subject.certain and not joined,
            indexed=subject.column.indexed or owner.view,
            named=None if named is None else named.name,
            region=region,
            loaded=None
            if stamp is None
            else escape_colons(
                f"SELECT max({self._quote(stamp.name)}) FROM {self._table(facts.schema, facts.name)}"  # noqa: S608 - as above
            ),
            joined=joined,
            candidates=tuple(candidates),
            left=tuple((one.name, one.sql_type) for one in rest if one.name not in over and one.sort == "other"),
        )

    def _region(self, facts: TableFacts) -> tuple[str, bool] | None:
        columns = [one for one in facts.columns if one.sort in {"text", "integer"}]
        sure = _best([one for one in columns if one.look.mostly(one.look.codes)], REGIONS)
        column = sure or _best([one for one in columns if one.look.total == 0], REGIONS)
        return None if column is None else (column.name, sure is not None)

    def _candidates(
        self, data: str, facts: TableFacts, rest: list[ColumnFacts], named: ColumnFacts | None
    ) -> Iterator[Candidate]:
        if named is not None:
            value = escape_colons(self._quote(named.name))
            yield Candidate(_free(f"{data}_name", self._attributes), "equals", "text", value, of=named.name)
        days = {one.name: day for one in rest if (day := self._day(one)) is not None}
        dated = [one for one in rest if one.name in days]
        start, end = _best(dated, STARTS), _best(dated, ENDS)
        if start is not None and end is not None:
            interval = (days[start.name], days[end.name])
            yield Candidate(_free(f"{data}_valid", self._attributes), "valid", valid=interval, of=facts.title)
        for column in rest:
            if column.sort == "other":
                continue
            kind = self._related(column)
            value = escape_colons(self._quote(column.name))
            asks, type_ = "at_least", str(column.sort)
            if kind is not None:
                asks, type_ = "related", kind
            elif column.name in days:
                value, type_ = days[column.name], "date"
            elif column.sort == "date":
                # Kept as a text that is no day as one writes it: only a person can say how to read it.
                continue
            elif column.sort == "text":
                asks, type_ = "equals", "code" if column.look.mostly(column.look.codes) else "text"
            yield Candidate(self._name(data, column, facts), asks, type_, value, of=column.name)

    def _related(self, column: ColumnFacts) -> str | None:
        if column.sort != "text":
            return None
        for kind, words in SUBJECTS.items():
            if column.look.is_of(kind, named=rank(column.name, words) is not None):
                return kind
        return None

    def _name(self, data: str, column: ColumnFacts, facts: TableFacts) -> str:
        own = slug(column.name) or f"{data}_{facts.columns.index(column) + 1}"
        return _free(own if own not in self._attributes else f"{data}_{own}", self._attributes)

    def _tells_time(self, column: ColumnFacts) -> bool:
        seen = column.look
        return column.sort == "date" or (column.sort == "text" and (seen.total == 0 or seen.mostly(seen.dates)))

    def _day(self, column: ColumnFacts) -> str | None:
        """An expression that gives a day, if the column can be read as one."""
        seen, quoted = column.look, escape_colons(self._quote(column.name))
        if seen.mostly(seen.compact):
            text = quoted if column.sort == "text" else f"CAST({quoted} AS CHAR(8))"
            parts = [f"substr({text}, 1, 4)", f"substr({text}, 5, 2)", f"substr({text}, 7, 2)"]
            if self._family in {"mysql", "mariadb"}:
                return f"concat({parts[0]}, '-', {parts[1]}, '-', {parts[2]})"
            return " || '-' || ".join(parts)
        if seen.mostly(seen.dates) or (column.sort == "date" and (seen.total == 0 or self._family != "sqlite")):
            return quoted
        return None

    def _table(self, schema: str | None, name: str) -> str:
        return ".".join(self._quote(part) for part in (schema, name) if part is not None)


def slug(text: str) -> str:
    """A name for our files out of a name of the database; empty if no letter of it is ASCII."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unicodedata.normalize("NFKC", text))
    text = re.sub(r"[^a-z0-9]+", "_", text.lower())
    return re.sub(r"\A[^a-z]+", "", text)[:LONGEST_NAME].strip("_")


def _free(name: str, taken: set[str]) -> str:
    name = name[:LONGEST_NAME].strip("_")
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def escape_colons(sql: str) -> str:
    r"""A colon within a quoted name would be read as a parameter; the mapping writes it `\:`."""
    return re.sub(r":(?=\w)", r"\\:", sql)
