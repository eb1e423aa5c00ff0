"""The thin synchronous face of the client, for programs without an event loop.

    with SyncClient.open(load_profile(path)) as client:
        result = client.verify(case, context)

One thread runs the loop; any number of threads may call. Everything else is the asynchronous client's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from exchange.client.case import Case, CaseResult, Context
from exchange.client.client import MAX_TIMEOUT, TIMEOUT, Client
from zhiwang.wire.profile import Profile

T = TypeVar("T")


class SyncClient:
    """A client whose calls block. Made by `open`."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Client]]) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="zhiwang-client", daemon=True)
        self._thread.start()
        started.wait()
        try:
            self.client = self._call(opening())
        except BaseException:
            self._stop()
            raise

    @classmethod
    def open(cls, profile: Profile, *, state: str = "client") -> Self:
        """As `Client.open`."""
        return cls(lambda: Client.open(profile, state=state))

    def verify(self, case: Case, context: Context, *, timeout: float = TIMEOUT, receipt: bool = False) -> CaseResult:
        """As `Client.verify`."""
        return self._call(self.client.verify(case, context, timeout=timeout, receipt=receipt))

    def verify_many(
        self, cases: Iterable[Case], context: Context, *, timeout: float = MAX_TIMEOUT, receipt: bool = False
    ) -> Iterator[CaseResult]:
        """As `Client.verify_many`. Close the iterator if you leave it early.

        `cases` is read in the client's thread; it must not call this client.
        """
        batches = self.client.verify_batches(cases, context, timeout=timeout, receipt=receipt)
        handover: asyncio.Queue[Sequence[CaseResult] | BaseException | None] = self._call(_queue())

        async def pump() -> None:
            try:
                async with aclosing(batches) as found:
                    async for results in found:
                        await handover.put(results)
            except Exception as error:  # noqa: BLE001  raised again where results are taken
                await handover.put(error)
            else:
                await handover.put(None)

        task = self._call(_start(pump()))
        try:
            while (results := self._call(handover.get())) is not None:
                if isinstance(results, BaseException):
                    raise results
                yield from results
        finally:
            self._call(_end(task))

    def close(self) -> None:
        """End the client and its thread."""
        try:
            self._call(self.client.close())
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._runner.get_loop())
        try:
            return future.result()
        except BaseException:
            # An interrupt of this thread ends what it waited for.
            future.cancel()
            raise

    def _run(self, started: threading.Event) -> None:
        loop = self._runner.get_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        loop.run_forever()

    def _stop(self) -> None:
        self._runner.get_loop().call_soon_threadsafe(self._runner.get_loop().stop)
        self._thread.join()
        self._runner.close()


async def _queue() -> asyncio.Queue[Any]:
    return asyncio.Queue(maxsize=1)


async def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
