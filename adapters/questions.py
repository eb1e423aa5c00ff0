"""From an opened request to rows for the database, charges for the ledger and one outcome for each claim of each case.

An outcome that does not depend on whom it is about (denied, unmapped, failed probe, another code system) is settled
here for all cases at once. Everything else starts as UNKNOWN and stays so unless the database says otherwise: an empty
slot, an identifier that is not canonical, a compared value that is not of the attribute's type.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from datetime import date, datetime

from adapters.database import DatabaseError, Lent
from adapters.dialects import Row, spell_list
from adapters.ledger import Bill, Charge, Ledger
from adapters.spelling import spell
from adapters.sql import Source
from adapters.statements import Plan
from adapters.trace import Stand, slot_part, value_part
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import ClaimShape, Header
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.names import canonical_name, name_spellings
from zhiwang.wire.records import CaseRecord, Outcome, SubjectRecord

_DENIED = 1
"""Sixteens of the outcomes that are denials (`zhiwang.wire.records.Outcome`)."""


@dataclass(slots=True)
class Lookup:
    """One subject of one case in one data set.

    Attributes:
        row: What the database is asked.
        positions: Where the outcomes of the plan's claims belong in the request's outcomes.
        bill: What it costs.
        invalid: Positions whose compared value is not of the attribute's type.
    """

    row: Row
    positions: tuple[int, ...]
    bill: Bill
    invalid: tuple[int, ...] = ()


@dataclass(slots=True)
class Batch:
    """The lookups of one request in one data set for one slot.

    Attributes:
        data: Name of the data set.
        plan: Its statement.
        claims: Indexes of the plan's claims in the request.
        lookups: One for each case whose slot is filled.
        stale: Which of the plan's claims the data set is too old for.
    """

    data: str
    plan: Plan
    claims: tuple[int, ...]
    lookups: list[Lookup]
    stale: tuple[int, ...] = ()


@dataclass(slots=True)
class Examination:
    """A request on its way through ledger and database.

    Attributes:
        header: The request's header.
        outcomes: One byte for each claim of each case, case by case.
        batches: What has to be looked up.
        data_as_of: For each claim the time of its data set's last load.
        denied: Claim shapes that nobody evaluates, ascending.
        subjects: Everybody who is asked about or compared with, as (kind, identifier), and where in the header they
            stand (`adapters.trace`).
        report: What a report costs; None where nobody is to be told of anything.
    """

    header: Header
    outcomes: bytearray
    batches: list[Batch]
    data_as_of: list[int | None]
    denied: tuple[int, ...]
    subjects: dict[tuple[str, str], int] = field(default_factory=dict)
    report: Bill | None = None

    @property
    def bills(self) -> Iterable[Bill]:
        """All bills, in the order in which they are paid."""
        if self.report is not None:
            yield self.report
        for batch in self.batches:
            for lookup in batch.lookups:
                yield lookup.bill

    def note(self, subject: tuple[str, str], part: int) -> None:
        """Somebody stands here in the header."""
        self.subjects[subject] = self.subjects.get(subject, 0) | part

    def traces(self) -> Iterator[tuple[tuple[str, str], Stand]]:
        """Everybody and where they stand, with what the ledger refused about them. Bills are reviewed."""
        width = len(self.header.claims)
        refused: dict[tuple[str, str], int] = {}

        def refuse(subject: tuple[str, str], position: int) -> None:
            refused[subject] = refused.get(subject, 0) | 1 << position % width

        if self.report is not None and self.report.closed:
            refuse(self.report.subject, 0)
        for batch in self.batches:
            for lookup in batch.lookups:
                bill = lookup.bill
                positions: Collection[int] = lookup.positions if bill.closed else bill.spent
                if positions:
                    for position in positions:
                        refuse(bill.subject, position)
                    for position, other in bill.others:
                        if position in positions:
                            refuse(other, position)
        return ((subject, Stand(part, refused.get(subject, 0))) for subject, part in self.subjects.items())


class Examiner:
    """Evaluates opened requests.

    Args:
        source: The department's data sets.
        ledger: Makes charges.
        schemes: Scheme of each kind of subject.
        closed: Whether an attribute is not answered now, for a predicate and a requesting department.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        schemes: Dictionary[str, Scheme],
        closed: Callable[[str, Predicate, str], bool],
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._schemes = schemes
        self._closed = closed
        self._clock = clock

    def prepare(
        self,
        header: Header,
        department: str,
        records: Sequence[CaseRecord],
        hub_denied: Container[int],
        own_denied: Dictionary[int, Outcome],
    ) -> Examination:
        """Lay out what has to be looked up.

        Args:
            header: Authorised.
            department: The requester's.
            records: Opened, and proved to be what the requester signed.
            hub_denied: Claim shapes that the hub denied.
            own_denied: Claim shapes that this owner's policy denies, with what they get.
        """
        if header.report:
            return self._report(header, department, records)
        count = len(header.claims)
        settled = [
            self._settle(header, department, i, shape, hub_denied, own_denied) for i, shape in enumerate(header.claims)
        ]
        outcomes = bytearray(bytes(settled) * len(records))
        denied = tuple([i for i, outcome in enumerate(settled) if outcome >> 4 == _DENIED])
        examination = Examination(header, outcomes, [], [None] * count, denied)
        groups: dict[tuple[int, str], list[int]] = {}
        for i, shape in enumerate(header.claims):
            if settled[i] == Outcome.UNKNOWN:
                groups.setdefault((shape.slot, self._source.mapping.attribute[shape.attribute].data), []).append(i)
        for (slot, data), claims in groups.items():
            self._lay_out(examination, department, records, slot, data, claims)
        self._note_others(examination, records, {i for claims in groups.values() for i in claims})
        return examination

    def _report(self, header: Header, department: str, records: Sequence[CaseRecord]) -> Examination:
        """A report needs no database; who writes it reads the index instead. Nobody is told who stands nowhere."""
        examination = Examination(header, bytearray([Outcome.UNKNOWN]), [], [None], ())
        subject = records[0].subjects[0]
        if subject is not None and self._scheme_of(subject, self._today()) is not None:
            kind, identifier = subject.kind, subject.identifier
            examination.note((kind, identifier), slot_part(0))
            charges = self._ledger.reports(department, header.official, kind, identifier)
            examination.report = Bill(shared=list(charges), subject=(kind, identifier))
        return examination

    def _note_others(self, examination: Examination, records: Sequence[CaseRecord], looked_up: Container[int]) -> None:
        """Note who stands in the header beside those who are looked up: of them was asked as well, in vain."""
        header = examination.header
        noted: set[int | None] = set()
        idle: set[int] = set()
        values: dict[int, str] = {}
        for i, shape in enumerate(header.claims):
            if i in looked_up:
                noted |= {shape.slot, shape.compared_slot}
                continue
            idle |= {shape.slot, shape.slot if shape.compared_slot is None else shape.compared_slot}
            published = self._source.attributes.get(shape.attribute)
            if shape.compared_value is not None and published is not None and published.type in self._schemes:
                values[shape.compared_value] = published.type
        slots = idle - noted
        if not slots and not values:
            return
        today = self._today()
        for record in records:
            for slot in slots:
                subject = record.subjects[slot]
                if subject is not None and self._scheme_of(subject, today) is not None:
                    examination.note((subject.kind, subject.identifier), slot_part(slot))
            for value, kind in values.items():
                spelled = spell(kind, record.values[value], self._schemes, today)
                if spelled is not None:
                    examination.note((kind, spelled[0]), value_part(value))

    def _settle(
        self,
        header: Header,
        department: str,
        i: int,
        shape: ClaimShape,
        hub_denied: Container[int],
        own_denied: Dictionary[int, Outcome],
    ) -> Outcome:
        """The outcome of a claim for every case, or UNKNOWN if it has to be looked up."""
        if i in hub_denied:
            return Outcome.DENIED_BY_HUB
        if i in own_denied:
            return own_denied[i]
        mapped = self._source.mapping.attribute.get(shape.attribute)
        published = self._source.attributes.get(shape.attribute)
        if mapped is None or published is None or not mapped.serves(shape.predicate):
            return Outcome.FAILED
        if self._closed(shape.attribute, shape.predicate, department):
            return Outcome.PROBE_FAILED
        region = self._source.mapping.data[mapped.data].region
        place = header.jurisdiction
        if (
            region is not None
            and shape.predicate is not Predicate.ABSENT
            and not place.common
            and place.system != region.codes
        ):
            return Outcome.CODE_SYSTEM_UNKNOWN
        return Outcome.UNKNOWN

    def _lay_out(
        self,
        examination: Examination,
        department: str,
        records: Sequence[CaseRecord],
        slot: int,
        data_name: str,
        claims: list[int],
    ) -> None:
        header = examination.header
        shapes = [header.claims[i] for i in claims]
        data = self._source.mapping.data[data_name]
        plan = self._source.plan(data_name, tuple([(shape.attribute, shape.predicate) for shape in shapes]))
        scoped = data.region is not None and any(shape.predicate is not Predicate.ABSENT for shape in shapes)
        place = header.jurisdiction.code if scoped else None
        asserted = str(header.jurisdiction)
        ledger = self._ledger
        count = len(header.claims)
        compared = any(shape.predicate.compares for shape in shapes)
        cells = None if compared else tuple([shape.cell or None for shape in shapes])
        today = self._today()
        part = slot_part(slot)
        lookups = []
        for number, record in enumerate(records):
            subject = record.subjects[slot]
            scheme = self._scheme_of(subject, today)
            if subject is None or scheme is None:
                continue
            kind, identifier, name = subject.kind, subject.identifier, subject.name
            examination.note((kind, identifier), part)
            bill = Bill(subject=(kind, identifier))
            names = None
            if data.name is not None and name:
                names = spell_list(name_spellings(name))
                bill.shared.append(ledger.name(department, kind, identifier, name))
            if scoped:
                bill.shared.append(ledger.place(department, kind, identifier, asserted))
            values: Sequence[str | None]
            invalid: list[int] = []
            first = number * count
            positions = tuple([first + i for i in claims])
            if cells is not None:
                values = cells
            else:
                values = []
                for shape, position in zip(shapes, positions, strict=True):
                    if not shape.predicate.compares:
                        values.append(shape.cell or None)
                        continue
                    values.append(
                        self._compared(examination, department, record, subject, shape, bill, position, invalid, today)
                    )
            row = (scheme.spellings(identifier), names, place, values)
            lookups.append(Lookup(row, positions, bill, tuple(invalid)))
        if lookups:
            examination.batches.append(Batch(data_name, plan, tuple(claims), lookups))

    def _scheme_of(self, subject: SubjectRecord | None, today: date) -> Scheme | None:
        """Scheme of a subject whose identifier and name are canonical; None otherwise.

        An agent sends canonical forms only. Whoever sends another form would get a ledger of its own for it.
        """
        if subject is None:
            return None
        scheme = self._schemes.get(subject.kind)
        if scheme is None:
            return None
        try:
            if scheme.canonical(subject.identifier, today=today) != subject.identifier:
                return None
            if subject.name and canonical_name(subject.name) != subject.name:
                return None
        except RefusedError:
            return None
        return scheme

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), CITY_TIME).date()

    def _compared(
        self,
        examination: Examination,
        department: str,
        record: CaseRecord,
        subject: SubjectRecord,
        shape: ClaimShape,
        bill: Bill,
        position: int,
        invalid: list[int],
        today: date,
    ) -> str | None:
        """What a claim compares with, as the statement takes it, charged; None for what can match nothing."""
        attribute = self._source.attributes[shape.attribute]
        ledger = self._ledger
        if shape.compared_slot is not None:
            other = record.subjects[shape.compared_slot]
            scheme = self._scheme_of(other, today)
            if other is None or scheme is None:
                return None
            examination.note((other.kind, other.identifier), slot_part(shape.compared_slot))
            bill.others.append((position, (other.kind, other.identifier)))
            # Under both identifiers: otherwise one could try every child on one parent.
            both = (
                ledger.value(department, subject.kind, subject.identifier, shape.attribute, other.identifier),
                ledger.value(department, other.kind, other.identifier, shape.attribute, subject.identifier),
            )
            bill.claims.append((position, both))
            return spell_list(scheme.spellings(other.identifier))
        text = record.values[shape.compared_value] if shape.compared_value is not None else ""
        spelled = spell(attribute.type, text, self._schemes, today)
        if spelled is None:
            invalid.append(position)
            return None
        guess, value = spelled
        charges: tuple[Charge, ...] = (
            ledger.value(department, subject.kind, subject.identifier, shape.attribute, guess),
        )
        scheme = self._schemes.get(attribute.type)
        if scheme is not None:
            examination.note((attribute.type, guess), value_part(shape.compared_value or 0))
            bill.others.append((position, (attribute.type, guess)))
            charges += (ledger.value(department, attribute.type, guess, shape.attribute, subject.identifier),)
        bill.claims.append((position, charges))
        return value

    def evaluate(self, examinations: Sequence[Examination]) -> None:
        """Ask the database, all requests of a frame together; writes outcomes and `data_as_of`. Bills are reviewed."""
        pending = [(examination, batch) for examination in examinations for batch in examination.batches]
        if not pending:
            return
        bulk = any(examination.header.bulk for examination in examinations)
        try:
            with self._source.lend(bulk=bulk) as lent:
                for (plan, day), members in self._gather(lent, pending).items():
                    try:
                        results = self._source.run(lent, plan, day, [_row(lookup) for _, lookup in members])
                    except DatabaseError as error:
                        results = [bytes([error.outcome]) * len(plan.asked)] * len(members)
                    for (examination, lookup), codes in zip(members, results, strict=True):
                        for position, code in zip(lookup.positions, codes, strict=True):
                            examination.outcomes[position] = code
        except DatabaseError as error:
            for examination, batch in pending:
                _fill(examination, batch, error.outcome)
        for examination, batch in pending:
            _overrule(examination, batch)

    def _gather(
        self, lent: Lent, pending: Sequence[tuple[Examination, Batch]]
    ) -> dict[tuple[Plan, date], list[tuple[Examination, Lookup]]]:
        """Lookups of all requests by statement and reference date. Notes when each data set was loaded."""
        groups: dict[tuple[Plan, date], list[tuple[Examination, Lookup]]] = {}
        now = self._clock()
        for examination, batch in pending:
            try:
                loaded = self._source.loaded(lent, batch.data)
            except DatabaseError as error:
                _fill(examination, batch, error.outcome)
                continue
            stale = []
            for i, (claim, asked) in enumerate(zip(batch.claims, batch.plan.asked, strict=True)):
                examination.data_as_of[claim] = loaded.time
                age = self._source.attributes[asked.attribute].max_age
                late = age is not None and (loaded.time is None or now - loaded.time > age)
                if late or not loaded.whole:
                    stale.append(i)
            batch.stale = tuple(stale)
            if len(stale) < len(batch.claims):
                members = groups.setdefault((batch.plan, examination.header.reference_date), [])
                members += [(examination, lookup) for lookup in batch.lookups if not lookup.bill.closed]
        return {key: members for key, members in groups.items() if members}


def _row(lookup: Lookup) -> Row:
    """What the database is asked: nothing of what the ledger refuses."""
    spent = lookup.bill.spent
    if not spent:
        return lookup.row
    keys, name, place, values = lookup.row
    kept = [None if position in spent else value for position, value in zip(lookup.positions, values, strict=True)]
    return keys, name, place, kept


def _fill(examination: Examination, batch: Batch, outcome: Outcome) -> None:
    for lookup in batch.lookups:
        for position in lookup.positions:
            examination.outcomes[position] = outcome


def _overrule(examination: Examination, batch: Batch) -> None:
    """What stands above the database: a data set that is too old says nothing, a spent guess has no answer."""
    outcomes = examination.outcomes
    for i in batch.stale:
        for lookup in batch.lookups:
            outcomes[lookup.positions[i]] = Outcome.UNKNOWN
    for lookup in batch.lookups:
        if lookup.bill.closed:
            for position in lookup.positions:
                outcomes[position] = Outcome.GUESSES_SPENT
        else:
            for position in lookup.bill.spent:
                outcomes[position] = Outcome.GUESSES_SPENT
            for position in lookup.invalid:
                outcomes[position] = Outcome.VALUE_INVALID
