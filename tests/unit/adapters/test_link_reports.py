"""Reports on the link: long ones go in several messages, and none makes a person at a counter wait."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.link import REPLY_BYTES, Session, _shape
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import REPORT_SIZES


async def test_replies_beyond_what_a_message_holds_go_in_several_under_one_head() -> None:
    nothing: Any = None
    session = Session(nothing, nothing, adapter_pb2.Hello(credit=64), lambda _reason, _number: None, nothing)
    log = audit_pb2.LogHead(checkpoint=b"note")
    report = sealed_pb2.SealedReply(ciphertext=bytes(REPORT_SIZES[-1]))
    items = [adapter_pb2.ReplyFrame.Item(correlation_id=number, reply=report) for number in range(1, 21)]
    session.reply(adapter_pb2.ReplyFrame(items=items, log=log, former_log=log), bulk=True)
    sent = []
    while session._outbox:
        said = await session._outbox.get()
        assert said is not None
        message = said.message
        assert message.ByteSize() < REPLY_BYTES + 4096
        assert message.reply_frame.log == message.reply_frame.former_log == log
        sent += [item.correlation_id for item in message.reply_frame.items]
    assert sent == list(range(1, 21))


@pytest.mark.parametrize(
    ("predicate", "priority", "long"),
    [
        (sealed_pb2.PREDICATE_REPORT, sealed_pb2.PRIORITY_INTERACTIVE, True),
        (sealed_pb2.PREDICATE_EXISTS, sealed_pb2.PRIORITY_INTERACTIVE, False),
        (sealed_pb2.PREDICATE_EXISTS, sealed_pb2.PRIORITY_BULK, True),
    ],
)
def test_a_report_waits_with_the_rosters(predicate: Any, priority: Any, *, long: bool) -> None:
    header = sealed_pb2.Header(cases=1, priority=priority)
    header.claims.add(predicate=predicate)
    assert _shape(header.SerializeToString()).long is long
