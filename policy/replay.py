"""Accesses of the log decided again under a proposal: whom it would have stopped, and whom it would let in.

An access is decided as if it were asked at one moment under each of two directories: for the day, the version of the
matter and of the owner's document it takes what that directory publishes, since these belong to the day of asking and
would make everything flip. What counts are who asked, in which role, where, for what, and what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from certs.identity import Identity
from policy.authorise import Authorisation, authorise, follows, reference_dates
from policy.enforcer import Enforcer
from policy.model import Directory
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import Header

REMEMBERED: Final = 65_536
"""Kinds of accesses whose decision is kept. References differ from case to case, and are looked at each time."""

POLICY_REASONS: Final = frozenset(
    reason.name
    for reason in (
        Reason.ROLE_NOT_HELD,
        Reason.OUTSIDE_HOME,
        Reason.MATTER_NOT_ALLOWED,
        Reason.REFERENCE_INVALID,
        Reason.OFFICIAL_INVALID,
        Reason.SLOT_UNKNOWN,
        Reason.DATE_NOT_PUBLISHED,
        Reason.CELL_NOT_PUBLISHED,
        Reason.NOT_GRANTED,
    )
)
"""Why policy denies a request as a whole; the other reasons pass by themselves."""


class Access(NamedTuple):
    """One access as it stands in a log.

    Attributes:
        entry: Its index in the log.
        time: When it was recorded, in seconds since the epoch.
        header: What was asked.
        denied: Indexes of the claim shapes that were denied.
    """

    entry: int
    time: float
    header: Header
    denied: frozenset[int]


class Flip(NamedTuple):
    """A claim of an access that would be decided otherwise.

    Attributes:
        claim: Index of its shape in the header.
        allowed: Whether it would be allowed; it was not.
        reason: Why it would be denied; empty if it would be allowed.
        already: Whether the directory in force decides so already: then it is not the proposal's doing.
    """

    access: Access
    claim: int
    allowed: bool
    reason: str
    already: bool

    @property
    def ask(self) -> str:
        """What was asked, e.g. "hrss.pension_months at_least"."""
        claim = self.access.header.claims[self.claim]
        return f"{self.access.header.owner}.{claim.attribute} {claim.predicate}"


class Group(NamedTuple):
    """Flips that a person sees as one."""

    department: str
    role: str
    matter: str
    ask: str
    allowed: bool
    reason: str
    already: bool


class Replay:
    """Decides accesses again.

    Args:
        current: The directory in force.
        proposed: As it would be.
        at: The moment at which they are asked again, in seconds since the epoch.
    """

    def __init__(self, current: Directory, proposed: Directory, at: float) -> None:
        self._current = _Decider(current, at)
        self._proposed = _Decider(proposed, at)
        self.accesses = 0

    def flips(self, accesses: Iterable[Access]) -> Iterator[Flip]:
        """Every claim that the proposal decides otherwise than it was decided."""
        for access in accesses:
            self.accesses += 1
            will = self._proposed.decide(access.header)
            for claim in range(len(access.header.claims)):
                reason = will if isinstance(will, str) else will.get(claim, "")
                if bool(reason) is not (claim in access.denied):
                    now = self._current.decide(access.header)
                    today = now if isinstance(now, str) else now.get(claim, "")
                    yield Flip(access, claim, not reason, reason, bool(today) is bool(reason))


def grouped(flips: Iterable[Flip]) -> Counter[Group]:
    """How many claims flip of each department, role, matter and ask."""
    return Counter(
        Group(
            flip.access.header.role.partition("/")[0],
            flip.access.header.role,
            flip.access.header.matter,
            flip.ask,
            flip.allowed,
            flip.reason,
            flip.already,
        )
        for flip in flips
    )


class _Decider:
    """One directory; a decision is the reasons of denied claims, or the one reason that voids the request."""

    def __init__(self, directory: Directory, at: float) -> None:
        self._directory = replace(directory, expires=float("inf"))
        self._enforcer = Enforcer(self._directory)
        self._at = at
        # Only officials whom a suspension names are decided about by name.
        self._officials = {
            entry.official.partition("/")[2] for entry in directory.suspensions if entry.official is not None
        }
        self._known: dict[tuple[object, ...], dict[int, str] | str] = {}

    def decide(self, header: Header) -> dict[int, str] | str:
        """Reasons by claim; empty where it is allowed."""
        key = (
            header.system,
            header.role,
            header.official if header.official in self._officials else "",
            header.assurance,
            header.jurisdiction,
            header.owner,
            header.matter,
            header.suite,
            header.slots,
            header.claims,
        )
        matter = self._directory.matters.get(header.matter)
        if matter is not None and not follows(matter.reference, header.reference):
            return Reason.REFERENCE_INVALID.name
        if matter is not None and not follows(matter.official, header.official):
            return Reason.OFFICIAL_INVALID.name
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._decide(header)
        return known

    def _decide(self, header: Header) -> dict[int, str] | str:
        matter = self._directory.matters.get(header.matter)
        if matter is not None:
            header = replace(
                header,
                matter_version=matter.version,
                owner_document_version=0,
                issue_time=self._at,
                reference_date=min(reference_dates(matter, self._at, self._at)),
            )
        try:
            decided: Authorisation = authorise(self._enforcer, header, Identity.parse(header.system), self._at)
        except RefusedError as error:
            return error.reason.name
        return {
            index: decision.reason.name
            for index, decision in enumerate(decided.decisions)
            if decision.reason is not None
        }
