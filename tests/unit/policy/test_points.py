"""Points: the search for a number, the classes, the range that remains, and the table as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.centre import parse_matter
from policy.model import Matter, Rule
from policy.points import Judgement, judge, next_cell, searched, span_of
from policy.rule import Fact, Finding, Verdict
from zhiwang.wire.tomlfile import FileError

CELLS = tuple(range(1, 121))
FIRST = 61
TEXT = (Path(__file__).parents[3] / "examples" / "matters" / "school-points.toml").read_text("utf-8")
MATTER = parse_matter(TEXT.encode())
YES, NO, UNKNOWN = Fact.YES, Fact.NO, Fact.UNKNOWN
OF_CHILD = ("identified", "outsider", "district")
OF_GUARDIAN = ("parent", "register", "known", "own", "rented", "homeless")

Answers = Mapping[tuple[str, int], Fact]
"""By claim and guardian; claims about the child have guardian 0."""


def answer(number: int, cell: int) -> Fact:
    return YES if number >= cell else NO


@pytest.mark.parametrize("number", range(141))
def test_a_number_is_found_in_seven_asks_at_most(number: int) -> None:
    answers = {FIRST: answer(number, FIRST)}
    while (cell := next_cell(CELLS, answers)) is not None:
        assert cell not in answers
        answers[cell] = answer(number, cell)
    assert len(answers) <= 7
    assert span_of(CELLS, answers) == (min(number, 120), min(number, 120))


@given(number=st.integers(0, 140), lost=st.integers(0, 6), fact=st.sampled_from([UNKNOWN, Fact.UNAVAILABLE]))
def test_an_answer_that_is_neither_ends_the_search_and_leaves_the_number_in_its_span(
    number: int, lost: int, fact: Fact
) -> None:
    answers: dict[int, Fact] = {}
    cell: int | None = FIRST
    while cell is not None:
        answers[cell] = fact if len(answers) == lost else answer(number, cell)
        cell = next_cell(CELLS, answers)
    span = span_of(CELLS, answers)
    assert span.least <= min(number, 120) <= span.most
    assert fact not in answers.values() or list(answers.values())[-1] is fact


def test_a_record_that_changed_between_two_asks_leaves_the_number_open() -> None:
    answers = {61: YES, 31: NO}
    assert next_cell(CELLS, answers) is None
    assert span_of(CELLS, answers) == (30, 61)


# The whole, against an evaluator that knows nothing of three values: it takes every way in which things can turn out.


def findings(answers: Answers, guardians: int, insured: Mapping[int, Mapping[int, Fact]]) -> list[Finding]:
    found = [Finding(name, {"child": 0}, answers[name, 0]) for name in OF_CHILD]
    for ordinal in range(guardians):
        for name in OF_GUARDIAN:
            other = {"parent": "child", "register": "child", "own": "home", "rented": "home"}.get(name)
            ordinals = {"guardian": ordinal} | ({other: 0} if other else {})
            found.append(Finding(name, ordinals, answers[name, ordinal]))
        found.append(Finding("insured", {"guardian": ordinal}, insured[ordinal][FIRST]))
    return found


def kin(answers: Answers, guardian: int) -> Fact:
    said = {answers["parent", guardian], answers["register", guardian]}
    return NO if NO in said else YES if YES in said else UNKNOWN


def ways(answers: Answers, guardians: int) -> Iterator[dict[tuple[str, int], bool]]:
    """Every way in which what is open can turn out; whether somebody is a parent is one answer, of two sources."""
    facts = {place: fact for place, fact in answers.items() if place[0] not in {"parent", "register"}}
    facts |= {("kin", guardian): kin(answers, guardian) for guardian in range(guardians)}
    for turned in product(*([fact is YES] if fact in {YES, NO} else [True, False] for fact in facts.values())):
        yield dict(zip(facts, turned, strict=True))


def points_of(way: Mapping[tuple[str, int], bool], months: Sequence[int]) -> int | None:
    """The district's rules, as a clerk would read them; None if the case does not pass."""
    if not way["identified", 0]:
        return None
    everybody = range(len(months))
    nowhere = all(way["known", one] and way["homeless", one] for one in everybody)
    best = None
    for one in everybody:
        if not (way["known", one] and way["kin", one]):
            continue
        own, rents = way["own", one], way["rented", one]
        if way["outsider", 0]:
            base = 75 if own else 60 if rents else None
        elif way["district", 0]:
            base = 105 if own else (95 if nowhere else 70) if rents else None
        else:
            base = 100 if own else (85 if nowhere else 65) if rents else None
        if base is not None:
            best = max(best or 0, base + months[one])
    # Someone from outside whose records name no home of theirs is in no class of residents either.
    return best


