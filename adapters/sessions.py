"""Engines of the databases that the adapter reads, and what each session is set to.

A session says by itself what statements lean on (reading only, the city's time, strict dates, a limit that the server
enforces), since what a server was set to years ago must not decide an answer.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from adapters.dialects.sqlite import strict_names
from adapters.mapping import Database, sqlite_location
from zhiwang.wire.silence import SilenceWatch, watched
from zhiwang.wire.tomlfile import FileError, Finding

_LONGEST_PASSWORD = 1024

GRACE = 5
"""Seconds that a server gets beyond a statement's limit before its silence is taken for the end of the connection."""

_WRITE = {
    "postgresql": "write postgresql+psycopg://…, and install its driver: pip install 'zhiwang[postgresql]'",
    "mysql": "write mysql+pymysql://…, and install its driver: pip install 'zhiwang[mariadb]'",
    "mariadb": "write mariadb+pymysql://…, and install its driver: pip install 'zhiwang[mariadb]'",
}
_NOT_TAKEN = "has an option that the driver does not take"
_OPTIONS = "see what stands behind the ? of the URL: names and values as the driver's manual has them"


class UrlError(ValueError):
    """A URL that no connection can be made by, whatever the server says. Quotes no part of it.

    Args:
        what: What is wrong, so that it reads well after the key.
        todo: What to write or install.
    """

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo


def open_engine(database: Database, base: Path) -> Engine:
    """Engine over read-only connections. Connects at first use.

    Args:
        database: Where, and how many connections.
        base: Directory of the mapping file.

    Raises:
        FileError: The password file cannot be used.
        UrlError: The driver is not there, or takes no such options; may come at the first use too.
    """
    url = make_url(database.url)
    if database.password_file is not None:
        url = url.set(password=read_password(base / database.password_file))
    family = url.get_backend_name()
    options: dict[str, Any] = {}
    if family == "sqlite":
        path = base / sqlite_location(database.url)[0]

        def connect() -> sqlite3.Connection:
            # Whatever the URL says, the file is opened such that SQLite itself refuses to write.
            location = f"file:{quote(str(path.resolve()))}?mode=ro"
            return sqlite3.connect(location, uri=True, check_same_thread=False, timeout=database.timeout)

        options["creator"] = connect
        url = make_url("sqlite://")
    elif family == "postgresql":
        options["connect_args"] = _postgresql_arguments(url, database.timeout)
    elif family in {"mysql", "mariadb"}:
        # Another character set could not carry every name; and what waits longer than the server does has lost it.
        options["connect_args"] = {
            "charset": "utf8mb4",
            "connect_timeout": database.timeout,
            "read_timeout": database.timeout + GRACE,
        }
    engine = _created(
        url,
        poolclass=QueuePool,
        pool_size=database.connections,
        max_overflow=0,
        pool_timeout=database.timeout,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        **options,
    )
    if family == "sqlite":

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def name_strictly(*call: Any) -> tuple[str, Any]:
            _connection, _cursor, statement, parameters = call[:4]
            return strict_names(statement), parameters

    else:
        _watch(engine, database.timeout + GRACE)
    if family in {"mysql", "mariadb"}:

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: Any) -> None:
            try:
                _prepare_mysql(connection, database.timeout)
            except BaseException:
                # The pool does not know it yet, so nobody else would close it.
                with suppress(Exception):
                    connection.close()
                raise

    return engine


def _created(url: URL, **options: Any) -> Engine:
    """An engine whose driver is there and waits for its answers.

    Raises:
        UrlError: It is not, or does not.
    """
    todo = _WRITE.get(url.get_backend_name(), "")
    try:
        if not url.get_dialect().is_async:
            return create_engine(url, **options)
        what = "is of a driver for asyncio"
    except ImportError as error:
        what = f"is of a driver that is not installed: {error.name}"
    except NoSuchModuleError:
        what = "is of a driver that is not known"
    except (ArgumentError, TypeError, ValueError):
        what, todo = _NOT_TAKEN, _OPTIONS
    raise UrlError(what, todo)


def _watch(engine: Engine, seconds: float) -> None:
    """Let no connection wait for its server for ever, nor while a session begins.

    PostgreSQL has a limit of its own, and PyMySQL one for its socket; psycopg would wait for a frozen server.
    """
    connect = engine.dialect.connect
    if engine.dialect.driver == "psycopg":
        watch = SilenceWatch(seconds)
        connect = watched(engine.dialect.loaded_dbapi.Connection, watch).connect
        event.listen(engine, "engine_disposed", lambda _engine: watch.close())
    event.listen(engine, "do_connect", partial(_connect, connect))


def _connect(
    connect: Callable[..., Any], dialect: Any, _record: Any, arguments: Sequence[Any], options: dict[str, Any]
) -> Any:
    """Connect; what the driver says of its options by itself is told from what a server says."""
    try:
        return connect(*arguments, **options)
    except (TypeError, ValueError, AttributeError, LookupError):
        # An option that is none, or whose value is none of its type.
        pass
    except dialect.loaded_dbapi.ProgrammingError as error:
        # libpq's own, before there was a server: one would have given it a state.
        if dialect.name != "postgresql" or getattr(error, "sqlstate", None) is not None:
            raise
    raise UrlError(_NOT_TAKEN, _OPTIONS)


def _postgresql_arguments(url: URL, timeout: int) -> dict[str, Any]:
    """Arguments of libpq; what the mapping's URL says of `options` (a search_path, say) stands before ours."""
    given = url.query.get("options", "")
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": str(timeout * 1000),
        # Fixed offsets of POSIX count westwards; a name would need the server's own list of zones.
        "TimeZone": "<+08>-08",
        "DateStyle": "ISO,YMD",
    }
    ours = [f"-c {name}={value}" for name, value in settings.items()]
    return {
        "options": " ".join([*([given] if isinstance(given, str) else given), *ours]).strip(),
        "connect_timeout": timeout,
        "keepalives_idle": timeout,
        "keepalives_interval": GRACE,
        "keepalives_count": 2,
        "tcp_user_timeout": (timeout + GRACE) * 1000,
    }


def _prepare_mysql(connection: Any, timeout: int) -> None:
    """Set up a session of MySQL or MariaDB, which name the limit of a statement differently."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT version(), @@sql_mode")
        version, modes = cursor.fetchone()
        limit = f"max_statement_time = {timeout}"
        if "mariadb" not in version.lower():
            limit = f"max_execution_time = {timeout * 1000}"
        # These two would take 31 February for a day, and blanks that a column was filled up with for its value.
        kept = [mode for mode in modes.split(",") if mode not in {"ALLOW_INVALID_DATES", "PAD_CHAR_TO_FULL_LENGTH"}]
        cursor.execute(
            f"SET SESSION {limit}, lock_wait_timeout = {timeout}, time_zone = '+08:00', sql_mode = %s",
            (",".join(kept),),
        )
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


def read_password(path: Path) -> str:
    """The first line of a file that nobody else may read.

    Raises:
        FileError: It cannot be read, is empty, or is open to others.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            password = file.readline(_LONGEST_PASSWORD + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError([Finding(str(path), 0, "", getattr(error, "strerror", None) or "is not UTF-8")]) from None
    if mode & 0o077:
        raise FileError([Finding(str(path), 0, "", f"can be read by others: chmod 600 {path}")])
    if not password or len(password) > _LONGEST_PASSWORD:
        raise FileError([Finding(str(path), 1, "", "must hold the account's password on its first line")])
    return password
