"""What a directory publishes and allows, as messages: for PolicyService, for commands, for whoever draws a page of it.

The one place where rights become what people are told: `zhiwang policy` renders these messages, PolicyService sends
them. What is allowed is `reach.py`'s, what it is called `words.py`'s. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from policy.document import ASSURANCES
from policy.emergencies import RULE
from policy.enforcer import Enforcer, Question
from policy.explain import Ground, explain
from policy.model import Directory, Document, Grant
from policy.reach import FOREVER, Key, Reach, Right, Where
from policy.words import Sentence, Words
from zhiwang.policy.v1 import policy_pb2, rights_pb2
from zhiwang.wire.claims import Ask
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.places import Jurisdiction

ASSURANCE_WORDS: Final = {number: word for word, number in ASSURANCES.items()}

_PARTS: Final = {
    "all": rights_pb2.Place.PART_ALL,
    "itself": rights_pb2.Place.PART_ITSELF,
    "elsewhere": rights_pb2.Place.PART_ELSEWHERE,
}
_KINDS: Final = {
    "condition": policy_pb2.Ground.KIND_CONDITION,
    "grant": policy_pb2.Ground.KIND_GRANT,
    "deny": policy_pb2.Ground.KIND_DENY,
}


def attributes(directory: Directory, owner: str = "") -> Iterator[rights_pb2.AttributeSummary]:
    """Every published attribute, by department.

    Args:
        directory: Need not be in force.
        owner: Only this department's.

    Raises:
        RefusedError: NAME_UNKNOWN: no such department has published anything.
    """
    for document in _documents(directory, owner):
        counted: dict[str, int] = dict.fromkeys(document.attributes, 0)
        for grant in document.grants:
            counted[grant.ask.attribute] += 1
        for name, attribute in document.attributes.items():
            yield rights_pb2.AttributeSummary(
                attribute=f"{document.department}.{name}",
                title=rights_pb2.Text(zh=attribute.title.zh, en=attribute.title.en),
                subject=attribute.subject,
                asked=[
                    " ".join((predicate.value, *attribute.cells(predicate)))
                    for predicate in sorted(attribute.predicates)
                ],
                sensitivity=attribute.sensitivity,
                grants=counted[name],
            )


def grants(directory: Directory, owner: str = "") -> Iterator[rights_pb2.GrantSummary]:
    """Every grant in words, by department; as `attributes`."""
    words, reach = Words(directory), Reach(directory)
    for document in _documents(directory, owner):
        for grant in document.grants:
            yield rights_pb2.GrantSummary(
                id=grant.id,
                owner=grant.owner,
                role=grant.role,
                ask=str(grant.ask),
                matter=grant.matter,
                sentence=text_of(words.grant(grant)),
                systems=reach.holders(grant.role),
            )


class Told(NamedTuple):
    """What can be asked.

    Attributes:
        rights: At the time that was asked about.
        emergencies: What is prepared about the same, and permits nothing until it is opened.
    """

    rights: list[rights_pb2.Right]
    emergencies: list[rights_pb2.PreparedEmergency]


def emergencies(
    directory: Directory, owner: str = "", about: Callable[[Grant], bool] = lambda _grant: True
) -> Iterator[rights_pb2.PreparedEmergency]:
    """What is prepared for emergencies, by department.

    Args:
        directory: Need not be in force.
        owner: Only this department's.
        about: Only what has a grant of which this is true.

    Raises:
        RefusedError: As `attributes`.
    """
    words = Words(directory)
    for document in _documents(directory, owner):
        for emergency in document.emergencies:
            if any(map(about, emergency.grants)):
                yield rights_pb2.PreparedEmergency(
                    id=f"{document.department}/{emergency.id}",
                    role=emergency.grants[0].role,
                    asks=[str(grant.ask) for grant in emergency.grants],
                    matter=emergency.grants[0].matter,
                    hours=emergency.hours,
                    admins=sorted(emergency.admins),
                    sentences=map(text_of, words.emergency(document.department, emergency)),
                )


def who_can(
    directory: Directory, attribute: str, at: float, *, predicate: str = "", matter: str = "", jurisdiction: str = ""
) -> Told:
    """Who can ask an attribute.

    Args:
        directory: Need not be in force.
        attribute: "owner.attribute".
        at: When, in seconds since the epoch.
        predicate: Only asked so.
        matter: Only for this matter.
        jurisdiction: Only who may ask there.

    Raises:
        RefusedError: NAME_UNKNOWN: nobody publishes it. JURISDICTION_INVALID.
    """
    owner, _, name = attribute.partition(".")
    if directory.attribute(owner, name) is None:
        raise RefusedError(Reason.NAME_UNKNOWN, "nobody publishes this attribute", field="attribute")
    reach = Reach(directory)
    place = Jurisdiction.parse(jurisdiction) if jurisdiction else None

    def asked(ask: Ask, of: str) -> bool:
        return matter in {"", of} and predicate in {"", ask.predicate.value}

    keys = (key for key in reach.keys(owner=owner, attribute=name) if asked(key.ask, key.matter))
    return _told(
        reach,
        keys,
        at,
        place,
        lambda grant: (grant.ask.owner, grant.ask.attribute) == (owner, name) and asked(grant.ask, grant.matter),
    )


def what_can(directory: Directory, who: str, at: float) -> Told:
    """What a system or a role can ask, or what can be asked in a place.

    Args:
        directory: Need not be in force.
        who: A system ("edu/enrolment"), a role ("edu/clerk") or a place ("nbs:440306").
        at: When, in seconds since the epoch.

    Raises:
        RefusedError: NAME_UNKNOWN: there is no such system and no such role. JURISDICTION_INVALID.
    """
    reach = Reach(directory)
    if ":" in who:
        return _told(reach, reach.keys(), at, Jurisdiction.parse(who), lambda _grant: True)
    keys = {*reach.keys(system=who), *reach.keys(role=who)}
    department, _, name = who.partition("/")
    if not keys and directory.centre.home(department, name) is None and not reach.holders(who):
        raise RefusedError(Reason.NAME_UNKNOWN, "there is no system and no role of this name", field="who")
    return _told(
        reach,
        sorted(keys, key=str),
        at,
        None,
        lambda grant: who == grant.role or who in reach.holders(grant.role),
    )


def explained(directory: Directory, question: Question) -> policy_pb2.ExplainResponse:
    """Whether something would be allowed, by which rules, and what stands in the way."""
    decision = Enforcer(directory).decide(question)
    return policy_pb2.ExplainResponse(
        allowed=decision.allowed,
        reason="" if decision.reason is None else decision.reason.name,
        rule_ids=decision.rule_ids,
        directory_version=directory.version,
        grounds=map(ground_of, explain(directory, question)),
    )


def ground_of(ground: Ground) -> policy_pb2.Ground:
    """A ground as a message."""
    return policy_pb2.Ground(kind=_KINDS[ground.kind], holds=ground.holds, text=ground.text)


def text_of(sentence: Sentence) -> rights_pb2.Text:
    """A sentence as a message."""
    return rights_pb2.Text(zh=sentence.zh, en=sentence.en)


def place_of(where: Where) -> rights_pb2.Place:
    """Places as a message."""
    told = [place.code if place.common else str(place) for place in (where.place, *where.without)]
    return rights_pb2.Place(jurisdiction=told[0], part=_PARTS[where.part], without=told[1:])


def set_time(stamp: Timestamp, time: float) -> None:
    """Set a time that is not for ever; one that is stays missing."""
    if abs(time) != FOREVER:
        stamp.FromNanoseconds(int(time * 1e9))


def _documents(directory: Directory, owner: str) -> list[Document]:
    if owner and owner not in directory.documents:
        raise RefusedError(Reason.NAME_UNKNOWN, "no department of this name has published a document", field="owner")
    return [document for name, document in sorted(directory.documents.items()) if owner in {"", name}]


def _told(
    reach: Reach, keys: Iterable[Key], at: float, place: Jurisdiction | None, about: Callable[[Grant], bool]
) -> Told:
    def here(grant: Grant) -> bool:
        return place is None or not grant.places or any(one.covers(place) for one in grant.places)

    words = Words(reach.directory)
    return Told(
        [
            _right(right, words)
            for right in reach.rights(keys, at)
            if place is None or any(where.covers(place) for where in right.places)
        ],
        list(emergencies(reach.directory, about=lambda grant: about(grant) and here(grant))),
    )


def _right(right: Right, words: Words) -> rights_pb2.Right:
    message = rights_pb2.Right(
        system=right.key.system,
        home=str(right.home),
        role=right.key.role,
        ask=str(right.key.ask),
        matter=right.key.matter,
        places=map(place_of, right.places),
        places_text=text_of(words.places(right.places)),
        assurance=ASSURANCE_WORDS[right.assurance],
        rule_ids=right.rules,
        emergency=all(f"/{RULE}" in rule for rule in right.rules),
    )
    set_time(message.since_time, right.span.since)
    set_time(message.until_time, right.span.until)
    return message
