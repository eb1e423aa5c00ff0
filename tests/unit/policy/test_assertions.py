"""Assertions: what must stay denied is looked for wherever a grant could slip past it."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from policy.assertions import broken, failing
from policy.document import parse_document
from policy.model import Centre, Deny, Directory, Matter, Suspension, Title
from zhiwang.wire.places import Jurisdiction

TITLE = Title("题", "title")
SCHOOL = Matter("school", TITLE, "", frozenset({"edu"}), None, "", "", {}, {}, None)
NOW = 1_790_000_000.0


def directory(grant: str, assertion: str, **changed: str) -> Directory:
    keys = {"role": '"edu/clerk"', "matter": '"school"'} | changed
    lines = "\n".join(f"{key} = {value}" for key, value in keys.items())
    document = parse_document(
        f"""
        department = "hrss"
        title = {{ zh = "局", en = "Bureau" }}
        [attribute.months]
        title = {{ zh = "?", en = "?" }}
        subject = "person"
        asks = ["exists"]
        [[grant]]
        id = "g"
        role = "edu/clerk"
        ask = "hrss.months exists"
        matter = "school"
        {grant}
        [[assert]]
        {assertion} = "hrss.months exists"
        {lines}
        """.encode()
    )
    return Directory(1, {}, 9e9, Centre("shenzhen", {}, {}), {"hrss": document}, {"school": SCHOOL})


@pytest.mark.parametrize(
    ("grant", "place", "more", "holds"),
    [
        ("", "nbs:440306", {}, False),
        ('place = "nbs:440305"', "nbs:440306", {}, True),
        ('place = "nbs:440306"', "nbs:440306", {}, False),
        ('place = "nbs:440306001"', "nbs:440306", {}, False),
        ('place = "nbs:4403"', "nbs:440306", {}, False),
        ('place = ["nbs:440305", "nbs:440306001002"]', "nbs:440306", {}, False),
        ('assurance = "certificate"', "nbs:440306", {}, False),
        ('assurance = "certificate"', "nbs:440306", {"assurance": '"asserted"'}, True),
        ("not_before = 2036-03-01", "nbs:440306", {}, False),
        ("not_after = 2026-03-01", "nbs:440306", {}, True),
        ('level = "city"', "nbs:440306", {}, False),
        ('level = "city"', "nbs:440306", {"level": '"district"'}, True),
        ('level = "street"', "nbs:440306", {"level": '"street"'}, False),
        ('level = "district"', "nbs:440306", {"level": '"street"'}, True),
        ("sensitivity = [4, 5]", "nbs:440306", {}, True),
        ("", "nbs:440306", {"role": '"edu/other"'}, True),
        ("", "nbs:440306", {"matter": '"none"'}, True),
    ],
)
def test_a_deny_holds_only_if_no_system_at_above_or_below_the_place_is_let_in(
    grant: str, place: str, more: dict[str, str], *, holds: bool
) -> None:
    found = failing(directory(grant, "deny", place=f'"{place}"', **more), NOW)
    assert (not found) is holds


@pytest.mark.parametrize(
    ("grant", "more", "holds"),
    [
        ("", {}, True),
        ('place = "nbs:440305"', {}, False),
        ('assurance = "certificate"', {}, False),
        ('assurance = "certificate"', {"assurance": '"certificate"'}, True),
        ('level = "city"', {}, False),
        ('level = "city"', {"level": '"city"'}, True),
        ("not_before = 2036-03-01", {}, False),
        ("not_after = 2026-03-01", {}, False),
        ("", {"matter": '"none"'}, False),
    ],
)
def test_an_allow_holds_only_if_the_case_is_let_in_today(grant: str, more: dict[str, str], *, holds: bool) -> None:
    found = failing(directory(grant, "allow", place='"nbs:440306"', **more), NOW)
    assert (not found) is holds


def test_kill_switches_are_not_held_up_by_a_wish() -> None:
    wished = directory("", "allow", place='"nbs:440306"')
    denied = dataclasses.replace(
        wished,
        centre=dataclasses.replace(wished.centre, denies=(Deny("d", place=Jurisdiction.parse("nbs:4403")),)),
        suspensions=(Suspension("s", "hrss", role="edu/clerk"),),
    )
    assert failing(denied, NOW) == []


def test_what_failed_before_is_not_the_publishers_to_mend() -> None:
    stale = directory("not_after = 2026-03-01", "allow", place='"nbs:440306"')
    assert failing(stale, NOW)
    assert broken(stale, stale, "edu", NOW) == []
    assert broken(stale, stale, None, NOW) == []
    assert [name for name, _ in broken(stale, stale, "hrss", NOW)] == ["hrss"]
    assert [name for name, _ in broken(None, stale, None, NOW)] == ["hrss"]


def test_the_centre_may_not_break_a_wish_by_dropping_a_matter() -> None:
    wished = directory("", "allow", place='"nbs:440306"')
    dropped = dataclasses.replace(wished, matters=MappingProxyType({}))
    assert [name for name, _ in broken(wished, dropped, None, NOW)] == ["hrss"]


@pytest.mark.parametrize(("word", "holds"), [("deny", False), ("allow", False)])
def test_what_is_prepared_for_an_emergency_breaks_a_deny_and_keeps_no_allow(word: str, *, holds: bool) -> None:
    emergency = """[[emergency]]
        id = "e"
        title = { zh = "?", en = "?" }
        role = "edu/clerk"
        asks = ["hrss.months exists"]
        matter = "school"
        hours = 8
        admins = ["edu"]"""
    ended = "not_after = 2020-01-01\n"
    found = failing(directory(ended + emergency, word, place='"nbs:440306"'), NOW)
    assert (not found) is holds
    assert (not failing(directory(ended, word, place='"nbs:440306"'), NOW)) is (word == "deny")
