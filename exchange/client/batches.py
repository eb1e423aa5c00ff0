"""Batches that callers submit and fetch by two plain calls, for those who cannot stream both ways.

They live in memory, for an hour after their last case: an agent that restarts forgets them, and their caller asks
again. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from exchange.client.case import CaseResult
from exchange.client.messages import fitting, result_message
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

KEPT_SECONDS = 3600.0
"""How long results are kept after the last of them."""

MAX_CASES = 20_000
"""Cases of one batch."""

MAX_KEPT_CASES = 200_000
"""Cases of all batches that are kept."""

MAX_BATCHES = 256

POLL_SECONDS = 2.0
"""How long a call for results waits for the first of them."""

PAGE = 100
MAX_PAGE = 1000
log = structlog.get_logger(__name__)


class _Batch:
    """One batch."""

    __slots__ = ("ended", "failed", "more", "owner", "results", "size", "task")

    def __init__(self, owner: str, size: int) -> None:
        self.owner = owner
        self.size = size
        self.results: list[verification_pb2.CaseResult] = []
        self.more = asyncio.Event()
        self.ended: float | None = None
        self.failed: RefusedError | None = None
        self.task: asyncio.Task[None] | None = None


class Batches:
    """All batches of an agent.

    Args:
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._batches: dict[str, _Batch] = {}

    def submit(self, owner: str, size: int, results: AsyncIterator[Sequence[CaseResult]]) -> str:
        """Take a batch in.

        Args:
            owner: Who submits it; nobody else can fetch its results.
            size: Number of its cases.
            results: Is run in the background.

        Returns:
            Its id.

        Raises:
            RefusedError: TOO_MANY_CLAIMS for a batch that is too large; OVERLOADED, if too much is kept already.
        """
        if size > MAX_CASES:
            raise RefusedError(Reason.TOO_MANY_CLAIMS, "too many cases in one batch", field="cases")
        self._expire()
        kept = sum(batch.size for batch in self._batches.values())
        if len(self._batches) >= MAX_BATCHES or kept + size > MAX_KEPT_CASES:
            raise RefusedError(Reason.OVERLOADED, "too many batches are kept; fetch and wait")
        name = secrets.token_urlsafe(16)
        batch = self._batches[name] = _Batch(owner, size)
        batch.task = asyncio.get_running_loop().create_task(self._run(batch, results))
        return name

    async def fetch(
        self, owner: str, name: str, page_size: int, page_token: str
    ) -> verification_pb2.GetBatchResultsResponse:
        """A page of results; waits a moment if none is ready.

        Raises:
            RefusedError: BATCH_UNKNOWN, PAGE_TOKEN_INVALID; or why the batch could not be asked.
        """
        self._expire()
        batch = self._batches.get(name)
        if batch is None or batch.owner != owner:
            raise RefusedError(Reason.BATCH_UNKNOWN)
        start = _offset(page_token)
        if start > len(batch.results) or page_size < 0:
            raise RefusedError(Reason.PAGE_TOKEN_INVALID)
        if start == len(batch.results) and batch.ended is None:
            batch.more.clear()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await batch.more.wait()
            except TimeoutError:
                pass
        if batch.failed is not None and start == len(batch.results):
            raise RefusedError(batch.failed.reason, batch.failed.detail, field=batch.failed.field)
        response = verification_pb2.GetBatchResultsResponse(done=batch.ended is not None)
        size = min(page_size or PAGE, MAX_PAGE)
        response.results.extend(fitting(batch.results[start : start + size], size))
        end = start + len(response.results)
        if batch.ended is None or end < len(batch.results) or batch.failed is not None:
            response.next_page_token = f"r{end}"
        return response

    async def close(self) -> None:
        """End every batch."""
        tasks = [batch.task for batch in self._batches.values() if batch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._batches.clear()

    async def _run(self, batch: _Batch, results: AsyncIterator[Sequence[CaseResult]]) -> None:
        try:
            async for some in results:
                batch.results.extend([result_message(result) for result in some])
                batch.more.set()
        except RefusedError as error:
            batch.failed = error
        except Exception:
            log.exception("a batch failed")
            batch.failed = RefusedError(Reason.INTERNAL)
        finally:
            batch.ended = self._clock()
            batch.more.set()

    def _expire(self) -> None:
        now = self._clock()
        for name, batch in tuple(self._batches.items()):
            if batch.ended is not None and now - batch.ended > KEPT_SECONDS:
                del self._batches[name]


def _offset(token: str) -> int:
    if not token:
        return 0
    digits = token.removeprefix("r")
    if digits == token or not digits.isascii() or not digits.isdigit() or len(digits) > 9:  # noqa: PLR2004  no batch is so large
        raise RefusedError(Reason.PAGE_TOKEN_INVALID)
    return int(digits)
