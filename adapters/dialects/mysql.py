# ruff: noqa: D102 - what each method means stands once, in the protocol
"""MySQL and MariaDB: whatever is compared is converted, so nothing is compared before it was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    Date,
    FromClause,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    and_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects import mysql

from adapters.dialects.base import CLOCK, DAY, Dialect, Element, Row, bound, bound_parameters, bucket

LONGEST = 125
"""Rows of one statement: with eight spellings each, lists of a thousand."""


_WHOLE = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "binary"})
"""Character sets that hold every character."""

_PLANE = frozenset({"utf8", "utf8mb3", "ucs2"})
"""Those that hold what has at most sixteen bits."""

_CODECS = {"latin1": "cp1252", "gbk": "gbk", "gb2312": "gb2312", "big5": "big5", "ascii": "ascii", "cp1252": "cp1252"}
"""Codecs of those that hold less."""

_LAST_OF_PLANE = "\uffff"


def _holds(charset: str, text: str) -> bool:
    """Whether a column of a character set can hold a text.

    Raises:
        LookupError: The character set is none that is known here. A spelling that were left out by a guess would make
            somebody absent who is there.
    """
    if charset in _WHOLE:
        return True
    if charset in _PLANE:
        return max(text, default="") <= _LAST_OF_PLANE
    try:
        text.encode(_CODECS[charset])
    except UnicodeEncodeError:
        return False
    return True


class Mysql(Dialect):
    """MySQL and MariaDB: bound values, and an IN list in the column's own character set so that its index serves."""

    def cut(self, subject: Element, size: tuple[int, int]) -> Element | None:
        # Bound values take the column's own character set, and its index serves; those of a derived table do not.
        return subject.in_([bindparam(f"k{i}") for i in range(size[1])])

    def as_of(self, day: date) -> Any:
        return day

    def size(self, rows: Sequence[Row]) -> tuple[int, int]:
        return bucket(len(rows)), bucket(sum(len(row[0]) for row in rows))

    def longest(self) -> int:
        return LONGEST

    def asked(self, size: tuple[int, int], values: int) -> tuple[CTE, CTE]:
        return bound(size, values, collation="utf8mb4_bin")

    def parameters(self, rows: Sequence[Row], size: tuple[int, int], day: date) -> dict[str, Any]:
        parameters = bound_parameters(rows, size)
        parameters["as_of"] = self.as_of(day)
        return parameters

    def _bytes(self, value: Element) -> Element:
        return cast(func.convert(value.op("USING")(literal_column("utf8mb4"))), LargeBinary)

    def once(self, rows: Select[Any], name: str) -> CTE:
        # What has a limit is made by itself; this is the manual's way to say "all rows" (MySQL 8, section 15.2.13).
        return rows.limit(literal_column("18446744073709551615", Integer)).cte(name)

    def repertoire(self, data: FromClause, subject: str) -> Select[Any] | None:
        # A column's character set is known without a row, also through views and SELECTs.
        none = select(column(subject).label("s")).select_from(data).where(false()).subquery("zw_none")
        one = select(literal_column("1").label("n")).subquery("zw_one")
        return select(func.charset(none.c.s)).select_from(one.outerjoin(none, true()))

    def askable(self, keys: Sequence[str], repertoire: str) -> Sequence[str]:
        return [key for key in keys if _holds(repertoire, key)]

    def meets(self, subject: Element, key: Element) -> Element:
        # Two columns of different collations cannot be compared before one of them gives way.
        return func.convert(subject.op("USING")(literal_column("utf8mb4"))).collate("utf8mb4_bin") == key

    def same(self, one: Element, other: Element) -> Element:
        return self._bytes(one) == self._bytes(other)

    def listed(self, spellings: Element, value: Element) -> Element:
        separator: Element = literal_column("X'1f'")
        text = self._bytes(value)
        found = func.instr(self._bytes(spellings), func.concat(separator, text, separator)) > literal_column("0")
        return and_(func.instr(text, separator) == literal_column("0"), found)

    def within(self, region: Element, place: Element) -> Element:
        return self._bytes(func.left(cast(region, mysql.CHAR(32)), func.char_length(place))) == self._bytes(place)

    def _if(self, value: Element, pattern: str, read: Element) -> Element:
        text = cast(value, mysql.CHAR(64))
        # `$` stands before a line feed at the end too, and so may the value.
        whole = func.instr(text, literal_column("X'0a'")) == literal_column("0")
        return case((and_(text.op("REGEXP")(literal_column(f"'{pattern}'")), whole), read))

    def integer(self, value: Element) -> Element:
        return self._if(value, "^(0|-?[1-9][0-9]{0,29})([.]0{1,30})?$", cast(value, Numeric(60, 30)))

    def decimal(self, value: Element) -> Element:
        return self._if(value, "^-?[0-9]{1,30}([.][0-9]{1,30})?$", cast(value, Numeric(60, 30)))

    def day(self, value: Element) -> Element:
        first = func.left(value, literal_column("10"))
        # A cast alone would select null for 30 February, yet compare it as a day.
        return self._if(value, f"^{DAY}({CLOCK})?$", case((func.to_days(first).is_not(None), cast(first, Date))))

    def as_integer(self, text: Element) -> Element:
        return cast(text, Numeric(30, 0))

    def as_decimal(self, text: Element) -> Element:
        return cast(text, Numeric(38, 10))

    def as_day(self, text: Element) -> Element:
        return cast(text, Date)
