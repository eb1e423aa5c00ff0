"""What an adapter takes of a hub: as much as it has given credit for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
import structlog

from adapters import link
from adapters.link import Lanes, Session
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason

CREDIT = 4


class Call:
    """A stream whose other end says what it is given, and reads nothing or everything."""

    def __init__(self, said: Sequence[adapter_pb2.AttachResponse], *, reads: bool) -> None:
        self.said = [adapter_pb2.AttachResponse(welcome=adapter_pb2.Welcome(hub="main")), *said]
        self.heard: list[adapter_pb2.AttachRequest] = []
        self.reads = reads
        self.said_first = tuple(said)
        self.answered = asyncio.Event()
        self.cancelled = False

    async def write(self, message: adapter_pb2.AttachRequest) -> None:
        if message.WhichOneof("message") != "hello" and not self.reads:
            await asyncio.Event().wait()
        self.heard.append(message)
        if message.WhichOneof("message") == "related":
            self.answered.set()

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if self.cancelled:
            # As gRPC has it.
            raise asyncio.CancelledError
        return self.said.pop(0) if self.said else grpc.aio.EOF

    async def done_writing(self) -> None: ...

    async def code(self) -> grpc.StatusCode:
        # Time for what was said last to leave.
        for _ in range(10):
            await asyncio.sleep(0)
        if any(message.WhichOneof("message") == "relate" for message in self.said_first):
            await asyncio.wait_for(self.answered.wait(), 10)
        return grpc.StatusCode.OK

    def cancel(self) -> None:
        self.cancelled = True


class Stub:
    """A hub's service of one call."""

    def __init__(self, call: Call) -> None:
        self.Attach = lambda: call


