"""A log's own store and its search database, computed again from the entries; every difference named with its index.

The store is looked at in one snapshot and nothing is written, so its process may run beside it. What `audit/fsck.py`
checks of exported files it checks here of the tables; besides, that tables and triggers are as they were made, that
head and guard agree, and that nothing stands there that should not. The search database is derived: each column of each
row must be what its entry says. Memory: one hash for 256 entries, and the words of the search database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from audit import layout, shards, tiles
from audit.backend import backend_of
from audit.checkpoint import Checkpoint
from audit.database import Backend
from audit.ends import check_ends, check_known, check_removals
from audit.entry import EntryError, decode_entry
from audit.fsck import Examined, examine
from audit.origins import FIRST, origin_of, year_of
from audit.reader import LogReader
from audit.search import search_file, search_row
from audit.tiles import TILE_WIDTH
from audit.trouble import cause_of
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError

STORE: Final = "store"
GROUP: Final = 1000

_EXTRA_ENTRIES: Final = "SELECT idx FROM {entry} WHERE idx < 0 OR idx >= ? ORDER BY idx LIMIT 100"
_ENTRIES: Final = "SELECT idx, leaf_hash, data FROM {entry} WHERE idx >= ? AND idx < ? ORDER BY idx"
_TILE: Final = "SELECT hashes FROM {tile} WHERE level = ? AND idx = ?"
_TILE_NAMES: Final = "SELECT level, idx FROM {tile} ORDER BY level, idx"

Verify = Callable[[bytes, bytes], Checkpoint]
"""The checkpoint of a signed note, by the certificate (PEM) of its key; raises as `audit.mirror.verify_by_root`."""


def examine_store(
    engine: Engine,
    origin: str,
    verify: Verify,
    *,
    extends: Sequence[Checkpoint] = (),
    progress: Callable[[int, int], None] = lambda _done, _size: None,
) -> Examined:
    """Recompute a stored log.

    Args:
        engine: Of the store; only read.
        origin: Of the log, which tells the tables.
        verify: Says whose signature counts.
        extends: What the process's guard, or somebody else, remembers of this log: it must be extended.
        progress: Told how many entries of how many are done.

    Raises:
        SQLAlchemyError, sqlite3.Error: It cannot be read at all.
    """
    backend = backend_of(engine, shards.tables_of(year_of(origin)))
    with backend.reading.connect() as connection:
        stored = _Stored(backend, connection)
        if stored.head is None:
            found = Examined()
            found.add(STORE, None, "holds no head: it is no log, or its `init` did not finish")
            return found

        def verify_head(note: bytes) -> Checkpoint:
            return verify(note, stored.certificate)

        found = examine(stored.fetch, verify_head, extends=extends, progress=progress)
        _check_tables(backend, connection, year_of(origin), found)
        if found.checkpoint is not None:
            _check_head(stored, found, origin)
            _check_rows(stored, found)
    return found


class _Stored:
    """The tables as the files that `examine` reads. Growing tiles are not stored: they follow from what is."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        self._sql = backend.sql
        self.connection = connection
        self.head = backend.head(connection)

    @property
    def certificate(self) -> bytes:
        """PEM; empty if it is none."""
        try:
            der = b"" if self.head is None else self.head.certificate
            return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        except ValueError:
            return b""

    def fetch(self, path: str) -> bytes | None:
        """A file of the layout."""
        if path == layout.CHECKPOINT:
            return None if self.head is None else self.head.checkpoint
        kind, index, width = layout.parse_tile_path(path)
        if kind == layout.ENTRIES:
            rows = self.rows(index * TILE_WIDTH, index * TILE_WIDTH + width)
            # Where one is missing, the bundle is short, and examine says so.
            return layout.encode_bundle([data for _, _, data in rows]) if rows else None
        level = int(kind)
        if width == TILE_WIDTH:
            return self.tile(level, index)
        if level == 0:
            rows = self.rows(index * TILE_WIDTH, index * TILE_WIDTH + width)
            return b"".join(leaf for _, leaf, _ in rows)
        below = [self.tile(level - 1, index * TILE_WIDTH + place) for place in range(width)]
        return b"".join(_root(tile) for tile in below)

    def rows(self, start: int, end: int) -> Sequence[Any]:
        """(index, leaf hash, data) of entries."""
        return self.connection.exec_driver_sql(self._sql(_ENTRIES), (start, end)).all()

    def tile(self, level: int, index: int) -> bytes | None:
        """A complete tile."""
        found: bytes | None = self.connection.exec_driver_sql(self._sql(_TILE), (level, index)).scalar_one_or_none()
        return found

    def tile_names(self) -> Iterator[tuple[int, int]]:
        """(level, index) of every tile."""
        yield from (tuple(row) for row in self.connection.exec_driver_sql(self._sql(_TILE_NAMES)))

    def extra_entries(self, size: int) -> list[int]:
        """Indexes of entries that no tree of this size has; a hundred at most."""
        return list(self.connection.exec_driver_sql(self._sql(_EXTRA_ENTRIES), (size,)).scalars())


