"""The two sealed layouts: case records on the way to the owner, the answer matrix on the way back.

Fixed sizes throughout, so that a ciphertext's length tells the number of cases and the shape, which the header tells
anyway, and nothing else (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import NamedTuple, NoReturn

from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import SALT_SIZE, SLOT_SIZE, VALUE_SIZE, Header

REPORT_SIZES = (1 << 16, 1 << 19)
"""Bytes to which a report is padded with its length before it. Nearly all fit the first, so that the length of a reply
does not tell how often somebody was asked about."""
MAX_REPORT = REPORT_SIZES[-1] - 4
"""Longest report in bytes."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_AS_OF = Struct(">Bq")
_EMPTY = bytes(SLOT_SIZE)
_EMPTY_VALUE = bytes(VALUE_SIZE)


class Outcome(IntEnum):
    """What an owner says of one claim, in one byte: an answer, or why there is none.

    The value's sixteens tell the status: 0 answered, 1 denied, 2 unavailable.
    """

    YES = 1
    NO = 2
    UNKNOWN = 3
    DENIED_BY_HUB = 16
    DENIED_BY_OWNER = 17
    GUESSES_SPENT = 18
    CELL_NOT_PUBLISHED = 19
    DATE_NOT_PUBLISHED = 20
    CODE_SYSTEM_UNKNOWN = 21
    VALUE_INVALID = 22
    REPORTS_SPENT = 23
    DATABASE_UNAVAILABLE = 32
    PROBE_FAILED = 33
    TIMED_OUT = 34
    FAILED = 35

    @property
    def answer(self) -> verification_pb2.Answer.ValueType:
        """The answer; unspecified if there is none."""
        return _ANSWERS.get(self, verification_pb2.ANSWER_UNSPECIFIED)

    @property
    def status(self) -> verification_pb2.ClaimStatus.ValueType:
        """Whether it was answered."""
        return _STATUSES[self >> 4]

    @property
    def reason(self) -> Reason | None:
        """Why there is no answer."""
        return _REASONS.get(self)


_ANSWERS = {
    Outcome.YES: verification_pb2.ANSWER_YES,
    Outcome.NO: verification_pb2.ANSWER_NO,
    Outcome.UNKNOWN: verification_pb2.ANSWER_UNKNOWN,
}
_STATUSES = (
    verification_pb2.CLAIM_STATUS_ANSWERED,
    verification_pb2.CLAIM_STATUS_DENIED,
    verification_pb2.CLAIM_STATUS_UNAVAILABLE,
)
_REASONS = {
    Outcome.DENIED_BY_HUB: Reason.NOT_GRANTED,
    Outcome.DENIED_BY_OWNER: Reason.NOT_GRANTED,
    Outcome.GUESSES_SPENT: Reason.GUESSES_SPENT,
    Outcome.CELL_NOT_PUBLISHED: Reason.CELL_NOT_PUBLISHED,
    Outcome.DATE_NOT_PUBLISHED: Reason.DATE_NOT_PUBLISHED,
    Outcome.CODE_SYSTEM_UNKNOWN: Reason.CODE_SYSTEM_UNKNOWN,
    Outcome.VALUE_INVALID: Reason.VALUE_INVALID,
    Outcome.REPORTS_SPENT: Reason.REPORTS_SPENT,
    Outcome.DATABASE_UNAVAILABLE: Reason.DATABASE_UNAVAILABLE,
    Outcome.PROBE_FAILED: Reason.PROBE_FAILED,
    Outcome.TIMED_OUT: Reason.OWNER_TIMED_OUT,
    Outcome.FAILED: Reason.OWNER_FAILED,
}
_OUTCOMES = frozenset(int(outcome) for outcome in Outcome)


class SubjectRecord(NamedTuple):
    """A subject in canonical form. Never printed.

    Attributes:
        kind: Kind of its slot.
        identifier: Canonical identifier; not empty.
        name: Canonical name; may be empty.
    """

    kind: str
    identifier: str
    name: str

    def __repr__(self) -> str:
        return f"SubjectRecord(kind={self.kind!r})"


class CaseRecord(NamedTuple):
    """One case as an owner gets it. Never printed.

    Attributes:
        salt: 32 random bytes.
        subjects: One for each slot of the header; None for an empty slot.
        values: Compared texts.
    """

    salt: bytes
    subjects: tuple[SubjectRecord | None, ...]
    values: tuple[str, ...]

    def __repr__(self) -> str:
        return "CaseRecord()"


@dataclass(frozen=True, slots=True)
class Answers:
    """An owner's answers to one request.

    Attributes:
        salt: 32 random bytes.
        data_as_of: For each claim of a case, when its data set was last loaded (seconds since the epoch), or None.
        outcomes: One `Outcome` a byte, case-major.
        report: Of a request for a report, its bytes (`zhiwang.adapter.v1.SubjectReport`); empty otherwise, and where
            it was refused.
    """

    salt: bytes = field(repr=False)
    data_as_of: tuple[int | None, ...]
    outcomes: bytes = field(repr=False)
    report: bytes = field(default=b"", repr=False)


def encode_records(header: Header, records: Sequence[CaseRecord]) -> bytes:
    """Case records as the plaintext to seal: for each, salt, slots of 256 bytes, values of 192 bytes.

    A slot is its identifier and its name, a value its text, each in UTF-8 behind its length in 2 bytes (big-endian),
    then zeros. An empty slot is zeros.

    Raises:
        RefusedError: NAME_INVALID or VALUE_INVALID, if something is longer than its place.
    """
    parts: list[bytes] = []
    for record in records:
        parts.append(record.salt)
        parts.extend([_EMPTY if subject is None else _encode_subject(subject) for subject in record.subjects])
        parts.extend([_encode_value(value) for value in record.values])
    data = b"".join(parts)
    if len(data) != header.record_size * header.cases or len(records) != header.cases:
        raise ValueError("the records do not have the header's shape")
    return data


