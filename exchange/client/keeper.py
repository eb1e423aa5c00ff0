"""Keeps receipts before their answers are released: many callers, one thread that writes.

While the thread's COMMIT waits for the disk, the next group gathers; there is no timer, so one caller waits for one
sync of the disk, and many share it. A caller that gives up stops waiting; its receipts may be kept all the same, which
proves an answer that nobody was told.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from exchange.client.receipt_rows import Paper, Waiting
from exchange.client.receipt_store import ReceiptStore
from zhiwang.wire.commitments import header_hash
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.profile import Profile

DIRECTORY: Final = "receipts"
"""Within the profile's state directory."""

QUEUE_LIMIT: Final = 8192
"""Receipts that may wait; beyond, they are not kept."""

GROUP_LIMIT: Final = 1024
"""Receipts of one transaction, unless a single caller brings more."""

PURGE_SECONDS: Final = 3600.0
"""How often receipts are deleted whose time is over."""

CLEAR_AGAIN_SECONDS: Final = 60.0
"""How soon it is tried again to empty the write-ahead log of what was deleted, if somebody was reading."""

UNTIMELY_SECONDS: Final = 5.0
"""How soon it is looked again whether the clock can be trusted."""

TELL_SECONDS: Final = 60.0
"""How often the log is told of one reason why receipts are not kept."""

log = structlog.get_logger(__name__)


class Missed(Enum):
    """Why receipts were not kept."""

    QUEUE_FULL = "too many receipts wait"
    LATE = "the disk did not take them within the caller's time"
    WRITE_FAILED = "they could not be written"


class _Waiting(NamedTuple):
    papers: Sequence[Paper]
    future: asyncio.Future[None]


