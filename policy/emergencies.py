"""Breaking the glass: what an owner has prepared, and which openings of it count. Pure.

Two admins of the owner prepare an emergency in its document; it permits nothing. One admin of a department that the
owner named there opens it, for the prepared hours at most. So one signature can do what two have bounded: the role, the
questions, the matter, the places, the hours and who may. Every reader decides by itself which openings count, by the
owner's document of the same directory; the registrar's checks come before that and replace none of it.

An emergency stands open once in a day. Of two openings that begin within a day of each other the one that was seen
first counts, so nobody prolongs one by another, nor by taking the first away: readers remember what counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from policy.model import Activation, Directory, Document, Emergency, Grant

HOUR: Final = 3600
MAX_HOURS: Final = 12
"""Longest that an owner can prepare: a night. What lasts longer is a grant, by two signatures."""
APART: Final = 24 * HOUR
"""Seconds between the beginnings of two openings of one emergency."""
REMEMBERED: Final = 2 * APART
"""Seconds after its end for which an opening is remembered; it is of no account after `APART`."""

RULE: Final = "emergency/"
"""What the name of an opened grant begins with, behind its owner: no grant of a document has a slash in its name."""


class Seen(NamedTuple):
    """What a reader remembers of an opening that counted."""

    owner: str
    emergency: str
    department: str
    id: str
    since: int
    until: int


_TYPES: Final = [str, str, str, str, int, int]
"""Of `Seen`, exactly."""
_NOT_SEEN: Final = "not what was seen of emergencies"


def prepared(documents: Mapping[str, Document], activation: Activation) -> Emergency | None:
    """What an opening opens; None if the owner prepared no such thing, not for this department or not for so long."""
    document = documents.get(activation.owner)
    emergency = None if document is None else document.emergency(activation.emergency)
    if emergency is None or activation.department not in emergency.admins:
        return None
    return emergency if 0 < activation.until - activation.since <= emergency.hours * HOUR else None


def counting(
    documents: Mapping[str, Document], listed: Iterable[Activation], seen: Iterable[Seen] = ()
) -> tuple[Activation, ...]:
    """Those of the listed openings that count.

    Args:
        documents: Of the same directory.
        listed: By whichever departments, in whichever order.
        seen: What counted before. It stands even if it is listed no longer.
    """
    starts: dict[tuple[str, str], list[int]] = {}
    known = set(seen)
    for one in known:
        starts.setdefault((one.owner, one.emergency), []).append(one.since)
    found = []
    for activation in sorted(listed, key=lambda one: (one.since, one.until, one.department, one.id)):
        if prepared(documents, activation) is None:
            continue
        others = starts.setdefault((activation.owner, activation.emergency), [])
        if seen_of(activation) not in known:
            if any(abs(activation.since - other) < APART for other in others):
                continue
            others.append(activation.since)
        found.append(activation)
    return tuple(found)


def seen_of(activation: Activation) -> Seen:
    """What is remembered of an opening."""
    return Seen(
        activation.owner,
        activation.emergency,
        activation.department,
        activation.id,
        activation.since,
        activation.until,
    )


def remembered(seen: Iterable[Seen], activations: Iterable[Activation], now: float) -> frozenset[Seen]:
    """What a reader goes on remembering: openings that ended long ago are of no account."""
    return frozenset(one for one in (*seen, *map(seen_of, activations)) if one.until + REMEMBERED > now)


def dump(seen: Iterable[Seen]) -> bytes:
    """As a reader keeps it."""
    return json.dumps([list(one) for one in sorted(seen)]).encode() + b"\n"


def load(content: bytes) -> frozenset[Seen]:
    """What `dump` wrote.

    Raises:
        ValueError: It is something else.
    """
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError(_NOT_SEEN) from error
    if not isinstance(found, list) or not all(map(_is_seen, found)):
        raise ValueError(_NOT_SEEN)
    return frozenset(Seen(*one) for one in found)


def _is_seen(one: object) -> bool:
    return isinstance(one, list) and [type(value) for value in one] == _TYPES


def opened(directory: Directory) -> Iterator[Grant]:
    """The grants that openings make of what was prepared, each for the time of its opening."""
    for activation in directory.activations:
        emergency = prepared(directory.documents, activation)
        if emergency is not None:
            yield from (_opened(grant, emergency, activation) for grant in emergency.grants)


def _opened(grant: Grant, emergency: Emergency, activation: Activation) -> Grant:
    begins = [activation.since, *(time for time in (grant.not_before,) if time is not None)]
    ends = [activation.until, *(time for time in (grant.not_after,) if time is not None)]
    name = f"{RULE}{emergency.id}/{activation.department}-{activation.id}"
    return replace(grant, id=name, not_before=max(begins), not_after=min(ends))


def grants(directory: Directory) -> Iterator[Grant]:
    """Every grant that can allow something: what documents grant, then what emergencies open."""
    for document in directory.documents.values():
        yield from document.grants
    yield from opened(directory)


def open_at(directory: Directory, now: float) -> list[Activation]:
    """Openings that are in force at a moment."""
    return [
        activation
        for activation in directory.activations
        if prepared(directory.documents, activation) is not None and activation.since <= now < activation.until
    ]
