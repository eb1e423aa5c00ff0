"""A city within this process, which stands in for hub and owners behind a client: the mock's.

It decides by the hub's own code over the documents that it is given, answers by the cast of `personas.py`, records,
proves and seals, so that the client opens and checks all of it as it would a real city's. Its keys are made at the
start, exist in memory only and belong to a city called "mock": nothing that it gives verifies against the roots of any
other. Each request stands alone in logs of one entry, since nobody compares them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from Crypto.PublicKey import ECC

from audit.checkpoint import Checkpoint, sign
from audit.entry import Event, encode_entry
from certs.ca import Authority
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, Identity, write_public
from certs.owner_keys import KEY_ID_SIZE, KEY_LIFE
from certs.request import make_requests
from certs.sealing import Opener
from certs.signing import CertificateVerifier, Signer
from exchange.client.check import Delivery, Frame
from exchange.client.personas import Cast, Persona
from exchange.link import margin
from exchange.verify import Access, Examiner, OwnerRecord, Untrusted, access_event, outcome_of, result
from policy.authorise import authorise
from policy.centre import parse_centre, parse_matter
from policy.crosscheck import check_document, check_matter
from policy.directory import DirectoryHolder
from policy.document import parse_document, refuse
from policy.model import Directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.commitments import answer_tree, claim_commitments, owner_key_message
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.header import SALT_SIZE
from zhiwang.wire.merkle import leaf_hash
from zhiwang.wire.records import Answers, CaseRecord, Outcome, decode_records, encode_answers

CITY: Final = "mock"
"""City in every identity that the mock makes."""

LIFE: Final = 10 * 365 * 86_400
"""Seconds for which the directory holds: longer than any mock runs."""

DAY: Final = 86_400
"""Owners' data was last loaded at the beginning of the day (UTC)."""

_DENIED = audit_pb2.OUTCOME_DENIED


def load_directory(centre: Path, documents: Iterable[Path], matters: Iterable[Path], *, now: float) -> Directory:
    """A directory out of files that nobody has signed, held against each other as a registrar does.

    Args:
        centre: centre.toml.
        documents: Of the departments.
        matters: A later one takes the place of an earlier one of the same name.
        now: Seconds since the epoch.

    Raises:
        FileError: With every finding of a file.
    """
    parsed = {path: parse_document(path, version=1) for path in documents}
    asked = {matter.name: (path, matter) for path in matters for matter in (parse_matter(path),)}
    directory = Directory(
        version=1,
        role_versions={},
        expires=now + LIFE,
        centre=replace(parse_centre(centre), city=CITY),
        documents={document.department: document for document in parsed.values()},
        matters={name: matter for name, (_, matter) in asked.items()},
    )
    for path, matter in asked.values():
        refuse(path, check_matter(matter, directory.centre))
    for path, document in parsed.items():
        refuse(path, check_document(document, directory))
    return directory


class _Owner:
    """One owner: a signer for its log, and a sealing key."""

    def __init__(self, signer: Signer, clock: Callable[[], float]) -> None:
        self.signer = signer
        self._clock = clock
        self._private = ECC.generate(curve="Curve25519")
        self.opener = Opener(lambda _key_id: self._private)

    def statement(self) -> sealed_pb2.OwnerKeyStatement:
        """Its sealing key, stated anew."""
        public = self._private.public_key().export_key(format="raw")
        key = sealed_pb2.OwnerKey(
            owner=self.signer.identity.department,
            key_id=hashlib.sha256(public).digest()[:KEY_ID_SIZE],
            public_key=public,
            serial=1,
        )
        key.start_time.seconds = int(self._clock())
        key.expire_time.seconds = key.start_time.seconds + KEY_LIFE
        raw = key.SerializeToString(deterministic=True)
        return sealed_pb2.OwnerKeyStatement(
            key=raw, signature=self.signer.sign(owner_key_message(raw)), certificate=self.signer.certificate_der
        )


