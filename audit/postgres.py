"""PostgreSQL as this project's logs use it: sessions that are durable, bounded, and say who they are.

Who is trusted with what: the hub's account may read the log and append to it through one function; an administrator of
the database can destroy it, but not rewrite it unnoticed (`audit.postgres_schema`). Settings that a log depends on are
set by each session itself and looked up afterwards, since a pooler between may drop them and a server may forbid them.

No message of the server or the driver is passed on: the log says class and SQLSTATE of an error, never its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from audit.trouble import ERRORS, trouble
from certs.identity import read_private
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.silence import SilenceWatch, watched

SCHEMA: Final = "zhiwang"
"""Schema in which a log's tables and functions stand. Only their owner may make anything in it."""
OLDEST: Final = 15
"""Oldest release of PostgreSQL that is used."""
LOCK_SECONDS: Final = 10
"""How long a transaction waits for another process's before it fails."""
STATEMENT_SECONDS: Final = 30
"""How long a statement may take."""
IDLE_SECONDS: Final = 3
"""After how long the server ends a transaction whose process says nothing more, so that others get their turn: well
before they give up waiting for it. Between two statements lies nothing but hashing and a signature."""
SILENCE_SECONDS: Final = 45
"""How long a server may say nothing to a statement or a commit before it is taken for lost."""
CONNECTIONS: Final = 8
"""Connections of one process, at most."""

_LOOK_UP: Final = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY(%s)"
_SESSION: Final = "SELECT name, pg_catalog.current_setting(name) FROM unnest(%s::text[]) AS name"
_NO_URL: Final = "must name a database of PostgreSQL: postgresql+psycopg://ACCOUNT@HOST/DATABASE"
_WARNINGS: Final = "zhiwang_warnings"

_WATCH: Final = SilenceWatch(SILENCE_SECONDS)
"""Over everything that logs of this process ask of their servers; one thread."""

_log = structlog.get_logger(__name__)


def checked_url(text: str) -> URL:
    """The URL of a log's database.

    Raises:
        ValueError: It is none, or holds a password. The message quotes nothing of it.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(_NO_URL) from None
    if url.drivername not in {"postgresql", "postgresql+psycopg"} or not url.database or not url.username:
        raise ValueError(_NO_URL)
    if url.password is not None or "password" in url.query or "@" in (url.host or ""):
        raise ValueError("holds a password; write it into a file that only this process can read, and name that file")
    if "passfile" in url.query or "service" in url.query or "options" in url.query:
        raise ValueError("has an option (passfile, service, options) that decides what a session is; leave it out")
    return url.set(drivername="postgresql+psycopg")


def open_postgres(url: str, password_file: Path | None = None) -> Engine:
    """An engine over a PostgreSQL database. It connects once, to see that it can be used.

    Args:
        url: SQLAlchemy URL without a password, e.g. "postgresql+psycopg://zhiwang_hub@db.city/log?sslmode=verify-full".
        password_file: File whose first line is the account's password; 0600.

    Raises:
        FatalError: LOG_UNAVAILABLE: it cannot be reached, or is no PostgreSQL that can keep a log.
    """
    try:
        parsed = checked_url(url)
    except ValueError as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the URL of the log's database {error}") from None
    if password_file is not None:
        parsed = parsed.set(password=_password(password_file))
    try:
        engine = create_engine(
            parsed,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=LOCK_SECONDS,
            hide_parameters=True,
            connect_args=_arguments(),
        )
    except (ImportError, NoSuchModuleError):
        raise FatalError(
            Reason.LOG_UNAVAILABLE, "the driver of PostgreSQL is not installed: pip install 'zhiwang[postgresql]'"
        ) from None
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _prepare)
    try:
        with engine.connect() as connection:
            _look_at(connection)
    except BaseException as error:
        engine.dispose()
        if not isinstance(error, ERRORS):
            raise
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"the log's database, {parsed.database} at {parsed.host or 'this machine'}, cannot be reached as "
            f"{parsed.username}: {trouble(error)}",
        ) from None
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine, for transactions that only read, each in one snapshot."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is durable once it has ended well, at the standbys too that the server waits for.

    The server takes back its promise by a warning only: a COMMIT whose wait for a standby was cancelled by a hand
    succeeds. Here it fails. A server that says nothing for long is cut off.

    Raises:
        FatalError: LOG_UNAVAILABLE: the server warned about the commit; whether it is durable is not known.
    """
    with engine.connect() as connection:
        warnings: list[str] = connection.info[_WARNINGS]
        with connection.begin() as transaction:
            yield connection
            warnings.clear()
            transaction.commit()
        if warnings:
            connection.invalidate()
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the log's database did not confirm a commit (warning {warnings[0]}); a standby may lack it: look at "
                "its database server and its standbys, then try again",
            )


