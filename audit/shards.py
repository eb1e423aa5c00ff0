"""Which logs of earlier years a database holds: how each of them ended, and whether its entries are still kept.

One row for each log that has ended, written in the transaction that begins the next one: its final signed checkpoint,
and its first entry with the proof that it is in that tree. Rows are never changed or deleted, so whoever knows an old
log can be shown how the newest goes on from it, also when the entries themselves are gone. A removal is a row as well,
and names the entry by which the newest log recorded it; only once it is there do the triggers of `audit.schema` let the
tables of that log be emptied.

Here is what a file holds, and what is read in a file and in PostgreSQL alike; what stands there is made in
`audit.postgres_years`. Which of the two a log is in is known by its backend (`audit.backend`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine

from audit import schema
from audit.appended import Head
from audit.origins import FIRST, MAX_YEAR, origin_of
from audit.schema import Tables
from audit.sqlite import driver
from zhiwang.wire.errors import FatalError, Reason

_STATEMENTS: Final[dict[str, str]] = {
    "log_shard": """CREATE TABLE log_shard (
        year INTEGER PRIMARY KEY,
        successor INTEGER NOT NULL UNIQUE CHECK (successor > year),
        size INTEGER NOT NULL CHECK (size > 0),
        root BLOB NOT NULL CHECK (typeof(root) = 'blob' AND length(root) = 32),
        checkpoint BLOB NOT NULL CHECK (typeof(checkpoint) = 'blob'),
        certificate BLOB NOT NULL CHECK (typeof(certificate) = 'blob'),
        opened BLOB NOT NULL CHECK (typeof(opened) = 'blob')
    )""",
    "log_shard_insert": """CREATE TRIGGER log_shard_insert BEFORE INSERT ON log_shard
        WHEN NEW.year IS NOT (SELECT coalesce(max(successor), 0) FROM log_shard)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: its newest year ends next'); END""",
    "log_shard_update": """CREATE TRIGGER log_shard_update BEFORE UPDATE ON log_shard
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: how a year ended never changes'); END""",
    "log_shard_delete": """CREATE TRIGGER log_shard_delete BEFORE DELETE ON log_shard
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: how a year ended is never forgotten'); END""",
    "log_shard_removed": """CREATE TABLE log_shard_removed (
        year INTEGER PRIMARY KEY REFERENCES log_shard (year),
        recorded_year INTEGER NOT NULL,
        recorded_idx INTEGER NOT NULL CHECK (recorded_idx > 0),
        done INTEGER NOT NULL CHECK (done IN (0, 1))
    )""",
    "log_shard_removed_insert": """CREATE TRIGGER log_shard_removed_insert BEFORE INSERT ON log_shard_removed
        WHEN NEW.done IS NOT 0 OR EXISTS (SELECT 1 FROM log_shard_removed WHERE year = NEW.year)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a removal is recorded once, before it'); END""",
    "log_shard_removed_update": """CREATE TRIGGER log_shard_removed_update BEFORE UPDATE ON log_shard_removed
        WHEN NEW.year IS NOT OLD.year OR NEW.recorded_year IS NOT OLD.recorded_year
            OR NEW.recorded_idx IS NOT OLD.recorded_idx OR NEW.done < OLD.done
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a removal is only ever finished'); END""",
    "log_shard_removed_delete": """CREATE TRIGGER log_shard_removed_delete BEFORE DELETE ON log_shard_removed
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a removal is never forgotten'); END""",
}

_INSTALLED: Final = (
    "SELECT name, sql FROM sqlite_master WHERE tbl_name IN ('log_shard', 'log_shard_removed') AND sql IS NOT NULL"
)
_LOGS: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'log_entry*'"
SUCCESSOR: Final = "SELECT successor FROM log_shard WHERE year = ?"
"""Year of the log that goes on from that of a year."""
REMOVALS: Final = "SELECT coalesce(sum(1 + done), 0) FROM log_shard_removed"
"""How far removals have come: rises with each that is recorded or finished."""
ENDED: Final = """SELECT s.year, s.successor, s.size, s.root, s.checkpoint, s.certificate, s.opened,
    r.recorded_year, r.recorded_idx, r.done
    FROM log_shard s LEFT JOIN log_shard_removed r ON r.year = s.year ORDER BY s.year"""
"""For `ended_of`."""
_END: Final = """INSERT INTO log_shard (year, successor, size, root, checkpoint, certificate, opened)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_REMOVE: Final = "INSERT INTO log_shard_removed (year, recorded_year, recorded_idx, done) VALUES (?, ?, ?, 0)"
_LEAST: Final = 1000
"""The names of logs have years of four digits."""
_DONE: Final = "UPDATE log_shard_removed SET done = 1 WHERE year = ?"


@dataclass(frozen=True, slots=True)
class Removal:
    """That the entries of a log are not kept any more.

    Attributes:
        year: Of the log in which it is recorded,
        index: and at which entry.
        done: Whether the tables are gone; otherwise the removal has to go on.
    """

    year: int
    index: int
    done: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A log that has ended.

    Attributes:
        year: Which; `FIRST` for the one that `init` made.
        successor: Year of the log that goes on from it.
        head: Its final state.
        opened: Its first entry, proved under that head: a serialised LoggedEntry.
        removal: Whether its entries are gone.
    """

    year: int
    successor: int
    head: Head
    opened: bytes
    removal: Removal | None = None


