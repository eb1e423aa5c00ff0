"""Everything of the issue's list that no honest program sends: over the real wire to a hub, and past a hub that lies
straight to an adapter. Each gets its documented reason, leaves a trace in the log and an answer nowhere, tells nothing
about anybody, and the next good request is answered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from audit.entry import decode_entry
from breaking_support import (
    INSURED,
    DirectAdapter,
    Forge,
    Forged,
    RealCity,
    case,
    command,
    context,
    exchange,
    refusal,
)
from certs.ca import Authority
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, Identity
from certs.request import make_requests
from exchange.demo.build import CENTRE, CITY, LOOPBACK, SYSTEM, write_profile
from exchange.demo.processes import zhiwang
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import Reason
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.records import Outcome

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "errors.md").read_text("utf-8")
LIBRARY = "edu/system/library"
"""A second system of the same department, which holds no role."""

UNKNOWN_FIELD = b"\xfa\x3f\x01x"

pytestmark = pytest.mark.timeout(120)


@dataclass
class World:
    """A hub process, an adapter in this process, and people who forge."""

    city: RealCity
    adapter: DirectAdapter
    forge: Forge
    library: Forge
    forgers: dict[str, Forge]

    @property
    def subject(self) -> str:
        return self.city.applications[0].guardians[0].person.identifier

    def good(self, **changes: Any) -> Forged:
        return self.forge.request("hrss", [INSURED], [{"guardian": self.subject}], **changes)

    def other(self, claims: Sequence[str] = (INSURED,), **changes: Any) -> sealed_pb2.SealedRequest:
        return self.forge.request("hrss", list(claims), [{"guardian": self.subject}], **changes).request

    def raw(self, header: sealed_pb2.Header | bytes) -> sealed_pb2.SealedRequest:
        """A good request under another header, signed again."""
        data = header if isinstance(header, bytes) else header.SerializeToString(deterministic=True)
        return self.forge.altered(self.good(), header=data)

    def header(self, **changes: Any) -> sealed_pb2.Header:
        return self.forge.header("hrss", [INSURED], **changes)


def enrol(authority: Authority, root: Path, directory: Path, short: str, **validity: Any) -> IdentityFiles:
    for request in make_requests(directory, Identity.parse_short(CITY, short)):
        request.with_suffix(".pem").write_bytes(authority.issue(request.read_bytes(), **validity))
    return IdentityFiles(directory, root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("bad")
    city = RealCity.build(path, ())
    try:
        city.furnish("hrss")
        adapter = DirectAdapter(city, "hrss")
        try:
            authority = Authority.load(city.layout.directory / "authority")
            library = enrol(authority, city.layout.root, path / "library", LIBRARY)
            foreign_root = path / "foreign"
            foreign = Authority.create(path / "foreign-authority", CITY)
            foreign_root.mkdir()
            (foreign_root / CA_CERTIFICATE).write_bytes(foreign.certificate_pem)
            past = datetime.now(UTC) - timedelta(days=30)
            files = {
                "foreign": enrol(foreign, foreign_root, path / "stranger", SYSTEM),
                "expired": enrol(authority, city.layout.root, path / "old", SYSTEM, now=past, days=3),
                "adapter": city.identity("hrss/adapter/main"),
            }
            asyncio.run(_attached(city))
            keys = asyncio.run(city.owner_keys())
            forgers = {name: Forge(city, one, keys) for name, one in files.items()}
            yield World(city, adapter, Forge(city, keys=keys), Forge(city, library, keys), forgers)
        finally:
            adapter.stop()
    finally:
        city.stop()


async def _attached(city: RealCity) -> None:
    async with asyncio.timeout(20):
        while not await city.owner_keys():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.05)


class Bad(NamedTuple):
    """One thing that nobody honest sends.

    Attributes:
        make: The request.
        hub: What the hub says, if it does not let it pass.
        adapter: What the adapter says to it; None if it has no objection (the hub has to know better).
    """

    make: Callable[[World], sealed_pb2.SealedRequest]
    hub: str
    adapter: str | None = ""

    @property
    def owner(self) -> str | None:
        return self.hub if self.adapter == "" else self.adapter


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x40
    return bytes(changed)


def unsigned(change: Callable[[sealed_pb2.Header], None]) -> Callable[[World], sealed_pb2.SealedRequest]:
    """A header that was changed after it was signed."""

    def make(world: World) -> sealed_pb2.SealedRequest:
        request = sealed_pb2.SealedRequest()
        request.CopyFrom(world.good().request)
        header = sealed_pb2.Header.FromString(request.header)
        change(header)
        request.header = header.SerializeToString(deterministic=True)
        return request

    return make


def flip(request: sealed_pb2.SealedRequest, field: str) -> sealed_pb2.SealedRequest:
    setattr(request, field, flipped(getattr(request, field), 9))
    return request


def with_cell(header: sealed_pb2.Header, cell: str) -> sealed_pb2.Header:
    header.claims[0].cell = cell
    return header


def many(count: int) -> Callable[[World], sealed_pb2.SealedRequest]:
    def make(world: World) -> sealed_pb2.SealedRequest:
        header = world.header()
        for number in range(count):
            header.claims.append(header.claims[0])
            header.claims[-1].cell = str(number)
        return world.raw(header)

    return make


def slots(*names: tuple[str, int, str]) -> Callable[[sealed_pb2.Header], None]:
    def change(header: sealed_pb2.Header) -> None:
        del header.slots[:]
        header.slots.extend(sealed_pb2.Slot(name=name, ordinal=ordinal, kind=kind) for name, ordinal, kind in names)

    return change


def signed_by(name: str) -> Callable[[World], sealed_pb2.SealedRequest]:
    return lambda world: world.forgers[name].request("hrss", [INSURED], [{"guardian": world.subject}]).request


def with_certificate(data: bytes) -> Callable[[World], sealed_pb2.SealedRequest]:
    return lambda world: world.forge.altered(world.good(), certificate=data)


def resigned(world: World) -> sealed_pb2.SealedRequest:
    """Another system of the same department signs what the first has sealed, under its own certificate."""
    return world.library.altered(world.good(), certificate=world.library.signer.certificate_der)


def sealed_part(field: str, place: int) -> Callable[[World], sealed_pb2.SealedRequest]:
    def make(world: World) -> sealed_pb2.SealedRequest:
        good = world.good()
        data = getattr(good.request, field)
        return world.forge.altered(good, **{field: flipped(data, place % len(data))})

    return make


def cut(length: int) -> Callable[[World], sealed_pb2.SealedRequest]:
    def make(world: World) -> sealed_pb2.SealedRequest:
        good = world.good()
        return world.forge.altered(good, ciphertext=good.request.ciphertext[:length])

    return make


BAD = {
    "no header": Bad(lambda w: w.raw(b""), "REQUEST_MALFORMED"),
    "a header of noise": Bad(lambda w: w.raw(os.urandom(200)), "REQUEST_MALFORMED"),
    "a header that is cut": Bad(lambda w: w.raw(w.good().request.header[:-3]), "REQUEST_MALFORMED"),
    "an unknown field": Bad(lambda w: w.raw(w.good().request.header + UNKNOWN_FIELD), "REQUEST_MALFORMED"),
    "a header of 17 kB": Bad(lambda w: w.raw(w.good().request.header + b"\0" * 17_000), "REQUEST_TOO_LARGE"),
    "a sealed part that is cut": Bad(cut(-1), "REQUEST_MALFORMED"),
    "no sealed part": Bad(cut(0), "REQUEST_MALFORMED"),
    "an unsigned flip in the sealed part": Bad(
        lambda w: flip(w.good().request, "ciphertext"), "SIGNATURE_INVALID"
    ),
    "an unsigned flip in the signature": Bad(
        lambda w: flip(w.good().request, "signature"), "SIGNATURE_INVALID"
    ),
    **{
        f"a signed flip of {field} at {place}": Bad(sealed_part(field, place), "SEAL_BROKEN")
        for field, places in (("ciphertext", (0, 31, 32, 100, -17, -16, -1)), ("nonce", (0, 11)), ("enc", (0, 31)))
        for place in places
    },
    "another root": Bad(lambda w: w.forge.altered(w.good(), request_root=os.urandom(32)), "COMMITMENT_MISMATCH"),
    "an unknown key": Bad(lambda w: w.other(owner_key_id=os.urandom(16)), "KEY_UNKNOWN"),
    "a header re-signed by another": Bad(resigned, "IDENTITY_MISMATCH"),
    "a changed matter": Bad(unsigned(lambda h: setattr(h, "matter", "senior-card")), "SIGNATURE_INVALID"),
    "a changed date": Bad(unsigned(lambda h: setattr(h, "reference_date", "2026-10-01")), "SIGNATURE_INVALID"),
    "a changed jurisdiction": Bad(unsigned(lambda h: setattr(h, "jurisdiction", "nbs:440305")), "SIGNATURE_INVALID"),
    "a changed threshold": Bad(unsigned(lambda h: setattr(h.claims[0], "cell", "6")), "SIGNATURE_INVALID"),
    "an expired time": Bad(lambda w: w.other(issued=-50, expires=-10), "REQUEST_EXPIRED"),
    "a future time": Bad(lambda w: w.other(issued=20, expires=50), "CLOCK_SKEW"),
    "a long life": Bad(lambda w: w.other(expires=120), "LIFETIME_TOO_LONG"),
    "a foreign certificate": Bad(signed_by("foreign"), "CERTIFICATE_INVALID"),
    "an expired certificate": Bad(signed_by("expired"), "CERTIFICATE_EXPIRED"),
    "an adapter's certificate": Bad(signed_by("adapter"), "CERTIFICATE_INVALID"),
    "a certificate of noise": Bad(with_certificate(os.urandom(300)), "CERTIFICATE_INVALID"),
    "a role not held": Bad(lambda w: w.other(role="edu/inspector"), "ROLE_NOT_HELD"),
    "another department's role": Bad(lambda w: w.other(role="hrss/clerk"), "ROLE_NOT_HELD"),
    "a place outside home": Bad(lambda w: w.other(jurisdiction="nbs:440103"), "OUTSIDE_HOME"),
    "a place that is none": Bad(lambda w: w.raw(w.header(jurisdiction="nbs:44")), "JURISDICTION_INVALID"),
    "a matter that is none": Bad(lambda w: w.other(matter="never-heard"), "MATTER_NOT_ALLOWED"),
    "a matter of others": Bad(lambda w: w.other(matter="senior-card"), "MATTER_NOT_ALLOWED"),
    "another version of the matter": Bad(lambda w: w.other(matter_version=os.urandom(16)), "MATTER_CHANGED"),
    "a date that is not published": Bad(lambda w: w.other(reference_date="2026-10-01"), "DATE_NOT_PUBLISHED"),
    "a document of tomorrow": Bad(lambda w: w.other(owner_document_version=99), "DIRECTORY_BEHIND"),
    "an unpublished attribute": Bad(lambda w: w.other(["guardian: hrss.shoe_size at_least 12"]), "NOT_GRANTED"),
    "an attribute granted for another matter": Bad(
        lambda w: w.other(["guardian: hrss.insured_points at_least 12"]), "NOT_GRANTED"
    ),
    "an unpublished predicate": Bad(lambda w: w.other(["guardian: hrss.insured_months exists"]), "NOT_GRANTED"),
    "a threshold between the cells": Bad(
        lambda w: w.other(["guardian: hrss.insured_months at_least 13"]), "CELL_NOT_PUBLISHED"
    ),
    "a threshold that holds an identifier": Bad(
        lambda w: w.raw(with_cell(w.header(), w.subject)), "REQUEST_MALFORMED"
    ),
    "a slot that is not the matter's": Bad(lambda w: w.other(change=slots(("stranger", 0, "person"))), "SLOT_UNKNOWN"),
    "a third guardian": Bad(lambda w: w.other(change=slots(("guardian", 2, "person"))), "SLOT_UNKNOWN"),
    "a guardian that is a dwelling": Bad(lambda w: w.other(change=slots(("guardian", 0, "dwelling"))), "SLOT_UNKNOWN"),
    "a slot that nobody needs": Bad(
        lambda w: w.raw((h := w.header(), h.slots.add(name="child", kind="person"))[0]), "REQUEST_MALFORMED"
    ),
    "a reference with an identifier": Bad(lambda w: w.raw(w.header(reference=w.subject)), "REFERENCE_INVALID"),
    "a reference out of the pattern": Bad(lambda w: w.other(reference="2026-1"), "REFERENCE_INVALID"),
    "an official with an identifier": Bad(lambda w: w.raw(w.header(official=w.subject)), "OFFICIAL_INVALID"),
    "no official": Bad(lambda w: w.raw(w.header(official="")), "OFFICIAL_INVALID"),
    "too many claims": Bad(many(64), "TOO_MANY_CLAIMS"),
    "ten thousand claims": Bad(many(10_000), "REQUEST_TOO_LARGE"),
    "another suite": Bad(lambda w: w.raw(w.header(suite="zhiwang-9")), "SUITE_NOT_ACCEPTED"),
    "another owner's request": Bad(
        lambda w: w.other(change=lambda h: setattr(h, "owner", "health")), "NOT_GRANTED", "REQUEST_MALFORMED"
    ),
}  # fmt: skip


async def send(world: World, request: sealed_pb2.SealedRequest) -> exchange_pb2.ExchangeResponse:
    async with world.city.hub_channel() as channel:
        return await exchange(channel, request)


async def recorded(
    world: World, response: exchange_pb2.ExchangeResponse, digest: bytes, start: int, reason: str
) -> None:
    """The hub's log says what became of it: an entry of its own, or one that counts it with others."""
    if response.result.HasField("hub_entry"):
        entry = decode_entry(response.result.hub_entry.entry)
        event = entry.hub_access if entry.WhichOneof("event") == "hub_access" else entry.refusal
        found = event.header_hash if isinstance(event, audit_pb2.Refusal) else sha256(event.header).digest()
        assert (event.reason, found) == (reason, digest)
        return
    async with asyncio.timeout(5):
        while True:
            refusals = [entry.refusal for entry in world.city.entries("hub", start) if entry.HasField("refusal")]
            if any(one.reason == reason and one.peer.endswith(SYSTEM) for one in refusals):
                return
            await asyncio.sleep(0.1)


