"""When the entries of a receipt were made, by whose word; and what was revoked, before or since.

An entry's time is its log's own clock, held between the times that the requester signed, and two logs say it. Whoever
stole a key could still write an old time. Against that stand words of others that the entry was there at a time: of
witnesses who cosigned the hub's tree, and of time-stamping authorities. A certificate that was revoked before the entry
voids the receipt; one that was revoked since does not, and then the question is whose word tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from cryptography import x509

from audit.checkpoint import CheckpointError, split_note
from audit.cosignature import Cosignature, WitnessPolicy
from certs.revocation import RevocationList
from certs.signing import CertificateVerifier, VerifiedCertificate
from exchange.client.receipt_verify import LATE, ProvedPart, verify_receipt
from exchange.client.time_stamps import Stamped, verify_stamps
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind


class Revocations(NamedTuple):
    """What the city's authority revoked.

    Attributes:
        times: When each certificate was revoked, by its serial number.
        as_of: When the list was made.
    """

    times: Mapping[int, float]
    as_of: float

    @classmethod
    def of_list(cls, listed: RevocationList) -> Self:
        """What a verified list says."""
        return cls(listed.times, listed.this_update)


@dataclass(frozen=True, slots=True)
class Trust:
    """What whoever verifies a receipt relies on.

    Attributes:
        verifier: Of the city's certificates.
        witnesses: Whose cosignatures count, of whom a quorum is demanded; None if none is.
        revocations: What was revoked; None if that is not to be asked.
        tsa_roots: Certificates of time-stamping authorities.
    """

    verifier: CertificateVerifier
    witnesses: WitnessPolicy | None = None
    revocations: Revocations | None = None
    tsa_roots: tuple[x509.Certificate, ...] = ()


class Word(StrEnum):
    """By whose word an entry is older than a revocation, from the best down."""

    TIME_STAMP = "time stamp"
    WITNESSES = "witnesses"
    HUB = "hub"
    OWN = "own clock"


class RevokedSince(NamedTuple):
    """A certificate that was revoked after the entries were made.

    Attributes:
        certificate: Which one.
        time: When it was revoked.
        word: By whose word the entries are older.
    """

    certificate: VerifiedCertificate
    time: float
    word: Word


class Witnessed(NamedTuple):
    """What witnesses say of the hub's log of one part.

    Attributes:
        cosignatures: Of witnesses that count, newest first.
        time: A quorum of them had seen the entry at this time, by their own clocks.
    """

    cosignatures: tuple[Cosignature, ...]
    time: float


@dataclass(frozen=True, slots=True)
class Proved:
    """A receipt that holds.

    Attributes:
        parts: What each owner answered.
        witnessed: What witnesses say of each part; none if no quorum was demanded.
        unchecked_cosignatures: How many signatures of others are in the cosigned checkpoints, if none was demanded.
        stamps: Time stamps that were checked; none without roots for them.
        unchecked_stamps: How many were not.
        revoked_since: What was revoked after the entries were made.
        revocations_as_of: When the list was made by which that was asked; None if it was not.
    """

    parts: tuple[ProvedPart, ...]
    witnessed: tuple[Witnessed, ...]
    unchecked_cosignatures: int
    stamps: tuple[Stamped, ...]
    unchecked_stamps: int
    revoked_since: tuple[RevokedSince, ...]
    revocations_as_of: float | None


def prove(receipt: verification_pb2.Receipt, trust: Trust) -> Proved:
    """Check everything about a receipt that can be checked with what is trusted.

    Raises:
        RefusedError: As `verify_receipt` and `verify_stamps`; NOT_WITNESSED: a part has no quorum of witnesses;
            CERTIFICATE_REVOKED: before an entry was made.
        FatalError: INTERNAL: a time stamp is to be checked, and the extra dependency is missing.
    """
    parts = verify_receipt(receipt, trust.verifier)
    stamps = verify_stamps(receipt, trust.tsa_roots) if trust.tsa_roots else ()
    witnessed = () if trust.witnesses is None else tuple(_witnessed(part, trust.witnesses) for part in parts)
    bounds = [_Bounds(min((stamp.time for stamp in stamps), default=None), None) for _ in parts]
    if witnessed:
        bounds = [_Bounds(stamped, said.time) for (stamped, _), said in zip(bounds, witnessed, strict=True)]
    since: dict[RevokedSince, None] = {}
    for part, seen in zip(parts, bounds, strict=True):
        _check_order(part, seen)
        if trust.revocations is not None:
            since |= _revoked_since(part, trust.revocations, seen)
    return Proved(
        parts=parts,
        witnessed=witnessed,
        unchecked_cosignatures=0 if witnessed else sum(map(_others, parts)),
        stamps=stamps,
        unchecked_stamps=len(receipt.time_stamps) - len(stamps),
        revoked_since=tuple(since),
        revocations_as_of=None if trust.revocations is None else trust.revocations.as_of,
    )


class _Bounds(NamedTuple):
    """When others had seen an entry, at the latest: a time-stamping authority, and a quorum of witnesses."""

    stamped: float | None
    witnessed: float | None


def _witnessed(part: ProvedPart, policy: WitnessPolicy) -> Witnessed:
    owner = part.header.owner
    if part.cosigned is None:
        raise RefusedError(Reason.NOT_WITNESSED, f"{owner}: no cosigned checkpoint; see `receipt complete`")
    try:
        found = policy.cosignatures(part.cosigned.note)
    except CheckpointError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"{owner}: the cosigned checkpoint: {error}") from None
    if len(found) < policy.quorum:
        raise RefusedError(
            Reason.NOT_WITNESSED, f"{owner}: {len(found)} of the witnesses cosigned, and {policy.quorum} must have"
        )
    # The quorum that saw it first: whoever of them is honest had the entry in its tree by then.
    return Witnessed(found, float(found[-policy.quorum].time))


def _others(part: ProvedPart) -> int:
    """Signatures in a cosigned checkpoint beside the log's own."""
    return 0 if part.cosigned is None else len(split_note(part.cosigned.note)[1]) - 1


