"""The files of the directory as `DirectoryService` serves them, at the registrar and at the hub alike.

Trusted with nothing: readers verify every byte. A mirror holds whole sets only, so a reader that follows one
timestamp finds everything under it; the last few sets stay for readers that are on their way. What is older is read
from an archive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import structlog

TIMESTAMP = "metadata/timestamp.json"
KEPT_SETS = 8
"""Sets that are served at once: the newest and those before it."""


_log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """Keeps every set for ever; `policy.archive.Archive`. Its methods block."""

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keep what is new of a set."""

    def read(self, path: str) -> bytes | None:
        """The bytes at a path."""


class Mirror:
    """Owned by the event loop's thread.

    Args:
        archive: Keeps what was in force; None to forget it.
    """

    def __init__(self, archive: Shelf | None = None) -> None:
        self._archive = archive
        self._sets: deque[Mapping[str, bytes]] = deque(maxlen=KEPT_SETS)
        self._newer: asyncio.Future[None] | None = None

    @property
    def timestamp(self) -> bytes | None:
        """The newest timestamp metadata; None before the first set."""
        return self._sets[0].get(TIMESTAMP) if self._sets else None

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Serves a new whole set of files from here on, and tells the watchers."""
        if self._sets and self._sets[0] == files:
            return
        self._sets.appendleft(files)
        if self._newer is not None and not self._newer.done():
            self._newer.set_result(None)
        self._newer = None

    async def take(self, files: Mapping[str, bytes]) -> None:
        """`publish`, once the set is in the archive. An archive that cannot be written holds nobody up."""
        if self._archive is not None:
            try:
                await asyncio.to_thread(self._archive.keep, files)
            except OSError as error:
                # The next set is no more than six hours away, and brings along what is missing and still in force.
                _log.error("the directory in force cannot be archived", error=type(error).__name__)
        self.publish(files)

    async def find(self, path: str) -> bytes | None:
        """The bytes at a path, from the newest set that has it, or from the archive."""
        content = self.read(path)
        if content is None and self._archive is not None:
            content = await asyncio.to_thread(self._archive.read, path)
        return content

    def read(self, path: str) -> bytes | None:
        """The bytes at a path, from the newest set that has it."""
        for files in self._sets:
            if path in files:
                return files[path]
        return None

    async def watch(self) -> AsyncIterator[bytes]:
        """The newest timestamp at once, then each newer one; a slow reader skips what was overtaken."""
        told: bytes | None = None
        while True:
            newer = self._newer
            if newer is None:
                newer = self._newer = asyncio.get_running_loop().create_future()
            timestamp = self.timestamp
            if timestamp is not None and timestamp != told:
                told = timestamp
                yield timestamp
                continue
            # Shielded: the future is every watcher's, and one that leaves must not cancel it for the others.
            await asyncio.shield(newer)
