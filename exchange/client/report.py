"""Reports of who asked about somebody: what each owner is asked for, and what it told. Pure.

A report travels as an ordinary request with one claim, `report`, and comes back sealed to the session that asked. That
the claim is granted, by the owner and in a matter of the centre, is all that makes a desk one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from google.protobuf.message import DecodeError

from exchange.client.check import Answered
from exchange.client.outcome import Failure, PartOutcome
from policy.model import Directory
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason
from zhiwang.wire.records import Outcome


class OwnerReport(NamedTuple):
    """What one owner told, or why it did not.

    Attributes:
        owner: Department.
        report: None if there is none.
        reason: Why there is none.
    """

    owner: str
    report: subject_pb2.SubjectReport | None
    reason: Reason | None = None


def report_claims(directory: Directory, slot: str, kind: str) -> Mapping[str, str | None]:
    """The claim that asks each owner for its report about a subject; None of one that publishes none.

    Args:
        directory: The snapshot in force.
        slot: Slot of the matter in which the subject stands.
        kind: Of the subject.
    """
    claims: dict[str, str | None] = {}
    for owner, document in sorted(directory.documents.items()):
        if not document.attributes:
            continue
        names = [name for name, one in sorted(document.attributes.items()) if one.reports and one.subject == kind]
        claims[owner] = f"{slot}: {owner}.{names[0]} {Predicate.REPORT}" if names else None
    return claims


def told(owner: str, outcome: PartOutcome) -> OwnerReport:
    """What an owner's checked answer says."""
    if isinstance(outcome, Failure):
        return OwnerReport(owner, None, outcome.reason)
    return _read(owner, outcome)


def _read(owner: str, answered: Answered) -> OwnerReport:
    code = Outcome(answered.answers.outcomes[0])
    if code is not Outcome.YES:
        return OwnerReport(owner, None, code.reason or Reason.OWNER_FAILED)
    try:
        report = subject_pb2.SubjectReport.FromString(answered.answers.report)
    except DecodeError:
        return OwnerReport(owner, None, Reason.PROOF_INVALID)
    if report.owner != owner or not _can_be_told(report):
        return OwnerReport(owner, None, Reason.PROOF_INVALID)
    return OwnerReport(owner, report)


def _can_be_told(report: subject_pb2.SubjectReport) -> bool:
    """Whether all of it has words: one owner's nonsense must not take the reports of the others along."""
    try:
        for moment in (report.time, *(one for row in report.lookups for one in (row.first_time, row.last_time))):
            datetime.fromtimestamp(moment.ToSeconds(), CITY_TIME)
        for row in report.lookups:
            sealed_pb2.Assurance.Name(row.assurance)
            for one in row.asked:
                Predicate.from_number(one.predicate)
                subject_pb2.Fate.Name(one.fate)
    except (KeyError, ValueError, OverflowError, OSError):
        return False
    return True