class MockCity:
    """Hub and owners of a directory, in place of a transport. Owned by the event loop.

    Args:
        directory: By which it decides.
        system: Who asks: "department/name".
        clock: Seconds since the epoch.

    Raises:
        FatalError: INTERNAL, if the directory has no such system.
    """

    pending = 0
    connected = True

    def __init__(self, directory: Directory, system: str, clock: Callable[[], float] = time.time) -> None:
        department, _, name = system.partition("/")
        self.home = directory.centre.home(department, name)
        if self.home is None or department not in directory.documents:
            known = ", ".join(systems(directory))
            raise FatalError(Reason.INTERNAL, f"there is no system {system} in this directory; it has {known}")
        self.cast = Cast(directory.centre.subjects.values())
        self.holder = DirectoryHolder(clock)
        self.holder.set(directory)
        self._clock = clock
        owners = [owner for owner, document in directory.documents.items() if document.attributes]
        shorts = [f"{department}/system/{name}", f"{department}/hub/main", *(f"{one}/adapter/main" for one in owners)]
        self.ca_pem, signers = _enrol(shorts)
        self.system, self._hub = signers[:2]
        self._owners = {owner: _Owner(signer, clock) for owner, signer in zip(owners, signers[2:], strict=True)}
        self.verifier = CertificateVerifier(self.ca_pem, frozenset)
        self._examiner = Examiner(
            self.verifier, lambda header, identity, now: authorise(self.holder.enforcer, header, identity, now)
        )

    @property
    def serving(self) -> int:
        """This city is its own hub."""
        return 1

    async def ready(self, seconds: float) -> bool:
        """It always is."""
        del seconds
        return True

    async def statements(self) -> Sequence[sealed_pb2.OwnerKeyStatement]:
        """Sealing keys of all owners."""
        return [owner.statement() for owner in self._owners.values()]

    async def exchange(
        self,
        request: sealed_pb2.SealedRequest,
        seconds: float,
        *,
        bulk: bool,
        owner: str = "",
    ) -> Delivery:
        """What a hub and the owner behind it would answer, with entries and proofs.

        Raises:
            RefusedError: As a transport: HUB_UNREACHABLE.
        """
        del bulk, owner
        access = self._examiner.examine(request, self.system.identity, self._clock())
        if isinstance(access, Untrusted):
            told = result(
                outcome_of(access.reason, audit_pb2.OUTCOME_REFUSED),
                access.reason,
                clock_offset_ms=access.clock_offset_ms,
            )
            return Delivery(told, Frame(None, None, (), _no_owner), 0)
        if access.reason is not None:
            return self._refuse(access, access.reason)
        asked, header = self._owners[access.header.owner], access.header
        opened, sealer = asked.opener.open(
            header.certificate_fingerprint,
            header.owner_key_id,
            request.enc,
            header.hash,
            request.nonce,
            request.ciphertext,
        )
        records = decode_records(header, opened)
        personas = [one for record in records for one in map(self.cast.persona, record.subjects) if one is not None]
        refusal = await _pass_time(personas, seconds)
        if refusal is not None:
            return self._refuse(access, refusal)
        answers = self._answers(access, records)
        nonce, ciphertext = sealer.seal(encode_answers(header, answers))
        if any(persona.forged for persona in personas):
            ciphertext = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
        return self._record(access, asked, records, answers, sealed_pb2.SealedReply(nonce=nonce, ciphertext=ciphertext))

    def _answers(self, access: Access, records: Sequence[CaseRecord]) -> Answers:
        header, denied = access.header, frozenset(access.denied)
        attributes = self.holder.current.documents[header.owner].attributes
        outcomes = bytearray()
        for record in records:
            for column, shape in enumerate(header.claims):
                if column in denied:
                    outcomes.append(Outcome.DENIED_BY_HUB)
                    continue
                if shape.compared_slot is not None:
                    compared: Any = record.subjects[shape.compared_slot]
                else:
                    compared = None if shape.compared_value is None else record.values[shape.compared_value]
                subject = record.subjects[shape.slot]
                attribute = attributes[shape.attribute]
                outcomes.append(self.cast.outcome(attribute, shape.predicate, shape.cell, subject, compared))
        loaded = int(self._clock()) // DAY * DAY
        return Answers(os.urandom(SALT_SIZE), (loaded,) * len(header.claims), bytes(outcomes))

    def _record(
        self,
        access: Access,
        owner: _Owner,
        records: Sequence[CaseRecord],
        answers: Answers,
        reply: sealed_pb2.SealedReply,
    ) -> Delivery:
        request, header = access.request, access.header
        event = audit_pb2.OwnerAccess(
            header=request.header,
            signature=request.signature,
            sealed_hash=access.sealed_hash,
            request_root=request.request_root,
            answer_root=answer_tree(header, claim_commitments(header, records), answers).root,
            cases=header.cases,
            claims=len(header.claims),
            denied_claims=access.denied,
        )
        entry, head, checkpoint = self._log(owner.signer, event)
        told = result(audit_pb2.OUTCOME_ANSWERED, None, access.denied)
        told.reply.CopyFrom(reply)
        told.owner_entry.CopyFrom(entry)
        routed = access_event(
            access, audit_pb2.OUTCOME_ANSWERED, None, OwnerRecord(leaf_hash(entry.entry), entry.index), head.checkpoint
        )
        return self._deliver(told, routed, (head,), lambda _department, _head: checkpoint)

    def _refuse(self, access: Access, reason: Reason) -> Delivery:
        outcome = outcome_of(reason, _DENIED)
        told = result(outcome, reason, access.denied)
        return self._deliver(told, access_event(access, outcome, reason), (), _no_owner)

    def _deliver(
        self,
        told: exchange_pb2.ExchangeResult,
        routed: audit_pb2.HubAccess,
        owner_logs: Sequence[audit_pb2.LogHead],
        check_owner: Callable[[str, audit_pb2.LogHead], Checkpoint],
    ) -> Delivery:
        entry, head, checkpoint = self._log(self._hub, routed)
        told.hub_entry.CopyFrom(entry)
        return Delivery(told, Frame(head, checkpoint, owner_logs, check_owner), 0)

    def _log(self, signer: Signer, event: Event) -> tuple[audit_pb2.LoggedEntry, audit_pb2.LogHead, Checkpoint]:
        """An entry in a log of its own, with the log's head."""
        data = encode_entry(event, nonce=os.urandom(16), time=self._clock())
        origin = signer.identity.log_origin
        checkpoint = Checkpoint(origin, 1, leaf_hash(data))
        note = sign(checkpoint, origin, signer.public_key_raw, signer.sign)
        head = audit_pb2.LogHead(checkpoint=note, certificate=signer.certificate_der)
        return audit_pb2.LoggedEntry(entry=data, index=0), head, checkpoint