FACTS = st.sampled_from([YES, YES, YES, NO, NO, UNKNOWN])


@st.composite
def cases(draw: st.DrawFn, most: int = 2) -> tuple[dict[tuple[str, int], Fact], list[int], list[dict[int, Fact]]]:
    guardians = draw(st.integers(1, most))
    answers = {(name, 0): draw(FACTS) for name in OF_CHILD}
    answers |= {(name, one): draw(FACTS) for name in OF_GUARDIAN for one in range(guardians)}
    opened = [place for place, fact in answers.items() if fact is UNKNOWN]
    for place in opened[6:]:
        answers[place] = YES
    months, insured = [], []
    for _ in range(guardians):
        number, lost = draw(st.integers(0, 120)), draw(st.one_of(st.none(), st.integers(0, 6)))
        asked: dict[int, Fact] = {}
        cell: int | None = FIRST
        while cell is not None:
            asked[cell] = UNKNOWN if len(asked) == lost else answer(number, cell)
            cell = next_cell(CELLS, asked)
        months.append(number)
        insured.append(asked)
    return answers, months, insured


@settings(max_examples=400)
@given(cases())
def test_no_way_in_which_things_can_turn_out_lies_outside_what_is_said(
    case: tuple[dict[tuple[str, int], Fact], list[int], list[dict[int, Fact]]],
) -> None:
    answers, months, insured = case
    asked = dict(enumerate(insured))
    said = judge(MATTER, CELLS, findings(answers, len(months), asked), asked)
    outcomes = [points_of(way, months) for way in ways(answers, len(months))]
    passing = [one for one in outcomes if one is not None]
    if said.verdict is Verdict.PASSED:
        assert said.score is not None
        assert {said.score.least} == {said.score.most} == set(outcomes), "a score that could be another one"
        assert said.reasons == ()
    else:
        assert said.reasons, "nothing says why"
        assert all(one.fact is not YES or one.claim == "insured" for one in said.reasons)
    if said.verdict is Verdict.DATA_DISAGREES:
        assert not passing
    if said.score is not None:
        assert all(said.score.least <= one <= said.score.most for one in passing)


@settings(max_examples=400)
@given(cases(most=1))
def test_of_one_guardian_by_whom_the_rule_holds_the_range_is_exact(
    case: tuple[dict[tuple[str, int], Fact], list[int], list[dict[int, Fact]]],
) -> None:
    answers, _, insured = case
    answers |= {("identified", 0): YES, ("known", 0): YES, ("parent", 0): YES, ("register", 0): UNKNOWN}
    span = span_of(CELLS, insured[0])
    said = judge(MATTER, CELLS, findings(answers, 1, {0: insured[0]}), {0: insured[0]})
    outcomes = {points_of(way, [months]) for way in ways(answers, 1) for months in span}
    passing = outcomes - {None}
    assert (said.verdict is Verdict.PASSED) == (len(outcomes) == 1 and bool(passing))
    assert (said.verdict is Verdict.DATA_DISAGREES) == (not passing)
    if said.score is not None:
        assert (said.score.least, said.score.most) == (min(passing), max(passing))  # type: ignore[type-var]  # no None


def sure(**other: Fact) -> dict[tuple[str, int], Fact]:
    """A child of the district whose one guardian rents and has no home."""
    facts = dict.fromkeys(OF_CHILD + OF_GUARDIAN, YES) | {"outsider": NO, "own": NO} | other
    return {(name, 0): fact for name, fact in facts.items()}


def test_nobody_is_searched_about_who_cannot_count() -> None:
    first = {0: {FIRST: YES}}
    assert searched(MATTER, CELLS, findings(sure(), 1, first), first) == {0: 91}
    assert searched(MATTER, CELLS, findings(sure(parent=NO), 1, first), first) == {}
    assert searched(MATTER, CELLS, findings(sure(rented=NO), 1, first), first) == {}
    assert searched(MATTER, CELLS, findings(sure(identified=NO), 1, first), first) == {}
    lost = {0: {FIRST: UNKNOWN}}
    assert searched(MATTER, CELLS, findings(sure(), 1, lost), lost) == {}


def test_sources_that_contradict_each_other_are_data_that_disagree() -> None:
    known = {0: {cell: answer(70, cell) for cell in CELLS}}
    assert judge(MATTER, CELLS, findings(sure(), 1, known), known).verdict is Verdict.PASSED
    said = judge(MATTER, CELLS, findings(sure(register=NO), 1, known), known)
    assert said.verdict is Verdict.DATA_DISAGREES
    assert [one.claim for one in said.reasons] == ["register"]
    only = judge(MATTER, CELLS, findings(sure(register=UNKNOWN), 1, known), known)
    assert only.verdict is Verdict.PASSED
    assert only.score is not None
    assert (only.score.least, only.score.classes, only.score.number) == (165, (3,), (70, 70))


