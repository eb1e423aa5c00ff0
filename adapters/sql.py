"""The department's database: opened for reading only, asked in groups, never spoilt by one bad row.

Owned by worker threads; nothing here is asynchronous. No message of a database is ever logged or raised, since it may
quote a value; only its class and code are.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from sqlalchemy import Connection, Engine, Select, column, create_engine, false, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from adapters.dialects import DIALECTS, Row
from adapters.mapping import Database, DataSet, Mapping, sqlite_location
from adapters.statements import Asked, Plan, source
from policy.model import Attribute
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

LOCAL_TIME = timezone(timedelta(hours=8))
"""A time without an offset is Chinese standard time."""

LOADED_TTL = 2.0
"""Seconds for which the time of a data set's last load is not asked for again."""

CLOCK_TOLERANCE = 86_400.0
"""A load further in the future than this many seconds is no time at all: the data set does not count as whole."""

MAX_PLANS = 512
"""Plans kept; one is a few kilobytes, and the shapes that matters ask are far fewer."""

_PROGRESS_STEPS = 20_000
_SQLITE_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)

_log = structlog.get_logger(__name__)


class DatabaseError(Exception):
    """The database as a whole, or a data set of it, cannot be read now.

    Attributes:
        outcome: What the claims get: DATABASE_UNAVAILABLE or TIMED_OUT.
    """

    def __init__(self, outcome: Outcome = Outcome.DATABASE_UNAVAILABLE) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Loaded:
    """State of a data set.

    Attributes:
        time: When it was last loaded, in seconds since the epoch; None if the mapping does not say how to know.
        whole: False if that is asked for and was not given: then nothing that it says can be relied on.
    """

    time: int | None
    whole: bool


def open_engine(database: Database, base: Path) -> Engine:
    """Engine over held, read-only connections. Connects at first use.

    Args:
        database: Where, and how many connections.
        base: Directory of the mapping file.
    """
    url = make_url(database.url)
    family = url.get_backend_name()
    options: dict[str, Any] = {}
    if family == "sqlite":
        path = base / sqlite_location(database.url)[0]

        def connect() -> sqlite3.Connection:
            # Whatever the URL says, the file is opened such that SQLite itself refuses to write.
            return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)

        options["creator"] = connect
        url = make_url("sqlite://")
    elif family == "postgresql":
        options["connect_args"] = {
            "options": f"-c default_transaction_read_only=on -c statement_timeout={database.timeout * 1000}"
        }
    elif family in {"mysql", "mariadb"}:
        options["connect_args"] = {
            "read_timeout": database.timeout,
            "init_command": "SET SESSION TRANSACTION READ ONLY",
        }
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=database.connections,
        max_overflow=0,
        pool_timeout=database.timeout,
        pool_pre_ping=family != "sqlite",
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        **options,
    )


