"""What the enforcer decides, held against an oracle that knows nothing of casbin."""

from __future__ import annotations

import dataclasses
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import policy_oracle
from certs.identity import Identity, Kind
from policy import enforcer as module
from policy.enforcer import RULES_TEXT, Decision, Enforcer, Question
from policy.explain import allows, explain
from policy.model import (
    Attribute,
    Centre,
    Deny,
    DepartmentInfo,
    Directory,
    Document,
    Grant,
    Matter,
    Suspension,
)
from policy_random import TITLE, likely_question, random_directory, random_question
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.errors import Reason
from zhiwang.wire.places import Jurisdiction

REQUESTS = 12_000


@pytest.mark.parametrize("seed", range(4))
def test_enforcer_and_explanation_agree_with_the_oracle_on_random_directories(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311 # the same cases each time
    answers = {True: 0, False: 0}
    for _ in range(40):
        directory = random_directory(rnd)
        enforcer = Enforcer(directory)
        for number in range(REQUESTS // 4 // 40):
            question = likely_question(rnd, directory) if number % 4 else random_question(rnd)
            expected = policy_oracle.allowed(directory, question)
            decision = enforcer.decide(question)
            assert decision.allowed is expected, question
            assert decision.reason is (None if expected else Reason.NOT_GRANTED)
            assert enforcer.decide(question) == decision, "the cache says otherwise"
            assert allows(explain(directory, question)) is expected, question
            assert not expected or decision.rule_ids, "an allowed request names its grants"
            answers[expected] += 1
    assert min(answers.values()) > REQUESTS // 4 // 10, answers


def small() -> Directory:
    home = Jurisdiction.parse("nbs:4403")
    attribute = Attribute("hrss", "months", TITLE, "person", "integer", frozenset({Predicate.AT_LEAST}))
    grant = Grant(
        "g1", "hrss", "edu/clerk", Ask("hrss", "months", Predicate.AT_LEAST), "school", not_before=100, not_after=200
    )
    return Directory(
        1,
        {},
        9e9,
        Centre("shenzhen", {}, {"edu": DepartmentInfo("edu", TITLE, home, {"alpha": home})}),
        {
            "edu": Document("edu", TITLE, ("zhiwang-1",), {"alpha": frozenset({"edu/clerk"})}, {}),
            "hrss": Document("hrss", TITLE, ("zhiwang-1",), {}, {"months": attribute}, (grant,)),
        },
        {"school": Matter("school", TITLE, "", frozenset({"edu"}), None, "", "", {}, {}, None)},
    )


def question(now: float, **changed: object) -> Question:
    asked = Question(
        system=Identity("shenzhen", "edu", Kind.SYSTEM, "alpha"),
        role="edu/clerk",
        owner="hrss",
        attribute="months",
        predicate=Predicate.AT_LEAST,
        jurisdiction=Jurisdiction.parse("nbs:440306"),
        matter="school",
        assurance=1,
        now=now,
    )
    return dataclasses.replace(asked, **changed)  # type: ignore[arg-type] # each test names real fields


def test_cached_decision_ends_at_the_second_at_which_its_grant_begins_or_ends() -> None:
    enforcer = Enforcer(small())
    times = [50, 99.999, 100, 199.999, 200, 150, 250, 99]
    assert [enforcer.decide(question(now)).allowed for now in times] == [
        False,
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]


def test_cached_decision_is_not_asked_of_casbin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    enforcer = Enforcer(small())
    first = enforcer.decide(question(150))
    monkeypatch.setattr(enforcer, "ask", None)
    assert enforcer.decide(question(199)) is first


def test_cache_stays_bounded_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DECISIONS", 10)
    enforcer = Enforcer(small())
    for number in range(100):
        enforcer.decide(question(150, attribute=f"unknown_{number}"))
    assert len(enforcer._decisions) == 10
    assert len(enforcer._rules) == 0, "no enforcer is built for what is not published"


def test_officials_do_not_multiply_decisions_unless_one_is_suspended() -> None:
    suspended = Suspension("s", "edu", official="edu/mallory")
    enforcer = Enforcer(dataclasses.replace(small(), suspensions=(suspended,)))
    for number in range(50):
        assert enforcer.decide(question(150, official=f"clerk-{number}")).allowed
    assert not enforcer.decide(question(150, official="mallory")).allowed
    assert len(enforcer._decisions) == 2


def test_decisions_are_the_same_from_many_threads() -> None:
    enforcer = Enforcer(small())
    barrier = threading.Barrier(8)

    def run(number: int) -> set[bool]:
        barrier.wait()
        return {
            enforcer.decide(question(150 if number % 2 else 250, official=str(i), assurance=i % 3 + 1)).allowed
            for i in range(200)
        }

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    assert results == [{False}, {True}] * 4


def test_denied_request_names_the_rule_that_denied_it() -> None:
    directory = small()
    centre = dataclasses.replace(directory.centre, denies=(Deny("flood", matter="school"),))
    decision = Enforcer(dataclasses.replace(directory, centre=centre)).decide(question(150))
    assert not decision.allowed
    assert "centre/flood" in decision.rule_ids


def test_wider_jurisdiction_does_not_slip_past_a_deny_of_a_place() -> None:
    directory = small()
    centre = dataclasses.replace(directory.centre, denies=(Deny("baoan", place=Jurisdiction.parse("nbs:440306")),))
    enforcer = Enforcer(dataclasses.replace(directory, centre=centre))
    assert not enforcer.decide(question(150, jurisdiction=Jurisdiction.parse("nbs:4403"))).allowed
    assert not enforcer.decide(question(150, jurisdiction=Jurisdiction.parse("nbs:440306001"))).allowed
    assert enforcer.decide(question(150, jurisdiction=Jurisdiction.parse("nbs:440305"))).allowed


def test_a_log_names_the_rules_that_fit_and_counts_the_others() -> None:
    few = Decision(allowed=True, reason=None, rule_ids=("hrss/one", "hrss/two"))
    assert few.rules_text == "hrss/one,hrss/two"
    names = tuple(f"hrss/{'x' * 60}-{number}" for number in range(400))
    text = Decision(allowed=True, reason=None, rule_ids=names).rules_text
    assert len(text) <= RULES_TEXT
    assert text.startswith(f"{names[0]},{names[1]},")
    assert text.endswith(",+397")
