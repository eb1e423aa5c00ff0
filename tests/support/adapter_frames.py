"""A whole owner for tests of frames: certificates, directory, store, database; and a requester that seals for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapter_support import NOW, Owner, document
from adapters.answers import AnswerWatch
from adapters.config import StateFiles
from adapters.frame import FrameProcessor
from adapters.ledger import Ledger
from adapters.questions import Examiner
from adapters.rows import Snapshots, fetch
from adapters.standpoint import Standpoint
from adapters.store import create_store, open_store
from adapters.trace import Trace
from audit.checkpoint import open_note, split_note
from audit.origins import log_of
from audit.proofs import check_entry
from audit.yearly import YearlyLog
from audit_support import close
from certs.owner_keys import OwnerKeyStore
from certs.sealing import Opener, SealingContext
from certs.signing import CertificateVerifier
from certs_support import City
from log_places import PostgresDatabase
from policy.centre import parse_centre, parse_matter
from policy.enforcer import Enforcer
from policy.model import Directory
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.commitments import (
    answer_tree,
    claim_commitments,
    request_tree,
    sealed_hash,
    signature_message,
)
from zhiwang.wire.header import SUITE, parse_header
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.profile import LogDatabase
from zhiwang.wire.records import CaseRecord, Outcome, SubjectRecord, decode_answers, encode_records

CENTRE = """
city = "shenzhen"
[subject]
person = "resident"
entity = "uscc"
[department.edu]
title = { zh = "教育局", en = "Education" }
home = "nbs:4403"
system.enrolment.home = "nbs:4403"
system.futian.home = "nbs:440304"
[department.civil]
title = { zh = "民政局", en = "Civil Affairs" }
home = "nbs:4403"
system.cards.home = "nbs:4403"
[department.hrss]
title = { zh = "人社局", en = "Labour" }
home = "nbs:4403"
"""

MATTER = """
matter = "school"
title = { zh = "入学", en = "Enrolment" }
basis = "rules"
requesters = ["edu", "civil"]
reference_date = 2026-09-01
reference = "2026-[0-9]{6}"
[slots]
child = "person"
guardian = { kind = "person", up_to = 2 }
"""

EDU = '\nsystem.enrolment.roles = ["clerk"]\nsystem.futian.roles = ["clerk"]\n'
CIVIL = '\nsystem.cards.roles = ["clerk"]\n'

ENROLLED = datetime.fromtimestamp(NOW - 3600, UTC)


def grants(asks: Iterable[str], *, roles: Sequence[str] = ("edu/clerk", "civil/clerk"), place: str = "@self") -> str:
    return "".join(
        f'\n[[grant]]\nid = "g-{role.partition("/")[0]}-{number}"\nrole = "{role}"\nask = "{ask}"\nmatter = "school"\n'
        f'place = "{place}"\n'
        for role in roles
        for number, ask in enumerate(asks)
    )


class Requester:
    """A system that seals requests for the owner."""

    def __init__(self, city: City, short: str, owner: OwnerKeyStore) -> None:
        self.signer = city.enrol(short, now=ENROLLED).signer()
        statement = owner.statements()[0]
        key = sealed_pb2.OwnerKey.FromString(statement.key)
        self.key_id = key.key_id
        self.context = SealingContext("hrss", key.key_id, key.public_key)


class Bureau(Owner):
    """An owner with its adapter's store and frames."""

    def __init__(self, directory: Path, *, store: PostgresDatabase | None = None, **files: object) -> None:
        super().__init__(directory, **files)  # type: ignore[arg-type]  # passed on as given
        self.place = store
        self.store_database = None if store is None else LogDatabase(store.url(), None)
        self.state = StateFiles.alone(directory / "state")
        self.city = City.create(directory / "city", now=ENROLLED)
        self.identity = self.city.enrol("hrss/adapter/main", now=ENROLLED)
        self.matter = parse_matter(MATTER.encode())
        self.directory_ = Directory(
            version=7,
            role_versions=MappingProxyType({}),
            expires=NOW + 3600,
            centre=parse_centre(CENTRE.encode()),
            documents={
                "edu": document(EDU, "edu"),
                "civil": document(CIVIL, "civil"),
                "hrss": replace(self.document, version=3),
            },
            matters={"school": self.matter},
        )
        self.revoked: set[int] = set()
        self.answers = AnswerWatch(self.mapping.attribute)
        self.closed: Callable[[str], bool] = lambda _attribute: False
        self.withheld: Callable[[], bool] = lambda: False
        (directory / "keys").mkdir()
        self.keys = OwnerKeyStore(directory / "keys", self.identity.signer, lambda: self.now)
        self.keys.refresh()
        self.log = create_store(
            self.state, self.identity.signer(), database=self.store_database, clock=lambda: self.now
        )
        self.frames = self.processor(self.log)
        self.requesters: dict[str, Requester] = {}
        self.records: dict[bytes, Sequence[CaseRecord]] = {}

    def reopened(self) -> YearlyLog:
        """The store as another process opens it."""
        return open_store(self.state, self.identity.signer(), database=self.store_database, clock=lambda: self.now)

    def trace(self) -> Trace:
        """The index, as another part of the process has it."""
        return Trace(self.state.keys, lambda: self.now, apart=self.store_database is not None)

    def stored(self, sql: str) -> list[Any]:
        """What stands in the store, by a SELECT."""
        with Snapshots(self.log.engine).read() as connection:
            return fetch(connection, sql)

    def processor(self, log: YearlyLog) -> FrameProcessor:
        ledger = Ledger((b"k" * 32), self.mapping.limits, lambda: self.now)
        schemes = {"person": scheme("resident"), "entity": scheme("uscc")}

        def closed(name: str, predicate: Predicate, department: str) -> bool:
            # As it is when asked, since a test may put another in its place.
            return self.closed(name) or self.answers.closed(name, predicate, department)

        def withheld() -> bool:
            return self.withheld()

        self.examiner = Examiner(self.source, ledger, schemes, closed, lambda: self.now)
        return FrameProcessor(
            department="hrss",
            log=log,
            verifier=CertificateVerifier(self.city.ca_pem, lambda: self.revoked),
            standpoint=self.standpoint,
            opener=Opener(self.keys.private),
            ledger=ledger,
            trace=self.trace(),
            bulk_hours=self.mapping.limits.hours,
            withheld=withheld,
            answered=self.answers.note,
            clock=lambda: self.now,
        )

    def standpoint(self) -> Standpoint:
        return Standpoint(Enforcer(self.directory_), self.examiner)

    def close(self) -> None:
        close(self.log)
        super().close()

    def requester(self, short: str = "edu/system/enrolment") -> Requester:
        if short not in self.requesters:
            self.requesters[short] = Requester(self.city, short, self.keys)
        return self.requesters[short]

    def request(
        self,
        claims: Sequence[str],
        cases: Sequence[Mapping[str, tuple[str, str] | str | None]],
        *,
        short: str = "edu/system/enrolment",
        **fields: object,
    ) -> sealed_pb2.SealedRequest:
        """A sealed request: claims as written, each case as {slot: identifier or (identifier, name)}."""
        requester = self.requester(short)
        parsed = [Claim.parse(claim) for claim in claims]
        slots = list(dict.fromkeys(name for claim in parsed for name in (claim.slot, claim.compared_slot) if name))
        header = sealed_pb2.Header(
            suite=SUITE,
            request_id=os.urandom(16),
            system=requester.signer.identity.uri,
            certificate_fingerprint=requester.signer.fingerprint,
            role=f"{requester.signer.identity.department}/clerk",
            official="clerk-17",
            assurance=sealed_pb2.ASSURANCE_ASSERTED,
            matter="school",
            matter_version=self.matter.version,
            reference_date="2026-09-01",
            reference="2026-000123",
            jurisdiction="nbs:4403",
            owner="hrss",
            owner_key_id=requester.key_id,
            owner_document_version=3,
            slots=[sealed_pb2.Slot(name=slot, kind="person") for slot in slots],
            cases=len(cases),
            priority=sealed_pb2.PRIORITY_INTERACTIVE,
        )
        header.issue_time.seconds = int(self.now)
        header.expire_time.seconds = int(self.now) + 30
        values: list[str] = []
        for claim in parsed:
            shape = header.claims.add(
                slot=slots.index(claim.slot or ""),
                attribute=claim.attribute,
                predicate=claim.predicate.number,
                cell=claim.cell or "",
            )
            if claim.compared_slot:
                shape.compared_slot = slots.index(claim.compared_slot)
            elif claim.text is not None:
                shape.compared_value = len(values)
                values.append(claim.text)
        for name, value in fields.items():
            setattr(header, name, value)
        records = [
            CaseRecord(os.urandom(32), tuple(_subject(case.get(slot)) for slot in slots), tuple(values))
            for case in cases
        ]
        return self.seal(requester, header, records)

    def seal(
        self, requester: Requester, header: sealed_pb2.Header, records: Sequence[CaseRecord]
    ) -> sealed_pb2.SealedRequest:
        raw = header.SerializeToString(deterministic=True)
        parsed = parse_header(raw)
        nonce, ciphertext = requester.context.seal(parsed.hash, encode_records(parsed, records))
        root = request_tree(parsed, records).root
        self.records[root] = records
        message = signature_message(parsed.hash, sealed_hash(requester.context.enc, nonce, ciphertext), root)
        return sealed_pb2.SealedRequest(
            header=raw,
            enc=requester.context.enc,
            nonce=nonce,
            ciphertext=ciphertext,
            request_root=root,
            signature=requester.signer.sign(message),
            certificate=requester.signer.certificate_der,
        )

    def send(
        self, *requests: sealed_pb2.SealedRequest, known: int = 0, origin: str = ""
    ) -> list[adapter_pb2.ReplyFrame.Item]:
        """One frame through the adapter; every answered item is checked against log and signed root."""
        frame = adapter_pb2.RequestFrame(known_tree_size=known, known_origin=origin)
        for number, request in enumerate(requests, 1):
            frame.items.add(correlation_id=number, request=request)
        reply = self.frames.process(frame)
        assert [item.correlation_id for item in reply.items] == list(range(1, len(requests) + 1))
        for item in reply.items:
            assert item.reason or item.HasField("reply")
            if not item.reason:
                self.check(reply, requests[item.correlation_id - 1], item)
        self.last = reply
        return list(reply.items)

    def entry(self, reply: adapter_pb2.ReplyFrame, item: adapter_pb2.ReplyFrame.Item) -> audit_pb2.OwnerAccess:
        signer = self.identity.signer()
        head = reply.former_log if item.former else reply.log
        origin = split_note(head.checkpoint)[0].partition("\n")[0]
        assert log_of(origin) == signer.identity.log_origin
        note = open_note(head.checkpoint, origin, signer.public_key_raw)
        return check_entry(item.entry, note).owner_access

    def check(
        self, reply: adapter_pb2.ReplyFrame, request: sealed_pb2.SealedRequest, item: adapter_pb2.ReplyFrame.Item
    ) -> None:
        """What every requester checks: the entry is proved, is about these bytes, and commits to these answers."""
        entry = self.entry(reply, item)
        assert (entry.header, entry.signature, entry.request_root) == (
            request.header,
            request.signature,
            request.request_root,
        )
        assert entry.sealed_hash == sealed_hash(request.enc, request.nonce, request.ciphertext)
        requester = next((one for one in self.requesters.values() if one.context.enc == request.enc), None)
        if requester is None or request.request_root not in self.records:
            return
        header = parse_header(request.header)
        plaintext = requester.context.open_reply(header.hash, item.reply.nonce, item.reply.ciphertext)
        commitments = claim_commitments(header, self.records[request.request_root])
        assert entry.answer_root == answer_tree(header, commitments, decode_answers(header, plaintext)).root

    def open(self, request: sealed_pb2.SealedRequest, item: adapter_pb2.ReplyFrame.Item) -> list[Outcome]:
        """What the requester reads, after it has recomputed the answer root."""
        assert not item.reason, item.reason
        requester = next(one for one in self.requesters.values() if one.context.enc == request.enc)
        header = parse_header(request.header)
        answers = decode_answers(
            header, requester.context.open_reply(header.hash, item.reply.nonce, item.reply.ciphertext)
        )
        self.data_as_of = answers.data_as_of
        return [Outcome(code) for code in answers.outcomes]

    def ask_all(
        self, claims: Sequence[str], *cases: Mapping[str, tuple[str, str] | str | None], **fields: object
    ) -> list[Outcome]:
        """One request in a frame of its own."""
        request = self.request(claims, cases, **fields)  # type: ignore[arg-type]  # fields of the header
        return self.open(request, self.send(request)[0])


def _subject(subject: tuple[str, str] | str | None) -> SubjectRecord | None:
    if subject is None:
        return None
    identifier, name = (subject, "") if isinstance(subject, str) else subject
    return SubjectRecord("person", identifier, name)


def at(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
