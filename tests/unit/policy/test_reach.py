"""What is said to be allowed, and to change, is what the enforcer decides: for every question, place and time."""

from __future__ import annotations

import dataclasses
import random
import time

import pytest

import policy_oracle
from certs.identity import Kind
from policy.enforcer import Enforcer, Question
from policy.model import (
    Attribute,
    Centre,
    DepartmentInfo,
    Directory,
    Document,
    Grant,
    Matter,
    Suspension,
)
from policy.reach import EVERYBODY, FOREVER, Change, Reach, Right, changes
from policy_random import MATTERS, ROLES, TITLE, likely_question, random_directory, random_question
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.places import Jurisdiction, Level

PLACES = [
    Jurisdiction.parse(text)
    for text in (
        "nbs:4403",
        "mca:4403",
        "nbs:440306",
        "nbs:440305",
        "nbs:440399",
        "nbs:440306001",
        "nbs:440306777",
        "mca:440306001",
        "old:440306001",
        "nbs:440306001002",
        "nbs:440306001777",
        "mca:440306001002",
        "nbs:4404",
        "nbs:440402",
    )
]
"""Those that rules name, and for each level one that none names."""


def some_question(rnd: random.Random, directory: Directory, number: int) -> Question:
    question = likely_question(rnd, directory) if number % 5 else random_question(rnd)
    if number % 2:
        question = dataclasses.replace(question, jurisdiction=rnd.choice(PLACES))
    return dataclasses.replace(question, now=max(question.now, 900.0), official=rnd.choice(["clerk-1", "clerk-2", ""]))


def says(change: Change, question: Question) -> bool:
    system = f"{question.system.department}/{question.system.name}"
    named = f"{question.system.department}/{question.official}"
    officials = change.officials
    return (
        change.key.system == system
        and question.system.kind is Kind.SYSTEM
        and change.key.role == question.role
        and change.key.ask.owner == question.owner
        and change.key.ask.attribute == question.attribute
        and change.key.ask.predicate is question.predicate
        and change.key.matter == question.matter
        and question.assurance in change.assurances
        and change.span.since <= question.now < change.span.until
        and (not officials or named in officials or (EVERYBODY in officials and named not in NAMED))
        and any(where.covers(question.jurisdiction) for where in change.places)
    )


NAMED = {"edu/clerk-1", "hrss/clerk-1", "police/clerk-1"}
"""Officials whom some suspension may name; every other is one of EVERYBODY."""


