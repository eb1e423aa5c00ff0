"""A matter's rule: passed, check by hand or data disagrees, and never rejected."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.centre import parse_matter
from policy.model import Rule
from policy.rule import Fact, Finding, Verdict, evaluate, in_the_way
from zhiwang.wire.tomlfile import FileError

YES, NO, UNKNOWN, UNAVAILABLE = Fact
PASSED, BY_HAND, DISAGREES = Verdict
RULE = Rule(
    all=("aged", "housed"),
    any=MappingProxyType({"housed": ("lease", "owned")}),
    some=MappingProxyType({"guardian": ("parent", "pension")}),
)


def case(**facts: Fact | tuple[Fact, ...]) -> list[Finding]:
    """One fact for a claim about one subject; two for claims about each guardian."""
    findings = []
    for claim, fact in facts.items():
        if isinstance(fact, tuple):
            findings += [Finding(claim, {"guardian": number}, one) for number, one in enumerate(fact)]
        else:
            findings.append(Finding(claim, {"child": 0}, fact))
    return findings


GOOD: dict[str, Fact | tuple[Fact, ...]] = {
    "aged": YES,
    "lease": NO,
    "owned": YES,
    "parent": (YES, NO),
    "pension": (YES, NO),
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, PASSED),
        ({"aged": NO}, DISAGREES),
        ({"aged": UNKNOWN}, BY_HAND),
        ({"aged": UNAVAILABLE}, BY_HAND),
        ({"owned": NO}, DISAGREES),
        ({"owned": NO, "lease": UNKNOWN}, BY_HAND),
        ({"owned": NO, "lease": YES}, PASSED),
        ({"pension": (NO, YES)}, DISAGREES),
        ({"pension": (NO, YES), "parent": (YES, YES)}, PASSED),
        ({"pension": (UNKNOWN, NO)}, BY_HAND),
        ({"pension": (NO, UNAVAILABLE), "parent": (YES, YES)}, BY_HAND),
        ({"pension": (NO, UNKNOWN), "parent": (YES, NO)}, DISAGREES),
        ({"parent": (NO, NO), "pension": (YES, YES)}, DISAGREES),
        ({"aged": NO, "lease": UNKNOWN, "owned": UNKNOWN}, DISAGREES),
    ],
)
def test_verdict(changed: dict[str, Fact | tuple[Fact, ...]], verdict: Verdict) -> None:
    assert evaluate(RULE, case(**(GOOD | changed))) is verdict


def test_one_guardian_must_make_all_of_some_hold() -> None:
    assert evaluate(RULE, case(**(GOOD | {"parent": (YES, NO), "pension": (NO, YES)}))) is DISAGREES


@pytest.mark.parametrize("claim", GOOD)
def test_what_was_not_asked_is_open(claim: str) -> None:
    facts = {name: fact for name, fact in GOOD.items() if name != claim}
    if claim == "lease":
        assert evaluate(RULE, case(**facts)) is PASSED
    else:
        assert evaluate(RULE, case(**facts)) is BY_HAND
    assert evaluate(RULE, []) is BY_HAND


def test_outside_some_a_claim_must_hold_for_every_subject_of_its_slot() -> None:
    rule = Rule(all=("pension",))
    assert evaluate(rule, case(pension=(YES, YES))) is PASSED
    assert evaluate(rule, case(pension=(YES, NO))) is DISAGREES
    assert evaluate(rule, case(pension=(YES, UNKNOWN))) is BY_HAND


def test_a_claim_about_a_pair_counts_for_its_guardian() -> None:
    rule = Rule(some=MappingProxyType({"guardian": ("mother", "insured")}))
    pairs = [Finding("mother", {"child": 0, "guardian": 0}, NO), Finding("mother", {"child": 0, "guardian": 1}, YES)]
    insured = [Finding("insured", {"guardian": 0}, YES), Finding("insured", {"guardian": 1}, YES)]
    assert evaluate(rule, pairs + insured) is PASSED
    assert evaluate(rule, [*pairs, insured[0], Finding("insured", {"guardian": 1}, NO)]) is DISAGREES


def test_nobody_in_the_slot_of_some_is_open() -> None:
    assert evaluate(Rule(some=MappingProxyType({"guardian": ("pension",)})), []) is BY_HAND


def test_some_may_name_an_any_group() -> None:
    rule = Rule(
        any=MappingProxyType({"covered": ("pension", "medical")}),
        some=MappingProxyType({"guardian": ("parent", "covered")}),
    )
    assert evaluate(rule, case(parent=(YES, YES), pension=(NO, NO), medical=(NO, YES))) is PASSED
    assert evaluate(rule, case(parent=(YES, NO), pension=(NO, NO), medical=(NO, YES))) is DISAGREES


def brute(facts: dict[str, Fact | tuple[Fact, ...]]) -> Verdict:
    """Over every way in which what is open could turn out."""
    flat = {
        (claim, number): fact
        for claim, some in facts.items()
        for number, fact in enumerate(some if isinstance(some, tuple) else (some,))
    }
    open_keys = [key for key, fact in flat.items() if fact not in {YES, NO}]
    outcomes = set()
    for chosen in product([True, False], repeat=len(open_keys)):
        sure = {key: fact is YES for key, fact in flat.items()} | dict(zip(open_keys, chosen, strict=True))
        outcomes.add(
            sure["aged", 0]
            and (sure["lease", 0] or sure["owned", 0])
            and any(sure["parent", one] and sure["pension", one] for one in (0, 1))
        )
    if outcomes == {True}:
        return PASSED
    return DISAGREES if outcomes == {False} else BY_HAND


FACTS = st.sampled_from(list(Fact))
PAIRS = st.tuples(FACTS, FACTS)


@given(aged=FACTS, lease=FACTS, owned=FACTS, parent=PAIRS, pension=PAIRS)
def test_a_verdict_is_what_every_possible_truth_agrees_on(**facts: Fact | tuple[Fact, ...]) -> None:
    assert evaluate(RULE, case(**facts)) is brute(facts)


SOURCES = Rule(all=("kin",), agree=MappingProxyType({"kin": ("birth", "register")}))


@pytest.mark.parametrize(
    ("birth", "register", "verdict"),
    [
        (YES, YES, PASSED),
        (YES, UNKNOWN, PASSED),
        (UNAVAILABLE, YES, PASSED),
        (UNKNOWN, UNKNOWN, BY_HAND),
        (YES, NO, DISAGREES),
        (NO, UNKNOWN, DISAGREES),
        (NO, NO, DISAGREES),
    ],
)
def test_sources_of_one_fact_agree_if_one_says_so_and_none_denies_it(
    birth: Fact, register: Fact, verdict: Verdict
) -> None:
    for one, other in ((birth, register), (register, birth)):
        assert evaluate(SOURCES, case(birth=one, register=other)) is verdict


def test_what_is_in_the_way_is_whatever_is_not_yes_in_parts_that_do_not_hold() -> None:
    found = in_the_way(RULE, case(**GOOD | {"aged": UNKNOWN, "lease": NO, "owned": UNAVAILABLE}))
    assert [(one.claim, one.fact) for one in found] == [("aged", UNKNOWN), ("lease", NO), ("owned", UNAVAILABLE)]
    assert in_the_way(RULE, case(**GOOD)) == [], "a claim that is not needed stands in nobody's way"
    found = in_the_way(RULE, case(**GOOD | {"pension": (NO, YES), "parent": (YES, UNKNOWN)}))
    assert [(one.claim, one.ordinals["guardian"]) for one in found] == [("pension", 0), ("parent", 1)]


@given(st.fixed_dictionaries({name: st.sampled_from(Fact) for name in ("aged", "lease", "owned")}))
def test_something_is_in_the_way_exactly_if_a_case_does_not_pass(facts: dict[str, Fact]) -> None:
    found = case(**GOOD | facts)
    assert (in_the_way(RULE, found) == []) == (evaluate(RULE, found) is PASSED)


# The enrolment matter as it is published: a home counts that a guardian has rented for a year, or owns.

ENROLMENT = (Path(__file__).parents[3] / "examples" / "matters" / "school-enrolment.toml").read_text("utf-8")


def enrolled(lease: Fact, *guardians: tuple[Fact, Fact]) -> Verdict:
    """Of a case in which everything else holds; of each guardian, whether it is the tenant and whether the owner."""
    rule = parse_matter(ENROLMENT.encode()).rule
    assert rule is not None
    found = [Finding(name, {"child": 0}, YES) for name in ("aged", "young")]
    found.append(Finding("lease", {"home": 0}, lease))
    for number, (tenant, own) in enumerate(guardians):
        at_home = {"home": 0, "guardian": number}
        found += [Finding("tenant", at_home, tenant), Finding("own", at_home, own)]
        found += [Finding(name, {"child": 0, "guardian": number}, YES) for name in ("parent", "register")]
        found += [Finding(name, {"guardian": number}, YES) for name in ("permit", "local", "insured", "planned")]
    return evaluate(rule, found)


@pytest.mark.parametrize(
    ("lease", "guardians", "verdict"),
    [
        (YES, [(YES, NO)], PASSED),
        (NO, [(NO, YES)], PASSED),
        (YES, [(NO, YES)], PASSED),  # own, and let to others
        (NO, [(YES, NO)], DISAGREES),  # rented for less than a year, of whomever it is
        (YES, [(NO, NO)], DISAGREES),  # rented for a year by others
        (YES, [(NO, NO), (YES, NO)], PASSED),
        (NO, [(YES, NO), (NO, YES)], PASSED),
        (NO, [(YES, UNKNOWN)], BY_HAND),
        (UNKNOWN, [(YES, NO)], BY_HAND),
    ],
)
def test_a_home_counts_that_a_guardian_has_rented_for_a_year_or_owns(
    lease: Fact, guardians: list[tuple[Fact, Fact]], verdict: Verdict
) -> None:
    assert enrolled(lease, *guardians) is verdict


def test_what_one_subject_must_fulfil_is_about_it_at_least_by_one_claim_of_an_any_group() -> None:
    assert parse_matter(ENROLMENT.encode()).rule is not None
    alone = ENROLMENT.replace('any.housed    = ["lease", "own"]', 'any.housed    = ["lease", "aged"]')
    with pytest.raises(FileError, match=r"rule\.some\.guardian: lease is not about guardian"):
        parse_matter(alone.encode())
    bare = ENROLMENT.replace('"planned", "housed"', '"planned", "lease", "housed"')
    with pytest.raises(FileError, match=r"rule\.some\.guardian: lease is not about guardian"):
        parse_matter(bare.encode())