class Source:
    """The data sets of one mapping.

    Args:
        engine: From `open_engine`.
        mapping: The mapping file.
        attributes: Published attributes by name.
        timeout: Seconds after which SQLite gives a statement up; other databases know it from `open_engine`.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        engine: Engine,
        mapping: Mapping,
        attributes: Dictionary[str, Attribute],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.mapping = mapping
        self.attributes = attributes
        self._clock = clock
        self._dialect = DIALECTS[engine.dialect.name]()
        self._plans: dict[tuple[str, tuple[tuple[str, Predicate], ...]], Plan] = {}
        self._loaded: dict[str, tuple[float, Loaded]] = {}
        self._sqlite = engine.dialect.name == "sqlite"

    def plan(self, data: str, asked: tuple[tuple[str, Predicate], ...]) -> Plan:
        """The plan that asks one data set for these (attribute, predicate) pairs; made once."""
        plan = self._plans.get((data, asked))
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = Plan(
                self.mapping.data[data],
                [
                    Asked(name, self.mapping.attribute[name], self.attributes[name].type, predicate)
                    for name, predicate in asked
                ],
                self._dialect,
                self.engine.dialect,
            )
            self._plans[data, asked] = plan
        return plan

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A held connection.

        Raises:
            DatabaseError: There is none to be had.
        """
        try:
            connection = self.engine.connect()
        except (SQLAlchemyError, OSError) as error:
            _log.warning("database unavailable", error=type(error).__name__)
            raise DatabaseError from None
        with connection:
            yield connection

    def run(self, connection: Connection, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        """Outcomes of each row, in the order of the plan's claims.

        Raises:
            DatabaseError: The database or the data set cannot be read.
        """
        longest = self._dialect.longest()
        outcomes: list[bytes] = []
        for start in range(0, len(rows), longest):
            outcomes += self._group(connection, plan, day, rows[start : start + longest])
        return outcomes

    def _group(self, connection: Connection, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        try:
            return self._execute(connection, plan, day, rows)
        except DBAPIError as error:
            self._raise_outage(error)
            # Asked about nobody, the statement must run: otherwise it is the data set that is broken, not a row.
            try:
                self._execute(connection, plan, day, [((), None, None, [None] * len(plan.asked))])
            except DBAPIError as broken:
                self._raise_outage(broken)
                _log.warning("data set cannot be read", error=_kind(broken))
                raise DatabaseError from None
        return self._halves(connection, plan, day, rows)

    def _halves(self, connection: Connection, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        """A group that holds a bad record, cut until the record is alone with one claim; that one is UNKNOWN."""
        if len(rows) == 1:
            if len(plan.asked) == 1:
                return [bytes([Outcome.UNKNOWN])]
            single = rows[0]
            return [
                b"".join(
                    self._retry(connection, part, day, [(*single[:3], [single[3][i]])])[0]
                    for i, part in enumerate(plan.parts())
                )
            ]
        middle = len(rows) // 2
        return self._retry(connection, plan, day, rows[:middle]) + self._retry(connection, plan, day, rows[middle:])

    def _retry(self, connection: Connection, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        try:
            return self._execute(connection, plan, day, rows)
        except DBAPIError as error:
            self._raise_outage(error)
        return self._halves(connection, plan, day, rows)

    def _execute(self, connection: Connection, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        sql, parameters = plan.statement(rows, day)
        if self._sqlite:
            self._arm(connection)
        outcomes = [plan.defaults] * len(rows)
        for n, *codes in connection.exec_driver_sql(sql, parameters):
            outcomes[n] = bytes(codes)
        return outcomes

    def _arm(self, connection: Connection) -> None:
        """Give SQLite a deadline; it asks every few thousand steps of its machine whether to go on."""
        deadline = time.monotonic() + self.mapping.database.timeout
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - the creator in open_engine makes nothing else
        driver.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)

    def _raise_outage(self, error: DBAPIError) -> None:
        """Raise if an error concerns more than one row."""
        original = error.orig
        code = getattr(original, "sqlite_errorcode", None)
        state = getattr(original, "sqlstate", None) or ""
        if (code is not None and code & 0xFF == sqlite3.SQLITE_INTERRUPT) or state == "57014":
            _log.warning("statement timed out", error=_kind(error))
            raise DatabaseError(Outcome.TIMED_OUT) from None
        if (
            error.connection_invalidated
            or (code is not None and code & 0xFF in _SQLITE_OUTAGES)
            or state[:2] in {"08", "28", "53", "57", "58", "XX"}
        ):
            _log.warning("database unavailable", error=_kind(error))
            raise DatabaseError from None

    def look(self) -> None:
        """Try to read each data set, without a row.

        Raises:
            DatabaseError: One cannot be read.
        """
        with self.connection() as connection:
            for data in self.mapping.data.values():
                statement: Select[Any] = select(column(data.subject)).select_from(source(data)).where(false())
                try:
                    connection.execute(
                        statement, {"as_of": date(2000, 1, 1)} if ":as_of" in (data.select or "") else {}
                    )
                except DBAPIError as error:
                    _log.warning("data set cannot be read", error=_kind(error))
                    raise DatabaseError from None

    def loaded(self, connection: Connection, name: str) -> Loaded:
        """When a data set was last loaded.

        Raises:
            DatabaseError: That cannot be read.
        """
        now = self._clock()
        known = self._loaded.get(name)
        if known is not None and 0 <= now - known[0] < LOADED_TTL:
            return known[1]
        data = self.mapping.data[name]
        state = Loaded(None, whole=True) if data.loaded is None else self._ask_loaded(connection, data, now)
        self._loaded[name] = (now, state)
        return state

    def _ask_loaded(self, connection: Connection, data: DataSet, now: float) -> Loaded:
        try:
            value = connection.execute(text(data.loaded or "")).scalar()
        except DBAPIError as error:
            self._raise_outage(error)
            _log.warning("time of the last load cannot be read", error=_kind(error))
            raise DatabaseError from None
        moment = _moment(value)
        if moment is None or moment > now + CLOCK_TOLERANCE:
            return Loaded(None, whole=False)
        return Loaded(int(moment), whole=True)


def _kind(error: DBAPIError) -> str:
    """Class and code of a driver's error. Its text may quote a value and is never used."""
    original = error.orig
    code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None) or ""
    return f"{type(original).__name__} {code}".strip()


def _moment(value: object) -> float | None:
    """A database's idea of a time in seconds since the epoch; None if it is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=LOCAL_TIME)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=LOCAL_TIME).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return None
