"""What a receipt proves: every check of it, with the pinned authority alone, no network and no directory.

What was asked and by whom rests on the requester's signature, what was answered on the owner's log, that it was not
hidden on the hub's. Every byte is bound by one of these or refused. Time stamps and cosignatures come on top of it
(`receipt_times.py`); what is proved does not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from audit.checkpoint import Checkpoint, CheckpointError, open_note, split_note
from audit.entry import EntryError, decode_entry
from audit.origins import log_of
from audit.proofs import check_entry, check_included
from audit.years import predecessor_of
from certs.signing import CertificateVerifier, VerifiedCertificate
from exchange.client.receipt import FORMAT
from exchange.client.receipt_files import part_hash
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.commitments import (
    answer_leaf,
    claim_commitment,
    parse_outcome_bytes,
    signature_message,
    subject_bytes,
)
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.header import SALT_SIZE, SKEW, ClaimShape, Header, parse_header
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.merkle import HASH_SIZE, ProofError, leaf_hash, verify_inclusion
from zhiwang.wire.records import Outcome

LATE: Final = 60.0
"""Seconds after a request's expiry at which an entry about it may still be written."""

MAX_STAMPS: Final = 8
"""Time stamps of one receipt: one more whenever the authority of the last is about to expire."""


@dataclass(frozen=True, slots=True)
class ProvedClaim:
    """One claim of a verified receipt.

    Attributes:
        claim: In the syntax of docs/claims.md.
        ordinal: Which of several subjects of the slot, from 0.
        kind: Of the subject.
        identifier: Of the subject; empty for an empty slot.
        name: Of the subject; may be empty.
        compared: Kind, identifier and name of the compared subject; None if there is none.
        compared_ordinal: Which of several subjects of the compared slot, from 0.
        outcome: What the owner answered.
        data_as_of: Last load of the owner's data set, in seconds since the epoch.
    """

    claim: str
    ordinal: int
    kind: str
    identifier: str
    name: str
    compared: tuple[str, str, str] | None
    compared_ordinal: int
    outcome: Outcome
    data_as_of: int | None


@dataclass(frozen=True, slots=True)
class CosignedHead:
    """Another head of the hub's log, proved to be signed by the hub and to cover the entry.

    Attributes:
        checkpoint: What it says.
        note: With the signatures of others, which are not verified here.
        certificate: Of the key that signed it for the hub. Whether it was valid is for whoever knows the time to say.
    """

    checkpoint: Checkpoint
    note: bytes
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class ProvedPart:
    """One owner's part of a verified receipt.

    Attributes:
        header: As the requester signed it.
        requester: The system.
        owner: The adapter whose log it is in.
        owner_time: When the owner recorded it, by its own clock.
        owner_index: Where in its log.
        owner_checkpoint: Of that log.
        hub: The hub whose log names the owner's entry.
        hub_time: When the hub recorded it, by its own clock.
        hub_index: Where in its log.
        hub_checkpoint: Of that log.
        cosigned: Another checkpoint of the hub's log that covers the entry too, for witnesses to have cosigned.
        certificates: Of the system, the adapter and the hub, each valid when the entries were made.
        directory_version: Of the directory by which the owner decided.
        document_version: Of the owner's document in it.
        rule_ids: Grants by which the owner allowed, for each claim that was asked.
        claims: What was asked and answered.
    """

    header: Header
    requester: Identity
    owner: Identity
    owner_time: float
    owner_index: int
    owner_checkpoint: Checkpoint
    hub: Identity
    hub_time: float
    hub_index: int
    hub_checkpoint: Checkpoint
    cosigned: CosignedHead | None
    certificates: tuple[VerifiedCertificate, ...]
    directory_version: int
    document_version: int
    rule_ids: tuple[str, ...]
    claims: tuple[ProvedClaim, ...]