async def still_answers(world: World) -> None:
    good = world.good()
    result = (await send(world, good.request)).result
    assert result.outcome == audit_pb2.OUTCOME_ANSWERED, result.reason
    assert good.outcomes(result.reply)[0] in {Outcome.YES, Outcome.NO, Outcome.UNKNOWN}


def answered(world: World) -> int:
    return sum(entry.WhichOneof("event") == "owner_access" for entry in world.city.entries("hrss"))


@pytest.mark.parametrize("name", list(BAD))
async def test_what_nobody_honest_sends_gets_its_reason_from_hub_and_adapter_alike(world: World, name: str) -> None:
    bad = BAD[name]
    for reason in {bad.hub, bad.owner} - {None}:
        assert reason in Reason.__members__
        assert f"`{reason}`" in DOCUMENTED
    request = bad.make(world)
    start, before = len(world.city.entries("hub")), answered(world)
    charged = world.city.count("hrss", "guess")
    response = await send(world, request)
    assert response.result.reason == bad.hub
    assert response.result.outcome != audit_pb2.OUTCOME_ANSWERED
    assert not response.result.HasField("reply")
    assert not response.result.HasField("owner_entry")
    await recorded(world, response, sha256(request.header).digest() if request.header else b"", start, bad.hub)
    # Past the hub, straight to the adapter.
    (item,) = world.adapter.send(request)
    assert item.reason == bad.owner
    assert not item.HasField("reply")
    assert not item.HasField("entry")
    assert answered(world) == before
    assert world.city.count("hrss", "guess") == charged
    assert world.subject.encode() not in response.SerializeToString() + item.SerializeToString()
    await still_answers(world)


