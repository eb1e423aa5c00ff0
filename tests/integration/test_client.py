"""The client against a real hub over real mTLS: what it releases, what it withholds, and what it survives."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

import policy_support
from audit.entry import decode_entry
from certs.owner_keys import OwnerKeyStore
from certs.sealing import Opener
from certs.signing import CertificateVerifier
from city_support import CHILD, FATHER, MOTHER, OneVoice, RunningCity, running_city
from exchange.client.case import Answer, Case, CaseResult, Ruling, Status, Subject
from exchange.client.client import Client
from exchange.client.receipt_verify import verify_receipt
from exchange.client.sync import SyncClient
from exchange.client.transport import Transport
from policy import follower
from ports import free_port
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.gather import BULK_BYTES
from zhiwang.wire.header import record_size


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path) as city:
        yield city


def of(result: CaseResult, owner: str) -> set[tuple[Status, Reason | None]]:
    return {(claim.status, claim.reason) for claim in result.claims if f" {owner}." in claim.claim}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for is another's state
            await asyncio.sleep(0.005)


ANSWERED = {(Status.ANSWERED, None)}


def unavailable(reason: Reason) -> set[tuple[Status, Reason | None]]:
    return {(Status.UNAVAILABLE, reason)}


async def test_a_case_is_answered_recorded_and_receipted(city: RunningCity) -> None:
    async with city.client() as client:
        result = await client.verify(city.case(), city.context(), receipt=True)
    assert {claim.answer for claim in result.claims} == {Answer.YES}
    assert result.ruling is Ruling.PASSED
    assert result.receipt is not None
    parts = verify_receipt(result.receipt, CertificateVerifier(city.kit.city.ca_pem, frozenset))
    assert {part.header.owner for part in parts} == {"hrss", "health"}
    headers = [event.header for event in city.hub.up.entries()]
    assert sorted(headers) == sorted(part.header.raw for part in parts)
    for owner in city.owners.values():
        entries = [decode_entry(data) for data in owner.store.entries(0, owner.store.newest.size)]
        assert sum(entry.WhichOneof("event") == "owner_access" for entry in entries) == 1


async def test_neither_the_hub_nor_the_clients_state_ever_holds_a_citizen(city: RunningCity) -> None:
    async with city.client() as client:
        await client.verify(city.case(claims=("child: health.birth_mother related @guardian",)), city.context())
    written = b"".join(
        path.read_bytes()
        for directory in (city.path / "hubs", city.path / "profiles")
        for path in directory.rglob("*")
        if path.is_file()
    )
    assert len(written) > 1000
    for secret in (CHILD, MOTHER, "小明", "李·梅"):
        assert secret.encode() not in written


async def test_a_roster_is_answered_whole(city: RunningCity) -> None:
    cases = [city.case(number, key=str(number)) for number in range(600)]
    cases.append(Case((Subject("child", "1"),), key="bad"))
    async with city.client() as client:
        results = {result.key: result async for result in client.verify_many(cases, city.context())}
    assert len(results) == 601
    bad = results.pop("bad")
    assert (bad.reason, bad.field) == (Reason.IDENTIFIER_INVALID, "subjects[0].identifier")
    assert {claim.answer for result in results.values() for claim in result.claims} == {Answer.YES}
    sent = [item.request for frame in city.owners["hrss"].frames for item in frame.items]
    whole = BULK_BYTES // record_size(2, 0)
    assert [sealed_pb2.Header.FromString(request.header).cases for request in sent] == [whole, 600 - whole]


async def test_many_callers_share_frames(city: RunningCity) -> None:
    async with city.client() as client:
        results = await asyncio.gather(
            *[client.verify(city.case(number, key=str(number)), city.context()) for number in range(100)]
        )
    assert [result.key for result in results] == [str(number) for number in range(100)]
    assert all(of(result, "hrss") == ANSWERED for result in results)


async def test_what_is_not_granted_is_denied_and_its_neighbours_are_answered(city: RunningCity) -> None:
    claims = (
        "guardian: hrss.pension_months at_least 13",
        "guardian: hrss.pension_months at_least 12",
        "guardian: hrss.secret exists",
        "guardian: nobody.knows exists",
    )
    async with city.client() as client:
        result = await client.verify(city.case(claims=claims), city.context())
    assert [(claim.status, claim.reason) for claim in result.claims] == [
        (Status.DENIED, Reason.CELL_NOT_PUBLISHED),
        (Status.ANSWERED, None),
        (Status.DENIED, Reason.NOT_GRANTED),
        (Status.DENIED, Reason.NOT_GRANTED),
    ]


async def test_a_role_that_is_not_held_is_denied_and_recorded(city: RunningCity) -> None:
    async with city.client() as client:
        result = await client.verify(city.case(), city.context(role="edu/other"))
    assert {(claim.status, claim.reason) for claim in result.claims} == {(Status.DENIED, Reason.ROLE_NOT_HELD)}
    assert {event.reason for event in city.hub.up.entries()} == {"ROLE_NOT_HELD"}


async def test_what_cannot_be_asked_never_leaves(city: RunningCity) -> None:
    async with city.client() as client:
        with pytest.raises(RefusedError) as caught:
            await client.verify(Case((Subject("child", CHILD[:-1] + "A"),)), city.context())
        assert (caught.value.reason, caught.value.field) == (Reason.IDENTIFIER_INVALID, "subjects[0].identifier")
        with pytest.raises(RefusedError) as caught:
            await client.verify(city.case(), city.context(reference=MOTHER))
        assert (caught.value.reason, caught.value.field) == (Reason.REFERENCE_INVALID, "context.reference")
    assert city.hub.up.entries() == []


async def test_an_owner_that_is_not_there_leaves_the_others_answered(city: RunningCity) -> None:
    async with city.client() as client:
        await client.verify(city.case(), city.context())
        await city.owners["health"].leave()
        result = await client.verify(city.case(), city.context())
    assert of(result, "health") == unavailable(Reason.OWNER_NOT_ATTACHED)
    assert of(result, "hrss") == ANSWERED


async def test_an_owner_that_hangs_costs_its_own_claims_only_and_no_more_than_the_time_given(city: RunningCity) -> None:
    city.owners["health"].hold.clear()
    async with city.client() as client:
        await client.transport.ready(10)
        async with asyncio.timeout(8):
            result = await client.verify(city.case(), city.context(), timeout=2)
    assert of(result, "health") == unavailable(Reason.OWNER_TIMED_OUT)
    assert of(result, "hrss") == ANSWERED


async def test_an_answer_that_the_owner_changed_after_recording_it_is_withheld(city: RunningCity) -> None:
    owner = city.owners["hrss"]

    def tamper(frame: adapter_pb2.ReplyFrame) -> adapter_pb2.ReplyFrame:
        for item in frame.items:
            item.reply.ciphertext = item.reply.ciphertext[:-1] + bytes([item.reply.ciphertext[-1] ^ 1])
        return frame

    owner.tamper = tamper
    async with city.client() as client:
        result = await client.verify(city.case(), city.context())
    assert of(result, "hrss") == unavailable(Reason.PROOF_INVALID)
    assert of(result, "health") == ANSWERED


async def test_a_key_that_the_owner_lost_is_replaced_and_the_question_asked_once_more(city: RunningCity) -> None:
    owner = city.owners["hrss"]
    directory = city.path / "other-keys"
    directory.mkdir()
    fresh = OwnerKeyStore(directory, owner.files.signer)
    fresh.refresh()
    async with city.client() as client:
        await client.verify(city.case(), city.context())
        owner.opener = Opener(fresh.private)
        await owner.say(owner_keys=adapter_pb2.OwnerKeys(keys=fresh.statements()))
        former = owner.key.key_id
        await until(lambda: not any(former in link.keys for link in city.hub.up.parts.hub.links))
        result = await client.verify(city.case(), city.context())
    assert of(result, "hrss") == ANSWERED
    headers = [sealed_pb2.Header.FromString(event.header) for event in city.hub.up.entries()]
    of_owner = [header for header in headers if header.owner == "hrss"]
    assert len({header.request_id for header in of_owner}) == 3
    assert [header.owner_key_id == former for header in of_owner] == [True, True, False]
    assert sum(event.reason == "KEY_UNKNOWN" for event in city.hub.up.entries()) == 1


async def test_a_key_that_one_hub_does_not_know_is_used_at_another(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.way.REST_SECONDS", 0.0)
    second = await city.add_hub("second")
    owner = city.owners["hrss"]
    replica = OneVoice(second.up, city.path / "owners" / "other", "hrss/adapter/main", replica="two")
    try:
        await replica.attach()
        async with city.client(hubs=[second.address, city.hub.address]) as client:
            transport = client.transport
            assert isinstance(transport, Transport)
            await until(lambda: None not in transport.loads.values())
            # The second hub, where nobody holds the key, is always the first to be asked.
            transport._jitter = lambda: 0.0
            client._keys._choose = lambda keys: next((key for key in keys if key.key_id == owner.key.key_id), keys[0])
            case = city.case(claims=("guardian: hrss.insured exists",))
            for _ in range(3):
                result = await client.verify(case, city.context())
                assert of(result, "hrss") == ANSWERED
            assert not client._keys._refused
        told = [event.reason for event in second.up.entries()]
        assert told.count("KEY_UNKNOWN") == 3
    finally:
        await replica.close()
    # The same request, not another one under another key.
    headers = [sealed_pb2.Header.FromString(event.header) for event in city.hub.up.entries()]
    asked = [header for header in headers if header.owner == "hrss"]
    assert {header.owner_key_id for header in asked} == {owner.key.key_id}
    of_second = [sealed_pb2.Header.FromString(event.header) for event in second.up.entries()]
    assert {header.request_id for header in asked} == {
        header.request_id for header in of_second if header.owner == "hrss"
    }


async def test_a_hub_that_is_behind_is_asked_again(city: RunningCity) -> None:
    async with city.client() as client:
        before = client.directory.version
        directory = city.kit.publish(policy_support.HRSS.replace("0755-00000000", "0755-11111111"))
        city.hub.mirror.publish(dict(city.kit.repository.files))
        await until(lambda: client.directory.version > before)
        asking = asyncio.create_task(client.verify(city.case(), city.context()))
        await until(city.hub.up.entries)
        city.hub.take(directory)
        assert of(await asking, "hrss") == ANSWERED
    assert "DIRECTORY_BEHIND" in {event.reason for event in city.hub.up.entries()}


async def test_a_matter_that_was_published_anew_is_read_again(city: RunningCity) -> None:
    async with city.client() as client:
        directory = city.kit.publish(policy_support.SCHOOL.replace("city rules of 2018", "city rules of 2026"))
        city.hub.up.holder.set(directory)
        asking = asyncio.create_task(client.verify(city.case(), city.context()))
        await until(city.hub.up.entries)
        city.hub.take(directory)
        result = await asking
        assert {status for owner in ("hrss", "health") for status in of(result, owner)} == ANSWERED
    assert "MATTER_CHANGED" in {event.reason for event in city.hub.up.entries()}


@pytest.mark.parametrize("certificate", ["auth.pem", "signing.pem"])
async def test_a_revoked_system_is_told_so(city: RunningCity, certificate: str) -> None:
    async with city.client() as client:
        await client.verify(city.case(), city.context())
        pem = (client.profile.identity / certificate).read_bytes()
        serial = load_pem_x509_certificate(pem).serial_number
        city.hub.up.holder.set(replace(city.kit.directory, revoked=frozenset({serial})))
        result = await client.verify(city.case(), city.context())
    assert {(claim.status, claim.reason) for claim in result.claims} == {(Status.DENIED, Reason.CERTIFICATE_REVOKED)}


async def test_a_hub_that_ends_the_stream_gets_the_same_bytes_again(city: RunningCity) -> None:
    owner = city.owners["hrss"]
    case = city.case(claims=("guardian: hrss.insured exists",))
    async with city.client() as client:
        await client.verify(case, city.context())
        owner.hold.clear()
        asking = asyncio.create_task(client.verify(case, city.context(), timeout=20))
        await owner.received(2)
        city.hub.up.parts.exchange.end_streams()
        await owner.received(3)
        owner.hold.set()
        result = await asking
    assert of(result, "hrss") == ANSWERED
    _, first, second = [item.request for frame in owner.frames for item in frame.items]
    assert first == second


async def test_another_hub_takes_over(city: RunningCity) -> None:
    second = await city.add_hub("second")
    async with city.client(hubs=[city.hub.address, second.address]) as client:
        assert of(await client.verify(city.case(), city.context()), "hrss") == ANSWERED
        for department in ("hrss", "health"):
            await city.owners[department].leave()
        owners = [
            OneVoice(second.up, city.owners[department].directory, f"{department}/adapter/main", replica="two")
            for department in ("hrss", "health")
        ]
        try:
            for owner in owners:
                await owner.attach()
            await city.hub.stop(0.0)
            result = await client.verify(city.case(), city.context(), timeout=20)
        finally:
            for owner in owners:
                await owner.close()
    assert {status for owner in ("hrss", "health") for status in of(result, owner)} == ANSWERED
    answered = [one for one in second.up.entries() if one.outcome == audit_pb2.OUTCOME_ANSWERED]
    assert len(answered) == 2


async def test_a_hub_that_cannot_reach_an_owner_is_passed_over_for_it(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses at once, so it always has the least to do; it must not draw everything to itself."""
    monkeypatch.setattr("exchange.client.way.REST_SECONDS", 1000.0)
    second = await city.add_hub("second")
    async with city.client(hubs=[city.hub.address, second.address]) as client:
        for _ in range(12):
            result = await client.verify(city.case(), city.context())
            assert {status for owner in ("hrss", "health") for status in of(result, owner)} == ANSWERED
    refused = [(one.outcome, one.reason) for one in second.up.entries()]
    assert set(refused) <= {(audit_pb2.OUTCOME_UNAVAILABLE, "OWNER_NOT_ATTACHED")}
    assert len(refused) <= 2


