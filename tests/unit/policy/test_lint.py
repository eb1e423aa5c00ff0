"""Rules that do not say what their author thinks are named by key, each for one reason, and sound ones are not."""

from __future__ import annotations

import dataclasses
import random

import pytest

from policy.document import Mistake, parse_document
from policy.lint import lint
from policy.model import Directory, Document, Grant
from policy.publishing import Named
from policy.reach import changes
from policy.rehearse import rehearsed
from policy_random import MATTERS as RANDOM_MATTERS
from policy_random import PLACES, random_directory
from policy_support import CENTRE, DOCUMENTS, HRSS, SCHOOL, SENIOR
from zhiwang.wire.places import Level

NOW = 1_780_000_000.0  # 2026-05-28
GRANT = """
[[grant]]
id = "more"
role = "edu/enrolment-clerk"
ask = "hrss.pension_months at_least"
matter = "school-enrolment"
level = "street"
"""


def findings(document: str, *files: str, without: str = "") -> list[Mistake]:
    base = [CENTRE, SCHOOL, SENIOR, *DOCUMENTS.values()]
    directory = rehearsed(None, [Named(f"base-{number}", text.encode()) for number, text in enumerate(base)])
    directory = rehearsed(directory, [Named(f"file-{number}", text.encode()) for number, text in enumerate(files)])
    parsed = parse_document(document.replace(without, "").encode())
    directory = dataclasses.replace(directory, documents={**directory.documents, parsed.department: parsed})
    return list(lint(parsed, directory, NOW))


def test_a_sound_document_has_no_findings() -> None:
    assert findings(HRSS) == []


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ("not_before = 2020-01-01\nnot_after = 2021-01-01\n", "not_after", "it has ended"),
        ('level = "street"\nmatter = "senior-card"\nrole = "hrss/clerk"\n', "", ""),
        ('role = "health/clerk"\n', "matter", "health is no requester of school-enrolment"),
        ('role = "edu/nobody"\n', "role", "no system of edu has the role edu/nobody"),
        ("sensitivity = [3, 5]\n", "sensitivity", "the attribute's sensitivity is 2"),
        ('role = "edu/inspector"\nlevel = "city"\n', "", ""),
        ('place = "nbs:4404"\n', "place", "no system of the role is at home there"),
    ],
)
def test_a_grant_that_never_matches_is_named_with_why(change: str, key: str, says: str) -> None:
    names = {line.partition(" ")[0] for line in change.splitlines()}
    kept = [line for line in GRANT.splitlines() if line.partition(" ")[0] not in names]
    found = findings(HRSS + "\n".join(kept) + "\n" + change)
    assert [mistake.key for mistake in found] == ([("grant", 2, key)] if key else [])
    assert all(says in mistake.message for mistake in found)


def test_a_grant_for_a_level_that_no_system_of_the_role_reaches_never_matches() -> None:
    edu = (
        DOCUMENTS["edu"]
        .replace('system.enrolment.roles = ["enrolment-clerk", "inspector"]\n', "")
        .replace('system.baoan.roles = ["enrolment-clerk"]\n', "")
    )
    found = findings(HRSS, edu)
    assert [mistake.key for mistake in found] == [("grant", 0, "level")]
    assert "the role's systems are of: street" in found[0].message


def test_a_grant_that_no_claim_of_the_matter_needs_is_named() -> None:
    found = findings(HRSS, SCHOOL.replace('insured = "guardian: hrss.insured exists"\n', ""))
    assert [mistake.key for mistake in found] == [("grant", 1, "ask")]


def test_a_grant_that_the_centre_denies_everywhere_is_named() -> None:
    deny = '[[deny]]\nid = "stop"\nattribute = "hrss.insured"\n'
    found = findings(HRSS, CENTRE + deny)
    assert [mistake.key for mistake in found] == [("grant", 1)]
    assert "the centre's stop denies it everywhere" in found[0].message
    assert findings(HRSS, CENTRE + deny + 'place = "nbs:440305"\n') == []


def test_a_grant_that_outlives_its_legal_basis_is_named() -> None:
    basis = SCHOOL.replace('basis = "city rules of 2018"\n', 'basis = "city rules of 2018"\nbasis_until = 2027-01-01\n')
    assert [mistake.key for mistake in findings(HRSS, basis)] == [("grant", 0, "not_after"), ("grant", 1, "not_after")]
    ending = HRSS.replace('level = "district"\n', 'level = "district"\nnot_after = 2027-01-01\n')
    assert [mistake.key for mistake in findings(ending, basis)] == [("grant", 1, "not_after")]


def test_a_sensitive_attribute_is_granted_until_a_day() -> None:
    found = findings(HRSS.replace("sensitivity = 2", "sensitivity = 4"))
    assert [mistake.key for mistake in found] == [("grant", 0, "not_after")]


