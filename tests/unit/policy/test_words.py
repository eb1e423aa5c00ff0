"""A change of policy reads as a sentence, in both languages, and every other fact that changes is told."""

from __future__ import annotations

import dataclasses
import random

import pytest

from policy.differences import differences
from policy.model import Directory
from policy.publishing import Named
from policy.reach import changes
from policy.rehearse import rehearsed
from policy.words import Words
from policy_random import random_directory
from policy_support import CENTRE, DOCUMENTS, HRSS, SCHOOL, SENIOR

NOW = 1_780_000_000.0  # 2026-05-28


def city(*files: str) -> Directory:
    named = [Named(f"file-{number}", text.encode()) for number, text in enumerate(files)]
    return rehearsed(BASE, named)


BASE = rehearsed(
    None, [Named(f"base-{n}", text.encode()) for n, text in enumerate([CENTRE, SCHOOL, SENIOR, *DOCUMENTS.values()])]
)


def said(after: Directory) -> list[tuple[str, str]]:
    return [tuple(sentence) for sentence in Words(after, BASE).changes(changes(BASE, after, NOW), NOW)]  # type: ignore[misc]


INSURED = "人力资源和社会保障局“是否参保？”（hrss.insured exists）"
PENSION = "人力资源和社会保障局“养老保险是否已连续缴费满 N 个月？”（hrss.pension_months at_least）"


def test_a_grant_that_goes_is_a_sentence_about_who_may_no_longer_ask() -> None:
    grant = HRSS[HRSS.index('[[grant]]\nid = "enrolment-insured"') : HRSS.index("[[assert]]")]
    found = said(city(HRSS.replace(grant, "")))
    assert [zh for zh, _ in found] == [
        f"教育局的 edu/enrolment-clerk（{level}级系统 {system}）不再可以在{place}为“非深户籍儿童入学”询问{INSURED}"
        for level, system, place in (
            ("区", "edu/baoan", "440306"),
            ("市", "edu/enrolment", "440306"),
            ("街道", "edu/street", "nbs:440306001"),
        )
    ]
    assert found[2][1] == (
        "edu/enrolment-clerk of Education (street system edu/street) may no longer ask hrss.insured exists "
        "(“Insured?”) for school-enrolment (School enrolment), in nbs:440306001"
    )


def test_street_clerks_that_may_ask_for_a_year_are_told_with_the_year() -> None:
    changed = HRSS.replace(
        'level = "district"\n', 'level = "street"\nnot_before = 2026-09-01\nnot_after = 2027-09-01\n'
    )
    ((zh, en),) = [sentence for sentence in said(city(changed)) if "street" in sentence[1]]
    assert zh == (
        "教育局的 edu/enrolment-clerk（街道级系统 edu/street）自2026-09-01至2027-09-01前可以在nbs:440306001为"
        f"“非深户籍儿童入学”询问{PENSION}"
    )
    assert en.endswith("in nbs:440306001, from 2026-09-01 to before 2027-09-01")


def test_a_deny_of_one_district_says_what_is_left_out() -> None:
    after = city(CENTRE + '[[deny]]\nid = "stop"\nattribute = "hrss.pension_months"\nplace = "nbs:440306"\n')
    texts = [sentence[1] for sentence in said(after) if "edu/enrolment)" in sentence[1]]
    assert len(texts) == 1
    assert texts[0].endswith("in 4403 as a whole; 440306")


def test_a_suspended_official_is_named_and_nobody_else() -> None:
    after = city('department = "edu"\n[[suspend]]\nid = "leak"\nofficial = "edu/clerk-17"\n')
    assert all("仅经办人 edu/clerk-17" in zh and "for edu/clerk-17 only" in en for zh, en in said(after))
    assert len(said(after)) > 2


def test_a_better_assurance_is_demanded_of_those_who_have_less() -> None:
    after = city(HRSS.replace('level = "district"\n', 'level = "district"\nassurance = "authenticated"\n'))
    assert {zh.partition("（经办人")[2][:2] for zh, _ in said(after)} == {"自称"}


@pytest.mark.parametrize("seed", range(3))
def test_every_fact_that_differs_is_told_and_equal_directories_tell_none(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311  the same cases each time
    for _ in range(30):
        before, after = random_directory(rnd), random_directory(rnd)
        assert list(differences(before, before)) == []
        told = {fact.path for fact in differences(before, after)}
        if before.centre != after.centre:
            assert any(path[0] == "centre" for path in told)
        for name in {*before.documents} & {*after.documents}:
            one, other = before.documents[name], after.documents[name]
            assert any(path[:2] == (name, "grant") for path in told) is (
                {grant.id: grant for grant in one.grants} != {grant.id: grant for grant in other.grants}
            )
            assert any(path[:2] == (name, "attribute") for path in told) is (one.attributes != other.attributes)


def test_thresholds_and_dates_are_told_by_their_key() -> None:
    after = city(HRSS.replace("[6, 12, 18, 24]", "[6, 12]"), SCHOOL.replace("2026-09-01", "2027-09-01"))
    assert {fact.path: (fact.before, fact.after) for fact in differences(BASE, after)} == {
        ("hrss", "attribute", "pension_months", "at_least"): ("6, 12, 18, 24", "6, 12"),
        ("matter", "school-enrolment", "reference_date"): ("2026-09-01", "2027-09-01"),
    }


def test_a_rehearsed_directory_is_the_old_one_but_for_the_files() -> None:
    after = city(HRSS.replace("[6, 12, 18, 24]", "[6, 12]"))
    assert after.documents["edu"] is BASE.documents["edu"]
    assert after.documents["hrss"].version == BASE.documents["hrss"].version + 1
    gone = rehearsed(BASE, [], removed=["senior-card"])
    assert set(gone.matters) == {"school-enrolment"}
    left = rehearsed(BASE, [Named("centre", CENTRE[: CENTRE.index("[department.health]")].encode())])
    assert set(left.documents) == {"edu", "hrss"}
    assert dataclasses.replace(left, centre=BASE.centre, documents=BASE.documents) == BASE
