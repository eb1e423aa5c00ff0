"""What a sweep asks of the disk: files for their owner alone, no remnants of secrets, and whether it is full."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 1 << 20
_FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC)


def is_full(error: BaseException) -> bool:
    """Whether there is no room left to write in, on the disk or in a quota (which SQLite tells as a failed write)."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in _FULL


def make_private(path: Path) -> int:
    """Make a file if it is not there, and keep it to its owner.

    Returns:
        Its inode.

    Raises:
        OSError: It cannot be made, or is a symbolic link or another user's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def overwrite(path: Path) -> None:
    """Overwrite a file with zeros, as far as the disk lets us; it keeps its size, which is room on a full disk."""
    try:
        with path.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, _AT_ONCE)))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Not there; or the disk refuses, and whoever owns the file writes over it next, or removes it.
        return
