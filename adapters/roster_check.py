"""A roster of the mapping held against the live database, for `zhiwang adapter check` and an adapter's start."""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Connection, Select, column, false, select, text
from sqlalchemy.exc import DBAPIError

from adapters.mapping import Roster
from adapters.messages import told
from adapters.rosters import parameters_of, statement_of
from adapters.statements import source
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identifiers import Scheme, contains_identifier

SAMPLE = 20
"""Rows that are looked at."""

Told = tuple[tuple[str | int, ...], str, str]
"""Path of a key in the mapping, what is wrong with it, and what to do."""


@dataclass(slots=True)
class Inspected:
    """What was found.

    Attributes:
        statement: As it is sent, in the driver's form.
        errors: What must be put right.
        warnings: What is doubtful.
    """

    statement: str
    errors: list[Told] = field(default_factory=list)
    warnings: list[Told] = field(default_factory=list)


def inspect_roster(
    connection: Connection, name: str, roster: Roster, schemes: Dictionary[str, Scheme], today: date
) -> Inspected:
    """Run a roster's SELECT on a sample, and look at what comes.

    Args:
        connection: To the database; it only reads.
        name: Of the roster.
        roster: As it is mapped.
        schemes: Scheme of each kind of subject.
        today: The day in China, as of which it is tried.
    """
    key = ("roster", name)
    statement = statement_of(roster)
    found = Inspected(str(statement.compile(dialect=connection.dialect)))
    scheme = schemes.get(roster.kind)
    if scheme is None:
        found.errors.append(((*key, "kind"), f"the centre knows no kind of subject {roster.kind}", "name one of its"))
        return found
    wrong = _failure(connection, _none_of(roster, None), today)
    if wrong is not None:
        found.errors.append(((*key, "select"), wrong, "run the SELECT by hand with this account"))
        return found
    columns = {"key": roster.key, "subject": roster.subject, "name": roster.name}
    for word, column_name in columns.items():
        wrong = None if column_name is None else _failure(connection, _none_of(roster, column_name), today)
        if wrong is not None:
            found.errors.append(((*key, word), wrong, "name a column as the SELECT gives it"))
    if found.errors:
        return found
    try:
        rows = connection.execute(statement.limit(SAMPLE), parameters_of(statement, today)).all()
    except DBAPIError as error:
        found.errors.append(((*key, "select"), f"cannot be read: {told(error)}", "run it by hand with this account"))
        return found
    if not rows:
        found.warnings.append((key, "is empty today", "see by hand whether there is nobody: nothing was tried"))
    elif all(_unusable(row[1], scheme, today) for row in rows):
        message = f"gives no identifier of kind {roster.kind} in {len(rows)} rows"
        found.errors.append(((*key, "subject"), message, "name the column with the identifiers"))
    elif any(row[0] is not None and contains_identifier(str(row[0]), grouped=True) for row in rows):
        message = "holds identifiers, and stands in results: such rows are left out"
        found.errors.append(((*key, "key"), message, "name a column with numbers of the department's own"))
    return found


def _none_of(roster: Roster, column_name: str | None) -> Select[Any]:
    wanted: Any = text("1") if column_name is None else column(column_name)
    return select(wanted).select_from(source(roster.as_data)).where(false())


def _failure(connection: Connection, statement: Select[Any], today: date) -> str | None:
    try:
        connection.execute(statement, parameters_of(statement, today))
    except DBAPIError as error:
        return told(error)
    return None


def _unusable(value: object, scheme: Scheme, today: date) -> bool:
    try:
        scheme.canonical("" if value is None else str(value), today=today)
    except RefusedError:
        return True
    return False
