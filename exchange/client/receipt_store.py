"""Kept receipts in a SQLite file: encrypted, found by their reference, gone when their time is over.

The file says when receipts were kept, how large they are and which belong to one reference, but neither which
reference that is nor anything else of them. Whoever can write it can destroy receipts, and change none unnoticed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from audit.sqlite import clear_log, driver, force_to_disk, open_sqlite, reading
from exchange.client.receipt_keys import KeyFiles, LostKeyError, Sealed, YearKey
from exchange.client.receipt_rows import Found, Paper, Waiting, encode, open_row
from exchange.client.receipt_schema import STATEMENTS, UPGRADES, VERSION
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import sync_path

FILE: Final = "receipts.db"
SLICE: Final = 500
"""Receipts that one transaction deletes: others wait no longer than that takes."""

CLEAR_SECONDS: Final = 0.05
"""How long those who keep may be held up while the write-ahead log is emptied."""

PAGE: Final = 200
"""Receipts that are read at a time."""

_ADD: Final = "INSERT INTO receipt (id, year, kept, found, sealed, by_case) VALUES (?, ?, ?, ?, ?, ?)"
_FIND: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE found = ?1 AND number > ?2 ORDER BY number LIMIT ?3"""
_FIND_CASE: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE by_case = ?1 AND number > ?2 ORDER BY number LIMIT ?3"""
_FIND_CASELESS: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE found = ?1 AND by_case IS NULL AND number > ?2 ORDER BY number LIMIT ?3"""
_FIND_SINCE: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE kept >= ?4 AND +found = ?1 AND +number > ?2 ORDER BY number LIMIT ?3"""
"""Without a look at those that were kept before, of which one job may have a million."""
_WAITING: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE completed = 0 AND number > ? AND kept >= ? ORDER BY number LIMIT ?"""
_WAITING_LONG: Final = """SELECT number, id, year, kept, found, sealed, by_case FROM receipt
    WHERE completed = 0 AND number > ?1 AND kept < ?2
        AND number <= coalesce((SELECT number FROM receipt WHERE kept < ?2 ORDER BY kept DESC LIMIT 1), 0)
    ORDER BY number LIMIT ?3"""
"""Without a look at those that were kept since."""
_COMPLETE: Final = "UPDATE receipt SET sealed = ?, completed = ? WHERE number = ? AND id = ? AND completed = 0"
_DELETE_OLD: Final = "DELETE FROM receipt WHERE number IN (SELECT number FROM receipt WHERE kept < ? LIMIT ?)"
_COUNT_OLD: Final = "SELECT count(*) FROM receipt WHERE kept < ?"
_DELETE_YEAR: Final = "DELETE FROM receipt WHERE number IN (SELECT number FROM receipt WHERE year = ? LIMIT ?)"
_YEARS: Final = """SELECT year FROM year
    WHERE erased IS NULL AND EXISTS (SELECT 1 FROM receipt WHERE receipt.year = year.year) ORDER BY year"""
_YEAR: Final = """SELECT erased, EXISTS (SELECT 1 FROM receipt WHERE receipt.year = year.year) FROM year
    WHERE year = ?"""
_SPENT: Final = """SELECT year, erased FROM year
    WHERE erased IS NOT NULL OR (year < ? AND NOT EXISTS (SELECT 1 FROM receipt WHERE receipt.year = year.year))"""


