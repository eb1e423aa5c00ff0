"""The check of a whole header: what hub and adapter refuse, each with its documented reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

import policy_support as support
from certs.identity import Identity, Kind
from policy.authorise import Authorisation, authorise, local_date, local_midnight, reference_dates
from policy.centre import parse_matter
from policy.enforcer import Enforcer
from policy.model import Directory
from policy_support import claim, make_header, system
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import SlotShape
from zhiwang.wire.places import Jurisdiction

NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    kit = support.make_directory(tmp_path_factory.mktemp("directory"))
    return dataclasses.replace(kit.directory, expires=NOW + 1000)


def decide(directory: Directory, requester: Identity | None = None, **changed: Any) -> Authorisation:
    header = make_header(directory, **({"issue_time": NOW, "expire_time": NOW + 30} | changed))
    return authorise(Enforcer(directory), header, requester or Identity.parse(header.system), NOW)


def reasons(authorisation: Authorisation) -> list[Reason | None]:
    return [decision.reason for decision in authorisation.decisions]


def test_what_is_granted_is_allowed_with_its_rules_and_versions(directory: Directory) -> None:
    found = decide(directory)
    assert reasons(found) == [None, None]
    assert found.allowed
    assert found.denied == ()
    assert found.rule_ids == ("hrss/enrolment-pension", "hrss/enrolment-insured")
    assert found.directory_version == directory.version
    assert found.owner_document_version == directory.documents["hrss"].version


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"role": "hrss/clerk"}, Reason.ROLE_NOT_HELD, "role"),
        ({"role": "edu/principal"}, Reason.ROLE_NOT_HELD, "role"),
        ({"system": system("unknown").uri}, Reason.ROLE_NOT_HELD, "role"),
        ({"system": system("counter", "stranger").uri}, Reason.ROLE_NOT_HELD, "role"),
        ({"system": system("baoan").uri, "jurisdiction": "nbs:440305"}, Reason.OUTSIDE_HOME, "jurisdiction"),
        ({"system": system("baoan").uri, "jurisdiction": "nbs:4403"}, Reason.OUTSIDE_HOME, "jurisdiction"),
        ({"jurisdiction": "nbs:4404"}, Reason.OUTSIDE_HOME, "jurisdiction"),
        ({"system": system("street").uri, "jurisdiction": "mca:440306001001"}, Reason.OUTSIDE_HOME, "jurisdiction"),
        ({"matter": "no-such", "matter_version": bytes(16)}, Reason.MATTER_NOT_ALLOWED, "matter"),
        ({"matter_version": bytes(16), "reference_date": date(2026, 9, 1)}, Reason.MATTER_CHANGED, "matter"),
        ({"reference_date": date(2026, 9, 2)}, Reason.DATE_NOT_PUBLISHED, "reference_date"),
        ({"reference": "2026-1"}, Reason.REFERENCE_INVALID, "reference"),
        ({"reference": "x2026-000123"}, Reason.REFERENCE_INVALID, "reference"),
        ({"reference": "2026-000123\n"}, Reason.REFERENCE_INVALID, "reference"),
        ({"official": ""}, Reason.OFFICIAL_INVALID, "official"),
        ({"official": "a b"}, Reason.OFFICIAL_INVALID, "official"),
        ({"slots": (SlotShape("uncle", 0, "person"),)}, Reason.SLOT_UNKNOWN, "slots"),
        ({"slots": (SlotShape("guardian", 2, "person"),)}, Reason.SLOT_UNKNOWN, "slots"),
        ({"slots": (SlotShape("guardian", 0, "entity"),)}, Reason.SLOT_UNKNOWN, "slots"),
        ({"owner_document_version": 2}, Reason.DIRECTORY_BEHIND, "owner"),
        ({"suite": "zhiwang-2"}, Reason.SUITE_NOT_ACCEPTED, "suite"),
    ],
)
def test_a_header_that_does_not_hold_is_refused_with_its_reason(
    directory: Directory, changed: dict[str, Any], reason: Reason, field: str
) -> None:
    if isinstance(changed.get("jurisdiction"), str):
        changed = changed | {"jurisdiction": Jurisdiction.parse(changed["jurisdiction"])}
    with pytest.raises(RefusedError) as error:
        decide(directory, **changed)
    assert (error.value.reason, error.value.field) == (reason, field)


def test_a_matter_of_others_is_no_matter_for_this_department(directory: Directory) -> None:
    with pytest.raises(RefusedError) as error:
        decide(directory, system=system("counter", "hrss").uri, role="hrss/clerk")
    assert error.value.reason is Reason.MATTER_NOT_ALLOWED


@pytest.mark.parametrize(
    "requester",
    [
        system("baoan"),
        Identity("shenzhen", "edu", Kind.AGENT, "enrolment"),
        Identity("shenzhen", "hrss", Kind.SYSTEM, "enrolment"),
        Identity("guangzhou", "edu", Kind.SYSTEM, "enrolment"),
    ],
)
def test_a_header_signed_by_another_is_refused(directory: Directory, requester: Identity) -> None:
    with pytest.raises(RefusedError) as error:
        decide(directory, requester)
    assert error.value.reason is Reason.IDENTITY_MISMATCH


def test_only_a_system_asks_even_if_its_agent_signs_under_its_own_name(directory: Directory) -> None:
    agent = Identity("shenzhen", "edu", Kind.AGENT, "enrolment")
    with pytest.raises(RefusedError) as error:
        decide(directory, agent, system=agent.uri)
    assert error.value.reason is Reason.IDENTITY_MISMATCH


def test_a_system_of_another_city_is_refused_even_under_its_own_name(directory: Directory) -> None:
    foreign = Identity("guangzhou", "edu", Kind.SYSTEM, "enrolment")
    with pytest.raises(RefusedError) as error:
        decide(directory, foreign, system=foreign.uri)
    assert error.value.reason is Reason.IDENTITY_MISMATCH


def test_nothing_is_decided_by_an_expired_directory(directory: Directory) -> None:
    with pytest.raises(RefusedError) as error:
        decide(dataclasses.replace(directory, expires=NOW))
    assert error.value.reason is Reason.DIRECTORY_EXPIRED


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (claim("pension_months at_least", cell="13"), Reason.CELL_NOT_PUBLISHED),
        (claim("pension_months at_least", cell="012"), Reason.CELL_NOT_PUBLISHED),
        (claim("pension_months at_least", cell=""), Reason.CELL_NOT_PUBLISHED),
        (claim("pension_months at_most", cell="12"), Reason.NOT_GRANTED),
        (claim("pension_months exists"), Reason.NOT_GRANTED),
        (claim("no_such exists"), Reason.NOT_GRANTED),
        (claim("insured exists", slot=1), Reason.NOT_GRANTED),
    ],
)
def test_one_claim_that_is_denied_does_not_spoil_its_neighbours(
    directory: Directory, asked: Any, reason: Reason
) -> None:
    slots = (SlotShape("guardian", 0, "person"), SlotShape("home", 0, "dwelling"))
    found = decide(directory, slots=slots, claims=(asked, claim("insured exists")))
    assert reasons(found) == [reason, None]
    assert found.denied == (0,)
    assert found.allowed


def test_unknown_unpublished_and_not_granted_look_the_same(directory: Directory) -> None:
    asked = {
        "no such owner": decide(directory, owner="police", claims=(claim("age at_least", cell="6"),)),
        "no such attribute": decide(directory, claims=(claim("no_such exists"),)),
        "not published so": decide(directory, claims=(claim("insured absent"),)),
        "not granted": decide(
            directory,
            role="edu/inspector",
            claims=(claim("insured exists"), claim("pension_months at_least", cell="7")),
        ),
    }
    for name, found in asked.items():
        assert set(reasons(found)) == {Reason.NOT_GRANTED}, name
        assert not found.allowed, name
        assert found.rule_ids == (), name


def test_a_compared_subject_must_be_of_the_attributes_kind(directory: Directory) -> None:
    slots = (SlotShape("child", 0, "person"), SlotShape("guardian", 0, "person"), SlotShape("home", 0, "dwelling"))
    found = decide(
        directory,
        owner="health",
        slots=slots,
        claims=(claim("birth_mother related", compared_slot=1), claim("birth_mother related", compared_slot=2)),
    )
    assert reasons(found) == [None, Reason.NOT_GRANTED]


def test_an_attribute_that_is_closed_to_a_date_is_not_asked_as_of_it(directory: Directory) -> None:
    document = directory.documents["hrss"]
    closed = dataclasses.replace(document.attributes["insured"], dates=frozenset({date(2025, 9, 1)}))
    document = dataclasses.replace(document, attributes={**document.attributes, "insured": closed})
    found = decide(dataclasses.replace(directory, documents={**directory.documents, "hrss": document}))
    assert reasons(found) == [None, Reason.DATE_NOT_PUBLISHED]


def test_a_request_built_by_an_older_document_is_decided_by_the_current_one(directory: Directory) -> None:
    assert decide(directory, owner_document_version=0).allowed


def test_a_matter_of_today_is_asked_as_of_the_day_in_china() -> None:
    matter = parse_matter(support.SENIOR.encode())
    midnight = local_midnight(date(2026, 3, 1))
    assert local_date(midnight) == date(2026, 3, 1)
    assert local_date(midnight - 1) == date(2026, 2, 28)
    assert reference_dates(matter, midnight + 10, midnight + 11) == {date(2026, 3, 1)}
    assert reference_dates(matter, midnight - 2, midnight + 2) == {date(2026, 2, 28), date(2026, 3, 1)}


def suspended(directory: Directory, **entry: Any) -> Directory:
    from policy.model import Suspension  # noqa: PLC0415 # only here

    return dataclasses.replace(directory, suspensions=(Suspension(id="s", **entry),))


@pytest.mark.parametrize(
    "entry",
    [
        {"department": "edu", "system": "edu/enrolment"},
        {"department": "hrss", "system": "edu/enrolment"},
        {"department": "edu", "role": "edu/enrolment-clerk"},
        {"department": "hrss", "role": "edu/enrolment-clerk"},
        {"department": "edu", "official": "edu/clerk-17"},
        {"department": "hrss", "official": "edu/clerk-17"},
        {"department": "hrss", "owner": "hrss", "attribute": "insured"},
        {"department": "edu", "owner": "hrss", "attribute": "insured"},
    ],
)
def test_either_party_can_suspend_at_once(directory: Directory, entry: dict[str, Any]) -> None:
    found = decide(suspended(directory, **entry), claims=(claim("insured exists"),))
    assert reasons(found) == [Reason.NOT_GRANTED]


@pytest.mark.parametrize(
    "entry",
    [
        {"department": "health", "system": "edu/enrolment"},
        {"department": "health", "role": "edu/enrolment-clerk"},
        {"department": "health", "owner": "hrss", "attribute": "insured"},
        {"department": "edu", "official": "edu/clerk-18"},
        {"department": "edu", "official": "hrss/clerk-17"},
        {"department": "edu", "system": "edu/baoan"},
        {"department": "hrss", "owner": "hrss", "attribute": "pension_months"},
        {"department": "edu", "role": "edu/enrolment-clerk", "not_after": int(NOW)},
        {"department": "edu", "role": "edu/enrolment-clerk", "not_before": int(NOW) + 1},
    ],
)
def test_a_suspension_denies_nothing_else(directory: Directory, entry: dict[str, Any]) -> None:
    assert decide(suspended(directory, **entry), claims=(claim("insured exists"),)).allowed


def test_two_directories_decide_by_themselves(directory: Directory) -> None:
    """The adapter's decision is its own: a hub whose directory allows more gains nothing."""
    generous = Enforcer(directory)
    strict = Enforcer(suspended(directory, department="hrss", role="edu/enrolment-clerk"))
    header = make_header(directory, issue_time=NOW, expire_time=NOW + 30)
    check: Callable[[Enforcer], bool] = lambda enforcer: authorise(enforcer, header, system(), NOW).allowed  # noqa: E731 # a word for it
    assert [check(generous), check(strict), check(generous)] == [True, False, True]
