"""`zhiwang adapter check --quality`: how good the data is, for the owner alone. Counts, and never a value.

What a database can count is counted there, set by set; identifiers and names are streamed through and looked at one by
one, so that memory does not grow with the table. A record that is counted under "not found" exists and still never
answers: its identifier or name is stored in a form that is not among the accepted spellings.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Text, cast, column, distinct, func, select
from sqlalchemy.exc import SQLAlchemyError

from adapters.database import DatabaseError, connect_to
from adapters.dialects import Element
from adapters.extracts import taken_up
from adapters.mapping import DataSet, Mapping, load_mapping
from adapters.messages import told
from adapters.sql import Source
from adapters.statements import source
from policy.model import Attribute, Document
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.names import canonical_name, name_spellings
from zhiwang.wire.places import COMMON_DIGITS

SECONDS = 3600
"""How long one statement may take here: it reads a table from end to end, beside whatever else the database does."""

CONNECTIONS = 2
"""One that streams, and one for the times of the last loads."""

CHUNK = 5000
"""Rows that are held at once."""

COUNTS: Dictionary[str, tuple[str, str]] = {
    "subject_missing": ("无标识", "no identifier"),
    "subject_duplicate": ("标识重复的行", "rows beyond the first of their identifier"),
    "subject_15_digits": ("15 位身份证号", "identifiers of 15 digits"),
    "subject_bad_check": ("校验位错误", "identifiers with a wrong check character"),
    "subject_invalid": ("不是标识", "not an identifier at all"),
    "subject_full_width": ("标识含全角字符", "identifiers with full-width characters"),
    "subject_lower_case": ("标识含小写字母", "identifiers with small letters"),
    "subject_not_found": ("标识写法无法查到", "identifiers written such that they are not found"),
    "name_missing": ("无姓名", "no name"),
    "name_not_canonical": ("姓名不规范", "names that are not in canonical form"),
    "name_not_found": ("姓名写法无法匹配", "names written such that they never match"),
    "region_missing": ("无区划", "no administrative code"),
    "region_malformed": ("区划格式错误", "administrative codes of no known length"),
    "region_unknown": ("未知区划", "administrative codes that are not in the list"),
    "stale": ("数据过期的行", "rows older than the published max_age admits"),
}
"""What is counted, in Chinese and in English."""

_FULL_WIDTH = re.compile("[\uff01-\uff5e\u3000]")
_DIVISION = re.compile(r"(?:[0-9]{4}|[0-9]{6}|[0-9]{9}|[0-9]{12})")
_WRONG_CHECK = "the check character"
_FIFTEEN = 15


@dataclass(slots=True)
class DataQuality:
    """What was counted in one data set.

    Attributes:
        data: Its name.
        rows: How many there are.
        counts: By the words of `COUNTS`; what does not apply is left out.
        loaded_days: Days since the last load; None if that is not known.
        stale: Attributes whose published `max_age` is exceeded.
    """

    data: str
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    loaded_days: float | None = None
    stale: tuple[str, ...] = ()

    def add(self, word: str, count: int = 1) -> None:
        """Count something."""
        self.counts[word] = self.counts.get(word, 0) + count


def read_divisions(path: Path) -> frozenset[str]:
    """The codes of a list of administrative divisions: a CSV file with a column `code`.

    Raises:
        ValueError: It cannot be read, or has no such column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if "code" not in (rows.fieldnames or ()):
                raise ValueError(f"{path}: its first line must name a column `code`")
            return frozenset(row["code"].strip() for row in rows if row["code"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or 'is no CSV in UTF-8'}") from None


def measure(
    mapping_path: Path,
    document: Document,
    schemes: Dictionary[str, Scheme],
    *,
    clock: Callable[[], float],
    divisions: frozenset[str] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[DataQuality]:
    """Count through every data set.

    Args:
        mapping_path: The mapping, which has been checked.
        document: The department's document.
        schemes: Scheme of each kind of subject.
        clock: Seconds since the epoch.
        divisions: Codes of the statistical bureau's system; without them, unknown ones are not counted.
        progress: Told how many rows of a data set are done, and of how many.

    Raises:
        FatalError: INTERNAL: the database cannot be read.
        FileError: The mapping cannot be read, or does not fit.
    """
    with taken_up(load_mapping(mapping_path, document), mapping_path, None) as (mapping, _):
        patient = mapping.database.model_copy(update={"timeout": SECONDS, "connections": CONNECTIONS})
        connections = connect_to(patient, mapping_path.parent)
        measurement = _Measurement(mapping, document.attributes, schemes, clock, divisions, progress)
        try:
            states = Source(connections, mapping, document.attributes, clock=clock)
            with connections.engine.connect() as connection, states.lend() as lent:
                if connection.dialect.name != "sqlite":
                    # A cursor of the server's lives within a transaction, and this one sees one state of every table.
                    connection.execution_options(isolation_level="REPEATABLE READ")
                return [measurement.of(connection, name, states.loaded(lent, name).time) for name in mapping.data]
        except (SQLAlchemyError, DatabaseError) as error:
            raise FatalError(Reason.INTERNAL, f"the data cannot be counted: {told(error)}") from None
        finally:
            connections.close()


class _Measurement:
    """One run."""

    def __init__(
        self,
        mapping: Mapping,
        attributes: Dictionary[str, Attribute],
        schemes: Dictionary[str, Scheme],
        clock: Callable[[], float],
        divisions: frozenset[str] | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._mapping = mapping
        self._attributes = attributes
        self._schemes = schemes
        self._now = clock()
        self._today = datetime.fromtimestamp(self._now, CITY_TIME).date()
        self._divisions = divisions
        self._progress = progress

    def of(self, connection: Connection, name: str, loaded: int | None) -> DataQuality:
        """One data set."""
        data = self._mapping.data[name]
        found = DataQuality(name)
        self._count(connection, data, found)
        if data.region is not None:
            self._regions(connection, data, found)
        published = [
            one
            for one in self._attributes
            if one in self._mapping.attribute and self._mapping.attribute[one].data == name
        ]
        if loaded is not None:
            self._age(found, published, loaded)
        scheme = self._schemes.get(self._attributes[published[0]].subject) if published else None
        self._stream(connection, data, scheme, found)
        return found

    def _count(self, connection: Connection, data: DataSet, found: DataQuality) -> None:
        """What the database counts by itself."""
        subject: Element = column(data.subject)
        counts: list[Any] = [func.count(), func.count(subject), func.count(distinct(subject))]
        statement = select(*counts).select_from(source(data))
        rows, given, different = self._run(connection, statement).one()
        found.rows = rows
        found.add("subject_missing", rows - given)
        found.add("subject_duplicate", given - different)

    def _regions(self, connection: Connection, data: DataSet, found: DataQuality) -> None:
        assert data.region is not None  # noqa: S101 - the caller looked
        region: Element = column(data.region.column)
        wanted: list[Any] = [region, func.count()]
        statement = select(*wanted).select_from(source(data)).group_by(region)
        for word in ("region_missing", "region_malformed"):
            found.add(word, 0)
        if self._divisions is not None:
            found.add("region_unknown", 0)
        # A column that was taken for one of codes by mistake may have as many values as rows.
        with self._run(connection, _streaming(statement)) as rows:
            for code, count in rows:
                text = _text(code)
                if not text:
                    found.add("region_missing", count)
                elif not _DIVISION.fullmatch(text):
                    found.add("region_malformed", count)
                elif (
                    self._divisions is not None
                    and (data.region.codes == "nbs" or len(text) <= COMMON_DIGITS)
                    and text not in self._divisions
                ):
                    found.add("region_unknown", count)

    def _age(self, found: DataQuality, published: Sequence[str], loaded: int) -> None:
        age = self._now - loaded
        found.loaded_days = round(age / 86_400, 2)
        limits = [(one, self._attributes[one].max_age) for one in published]
        found.stale = tuple(one for one, limit in limits if limit is not None and age > limit)
        found.add("stale", found.rows if found.stale else 0)

    def _stream(self, connection: Connection, data: DataSet, scheme: Scheme | None, found: DataQuality) -> None:
        """Identifiers and names, one by one."""
        for subject, name in self._values(connection, data, found):
            if scheme is not None and subject is not None:
                _look_at_subject(subject, scheme, self._today, found)
            if data.name is not None:
                _look_at_name(name, found)

    def _values(
        self, connection: Connection, data: DataSet, found: DataQuality
    ) -> Iterator[tuple[str | None, str | None]]:
        words = [word for word in COUNTS if word.startswith(("subject", "name") if data.name else "subject")]
        for word in words:
            found.add(word, 0)
        columns: list[Any] = [column(data.subject), *([column(data.name)] if data.name else [])]
        if connection.dialect.name == "postgresql":
            # As the adapter compares them: without the blanks that a CHAR is filled up with.
            columns = [cast(one, Text) for one in columns]
        statement = select(*columns).select_from(source(data))
        with self._run(connection, _streaming(statement)) as rows:
            for done, row in enumerate(rows):
                if done % CHUNK == 0:
                    self._progress(done, found.rows)
                yield _text(row[0]), _text(row[1]) if data.name else None
        self._progress(found.rows, found.rows)

    def _run(self, connection: Connection, statement: Any) -> Any:
        """Rows of a statement, with `:as_of` if it has it."""
        dated = "as_of" in statement.compile(dialect=connection.dialect).params
        return connection.execute(statement, {"as_of": self._today} if dated else {})


def _streaming(statement: Select[Any]) -> Select[Any]:
    """The statement, such that its result is not held whole."""
    return statement.execution_options(stream_results=True, yield_per=CHUNK)


def _look_at_subject(raw: str, scheme: Scheme, today: date, found: DataQuality) -> None:
    if not raw.strip():
        found.add("subject_missing")
        return
    if _FULL_WIDTH.search(raw):
        found.add("subject_full_width")
    try:
        canonical = scheme.canonical(raw, today=today)
    except RefusedError as error:
        wrong = (error.detail or "").startswith(_WRONG_CHECK)
        found.add("subject_bad_check" if wrong else "subject_invalid")
        return
    if raw == canonical:
        return
    if raw.upper() != raw:
        found.add("subject_lower_case")
    if scheme.name == "resident" and len(raw.strip()) == _FIFTEEN:
        found.add("subject_15_digits")
    if raw not in scheme.spellings(canonical):
        found.add("subject_not_found")


def _look_at_name(raw: str | None, found: DataQuality) -> None:
    if raw is None or not raw.strip():
        found.add("name_missing")
        return
    try:
        canonical = canonical_name(raw)
    except RefusedError:
        found.add("name_not_canonical")
        found.add("name_not_found")
        return
    if raw != canonical:
        found.add("name_not_canonical")
        if raw not in name_spellings(canonical):
            found.add("name_not_found")


def _text(value: object) -> str | None:
    """A value as the adapter compares it."""
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
