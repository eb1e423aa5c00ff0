"""The policy once more, by hand and without casbin: slow, plain, independent. Tests hold the enforcer against it.

What `directory.activations` has here is everything that was listed, also what does not count.
"""

from __future__ import annotations

from certs.identity import Kind
from policy.enforcer import Question
from policy.model import Activation, Directory


def allowed(directory: Directory, q: Question) -> bool:  # noqa: PLR0911 # one question after another, in plain sight
    system = f"{q.system.department}/{q.system.name}"
    member = directory.centre.departments.get(q.system.department)
    if member is None or q.system.kind != Kind.SYSTEM or q.system.city != directory.centre.city:
        return False
    if q.system.name not in member.systems:
        return False
    home = member.systems[q.system.name]
    own = directory.documents.get(q.system.department)
    if own is None or q.system.name not in own.roles or q.role not in own.roles[q.system.name]:
        return False
    if not inside(str(q.jurisdiction), str(home)):
        return False
    matter = directory.matters.get(q.matter)
    if matter is None or q.system.department not in matter.requesters:
        return False
    owner = directory.documents.get(q.owner)
    if owner is None or q.attribute not in owner.attributes:
        return False
    attribute = owner.attributes[q.attribute]
    if q.predicate not in attribute.predicates:
        return False
    for deny in directory.centre.denies:
        wanted = {
            "role": deny.role is None or deny.role == q.role,
            "owner": deny.owner is None or deny.owner == q.owner,
            "attribute": deny.attribute is None or deny.attribute == q.attribute,
            "predicate": deny.predicate is None or deny.predicate == q.predicate,
            "matter": deny.matter is None or deny.matter == q.matter,
            "place": deny.place is None
            or inside(str(q.jurisdiction), str(deny.place))
            or inside(str(deny.place), str(q.jurisdiction)),
        }
        if all(wanted.values()):
            return False
    for entry in directory.suspensions:
        wanted = {
            "party": entry.department in {q.owner, q.system.department},
            "system": entry.system is None or entry.system == system,
            "role": entry.role is None or entry.role == q.role,
            "official": entry.official is None or entry.official == f"{q.system.department}/{q.official}",
            "owner": entry.owner is None or entry.owner == q.owner,
            "attribute": entry.attribute is None or entry.attribute == q.attribute,
            "predicate": entry.predicate is None or entry.predicate == q.predicate,
            "begun": entry.not_before is None or entry.not_before <= q.now,
            "not ended": entry.not_after is None or q.now < entry.not_after,
        }
        if all(wanted.values()):
            return False
    for grant in owner.grants:
        wanted = {
            "ask": (grant.ask.owner, grant.ask.attribute, grant.ask.predicate) == (q.owner, q.attribute, q.predicate),
            "role": grant.role == q.role,
            "matter": grant.matter == q.matter,
            "place": not grant.places or any(inside(str(q.jurisdiction), str(place)) for place in grant.places),
            "level": _level(str(home)) <= int(grant.level),
            "sensitivity": grant.sensitivity[0] <= attribute.sensitivity <= grant.sensitivity[1],
            "assurance": q.assurance >= grant.assurance,
            "begun": grant.not_before is None or grant.not_before <= q.now,
            "not ended": grant.not_after is None or q.now < grant.not_after,
        }
        if all(wanted.values()):
            return True
    return any(
        _opened(directory, entry, q, _level(str(home)), attribute.sensitivity) for entry in directory.activations
    )


def _opened(directory: Directory, entry: Activation, q: Question, level: int, sensitivity: int) -> bool:
    """Whether an admin of a department has opened an emergency under which this may be asked."""
    owner = directory.documents.get(q.owner)
    if owner is None or entry.owner != q.owner or not entry.since <= q.now < entry.until:
        return False
    # Within a day the first opening counts, of those that could count by themselves.
    if _beaten(directory, entry) or not _fits(directory, entry):
        return False
    for emergency in owner.emergencies:
        for grant in emergency.grants:
            wanted = {
                "id": emergency.id == entry.emergency,
                "ask": (grant.ask.attribute, grant.ask.predicate) == (q.attribute, q.predicate),
                "role": grant.role == q.role,
                "matter": grant.matter == q.matter,
                "place": not grant.places or any(inside(str(q.jurisdiction), str(place)) for place in grant.places),
                "level": level <= int(grant.level),
                "sensitivity": grant.sensitivity[0] <= sensitivity <= grant.sensitivity[1],
                "assurance": q.assurance >= grant.assurance,
                "begun": grant.not_before is None or grant.not_before <= q.now,
                "not ended": grant.not_after is None or q.now < grant.not_after,
            }
            if all(wanted.values()):
                return True
    return False


def _fits(directory: Directory, entry: Activation) -> bool:
    owner = directory.documents.get(entry.owner)
    emergencies = () if owner is None else owner.emergencies
    hours = (entry.until - entry.since) / 3600
    return any(
        emergency.id == entry.emergency and entry.department in emergency.admins and 0 < hours <= emergency.hours
        for emergency in emergencies
    )


def _beaten(directory: Directory, entry: Activation) -> bool:
    return any(
        (other.owner, other.emergency) == (entry.owner, entry.emergency)
        and _rank(other) < _rank(entry)
        and _fits(directory, other)
        and entry.since - other.since < 86_400
        and not _beaten(directory, other)
        for other in directory.activations
    )


def _rank(entry: Activation) -> tuple[int, int, str, str]:
    return entry.since, entry.until, entry.department, entry.id


def inside(inner: str, outer: str) -> bool:
    inner_system, inner_code = inner.split(":")
    outer_system, outer_code = outer.split(":")
    if len(outer_code) > len(inner_code) or inner_code[: len(outer_code)] != outer_code:
        return False
    return len(outer_code) <= 6 or inner_system == outer_system


def _level(place: str) -> int:
    return {4: 1, 6: 2, 9: 3, 12: 4}[len(place.split(":")[1])]