async def test_a_hub_that_does_not_serve_gets_nothing(city: RunningCity) -> None:
    second = await city.add_hub("second")
    await second.up.parts.readiness.set("log", holds=False)
    async with city.client(hubs=[city.hub.address, second.address]) as client:
        transport = client.transport
        assert isinstance(transport, Transport)
        await until(lambda: transport.loads[city.hub.address] is not None)
        for _ in range(12):
            assert of(await client.verify(city.case(), city.context()), "hrss") == ANSWERED
        assert not second.up.entries()
        await second.up.parts.readiness.set("log", holds=True)
        await until(lambda: transport.loads[second.address] is not None)


async def test_a_hub_whose_log_began_anew_is_not_believed(city: RunningCity) -> None:
    async with city.client() as client:
        for _ in range(3):
            await client.verify(city.case(), city.context())
        address = city.hub.address
        for department in ("hrss", "health"):
            await city.owners[department].leave()
        await city.hub.stop(0.0)
        shutil.rmtree(city.hub.directory)
        await city.hub.start(address)
        owners = [
            OneVoice(city.hub.up, city.owners[department].directory, f"{department}/adapter/main", replica="two")
            for department in ("hrss", "health")
        ]
        try:
            for owner in owners:
                await owner.attach()
            result = await client.verify(city.case(), city.context(), timeout=20)
        finally:
            for owner in owners:
                await owner.close()
    assert {status for owner in ("hrss", "health") for status in of(result, owner)} == unavailable(Reason.PROOF_INVALID)


