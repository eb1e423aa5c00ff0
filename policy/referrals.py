"""Whether an owner may hand names of its own people to a system of another department.

Names never travel through the exchange; what is decided here is whether the owner's adapter records a referral, without
which the owner's command seals no file. The rule is the owner's own, signed by two of its admins. The centre decides
who may act in the matter at all, can deny the role, and whoever is suspended receives nothing. Pure.
"""

from __future__ import annotations

from certs.identity import Identity, Kind
from policy.model import Directory, Referral
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.places import Jurisdiction


def allowed_referral(
    directory: Directory, owner: str, roster: str, matter: str, recipient: Identity, now: float
) -> Referral:
    """The owner's rule by which a system may be handed the names of a roster for a matter.

    Args:
        directory: In force.
        owner: Department whose people they are.
        roster: Of the owner's mapping.
        matter: For what.
        recipient: The system.
        now: Seconds since the epoch.

    Raises:
        RefusedError: DIRECTORY_EXPIRED, MATTER_NOT_ALLOWED, ROLE_NOT_HELD or NOT_GRANTED.
    """
    if now >= directory.expires:
        raise RefusedError(Reason.DIRECTORY_EXPIRED)
    found = directory.matters.get(matter)
    if found is None or recipient.department not in found.requesters:
        raise RefusedError(Reason.MATTER_NOT_ALLOWED, field="matter")
    document, theirs = directory.documents.get(owner), directory.documents.get(recipient.department)
    if document is None or theirs is None or recipient.kind is not Kind.SYSTEM:
        raise RefusedError(Reason.NOT_GRANTED, "the recipient is no system of a member that has published a document")
    home = directory.centre.home(recipient.department, recipient.name)
    if home is None:
        raise RefusedError(Reason.NOT_GRANTED, "the centre lists no such system")
    rules = [one for one in document.referrals if one.roster == roster and one.matter == matter and _holds(one, now)]
    held = [one for one in rules if one.to in theirs.roles.get(recipient.name, ())]
    if rules and not held:
        raise RefusedError(Reason.ROLE_NOT_HELD, field="recipient")
    for rule in held:
        if not _stopped(directory, owner, rule, recipient, home, now):
            return rule
    raise RefusedError(Reason.NOT_GRANTED, f"no rule of {owner} refers {roster} there for {matter}")


def _holds(rule: Referral, now: float) -> bool:
    return (rule.not_before is None or now >= rule.not_before) and (rule.not_after is None or now < rule.not_after)


def _stopped(
    directory: Directory, owner: str, rule: Referral, recipient: Identity, home: Jurisdiction, now: float
) -> bool:
    """Whether a deny of the centre or a suspension concerns role or system, whatever else is asked or not."""
    if any(
        deny.attribute is None
        and deny.role in {None, rule.to}
        and deny.matter in {None, rule.matter}
        and (deny.place is None or deny.place.covers(home) or home.covers(deny.place))
        for deny in directory.centre.denies
    ):
        return True
    system = f"{recipient.department}/{recipient.name}"
    return any(
        one.department in {owner, recipient.department}
        and one.system in {None, system}
        and one.role in {None, rule.to}
        and one.attribute is None
        and one.official is None
        and (one.not_before is None or now >= one.not_before)
        and (one.not_after is None or now < one.not_after)
        for one in directory.suspensions
    )
