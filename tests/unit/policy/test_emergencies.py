"""Emergencies: what one signature opens is what two have prepared, and never more."""

from __future__ import annotations

import dataclasses
import random

import pytest

import policy_oracle
from policy.emergencies import APART, HOUR, Seen, counting, dump, load, opened, remembered, seen_of
from policy.enforcer import Enforcer
from policy.explain import allows, explain
from policy.model import Activation, Directory, Document, Emergency, Grant
from policy_random import TITLE, likely_question, random_directory, random_question, with_emergencies
from zhiwang.wire.claims import Ask, Predicate

REQUESTS = 12_000


@pytest.mark.parametrize("seed", range(4))
def test_enforcer_and_explanation_agree_with_the_oracle_on_emergencies(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311 # the same cases each time
    answers = {"denied": 0, "granted": 0, "by emergency alone": 0}
    for _ in range(60):
        listed = with_emergencies(rnd, random_directory(rnd))
        directory = dataclasses.replace(listed, activations=counting(listed.documents, listed.activations))
        shut = dataclasses.replace(directory, activations=())
        enforcer, without = Enforcer(directory), Enforcer(shut)
        for number in range(REQUESTS // 4 // 60):
            question = likely_question(rnd, directory) if number % 4 else random_question(rnd)
            expected = policy_oracle.allowed(listed, question)
            decision = enforcer.decide(question)
            assert decision.allowed is expected, question
            assert enforcer.decide(question) == decision, "the cache says otherwise"
            assert allows(explain(directory, question)) is expected, question
            alone = expected and not without.decide(question).allowed
            marked = all("/emergency/" in rule for rule in decision.rule_ids)
            assert not expected or marked is alone, "an access under an emergency alone is told by its rules"
            answers["by emergency alone" if alone else "granted" if expected else "denied"] += 1
    assert min(answers.values()) > 50, answers


def grant(**changed: object) -> Grant:
    found = Grant("flood", "health", "civil/duty", Ask("health", "known", Predicate.EXISTS), "shelter")
    return dataclasses.replace(found, **changed)  # type: ignore[arg-type] # each test names real fields


DOCUMENTS = {
    "health": Document(
        "health", TITLE, (), {}, {}, emergencies=(Emergency("flood", TITLE, (grant(),), 8, frozenset({"civil"})),)
    )
}


def activation(since: int = 0, hours: float = 8, **changed: object) -> Activation:
    found = Activation("a", "civil", "health", "flood", since, since + int(hours * HOUR), bytes(32))
    return dataclasses.replace(found, **changed)  # type: ignore[arg-type] # the same


def test_an_opening_counts_only_as_it_was_prepared() -> None:
    good = activation()
    assert counting(DOCUMENTS, [good]) == (good,)
    assert not counting(DOCUMENTS, [activation(department="edu")]), "no admin of edu was named"
    assert not counting(DOCUMENTS, [activation(until=8 * HOUR + 1)]), "a second too long"
    assert not counting(DOCUMENTS, [activation(emergency="fire")])
    assert not counting(DOCUMENTS, [activation(owner="edu")])
    assert not counting({}, [good]), "the owner has published nothing, or lapsed"


def test_of_two_openings_within_a_day_the_one_that_was_seen_first_counts() -> None:
    first, second = activation(), activation(7 * HOUR, id="b")
    assert counting(DOCUMENTS, [second, first]) == (first,)
    assert counting(DOCUMENTS, [first, activation(APART, id="b")]) == (first, activation(APART, id="b"))
    assert counting(DOCUMENTS, [first, second], [seen_of(second)]) == (second,), "an earlier one cannot push it away"
    assert counting(DOCUMENTS, [second], [seen_of(first)]) == (), "nor does it help to take the first away"
    prolonged = activation(hours=4, until=8 * HOUR)
    shorter = activation(hours=4)
    assert counting(DOCUMENTS, [dataclasses.replace(prolonged, since=1)], [seen_of(shorter)]) == ()
    assert counting(DOCUMENTS, [prolonged], [seen_of(shorter)]) == (), "the same opening does not become longer"


def test_openings_that_do_not_count_keep_no_other_from_counting() -> None:
    good = activation()
    bad = [activation(-HOUR, department="edu", id="x"), activation(-HOUR, hours=9, id="y")]
    assert counting(DOCUMENTS, [*bad, good]) == (good,)


def test_an_opening_is_remembered_until_it_is_of_no_account() -> None:
    seen = remembered((), [activation()], now=0.0)
    assert load(dump(seen)) == seen == {Seen("health", "flood", "civil", "a", 0, 8 * HOUR)}
    assert remembered(seen, [], now=8 * HOUR + APART) == seen
    assert remembered(seen, [], now=8 * HOUR + 2 * APART) == frozenset()


@pytest.mark.parametrize("content", [b"", b"{}x", b"[[1]]", b'[["a","b","c","d","e","f"]]', b'{"a": 1}', b"[1]"])
def test_a_memory_that_cannot_be_read_is_no_empty_memory(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # of json or of ours
        load(content)


def test_the_owners_own_dates_end_what_is_open() -> None:
    emergency = Emergency("flood", TITLE, (grant(not_after=HOUR),), 8, frozenset({"civil"}))
    documents = {"health": dataclasses.replace(DOCUMENTS["health"], emergencies=(emergency,))}
    directory = Directory(1, {}, 9e9, None, documents, {}, activations=(activation(),))  # type: ignore[arg-type] # only documents are looked at
    assert [(one.id, one.not_before, one.not_after) for one in opened(directory)] == [
        ("emergency/flood/civil-a", 0, HOUR)
    ]
