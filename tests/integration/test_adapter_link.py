"""An adapter before a hub that takes no answer, over real gRPC: its memory is not the hub's to fill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import structlog

from adapters import link
from adapters.link import HubLink, Lanes
from zhiwang.adapter.v1 import adapter_pb2, adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.call import LOCAL
from zhiwang.wire.channel import RenewableChannel, open_channel
from zhiwang.wire.errors import Reason
from zhiwang.wire.server import build_server

CREDIT = 64
MANY = 1024
REPLY = 64 << 10
"""Bytes of a reply: what gRPC takes before it waits for the other end is soon full."""

ATTACH = "/zhiwang.adapter.v1.AdapterService/Attach"


class Deaf(adapter_pb2_grpc.AdapterServiceServicer):
    """A hub that sends request after request and reads nothing after Hello.

    Attributes:
        sent: How many, on each stream.
        most: After how many it only waits,
        over: until then.
    """

    def __init__(self, most: int) -> None:
        self.sent: list[int] = []
        self.most = most
        self.over = asyncio.Event()

    async def Attach(  # noqa: N802  the RPC's name
        self, request_iterator: AsyncIterator[adapter_pb2.AttachRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[adapter_pb2.AttachResponse]:
        del context
        await anext(request_iterator)
        stream = len(self.sent)
        self.sent.append(0)
        yield adapter_pb2.AttachResponse(welcome=adapter_pb2.Welcome(hub="deaf"))
        while self.sent[stream] < self.most and not self.over.is_set():
            self.sent[stream] += 1
            frame = adapter_pb2.RequestFrame()
            frame.items.add(correlation_id=self.sent[stream])
            yield adapter_pb2.AttachResponse(request_frame=frame)
        await self.over.wait()


def _prove(_old: int, _new: int, _origin: str) -> audit_pb2.GetConsistencyProofResponse:
    raise AssertionError("nobody asks")


@dataclass
class Attached:
    """An adapter's end of the link.

    Attributes:
        settled: Requests that were answered or refused.
        most: Bytes that the hub had here, at the most that was seen.
    """

    link: HubLink
    settled: int = 0
    most: int = 0

    def look(self) -> None:
        self.most = max([self.most, *(session._held for session in self.link._sessions)])


@asynccontextmanager
async def attached(hub: Deaf, place: Path, credit: int = CREDIT) -> AsyncIterator[Attached]:
    server = build_server(
        ((adapter_pb2_grpc.add_AdapterServiceServicer_to_server, hub),), {ATTACH: frozenset({LOCAL})}, city=None
    )
    address = server.listen(f"unix:{place}/hub", None)
    await server.start()
    channel = RenewableChannel(lambda: open_channel(address, None))

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        reply = adapter_pb2.ReplyFrame()
        for item in frame.items:
            reply.items.add(correlation_id=item.correlation_id).reply.ciphertext = bytes(REPLY)
        found.settled += len(frame.items)
        return reply

    def refused(_reason: Reason, number: int) -> None:
        found.settled += number

    lanes = Lanes(process)
    found = Attached(
        HubLink(channel, lanes, replica="one", keys=list, version="1", turned_away=refused, prove=_prove, credit=credit)
    )
    running = [asyncio.create_task(work) for work in (lanes.run(), found.link.run())]
    try:
        yield found
    finally:
        hub.over.set()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await channel.close()
        await server.stop(0)
        lanes.close()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing in the adapter tells a test of it
            await asyncio.sleep(0.01)


async def test_a_hub_that_reads_nothing_loses_its_link_and_holds_no_more_than_its_credit(tmp_path: Path) -> None:
    hub = Deaf(100_000)
    with structlog.testing.capture_logs() as lines:
        async with attached(hub, tmp_path) as adapter:

            def ended() -> bool:
                adapter.look()
                return any(line["event"] == "link ended" for line in lines)

            await _until(ended)
            # It comes back, as after any loss.
            await _until(lambda: len(hub.sent) > 1)
    assert [line["reason"] for line in lines if line["event"] == "link ended"][:1] == ["OVERLOADED"]
    assert adapter.most <= 2 * CREDIT * (REPLY + 256)


async def test_a_hub_that_keeps_its_credit_and_reads_nothing_holds_no_more_than_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HELD_BYTES", 8 * REPLY)
    hub = Deaf(MANY)
    async with attached(hub, tmp_path, credit=MANY) as adapter:

        def over() -> bool:
            adapter.look()
            # Refused, or its link was ended and it came back.
            return adapter.settled >= MANY or len(hub.sent) > 1

        await _until(over)
        adapter.look()
    assert adapter.most <= 2 * 8 * REPLY + 2 * link.REPLY_BYTES
