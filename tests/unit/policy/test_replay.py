"""Accesses of the log, decided again under a proposal: what flips is listed, and whose doing it is."""

from __future__ import annotations

import time

from policy.model import Directory
from policy.publishing import Named
from policy.rehearse import rehearsed
from policy.replay import Access, Flip, Replay, grouped
from policy_support import CENTRE, DOCUMENTS, HRSS, SCHOOL, SENIOR, make_header
from zhiwang.wire.places import Jurisdiction

NOW = 1_780_000_000.0  # 2026-05-28
INSURED = HRSS[HRSS.index('[[grant]]\nid = "enrolment-insured"') : HRSS.index("[[assert]]")]


def city(*files: str) -> Directory:
    named = [Named(f"file-{number}", text.encode()) for number, text in enumerate(files)]
    return rehearsed(rehearsed(None, BASE), named)


BASE = [Named(f"base-{n}", text.encode()) for n, text in enumerate([CENTRE, SCHOOL, SENIOR, *DOCUMENTS.values()])]
CURRENT = rehearsed(None, BASE)


def access(entry: int = 7, denied: frozenset[int] = frozenset(), **changed: object) -> Access:
    return Access(entry, NOW - 86_400, make_header(CURRENT, **changed), denied)


def flips(proposed: Directory, *accesses: Access, current: Directory = CURRENT) -> list[Flip]:
    return list(Replay(current, proposed, NOW).flips(accesses))


def test_what_nobody_changed_does_not_flip() -> None:
    assert (
        flips(CURRENT, access(), access(denied=frozenset({0, 1}), jurisdiction=Jurisdiction.parse("nbs:440305"))) != []
    )
    assert flips(CURRENT, access(), access(denied=frozenset({1}), jurisdiction=Jurisdiction.parse("nbs:440305"))) == []


def test_a_grant_that_goes_flips_the_claims_that_it_allowed_and_no_other() -> None:
    (flip,) = flips(city(HRSS.replace(INSURED, "")), access())
    assert (flip.claim, flip.allowed, flip.reason, flip.already) == (1, False, "NOT_GRANTED", False)
    assert flip.ask == "hrss.insured exists"


def test_a_grant_that_is_new_flips_what_was_denied() -> None:
    wide = city(HRSS.replace('place = "nbs:440306"\n\n[[assert]]', 'place = "nbs:4403"\n\n[[assert]]'))
    (flip,) = flips(wide, access(denied=frozenset({1}), jurisdiction=Jurisdiction.parse("nbs:440305")))
    assert (flip.claim, flip.allowed, flip.reason) == (1, True, "")


def test_a_role_that_is_taken_away_denies_the_whole_request() -> None:
    edu = DOCUMENTS["edu"].replace('["enrolment-clerk", "inspector"]', '["inspector"]')
    found = flips(city(edu), access())
    assert [(flip.claim, flip.reason) for flip in found] == [(0, "ROLE_NOT_HELD"), (1, "ROLE_NOT_HELD")]


def test_what_is_decided_otherwise_today_already_is_told_apart() -> None:
    today = city(HRSS.replace(INSURED, ""))
    (flip,) = flips(today, access(), current=today)
    assert flip.already


def test_a_matter_of_the_next_season_flips_nothing_by_its_date_or_wording() -> None:
    next_year = city(SCHOOL.replace("2026-09-01", "2027-09-01").replace('"city rules of 2018"', '"city rules of 2027"'))
    assert flips(next_year, access()) == []


def test_a_stricter_reference_flips_the_accesses_that_do_not_follow_it() -> None:
    strict = city(SCHOOL.replace('"2026-[0-9]{6}"', '"2026-0[0-9]{5}"'))
    assert flips(strict, access(), access(reference="2026-100000"))[0].reason == "REFERENCE_INVALID"
    assert len(flips(strict, access(), access(reference="2026-100000"))) == 2


def test_flips_are_counted_by_who_asked_what_for_what() -> None:
    accesses = [access(entry) for entry in range(5)]
    ((group, count),) = grouped(flips(city(HRSS.replace(INSURED, "")), *accesses)).items()
    assert (group.department, group.role, group.matter, group.ask) == (
        "edu",
        "edu/enrolment-clerk",
        "school-enrolment",
        "hrss.insured exists",
    )
    assert count == 5


def test_a_hundred_thousand_accesses_cost_little_more_than_reading_them() -> None:
    """Accesses of one kind are decided once: the hundredth thousand costs as little as the second."""
    headers = [make_header(CURRENT, reference=f"2026-{number:06}") for number in range(2_000)]
    accesses = [Access(number, NOW, header, frozenset()) for number, header in enumerate(headers)]
    replay = Replay(CURRENT, CURRENT, NOW)
    assert list(replay.flips(accesses[:1])) == []
    began = time.process_time()
    assert list(replay.flips(accesses)) == []
    cached = time.process_time() - began
    began = time.process_time()
    for one in accesses[:20]:
        assert list(Replay(CURRENT, CURRENT, NOW).flips([one])) == []
    fresh = (time.process_time() - began) * 100
    assert cached < fresh / 20, (cached, fresh)
