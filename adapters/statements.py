"""The statements: one for each data set and list of claims, which returns row numbers and outcomes and nothing else.

A *record* is a row of a data set whose subject is asked about. Each claim gives each record a state: null (the row
filter excludes it), 1 (true), 2 (false) or 3 (cannot be told: a null, a filter that is null, a name that does not
match, a place outside the caller's). States of a subject's records are folded into one outcome:

    rows = "one"   1 or 2 if all records say so, else 3
    rows = "any"   1 if one record is true, 2 if all are false, else 3
    exists         1 if one record is true, else 3: never 2
    absent         2 if a record passes the filter, 3 if that cannot be told, else 1; places do not matter

A subject without a record is missing from the result and gets `Plan.defaults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

from sqlalchemy import (
    Date,
    FromClause,
    Select,
    TextClause,
    and_,
    bindparam,
    case,
    column,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    text,
    true,
)
from sqlalchemy.engine.interfaces import Dialect as EngineDialect
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import Grouping

from adapters.dialects import Dialect, Element, OrderedJoin, Row
from adapters.dialects.sqlite import strict_names
from adapters.mapping import DataSet, MappedAttribute
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

_YES: Element = literal_column(str(Outcome.YES.value))
_NO: Element = literal_column(str(Outcome.NO.value))
_UNKNOWN: Element = literal_column(str(Outcome.UNKNOWN.value))
Columns: TypeAlias = "ReadOnlyColumnCollection[str, Any]"


@dataclass(frozen=True, slots=True)
class Asked:
    """One claim of a statement: an attribute as it is mapped and published, and how it is asked.

    Attributes:
        attribute: Its name.
        mapped: Where it lies.
        type: Its published type.
        predicate: How it is asked.
    """

    attribute: str
    mapped: MappedAttribute
    type: str
    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Compiled:
    """Text of a statement and the order of its parameters, as the database's driver wants them."""

    sql: str
    constants: dict[str, Any]
    order: tuple[str, ...] | None

    def bind(self, parameters: dict[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        """Parameters in the driver's form."""
        if self.constants:
            parameters |= self.constants
        return parameters if self.order is None else tuple([parameters[name] for name in self.order])


def fragment(expression: str) -> Element:
    """An expression of the mapping as a column; `:as_of` in it is a parameter."""
    clause = text(f"({expression})")
    if "as_of" in clause._bindparams:  # noqa: SLF001 - SQLAlchemy has no public way to ask which binds a text has
        clause = clause.bindparams(bindparam("as_of", type_=Date))
    return Grouping(clause)


def source(data: DataSet) -> FromClause:
    """The data set as something to select from."""
    if data.table is not None:
        schema, _, name = data.table.rpartition(".")
        return table(name, schema=schema or None)
    assert data.select is not None  # noqa: S101 - the mapping was checked
    clause = text(data.select)
    if "as_of" in clause._bindparams:  # noqa: SLF001 - as above
        clause = clause.bindparams(bindparam("as_of", type_=Date))
    return clause.columns().subquery("zw_data")


def compiled_for(statement: Select[Any] | TextClause, dialect: EngineDialect) -> Compiled:
    """A statement in the form of one database's driver."""
    result = statement.compile(dialect=dialect)
    order = getattr(result, "positiontup", None)
    constants = {name: value for name, value in result.params.items() if value is not None}
    sql = strict_names(str(result)) if dialect.name == "sqlite" else str(result)
    return Compiled(sql, constants, None if order is None else tuple(order))


class Plan:
    """One data set asked for a list of claims.

    Statements are compiled at their first use, one for each size of group that the dialect tells apart. `repertoire`
    asks for the characters of the subject column; it is None where that does not matter.

    Args:
        data: The data set.
        asked: The claims, in the order of the outcomes.
        dialect: How the database says things.
        engine_dialect: SQLAlchemy's own dialect, for compiling.
    """

    def __init__(self, data: DataSet, asked: Sequence[Asked], dialect: Dialect, engine_dialect: EngineDialect) -> None:
        self.data = data
        self.asked = tuple(asked)
        self.defaults = bytes(
            Outcome.YES if one.predicate is Predicate.ABSENT else Outcome.UNKNOWN for one in self.asked
        )
        self._dialect = dialect
        self._engine_dialect = engine_dialect
        self._compiled: dict[tuple[int, int], Compiled] = {}
        self._parts: tuple[Plan, ...] | None = None
        repertoire = dialect.repertoire(source(data), data.subject)
        self.repertoire = None if repertoire is None else compiled_for(repertoire, engine_dialect)

    def parts(self) -> tuple[Plan, ...]:
        """The same data set with one claim at a time, for a record that spoils one claim but not its neighbours."""
        if self._parts is None:
            # Compiling a statement costs far more than running it.
            self._parts = tuple(Plan(self.data, (one,), self._dialect, self._engine_dialect) for one in self.asked)
        return self._parts

    def statement(self, rows: Sequence[Row], day: date) -> tuple[str, tuple[Any, ...] | dict[str, Any]]:
        """Text and parameters for a group of subjects (at least one)."""
        size = self._dialect.size(rows)
        compiled = self._compiled.get(size)
        if compiled is None:
            compiled = self._compiled.setdefault(size, self.compile(size))
        return compiled.sql, compiled.bind(self._dialect.parameters(rows, size, day))

    def compile(self, size: tuple[int, int]) -> Compiled:
        """The statement for groups of one size."""
        return compiled_for(self.select(size), self._engine_dialect)

    def select(self, size: tuple[int, int]) -> Select[Any]:
        """The statement as an expression of SQLAlchemy Core."""
        k, a = self._dialect.asked(size, len(self.asked))
        d = self._records(size)
        same = and_(self._dialect.meets(d.c.zw_subject, k.c.k), self._dialect.same(d.c.zw_subject, k.c.k))
        joined = OrderedJoin(OrderedJoin(k, d, same), a, a.c.n == k.c.n)
        values = [column for column in d.c if column.name != "zw_subject"]
        # Each of the mapping's expressions is evaluated once for each record, however often its value is looked at.
        records = self._dialect.once(select(*a.c, *values).select_from(joined), "zw_records")
        states = [self._state(i, one, records.c).label(f"s{i}") for i, one in enumerate(self.asked)]
        r = select(records.c.n, *states).subquery("zw_r")
        return select(r.c.n, *(_fold(one, r.c[f"s{i}"]) for i, one in enumerate(self.asked))).group_by(r.c.n)

    def _records(self, size: tuple[int, int]) -> FromClause:
        """The data set, cut to what the claims need. Only its own columns are in scope of the mapping's expressions."""
        data = self.data
        columns: list[Any] = [column(data.subject).label("zw_subject")]
        if data.name is not None:
            columns.append(column(data.name).label("zw_name"))
        if data.region is not None:
            columns.append(column(data.region.column).label("zw_region"))
        for i, one in enumerate(self.asked):
            if one.mapped.where is not None:
                columns.append(self._dialect.kept(fragment(one.mapped.where)).label(f"zw_w{i}"))
            if one.predicate is Predicate.VALID and one.mapped.valid is not None:
                columns.append(fragment(one.mapped.valid.from_).label(f"zw_f{i}"))
                columns.append(fragment(one.mapped.valid.to).label(f"zw_t{i}"))
            elif one.predicate not in {Predicate.EXISTS, Predicate.ABSENT} and one.mapped.value is not None:
                columns.append(fragment(one.mapped.value).label(f"zw_v{i}"))
        records = select(*columns).select_from(source(data))
        cut = self._dialect.cut(column(data.subject), size)
        if cut is not None:
            records = records.where(cut)
        return records.subquery("zw_d")

    def _state(self, i: int, one: Asked, record: Columns) -> Element:
        """What one record says, as a number (see the top of this module)."""
        gates: list[Element] = []
        if self.data.name is not None:
            gates.append(or_(record.name.is_(null()), self._dialect.listed(record.name, record.zw_name)))
        if self.data.region is not None and one.predicate is not Predicate.ABSENT:
            gates.append(self._dialect.within(record.zw_region, record.place))
        if one.mapped.where is not None:
            gates.append(self._dialect.truth(record[f"zw_w{i}"]))
        told: Element
        if one.predicate is Predicate.EXISTS:
            told = _YES
        elif one.predicate is Predicate.ABSENT:
            told = _NO
        else:
            truth = self._truth(i, one, record)
            told = case((truth, _YES), (not_(truth), _NO), else_=_UNKNOWN)
        state = case((and_(true(), *gates), told), else_=_UNKNOWN) if gates else told
        if one.mapped.where is None:
            return state
        return case((not_(self._dialect.truth(record[f"zw_w{i}"])), null()), else_=state)

    def _truth(self, i: int, one: Asked, record: Columns) -> Element:
        """What one record says: true, false or null."""
        dialect = self._dialect
        if one.predicate is Predicate.VALID:
            first, last = dialect.day(record[f"zw_f{i}"]), dialect.day(record[f"zw_t{i}"])
            day = dialect.as_day(bindparam("as_of", type_=Date))
            # Written so that a null at either end is null, even if the other end alone would decide.
            both = and_(first.is_not(null()), last.is_not(null()))
            return dialect.truth(case((both, dialect.kept(and_(first <= day, day <= last)))))
        value: Element = record[f"zw_v{i}"]
        compared: Element = record[f"v{i}"]
        if one.type == "integer":
            value, compared = dialect.integer(value), dialect.as_integer(compared)
        elif one.type == "decimal":
            value, compared = dialect.decimal(value), dialect.as_decimal(compared)
        elif one.type == "date":
            value, compared = dialect.day(value), dialect.as_day(compared)
        else:
            return dialect.listed(compared, value)
        if one.predicate is Predicate.AT_LEAST:
            return value >= compared
        if one.predicate is Predicate.AT_MOST:
            return value <= compared
        return value == compared


def _fold(one: Asked, state: Element) -> Element:
    """States of a subject's records as one outcome (see the top of this module)."""
    least, most = func.min(state), func.max(state)
    if one.predicate is Predicate.EXISTS:
        return case((least == _YES, _YES), else_=_UNKNOWN)
    if one.predicate is Predicate.ABSENT:
        return case((least == _NO, _NO), (most == _UNKNOWN, _UNKNOWN), else_=_YES)
    if one.mapped.rows == "any":
        return case((least == _YES, _YES), (most == _NO, _NO), else_=_UNKNOWN)
    return case((least == most, least), else_=_UNKNOWN)