class Answering(Lanes):
    """Lanes that answer at once, each request with so many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(lambda _frame: adapter_pb2.ReplyFrame())
        self.size = size
        self.taken: list[int] = []

    def add(self, session: Session, frame: adapter_pb2.RequestFrame) -> None:
        reply = adapter_pb2.ReplyFrame()
        for item in frame.items:
            self.taken.append(item.correlation_id)
            reply.items.add(correlation_id=item.correlation_id).reply.ciphertext = bytes(self.size)
        session.reply(reply, bulk=False)


class Waiting(Lanes):
    """Lanes that take frames and never answer."""

    def __init__(self) -> None:
        super().__init__(lambda _frame: adapter_pb2.ReplyFrame())
        self.taken: list[int] = []

    def add(self, _session: Session, frame: adapter_pb2.RequestFrame) -> None:
        self.taken += [item.correlation_id for item in frame.items]


def frame(*numbers: int) -> adapter_pb2.AttachResponse:
    items = [adapter_pb2.RequestFrame.Item(correlation_id=number) for number in numbers]
    return adapter_pb2.AttachResponse(request_frame=adapter_pb2.RequestFrame(items=items))


def prove(old_size: int, new_size: int, origin: str) -> audit_pb2.GetConsistencyProofResponse:
    assert not origin, "of the newest log"
    if old_size > new_size:
        raise KeyError(old_size)
    return audit_pb2.GetConsistencyProofResponse(consistency_path=[bytes([old_size, new_size])])


async def attach(*said: adapter_pb2.AttachResponse, reads: bool = True) -> tuple[Call, Waiting, Counter[Reason], str]:
    call, lanes, counted = Call(said, reads=reads), Waiting(), Counter[Reason]()

    def turned_away(reason: Reason, number: int) -> None:
        counted[reason] += number

    session = Session(Stub(call), lanes, adapter_pb2.Hello(replica="one", credit=CREDIT), turned_away, prove)  # type: ignore[arg-type]  # no gRPC
    ended = "at its end"
    try:
        await session.run()
    except Exception as error:  # noqa: BLE001 - told to the test
        ended = type(error).__name__
    lanes.close()
    return call, lanes, counted, ended


async def test_a_hub_that_keeps_its_credit_is_served_whole() -> None:
    call, lanes, counted, _ = await attach(frame(1, 2), frame(3, 4))
    assert lanes.taken == [1, 2, 3, 4]
    assert (len(call.heard), counted) == (1, Counter())


async def test_what_a_hub_sends_beyond_its_credit_is_refused_and_counted() -> None:
    with structlog.testing.capture_logs() as lines:
        call, lanes, counted, ended = await attach(frame(1, 2, 3), frame(4, 5, 6), frame(7), frame())
    assert lanes.taken == [1, 2, 3, 4]
    refused = [item for message in call.heard for item in message.reply_frame.items]
    assert [(item.correlation_id, item.reason) for item in refused] == [(n, "OVERLOADED") for n in (5, 6, 7)]
    assert counted == {Reason.OVERLOADED: 3}
    assert ended == "at its end"
    assert [line["event"] for line in lines].count("the hub exceeds its credit") == 1


async def test_a_hub_that_floods_and_reads_nothing_loses_its_stream() -> None:
    flood = [frame(number) for number in range(1, 100)]
    call, lanes, counted, ended = await attach(*flood, reads=False)
    assert lanes.taken == [1, 2, 3, 4]
    assert (ended, call.cancelled) == ("_FloodedError", True)
    assert counted[Reason.OVERLOADED] < 2 * CREDIT


async def attach_to(lanes: Lanes, *said: adapter_pb2.AttachResponse, reads: bool) -> tuple[Session, Call, str]:
    call = Call(said, reads=reads)
    session = Session(Stub(call), lanes, adapter_pb2.Hello(credit=CREDIT), lambda *_: None, prove)  # type: ignore[arg-type]  # no gRPC
    ended = "at its end"
    try:
        await session.run()
    except Exception as error:  # noqa: BLE001 - told to the test
        ended = type(error).__name__
    lanes.close()
    return session, call, ended


async def test_a_hub_has_no_credit_for_what_it_does_not_read() -> None:
    lanes = Answering(16)
    _, call, ended = await attach_to(lanes, *(frame(number) for number in range(1, 100)), reads=False)
    # One reply more than there is credit for is being written.
    assert lanes.taken == list(range(1, CREDIT + 2))
    assert (ended, call.cancelled) == ("_FloodedError", True)


async def test_a_hub_that_reads_its_replies_is_served_for_ever() -> None:
    lanes = Answering(16)
    _, call, ended = await attach_to(lanes, *(frame(number) for number in range(1, 100)), reads=True)
    assert lanes.taken == list(range(1, 100))
    assert ended == "at its end"
    assert not any(item.reason for message in call.heard for item in message.reply_frame.items)


async def test_requests_of_more_bytes_than_one_hub_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELD_BYTES", 1000)
    large = frame(1, 2, 3)
    for item in large.request_frame.items:
        item.request.ciphertext = bytes(400)
    lanes = Waiting()
    session, call, _ = await attach_to(lanes, large, reads=True)
    assert lanes.taken == [1, 2]
    assert [one.correlation_id for message in call.heard for one in message.reply_frame.items] == [3]
    assert session._held < 1000


async def test_a_number_that_is_in_use_is_refused() -> None:
    lanes = Waiting()
    _, call, _ = await attach_to(lanes, frame(1, 2), frame(2, 3), reads=True)
    assert lanes.taken == [1, 2, 3]
    assert [one.correlation_id for message in call.heard for one in message.reply_frame.items] == [2]


async def test_replies_of_more_bytes_than_a_hub_takes_end_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELD_BYTES", 1000)
    lanes = Answering(800)
    _, _, ended = await attach_to(lanes, frame(1, 2, 3), frame(4), reads=False)
    assert (ended, lanes.taken) == ("_FloodedError", [1, 2, 3])


async def test_what_waits_of_a_stream_that_has_ended_is_dropped() -> None:
    begun, go, worked = threading.Event(), threading.Event(), list[int]()

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        worked.extend(item.correlation_id for item in frame.items)
        begun.set()
        assert go.wait(60)
        return adapter_pb2.ReplyFrame(
            items=[adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id) for item in frame.items]
        )

    # What names a directory that is still to come waits elsewhere, and is dropped as well.
    named = frame(9)
    named.request_frame.items[0].request.header = sealed_pb2.Header(min_policy_version=7).SerializeToString()
    version = [0]
    lanes = Lanes(process, version=lambda: version[0])
    running = asyncio.create_task(lanes.run())

    def ending() -> Session:
        return Session(Stub(Call([], reads=True)), lanes, adapter_pb2.Hello(credit=CREDIT), lambda *_: None, prove)  # type: ignore[arg-type]  # no gRPC

    gone, other = ending(), ending()
    gone._receive(frame(1))
    assert await asyncio.to_thread(begun.wait, 60)
    gone._receive(frame(2, 3))
    gone._receive(named)
    other._receive(frame(4))
    await gone.run()
    go.set()
    version[0] = 7
    lanes.reached(7)
    await lanes.drained()
    assert worked == [1, 4]
    running.cancel()
    lanes.close()


def relate(old_size: int, new_size: int) -> adapter_pb2.AttachResponse:
    return adapter_pb2.AttachResponse(relate=adapter_pb2.Relate(old_size=old_size, new_size=new_size))


async def test_a_hub_is_told_how_two_heads_are_related_one_pair_at_a_time() -> None:
    call, _, _, ended = await attach(relate(3, 9), relate(4, 9), frame(1))
    related = [message.related for message in call.heard if message.WhichOneof("message") == "related"]
    assert [(one.old_size, one.new_size, *one.proof.consistency_path) for one in related] == [(3, 9, bytes([3, 9]))]
    assert ended == "at its end"


async def test_what_cannot_be_proved_is_not_answered_and_ends_no_stream() -> None:
    call = Call([relate(9, 3)], reads=True)
    session = Session(Stub(call), Waiting(), adapter_pb2.Hello(credit=CREDIT), lambda *_: None, prove)  # type: ignore[arg-type]  # no gRPC
    with structlog.testing.capture_logs() as lines:
        session._receive(relate(9, 3))
        proving = session._proving
        assert proving is not None
        await proving
    assert not session._outbox
    assert [line["event"] for line in lines] == ["the hub's question about the log cannot be answered"]
