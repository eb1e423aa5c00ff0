"""An adapter works on rosters and on what a person waits for in two threads: neither waits for the other's end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from adapters.link import Lanes
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2

PATIENCE = 60.0


class Said:
    """A session: what was replied, and in which lane."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bool]] = []
        self.arrived = asyncio.Event()

    def reply(self, frame: adapter_pb2.ReplyFrame, *, bulk: bool) -> None:
        self.replies += [(item.correlation_id, bulk) for item in frame.items]
        self.arrived.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.replies) < count:
                self.arrived.clear()
                await self.arrived.wait()


def item(number: int, *, bulk: bool) -> adapter_pb2.RequestFrame.Item:
    priority = sealed_pb2.PRIORITY_BULK if bulk else sealed_pb2.PRIORITY_INTERACTIVE
    header = sealed_pb2.Header(cases=1, claims=[sealed_pb2.ClaimShape()], priority=priority)
    request = sealed_pb2.SealedRequest(header=header.SerializeToString())
    return adapter_pb2.RequestFrame.Item(correlation_id=number, request=request)


async def test_a_person_is_answered_while_a_roster_is_worked_on_though_one_frame_brought_both() -> None:
    go_on = threading.Event()

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        if sealed_pb2.Header.FromString(frame.items[0].request.header).priority == sealed_pb2.PRIORITY_BULK:
            assert go_on.wait(PATIENCE)
        reply = adapter_pb2.ReplyFrame()
        for one in frame.items:
            reply.items.add(correlation_id=one.correlation_id)
        return reply

    lanes, said = Lanes(process), Said()
    session: Any = said
    working = asyncio.create_task(lanes.run())
    try:
        lanes.add(session, adapter_pb2.RequestFrame(items=[item(1, bulk=True), item(2, bulk=False)]))
        await said.until(1)
        assert said.replies == [(2, False)]
        lanes.add(session, adapter_pb2.RequestFrame(items=[item(3, bulk=False)]))
        await said.until(2)
        go_on.set()
        await said.until(3)
        assert said.replies == [(2, False), (3, False), (1, True)]
    finally:
        go_on.set()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        lanes.close()