def systems(directory: Directory) -> list[str]:
    """Systems that may ask, as "department/name"."""
    return [
        f"{name}/{system}"
        for name, info in directory.centre.departments.items()
        for system in info.systems
        if name in directory.documents and system in directory.documents[name].roles
    ]


def _enrol(shorts: Sequence[str]) -> tuple[bytes, list[Signer]]:
    """Certificate of a new authority, and signers of its identities. Of the keys' files nothing stays."""
    with tempfile.TemporaryDirectory(prefix="zhiwang-mock-") as name:
        place = Path(name)
        authority = Authority.create(place / "authority", CITY)
        write_public(place / CA_CERTIFICATE, authority.certificate_pem)
        signers = []
        for short in shorts:
            own = place / short.replace("/", "-")
            for request in make_requests(own, Identity.parse_short(CITY, short)):
                write_public(request.with_suffix(".pem"), authority.issue(request.read_bytes(), days=LIFE / DAY))
            signers.append(IdentityFiles(own, place).signer())
        return authority.certificate_pem, signers


async def _pass_time(personas: Sequence[Persona], seconds: float) -> Reason | None:
    """Wait as long as the slowest takes, at most as a hub waits for an owner; why the request is refused, if it is.

    Raises:
        RefusedError: HUB_UNREACHABLE.
    """
    refusal = next((persona.refusal for persona in personas if persona.refusal is not None), None)
    if refusal is Reason.HUB_UNREACHABLE:
        raise RefusedError(refusal)
    wait = max((persona.seconds for persona in personas), default=0.0)
    patience = seconds - margin(seconds)
    if wait >= patience:
        await asyncio.sleep(patience)
        return Reason.OWNER_TIMED_OUT
    await asyncio.sleep(wait)
    return refusal


def _no_owner(_department: str, _head: audit_pb2.LogHead) -> Checkpoint:
    raise RefusedError(Reason.PROOF_INVALID, "no head of an owner's log")
