"""From a case to what goes to each owner. Pure.

A `Plan` is the shape of a case: its claims, expanded over the subjects that stand in its slots, and dealt out to the
owners of their attributes, each with the slots and compared values that this owner needs and no others. It holds
nothing of anybody, so cases of one shape share one plan, and one sealed request carries many of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from exchange.client.case import Case, Ruling
from policy.model import Attribute, Directory, Matter, Rule
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import MAX_CLAIMS_PER_CASE, MAX_SLOTS, MAX_VALUES, SLOT_SIZE, VALUE_SIZE
from zhiwang.wire.identifiers import Scheme, scheme
from zhiwang.wire.names import canonical_name
from zhiwang.wire.records import CaseRecord, SubjectRecord

MAX_CLAIMS = 1024
"""Claims of one case after expansion over its subjects, over all owners."""

MAX_SUBJECTS = 64
"""Subjects of one case."""

MAX_SUBJECT_BYTES = SLOT_SIZE - 4
"""Bytes of identifier and name together; each has its length in two bytes before it."""

MAX_VALUE_BYTES = VALUE_SIZE - 2
"""Bytes of a compared text."""

KEPT_PLANS = 256
"""Shapes of cases that are remembered for one matter."""

KEPT_CLAIMS = 4096
"""Parsed claims that are remembered for one matter; only those that hold no compared value."""

Place = tuple[str, int]
"""A slot and which of its subjects."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?")


class Asked(NamedTuple):
    """One expanded claim of a plan.

    Attributes:
        claim: Index of the claim in the case.
        name: Its name in the matter; empty for the caller's own.
        ordinal: Which subject of its slot.
        compared_ordinal: Which subject of the compared slot.
        ordinals: The same by slot, as the matter's rule wants it.
        part: Index of the owner's part in the plan.
        column: Index of the claim in that part's header.
        counter: Where an answer is disputed.
        denied: What a denial of it is called: that its threshold is not published is no secret.
    """

    claim: int
    name: str
    ordinal: int
    compared_ordinal: int
    ordinals: dict[str, int]
    part: int
    column: int
    counter: str
    denied: Reason


class Part(NamedTuple):
    """What one owner is asked.

    Attributes:
        owner: Department.
        places: Who stands in each slot of the case records.
        texts: Which of the case's compared texts stand in the records.
        columns: Number of claims.
        header: The header's fields that follow from the shape; copied for each request.
        suites: Cipher suites that the owner accepts.
        known: Whether there is such an owner at all.
    """

    owner: str
    places: tuple[Place, ...]
    texts: tuple[int, ...]
    columns: int
    header: sealed_pb2.Header
    suites: tuple[str, ...]
    known: bool

    def record(self, case: Prepared, salt: bytes) -> CaseRecord:
        """The case as this owner gets it.

        Args:
            case: Of this part's plan.
            salt: 32 random bytes.
        """
        subjects = case.subjects
        return CaseRecord(
            salt,
            tuple(
                [found[ordinal] if (found := subjects.get(slot)) is not None else None for slot, ordinal in self.places]
            ),
            tuple([case.texts[index] for index in self.texts]),
        )


class Plan(NamedTuple):
    """The shape of a case.

    Attributes:
        asked: The claims, in the order of the case.
        parts: One for each owner.
        rule: The matter's, if every claim of the matter is asked and it gives no points; None otherwise. Points take
            several askings (`exchange/matter`).
        rulings: What followed from the rule before, by the codes of the answers; `outcome.py` keeps it.
    """

    asked: tuple[Asked, ...]
    parts: tuple[Part, ...]
    rule: Rule | None
    rulings: dict[bytes, Ruling]


