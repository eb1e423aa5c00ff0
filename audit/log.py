"""The sequencer: many callers append, one thread writes, each group of entries shares one transaction.

While the thread's COMMIT waits for the disk, the next group gathers in the queue; there is no timer. A caller is
answered after COMMIT, or told that the log is unavailable; between the two nothing is known and nothing is said. A
caller that is cancelled stops waiting, and its entries are recorded all the same.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from audit.appended import Appended, Head, NewEntry
from audit.entry import Event
from audit.store import LogStore
from audit.yearly import YearlyLog
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError

QUEUE_LIMIT: Final = 8192
"""Entries that may wait; more are refused as OVERLOADED."""
GROUP_LIMIT: Final = 2048
"""Entries of one transaction, unless a single caller brings more."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    """What one caller brought. The future belongs to the event loop."""

    entries: Sequence[NewEntry]
    future: asyncio.Future[Appended]


class AuditLog:
    """Appends to one log from one event loop.

    Args:
        store: An open log.
        queue_limit: Entries that may wait.
    """

    def __init__(self, store: YearlyLog | LogStore, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self.store = YearlyLog.adopt(store)
        self._limit = queue_limit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = 0  # entries; owned by the event loop
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the log can be appended to and guarded. Readiness follows it."""
        return not self._closed and self.store.healthy

    @property
    def waiting(self) -> int:
        """Entries in the queue or being written."""
        return self._waiting

    async def append(self, entries: Sequence[NewEntry]) -> Appended:
        """Append entries, which will be neighbours, and wait until they are durable.

        Who was told LOG_UNAVAILABLE may give the same entries again: what turned out to be in the log is found there,
        and not appended a second time.

        Raises:
            RefusedError: OVERLOADED: the queue is full; SHUTTING_DOWN.
            FatalError: LOG_UNAVAILABLE: the log has stopped. Whether the entries are in it is not known.
        """
        if not entries:
            raise ValueError("nothing to append")
        if self._closed:
            raise RefusedError(Reason.SHUTTING_DOWN)
        if self.store.stopped is not None:
            raise FatalError(Reason.LOG_UNAVAILABLE, self.store.stopped)
        if self._waiting and self._waiting + len(entries) > self._limit:
            raise RefusedError(Reason.OVERLOADED, "the log's queue is full")
        if self.store.is_recorded(entries):
            return await asyncio.to_thread(self.store.recorded, entries)
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._waiting += len(entries)
        self._queue.put(_Waiting(entries, future))
        return await future

    async def record(self, event: Event) -> Appended:
        """Append one event, as `append`."""
        return await self.append([self.store.new_entry(event)])

    async def head(self, known_tree_size: int = 0, known_origin: str = "") -> audit_pb2.LogHead:
        """The newest head for a reader that has verified the tree of `known_tree_size` of this or an earlier log."""
        try:
            return self.store.head(known_tree_size, known_origin, disk=False)
        except KeyError:
            return await asyncio.to_thread(self.store.head, known_tree_size, known_origin)

    async def frame(
        self, parts: Sequence[Appended], known_tree_size: int = 0, known_origin: str = ""
    ) -> tuple[audit_pb2.LogHead, list[audit_pb2.LoggedEntry]]:
        """One head over the entries of `parts`, and each entry with its proof under that head, in their order.

        All parts are of one log.
        """
        try:
            return self.store.frame(parts, known_tree_size, known_origin, disk=False)
        except KeyError:
            return await asyncio.to_thread(self.store.frame, parts, known_tree_size, known_origin)

    async def reload(self) -> Head:
        """Check the stored log anew and go on, after it has stopped.

        Raises:
            FatalError: LOG_UNAVAILABLE: it does not hold; the log stays stopped.
        """
        done: asyncio.Future[Head] = self._loop.create_future()

        def reopen() -> None:
            # On the writer's thread, so that nothing is being written meanwhile.
            try:
                head = self.store.open()
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller of reload gets it
                self._loop.call_soon_threadsafe(_fail, done, error)
            else:
                self._loop.call_soon_threadsafe(_resolve, done, head)

        self._queue.put(reopen)
        return await done

    async def close(self) -> None:
        """Write what waits, then end the thread and close the store."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self.store.close)

    # On the writer's thread.

    def _write(self) -> None:
        while True:
            item = self._queue.get()
            group: list[_Waiting] = []
            size = 0
            # Everything that has gathered, up to what is not an append.
            while isinstance(item, _Waiting):
                group.append(item)
                size += len(item.entries)
                if size >= GROUP_LIMIT:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._write_group(group)
            if item is None:
                return
            if not isinstance(item, _Waiting):
                item()

    def _write_group(self, group: list[_Waiting]) -> None:
        entries = [entry for waiting in group for entry in waiting.entries]
        try:
            with self.store.transaction() as connection:
                appended = self.store.append(connection, entries)
            self.store.committed(appended)
        except Exception as error:  # noqa: BLE001 - a writer that dies would leave its callers waiting for ever
            # Even an error in our own code leaves doubt about what was written, so it stops the log as well.
            failure = self.store.stop(error)
            self._loop.call_soon_threadsafe(self._settle, group, None, failure)
            return
        self._loop.call_soon_threadsafe(self._settle, group, appended, None)

    # On the event loop.

    def _settle(self, group: list[_Waiting], appended: Appended | None, failure: ZhiwangError | None) -> None:
        start = 0
        for waiting in group:
            count = len(waiting.entries)
            self._waiting -= count
            if appended is not None:
                _resolve(waiting.future, appended if len(group) == 1 else appended.part(start, count))
            elif failure is not None:
                # One exception for each: they collect tracebacks of their own.
                _fail(waiting.future, FatalError(failure.reason, failure.detail))
            start += count


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
