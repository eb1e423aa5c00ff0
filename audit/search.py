"""The search database: one row of small numbers for each entry, written behind the log and never ahead of it.

It is derived: whoever loses it deletes it, and it is made again. It stands in a file of its own, because seven indexes
within the log's transaction would cost more than everything else in it. What is not yet in it, a search reads from the
log itself, so nothing is missing from a result for being young.

Words (systems, officials, matters, …) stand once, in a table of words; rows and indexes hold numbers. An index ends in
the entry's number, so results come newest first without sorting. Of several conditions the rarest is found by counting
each as far as `RARE`; the others are looked at row by row, for `LOOKED_AT` rows on a page at most, so that no question
can keep the database for long.

A log's clock may be set back. `seen` is the greatest time up to an entry, which only rises, so a time is found by
halving; entries older than an entry before them are few, and have an index of their own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from audit.entry import EntryError
from audit.facts import Facts, facts_of
from audit.query import Query, Scope, lies_in
from audit.sqlite import driver, open_sqlite, reading
from audit.store import LogStore
from zhiwang.wire.errors import FatalError
from zhiwang.wire.merkle import leaf_hash

GROUP: Final = 5000
"""Entries of one transaction of the follower."""
RARE: Final = 2000
"""How far the entries of a condition are counted."""
LOOKED_AT: Final = 50_000
"""Rows that one page looks at."""
FOLLOW_SECONDS: Final = 1.0
"""How often the log is looked at."""
RETRY_SECONDS: Final = 10.0
"""How long to wait after the search database could not be written."""
CHUNK: Final = 500
"""Rows that are looked at in one go."""
WORDS: Final = 100_000
"""Words that are remembered."""

_WORDS: Final = ("event", "department", "system", "official", "role", "matter", "place", "owner", "outcome", "reason")
_COLUMNS: Final = (*_WORDS, "reference", "version")
_PLACE: Final = 3 + _WORDS.index("place")
_LAYOUT: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE about (layout INTEGER NOT NULL, origin TEXT NOT NULL, size INTEGER NOT NULL, tip BLOB, seen INTEGER)",
    "CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE place (word INTEGER PRIMARY KEY)",
    f"""CREATE TABLE found (idx INTEGER PRIMARY KEY, time INTEGER NOT NULL, seen INTEGER NOT NULL,
        {", ".join(f"{name} INTEGER" for name in _WORDS)}, reference TEXT, version INTEGER)""",
    "CREATE TABLE asked (attribute INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (attribute, idx)) WITHOUT ROWID",
    *(f"CREATE INDEX by_{name} ON found ({name}, idx) WHERE {name} IS NOT NULL" for name in _COLUMNS),
    "CREATE INDEX late ON found (idx) WHERE time < seen",
)
_INSERT: Final = f"INSERT INTO found VALUES (?, ?, ?, {', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own columns

_ALL: Final = "SELECT idx FROM found WHERE idx >= ? AND idx < ? ORDER BY idx DESC"

_log = structlog.get_logger(__name__)


class SearchIndex:
    """The search database of one log. `follow` is called by one thread at a time; searches come from any.

    Args:
        path: Its file; made if it is not there, and made anew if it is not this log's.
        store: The log.
    """

    def __init__(self, path: Path, store: LogStore) -> None:
        self._path = path
        self._store = store
        self._lock = Lock()
        self._engine = self._open()
        # Numbers of words that are committed; replaced whole when there are too many.
        self._numbers: dict[str, int] = {}

    @property
    def size(self) -> int:
        """How many entries are in it."""
        with self._reading() as connection:
            ((size,),) = connection.execute("SELECT size FROM about").fetchall()
        return int(size)

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    # Coming into being.

    def _open(self) -> Any:
        if self._path.exists():
            try:
                engine = open_sqlite(self._path)
                if self._is_ours(engine):
                    return engine
                engine.dispose()
            except (FatalError, SQLAlchemyError, sqlite3.Error):
                pass
            _log.warning("the search database is not this log's and is made anew")
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        engine = open_sqlite(self._path, create=True)
        with engine.begin() as connection:
            for statement in _SCHEMA:
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql("INSERT INTO about VALUES (?, ?, 0, NULL, 0)", (_LAYOUT, self._store.origin))
        return engine

    def _is_ours(self, engine: Any) -> bool:
        """Whether it stands for a beginning of this very log: its last entry is the log's at that place."""
        with reading(engine).connect() as connection:
            layout, origin, size, tip, _ = driver(connection).execute("SELECT * FROM about").fetchone()
        if (layout, origin) != (_LAYOUT, self._store.origin) or size > self._store.newest.size:
            return False
        return size == 0 or [leaf_hash(data) for data in self._store.entries(size - 1, 1)] == [tip]

    # Following.

    def follow(self) -> bool:
        """Take up one group of entries that are committed in the log.

        Returns:
            Whether there is more at once.

        Raises:
            FatalError: LOG_UNAVAILABLE, of the log.
            sqlite3.Error, SQLAlchemyError: The search database cannot be written.
        """
        with self._lock, self._engine.begin() as opened:
            connection = driver(opened)
            ((size, seen),) = connection.execute("SELECT size, seen FROM about").fetchall()
            entries = self._store.entries(size, GROUP)
            if not entries:
                return False
            rows, asked = [], []
            words = _Words(connection, self._numbers)
            for index, data in enumerate(entries, size):
                facts = _facts(data)
                seen = max(seen, facts.time)
                numbers = [words.number(text) if (text := getattr(facts, name)) else None for name in _WORDS]
                rows.append((index, facts.time, seen, *numbers, facts.reference or None, facts.version or None))
                asked += [(words.number(name), index) for name in facts.attributes]
            connection.executemany(_INSERT, rows)
            places = {row[_PLACE] for row in rows} - {None}
            connection.executemany("INSERT OR IGNORE INTO place VALUES (?)", [(number,) for number in places])
            connection.executemany("INSERT INTO asked VALUES (?, ?)", asked)
            connection.execute(
                "UPDATE about SET size = ?, tip = ?, seen = ?", (size + len(entries), leaf_hash(entries[-1]), seen)
            )
        # After COMMIT only: what was rolled back has no number.
        self._numbers = words.new if len(self._numbers) > WORDS else {**self._numbers, **words.new}
        return len(entries) == GROUP

    # Searching.

    def search(self, query: Query, scope: Scope, before: int, limit: int) -> tuple[list[int], int]:
        """Indexes of entries that are looked for and may be read, newest first.

        Args:
            query: What is looked for.
            scope: What the reader may see.
            before: Only entries with a smaller index.
            limit: At most so many.

        Returns:
            The indexes, and where to go on: 0 at the end. There may be more even where a page is empty.
        """
        size = self.size
        found: list[int] = []
        # What is too young for the index stands in the log itself.
        while before > size and len(found) < limit:
            start = max(before - GROUP, size)
            entries = self._store.entries(start, before - start)
            before = start
            for index in range(start + len(entries) - 1, start - 1, -1):
                facts = _facts(entries[index - start])
                if query.admits(facts) and scope.admits(facts):
                    found.append(index)
                    if len(found) == limit:
                        return found, index
        if before > 0 and len(found) < limit:
            more, before = self._search_rows(query, scope, before, limit - len(found))
            found += more
        return found, before

    def _search_rows(self, query: Query, scope: Scope, before: int, limit: int) -> tuple[list[int], int]:
        with self._reading() as connection:
            conditions = [*_conditions(connection, query), *_scoped(connection, scope)]
            if any(condition.impossible for condition in conditions):
                return [], 0
            low, high = _span(connection, query)
            late = _late(connection, query, conditions, high, before, limit)
            if len(late) == limit:
                return late, late[-1]
            rows, following = _rows(connection, query, conditions, low, min(before, high), limit - len(late))
        return late + rows, following

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with reading(self._engine).connect() as connection:
            yield driver(connection)


