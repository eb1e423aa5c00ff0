"""Long results: a frame holds so many bytes, and what a requester does not read keeps it from asking for more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certs.identity import Identity
from exchange import service
from exchange.service import MAX_RESULT_BYTES, MAX_UNREAD_BYTES, _Stream
from exchange.waiting import Delivery
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.records import REPORT_SIZES

DESK = Identity.parse("spiffe://shenzhen/data/system/desk")


def report(number: int) -> Delivery:
    reply = sealed_pb2.SealedReply(ciphertext=bytes(REPORT_SIZES[-1]))
    return Delivery(number, exchange_pb2.ExchangeResult(reply=reply))


async def test_what_is_long_and_not_read_keeps_more_from_coming_in() -> None:
    no_log: Any = None
    stream = _Stream(DESK, no_log)
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
