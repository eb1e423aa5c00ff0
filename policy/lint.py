"""Rules that are not wrong by themselves but do not say what their author thinks: never matching, redundant, outliving.

A finding names its rule by the key of its file, so that a person finds the line. What must not be published at all is
`crosscheck.py`'s and `assertions.py`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from policy.document import Mistake
from policy.model import Attribute, Deny, Directory, Document, Grant
from policy.reach import EVERYWHERE, Reach, grants_at, span_of, spots_of

SENSITIVE: Final = 4
"""Sensitivity from which on a grant needs an end and a place."""


def lint(document: Document, directory: Directory, now: float) -> Iterator[Mistake]:
    """What is strange about a document's grants.

    Args:
        document: The department's.
        directory: As it would be with this document in it (`policy.rehearse.rehearsed`).
        now: Seconds since the epoch.
    """
    reach = Reach(directory)
    told: set[int] = set()
    for index, grant in enumerate(document.grants):
        attribute = document.attributes.get(grant.ask.attribute)
        if attribute is None:
            continue  # dangling: the parser names it
        for key, message in _idle(grant, attribute, reach, now):
            told.add(index)
            yield Mistake(("grant", index, *key), message)
        if index not in told:
            yield from (
                Mistake(("grant", index, *key), message) for key, message in _too_wide(grant, attribute, directory)
            )
    yield from _emergencies(document, reach, now)
    for index, others in _redundant(document, told):
        names = ", ".join(others)
        yield Mistake(("grant", index), f"is redundant: {names} {'allows' if len(others) == 1 else 'allow'} all of it")


def _emergencies(document: Document, reach: Reach, now: float) -> Iterator[Mistake]:
    """The same of what is prepared for emergencies, while there is time to mend it; each thing once.

    But for what no claim of the matter asks: that is what an emergency is for.
    """
    for index, emergency in enumerate(document.emergencies):
        found: dict[tuple[tuple[str, ...], str], None] = {}
        for grant in emergency.grants:
            attribute = document.attributes.get(grant.ask.attribute)
            if attribute is not None:
                idle = [keyed for keyed in _idle(grant, attribute, reach, now) if keyed[0] != ("ask",)]
                found |= dict.fromkeys(idle or _too_wide(grant, attribute, reach.directory))
        for key, message in found:
            yield Mistake(("emergency", index, *key), message)


_Keyed = tuple[tuple[str, ...], str]


def _idle(grant: Grant, attribute: Attribute, reach: Reach, now: float) -> Iterator[_Keyed]:
    """Why a grant never matches; the first reason is enough, since others may follow from it."""
    directory = reach.directory
    department = grant.role.partition("/")[0]
    matter = directory.matters.get(grant.matter)
    if matter is None or department not in directory.centre.departments:
        return  # dangling: crosscheck names it
    info = directory.centre.departments[department]
    homes = {system: info.systems.get(system.partition("/")[2]) for system in reach.holders(grant.role)}
    listed = {system: home for system, home in homes.items() if home is not None}
    admitted = {system: home for system, home in listed.items() if home.level <= grant.level}
    if grant.not_after is not None and grant.not_after <= now:
        yield ("not_after",), "never matches again: it has ended"
    elif department not in matter.requesters:
        yield ("matter",), f"never matches: {department} is no requester of {grant.matter}"
    elif not listed:
        yield ("role",), f"never matches: no system of {department} has the role {grant.role}"
    elif not grant.sensitivity[0] <= attribute.sensitivity <= grant.sensitivity[1]:
        yield ("sensitivity",), f"never matches: the attribute's sensitivity is {attribute.sensitivity}"
    elif not admitted:
        levels = ", ".join(sorted({home.level.word for home in listed.values()}))
        yield (
            ("level",),
            f"never matches: it admits {grant.level.word} and above, and the role's systems are of: {levels}",
        )
    elif grant.places and not any(
        home.covers(place) or place.covers(home) for home in admitted.values() for place in grant.places
    ):
        yield ("place",), "never matches: no system of the role is at home there"
    elif matter.claims and not any(
        (claim.owner, claim.attribute, claim.predicate) == (grant.ask.owner, grant.ask.attribute, grant.ask.predicate)
        for claim in matter.claims.values()
    ):
        yield ("ask",), f"is more than is needed: no claim of {grant.matter} asks {grant.ask}"
    elif deny := next((deny for deny in directory.centre.denies if _stops(deny, grant)), None):
        yield (), f"never matches: the centre's {deny.id} denies it everywhere"


def _too_wide(grant: Grant, attribute: Attribute, directory: Directory) -> Iterator[_Keyed]:
    until = directory.matters[grant.matter].basis_until if grant.matter in directory.matters else None
    if until is not None and (grant.not_after is None or grant.not_after > until):
        yield ("not_after",), f"outlives the legal basis of {grant.matter}, which ends first; end it with the basis"
    if attribute.sensitivity >= SENSITIVE and grant.not_after is None:
        yield (
            ("not_after",),
            f"has no end, and the attribute's sensitivity is {attribute.sensitivity}: say until when",
        )


def _stops(deny: Deny, grant: Grant) -> bool:
    everywhere = deny.place is None or (bool(grant.places) and all(deny.place.covers(place) for place in grant.places))
    return everywhere and deny.concerns(grant.role, grant.ask, grant.matter)


def _redundant(document: Document, skipped: set[int]) -> Iterator[tuple[int, list[str]]]:
    """Grants of which others allow everything, each with those others. Of two that say the same the later is told."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, grant in enumerate(document.grants):
        if index not in skipped:
            groups[grant.role, grant.ask, grant.matter].append(index)
    for indexes in groups.values():
        standing = list(indexes)
        for index in reversed(indexes):
            grant = document.grants[index]
            attribute = document.attributes[grant.ask.attribute]
            # Where the least is admitted (lowest level, least assurance) the fewest others help.
            others = [
                other
                for number in standing
                if number != index
                and (other := document.grants[number]).level >= grant.level
                and other.assurance <= grant.assurance
                and other.sensitivity[0] <= attribute.sensitivity <= other.sensitivity[1]
            ]
            alone = [other.id for other in others if _covered(grant, [other])]
            if alone or _covered(grant, others):
                standing.remove(index)
                yield index, alone[:1] or [other.id for other in others]


def _covered(grant: Grant, others: Sequence[Grant]) -> bool:
    """Whether others allow, together, at every time and place what a grant allows."""
    span = span_of(grant)
    edges = {*span, *(time for other in others for time in span_of(other) if span.since < time < span.until)}
    spots = spots_of((place for one in (grant, *others) for place in one.places), EVERYWHERE)
    wanted = [spot for spot in spots if grants_at(grant, spot)]
    for start, _ in pairwise(sorted(edges)):
        helping = [other for other in others if span_of(other).since <= start < span_of(other).until]
        if not all(any(grants_at(other, spot) for other in helping) for spot in wanted):
            return False
    return True
