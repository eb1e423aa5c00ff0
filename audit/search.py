"""The search database: one row of small numbers for each entry, written behind the log and never ahead of it.

It is derived: whoever loses it deletes it, and it is made again. It stands in a file of its own, because seven indexes
within the log's transaction would cost more than everything else in it. What is not yet in it, a search reads from the
log itself, so nothing is missing from a result for being young. How it is asked stands in `audit/lookup.py`.

Words (systems, officials, matters, …) stand once, in a table of words; rows and indexes hold numbers.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from audit.entry import EntryError
from audit.facts import Facts, facts_of
from audit.lookup import HEADER_DIGITS, lookup
from audit.origins import FIRST, year_of
from audit.query import Query, Scope
from audit.sqlite import driver, open_sqlite, reading
from audit.store import LogStore
from audit.yearly import YearlyLog
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.merkle import leaf_hash

GROUP: Final = 5000
"""Entries of one transaction of the follower."""
FOLLOW_SECONDS: Final = 1.0
"""How often the log is looked at."""
RETRY_SECONDS: Final = 10.0
"""How long to wait after the search database could not be written."""
WORDS: Final = 100_000
"""Words that are remembered."""

_WORDS: Final = (
    "event",
    "department",
    "system",
    "official",
    "role",
    "matter",
    "place",
    "owner",
    "outcome",
    "reason",
    "emergency",
)
_COLUMNS: Final = (*_WORDS, "reference", "version", "header")
_PLACE: Final = 3 + _WORDS.index("place")
_HEADER_BYTES: Final = HEADER_DIGITS // 2
"""Of a header hash: enough to tell millions of accesses from each other, and small enough to index."""
_LAYOUT: Final = 3
_SCHEMA: Final = (
    "CREATE TABLE about (layout INTEGER NOT NULL, origin TEXT NOT NULL, size INTEGER NOT NULL, tip BLOB, seen INTEGER)",
    "CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE place (word INTEGER PRIMARY KEY)",
    f"""CREATE TABLE found (idx INTEGER PRIMARY KEY, time INTEGER NOT NULL, seen INTEGER NOT NULL,
        {", ".join(f"{name} INTEGER" for name in _WORDS)}, reference TEXT, version INTEGER,
        header INTEGER)""",
    "CREATE TABLE asked (attribute INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (attribute, idx)) WITHOUT ROWID",
    *(f"CREATE INDEX by_{name} ON found ({name}, idx) WHERE {name} IS NOT NULL" for name in _COLUMNS),
    "CREATE INDEX late ON found (idx) WHERE time < seen",
)
_INSERT: Final = f"INSERT INTO found VALUES (?, ?, ?, {', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own columns

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
        # Numbers of words that are committed; owned by `follow`, forgotten when there are too many.
        self._numbers: dict[str, int] = {}

    def of(self, store: LogStore) -> SearchIndex:
        """This one, if it is of that log.

        Raises:
            RefusedError: ENTRY_UNKNOWN: it is of another.
        """
        if store.origin != self._store.origin:
            raise RefusedError(Reason.ENTRY_UNKNOWN, f"no search database of {store.origin}", field="origin")
        return self

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
        if self._store.stopped is None:
            self._store.refresh()  # others may append to it while this process is at rest
        if self.size >= self._store.newest.size:
            # Asked every second: a log at rest costs two reads and no transaction that writes.
            return False
        with self._lock, self._engine.begin() as opened:
            connection = driver(opened)
            ((size, seen),) = connection.execute("SELECT size, seen FROM about").fetchall()
            entries = self._store.entries(size, GROUP)
            if not entries:
                return False
            rows, asked = [], []
            words = _Words(connection, self._numbers)
            for index, data in enumerate(entries, size):
                row = search_row(data)
                seen = max(seen, row.time)
                numbers = [words.number(text) if text else None for text in row.words.values()]
                rows.append((index, row.time, seen, *numbers, *row.numbers.values()))
                asked += [(words.number(name), index) for name in row.attributes]
            connection.executemany(_INSERT, rows)
            places = {row[_PLACE] for row in rows} - {None}
            connection.executemany("INSERT OR IGNORE INTO place VALUES (?)", [(number,) for number in places])
            connection.executemany("INSERT INTO asked VALUES (?, ?)", asked)
            connection.execute(
                "UPDATE about SET size = ?, tip = ?, seen = ?", (size + len(entries), leaf_hash(entries[-1]), seen)
            )
        # After COMMIT only: what was rolled back has no number.
        if len(self._numbers) > WORDS:
            self._numbers.clear()
        self._numbers.update(words.new)
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
        if before > 0:
            with self._reading() as connection:
                more, before = lookup(connection, query, scope, before, limit - len(found))
            found += more
        return found, before

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with reading(self._engine).connect() as connection:
            yield driver(connection)


class SearchIndexes:
    """The search databases of one identity's logs: a file for each, so that what is removed with its year is gone.

    Args:
        path: File of the first log's; those of later years stand beside it, with their year.
        log: The logs.
    """

    def __init__(self, path: Path, log: YearlyLog) -> None:
        self._path = path
        self._log = log
        self._lock = Lock()
        self._indexes: dict[str, SearchIndex] = {}
        self._complete: set[str] = set()
        for one in log.ended:
            if one.removal is not None:
                remove_search(path, one.year)
        for store in log.shards():
            self.of(store)

    def of(self, store: LogStore) -> SearchIndex:
        """The search database of one of the logs; made if it is not there."""
        with self._lock:
            index = self._indexes.get(store.origin)
            if index is None:
                index = self._indexes[store.origin] = SearchIndex(search_file(self._path, year_of(store.origin)), store)
        return index

    def follow(self) -> bool:
        """As `SearchIndex.follow`, for every log whose entries are kept; what was removed goes."""
        with suppress(RefusedError):  # said when the year ends
            self._log.prepare()
        stores = self._log.shards()
        kept = {store.origin for store in stores}
        for origin in [origin for origin in self._indexes if origin not in kept]:
            with self._lock:
                self._indexes.pop(origin).close()
            remove_search(self._path, year_of(origin))
        more = False
        for store in stores:
            if store.origin in self._complete:
                continue
            index = self.of(store)
            more = index.follow() or more
            if store.origin != self._log.origin and index.size == store.newest.size:
                self._complete.add(store.origin)
        return more

    def close(self) -> None:
        """Close all of them."""
        for index in self._indexes.values():
            index.close()


def search_file(path: Path, year: int) -> Path:
    """File of the search database of a year's log, beside that of the first."""
    return path if year == FIRST else path.with_stem(f"{path.stem}-{year}")


