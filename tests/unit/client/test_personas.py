"""The mock's cast: valid identifiers, one for each; everybody else by a chance that holds together."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.client.personas import PERSONAS, Cast, Persona, identifier
from exchange.demo.codes import resident
from policy.model import Attribute, SubjectKind, Title
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.records import Outcome, SubjectRecord

SCHEMES = ("resident", "uscc", "house")
KINDS = (
    SubjectKind("person", "resident"),
    SubjectKind("entity", "uscc"),
    SubjectKind("dwelling", "house"),
    SubjectKind("permit", "plain", "[A-Z][0-9]{8}"),
)
TODAY = date(2026, 9, 1)
TITLE = Title("？", "?")


def attribute(*predicates: Predicate, at_least: tuple[str, ...] = (), at_most: tuple[str, ...] = ()) -> Attribute:
    return Attribute("hrss", "fact", TITLE, "person", "integer", frozenset(predicates), at_least, at_most)


def person(number: int) -> SubjectRecord:
    return SubjectRecord("person", resident(date(1990 + number // 1000 % 10, 3, 4), number % 1000), "")


@pytest.mark.parametrize("name", SCHEMES)
def test_identifiers_of_personas_are_valid_and_each_has_its_own(name: str) -> None:
    found = [identifier(persona, name) for persona in PERSONAS]
    assert [scheme(name).canonical(one or "", today=TODAY) for one in found] == found
    assert len(set(found)) == len(PERSONAS)
    assert all("440399" in (one or "") for one in found)


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda one: str(one.number))
def test_a_persona_is_recognised_in_every_kind_that_it_has_and_in_no_other(persona: Persona) -> None:
    cast = Cast(KINDS)
    for kind in KINDS[:3]:
        code = identifier(persona, kind.scheme) or ""
        assert cast.persona(SubjectRecord(kind.name, code, "")) is persona
        assert cast.persona(SubjectRecord("other", code, "")) is None
    assert identifier(persona, "plain") is None
    assert persona.group


def test_the_claims_own_subject_decides_before_the_compared_one() -> None:
    cast = Cast(KINDS)
    yes, no = (SubjectRecord("person", identifier(PERSONAS[index], "resident") or "", "") for index in (0, 1))
    asked = attribute(Predicate.RELATED)
    assert cast.outcome(asked, Predicate.RELATED, "", yes, no) is Outcome.YES
    assert cast.outcome(asked, Predicate.RELATED, "", no, yes) is Outcome.NO
    assert cast.outcome(asked, Predicate.RELATED, "", person(7), no) is Outcome.NO


def test_an_empty_slot_is_unknown() -> None:
    cast = Cast(KINDS)
    yes = SubjectRecord("person", identifier(PERSONAS[0], "resident") or "", "")
    assert cast.outcome(attribute(Predicate.VALID), Predicate.VALID, "", None, None) is Outcome.UNKNOWN
    assert cast.outcome(attribute(Predicate.RELATED), Predicate.RELATED, "", yes, None) is Outcome.UNKNOWN


@given(st.integers(0, 9999))
def test_thresholds_of_one_person_agree_with_each_other(number: int) -> None:
    cast, cells = Cast(KINDS), ("6", "12", "24", "60")
    asked = attribute(Predicate.AT_LEAST, Predicate.AT_MOST, at_least=cells, at_most=cells)
    least = [cast.outcome(asked, Predicate.AT_LEAST, cell, person(number), None) for cell in cells]
    most = [cast.outcome(asked, Predicate.AT_MOST, cell, person(number), None) for cell in cells]
    if Outcome.UNKNOWN in (*least, *most):
        assert {*least, *most} == {Outcome.UNKNOWN}
        return
    assert least == sorted(least, key=[Outcome.YES, Outcome.NO].index)
    assert most == sorted(most, key=[Outcome.NO, Outcome.YES].index)
    assert all((one, other) != (Outcome.NO, Outcome.NO) for one, other in zip(least, most, strict=True))


@given(st.integers(0, 9999))
def test_who_exists_is_not_absent_and_exists_is_never_no(number: int) -> None:
    cast, asked = Cast(KINDS), attribute(Predicate.EXISTS, Predicate.ABSENT)
    exists = cast.outcome(asked, Predicate.EXISTS, "", person(number), None)
    absent = cast.outcome(asked, Predicate.ABSENT, "", person(number), None)
    assert (exists, absent) in {
        (Outcome.YES, Outcome.NO),
        (Outcome.UNKNOWN, Outcome.YES),
        (Outcome.UNKNOWN, Outcome.UNKNOWN),
    }


def test_a_load_test_meets_every_answer_in_the_shares_that_are_written_down() -> None:
    cast, asked = Cast(KINDS), attribute(Predicate.VALID)
    found = [cast.outcome(asked, Predicate.VALID, "", person(number), None) for number in range(4000)]
    assert found == [Cast(KINDS).outcome(asked, Predicate.VALID, "", person(number), None) for number in range(4000)]
    assert 0.85 < found.count(Outcome.YES) / 4000 < 0.9
    assert 0.07 < found.count(Outcome.NO) / 4000 < 0.13
    assert 0.015 < found.count(Outcome.UNKNOWN) / 4000 < 0.05


def test_the_page_shows_identifiers_that_the_mock_knows_and_says_the_same_of_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "requester.md").read_text(encoding="utf-8")
    section = page.partition("## First day: the mock")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\d{17}[\dX])`( \||[^|]+\|) (.+) \|$", section, re.MULTILINE)
    known = {identifier(persona, "resident"): persona for persona in PERSONAS}
    assert len(rows) >= len({persona.group for persona in PERSONAS})
    for shown, _, _ in rows:
        assert shown in known
    for shown, rest, text in rows:
        if rest == " |":
            assert (
                text.replace("`", "").replace("(exists)", "").strip() == known[shown].en.replace("(exists)", "").strip()
            )
