"""Many cases: read, prepared, gathered by shape, asked in chunks, given back as they become ready.

Never more than a window of chunks is in hand, and as many cases again that gather: what the consumer does not take
holds the reading up, so a roster of any length needs the memory of some thousand cases. A case that cannot be asked
gives a result with its reason, and harms no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Generic, Protocol, TypeVar

from exchange.client.case import Case, CaseResult
from exchange.client.plan import Plan
from zhiwang.wire.channel import is_cancelled
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.gather import BULK_BYTES
from zhiwang.wire.header import MAX_ANSWERS_PER_REQUEST, MAX_CASES, record_size

CHUNK = MAX_CASES
"""Cases of one sealed request, at most; of cases with many slots and values fewer, so that it stays a frame of bulk."""

WINDOW = 3
"""Chunks in hand, at most: being asked, or waiting to be taken."""

LINGER = 0.02
"""Seconds for which a chunk that is not full waits for more cases of its shape."""

SLICE = 16
"""Cases that are prepared before the event loop gets its turn."""

MAX_OPEN_SHAPES = 64
"""Shapes of cases that gather at a time; beyond, the fullest is sent."""

MAX_GATHERED = WINDOW * CHUNK
"""Cases of all shapes that gather at a time; beyond, the fullest is sent."""


class Planned(Protocol):
    """A case that was prepared."""

    @property
    def case(self) -> Case:
        """As the caller gave it."""

    @property
    def plan(self) -> Plan:
        """Its shape: cases of one plan are asked together."""


P = TypeVar("P", bound=Planned)


class _Roster(Generic[P]):
    """One run. Owned by the event loop.

    Args:
        prepare: Brings a case into canonical form; raises RefusedError with the field.
        ask: Asks cases of one plan and gives their results.
    """

    def __init__(
        self,
        prepare: Callable[[Case], P],
        ask: Callable[[Sequence[P]], Awaitable[Sequence[CaseResult]]],
    ) -> None:
        self._prepare = prepare
        self._ask = ask
        self._gathering: dict[int, list[P]] = {}
        self._gathered = 0
        self._places = asyncio.Semaphore(WINDOW)
        self._ready: asyncio.Queue[Sequence[CaseResult] | BaseException | None] = asyncio.Queue()
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self, batches: AsyncIterator[Sequence[Case]]) -> AsyncGenerator[Sequence[CaseResult]]:
        reader = asyncio.create_task(self._read(batches))
        try:
            while (results := await self._ready.get()) is not None:
                if isinstance(results, BaseException):
                    raise results
                yield results
                self._places.release()
        finally:
            reader.cancel()
            for task in self._asking:
                task.cancel()
            await asyncio.gather(reader, *self._asking, return_exceptions=True)

    async def _read(self, batches: AsyncIterator[Sequence[Case]]) -> None:
        try:
            await self._take(batches)
            for plan in tuple(self._gathering):
                await self._send(plan)
            while self._asking:
                await asyncio.wait(self._asking)
        except Exception as error:  # noqa: BLE001  the caller's iterator may raise anything; its consumer is told
            self._ready.put_nowait(error)
        else:
            self._ready.put_nowait(None)

    async def _take(self, batches: AsyncIterator[Sequence[Case]]) -> None:
        pending: asyncio.Future[Sequence[Case]] | None = None
        try:
            while True:
                # A task of its own, so that the wait can be given up without giving up the cases.
                pending = asyncio.ensure_future(anext(batches)) if pending is None else pending
                await asyncio.wait({pending}, timeout=LINGER if self._gathering else None)
                if not pending.done():
                    for plan in tuple(self._gathering):
                        await self._send(plan)
                    continue
                try:
                    batch = pending.result()
                except StopAsyncIteration:
                    return
                pending = None
                for count, case in enumerate(batch, 1):
                    await self._add(case)
                    if count % SLICE == 0:
                        await asyncio.sleep(0)
        finally:
            if pending is not None:
                pending.cancel()

    async def _add(self, case: Case) -> None:
        try:
            prepared = self._prepare(case)
        except RefusedError as error:
            await self._places.acquire()
            self._ready.put_nowait([CaseResult(case.key, reason=error.reason, field=error.field)])
            return
        key = id(prepared.plan)
        gathered = self._gathering.setdefault(key, [])
        gathered.append(prepared)
        self._gathered += 1
        if len(gathered) >= chunk_size(prepared.plan):
            await self._send(key)
        elif len(self._gathering) > MAX_OPEN_SHAPES or self._gathered > MAX_GATHERED:
            await self._send(max(self._gathering, key=lambda key: len(self._gathering[key])))

    async def _send(self, key: int) -> None:
        chunk = self._gathering.pop(key)
        self._gathered -= len(chunk)
        await self._places.acquire()
        task = asyncio.create_task(self._run_chunk(chunk))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _run_chunk(self, chunk: Sequence[P]) -> None:
        try:
            self._ready.put_nowait(await self._ask(chunk))
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            # A call of ours ended from this side, e.g. as its channel was closed; the roster goes on.
            self._ready.put_nowait([CaseResult(one.case.key, reason=Reason.HUB_UNREACHABLE) for one in chunk])
        except Exception as error:  # noqa: BLE001  the consumer is told, whatever it was
            self._ready.put_nowait(error)


def chunk_size(plan: Plan) -> int:
    """How many cases of a plan go into one request."""
    widest = max(part.columns for part in plan.parts)
    longest = max(record_size(len(part.places), len(part.texts)) for part in plan.parts)
    return max(1, min(CHUNK, MAX_ANSWERS_PER_REQUEST // widest, BULK_BYTES // longest))


async def run_roster(
    batches: Iterable[Case] | AsyncIterable[Sequence[Case]],
    prepare: Callable[[Case], P],
    ask: Callable[[Sequence[P]], Awaitable[Sequence[CaseResult]]],
) -> AsyncGenerator[Sequence[CaseResult]]:
    """Results of many cases, in any order, as many at a time as became ready together.

    Args:
        batches: Cases, read no faster than results are taken. What comes asynchronously comes in batches of any size,
            and is not held back for more than a moment.
        prepare: Brings a case into canonical form; raises RefusedError with the field.
        ask: Asks cases of one plan and gives their results.
    """
    source = aiter(batches) if isinstance(batches, AsyncIterable) else _slices(batches)
    async with aclosing(_Roster(prepare, ask).run(source)) as found:
        async for results in found:
            yield results


async def _slices(cases: Iterable[Case]) -> AsyncIterator[Sequence[Case]]:
    iterator = iter(cases)
    while batch := tuple(islice(iterator, SLICE)):
        yield batch
