"""Why something would be allowed or denied: every condition in words, for people. The decision itself is `Enforcer`'s.

Read from the same directory; a test holds that these conditions and the enforcer never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from certs.identity import Kind
from policy.emergencies import RULE
from policy.emergencies import grants as grants_of
from policy.enforcer import Question
from policy.model import Attribute, Deny, Directory, Grant, Suspension
from policy.words import day_text
from zhiwang.wire.claims import Ask
from zhiwang.wire.places import Jurisdiction


class Ground(NamedTuple):
    """One ground of a decision.

    Attributes:
        kind: "condition" (all must hold), "grant" (one must) or "deny" (none may stand here).
        holds: Whether it speaks for the request.
        text: What it is.
    """

    kind: Literal["condition", "grant", "deny"]
    holds: bool
    text: str


def explain(directory: Directory, question: Question) -> list[Ground]:
    """Every ground of a decision: what must hold, each grant that could apply, each deny that does.

    The request is allowed if all of the conditions hold, at least one grant applies and nothing denies it.
    """
    conditions = list(_conditions(directory, question))
    attribute = directory.attribute(question.owner, question.attribute)
    home = directory.centre.home(question.system.department, question.system.name)
    if attribute is None or home is None:
        return conditions
    asked_about = [
        grant for grant in grants_of(directory) if grant.ask == _ask(question) and grant.matter == question.matter
    ]
    grants = [_granted(grant, attribute, question, home) for grant in asked_about]
    grants += list(_shut(directory, question, {grant.id for grant in asked_about}))
    if not grants:
        asked = f"{question.attribute} {question.predicate} and {question.matter}"
        grants = [Ground("grant", holds=False, text=f"{question.owner} has no grant for {asked}")]
    denies = [f"the centre's {deny.id} denies it" for deny in directory.centre.denies if _denies(deny, question)]
    denies += [
        f"{entry.department} suspends it: {entry.id}" for entry in directory.suspensions if _suspends(entry, question)
    ]
    return [*conditions, *grants, *(Ground("deny", holds=False, text=text) for text in denies)]


def allows(grounds: list[Ground]) -> bool:
    """Whether these grounds allow the request."""
    return (
        all(ground.holds for ground in grounds if ground.kind == "condition")
        and any(ground.holds for ground in grounds if ground.kind == "grant")
        and not any(ground.kind == "deny" for ground in grounds)
    )


def _conditions(directory: Directory, question: Question) -> Iterator[Ground]:
    system = question.system
    name = f"{system.department}/{system.name}"
    home = directory.centre.home(system.department, system.name)
    member = home is not None and system.kind is Kind.SYSTEM and system.city == directory.centre.city
    yield Ground(
        "condition",
        member,
        f"the centre knows the system {name}" + (f", at home in {home} ({home.level.word})" if home else ""),
    )
    document = directory.documents.get(system.department)
    roles = frozenset() if document is None else document.roles.get(system.name, frozenset())
    yield Ground("condition", question.role in roles, f"its department gives it the role {question.role}")
    inside = home is not None and home.covers(question.jurisdiction)
    yield Ground("condition", inside, f"{question.jurisdiction} lies within its home")
    matter = directory.matters.get(question.matter)
    asks = matter is not None and system.department in matter.requesters
    yield Ground("condition", asks, f"{system.department} may ask for {question.matter}")
    attribute = directory.attribute(question.owner, question.attribute)
    published = attribute is not None and question.predicate in attribute.predicates
    yield Ground("condition", published, f"{question.owner} publishes {question.attribute} {question.predicate}")


def _granted(grant: Grant, attribute: Attribute, question: Question, home: Jurisdiction) -> Ground:
    against = []
    if grant.role != question.role:
        against.append(f"it is for {grant.role}")
    if grant.places and not any(place.covers(question.jurisdiction) for place in grant.places):
        against.append("it is for " + " ".join(map(str, grant.places)))
    if home.level > grant.level:
        against.append(f"it admits {grant.level.word} and above, and the system is of a {home.level.word}")
    if not grant.sensitivity[0] <= attribute.sensitivity <= grant.sensitivity[1]:
        against.append(f"the attribute's sensitivity is {attribute.sensitivity}")
    if question.assurance < grant.assurance:
        against.append("it wants a better assurance of the official")
    if grant.not_before is not None and question.now < grant.not_before:
        against.append(f"it begins on {day_text(grant.not_before)}")
    if grant.not_after is not None and question.now >= grant.not_after:
        against.append(f"it ended on {day_text(grant.not_after)}")
    name = f"grant {grant.owner}/{grant.id}"
    text = f"{name} does not apply: {'; '.join(against)}" if against else f"{name} applies"
    return Ground("grant", not against, text)


def _shut(directory: Directory, question: Question, standing: set[str]) -> Iterator[Ground]:
    """Emergencies that are prepared for this and that nobody has opened."""
    document = directory.documents.get(question.owner)
    for emergency in () if document is None else document.emergencies:
        about = any(
            (grant.ask, grant.matter, grant.role) == (_ask(question), question.matter, question.role)
            for grant in emergency.grants
        )
        if about and not any(name.startswith(f"{RULE}{emergency.id}/") for name in standing):
            admins = ", ".join(sorted(emergency.admins))
            name = f"{question.owner}/{emergency.id}"
            text = f"the emergency {name} is prepared and not open; an admin of {admins} can open it"
            yield Ground("grant", holds=False, text=text)


def _denies(deny: Deny, question: Question) -> bool:
    here = deny.place is None or deny.place.covers(question.jurisdiction) or question.jurisdiction.covers(deny.place)
    return here and deny.concerns(question.role, _ask(question), question.matter)


def _suspends(entry: Suspension, question: Question) -> bool:
    system = question.system
    return (
        entry.concerns(f"{system.department}/{system.name}", question.role, _ask(question))
        and entry.official in {None, f"{system.department}/{question.official}"}
        and (entry.not_before is None or question.now >= entry.not_before)
        and (entry.not_after is None or question.now < entry.not_after)
    )


def _ask(question: Question) -> Ask:
    return Ask(question.owner, question.attribute, question.predicate)
