"""What is looked for in a log, and what its reader may see of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from audit.facts import Facts
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.places import Jurisdiction


@dataclass(frozen=True, slots=True)
class Query:
    """Everything that is set must hold; nothing set is everything.

    Attributes:
        since: Recorded at this time or later, in microseconds since the epoch.
        until: Recorded before this time.
        event: Kind of the entry.
        department: Of who asked.
        system: SPIFFE identity of who asked, was refused or read.
        official: For whom it asked.
        role: In which role.
        matter: For what.
        reference: Of the case or job.
        place: Where it asked, or a part of that place.
        owner: Department that was asked.
        attribute: That was asked, as "owner.attribute".
        outcome: ANSWERED, DENIED, UNAVAILABLE or REFUSED.
        reason: Public reason.
        version: Of the directory.
        header: First digits of the header hash, in hex.
        emergency: Allowed by an opened emergency alone, or a step of one.
    """

    since: int | None = None
    until: int | None = None
    event: str = ""
    department: str = ""
    system: str = ""
    official: str = ""
    role: str = ""
    matter: str = ""
    reference: str = ""
    place: str = ""
    owner: str = ""
    attribute: str = ""
    outcome: str = ""
    reason: str = ""
    version: int = 0
    header: str = ""
    emergency: bool = False

    def equalities(self) -> Iterator[tuple[str, str | int]]:
        """(column, value) of what must be equal: all that is set but the others that `admits` tells."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value and field.name not in {"since", "until", "place", "attribute", "header", "emergency"}:
                yield field.name, value

    def admits(self, facts: Facts) -> bool:
        """Whether an entry is among those that are looked for."""
        if self.since is not None and facts.time < self.since:
            return False
        if self.until is not None and facts.time >= self.until:
            return False
        if self.attribute and self.attribute not in facts.attributes:
            return False
        if self.place and not lies_in(facts.place, self.place):
            return False
        if (self.emergency and not facts.emergency) or not facts.header.startswith(self.header):
            return False
        return all(getattr(facts, name) == value for name, value in self.equalities())


@dataclass(frozen=True, slots=True)
class Scope:
    """What somebody may read of a log. With nothing set: nothing.

    Attributes:
        everything: The whole log.
        department: What this department asked or was asked.
        place: What was asked in this place.
        owner: What this department was asked, which stands in its own log as well.
    """

    everything: bool = False
    department: str = ""
    place: str = ""
    owner: str = ""

    def admits(self, facts: Facts) -> bool:
        """Whether an entry may be read."""
        if self.everything:
            return True
        if self.department and self.department in {facts.department, facts.owner}:
            return True
        if self.owner and self.owner == facts.owner:
            return True
        return bool(self.place) and lies_in(facts.place, self.place)


def scope_of(identity: Identity, keeper: str, *, office: bool = False, place: str = "") -> Scope:
    """What an auditor or admin may read of a log.

    Args:
        identity: Whose certificate it is.
        keeper: Department that keeps the log; its own people see all of it.
        office: Whether the centre says that it sees the whole of every log.
        place: In which place the centre says that it sees what was asked.
    """
    if identity.department == keeper or (office and identity.kind is Kind.AUDITOR):
        return EVERYTHING
    if identity.kind is not Kind.AUDITOR:
        return NOTHING
    return Scope(department=identity.department, place=place)


EVERYTHING = Scope(everything=True)
NOTHING = Scope()


def lies_in(place: str, whole: str) -> bool:
    """Whether one jurisdiction lies in another; false if either is none."""
    try:
        return Jurisdiction.parse(whole).covers(Jurisdiction.parse(place))
    except RefusedError:
        return False
