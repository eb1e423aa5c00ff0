# ruff: noqa: D102 - what each method means stands once, in the protocol
"""How each family of databases says the few things that SQL leaves to its dialects.

A dialect hands a group of subjects to the database as two relations: `k(n, k)`, the accepted spellings of the subject
of row `n`, and `a(n, name, place, v0, …)`, what row `n` is compared with. Everything in `a` is text; a list of
accepted spellings is one text in which U+001F stands before and after each (`spell_list`), so that membership is one
bytewise search. What a value expression yields is *read* strictly: what is not of the attribute's type becomes null,
or an error that concerns its row only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol, TypeAlias

from sqlalchemy import (
    CTE,
    ColumnElement,
    Date,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import Join
from sqlalchemy.types import NullType

SEPARATOR = "\x1f"
"""Stands around each spelling of a list. It is a control character, which canonical names and identifiers exclude."""

SMALL = 16
"""Groups of up to so many subjects go as single bound values where that is faster than an array."""

LONGEST_LIST = 1000
"""Dialects without arrays get lists of at most this many values."""

Row: TypeAlias = "tuple[Sequence[str], str | None, str | None, Sequence[str | None]]"
"""Spellings of the subject's identifier, list of its name's spellings, place prefix, one compared value a claim."""

Element: TypeAlias = "ColumnElement[Any]"


def spell_list(spellings: Iterable[str]) -> str:
    """One text that holds all spellings, each between separators."""
    return f"{SEPARATOR}{SEPARATOR.join(spellings)}{SEPARATOR}"


class OrderedJoin(Join):
    """A join whose left side SQLite must read first: the asked subjects drive, the data set's index serves."""

    inherit_cache = True


@compiles(OrderedJoin, "sqlite")
def _compile_ordered_join(join: OrderedJoin, compiler: SQLCompiler, **kwargs: Any) -> str:
    """SQLite never reorders what stands around CROSS JOIN (sqlite.org/optoverview.html, section 8.2)."""
    kwargs.pop("asfrom", None)
    left = compiler.process(join.left, asfrom=True, **kwargs)
    right = compiler.process(join.right, asfrom=True, **kwargs)
    assert join.onclause is not None  # noqa: S101 - statements.py always gives one
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause, **kwargs)}"


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
        """The relations `k` and `a` for a statement of this size."""

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        """Values of the bound parameters of `asked`, and `as_of`."""

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


def _bucket(count: int) -> int:
    """The power of two at or above, so that a handful of statements serves all sizes."""
    return 1 << (count - 1).bit_length()


def _bound(size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
    """`k` and `a` as unions of single bound values; rows beyond the real ones have null keys and match nothing."""
    rows, keys = size
    k = union_all(
        *(
            select(bindparam(f"n{i}", type_=Integer).label("n"), bindparam(f"k{i}", type_=Text).label("k"))
            for i in range(keys)
        )
    ).cte("k")
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
    ).cte("a")
    return k, a


def _bound_parameters(rows: Sequence[Row], size: tuple[int, int]) -> dict[str, Any]:
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


