"""Where a process keeps its log: an SQLite file of its own, or a PostgreSQL database that it may share.

Made once, by the `init` of the process; a start never makes one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from audit.origins import year_at
from audit.postgres import checked_url, open_postgres
from audit.postgres_schema import COMING_YEARS, Roles, removal, script, upgrade
from audit.postgres_tables import Part
from audit.schema import TABLES
from audit.shards import tables_of
from audit.sqlite import open_readonly, open_sqlite
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.profile import LogDatabase


def open_place(path: Path, database: LogDatabase | None, *, create: bool = False) -> Engine:
    """The engine of a log; the file is made if `create`, a database never is.

    Args:
        path: Of the file.
        database: Where it stands instead.
        create: Make the file; it must not exist.

    Raises:
        FatalError: LOG_UNAVAILABLE, with what to do.
    """
    if database is None:
        return open_sqlite(path, create=create)
    return open_postgres(database.url, database.password_file)


def open_to_read(path: Path, database: LogDatabase | None) -> Engine:
    """The engine of a log that somebody else may be writing: the file is opened for reading only, a database as it is.

    Args:
        path: Of the file.
        database: Where it stands instead.

    Raises:
        FatalError: LOG_UNAVAILABLE, with what to do.
    """
    return open_readonly(path) if database is None else open_postgres(database.url, database.password_file)


@contextmanager
def using(engine: Engine) -> Iterator[Engine]:
    """An engine for a while; its connections are closed at the end."""
    try:
        yield engine
    finally:
        engine.dispose()


def database_script(
    database: LogDatabase | None, years: Collection[int] = (), *, old: bool = False, beside: Part | None = None
) -> str:
    """What an administrator runs in the database of a log: before it is begun, or to make room for more years.

    Args:
        database: From the profile; the account of its URL is the writer.
        years: Only those, beside what is there; if there are none, the first log and the years that come. The present
            one is among them: a log of an earlier release, or one that is restored, may have begun before it.
        old: An earlier release made the log, which knew of no years: add what is missing, and the years that come.
        beside: The process's own tables, which are made with the first log.

    Raises:
        FatalError: INTERNAL: the profile names no database, or the account has a name that is quoted in SQL.
    """
    roles = _roles(database)
    if years:
        return script(roles, *(tables_of(year) for year in sorted(set(years))))
    present = year_at(time.time())
    coming = [tables_of(year) for year in range(present, present + 1 + COMING_YEARS)]
    return upgrade(roles, *coming) if old else script(roles, TABLES, *coming, beside=beside)


def removal_script(database: LogDatabase | None, years: Collection[int]) -> str:
    """What an administrator runs in the database of a log to remove the entries of years whose removal is recorded.

    Args:
        database: From the profile.
        years: Of the logs; 0 is the first.

    Raises:
        FatalError: As `database_script`.
    """
    roles = _roles(database)
    return "\n".join(removal(roles, year, tables_of(year)) for year in sorted(years))


def _roles(database: LogDatabase | None) -> Roles:
    if database is None:
        raise FatalError(
            Reason.INTERNAL, "the profile names no database for the log; write [log] with its url (docs/log-store.md)"
        )
    try:
        return Roles(checked_url(database.url).username or "")
    except ValueError as error:
        raise FatalError(Reason.INTERNAL, f"[log] url: {error}") from None
