"""The example mappings over the example databases, through the adapter's own statements, against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from random import Random
from shutil import copy
from typing import Any

import pytest

from adapters.database import connect_to
from adapters.dialects import spell_list
from adapters.mapping import load_mapping
from adapters.probes import Probes
from adapters.spelling import spell
from adapters.sql import Source
from demo_support import EXAMPLES, TODAY, shared_city
from exchange.demo.calendar import ENROLMENT_DAY
from exchange.demo.chance import source
from exchange.demo.facts import FACTS, Ledgers
from exchange.demo.model import City, Company, Dwelling, Person
from exchange.demo.names import with_other_dot
from exchange.demo.stores import WRITERS, write
from exchange.demo.truth import Question, Subject, Truth
from policy.centre import parse_centre
from policy.document import parse_document
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.names import canonical_name, name_spellings
from zhiwang.wire.records import Outcome

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SAMPLE = 250
CENTRE = parse_centre(EXAMPLES / "centre.toml")
SCHEMES = {kind.name: scheme(kind.scheme, kind.pattern) for kind in CENTRE.subjects.values()}
DOCUMENTS = {name: parse_document(EXAMPLES / "documents" / f"{name}.toml") for name in WRITERS}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Source]]:
    directory = tmp_path_factory.mktemp("owners")
    made = {}
    for department, document in DOCUMENTS.items():
        home = directory / department
        home.mkdir()
        copy(EXAMPLES / "mappings" / f"{department}.toml", home / "mapping.toml")
        write(department, home / f"{department}.db", shared_city(), seed=1, now=NOW)
        mapping = load_mapping(home / "mapping.toml", document)
        made[department] = Source(connect_to(mapping.database, home), mapping, document.attributes, clock=NOW.timestamp)
    yield made
    for opened in made.values():
        opened.close()


def questions(city: City, attribute: str, predicate: Predicate, rng: Random) -> Iterator[Question]:
    """Questions about people, companies or dwellings, on record and not, in trouble and not."""
    published = DOCUMENTS[attribute.partition(".")[0]].attributes[attribute.partition(".")[2]]
    cells = published.cells(predicate) or ("0",)
    everybody: dict[str, list[Subject]] = {
        "person": list(city.people),
        "entity": list(city.companies),
        "dwelling": list(city.dwellings),
    }
    applying: dict[str, list[Subject]] = {
        "person": [party.person for one in city.applications for party in (one.child, *one.guardians)],
        "entity": [],
        "dwelling": [one.home for one in city.applications],
    }
    subjects = everybody[published.subject]
    on_record = [subject for subject in subjects if values(attribute, subject)]
    sample = [
        *rng.sample(subjects, SAMPLE // 3),
        *rng.choices(on_record, k=SAMPLE // 3),
        *rng.choices(applying[published.subject] or subjects, k=SAMPLE // 3),
    ]
    for subject in sample:
        district = place(subject) if rng.random() < 0.8 else rng.choice(city.places.districts)
        name = ""
        if not isinstance(subject, Dwelling) and rng.random() < 0.5:
            name = rng.choice((subject.name, with_other_dot(subject.name, rng), "赵钱孙"))
        other = compared(city, attribute, predicate, subject, rng)
        cell = int(rng.choice(cells))
        yield Question(attribute, predicate.value, subject, district, name=name, cell=cell, other=other)


def place(subject: Subject) -> str:
    """District of somebody's home."""
    if isinstance(subject, Company):
        return "440306"
    return (subject.home if isinstance(subject, Person) else subject).code[:6]


def values(attribute: str, subject: Subject) -> list[Any]:
    """What the owner has on record, as far as it can be read."""
    rows = FACTS[attribute].rows(LEDGERS, subject, ENROLMENT_DAY)
    return [row.value for row in rows if row.value is not None]


def compared(city: City, attribute: str, predicate: Predicate, subject: Subject, rng: Random) -> Subject | str | None:
    """Something to compare with: what is on record, or something else."""
    if predicate not in {Predicate.EQUALS, Predicate.RELATED}:
        return None
    # Who is nobody's holder is written so; nobody asks about that.
    on_record: list[Subject | str] = [one for one in values(attribute, subject) if one != "nobody"]
    if on_record and rng.random() < 0.6:
        return rng.choice(on_record)
    if attribute == "hrss.employer":
        return rng.choice(city.companies)
    if predicate is Predicate.RELATED:
        return rng.choice(city.people)
    return {"police.household_district": "440305", "housing.use": "20"}.get(attribute, "赵钱孙")


LEDGERS = Ledgers(shared_city())
TRUTHS = {day: Truth(shared_city(), day) for day in (ENROLMENT_DAY, TODAY)}
ASKED = [
    (f"{department}.{name}", predicate)
    for department, document in DOCUMENTS.items()
    for name, attribute in document.attributes.items()
    for predicate in sorted(attribute.predicates)
    if not attribute.reports  # of no record
]


def identifier(subject: Subject) -> str:
    return subject.identifier if isinstance(subject, Person) else subject.code


def ask(source: Source, question: Question, predicate: Predicate, attribute: str, day: date) -> str:
    published = source.attributes[attribute]
    mapped = source.mapping.attribute[attribute]
    names = (
        spell_list(name_spellings(canonical_name(question.name)))
        if question.name and source.mapping.data[mapped.data].name
        else None
    )
    value: str | None = str(question.cell) if predicate in {Predicate.AT_LEAST, Predicate.AT_MOST} else None
    if question.other is not None:
        text = question.other if isinstance(question.other, str) else identifier(question.other)
        spelled = spell(published.type, text, SCHEMES, TODAY)
        assert spelled is not None
        value = spelled[1]
    plan = source.plan(mapped.data, ((attribute, predicate),))
    assert question.subject is not None
    row = (SCHEMES[published.subject].spellings(identifier(question.subject)), names, question.district, [value])
    with source.lend() as lent:
        loaded = source.loaded(lent, mapped.data)
        assert loaded.whole
        assert loaded.time is not None
        if published.max_age is not None and NOW.timestamp() - loaded.time > published.max_age:
            return "UNKNOWN"
        return Outcome(source.run(lent, plan, day, [row])[0][0]).name


@pytest.mark.parametrize(("attribute", "predicate"), ASKED, ids=[f"{a} {p}" for a, p in ASKED])
def test_every_attribute_is_answered_as_the_truth_has_it(
    sources: dict[str, Source], attribute: str, predicate: Predicate
) -> None:
    city = shared_city()
    rng = source(attribute + predicate)
    owner, _, name = attribute.partition(".")
    seen = set()
    for day, truth in TRUTHS.items():
        for number, question in enumerate(questions(city, attribute, predicate, rng)):
            expected = truth.answer(question)
            answer = ask(sources[owner], question, predicate, name, day)
            # Never the question itself: a failing test is a log, too.
            assert answer == expected, f"{attribute} {predicate} {question.cell}, question {number} as of {day}"
            seen.add(answer)
    shown = {"YES"} if predicate is Predicate.EXISTS else {"YES", "NO"}
    assert FACTS[attribute].stale or shown <= seen, f"the sample shows only {seen}"


def test_every_published_attribute_has_a_truth_and_every_truth_is_published() -> None:
    assert {attribute for attribute, _ in ASKED} == set(FACTS)


@pytest.mark.parametrize("department", sorted(WRITERS))
def test_probes_pass(sources: dict[str, Source], department: str) -> None:
    results = Probes(sources[department], SCHEMES, NOW.timestamp).run()
    assert results
    assert [(result.index, result.found) for result in results if not result.passed] == []