async def test_a_hub_whose_log_began_anew_is_not_believed_after_a_restart_of_ours(city: RunningCity) -> None:
    async with city.client() as client:
        for _ in range(3):
            await client.verify(city.case(), city.context())
    address = city.hub.address
    for department in ("hrss", "health"):
        await city.owners[department].leave()
    await city.hub.stop(0.0)
    shutil.rmtree(city.hub.directory)
    await city.hub.start(address)
    async with city.client() as client:
        result = await client.verify(city.case(), city.context(role="edu/other"), timeout=20)
    assert {claim.reason for claim in result.claims} == {Reason.PROOF_INVALID, Reason.OWNER_NOT_ATTACHED} or {
        claim.reason for claim in result.claims
    } == {Reason.OWNER_NOT_ATTACHED}


async def test_a_new_certificate_moves_the_stream_and_loses_nothing(city: RunningCity) -> None:
    owner = city.owners["hrss"]
    case = city.case(claims=("guardian: hrss.insured exists",))
    async with city.client() as client:
        await client.verify(case, city.context())
        owner.hold.clear()
        asking = asyncio.create_task(client.verify(case, city.context(), timeout=20))
        await owner.received(2)
        assert isinstance(client.transport, Transport)
        for way in client.transport._ways:
            way.channel.renew(1.0)
        await owner.received(3)
        owner.hold.set()
        result = await asking
    assert of(result, "hrss") == ANSWERED
    _, first, second = [item.request for frame in owner.frames for item in frame.items]
    assert first == second


