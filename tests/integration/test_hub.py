from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from audit.proofs import HeadChecker, HeadView, check_entry
from audit.store import LogStore
from certs.identity import Kind
from certs.signing import CertificateVerifier
from exchange.refusals import ENTRIES_PER_SECOND
from hub_support import (
    CHILD,
    Owner,
    Requester,
    RunningHub,
    Sealed,
    Stream,
    directory,
    exchange,
    granted,
    not_granted,
    running_hub,
)
from policy.glass import step_of
from policy.model import Activation
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.records import Outcome, decode_answers

OPENED = Activation("a", "edu", "health", "outbreak", 1_800_000_000, 1_800_003_600, bytes(32))


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
async def owner(hub: RunningHub, tmp_path: Path) -> AsyncIterator[Owner]:
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach()
    yield owner
    await owner.close()


@pytest.fixture
async def channel(hub: RunningHub) -> AsyncIterator[grpc.aio.Channel]:
    async with hub.channel("edu/system/enrolment") as channel:
        yield channel


@pytest.fixture
async def stream(channel: grpc.aio.Channel) -> AsyncIterator[Stream]:
    stream = Stream(channel)
    yield stream
    stream.close()


def view(hub: RunningHub, kind: Kind) -> HeadView:
    return HeadView(HeadChecker(CertificateVerifier(hub.city.ca_pem, frozenset), kinds={kind}))