class Keeper:
    """Receipts that are kept. Owned by the event loop; only its thread touches the store.

    Args:
        store: Opened; closed with this.
        keep: Seconds for which receipts are kept.
        required: Whether an answer without a kept receipt is withheld.
        clock: Seconds since the epoch.
        queue_limit: Receipts that may wait.
        missed: Told why receipts were not kept, and how many.
    """

    def __init__(
        self,
        store: ReceiptStore,
        keep: float,
        *,
        required: bool = True,
        clock: Callable[[], float] = time.time,
        queue_limit: int = QUEUE_LIMIT,
        missed: Callable[[Missed, int], None] = lambda _why, _count: None,
    ) -> None:
        self.required = required
        self.failing = False
        """Whether the last attempt to write failed."""
        self._store = store
        self._keep = keep
        self._clock = clock
        self._limit = queue_limit
        self._missed = missed
        self._told: dict[Missed, float] = {}
        self._room = asyncio.Condition()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "receipt keeper")
        self._gathered: list[_Waiting] = []
        self._waiting = 0
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        profile: Profile,
        clock: Callable[[], float] = time.time,
        missed: Callable[[Missed, int], None] = lambda _why, _count: None,
    ) -> Self | None:
        """The keeper of a profile; None if it keeps no receipts.

        Raises:
            FatalError: As `ReceiptStore`; INTERNAL: the keys lie within the state.
        """
        settings = profile.agent.receipts
        if settings is None:
            return None
        _check_apart(profile)
        store = open_store(profile)
        try:
            store.check_keys()
        except BaseException:
            store.close()
            raise
        return cls(store, settings.keep, required=settings.required, clock=clock, missed=missed)

    @property
    def waiting(self) -> int:
        """Receipts in the queue or being written."""
        return self._waiting

    async def keep(self, papers: Sequence[Paper], *, patient: bool = False) -> None:
        """Keep receipts and wait until they are durable.

        Args:
            papers: The receipts.
            patient: Whether to wait for room in the queue, if it is full, and not be refused.

        Raises:
            RefusedError: RECEIPT_NOT_KEPT.
        """
        if patient and not self._has_room(papers):
            async with self._room:
                await self._room.wait_for(lambda: self._closed or self._has_room(papers))
        if self._closed:
            raise RefusedError(Reason.RECEIPT_NOT_KEPT, "stopping")
        if not self._has_room(papers):
            self._miss(Missed.QUEUE_FULL, len(papers))
            raise RefusedError(Reason.RECEIPT_NOT_KEPT, "too many receipts wait")
        future = self._loop.create_future()
        self._gathered.append(_Waiting(papers, future))
        self._waiting += len(papers)
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write())
        await future

    async def keep_until(self, papers: Sequence[Paper], end: float, *, patient: bool = False) -> bool:
        """Whether receipts are kept before a time of the event loop; the other arguments are those of `keep`."""
        try:
            async with asyncio.timeout_at(end):
                await self.keep(papers, patient=patient)
        except RefusedError:
            return False
        except TimeoutError:
            self._miss(Missed.LATE, len(papers))
            return False
        return True

    async def purge_hourly(self, timely: Callable[[], bool]) -> None:
        """Delete what is over its time, at once and then every hour, until cancelled.

        Args:
            timely: Whether the clock can be trusted not to run ahead: nothing is deleted by one that may. A directory
                in force says so, since its timestamp, which others sign, expires within a day.
        """
        while True:
            # Read before it is vouched for, and once: a clock that jumps meanwhile deletes nothing.
            now = self._clock()
            if not timely():
                await asyncio.sleep(UNTIMELY_SECONDS)
                continue
            pause = PURGE_SECONDS
            try:
                deleted = 0
                while part := await self._loop.run_in_executor(self._thread, self._store.purge, self._keep, now):
                    deleted += part
                if not await self._loop.run_in_executor(self._thread, self._store.clear):
                    pause = CLEAR_AGAIN_SECONDS
            except ZhiwangError as error:
                log.error("receipts that are over their time could not be deleted", detail=error.detail)  # noqa: TRY400  no trace
            else:
                if deleted:
                    log.info("receipts that were over their time are deleted", count=deleted)
            await asyncio.sleep(pause)

    async def kept_cases(self, reference: str, since: float) -> frozenset[tuple[bytes, int]]:
        """Of which cases receipts were kept, by the hash of their request's header and their place in it.

        Args:
            reference: Under which was asked.
            since: Kept at this time or later, in seconds since the epoch.

        Raises:
            FatalError: As `ReceiptStore.find`.
        """
        return await self._loop.run_in_executor(self._thread, self._kept_cases, reference, since)

    def _kept_cases(self, reference: str, since: float) -> frozenset[tuple[bytes, int]]:
        found = (one.receipt for one in self._store.find(reference, since) if one.receipt is not None)
        return frozenset(
            (header_hash(part.request.header), claim.case_index)
            for receipt in found
            for part in receipt.parts
            for claim in part.claims
        )

    async def waiting_for_witnesses(self, since: float, after: int, limit: int) -> list[Waiting]:
        """As `ReceiptStore.waiting`; behind whatever is being written."""
        return await self._loop.run_in_executor(self._thread, self._store.waiting, since, after, limit)

    async def waiting_long(self, before: float, after: int, limit: int) -> list[Waiting]:
        """As `ReceiptStore.waiting_long`; behind whatever is being written."""
        return await self._loop.run_in_executor(self._thread, self._store.waiting_long, before, after, limit)

    async def complete(self, completed: Sequence[Waiting]) -> None:
        """As `ReceiptStore.complete`; behind whatever is being written."""
        await self._loop.run_in_executor(self._thread, self._store.complete, completed, self._clock())

    async def close(self) -> None:
        """Write what waits, and let go of the store."""
        self._closed = True
        async with self._room:
            self._room.notify_all()
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._loop.run_in_executor(None, self._thread.shutdown)
        self._store.close()

    async def _write(self) -> None:
        while self._gathered:
            group, papers = self._next_group()
            try:
                await self._loop.run_in_executor(self._thread, self._commit, papers)
            except Exception as error:  # noqa: BLE001  whatever it was, nobody may wait for ever
                self._note(error)
                self._missed(Missed.WRITE_FAILED, sum(len(one.papers) for one in group if not one.future.done()))
                for one in group:
                    if not one.future.done():
                        one.future.set_exception(RefusedError(Reason.RECEIPT_NOT_KEPT))
            else:
                self._note(None)
                for one in group:
                    if not one.future.done():
                        one.future.set_result(None)
            self._waiting -= len(papers)
            async with self._room:
                self._room.notify_all()

    def _has_room(self, papers: Sequence[Paper]) -> bool:
        return self._waiting + len(papers) <= self._limit

    def _next_group(self) -> tuple[list[_Waiting], list[Paper]]:
        papers: list[Paper] = []
        count = 0
        for one in self._gathered:
            if count and len(papers) + len(one.papers) > GROUP_LIMIT:
                break
            papers += one.papers
            count += 1
        group = self._gathered[:count]
        del self._gathered[:count]
        return group, papers

    def _commit(self, papers: Sequence[Paper]) -> None:
        if self.failing:
            self._store.mend()
        self._store.add(papers, self._clock())

    def _note(self, error: Exception | None) -> None:
        """Tell the log when it begins and when it ends; a full disk would fill it otherwise."""
        if error is not None and not self.failing:
            detail = error.detail if isinstance(error, FatalError) else type(error).__name__
            log.error("receipts cannot be kept", detail=detail, answers="withheld" if self.required else "released")
        elif error is None and self.failing:
            log.warning("receipts are kept again")
        self.failing = error is not None

    def _miss(self, why: Missed, count: int) -> None:
        """Count receipts that are not kept although the disk may be well, and tell the log so now and then."""
        self._missed(why, count)
        now = self._loop.time()
        if now - self._told.get(why, -math.inf) >= TELL_SECONDS:
            self._told[why] = now
            answers = "withheld" if self.required else "released"
            log.error("receipts were not kept", why=why.value, waiting=self._waiting, answers=answers)


def make_store(profile: Profile, now: float) -> bool:
    """Make the store of a profile that keeps receipts, with its key directory; whether there was none.

    Raises:
        FatalError: It cannot be made; INTERNAL: the keys would lie within the state.
    """
    _check_apart(profile)
    return ReceiptStore.create(*places(profile), now)


def open_store(profile: Profile) -> ReceiptStore:
    """The store of a profile.

    Raises:
        FatalError: INTERNAL: the profile keeps no receipts; or as `ReceiptStore`.
    """
    return ReceiptStore(*places(profile))


def places(profile: Profile) -> tuple[Path, Path]:
    """Directory of the store, and directory of its keys.

    Raises:
        FatalError: INTERNAL: the profile keeps no receipts.
    """
    settings = profile.agent.receipts
    if settings is None:
        raise FatalError(Reason.INTERNAL, f"{profile.path.name} keeps no receipts; it has no table [agent.receipts]")
    return profile.state / DIRECTORY, profile.path.parent / settings.keys


def _check_apart(profile: Profile) -> None:
    """Refuse keys within the state, whose backups would take them along.

    Raises:
        FatalError: INTERNAL.
    """
    _, keys = places(profile)
    if keys.resolve().is_relative_to(profile.state.resolve()):
        raise FatalError(
            Reason.INTERNAL,
            f"the receipts' keys {keys} lie within the state, whose backups take them along; move them and set `keys` "
            "in [agent.receipts]",
        )