def remove_search(path: Path, year: int) -> None:
    """Take away the search database of a year's log."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{search_file(path, year)}{suffix}").unlink(missing_ok=True)


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


class SearchRow(NamedTuple):
    """What the search database has to say of an entry.

    Attributes:
        time: Microseconds since the epoch.
        words: Text of each column of words; empty for none.
        numbers: Value of each other column; None for none.
        attributes: What was asked.
    """

    time: int
    words: dict[str, str]
    numbers: dict[str, str | int | None]
    attributes: tuple[str, ...]


def search_row(data: bytes) -> SearchRow:
    """The row of an entry; `audit/fsck_store.py` compares it."""
    facts = _facts(data)
    header = int.from_bytes(bytes.fromhex(facts.header)[:_HEADER_BYTES], "big") if facts.header else None
    return SearchRow(
        facts.time,
        {name: getattr(facts, name) for name in _WORDS},
        {"reference": facts.reference or None, "version": facts.version or None, "header": header},
        facts.attributes,
    )


def _facts(data: bytes) -> Facts:
    try:
        return facts_of(data)
    except EntryError:
        # Found by fsck; here it must only not stand in the way of the others.
        return Facts(0, "unreadable")


async def keep_up(index: SearchIndexes | SearchIndex) -> None:
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
