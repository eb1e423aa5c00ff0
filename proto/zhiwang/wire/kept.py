"""A small private file that a process keeps its memory in: replaced whole, durably, and never by something older.

A task that writes in a worker thread is cancelled at shutdown while its thread goes on, and the last state is written
beside it. So writes of one file take turns, and one that is overtaken is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from zhiwang.wire.archive import sync_directory

_MODE: Final = 0o600


class KeptFile:
    """Writes one file. Nobody else writes it.

    Args:
        path: Its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._given = 0  # owned by whoever calls `writing`
        self._written = 0

    def writing(self, data: bytes) -> Callable[[], None]:
        """The write of `data`, to be called in any thread; newer than all that were asked for before.

        It raises OSError, if the file cannot be written.
        """
        self._given += 1
        number = self._given

        def write() -> None:
            with self._lock:
                if number > self._written:
                    self._replace(data)
                    self._written = number

        return write

    def _replace(self, data: bytes) -> None:
        temporary = self.path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self.path)
        sync_directory(self.path.parent)
