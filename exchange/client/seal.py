"""One request to one owner: header, seal, signature; and what is needed later to check its answer.

Everything here happens once for a request. A retry sends the same message again; what needs another header needs
another `seal`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from certs.sealing import SealingContext
from certs.signing import Signer
from exchange.client.plan import Part, Prepared
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.commitments import claim_commitments, sealed_hash, signature_message
from zhiwang.wire.header import MAX_LIFETIME, REQUEST_ID_SIZE, SALT_SIZE, SUITE, Header, parse_header
from zhiwang.wire.merkle import Tree
from zhiwang.wire.records import CaseRecord, decode_records, encode_records


class Purpose(NamedTuple):
    """Why one asks, in full: a context in which nothing is left to a default.

    Attributes:
        reference_date: "YYYY-MM-DD".
        assurance: How well the official is known; a number of the wire's Assurance.
        min_policy_version: Least version of the directory; 0 for any.
    """

    role: str
    official: str
    assurance: int
    reference: str
    reference_date: str
    jurisdiction: str
    min_policy_version: int = 0


class Sealed:
    """A request as it goes out, and what its answer is checked against. Nothing in it changes.

    Attributes:
        request: The message; a retry sends it again.
        header: Its header, parsed.
        records: The case records that it holds.
        commitments: To every claim of every case, case-major.
        tree: Over them.
        sealed_hash: What the signature covers of the sealed part.
        context: Opens the reply.
    """

    __slots__ = ("commitments", "context", "header", "records", "request", "sealed_hash", "tree")

    def __init__(
        self,
        request: sealed_pb2.SealedRequest,
        header: Header,
        records: Sequence[CaseRecord],
        commitments: Sequence[bytes],
        tree: Tree,
        sealed: bytes,
        context: SealingContext,
    ) -> None:
        self.request = request
        self.header = header
        self.records = records
        self.commitments = commitments
        self.tree = tree
        self.sealed_hash = sealed
        self.context = context


def header_message(
    part: Part,
    purpose: Purpose,
    signer: Signer,
    *,
    request_id: bytes,
    key_id: bytes,
    cases: int,
    now: float,
    lifetime: float,
    bulk: bool,
) -> sealed_pb2.Header:
    """The clear header of a request.

    Args:
        part: What the owner is asked.
        purpose: Why.
        signer: Of the system that asks.
        request_id: 128 random bits.
        key_id: Of the owner's key.
        cases: How many.
        now: Seconds since the epoch.
        lifetime: As of `seal`.
        bulk: Whether nobody waits at a counter.
    """
    message = sealed_pb2.Header()
    message.CopyFrom(part.header)
    message.suite = SUITE
    message.request_id = request_id
    message.system = signer.identity.uri
    message.certificate_fingerprint = signer.fingerprint
    message.role = purpose.role
    message.official = purpose.official
    message.assurance = purpose.assurance  # type: ignore[assignment]  # an open enum: its numbers are ints
    message.reference = purpose.reference
    message.reference_date = purpose.reference_date
    message.jurisdiction = purpose.jurisdiction
    message.min_policy_version = purpose.min_policy_version
    message.owner_key_id = key_id
    message.cases = cases
    message.priority = sealed_pb2.PRIORITY_BULK if bulk else sealed_pb2.PRIORITY_INTERACTIVE
    issued = int(now * 1000)
    expires = issued + int(min(lifetime, MAX_LIFETIME) * 1000)
    message.issue_time.seconds, milliseconds = divmod(issued, 1000)
    message.issue_time.nanos = milliseconds * 1_000_000
    message.expire_time.seconds, milliseconds = divmod(expires, 1000)
    message.expire_time.nanos = milliseconds * 1_000_000
    return message


def reopen(request: sealed_pb2.SealedRequest, context: SealingContext) -> Sealed:
    """A request that this system sealed before, as `seal` returned it.

    Args:
        request: As it was sent.
        context: Under which it was sealed.

    Raises:
        RefusedError: SEAL_BROKEN or REQUEST_MALFORMED: it is not whole.
    """
    header = parse_header(request.header)
    records = decode_records(header, context.open_request(header.hash, request.nonce, request.ciphertext))
    commitments = claim_commitments(header, records)
    covered = sealed_hash(request.enc, request.nonce, request.ciphertext)
    return Sealed(request, header, records, commitments, Tree(commitments), covered, context)


def seal(
    part: Part,
    purpose: Purpose,
    cases: Sequence[Prepared],
    context: SealingContext,
    signer: Signer,
    *,
    now: float,
    lifetime: float,
    bulk: bool,
    random: Callable[[int], bytes] = os.urandom,
) -> Sealed:
    """Seal some cases of one plan for one owner.

    Args:
        part: What the owner is asked.
        purpose: Why.
        cases: Of the part's plan.
        context: Of a key of the owner.
        signer: Of the system that asks.
        now: Seconds since the epoch.
        lifetime: Seconds for which the request may be processed; more than the protocol's limit counts as the limit.
        bulk: Whether nobody waits at a counter.
        random: Gives random bytes.

    Raises:
        RefusedError: What is wrong with the header, e.g. REFERENCE_INVALID or TOO_MANY_CLAIMS; VALUE_INVALID for a
            compared value that is too long.
    """
    entropy = random(REQUEST_ID_SIZE + SALT_SIZE * len(cases))
    message = header_message(
        part,
        purpose,
        signer,
        request_id=entropy[:REQUEST_ID_SIZE],
        key_id=context.key_id,
        cases=len(cases),
        now=now,
        lifetime=lifetime,
        bulk=bulk,
    )
    raw = message.SerializeToString(deterministic=True)
    header = parse_header(raw)
    salts = range(REQUEST_ID_SIZE, len(entropy), SALT_SIZE)
    records = [part.record(case, entropy[at : at + SALT_SIZE]) for case, at in zip(cases, salts, strict=True)]
    nonce, ciphertext = context.seal(header.hash, encode_records(header, records))
    commitments = claim_commitments(header, records)
    covered = sealed_hash(context.enc, nonce, ciphertext)
    tree = Tree(commitments)
    root = tree.root
    request = sealed_pb2.SealedRequest(
        header=raw,
        enc=context.enc,
        nonce=nonce,
        ciphertext=ciphertext,
        request_root=root,
        signature=signer.sign(signature_message(header.hash, covered, root)),
        certificate=signer.certificate_der,
    )
    return Sealed(request, header, records, commitments, tree, covered, context)
