# ruff: noqa: D102 - what each method means stands once, in the protocol
"""PostgreSQL: types are those of the columns, and a text that is no number is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    Date,
    DateTime,
    Integer,
    Numeric,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import NullType

from adapters.dialects.base import CLOCK, DAY, Dialect, Element, Row


def _array_literal(texts: Iterable[str]) -> str:
    """An array as PostgreSQL writes it (its manual, section 8.15.6)."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


class Postgresql(Dialect):
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

        pairs = func.unnest(array("kn", Integer), array("kk", Text))
        keys = pairs.table_valued("n", "k", name="zw_keys").render_derived()
        k = select(keys.c.n, keys.c.k).cte("zw_k").prefix_with("MATERIALIZED")
        columns = ["n", "name", "place", *(f"v{j}" for j in range(values))]
        rows = (
            func.unnest(array("an", Integer), *(array(f"a_{column}", Text) for column in columns[1:]))
            .table_valued(*columns, name="zw_rows")
            .render_derived()
        )
        a = select(*(rows.c[column] for column in columns)).cte("zw_a").prefix_with("MATERIALIZED")
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

    def once(self, rows: Select[Any], name: str) -> CTE:
        return rows.cte(name).prefix_with("MATERIALIZED")

    def same(self, one: Element, other: Element) -> Element:
        same = cast(one, Text).collate("C") == cast(other, Text).collate("C")
        # Of two equalities side by side the planner believes that they leave one row, and loops over everybody for it;
        # of a CASE it believes that it keeps half.
        return case((same, true()))

    def listed(self, spellings: Element, value: Element) -> Element:
        text = cast(value, Text).collate("C")
        separator = func.chr(literal_column("31"))
        found = func.strpos(spellings.collate("C"), separator.op("||")(text).op("||")(separator)) > literal_column("0")
        return and_(func.strpos(text, separator) == literal_column("0"), found)

    def within(self, region: Element, place: Element) -> Element:
        return func.left(cast(region, Text), func.length(place)).collate("C") == place

    def _if(self, value: Element, pattern: str, read: Element) -> Element:
        # Looked at as text first: a number may be NaN or infinite, and a text that is none would be an error.
        return case((cast(value, Text).collate("C").op("~")(literal_column(f"'{pattern}'")), read))

    def integer(self, value: Element) -> Element:
        return self._if(value, "^(0|-?[1-9][0-9]*)([.]0+)?$", cast(value, Numeric))

    def decimal(self, value: Element) -> Element:
        return self._if(value, "^-?[0-9]+([.][0-9]+)?$", cast(value, Numeric))

    def day(self, value: Element) -> Element:
        # By way of a moment, so that one with an offset becomes the city's day. `infinity` is the type's own "still".
        pattern = f"^({DAY}({CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?)?|-?infinity)$"
        return self._if(value, pattern, cast(cast(value, DateTime(timezone=True)), Date))

    def as_integer(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric)

    def as_day(self, text: Element) -> Element:
        return cast(text, Date)
