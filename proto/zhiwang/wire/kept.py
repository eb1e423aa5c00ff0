"""Small files that are replaced whole and durably; among them what a process keeps its memory in, never older again.

A file is written under another name first. A process that is killed meanwhile leaves that one behind, with a name that
begins with a dot: nobody reads it, and whoever writes the same file next takes it away. Who keeps files of many names
in a directory of its own has that `sweep`ed as well when it opens it.

A task that writes in a worker thread is cancelled at shutdown while its thread goes on, and the last state is written
beside it. So writes of one file take turns, and one that is overtaken is dropped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

PRIVATE: Final = 0o600
PUBLIC: Final = 0o666
"""Less what the process's umask takes away."""


_ASIDE: Final = re.compile(r"\..+\.[0-9a-f]{16}")
"""Names of files that are not in their place yet."""


def replace_durably(
    path: Path, data: bytes, *, mode: int = PRIVATE, exactly: bool = False, follow: bool = False
) -> None:
    """Write or replace a file so that its name appears when its bytes are on disk, and is there after a power failure.

    Whoever writes it at the same time, here or in another process, writes a whole file as well; the last one stays.

    Args:
        path: Its directory exists.
        data: All of it.
        mode: Of the new file, less what the process's umask takes away.
        exactly: Whether it keeps all of its mode, whatever the umask.
        follow: Whether a symbolic link stays one and what it leads to is replaced: for files of our own, which an
            operator may have put on other storage so.

    Raises:
        OSError: It cannot be written; the old one is still there.
    """
    place = _led_to(path) if follow else path
    with written_aside(place, data, mode=mode, exactly=exactly) as aside:
        aside.replace(place)
    sync_path(place.parent)


def sync_path(path: Path) -> None:
    """Make durable what was written to a file by others, or the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write or replace a public file; the directories above it are made, and their names are as durable as its own.

    Raises:
        OSError: It cannot be written; the old one is still there.
    """
    made = [place for place in path.parents if not place.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for place in made:
        sync_path(place.parent)
    replace_durably(path, data, mode=PUBLIC)


def _led_to(path: Path) -> Path:
    """Where a file is to be written that may be a symbolic link.

    Raises:
        OSError: The links lead round in a circle.
    """
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return place


@contextmanager
def written_aside(path: Path, data: bytes, *, mode: int = PRIVATE, exactly: bool = False) -> Iterator[Path]:
    """A new file beside `path` with its bytes on disk, to be renamed or linked into its place; then it is gone.

    Args:
        path: Its directory exists.
        data: All of it.
        mode: As for `replace_durably`.
        exactly: As for `replace_durably`.

    Raises:
        OSError: It cannot be written.
    """
    aside, descriptor = open_aside(path, mode)
    with os.fdopen(descriptor, "wb") as file:
        try:
            if exactly:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            yield aside
        finally:
            with suppress(OSError):
                aside.unlink()


def open_aside(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside another, locked as one that is being written: its path and its descriptor."""
    _sweep(path.parent, path.name)
    while True:
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        # Who is locked is being written. On a file system without locks nothing is locked, and nothing swept.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return aside, descriptor
        os.close(descriptor)  # swept between the two


def sweep(directory: Path) -> None:
    """Take away what killed processes left behind in a directory and below it; never what is being written.

    What cannot be taken away stays: it does no harm.

    Args:
        directory: With files of our own only.
    """
    for place, _, _ in os.walk(directory):
        _sweep(Path(place))


def _sweep(directory: Path, of: str | None = None) -> None:
    """What was left beside the file of that name, or beside any."""
    try:
        found = [name for name in os.listdir(directory) if _ASIDE.fullmatch(name)]  # noqa: PTH208 - names are wanted
    except OSError:
        return
    for name in found:
        if of is None or name[1:].rpartition(".")[0] == of:
            with suppress(OSError):
                _sweep_one(directory / name)


def _sweep_one(aside: Path) -> None:
    # Opened for writing, which a lock takes on a network file system.
    descriptor = os.open(aside, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Either nobody writes it, or whoever does has put it in its place meanwhile, and the name is gone.
        aside.unlink()
    finally:
        os.close(descriptor)


class KeptFile:
    """Writes one file, or what a symbolic link of its name leads to. Nobody else writes it.

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
                    replace_durably(self.path, data, follow=True)
                    self._written = number

        return write