@pytest.mark.parametrize("seed", range(4))
def test_changes_are_exactly_what_two_directories_decide_otherwise(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311  the same cases each time
    flipped = 0
    for _ in range(25):
        before = random_directory(rnd)
        after = random_directory(rnd) if rnd.random() < 0.3 else edited(rnd, before)
        found = list(changes(before, after, 900.0))
        for number in range(150):
            question = some_question(rnd, rnd.choice([before, after]), number)
            was, will = policy_oracle.allowed(before, question), policy_oracle.allowed(after, question)
            told = [change.allowed for change in found if says(change, question)]
            assert told == ([] if was is will else [will]), (question, told)
            flipped += was is not will
    assert flipped > 100, flipped


def edited(rnd: random.Random, directory: Directory) -> Directory:
    """A directory in which one department changed a little."""
    owner = rnd.choice(sorted(directory.documents))
    document = directory.documents[owner]
    grants = list(document.grants)
    for _ in range(2):
        if grants:
            place = rnd.randrange(len(grants))
            grants[place] = dataclasses.replace(
                grants[place],
                role=rnd.choice(ROLES),
                level=rnd.choice(list(Level)),
                places=tuple(rnd.sample(PLACES, rnd.choice([0, 1, 2]))),
                assurance=rnd.choice([1, 2, 3]),
                not_after=rnd.choice([None, 1500, 3000]),
            )
    suspensions = directory.suspensions
    if rnd.random() < 0.4:
        official = rnd.choice([None, f"{owner}/clerk-1"])
        suspensions = (*suspensions, Suspension("new", owner, role=rnd.choice(ROLES), official=official))
    changed = dataclasses.replace(document, grants=tuple(grants))
    return dataclasses.replace(directory, documents={**directory.documents, owner: changed}, suspensions=suspensions)


@pytest.mark.parametrize("seed", range(3))
def test_rights_are_exactly_what_the_enforcer_allows(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311  the same cases each time
    allowed = 0
    for _ in range(25):
        directory = random_directory(rnd)
        reach, enforcer = Reach(directory), Enforcer(directory)
        for number in range(60):
            question = dataclasses.replace(some_question(rnd, directory, number), official="clerk-9")
            rights = list(reach.rights(reach.keys(), question.now))
            told = [right for right in rights if holds(right, question)]
            decision = enforcer.decide(question)
            assert bool(told) is decision.allowed, question
            assert not told or set(decision.rule_ids) & set(told[-1].rules), question
            allowed += decision.allowed
    assert allowed > 100, allowed


def holds(right: Right, question: Question) -> bool:
    return (
        question.system.kind is Kind.SYSTEM
        and right.key.system == f"{question.system.department}/{question.system.name}"
        and (right.key.role, right.key.matter) == (question.role, question.matter)
        and (right.key.ask.owner, right.key.ask.attribute) == (question.owner, question.attribute)
        and right.key.ask.predicate is question.predicate
        and question.assurance >= right.assurance
        and any(where.covers(question.jurisdiction) for where in right.places)
    )


def test_a_right_says_how_long_it_stays_as_it_is() -> None:
    rnd = random.Random(7)  # noqa: S311  the same cases each time
    bounded = 0
    for _ in range(30):
        directory = random_directory(rnd)
        reach = Reach(directory)
        for right in reach.rights(reach.keys(), 1500.0):
            for at in (right.span.since, (right.span.since + right.span.until) / 2):
                if 0 < at < FOREVER:
                    there = [
                        again.places for again in reach.rights([right.key], at) if again.assurance <= right.assurance
                    ]
                    assert there[-1] == right.places
            if right.span.until < FOREVER:
                bounded += 1
                after = [
                    r.places for r in reach.rights([right.key], right.span.until) if r.assurance <= right.assurance
                ]
                assert not after or after[-1] != right.places
    assert bounded > 10


def test_the_same_directory_has_no_changes() -> None:
    rnd = random.Random(3)  # noqa: S311  the same cases each time
    for _ in range(20):
        directory = random_directory(rnd)
        assert list(changes(directory, dataclasses.replace(directory, version=2), 0.0)) == []


def test_both_directions_cost_what_they_find_and_not_what_there_is() -> None:
    """Asking about one attribute, and about one system, of ten times as many rules is about as quick."""
    few, many = large(1_000), large(10_000)
    for words in ({"owner": "hrss", "attribute": "a3"}, {"system": "edu/s3"}):
        seconds = []
        for directory in (few, many):
            reach = Reach(directory)
            best = FOREVER
            for _ in range(5):
                began = time.process_time()
                found = list(reach.rights(reach.keys(**words), 0.0))
                best = min(best, time.process_time() - began)
                assert found
            seconds.append(best)
        assert seconds[1] < 5 * seconds[0], seconds


def large(rules: int) -> Directory:
    """Ten systems in ten roles; twelve grants to each attribute, whatever the number of rules."""
    home = Jurisdiction.parse("nbs:4403")
    systems = {f"s{number}": home for number in range(rules // 100)}
    roles = {name: frozenset({f"edu/{name}"}) for name in systems}
    predicate = Predicate.AT_LEAST
    attributes = {
        f"a{number}": Attribute("hrss", f"a{number}", TITLE, "person", "integer", frozenset({predicate}))
        for number in range(rules // 12 + 1)
    }
    grants = tuple(
        Grant(
            f"g{number}",
            "hrss",
            f"edu/s{number % len(systems)}",
            Ask("hrss", f"a{number // 12}", predicate),
            MATTERS[number % 2],
            places=(Jurisdiction("nbs", f"4403{number % 90 + 10:02d}"),),
        )
        for number in range(rules)
    )
    return Directory(
        1,
        {},
        9e9,
        Centre("shenzhen", {}, {"edu": DepartmentInfo("edu", TITLE, home, systems)}),
        {
            "edu": Document("edu", TITLE, (), roles, {}),
            "hrss": Document("hrss", TITLE, (), {}, attributes, grants),
        },
        {name: Matter(name, TITLE, "", frozenset({"edu"}), None, "", "", {}, {}, None) for name in MATTERS},
    )
