"""What requester and owner sign and commit to, as bytes (docs/protocol.md).

Every hash begins with a label of its own, and every part of variable length with its length, so that no two meanings
share bytes. A claim is committed to under a salt of its own, so one claim can be opened without its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import cycle, islice
from struct import Struct

from zhiwang.wire.header import ClaimShape, Header
from zhiwang.wire.keyed import Keyed, pads
from zhiwang.wire.merkle import Tree, leaf_hash
from zhiwang.wire.records import Answers, CaseRecord

SEAL_INFO = b"zhiwang/1/seal"
"""HPKE info of a sealing context."""
SEAL_EXPORT_LABEL = b"zhiwang/1/secret"
"""HPKE exporter context of the secret that both sides derive keys from."""
REQUEST_KEY_LABEL = b"zhiwang/1/request-key"
"""Prefix of the header hash in the derivation of a request's key."""
REPLY_KEY_LABEL = b"zhiwang/1/reply-key"
"""Prefix of the header hash in the derivation of a reply's key."""
SIGNATURE_LABEL = b"zhiwang/1/request-signature"
"""Prefix of what a requester signs."""
OWNER_KEY_LABEL = b"zhiwang/1/owner-key"
"""Prefix of what an adapter signs when it publishes a sealing key."""
CLAIM_LABEL = b"zhiwang/1/claim"
"""Prefix of a claim's commitment."""
OUTCOME_LABEL = b"zhiwang/1/outcome"
"""Prefix of a salted outcome."""
ANSWER_LABEL = b"zhiwang/1/answer"
"""Prefix of an answer's leaf."""

_U16 = Struct(">H")
_U32 = Struct(">I")
_OUTCOME = Struct(">BBq")
_CLAIM_LEAF = b"\x00" + CLAIM_LABEL
_ANSWER_LEAF = b"\x00" + ANSWER_LABEL


def header_hash(raw: bytes) -> bytes:
    """SHA-256 of a header's exact bytes: by this an access is known."""
    return sha256(raw).digest()


