# ruff: noqa: D102 - what each method means stands once, in the protocol
"""SQLite: types are those of the values, so each value is looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from adapters.dialects.base import Dialect, Element, OrderedJoin, Row, bound, bound_parameters, bucket

SMALL = 16
"""Groups of up to so many subjects go as single bound values, which is faster than an array."""


_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|`(?:[^`]|``)*`|\[[^\]]*\]""")


def strict_names(sql: str) -> str:
    """SQL in which a quoted name can only be a name.

    SQLite takes "a name" that is none for the text 'a name' (sqlite.org/quirks.html, section 8), so that a misspelt
    column would be a value that no subject has, and everybody would be absent. Between other quotes it does not.
    """
    return _QUOTED.sub(lambda found: found[0] if found[1] is None else _backticks(found[1]), sql)


def _backticks(name: str) -> str:
    plain = name.replace('""', '"').replace("`", "``")
    return f"`{plain}`"


@compiles(OrderedJoin, "sqlite")
def _compile_ordered_join(join: OrderedJoin, compiler: SQLCompiler, **kwargs: Any) -> str:
    """SQLite never reorders what stands around CROSS JOIN (sqlite.org/optoverview.html, section 8.2)."""
    kwargs.pop("asfrom", None)
    left = compiler.process(join.left, asfrom=True, **kwargs)
    right = compiler.process(join.right, asfrom=True, **kwargs)
    assert join.onclause is not None  # noqa: S101 - statements.py always gives one
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause, **kwargs)}"


class Sqlite(Dialect):
    """SQLite: arrays by `json_each`; types are those of the values, so each is looked at."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        del subject, size
        return None

    def as_of(self, day: date) -> Any:
        return day.isoformat()

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        if len(rows) > SMALL:
            return 0, 0
        return bucket(len(rows)), bucket(sum(len(row[0]) for row in rows))

    def longest(self) -> int:
        return 100_000

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        if size != (0, 0):
            return bound(size, values)
        keys = func.json_each(bindparam("keys", type_=Text)).table_valued("key", "value", name="zw_keys")
        stride = bindparam("stride", type_=Integer)
        k = select((keys.c.key.op("/")(stride)).label("n"), keys.c.value.label("k")).cte("zw_k")
        rows = func.json_each(bindparam("rows", type_=Text)).table_valued("key", "value", name="zw_rows")

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
            .cte("zw_a")
            .prefix_with("MATERIALIZED")
        )
        return k, a

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        if size != (0, 0):
            parameters = bound_parameters(rows, size)
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

    def once(self, rows: Select[Any], name: str) -> CTE:
        return rows.cte(name).prefix_with("MATERIALIZED")

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
        tail = func.substr(value, literal_column("11"))
        offset = tail.op("GLOB")(literal_column("'*[Z+-]*'"))
        clock = and_(
            tail.op("GLOB")(literal_column("'[ T][0-9][0-9]:[0-9][0-9]*'")),
            ~tail.op("GLOB")(literal_column("'?*[^0-9:.Z+-]*'")),
            func.datetime(value).is_not(null()),
        )
        # With a modifier it is reckoned, and 30 February becomes a day of March.
        reckoned = func.date(first, literal_column("'+0 days'"))
        text = and_(func.typeof(value) == literal_column("'text'"), reckoned == first)
        return case(
            (and_(text, func.length(value) == literal_column("10")), first),
            # A moment with an offset belongs to the city's day.
            (and_(text, clock, offset), func.date(value, literal_column("'+8 hours'"))),
            (and_(text, clock), first),
        )

    def as_integer(self, text: Element) -> Element:
        return cast(text, Integer)

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_day(self, text: Element) -> Element:
        return text
