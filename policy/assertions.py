"""Assertions: cases that a department wants to stay allowed or denied, checked before anything is published.

They are about grants. The centre's denies and the departments' suspensions are left aside: a wish must not hold up a
kill switch, and "denied" must not rest on a suspension that ends. What must stay denied must stay so in an emergency,
too: what is prepared counts as granted there, and for what must stay allowed it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from policy.enforcer import Enforcer
from policy.model import Assertion, Attribute, Directory, Document
from zhiwang.wire.places import Jurisdiction, Level

_LEAST, _MOST = 1, 3
"""Assurances of an official."""

_DIGITS = {Level.CITY: 4, Level.DISTRICT: 6, Level.STREET: 9, Level.COMMUNITY: 12}


def failing(directory: Directory, now: float) -> list[tuple[str, Assertion]]:
    """Assertions that do not hold, each with its department.

    Args:
        directory: Need not be in force.
        now: Seconds since the epoch. An allow must hold then; a deny also at every time after it.
    """
    plain = replace(directory, suspensions=(), activations=(), centre=replace(directory.centre, denies=()))
    granted = Enforcer(plain)
    emergency = Enforcer(replace(plain, documents={name: _all_open(one) for name, one in plain.documents.items()}))
    return [
        (document.department, assertion)
        for document in directory.documents.values()
        for assertion in document.assertions
        if not _holds(granted if assertion.allow else emergency, assertion, now)
    ]


def _all_open(document: Document) -> Document:
    """A document that grants what it has prepared for emergencies."""
    prepared = (grant for emergency in document.emergencies for grant in emergency.grants)
    return replace(document, grants=(*document.grants, *prepared))


def broken(
    before: Directory | None, after: Directory, publisher: str | None, now: float
) -> list[tuple[str, Assertion]]:
    """Assertions that a publication would break.

    The publisher's own must hold. Another department's count only if they hold today: what failed by the passing of
    time, or by its own doing, is not the publisher's to mend, and must not keep a revocation from being published.

    Args:
        before: In force; None for the first.
        after: Proposed.
        publisher: Department that publishes its document; None for the centre.
        now: Seconds since the epoch.
    """
    failed_before = set() if before is None else set(failing(before, now))
    return [
        (department, assertion)
        for department, assertion in failing(after, now)
        if department == publisher or (department, assertion) not in failed_before
    ]


def _holds(enforcer: Enforcer, assertion: Assertion, now: float) -> bool:
    directory = enforcer.directory
    attribute = directory.attribute(assertion.ask.owner, assertion.ask.attribute)
    matter = directory.matters.get(assertion.matter)
    if attribute is None or matter is None or assertion.role.partition("/")[0] not in matter.requesters:
        return not assertion.allow
    if assertion.allow:
        level = assertion.level or assertion.place.level
        home = _ancestor(assertion.place, level)
        case = _Case(home, level, assertion.place)
        return _allowed(enforcer, attribute, assertion, case, assertion.assurance or _LEAST, now)
    return not any(
        _allowed(enforcer, attribute, assertion, case, assertion.assurance or _MOST, time)
        for case in _cases(directory, assertion)
        for time in _times(directory, assertion, now)
    )


class _Case(NamedTuple):
    """A system that might ask, and where it acts."""

    home: Jurisdiction
    level: Level
    place: Jurisdiction


def _allowed(
    enforcer: Enforcer, attribute: Attribute, assertion: Assertion, case: _Case, assurance: int, now: float
) -> bool:
    return enforcer.ask(
        attribute,
        assertion.ask.predicate,
        matter=assertion.matter,
        system=f"{assertion.role.partition('/')[0]}/any",
        role=assertion.role,
        home=case.home,
        level=case.level,
        jurisdiction=case.place,
        assurance=assurance,
        official="",
        now=now,
    ).decision.allowed


def _cases(directory: Directory, assertion: Assertion) -> Iterator[_Case]:
    """Systems and places that stand for all at, above and below the asserted place.

    Grants compare places by their beginnings only, so what they can tell apart are the asserted place, what lies
    above it, and the places that grants name below it.
    """
    below = {
        place
        for grant in directory.documents[assertion.ask.owner].grants
        if grant.ask == assertion.ask and grant.role == assertion.role and grant.matter == assertion.matter
        for place in grant.places
        if assertion.place.covers(place)
    }
    for level in Level if assertion.level is None else (assertion.level,):
        # A system of a lower level is at home inside the place; the place itself stands for wherever that is.
        home = _ancestor(assertion.place, level)
        for place in {home, assertion.place} | below:
            yield _Case(home, level, place)


def _times(directory: Directory, assertion: Assertion, now: float) -> set[float]:
    """Now, and each later time at which a grant begins: an end only takes away."""
    grants = directory.documents[assertion.ask.owner].grants
    return {
        now,
        *(float(grant.not_before) for grant in grants if grant.not_before is not None and grant.not_before > now),
    }


def _ancestor(place: Jurisdiction, level: Level) -> Jurisdiction:
    """The place at a level that is its own or higher; the place itself if the level is lower."""
    return place if level >= place.level else Jurisdiction.parse(f"{place.system}:{place.code[: _DIGITS[level]]}")
