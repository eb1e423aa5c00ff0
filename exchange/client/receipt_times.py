"""When the entries of a receipt were made, by whose word; and what was revoked, before or since.

An entry's time is its log's own clock, held between the times that the requester signed, and two logs say it. Whoever
stole a key could still write an old time. Against that stand words of others that the entry was there at a time: of
witnesses who cosigned the hub's tree, and of time-stamping authorities. A certificate that was revoked before the entry
voids the receipt; one that was revoked since does not, and then the question is whose word tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from cryptography import x509

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
        revocations: What was revoked; None if that is not to be asked.
        tsa_roots: Certificates of time-stamping authorities.
    """

    verifier: CertificateVerifier
    revocations: Revocations | None = None
    tsa_roots: tuple[x509.Certificate, ...] = ()


class Word(StrEnum):
    """By whose word an entry is older than a revocation, from the best down."""

    TIME_STAMP = "time stamp"
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


@dataclass(frozen=True, slots=True)
class Proved:
    """A receipt that holds.

    Attributes:
        parts: What each owner answered.
        stamps: Time stamps that were checked; none without roots for them.
        unchecked_stamps: How many were not.
        revoked_since: What was revoked after the entries were made.
        revocations_as_of: When the list was made by which that was asked; None if it was not.
    """

    parts: tuple[ProvedPart, ...]
    stamps: tuple[Stamped, ...]
    unchecked_stamps: int
    revoked_since: tuple[RevokedSince, ...]
    revocations_as_of: float | None


def prove(receipt: verification_pb2.Receipt, trust: Trust) -> Proved:
    """Check everything about a receipt that can be checked with what is trusted.

    Raises:
        RefusedError: As `verify_receipt` and `verify_stamps`; CERTIFICATE_REVOKED: before an entry was made.
        FatalError: INTERNAL: a time stamp is to be checked, and the extra dependency is missing.
    """
    parts = verify_receipt(receipt, trust.verifier)
    stamps = verify_stamps(receipt, trust.tsa_roots) if trust.tsa_roots else ()
    for part in parts:
        _check_order(part, stamps)
    since: tuple[RevokedSince, ...] = ()
    if trust.revocations is not None:
        since = tuple(_revoked_since(parts, trust.revocations, stamps))
    return Proved(
        parts=parts,
        stamps=stamps,
        unchecked_stamps=len(receipt.time_stamps) - len(stamps),
        revoked_since=since,
        revocations_as_of=None if trust.revocations is None else trust.revocations.as_of,
    )


def _check_order(part: ProvedPart, stamps: Sequence[Stamped]) -> None:
    """Nobody can have seen an entry before it was made."""
    for stamp in stamps:
        if stamp.time < part.hub_time - LATE:
            raise RefusedError(Reason.PROOF_INVALID, "a time stamp is older than the entry under it says to be")


def _revoked_since(
    parts: Sequence[ProvedPart], revocations: Revocations, stamps: Sequence[Stamped]
) -> dict[RevokedSince, None]:
    """What was revoked after the entries, each once.

    Raises:
        RefusedError: CERTIFICATE_REVOKED: before them; or PROOF_INVALID: the list is older than they are.
    """
    since: dict[RevokedSince, None] = {}
    for part in parts:
        if revocations.as_of < part.hub_time:
            raise RefusedError(
                Reason.PROOF_INVALID, "the revocation list was made before the entries; have a newer one"
            )
        for certificate in part.certificates:
            revoked = revocations.times.get(certificate.serial)
            if revoked is None:
                continue
            made = part.hub_time if certificate.identity.kind is Kind.HUB else part.owner_time
            if revoked <= made:
                raise RefusedError(
                    Reason.CERTIFICATE_REVOKED, f"{certificate.identity.short}: revoked before the entry was made"
                )
            since[RevokedSince(certificate, revoked, _word(certificate, part, revoked, stamps))] = None
    return since


def _word(certificate: VerifiedCertificate, part: ProvedPart, revoked: float, stamps: Sequence[Stamped]) -> Word:
    if any(stamp.time < revoked for stamp in stamps):
        return Word.TIME_STAMP
    # The hub's log names request and owner's entry; a hub that would lie for the thief is somebody else.
    if certificate.identity.kind is not Kind.HUB and part.hub_time < revoked:
        return Word.HUB
    return Word.OWN