class Prepared(NamedTuple):
    """A case in canonical form with its plan. Never printed.

    Attributes:
        case: As the caller gave it.
        labels: Its claims as text.
        subjects: Canonical subjects by slot.
        texts: Compared texts of its claims, in their order.
        plan: Its shape.
    """

    case: Case
    labels: tuple[str, ...]
    subjects: dict[str, tuple[SubjectRecord, ...]]
    texts: tuple[str, ...]
    plan: Plan

    def __repr__(self) -> str:
        return "Prepared()"


class _Shape(NamedTuple):
    """One claim of a case without its compared text."""

    claim: Claim
    slot: str
    name: str
    text: int | None


class Planner:
    """Prepares the cases of one matter under one snapshot of the directory.

    Args:
        directory: The snapshot.
        matter: One of its matters.
    """

    def __init__(self, directory: Directory, matter: Matter) -> None:
        self.directory = directory
        self.matter = matter
        self._schemes = {kind.name: scheme(kind.scheme, kind.pattern) for kind in directory.centre.subjects.values()}
        self._only = next(iter(matter.slots)) if len(matter.slots) == 1 else None
        self._names = {str(claim): name for name, claim in matter.claims.items()}
        self._matters_own = tuple(str(claim) for claim in matter.claims.values())
        self._parsed: dict[str, Claim] = {str(claim): claim for claim in matter.claims.values()}
        self._plans: dict[tuple[object, ...], Plan] = {}

    def prepare(self, case: Case, today: date) -> Prepared:
        """Bring a case into canonical form and find its plan.

        Args:
            case: The case.
            today: For dates of birth, which cannot lie in the future.

        Raises:
            RefusedError: SLOT_UNKNOWN, IDENTIFIER_INVALID, NAME_INVALID, CLAIM_SYNTAX, VALUE_INVALID or
                TOO_MANY_CLAIMS, with the field of the case.
        """
        subjects = self._subjects(case, today)
        labels = case.claims or self._matters_own
        if len(labels) > MAX_CLAIMS:
            raise RefusedError(Reason.TOO_MANY_CLAIMS, field="claims")
        if not labels:
            raise RefusedError(Reason.CLAIM_SYNTAX, "the matter names no claims and the case neither", field="claims")
        claims = [self._claim(text, index) for index, text in enumerate(labels)]
        for index, claim in enumerate(claims):
            if (claim.predicate is Predicate.REPORT) != case.report:
                raise RefusedError(
                    Reason.CLAIM_SYNTAX, "a report is asked by `zhiwang audit subject` alone", field=f"claims[{index}]"
                )
        texts = self._texts(claims, today)
        counts = tuple([len(subjects.get(slot, ())) or 1 for slot in self.matter.slots])
        key = (
            counts,
            *([label if claim.text is None else _textless(claim) for label, claim in zip(labels, claims, strict=True)]),
        )
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(labels, claims, subjects)
            if len(self._plans) >= KEPT_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return Prepared(case, labels, subjects, texts, plan)

    def _subjects(self, case: Case, today: date) -> dict[str, tuple[SubjectRecord, ...]]:
        if len(case.subjects) > MAX_SUBJECTS:
            raise RefusedError(Reason.SLOT_UNKNOWN, "too many subjects", field="subjects")
        found: dict[str, tuple[SubjectRecord, ...]] = {}
        for index, (name, identifier, called) in enumerate(case.subjects):
            slot = self.matter.slots.get(name)
            checker = self._schemes.get(slot.kind) if slot is not None else None
            before = found.get(name, ())
            if slot is None or checker is None or len(before) >= slot.up_to:
                raise RefusedError(Reason.SLOT_UNKNOWN, field=f"subjects[{index}].slot")
            try:
                canonical = checker.canonical(identifier, today=today)
            except RefusedError as error:
                raise RefusedError(error.reason, error.detail, field=f"subjects[{index}].identifier") from None
            try:
                named = canonical_name(called) if called else ""
            except RefusedError as error:
                raise RefusedError(error.reason, error.detail, field=f"subjects[{index}].name") from None
            if len(canonical.encode()) + len(named.encode()) > MAX_SUBJECT_BYTES:
                raise RefusedError(Reason.NAME_INVALID, "longer than a record holds", field=f"subjects[{index}].name")
            found[name] = (*before, SubjectRecord(slot.kind, canonical, named))
        return found

    def _claim(self, text: str, index: int) -> Claim:
        claim = self._parsed.get(text)
        if claim is not None:
            return claim
        try:
            claim = Claim.parse(text)
        except RefusedError as error:
            raise RefusedError(error.reason, error.detail, field=f"claims[{index}]") from None
        if (claim.slot or self._only) not in self.matter.slots:
            raise RefusedError(Reason.SLOT_UNKNOWN, field=f"claims[{index}]")
        if claim.compared_slot is not None and claim.compared_slot not in self.matter.slots:
            raise RefusedError(Reason.SLOT_UNKNOWN, field=f"claims[{index}]")
        # A compared text may be a citizen's: it is not kept beyond its case.
        if claim.text is None and len(self._parsed) < KEPT_CLAIMS:
            self._parsed[text] = claim
        return claim

    def _texts(self, claims: Sequence[Claim], today: date) -> tuple[str, ...]:
        texts = []
        for index, claim in enumerate(claims):
            if claim.text is not None:
                attribute = self.directory.attribute(claim.owner, claim.attribute)
                kind = attribute.type if attribute is not None else ""
                text = canonical_value(kind, claim.text, self._schemes, today)
                if text is None or len(text.encode()) > MAX_VALUE_BYTES:
                    raise RefusedError(Reason.VALUE_INVALID, f"not of type {kind}", field=f"claims[{index}]")
                texts.append(text)
        return tuple(texts)

    def _plan(
        self, labels: Sequence[str], claims: Sequence[Claim], subjects: dict[str, tuple[SubjectRecord, ...]]
    ) -> Plan:
        builders: dict[str, _PartBuilder] = {}
        asked: list[Asked] = []
        text = -1
        for index, (label, claim) in enumerate(zip(labels, claims, strict=True)):
            if claim.text is not None:
                text += 1
            slot = claim.slot or self._only or ""
            name = self._names.get(label, "")
            builder = builders.get(claim.owner)
            if builder is None:
                builder = builders[claim.owner] = _PartBuilder(self, claim.owner, len(builders))
            attribute = self.directory.attribute(claim.owner, claim.attribute)
            for ordinal, compared in _pairs(slot, claim.compared_slot, subjects):
                column = builder.column(claim, (slot, ordinal), compared, text)
                ordinals = {slot: ordinal} if compared is None else {slot: ordinal, compared[0]: compared[1]}
                compared_ordinal = compared[1] if compared is not None else 0
                asked.append(
                    Asked(
                        claim=index,
                        name=name,
                        ordinal=ordinal,
                        compared_ordinal=compared_ordinal,
                        ordinals=ordinals,
                        part=builder.index,
                        column=column,
                        counter=attribute.counter if attribute is not None else "",
                        denied=_denied(claim, attribute),
                    )
                )
            if len(asked) > MAX_CLAIMS or builder.full:
                raise RefusedError(Reason.TOO_MANY_CLAIMS, field=f"claims[{index}]")
        names = {one.name for one in asked}
        whole = names.issuperset(self.matter.claims) and self.matter.points is None
        rule = self.matter.rule if whole else None
        return Plan(tuple(asked), tuple(builder.build() for builder in builders.values()), rule, {})


