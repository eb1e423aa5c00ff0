"""policy_cached, policy_cold, policy_first: a decision among 100, 1,000 and 10,000 rules, beside stock casbin.

The rules are spread over 42 attributes and 12 matters. Stock is one `casbin.Enforcer.enforce()` over all of them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import casbin
from casbin.model import Model

from bench.result import Result
from certs.identity import Identity, Kind
from policy.enforcer import Enforcer, Question, grant_row, placed
from policy.model import Attribute, Centre, DepartmentInfo, Directory, Document, Grant, Matter, MatterSlot, Title
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.places import Jurisdiction, Level

CITY = "shenzhen"
OWNERS = 7
ATTRIBUTES = 6
MATTERS = 12
RULES = 10_000
SIZES = (100, 1_000, RULES)
ASKED = 200
STOCK_ASKED = 41
CACHED_SECONDS = 5e-6
COLD_SECONDS = 1e-3
NOW = 1_790_000_000.0
TITLE = Title(zh="测", en="Bench")
HOME = Jurisdiction("nbs", "4403")
ROLES = tuple(f"edu/role-{number}" for number in range(40))

STOCK = """
[request_definition]
r = role, owner, attribute, predicate, jurisdiction, matter, now, home

[policy_definition]
p = owner, attribute, matter, role, predicate, place, not_before, not_after, eft

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.owner == p.owner && r.attribute == p.attribute && r.matter == p.matter && r.role == p.role && \
r.predicate == p.predicate && r.now >= p.not_before && r.now < p.not_after && \
placed(p.place, p.eft, r.home, r.jurisdiction)
"""


def _directory(grants_of: dict[str, tuple[Grant, ...]]) -> Directory:
    departments = {f"owner{number}": DepartmentInfo(f"owner{number}", TITLE, HOME, {}) for number in range(OWNERS)}
    departments["edu"] = DepartmentInfo("edu", TITLE, HOME, {"enrolment": HOME})
    documents = {
        owner: Document(
            owner,
            TITLE,
            ("zhiwang-1",),
            {},
            {
                f"a{place}": Attribute(owner, f"a{place}", TITLE, "person", "text", frozenset({Predicate.EXISTS}))
                for place in range(ATTRIBUTES)
            },
            grants_of[owner],
        )
        for owner in grants_of
    }
    documents["edu"] = Document("edu", TITLE, ("zhiwang-1",), {"enrolment": frozenset(ROLES)}, {})
    matters = {
        f"m{number}": Matter(
            f"m{number}",
            TITLE,
            "",
            frozenset({"edu"}),
            None,
            ".*",
            ".*",
            {"child": MatterSlot("child", "person")},
            {},
            None,
        )
        for number in range(MATTERS)
    }
    return Directory(1, {}, NOW + 1e6, Centre(CITY, {}, departments), documents, matters)


def _grants(count: int, random_: random.Random) -> dict[str, tuple[Grant, ...]]:
    grants: dict[str, list[Grant]] = {f"owner{number}": [] for number in range(OWNERS)}
    for number in range(count):
        owner = f"owner{number % OWNERS}"
        ask = Ask(owner, f"a{random_.randrange(ATTRIBUTES)}", Predicate.EXISTS)
        place = Jurisdiction("nbs", f"4403{random_.randrange(3, 12):02}")
        matter = f"m{random_.randrange(MATTERS)}"
        grants[owner].append(Grant(f"g{number}", owner, random_.choice(ROLES), ask, matter, (place,), Level.COMMUNITY))
    return {owner: tuple(rows) for owner, rows in grants.items()}


def _question(grant: Grant) -> Question:
    return Question(
        Identity(CITY, "edu", Kind.SYSTEM, "enrolment"),
        grant.role,
        grant.owner,
        grant.ask.attribute,
        grant.ask.predicate,
        grant.places[0],
        grant.matter,
        1,
        NOW,
    )


def _seconds(call: Callable[[], object], rounds: int) -> float:
    """Seconds of CPU a call: nothing waits in a decision, and other work on the machine is not to be measured."""
    started = time.process_time()
    for _ in range(rounds):
        call()
    return (time.process_time() - started) / rounds


class _Rows(casbin.persist.Adapter):  # type: ignore[misc] # casbin carries no types
    def __init__(self, rows: list[list[str]]) -> None:
        self._rows = rows

    def load_policy(self, model: Model) -> None:
        model["p"]["p"].policy = self._rows


def _stock(grants: list[Grant], asked: list[Grant]) -> float:
    """Median of these questions: stock stops at the first rule that allows, so it matters how deep that stands."""
    rows = [grant_row(grant) for grant in grants]
    model = Model()
    model.load_model_from_text(STOCK)
    enforcer = casbin.Enforcer(
        model,
        _Rows(
            [
                [g.owner, g.ask.attribute, g.matter, r.role, r.predicate, r.place, r.not_before, r.not_after, r.eft]
                for g, r in zip(grants, rows, strict=True)
            ]
        ),
    )
    enforcer.add_function("placed", placed)

    def enforce(question: Question) -> None:
        allowed = enforcer.enforce(
            question.role,
            question.owner,
            question.attribute,
            question.predicate.value,
            str(question.jurisdiction),
            question.matter,
            f"{int(NOW):012}",
            str(HOME),
        )
        if not allowed:
            raise RuntimeError("stock casbin does not allow what was granted")

    return statistics.median(_seconds(partial(enforce, _question(grant)), 3) for grant in asked)


async def measure() -> list[Result]:
    """Decide cached, cold and for the first time, and by one stock enforcer over all rules; at each number of rules."""
    return [result for count in SIZES for result in _measure(count)]


def _measure(count: int) -> list[Result]:
    random_ = random.Random(1)  # noqa: S311  a repeatable choice of rules, no secret
    by_owner = _grants(count, random_)
    grants = [grant for rows in by_owner.values() for grant in rows]
    directory = _directory(by_owner)
    enforcer = Enforcer(directory)
    asked = random_.sample(grants, min(ASKED, count))
    for grant in asked:
        if not enforcer.decide(_question(grant)).allowed:
            raise RuntimeError("the enforcer does not allow what was granted")
    question = _question(asked[0])
    cached = statistics.median(_seconds(lambda: enforcer.decide(question), 20_000) for _ in range(5))
    # Cold: the rules of the attribute and matter are loaded, the decision itself has not been made before.
    cold = _each(enforcer, [replace(_question(grant), assurance=2, now=NOW + at) for at, grant in enumerate(asked)])
    # First: not even the rules are, as after each change of the directory.
    cells = {(grant.ask, grant.matter): grant for grant in asked}
    first = _each(Enforcer(directory), [_question(grant) for grant in cells.values()])
    stock = _stock(grants, asked[:STOCK_ASKED])
    suffix = "" if count == RULES else f"_{count}"
    return [
        Result(
            f"{name}{suffix}", value * 1e6, "µs", stock * 1e6, value / stock, told, None if not limit else value < limit
        )
        for name, value, told, limit in (
            ("policy_cached", cached, "under 5 µs", CACHED_SECONDS),
            ("policy_cold", cold, "under 1,000 µs", COLD_SECONDS),
            ("policy_first", first, "", 0.0),
        )
    ]


def _each(enforcer: Enforcer, questions: list[Question]) -> float:
    """Median of the seconds of CPU that a question takes, each asked once."""
    taken = []
    for question in questions:
        started = time.process_time()
        enforcer.decide(question)
        taken.append(time.process_time() - started)
    return statistics.median(taken)
