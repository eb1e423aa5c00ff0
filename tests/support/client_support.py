"""The requester's side without a socket: real certificates, a real directory, honest owners and a hub as functions.

world = World(tmp_path)
sealed = world.seal(world.prepare(case))          # one request for each owner
delivery = world.deliver(sealed[0])               # what a hub would return, proofs and all
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from Crypto.PublicKey import ECC
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import policy_support
from audit.checkpoint import Checkpoint, sign, split_note
from audit.cosignature import add_cosignatures, cosign
from audit.entry import encode_entry
from audit.proofs import HeadChecker
from certs.sealing import Opener, SealingContext
from certs.signing import CertificateVerifier, Signer
from certs_support import City
from exchange.client.case import Case, Context, Subject
from exchange.client.check import Answered, Delivery, Frame
from exchange.client.plan import Prepared
from exchange.client.question import Questions
from exchange.client.seal import Sealed, seal
from policy.centre import parse_centre, parse_matter
from policy.document import parse_document
from policy.model import Directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.commitments import answer_tree, claim_commitments
from zhiwang.wire.header import parse_header
from zhiwang.wire.identity import Kind
from zhiwang.wire.merkle import Tree, leaf_hash
from zhiwang.wire.profile import Defaults
from zhiwang.wire.records import Answers, Outcome, decode_answers, decode_records, encode_answers
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey

TODAY = date(2026, 9, 15)
CONTEXT = Context("school-enrolment", "2026-000123", "clerk-17", "edu/enrolment-clerk", "nbs:440306")


def resident(first: str) -> str:
    """A resident identifier out of its first 17 digits (GB 11643)."""
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(first))
    return first + "10X98765432"[total % 11]


CHILD = resident("44039920190101001")
"""People who do not exist: the prefix 440399 is not assigned."""
MOTHER = resident("44039919880505002")
FATHER = resident("44039919860606003")

CASE = Case((Subject("child", CHILD, "小明"), Subject("guardian", MOTHER, "李·梅")))


def directory(**changed: Any) -> Directory:
    """The example directory of `policy_support`, without signatures."""
    fields: dict[str, Any] = {
        "version": 7,
        "role_versions": MappingProxyType({}),
        "expires": time.time() + 86_400,
        "centre": parse_centre(policy_support.CENTRE.encode()),
        "documents": {
            name: parse_document(text.encode(), version=3) for name, text in policy_support.DOCUMENTS.items()
        },
        "matters": {name: parse_matter(text.encode()) for name, text in policy_support.MATTERS.items()},
        "timestamp_hash": bytes(32),
    }
    return Directory(**(fields | changed))


class Log:
    """A log in memory, with some entries of others before ours. `shard` stands behind its origin."""

    def __init__(self, signer: Signer, before: int = 5, shard: str = "") -> None:
        self.signer = signer
        self.origin = signer.identity.log_origin + shard
        self._leaves = [leaf_hash(os.urandom(8)) for _ in range(before)]

    def append(self, event: Any, *, at: float) -> audit_pb2.LoggedEntry:
        data = encode_entry(event, nonce=os.urandom(16), time=at)
        self._leaves.append(leaf_hash(data))
        tree = Tree(self._leaves)
        index = tree.size - 1
        return audit_pb2.LoggedEntry(entry=data, index=index, inclusion_path=tree.path(index))

    @property
    def checkpoint(self) -> Checkpoint:
        tree = Tree(self._leaves)
        return Checkpoint(self.origin, tree.size, tree.root)

    def grow(self, count: int) -> None:
        """Entries of others."""
        self._leaves += [leaf_hash(os.urandom(8)) for _ in range(count)]

    def path(self, index: int) -> list[bytes]:
        """Of an entry in the tree of now."""
        return Tree(self._leaves).path(index)

    def head(self) -> audit_pb2.LogHead:
        signer = self.signer
        note = sign(self.checkpoint, self.origin, signer.public_key_raw, signer.sign)
        return audit_pb2.LogHead(checkpoint=note, certificate=signer.certificate_der)


class World:
    """A requester, its owners and a hub."""

    def __init__(self, path: Path) -> None:
        self.city = City.create(path / "city")
        self.verifier = CertificateVerifier(self.city.ca_pem, frozenset)
        self.signer = self.city.enrol("edu/system/enrolment").signer()
        self.hub = Log(self.city.enrol("dsjj/hub/main").signer())
        self.directory = directory()
        self.questions = Questions(Defaults())
        self._private = ECC.generate(curve="Curve25519")
        self._opener = Opener(lambda _key_id: self._private)
        self._owners: dict[str, Log] = {}
        self._contexts: dict[str, SealingContext] = {}

    def owner(self, department: str) -> Log:
        log = self._owners.get(department)
        if log is None:
            log = self._owners[department] = Log(self.city.enrol(f"{department}/adapter/main").signer())
        return log

    def prepare(self, *cases: Case, context: Context = CONTEXT) -> list[Prepared]:
        planner = self.questions.planner(context.matter, self.directory)
        return [planner.prepare(case, TODAY) for case in cases or (CASE,)]

    def seal(self, cases: Sequence[Prepared], *, now: float | None = None, bulk: bool = False) -> list[Sealed]:
        question = self.questions.question(CONTEXT, self.directory, TODAY)
        moment = time.time() if now is None else now
        return [
            seal(
                part, question.purpose, cases, self.context(part.owner), self.signer, now=moment, lifetime=10, bulk=bulk
            )
            for part in cases[0].plan.parts
        ]

    def context(self, owner: str) -> SealingContext:
        context = self._contexts.get(owner)
        if context is None:
            public = self._private.public_key().export_key(format="raw")
            context = self._contexts[owner] = SealingContext(owner, bytes(16), public)
        return context

    def deliver(
        self,
        sealed: Sealed,
        *,
        outcomes: bytes | None = None,
        denied: Sequence[int] = (),
        change_owner: Callable[[audit_pb2.OwnerAccess], None] = lambda _event: None,
        change_hub: Callable[[audit_pb2.HubAccess], None] = lambda _event: None,
        change_result: Callable[[exchange_pb2.ExchangeResult], None] = lambda _result: None,
        owner_head: Callable[[audit_pb2.LogHead], audit_pb2.LogHead] = lambda head: head,
    ) -> Delivery:
        """What comes back for a request: opened, answered, recorded at the owner, recorded at the hub."""
        request = sealed.request
        header = parse_header(request.header)
        plaintext, sealer = self._opener.open(
            header.certificate_fingerprint,
            header.owner_key_id,
            request.enc,
            header.hash,
            request.nonce,
            request.ciphertext,
        )
        commitments = claim_commitments(header, decode_records(header, plaintext))
        row = bytes(Outcome.DENIED_BY_HUB if i in denied else Outcome.YES for i in range(len(header.claims)))
        answers = Answers(os.urandom(32), (1_700_000_000,) * len(header.claims), outcomes or row * header.cases)
        nonce, ciphertext = sealer.seal(encode_answers(header, answers))
        common: dict[str, Any] = {
            "header": request.header,
            "signature": request.signature,
            "sealed_hash": sealed.sealed_hash,
            "request_root": request.request_root,
        }
        log = self.owner(header.owner)
        at = header.issue_time + 0.01
        access = audit_pb2.OwnerAccess(
            **common,
            answer_root=answer_tree(header, commitments, answers).root,
            cases=header.cases,
            claims=len(header.claims),
            denied_claims=denied,
        )
        change_owner(access)
        owner_entry = log.append(access, at=at)
        head = owner_head(log.head())
        routed = audit_pb2.HubAccess(
            **common,
            outcome=audit_pb2.OUTCOME_ANSWERED,
            denied_claims=denied,
            owner_leaf_hash=leaf_hash(owner_entry.entry),
            owner_index=owner_entry.index,
            owner_checkpoint=head.checkpoint,
        )
        change_hub(routed)
        result = exchange_pb2.ExchangeResult(
            outcome=audit_pb2.OUTCOME_ANSWERED,
            reply=sealed_pb2.SealedReply(nonce=nonce, ciphertext=ciphertext),
            owner_entry=owner_entry,
            hub_entry=self.hub.append(routed, at=at + 0.01),
            denied_claims=denied,
        )
        change_result(result)
        return Delivery(result, self.frame([head]), 0)

    def refuse(self, sealed: Sealed, reason: str, outcome: audit_pb2.Outcome.ValueType) -> Delivery:
        """A refusal, recorded at the hub."""
        request = sealed.request
        event = audit_pb2.HubAccess(
            header=request.header,
            signature=request.signature,
            sealed_hash=sealed.sealed_hash,
            request_root=request.request_root,
            outcome=outcome,
            reason=reason,
        )
        result = exchange_pb2.ExchangeResult(
            outcome=outcome, reason=reason, hub_entry=self.hub.append(event, at=time.time())
        )
        return Delivery(result, self.frame([]), 0)

    def frame(self, owner_logs: Sequence[audit_pb2.LogHead]) -> Frame:
        return Frame(self.hub.head(), self.hub.checkpoint, owner_logs, self._check_owner)

    def _check_owner(self, department: str, head: audit_pb2.LogHead) -> Checkpoint:
        checker = HeadChecker(
            self.verifier, kinds={Kind.ADAPTER}, expected=lambda identity: identity.department == department
        )
        return checker.check(head)


def unchecked(world: World, sealed: Sealed, **changes: Any) -> Answered:
    """What came back, as if nobody had checked it."""
    delivery = world.deliver(sealed, **changes)
    reply = delivery.result.reply
    opened = decode_answers(sealed.header, sealed.context.open_reply(sealed.header.hash, reply.nonce, reply.ciphertext))
    return Answered(sealed, opened, answer_tree(sealed.header, sealed.commitments, opened), delivery)


class Witness:
    """Somebody who cosigns, whatever it is shown. A real one (`audit/witness.py`) looks first."""

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.vkey = VerifierKey(name, self._key.public_key().public_bytes_raw(), ALGORITHM_COSIGNATURE)

    def cosign(self, note: bytes, time: float) -> bytes:
        return add_cosignatures(note, [cosign(split_note(note)[0], self.vkey, self._key.sign, int(time))])


def complete(world: World, receipt: verification_pb2.Receipt, witnesses: Sequence[Witness], at: float) -> None:
    """Give a receipt the hub's log of now, cosigned."""
    head = world.hub.head()
    note = head.checkpoint
    for witness in witnesses:
        note = witness.cosign(note, at)
    for part in receipt.parts:
        part.hub_cosigned.CopyFrom(
            verification_pb2.CosignedProof(
                checkpoint=note,
                certificate=head.certificate,
                inclusion_path=world.hub.path(part.hub_entry.index),
            )
        )