def verify_receipt(receipt: verification_pb2.Receipt, verifier: CertificateVerifier) -> tuple[ProvedPart, ...]:
    """Check a receipt against the pinned authority, offline.

    Args:
        receipt: The receipt.
        verifier: Of the city's certificates. What counts is what held when the entries were made: what expired or was
            revoked since proves as much as it did. Whether something was revoked before, `receipt_times.py` says.

    Raises:
        RefusedError: PROOF_INVALID or what is wrong with a certificate or signature; the detail says where.
    """
    known = verification_pb2.Receipt()
    known.CopyFrom(receipt)
    known.DiscardUnknownFields()
    if known.ByteSize() != receipt.ByteSize() or receipt.format_version != FORMAT or not receipt.parts:
        _broken("not a receipt of this format")
    parts = []
    for number, part in enumerate(receipt.parts):
        try:
            parts.append(_verify_part(part, verifier))
        except (ProofError, CheckpointError, EntryError, ValueError) as error:
            _broken(f"part {number}: {error}")
        except ZhiwangError as error:
            raise RefusedError(error.reason, f"part {number}: {error.detail}") from None
    _check_one_case(parts)
    _check_stamps(receipt)
    return tuple(parts)


def _check_stamps(receipt: verification_pb2.Receipt) -> None:
    """A time stamp must be over these parts; who made it, and when, `time_stamps.py` checks."""
    if len(receipt.time_stamps) > MAX_STAMPS:
        _broken("more time stamps than a receipt keeps")
    for stamp in receipt.time_stamps:
        if any(len(value) != HASH_SIZE for value in stamp.part_hashes) or not stamp.response:
            _broken("a time stamp that is none")
        if not {part_hash(part) for part in receipt.parts} <= set(stamp.part_hashes):
            _broken("a time stamp of another receipt")


def _verify_part(part: verification_pb2.Receipt.Part, verifier: CertificateVerifier) -> ProvedPart:
    request = part.request
    bound = sealed_pb2.SealedRequest(
        header=request.header,
        request_root=request.request_root,
        signature=request.signature,
        certificate=request.certificate,
    )
    if request != bound:
        _broken("what is sealed does not belong here")
    header = parse_header(request.header)
    owner_entry, hub_entry = decode_entry(part.owner_entry.entry), decode_entry(part.hub_entry.entry)
    owner_time, hub_time = _time(header, owner_entry), _time(header, hub_entry)
    signer = verifier.verify(request.certificate, owner_time, kinds=(Kind.SYSTEM,))
    if signer.fingerprint != header.certificate_fingerprint or signer.identity.uri != header.system:
        raise RefusedError(Reason.IDENTITY_MISMATCH, "the header names another system than its certificate")
    signer.verify_signature(request.signature, signature_message(header.hash, part.sealed_hash, request.request_root))
    owner_log = verifier.verify(part.owner_log.certificate, owner_time, kinds=(Kind.ADAPTER,))
    hub_log = verifier.verify(part.hub_log.certificate, hub_time, kinds=(Kind.HUB,))
    if owner_log.identity.department != header.owner:
        raise RefusedError(Reason.IDENTITY_MISMATCH, "the log is not of the owner that was asked")
    checkpoint, hub_checkpoint = _open_head(part.owner_log, owner_log), _open_head(part.hub_log, hub_log)
    check_included(part.owner_entry, checkpoint)
    check_included(part.hub_entry, hub_checkpoint)
    owner, hub = owner_entry.owner_access, hub_entry.hub_access
    for access in (owner, hub):
        _check_access(access, part)
    if owner.cases != header.cases or owner.claims != len(header.claims):
        _broken("the owner's entry is of another number of cases or claims")
    if (
        hub.outcome != audit_pb2.OUTCOME_ANSWERED
        or hub.owner_leaf_hash != leaf_hash(part.owner_entry.entry)
        or hub.owner_index != part.owner_entry.index
        or open_note(hub.owner_checkpoint, checkpoint.origin, owner_log.public_key_raw) != checkpoint
    ):
        _broken("the hub's entry does not name the owner's")
    return ProvedPart(
        header=header,
        requester=signer.identity,
        owner=owner_log.identity,
        owner_time=owner_time,
        owner_index=part.owner_entry.index,
        owner_checkpoint=checkpoint,
        hub=hub_log.identity,
        hub_time=hub_time,
        hub_index=part.hub_entry.index,
        hub_checkpoint=hub_checkpoint,
        cosigned=_open_cosigned(part, hub_checkpoint, hub_log.identity, verifier),
        certificates=(signer, owner_log, hub_log),
        directory_version=owner.directory_version,
        document_version=owner.document_version,
        rule_ids=tuple(owner.rule_ids),
        claims=_verify_claims(part.claims, header, request.request_root, owner.answer_root),
    )


