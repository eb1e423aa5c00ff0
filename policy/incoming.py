"""Where signed files wait beside an adapter's directory until it takes them in (`policy.local`).

Whoever stands at the machine may have left anything there. It is read so that nothing of it delays or stops the
adapter: a pipe does not block, a link is not followed, and no more is read than a signed file can have.
"""

from __future__ import annotations

import os
import stat
from errno import EINVAL
from hashlib import sha256
from pathlib import Path
from typing import Final

from policy.signed_file import MAX_SIZE
from zhiwang.wire.kept import replace_durably, sweep

INCOMING: Final = "incoming"
"""The place's name within the directory of the files that stand."""

READABLE: Final = 0o644
"""Mode of what waits: what is signed is public, and whoever puts it here may have another account than the adapter."""


def make(place: Path) -> Path:
    """Make the place, if it is not there yet, and clear it of what was left half written. Returns where files wait.

    Args:
        place: Directory of the files that stand.

    Raises:
        OSError: It cannot be made.
    """
    incoming = place / INCOMING
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(incoming)
    return incoming


def put(place: Path, data: bytes) -> Path:
    """Put a file where an adapter takes it in.

    Args:
        place: Directory of the files that stand.
        data: The file's bytes.

    Returns:
        Where it waits; it is gone from there once the adapter has looked at it.

    Raises:
        OSError: It cannot be written.
    """
    path = make(place) / f"{sha256(data).hexdigest()[:16]}.json"
    replace_durably(path, data, mode=READABLE, exactly=True)
    return path


def waiting(place: Path) -> list[Path]:
    """What waits, in order of names.

    Args:
        place: Directory of the files that stand.
    """
    return sorted((place / INCOMING).glob("*.json"))


def read_waiting(path: Path) -> bytes:
    """The bytes of a file that waits, up to one more than a signed file can have.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(EINVAL, "no regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_SIZE + 1)
    finally:
        os.close(descriptor)
