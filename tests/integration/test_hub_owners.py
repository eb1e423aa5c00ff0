from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from audit.entry import decode_entry, encode_entry
from audit.service import prove_consistency
from certs.identity import Identity
from certs.signing import CertificateVerifier
from exchange.app import _distrusted, stop
from exchange.views import OwnerViews
from hub_support import Owner, Reply, Requester, RunningHub, Stream, directory, new_log, reopened_log, running_hub
from zhiwang.adapter.v1 import adapter_pb2, adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.channel import refusal_of
from zhiwang.wire.errors import Reason, RefusedError


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
async def stream(hub: RunningHub) -> AsyncIterator[Stream]:
    async with hub.channel("edu/system/enrolment") as channel:
        stream = Stream(channel)
        yield stream
        stream.close()


async def until(condition: Callable[[], object]) -> None:
    """Until something that only the log or a counter tells is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


# Owners that lie.


def swap_entries(frame: Reply) -> Reply:
    first, second = frame.items[0].entry, frame.items[1].entry
    kept = audit_pb2.LoggedEntry()
    kept.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(kept)
    return frame


def without_log(frame: Reply) -> Reply:
    frame.ClearField("log")
    return frame


def without_reply(frame: Reply) -> Reply:
    for item in frame.items:
        item.ClearField("reply")
    return frame


def with_flipped_path(frame: Reply) -> Reply:
    for item in frame.items:
        path = item.entry.inclusion_path
        path[0] = bytes([path[0][0] ^ 1]) + path[0][1:]
    return frame


def with_other_index(frame: Reply) -> Reply:
    for item in frame.items:
        item.entry.index += 1
    return frame


def with_flipped_checkpoint(frame: Reply) -> Reply:
    note = frame.log.checkpoint
    frame.log.checkpoint = note.replace(b"\n", b"\n1", 1)
    return frame


def with_changed_entry(change: Callable[[audit_pb2.OwnerAccess], None]) -> Callable[[Reply], Reply]:
    """An entry that says something else. Its proof no longer leads anywhere, which is how a lie after signing looks."""

    def tamper(frame: Reply) -> Reply:
        for item in frame.items:
            entry = decode_entry(item.entry.entry)
            change(entry.owner_access)
            item.entry.entry = encode_entry(entry.owner_access, nonce=entry.nonce, time=1.0)
        return frame

    return tamper


LIES = {
    "an entry of another request": swap_entries,
    "no head": without_log,
    "no answers": without_reply,
    "a wrong path": with_flipped_path,
    "a wrong index": with_other_index,
    "a checkpoint that nobody signed": with_flipped_checkpoint,
    "another answer root than was recorded": with_changed_entry(lambda e: setattr(e, "answer_root", bytes(32))),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_an_answer_whose_proof_does_not_hold_is_withheld_and_that_is_recorded(
    hub: RunningHub,
    owner: Owner,
    stream: Stream,
    lie: Callable[[Reply], Reply],
    capsys: pytest.CaptureFixture[str],
) -> None:
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    introduced = len(hub.entries())
    owner.tamper = lie
    await stream.send(requester.seal(owner.key).request, requester.seal(owner.key).request)
    for number in (1, 2):
        result = await stream.result(number)
        assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "PROOF_INVALID")
        assert not result.HasField("reply")
        assert not result.HasField("owner_entry")
    assert [entry.reason for entry in hub.entries()[introduced:]] == ["PROOF_INVALID"] * 2
    assert "does not verify" in capsys.readouterr().out


async def recorded_otherwise(owner: Owner, change: Callable[[audit_pb2.OwnerAccess], None]) -> None:
    """Make an owner record something else than it was asked, with a good proof of that."""
    honest = owner._process

    def process(item: adapter_pb2.RequestFrame.Item) -> tuple[audit_pb2.OwnerAccess, sealed_pb2.SealedReply]:
        event, reply = honest(item)
        change(event)
        return event, reply

    owner._process = process  # type: ignore[method-assign]  # this is what makes it lie


OTHER_RECORDS: dict[str, Callable[[audit_pb2.OwnerAccess], None]] = {
    "another header": lambda e: setattr(e, "header", e.header + b"\0"),
    "another signature": lambda e: setattr(e, "signature", bytes(64)),
    "another sealed part": lambda e: setattr(e, "sealed_hash", bytes(32)),
    "another root": lambda e: setattr(e, "request_root", bytes(32)),
    "fewer cases": lambda e: setattr(e, "cases", 0),
    "fewer claims": lambda e: setattr(e, "claims", 0),
}


@pytest.mark.parametrize("change", OTHER_RECORDS.values(), ids=OTHER_RECORDS)
async def test_an_entry_that_is_proved_but_of_something_else_is_no_proof(
    hub: RunningHub, owner: Owner, stream: Stream, change: Callable[[audit_pb2.OwnerAccess], None]
) -> None:
    await recorded_otherwise(owner, change)
    await stream.send(Requester(hub.city).seal(owner.key).request)
    assert (await stream.result()).reason == "PROOF_INVALID"


async def test_an_owner_that_ignores_the_hubs_mask_is_found_out(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    await recorded_otherwise(owner, lambda event: event.ClearField("denied_claims"))
    claims = [
        sealed_pb2.ClaimShape(attribute="pension_months", predicate=sealed_pb2.PREDICATE_AT_LEAST, cell="12"),
        sealed_pb2.ClaimShape(attribute="secret", predicate=sealed_pb2.PREDICATE_EXISTS),
    ]
    await stream.send(Requester(hub.city).seal(owner.key, claims=claims).request)
    assert (await stream.result()).reason == "PROOF_INVALID"


async def test_an_owner_cannot_answer_from_a_log_that_forgets(
    hub: RunningHub, owner: Owner, stream: Stream, tmp_path: Path
) -> None:
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key).request, first=1)
    assert (await stream.result(1)).outcome == audit_pb2.OUTCOME_ANSWERED
    forgotten = owner.store
    owner.store = new_log(tmp_path / "another.db", owner.files)
    await stream.send(requester.seal(owner.key).request, first=2)
    assert (await stream.result(2)).reason == "PROOF_INVALID"
    forgotten.close()
    forgotten.engine.dispose()


async def test_an_owner_must_prove_its_log_from_what_the_hub_had_seen_when_it_asked(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    """Else it could carry on two histories, each proved from its own past."""
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    old = owner.store.newest.size
    await stream.introduce(requester, owner, 2_000_000)

    def from_the_past(frame: Reply) -> Reply:
        frame.log.CopyFrom(owner.store.head(old))
        return frame

    owner.tamper = from_the_past
    await stream.send(requester.seal(owner.key).request)
    assert (await stream.result()).reason == "PROOF_INVALID"


async def test_another_departments_adapter_cannot_answer_with_the_owners_log(
    hub: RunningHub, owner: Owner, stream: Stream, tmp_path: Path
) -> None:
    """The log's certificate must be that of the adapter on the link."""
    police = Owner(hub, tmp_path / "police", "police/adapter/main")
    await police.attach()
    police.store, owner.store = owner.store, police.store
    await stream.send(Requester(hub.city).seal(police.key).request)
    assert (await stream.result()).reason == "PROOF_INVALID"
    police.store, owner.store = owner.store, police.store
    await police.close()


