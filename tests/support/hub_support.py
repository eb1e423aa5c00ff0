"""A hub that really listens, requesters that really seal, and owners that really record, on loopback with mTLS.

`Owner` is honest unless a test gives it something else to do: it opens, answers YES, appends to a real log, proves and
seals with the modules that an adapter uses. What it has no part of is databases, ledger and policy.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from audit.entry import decode_entry
from audit.log import AuditLog
from audit.service import prove_consistency
from audit.sqlite import open_sqlite
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.owner_keys import OwnerKeyStore
from certs.sealing import Opener, SealingContext
from certs.signing import CertificateVerifier
from certs_support import City
from exchange.app import Parts, assemble, stop
from exchange.views import OwnerViews
from log_places import Place, as_place
from policy.centre import parse_centre, parse_matter
from policy.directory import DirectoryHolder
from policy.document import parse_document
from policy.mirror import Mirror
from policy.model import Directory
from zhiwang.adapter.v1 import adapter_pb2, adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.channel import open_channel
from zhiwang.wire.commitments import answer_tree, claim_commitments, sealed_hash, signature_message
from zhiwang.wire.header import Header, parse_header
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.merkle import Tree
from zhiwang.wire.records import (
    Answers,
    CaseRecord,
    Outcome,
    SubjectRecord,
    decode_records,
    encode_answers,
    encode_records,
)

CHILD = "440399201901010018"
"""A person who does not exist: the prefix 440399 is not assigned."""

CENTRE = """
city = "shenzhen"
[subject]
person = "resident"
[department.edu]
title = { zh = "教育", en = "Education" }
home = "nbs:4403"
system.enrolment.home = "nbs:4403"
system.library.home = "nbs:4403"
[department.hrss]
title = { zh = "人社", en = "Labour" }
home = "nbs:4403"
[department.police]
title = { zh = "公安", en = "Police" }
home = "nbs:4403"
"""

MATTER = """
matter = "school-enrolment"
title = { zh = "入学", en = "School enrolment" }
basis = "city rules"
requesters = ["edu"]
reference_date = 2026-09-01
reference = "2026-[0-9]{6}"
[slots]
child = "person"
[claims]
pension = "child: hrss.pension_months at_least 12"
[rule]
all = ["pension"]
"""

EDU = """
department = "edu"
title = { zh = "教育", en = "Education" }
system.enrolment.roles = ["enrolment-clerk"]
"""

OWNER = """
department = "%(owner)s"
title = { zh = "部门", en = "Owner" }
[attribute.%(granted)s]
title = { zh = "？", en = "?" }
subject = "person"
type = "integer"
at_least = [6, 12]
counter = "0755-00000000"
[attribute.secret]
title = { zh = "？", en = "?" }
subject = "person"
type = "text"
asks = ["exists"]
counter = "0755-00000000"
[[grant]]
id = "enrolment"
role = "edu/enrolment-clerk"
ask = "%(owner)s.%(granted)s at_least"
matter = "school-enrolment"
"""

GRANTED = {"hrss": "pension_months", "police": "age"}


def directory(*, expires: float | None = None, revoked: frozenset[int] = frozenset(), version: int = 7) -> Directory:
    """What the city's departments have said."""
    documents = {"edu": parse_document(EDU.encode(), version=1)}
    for owner, granted in GRANTED.items():
        documents[owner] = parse_document((OWNER % {"owner": owner, "granted": granted}).encode(), version=3)
    return Directory(
        version=version,
        role_versions=MappingProxyType({}),
        expires=time.time() + 86_400 if expires is None else expires,
        centre=parse_centre(CENTRE.encode()),
        documents=documents,
        matters={"school-enrolment": parse_matter(MATTER.encode())},
        revoked=revoked,
        timestamp_hash=bytes(32),
    )


