"""What each owner is asked: its own slots and values and no others, in canonical form."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_support import CASE, CHILD, CONTEXT, FATHER, MOTHER, TODAY, World, directory, resident
from exchange.client.case import Case, Subject
from exchange.client.plan import MAX_CLAIMS, Planner, canonical_value
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import parse_header
from zhiwang.wire.identifiers import scheme

DIRECTORY = directory()
PLANNER = Planner(DIRECTORY, DIRECTORY.matters["school-enrolment"])
CHILD_SUBJECT = Subject("child", CHILD)
MOTHER_SUBJECT = Subject("guardian", MOTHER)
FATHER_SUBJECT = Subject("guardian", FATHER)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def refused(case: Case) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        PLANNER.prepare(case, TODAY)
    return caught.value


def test_a_case_without_claims_is_asked_the_matters() -> None:
    prepared = PLANNER.prepare(CASE, TODAY)
    assert prepared.labels == (
        "child: health.birth_mother related @guardian",
        "guardian: hrss.pension_months at_least 12",
        "guardian: hrss.insured exists",
    )
    assert [one.name for one in prepared.plan.asked] == ["parent", "pension", "insured"]
    assert prepared.plan.rule is PLANNER.matter.rule


def test_claims_expand_over_subjects_and_over_compared_subjects() -> None:
    prepared = PLANNER.prepare(Case((CHILD_SUBJECT, MOTHER_SUBJECT, FATHER_SUBJECT)), TODAY)
    asked = [(one.name, one.ordinal, one.compared_ordinal) for one in prepared.plan.asked]
    assert asked == [
        ("parent", 0, 0),
        ("parent", 0, 1),
        ("pension", 0, 0),
        ("pension", 1, 0),
        ("insured", 0, 0),
        ("insured", 1, 0),
    ]


def test_an_empty_slot_is_asked_about_once_and_has_no_subject() -> None:
    prepared = PLANNER.prepare(Case((CHILD_SUBJECT,)), TODAY)
    assert [one.ordinal for one in prepared.plan.asked] == [0, 0, 0]
    hrss = next(part for part in prepared.plan.parts if part.owner == "hrss")
    assert hrss.record(prepared, bytes(32)).subjects == (None,)


def test_an_owner_gets_its_own_slots_and_no_others() -> None:
    prepared = PLANNER.prepare(Case((CHILD_SUBJECT, MOTHER_SUBJECT)), TODAY)
    places = {part.owner: part.places for part in prepared.plan.parts}
    assert places == {"health": (("child", 0), ("guardian", 0)), "hrss": (("guardian", 0),)}


def test_an_owner_gets_its_own_compared_values_and_no_others() -> None:
    claims = ("child: health.name equals 甲", "child: hrss.name equals 乙", "child: health.old_name equals 丙")
    prepared = PLANNER.prepare(Case((CHILD_SUBJECT,), claims), TODAY)
    values = {part.owner: part.record(prepared, bytes(32)).values for part in prepared.plan.parts}
    assert values == {"health": ("甲", "丙"), "hrss": ("乙",)}


def test_cases_that_differ_in_persons_and_values_only_share_a_plan() -> None:
    first = PLANNER.prepare(Case((CHILD_SUBJECT,), ("child: health.name equals 甲",)), TODAY)
    second = PLANNER.prepare(Case((Subject("child", MOTHER),), ("child: health.name equals 乙",)), TODAY)
    assert first.plan is second.plan
    assert first.texts != second.texts


def test_the_same_claim_twice_is_asked_once() -> None:
    claim = "guardian: hrss.insured exists"
    prepared = PLANNER.prepare(Case((MOTHER_SUBJECT,), (claim, claim)), TODAY)
    assert prepared.plan.parts[0].columns == 1
    assert [one.column for one in prepared.plan.asked] == [0, 0]


def test_a_claim_of_the_matter_keeps_its_name_and_one_of_the_callers_own_has_none() -> None:
    claims = ("guardian: hrss.pension_months at_least 12", "guardian: hrss.pension_months at_least 6")
    prepared = PLANNER.prepare(Case((MOTHER_SUBJECT,), claims), TODAY)
    assert [one.name for one in prepared.plan.asked] == ["pension", ""]
    assert prepared.plan.rule is None


def test_identifiers_and_names_are_sealed_in_canonical_form() -> None:
    wide = "".join(chr(ord(character) + 0xFEE0) for character in MOTHER)
    prepared = PLANNER.prepare(Case((Subject("guardian", f"  {wide} ", "阿\u2027丽  亚"),)), TODAY)
    (subject,) = prepared.subjects["guardian"]
    assert (subject.identifier, subject.name) == (MOTHER, "阿\u00b7丽 亚")


def test_nobody_is_compared_with_himself_unless_there_is_nobody_else() -> None:
    claim = ("guardian: health.birth_mother related @guardian",)
    pair = PLANNER.prepare(Case((MOTHER_SUBJECT, FATHER_SUBJECT), claim), TODAY)
    assert [(one.ordinal, one.compared_ordinal) for one in pair.plan.asked] == [(0, 1), (1, 0)]
    alone = PLANNER.prepare(Case((MOTHER_SUBJECT,), claim), TODAY)
    assert [(one.ordinal, one.compared_ordinal) for one in alone.plan.asked] == [(0, 0)]


@pytest.mark.parametrize(
    ("case", "reason", "field"),
    [
        (Case((Subject("uncle", MOTHER),)), Reason.SLOT_UNKNOWN, "subjects[0].slot"),
        (Case((CHILD_SUBJECT, CHILD_SUBJECT)), Reason.SLOT_UNKNOWN, "subjects[1].slot"),
        (Case((CHILD_SUBJECT, Subject("guardian", "1"))), Reason.IDENTIFIER_INVALID, "subjects[1].identifier"),
        (Case((Subject("guardian", MOTHER, "a\u200bb"),)), Reason.NAME_INVALID, "subjects[0].name"),
        (Case((Subject("guardian", MOTHER, "长" * 80),)), Reason.NAME_INVALID, "subjects[0].name"),
        (Case((MOTHER_SUBJECT,), ("guardian hrss.insured",)), Reason.CLAIM_SYNTAX, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("hrss.insured exists",)), Reason.SLOT_UNKNOWN, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("uncle: hrss.insured exists",)), Reason.SLOT_UNKNOWN, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: hrss.x related @uncle",)), Reason.SLOT_UNKNOWN, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: health.birth_mother related 12",)), Reason.VALUE_INVALID, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: hrss.x report",)), Reason.CLAIM_SYNTAX, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: hrss.x exists",), report=True), Reason.CLAIM_SYNTAX, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: hrss.x equals " + "长" * 64,)), Reason.VALUE_INVALID, "claims[0]"),
        (Case((MOTHER_SUBJECT,), ("guardian: hrss.x exists",) * (MAX_CLAIMS + 1)), Reason.TOO_MANY_CLAIMS, "claims"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_field(case: Case, reason: Reason, field: str) -> None:
    error = refused(case)
    assert (error.reason, error.field) == (reason, field)


def test_more_claims_than_a_request_takes_are_refused() -> None:
    claims = tuple(f"guardian: hrss.x{number} exists" for number in range(65))
    assert refused(Case((MOTHER_SUBJECT,), claims)).field == "claims[64]"
    values = tuple(f"guardian: hrss.x{number} equals 甲" for number in range(17))
    assert refused(Case((MOTHER_SUBJECT,), values)).reason is Reason.TOO_MANY_CLAIMS


def test_no_refusal_repeats_what_was_given() -> None:
    secret = "440399198805050021"
    for case in (
        Case((Subject("guardian", secret),)),
        Case((Subject(secret, MOTHER),)),
        Case((Subject("guardian", MOTHER, f"\u200b{secret}"),)),
        Case((MOTHER_SUBJECT,), (f"guardian: health.birth_mother related {secret}",)),
        Case((MOTHER_SUBJECT,), (f"{secret}",)),
    ):
        error = refused(case)
        assert secret not in f"{error} {error.detail} {error.field}"


def test_a_threshold_that_is_not_published_is_called_so_when_it_is_denied() -> None:
    claims = ("guardian: hrss.pension_months at_least 13", "guardian: hrss.pension_months at_least 12")
    prepared = PLANNER.prepare(Case((MOTHER_SUBJECT,), claims), TODAY)
    assert [one.denied for one in prepared.plan.asked] == [Reason.CELL_NOT_PUBLISHED, Reason.NOT_GRANTED]


def test_every_plan_makes_headers_that_the_protocol_takes(world: World) -> None:
    sealed = world.seal(world.prepare(Case((CHILD_SUBJECT, MOTHER_SUBJECT, FATHER_SUBJECT))))
    assert {one.header.owner for one in sealed} == {"health", "hrss"}
    for one in sealed:
        assert parse_header(one.request.header) == one.header
        assert one.header.expire_time - one.header.issue_time == pytest.approx(10, abs=0.01)
        assert (one.header.role, one.header.reference) == (CONTEXT.role, CONTEXT.reference)


def test_nothing_of_a_person_stands_in_what_is_sent_in_clear(world: World) -> None:
    case = Case((CHILD_SUBJECT, Subject("guardian", MOTHER, "李梅")), ("child: health.name equals 王小明",))
    for one in world.seal(world.prepare(case)):
        for secret in (CHILD, MOTHER, "李梅", "王小明"):
            assert secret.encode() not in one.request.SerializeToString()


def test_two_seals_of_one_case_share_neither_header_nor_salt_nor_nonce(world: World) -> None:
    prepared = world.prepare()
    first, second = world.seal(prepared)[0], world.seal(prepared)[0]
    assert first.header.request_id != second.header.request_id
    assert first.request.nonce != second.request.nonce
    assert first.records[0].salt != second.records[0].salt
    assert first.request.request_root != second.request.request_root


SCHEMES = {"person": scheme("resident")}


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        ("integer", "12", "12"),
        ("integer", "012", None),
        ("integer", "1.0", None),
        ("decimal", "1.50", "1.5"),
        ("decimal", "2.0", "2"),
        ("decimal", "x", None),
        ("date", "2026-02-30", None),
        ("date", "2026-02-28", "2026-02-28"),
        ("text", "阿\u30fb丽", "阿\u00b7丽"),
        ("text", "\u200b", None),
        ("code", "A1", "A1"),
        ("person", MOTHER.lower(), MOTHER),
        ("person", "1", None),
        ("", " as it is ", " as it is "),
    ],
)
def test_a_compared_value_is_brought_into_the_form_of_its_type(kind: str, text: str, canonical: str | None) -> None:
    assert canonical_value(kind, text, SCHEMES, TODAY) == canonical


@given(st.integers(0, 999), st.integers(1, 3))
def test_the_order_of_other_slots_does_not_change_who_is_asked_about(number: int, guardians: int) -> None:
    people = [
        Subject("guardian", resident(f"44039919900101{(number + i) % 1000:03}")) for i in range(min(guardians, 2))
    ]
    before = PLANNER.prepare(Case((CHILD_SUBJECT, *people)), date(2026, 9, 1))
    after = PLANNER.prepare(Case((*people, CHILD_SUBJECT)), date(2026, 9, 1))
    assert before.plan is after.plan
    assert before.subjects == after.subjects


def test_a_case_is_never_printed() -> None:
    case = Case((Subject("child", CHILD, "小明"),), ("child: health.name equals 小明",), "小明")
    for secret in (CHILD, "小明"):
        assert secret not in f"{case!r} {case} {case.subjects} {PLANNER.prepare(case, TODAY).subjects}"
