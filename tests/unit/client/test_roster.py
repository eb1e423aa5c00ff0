"""A roster of any length is asked in chunks, holds up its reader, and gives every case exactly one result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_support import CHILD, FATHER, MOTHER, TODAY, directory
from exchange.client.case import Case, CaseResult, Subject
from exchange.client.plan import Planner, Prepared
from exchange.client.roster import CHUNK, MAX_GATHERED, MAX_OPEN_SHAPES, SLICE, WINDOW, chunk_size, run_roster
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.gather import BULK_BYTES
from zhiwang.wire.header import MAX_ANSWERS_PER_REQUEST, record_size

DIRECTORY = directory()
PLANNER = Planner(DIRECTORY, DIRECTORY.matters["school-enrolment"])


def case(number: int, guardians: int = 1) -> Case:
    people = [Subject("guardian", identifier) for identifier in (MOTHER, FATHER)[:guardians]]
    return Case((Subject("child", CHILD), *people), key=str(number))


def bad(number: int) -> Case:
    return Case((Subject("child", "1"),), key=str(number))


def prepare(one: Case) -> Prepared:
    return PLANNER.prepare(one, TODAY)


class Asker:
    """Answers everything, and notes what it was asked together."""

    def __init__(self) -> None:
        self.chunks: list[Sequence[Prepared]] = []
        self.most = 0
        self._now = 0

    async def __call__(self, chunk: Sequence[Prepared]) -> Sequence[CaseResult]:
        self.chunks.append(chunk)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        return [CaseResult(one.case.key) for one in chunk]


async def keys(cases: object, asker: Asker) -> list[str]:
    async with aclosing(run_roster(cases, prepare, asker)) as found:  # type: ignore[arg-type]  # any source
        return [result.key async for results in found for result in results]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["one", "two", "bad"]), max_size=700))
async def test_every_case_has_exactly_one_result(kinds: list[str]) -> None:
    made = {"one": case, "two": lambda number: case(number, 2), "bad": bad}
    asker = Asker()
    found = await keys([made[kind](number) for number, kind in enumerate(kinds)], asker)
    assert sorted(found, key=int) == [str(number) for number in range(len(kinds))]
    for chunk in asker.chunks:
        assert len({id(one.plan) for one in chunk}) == 1
        assert len(chunk) <= CHUNK


async def test_cases_of_one_shape_share_chunks() -> None:
    asker = Asker()
    whole = chunk_size(prepare(case(0)).plan)
    await keys([case(number) for number in range(2 * whole + 5)], asker)
    assert sorted(len(chunk) for chunk in asker.chunks) == [5, whole, whole]


async def test_no_more_than_a_window_is_read_ahead_of_who_takes_results() -> None:
    read = 0

    def source() -> Iterator[Case]:
        nonlocal read
        for number in range(20 * CHUNK):
            read += 1
            yield case(number)

    asker = Asker()
    async with aclosing(run_roster(source(), prepare, asker)) as found:
        await anext(found)
        await asyncio.sleep(0.2)
        assert read <= (WINDOW + 2) * CHUNK
        assert asker.most <= WINDOW


async def test_no_more_gathers_of_many_shapes_than_of_one() -> None:
    read = 0

    def source() -> Iterator[Case]:
        nonlocal read
        for number in range(40 * CHUNK):
            read += 1
            claim = f"guardian: hrss.x{number % (MAX_OPEN_SHAPES - 1)} exists"
            yield Case((Subject("guardian", MOTHER),), (claim,), str(number))

    asker = Asker()
    async with aclosing(run_roster(source(), prepare, asker)) as found:
        first = len(await anext(found))
        while len(asker.chunks) < WINDOW:  # noqa: ASYNC110  another task's work
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        in_line = read - first - sum(len(chunk) for chunk in asker.chunks[1:])
        # What gathers, a chunk that waits for the window, and what was read together.
        assert in_line <= MAX_GATHERED + CHUNK + SLICE
        assert read <= MAX_GATHERED + (WINDOW + 2) * CHUNK


async def test_a_case_that_cannot_be_asked_says_why_and_harms_no_other() -> None:
    asker = Asker()
    async with aclosing(run_roster([case(0), bad(1), case(2)], prepare, asker)) as found:
        results = {result.key: result async for some in found for result in some}
    assert (results["1"].reason, results["1"].field) == (Reason.IDENTIFIER_INVALID, "subjects[0].identifier")
    assert results["0"].reason is results["2"].reason is None


async def test_what_trickles_in_is_asked_without_waiting_for_a_full_chunk() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[Sequence[Case]]:
        yield [case(0)]
        await more.wait()
        yield [case(1)]

    async with asyncio.timeout(10), aclosing(run_roster(source(), prepare, Asker())) as found:
        (first,) = await anext(found)
        assert first.key == "0"
        more.set()
        (second,) = await anext(found)
        assert second.key == "1"


async def test_an_error_of_the_source_reaches_who_takes_results() -> None:
    async def source() -> AsyncIterator[Sequence[Case]]:
        yield [case(0)]
        raise RefusedError(Reason.CERTIFICATE_REVOKED)

    with pytest.raises(RefusedError) as caught:
        await keys(source(), Asker())
    assert caught.value.reason is Reason.CERTIFICATE_REVOKED


async def test_an_error_while_asking_reaches_who_takes_results() -> None:
    async def ask(_chunk: Sequence[Prepared]) -> Sequence[CaseResult]:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async for _ in run_roster([case(0)], prepare, ask):
            pass


async def test_a_call_that_was_cancelled_under_a_chunk_leaves_no_case_without_a_result_and_the_roster_goes_on() -> None:
    asked = 0

    async def ask(chunk: Sequence[Prepared]) -> Sequence[CaseResult]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked <= WINDOW:
            # As grpc.aio does in whoever waits for a call whose channel is closed.
            raise asyncio.CancelledError
        return [CaseResult(one.case.key) for one in chunk]

    whole = chunk_size(prepare(case(0)).plan)
    cases = [case(number) for number in range((WINDOW + 1) * whole)]
    async with asyncio.timeout(60), aclosing(run_roster(cases, prepare, ask)) as found:
        reasons = {result.key: result.reason async for some in found for result in some}
    assert len(reasons) == len(cases)
    assert list(reasons.values()).count(Reason.HUB_UNREACHABLE) == WINDOW * whole
    assert list(reasons.values()).count(None) == whole


async def test_leaving_early_ends_everything() -> None:
    ended = asyncio.Event()

    async def ask(chunk: Sequence[Prepared]) -> Sequence[CaseResult]:
        if chunk[0].case.key == "0":
            return [CaseResult("0")]
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return []

    async with aclosing(run_roster([case(0, 1), case(1, 2)], prepare, ask)) as found:
        await anext(found)
    async with asyncio.timeout(10):
        await ended.wait()


async def test_an_empty_roster_ends() -> None:
    assert await keys([], Asker()) == []


def test_a_chunk_never_holds_more_answers_than_a_request_may() -> None:
    claims = tuple(f"guardian: hrss.x{number} exists" for number in range(60))
    plan = prepare(Case((Subject("guardian", MOTHER),), claims)).plan
    assert chunk_size(plan) * 60 <= MAX_ANSWERS_PER_REQUEST


def test_a_chunk_of_many_slots_is_no_longer_than_a_frame_of_bulk() -> None:
    alone = prepare(Case((Subject("guardian", MOTHER),), ("guardian: hrss.x exists",))).plan
    assert chunk_size(alone) == CHUNK
    both = prepare(case(0, 2)).plan
    longest = max(record_size(len(part.places), len(part.texts)) for part in both.parts)
    assert chunk_size(both) * longest <= BULK_BYTES < (chunk_size(both) + 1) * longest
