"""Everything of a batch that is in flight is bounded, over real gRPC: whatever a caller does or leaves undone.

`docs/requester.md` ("Rosters") tells callers what holds here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent_support import CONTEXT, Agent, P, agent_of, case, refused
from city_support import MOTHER, RunningCity, running_city
from exchange.client.client import MAX_CHUNKS
from exchange.client.roster import CHUNK, WINDOW
from hub_support import Owner
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.server import MAX_MESSAGE

PATIENCE = 90.0
"""Seconds that anything may take; no test waits for them to pass."""

STILL = 1.0
"""Seconds without a change after which nothing moves any more."""

IN_HAND = (WINDOW + 4) * CHUNK
"""Rows that were asked for one stream and have not reached its caller, at most: a window of chunks, and what gRPC's own
buffers hold of results with receipts."""


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path) as city:
        yield city


@pytest.fixture
async def agent(city: RunningCity) -> AsyncIterator[Agent]:
    async with agent_of(city) as agent:
        yield agent


def rows(count: int, start: int = 0, width: int = 0) -> list[Any]:
    """Cases of one shape that one owner is asked about, with keys of so many digits."""
    claims = ["guardian: hrss.insured exists"]
    return [case(str(number).zfill(width), claims=claims) for number in range(start, start + count)]


def headers(owner: Owner) -> list[sealed_pb2.Header]:
    """Of all requests that reached an owner, in their order."""
    return [sealed_pb2.Header.FromString(item.request.header) for frame in owner.frames for item in frame.items]


def asked(city: RunningCity) -> int:
    """Rows that the owner was asked about."""
    return sum(header.cases for header in headers(city.owners["hrss"]))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what is waited for is another's state
            await asyncio.sleep(0.01)


async def still(value: Callable[[], object]) -> None:
    """Until a value no longer changes."""
    async with asyncio.timeout(PATIENCE):
        before: object = None
        while (now := value()) != before:
            before = now
            await asyncio.sleep(STILL)


async def read(call: Any) -> list[str]:
    """Keys of the next message of results; empty at the end."""
    response = await call.read()
    return [] if response is grpc.aio.EOF else [result.key for result in response.results]


async def read_all(call: Any) -> list[str]:
    """Keys of all results until the end."""
    found: list[str] = []
    while some := await read(call):
        found += some
    return found


async def ask(stub: Any, cases: Sequence[Any], **options: Any) -> list[str]:
    """Keys of all results of a stream of its own."""
    call = stub.VerifyBatch(**options)
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=cases))
    await call.done_writing()
    return await read_all(call)


async def held_back(agent: Agent) -> Owner:
    """The owner, which has answered once, so that the hub knows its log, and says nothing from now on."""
    owner = agent.city.owners["hrss"]
    async with asyncio.timeout(PATIENCE):
        assert await ask(agent.here, rows(1)) == ["0"]
    owner.frames.clear()
    owner.hold.clear()
    return owner


class Sender:
    """A caller that sends as fast as it is let, and reads when a test says so."""

    def __init__(self, stub: Any, *, count: int, receipt: bool = False, width: int = 0) -> None:
        self.call = stub.VerifyBatch()
        self.written = 0
        self._count = count
        self._width = width
        self._receipt = receipt
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        await self.call.write(P.VerifyBatchRequest(context=CONTEXT, receipt=self._receipt))
        while self.written < self._count:
            await self.call.write(P.VerifyBatchRequest(cases=rows(64, self.written, self._width)))
            self.written += 64
        await self.call.done_writing()

    def cancel(self) -> None:
        self.call.cancel()
        self.task.cancel()


async def ended(senders: Sequence[Sender]) -> None:
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*(sender.task for sender in senders), return_exceptions=True)


async def test_a_caller_that_reads_slowly_gets_every_result_once_and_is_asked_for_no_faster(agent: Agent) -> None:
    count = 4096
    sender = Sender(agent.here, count=count, receipt=True)
    found: list[str] = []
    furthest = 0
    async with asyncio.timeout(PATIENCE):
        while some := await read(sender.call):
            found += some
            furthest = max(furthest, asked(agent.city) - len(found))
            await asyncio.sleep(0.02)
    await sender.task
    assert sorted(map(int, found)) == list(range(count))
    assert CHUNK < furthest <= IN_HAND


async def test_callers_that_never_read_hold_up_nobody_but_themselves_and_lose_nothing(agent: Agent) -> None:
    count = 8192
    # Together they have more chunks in hand than there are places.
    # Their rows are large, so that gRPC's own buffers hold no more than some thousand of them.
    senders = [Sender(agent.here, count=count, receipt=True, width=2000) for _ in range(MAX_CHUNKS // WINDOW + 1)]
    await still(lambda: (asked(agent.city), [sender.written for sender in senders]))
    assert WINDOW * CHUNK * len(senders) <= asked(agent.city) <= IN_HAND * len(senders)
    # The agent stops reading, so gRPC stops them.
    assert all(sender.written < count for sender in senders)
    assert agent.client.chunks.free == MAX_CHUNKS
    async with asyncio.timeout(PATIENCE):
        assert len(await ask(agent.here, rows(600))) == 600
        response = await agent.here.Verify(P.VerifyRequest(context=CONTEXT, case=case()))
        assert response.result.ruling == P.RULING_PASSED
        # Whoever reads at last has everything.
        found = await read_all(senders[0].call)
    assert sorted(map(int, found)) == list(range(count))
    await ended(senders)


async def test_a_caller_that_never_ends_has_its_results_while_it_sends(agent: Agent) -> None:
    sent = 0

    async def forever() -> AsyncIterator[Any]:
        nonlocal sent
        yield P.VerifyBatchRequest(context=CONTEXT)
        while True:
            yield P.VerifyBatchRequest(cases=rows(32, sent))
            sent += 32

    call = agent.here.VerifyBatch(forever())
    found: list[str] = []
    furthest = 0
    async with asyncio.timeout(PATIENCE):
        while len(found) < 12 * CHUNK:
            found += await read(call)
            furthest = max(furthest, asked(agent.city) - len(found))
    call.cancel()
    assert len(set(found)) == len(found)
    assert max(map(int, found)) < sent
    assert furthest <= IN_HAND


async def test_a_row_that_trickles_in_is_answered_before_the_next_is_sent(agent: Agent) -> None:
    call = agent.here.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT))
    async with asyncio.timeout(PATIENCE):
        for number in range(5):
            await call.write(P.VerifyBatchRequest(cases=rows(1, number)))
            assert await read(call) == [str(number)]
    call.cancel()


async def test_who_cancels_frees_its_places_asks_nothing_more_and_undoes_nothing_that_left(agent: Agent) -> None:
    city = agent.city
    owner = await held_back(agent)
    entries = owner.store.newest.size
    senders = [Sender(agent.here, count=8192) for _ in range(MAX_CHUNKS // WINDOW + 2)]
    await until(lambda: len(headers(owner)) == MAX_CHUNKS)
    assert agent.client.chunks.free == 0
    assert agent.client.transport.pending == MAX_CHUNKS
    before = asked(city)
    await ended(senders)
    await until(lambda: agent.client.chunks.free == MAX_CHUNKS)
    assert agent.client.transport.pending == 0
    # A place is free although the owner still says nothing: somebody else is asked for.
    asking = asyncio.create_task(ask(agent.here, rows(CHUNK)))
    await until(lambda: len(headers(owner)) == MAX_CHUNKS + 1)
    owner.hold.set()
    async with asyncio.timeout(PATIENCE):
        assert len(await asking) == CHUNK
    assert asked(city) == before + CHUNK

    def answered() -> int:
        return sum(event.outcome == audit_pb2.OUTCOME_ANSWERED for event in city.hub.up.entries())

    # What had left is answered and recorded, at the owner and at the hub, though nobody waits for it.
    await until(lambda: answered() == MAX_CHUNKS + 2)
    assert owner.store.newest.size == entries + MAX_CHUNKS + 1
    assert not owner.cancelled


async def test_a_caller_whose_time_is_over_is_told_so_and_frees_its_places(agent: Agent) -> None:
    owner = agent.city.owners["hrss"]
    owner.hold.clear()
    call = agent.here.VerifyBatch(timeout=3)
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=rows(3 * CHUNK)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: agent.client.chunks.free == MAX_CHUNKS)
    assert agent.client.transport.pending == 0
    owner.hold.set()
    async with asyncio.timeout(PATIENCE):
        assert len(await ask(agent.here, rows(10))) == 10


async def test_forty_callers_at_once_all_have_all_their_results(agent: Agent) -> None:
    owner = await held_back(agent)
    stubs = [agent.here for _ in range(40)]
    tasks = [asyncio.create_task(ask(stub, rows(2 * CHUNK + 7))) for stub in stubs]
    await until(lambda: len(headers(owner)) == MAX_CHUNKS)
    await still(lambda: len(headers(owner)))
    assert len(headers(owner)) == MAX_CHUNKS
    owner.hold.set()
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*tasks)
    for keys in found:
        assert sorted(map(int, keys)) == list(range(2 * CHUNK + 7))


async def test_a_roster_of_fifty_of_another_caller_is_the_next_to_be_asked(agent: Agent) -> None:
    owner = await held_back(agent)
    senders = [Sender(agent.here, count=200_000) for _ in range(2 * MAX_CHUNKS // WINDOW)]
    await until(lambda: len(headers(owner)) == MAX_CHUNKS)
    # Every place is taken, and as many chunks are in line again.
    waiting = agent.client.chunks._waiting
    await until(lambda: sum(map(len, waiting.get("local", {}).values())) == MAX_CHUNKS)
    asking = asyncio.create_task(ask(agent.there("edu/system/counter"), rows(50)))
    await until(lambda: len(waiting) == 2)
    owner.hold.set()
    async with asyncio.timeout(PATIENCE):
        assert len(await asking) == 50
    place = [header.cases for header in headers(owner)].index(50)
    assert MAX_CHUNKS <= place < MAX_CHUNKS + WINDOW
    await ended(senders)


async def test_a_row_that_cannot_be_asked_harms_no_other(agent: Agent) -> None:
    bad = {
        "no identifier": case(subjects=[P.Subject(slot="guardian", identifier=MOTHER[:-1] + "A")]),
        "no slot": case(subjects=[P.Subject(slot="uncle", identifier=MOTHER)]),
        "long name": case(subjects=[P.Subject(slot="guardian", identifier=MOTHER, name="李" * 100_000)]),
        "long identifier": case(subjects=[P.Subject(slot="guardian", identifier="4" * 1_000_000)]),
        "many claims": case(claims=["guardian: hrss.insured exists"] * 10_000),
        "many subjects": case(subjects=[P.Subject(slot="guardian", identifier=MOTHER)] * 10_000),
        "empty": P.Case(),
    }
    for key, one in bad.items():
        one.key = key
    call = agent.here.VerifyBatch()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=rows(300)))
    await call.write(P.VerifyBatchRequest(cases=list(bad.values())))
    await call.write(P.VerifyBatchRequest(cases=rows(300, 300)))
    await call.done_writing()
    found: dict[str, Any] = {}
    async with asyncio.timeout(PATIENCE):
        while (response := await call.read()) is not grpc.aio.EOF:
            for result in response.results:
                assert result.key not in found
                found[result.key] = result
    assert {key: found.pop(key).reason for key in bad} == {
        "no identifier": "IDENTIFIER_INVALID",
        "no slot": "SLOT_UNKNOWN",
        "long name": "NAME_INVALID",
        "long identifier": "IDENTIFIER_INVALID",
        "many claims": "TOO_MANY_CLAIMS",
        "many subjects": "SLOT_UNKNOWN",
        "empty": "",
    }
    assert sorted(map(int, found)) == list(range(600))
    assert {claim.status for result in found.values() for claim in result.claims} == {P.CLAIM_STATUS_ANSWERED}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"\xff\xff\xff", ("INVALID_ARGUMENT", "REQUEST_MALFORMED", "")),
        (bytes(MAX_MESSAGE + 1), ("RESOURCE_EXHAUSTED", "", "")),
    ],
    ids=["none", "too long"],
)
async def test_a_message_that_cannot_be_taken_ends_its_stream_and_no_other(
    agent: Agent, message: bytes, told: tuple[str, str, str]
) -> None:
    channel = grpc.aio.insecure_channel(agent.local, options=[("grpc.max_send_message_length", -1)])
    agent.stack.push_async_callback(channel.close)
    call = channel.stream_stream(
        "/zhiwang.verification.v1.VerificationService/VerifyBatch",
        response_deserializer=P.VerifyBatchResponse.FromString,
    )()
    await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=rows(10)).SerializeToString())
    async with asyncio.timeout(PATIENCE):
        assert len(await read(call)) == 10
        await call.write(message)
        assert await refused(call.read()) == told
        assert len(await ask(agent.here, rows(10))) == 10
    await until(lambda: agent.client.chunks.free == MAX_CHUNKS)


async def test_a_caller_has_so_many_streams_open_and_is_told_what_to_do(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.streams.MAX_STREAMS_EACH", 2)
    stub, other = agent.here, agent.there("edu/system/counter")
    calls = [stub.VerifyBatch() for _ in range(2)]
    async with asyncio.timeout(PATIENCE):
        for call in calls:
            await call.write(P.VerifyBatchRequest(context=CONTEXT, cases=rows(1)))
            assert await read(call) == ["0"]
        more = stub.VerifyBatch()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await more.read()
        assert "TOO_MANY_STREAMS" in (caught.value.details() or "")
        assert "send more cases on one that is open, or end one and try again" in (caught.value.details() or "")
        assert await refused(stub.VerifyBatch().read()) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS", "")
        # Those that are open go on, so do others, and so does what waits at a counter.
        await calls[0].write(P.VerifyBatchRequest(cases=rows(1, 1)))
        assert await read(calls[0]) == ["1"]
        assert len(await ask(other, rows(10))) == 10
        response = await stub.Verify(P.VerifyRequest(context=CONTEXT, case=case()))
        assert response.result.ruling == P.RULING_PASSED
        # One ends in order and one is cancelled: both are free again.
        await calls[0].done_writing()
        assert await read(calls[0]) == []
        calls[1].cancel()
        for _ in range(2):
            found: list[str] = []
            while not found:
                try:
                    found = await ask(stub, rows(1))
                except grpc.aio.AioRpcError as error:
                    # The agent hears of the cancellation a moment later.
                    assert "TOO_MANY_STREAMS" in (error.details() or "")  # noqa: PT017  nothing else may be told
                    await asyncio.sleep(0.05)


async def everything(stub: Any, name: str, page_size: int = 0) -> dict[str, list[str]]:
    """Keys on each page of a batch, by the page's token."""
    pages: dict[str, list[str]] = {}
    token = ""
    while True:
        request = P.GetBatchResultsRequest(batch_id=name, page_size=page_size, page_token=token)
        response = await stub.GetBatchResults(request)
        if response.results or response.done:
            pages[token] = [result.key for result in response.results]
        token = response.next_page_token
        if not token:
            return pages


