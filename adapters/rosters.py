"""Drawing a roster: the rows of a SELECT of the mapping into a private file, in bounded memory.

The file has three columns, by which `zhiwang sweep` knows it without being told: `key`, `identifier` in canonical form,
and `name` as it is stored. A row that nobody can be asked or invited by is left out, counted, and named by its key in
a file beside it. Recording the draw is `roster_cli.py`'s.
"""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, TextIO

from sqlalchemy import Connection, Select, Text, cast, column, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.visitors import iterate

from adapters.database import connect_to
from adapters.extracts import taken_up
from adapters.mapping import Mapping, Roster, load_mapping
from adapters.messages import told
from adapters.quality import CHUNK, SECONDS
from adapters.statements import source
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identifiers import Scheme, contains_identifier
from zhiwang.wire.lists import HEADINGS

REASONS: Final = {
    "KEY_MISSING": "没有编号 no key",
    "KEY_INVALID": "编号含证件号或不可见字符 the key holds an identifier, or what cannot be printed",
    "KEY_TWICE": "编号重复 the key of another row",
    "IDENTIFIER_MISSING": "没有证件号 no identifier",
    "IDENTIFIER_INVALID": "证件号有误 the identifier is none",
    "SUBJECT_TWICE": "同一人的另一行 another row of the same person",
    "NAME_INVALID": "姓名含不可见字符 the name holds what cannot be printed",
}
"""Why a row is left out."""


@dataclass(slots=True)
class Drawn:
    """What came of drawing a roster.

    Attributes:
        rows: How many people the file has.
        left_out: How many rows were left out, by reason.
    """

    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def statement_of(roster: Roster) -> Select[Any]:
    """The SELECT that is run: the mapping's, its columns in our order, its rows in that of their keys."""
    columns: list[Any] = [column(roster.key), column(roster.subject)]
    if roster.name is not None:
        columns.append(column(roster.name))
    return select(*columns).select_from(source(roster.as_data)).order_by(column(roster.key))


def parameters_of(statement: Select[Any], as_of: date) -> dict[str, Any]:
    """`:as_of`, if the statement has it."""
    dated = any(isinstance(part, BindParameter) and part.key == "as_of" for part in iterate(statement))
    return {"as_of": as_of} if dated else {}


def find_roster(mapping_path: Path, name: str) -> Roster:
    """The roster of a mapping.

    Raises:
        FileError: The mapping cannot be read, or does not fit.
        RefusedError: NAME_UNKNOWN.
    """
    return _roster(load_mapping(mapping_path), name)


def draw(
    mapping_path: Path,
    name: str,
    as_of: date,
    scheme: Scheme,
    today: date,
    to: TextIO,
    left_out: Callable[[str, str], None],
    progress: Callable[[int], None] = lambda _rows: None,
) -> Drawn:
    """Write a roster's rows as they come from the database.

    Args:
        mapping_path: The mapping, which has been checked.
        name: Of the roster.
        as_of: The reference date.
        scheme: Of the kind of subject.
        today: The day in China; no identifier is of somebody who is born later.
        to: Where; new and private, in UTF-8 without any translation of line ends.
        left_out: Told the key, and the reason, of each row that is left out.
        progress: Told how many rows were read.

    Raises:
        FatalError: INTERNAL: the database cannot be read. Nothing that it says of values is in the message.
        FileError: The mapping cannot be read, or does not fit.
        RefusedError: NAME_UNKNOWN.
        OSError: It cannot be written.
    """
    with taken_up(load_mapping(mapping_path), mapping_path, None) as (mapping, _):
        roster = _roster(mapping, name)
        patient = mapping.database.model_copy(update={"timeout": SECONDS, "connections": 1})
        with closing(connect_to(patient, mapping_path.parent)) as connections, closing(_Seen()) as seen:
            drawn, writer = Drawn(), csv.writer(to)
            try:
                with connections.engine.connect() as connection:
                    writer.writerow(HEADINGS)
                    for number, (key, identifier, called) in enumerate(_rows(connection, roster, as_of), 1):
                        if number % CHUNK == 0:
                            progress(number)
                        found = _judge(key, identifier, called, scheme, today, seen)
                        if isinstance(found, str):
                            writer.writerow((key, found, called.strip()))
                            drawn.rows += 1
                        else:
                            drawn.left_out[found.reason] += 1
                            left_out(key, found.reason)
            except SQLAlchemyError as error:
                raise FatalError(Reason.INTERNAL, f"the roster cannot be drawn: {told(error)}") from None
            return drawn


@dataclass(frozen=True, slots=True)
class _LeftOut:
    reason: str


class _Seen:
    """Which keys and people came already, on disk where they are many; nobody else can open it."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE seen (what BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def knows(self, word: str, text: str) -> bool:
        """Whether it came before; from now on it has."""
        what = hashlib.sha256(f"{word}\0{text}".encode()).digest()[:16]
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (what,)).rowcount == 0

    def close(self) -> None:
        """It is gone."""
        self._database.close()


def _roster(mapping: Mapping, name: str) -> Roster:
    roster = mapping.roster.get(name)
    if roster is None:
        known = ", ".join(sorted(mapping.roster)) or "none"
        raise RefusedError(Reason.NAME_UNKNOWN, f"the mapping has no [roster.{name}]; it has: {known}")
    return roster


def _rows(connection: Connection, roster: Roster, as_of: date) -> Iterator[tuple[str, str, str]]:
    if connection.dialect.name != "sqlite":
        # A cursor of the server's lives within a transaction, and this one sees one state of every table.
        connection.execution_options(isolation_level="REPEATABLE READ")
    statement: Select[Any] = statement_of(roster)
    if connection.dialect.name == "postgresql":
        # As the adapter compares them: without the blanks that a CHAR is filled up with.
        texts: list[Any] = [cast(one, Text) for one in statement.selected_columns]
        statement = statement.with_only_columns(*texts)
    streaming = statement.execution_options(stream_results=True, yield_per=CHUNK)
    with connection.execute(streaming, parameters_of(statement, as_of)) as rows:
        for row in rows:
            key, identifier, *name = (_text(value) for value in row)
            yield key, identifier, name[0] if name else ""


def _judge(key: str, identifier: str, name: str, scheme: Scheme, today: date, seen: _Seen) -> str | _LeftOut:  # noqa: PLR0911 - one for each reason
    """The canonical identifier, or why the row is left out."""
    if not key.strip():
        return _LeftOut("KEY_MISSING")
    if not key.isprintable() or contains_identifier(key, grouped=True):
        return _LeftOut("KEY_INVALID")
    if not identifier.strip():
        return _LeftOut("IDENTIFIER_MISSING")
    if not name.isprintable():
        return _LeftOut("NAME_INVALID")
    try:
        canonical = scheme.canonical(identifier, today=today)
    except RefusedError:
        return _LeftOut("IDENTIFIER_INVALID")
    if seen.knows("key", key):
        return _LeftOut("KEY_TWICE")
    if seen.knows("subject", canonical):
        return _LeftOut("SUBJECT_TWICE")
    return canonical


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