async def test_a_lying_hub_cannot_widen_its_mask_beyond_the_claims(world: World) -> None:
    (item,) = world.adapter.send(world.good().request, denied=[7])
    assert item.reason == "REQUEST_MALFORMED"
    (item,) = world.adapter.send(world.good().request, denied=[0])
    assert item.reason == "NOT_GRANTED"
    await still_answers(world)


@pytest.mark.parametrize("identifier", ["440399199001010012", "44039919900101001", "x" * 18, "", "440399199002310017"])
async def test_an_identifier_that_is_none_is_unknown_at_the_owner_as_nobody_is(world: World, identifier: str) -> None:
    """Sealed by a client that does not check: what opens is answered as about somebody of whom there is no record."""
    nobody = world.forge.request("hrss", [INSURED], [{"guardian": "440399199001010011"}])
    forged = world.forge.request("hrss", [INSURED], [{"guardian": identifier}])
    found = []
    for one in (nobody, forged):
        result = (await send(world, one.request)).result
        found.append((
            result.outcome, result.reason, len(result.reply.ciphertext),
            one.outcomes(result.reply) if result.HasField("reply") else result.reason,
        ))  # fmt: skip
    assert found[0] == found[1]
    await still_answers(world)


async def test_the_same_bytes_get_the_same_answer_charged_once_and_other_bytes_none(world: World) -> None:
    first = world.forge.request("hrss", [INSURED], [{"guardian": (world.subject, f"某{os.getpid()}甲")}])
    result = (await send(world, first.request)).result
    assert result.outcome == audit_pb2.OUTCOME_ANSWERED
    charged, entries = world.city.count("hrss", "guess"), answered(world)
    again = (await send(world, first.request)).result
    assert (again.reply, again.owner_entry.entry) == (result.reply, result.owner_entry.entry)
    (direct,) = world.adapter.send(first.request)
    assert direct.reply == result.reply
    assert (world.city.count("hrss", "guess"), answered(world)) == (charged, entries)
    other = world.forge.request("hrss", [INSURED], [{"guardian": world.subject}], request_id=first.header.request_id)
    start = len(world.city.entries("hub"))
    response = await send(world, other.request)
    assert (response.result.reason, response.result.HasField("reply")) == ("REPLAYED", False)
    await recorded(world, response, sha256(other.request.header).digest(), start, "REPLAYED")
    (direct,) = world.adapter.send(other.request)
    assert direct.reason == "REPLAYED"
    assert (world.city.count("hrss", "guess"), answered(world)) == (charged, entries)
    await still_answers(world)