def _time(header: Header, entry: audit_pb2.Entry) -> float:
    time = entry.time.seconds + entry.time.nanos / 1e9
    if not header.issue_time - SKEW <= time <= header.expire_time + LATE:
        _broken("an entry is not of the request's time")
    return float(time)


def _open_head(head: audit_pb2.LogHead, certificate: VerifiedCertificate) -> Checkpoint:
    # Whatever else a head can carry, today or one day, nothing here would bind it.
    bound = audit_pb2.LogHead(checkpoint=head.checkpoint, certificate=head.certificate)
    if head != bound or len(split_note(head.checkpoint)[1]) != 1:
        _broken("a head carries more than a receipt needs")
    return open_note(head.checkpoint, origin_in(head.checkpoint, certificate.identity), certificate.public_key_raw)


def origin_in(note: bytes, keeper: Identity) -> str:
    """Origin of a note in a log of its keeper, which may be of one year.

    Raises:
        RefusedError: PROOF_INVALID: it is of another log.
        CheckpointError: It is no note.
    """
    origin = split_note(note)[0].partition("\n")[0]
    if log_of(origin) != keeper.log_origin:
        _broken("a checkpoint of another log than its keeper's")
    return origin


def _open_cosigned(
    part: verification_pb2.Receipt.Part, hub_checkpoint: Checkpoint, hub: Identity, verifier: CertificateVerifier
) -> CosignedHead | None:
    """The head of the hub's log that the receipt has gained; None if it has none."""
    if not part.HasField("hub_cosigned"):
        return None
    later = part.hub_cosigned
    certificate = verifier.known(later.certificate, kinds=(Kind.HUB,))
    if certificate.identity != hub:
        raise RefusedError(Reason.IDENTITY_MISMATCH, "the cosigned checkpoint is of another hub's log")
    checkpoint = open_note(later.checkpoint, origin_in(later.checkpoint, hub), certificate.public_key_raw)
    tree = earlier_tree(checkpoint, later.opened)
    if tree.origin != hub_checkpoint.origin:
        _broken("the cosigned checkpoint is of another log, and does not lead to that of the entry")
    if tree.size == hub_checkpoint.size and tree.root != hub_checkpoint.root:
        _broken("the hub has two roots of one size")
    logged = part.hub_entry
    check_included(
        audit_pb2.LoggedEntry(entry=logged.entry, index=logged.index, inclusion_path=later.inclusion_path), tree
    )
    return CosignedHead(checkpoint, later.checkpoint, certificate)


def _check_access(access: audit_pb2.OwnerAccess | audit_pb2.HubAccess, part: verification_pb2.Receipt.Part) -> None:
    """An entry of another kind has none of these fields and fails here as well."""
    request = part.request
    if (access.header, access.signature, access.sealed_hash, access.request_root) != (
        request.header,
        request.signature,
        part.sealed_hash,
        request.request_root,
    ):
        _broken("an entry is of another request")


def earlier_tree(checkpoint: Checkpoint, opened: Sequence[audit_pb2.LoggedEntry]) -> Checkpoint:
    """The final tree of an earlier year's log to which a head leads back; its own tree without such entries.

    Raises:
        RefusedError: PROOF_INVALID: it does not.
    """
    tree = checkpoint
    for logged in opened:
        # Years fall with each, so there is an end to it.
        tree = predecessor_of(check_entry(logged, tree), logged.index, tree.origin)
    return tree


