"""Long results: a frame holds so many bytes, and what a requester does not read keeps it from asking for more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certs.identity import Identity
from exchange import service
from exchange.service import MAX_RESULT_BYTES, MAX_UNREAD_BYTES, _Stream
from exchange.waiting import MAX_UNREAD_OF_ONE, Delivery, Requester
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.records import REPORT_SIZES

DESK = Identity.parse("spiffe://shenzhen/data/system/desk")


def report(number: int) -> Delivery:
    reply = sealed_pb2.SealedReply(ciphertext=bytes(REPORT_SIZES[-1]))
    return Delivery(number, exchange_pb2.ExchangeResult(reply=reply))


async def test_what_is_long_and_not_read_keeps_more_from_coming_in() -> None:
    no_log: Any = None
    stream = _Stream(DESK, no_log, Requester())
    count = MAX_UNREAD_BYTES // REPORT_SIZES[-1] + 1
    assert count < service.MAX_UNREAD
    await asyncio.wait_for(stream.room(), 5)
    for number in range(count):
        stream.deliver(report(number))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.room(), 0.05)
    stream.close_when_answered()
    found = []
    async for frame in stream.frames():
        assert frame.ByteSize() < MAX_RESULT_BYTES + 4096
        found += [item.correlation_id for item in frame.items]
    assert found == list(range(count))
    await asyncio.wait_for(stream.room(), 5)


async def test_what_a_requester_leaves_unread_on_many_streams_keeps_more_from_being_taken() -> None:
    no_log: Any = None
    requester = Requester()
    streams = [_Stream(DESK, no_log, requester) for _ in range(3)]
    for stream in streams:
        for number in range(MAX_UNREAD_OF_ONE // 3 // REPORT_SIZES[-1] + 1):
            stream.deliver(report(number))
            # No stream has so much that it would be read no further.
            await asyncio.wait_for(stream.room(), 20)
    full = [requester.full]
    streams[0].close_when_answered()
    assert [len(frame.items) async for frame in streams[0].frames()]
    full.append(requester.full)
    assert full == [True, False]
    for stream in streams:
        stream.close()
        stream.deliver(report(1))
    assert (requester.unread, requester.streams, requester.gone) == (0, 0, True)
