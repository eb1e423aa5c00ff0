"""Keeps a `DirectoryHolder` fresh over gRPC: watch, refresh, swap. The same for hub, adapters, agents and witnesses.

Every source is watched, and whatever one of them has that is newer and verifies is taken up. So none of several hubs
can keep the directory from anybody: one that is down, hangs, lags or lies is passed over, and operators are told once.
Versions never fall, whoever offers them; `DirectoryClient` sees to that. Sources are read one at a time, and what
belongs to one timestamp is read from one of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping

import structlog

from policy.directory import DirectoryClient, DirectoryHolder
from policy.mirror import TIMESTAMP, Mirror
from policy.model import Directory
from policy.source import FETCH_SECONDS, Reading, Source, Stub, get_file, newest_first, timestamps, version_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError

FIRST_BACKOFF = 0.2
MAX_BACKOFF = 30.0
"""Seconds between attempts; they double, and are jittered so that a city does not come back in step."""

OTHERS_SECONDS = 1.0
"""How long is waited, at each look, for what other sources offer once one has said what it has."""

TURN_SECONDS = 3.0
"""How long one source may take while another has something to be read as well. What came of it is not read again."""

SAME_SECONDS = 2 * FETCH_SECONDS
"""How long, if what the other has is the same: for the end of the chain of roots and one file, so each turn gets on."""

BEHIND_SECONDS = 30.0
"""How long a source may lack what others have before operators are told."""

_log = structlog.get_logger(__name__)


class Follower:
    """Owned by the event loop.

    Args:
        client: Verifies, and remembers.
        holder: What is kept fresh.
        sources: Where to read from, by names for operators: one, or several that are equals.
        mirror: Gets the files of each verified directory (the hub's).
    """

    def __init__(
        self,
        client: DirectoryClient,
        holder: DirectoryHolder,
        sources: Mapping[str, Stub],
        *,
        mirror: Mirror | None = None,
    ) -> None:
        self._client = client
        self._holder = holder
        self._sources = [Source(name, stub) for name, stub in sources.items()]
        self._mirror = mirror
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._reading: Reading | None = None  # whoever has the turn

    async def begin(self) -> None:
        """Puts a first directory in force: the newest that can be had, or the last one from disk if it still holds.

        Raises:
            RefusedError: HUB_UNREACHABLE, if there is neither.
            FatalError: What can be had does not verify, and there is none on disk.
        """
        try:
            await self.look()
        except ZhiwangError as newest:
            try:
                directory = await asyncio.to_thread(self._client.load)
            except ZhiwangError:
                raise newest from None
            await self._set(directory)
            self._holder.failed(_told(newest))

    async def look(self) -> None:
        """Takes up the newest directory that any source has now. One that hangs is waited for a moment only.

        Raises:
            RefusedError: HUB_UNREACHABLE, if none can be read.
            FatalError: What can be had does not verify.
        """
        problem: ZhiwangError = RefusedError(Reason.HUB_UNREACHABLE, "directory: nobody answers")
        asked = {self._loop.create_task(get_file(source.stub, TIMESTAMP)): source for source in self._sources}
        pending = set(asked)
        try:
            # Whoever answers first may lie: as long as nothing that was offered could be taken, the others count too.
            while pending:
                answered, pending = await _answers(pending)
                offers: dict[Source, bytes] = {}
                for task in (task for task in asked if task in answered):
                    try:
                        offers[asked[task]] = task.result()
                    except ZhiwangError as error:
                        detail = f"directory: {error.reason.name}: {error.detail}"
                        problem = RefusedError(Reason.HUB_UNREACHABLE, detail)
                try:
                    if offers:
                        return await self._take_newest(offers, more=bool(pending))
                except ZhiwangError as error:
                    problem = error
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        raise problem

    async def follow(self) -> None:
        """Takes up each newer directory, until cancelled. Raises nothing: the last good one stays until it expires."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._watch(source))

    async def _take_newest(self, offers: Mapping[Source, bytes], *, more: bool) -> None:
        """Takes up the newest of what is offered that can be read.

        Args:
            offers: Timestamps; at least one.
            more: Whether others may still offer something.

        Raises:
            ZhiwangError: Why the last that was tried cannot be taken.
        """
        order = newest_first(offers)
        for source in order:
            last = source is order[-1]
            patience = TURN_SECONDS if not last else FETCH_SECONDS if more else None
            try:
                async with asyncio.timeout(patience):
                    await self._take(source, offers[source])
                    return
            except TimeoutError:
                problem: ZhiwangError = RefusedError(
                    Reason.HUB_UNREACHABLE, f"directory: {source.name} gives no more of it"
                )
            except ZhiwangError as error:
                problem = error
        raise problem

    async def _watch(self, source: Source) -> None:
        backoff = FIRST_BACKOFF
        while True:
            offered, begun = b"", self._loop.time()
            try:
                async for offered in timestamps(source.stub):
                    new = await self._take(source, offered)
                    self._well(source)
                    # What is in force already is cheaply offered again; between lies it earns nobody a sooner turn.
                    if new or self._loop.time() - begun >= MAX_BACKOFF:
                        backoff = FIRST_BACKOFF
            except ZhiwangError as error:
                self._failed(source, error, offered)
            except Exception:  # noqa: BLE001 # a bug must not end the watch silently; what is in force expires by itself
                _log.exception("following the directory failed")
                self._holder.failed("internal error")
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))  # noqa: S311 # jitter, no secret
            backoff = min(backoff * 2, MAX_BACKOFF)

    # Reading, one at a time.

    async def _take(self, source: Source, timestamp: bytes) -> bool:
        """Takes up what a source offers, unless it is in force. Whether it was new.

        Raises:
            ZhiwangError: It cannot be read, does not verify, or is older than what was seen.
        """
        if self._is_in_force(timestamp):
            return False
        await self._acquire_turn(timestamp)
        try:
            if self._is_in_force(timestamp):  # meanwhile it came from another
                return False
            await self._set(await self._read(source, timestamp))
        finally:
            self._turn.release()
        return True

    async def _acquire_turn(self, timestamp: bytes) -> None:
        while True:
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await self._turn.acquire()
                    return
            except TimeoutError:
                reading = self._reading
                if reading is None:
                    continue
                patience = SAME_SECONDS if reading.timestamp == timestamp else TURN_SECONDS
                if self._loop.time() - reading.begun >= patience:
                    reading.abandon()

    async def _read(self, source: Source, timestamp: bytes) -> Directory:
        reading = self._reading = Reading(source, timestamp, self._loop)
        work = asyncio.ensure_future(asyncio.to_thread(self._client.refresh, reading))
        try:
            return await asyncio.shield(work)
        finally:
            # Also where we are cancelled, nobody else has the turn before the thread has ended.
            self._reading = None
            reading.abandon()
            await asyncio.gather(work, return_exceptions=True)

    async def _set(self, directory: Directory) -> None:
        latest = self._holder.latest
        if latest is None or latest.timestamp_hash != directory.timestamp_hash:
            self._holder.set(directory)
            if self._mirror is not None:
                await self._mirror.take(self._client.files)

    def _is_in_force(self, timestamp: bytes) -> bool:
        latest = self._holder.latest
        same = latest is not None and latest.timestamp_hash == hashlib.sha256(timestamp).digest()
        return same and self._holder.fresh

    # What operators are told.

    def _well(self, source: Source) -> None:
        if source.told:
            _log.info("directory: a source is as new as the others again", source=source.name)
        source.trouble = source.behind_since = None
        source.told = ""
        self._holder.problem = None

    def _failed(self, source: Source, error: ZhiwangError, offered: bytes) -> None:
        """Notes what is wrong with a source. As long as another is well, that is told once."""
        source.trouble = error
        if all(one.trouble is not None for one in self._sources):
            self._holder.failed(_told(error))
            return
        why = f"{_kind(error)}: {error.reason.name}"
        version, latest = version_of(offered), self._holder.latest
        if version is not None and latest is not None and version < latest.role_versions["timestamp"]:
            # What has just been published is on its way.
            now = self._loop.time()
            source.behind_since = source.behind_since or now
            if now - source.behind_since < BEHIND_SECONDS:
                return
            why = "behind"
        if source.told != why:
            source.told = why
            level = _log.error if isinstance(error, FatalError) else _log.warning
            level("directory: a source is passed over", source=source.name, why=why, detail=error.detail)


async def _answers(asked: set[asyncio.Task[bytes]]) -> tuple[set[asyncio.Task[bytes]], set[asyncio.Task[bytes]]]:
    """Waits until one has said what it has, and a moment for the others: who has ended by then, and who has not."""
    done, pending = set[asyncio.Task[bytes]](), asked
    while pending and all(task.exception() for task in done):
        more, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    if pending:
        more, pending = await asyncio.wait(pending, timeout=OTHERS_SECONDS)
        done |= more
    return done, pending


def _kind(error: ZhiwangError) -> str:
    return "unreachable" if isinstance(error, RefusedError) else "refused"


def _told(error: ZhiwangError) -> str:
    return f"{_kind(error)}: {error.reason.name}: {error.detail}"
