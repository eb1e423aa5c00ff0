"""What a caller asks and what it is told: cases, contexts, results. Plain values, no I/O.

Who is asked about stands here in clear, since this is the requester's own side. Nothing of it may be logged or stand
in an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason


class Subject(NamedTuple):
    """Who is asked about. Never printed.

    Attributes:
        slot: Slot of the matter, e.g. "child".
        identifier: In the scheme of the slot's kind.
        name: Name that must match where the owner checks names; may be empty.
    """

    slot: str
    identifier: str
    name: str = ""

    def __repr__(self) -> str:
        return f"Subject(slot={self.slot!r})"


@dataclass(frozen=True, slots=True)
class Case:
    """One application. Never printed.

    Attributes:
        subjects: In their slots; a slot may stand as often as the matter admits.
        claims: In the syntax of docs/claims.md. Empty: all claims of the matter.
        key: The caller's own, returned with the result. Never leaves this process.
        report: Whether the claims ask for reports of who asked; then all of them do, else none.
    """

    subjects: tuple[Subject, ...] = field(repr=False)
    claims: tuple[str, ...] = field(default=(), repr=False)
    key: str = field(default="", repr=False)
    report: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """Why one asks. What is empty takes the profile's default.

    Attributes:
        matter: For example "school-enrolment".
        reference: The case's or job's, in the matter's pattern; never an identifier of a citizen.
        official: For whom the system asks; never an identifier of a citizen.
        role: For example "edu/enrolment-clerk".
        jurisdiction: Where the requester acts, e.g. "nbs:440306".
        reference_date: "YYYY-MM-DD" where the matter leaves it open; empty for the matter's own.
        min_policy_version: Least version of the directory by which agent, hub and owner may decide; 0 for any. Whoever
            is behind waits for it within the call's time, and else says DIRECTORY_BEHIND.
    """

    matter: str
    reference: str = ""
    official: str = ""
    role: str = ""
    jurisdiction: str = ""
    reference_date: str = ""
    min_policy_version: int = 0


class Answer(IntEnum):
    """What an owner says about a claim; numbers as on the wire."""

    NONE = verification_pb2.ANSWER_UNSPECIFIED
    YES = verification_pb2.ANSWER_YES
    NO = verification_pb2.ANSWER_NO
    UNKNOWN = verification_pb2.ANSWER_UNKNOWN


class Status(IntEnum):
    """Whether a claim was answered; numbers as on the wire."""

    ANSWERED = verification_pb2.CLAIM_STATUS_ANSWERED
    DENIED = verification_pb2.CLAIM_STATUS_DENIED
    UNAVAILABLE = verification_pb2.CLAIM_STATUS_UNAVAILABLE


class Ruling(IntEnum):
    """What the matter's rule says of a case; numbers as on the wire. Nothing rejects anybody by itself."""

    NONE = verification_pb2.RULING_UNSPECIFIED
    PASSED = verification_pb2.RULING_PASSED
    CHECK_BY_HAND = verification_pb2.RULING_CHECK_BY_HAND
    DATA_DISAGREES = verification_pb2.RULING_DATA_DISAGREES


class ClaimResult(NamedTuple):
    """Result of one claim about one subject (or pair of subjects).

    Attributes:
        claim: As asked.
        name: Its name in the matter; empty for a claim of the caller's own.
        ordinal: Which of several subjects of the slot, from 0.
        compared_ordinal: Which of several compared subjects, from 0.
        status: Whether it was answered.
        answer: The answer; NONE unless answered.
        reason: Of a status other than ANSWERED; None if answered.
        data_as_of: Last load of the owner's data set, in seconds since the epoch; None if unknown.
        counter: Where the record can be explained and corrected; empty for YES.
    """

    claim: str
    name: str
    ordinal: int
    compared_ordinal: int
    status: Status
    answer: Answer
    reason: Reason | None
    data_as_of: int | None
    counter: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of one case.

    Attributes:
        key: The caller's.
        claims: In the order asked.
        ruling: What the matter's rule says; NONE if it has none, or not all of its claims were asked.
        receipt: If one was asked for and anything was answered.
        reason: Why the case could not be asked at all; then there are no claims.
        field: Which field of the case the reason speaks of, e.g. "subjects[0].identifier".
        kept: Whether a receipt is kept, durably.
    """

    key: str
    claims: tuple[ClaimResult, ...] = ()
    ruling: Ruling = Ruling.NONE
    receipt: verification_pb2.Receipt | None = field(default=None, repr=False)
    reason: Reason | None = None
    field: str = ""
    kept: bool = False
