"""How the database would find the asked records: which tables it would read from end to end, and the index to make.

A planner that knows its tables rightly reads a small one whole, so what is asked is whether an index could serve:
PostgreSQL is told to think of sequential scans as dear, and MariaDB says which keys it could take.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from adapters.database import Parameters
from adapters.dialects import names_of
from adapters.mapping import DataSet
from adapters.usage import Use

LARGE = 1000
"""Rows from which on it matters that MariaDB does not take an index that it has."""

_MYSQL_VIEW = 1345
"""EXPLAIN of a view needs a right that the account does not have; see `Unexplained`."""

_DERIVED = re.compile(r"<|\Azw_")
"""Our own relations, and what a database makes out of subqueries."""


class UnexplainedError(Exception):
    """The account may read, but not see how."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A table that is read from end to end for each question.

    Attributes:
        use: What the mapping uses of it; None if it cannot be told which table it is.
        alias: What the plan calls it.
        column: Column that an index should begin with; None if only a person can tell.
        unused: Whether there is an index that the database does not take.
    """

    use: Use | None
    alias: str
    column: str | None
    unused: bool = False

    @property
    def table(self) -> str:
        """Name of the table, as well as it is known."""
        return self.alias if self.use is None else self.use.table.title


def scans(
    connection: Connection, sql: str, parameters: Parameters, data: DataSet, uses: Sequence[Use]
) -> Iterator[Scan]:
    """What one statement reads whole.

    Args:
        connection: To the database, outside a transaction.
        sql: The statement in the driver's form.
        parameters: For it.
        data: The data set that it asks.
        uses: What that data set uses.

    Raises:
        UnexplainedError: The database does not show its plan to this account.
        sqlalchemy.exc.DBAPIError: It cannot be explained.
    """
    family = connection.dialect.name
    if family == "sqlite":
        found = _sqlite(connection, sql, parameters)
    elif family == "postgresql":
        found = _postgresql(connection, sql, parameters)
    else:
        found = _mysql(connection, sql, parameters)
    for alias, condition, unused in found:
        if not _DERIVED.search(alias):
            use = next((one for one in uses if alias.casefold() in one.aliases), None)
            yield Scan(use, alias, _column(use, alias, condition, data), unused)


def index_for(scan: Scan, connection: Connection) -> str | None:
    """The statement that makes the index; None if the column is not known."""
    if scan.use is None or scan.column is None:
        return None
    preparer = names_of(connection.dialect)
    table = scan.use.table
    name = preparer.quote(f"zw_{table.name}_{scan.column}"[:60])
    place = (
        preparer.quote(table.name) if table.visible else f"{preparer.quote(table.schema)}.{preparer.quote(table.name)}"
    )
    online = " CONCURRENTLY" if connection.dialect.name == "postgresql" else ""
    return f"CREATE INDEX{online} {name} ON {place} ({preparer.quote(scan.column)})"


def _sqlite(connection: Connection, sql: str, parameters: Parameters) -> Iterator[tuple[str, str, bool]]:
    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", _given(parameters)):
        step = row[3]
        if (step.startswith("SCAN ") and "VIRTUAL TABLE" not in step and "CONSTANT ROW" not in step) or (
            "AUTOMATIC" in step
        ):
            name = step.split(" ", 1)[1].split(" USING ")[0]
            if not name.startswith(("(", "SUBQUERY")) and not re.match(r"\d+-ROW|CONSTANT", name):
                column = re.search(r"AUTOMATIC.*\((.+?)=", step)
                yield name, column[1] if column else "", False


def _postgresql(connection: Connection, sql: str, parameters: Parameters) -> Iterator[tuple[str, str, bool]]:
    connection.exec_driver_sql("BEGIN")
    try:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        row = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", _given(parameters)).scalar_one()
    finally:
        connection.exec_driver_sql("ROLLBACK")
    plans = row if isinstance(row, list) else json.loads(row)
    for node in _nodes(plans[0]["Plan"]):
        kind = node["Node Type"]
        # An index that is read without a condition is read whole, and the table behind it with it.
        whole = kind == "Seq Scan" or (kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node)
        if whole and "Relation Name" in node:
            yield node.get("Alias", node["Relation Name"]), node.get("Filter", ""), False


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _mysql(connection: Connection, sql: str, parameters: Parameters) -> Iterator[tuple[str, str, bool]]:
    try:
        rows = connection.exec_driver_sql(f"EXPLAIN {sql}", _given(parameters)).mappings().all()
    except DBAPIError as error:
        if error.orig is not None and error.orig.args[:1] == (_MYSQL_VIEW,):
            raise UnexplainedError from None
        raise
    for row in rows:
        if row["table"] is None or row["type"] not in {"ALL", "index"}:
            continue
        possible = bool(row["possible_keys"])
        if not possible or int(row["rows"] or 0) >= LARGE:
            yield row["table"], "", possible


def _given(parameters: Parameters) -> Any:
    """As SQLAlchemy takes the driver's parameters."""
    return parameters if isinstance(parameters, dict) else tuple(parameters)


def _column(use: Use | None, alias: str, condition: str, data: DataSet) -> str | None:
    """The column by which the table is looked for."""
    if use is None:
        return None
    names = [one.name for one in use.table.columns]
    if data.subject in names and (data.table is not None or not condition or data.subject in condition):
        return data.subject
    found = [name for name in names if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", condition)]
    if found:
        return found[0]
    # The condition of the join, as the mapping writes it: alias.column = … or … = alias.column.
    joined = re.search(
        rf"\b{re.escape(alias)}\.[\"`]?(\w+)[\"`]?\s*=|=\s*{re.escape(alias)}\.[\"`]?(\w+)",
        data.select or "",
        re.IGNORECASE,
    )
    written = (joined[1] or joined[2]).casefold() if joined else None
    return next((name for name in names if name.casefold() == written), None)