def _settings() -> dict[str, str]:
    """What each session is set to, as the server tells it."""
    return {
        "synchronous_commit": "on",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        # Nobody's temporary table stands before the log's.
        "search_path": f"{SCHEMA}, pg_temp",
    }


def _arguments() -> dict[str, Any]:
    return {
        # libpq splits at blanks that no backslash precedes.
        "options": " ".join(
            f"-c {name}={value}".replace(" ", "\\ ").replace("-c\\ ", "-c ") for name, value in _settings().items()
        ),
        "application_name": "zhiwang log",
        "connect_timeout": LOCK_SECONDS,
        "keepalives_idle": LOCK_SECONDS,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": STATEMENT_SECONDS * 1000,
    }


def _connect(dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
    try:
        return watched(dialect.loaded_dbapi.Connection, _WATCH).connect(*arguments, **options)
    except (TypeError, ValueError, AttributeError, LookupError):
        # An option of the URL that is none, or whose value is none of its type; its text may quote the password.
        pass
    except dialect.loaded_dbapi.ProgrammingError as error:
        if getattr(error, "sqlstate", None) is not None:
            raise
    raise FatalError(Reason.LOG_UNAVAILABLE, "the URL of the log's database has an option that libpq does not take")


def _prepare(connection: Any, record: Any) -> None:
    """See that a new session has what the log depends on, and hear its warnings."""
    warnings: list[str] = []
    record.info[_WARNINGS] = warnings

    def heard(diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            warnings.append(diagnostic.sqlstate or "")

    connection.add_notice_handler(heard)
    try:
        _check_settings(connection)
    except BaseException:
        # The pool does not know it yet, so nobody else would close it.
        with suppress(Exception):
            connection.close()
        raise


def _check_settings(connection: Any) -> None:
    wanted = _settings()
    with connection.cursor() as cursor:
        cursor.execute(_SESSION, (list(wanted),))
        wrong = sorted(name for name, value in cursor.fetchall() if value != wanted[name])
    connection.rollback()
    if wrong:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"sessions of the log's database are not set as asked for: {', '.join(wrong)}. Is there a pooler between, "
            "which drops settings or hands a session to several clients? Connect to the server itself",
        )


def _look_at(connection: Connection) -> None:
    """What the server is; it may be an old one, a standby, or one that is set up to forget.

    Raises:
        FatalError: LOG_UNAVAILABLE: no log can be kept there.
    """
    version = connection.exec_driver_sql("SELECT pg_catalog.current_setting('server_version_num')::int").scalar_one()
    if version < OLDEST * 10_000:
        raise FatalError(
            Reason.LOG_UNAVAILABLE, f"the log's database is PostgreSQL {version // 10_000}; it takes {OLDEST} or newer"
        )
    for name in careless(connection):
        _log.warning("the log's database forgets after a crash of its machine: a setting is off", setting=name)


def careless(connection: Connection) -> list[str]:
    """Settings of the server by which a crash of its machine loses or damages what was committed."""
    rows = connection.exec_driver_sql(_LOOK_UP, (["fsync", "full_page_writes"],))
    return sorted(name for name, value in rows if value == "off")


def is_encrypted(connection: Connection) -> bool:
    """Whether nobody on the way can read what goes over this connection: by TLS, or because it leaves no machine."""
    sql = "SELECT s.ssl OR a.client_addr IS NULL OR a.client_addr <<= '127.0.0.0/8' OR a.client_addr = '::1' "
    sql += "FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.pid = pg_backend_pid()"
    return bool(connection.exec_driver_sql(sql).scalar_one())


def _password(path: Path) -> str:
    try:
        line = read_private(path).decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        line = ""
    except OSError as error:
        detail = str(error) if isinstance(error, PermissionError) and error.errno is None else error.strerror
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the password file {path.name} cannot be used: {detail}") from None
    if not line:
        raise FatalError(
            Reason.LOG_UNAVAILABLE, f"the password file {path.name} must hold the account's password on its first line"
        )
    return line
