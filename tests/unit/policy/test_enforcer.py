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
    Title,
)
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.errors import Reason
from zhiwang.wire.places import Jurisdiction, Level

TITLE = Title("题", "title")
PLACES = [
    Jurisdiction.parse(text)
    for text in (
        "nbs:4403",
        "nbs:440306",
        "nbs:440305",
        "mca:440306",
        "nbs:440306001",
        "mca:440306001",
        "nbs:440306001002",
        "nbs:4404",
    )
]
PREDICATES = [Predicate.AT_LEAST, Predicate.EXISTS, Predicate.EQUALS]
OWNERS = ["edu", "hrss", "police"]
SYSTEMS = ["alpha", "beta"]
ROLES = ["edu/clerk", "edu/inspector", "hrss/clerk", "police/clerk"]
MATTERS = ["school", "senior"]
TIMES = [1000, 2000, 3000]
REQUESTS = 12_000


def random_directory(rnd: random.Random) -> Directory:
    departments = {
        name: DepartmentInfo(
            name, TITLE, PLACES[0], {system: rnd.choice([*PLACES[:7], PLACES[0], PLACES[1]]) for system in SYSTEMS}
        )
        for name in OWNERS
    }
    documents = {}
    for owner in OWNERS:
        attributes = {
            name: Attribute(
                owner,
                name,
                TITLE,
                "person",
                "integer",
                frozenset(rnd.sample(PREDICATES, rnd.randint(1, 3))),
                sensitivity=rnd.randint(1, 5),
            )
            for name in ("one", "two")
        }
        grants = []
        for number in range(rnd.randint(0, 12)):
            low, high = sorted((rnd.randint(1, 5), rnd.randint(1, 5)))
            before, after = rnd.choice([(None, None), (1000, 2000), (2000, None), (None, 3000)])
            grants.append(
                Grant(
                    id=f"g{number}",
                    owner=owner,
                    role=rnd.choice(ROLES),
                    ask=Ask(
                        owner, about := rnd.choice(["one", "two"]), rnd.choice(sorted(attributes[about].predicates))
                    ),
                    matter=rnd.choice(MATTERS),
                    places=tuple(rnd.sample(PLACES, rnd.choice([0, 0, 1, 2]))),
                    level=rnd.choice([*Level, *[Level.COMMUNITY] * 3]),
                    sensitivity=rnd.choice([(1, 5), (1, 5), (low, high)]),
                    assurance=rnd.choice([1, 1, 2, 3]),
                    not_before=before,
                    not_after=after,
                )
            )
        roles = {
            system: frozenset(role for role in ROLES if role.startswith(owner) and rnd.random() < 0.95)
            for system in SYSTEMS
        }
        if rnd.random() < 0.95:
            documents[owner] = Document(owner, TITLE, ("zhiwang-1",), roles, attributes, tuple(grants), version=1)
    matters = {
        name: Matter(name, TITLE, "", frozenset(rnd.sample(OWNERS, rnd.choice([2, 3, 3]))), None, "", "", {}, {}, None)
        for name in MATTERS
        if rnd.random() < 0.95
    }
    denies = tuple(
        Deny(
            id=f"d{number}",
            role=rnd.choice([None, rnd.choice(ROLES)]),
            owner=(asked := rnd.choice([None, rnd.choice(OWNERS)])),
            attribute=None if asked is None else "one",
            predicate=None if asked is None else rnd.choice([None, *PREDICATES]),
            matter=rnd.choice(MATTERS),
            place=rnd.choice([None, rnd.choice(PLACES)]),
        )
        for number in range(rnd.choice([0, 0, 0, 1]))
    )
    suspensions = tuple(
        Suspension(
            id=f"s{number}",
            department=rnd.choice(OWNERS),
            system=rnd.choice([None, f"{rnd.choice(OWNERS)}/{rnd.choice(SYSTEMS)}"]),
            role=rnd.choice([None, rnd.choice(ROLES)]),
            official=rnd.choice([None, f"{rnd.choice(OWNERS)}/clerk-1"]),
            not_before=rnd.choice([None, 1000]),
            not_after=rnd.choice([None, 2000]),
        )
        for number in range(rnd.choice([0, 0, 0, 1, 2]))
    )
    return Directory(1, {}, 9e9, Centre("shenzhen", {}, departments, denies), documents, matters, suspensions)


def random_question(rnd: random.Random) -> Question:
    department = rnd.choice(OWNERS)
    kind = Kind.SYSTEM if rnd.random() < 0.97 else Kind.AGENT
    return Question(
        system=Identity("shenzhen", department, kind, rnd.choice([*SYSTEMS, *SYSTEMS, "gamma"])),
        role=rnd.choice([role for role in ROLES if role.startswith(department)] + ["edu/clerk"]),
        owner=rnd.choice(OWNERS),
        attribute=rnd.choice(["one", "two", "one", "two", "three"]),
        predicate=rnd.choice(PREDICATES),
        jurisdiction=rnd.choice(PLACES),
        matter=rnd.choice([*MATTERS, *MATTERS, "other"]),
        assurance=rnd.randint(1, 3),
        now=rnd.choice(TIMES) + rnd.choice([-1, -0.25, 0, 0.25, 1]),
        official=rnd.choice(["clerk-1", "clerk-2"]),
    )


def likely_question(rnd: random.Random, directory: Directory) -> Question:
    """Built around a grant, so that allowed and nearly allowed requests are common."""
    grants = [grant for document in directory.documents.values() for grant in document.grants]
    question = random_question(rnd)
    if not grants:
        return question
    grant = rnd.choice(grants)
    department = grant.role.partition("/")[0]
    system = rnd.choice(SYSTEMS)
    home = directory.centre.departments[department].systems[system]
    return dataclasses.replace(
        question,
        system=Identity("shenzhen", department, Kind.SYSTEM, system),
        role=grant.role,
        owner=grant.owner,
        attribute=grant.ask.attribute,
        predicate=grant.ask.predicate,
        matter=grant.matter,
        jurisdiction=rnd.choice(
            [*(place for place in (*PLACES, *grant.places) if home.covers(place)), question.jurisdiction]
        ),
        assurance=rnd.choice([3, question.assurance]),
    )


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
