"""The data sets of a mapping: asked in groups, never spoilt by one bad row.

Owned by worker threads; nothing here is asynchronous.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import structlog
from sqlalchemy import Select, column, false, select, text

from adapters.database import Connections, DatabaseError, Lent, Parameters, Stamp, StatementError
from adapters.dialects import DIALECTS, Row
from adapters.mapping import DataSet, Mapping
from adapters.statements import Asked, Compiled, Plan, compiled_for, source
from policy.model import Attribute
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.records import Outcome

LOADED_TTL = 2.0
"""Seconds for which the time of a data set's last load is not asked for again."""

REPERTOIRE_TTL = 60.0
"""Seconds for which the character set of a subject column is not asked for again."""

CLOCK_TOLERANCE = 86_400.0
"""A load further in the future than this many seconds is no time at all: the data set does not count as whole."""

MAX_PLANS = 512
"""Plans kept; one is a few kilobytes, and the shapes that matters ask are far fewer."""

RETRIES = 512
"""Statements, at most, by which the bad records of one group are searched for. Some twenty in a group of a thousand are
found by that; a data set with more is out of order, and what is left is said to be unavailable."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """State of a data set.

    Attributes:
        time: When it was last loaded, in seconds since the epoch; None if the mapping does not say how to know.
        whole: False if that is asked for and was not given: then nothing that it says can be relied on.
    """

    time: int | None
    whole: bool


@dataclass(slots=True)
class _Search:
    """How far a group is searched for its bad records.

    Attributes:
        left: Statements that may still be run.
        abandoned: Rows, or claims of one row, that were given up.
    """

    left: int = RETRIES
    abandoned: int = 0


class Source:
    """The data sets of one mapping.

    Args:
        connections: To the database.
        mapping: The mapping file.
        attributes: Published attributes by name.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        connections: Connections,
        mapping: Mapping,
        attributes: Dictionary[str, Attribute],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connections = connections
        self.mapping = mapping
        self.attributes = attributes
        self._clock = clock
        self._dialect = DIALECTS[connections.engine.dialect.name]()
        self._plans: dict[tuple[str, tuple[tuple[str, Predicate], ...]], Plan] = {}
        self._loaded: dict[str, tuple[float, Stamp, Loaded]] = {}
        self._repertoires: dict[str, tuple[float, str]] = {}
        self._look = {name: self._looking(data) for name, data in mapping.data.items()}
        self._last = {
            name: compiled_for(text(data.loaded), connections.engine.dialect)
            for name, data in mapping.data.items()
            if data.loaded is not None
        }

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
                self._connections.engine.dialect,
            )
            self._plans[data, asked] = plan
        return plan

    def _looking(self, data: DataSet) -> tuple[str, Parameters]:
        """A statement that reads no row, in the driver's form."""
        statement: Select[Any] = select(column(data.subject)).select_from(source(data)).where(false())
        compiled = compiled_for(statement, self._connections.engine.dialect)
        return compiled.sql, compiled.bind({"as_of": self._dialect.as_of(date(2000, 1, 1))})

    @contextmanager
    def lend(self, *, bulk: bool = False) -> Iterator[Lent]:
        """A held connection for a while; `bulk` as in `Connections.lend`.

        Raises:
            DatabaseError: There is none to be had.
        """
        with self._connections.lend(bulk=bulk) as lent:
            yield lent

    def run(self, lent: Lent, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        """Outcomes of each row, in the order of the plan's claims.

        Raises:
            DatabaseError: The database or the data set cannot be read.
        """
        longest = self._dialect.longest()
        outcomes: list[bytes] = []
        rows = self._askable(lent, plan, day, rows)
        for start in range(0, len(rows), longest):
            outcomes += self._group(lent, plan, day, rows[start : start + longest])
        return outcomes

    def _askable(self, lent: Lent, plan: Plan, day: date, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows without the spellings that the subject column cannot hold.

        Raises:
            DatabaseError: The data set cannot be read.
        """
        if plan.repertoire is None:
            return rows
        now = self._clock()
        known = self._repertoires.get(plan.repertoire.sql)
        if known is None or not 0 <= now - known[0] < REPERTOIRE_TTL:
            try:
                found = lent.fetch(plan.repertoire.sql, plan.repertoire.bind({"as_of": self._dialect.as_of(day)}))
            except StatementError as error:
                _log.warning("data set cannot be read", error=error.kind)
                raise DatabaseError from None
            known = self._repertoires[plan.repertoire.sql] = (now, found[0][0])
        askable = self._dialect.askable
        try:
            return [(askable(row[0], known[1]), *row[1:]) for row in rows]
        except LookupError:
            _log.warning("what the subject column can hold is not known", repertoire=known[1])
            raise DatabaseError from None

    def _group(self, lent: Lent, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
        try:
            return _execute(lent, plan, day, rows)
        except StatementError:
            # Asked about nobody, the statement must run: otherwise it is the data set that is broken, not a row.
            try:
                _execute(lent, plan, day, self._askable(lent, plan, day, [_nobody(plan)]))
            except StatementError as broken:
                _log.warning("data set cannot be read", error=broken.kind)
                raise DatabaseError from None
        search = _Search()
        outcomes = self._halves(lent, plan, day, rows, search)
        if search.abandoned:
            _log.error("too many records cannot be read", rows=len(rows), unanswered=search.abandoned)
        return outcomes

    def _halves(self, lent: Lent, plan: Plan, day: date, rows: Sequence[Row], search: _Search) -> list[bytes]:
        """A group that holds a bad record, cut until the record is alone with one claim; that one is UNKNOWN."""
        if len(rows) == 1:
            if len(plan.asked) == 1:
                return [bytes([Outcome.UNKNOWN])]
            keys, name, place, values = rows[0]
            parts = enumerate(plan.parts())
            alone = [self._retry(lent, part, day, [(keys, name, place, [values[i]])], search)[0] for i, part in parts]
            return [b"".join(alone)]
        middle = len(rows) // 2
        return self._retry(lent, plan, day, rows[:middle], search) + self._retry(lent, plan, day, rows[middle:], search)

    def _retry(self, lent: Lent, plan: Plan, day: date, rows: Sequence[Row], search: _Search) -> list[bytes]:
        if search.left == 0:
            search.abandoned += len(rows)
            return [bytes([Outcome.DATABASE_UNAVAILABLE]) * len(plan.asked)] * len(rows)
        search.left -= 1
        try:
            return _execute(lent, plan, day, rows)
        except StatementError:
            return self._halves(lent, plan, day, rows, search)

    def look(self) -> None:
        """Try to read each data set, without a row.

        Raises:
            DatabaseError: One cannot be read.
        """
        with self.lend() as lent:
            for name in self.mapping.data:
                sql, parameters = self._look[name]
                try:
                    lent.fetch(sql, parameters)
                except StatementError as error:
                    _log.warning("data set cannot be read", data_set=name, error=error.kind)
                    raise DatabaseError from None

    def loaded(self, lent: Lent, name: str) -> Loaded:
        """When a data set was last loaded.

        Raises:
            DatabaseError: That cannot be read.
        """
        now = self._clock()
        known = self._loaded.get(name)
        # Whoever still reads a file that was replaced must not be told the time of the one in its place.
        if known is not None and 0 <= now - known[0] < LOADED_TTL and known[1] == lent.seen:
            return known[2]
        statement = self._last.get(name)
        state = Loaded(None, whole=True) if statement is None else self._ask_loaded(lent, name, statement, now)
        self._loaded[name] = (now, lent.seen, state)
        return state

    def _ask_loaded(self, lent: Lent, name: str, statement: Compiled, now: float) -> Loaded:
        try:
            rows = lent.fetch(statement.sql, statement.bind({}))
        except StatementError as error:
            _log.warning("time of the last load cannot be read", data_set=name, error=error.kind)
            raise DatabaseError from None
        moment = _moment(rows[0][0]) if rows else None
        if moment is None or moment > now + CLOCK_TOLERANCE:
            return Loaded(None, whole=False)
        return Loaded(int(moment), whole=True)

    def close(self) -> None:
        """Close the held connections."""
        self._connections.close()


def _nobody(plan: Plan) -> Row:
    """A row that no record answers. Its key is in full width, which a column of numbers cannot be asked for."""
    return (("\uff10",), None, None, [None] * len(plan.asked))


def _execute(lent: Lent, plan: Plan, day: date, rows: Sequence[Row]) -> list[bytes]:
    sql, parameters = plan.statement(rows, day)
    outcomes = [plan.defaults] * len(rows)
    for row in lent.fetch(sql, parameters):
        outcomes[row[0]] = bytes(row[1:])
    return outcomes


def _moment(value: object) -> float | None:
    """A database's idea of a time in seconds since the epoch; None if it is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=CITY_TIME)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=CITY_TIME).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return None