@dataclass
class RunningHub:
    """A hub and everything around it.

    Attributes:
        address: Where it listens.
        store: Its log.
        views: What it has seen of owners' logs.
    """

    city: City
    parts: Parts
    views: OwnerViews
    holder: DirectoryHolder
    audit_log: AuditLog
    address: str

    @property
    def store(self) -> YearlyLog:
        return self.audit_log.store

    def channel(self, short: str) -> grpc.aio.Channel:
        """A connection of `department/kind/name`."""
        files = self.city.enrol(short)
        return open_channel(
            self.address, files.channel_credentials(), server_name=server_name(self.city.authority.city, Kind.HUB)
        )

    def entries(self, kind: str = "hub_access") -> list[Any]:
        """Events of one kind in the hub's log, oldest first."""
        found = [decode_entry(data) for data in self.store.entries(0, self.store.newest.size)]
        return [getattr(entry, kind) for entry in found if entry.WhichOneof("event") == kind]


@asynccontextmanager
async def running_hub(
    directory_: Path, *, clock: Callable[[], float] = time.time, withheld: Callable[[], bool] = lambda: False
) -> AsyncIterator[RunningHub]:
    """A hub in this process, with the directory of `directory()` in force. Its log is checked at the end."""
    city = City.create(directory_ / "city")
    files = city.enrol("centre/hub/main")
    for name in ("owner_logs", "guard"):
        (directory_ / name).mkdir()
    store = new_log(directory_ / "hub.db", files)
    audit_log = AuditLog(store)
    holder = DirectoryHolder(clock)
    holder.set(directory())
    views = OwnerViews(directory_ / "owner_logs", CertificateVerifier(files.ca_pem, holder.revoked), clock)
    parts = assemble(files.identity, files.ca_pem, holder, Mirror(), audit_log, views, withheld=withheld, clock=clock)
    address = parts.server.listen("127.0.0.1:0", files.server_credentials())
    await parts.server.start()
    await parts.readiness.set("log", holds=True)
    await parts.readiness.set("directory", holds=True)
    housekeeping = asyncio.create_task(parts.hub.housekeep())
    try:
        yield RunningHub(city, parts, views, holder, audit_log, address)
    finally:
        await stop(parts, 1.0)
        housekeeping.cancel()
        await asyncio.gather(housekeeping, return_exceptions=True)
        if store.stopped is None:
            store.verify_all()
        await audit_log.close()
        store.engine.dispose()


def new_log(place: Path | Place, files: IdentityFiles) -> LogStore:
    store = LogStore(as_place(place).create(), files.identity.log_origin, files.signer())
    store.create()
    return store


def reopened_log(path: Path, files: IdentityFiles) -> LogStore:
    """The log once more, as another process would open it; its last checkpoint may be of a former certificate."""
    verifier = CertificateVerifier(files.ca_pem, frozenset)
    store = LogStore(open_sqlite(path), files.identity.log_origin, files.signer(), verifier=verifier)
    store.open()
    return store


