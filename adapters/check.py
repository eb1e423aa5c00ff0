"""`zhiwang adapter check`: a mapping held against document and live database, before anybody relies on it.

What is wrong is a finding, by file, key and line, all at once; what is slow or doubtful is a warning. The same
inspection runs when an adapter starts. It prints no value of a record: databases' own messages are passed on only
where they speak of names of tables and columns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, column, false, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapters.database import Connections, DatabaseError, Lent, connect_to
from adapters.dialects import spell_list
from adapters.extracts import Extracts, taken_up
from adapters.leakage import Bound, bounds
from adapters.mapping import Mapping, load_mapping
from adapters.messages import told
from adapters.probes import ProbeResult, Probes
from adapters.readonly import writable
from adapters.sql import Source
from adapters.statements import fragment, source
from policy.document import Mistake, parse_document
from policy.model import Attribute, Document
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.records import Outcome
from zhiwang.wire.tomlfile import Finding, as_findings

SAMPLE = 20
"""Subjects of each data set that every statement is tried on."""

_OWN_RELATIONS = frozenset({"k", "a", "d", "r", "keys", "rows", "records", "zw_data", "CONSTANT", "2-ROW"})


@dataclass(slots=True)
class Report:
    """What an inspection found.

    Attributes:
        findings: What must be put right: the adapter does not start with any.
        warnings: What is slow or doubtful.
        probes: Results of the probes.
        bounds: What can be learnt through each attribute.
        statements: Every statement that was tried, by attribute and predicate.
    """

    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    probes: list[ProbeResult] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    statements: dict[str, str] = field(default_factory=dict)


def inspect(
    mapping_path: Path,
    document: Document | Path,
    schemes: Dictionary[str, Scheme],
    *,
    clock: Callable[[], float] = time.time,
    extracts: Extracts | None = None,
) -> tuple[Mapping, Report]:
    """Hold a mapping against a document and the live database.

    Args:
        mapping_path: The mapping.
        document: The department's document.
        schemes: Scheme of each kind of subject.
        clock: Seconds since the epoch.
        extracts: Takes up the files of a mapping over files, for good; without it they are loaded for this inspection.

    Returns:
        The mapping, over a database in any case; and what was found.

    Raises:
        FileError: The mapping or the document cannot be read, or they do not fit; with every finding.
    """
    published = parse_document(document) if isinstance(document, Path) else document
    with taken_up(load_mapping(mapping_path, published), mapping_path, extracts) as (mapping, doubts):
        connections = connect_to(mapping.database, mapping_path.parent)
        try:
            inspection = _Inspection(mapping, published, connections, schemes, clock)
            errors, warnings = inspection.run()
            report = inspection.report
        finally:
            connections.close()
    report.findings += as_findings(mapping_path, errors)
    report.warnings += [*doubts, *as_findings(mapping_path, warnings)]
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
        self._mapping = mapping
        self._attributes: Dictionary[str, Attribute] = document.attributes
        self._engine = connections.engine
        self._schemes = schemes
        self._clock = clock
        self._source = Source(connections, mapping, document.attributes, clock=clock)
        self._today = datetime.fromtimestamp(clock(), CITY_TIME).date()
        self._errors: list[Mistake] = []
        self._warnings: list[Mistake] = []
        # Data sets that can be read at all; only these are asked further.
        self._readable: dict[str, list[str]] = {}

    def run(self) -> tuple[list[Mistake], list[Mistake]]:
        """Errors and warnings."""
        try:
            changeable = writable(self._engine, self._mapping)
            with self._engine.connect() as connection, self._source.lend() as lent:
                for name in self._mapping.data:
                    self._inspect_data(connection, lent, name)
                for name in self._mapping.attribute:
                    self._inspect_attribute(connection, lent, name)
        except (SQLAlchemyError, OSError, DatabaseError) as error:
            self._errors.append(Mistake(("database", "url"), f"cannot be read: {told(error)}"))
            return self._errors, self._warnings
        for what in changeable:
            self._errors.append(
                Mistake(("database", "url"), f"the account may {what}; give the adapter an account that only reads")
            )
        self._run_probes()
        return self._errors, self._warnings

    def _inspect_data(self, connection: Connection, lent: Lent, name: str) -> None:
        data = self._mapping.data[name]
        key = ("data", name)
        word = "table" if data.table is not None else "select"
        if not self._try(connection, (*key, word), select(text("1")).select_from(source(data)).where(false())):
            return
        region = None if data.region is None else data.region.column
        columns = [("subject", data.subject), ("name", data.name), ("region", region)]
        good = True
        for what, column_name in columns:
            if column_name is not None:
                statement: Select[Any] = select(column(column_name)).select_from(source(data)).where(false())
                good &= self._try(connection, (*key, what), statement, column_name)
        if data.loaded is not None:
            try:
                if not self._source.loaded(lent, name).whole:
                    self._warnings.append(
                        Mistake((*key, "loaded"), "gives no time; every answer is UNKNOWN until it does")
                    )
            except DatabaseError:
                self._errors.append(Mistake((*key, "loaded"), "cannot be run"))
        if not good:
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
            self._errors.append(Mistake((*key, word), f"cannot be read: {told(error)}"))
            return
        self._readable[name] = subjects
        if not subjects:
            self._warnings.append(Mistake(key, "is empty"))

    def _inspect_attribute(self, connection: Connection, lent: Lent, name: str) -> None:
        mapped = self._mapping.attribute[name]
        subjects = self._readable.get(mapped.data)
        if subjects is None:
            return
        key = ("attribute", name)
        expressions = [("value", mapped.value), ("where", mapped.where)]
        if mapped.valid is not None:
            expressions += [("valid", mapped.valid.from_), ("valid", mapped.valid.to)]
        data = source(self._mapping.data[mapped.data])
        for word, expression in expressions:
            if expression is not None:
                statement = select(fragment(expression)).select_from(data).where(false())
                if not self._try(connection, (*key, word), statement):
                    return
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
        rows = [((subject,), None, "", (value,)) for subject in subjects or ["0"]]
        try:
            outcomes = self._source.run(lent, plan, self._today, rows)
            self._source.run(lent, plan, self._today, rows[:1])
            # More than any dialect binds singly, so that the form for groups is tried too.
            self._source.run(lent, plan, self._today, rows * SAMPLE)
        except DatabaseError as error:
            self._errors.append(Mistake(key, f"{predicate} cannot be run: {error.outcome.name}"))
            return
        sql, parameters = plan.statement(rows * SAMPLE, self._today)
        self.report.statements[f"{name} {predicate}"] = sql
        if subjects and predicate is not Predicate.EXISTS and {one[0] for one in outcomes} == {Outcome.UNKNOWN}:
            self._warnings.append(
                Mistake(key, f"{predicate} is UNKNOWN for each of {len(subjects)} sampled subjects; is the type right?")
            )
        if connection.dialect.name != "sqlite":
            # A planner that knows its tables rightly reads a small one whole for a large group.
            sql, parameters = plan.statement(rows[:1], self._today)
        for scan in _scans(connection, sql, parameters):
            mistake = Mistake(
                ("data", mapped.data, "subject"), f"{scan} is read whole for each question; index the column"
            )
            if mistake not in self._warnings:
                self._warnings.append(mistake)

    def _run_probes(self) -> None:
        if any(key.key[0] != "probe" for key in self._errors):
            return
        try:
            self.report.probes = Probes(self._source, self._schemes, self._clock).run()
        except DatabaseError as error:
            self._errors.append(Mistake(("probe",), f"cannot be run: {error.outcome.name}"))
            return
        for result in self.report.probes:
            if not result.passed:
                self._errors.append(
                    Mistake(("probe", result.index, "answer"), f"must be {result.expected}, but {result.found} came")
                )
        if not self._mapping.probe:
            self._warnings.append(
                Mistake(("probe",), "there is none; nobody will notice when a column changes its meaning")
            )

    def _try(self, connection: Connection, key: tuple[str | int, ...], statement: Any, name: str | None = None) -> bool:
        try:
            result = connection.execute(statement, self._parameters(statement))
        except DBAPIError as error:
            self._errors.append(Mistake(key, told(error)))
            return False
        if name is not None and connection.dialect.name == "sqlite" and name not in result.keys():  # noqa: SIM118 - no dict
            self._errors.append(Mistake(key, f"no such column: {name}"))
            return False
        return True

    def _parameters(self, statement: Any) -> dict[str, Any]:
        """`:as_of`, if the statement has it."""
        if "as_of" not in statement.compile(dialect=self._engine.dialect).params:
            return {}
        return {"as_of": self._today}


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


def _scans(connection: Connection, sql: str, parameters: Any) -> set[str]:
    """Tables that the database would read from end to end."""
    family = connection.dialect.name
    if family == "sqlite":
        steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)]
        found = {step.split()[1] for step in steps if step.startswith("SCAN ") and "VIRTUAL TABLE" not in step}
        automatic = {step.split()[1] for step in steps if "AUTOMATIC" in step}
        return {name for name in found | automatic if name not in _OWN_RELATIONS and not name.startswith("(")}
    if family == "postgresql":
        steps = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {sql}", parameters)]
        return {match[1] for step in steps if (match := re.search(r"Seq Scan on (\S+)", step))}
    return set()