def test_a_grant_that_another_makes_redundant_is_named_and_of_two_equal_ones_the_later() -> None:
    narrow = GRANT.replace('level = "street"', 'level = "district"\nplace = "nbs:440306"\nassurance = "certificate"')
    (found,) = findings(HRSS + narrow)
    assert found == Mistake(("grant", 2), "is redundant: enrolment-pension allows all of it")
    equal = GRANT.replace('level = "street"', 'level = "district"\nplace = "@self"')
    assert [mistake.key for mistake in findings(HRSS + equal)] == [("grant", 2)]


def test_a_grant_that_several_others_make_redundant_together_is_named() -> None:
    first = GRANT.replace('"more"', '"one"') + "not_after = 2027-01-01\n"
    second = GRANT.replace('"more"', '"two"') + "not_before = 2026-10-01\n"
    whole = GRANT.replace('"street"', '"district"').replace('"more"', '"whole"')
    alone = HRSS.partition('[[grant]]\nid = "enrolment-pension"')[0]
    (found,) = findings(alone + whole + first + second)
    assert found == Mistake(("grant", 0), "is redundant: one, two allow all of it")
    gap = second.replace("2026-10-01", "2027-01-02")
    assert findings(alone + whole + first + gap) == []


@pytest.mark.parametrize("seed", range(3))
def test_taking_a_redundant_grant_away_changes_nothing(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311  the same cases each time
    redundant = 0
    for _ in range(60):
        directory = random_directory(rnd)
        owner = rnd.choice(sorted(directory.documents))
        document = directory.documents[owner]
        grants = [*document.grants]
        for number, grant in enumerate(document.grants[:4]):
            grants.append(
                dataclasses.replace(
                    grant,
                    id=f"near-{number}",
                    places=rnd.choice([grant.places, (*grant.places, PLACES[1]), grant.places[:1]]),
                    level=rnd.choice([grant.level, Level.DISTRICT]),
                    assurance=rnd.choice([grant.assurance, 3]),
                )
            )
        document = dataclasses.replace(document, grants=tuple(grants))
        before = with_document(directory, document)
        for mistake in lint(document, before, 0.0):
            if "redundant" in mistake.message:
                index = mistake.key[1]
                assert isinstance(index, int)
                fewer = (*document.grants[:index], *document.grants[index + 1 :])
                after = with_document(directory, dataclasses.replace(document, grants=fewer))
                assert list(changes(before, after, 0.0)) == []
                redundant += 1
    assert redundant > 10, redundant


def with_document(directory: Directory, document: Document) -> Directory:
    return dataclasses.replace(directory, documents={**directory.documents, document.department: document})


def test_ten_thousand_grants_are_looked_through_in_one_pass() -> None:
    """Ten times as many grants cost about ten times as much: each is compared with its own kind only."""
    rnd = random.Random(1)  # noqa: S311  the same cases each time
    directory = next(found for found in iter(lambda: random_directory(rnd), None) if "hrss" in found.documents)
    document = directory.documents["hrss"]
    template = Grant("g", "hrss", "edu/clerk", next(iter(document.grants)).ask, RANDOM_MATTERS[0])
    grants = tuple(
        dataclasses.replace(template, id=f"g{number}", role=f"edu/role{number}", matter=RANDOM_MATTERS[number % 2])
        for number in range(10_000)
    )
    many = dataclasses.replace(document, grants=grants)
    assert len(list(lint(many, with_document(directory, many), 0.0))) == 10_000


EMERGENCY = """
[[emergency]]
id = "flood"
title = { zh = "洪涝", en = "Flood" }
role = "edu/enrolment-clerk"
asks = ["hrss.pension_months at_least", "hrss.insured exists"]
matter = "school-enrolment"
hours = 8
admins = ["edu"]
"""


@pytest.mark.parametrize(
    ("before", "after", "key", "says"),
    [
        ("", "", "", ""),
        ("edu/enrolment-clerk", "edu/nobody", "role", "no system of edu has the role"),
        ("hours = 8", "hours = 8\nnot_before = 2020-01-01\nnot_after = 2021-01-01", "not_after", "it has ended"),
        ("hours = 8", 'hours = 8\nplace = "nbs:4404"', "place", "no system of the role is at home there"),
    ],
)
def test_an_emergency_that_would_never_match_is_named_once_while_there_is_time(
    before: str, after: str, key: str, says: str
) -> None:
    found = findings(HRSS + EMERGENCY.replace(before, after, 1) if before else HRSS + EMERGENCY)
    assert [(mistake.key, says in mistake.message) for mistake in found] == (
        [(("emergency", 0, key), True)] if key else []
    )
