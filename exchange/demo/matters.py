"""Rosters of the example city's other matters, and what should come of each row.

That is worked out as the rules read and not as their files do, from the truth and from no code that judges. Who is in
them is chosen by the city's records alone, so that a seed gives the same rosters.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice, product
from pathlib import Path

from certs.identity import write_private
from exchange.demo.calendar import ENROLMENT_DAY, whole_years
from exchange.demo.model import City, Dwelling, Party, Person
from exchange.demo.truth import NO, UNKNOWN, YES, Question, Subject, Truth, sources

ROWS = 200
"""Rows of a roster, at most."""

BAOAN = "440306"
_CITY = "4403"
_TRUTH = {NO: 0, UNKNOWN: 1, YES: 2}
_RULINGS = ("DATA_DISAGREES", "CHECK_BY_HAND", "PASSED")
_SENIOR_FROM = 60
_ADULT = 18
_MOST_MONTHS = 120
_OWN, _RENTS_ONLY, _RENTS, _NONE = "own", "rents, no home", "rents", "neither"
_BASES = {
    ("outside", _OWN): 75,
    ("outside", _RENTS_ONLY): 60,
    ("outside", _RENTS): 60,
    ("district", _OWN): 105,
    ("district", _RENTS_ONLY): 95,
    ("district", _RENTS): 70,
    ("city", _OWN): 100,
    ("city", _RENTS_ONLY): 85,
    ("city", _RENTS): 65,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a roster.

    Attributes:
        cells: By heading.
        ruling: What should come of it, as results write it.
        points: Fewest and most points that should remain possible; None where there are none.
    """

    cells: Mapping[str, str]
    ruling: str
    points: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A roster.

    Attributes:
        reference: Of the job.
        subjects: As options of `zhiwang matter run` name the columns.
    """

    matter: str
    reference: str
    subjects: Sequence[str]
    lines: list[Line] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the roster; it names people, so only its owner reads it."""
        write_private(path, b"")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.lines[0].cells))
            writer.writeheader()
            writer.writerows(line.cells for line in self.lines)


def rosters(city: City, today: date) -> dict[str, Case]:
    """The rosters by matter, with what should come of them.

    Args:
        city: The city.
        today: The day of asking.
    """
    found = {
        "residence-permit": Case("residence-permit", "RP00000001", ["applicant=证件号码,姓名"]),
        "senior-card": Case("senior-card", "SC2026-0001", ["senior=证件号码,姓名"]),
        "housing-lease": Case("housing-lease", "FZ00000001", ["home=房屋编码", "landlord=出租人", "tenant=承租人"]),
        "school-points": Case(
            "school-points",
            "2026-P000001",
            ["child=学生,学生姓名", "guardian=监护人1,监护人1姓名", "guardian=监护人2,监护人2姓名", "home=房屋编码"],
        ),
    }
    truth = Truth(city, today)
    found["residence-permit"].lines.extend(islice(_permits(city, truth, today), ROWS))
    found["senior-card"].lines.extend(islice(_seniors(city, truth, today), ROWS))
    found["housing-lease"].lines.extend(islice(_leases(city, truth), ROWS))
    found["school-points"].lines.extend(islice(_points(city, Truth(city, ENROLMENT_DAY)), ROWS))
    for case in found.values():
        case.lines[:] = [
            replace(line, cells={"编号": f"{number:04}", **line.cells}) for number, line in enumerate(case.lines, 1)
        ]
    return found


def _permits(city: City, truth: Truth, today: date) -> Iterator[Line]:
    for person in city.people:
        if person.local or whole_years(person.born, today) < _ADULT:
            continue

        def ask(attribute: str, cell: int, person: Person = person) -> int:
            return _ask(truth, attribute, "at_least", person, cell=cell, name=person.name)

        works = max(ask("hrss.insured_months", 12), ask("hrss.insured_of_24", 18))
        yield Line(_person(person), _RULINGS[min(ask("police.residence_months", 12), works)])


def _seniors(city: City, truth: Truth, today: date) -> Iterator[Line]:
    for person in city.people:
        if whole_years(person.born, today) < _SENIOR_FROM:
            continue

        def ask(attribute: str, predicate: str, cell: int = 0, person: Person = person) -> int:
            return _ask(truth, attribute, predicate, person, cell=cell, name=person.name)

        here = max(ask("police.household", "exists"), ask("police.residence_days", "at_least", 7))
        identity = min(ask("police.age", "at_least", 65), ask("police.card", "exists"))
        book = min(ask("health.death", "absent"), ask("civil.senior_card", "absent"))
        yield Line(_person(person), _RULINGS[min(here, identity, book)])


def _leases(city: City, truth: Truth) -> Iterator[Line]:
    adults = [person for family in city.families for person in family.adults]
    for number, title in enumerate(city.records.titles):
        # Every fifth landlord is somebody else, as happens.
        landlord = adults[number * 7 % len(adults)] if number % 5 == 0 else title.holders[0][0]
        tenant = adults[number * 11 % len(adults)]
        owner = _ask(truth, "title.owner", "related", title.dwelling, other=landlord)
        # No company is named, so that is open.
        lessee = max(_ask(truth, "police.card", "valid", tenant), _TRUTH[UNKNOWN])
        cells = {"房屋编码": title.dwelling.code, "出租人": landlord.identifier, "承租人": tenant.identifier}
        yield Line(cells, _RULINGS[min(owner, lessee)])