def newest_origin(engine: Engine, log: str) -> str:
    """Origin of the newest of the logs in a store.

    Args:
        engine: Of the store; only read.
        log: The identity's `log_origin`.
    """
    return origin_of(log, kept_years(engine)[-1])


def kept_years(engine: Engine) -> list[int]:
    """Years whose logs a store holds with their entries, the oldest first; `FIRST` for the one that `init` made.

    Args:
        engine: Of the store; only read.
    """
    with backend_of(engine).reading.connect() as connection:
        ended = backend_of(engine).logs(connection)
    newest = ended[-1].successor if ended else FIRST
    return [*(one.year for one in ended if not one.removal), newest]


def examine_years(engine: Engine, log: str, guarded: Checkpoint | None, found: Examined) -> None:
    """Check what a store keeps for ever of the logs that have ended, and that it was not rolled back over a New Year.

    That the newest log's first entry is in its tree is found by `examine_store` of that log.

    Args:
        engine: Of the store; only read.
        log: The identity's `log_origin`.
        guarded: What the process's guard remembers.
        found: Takes up what is wrong.
    """
    backend = backend_of(engine)

    def entry(year: int, index: int) -> bytes | None:
        if year not in kept:
            return None
        return next(iter(LogReader(engine, shards.tables_of(year)).entries(index, index + 1, None)), None)

    def empty(year: int) -> bool:
        with backend.reading.connect() as connection:
            return backend_of(engine, shards.tables_of(year)).is_empty(connection)

    try:
        with backend.reading.connect() as connection:
            ended = backend.logs(connection)
            if ended:
                backend.check_years(connection, log)
        newest = ended[-1].successor if ended else FIRST
        kept = {newest, *(one.year for one in ended if one.removal is None)}
        if guarded is not None:
            check_known(log, ended, newest, "its guard", guarded)
        first = entry(newest, 0) if ended else None
        if first is not None:
            check_ends(log, ended, decode_entry(first))
        check_removals(log, ended, entry, empty)
    except (FatalError, EntryError) as error:
        found.add(STORE, None, str(error.detail if isinstance(error, FatalError) else error))
    except (SQLAlchemyError, sqlite3.Error) as error:
        found.add(STORE, None, f"what tells of earlier years cannot be read: {cause_of(error)}")


def entries_of(engine: Engine, origin: str) -> Callable[[int, int], Sequence[bytes]]:
    """Gives the bytes of a stored log's entries, by first index and number."""
    reader = LogReader(engine, shards.tables_of(year_of(origin)))
    return lambda start, count: reader.entries(start, start + count, None)


def _root(tile: bytes | None) -> bytes:
    """The hash above a tile; nothing above one that is missing or damaged, which is named itself."""
    if tile is None or len(tile) != tiles.TILE_SIZE:
        return bytes(merkle.HASH_SIZE)
    return tiles.root_of_nodes(tiles.split_tile(tile))


def _check_tables(backend: Backend, connection: Connection, year: int, found: Examined) -> None:
    ended = any(one.year == year for one in backend.logs(connection))
    try:
        backend.check(connection, ended=ended)
    except FatalError as error:
        found.add(STORE, None, str(error.detail))


def _check_head(stored: _Stored, found: Examined, origin: str) -> None:
    checkpoint, head = found.checkpoint, stored.head
    assert checkpoint is not None  # noqa: S101 - the caller saw to it
    assert head is not None  # noqa: S101 - the same
    if checkpoint.origin != origin:
        found.add(STORE, None, f"its checkpoint is of the log {checkpoint.origin}, not of {origin}")
    if (head.size, head.root) != (checkpoint.size, checkpoint.root):
        found.add(STORE, None, "its head says another size or root than its checkpoint")


def _check_rows(stored: _Stored, found: Examined) -> None:
    """What `examine` does not see: hashes beside full tiles, and rows that belong to nothing."""
    assert found.checkpoint is not None  # noqa: S101 - the caller saw to it
    size = found.checkpoint.size
    for start in range(0, size, GROUP):
        for index, leaf, data in stored.rows(start, min(start + GROUP, size)):
            if leaf != merkle.leaf_hash(data):
                found.add("log_entry", index, "the hash beside it is not that of the entry")
    for index in stored.extra_entries(size):
        found.add("log_entry", index, "stands behind the end of the log")
    expected = {level: full for level, full, _ in layout.widths(size)}
    for level, index in stored.tile_names():
        if not 0 <= index < expected.get(level, 0):
            found.add("log_tile", None, f"tile {index} of level {level} belongs to no tree")


# The search database -------------------------------------------------------------------------------------------------