@pytest.mark.parametrize("who", ["foreign", "expired"])
async def test_a_foreign_or_expired_certificate_does_not_get_through_the_handshake(world: World, who: str) -> None:
    directory = world.city.layout.directory.parent / {"foreign": "stranger", "expired": "old"}[who]
    # The stranger knows our authority; we do not know theirs.
    credentials = grpc.ssl_channel_credentials(
        (world.city.layout.root / CA_CERTIFICATE).read_bytes(),
        (directory / "auth.key").read_bytes(),
        (directory / "auth.pem").read_bytes(),
    )
    channel = open_channel(world.city.hub_address, credentials, server_name=server_name(CITY, Kind.HUB))
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await exchange_pb2_grpc.ExchangeServiceStub(channel).GetOwnerKeys(
                exchange_pb2.GetOwnerKeysRequest(), timeout=3
            )
    finally:
        await channel.close()
    assert refused.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
    await still_answers(world)


async def test_a_revocation_that_is_published_reaches_hub_and_adapter_and_holds_for_tls_and_signature(
    world: World,
) -> None:
    """From the authority over two admins and the registrar, by the commands that people use."""
    city, path = world.city, world.city.layout.directory
    authority = Authority.load(path / "authority")
    files = enrol(authority, city.layout.root, path.parent / "doomed", "edu/system/doomed")
    keys = list(world.forge.keys.values())
    request = Forge(city, files, keys).request("hrss", [INSURED], [{"guardian": world.subject}]).request
    (item,) = world.adapter.send(request)
    assert item.reason == "ROLE_NOT_HELD"
    async with city.hub_channel(files) as channel:
        assert (await exchange(channel, request)).result.reason == "ROLE_NOT_HELD"
        for name in ("auth", "signing"):
            authority.revoke(_serial(files.directory / f"{name}.pem"))
        (path / "crl.pem").write_bytes(authority.crl())
        profile = write_profile(city.layout, "admin", f"{CENTRE}/admin/chen", registrar=city.address("registrar"))
        signers = [
            part
            for admin in ("chen", "lin")
            for part in ("--sign", str(city.layout.identity(f"{CENTRE}/admin/{admin}")))
        ]
        done = await asyncio.to_thread(
            command, "policy", "publish", str(path / "crl.pem"), *signers, "--profile", str(profile.path)
        )
        assert done.returncode == 0, done.stderr
        async with asyncio.timeout(20):
            while (reason := world.adapter.send(request)[0].reason) != "CERTIFICATE_REVOKED":
                assert reason == "ROLE_NOT_HELD"
                await asyncio.sleep(0.1)
            while True:
                try:
                    await exchange(channel, request)
                except grpc.aio.AioRpcError as error:
                    assert "CERTIFICATE_REVOKED" in refusal(error)  # noqa: PT017 - only in the end
                    break
                await asyncio.sleep(0.1)
    await still_answers(world)