async def test_a_caller_has_so_many_batches_and_others_have_their_own(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.batches.MAX_BATCHES", 6)
    agent.city.owners["hrss"].hold.clear()
    stub, other = agent.here, agent.there("edu/system/counter")
    request = P.SubmitBatchRequest(context=CONTEXT, cases=rows(20))
    names = [(await stub.SubmitBatch(request)).batch_id for _ in range(3)]
    assert await refused(stub.SubmitBatch(request)) == ("RESOURCE_EXHAUSTED", "OVERLOADED", "")
    theirs = (await other.SubmitBatch(request)).batch_id
    agent.city.owners["hrss"].hold.set()
    async with asyncio.timeout(PATIENCE):
        for name in names:
            pages = await everything(stub, name)
            assert sorted(int(key) for keys in pages.values() for key in keys) == list(range(20))
        assert sum(map(len, (await everything(other, theirs)).values())) == 20


async def test_pages_that_are_read_again_are_the_same_and_no_token_shows_anothers(agent: Agent) -> None:
    stub, other = agent.here, agent.there("edu/system/counter")
    async with asyncio.timeout(PATIENCE):
        name = (await stub.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT, cases=rows(300)))).batch_id
        pages = await everything(stub, name, 70)
        assert Counter(key for keys in pages.values() for key in keys) == Counter(map(str, range(300)))
        for token, keys in list(pages.items())[::-1]:
            for _ in range(2):
                again = await stub.GetBatchResults(
                    P.GetBatchResultsRequest(batch_id=name, page_size=len(keys), page_token=token)
                )
                assert [result.key for result in again.results] == keys
        small = (await other.SubmitBatch(P.SubmitBatchRequest(context=CONTEXT, cases=rows(3)))).batch_id
        assert sum(map(len, (await everything(other, small)).values())) == 3
        for token in ("r300", "r4", "x", "r", "r-1", "\u0663", "r" + "9" * 40, "../" * 100):
            call = other.GetBatchResults(P.GetBatchResultsRequest(batch_id=small, page_token=token))
            assert await refused(call) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", "")
        for token in ("", "r70", "x"):
            call = other.GetBatchResults(P.GetBatchResultsRequest(batch_id=name, page_token=token))
            assert await refused(call) == ("NOT_FOUND", "BATCH_UNKNOWN", "")


async def test_an_agent_that_was_started_anew_knows_no_batch_and_takes_it_again(city: RunningCity) -> None:
    request = P.SubmitBatchRequest(context=CONTEXT, cases=rows(20))
    async with asyncio.timeout(PATIENCE):
        async with agent_of(city) as agent:
            name = (await agent.here.SubmitBatch(request)).batch_id
            assert sum(map(len, (await everything(agent.here, name)).values())) == 20
        async with agent_of(city) as agent:
            stub = agent.here
            told = await refused(stub.GetBatchResults(P.GetBatchResultsRequest(batch_id=name, page_token="r10")))
            assert told == ("NOT_FOUND", "BATCH_UNKNOWN", "")
            name = (await stub.SubmitBatch(request)).batch_id
            assert sum(map(len, (await everything(stub, name)).values())) == 20
