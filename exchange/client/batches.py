"""Batches that callers submit and fetch by two plain calls, for those who cannot stream both ways.

They live in memory, for an hour after their last case: an agent that restarts forgets them, and their caller asks
again. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import structlog

from exchange.client.case import CaseResult
from exchange.client.messages import fitting, result_message
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

KEPT_SECONDS = 3600.0
"""How long results are kept after the last of them."""

FORGET_SECONDS = 1.0
"""How much later they are let go of, when nobody calls meanwhile."""

MAX_CASES = 20_000
"""Cases of one batch."""

MAX_KEPT_CASES = 200_000
"""Cases of all batches that are kept."""

MAX_KEPT_BYTES = 512 << 20
"""Bytes of all results that are kept."""

MAX_BATCHES = 256
"""Batches that are kept."""

SHARE = 2
"""One caller may hold this part of all that is kept, so that none can take the others' place: a half."""

POLL_SECONDS = 2.0
"""How long a call for results waits for the first of them."""

PAGE = 100
MAX_PAGE = 1000
log = structlog.get_logger(__name__)


class _Batch:
    """One batch."""

    __slots__ = ("bytes", "ended", "failed", "forgetting", "more", "owner", "results", "size", "task")

    def __init__(self, owner: str, size: int) -> None:
        self.owner = owner
        self.size = size
        self.results: list[verification_pb2.CaseResult] = []
        self.bytes = 0
        self.forgetting: asyncio.TimerHandle | None = None
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

    def submit(self, owner: str, size: int, results: AsyncGenerator[Sequence[CaseResult]]) -> str:
        """Take a batch in.

        Args:
            owner: Who submits it; nobody else can fetch its results.
            size: Number of its cases.
            results: Is run in the background.

        Returns:
            Its id.

        Raises:
            RefusedError: REQUEST_MALFORMED for a batch without cases; TOO_MANY_CLAIMS for one that is too large;
                OVERLOADED, if too much is kept already.
        """
        if not size:
            raise RefusedError(Reason.REQUEST_MALFORMED, "a batch without cases", field="cases")
        if size > MAX_CASES:
            raise RefusedError(Reason.TOO_MANY_CLAIMS, "too many cases in one batch", field="cases")
        self._expire()
        if self._is_full(owner, size):
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
        for batch in self._batches.values():
            if batch.forgetting is not None:
                batch.forgetting.cancel()
        self._batches.clear()

    async def _run(self, batch: _Batch, results: AsyncGenerator[Sequence[CaseResult]]) -> None:
        try:
            async with aclosing(results):
                async for some in results:
                    messages = [result_message(result) for result in some]
                    batch.results.extend(messages)
                    batch.bytes += sum(message.ByteSize() for message in messages)
                    batch.more.set()
                    if self._is_full(batch.owner):
                        raise RefusedError(Reason.OVERLOADED, "the results that are kept are too many bytes")  # noqa: TRY301  it ends as a batch that cannot be asked on
        except RefusedError as error:
            batch.failed = error
        except Exception:
            log.exception("a batch failed")
            batch.failed = RefusedError(Reason.INTERNAL)
        finally:
            batch.ended = self._clock()
            batch.more.set()
            # Results name citizens' cases: they go when their time is over, whether or not anybody calls.
            batch.forgetting = asyncio.get_running_loop().call_later(KEPT_SECONDS + FORGET_SECONDS, self._expire)

    def _is_full(self, owner: str, more: int | None = None) -> bool:
        """Whether a caller, or all of them, hold too much for another batch of so many cases, or for results to go on.

        Args:
            owner: The caller.
            more: Cases of the batch that it would submit; None to look at the bytes only.
        """
        own = [batch for batch in self._batches.values() if batch.owner == owner]
        for batches, part in ((self._batches.values(), 1), (own, SHARE)):
            if sum(batch.bytes for batch in batches) >= MAX_KEPT_BYTES // part:
                return True
            if more is not None and (
                len(batches) >= MAX_BATCHES // part
                or sum(batch.size for batch in batches) + more > MAX_KEPT_CASES // part
            ):
                return True
        return False

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
