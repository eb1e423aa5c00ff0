"""Every file of every directory that was in force, so that what was decided long ago can still be explained.

Readers need the newest set only, and `Mirror` holds those. A log entry names the version of the directory by which it
was decided, perhaps years ago: here that version is still found, by the same names that it had in the repository.
Nothing is changed or taken away. A timestamp, whose name is always the same, is kept under its hash, which is what a
log records when a directory comes into force. Trusted with nothing: `history.py` verifies what is read. Blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import structlog

from policy.mirror import TIMESTAMP
from zhiwang.wire.kept import sweep, write_durably

_NAME = r"[0-9A-Za-z_%-][0-9A-Za-z_.%-]*"
_PATH = re.compile(rf"(?:metadata|targets)(?:/{_NAME}){{1,4}}")
"""No part of a path begins with a dot."""

_log = structlog.get_logger(__name__)


def timestamp_path(timestamp_hash: bytes) -> str:
    """Where a timestamp stands, by the SHA-256 of its bytes."""
    return f"metadata/timestamp/{timestamp_hash.hex()}.json"


class Archive:
    """Files in a directory.

    Args:
        directory: Made with the first file.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._swept = False

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keep what is new of a verified set.

        Args:
            files: By repository path.

        Raises:
            OSError: It cannot be written.
        """
        if not self._swept:
            sweep(self._directory)
            self._swept = True
        for path, content in files.items():
            kept = timestamp_path(sha256(content).digest()) if path == TIMESTAMP else path
            target = self._directory / kept
            try:
                if target.read_bytes() != content:
                    # Only a repository that went back in time signs one name twice. What was first in force stays.
                    _log.error("a file of the directory differs from what was in force under its name", path=kept)
            except FileNotFoundError:
                write_durably(target, content)

    def read(self, path: str) -> bytes | None:
        """The bytes at a path; None if there are none."""
        if not _PATH.fullmatch(path):
            return None
        try:
            return (self._directory / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
