"""Looking for entries in the search database: which index gives the candidates, and which of them fulfil the rest.

An index ends in the entry's number, so candidates come newest first without sorting. Of several conditions the rarest
drives, found by counting each as far as `RARE`; the others are looked at row by row, for `LOOKED_AT` candidates on a
page at most, so that no question can keep the database for long.

For a reader who may not see everything, what it may see drives: nothing else is ever a candidate, so neither the length
of a page nor the place where it stops tells of it.

A log's clock may be set back. `seen` is the greatest time up to an entry, which only rises, so a time is found by
halving; entries older than an entry before them are few, and have an index of their own.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from audit.query import Query, Scope, lies_in

RARE: Final = 2000
"""How far the entries of a condition are counted."""
LOOKED_AT: Final = 50_000
"""Rows that one page looks at."""
HEADER_DIGITS: Final = 12
"""Hexadecimal digits of a header hash that stand in the database."""
CHUNK: Final = 500
"""Rows that are looked at in one go."""

_ALL: Final = "SELECT idx FROM found WHERE idx >= ? AND idx < ? ORDER BY idx DESC"


def lookup(
    connection: sqlite3.Connection, query: Query, scope: Scope, before: int, limit: int
) -> tuple[list[int], int]:
    """Entries in the search database that are looked for and may be read, newest first.

    Args:
        connection: To the search database, in a transaction that reads.
        query: What is looked for.
        scope: What the reader may see.
        before: Only entries with a smaller index.
        limit: At most so many.

    Returns:
        Their indexes, and the entry before which to go on; 0 at the end.
    """
    conditions = list(_conditions(connection, query))
    if any(condition.impossible for condition in conditions):
        return [], 0
    low, high = _span(connection, query)
    if not scope.everything:
        # Only what the reader may see is ever a candidate, so neither the length of a page nor the place where
        # it stops tells of anything else.
        candidates = _seen_by(connection, scope, low, before)
        return _passing(connection, candidates, [*_times(query), *conditions], limit)
    found: list[int] = []
    if query.until is not None and high < before:
        found, following = _passing(connection, _late(connection, high, before), [*_times(query), *conditions], limit)
        if following:
            return found, following
        before = high
    if low >= before:
        return found, 0
    driving = _rarest(connection, [one for one in conditions if one.column], low, before)
    others = [*_times(query), *(one for one in conditions if one is not driving)]
    more, following = _passing(connection, _driven(connection, driving, low, before), others, limit - len(found))
    return found + more, following


class _Condition:
    """A condition of a search.

    Attributes:
        sql: As SQL says it, and
        values: its parameters.
        column: Whose index gives its entries, if there is one: a column of `found`, or "attribute".
        test: What must hold of that column.
        impossible: No entry can fulfil it.
    """

    __slots__ = ("column", "impossible", "sql", "test", "values")

    def __init__(
        self, sql: str, values: Sequence[Any], column: str = "", *, test: str = "= ?", impossible: bool = False
    ) -> None:
        self.sql = sql
        self.values = tuple(values)
        self.column = column
        self.test = test
        self.impossible = impossible

    def entries(self, low: int, before: int) -> tuple[str, list[Any]]:
        """Its entries within a span, newest first, from its index alone."""
        if self.column == "attribute":
            table, name = "asked", "attribute"
        else:
            table, name = f"found INDEXED BY by_{self.column}", self.column
        sql = f"SELECT idx FROM {table} WHERE {name} {self.test} AND idx >= ? AND idx < ? ORDER BY idx DESC"  # noqa: S608 - ours
        return sql, [*self.values, low, before]

    def rows(self, connection: sqlite3.Connection, low: int, before: int) -> Iterator[int]:
        """The same, as they are asked for."""
        return (row[0] for row in connection.execute(*self.entries(low, before)))


def _conditions(connection: sqlite3.Connection, query: Query) -> Iterator[_Condition]:
    """What must hold of a row, but for its time."""
    for name, value in query.equalities():
        number = value if name in {"reference", "version"} else _number(connection, str(value))
        yield _Condition(f"found.{name} = ?", (number,), name, impossible=number is None)
    if query.attribute:
        number = _number(connection, query.attribute)
        yield _Condition(
            "EXISTS (SELECT 1 FROM asked WHERE asked.attribute = ? AND asked.idx = found.idx)",
            (number,),
            "attribute",
            impossible=number is None,
        )
    if query.header:
        first, last = (int(query.header[:HEADER_DIGITS].ljust(HEADER_DIGITS, end), 16) for end in "0f")
        test = ">= ? AND header <= ?"
        yield _Condition(f"found.header {test}", (first, last), "header", test=test)
    if query.emergency:
        yield _Condition("found.emergency IS NOT NULL", (), "emergency", test="IS NOT NULL")
    if query.place:
        places = _places(connection, query.place)
        yield _Condition(_among("place", places), places, impossible=not places)


def _seen_by(connection: sqlite3.Connection, scope: Scope, low: int, before: int) -> Iterator[int]:
    """Entries of a span that somebody may read, newest first, each once; taken as they are asked for."""
    sources: list[tuple[str, int]] = []
    if scope.department and (number := _number(connection, scope.department)) is not None:
        sources += [("department", number), ("owner", number)]
    if scope.owner and (number := _number(connection, scope.owner)) is not None:
        sources.append(("owner", number))
    if scope.place:
        sources += [("place", number) for number in _places(connection, scope.place)]
    rows = [_Condition("", (number,), column).rows(connection, low, before) for column, number in sources]
    last = -1
    for index in heapq.merge(*rows, reverse=True):
        if index != last:
            yield index
            last = index


def _late(connection: sqlite3.Connection, low: int, before: int) -> Iterator[int]:
    """Entries of a span behind entries of a later time, newest first: the clock had been set back."""
    sql = "SELECT idx FROM found INDEXED BY late WHERE time < seen AND idx >= ? AND idx < ? ORDER BY idx DESC"
    return (row[0] for row in connection.execute(sql, (low, before)))


def _driven(connection: sqlite3.Connection, driving: _Condition | None, low: int, before: int) -> Iterator[int]:
    """Entries of a span, newest first: those of a condition by its index, or all."""
    if driving is not None:
        return driving.rows(connection, low, before)
    return (row[0] for row in connection.execute(_ALL, (low, before)))


def _passing(
    connection: sqlite3.Connection, candidates: Iterator[int], conditions: Sequence[_Condition], limit: int
) -> tuple[list[int], int]:
    """Candidates that fulfil every condition; looks at `LOOKED_AT` of them at most.

    Returns:
        The first `limit` of them, and the entry before which to go on; 0 if all were looked at.
    """
    where = " AND ".join(["idx IN (SELECT value FROM json_each(?))", *(one.sql for one in conditions)])
    values = [value for one in conditions for value in one.values]
    found: list[int] = []
    looked, last = 0, 0
    # Taken as they come, so that a page that fills early looks at few.
    while chunk := list(islice(candidates, min(CHUNK, LOOKED_AT - looked))):
        looked, last = looked + len(chunk), chunk[-1]
        passed = connection.execute(f"SELECT idx FROM found WHERE {where}", [json.dumps(chunk), *values])  # noqa: S608 - our own words
        found += sorted((row[0] for row in passed), reverse=True)
        if len(found) >= limit:
            return found[:limit], found[limit - 1]
        if looked == LOOKED_AT:
            return found, last
    return found, 0


def _rarest(
    connection: sqlite3.Connection, conditions: Sequence[_Condition], low: int, before: int
) -> _Condition | None:
    """The condition with the fewest entries, counted as far as `RARE`."""
    counted = []
    for place, one in enumerate(conditions):
        source, values = one.entries(low, before)
        ((count,),) = connection.execute(f"SELECT count(*) FROM ({source} LIMIT ?)", [*values, RARE]).fetchall()  # noqa: S608 - ours
        counted.append((count, place, one))
    return min(counted)[2] if counted else None


def _span(connection: sqlite3.Connection, query: Query) -> tuple[int, int]:
    """First index, and the one behind the last, of the entries between two times, late ones left aside."""
    ((size,),) = connection.execute("SELECT size FROM about").fetchall()

    def first_at(moment: int) -> int:
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            ((seen,),) = connection.execute("SELECT seen FROM found WHERE idx = ?", (middle,)).fetchall()
            if seen >= moment:
                high = middle
            else:
                low = middle + 1
        return low

    low = 0 if query.since is None else first_at(query.since)
    return low, size if query.until is None else first_at(query.until)


def _times(query: Query) -> list[_Condition]:
    """The times between which an entry was recorded."""
    return [
        *([_Condition("found.time >= ?", (query.since,))] if query.since is not None else []),
        *([_Condition("found.time < ?", (query.until,))] if query.until is not None else []),
    ]


def _number(connection: sqlite3.Connection, text: str) -> int | None:
    row = connection.execute("SELECT id FROM word WHERE text = ?", (text,)).fetchone()
    return None if row is None else int(row[0])


def _places(connection: sqlite3.Connection, whole: str) -> list[int]:
    """Numbers of the places that are, or lie in, a place. There are as many as divisions have asked."""
    rows = connection.execute("SELECT id, text FROM word WHERE id IN (SELECT word FROM place)")
    return [number for number, text in rows if lies_in(text, whole)]


def _among(column: str, values: Sequence[int]) -> str:
    return f"found.{column} IN ({', '.join('?' * len(values))})"
