"""What a way to a hub has to do, and what it no longer sends: a hub as a stream of frames, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from exchange.client import way as ways
from exchange.client.way import FORGET_AFTER, STALL_SECONDS, Item, Way, _Stream
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2


class Call:
    """A stream whose hub reads when a test says so."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.frames: list[list[bytes]] = []
        self.known: list[int] = []
        self.cancelled = asyncio.Event()

    async def write(self, frame: exchange_pb2.ExchangeStreamRequest) -> None:
        self.frames.append([item.request.header for item in frame.items])
        self.known.append(frame.known_tree_size)
        await self.reads.wait()

    def cancel(self) -> None:
        self.cancelled.set()


class Writing:
    """A stream that is being written."""

    def __init__(self) -> None:
        self.call = Call()
        call: Any = self.call
        self.stream = _Stream(call, lambda: ("log", 7))
        self._number = 0

    def add(self, name: str, *, bulk: bool = False) -> Item:
        self._number += 1
        request = sealed_pb2.SealedRequest(header=name.encode())
        item = Item(self._number, request, "hrss", 1e12, asyncio.get_running_loop().create_future(), bulk=bulk)
        self.stream.gathering.add(item, item.size, bulk=bulk)
        return item

    async def until_sent(self, frames: int) -> None:
        async with asyncio.timeout(30):
            while len(self.call.frames) < frames:  # noqa: ASYNC110  another task's work
                await asyncio.sleep(0.001)

    async def until_queued(self, frames: int) -> None:
        async with asyncio.timeout(30):
            while len(self.stream._frames) < frames:  # noqa: ASYNC110  a timer's work
                await asyncio.sleep(0.001)

    def answer(self, *items: Item) -> None:
        response = exchange_pb2.ExchangeStreamResponse()
        for item in items:
            response.items.add(correlation_id=item.correlation_id)
        self.stream.settle(response)


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    found = Writing()
    task = asyncio.create_task(found.stream.write())
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def way_of(stream: _Stream) -> Way:
    nothing: Any = None
    channel: Any = SimpleNamespace(on_renewal=lambda _call: None)
    way = Way("hub", channel, nothing, nothing, lambda: 0.5)
    way._stream = stream
    return way


async def test_what_a_hub_does_not_read_counts_as_its_load(writing: Writing) -> None:
    way = way_of(writing.stream)
    writing.call.reads.clear()
    first = writing.add("a", bulk=True)
    await writing.until_sent(1)
    rest = [writing.add(name, bulk=True) for name in "bc"]
    await writing.until_queued(1)
    rest.append(writing.add("d"))
    await writing.until_queued(2)
    assert writing.stream.unanswered == 1
    assert way.load == 4
    writing.call.reads.set()
    await writing.until_sent(3)
    assert way.load == 4
    writing.answer(first, *rest)
    assert way.load == 0


async def test_what_its_caller_gave_up_before_it_left_is_not_sent(writing: Writing) -> None:
    writing.call.reads.clear()
    first = writing.add("a", bulk=True)
    await writing.until_sent(1)
    gone, stays = writing.add("gone", bulk=True), writing.add("stays", bulk=True)
    await writing.until_queued(1)
    person = writing.add("person")
    await writing.until_queued(2)
    gone.future.cancel()
    person.future.set_exception(TimeoutError())
    assert isinstance(person.future.exception(), TimeoutError)
    writing.call.reads.set()
    await writing.until_sent(2)
    assert writing.call.frames == [[b"a"], [b"stays"]]
    assert (gone.sendings, person.sendings, stays.sendings) == (0, 0, 1)
    assert way_of(writing.stream).load == 2
    writing.answer(first, stays)
    assert way_of(writing.stream).load == 0
    # Nothing holds the next one up: it leaves at once, as on an idle stream.
    writing.add("next")
    await writing.until_sent(3)


