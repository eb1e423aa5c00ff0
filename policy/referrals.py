"""Whether an owner may hand names of its own people to a system of another department.

Names never travel through the exchange; what is decided here is whether the owner's adapter records a referral, without
which the owner's command seals no file, and again, by the recipient's own directory, whether the file is opened. The
rule is the owner's own, signed by two of its admins. The centre decides who may act in the matter at all, can deny the
role, and whoever is suspended hands on and receives nothing. Pure.
"""

from __future__ import annotations

from typing import Final

from certs.identity import Identity, Kind
from certs.signing import VerifiedCertificate
from policy.authorise import follows
from policy.model import Directory, Matter, Referral, Suspension
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import SKEW
from zhiwang.wire.places import Jurisdiction

MAX_AGE: Final = 31 * 86_400
"""Seconds after which a file of names is no longer opened; the key for which it is sealed is good for no longer."""


def check_forms(matter: Matter, reference: str, official: str) -> None:
    """Whether reference and official are as the matter wants them, which have room for nobody's identifier.

    Raises:
        RefusedError: REFERENCE_INVALID or OFFICIAL_INVALID.
    """
    if not follows(matter.reference, reference):
        raise RefusedError(Reason.REFERENCE_INVALID, f"{matter.name} wants {matter.reference}", field="reference")
    if not follows(matter.official, official):
        raise RefusedError(Reason.OFFICIAL_INVALID, f"{matter.name} wants {matter.official}", field="official")


def check_listing(directory: Directory, department: str, caller: Identity, official: str, now: float) -> None:
    """Whether a department's system or admin may draw and use lists of its own people for an official.

    Raises:
        RefusedError: NOT_GRANTED: one of them is suspended.
    """
    system = f"{caller.department}/{caller.name}" if caller.kind is Kind.SYSTEM else None
    for one in directory.suspensions:
        if (
            one.department == department
            and one.system in {None, system}
            and one.official in {None, f"{department}/{official}"}
            and one.role is None
            and _everything(one)
            and _stands(one, now)
        ):
            raise RefusedError(Reason.NOT_GRANTED, f"{department} has suspended who asks for it ({one.id})")


def check_received(
    directory: Directory, sender: VerifiedCertificate, head: roster_pb2.ReferralHead, recipient: Identity, now: float
) -> Referral:
    """The rule by which names that came in a file may be taken up.

    The sender's word alone is not enough: its admin could have sealed the file beside the owner's adapter.

    Args:
        directory: In force at the recipient.
        sender: Who signed the file: an admin, not revoked, and with a certificate that was good when it says that it
            was made.
        head: What the file says of itself.
        recipient: The system that opens it.
        now: Seconds since the epoch.

    Raises:
        RefusedError: CLOCK_SKEW or REQUEST_EXPIRED: it says that it was made in the future, or is too old.
            CERTIFICATE_INVALID: the sender is no admin of its department. REQUEST_MALFORMED, REFERENCE_INVALID or
            OFFICIAL_INVALID: the head is not as an owner's command writes it. Or as `allowed_referral`, now or at the
            time when it was made.
    """
    owner, made = sender.identity.department, float(head.time.seconds)
    if made > now + SKEW:
        raise RefusedError(Reason.CLOCK_SKEW, "the file says that it was made in the future")
    if made < now - MAX_AGE:
        raise RefusedError(Reason.REQUEST_EXPIRED, f"the file was made more than {MAX_AGE // 86_400} days ago")
    if sender.public_key_raw not in directory.admin_keys.get(owner, frozenset()):
        detail = f"{sender.identity.short} is by the directory no admin of {owner}, or no longer with this key"
        raise RefusedError(Reason.CERTIFICATE_INVALID, detail)
    if not head.roster:
        detail = "the file does not say of which list; its sender has to seal it anew, with a newer release"
        raise RefusedError(Reason.REQUEST_MALFORMED, detail)
    for at in (made, now):
        rule = allowed_referral(directory, owner, head.roster, head.matter, head.official, recipient, at)
    check_forms(directory.matters[head.matter], head.reference, head.official)
    return rule


def allowed_referral(
    directory: Directory, owner: str, roster: str, matter: str, official: str, recipient: Identity, now: float
) -> Referral:
    """The owner's rule by which a system may be handed the names of a roster for a matter.

    Args:
        directory: In force.
        owner: Department whose people they are.
        roster: Of the owner's mapping.
        matter: For what.
        official: The owner's, for whom it is done.
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
        if not _stopped(directory, owner, rule, official, recipient, home, now):
            return rule
    raise RefusedError(Reason.NOT_GRANTED, f"no rule of {owner} refers {roster} there for {matter}")


def _holds(rule: Referral, now: float) -> bool:
    return (rule.not_before is None or now >= rule.not_before) and (rule.not_after is None or now < rule.not_after)


def _stopped(
    directory: Directory,
    owner: str,
    rule: Referral,
    official: str,
    recipient: Identity,
    home: Jurisdiction,
    now: float,
) -> bool:
    """Whether a deny of the centre or a suspension concerns role, system or official, whatever else is asked or not."""
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
        and one.official in {None, f"{owner}/{official}"}
        and one.attribute is None
        and _stands(one, now)
        for one in directory.suspensions
    )


def _everything(suspension: Suspension) -> bool:
    """Whether it is about more than what other owners are asked."""
    return suspension.owner is suspension.attribute is suspension.predicate is None


def _stands(suspension: Suspension, now: float) -> bool:
    return (suspension.not_before is None or now >= suspension.not_before) and (
        suspension.not_after is None or now < suspension.not_after
    )