def examine_search(
    path: Path,
    origin: str,
    entries: Callable[[int, int], Sequence[bytes]],
    size: int,
    found: Examined,
) -> int:
    """Compute every row of a search database again from the entries.

    Args:
        path: Its file, that of the identity's first log; a later year's stands beside it.
        origin: Of the log.
        entries: Gives the bytes of entries, by first index and number.
        size: Of the log.
        found: Takes up what is wrong.

    Returns:
        How many entries were compared: the database may be a moment behind its log.
    """
    file = search_file(path, year_of(origin) if origin else FIRST)
    if not file.is_file():
        found.add(file.name, None, "is missing: the process makes it again when it starts")
        return 0
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            return _Search(connection, file.name, found).examine(origin, entries, size)
        finally:
            connection.close()
    except (sqlite3.Error, SQLAlchemyError) as error:
        found.add(file.name, None, f"cannot be read ({error}): remove it, and the process makes it again")
        return 0


class _Search:
    """One search database, in one snapshot."""

    def __init__(self, connection: sqlite3.Connection, name: str, found: Examined) -> None:
        self._connection = connection
        self._name = name
        self._found = found
        self._words: dict[int, str] = {}

    def examine(self, origin: str, entries: Callable[[int, int], Sequence[bytes]], size: int) -> int:
        """All of it."""
        for (problem,) in self._connection.execute("PRAGMA integrity_check(100)").fetchall():
            if problem != "ok":
                self._add(None, f"is damaged: {problem}")
        rows = self._connection.execute("SELECT layout, origin, size, tip, seen FROM about").fetchall()
        if len(rows) != 1:
            self._add(None, "does not say of which log it is")
            return 0
        _, named, covered, tip, seen = rows[0]
        if named != origin:
            self._add(None, f"is of the log {named}")
        if covered > size:
            self._add(None, f"says that it has {covered} entries, and the log has {size}")
        covered = min(covered, size)
        self._words = dict(self._connection.execute("SELECT id, text FROM word").fetchall())
        greatest, last, places = 0, b"", set()
        for start in range(0, covered, GROUP):
            group = entries(start, min(GROUP, covered - start))
            stored = self._rows(start, start + len(group))
            asked = self._asked(start, start + len(group))
            for index, data in enumerate(group, start):
                expected = search_row(data)
                greatest = max(greatest, expected.time)
                places |= {expected.words["place"]} - {""}
                self._compare(index, stored.pop(index, None), asked.pop(index, set()), expected, greatest)
            last = group[-1] if group else last
            for index in asked:
                self._add(index, "attributes stand there that no entry asked")
        self._check_end(covered, tip, seen, greatest, last)
        self._check_places(places)
        return int(covered)

    def _rows(self, start: int, end: int) -> dict[int, dict[str, Any]]:
        cursor = self._connection.execute("SELECT * FROM found WHERE idx >= ? AND idx < ?", (start, end))
        names = [column[0] for column in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def _asked(self, start: int, end: int) -> dict[int, set[str]]:
        asked: dict[int, set[str]] = {}
        sql = "SELECT idx, attribute FROM asked WHERE idx >= ? AND idx < ?"
        for index, number in self._connection.execute(sql, (start, end)):
            asked.setdefault(index, set()).add(self._word(number))
        return asked

    def _compare(self, index: int, row: dict[str, Any] | None, asked: set[str], expected: Any, greatest: int) -> None:
        if row is None:
            self._add(index, "its row is missing")
            return
        should: dict[str, Any] = {"time": expected.time, "seen": greatest, **expected.numbers}
        wrong = [name for name, value in should.items() if row.get(name) != value]
        for name, text in expected.words.items():
            number = row.get(name)
            if ("" if number is None else self._word(number)) != text:
                wrong.append(name)
        wrong += ["attributes"] if asked != set(expected.attributes) else []
        for name in wrong:
            self._add(index, f"{name} is not what the entry says")

    def _check_end(self, covered: int, tip: bytes | None, seen: int, greatest: int, last: bytes) -> None:
        if covered and (tip != merkle.leaf_hash(last) or seen != greatest):
            self._add(covered - 1, "is not the entry to which it says that it reaches")
        for table in ("found", "asked"):
            sql = f"SELECT DISTINCT idx FROM {table} WHERE idx < 0 OR idx >= ? ORDER BY idx LIMIT 100"  # noqa: S608 - ours
            for (index,) in self._connection.execute(sql, (covered,)):
                self._add(index, "its row stands behind the end of what it covers")

    def _check_places(self, places: set[str]) -> None:
        stored = {self._word(number) for (number,) in self._connection.execute("SELECT word FROM place")}
        for text in sorted(places ^ stored):
            kind = "lacks" if text in places else "has in vain"
            self._add(None, f"its list of places {kind} {text!r}")

    def _word(self, number: Any) -> str:
        return self._words.get(number, f"no word {number}")

    def _add(self, index: int | None, message: str) -> None:
        self._found.add(self._name, index, message)
