"""Directories and questions at random, of few names and places, so that rules meet. The same ones for the same seed."""

from __future__ import annotations

import dataclasses
import random

from certs.identity import Identity, Kind
from policy.emergencies import opened
from policy.enforcer import Question
from policy.model import (
    Activation,
    Attribute,
    Centre,
    Deny,
    DepartmentInfo,
    Directory,
    Document,
    Emergency,
    Grant,
    Matter,
    Suspension,
    Title,
)
from zhiwang.wire.claims import Ask, Predicate
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
                    # None for @self; several for a functional zone.
                    places=tuple(rnd.sample(PLACES, rnd.choice([0, 0, 1, 2, 4]))),
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


def with_emergencies(rnd: random.Random, directory: Directory) -> Directory:
    """The same with prepared emergencies, and openings of them by whomever and for however long."""
    documents = {}
    for owner, document in directory.documents.items():
        emergencies = []
        for name in ("flood", "fire"):
            asked = [rnd.choice(["one", "two"]) for _ in range(rnd.randint(1, 2))]
            low, high = sorted((rnd.randint(1, 5), rnd.randint(1, 5)))
            template = Grant(
                id=name,
                owner=owner,
                role=rnd.choice(ROLES),
                ask=Ask(owner, "one", Predicate.EXISTS),
                matter=rnd.choice(MATTERS),
                places=tuple(rnd.sample(PLACES, rnd.choice([0, 0, 1, 2]))),
                level=rnd.choice([*Level, *[Level.COMMUNITY] * 3]),
                sensitivity=rnd.choice([(1, 5), (1, 5), (low, high)]),
                assurance=rnd.choice([1, 1, 2, 3]),
                not_before=rnd.choice([None, None, 2000]),
                not_after=rnd.choice([None, None, 3000]),
            )
            grants = tuple(
                dataclasses.replace(
                    template, ask=Ask(owner, about, rnd.choice(sorted(document.attributes[about].predicates)))
                )
                for about in asked
            )
            admins = frozenset(rnd.sample(OWNERS, rnd.randint(1, 3)))
            emergencies.append(Emergency(name, TITLE, grants, rnd.randint(1, 2), admins))
        documents[owner] = dataclasses.replace(document, emergencies=tuple(emergencies))
    activations = []
    for number in range(rnd.randint(4, 16)):
        since = rnd.choice([*TIMES, 2001, 1000 - 86_400, 1001 - 86_400, -8000])
        activations.append(
            Activation(
                f"a{number}",
                rnd.choice(OWNERS),
                rnd.choice([*OWNERS, *OWNERS, "nobody"]),
                rnd.choice(["flood", "fire", "flood", "fire", "war"]),
                since,
                since + rnd.choice([600, 1200, 1800, 3600, 3601, 7200, 90_000]),
                bytes(32),
            )
        )
    return dataclasses.replace(directory, documents=documents, activations=tuple(activations))


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
    grants = list(opened(directory)) * 4 + grants
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
        now=question.now if grant.not_before is None or rnd.random() < 0.5 else max(grant.not_before, 0) + 1.0,
    )