def _check_order(part: ProvedPart, seen: _Bounds) -> None:
    """Nobody can have seen an entry before it was made."""
    for word, time in ((Word.TIME_STAMP, seen.stamped), (Word.WITNESSES, seen.witnessed)):
        if time is not None and time < part.hub_time - LATE:
            raise RefusedError(Reason.PROOF_INVALID, f"{part.header.owner}: the word of {word} is older than the entry")


def _revoked_since(part: ProvedPart, revocations: Revocations, seen: _Bounds) -> dict[RevokedSince, None]:
    """What was revoked after the entries, each once.

    Raises:
        RefusedError: CERTIFICATE_REVOKED: before them; or PROOF_INVALID: the list is older than they are.
    """
    if revocations.as_of < part.hub_time:
        raise RefusedError(Reason.PROOF_INVALID, "the revocation list was made before the entries; have a newer one")
    since: dict[RevokedSince, None] = {}
    for certificate in part.certificates:
        revoked = revocations.times.get(certificate.serial)
        if revoked is None:
            continue
        made = part.hub_time if certificate.identity.kind is Kind.HUB else part.owner_time
        if revoked <= made:
            raise RefusedError(
                Reason.CERTIFICATE_REVOKED, f"{certificate.identity.short}: revoked before the entry was made"
            )
        since[RevokedSince(certificate, revoked, _word(certificate, part, revoked, seen))] = None
    return since


def _word(certificate: VerifiedCertificate, part: ProvedPart, revoked: float, seen: _Bounds) -> Word:
    """The best word that the entry is older than the revocation."""
    if seen.stamped is not None and seen.stamped < revoked:
        return Word.TIME_STAMP
    if seen.witnessed is not None and seen.witnessed < revoked:
        return Word.WITNESSES
    # The hub's log names request and owner's entry; a hub that would lie for the thief is somebody else.
    if certificate.identity.kind is not Kind.HUB and part.hub_time < revoked:
        return Word.HUB
    return Word.OWN