class Requester:
    """A system that seals and signs.

    Args:
        city: Where it is enrolled.
        short: Which system.
    """

    def __init__(self, city: City, short: str = "edu/system/enrolment") -> None:
        self.signer = city.enrol(short).signer()
        self._contexts: dict[bytes, SealingContext] = {}

    def header(self, key: sealed_pb2.OwnerKey, **changes: Any) -> sealed_pb2.Header:
        """A header that everybody allows, but for the changes."""
        now = time.time()
        header = sealed_pb2.Header(
            suite="zhiwang-1",
            request_id=os.urandom(16),
            system=self.signer.identity.uri,
            certificate_fingerprint=self.signer.fingerprint,
            role="edu/enrolment-clerk",
            official="clerk-17",
            assurance=sealed_pb2.ASSURANCE_ASSERTED,
            matter="school-enrolment",
            matter_version=parse_matter(MATTER.encode()).version,
            reference_date="2026-09-01",
            reference="2026-000123",
            jurisdiction="nbs:440306",
            owner=key.owner,
            owner_key_id=key.key_id,
            owner_document_version=3,
            slots=[sealed_pb2.Slot(name="child", ordinal=0, kind="person")],
            claims=[granted(key.owner)],
            cases=1,
            priority=sealed_pb2.PRIORITY_INTERACTIVE,
        )
        header.issue_time.FromNanoseconds(int(now * 1e9))
        header.expire_time.FromNanoseconds(int((now + 30) * 1e9))
        for field, value in changes.items():
            if isinstance(value, (list, tuple)):
                header.ClearField(field)  # type: ignore[arg-type]  # a field's name
                getattr(header, field).extend(value)
            elif field.endswith("_time"):
                getattr(header, field).FromNanoseconds(int(value * 1e9))
            else:
                setattr(header, field, value)
        return header

    def seal(self, key: sealed_pb2.OwnerKey, **changes: Any) -> Sealed:
        """A request sealed to a key."""
        return self.seal_raw(key, self.header(key, **changes).SerializeToString(deterministic=True))

    def seal_raw(self, key: sealed_pb2.OwnerKey, raw: bytes) -> Sealed:
        """A request with exactly this header."""
        context = self._contexts.get(key.key_id)
        if context is None:
            context = self._contexts[key.key_id] = SealingContext(key.owner, key.key_id, key.public_key)
        header = parse_header(raw)
        subject = SubjectRecord("person", CHILD, "")
        records = [
            CaseRecord(os.urandom(32), (subject,) * len(header.slots), ("",) * header.values)
            for _ in range(header.cases)
        ]
        nonce, ciphertext = context.seal(header.hash, encode_records(header, records))
        request = sealed_pb2.SealedRequest(
            header=raw,
            enc=context.enc,
            nonce=nonce,
            ciphertext=ciphertext,
            request_root=Tree(claim_commitments(header, records)).root,
            certificate=self.signer.certificate_der,
        )
        self.sign(request)
        return Sealed(request, header, records, context)

    def sign(self, request: sealed_pb2.SealedRequest) -> None:
        """Sign (again), whatever the request holds by now."""
        covered = sealed_hash(request.enc, request.nonce, request.ciphertext)
        request.signature = self.signer.sign(
            signature_message(parse_header(request.header).hash, covered, request.request_root)
        )


@dataclass(frozen=True)
class Sealed:
    """A request and what opens its reply."""

    request: sealed_pb2.SealedRequest
    header: Header
    records: Sequence[CaseRecord]
    context: SealingContext

    def open(self, reply: sealed_pb2.SealedReply) -> bytes:
        """The opened answers."""
        return self.context.open_reply(self.header.hash, reply.nonce, reply.ciphertext)


def granted(owner: str) -> sealed_pb2.ClaimShape:
    return sealed_pb2.ClaimShape(slot=0, attribute=GRANTED[owner], predicate=sealed_pb2.PREDICATE_AT_LEAST, cell="12")


def not_granted() -> sealed_pb2.ClaimShape:
    return sealed_pb2.ClaimShape(slot=0, attribute="secret", predicate=sealed_pb2.PREDICATE_EXISTS)


Reply = adapter_pb2.ReplyFrame