def test_a_source_that_alone_denies_a_class_lowers_nobodys_points_silently() -> None:
    assert MATTER.points is not None
    first = MATTER.points.classes[0]
    classes = (replace(first, when=("home",), base=100), replace(first, when=("id",), base=60))
    points = replace(MATTER.points, slot="guardian", each="months", every=frozenset(), classes=classes)
    matter = replace(MATTER, rule=Rule(all=("id",), agree={"home": ("deed", "register")}), points=points)
    known = {0: {1: YES, 2: YES}}

    def judged(deed: Fact, register: Fact) -> tuple[Verdict, int, int, list[str]]:
        facts = {"id": YES, "deed": deed, "register": register, "months": YES}
        said = judge(matter, [1, 2], [Finding(name, {"guardian": 0}, fact) for name, fact in facts.items()], known)
        assert said.score is not None
        return said.verdict, said.score.least, said.score.most, [one.claim for one in said.reasons]

    assert judged(YES, YES) == (Verdict.PASSED, 102, 102, [])
    assert judged(YES, UNKNOWN) == (Verdict.PASSED, 102, 102, [])
    assert judged(YES, NO) == (Verdict.CHECK_BY_HAND, 62, 102, ["register"])
    assert judged(UNKNOWN, UNKNOWN) == (Verdict.CHECK_BY_HAND, 62, 102, ["deed", "register"])
    for silent in (UNKNOWN, Fact.UNAVAILABLE):
        assert judged(silent, NO) == (Verdict.CHECK_BY_HAND, 62, 102, ["deed", "register"])
        assert judged(NO, silent) == (Verdict.CHECK_BY_HAND, 62, 102, ["deed", "register"])
    assert judged(NO, NO) == (Verdict.PASSED, 62, 62, [])


# The same, exactly: whether a home is owned or rented has two sources each.

OF_SOURCES = {"owns": ("deed", "tax"), "rents": ("lease", "police")}
BASES = ((("owns", "local"), 100), (("owns",), 75), (("rents", "local"), 60), (("rents", "calm"), 40))


def sourced(*, every: frozenset[str]) -> Matter:
    assert MATTER.points is not None
    first = MATTER.points.classes[0]
    classes = tuple(replace(first, when=when, base=base) for when, base in BASES)
    points = replace(MATTER.points, slot="guardian", each="months", every=every, classes=classes)
    return replace(MATTER, rule=Rule(all=("calm",), agree=OF_SOURCES), points=points)


def said_of(matter: Matter, guardians: Sequence[Mapping[str, Fact]]) -> Judgement:
    found = [
        Finding(name, {"guardian": number}, fact)
        for number, facts in enumerate(guardians)
        for name, fact in {**facts, "calm": YES, "months": YES}.items()
    ]
    return judge(matter, [1], found, {number: {1: YES} for number in range(len(guardians))})


def possible(facts: Mapping[str, Fact]) -> Iterator[dict[str, bool]]:
    """A fact is sure if all of its sources deny it, or one confirms it and none denies it; else it is either."""
    both: dict[str, list[bool]] = {}
    for name, sources in {**OF_SOURCES, "local": ("local",)}.items():
        told = {facts[source] for source in sources}
        both[name] = [False] if told == {NO} else [True] if YES in told and NO not in told else [True, False]
    for turned in product(*both.values()):
        yield dict(zip(both, turned, strict=True)) | {"calm": True}


def best_of(guardians: Sequence[Mapping[str, bool]], every: frozenset[str]) -> int | None:
    found = None
    for one in guardians:
        known = {
            name: all(other[name] for other in guardians) if name in every else holds for name, holds in one.items()
        }
        base = next((base for when, base in BASES if all(known[name] for name in when)), None)
        if base is not None:
            found = max(found or 0, base + 1)
    return found


SOURCED = [name for sources in OF_SOURCES.values() for name in sources]


@pytest.mark.parametrize("every", [frozenset(), frozenset({"owns", "rents"})])
def test_with_several_sources_of_a_fact_the_points_are_exactly_what_can_still_turn_out(every: frozenset[str]) -> None:
    matter = sourced(every=every)
    for answers in product([YES, NO, UNKNOWN], repeat=5):
        facts = dict(zip([*SOURCED, "local"], answers, strict=True))
        outcomes = {best_of([way], every) for way in possible(facts)}
        passing = outcomes - {None}
        said = said_of(matter, [facts])
        assert (said.verdict is Verdict.PASSED) == (len(outcomes) == 1 and bool(passing)), facts
        assert (said.verdict is Verdict.DATA_DISAGREES) == (not passing), facts
        assert bool(said.reasons) == (said.verdict is not Verdict.PASSED), facts
        if said.score is not None:
            assert (said.score.least, said.score.most) == (min(passing), max(passing)), facts  # type: ignore[type-var]  # no None