class _PartBuilder:
    """Collects the claims of one owner."""

    def __init__(self, planner: Planner, owner: str, index: int) -> None:
        self.index = index
        self.header = sealed_pb2.Header()
        self._owner = owner
        self._matter = planner.matter
        self._directory = planner.directory
        self._places: dict[Place, int] = {}
        self._texts: dict[int, int] = {}
        self._columns: dict[tuple[object, ...], int] = {}

    def column(self, claim: Claim, place: Place, compared: Place | None, text: int) -> int:
        """Index of the claim in the header; the same claim twice is asked once."""
        value = None if claim.text is None else text
        key = (claim.attribute, claim.predicate, claim.cell, place, compared, value)
        column = self._columns.get(key)
        if column is not None:
            return column
        column = self._columns[key] = len(self._columns)
        shape = self.header.claims.add(
            slot=self._place(place), attribute=claim.attribute, predicate=claim.predicate.number, cell=claim.cell or ""
        )
        if compared is not None:
            shape.compared_slot = self._place(compared)
        elif value is not None:
            shape.compared_value = self._texts.setdefault(value, len(self._texts))
        return column

    @property
    def full(self) -> bool:
        """Whether it holds more than one request to an owner may."""
        columns, places, texts = len(self._columns), len(self._places), len(self._texts)
        return columns > MAX_CLAIMS_PER_CASE or places > MAX_SLOTS or texts > MAX_VALUES

    def _place(self, place: Place) -> int:
        index = self._places.get(place)
        if index is None:
            index = self._places[place] = len(self._places)
            slot, ordinal = place
            self.header.slots.add(name=slot, ordinal=ordinal, kind=self._matter.slots[slot].kind)
        return index

    def build(self) -> Part:
        document = self._directory.documents.get(self._owner)
        header = self.header
        header.matter = self._matter.name
        header.matter_version = self._matter.version
        header.owner = self._owner
        header.owner_document_version = document.version if document is not None else 0
        return Part(
            owner=self._owner,
            places=tuple(self._places),
            texts=tuple(self._texts),
            columns=len(self._columns),
            header=header,
            suites=document.suites if document is not None else (),
            known=document is not None,
        )


