"""Whether one request may be answered: the check that the hub makes first and the owner's adapter makes again.

Both call `authorise` with their own verified directory, so a hub that lies gains nothing. Nothing here depends on who
is asked about: only the clear header is read. Unknown, unpublished and not granted all look the same to the requester.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from certs.identity import Identity, Kind
from policy.enforcer import Decision, Enforcer, Question
from policy.model import Attribute, Document, Matter
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import ClaimShape, Header

_NOT_GRANTED = Decision(allowed=False, reason=Reason.NOT_GRANTED)


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What of a request is allowed.

    Attributes:
        decisions: One for each claim shape, in the header's order.
        directory_version: Version of the snapshot that decided.
        owner_document_version: Version of the owner's document that decided; 0 if there is none.
    """

    decisions: tuple[Decision, ...]
    directory_version: int
    owner_document_version: int

    @property
    def denied(self) -> tuple[int, ...]:
        """Indexes of the claim shapes that are denied."""
        return tuple(index for index, decision in enumerate(self.decisions) if not decision.allowed)

    @property
    def allowed(self) -> bool:
        """Whether at least one claim is allowed."""
        return any(decision.allowed for decision in self.decisions)

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """All rules that matched, each once, in order of first appearance."""
        return tuple(dict.fromkeys(rule for decision in self.decisions for rule in decision.rule_ids))


def authorise(enforcer: Enforcer, header: Header, requester: Identity, now: float) -> Authorisation:
    """Checks a header against one snapshot of the directory.

    Args:
        enforcer: Of the snapshot in force.
        header: Parsed and structurally valid.
        requester: Identity of the verified signing certificate.
        now: Seconds since the epoch.

    Raises:
        RefusedError: For what makes the whole request void: DIRECTORY_EXPIRED, IDENTITY_MISMATCH, ROLE_NOT_HELD,
            OUTSIDE_HOME, MATTER_NOT_ALLOWED, MATTER_CHANGED, DATE_NOT_PUBLISHED, REFERENCE_INVALID,
            OFFICIAL_INVALID, SLOT_UNKNOWN, DIRECTORY_BEHIND, SUITE_NOT_ACCEPTED.
    """
    directory = enforcer.directory
    if now >= directory.expires:
        raise RefusedError(Reason.DIRECTORY_EXPIRED)
    if header.system != requester.uri or requester.kind is not Kind.SYSTEM or requester.city != directory.centre.city:
        raise RefusedError(Reason.IDENTITY_MISMATCH, field="system")
    if header.min_policy_version > directory.version:
        raise RefusedError(Reason.DIRECTORY_BEHIND, f"directory {directory.version}", field="min_policy_version")
    _check_place(enforcer, header, requester)
    matter = directory.matters.get(header.matter)
    if matter is None or requester.department not in matter.requesters:
        raise RefusedError(Reason.MATTER_NOT_ALLOWED, field="matter")
    _check_matter(matter, header, now)
    document = directory.documents.get(header.owner)
    if document is None:
        return Authorisation((_NOT_GRANTED,) * len(header.claims), directory.version, 0)
    if header.owner_document_version > document.version:
        raise RefusedError(Reason.DIRECTORY_BEHIND, f"{header.owner} {document.version}", field="owner")
    if header.suite not in document.suites:
        raise RefusedError(Reason.SUITE_NOT_ACCEPTED, field="suite")
    decisions = tuple(_decide(enforcer, document, header, claim, requester, now) for claim in header.claims)
    return Authorisation(decisions, directory.version, document.version)


def _check_place(enforcer: Enforcer, header: Header, requester: Identity) -> None:
    """Role by the requester's own document, home by the centre."""
    directory = enforcer.directory
    own = directory.documents.get(requester.department)
    home = directory.centre.home(requester.department, requester.name)
    if own is None or home is None or header.role not in own.roles.get(requester.name, ()):
        raise RefusedError(Reason.ROLE_NOT_HELD, field="role")
    if not home.covers(header.jurisdiction):
        raise RefusedError(Reason.OUTSIDE_HOME, field="jurisdiction")


def _check_matter(matter: Matter, header: Header, now: float) -> None:
    if header.matter_version != matter.version:
        raise RefusedError(Reason.MATTER_CHANGED, field="matter")
    if header.reference_date not in reference_dates(matter, header.issue_time, now):
        raise RefusedError(Reason.DATE_NOT_PUBLISHED, field="reference_date")
    if not follows(matter.reference, header.reference):
        raise RefusedError(Reason.REFERENCE_INVALID, field="reference")
    if not follows(matter.official, header.official):
        raise RefusedError(Reason.OFFICIAL_INVALID, field="official")
    for shape in header.slots:
        slot = matter.slots.get(shape.name)
        if slot is None or shape.kind != slot.kind or shape.ordinal >= slot.up_to:
            raise RefusedError(Reason.SLOT_UNKNOWN, field="slots")


def _decide(
    enforcer: Enforcer, document: Document, header: Header, claim: ClaimShape, requester: Identity, now: float
) -> Decision:
    attribute = document.attributes.get(claim.attribute)
    if attribute is None or not _fits(attribute, header, claim):
        return _NOT_GRANTED
    decision = enforcer.decide(question_of(header, claim, requester, now))
    if not decision.allowed:
        return decision
    if claim.predicate in _WITH_CELLS and claim.cell not in attribute.cells(claim.predicate):
        return Decision(allowed=False, reason=Reason.CELL_NOT_PUBLISHED, rule_ids=decision.rule_ids)
    if attribute.dates is not None and header.reference_date not in attribute.dates:
        return Decision(allowed=False, reason=Reason.DATE_NOT_PUBLISHED, rule_ids=decision.rule_ids)
    return decision


def question_of(header: Header, claim: ClaimShape, requester: Identity, now: float) -> Question:
    """What is decided about one claim of a request.

    Args:
        header: Of the request.
        claim: One of its claims.
        requester: As `authorise`.
        now: Seconds since the epoch.
    """
    return Question(
        system=requester,
        role=header.role,
        owner=header.owner,
        attribute=claim.attribute,
        predicate=claim.predicate,
        jurisdiction=header.jurisdiction,
        matter=header.matter,
        assurance=header.assurance,
        now=now,
        official=header.official,
    )


_WITH_CELLS = frozenset({Predicate.AT_LEAST, Predicate.AT_MOST})


def _fits(attribute: Attribute, header: Header, claim: ClaimShape) -> bool:
    """Whether the subject, and a compared subject, are of the kinds that the attribute is about."""
    if header.slots[claim.slot].kind != attribute.subject:
        return False
    return claim.compared_slot is None or header.slots[claim.compared_slot].kind == attribute.type


def reference_dates(matter: Matter, issue_time: float, now: float) -> frozenset[date]:
    """Dates as of which a matter may be asked: its own, or the day of asking.

    Around midnight the day on which the request was sealed counts as well as the one on which it is checked.
    """
    if matter.reference_date is not None:
        return frozenset({matter.reference_date})
    return frozenset({local_date(issue_time), local_date(now)})


def local_date(time: float) -> date:
    """The day in China."""
    return datetime.fromtimestamp(time, UTC).astimezone(CITY_TIME).date()


def local_midnight(day: date) -> int:
    """Seconds since the epoch at which a day begins in China."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CITY_TIME).timestamp())


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def follows(pattern: str, text: str) -> bool:
    """Whether the whole text matches; `document.py` admits only patterns that are quick to match."""
    return _compiled(pattern).fullmatch(text) is not None
