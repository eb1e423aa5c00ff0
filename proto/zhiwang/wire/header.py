"""The clear header of a sealed request: read once, wholly checked, and kept with its exact bytes.

A header comes from a requester that nobody trusts. What this module returns is well formed; whether it is allowed is
policy's to say. Limits are those of docs/protocol.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import sha256
from typing import NoReturn

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import NAME, Predicate
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.places import Jurisdiction

SUITE = "zhiwang-1"
"""HPKE Base DHKEM(X25519, HKDF-SHA256) export-only, AES-256-GCM, HMAC-SHA256, Ed25519."""

MAX_HEADER = 16 * 1024
"""Longest header in bytes."""
MAX_SLOTS = 16
MAX_VALUES = 16
"""Most compared values in a case record."""
MAX_CLAIMS_PER_CASE = 64
MAX_CASES = 512
MAX_ANSWERS_PER_REQUEST = 8192
"""Most cases times claims in one request."""
MAX_LIFETIME = 60.0
"""Seconds from issue to expiry, at most."""
SKEW = 5.0
"""Seconds by which clocks may differ."""

REQUEST_ID_SIZE = 16
KEY_ID_SIZE = 16
VERSION_SIZE = 16
FINGERPRINT_SIZE = 32
ENC_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
ROOT_SIZE = 32
SIGNATURE_SIZE = 64
MAX_CERTIFICATE = 4096
"""Longest signing certificate in bytes."""
SALT_SIZE = 32
SLOT_SIZE = 256
VALUE_SIZE = 192

_SYSTEM = re.compile(r"spiffe://[a-z0-9][a-z0-9.-]{0,62}(?:/[a-z0-9][a-z0-9_.-]{0,62}){3}")
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}/[a-z][a-z0-9_-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_MATTER = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NAME = re.compile(NAME)
_CELL = re.compile(r"[A-Za-z0-9.+-]{1,32}")
_MAX_NAME = 64
_ASSURANCES = frozenset({1, 2, 3})
INTERACTIVE_CASES = 16
"""Cases of one request beyond which it is bulk, whatever its header says: no counter has so many people before it."""

_INTERACTIVE = 1
_PRIORITIES = frozenset({_INTERACTIVE, 2})
_NANOS = 1_000_000_000
_END_OF_TIME = 253_402_300_800  # the first second of the year 10000, in which a Timestamp ends


@dataclass(frozen=True, slots=True)
class SlotShape:
    """One slot of a case record.

    Attributes:
        name: Slot of the matter.
        ordinal: Which of several subjects of the slot, from 0.
        kind: Kind of subject.
    """

    name: str
    ordinal: int
    kind: str


@dataclass(frozen=True, slots=True)
class ClaimShape:
    """One claim without what is sealed.

    Attributes:
        slot: Index into the header's slots.
        attribute: Name within the owner.
        predicate: How it compares.
        cell: Threshold; empty where the predicate takes none.
        compared_slot: Index into the header's slots, or None.
        compared_value: Index into the record's values, or None.
    """

    slot: int
    attribute: str
    predicate: Predicate
    cell: str
    compared_slot: int | None
    compared_value: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """A header that is well formed; fields as in `zhiwang.exchange.v1.Header`.

    Attributes:
        raw: The exact bytes.
        hash: Their SHA-256.
        values: Number of compared values in a case record.
        bulk: Whether it is a roster, as `is_bulk`.
    """

    raw: bytes
    hash: bytes
    suite: str
    request_id: bytes
    system: str
    certificate_fingerprint: bytes
    role: str
    official: str
    assurance: int
    matter: str
    matter_version: bytes
    reference_date: date
    reference: str
    jurisdiction: Jurisdiction
    owner: str
    owner_key_id: bytes
    owner_document_version: int
    slots: tuple[SlotShape, ...]
    claims: tuple[ClaimShape, ...]
    values: int
    cases: int
    bulk: bool
    issue_time: float
    expire_time: float
    min_policy_version: int = 0

    @property
    def report(self) -> bool:
        """Whether it asks who asked about its one subject."""
        return self.claims[0].predicate is Predicate.REPORT

    @property
    def record_size(self) -> int:
        """Bytes of one padded case record."""
        return record_size(len(self.slots), self.values)


def record_size(slots: int, values: int) -> int:
    """Bytes of one padded case record with so many slots and compared values."""
    return SALT_SIZE + SLOT_SIZE * slots + VALUE_SIZE * values


def parse_header(raw: bytes) -> Header:
    """Read and check a header.

    Args:
        raw: Its exact bytes.

    Raises:
        RefusedError: REQUEST_TOO_LARGE, TOO_MANY_CLAIMS, SUITE_NOT_ACCEPTED, REFERENCE_INVALID, OFFICIAL_INVALID,
            JURISDICTION_INVALID or REQUEST_MALFORMED. No detail repeats what the header says.
    """
    if len(raw) > MAX_HEADER:
        raise RefusedError(Reason.REQUEST_TOO_LARGE, f"a header of {len(raw)} bytes")
    message = sealed_pb2.Header()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        _malformed("not a Header")
    if message.suite != SUITE:
        raise RefusedError(Reason.SUITE_NOT_ACCEPTED, "a suite that is not known here")
    slots, claims, values = _checked_shapes(_shape_bytes(message))
    _check_tokens(message)
    if not 1 <= message.cases <= MAX_CASES or message.cases * len(claims) > MAX_ANSWERS_PER_REQUEST:
        raise RefusedError(Reason.TOO_MANY_CLAIMS, f"{message.cases} cases of {len(claims)} claims")
    if claims[0].predicate is Predicate.REPORT and (message.cases, message.priority) != (1, _INTERACTIVE):
        _malformed("a report is about one subject, for whom somebody waits")
    header = Header(
        raw=raw,
        hash=sha256(raw).digest(),
        suite=SUITE,
        request_id=message.request_id,
        system=message.system,
        certificate_fingerprint=message.certificate_fingerprint,
        role=message.role,
        official=message.official,
        assurance=message.assurance,
        matter=message.matter,
        matter_version=message.matter_version,
        reference_date=_date(message.reference_date),
        reference=message.reference,
        jurisdiction=_jurisdiction(message.jurisdiction),
        owner=message.owner,
        owner_key_id=message.owner_key_id,
        owner_document_version=message.owner_document_version,
        slots=slots,
        claims=claims,
        values=values,
        cases=message.cases,
        bulk=is_bulk(message),
        issue_time=_time(message.issue_time),
        expire_time=_time(message.expire_time),
        min_policy_version=message.min_policy_version,
    )
    _check_known(message, raw)
    return header


def is_bulk(header: sealed_pb2.Header) -> bool:
    """Whether a request is a roster: it gives way to others wherever it waits, and an owner's hours of bulk bind it."""
    return header.priority == sealed_pb2.PRIORITY_BULK or header.cases > INTERACTIVE_CASES


