"""Whether names may be handed on: only by the owner's own rule, and by nobody's who is stopped."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache

import pytest

from certs.identity import Identity
from exchange.client.mock_city import load_directory
from exchange.demo.build import examples_directory
from policy.model import Deny, Directory, Document, Referral, Suspension
from policy.referrals import allowed_referral
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.places import Jurisdiction

NOW = time.time()
SENIORS = Identity.parse_short("shenzhen", "civil/system/seniors")


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
        allowed_referral(found, "police", roster, "senior-invite", recipient, now)
    return caught.value.reason


def test_the_rule_of_the_owner_allows_it_and_is_named() -> None:
    assert allowed_referral(directory(), "police", "seniors", "senior-invite", SENIORS, NOW).id == "senior-cards"


def test_without_a_rule_for_this_roster_matter_and_role_nothing_is_referred() -> None:
    assert refused(police(directory(), referrals=())) is Reason.NOT_GRANTED
    assert refused(directory(), roster="children") is Reason.NOT_GRANTED
    (rule,) = directory().documents["police"].referrals
    other: Referral = replace(rule, to="civil/marriage-clerk")
    assert refused(police(directory(), referrals=(other,))) is Reason.ROLE_NOT_HELD
    with pytest.raises(RefusedError) as caught:
        allowed_referral(directory(), "civil", "seniors", "senior-invite", SENIORS, NOW)
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
    ],
    ids=["its system", "its role", "its role, by the owner"],
)
def test_whoever_is_suspended_is_handed_nothing_until_that_ends(suspension: Suspension) -> None:
    assert refused(replace(directory(), suspensions=(suspension,))) is Reason.NOT_GRANTED
    over = replace(directory(), suspensions=(replace(suspension, not_after=int(NOW)),))
    assert allowed_referral(over, "police", "seniors", "senior-invite", SENIORS, NOW)


def test_another_department_cannot_stop_what_it_is_no_party_to() -> None:
    foreign = replace(directory(), suspensions=(Suspension("s", "edu", role="civil/senior-clerk"),))
    assert allowed_referral(foreign, "police", "seniors", "senior-invite", SENIORS, NOW)


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