class Owner:
    """An owner's adapter, in this process. Set the attributes to make it do something else.

    Attributes:
        frames: What arrived.
        cancelled: Correlation ids that the hub cancelled.
        asked: Between which sizes of the log the hub wanted a proof.
        asked_origin: Of which log, the last time.
        hold: Clear it to keep replies back.
        tamper: Changes a reply frame before it leaves.
        refuse: A reason with which everything is refused.
        apart: Whether each request is answered in a frame of its own, proved from what the frame of requests says, as
            an adapter does whose frame asks for many answers.
    """

    def __init__(
        self,
        hub: RunningHub,
        directory_: Path,
        short: str = "hrss/adapter/main",
        *,
        replica: str = "one",
        credit: int = 1024,
    ) -> None:
        self.files = hub.city.enrol(short)
        self.directory = directory_
        self.replica = replica
        self.credit = credit
        self.frames: list[adapter_pb2.RequestFrame] = []
        self.cancelled: list[int] = []
        self.asked: list[tuple[int, int]] = []
        self.asked_origin = ""
        self.drained = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.tamper: Callable[[Reply], Reply | None] = lambda frame: frame
        self.refuse = ""
        self.apart = False
        self._arrived = asyncio.Condition()
        keys = directory_ / "keys"
        first = not keys.exists()
        keys.mkdir(parents=True, exist_ok=True)
        self.keys = OwnerKeyStore(keys, self.files.signer)
        self.keys.refresh()
        self.opener = Opener(self.keys.private)
        log = directory_ / "owner.db"
        self.store = new_log(log, self.files) if first else reopened_log(log, self.files)
        self._channel = open_channel(
            hub.address, self.files.channel_credentials(), server_name=server_name("shenzhen", Kind.HUB)
        )
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._known = 0

    @property
    def key(self) -> sealed_pb2.OwnerKey:
        """The newest sealing key."""
        return sealed_pb2.OwnerKey.FromString(self.keys.statements()[0].key)

    async def attach(self, **hello: Any) -> Owner:
        """Open the link, until it is welcomed."""
        self._call = adapter_pb2_grpc.AdapterServiceStub(self._channel).Attach()
        first = adapter_pb2.Hello(replica=self.replica, credit=self.credit, keys=self.keys.statements(), version="1")
        first.MergeFrom(adapter_pb2.Hello(**hello))
        await self._call.write(adapter_pb2.AttachRequest(hello=first))
        welcome = await self._call.read()
        if welcome is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                await self._call.code(), grpc.aio.Metadata(), await self._call.trailing_metadata(), ""
            )
        assert welcome.WhichOneof("message") == "welcome"
        self._reader = asyncio.create_task(self._read())
        return self

    def relate(self, old_size: int, new_size: int) -> adapter_pb2.Related | None:
        """An honest answer about two heads of the log."""
        proof = prove_consistency(self.store, old_size, new_size)
        return adapter_pb2.Related(old_size=old_size, new_size=new_size, proof=proof)

    async def say(self, **message: Any) -> None:
        """Anything, on the link."""
        await self._call.write(adapter_pb2.AttachRequest(**message))

    async def received(self, count: int) -> None:
        """Until so many requests have arrived."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: sum(len(frame.items) for frame in self.frames) >= count)

    async def vanish(self) -> None:
        """Break the link, as a crash would."""
        self._call.cancel()
        await self._finish()

    async def leave(self) -> None:
        """End the link in order."""
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self._call.done_writing()
        await self._finish()

    async def ended(self) -> grpc.StatusCode:
        """How the hub ended the link."""
        async with asyncio.timeout(10):
            code: grpc.StatusCode = await self._call.code()
            return code

    async def close(self) -> None:
        """Give everything back."""
        if self._call is not None:
            self._call.cancel()
            await self._finish()
        await self._channel.close()
        self.store.close()
        self.store.engine.dispose()

    async def _finish(self) -> None:
        tasks = [task for task in (self._reader, *self._work) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        with suppress(grpc.aio.AioRpcError):
            while (message := await self._call.read()) is not grpc.aio.EOF:
                kind = message.WhichOneof("message")
                if kind == "request_frame":
                    async with self._arrived:
                        self.frames.append(message.request_frame)
                        self._arrived.notify_all()
                    task = asyncio.create_task(self._answer(message.request_frame))
                    self._work.add(task)
                    task.add_done_callback(self._work.discard)
                elif kind == "relate":
                    self.asked.append((message.relate.old_size, message.relate.new_size))
                    self.asked_origin = message.relate.origin
                    related = self.relate(*self.asked[-1])
                    if related is not None:
                        await self.say(related=related)
                elif kind == "cancel":
                    self.cancelled.extend(message.cancel.correlation_ids)
                elif kind == "draining":
                    self.drained = True

    async def _answer(self, frame: adapter_pb2.RequestFrame) -> None:
        await self.hold.wait()
        for part in self._parts(frame):
            reply = self.tamper(self.process(part))
            if reply is not None:
                await self.say(reply_frame=reply)

    def _parts(self, frame: adapter_pb2.RequestFrame) -> list[adapter_pb2.RequestFrame]:
        if not self.apart:
            return [frame]
        self._known = frame.known_tree_size
        parts = [adapter_pb2.RequestFrame(known_tree_size=frame.known_tree_size) for _ in frame.items]
        for part, item in zip(parts, frame.items, strict=True):
            part.items.append(item)
        return parts

    def process(self, frame: adapter_pb2.RequestFrame) -> Reply:
        """An honest reply: opened, recorded, proved, sealed."""
        reply = Reply()
        if self.refuse:
            for item in frame.items:
                reply.items.add(correlation_id=item.correlation_id, reason=self.refuse)
            return reply
        done = [self._process(item) for item in frame.items]
        with self.store.transaction() as connection:
            appended = self.store.append(connection, [self.store.new_entry(event) for event, _ in done])
        self.store.committed(appended)
        for item, (_, sealed), logged in zip(frame.items, done, appended.logged(), strict=True):
            reply.items.add(correlation_id=item.correlation_id, reply=sealed, entry=logged)
        reply.log.CopyFrom(self.store.head(max(self._known, frame.known_tree_size)))
        if not self.apart:
            self._known = appended.size
        return reply

    def _process(self, item: adapter_pb2.RequestFrame.Item) -> tuple[audit_pb2.OwnerAccess, sealed_pb2.SealedReply]:
        request = item.request
        header = parse_header(request.header)
        plaintext, sealer = self.opener.open(
            header.certificate_fingerprint,
            header.owner_key_id,
            request.enc,
            header.hash,
            request.nonce,
            request.ciphertext,
        )
        commitments = claim_commitments(header, decode_records(header, plaintext))
        denied = set(item.denied_claims)
        row = bytes(Outcome.DENIED_BY_HUB if i in denied else Outcome.YES for i in range(len(header.claims)))
        answers = Answers(os.urandom(32), (None,) * len(header.claims), row * header.cases)
        event = audit_pb2.OwnerAccess(
            header=request.header,
            signature=request.signature,
            sealed_hash=sealed_hash(request.enc, request.nonce, request.ciphertext),
            request_root=request.request_root,
            answer_root=answer_tree(header, commitments, answers).root,
            cases=header.cases,
            claims=len(header.claims),
            denied_claims=sorted(denied),
        )
        nonce, ciphertext = sealer.seal(encode_answers(header, answers))
        return event, sealed_pb2.SealedReply(nonce=nonce, ciphertext=ciphertext)


class Stream:
    """A requester's stream.

    Args:
        channel: To the hub.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = exchange_pb2_grpc.ExchangeServiceStub(channel).ExchangeStream()
        self.frames: list[exchange_pb2.ExchangeStreamResponse] = []
        self._results: dict[int, tuple[exchange_pb2.ExchangeResult, exchange_pb2.ExchangeStreamResponse]] = {}

    async def send(
        self, *requests: sealed_pb2.SealedRequest, first: int = 1, seconds: float = 10.0, known: int = 0
    ) -> None:
        """One frame; correlation ids rise from `first`."""
        frame = exchange_pb2.ExchangeStreamRequest(known_tree_size=known)
        for number, request in enumerate(requests, first):
            item = frame.items.add(correlation_id=number, request=request)
            item.timeout.FromNanoseconds(int(seconds * 1e9))
        await self.call.write(frame)

    async def result(self, number: int = 1) -> exchange_pb2.ExchangeResult:
        """The result of one request."""
        async with asyncio.timeout(15):
            while number not in self._results:
                frame = await self.call.read()
                assert frame is not grpc.aio.EOF, "the hub ended the stream"
                self.frames.append(frame)
                for item in frame.items:
                    self._results[item.correlation_id] = (item.result, frame)
        return self._results[number][0]

    async def introduce(self, requester: Requester, owner: Owner, number: int = 1_000_000) -> None:
        """One answered request, so that the hub has seen a head of the owner's log."""
        await self.send(requester.seal(owner.key).request, first=number)
        assert (await self.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
        owner.frames.clear()

    def frame_of(self, number: int = 1) -> exchange_pb2.ExchangeStreamResponse:
        """The frame in which a result came."""
        return self._results[number][1]

    def close(self) -> None:
        """Hang up."""
        self.call.cancel()


async def exchange(
    channel: grpc.aio.Channel, request: sealed_pb2.SealedRequest, *, seconds: float = 10.0, known: int = 0
) -> exchange_pb2.ExchangeResponse:
    """One unary call."""
    response: exchange_pb2.ExchangeResponse = await exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(
        exchange_pb2.ExchangeRequest(request=request, known_tree_size=known), timeout=seconds
    )
    return response
