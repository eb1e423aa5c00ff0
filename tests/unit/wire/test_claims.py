from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire_support import outcome_of
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import MAX_CLAIM, Ask, Claim, Predicate
from zhiwang.wire.errors import Reason, RefusedError

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
    lambda text: not text.startswith("@")
)


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    predicate = draw(st.sampled_from(Predicate))
    cell = text = compared = None
    if predicate.takes_cell:
        cell = draw(st.from_regex(r"[0-9]{1,4}|[0-9]{4}-[0-9]{2}-[0-9]{2}|-?[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True))
    elif predicate.compares:
        compared = draw(st.none() | NAMES)
        text = draw(TEXTS) if compared is None else None
    return Claim(draw(st.none() | NAMES), draw(NAMES), draw(NAMES), predicate, cell, text, compared)


@given(claims())
def test_what_a_claim_prints_reads_as_the_same_claim(claim: Claim) -> None:
    assert Claim.parse(str(claim)) == claim


@given(claims())
def test_an_ask_stops_before_cell_and_value(claim: Claim) -> None:
    assert Ask.parse(str(claim.ask)) == claim.ask
    if claim.predicate.takes_cell or claim.predicate.compares:
        with pytest.raises(RefusedError, match="CLAIM_SYNTAX"):
            Ask.parse(str(Claim(None, *_ask(claim), claim.cell, claim.text, claim.compared_slot)))


def _ask(claim: Claim) -> tuple[str, str, Predicate]:
    return claim.owner, claim.attribute, claim.predicate


@given(st.text())
def test_any_text_is_a_claim_or_refused(text: str) -> None:
    found = outcome_of(lambda: Claim.parse(text))
    assert isinstance(found, Claim) or found is Reason.CLAIM_SYNTAX


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("child: police.age at_least 6", Claim("child", "police", "age", Predicate.AT_LEAST, cell="6")),
        ("health.vaccinated exists", Claim(None, "health", "vaccinated", Predicate.EXISTS)),
        (
            "child: health.parent related @guardian",
            Claim("child", "health", "parent", Predicate.RELATED, compared_slot="guardian"),
        ),
        (
            "child: police.name equals 张 小明: x @y",
            Claim("child", "police", "name", Predicate.EQUALS, text="张 小明: x @y"),
        ),
        (
            "housing.lease_start at_most 2026-03-01",
            Claim(None, "housing", "lease_start", Predicate.AT_MOST, "2026-03-01"),
        ),
    ],
)
def test_the_examples_of_the_files_page_are_read(text: str, claim: Claim) -> None:
    assert Claim.parse(text) == claim


@pytest.mark.parametrize(
    "text",
    [
        "",
        "police.age",
        "police.age older 6",
        "police.age at_least",
        "police.age at_least six months",
        "police.age exists 6",
        "police.age valid @child",
        "police.age equals",
        "police.age equals @",
        "police.age equals @Child",
        "police.age equals a\nb",
        "Police.age exists",
        "child:police.age exists",
        "child : police.age exists",
        "police age exists",
        "police.age.years exists",
        "police.age existsx",
        "police.age equals " + "x" * MAX_CLAIM,
    ],
)
def test_what_does_not_follow_the_syntax_is_refused(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Claim.parse(text)
    assert refused.value.reason is Reason.CLAIM_SYNTAX


def test_a_refused_claim_is_not_repeated() -> None:
    with pytest.raises(RefusedError) as refused:
        Claim.parse("police.former_name equals\x00张小明")
    assert "张" not in str(refused.value)
    assert refused.value.__context__ is None


def test_every_predicate_of_the_wire_has_a_word() -> None:
    numbers = set(sealed_pb2.Predicate.values()) - {sealed_pb2.PREDICATE_UNSPECIFIED}
    assert {Predicate.from_number(number).number for number in numbers} == numbers
    for predicate in Predicate:
        assert sealed_pb2.Predicate.Name(predicate.number) == f"PREDICATE_{predicate.upper()}"
