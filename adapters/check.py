"""`zhiwang adapter check`: a mapping held against document and live database, before anybody relies on it.

What is wrong is a finding, by file, key and line and with what to do, all at once; what is slow or doubtful is a
warning. The same inspection runs when an adapter starts. It prints no value of a record: databases' own messages are
passed on only where they speak of names of tables and columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dictionary
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, column, false, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.visitors import iterate

from adapters.collations import Compared, compare_texts
from adapters.database import Connections, DatabaseError, Lent, connect_to
from adapters.dialects import SMALL, Row, spell_list
from adapters.extracts import Extracts, taken_up
from adapters.leakage import Bound, bounds
from adapters.mapping import DataSet, Mapping, load_mapping
from adapters.messages import told
from adapters.plans import UnexplainedError, index_for, scans
from adapters.probes import ProbeResult, Probes
from adapters.readonly import writable
from adapters.roster_check import inspect_roster
from adapters.sessions import UrlError
from adapters.sql import Source
from adapters.statements import fragment, source
from adapters.usage import Use, read_tables, together, used
from policy.document import ORDERED, parse_document
from policy.model import Attribute, Document
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.records import Outcome
from zhiwang.wire.tomlfile import FileError, Finding, as_findings

SAMPLE = 20
"""Subjects of each data set that every statement is tried on; more than any dialect binds singly."""

CONNECTIONS = 2
"""Held at once, whatever the mapping allows an adapter."""


class Note(NamedTuple):
    """Something to tell, by the path of its key in the mapping."""

    key: tuple[str | int, ...]
    message: str
    todo: str


@dataclass(slots=True)
class Report:
    """What an inspection found.

    Attributes:
        findings: What must be put right: the adapter does not start with any.
        warnings: What is slow or doubtful.
        probes: Results of the probes.
        bounds: What can be learnt through each attribute.
        collations: What each compared column takes for equal although it is not.
        statements: Every statement that the adapter can send, for one subject, in the driver's form; by attribute and
            predicate, or data set and word.
        uses: What the mapping uses of the database.
    """

    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    probes: list[ProbeResult] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    collations: list[Compared] = field(default_factory=list)
    statements: dict[str, str] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)


def inspect(
    mapping_path: Path,
    document: Document | Path,
    schemes: Dictionary[str, Scheme],
    *,
    clock: Callable[[], float] = time.time,
    extracts: Extracts | None = None,
    writes: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> tuple[Mapping, Report]:
    """Hold a mapping against a document and the live database.

    Args:
        mapping_path: The mapping.
        document: The department's document.
        schemes: Scheme of each kind of subject.
        clock: Seconds since the epoch.
        extracts: Takes up the files of a mapping over files, for good; without it they are loaded for this inspection.
        writes: Try whether the account can write: it changes nothing, but a database may record each attempt.
        progress: Told how many attributes are done, and of how many.

    Returns:
        The mapping, over a database in any case; and what was found.

    Raises:
        FileError: The mapping or the document cannot be read, or they do not fit; with every finding.
    """
    published = parse_document(document) if isinstance(document, Path) else document
    with taken_up(load_mapping(mapping_path, published), mapping_path, extracts) as (mapping, doubts):
        enough = {"connections": max(CONNECTIONS, mapping.database.connections)}
        try:
            with closing(connect_to(mapping.database.model_copy(update=enough), mapping_path.parent)) as connections:
                inspection = _Inspection(mapping, published, connections, schemes, clock)
                inspection.run(progress, writes=writes)
        except UrlError as error:
            raise FileError(as_findings(mapping_path, [Note(("database", "url"), error.what, error.todo)])) from None
    report = inspection.report
    report.findings += as_findings(mapping_path, inspection.errors)
    report.warnings += [*doubts, *as_findings(mapping_path, inspection.warnings)]
    report.bounds = bounds(mapping, published)
    return mapping, report


class _Inspection:
    """One run over a live database."""

    def __init__(
        self,
        mapping: Mapping,
        document: Document,
        connections: Connections,
        schemes: Dictionary[str, Scheme],
        clock: Callable[[], float],
    ) -> None:
        self.report = Report()
        self.errors: list[Note] = []
        self.warnings: list[Note] = []
        self._mapping = mapping
        self._attributes: Dictionary[str, Attribute] = document.attributes
        self._engine = connections.engine
        self._schemes = schemes
        self._clock = clock
        self._source = Source(connections, mapping, document.attributes, clock=clock)
        self._today = datetime.fromtimestamp(clock(), CITY_TIME).date()
        self._uses: Dictionary[str, list[Use]] = {}
        # Data sets that can be read at all, with sampled subjects; only these are asked further.
        self._readable: dict[str, list[str]] = {}
        # What was told of plans already, and whether it was told that plans cannot be seen.
        self._scanned: set[tuple[str, str]] = set()
        self._unexplained = False

    def run(self, progress: Callable[[int, int], None], *, writes: bool) -> None:
        """Everything, in an order such that what is broken is told once."""
        try:
            with self._engine.connect() as connection:
                self._uses = used(self._mapping, read_tables(connection, self._mapping), connection.dialect.name)
            self.report.uses = together(self._uses.values())
            changeable = writable(self._engine, self.report.uses) if writes else []
            with self._engine.connect() as connection, self._source.lend() as lent:
                for name in self._mapping.data:
                    self._inspect_data(connection, lent, name)
                for done, name in enumerate(self._mapping.attribute, 1):
                    self._inspect_attribute(connection, lent, name)
                    progress(done, len(self._mapping.attribute))
                for name in self._mapping.roster:
                    self._inspect_roster(connection, name)
                self._compare_texts(connection)
        except (SQLAlchemyError, OSError, DatabaseError) as error:
            todo = "see that the server runs, and that address, database, account and password are right"
            self.errors.append(Note(("database", "url"), f"cannot be read: {told(error)}", todo))
            return
        for what in changeable:
            message = f"the account may {what}" if what.unclear is None else f"it cannot be told whether it may {what}"
            todo = "give the adapter an account that only reads: --sql prints how to make it"
            self.errors.append(Note(("database", "url"), message, todo))
        self._run_probes()

    # Data sets.

    def _inspect_data(self, connection: Connection, lent: Lent, name: str) -> None:
        data = self._mapping.data[name]
        key = ("data", name)
        word = "table" if data.table is not None else "select"
        region = None if data.region is None else data.region.column
        named = [("subject", data.subject), ("name", data.name), ("region", region)]
        columns = {what: column_name for what, column_name in named if column_name is not None}
        if data.loaded is not None:
            self.report.statements[f"{name}: loaded"] = data.loaded.strip()
            self._inspect_loaded(lent, name)
        if self._refusal(connection, data, list(columns.values())) is not None:
            self._blame(connection, name, word, columns)
            return
        sample: Select[Any] = (
            select(column(data.subject))
            .select_from(source(data))
            .where(column(data.subject).is_not(None))
            .limit(SAMPLE)
        )
        try:
            subjects = [str(value) for value in connection.execute(sample, self._parameters(sample)).scalars()]
        except DBAPIError as error:
            todo = f"run the {word} by hand with this account"
            self.errors.append(Note((*key, word), f"cannot be read: {told(error)}", todo))
            return
        self._readable[name] = subjects
        if not subjects:
            self.warnings.append(Note(key, "is empty", "load it, or check again when it is loaded: nothing was tried"))

    def _inspect_loaded(self, lent: Lent, name: str) -> None:
        key = ("data", name, "loaded")
        try:
            whole = self._source.loaded(lent, name).whole
        except DatabaseError:
            todo = "run it by hand with this account; it must be one SELECT of one time"
            self.errors.append(Note(key, "cannot be run", todo))
            return
        if not whole:
            todo = "have the load write its time; until then every answer is UNKNOWN"
            self.warnings.append(Note(key, "gives no time", todo))

    def _refusal(self, connection: Connection, data: DataSet, columns: Sequence[str]) -> str | None:
        """Why columns of a data set cannot be read."""
        wanted: list[Any] = [column(one) for one in columns]
        statement: Select[Any] = select(*wanted).select_from(source(data)).where(false())
        try:
            connection.execute(statement, self._parameters(statement))
        except DBAPIError as error:
            return told(error)
        return None

    def _blame(self, connection: Connection, name: str, word: str, columns: dict[str, str]) -> None:
        """Which key of a data set is wrong."""
        data = self._mapping.data[name]
        message = self._failure(connection, select(text("1")).select_from(source(data)).where(false()))
        if message is not None:
            named = "name a table or view that is there, with its schema, and that this account may read"
            todo = "run the SELECT by hand with this account" if data.table is None else named
            self.errors.append(Note(("data", name, word), message, todo))
            return
        for what, column_name in columns.items():
            refusal = self._refusal(connection, data, [column_name])
            if refusal is not None:
                self.errors.append(Note(("data", name, what), refusal, self._todo_for_column(name, column_name)))

    def _todo_for_column(self, data: str, name: str) -> str:
        names = [one.name for use in self._uses.get(data, ()) for one in use.table.columns]
        close = get_close_matches(name, names, 1, cutoff=0.5)
        return f"did you mean {close[0]}?" if close else "write a column's name as the database spells it"

    # Attributes.

    def _inspect_attribute(self, connection: Connection, lent: Lent, name: str) -> None:
        mapped = self._mapping.attribute[name]
        subjects = self._readable.get(mapped.data)
        if subjects is None:
            return
        expressions = {"value": mapped.value, "where": mapped.where}
        if mapped.valid is not None:
            expressions |= {"valid.from": mapped.valid.from_, "valid.to": mapped.valid.to}
        given = {word: fragment(expression) for word, expression in expressions.items() if expression is not None}
        data = source(self._mapping.data[mapped.data])
        good = True
        if given and self._failure(connection, select(*given.values()).select_from(data).where(false())) is not None:
            for word, expression in given.items():
                message = self._failure(connection, select(expression).select_from(data).where(false()))
                if message is not None:
                    good = False
                    todo = "select it by hand from the data set, with this account"
                    self.errors.append(Note(("attribute", name, *word.split(".")), message, todo))
        if good:
            for predicate in sorted(self._attributes[name].predicates):
                self._try_predicate(connection, lent, name, predicate, subjects)

    def _try_predicate(
        self, connection: Connection, lent: Lent, name: str, predicate: Predicate, subjects: list[str]
    ) -> None:
        """Run the very statement of a claim on a sample, singly and as a group, and look at its plan."""
        attribute, mapped = self._attributes[name], self._mapping.attribute[name]
        key = ("attribute", name)
        plan = self._source.plan(mapped.data, ((name, predicate),))
        value = _neutral(attribute, predicate)
        rows: list[Row] = [((subject,), None, "", (value,)) for subject in subjects or ["0"]]
        group = (rows * (SMALL + 1))[: SMALL + 1]
        single, parameters = plan.statement(rows[:1], self._today)
        self.report.statements[f"{name} {predicate}"] = single
        try:
            self._source.run(lent, plan, self._today, rows[:1])
            outcomes = self._source.run(lent, plan, self._today, group)
        except DatabaseError as error:
            message = f"{predicate} cannot be run: {self._failure(connection, single, parameters) or told(error)}"
            self.errors.append(Note(key, message, "compare the published type with what the expression yields"))
            return
        if subjects and predicate is not Predicate.EXISTS and {one[0] for one in outcomes} == {Outcome.UNKNOWN}:
            shown = "the interval" if mapped.valid is not None else "the value"
            self.warnings.append(
                Note(
                    key,
                    f"{predicate} is UNKNOWN for each of {min(len(subjects), len(group))} sampled subjects",
                    f"look at {shown} by hand: null, or not of type {attribute.type or 'date'}? docs/adapter.md says "
                    "what each type takes",
                )
            )
        if connection.dialect.name == "sqlite":
            # Its two forms are planned alike but for the lists, and this is the one that long rosters take.
            single, parameters = plan.statement(group, self._today)
        self._explain(connection, mapped.data, single, parameters)

    def _explain(self, connection: Connection, name: str, sql: str, parameters: Any) -> None:
        data = self._mapping.data[name]
        try:
            found = list(scans(connection, sql, parameters, data, self._uses.get(name, ())))
        except UnexplainedError:
            if not self._unexplained:
                self._unexplained = True
                todo = "have an administrator explain the statements that --sql prints"
                self.warnings.append(Note(("database", "url"), "the account may not see plans of views", todo))
            return
        for scan in found:
            # One index serves every data set over the table.
            told_of = (scan.table, scan.column) if scan.column else (name, scan.alias)
            if told_of in self._scanned:
                continue
            self._scanned.add(told_of)
            key = ("data", name, "subject" if scan.column == data.subject else "table" if data.table else "select")
            of = f"{scan.table}.{scan.column}" if scan.column else scan.table
            if scan.unused:
                message = f"{scan.table} is read whole for each question, although it has an index"
                todo = "ANALYZE TABLE, and compare the column's type and character set with what it is joined with"
            else:
                message = f"{scan.table} is read whole for each question: no index serves {of}"
                index = index_for(scan, connection)
                todo = f"have the administrator run: {index}" if index else "index the column by which it is looked up"
            self.warnings.append(Note(key, message, todo))

    def _inspect_roster(self, connection: Connection, name: str) -> None:
        inspected = inspect_roster(connection, name, self._mapping.roster[name], self._schemes, self._today)
        self.report.statements[f"roster {name}"] = inspected.statement
        self.errors += [Note(*one) for one in inspected.errors]
        self.warnings += [Note(*one) for one in inspected.warnings]

    def _compare_texts(self, connection: Connection) -> None:
        texts = {
            name: mapped
            for name, mapped in self._mapping.attribute.items()
            if mapped.data in self._readable
            and self._attributes[name].type not in {*ORDERED, ""}
            and self._attributes[name].predicates & {Predicate.EQUALS, Predicate.RELATED}
        }
        readable = {name: self._mapping.data[name] for name in self._readable}
        self.report.collations = list(compare_texts(connection, readable, texts, self._uses, self._parameters))
        for one in self.report.collations:
            for pair in one.fooled:
                message = f"takes {pair.english} for the same, and so would every answer"
                self.errors.append(Note(one.key, message, "report this with the column's type: it must not happen"))

    # Probes.

    def _run_probes(self) -> None:
        if self.errors:
            return
        try:
            self.report.probes = Probes(self._source, self._schemes, self._clock).run()
        except DatabaseError as error:
            todo = "see that the database can be reached, and check again"
            self.errors.append(Note(("probe",), f"cannot be run: {error.outcome.name}", todo))
            return
        for result in self.report.probes:
            if not result.passed:
                message = f"must be {result.expected}, but {result.found} came"
                todo = "look at the test subject's rows: is the expression wrong, or the answer?"
                self.errors.append(Note(("probe", result.index, "answer"), message, todo))
        if not self._mapping.probe:
            message = "there is none; nobody will notice when a column changes its meaning"
            self.warnings.append(Note(("probe",), message, "write a [[probe]] about a test subject of your own"))

    def _failure(self, connection: Connection, statement: Select[Any] | str, parameters: Any = None) -> str | None:
        """What the database says against a statement; as text it is in the driver's form, with its parameters."""
        try:
            if isinstance(statement, str):
                connection.exec_driver_sql(statement, parameters)
            else:
                connection.execute(statement, self._parameters(statement))
        except DBAPIError as error:
            return told(error)
        return None

    def _parameters(self, statement: Any) -> dict[str, Any]:
        """`:as_of`, if the statement has it."""
        dated = any(isinstance(part, BindParameter) and part.key == "as_of" for part in iterate(statement))
        return {"as_of": self._today} if dated else {}


def _neutral(attribute: Attribute, predicate: Predicate) -> str | None:
    """Something to compare with, of the attribute's type, that gives no value away."""
    cells = attribute.cells(predicate)
    if cells:
        return cells[0]
    if not predicate.compares:
        return None
    if attribute.type in {"integer", "decimal"}:
        return "0"
    return "2000-01-01" if attribute.type == "date" else spell_list(("?",))