def _points(city: City, truth: Truth) -> Iterator[Line]:
    cases = [(one.child, one.guardians, one.home) for one in city.applications]
    cases += [
        (Party(family.children[0], ""), [Party(adult, "") for adult in family.adults], family.home)
        for family in city.families
        if family.children and family.home.code.startswith(BAOAN)
    ]
    # Every tenth family has a neighbour apply, who is nobody's parent here.
    cases[9::10] = [
        (child, other[:1], home) for (child, _, home), (_, other, _) in zip(cases[9::10], cases[8::10], strict=False)
    ]
    for child, guardians, home in cases:
        # A slot in which nobody stands is asked about once, as empty.
        standing: list[Party | None] = [*guardians] or [None]
        answers = _answers(truth, child, standing, home)
        spans = [_months(truth, party) for party in standing]
        # At every end of what months can be, so that any other number lies between.
        outcomes = {
            _points_of(way, months) for way in _ways(answers) for months in product(*(set(span) for span in spans))
        }
        passing = [one for one in outcomes if one is not None]
        verdict = 0 if not passing else 2 if len(outcomes) == 1 else 1
        cells = {"学生": child.person.identifier, "学生姓名": child.name, "房屋编码": home.code}
        for number in range(2):
            party = guardians[number] if number < len(guardians) else None
            cells |= {
                f"监护人{number + 1}": party.person.identifier if party else "",
                f"监护人{number + 1}姓名": party.name if party else "",
            }
        yield Line(cells, _RULINGS[verdict], (min(passing), max(passing)) if passing else None)


Place = tuple[str, int]


def _answers(truth: Truth, child: Party, guardians: Sequence[Party | None], home: Dwelling) -> dict[Place, int]:
    def ask(attribute: str, predicate: str, party: Party | None, **more: str | Person | None) -> int:
        person, name = (party.person, party.name) if party else (None, "")
        return _ask(truth, attribute, predicate, person, BAOAN, name=name, **more)

    found = {
        ("identified", 0): ask("police.card", "exists", child),
        ("outside", 0): ask("police.household", "absent", child),
        ("district", 0): ask("police.household_district", "equals", child, other=BAOAN),
    }
    for number, party in enumerate(guardians):
        person = party.person if party else None
        found |= {
            ("parent", number): sources(
                ask("health.parent", "related", child, other=person),
                ask("police.household_parent", "related", child, other=person),
            ),
            ("known", number): ask("police.card", "exists", party),
            ("own", number): _ask(truth, "title.majority", "related", home, BAOAN, other=person),
            ("rents", number): _ask(truth, "housing.lessee", "related", home, BAOAN, other=person),
            ("homeless", number): ask("title.homes", "absent", party),
        }
    return found


def _ways(answers: Mapping[Place, int]) -> Iterator[dict[Place, bool]]:
    """Every way in which what is open can turn out."""
    turned = ([value == _TRUTH[YES]] if value != _TRUTH[UNKNOWN] else [True, False] for value in answers.values())
    for way in product(*turned):
        yield dict(zip(answers, way, strict=True))


def _points_of(way: Mapping[Place, bool], months: Sequence[int]) -> int | None:
    """The points by the district's rules; None if the case does not pass."""
    everybody = range(len(months))
    nowhere = all(way["known", one] and way["homeless", one] for one in everybody)
    where = "outside" if way["outside", 0] else "district" if way["district", 0] else "city"
    found = []
    for one in everybody:
        home = _OWN if way["own", one] else (_RENTS_ONLY if nowhere else _RENTS) if way["rents", one] else _NONE
        base = _BASES.get((where, home))
        if way["identified", 0] and way["parent", one] and way["known", one] and base is not None:
            found.append(base + months[one])
    return max(found, default=None)


def _months(truth: Truth, party: Party | None) -> tuple[int, int]:
    """Fewest and most completed months that can be told by halves, from 61 on."""
    least, most, cell = 0, _MOST_MONTHS, _MOST_MONTHS // 2 + 1
    person, name = (party.person, party.name) if party else (None, "")
    while least < most:
        said = _ask(truth, "hrss.insured_points", "at_least", person, BAOAN, name=name, cell=cell)
        if said == _TRUTH[UNKNOWN]:
            break
        least, most = (cell, most) if said == _TRUTH[YES] else (least, cell - 1)
        cell = least + 1 + (most - least) // 2
    return least, most


def _ask(
    truth: Truth,
    attribute: str,
    predicate: str,
    subject: Subject | None,
    district: str = _CITY,
    **more: int | str | Subject | None,
) -> int:
    return _TRUTH[truth.answer(Question(attribute, predicate, subject, district, **more))]  # type: ignore[arg-type]  # names of Question's own fields


def _person(person: Person) -> dict[str, str]:
    return {"证件号码": person.identifier, "姓名": person.name}