def _verify_claims(
    opened: Sequence[verification_pb2.OpenedClaim], header: Header, request_root: bytes, answer_root: bytes
) -> tuple[ProvedClaim, ...]:
    columns = len(header.claims)
    size = header.cases * columns
    claims = []
    seen: set[tuple[int, int]] = set()
    for one in opened:
        if one.case_index >= header.cases or one.claim_index >= columns:
            _broken("a claim that the request does not have")
        if len(one.salt) != SALT_SIZE or len(one.outcome_salt) != HASH_SIZE:
            _broken("a salt of the wrong size")
        seen.add((one.case_index, one.claim_index))
        shape = header.claims[one.claim_index]
        index = one.case_index * columns + one.claim_index
        commitment = claim_commitment(one.salt, one.kind, one.identifier, one.name, one.value)
        verify_inclusion(index, size, commitment, one.commitment_path, request_root)
        leaf = answer_leaf(commitment, one.outcome_salt, one.outcome)
        verify_inclusion(index, size, leaf, one.outcome_path, answer_root)
        claims.append(_proved(one, header, shape))
    if not seen or len(seen) != len(opened) or len({case for case, _ in seen}) != 1:
        _broken("not the claims of one case, each once")
    return tuple(claims)


def _proved(one: verification_pb2.OpenedClaim, header: Header, shape: ClaimShape) -> ProvedClaim:
    slot = header.slots[shape.slot]
    if one.kind != slot.kind:
        _broken("a subject of another kind than its slot")
    code, data_as_of = parse_outcome_bytes(one.outcome)
    text, compared = _compared(one.value, header, shape)
    rest = shape.cell or text
    return ProvedClaim(
        claim=f"{slot.name}: {header.owner}.{shape.attribute} {shape.predicate}" + (f" {rest}" if rest else ""),
        ordinal=slot.ordinal,
        kind=one.kind,
        identifier=one.identifier,
        name=one.name,
        compared=compared,
        compared_ordinal=header.slots[shape.compared_slot].ordinal if shape.compared_slot is not None else 0,
        outcome=Outcome(code),
        data_as_of=data_as_of,
    )


def _compared(value: bytes, header: Header, shape: ClaimShape) -> tuple[str, tuple[str, str, str] | None]:
    """What a claim compared with: as text, and as a subject."""
    if shape.compared_slot is not None:
        slot = header.slots[shape.compared_slot]
        subject = _subject(value[1:])
        if value[:1] != b"\x02" or subject[0] != slot.kind:
            _broken("a compared subject of another kind than its slot")
        return f"@{slot.name}", subject
    if shape.compared_value is not None:
        if value[:1] != b"\x01":
            _broken("a compared value that is none")
        return value[1:].decode(), None
    if value != b"\x00":
        _broken("a compared value where there is none")
    return "", None


def _subject(data: bytes) -> tuple[str, str, str]:
    """Kind, identifier and name out of `subject_bytes`."""
    texts = []
    rest = data
    for _ in range(3):
        size = int.from_bytes(rest[:2], "big")
        texts.append(rest[2 : 2 + size].decode())
        rest = rest[2 + size :]
    kind, identifier, name = texts
    if subject_bytes(kind, identifier, name) != data:
        _broken("a compared subject that cannot be read")
    return kind, identifier, name


def _check_one_case(parts: Sequence[ProvedPart]) -> None:
    """Parts of different applications, each true, must not be put together into one that never was."""
    purposes = {
        (part.header.system, part.header.matter, part.header.reference, part.header.reference_date) for part in parts
    }
    if len(purposes) != 1 or len({part.header.owner for part in parts}) != len(parts):
        _broken("the parts are of different requests")
    subjects: dict[tuple[str, int], tuple[str, str, str]] = {}
    for part in parts:
        for claim in part.claims:
            place = claim.claim.partition(":")[0], claim.ordinal
            opened = [(place, (claim.kind, claim.identifier, claim.name))]
            if claim.compared is not None:
                opened.append(((claim.claim.rpartition("@")[2], claim.compared_ordinal), claim.compared))
            for where, subject in opened:
                if subjects.setdefault(where, subject) != subject:
                    _broken("two subjects in one place")


def _broken(detail: str) -> NoReturn:
    raise RefusedError(Reason.PROOF_INVALID, detail)
