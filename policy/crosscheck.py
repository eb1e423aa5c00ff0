"""What is wrong with a file only beside the others: asked by the registrar before it publishes.

A reader of the signed directory does not ask this, so that one department's removal spoils no other's document: a
grant for a matter that is gone simply never applies.
"""

from __future__ import annotations

from collections.abc import Sequence

from policy.document import SCALARS, Mistake
from policy.model import Assertion, Centre, Directory, Document, Grant, Matter
from zhiwang.wire.identifiers import contains_identifier


def mistake_of_id(name: str) -> str | None:
    """What is wrong with the id of a suspension or an opening: it stands in logs, in rules and on screens."""
    if contains_identifier(name, grouped=True):
        return "an id must not contain an identifier; take another one"
    return None


def check_document(document: Document, directory: Directory) -> list[Mistake]:
    """What is wrong with a department's document beside the rest of the directory."""
    centre = directory.centre
    info = centre.departments.get(document.department)
    if info is None:
        return [Mistake(("department",), "is no member; the centre has to add it first")]
    mistakes = [
        Mistake(("system", system), f"the centre lists no such system of {document.department}")
        for system in document.roles
        if system not in info.systems
    ]
    for name, attribute in document.attributes.items():
        key = ("attribute", name)
        if attribute.subject not in centre.subjects:
            mistakes.append(Mistake((*key, "subject"), f"the centre knows no kind of subject {attribute.subject}"))
        if attribute.type and attribute.type not in SCALARS and attribute.type not in centre.subjects:
            mistakes.append(Mistake((*key, "type"), f"{attribute.type} is neither a type nor a kind of subject"))
    lists: dict[str, Sequence[Grant | Assertion]] = {"grant": document.grants, "assert": document.assertions}
    for word, rules in lists.items():
        for index, rule in enumerate(rules):
            if rule.matter not in directory.matters:
                mistakes.append(Mistake((word, index, "matter"), f"there is no matter {rule.matter}"))
            if rule.role.partition("/")[0] not in centre.departments:
                mistakes.append(Mistake((word, index, "role"), f"{rule.role.partition('/')[0]} is no member"))
    for index, referral in enumerate(document.referrals):
        matter, department = directory.matters.get(referral.matter), referral.to.partition("/")[0]
        if matter is None:
            mistakes.append(Mistake(("refer", index, "matter"), f"there is no matter {referral.matter}"))
        elif department not in matter.requesters:
            mistakes.append(Mistake(("refer", index, "to"), f"{department} is no requester of {referral.matter}"))
    for index, emergency in enumerate(document.emergencies):
        grant = emergency.grants[0]
        if grant.matter not in directory.matters:
            mistakes.append(Mistake(("emergency", index, "matter"), f"there is no matter {grant.matter}"))
        mistakes += [
            Mistake(("emergency", index, key), f"{department} is no member")
            for key, departments in (("role", {grant.role.partition("/")[0]}), ("admins", emergency.admins))
            for department in sorted(departments - set(centre.departments))
        ]
    return mistakes


def check_matter(matter: Matter, centre: Centre) -> list[Mistake]:
    """What is wrong with a matter beside the centre's own file."""
    mistakes = [
        Mistake(("requesters",), f"{department} is no member")
        for department in sorted(matter.requesters - set(centre.departments))
    ]
    mistakes += [
        Mistake(("slots", slot.name), f"the centre knows no kind of subject {slot.kind}")
        for slot in matter.slots.values()
        if slot.kind not in centre.subjects
    ]
    mistakes += [
        Mistake(("claims", name), f"{claim.owner} is no member")
        for name, claim in matter.claims.items()
        if claim.owner not in centre.departments
    ]
    return mistakes