def check_times(header: Header, now: float) -> None:
    """Check that a header lives at `now`.

    Raises:
        RefusedError: LIFETIME_TOO_LONG, REQUEST_EXPIRED, or CLOCK_SKEW with `clock_offset_ms` (our time minus theirs)
            in its metadata.
    """
    lifetime = header.expire_time - header.issue_time
    if not 0 < lifetime <= MAX_LIFETIME:
        raise RefusedError(Reason.LIFETIME_TOO_LONG, f"a lifetime of {lifetime:.1f} s")
    offset = {"clock_offset_ms": str(round((now - header.issue_time) * 1000))}
    if header.issue_time > now + SKEW:
        raise RefusedError(Reason.CLOCK_SKEW, "issued in the future", metadata=offset)
    if header.expire_time < now - SKEW:
        raise RefusedError(Reason.REQUEST_EXPIRED, "expired", metadata=offset)


def check_envelope(request: sealed_pb2.SealedRequest) -> None:
    """Check the sizes of everything beside the header.

    Raises:
        RefusedError: REQUEST_MALFORMED or REQUEST_TOO_LARGE.
    """
    sizes = (len(request.enc), len(request.nonce), len(request.request_root), len(request.signature))
    if sizes != (ENC_SIZE, NONCE_SIZE, ROOT_SIZE, SIGNATURE_SIZE):
        _malformed("enc, nonce, request_root or signature has a wrong size")
    if not 0 < len(request.certificate) <= MAX_CERTIFICATE:
        _malformed("the certificate is missing or too long")
    if not request.header:
        _malformed("no header")
    if len(request.ciphertext) > TAG_SIZE + MAX_CASES * (SALT_SIZE + SLOT_SIZE * MAX_SLOTS + VALUE_SIZE * MAX_VALUES):
        raise RefusedError(Reason.REQUEST_TOO_LARGE, f"a ciphertext of {len(request.ciphertext)} bytes")


def check_sealed_size(header: Header, ciphertext_size: int) -> None:
    """Check that the ciphertext is as long as the header's shape says, so that length tells nothing more.

    Raises:
        RefusedError: REQUEST_MALFORMED.
    """
    if ciphertext_size != header.record_size * header.cases + TAG_SIZE:
        _malformed("the ciphertext is not as long as the header says")


def _check_tokens(message: sealed_pb2.Header) -> None:
    """Fields that are one word or some bytes."""
    if (
        len(message.request_id) != REQUEST_ID_SIZE
        or len(message.certificate_fingerprint) != FINGERPRINT_SIZE
        or len(message.matter_version) != VERSION_SIZE
        or len(message.owner_key_id) != KEY_ID_SIZE
    ):
        _malformed("an id, fingerprint or version has a wrong size")
    _check_words(message.system, message.role, message.matter, message.owner)
    if message.assurance not in _ASSURANCES or message.priority not in _PRIORITIES:
        _malformed("assurance or priority is none of ours")
    if not _safe_token(message.reference):
        raise RefusedError(Reason.REFERENCE_INVALID, "not short ASCII, or holds an identifier")
    if not _safe_token(message.official):
        raise RefusedError(Reason.OFFICIAL_INVALID, "not short ASCII, or holds an identifier")