async def test_without_a_hub_a_first_start_fails_and_says_why(city: RunningCity) -> None:
    with pytest.raises(RefusedError) as caught:
        await Client.open(city.profile(hubs=[f"127.0.0.1:{free_port()}"]))
    assert caught.value.reason is Reason.HUB_UNREACHABLE


async def test_a_hub_that_lies_about_the_directory_keeps_no_agent_from_starting(
    city: RunningCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lie(_stub: object, _path: str) -> bytes:
        return b"{}"

    with monkeypatch.context() as patch:
        patch.setattr(follower, "get_file", lie)
        with pytest.raises(FatalError, match="METADATA_INVALID"):
            await Client.open(city.profile())
        client = await Client.open(city.profile(), patient=True, clock=city.clock)
    try:
        await until(lambda: client.fresh)
    finally:
        await client.close()


async def test_without_a_hub_claims_are_unavailable_within_the_deadline(city: RunningCity) -> None:
    async with city.client() as client:
        await client.verify(city.case(), city.context())
        await city.hub.stop(0.0)
        async with asyncio.timeout(8):
            result = await client.verify(city.case(), city.context(), timeout=1)
        assert {claim.reason for claim in result.claims} == {Reason.HUB_UNREACHABLE}
        transport = client.transport
        assert isinstance(transport, Transport)
        await until(lambda: transport.forsaken)
        async with asyncio.timeout(2):
            result = await client.verify(city.case(), city.context(), timeout=30)
        assert {claim.reason for claim in result.claims} == {Reason.HUB_UNREACHABLE}


async def test_a_state_belongs_to_one_client(city: RunningCity) -> None:
    async with city.client():
        with pytest.raises(FatalError, match="another process"):
            await Client.open(city.profile())
    async with city.client():
        pass


async def test_only_a_system_asks(city: RunningCity) -> None:
    with pytest.raises(FatalError, match="no system"):
        await Client.open(city.profile("hrss/adapter/main"))


async def test_closing_tells_who_still_waits(city: RunningCity) -> None:
    city.owners["hrss"].hold.clear()
    async with city.client() as client:
        asking = asyncio.create_task(client.verify(city.case(), city.context()))
        await city.owners["hrss"].received(1)
    assert of(await asking, "hrss") == unavailable(Reason.SHUTTING_DOWN)


async def test_leaving_a_roster_early_leaves_nothing_behind(city: RunningCity) -> None:
    async with city.client() as client:
        cases = [city.case(number, key=str(number)) for number in range(600)]
        async with aclosing(client.verify_many(cases, city.context())) as found:
            await anext(found)
        assert client.transport.pending == 0
        assert of(await client.verify(city.case(), city.context()), "hrss") == ANSWERED


async def test_a_program_without_an_event_loop_asks_the_same(city: RunningCity) -> None:
    profile = city.profile()

    def program() -> Sequence[CaseResult]:
        with SyncClient.open(profile) as client:
            one = client.verify(city.case(), city.context())
            many = list(client.verify_many([city.case(number) for number in range(300)], city.context()))
            with pytest.raises(RefusedError):
                client.verify(Case((Subject("uncle", FATHER),)), city.context())
            with pytest.raises(RefusedError):
                list(client.verify_many([], city.context(matter="no-such")))
            early = client.verify_many([city.case(number) for number in range(600)], city.context())
            next(early)
            early.close()  # type: ignore[attr-defined]  # it is a generator
            return [one, *many]

    results = await asyncio.to_thread(program)
    assert len(results) == 301
    assert all(of(result, "hrss") == ANSWERED for result in results)


async def test_the_clients_state_is_for_its_owner_alone(city: RunningCity) -> None:
    async with city.client() as client:
        await client.verify(city.case(), city.context())
        state = client.profile.state / "client"
    assert state.stat().st_mode & 0o077 == 0
