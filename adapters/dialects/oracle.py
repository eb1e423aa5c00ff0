# ruff: noqa: D102 - what each method means stands once, in the protocol
"""Oracle 12.2 or newer: compiled in the tests, never run (docs/databases.md says what that means).

An empty text is a null there, so a place goes with a separator before it. What a session must be set to stands in
`SESSION`; whoever first has such a server begins with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    Date,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from adapters.dialects.base import CLOCK, DAY, SEPARATOR, Dialect, Element, Row, bound_parameters, bucket

SESSION = (
    "ALTER SESSION SET NLS_COMP = BINARY NLS_SORT = BINARY NLS_NUMERIC_CHARACTERS = '.,' NLS_DATE_FORMAT = "
    "'YYYY-MM-DD' NLS_TIMESTAMP_FORMAT = 'YYYY-MM-DD HH24:MI:SS' TIME_ZONE = '+08:00'"
)
"""What the statements lean on: the byte order, the point in numbers, days as ISO 8601 writes them, the city's time."""

LONGEST = 125
"""Rows of one statement: with eight spellings each, lists of a thousand, the most that it takes (ORA-01795)."""

_TEXT = String(4000)


class _Read(FunctionElement[Any]):
    """A text as another type, null where it is none (Oracle's SQL reference, CAST)."""

    inherit_cache = False
    name = "zw_read"

    def __init__(self, text: Element, target: str, pattern: str = "") -> None:
        super().__init__(text)
        self.target = target
        self.pattern = pattern


@compiles(_Read)
def _compile_read(read: _Read, compiler: SQLCompiler, **kwargs: Any) -> str:
    pattern = f", '{read.pattern}'" if read.pattern else ""
    text = compiler.process(read.clauses, **kwargs)
    return f"CAST({text} AS {read.target} DEFAULT NULL ON CONVERSION ERROR{pattern})"


class Oracle(Dialect):
    """Bound values, an IN list, and comparisons of raw bytes."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        return subject.in_([bindparam(f"k{i}", type_=_TEXT) for i in range(size[1])])

    def as_of(self, day: date) -> Any:
        return day

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        return bucket(len(rows)), min(bucket(sum(len(row[0]) for row in rows)), 8 * LONGEST)

    def longest(self) -> int:
        return LONGEST

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        # Cast, since the driver sends a null as a text, which no union of numbers takes (ORA-01790).
        def text(name: str) -> Element:
            return cast(bindparam(name, type_=_TEXT), _TEXT)

        k = union_all(
            *(
                select(cast(bindparam(f"n{i}", type_=Integer), Integer).label("n"), text(f"k{i}").label("k"))
                for i in range(size[1])
            )
        ).cte("zw_k")
        a = union_all(
            *(
                select(
                    literal_column(str(i), Integer).label("n"),
                    text(f"name{i}").label("name"),
                    text(f"place{i}").label("place"),
                    *(text(f"v{i}_{j}").label(f"v{j}") for j in range(values)),
                )
                for i in range(size[0])
            )
        ).cte("zw_a")
        return k, a

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        placed = [(keys, name, None if place is None else SEPARATOR + place, v) for keys, name, place, v in rows]
        return bound_parameters(placed, size) | {"as_of": self.as_of(day)}

    def once(self, rows: Select[Any], name: str) -> CTE:
        return rows.prefix_with("/*+ MATERIALIZE */").cte(name)

    def kept(self, truth: Element) -> Element:
        # There are no booleans before 23ai.
        return case((truth, literal_column("1")), (not_(truth), literal_column("0")))

    def truth(self, kept: Element) -> Element:
        return kept == literal_column("1")

    def same(self, one: Element, other: Element) -> Element:
        return func.utl_raw.cast_to_raw(cast(one, _TEXT)) == func.utl_raw.cast_to_raw(cast(other, _TEXT))

    def listed(self, spellings: Element, value: Element) -> Element:
        separator = func.chr(literal_column("31"))
        text = cast(value, _TEXT)
        found = func.instrb(spellings, separator.op("||")(text).op("||")(separator)) > literal_column("0")
        # A null joined to texts is nothing there, not null; so ask first.
        whole = and_(func.instrb(text, separator) == literal_column("0"), found)
        return self.truth(case((text.is_not(None), self.kept(whole))))

    def within(self, region: Element, place: Element) -> Element:
        code = func.chr(literal_column("31")).op("||")(cast(region, _TEXT))
        first = func.substr(code, literal_column("1"), func.length(place))
        return func.utl_raw.cast_to_raw(first) == func.utl_raw.cast_to_raw(place)

    def _like(self, value: Element, pattern: str, target: str, form: str = "") -> Element:
        text = func.to_char(value)
        return case((func.regexp_like(text, literal_column(f"'{pattern}'")), _Read(text, target, form)))

    def integer(self, value: Element) -> Element:
        return self._like(value, "^(0|-?[1-9][0-9]{0,29})([.]0+)?$", "NUMBER")

    def decimal(self, value: Element) -> Element:
        return self._like(value, "^-?[0-9]{1,30}([.][0-9]{1,30})?$", "NUMBER")

    def day(self, value: Element) -> Element:
        text = func.to_char(value)
        pattern = f"^{DAY}({CLOCK})?$"
        first = func.substr(text, literal_column("1"), literal_column("10"))
        return case((func.regexp_like(text, literal_column(f"'{pattern}'")), _Read(first, "DATE", "YYYY-MM-DD")))

    def as_integer(self, text: Element) -> Element:
        return _Read(text, "NUMBER")

    def as_decimal(self, text: Element) -> Element:
        return _Read(text, "NUMBER")

    def as_day(self, text: Element) -> Element:
        return cast(text, Date) if isinstance(text.type, Date) else _Read(text, "DATE", "YYYY-MM-DD")