async def test_what_a_person_waits_for_passes_rosters_that_the_hub_has_not_read(writing: Writing) -> None:
    writing.call.reads.clear()
    writing.add("a", bulk=True)
    await writing.until_sent(1)
    for count, name in enumerate(("b", "c"), 1):
        writing.add(name, bulk=True)
        await writing.until_queued(count)
    writing.add("person")
    await writing.until_queued(3)
    writing.call.reads.set()
    await writing.until_sent(4)
    assert writing.call.frames == [[b"a"], [b"person"], [b"b"], [b"c"]]


async def test_the_first_frame_that_leaves_says_what_was_seen_of_the_hubs_log(writing: Writing) -> None:
    writing.add("gone").future.cancel()
    gone = writing.add("gone")
    await asyncio.sleep(0)
    gone.future.cancel()
    writing.add("a")
    await writing.until_sent(1)
    assert writing.call.frames == [[b"a"]]
    assert writing.call.known == [7]


def give_up(*items: Item, deadline: float) -> None:
    """As a transport does at the deadline of each."""
    for item in items:
        item.deadline = deadline
        item.future.set_exception(TimeoutError())
        item.future.exception()


async def test_what_a_hub_never_answers_is_forgotten_and_its_late_answer_harms_nothing(writing: Writing) -> None:
    stream, now = writing.stream, 1000.0
    stream._now = lambda: now
    gone, stays, roster = writing.add("gone"), writing.add("stays"), writing.add("roster", bulk=True)
    await writing.until_sent(2)
    give_up(gone, roster, deadline=now)
    now += FORGET_AFTER
    stream.forget()
    assert stream.load == stream.unanswered == 3
    now += 1
    stream.forget()
    assert stream._sent == {stays.correlation_id: stays}
    assert stream.load == 1
    late = exchange_pb2.ExchangeStreamResponse()
    for item in (gone, stays):
        late.items.add(correlation_id=item.correlation_id)
    stream.own(late)
    assert [item.correlation_id for item in late.items] == [stays.correlation_id]
    stream.settle(late)
    assert stream.load == 0
    writing.add("next")
    await writing.until_sent(3)
    assert stream.load == 1


async def test_what_was_given_up_does_not_wait_for_a_hub_that_reads_nothing(writing: Writing) -> None:
    writing.call.reads.clear()
    writing.add("a", bulk=True)
    await writing.until_sent(1)
    gone, stays = writing.add("gone", bulk=True), writing.add("stays", bulk=True)
    await writing.until_queued(1)
    person = writing.add("person")
    await writing.until_queued(2)
    give_up(gone, person, deadline=0)
    assert way_of(writing.stream).load == 4
    writing.stream.forget()
    assert len(writing.stream._frames) == 1
    assert way_of(writing.stream).load == 2
    # A person's next request has nothing before it, and passes the roster that stays.
    writing.add("next")
    await writing.until_queued(2)
    writing.call.reads.set()
    await writing.until_sent(3)
    assert writing.call.frames == [[b"a"], [b"next"], [b"stays"]]
    assert stays.sendings == 1


async def test_a_hub_that_reads_nothing_for_long_is_left_though_it_says_that_it_is_well(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "SILENCE", 0.002)
    now = 1000.0
    writing.stream._now = lambda: now
    way = way_of(writing.stream)
    events: Any = SimpleNamespace(elsewhere=lambda _way: False)
    way._events = events
    channel: Any = SimpleNamespace(unary_unary=lambda *_, **__: None, unary_stream=lambda *_, **__: None)
    attending = asyncio.create_task(way._attend(channel, writing.stream))
    try:
        writing.add("a")
        await writing.until_sent(1)
        # What it has read may stay unanswered for as long as it will.
        now += 10 * STALL_SECONDS
        await asyncio.sleep(0.05)
        assert not writing.call.cancelled.is_set()
        writing.call.reads.clear()
        writing.add("b")
        await writing.until_sent(2)
        now += STALL_SECONDS
        await asyncio.sleep(0.05)
        assert not writing.call.cancelled.is_set()
        now += 1
        async with asyncio.timeout(30):
            await writing.call.cancelled.wait()
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