class ReceiptStore:
    """The file, opened. Calls block; several processes may have it open, also to add.

    Args:
        directory: Holds the file; `create` makes both.
        keys: Directory of the keys.

    Raises:
        FatalError: The file is not there or is no store of receipts.
    """

    def __init__(self, directory: Path, keys: Path) -> None:
        self._keys = KeyFiles(keys)
        self._engine = open_sqlite(directory / FILE)
        self._uncleared = True
        if self._version() in UPGRADES:
            self._upgrade()
        if self._version() != VERSION:
            self._engine.dispose()
            raise FatalError(Reason.INTERNAL, f"{directory / FILE} is no store of receipts of this version")

    @staticmethod
    def create(directory: Path, keys: Path, now: float) -> bool:
        """Make an empty store with the key of the year; whether there was none.

        Raises:
            FatalError: It cannot be made, or others can reach the keys.
        """
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        if keys.stat().st_mode & 0o077:
            raise FatalError(
                Reason.INTERNAL, f"others can reach the receipts' keys; allow their owner only: chmod 700 {keys}"
            )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (directory / FILE).exists():
            return False
        KeyFiles(keys).make(year_of(now))
        # Made aside: a file that bears the name is whole.
        unfinished = directory / f".{FILE}.new"
        for name in (unfinished, *(unfinished.with_name(f"{unfinished.name}{end}") for end in ("-wal", "-shm"))):
            name.unlink(missing_ok=True)
        engine = open_sqlite(unfinished, create=True)
        try:
            with engine.begin() as connection:
                for statement in STATEMENTS:
                    connection.exec_driver_sql(statement)
            force_to_disk(engine, wait=True)
        finally:
            engine.dispose()
        unfinished.rename(directory / FILE)
        sync_path(directory)
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def add(self, papers: Sequence[Paper], now: float) -> None:
        """Keep receipts, durably: all of them or none.

        Raises:
            FatalError: INTERNAL: the key of the year is gone, or the file cannot be written.
        """
        kept = int(now * 1000)
        with self._writing() as connection:
            key = self._key_for(connection, year_of(now))
            rows = [key.seal(encode(paper), paper.reference, paper.key, kept) for paper in papers]
            driver(connection).executemany(_ADD, rows)

    def mend(self) -> None:
        """After a failed write: have everything that was committed reach the disk.

        Raises:
            FatalError: LOG_UNAVAILABLE: it does not.
        """
        force_to_disk(self._engine, wait=False)

    def find(self, reference: str, since: float | None = None) -> Iterator[Found]:
        """Receipts of a reference, oldest first within each year.

        Args:
            reference: The whole of it.
            since: Only those kept at this time or later, in seconds since the epoch; None for all.

        Raises:
            FatalError: The key of a year that holds receipts is missing or another.
        """
        for key in self._all_keys():
            if since is None:
                yield from self._pages(key, _FIND, key.found(reference))
            else:
                yield from self._pages(key, _FIND_SINCE, key.found(reference), int(since * 1000))

    def find_case(self, reference: str, case: str) -> Iterator[Found]:
        """Receipts of one case of a reference, oldest first within each year; no others are opened.

        All that an older release kept under the reference are, since their cases stand inside.

        Args:
            reference: The whole of it.
            case: The caller's own key of the case.

        Raises:
            FatalError: As `find`.
        """
        for key in self._all_keys():
            yield from (
                one
                for one in self._pages(key, _FIND_CASELESS, key.found(reference))
                if one.receipt is None or one.key == case
            )
            yield from self._pages(key, _FIND_CASE, key.by_case(reference, case))

    def _all_keys(self) -> list[YearKey]:
        with reading(self._engine).connect() as connection:
            return [self._checked(connection, year) for year in self._years(connection)]

    def _pages(self, key: YearKey, statement: str, place: bytes, *more: int) -> Iterator[Found]:
        """Rows at a place, opened. A page at a time: who reads slowly must not hold up the writer's checkpoints."""
        last = 0
        while True:
            with reading(self._engine).connect() as connection:
                rows = driver(connection).execute(statement, (place, last, PAGE, *more)).fetchall()
            yield from (open_row(key, Sealed._make(row[1:])) for row in rows)
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def waiting(self, since: float, after: int, limit: int) -> list[Waiting]:
        """Receipts that have not gained cosignatures, oldest first. What cannot be opened is passed over.

        Args:
            since: Kept at this time or later, in seconds since the epoch.
            after: Behind this place.
            limit: How many, at most.

        Raises:
            FatalError: INTERNAL: the key of one of them is missing or another.
        """
        return self._waiting(_WAITING, int(since * 1000), after, limit)

    def waiting_long(self, before: float, after: int, limit: int) -> list[Waiting]:
        """As `waiting`, of those that were kept before a time."""
        return self._waiting(_WAITING_LONG, int(before * 1000), after, limit)

    def _waiting(self, statement: str, kept: int, after: int, limit: int) -> list[Waiting]:
        found: list[Waiting] = []
        while len(found) < limit:
            with reading(self._engine).connect() as connection:
                rows = driver(connection).execute(statement, (after, kept, limit - len(found))).fetchall()
                keys = {year: self._checked(connection, year) for year in {row[2] for row in rows}}
            if not rows:
                break
            for number, *rest in rows:
                row = Sealed._make(rest)
                opened = open_row(keys[row.year], row)
                if opened.receipt is not None:
                    found.append(Waiting(number, row, opened.key, opened.receipt))
            after = rows[-1][0]
        return found

    def complete(self, completed: Sequence[Waiting], now: float) -> None:
        """Keep what receipts have become, each in the place of what it was; one that was deleted meanwhile stays so.

        Raises:
            FatalError: INTERNAL: the key of one of them is missing or another, or the file cannot be written.
        """
        with self._writing() as connection:
            keys = {year: self._checked(connection, year) for year in {one.row.year for one in completed}}
            rows = []
            for one in completed:
                plaintext = encode(Paper("", one.key, one.receipt))
                sealed = keys[one.row.year].seal_again(plaintext, one.row).sealed
                rows.append((sealed, int(now * 1000), one.number, one.row.id))
            driver(connection).executemany(_COMPLETE, rows)

    def purge(self, keep: float, now: float) -> int:
        """Delete receipts whose time is over, `SLICE` at most; after the last, keys of past years that hold none.

        Args:
            keep: Seconds for which receipts are kept.
            now: Seconds since the epoch, by a clock that is known not to run ahead.

        Returns:
            How many receipts were deleted; if that is `SLICE`, there may be more.

        Raises:
            FatalError: INTERNAL: it could not be done, or not wholly.
        """
        deleted = self._delete(_DELETE_OLD, _before(keep, now))
        if deleted < SLICE:
            self._destroy_spent(year_of(now))
        return deleted

    def overdue(self, keep: float, now: float) -> int:
        """How many receipts a purge would delete; arguments as there."""
        with reading(self._engine).connect() as connection:
            (count,) = driver(connection).execute(_COUNT_OLD, (_before(keep, now),)).fetchone()
        return int(count)

    def clear(self) -> bool:
        """Have what was deleted leave the write-ahead log too; also after opening, for whoever deleted before.

        Nobody is held up for it by more than `CLEAR_SECONDS`.

        Returns:
            Whether it is done. It is not while somebody reads; then it is to be called again.

        Raises:
            FatalError: LOG_UNAVAILABLE: the file cannot be written.
        """
        if self._uncleared:
            self._uncleared = not clear_log(self._engine, CLEAR_SECONDS)
        return not self._uncleared

    def erase(self, year: int, now: float) -> int:
        """Destroy the key of a year, and delete its receipts; then `clear`.

        A year that is not over is given up only if its key is lost. It begins anew with another key; what is in place
        of the lost one is destroyed as well.

        Returns:
            How many receipts were deleted.

        Raises:
            RefusedError: INTERNAL: the year is not over and its key is good, or nothing was kept in it.
            FatalError: It could not be done, or not wholly; it can be called again.
        """
        current = year_of(now)
        with self._writing() as connection:
            row = driver(connection).execute("SELECT proof, erased FROM year WHERE year = ?", (year,)).fetchone()
            if year > current or (year == current and not self._is_lost(year, row)):
                raise RefusedError(Reason.INTERNAL, f"{year} is not over; its key is in use")
            if row is None and year < current:
                raise RefusedError(Reason.INTERNAL, f"no receipt was kept in {year}")
            driver(connection).execute("UPDATE year SET erased = ? WHERE year = ?", (int(now), year))
        self._keys.destroy(year)
        total = 0
        while deleted := self._delete(_DELETE_YEAR, year):
            total += deleted
        if year == current:
            with self._writing() as connection:
                driver(connection).execute("DELETE FROM year WHERE year = ?", (year,))
        return total

    def _version(self) -> int:
        with reading(self._engine).connect() as connection:
            (version,) = driver(connection).execute("PRAGMA user_version").fetchone()
        return int(version)

    def _upgrade(self) -> None:
        """Make a store of an older version one of this version, unless another process was quicker."""
        with self._writing() as connection:
            (version,) = driver(connection).execute("PRAGMA user_version").fetchone()
            for statement in UPGRADES.get(version, ()):
                driver(connection).execute(statement)

    def _is_lost(self, year: int, row: tuple[bytes, int | None] | None) -> bool:
        """Whether the key of a year cannot be used for what was kept in it, or at all.

        Raises:
            FatalError: INTERNAL: it cannot be read, or by others too, which does not make it another.
        """
        try:
            if row is None:
                # Nothing was kept yet; a file that is no key would stop it for ever.
                if self._keys.path(year).exists():
                    self._keys.read(year)
            elif row[1] is not None:
                return True
            else:
                self._keys.matching(year, row[0])
        except LostKeyError:
            return True
        return False

    def check_keys(self) -> None:
        """Check that the keys are those of the receipts.

        Raises:
            FatalError: INTERNAL: one is missing, or is another.
        """
        self._all_keys()

    def _years(self, connection: Connection) -> list[int]:
        """Years that hold receipts and are not erased."""
        rows = driver(connection).execute(_YEARS)
        return [year for (year,) in rows]

    def _checked(self, connection: Connection, year: int) -> YearKey:
        """The key of a year in which receipts were kept.

        Raises:
            FatalError: INTERNAL: it is erased, missing, or another than the one under which they were kept.
        """
        row = driver(connection).execute("SELECT proof, erased FROM year WHERE year = ?", (year,)).fetchone()
        if row is None:
            raise FatalError(Reason.INTERNAL, f"the receipts of {year} are gone")
        proof, erased = row
        if erased is not None:
            raise FatalError(Reason.INTERNAL, f"the receipts of {year} were erased, and none is kept in it any more")
        # Read anew each time: a receipt under a key whose file is gone could never be opened again.
        return self._keys.matching(year, proof)

    def _key_for(self, connection: Connection, year: int) -> YearKey:
        """The key under which to keep; for a year without receipts it is made, if it is not there."""
        row = driver(connection).execute(_YEAR, (year,)).fetchone()
        if row is not None and (row[0] is not None or row[1]):
            return self._checked(connection, year)
        key = self._keys.make(year)
        driver(connection).execute("INSERT OR REPLACE INTO year (year, proof) VALUES (?, ?)", (year, key.proof))
        return key

    def _delete(self, statement: str, value: int) -> int:
        with self._writing() as connection:
            deleted: int = driver(connection).execute(statement, (value, SLICE)).rowcount
        self._uncleared = self._uncleared or deleted > 0
        return deleted

    def _destroy_spent(self, current: int) -> None:
        """Keys of years before this one that hold no receipts; also of erased years, if a crash left one."""
        with self._writing() as connection:
            spent = driver(connection).execute(_SPENT, (current,))
            for year, erased in spent.fetchall():
                # The file first: a year without receipts and without a key can begin anew.
                self._keys.destroy(year)
                if erased is None:
                    driver(connection).execute("DELETE FROM year WHERE year = ?", (year,))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction; what it deletes is overwritten with zeros."""
        try:
            with self._engine.connect() as connection:
                driver(connection).execute("PRAGMA secure_delete = ON")
                with connection.begin():
                    yield connection
        except (sqlite3.Error, SQLAlchemyError) as error:
            # Its own text would show values.
            raise FatalError(Reason.INTERNAL, f"the receipts cannot be written: {_told(error)}") from None


def year_of(now: float) -> int:
    """The year in the city."""
    return datetime.fromtimestamp(now, CITY_TIME).year


def _before(keep: float, now: float) -> int:
    """When receipts were kept whose time is over, in milliseconds since the epoch."""
    return int((now - keep) * 1000)


def _told(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, sqlite3.Error) else type(error).__name__