async def until(condition: Callable[[], object]) -> None:
    """Until something that only the log or a counter tells is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


# What is allowed.


async def test_one_request_is_answered_with_both_entries_and_their_proofs(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    sealed = Requester(hub.city).seal(owner.key)
    response = await exchange(channel, sealed.request)
    result = response.result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_ANSWERED, "")
    assert decode_answers(sealed.header, sealed.open(result.reply)).outcomes == bytes([Outcome.YES])
    hub_entry = check_entry(result.hub_entry, view(hub, Kind.HUB).verify_head(response.hub_log)).hub_access
    owner_head = view(hub, Kind.ADAPTER).verify_head(response.owner_log)
    owner_entry = check_entry(result.owner_entry, owner_head).owner_access
    assert hub_entry.header == owner_entry.header == sealed.request.header
    assert hub_entry.signature == sealed.request.signature
    assert hub_entry.owner_index == result.owner_entry.index
    assert hub_entry.owner_checkpoint == response.owner_log.checkpoint
    assert hub_entry.directory_version == 7
    assert list(hub_entry.rule_ids) == ["hrss/enrolment"]


async def test_what_the_hub_keeps_names_no_citizen(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await exchange(channel, Requester(hub.city).seal(owner.key).request)
    for path in (tmp_path / "hub.db", tmp_path / "hub.db-wal"):
        assert CHILD.encode() not in await asyncio.to_thread(path.read_bytes)
    assert CHILD not in "".join(capsys.readouterr())


async def test_results_that_were_committed_together_share_one_head(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    sealed = [requester.seal(owner.key) for _ in range(40)]
    await stream.send(*(one.request for one in sealed))
    for number in range(1, 41):
        result = await stream.result(number)
        assert result.outcome == audit_pb2.OUTCOME_ANSWERED
    assert len(stream.frames) < 20
    heads = view(hub, Kind.HUB)
    for frame in stream.frames:
        checkpoint = heads.verify_head(frame.hub_log)
        for item in frame.items:
            access = check_entry(item.result.hub_entry, checkpoint).hub_access
            assert access.header == sealed[item.correlation_id - 1].request.header
            assert access.owner_checkpoint == frame.owner_logs[item.owner_log].checkpoint


async def test_each_head_of_a_stream_is_proved_from_the_one_before_and_the_first_from_what_the_caller_knows(
    hub: RunningHub, owner: Owner, stream: Stream, channel: grpc.aio.Channel
) -> None:
    requester = Requester(hub.city)
    heads = view(hub, Kind.HUB)
    heads.verify_head((await exchange(channel, requester.seal(owner.key).request)).hub_log)
    for number in range(1, 6):
        await stream.send(requester.seal(owner.key).request, first=number, known=heads.known_tree_size)
        await stream.result(number)
        heads.verify_head(stream.frame_of(number).hub_log)
    assert heads.wanted_link is None


async def test_a_caller_that_claims_to_have_seen_more_than_there_is_gets_no_proof(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    response = await exchange(channel, Requester(hub.city).seal(owner.key).request, known=10**12)
    assert response.hub_log.known_tree_size == 0


async def test_an_agent_of_the_same_department_may_carry_its_systems_requests(hub: RunningHub, owner: Owner) -> None:
    async with hub.channel("edu/agent/main") as channel:
        response = await exchange(channel, Requester(hub.city).seal(owner.key).request)
    assert response.result.outcome == audit_pb2.OUTCOME_ANSWERED


async def test_the_same_bytes_again_are_carried_and_recorded_again(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    request = Requester(hub.city).seal(owner.key).request
    for _ in range(2):
        assert (await exchange(channel, request)).result.outcome == audit_pb2.OUTCOME_ANSWERED
    assert [entry.header for entry in hub.entries()] == [request.header] * 2


async def test_a_roster_is_answered_like_a_single_case(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    sealed = Requester(hub.city).seal(owner.key, cases=200, priority=sealed_pb2.PRIORITY_BULK)
    response = await exchange(channel, sealed.request)
    assert len(decode_answers(sealed.header, sealed.open(response.result.reply)).outcomes) == 200


async def test_sealing_keys_of_attached_owners_are_passed_on_newest_first(
    owner: Owner, channel: grpc.aio.Channel
) -> None:
    stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
    response = await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest())
    assert list(response.keys) == owner.keys.statements()
    assert not (await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(owners=["police"]))).keys


# What policy denies.


async def test_a_claim_that_is_not_granted_is_masked_and_the_rest_goes_on(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    sealed = Requester(hub.city).seal(owner.key, claims=[granted("hrss"), not_granted()])
    response = await exchange(channel, sealed.request)
    result = response.result
    assert list(result.denied_claims) == [1]
    assert list(owner.frames[0].items[0].denied_claims) == [1]
    outcomes = decode_answers(sealed.header, sealed.open(result.reply)).outcomes
    assert outcomes == bytes([Outcome.YES, Outcome.DENIED_BY_HUB])
    (entry,) = hub.entries()
    assert (list(entry.denied_claims), list(entry.rule_ids)) == ([1], ["hrss/enrolment", ""])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"claims": [not_granted()]}, Reason.NOT_GRANTED),
        (
            {"claims": [sealed_pb2.ClaimShape(attribute="nothing", predicate=sealed_pb2.PREDICATE_EXISTS)]},
            Reason.NOT_GRANTED,
        ),
        (
            {
                "claims": [
                    sealed_pb2.ClaimShape(
                        attribute="pension_months", predicate=sealed_pb2.PREDICATE_AT_LEAST, cell="13"
                    )
                ]
            },
            Reason.CELL_NOT_PUBLISHED,
        ),
        ({"role": "edu/headmaster"}, Reason.ROLE_NOT_HELD),
        ({"jurisdiction": "nbs:440106"}, Reason.OUTSIDE_HOME),
        ({"matter": "senior-card"}, Reason.MATTER_NOT_ALLOWED),
        ({"matter_version": bytes(16)}, Reason.MATTER_CHANGED),
        ({"reference_date": "2026-09-02"}, Reason.DATE_NOT_PUBLISHED),
        ({"reference": "1999-000123"}, Reason.REFERENCE_INVALID),
        ({"slots": [sealed_pb2.Slot(name="child", ordinal=1, kind="person")]}, Reason.SLOT_UNKNOWN),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
async def test_what_is_denied_is_recorded_with_its_reason_and_never_reaches_the_owner(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel, changes: dict[str, Any], reason: Reason
) -> None:
    sealed = Requester(hub.city).seal(owner.key, **changes)
    result = (await exchange(channel, sealed.request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_DENIED, reason.name)
    assert not result.HasField("reply")
    (entry,) = hub.entries()
    assert (entry.outcome, entry.reason) == (audit_pb2.OUTCOME_DENIED, reason.name)
    assert entry.header == sealed.request.header
    assert not owner.frames


async def test_a_request_built_by_a_newer_directory_is_told_to_come_back(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    result = (await exchange(channel, Requester(hub.city).seal(owner.key, owner_document_version=99).request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "DIRECTORY_BEHIND")


# What cannot be trusted.


def resign(change: Callable[[sealed_pb2.SealedRequest], None]) -> Callable[[Requester, Sealed], None]:
    def apply(requester: Requester, sealed: Sealed) -> None:
        change(sealed.request)
        requester.sign(sealed.request)

    return apply


def flip(field: str, place: int) -> Callable[[Requester, Sealed], None]:
    def apply(_requester: Requester, sealed: Sealed) -> None:
        data = bytearray(getattr(sealed.request, field))
        data[place] ^= 1
        setattr(sealed.request, field, bytes(data))

    return apply


def put(field: str, value: bytes) -> Callable[[Requester, Sealed], None]:
    return lambda _requester, sealed: setattr(sealed.request, field, value)


UNTRUSTED = {
    "no header": (put("header", b""), Reason.REQUEST_MALFORMED),
    "a header that is none": (put("header", b"\xff\xff"), Reason.REQUEST_MALFORMED),
    "an oversized header": (put("header", bytes(20_000)), Reason.REQUEST_TOO_LARGE),
    "an oversized ciphertext": (put("ciphertext", bytes(5 << 20)), Reason.REQUEST_TOO_LARGE),
    "a cut ciphertext": (
        lambda _r, s: setattr(s.request, "ciphertext", s.request.ciphertext[:-1]),
        Reason.REQUEST_MALFORMED,
    ),
    "a short nonce": (put("nonce", bytes(11)), Reason.REQUEST_MALFORMED),
    "a flipped bit of the ciphertext": (flip("ciphertext", 40), Reason.SIGNATURE_INVALID),
    "a flipped bit of enc": (flip("enc", 0), Reason.SIGNATURE_INVALID),
    "a flipped bit of the nonce": (flip("nonce", 0), Reason.SIGNATURE_INVALID),
    "a flipped bit of the root": (flip("request_root", 0), Reason.SIGNATURE_INVALID),
    "a flipped bit of the signature": (flip("signature", 0), Reason.SIGNATURE_INVALID),
    "a certificate that is none": (put("certificate", b"nothing"), Reason.CERTIFICATE_INVALID),
    "no certificate": (put("certificate", b""), Reason.REQUEST_MALFORMED),
}


@pytest.mark.parametrize(("spoil", "reason"), UNTRUSTED.values(), ids=UNTRUSTED)
async def test_what_cannot_be_trusted_is_refused_and_recorded_without_what_it_says(
    hub: RunningHub,
    owner: Owner,
    channel: grpc.aio.Channel,
    spoil: Callable[[Requester, Sealed], None],
    reason: Reason,
) -> None:
    requester = Requester(hub.city)
    sealed = requester.seal(owner.key)
    spoil(requester, sealed)
    result = (await exchange(channel, sealed.request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_REFUSED, reason.name)
    (refusal,) = hub.entries("refusal")
    assert (refusal.reason, refusal.peer, refusal.count) == (
        reason.name,
        "spiffe://shenzhen/edu/system/enrolment",
        1,
    )
    assert not hub.entries()
    assert not owner.frames


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"issue_time": 20, "expire_time": 50}, Reason.CLOCK_SKEW),
        ({"issue_time": -90, "expire_time": -40}, Reason.REQUEST_EXPIRED),
        ({"issue_time": 0, "expire_time": 400}, Reason.LIFETIME_TOO_LONG),
        ({"certificate_fingerprint": bytes(32)}, Reason.IDENTITY_MISMATCH),
        ({"system": "spiffe://shenzhen/edu/system/library"}, Reason.IDENTITY_MISMATCH),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
async def test_a_header_of_a_wrong_time_or_another_system_is_refused(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel, changes: dict[str, Any], reason: Reason
) -> None:
    now = time.time()
    changes = {field: value + now if field.endswith("_time") else value for field, value in changes.items()}
    result = (await exchange(channel, Requester(hub.city).seal(owner.key, **changes).request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_REFUSED, reason.name)
    assert [entry.reason for entry in hub.entries("refusal")] == [reason.name]
    if reason is Reason.CLOCK_SKEW:
        assert -25_000 < result.clock_offset_ms < -10_000


@pytest.mark.parametrize("peer", ["edu/system/library", "police/agent/main"])
async def test_nobody_can_send_another_systems_request_as_its_own(hub: RunningHub, owner: Owner, peer: str) -> None:
    async with hub.channel(peer) as channel:
        result = (await exchange(channel, Requester(hub.city).seal(owner.key).request)).result
    assert result.reason == "IDENTITY_MISMATCH"
    assert not owner.frames


async def test_a_header_re_signed_by_another_requester_is_refused(hub: RunningHub, owner: Owner) -> None:
    sealed = Requester(hub.city).seal(owner.key)
    thief = Requester(hub.city, "edu/system/library")
    sealed.request.certificate = thief.signer.certificate_der
    thief.sign(sealed.request)
    async with hub.channel("edu/system/library") as channel:
        result = (await exchange(channel, sealed.request)).result
    assert result.reason == "IDENTITY_MISMATCH"


async def test_a_revoked_signing_certificate_signs_nothing_more(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    requester = Requester(hub.city)
    verified = CertificateVerifier(hub.city.ca_pem, frozenset).verify(requester.signer.certificate_der, time.time())
    hub.holder.set(directory(revoked=frozenset({verified.serial}), version=8))
    result = (await exchange(channel, requester.seal(owner.key).request)).result
    assert result.reason == "CERTIFICATE_REVOKED"


async def test_many_refusals_of_one_peer_become_few_entries_that_count_them_all(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    requests = [requester.seal(owner.key).request for _ in range(100)]
    for request in requests:
        request.signature = bytes(64)
    await stream.send(*requests)
    for number in range(1, 101):
        assert (await stream.result(number)).reason == "SIGNATURE_INVALID"
    await until(lambda: sum(entry.count for entry in hub.entries("refusal")) == 100)
    assert len(hub.entries("refusal")) <= 2 * ENTRIES_PER_SECOND + 4


async def test_an_adapter_may_not_ask_and_a_system_may_not_attach(
    hub: RunningHub, owner: Owner, tmp_path: Path
) -> None:
    async with hub.channel("hrss/adapter/main") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchange(channel, Requester(hub.city).seal(owner.key).request)
    assert refusal_of(caught.value).reason is Reason.RPC_NOT_ALLOWED
    impostor = Owner(hub, tmp_path / "impostor", "hrss/system/counter")
    with pytest.raises(grpc.aio.AioRpcError):
        await impostor.attach()
    await impostor.close()


# Bounds, deadlines and what goes wrong.


async def test_a_requester_that_has_too_much_in_flight_is_refused_and_others_are_served(
    hub: RunningHub, owner: Owner, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.waiting.MAX_IN_FLIGHT", 5)
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    owner.hold.clear()
    await stream.send(*(requester.seal(owner.key).request for _ in range(6)))
    result = await stream.result(6)
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "OVERLOADED")
    async with hub.channel("edu/agent/main") as channel:
        other = Stream(channel)
        await other.send(requester.seal(owner.key).request)
        await owner.received(6)
        owner.hold.set()
        assert (await other.result()).outcome == audit_pb2.OUTCOME_ANSWERED
        other.close()
    for number in range(1, 6):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED


async def test_an_owner_that_is_late_is_unavailable_and_its_late_reply_is_recorded_all_the_same(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    owner.hold.clear()
    sealed = Requester(hub.city).seal(owner.key)
    await stream.send(sealed.request, seconds=0.3)
    result = await stream.result()
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "OWNER_TIMED_OUT")
    await until(lambda: owner.cancelled)
    owner.hold.set()
    await until(lambda: len(hub.entries()) == 2)
    late = hub.entries()[1]
    assert late.outcome == audit_pb2.OUTCOME_ANSWERED
    assert late.header == sealed.request.header
    await until(lambda: hub.parts.hub.in_flight == 0)


async def test_the_owner_is_told_a_shorter_time_than_the_caller_has(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    await stream.send(Requester(hub.city).seal(owner.key).request, seconds=2.0)
    await stream.result()
    told = owner.frames[0].items[0].timeout
    assert 1.0 < told.seconds + told.nanos / 1e9 < 2.0


async def test_a_caller_that_hangs_up_does_not_undo_what_the_owner_does(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    owner.hold.clear()
    await stream.send(Requester(hub.city).seal(owner.key).request)
    await owner.received(1)
    stream.close()
    await until(lambda: owner.cancelled)
    owner.hold.set()
    await until(lambda: [entry.outcome for entry in hub.entries()] == [audit_pb2.OUTCOME_ANSWERED])


async def test_an_owner_that_is_not_attached_is_unavailable_at_once_and_that_is_recorded(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    key = owner.key
    await owner.leave()
    await until(lambda: not list(hub.parts.hub.links))
    result = (await exchange(channel, Requester(hub.city).seal(key).request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "OWNER_NOT_ATTACHED")
    assert [entry.reason for entry in hub.entries()] == ["OWNER_NOT_ATTACHED"]


async def test_a_key_that_no_attached_replica_holds_is_unknown(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    sealed = Requester(hub.city).seal(owner.key, owner_key_id=bytes(16))
    result = (await exchange(channel, sealed.request)).result
    assert result.reason == "KEY_UNKNOWN"
    assert not owner.frames


async def test_nothing_is_answered_when_the_hubs_log_has_stopped(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    owner.hold.clear()
    call = asyncio.create_task(exchange(channel, Requester(hub.city).seal(owner.key).request))
    await owner.received(1)
    hub.store.stop(OSError())
    owner.hold.set()
    result = (await call).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "LOG_UNAVAILABLE")
    assert not result.HasField("reply")
    hub.store.open()


async def test_nothing_is_carried_once_the_directory_has_expired(
    hub: RunningHub, owner: Owner, channel: grpc.aio.Channel
) -> None:
    hub.holder.set(directory(expires=time.time() - 1, version=8))
    result = (await exchange(channel, Requester(hub.city).seal(owner.key).request)).result
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "DIRECTORY_EXPIRED")
    assert not owner.frames


async def test_one_requests_fate_does_not_spoil_its_neighbours(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    requester = Requester(hub.city)
    spoilt = requester.seal(owner.key).request
    spoilt.signature = bytes(64)
    denied = requester.seal(owner.key, claims=[not_granted()]).request
    await stream.send(spoilt, requester.seal(owner.key).request, denied)
    assert (await stream.result(1)).reason == "SIGNATURE_INVALID"
    assert (await stream.result(2)).outcome == audit_pb2.OUTCOME_ANSWERED
    assert (await stream.result(3)).reason == "NOT_GRANTED"


async def test_a_correlation_id_in_use_ends_the_stream(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    owner.hold.clear()
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key).request, first=1)
    await stream.send(requester.seal(owner.key).request, first=1)
    async with asyncio.timeout(10):
        assert await stream.call.code() is grpc.StatusCode.INVALID_ARGUMENT
    owner.hold.set()


async def test_a_stream_that_says_no_more_ends_when_all_is_answered(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    await stream.send(*(requester.seal(owner.key).request for _ in range(3)))
    await stream.call.done_writing()
    for number in (1, 2, 3):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    async with asyncio.timeout(10):
        assert await stream.call.read() is grpc.aio.EOF
        assert await stream.call.code() is grpc.StatusCode.OK


async def test_a_hub_that_stops_finishes_what_is_with_owners_and_takes_nothing_new(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    owner.hold.clear()
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key).request)
    await owner.received(1)
    finishing = asyncio.create_task(hub.parts.hub.finish(10))
    await until(lambda: hub.parts.hub.draining)
    await stream.send(requester.seal(owner.key).request, first=2)
    assert (await stream.result(2)).reason == "SHUTTING_DOWN"
    assert not finishing.done()
    owner.hold.set()
    assert (await stream.result(1)).outcome == audit_pb2.OUTCOME_ANSWERED
    await finishing


async def test_a_change_of_the_directory_is_recorded(hub: RunningHub) -> None:
    hub.parts.hub.note_directory(directory(version=9))
    await until(lambda: [entry.directory_version for entry in hub.entries("directory_change")] == [9])


async def test_what_has_happened_is_recorded_in_its_turn_once_the_log_goes_on(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(LogStore, "append", full)
        with pytest.raises(FatalError):
            await hub.audit_log.record(audit_pb2.DirectoryChange(directory_version=7))
        hub.parts.hub.note_event(step_of(audit_pb2.EMERGENCY_ACTION_IN_FORCE, OPENED))
        hub.parts.hub.note_directory(directory(version=9))
        await until(lambda: not hub.audit_log.healthy)
    await hub.audit_log.reload()
    await until(lambda: [entry.directory_version for entry in hub.entries("directory_change")] == [9])
    assert [step.opening for step in hub.entries("emergency_step")] == ["a"]