@lru_cache(maxsize=4096)
def _check_words(system: str, role: str, matter: str, owner: str) -> None:
    """Few distinct values pass through a process; those that do not match raise and are not remembered."""
    if (
        not _SYSTEM.fullmatch(system)
        or not _ROLE.fullmatch(role)
        or not _MATTER.fullmatch(matter)
        or not _is_name(owner)
    ):
        _malformed("system, role, matter or owner is not a name")
    if any(contains_identifier(word, grouped=True) for word in (role, matter, owner)):
        _malformed("role, matter or owner holds an identifier")


def _safe_token(text: str) -> bool:
    """Whether a reference or an official's id can stand in clear."""
    return _TOKEN.fullmatch(text) is not None and not contains_identifier(text, grouped=True)


def is_token(text: str) -> bool:
    """Whether a text has the form of a reference, and holds no identifier of a citizen."""
    return _safe_token(text)


def _is_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def _time(timestamp: Timestamp) -> float:
    seconds, nanos = timestamp.seconds, timestamp.nanos
    if not (0 < seconds < _END_OF_TIME and 0 <= nanos < _NANOS):
        _malformed("issue or expire time is missing, or is none")
    return seconds + nanos / _NANOS


@lru_cache(maxsize=1024)
def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        _malformed("the reference date is not YYYY-MM-DD")
    return day


@lru_cache(maxsize=4096)
def _jurisdiction(text: str) -> Jurisdiction:
    return Jurisdiction.parse(text)


def _shape_bytes(message: sealed_pb2.Header) -> bytes:
    """Slots and claims alone, serialised: by this their checked form is remembered."""
    if len(message.claims) > MAX_CLAIMS_PER_CASE:
        raise RefusedError(Reason.TOO_MANY_CLAIMS, f"{len(message.claims)} claims of a case")
    if len(message.slots) > MAX_SLOTS:
        _malformed("too many slots")
    shape = sealed_pb2.Header(slots=message.slots, claims=message.claims)
    return shape.SerializeToString(deterministic=True)


@lru_cache(maxsize=2048)
def _checked_shapes(data: bytes) -> tuple[tuple[SlotShape, ...], tuple[ClaimShape, ...], int]:
    """Slots, claims and the number of compared values; what does not hold raises and is not remembered."""
    message = sealed_pb2.Header.FromString(data)
    slots = tuple(_slot(slot) for slot in message.slots)
    if not slots or len({(slot.name, slot.ordinal) for slot in slots}) != len(slots):
        _malformed("no slots, or one slot twice")
    claims = tuple(_claim(claim, len(slots)) for claim in message.claims)
    if not claims:
        _malformed("no claims")
    if len(claims) > 1 and any(claim.predicate is Predicate.REPORT for claim in claims):
        _malformed("a report stands alone in its request")
    used = {claim.slot for claim in claims} | {claim.compared_slot for claim in claims} - {None}
    if len(used) != len(slots):
        _malformed("a slot that no claim needs: an owner gets nothing that it does not need")
    values = {claim.compared_value for claim in claims} - {None}
    if values != set(range(len(values))):
        _malformed("compared values are not numbered from 0")
    return slots, claims, len(values)


def _slot(slot: sealed_pb2.Slot) -> SlotShape:
    named = _is_name(slot.name) and _is_name(slot.kind)
    if not named or slot.ordinal >= MAX_SLOTS or contains_identifier(slot.name, grouped=True):
        _malformed("a slot is malformed")
    return SlotShape(slot.name, slot.ordinal, slot.kind)


def _claim(claim: sealed_pb2.ClaimShape, slots: int) -> ClaimShape:
    try:
        predicate = Predicate.from_number(claim.predicate)
    except KeyError:
        _malformed("a predicate is none of ours")
    if not _is_name(claim.attribute) or claim.slot >= slots:
        _malformed("a claim names no attribute or no slot")
    compared = claim.WhichOneof("compared")
    if predicate.compares != (compared is not None):
        _malformed("equals and related compare with something, the others do not")
    if predicate.takes_cell != bool(claim.cell) or (claim.cell and not _CELL.fullmatch(claim.cell)):
        _malformed("at_least and at_most have a cell, the others have none")
    if contains_identifier(claim.cell, grouped=True) or contains_identifier(claim.attribute, grouped=True):
        # A program that mixes its columns up must not tell the hub whom it asks about.
        _malformed("a cell or an attribute's name holds an identifier")
    compared_slot = claim.compared_slot if compared == "compared_slot" else None
    compared_value = claim.compared_value if compared == "compared_value" else None
    if compared_slot is not None and compared_slot >= slots:
        _malformed("a compared slot is not in the header")
    if compared_value is not None and compared_value >= MAX_VALUES:
        _malformed("too many compared values")
    return ClaimShape(claim.slot, claim.attribute, predicate, claim.cell, compared_slot, compared_value)


def _check_known(message: sealed_pb2.Header, raw: bytes) -> None:
    """Refuse fields that this version does not know, and any form but the one that serialising gives.

    What is signed must be understood, and one header must not have two spellings.
    """
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != raw:
        _malformed("not in canonical form, or with unknown fields")


def _malformed(detail: str) -> NoReturn:
    raise RefusedError(Reason.REQUEST_MALFORMED, detail)
