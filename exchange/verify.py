"""One request at the hub, from what arrived to what is recorded and returned. Decisions only: no I/O, no clock.

`Examiner.examine` decides whether a sealed request can be trusted and what policy says of it. `check_reply` decides
whether what an owner's adapter returned is what it must be. `access_event` says what the hub's log keeps. The hub sees
neither subject nor compared value nor answer, so none of this can tell one from another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from audit.checkpoint import Checkpoint
from audit.entry import EntryError, decode_entry
from audit.proofs import check_included
from certs.identity import Identity, Kind
from certs.signing import CertificateVerifier, VerifiedCertificate
from policy.authorise import Authorisation
from policy.enforcer import Decision
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.commitments import sealed_hash, signature_message
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.header import Header, check_envelope, check_sealed_size, check_times, parse_header

UNAVAILABLE_STATUSES = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
"""gRPC statuses of reasons that say "not now" rather than "not you"."""

SIGNERS = frozenset({Kind.SYSTEM})
"""Kinds of identity that may sign a request."""


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A request that was refused before anything in it could be believed.

    Attributes:
        reason: Public reason.
        header_hash: SHA-256 of the header's bytes; empty if there were none.
        clock_offset_ms: For CLOCK_SKEW, the hub's time minus the header's.
    """

    reason: Reason
    header_hash: bytes
    clock_offset_ms: int = 0


@dataclass(slots=True)
class Access:
    """A request that its system signed, and what policy says of it.

    Attributes:
        request: As it arrived; forwarded and recorded byte for byte.
        header: Its header, parsed.
        sealed_hash: SHA-256 of enc, nonce and ciphertext.
        directory_version: Snapshot by which the hub decided; 0 if it came to no decision about claims.
        denied: Indexes of claim shapes that the hub denied.
        rule_ids: Grants that allow, one text for each claim shape.
        reason: Why nothing of it reaches the owner; None if it may be forwarded.
    """

    request: sealed_pb2.SealedRequest
    header: Header
    sealed_hash: bytes
    directory_version: int = 0
    denied: tuple[int, ...] = ()
    rule_ids: tuple[str, ...] = ()
    reason: Reason | None = None


def outcome_of(reason: Reason, otherwise: audit_pb2.Outcome.ValueType) -> audit_pb2.Outcome.ValueType:
    """The outcome that goes with a reason: UNAVAILABLE if it says "not now"; `otherwise` if it says "not so"."""
    return audit_pb2.OUTCOME_UNAVAILABLE if reason.status in UNAVAILABLE_STATUSES else otherwise


class Examiner:
    """Decides about requests as they arrive.

    Args:
        verifier: Checks the certificates that sign requests.
        authorise: policy's decision about a header that its system signed.
    """

    def __init__(
        self,
        verifier: CertificateVerifier,
        authorise: Callable[[Header, Identity, float], Authorisation],
    ) -> None:
        self._verifier = verifier
        self._authorise = authorise

    def examine(self, request: sealed_pb2.SealedRequest, peer: Identity, now: float) -> Access | Untrusted:
        """Check a request in the order of docs/protocol.md: form, times, certificate, signature, policy.

        Args:
            request: What arrived.
            peer: Whom TLS proved.
            now: Seconds since the epoch.
        """
        try:
            check_envelope(request)
            header = parse_header(request.header)
            check_sealed_size(header, len(request.ciphertext))
            check_times(header, now)
            certificate = self._verifier.verify(request.certificate, now, kinds=SIGNERS)
            check_identities(header, certificate, peer)
            sealed = sealed_hash(request.enc, request.nonce, request.ciphertext)
            certificate.verify_signature(
                request.signature, signature_message(header.hash, sealed, request.request_root)
            )
        except RefusedError as error:
            raw = request.header
            return Untrusted(
                error.reason, sha256(raw).digest() if raw else b"", int(error.metadata.get("clock_offset_ms", "0"))
            )
        access = Access(request, header, sealed)
        try:
            authorisation = self._authorise(header, certificate.identity, now)
        except ZhiwangError as error:
            access.reason = error.reason
            return access
        decisions = authorisation.decisions
        access.directory_version = authorisation.directory_version
        access.rule_ids = tuple(decision.rules_text if decision.allowed else "" for decision in decisions)
        access.denied = authorisation.denied
        if len(access.denied) == len(decisions):
            access.reason = common_reason(decisions)
        return access