async def test_an_adapter_cannot_announce_another_departments_keys(
    hub: RunningHub, owner: Owner, tmp_path: Path
) -> None:
    police = Owner(hub, tmp_path / "police", "police/adapter/main")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await police.attach(keys=owner.keys.statements())
    assert refusal_of(caught.value).reason is Reason.KEY_UNKNOWN
    await police.close()


async def test_an_owners_refusal_is_passed_on_and_recorded(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    owner.refuse = "COMMITMENT_MISMATCH"
    await stream.send(Requester(hub.city).seal(owner.key).request)
    result = await stream.result()
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_REFUSED, "COMMITMENT_MISMATCH")
    assert [(e.outcome, e.reason) for e in hub.entries()] == [(audit_pb2.OUTCOME_REFUSED, "COMMITMENT_MISMATCH")]


async def test_words_of_an_owner_that_are_no_reason_are_not_passed_on(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    owner.refuse = "the mother is 440399199001010011"
    await stream.send(Requester(hub.city).seal(owner.key).request)
    result = await stream.result()
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "OWNER_FAILED")
    assert [entry.reason for entry in hub.entries()] == ["OWNER_FAILED"]


async def test_a_reply_to_a_request_that_nobody_made_changes_nothing(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    await owner.say(reply_frame=Reply(items=[Reply.Item(correlation_id=999, reason="OWNER_FAILED")]))
    await stream.send(Requester(hub.city).seal(owner.key).request)
    assert (await stream.result()).outcome == audit_pb2.OUTCOME_ANSWERED


# Links that come and go.


async def test_a_lost_link_fails_its_requests_at_once(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    owner.hold.clear()
    await stream.send(*(Requester(hub.city).seal(owner.key).request for _ in range(3)))
    await owner.received(1)
    await owner.vanish()
    reasons = {(await stream.result(number)).reason for number in (1, 2, 3)}
    assert reasons <= {"OWNER_FAILED", "OWNER_NOT_ATTACHED"}
    assert len(hub.entries()) == 3
    assert hub.parts.hub.in_flight == 0


async def test_an_owner_that_comes_back_is_asked_again(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    await owner.vanish()
    await until(lambda: not list(hub.parts.hub.links))
    await owner.attach()
    await stream.send(Requester(hub.city).seal(owner.key).request)
    assert (await stream.result()).outcome == audit_pb2.OUTCOME_ANSWERED


async def replicas(hub: RunningHub, path: Path, *names: str, credit: int = 1024) -> list[Owner]:
    """Replicas of one adapter: one log, one set of keys."""
    owners = [Owner(hub, path, replica=name, credit=credit) for name in names]
    for owner in owners:
        await owner.attach()
    return owners


async def test_before_a_first_head_was_seen_one_frame_is_outstanding_over_all_replicas(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    owners = await replicas(hub, tmp_path / "hrss", "one", "two")
    for owner in owners:
        owner.hold.clear()
    requester = Requester(hub.city)
    for number in range(1, 7):
        await stream.send(requester.seal(owners[0].key).request, first=number)
    await until(lambda: hub.parts.hub.in_flight == 6)
    await asyncio.sleep(0.05)
    assert sum(len(owner.frames) for owner in owners) == 1
    for owner in owners:
        owner.hold.set()
    for number in range(1, 7):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    for owner in owners:
        await owner.close()


async def test_the_first_frame_of_all_may_be_answered_in_several(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    owner.apart = True
    requester = Requester(hub.city)
    await stream.send(*(requester.seal(owner.key).request for _ in range(4)))
    for number in range(1, 5):
        result = await stream.result(number)
        assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_ANSWERED, "")


async def test_when_the_first_to_be_asked_is_lost_another_is_asked(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    owners = await replicas(hub, tmp_path / "hrss", "one", "two")
    owners[0].hold.clear()
    requester = Requester(hub.city)
    for number in range(1, 5):
        await stream.send(requester.seal(owners[0].key).request, first=number)
    await owners[0].received(1)
    await owners[0].vanish()
    results = [await stream.result(number) for number in range(1, 5)]
    assert [result.reason for result in results].count("OWNER_FAILED") == 1
    assert [result.outcome for result in results].count(audit_pb2.OUTCOME_ANSWERED) == 3
    for owner in owners:
        await owner.close()


async def both_asked(hub: RunningHub, stream: Stream, owners: list[Owner]) -> None:
    """One request at each of two replicas, each sent before the other was answered."""
    requester = Requester(hub.city)
    for owner in owners:
        owner.hold.clear()
    for number, owner in enumerate(owners, 1):
        before = len(owner.frames)
        await stream.send(requester.seal(owners[0].key).request, first=number)
        await until(lambda owner=owner, before=before: len(owner.frames) > before)  # type: ignore[misc]
    for owner in owners:
        owner.hold.set()
    for number in (1, 2):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED


async def test_heads_of_replicas_that_answer_at_once_are_related_afterwards(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    owners = await replicas(hub, tmp_path / "hrss", "one", "two")
    await stream.introduce(Requester(hub.city), owners[0])
    await both_asked(hub, stream, owners)
    (log,) = hub.parts.hub.links.logs
    await until(lambda: owners[0].asked + owners[1].asked and not log.view.unlinked)
    assert log.view.fork is None
    for owner in owners:
        await owner.close()


async def test_a_log_that_forks_to_replies_outstanding_together_is_found_and_never_believed_again(
    hub: RunningHub, stream: Stream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owners = await replicas(hub, tmp_path / "hrss", "one", "two")
    requester = Requester(hub.city)
    await stream.introduce(requester, owners[0])
    await stream.introduce(requester, owners[0], 2_000_000)
    shared = owners[1].store
    shared.close()
    with sqlite3.connect(tmp_path / "hrss" / "owner.db") as whole, sqlite3.connect(tmp_path / "fork.db") as copy:
        whole.backup(copy)
    fork = owners[1].store = reopened_log(tmp_path / "fork.db", owners[1].files)
    fork_entry = fork.new_entry(audit_pb2.Refusal(reason="OVERLOADED", count=1))
    with fork.transaction() as connection:
        appended = fork.append(connection, [fork_entry])
    fork.committed(appended)

    def honest_of_the_fork(old_size: int, new_size: int) -> adapter_pb2.Related:
        proof = prove_consistency(fork, old_size, new_size)
        return adapter_pb2.Related(old_size=old_size, new_size=new_size, proof=proof)

    for owner in owners:
        owner.relate = honest_of_the_fork  # type: ignore[method-assign]  # all that a liar has to show
    await both_asked(hub, stream, owners)
    (log,) = hub.parts.hub.links.logs
    await until(lambda: log.view.fork)
    assert "has forked" in capsys.readouterr().out
    assert _distrusted(log)
    await stream.send(requester.seal(owners[0].key).request, first=3)
    assert (await stream.result(3)).reason == "PROOF_INVALID"
    # Nor after a restart of the hub; and what was signed is kept.
    views = hub.views
    views.save(views.changed())
    again = OwnerViews(tmp_path / "owner_logs", CertificateVerifier(hub.city.ca_pem, frozenset), time.time)
    restored = again.view(owners[0].files.identity)
    assert restored.fork is not None
    assert restored.fork.old.checkpoint.startswith(b"shenzhen/hrss/adapter/main\n")
    with pytest.raises(RefusedError, match="audit office"):
        restored.verify_head(owners[0].store.head(restored.known_tree_size))
    shared.engine.dispose()
    for owner in owners:
        await owner.close()


async def test_requests_go_to_the_replica_with_the_fewest_outstanding(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    owners = await replicas(hub, tmp_path / "hrss", "one", "two", "three")
    requester = Requester(hub.city)
    await stream.introduce(requester, owners[0])
    for owner in owners:
        owner.hold.clear()
    for number in range(1, 10):
        await stream.send(requester.seal(owners[0].key).request, first=number)
    for owner in owners:
        await owner.received(3)
        owner.hold.set()
    for number in range(1, 10):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    for owner in owners:
        await owner.close()


async def test_a_request_goes_only_to_a_replica_that_holds_its_key(
    hub: RunningHub, owner: Owner, stream: Stream, tmp_path: Path
) -> None:
    other = Owner(hub, tmp_path / "other", "hrss/adapter/second")
    await other.attach()
    requester = Requester(hub.city)
    await stream.send(*(requester.seal(other.key).request for _ in range(6)))
    for number in range(1, 7):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    assert not owner.frames
    await other.close()


async def test_a_draining_replica_gets_nothing_more_and_what_waited_for_it_goes_to_another(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    (first,) = await replicas(hub, tmp_path / "hrss", "one", credit=1)
    requester = Requester(hub.city)
    await stream.introduce(requester, first)
    first.hold.clear()
    await stream.send(*(requester.seal(first.key).request for _ in range(4)))
    await first.received(1)
    (second,) = await replicas(hub, tmp_path / "hrss", "two")
    await first.say(draining=adapter_pb2.Draining())
    await second.received(3)
    first.hold.set()
    for number in range(1, 5):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    assert sum(len(frame.items) for frame in first.frames) == 1
    await first.close()
    await second.close()


async def test_a_replica_never_has_more_requests_than_its_credit(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    (owner,) = await replicas(hub, tmp_path / "hrss", "one", credit=2)
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    owner.hold.clear()
    await stream.send(*(requester.seal(owner.key).request for _ in range(6)))
    await owner.received(2)
    await asyncio.sleep(0.05)
    assert sum(len(frame.items) for frame in owner.frames) == 2
    await owner.say(credit=adapter_pb2.Credit(requests=4))
    await owner.received(4)
    owner.hold.set()
    for number in range(1, 7):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    await owner.close()


async def test_a_full_queue_of_an_owner_is_told_at_once(
    hub: RunningHub, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.link.MAX_QUEUED", 2)
    (owner,) = await replicas(hub, tmp_path / "hrss", "one", credit=1)
    owner.hold.clear()
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key).request)
    await owner.received(1)
    await stream.send(*(requester.seal(owner.key).request for _ in range(3)), first=2)
    result = await stream.result(4)
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "OVERLOADED")
    owner.hold.set()
    assert (await stream.result(3)).outcome == audit_pb2.OUTCOME_ANSWERED
    await owner.close()


async def test_requests_that_arrive_while_an_owner_is_busy_reach_it_in_few_frames(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    owner.hold.clear()
    await stream.send(*(requester.seal(owner.key).request for _ in range(60)))
    await owner.received(60)
    owner.hold.set()
    for number in range(1, 61):
        await stream.result(number)
    assert len(owner.frames) < 15


async def test_bulk_and_interactive_requests_never_share_a_frame(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    requester = Requester(hub.city)
    priorities = (sealed_pb2.PRIORITY_INTERACTIVE, sealed_pb2.PRIORITY_BULK)
    await stream.send(*(requester.seal(owner.key, priority=priorities[i % 2]).request for i in range(20)))
    for number in range(1, 21):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED
    for frame in owner.frames:
        assert len({sealed_pb2.Header.FromString(item.request.header).priority for item in frame.items}) == 1


async def test_a_replica_that_attaches_again_takes_the_place_of_its_half_open_link(
    hub: RunningHub, stream: Stream, tmp_path: Path
) -> None:
    first, second = await replicas(hub, tmp_path / "hrss", "one", "one")
    assert len(list(hub.parts.hub.links)) == 1
    assert await first.ended() is grpc.StatusCode.OK
    await stream.send(Requester(hub.city).seal(second.key).request)
    assert (await stream.result()).outcome == audit_pb2.OUTCOME_ANSWERED
    assert second.frames
    await first.close()
    await second.close()


async def test_sealing_keys_that_change_on_the_link_are_used_at_once(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    old = owner.key
    await owner.say(owner_keys=adapter_pb2.OwnerKeys())
    requester = Requester(hub.city)
    await until(lambda: not hub.parts.hub.links.keys((), 0.0))
    await stream.send(requester.seal(old).request, first=1)
    assert (await stream.result(1)).reason == "KEY_UNKNOWN"
    await owner.say(owner_keys=adapter_pb2.OwnerKeys(keys=owner.keys.statements()))
    await until(lambda: hub.parts.hub.links.keys((), 0.0))
    await stream.send(requester.seal(old).request, first=2)
    assert (await stream.result(2)).outcome == audit_pb2.OUTCOME_ANSWERED


async def test_a_revoked_adapter_is_dropped_at_its_next_message(hub: RunningHub, owner: Owner, stream: Stream) -> None:
    pem = (owner.files.directory / "auth.pem").read_bytes()
    serial = await asyncio.to_thread(_serial, pem)
    request = Requester(hub.city).seal(owner.key).request
    hub.holder.set(directory(revoked=frozenset({serial}), version=8))
    await stream.send(request)
    # The hub looks at everybody's certificate by itself as well, and may have done so before the request came.
    assert (await stream.result()).reason in {"OWNER_FAILED", "PROOF_INVALID", "OWNER_NOT_ATTACHED"}
    assert await owner.ended() is grpc.StatusCode.UNAUTHENTICATED


def _serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


@pytest.mark.parametrize(
    "first",
    [
        adapter_pb2.AttachRequest(draining=adapter_pb2.Draining()),
        adapter_pb2.AttachRequest(hello=adapter_pb2.Hello(replica="x" * 65)),
        adapter_pb2.AttachRequest(hello=adapter_pb2.Hello(replica="a\nb")),
        adapter_pb2.AttachRequest(hello=adapter_pb2.Hello(keys=[sealed_pb2.OwnerKeyStatement()] * 17)),
    ],
    ids=["no Hello", "a long name", "a name with a line break", "too many keys"],
)
async def test_a_link_that_begins_wrongly_is_ended(hub: RunningHub, first: adapter_pb2.AttachRequest) -> None:
    async with hub.channel("police/adapter/main") as channel:
        call = adapter_pb2_grpc.AdapterServiceStub(channel).Attach()
        await call.write(first)
        async with asyncio.timeout(10):
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_was_seen_of_an_owners_log_outlives_the_hub(
    hub: RunningHub, owner: Owner, stream: Stream, tmp_path: Path
) -> None:
    await stream.send(Requester(hub.city).seal(owner.key).request)
    await stream.result()
    adapter = Identity.parse("spiffe://shenzhen/hrss/adapter/main")
    seen = hub.parts.hub.links.owner_log(adapter).view
    views = OwnerViews(tmp_path / "owner_logs", CertificateVerifier(hub.city.ca_pem, frozenset), lambda: 0.0)
    (tmp_path / "owner_logs").mkdir(exist_ok=True)
    views.view(adapter).restore(seen.export())
    views.save(views.changed())
    again = OwnerViews(tmp_path / "owner_logs", CertificateVerifier(hub.city.ca_pem, frozenset), lambda: 0.0)
    assert again.view(adapter).newest == seen.newest
    assert again.changed() == {}


async def test_a_hub_that_stops_tells_its_owners_and_ends_their_links(hub: RunningHub, owner: Owner) -> None:
    await stop(hub.parts, 1.0)
    assert await owner.ended() is grpc.StatusCode.OK
    await until(lambda: owner.drained)