def tables_of(year: int) -> Tables:
    """The tables in which the log of a year stands."""
    return Tables("" if year == FIRST else str(year))


def ended_of(rows: Iterable[Any]) -> list[Ended]:
    """The logs that have ended, the oldest first, from the rows that `ENDED` selects.

    Raises:
        FatalError: LOG_UNAVAILABLE: a year is none, so that there can be no such log.
    """
    found = []
    for year, successor, size, root, checkpoint, certificate, opened, recorded, index, done in rows:
        if not (year == FIRST or _LEAST <= year <= MAX_YEAR) or not _LEAST <= successor <= MAX_YEAR:
            raise _changed(f"the store says that the year {year} ended and {successor} goes on, which is none")
        removal = None if recorded is None else Removal(recorded, index, bool(done))
        found.append(Ended(year, successor, Head(size, root, checkpoint, certificate), opened, removal))
    return found


def check_known(log: str, ended: list[Ended], there: AbstractSet[str]) -> None:
    """Check that every log of a database is known, and that none stands there again once it was removed.

    Args:
        log: The identity's `log_origin`, for messages.
        ended: Those that have ended.
        there: Names of the tables of entries, but for those that were made for a log which never began.

    Raises:
        FatalError: LOG_UNAVAILABLE: one is missing or too many.
    """
    newest = ended[-1].successor if ended else FIRST
    kept = {tables_of(newest).entry: newest}
    kept |= {tables_of(one.year).entry: one.year for one in ended if one.removal is None or not one.removal.done}
    for year in sorted(year for table, year in kept.items() if table not in there):
        if year != newest or ended:
            unfinished = next((one.removal for one in ended if one.year == year), None)
            if unfinished is None:
                raise _changed(f"the log {origin_of(log, year)} is missing, and nothing says that it was removed")
    strangers = sorted(there - kept.keys())
    if strangers:
        raise _changed(
            f"there are tables of a log that was removed, or that none of its years knows: {', '.join(strangers)}"
        )


def install(connection: Connection) -> None:
    """Make the tables in a file, unless they are there: a store of an older release has none."""
    if not installed(connection):
        for statement in _STATEMENTS.values():
            connection.exec_driver_sql(statement)


def check(connection: Connection) -> None:
    """Check that tables and triggers in a file are those of this module.

    Raises:
        FatalError: LOG_UNAVAILABLE: something was changed, added or taken away.
    """
    found = installed(connection)
    wrong = sorted(name for name in _STATEMENTS.keys() | found.keys() if found.get(name) != _STATEMENTS.get(name))
    if wrong:
        raise _changed(f"tables or triggers of the log are not as they were made: {', '.join(wrong)}")


def there(connection: Connection) -> set[str]:
    """Names of the tables of entries in a file."""
    return {str(name) for (name,) in connection.exec_driver_sql(_LOGS)}


def successor(connection: Connection, year: int) -> int | None:
    """Year of the log that goes on from one in a file; None if it has not ended. Asked in every transaction."""
    row = driver(connection).execute(SUCCESSOR, (year,)).fetchone()
    return None if row is None else int(row[0])


def record_end(connection: Connection, ended: Ended) -> None:
    """A log ends; in the transaction that begins the next one."""
    head = ended.head
    connection.exec_driver_sql(
        _END, (ended.year, ended.successor, head.size, head.root, head.checkpoint, head.certificate, ended.opened)
    )


def record_removal(connection: Connection, year: int, recorded_year: int, recorded_index: int) -> None:
    """The entries of a log are to go; in the transaction of the entry that says so."""
    connection.exec_driver_sql(_REMOVE, (year, recorded_year, recorded_index))


def emptied(engine: Engine, year: int, batch: int) -> Iterator[int]:
    """Delete what a log whose removal is recorded still holds, and overwrite it; a transaction for each batch.

    Yields:
        How many entries have been deleted.
    """
    tables, done, deleted = tables_of(year), 0, batch
    newest = tables.fill("DELETE FROM {entry} WHERE idx IN (SELECT idx FROM {entry} ORDER BY idx DESC LIMIT ?)")
    while deleted == batch:
        with _overwriting(engine) as connection:
            deleted = connection.exec_driver_sql(newest, (batch,)).rowcount
        done += deleted
        yield done
    with _overwriting(engine) as connection:
        for table in (tables.tile, tables.head):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - our own name


@contextmanager
def _overwriting(engine: Engine) -> Iterator[Connection]:
    """A transaction whose deletions leave nothing in the file."""
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
        try:
            yield connection
        finally:
            connection.exec_driver_sql("PRAGMA secure_delete = OFF")


def finish_removal(connection: Connection, year: int) -> None:
    """The entries of a log are gone: drop its tables."""
    schema.drop(connection, tables_of(year))
    record_removed(connection, year)


def record_removed(connection: Connection, year: int) -> None:
    """There are no tables of a log any more, or never were in this file."""
    connection.exec_driver_sql(_DONE, (year,))


def installed(connection: Connection) -> dict[str, str]:
    """What makes each table and trigger that a file has of this module's."""
    return {str(row[0]): str(row[1]) for row in connection.exec_driver_sql(_INSTALLED)}


def _changed(what: str) -> FatalError:
    return FatalError(
        Reason.LOG_UNAVAILABLE,
        f"{what}. Somebody changed the store; keep a copy of it for the audit office and restore the file",
    )