class _Words:
    """Numbers of words within one transaction of the follower.

    Args:
        connection: Of the transaction.
        known: Those that are committed.

    Attributes:
        new: Those that were looked up or made here; true once the transaction is committed.
    """

    def __init__(self, connection: sqlite3.Connection, known: Mapping[str, int]) -> None:
        self._connection = connection
        self._known = known
        self.new: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a word; made if it is new."""
        number = self._known.get(text) or self.new.get(text)
        if number is None:
            # The update changes nothing; without it an old word's number would not be returned.
            row = self._connection.execute(
                "INSERT INTO word (text) VALUES (?) ON CONFLICT (text) DO UPDATE SET text = text RETURNING id", (text,)
            ).fetchone()
            number = self.new[text] = int(row[0])
        return number


class _Condition:
    """A condition of a search.

    Attributes:
        sql: As SQL says it, and
        values: its parameters.
        column: Whose index gives its entries, if there is one: a column of `found`, or "attribute".
        impossible: No entry can fulfil it.
    """

    __slots__ = ("column", "impossible", "sql", "values")

    def __init__(self, sql: str, values: Sequence[Any], column: str = "", *, impossible: bool = False) -> None:
        self.sql = sql
        self.values = tuple(values)
        self.column = column
        self.impossible = impossible

    def entries(self, low: int, before: int) -> tuple[str, list[Any]]:
        """Its entries within a span, newest first, from its index alone."""
        if self.column == "attribute":
            table, name = "asked", "attribute"
        else:
            table, name = f"found INDEXED BY by_{self.column}", self.column
        sql = f"SELECT idx FROM {table} WHERE {name} = ? AND idx >= ? AND idx < ? ORDER BY idx DESC"  # noqa: S608 - ours
        return sql, [*self.values, low, before]


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
    if query.place:
        places = _places(connection, query.place)
        yield _Condition(_among("place", places), places, impossible=not places)


def _scoped(connection: sqlite3.Connection, scope: Scope) -> Iterator[_Condition]:
    """What the reader may see."""
    if scope.everything:
        return
    parts: list[str] = []
    values: list[int] = []
    if scope.department and (number := _number(connection, scope.department)) is not None:
        parts.append("found.department = ? OR found.owner = ?")
        values += [number, number]
    if scope.place and (places := _places(connection, scope.place)):
        parts.append(_among("place", places))
        values += places
    yield _Condition(f"({' OR '.join(parts)})", values, impossible=not parts)


def _late(
    connection: sqlite3.Connection,
    query: Query,
    conditions: Sequence[_Condition],
    high: int,
    before: int,
    limit: int,
) -> list[int]:
    """Entries of the time that is looked for behind entries of a later time: the clock had been set back."""
    if query.until is None or high >= before:
        return []
    where = " AND ".join(["time < seen", "idx >= ?", "idx < ?", *_times(query), *(one.sql for one in conditions)])
    values = [high, before, *_time_values(query), *(value for one in conditions for value in one.values)]
    sql = f"SELECT idx FROM found INDEXED BY late WHERE {where} ORDER BY idx DESC LIMIT ?"  # noqa: S608 - our own words
    return [row[0] for row in connection.execute(sql, [*values, limit])]


def _rows(
    connection: sqlite3.Connection,
    query: Query,
    conditions: Sequence[_Condition],
    low: int,
    before: int,
    limit: int,
) -> tuple[list[int], int]:
    """Entries of a span that fulfil every condition; looks at `LOOKED_AT` rows at most, and says where it stopped."""
    if low >= before:
        return [], 0
    driving = _rarest(connection, [one for one in conditions if one.column], low, before)
    others = [one for one in conditions if one is not driving]
    source, values = driving.entries(low, before) if driving else (_ALL, [low, before])
    where = " AND ".join(["idx IN (SELECT value FROM json_each(?))", *_times(query), *(one.sql for one in others)])
    rest = [*_time_values(query), *(value for one in others for value in one.values)]
    candidates = connection.execute(f"{source} LIMIT ?", [*values, LOOKED_AT])
    found: list[int] = []
    looked, last = 0, 0
    # The candidates are taken as they come, so a page that fills early looks at few.
    while chunk := [row[0] for row in candidates.fetchmany(CHUNK)]:
        looked, last = looked + len(chunk), chunk[-1]
        passed = connection.execute(f"SELECT idx FROM found WHERE {where}", [json.dumps(chunk), *rest])  # noqa: S608 - our own words
        found += sorted((row[0] for row in passed), reverse=True)
        if len(found) >= limit:
            return found[:limit], found[limit - 1]
    return found, last if looked == LOOKED_AT else 0


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


def _times(query: Query) -> list[str]:
    return [
        *(["found.time >= ?"] if query.since is not None else []),
        *(["found.time < ?"] if query.until is not None else []),
    ]


def _time_values(query: Query) -> list[int]:
    return [moment for moment in (query.since, query.until) if moment is not None]


def _number(connection: sqlite3.Connection, text: str) -> int | None:
    row = connection.execute("SELECT id FROM word WHERE text = ?", (text,)).fetchone()
    return None if row is None else int(row[0])


def _places(connection: sqlite3.Connection, whole: str) -> list[int]:
    """Numbers of the places that are, or lie in, a place. There are as many as divisions have asked."""
    rows = connection.execute("SELECT id, text FROM word WHERE id IN (SELECT word FROM place)")
    return [number for number, text in rows if lies_in(text, whole)]


def _among(column: str, values: Sequence[int]) -> str:
    return f"found.{column} IN ({', '.join('?' * len(values))})"


def _facts(data: bytes) -> Facts:
    try:
        return facts_of(data)
    except EntryError:
        # Found by fsck; here it must only not stand in the way of the others.
        return Facts(0, "unreadable")


async def keep_up(index: SearchIndex) -> None:
    """Keep a search database behind its log; runs until it is cancelled, and never ends by an error."""
    while True:
        try:
            more = await asyncio.to_thread(index.follow)
        except (FatalError, SQLAlchemyError, sqlite3.Error) as error:
            # A full disk passes. Searches go on over the log itself, as far as they may look.
            _log.error("the search database does not follow the log", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if not more:
            await asyncio.sleep(FOLLOW_SECONDS)