class Sqlite:
    """SQLite: arrays by `json_each`; types are those of the values, so each is looked at."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        del subject, size
        return None

    def as_of(self, day: date) -> Any:
        return day.isoformat()

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        if len(rows) > SMALL:
            return 0, 0
        return _bucket(len(rows)), _bucket(sum(len(row[0]) for row in rows))

    def longest(self) -> int:
        return 100_000

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        if size != (0, 0):
            return _bound(size, values)
        keys = func.json_each(bindparam("keys", type_=Text)).table_valued("key", "value", name="keys")
        stride = bindparam("stride", type_=Integer)
        k = select((keys.c.key.op("/")(stride)).label("n"), keys.c.value.label("k")).cte("k")
        rows = func.json_each(bindparam("rows", type_=Text)).table_valued("key", "value", name="rows")

        def item(i: int) -> Element:
            return func.json_extract(rows.c.value, literal_column(f"'$[{i}]'"))

        # Materialised, or each use of a column would parse its row's JSON again.
        a = (
            select(
                rows.c.key.label("n"),
                item(0).label("name"),
                item(1).label("place"),
                *(item(j + 2).label(f"v{j}") for j in range(values)),
            )
            .cte("a")
            .prefix_with("MATERIALIZED")
        )
        return k, a

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        if size != (0, 0):
            parameters = _bound_parameters(rows, size)
        else:
            stride = max(len(row[0]) for row in rows)
            keys: list[str | None] = []
            for row in rows:
                keys += row[0]
                keys += [None] * (stride - len(row[0]))
            parameters = {
                "keys": json.dumps(keys, ensure_ascii=False),
                "stride": stride,
                "rows": json.dumps([[name, place, *values] for _, name, place, values in rows], ensure_ascii=False),
            }
        parameters["as_of"] = self.as_of(day)
        return parameters

    def same(self, one: Element, other: Element) -> Element:
        return cast(one, LargeBinary) == cast(other, LargeBinary)

    def listed(self, spellings: Element, value: Element) -> Element:
        separator = func.char(literal_column("31"))
        found = func.instr(spellings, separator.op("||")(value).op("||")(separator)) > literal_column("0")
        return case(
            (
                func.typeof(value) == literal_column("'text'"),
                and_(func.instr(value, separator) == literal_column("0"), found),
            )
        )

    def within(self, region: Element, place: Element) -> Element:
        # A code kept as an integer reads as its digits: no code begins with a zero.
        return func.substr(cast(region, Text), literal_column("1"), func.length(place)) == place

    def integer(self, value: Element) -> Element:
        number = cast(value, Integer)
        return case(
            (func.typeof(value) == literal_column("'integer'"), value),
            (and_(func.typeof(value) == literal_column("'text'"), cast(number, Text) == value), number),
            (and_(func.typeof(value) == literal_column("'real'"), number == value), number),
        )

    def decimal(self, value: Element) -> Element:
        digits = func.ltrim(value, literal_column("'-'"))
        plain = and_(
            func.typeof(value) == literal_column("'text'"),
            digits.op("GLOB")(literal_column("'[0-9]*[0-9]'")) | digits.op("GLOB")(literal_column("'[0-9]'")),
            ~digits.op("GLOB")(literal_column("'*[^0-9.]*'")),
            ~digits.op("GLOB")(literal_column("'*.*.*'")),
            func.length(value) - func.length(digits) <= literal_column("1"),
        )
        return case(
            (func.typeof(value).in_([literal_column("'integer'"), literal_column("'real'")]), value),
            (plain, cast(value, Numeric)),
        )

    def day(self, value: Element) -> Element:
        first = func.substr(value, literal_column("1"), literal_column("10"))
        return case(
            (
                and_(
                    func.typeof(value) == literal_column("'text'"),
                    func.date(first) == first,
                    # A day alone, or a day with a time of day behind it.
                    or_(func.length(value) == literal_column("10"), func.datetime(value).is_not(null())),
                ),
                first,
            )
        )

    def as_integer(self, text: Element) -> Element:
        return cast(text, Integer)

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_day(self, text: Element) -> Element:
        return text


def _array_literal(texts: Iterable[str]) -> str:
    """An array as PostgreSQL writes it (its manual, section 8.15.6)."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