@settings(max_examples=200)
@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys([*SOURCED, "local"], st.sampled_from([YES, NO, UNKNOWN]))),
        min_size=2,
        max_size=2,
    ),
    st.sampled_from([frozenset(), frozenset({"owns"}), frozenset({"owns", "rents"})]),
)
def test_of_two_guardians_no_disputed_fact_passes_for_a_sure_one(
    guardians: list[dict[str, Fact]], every: frozenset[str]
) -> None:
    said = said_of(sourced(every=every), guardians)
    outcomes = {best_of(ways, every) for ways in product(*(list(possible(one)) for one in guardians))}
    passing = [one for one in outcomes if one is not None]
    if said.verdict is Verdict.PASSED:
        assert said.score is not None
        assert outcomes == {said.score.least} == {said.score.most}
    if said.verdict is Verdict.DATA_DISAGREES:
        assert not passing
    if said.score is not None:
        assert all(said.score.least <= one <= said.score.most for one in passing)


def test_an_open_answer_leaves_a_range_and_is_named() -> None:
    known = {0: {cell: answer(70, cell) for cell in CELLS}}
    said = judge(MATTER, CELLS, findings(sure(homeless=UNKNOWN), 1, known), known)
    assert said.verdict is Verdict.CHECK_BY_HAND
    assert said.score is not None
    assert (said.score.least, said.score.most) == (140, 165)
    assert [one.claim for one in said.reasons] == ["homeless"]


def test_a_guardian_who_might_count_for_more_is_a_reason() -> None:
    facts = sure() | {(name, 1): fact for (name, _), fact in sure().items() if name in OF_GUARDIAN}
    facts[("parent", 1)] = facts[("register", 1)] = UNKNOWN
    known = {one: {cell: answer(number, cell) for cell in CELLS} for one, number in enumerate((20, 90))}
    said = judge(MATTER, CELLS, findings(facts, 2, known), known)
    assert said.verdict is Verdict.CHECK_BY_HAND
    assert said.score is not None
    assert (said.score.least, said.score.most) == (115, 185)
    assert [(one.claim, one.ordinals["guardian"]) for one in said.reasons] == [("parent", 1), ("register", 1)]


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ('slot     = "guardian"', 'slot = "aunt"', "points.slot", "no such slot"),
        ('each     = "insured"', 'each = "nothing"', "points.each", "no claim"),
        ('each     = "insured"', 'each = "known"', "points.each", "must ask at_least"),
        ('every    = ["known", "homeless"]', 'every = ["district", "x"]', "points.every", "no class names x"),
        ('when  = ["outsider", "own"]', 'when = ["outsider", "owns"]', "points.class[0].when", "owns is no claim"),
        ('when  = ["outsider", "own"]', 'when = ["own", "own"]', "points.class[0].when", "stands twice"),
        ('when  = ["outsider", "own"]', "when = []", "points.class[0].when", "names nothing"),
        ('when  = ["outsider", "own"]', 'when = ["insured"]', "points.class[0].when", "counts already"),
        ('when  = ["district", "rented", "known", "homeless"]', 'when = ["homeless"]', "points.class[3]", "absence"),
        ("base  = 75", "base = -1", "points.class[0].base", ""),
        ("base  = 75", "base = 75\nbonus = 1", "points.class[0].bonus", ""),
        ("[rule]", "[rulers]", "rulers", ""),
    ],
)
def test_mistakes_in_a_table_are_named_by_line_and_key(old: str, new: str, key: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(FileError) as caught:
        parse_matter(TEXT.replace(old, new, 1).encode())
    told = caught.value.findings[0]
    assert message in told.message
    assert told.key.startswith(key)
    lines = TEXT.replace(old, new, 1).splitlines()
    assert new.splitlines()[-1] in lines[told.line - 1]


def test_points_need_a_rule_and_classes_few_enough_to_look_at() -> None:
    start, end = TEXT.index("[rule]"), TEXT.index("# The first class")
    with pytest.raises(FileError, match="needs a rule"):
        parse_matter((TEXT[:start] + TEXT[end:]).encode())
    many = TEXT.replace("up_to = 2", "up_to = 16")
    with pytest.raises(FileError, match="more than 16 answers"):
        parse_matter(many.encode())
