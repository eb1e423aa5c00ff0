"""What a family of databases has to say by itself, and what several of them share.

A dialect hands a group of subjects to the database as two relations: `zw_k(n, k)`, the accepted spellings of the
subject of row `n`, and `zw_a(n, name, place, v0, …)`, what row `n` is compared with. Everything in `zw_a` is text; a
list of accepted spellings is one text in which U+001F stands before and after each (`spell_list`), so that membership
is one bytewise search. What a value expression yields is *read* strictly: what is not of the attribute's type becomes
null, or an error that concerns its row only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol, TypeAlias

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.engine.interfaces import Dialect as EngineDialect
from sqlalchemy.sql.compiler import IdentifierPreparer
from sqlalchemy.sql.selectable import Join

SEPARATOR = "\x1f"
"""Stands around each spelling of a list. It is a control character, which canonical names and identifiers exclude."""

DAY = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
"""A regular expression, as all of them read it, of a day as ISO 8601 writes it; the days of months are not counted."""

CLOCK = "[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?"
"""The same of a time of day behind a day."""

Row: TypeAlias = "tuple[Sequence[str], str | None, str | None, Sequence[str | None]]"
"""Spellings of the subject's identifier, list of its name's spellings, place prefix, one compared value a claim."""

Element: TypeAlias = "ColumnElement[Any]"


def spell_list(spellings: Iterable[str]) -> str:
    """One text that holds all spellings, each between separators."""
    return f"{SEPARATOR}{SEPARATOR.join(spellings)}{SEPARATOR}"


def names_of(dialect: EngineDialect) -> IdentifierPreparer:
    """Quotes names for SQL that a person runs, a mapping holds or a parameter carries.

    SQLAlchemy's own doubles each percent sign where the driver writes parameters as %s, and only that driver takes the
    second one away.
    """
    preparer = copy.copy(dialect.identifier_preparer)
    preparer._double_percents = False  # noqa: SLF001 - SQLAlchemy has no public way to say so
    preparer._strings = {}  # noqa: SLF001 - what was quoted before, which the copy would share
    return preparer


class OrderedJoin(Join):
    """A join whose left side SQLite must read first: the asked subjects drive, the data set's index serves."""

    inherit_cache = True


class Dialect(Protocol):
    """What `adapters/statements.py` asks of a family of databases."""

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Shape of the statement for these rows: (rows, spellings), or (0, 0) for the one that takes arrays."""

    def as_of(self, day: date) -> Any:
        """The reference date as the driver takes it."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        """What cuts a data set to the asked subjects where a join alone would not use the subject column's index."""

    def longest(self) -> int:
        """How many rows one statement takes."""

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        """The relations `zw_k` and `zw_a` for a statement of this size."""

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        """Values of the bound parameters of `asked`, and `as_of`."""

    def once(self, rows: Select[Any], name: str) -> CTE:
        """Rows as a relation that the database makes before it goes on, and does not merge into what uses it."""

    def repertoire(self, data: FromClause, subject: str) -> Select[Any] | None:
        """A SELECT of one text that names the characters of the subject column; None if it can be asked for any."""
        del data, subject
        return None

    def askable(self, keys: Sequence[str], repertoire: str) -> Sequence[str]:
        """Those spellings that a column of these characters can hold; a comparison with others would be an error.

        Raises:
            LookupError: It is not known what the column can hold.
        """
        del repertoire
        return keys

    def meets(self, subject: Element, key: Element) -> Element:
        """Whether a record's subject is a key, as far as its collation tells; `same` looks again."""
        return subject == key

    def kept(self, truth: Element) -> Element:
        """True, false or null as a column may hold it."""
        return truth

    def truth(self, kept: Element) -> Element:
        """What `kept` made, as a condition again."""
        return kept

    def same(self, one: Element, other: Element) -> Element:
        """Whether two texts are the same bytes, without padding, collation or casts."""

    def listed(self, spellings: Element, value: Element) -> Element:
        """Whether a value is, bytewise, one of a list of spellings; null if it is no text."""

    def within(self, region: Element, place: Element) -> Element:
        """Whether an administrative code begins with another one."""

    def integer(self, value: Element) -> Element:
        """The value as an integer, null (or an error of its row) if it is none."""

    def decimal(self, value: Element) -> Element:
        """The value as a number, null (or an error of its row) if it is none."""

    def day(self, value: Element) -> Element:
        """The value as a date, null (or an error of its row) if it is none."""

    def as_integer(self, text: Element) -> Element:
        """A canonical text of ours as an integer."""

    def as_decimal(self, text: Element) -> Element:
        """A canonical text of ours as a number."""

    def as_day(self, text: Element) -> Element:
        """A canonical text of ours as a date."""


def bucket(count: int) -> int:
    """The power of two at or above, so that a handful of statements serves all sizes."""
    return 1 << (count - 1).bit_length()


def bound(size: tuple[int, int], values: int, collation: str | None = None) -> tuple[CTE, CTE]:
    """`zw_k` and `zw_a` as unions of bound values; rows beyond the real ones have null keys and match nothing."""
    rows, keys = size

    def key(i: int) -> Element:
        parameter = bindparam(f"k{i}", type_=Text)
        return (parameter if collation is None else parameter.collate(collation)).label("k")

    k = union_all(*(select(bindparam(f"n{i}", type_=Integer).label("n"), key(i)) for i in range(keys))).cte("zw_k")
    a = union_all(
        *(
            select(
                literal_column(str(i), Integer).label("n"),
                bindparam(f"name{i}", type_=Text).label("name"),
                bindparam(f"place{i}", type_=Text).label("place"),
                *(bindparam(f"v{i}_{j}", type_=Text).label(f"v{j}") for j in range(values)),
            )
            for i in range(rows)
        )
    ).cte("zw_a")
    return k, a


def bound_parameters(rows: Sequence[Row], size: tuple[int, int]) -> dict[str, Any]:
    """Values for `bound`."""
    parameters: dict[str, Any] = {}
    at = 0
    for i, (keys, name, place, values) in enumerate(rows):
        for key in keys:
            parameters[f"n{at}"] = i
            parameters[f"k{at}"] = key
            at += 1
        parameters[f"name{i}"] = name
        parameters[f"place{i}"] = place
        for j, value in enumerate(values):
            parameters[f"v{i}_{j}"] = value
    for i in range(at, size[1]):
        parameters[f"n{i}"] = parameters[f"k{i}"] = None
    for i in range(len(rows), size[0]):
        parameters[f"name{i}"] = parameters[f"place{i}"] = None
        for j in range(len(rows[0][3])):
            parameters[f"v{i}_{j}"] = None
    return parameters