def sealed_hash(enc: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
    """SHA-256 of the sealed part. `enc` (32 bytes) and `nonce` (12) have fixed sizes, so no lengths are needed."""
    digest = sha256(enc)
    digest.update(nonce)
    digest.update(ciphertext)
    return digest.digest()


def signature_message(header_digest: bytes, sealed_digest: bytes, request_root: bytes) -> bytes:
    """What the requester signs: label and three hashes of 32 bytes each."""
    return SIGNATURE_LABEL + header_digest + sealed_digest + request_root


def owner_key_message(raw_key: bytes) -> bytes:
    """What an adapter signs when it publishes the exact bytes of an OwnerKey."""
    return OWNER_KEY_LABEL + raw_key


def claim_salt(case_salt: bytes, claim_index: int) -> bytes:
    """Salt of one claim: HMAC-SHA256(case salt, index of the claim within its case, big-endian in 4 bytes)."""
    return Keyed(case_salt).digest(_U32.pack(claim_index))


def outcome_salt(reply_salt: bytes, index: int) -> bytes:
    """Salt of one answer: HMAC-SHA256(reply salt, case-major index of the answer, big-endian in 4 bytes)."""
    return Keyed(reply_salt).digest(_U32.pack(index))


def subject_bytes(kind: str, identifier: str, name: str) -> bytes:
    """A subject as bytes: kind, identifier and name, each in UTF-8 behind its length in 2 bytes."""
    pack = _U16.pack
    first, second, third = kind.encode(), identifier.encode(), name.encode()
    return pack(len(first)) + first + pack(len(second)) + second + pack(len(third)) + third


def claim_commitment(salt: bytes, kind: str, identifier: str, name: str, value: bytes) -> bytes:
    """Commitment to one claim: the leaf hash under which it stands in the request tree; 32 bytes.

    Args:
        salt: Of this claim; 32 bytes.
        kind: Kind of the subject's slot, also where the slot is empty.
        identifier: Canonical; empty for an empty slot.
        name: Canonical; may be empty.
        value: What the claim compares with (`compared_bytes`).
    """
    subject = subject_bytes(kind, identifier, name)
    return leaf_hash(CLAIM_LABEL + salt + subject + _U32.pack(len(value)) + value)


def compared_bytes(header: Header, claim: ClaimShape, record: CaseRecord) -> bytes:
    """What a claim compares with, as its commitment holds it.

    0x00 alone where it compares with nothing sealed (a cell stands in the header); 0x01 and the text; 0x02 and the
    compared subject.
    """
    if claim.compared_slot is not None:
        return b"\x02" + _slot_bytes(header, record, claim.compared_slot)
    if claim.compared_value is not None:
        return b"\x01" + record.values[claim.compared_value].encode()
    return b"\x00"


def _slot_bytes(header: Header, record: CaseRecord, slot: int) -> bytes:
    subject = record.subjects[slot]
    if subject is None:
        return subject_bytes(header.slots[slot].kind, "", "")
    return subject_bytes(subject.kind, subject.identifier, subject.name)


def claim_commitments(header: Header, records: Sequence[CaseRecord]) -> list[bytes]:
    """Commitments to all claims of all cases, case-major.

    The same as `claim_commitment` of each, written out: this runs for every answer at both ends.
    """
    pack = _U32.pack
    shapes = [
        (pack(index), claim.slot, claim.compared_slot, claim.compared_value)
        for index, claim in enumerate(header.claims)
    ]
    places = range(len(header.slots))
    nothing = pack(1) + b"\x00"
    commitments = []
    for record in records:
        inner, outer = pads(record.salt)
        subjects = [_slot_bytes(header, record, place) for place in places]
        for index, slot, compared_slot, compared_value in shapes:
            if compared_slot is not None:
                other = subjects[compared_slot]
                value = pack(1 + len(other)) + b"\x02" + other
            elif compared_value is not None:
                text = record.values[compared_value].encode()
                value = pack(1 + len(text)) + b"\x01" + text
            else:
                value = nothing
            salt = sha256(outer + sha256(inner + index).digest()).digest()
            commitments.append(sha256(_CLAIM_LEAF + salt + subjects[slot] + value).digest())
    return commitments


def request_tree(header: Header, records: Sequence[CaseRecord]) -> Tree:
    """Tree over the commitments to all claims of all cases, case-major.

    Its root is the request root that the requester signs; its leaves are the commitments.
    """
    return Tree(claim_commitments(header, records))


def outcome_bytes(outcome: int, data_as_of: int | None) -> bytes:
    """One outcome as its leaf holds it; 10 bytes.

    The outcome in 1 byte, whether data_as_of is known in 1 byte (1 or 0), data_as_of in seconds since the epoch in 8
    bytes, signed, big-endian (0 if unknown).
    """
    return _OUTCOME.pack(outcome, data_as_of is not None, data_as_of or 0)


def parse_outcome_bytes(data: bytes) -> tuple[int, int | None]:
    """The outcome and data_as_of of `outcome_bytes`.

    Raises:
        ValueError: Not such bytes.
    """
    if len(data) != _OUTCOME.size:
        raise ValueError("an outcome has 10 bytes")
    outcome, known, seconds = _OUTCOME.unpack(data)
    if known > 1 or (not known and seconds):
        raise ValueError("an outcome's data_as_of is malformed")
    return outcome, seconds if known else None


def answer_leaf(commitment: bytes, salt: bytes, outcome: bytes) -> bytes:
    """Leaf hash of one answer in the answer tree; 32 bytes.

    Args:
        commitment: To the claim.
        salt: Of this outcome; 32 bytes.
        outcome: `outcome_bytes`.
    """
    return leaf_hash(ANSWER_LABEL + commitment + sha256(OUTCOME_LABEL + salt + outcome).digest())


def answer_tree(header: Header, commitments: Sequence[bytes], answers: Answers) -> Tree:
    """Tree over the answers, case-major. Its root is the answer root of the owner's entry.

    The one leaf of a report commits to the report as well: its outcome is followed by the report's SHA-256.

    Args:
        header: Of the request.
        commitments: Leaves of the request tree.
        answers: With `len(commitments)` outcomes.
    """
    if header.report:
        told = outcome_bytes(answers.outcomes[0], answers.data_as_of[0]) + sha256(answers.report).digest()
        return Tree([answer_leaf(commitments[0], outcome_salt(answers.salt, 0), told)])
    # Of `answer_leaf` written out: this runs for every answer at both ends. A column has one data_as_of and few
    # outcomes, so their bytes are made once each.
    inner, outer = pads(answers.salt)
    pack = _U32.pack
    columns = [
        {outcome: outcome_bytes(outcome, as_of) for outcome in set(answers.outcomes[i :: len(header.claims)])}
        for i, as_of in enumerate(answers.data_as_of)
    ]
    leaves = []
    for index, (commitment, outcome, column) in enumerate(
        zip(commitments, answers.outcomes, islice(cycle(columns), len(commitments)), strict=True)
    ):
        salt = sha256(outer + sha256(inner + pack(index)).digest()).digest()
        salted = sha256(OUTCOME_LABEL + salt + column[outcome]).digest()
        leaves.append(sha256(_ANSWER_LEAF + commitment + salted).digest())
    return Tree(leaves)
