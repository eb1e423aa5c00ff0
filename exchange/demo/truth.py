"""The expected answer of every claim, worked out from the model in plain Python.

This is a second implementation of what the adapters do in SQL, made from DESIGN section 6 alone: it imports nothing of
theirs and reads no database. Where the two disagree, the demo fails.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from exchange.demo import facts
from exchange.demo.facts import Interval, Row
from exchange.demo.model import Application, City, Company, Dwelling, Person

YES, NO, UNKNOWN = "YES", "NO", "UNKNOWN"
Subject: TypeAlias = Person | Company | Dwelling

_DOTS = dict.fromkeys(map(ord, "•・‧．"), "·")


@dataclass(frozen=True, slots=True)
class Question:
    """One claim about one subject.

    Attributes:
        attribute: For example "hrss.pension_months".
        predicate: Word of the claim syntax.
        subject: Who is asked about; None for an empty slot.
        district: Where the requester acts: a code, without its system.
        name: Name that was typed; empty for none.
        cell: Threshold of at_least and at_most.
        other: Compared subject or text; None for an empty slot. Only `equals` and `related` look at it.
    """

    attribute: str
    predicate: str
    subject: Subject | None
    district: str
    name: str = ""
    cell: int = 0
    other: Subject | str | None = None


class Truth:
    """Answers questions about a city as of one day."""

    def __init__(self, city: City, as_of: date) -> None:
        self._ledgers = facts.Ledgers(city)
        self._as_of = as_of

    def answer(self, question: Question) -> str:
        """Return YES, NO or UNKNOWN."""
        fact = facts.FACTS[question.attribute]
        if question.subject is None or fact.stale:
            return UNKNOWN
        verdicts = [self._verdict(question, row) for row in fact.rows(self._ledgers, question.subject, self._as_of)]
        if question.predicate == "absent":
            return NO if True in verdicts else UNKNOWN if None in verdicts else YES
        if True in verdicts and (fact.any_row or question.predicate == "exists"):
            return YES
        if not verdicts or None in verdicts or len(set(verdicts)) > 1:
            return UNKNOWN
        return YES if verdicts[0] else NO

    def _verdict(self, question: Question, row: Row) -> bool | None:
        """Return what one row says; None if it cannot be read, or is not known to be about whom the caller means."""
        if question.name and row.name is not None and not _same(row.name, question.name):
            return None
        if question.predicate == "absent":
            return True
        if row.place is not None and not row.place.startswith(question.district):
            return None
        if question.predicate == "exists":
            return True
        if row.value is None or (question.other is None and question.predicate in {"equals", "related"}):
            return None
        return self._compare(question, row.value)

    def _compare(self, question: Question, value: int | str | Interval | Subject) -> bool:
        if question.predicate == "valid":
            assert isinstance(value, Interval)  # noqa: S101 - facts gives intervals where `valid` is asked
            return value.start <= self._as_of <= value.end
        if question.predicate in {"at_least", "at_most"}:
            assert isinstance(value, int)  # noqa: S101 - the same for numbers
            return value >= question.cell if question.predicate == "at_least" else value <= question.cell
        return value == question.other


def _same(one: str, other: str) -> bool:
    """Whether two names are one, whichever dot they are typed with."""
    return _canonical(one) == _canonical(other)


def _canonical(name: str) -> str:
    return unicodedata.normalize("NFKC", name).translate(_DOTS)


_TRUTH = {NO: 0, UNKNOWN: 1, YES: 2}
_RULINGS = ("data disagrees", "check by hand", "passed")


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected answer of one claim of a matter for one application.

    Attributes:
        claim: Its name in the matter.
        ordinal: Which guardian is asked about or compared with, from 0; 0 for other slots.
        answer: YES, NO or UNKNOWN.
    """

    claim: str
    ordinal: int
    answer: str


def enrolment(application: Application, truth: Truth) -> Iterator[Expected]:
    """Yield what should come of each claim of the enrolment matter, as the law reads and not as its file does."""
    child, home, district = application.child, application.home, application.district

    def ask(attribute: str, predicate: str, subject: Subject | None, **more: str | int | Subject | None) -> str:
        return truth.answer(Question(attribute, predicate, subject, district, **more))  # type: ignore[arg-type]  # names of Question's own fields

    yield Expected("aged", 0, ask("police.age", "at_least", child.person, name=child.name, cell=6))
    yield Expected("young", 0, ask("police.age", "at_most", child.person, name=child.name, cell=15))
    yield Expected("lease", 0, ask("housing.lease_months", "at_least", home, cell=12))
    # A slot in which nobody stands is asked about once, as empty.
    for ordinal in range(len(application.guardians) or 1):
        party = application.guardians[ordinal] if ordinal < len(application.guardians) else None
        person, name = (party.person, party.name) if party else (None, "")
        yield Expected("parent", ordinal, ask("health.parent", "related", child.person, name=child.name, other=person))
        yield Expected(
            "register", ordinal, ask("police.household_parent", "related", child.person, name=child.name, other=person)
        )
        yield Expected("local", ordinal, ask("police.household", "exists", person, name=name))
        yield Expected("planned", ordinal, ask("health.family_planning", "exists", person, name=name))
        yield Expected("permit", ordinal, ask("police.residence_permit", "valid", person, name=name))
        yield Expected("insured", ordinal, ask("hrss.insured_months", "at_least", person, name=name, cell=12))
        yield Expected("tenant", ordinal, ask("housing.lessee", "related", home, other=person))
        yield Expected("own", ordinal, ask("title.majority", "related", home, other=person))


def ruling(application: Application, answers: Mapping[tuple[str, int], str]) -> str:
    """Return what the matter's rule should say, as the law reads: whatever is open is checked by hand.

    Args:
        application: The application.
        answers: Its answers by claim and guardian.
    """
    of = {place: _TRUTH[answer] for place, answer in answers.items()}
    guardian = max(
        min(
            sources(of["parent", n], of["register", n]),
            max(of["permit", n], of["local", n]),
            of["insured", n],
            of["planned", n],
            max(of["own", n], min(of["tenant", n], of["lease", 0])),
        )
        for n in range(len(application.guardians) or 1)
    )
    return _RULINGS[min(of["aged", 0], of["young", 0], guardian)]


def sources(*said: int) -> int:
    """Return what several registers say of one fact: one of them must know it, and none deny it."""
    return 0 if 0 in said else max(said)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What should come of one application.

    Attributes:
        answers: Expected answer by claim and guardian.
        ruling: What the matter's rule should say.
    """

    answers: Mapping[tuple[str, int], str]
    ruling: str


def expectations(city: City, as_of: date) -> dict[str, Outcome]:
    """Return what should come of every application, by its number."""
    truth = Truth(city, as_of)
    outcomes = {}
    for application in city.applications:
        answers = {(one.claim, one.ordinal): one.answer for one in enrolment(application, truth)}
        outcomes[application.number] = Outcome(answers, ruling(application, answers))
    return outcomes
