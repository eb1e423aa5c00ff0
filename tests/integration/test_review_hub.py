"""What a hub must withstand from callers and adapters that misbehave, or stop behaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from exchange import link, service, waiting
from hub_support import Owner, Requester, RunningHub, Stream, directory, running_hub
from zhiwang.exchange.v1 import exchange_pb2


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
async def channel(hub: RunningHub) -> AsyncIterator[grpc.aio.Channel]:
    async with hub.channel("edu/system/enrolment") as channel:
        yield channel


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing in the hub tells a test of it
            await asyncio.sleep(0.002)


async def test_a_request_that_expires_while_its_caller_leaves_is_counted_once(
    hub: RunningHub, channel: grpc.aio.Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach(credit=1)
    stream = Stream(channel)
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    owner.hold.clear()
    await stream.send(requester.seal(owner.key).request)
    await owner.received(1)
    append, recorded = hub.audit_log.append, asyncio.Event()

    async def slow(entries: Sequence[Any]) -> Any:
        await recorded.wait()
        return await append(entries)

    monkeypatch.setattr(hub.audit_log, "append", slow)
    await stream.send(requester.seal(owner.key).request, first=2, seconds=0.2)
    await _until(lambda: hub.parts.hub.in_flight == 2)
    await _until(lambda: hub.parts.hub.in_flight == 1)
    # The second has expired, and its entry is on the way into the log.
    stream.close()
    await _until(lambda: not hub.parts.exchange._streams)
    assert hub.parts.hub.in_flight == 1
    recorded.set()
    owner.hold.set()
    await _until(lambda: hub.parts.hub.in_flight == 0)
    await owner.close()


async def test_a_revoked_adapter_that_keeps_silent_gets_no_request(
    hub: RunningHub, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach()
    stream = Stream(channel)
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    pem = await asyncio.to_thread((owner.files.directory / "auth.pem").read_bytes)
    hub.holder.set(directory(revoked=frozenset({x509.load_pem_x509_certificate(pem).serial_number}), version=8))
    await stream.send(requester.seal(owner.key).request)
    assert (await stream.result()).reason == "OWNER_FAILED"
    assert await owner.ended() is grpc.StatusCode.UNAUTHENTICATED
    assert owner.frames == []
    stream.close()
    await owner.close()


async def test_a_requester_that_reads_nothing_is_read_no_further(
    hub: RunningHub, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_UNREAD", 64)
    stream = Stream(channel)
    frame = exchange_pb2.ExchangeStreamRequest()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            del frame.items[:]
            for number in range(256):
                # Not even a header: refused at once, by an answer that nobody reads.
                frame.items.add(correlation_id=sent + number + 1)
            await stream.call.write(frame)
            sent += 256

    flooding = asyncio.create_task(flood())
    unread = 0
    async with asyncio.timeout(30):
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.5)
            (served,) = hub.parts.exchange._streams
            unread = max(unread, len(served._ready))
    # One frame may come on top of what was unread when it was taken.
    assert unread < 64 + 2 * 256
    flooding.cancel()
    stream.close()


class Unreading(Owner):
    """An adapter that answers one frame, and reads nothing any more."""

    async def _read(self) -> None:
        await self._answer((await self._call.read()).request_frame)
        await asyncio.Event().wait()


async def test_an_adapter_that_reads_nothing_loses_its_link_and_its_requests_fail_at_once(
    hub: RunningHub, channel: grpc.aio.Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "STALL_SECONDS", 0.5)
    owner = Unreading(hub, tmp_path / "hrss")
    await owner.attach()
    stream = Stream(channel)
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    # More bytes than gRPC takes before the other end has read some.
    requests = [requester.seal(owner.key, cases=512).request for _ in range(48)]
    await stream.send(*requests, seconds=25)
    results = [await stream.result(number) for number in range(1, 49)]
    assert {result.reason for result in results} == {"OWNER_FAILED"}
    assert not list(hub.parts.hub.links)
    assert hub.parts.hub.in_flight == 0
    stream.close()
    await owner.close()


async def test_a_requester_has_no_more_streams_than_its_share(
    hub: RunningHub, channel: grpc.aio.Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_STREAMS", 2)
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach()
    requester = Requester(hub.city)
    first, second = Stream(channel), Stream(channel)
    await first.introduce(requester, owner)
    await second.introduce(requester, owner)
    third = Stream(channel)
    async with asyncio.timeout(60):
        assert await third.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with hub.channel("edu/system/library") as elsewhere:
        # Others have their own, whatever they may ask.
        other = Stream(elsewhere)
        await other.send(Requester(hub.city, "edu/system/library").seal(owner.key).request)
        assert (await other.result()).reason == "ROLE_NOT_HELD"
        other.close()
    second.close()
    await _until(lambda: len(hub.parts.exchange._streams) == 1)
    third = Stream(channel)
    await third.introduce(requester, owner)
    first.close()
    third.close()
    await owner.close()