class Postgresql:
    """PostgreSQL: arrays by `unnest`; types are those of the columns, and a text that is no number is an error."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        # A literal without a type takes the column's: an index over char(18) does not serve a comparison with text.
        del size
        return subject.op("=")(func.any(bindparam("literal", type_=NullType())))

    def as_of(self, day: date) -> Any:
        return day

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        del rows
        return 0, 0

    def longest(self) -> int:
        return 100_000

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        del size

        def array(name: str, of: Any) -> Element:
            return cast(bindparam(name), postgresql.ARRAY(of))

        keys = func.unnest(array("kn", Integer), array("kk", Text)).table_valued("n", "k", name="keys").render_derived()
        k = select(keys.c.n, keys.c.k).cte("k").prefix_with("MATERIALIZED")
        columns = ["n", "name", "place", *(f"v{j}" for j in range(values))]
        rows = (
            func.unnest(array("an", Integer), *(array(f"a_{column}", Text) for column in columns[1:]))
            .table_valued(*columns, name="rows")
            .render_derived()
        )
        a = select(*(rows.c[column] for column in columns)).cte("a").prefix_with("MATERIALIZED")
        return k, a

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        del size
        parameters: dict[str, Any] = {
            "kn": [i for i, row in enumerate(rows) for _ in row[0]],
            "kk": [key for row in rows for key in row[0]],
            "an": list(range(len(rows))),
            "a_name": [row[1] for row in rows],
            "a_place": [row[2] for row in rows],
            "literal": _array_literal(dict.fromkeys(key for row in rows for key in row[0])),
            "as_of": self.as_of(day),
        }
        for j in range(len(rows[0][3]) if rows else 0):
            parameters[f"a_v{j}"] = [row[3][j] for row in rows]
        return parameters

    def same(self, one: Element, other: Element) -> Element:
        return cast(one, Text).collate("C") == cast(other, Text).collate("C")

    def listed(self, spellings: Element, value: Element) -> Element:
        text = cast(value, Text).collate("C")
        separator = func.chr(literal_column("31"))
        found = func.strpos(spellings.collate("C"), separator.op("||")(text).op("||")(separator)) > literal_column("0")
        return and_(func.strpos(text, separator) == literal_column("0"), found)

    def within(self, region: Element, place: Element) -> Element:
        return func.left(cast(region, Text), func.length(place)).collate("C") == place

    def integer(self, value: Element) -> Element:
        number = cast(value, Numeric)
        return case((func.trunc(number) == number, number))

    def decimal(self, value: Element) -> Element:
        return cast(value, Numeric)

    def day(self, value: Element) -> Element:
        return cast(value, Date)

    def as_integer(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_day(self, text: Element) -> Element:
        return cast(text, Date)


class Mysql:
    """MySQL and MariaDB: bound values, and an IN list in the column's own character set so that its index serves."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        # Bound values take the column's own character set, and its index serves; those of a derived table do not.
        return subject.in_([bindparam(f"k{i}") for i in range(size[1])])

    def as_of(self, day: date) -> Any:
        return day

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        return _bucket(len(rows)), _bucket(sum(len(row[0]) for row in rows))

    def longest(self) -> int:
        return LONGEST_LIST // 8

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        return _bound(size, values)

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        parameters = _bound_parameters(rows, size)
        parameters["as_of"] = self.as_of(day)
        return parameters

    def _bytes(self, value: Element) -> Element:
        return cast(func.convert(value.op("USING")(literal_column("utf8mb4"))), LargeBinary)

    def same(self, one: Element, other: Element) -> Element:
        return self._bytes(one) == self._bytes(other)

    def listed(self, spellings: Element, value: Element) -> Element:
        separator: Element = literal_column("X'1f'")
        text = self._bytes(value)
        found = func.instr(self._bytes(spellings), func.concat(separator, text, separator)) > literal_column("0")
        return and_(func.instr(text, separator) == literal_column("0"), found)

    def within(self, region: Element, place: Element) -> Element:
        return self._bytes(func.left(cast(region, mysql.CHAR(32)), func.char_length(place))) == self._bytes(place)

    def _if(self, value: Element, pattern: str, number: Element) -> Element:
        return case((cast(value, mysql.CHAR(64)).op("REGEXP")(literal_column(f"'{pattern}'")), number))

    def integer(self, value: Element) -> Element:
        return self._if(value, "^-?[0-9]{1,30}$", cast(value, Numeric(30, 0)))

    def decimal(self, value: Element) -> Element:
        return self._if(value, "^-?[0-9]{1,20}([.][0-9]{1,10})?$", cast(value, Numeric(38, 10)))

    def day(self, value: Element) -> Element:
        return self._if(value, "^[0-9]{4}-[0-9]{2}-[0-9]{2}", cast(value, Date))

    def as_integer(self, text: Element) -> Element:
        return cast(text, Numeric(30, 0))

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric(38, 10))

    def as_day(self, text: Element) -> Element:
        return cast(text, Date)


DIALECTS: dict[str, type[Dialect]] = {
    "sqlite": Sqlite,
    "postgresql": Postgresql,
    "mysql": Mysql,
    "mariadb": Mysql,
}
"""By SQLAlchemy's name of the dialect. Others are refused by name, since equality there has not been looked at."""
