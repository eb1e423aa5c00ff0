"""Whether names may be handed on: only by the owner's own rule, and by nobody's who is stopped."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from certs.identity import Identity
from certs.signing import VerifiedCertificate
from exchange.client.mock_city import load_directory
from exchange.demo.build import examples_directory
from policy.model import Deny, Directory, Document, Referral, Suspension
from policy.referrals import MAX_AGE, allowed_referral, check_listing, check_received
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.places import Jurisdiction

NOW = time.time()
SENIORS = Identity.parse_short("shenzhen", "civil/system/seniors")
CHEN = Identity.parse_short("shenzhen", "police/admin/chen")
OFFICIAL = "clerk-17"
KEY = bytes(32)


@cache
def directory() -> Directory:
    examples = examples_directory()
    return load_directory(
        examples / "centre.toml",
        sorted((examples / "documents").glob("*.toml")),
        sorted((examples / "matters").glob("*.toml")),
        now=NOW,
    )


def police(found: Directory, **changes: object) -> Directory:
    document: Document = replace(found.documents["police"], **changes)  # type: ignore[arg-type]  # fields of Document
    return replace(found, documents={**found.documents, "police": document})


def refused(found: Directory, recipient: Identity = SENIORS, roster: str = "seniors", now: float = NOW) -> Reason:
    with pytest.raises(RefusedError) as caught:
        allowed_referral(found, "police", roster, "senior-invite", OFFICIAL, recipient, now)
    return caught.value.reason


def test_the_rule_of_the_owner_allows_it_and_is_named() -> None:
    assert (
        allowed_referral(directory(), "police", "seniors", "senior-invite", OFFICIAL, SENIORS, NOW).id == "senior-cards"
    )


def test_without_a_rule_for_this_roster_matter_and_role_nothing_is_referred() -> None:
    assert refused(police(directory(), referrals=())) is Reason.NOT_GRANTED
    assert refused(directory(), roster="children") is Reason.NOT_GRANTED
    (rule,) = directory().documents["police"].referrals
    other: Referral = replace(rule, to="civil/marriage-clerk")
    assert refused(police(directory(), referrals=(other,))) is Reason.ROLE_NOT_HELD
    with pytest.raises(RefusedError) as caught:
        allowed_referral(directory(), "civil", "seniors", "senior-invite", OFFICIAL, SENIORS, NOW)
    assert caught.value.reason is Reason.NOT_GRANTED


def test_only_a_system_of_a_requester_of_the_matter_is_handed_names() -> None:
    assert refused(directory(), Identity.parse_short("shenzhen", "edu/system/enrolment")) is Reason.MATTER_NOT_ALLOWED
    assert refused(directory(), Identity.parse_short("shenzhen", "civil/admin/chen")) is Reason.NOT_GRANTED
    assert refused(directory(), Identity.parse_short("shenzhen", "civil/system/stranger")) is Reason.NOT_GRANTED


def test_a_rule_holds_within_its_time_and_no_longer_than_the_directory() -> None:
    (rule,) = directory().documents["police"].referrals
    ended = police(directory(), referrals=(replace(rule, not_after=int(NOW)),))
    early = police(directory(), referrals=(replace(rule, not_before=int(NOW) + 60),))
    assert refused(ended) is refused(early) is Reason.NOT_GRANTED
    assert refused(directory(), now=directory().expires) is Reason.DIRECTORY_EXPIRED


@pytest.mark.parametrize(
    "suspension",
    [
        Suspension("s", "civil", system="civil/seniors"),
        Suspension("s", "civil", role="civil/senior-clerk"),
        Suspension("s", "police", role="civil/senior-clerk"),
        Suspension("s", "police", official=f"police/{OFFICIAL}"),
    ],
    ids=["its system", "its role", "its role, by the owner", "the owner's official"],
)
def test_whoever_is_suspended_is_handed_nothing_until_that_ends(suspension: Suspension) -> None:
    assert refused(replace(directory(), suspensions=(suspension,))) is Reason.NOT_GRANTED
    over = replace(directory(), suspensions=(replace(suspension, not_after=int(NOW)),))
    assert allowed_referral(over, "police", "seniors", "senior-invite", OFFICIAL, SENIORS, NOW)


def test_another_department_cannot_stop_what_it_is_no_party_to() -> None:
    foreign = replace(directory(), suspensions=(Suspension("s", "edu", role="civil/senior-clerk"),))
    assert allowed_referral(foreign, "police", "seniors", "senior-invite", OFFICIAL, SENIORS, NOW)


@pytest.mark.parametrize(
    "deny",
    [
        Deny("d", role="civil/senior-clerk"),
        Deny("d", matter="senior-invite"),
        Deny("d", role="civil/senior-clerk", place=Jurisdiction.parse("nbs:440306")),
    ],
    ids=["role", "matter", "role within its home"],
)
def test_the_centre_can_deny_it(deny: Deny) -> None:
    found = directory()
    denying = replace(found, centre=replace(found.centre, denies=(*found.centre.denies, deny)))
    assert refused(denying) is Reason.NOT_GRANTED


def with_admin(found: Directory, department: str = "police", key: bytes = KEY) -> Directory:
    return replace(found, admin_keys={department: frozenset({key})})


def received(found: Directory, *, made: float = NOW, now: float = NOW, **changes: str) -> Referral:
    """A file of a police admin, as its head has it, is taken up by the directory."""
    fields: dict[str, Any] = {
        "matter": "senior-invite",
        "reference": "SI2026-0001",
        "roster": "seniors",
        "official": OFFICIAL,
    }
    head = roster_pb2.ReferralHead(**(fields | changes))
    head.time.seconds = int(made)
    sender = VerifiedCertificate(CHEN, "signing", KEY, b"", 1, 0.0, 1e12, None)
    return check_received(found, sender, head, SENIORS, now)


def not_received(found: Directory, **changes: object) -> Reason:
    with pytest.raises(RefusedError) as caught:
        received(found, **changes)  # type: ignore[arg-type]  # as `received`
    return caught.value.reason


def test_names_that_came_are_taken_up_by_the_rule_of_whose_they_are() -> None:
    assert received(with_admin(directory())).id == "senior-cards"


def test_only_who_is_an_admin_of_its_department_by_the_directory_hands_names_on() -> None:
    assert not_received(directory()) is Reason.CERTIFICATE_INVALID
    assert not_received(with_admin(directory(), key=b"k" * 32)) is Reason.CERTIFICATE_INVALID
    assert not_received(with_admin(directory(), department="civil")) is Reason.CERTIFICATE_INVALID


def test_a_file_counts_for_31_days_and_not_from_the_future() -> None:
    found = with_admin(replace(directory(), expires=NOW + MAX_AGE + 86_400))
    assert received(found, now=NOW + MAX_AGE - 1)
    assert not_received(found, now=int(NOW) + MAX_AGE + 1) is Reason.REQUEST_EXPIRED
    assert received(found, made=NOW + 4)
    assert not_received(found, made=NOW + 60) is Reason.CLOCK_SKEW


def test_what_no_longer_stands_when_a_file_comes_or_did_not_when_it_was_made_is_not_taken_up() -> None:
    found = with_admin(directory())
    (rule,) = directory().documents["police"].referrals
    assert not_received(police(found, referrals=())) is Reason.NOT_GRANTED
    assert not_received(police(found, referrals=(replace(rule, not_before=int(NOW) - 60),)), made=NOW - 3600) is (
        Reason.NOT_GRANTED
    )
    assert not_received(police(found, referrals=(replace(rule, not_after=int(NOW) - 60),)), made=NOW - 3600) is (
        Reason.NOT_GRANTED
    )
    suspended = replace(found, suspensions=(Suspension("s", "police", official=f"police/{OFFICIAL}"),))
    assert not_received(suspended) is Reason.NOT_GRANTED
    assert received(suspended, official="clerk-18")
    lapsed = replace(found, documents={k: v for k, v in found.documents.items() if k != "police"})
    assert not_received(lapsed) is Reason.NOT_GRANTED
    assert not_received(replace(found, expires=NOW)) is Reason.DIRECTORY_EXPIRED


def test_a_head_that_no_owners_command_writes_is_not_taken_up() -> None:
    found = with_admin(directory())
    assert not_received(found, roster="") is Reason.REQUEST_MALFORMED
    assert not_received(found, roster="children") is Reason.NOT_GRANTED
    assert not_received(found, matter="school-enrolment") is Reason.MATTER_NOT_ALLOWED
    assert not_received(found, reference="440399199001010011") is Reason.REFERENCE_INVALID
    assert not_received(found, official="440399199001010011") is Reason.OFFICIAL_INVALID


def test_who_is_suspended_draws_and_invites_nobody() -> None:
    inviting = Identity.parse_short("shenzhen", "police/system/invitations")

    def listed(suspension: Suspension, caller: Identity = inviting, official: str = OFFICIAL) -> None:
        check_listing(replace(directory(), suspensions=(suspension,)), "police", caller, official, NOW)

    stops = (
        Suspension("s", "police", system="police/invitations"),
        Suspension("s", "police", official=f"police/{OFFICIAL}"),
        Suspension("s", "police", official=f"police/{OFFICIAL}", not_after=int(NOW) + 60),
    )
    for suspension in stops:
        with pytest.raises(RefusedError) as caught:
            listed(suspension)
        assert caught.value.reason is Reason.NOT_GRANTED
    listed(Suspension("s", "police", system="police/permits"))
    listed(stops[1], official="clerk-18")
    listed(replace(stops[1], not_after=int(NOW)))
    # What it may not ask one owner, is about that owner; and another department is no party to it.
    listed(Suspension("s", "police", system="police/invitations", owner="civil"))
    listed(Suspension("s", "civil", official=f"police/{OFFICIAL}"))
    with pytest.raises(RefusedError):
        listed(stops[1], caller=CHEN)