def _serial(path: Path) -> int:
    from cryptography import x509  # noqa: PLC0415 - for this one look

    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


# Through the agent, as a program of the department would.


async def asked(world: World, request: api.VerifyRequest, address: str = "") -> str:
    """The reason, wherever it stands: of the call, of the case, or of every claim."""
    async with world.city.agent_stub(address) as stub:
        try:
            response = await stub.Verify(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            told = refusal(error)
            assert world.subject not in told
            return str(error.details()).partition(":")[0]
    reasons = {one.reason for one in response.result.claims} | {response.result.reason}
    assert not any(one.answer for one in response.result.claims)
    return ",".join(sorted(reasons - {""}))


def verify(world: World, claims: Sequence[str] = (INSURED,), **changes: str) -> api.VerifyRequest:
    return api.VerifyRequest(context=context(None, **changes), case=case(world.city.applications[0], claims))


def mistyped(world: World) -> api.VerifyRequest:
    request = verify(world)
    identifier = request.case.subjects[1].identifier
    request.case.subjects[1].identifier = identifier[:-1] + ("1" if identifier[-1] != "1" else "2")
    return request


def named(name: str) -> Callable[[World], api.VerifyRequest]:
    def make(world: World) -> api.VerifyRequest:
        request = verify(world)
        request.case.subjects[1].name = name
        return request

    return make


ASKED: dict[str, tuple[Callable[[World], api.VerifyRequest], str]] = {
    "a bad check digit": (mistyped, "IDENTIFIER_INVALID"),
    "an over-long name": (named("长" * 200), "NAME_INVALID"),
    "a name with an invisible character": (named("李\u200b梅"), "NAME_INVALID"),
    "a reference with an identifier": (lambda w: verify(w, reference=w.subject), "REFERENCE_INVALID"),
    "a reference out of the pattern": (lambda w: verify(w, reference="no"), "REFERENCE_INVALID"),
    "an official with an identifier": (lambda w: verify(w, official=w.subject), "OFFICIAL_INVALID"),
    "a role that is not mapped": (lambda w: verify(w, role="edu/inspector"), "ROLE_NOT_HELD"),
    "a place outside home": (lambda w: verify(w, jurisdiction="nbs:440103"), "OUTSIDE_HOME"),
    "a place that is none": (lambda w: verify(w, jurisdiction="nowhere"), "JURISDICTION_INVALID"),
    "a matter that is none": (lambda w: verify(w, matter="never-heard"), "MATTER_NOT_ALLOWED"),
    "a date that is not published": (lambda w: verify(w, reference_date="2026-10-01"), "DATE_NOT_PUBLISHED"),
    "ten thousand claims": (lambda w: verify(w, [f"{INSURED}{n}" for n in range(10_000)]), "TOO_MANY_CLAIMS"),
    "no claim": (lambda w: verify(w, ["hrss insured?"]), "CLAIM_SYNTAX"),
    "a threshold that is somebody": (
        lambda w: verify(w, [f"guardian: hrss.insured_months at_least {w.subject}"]), "CLAIM_SYNTAX",
    ),
    "a threshold between the cells": (
        lambda w: verify(w, ["guardian: hrss.insured_months at_least 13"]), "CELL_NOT_PUBLISHED",
    ),
    "an attribute that is not published": (lambda w: verify(w, ["guardian: hrss.shoe_size exists"]), "NOT_GRANTED"),
    "an owner that does not exist": (lambda w: verify(w, ["guardian: moon.phase exists"]), "NOT_GRANTED"),
    "an owner that is not attached": (lambda w: verify(w, ["child: police.age at_least 6"]), "OWNER_NOT_ATTACHED"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ASKED))
async def test_what_a_program_gets_wrong_is_told_by_the_agent(world: World, name: str) -> None:
    make, reason = ASKED[name]
    assert f"`{reason}`" in DOCUMENTED
    assert await asked(world, make(world)) == reason
    await still_answers(world)


async def test_an_agent_answers_nobody_who_is_not_mapped(world: World) -> None:
    city = world.city
    profile = write_profile(city.layout, "lonely", SYSTEM, listen=LOOPBACK, hub=[city.hub_address])
    profile.state.mkdir()
    city.fleet.start("lonely", zhiwang("agent", "run", "--profile", str(profile.path)))
    address = await asyncio.to_thread(city.address, "lonely")
    assert await asked(world, verify(world), address) == "CALLER_NOT_MAPPED"
    assert await asked(world, api.VerifyRequest(), address) == "CALLER_NOT_MAPPED"
    city.fleet.end("lonely")
    await still_answers(world)