def common_reason(decisions: Sequence[Decision]) -> Reason:
    """Why all of them deny: the reason that they share, else that nothing was granted."""
    reasons = {decision.reason or Reason.NOT_GRANTED for decision in decisions}
    return reasons.pop() if len(reasons) == 1 else Reason.NOT_GRANTED


def check_identities(header: Header, certificate: VerifiedCertificate, peer: Identity) -> None:
    """Check that header, signing certificate and TLS peer belong together.

    Raises:
        RefusedError: IDENTITY_MISMATCH.
    """
    system = certificate.identity
    if certificate.fingerprint != header.certificate_fingerprint or system.uri != header.system:
        raise RefusedError(Reason.IDENTITY_MISMATCH, "the header names another system than its certificate")
    if peer.kind is Kind.SYSTEM:
        belongs = peer == system
    else:
        belongs = peer.kind is Kind.AGENT and (peer.city, peer.department) == (system.city, system.department)
    if not belongs:
        raise RefusedError(Reason.IDENTITY_MISMATCH, "the connection belongs to another than the signing system")


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """The owner's entry, proved.

    Attributes:
        leaf_hash: RFC 6962 leaf hash of the entry.
        index: Its index in the owner's log.
    """

    leaf_hash: bytes
    index: int


def check_reply(access: Access, item: adapter_pb2.ReplyFrame.Item, checkpoint: Checkpoint | None) -> OwnerRecord:
    """Check an owner's reply against the request that it answers and the checkpoint that was verified for its frame.

    Args:
        access: The request.
        item: The reply, which carries no refusal.
        checkpoint: Of the owner's log; None if the frame had none that verifies.

    Raises:
        RefusedError: PROOF_INVALID.
    """
    if checkpoint is None:
        raise RefusedError(Reason.PROOF_INVALID, "no checkpoint that verifies comes with the reply")
    request, header = access.request, access.header
    leaf = check_included(item.entry, checkpoint)
    try:
        entry = decode_entry(item.entry.entry)
    except EntryError as error:
        raise RefusedError(Reason.PROOF_INVALID, f"owner's entry: {error}") from error
    owner = entry.owner_access
    if not (
        entry.WhichOneof("event") == "owner_access"
        and owner.header == request.header
        and owner.signature == request.signature
        and owner.sealed_hash == access.sealed_hash
        and owner.request_root == request.request_root
        and owner.cases == header.cases
        and owner.claims == len(header.claims)
        and set(access.denied) <= set(owner.denied_claims)
    ):
        raise RefusedError(Reason.PROOF_INVALID, "the owner's entry is not of this request")
    if not item.reply.ciphertext:
        raise RefusedError(Reason.PROOF_INVALID, "the owner's reply holds no answers")
    return OwnerRecord(leaf, item.entry.index)


def known_reason(name: str) -> Reason:
    """The reason that an adapter gave; OWNER_FAILED for a word outside the catalogue, which is never passed on."""
    try:
        return Reason[name]
    except KeyError:
        return Reason.OWNER_FAILED


def access_event(
    access: Access,
    outcome: audit_pb2.Outcome.ValueType,
    reason: Reason | None,
    owner: OwnerRecord | None = None,
    owner_checkpoint: bytes = b"",
) -> audit_pb2.HubAccess:
    """What the hub's log keeps of a request."""
    request = access.request
    event = audit_pb2.HubAccess(
        header=request.header,
        signature=request.signature,
        sealed_hash=access.sealed_hash,
        request_root=request.request_root,
        outcome=outcome,
        reason=reason.name if reason else "",
        directory_version=access.directory_version,
        rule_ids=access.rule_ids,
        denied_claims=access.denied,
    )
    if owner is not None:
        event.owner_leaf_hash = owner.leaf_hash
        event.owner_index = owner.index
        event.owner_checkpoint = owner_checkpoint
    return event


def result(
    outcome: audit_pb2.Outcome.ValueType, reason: Reason | None, denied: tuple[int, ...] = (), clock_offset_ms: int = 0
) -> exchange_pb2.ExchangeResult:
    """What the requester is told, before the entries are added to it."""
    return exchange_pb2.ExchangeResult(
        outcome=outcome,
        reason=reason.name if reason else "",
        denied_claims=denied,
        clock_offset_ms=clock_offset_ms,
    )