def decode_records(header: Header, data: bytes) -> list[CaseRecord]:
    """The case records of an opened plaintext.

    Raises:
        RefusedError: REQUEST_MALFORMED. The detail repeats nothing of the plaintext.
    """
    size = header.record_size
    if len(data) != size * header.cases:
        _malformed("the plaintext is not as long as the header says")
    slots = [(SALT_SIZE + i * SLOT_SIZE, slot.kind) for i, slot in enumerate(header.slots)]
    values = [SALT_SIZE + len(slots) * SLOT_SIZE + i * VALUE_SIZE for i in range(header.values)]
    return [
        CaseRecord(
            data[start : start + SALT_SIZE],
            tuple([_decode_subject(kind, data[start + at : start + at + SLOT_SIZE]) for at, kind in slots]),
            tuple([_decode_value(data[start + at : start + at + VALUE_SIZE]) for at in values]),
        )
        for start in range(0, len(data), size)
    ]


def encode_answers(header: Header, answers: Answers) -> bytes:
    """Answers as the plaintext to seal: salt; for each claim 1 byte known and 8 bytes data_as_of; the outcomes.

    The outcomes are one byte each, case-major: n × m bytes. A report follows them behind its length in 4 bytes, padded
    with zeros to one of `REPORT_SIZES`.
    """
    if len(answers.data_as_of) != len(header.claims) or len(answers.outcomes) != len(header.claims) * header.cases:
        raise ValueError("the answers do not have the header's shape")
    columns = [_AS_OF.pack(as_of is not None, as_of or 0) for as_of in answers.data_as_of]
    return b"".join(
        (answers.salt, *columns, answers.outcomes, _encode_report(answers.report) if header.report else b"")
    )


def decode_answers(header: Header, data: bytes) -> Answers:
    """The answers of an opened reply.

    Raises:
        RefusedError: PROOF_INVALID, if it does not have the header's shape or holds an unknown outcome.
    """
    width = len(header.claims)
    outcomes_at = SALT_SIZE + _AS_OF.size * width
    end = outcomes_at + width * header.cases
    report = _decode_report(data[end:]) if header.report else b""
    if len(data) != end and not header.report:
        raise RefusedError(Reason.PROOF_INVALID, "a reply of the wrong length")
    data_as_of = []
    for place in range(SALT_SIZE, outcomes_at, _AS_OF.size):
        known, seconds = _AS_OF.unpack_from(data, place)
        if known > 1 or (not known and seconds):
            raise RefusedError(Reason.PROOF_INVALID, "a malformed data_as_of")
        data_as_of.append(seconds if known else None)
    outcomes = data[outcomes_at:end]
    if not _OUTCOMES.issuperset(outcomes):
        raise RefusedError(Reason.PROOF_INVALID, "an unknown outcome")
    return Answers(data[:SALT_SIZE], tuple(data_as_of), outcomes, report)


def _encode_report(report: bytes) -> bytes:
    data = _U32.pack(len(report)) + report
    size = next((size for size in REPORT_SIZES if len(data) <= size), None)
    if size is None:
        raise ValueError("a report is longer than its place")
    return data.ljust(size, b"\0")


def _decode_report(data: bytes) -> bytes:
    end = _U32.size + (_U32.unpack_from(data)[0] if len(data) in REPORT_SIZES else len(data))
    if end > len(data) or data[end:].strip(b"\0"):
        raise RefusedError(Reason.PROOF_INVALID, "a report of the wrong length, or not padded with zeros")
    return data[_U32.size : end]


def _encode_subject(subject: SubjectRecord) -> bytes:
    identifier, name = subject.identifier.encode(), subject.name.encode()
    data = _U16.pack(len(identifier)) + identifier + _U16.pack(len(name)) + name
    if len(data) > SLOT_SIZE:
        raise RefusedError(Reason.NAME_INVALID, "identifier and name are longer than a slot")
    return data.ljust(SLOT_SIZE, b"\0")


def _encode_value(value: str) -> bytes:
    text = value.encode()
    if len(text) > VALUE_SIZE - _U16.size:
        raise RefusedError(Reason.VALUE_INVALID, "a compared value is longer than its place")
    return (_U16.pack(len(text)) + text).ljust(VALUE_SIZE, b"\0")


def _decode_subject(kind: str, data: bytes) -> SubjectRecord | None:
    if data == _EMPTY:
        return None
    identifier, place = _text(data, 0)
    name, place = _text(data, place)
    if not identifier or data[place:] != _EMPTY[place:]:
        _malformed("a slot is not padded with zeros, or has no identifier")
    return SubjectRecord(kind, identifier, name)


def _decode_value(data: bytes) -> str:
    value, place = _text(data, 0)
    if data[place:] != _EMPTY_VALUE[place:]:
        _malformed("a value is not padded with zeros")
    return value


def _text(data: bytes, place: int) -> tuple[str, int]:
    start = place + _U16.size
    if start > len(data):
        _malformed("a text is cut")
    end = start + _U16.unpack_from(data, place)[0]
    if end > len(data):
        _malformed("a text is cut")
    try:
        text = data[start:end].decode()
    except UnicodeDecodeError:
        text = None
    if text is None:
        # Raised outside the handler: the decoder's error holds the bytes.
        _malformed("a text is not UTF-8")
    return text, end


def _malformed(detail: str) -> NoReturn:
    raise RefusedError(Reason.REQUEST_MALFORMED, detail)