def _pairs(
    slot: str, compared_slot: str | None, subjects: dict[str, tuple[SubjectRecord, ...]]
) -> list[tuple[int, Place | None]]:
    """Every subject of a slot with every compared subject. An empty slot is asked about once, as empty."""
    count = len(subjects.get(slot, ())) or 1
    if compared_slot is None:
        return [(ordinal, None) for ordinal in range(count)]
    others = len(subjects.get(compared_slot, ())) or 1
    alone = slot != compared_slot or count == 1  # nobody is compared with himself, unless there is nobody else
    return [
        (ordinal, (compared_slot, other))
        for ordinal in range(count)
        for other in range(others)
        if alone or ordinal != other
    ]


def _denied(claim: Claim, attribute: Attribute | None) -> Reason:
    if attribute is not None and claim.predicate in attribute.predicates and claim.predicate.takes_cell:
        return Reason.NOT_GRANTED if claim.cell in attribute.cells(claim.predicate) else Reason.CELL_NOT_PUBLISHED
    return Reason.NOT_GRANTED


def _textless(claim: Claim) -> tuple[object, ...]:
    """What remains of a claim without its compared text."""
    return claim.slot, claim.owner, claim.attribute, claim.predicate


def canonical_value(kind: str, text: str, schemes: Mapping[str, Scheme], today: date) -> str | None:
    """What an owner compares with, in the form that it takes; None if it is not of the attribute's type.

    Args:
        kind: Type of the attribute; of an unknown one the text stays as it is.
        text: As the caller wrote it.
        schemes: Of each kind of subject.
        today: For dates of birth.
    """
    try:
        return (
            _CANONICAL.get(kind, _as_it_is)(text) if kind not in schemes else schemes[kind].canonical(text, today=today)
        )
    except (ValueError, RefusedError):
        return None


def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    return text.rstrip("0").rstrip(".") if "." in text else text


def _integer(text: str) -> str:
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return text


def _name(text: str) -> str | None:
    return canonical_name(text) or None


def _date(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _as_it_is(text: str) -> str:
    return text


_CANONICAL: Mapping[str, Callable[[str], str | None]] = {
    "integer": _integer,
    "decimal": _decimal,
    "date": _date,
    "text": _name,
}
