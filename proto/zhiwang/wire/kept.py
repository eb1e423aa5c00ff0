"""Small files that are replaced whole and durably; among them what a process keeps its memory in, never older again.

A task that writes in a worker thread is cancelled at shutdown while its thread goes on, and the last state is written
beside it. So writes of one file take turns, and one that is overtaken is dropped.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from zhiwang.wire.archive import sync_directory

PRIVATE: Final = 0o600
PUBLIC: Final = 0o666
"""Less what the process's umask takes away."""


def replace_durably(path: Path, data: bytes, *, mode: int = PRIVATE, exactly: bool = False) -> None:
    """Write or replace a file so that its name appears when its bytes are on disk, and is there after a power failure.

    Whoever writes it at the same time, here or in another process, writes a whole file as well; the last one stays. A
    process that is killed meanwhile may leave a file behind whose name begins with a dot. Nobody reads that.

    Args:
        path: Its directory exists.
        data: All of it.
        mode: Of the new file, less what the process's umask takes away.
        exactly: Whether it keeps all of its mode, whatever the umask.

    Raises:
        OSError: It cannot be written; the old one is still there.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if exactly:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    sync_directory(path.parent)


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
        replace_durably(self.path, data)
