"""The directory that a process on this machine verified last, for a command beside it.

Read from a copy, since whoever reads a directory takes notes beside it, and the process may be taking up a newer one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from tuf.api.metadata import Targets

from policy.directory import DirectoryClient
from policy.model import Directory
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError

_COPIES: Final = 3
"""How often it is copied, at most."""


class Kept(NamedTuple):
    """A directory with what it was verified from.

    Attributes:
        directory: In force as it was seen last.
        files: All of its files, by repository path.
        roles: Metadata of centre and departments.
    """

    directory: Directory
    files: Mapping[str, bytes]
    roles: Mapping[str, Targets]

    def fetch(self, path: str) -> bytes:
        """The bytes at a path, as a mirror gives them.

        Raises:
            RefusedError: FILE_UNKNOWN.
        """
        content = self.files.get(path)
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return content


def has_kept(place: Path) -> bool:
    """Whether a directory was ever verified there."""
    return (place / "metadata" / "timestamp.json").is_file()


def load_kept(
    place: Path, root_json: bytes, ca_pem: bytes, *, pins: Mapping[str, frozenset[bytes]] = MappingProxyType({})
) -> Kept:
    """Verify what is kept, from the pinned root on.

    Args:
        place: The directory of a process's `DirectoryClient`.
        root_json: The pinned root.
        ca_pem: The pinned authority.
        pins: As `DirectoryClient`.

    Raises:
        RefusedError: HUB_UNREACHABLE, if there is none.
        FatalError: It has expired, or does not verify.
        OSError: It cannot be copied.
    """
    for _ in range(_COPIES - 1):
        try:
            return _load_copy(place, root_json, ca_pem, pins)
        except (ZhiwangError, OSError):
            continue
    return _load_copy(place, root_json, ca_pem, pins)


def _load_copy(place: Path, root_json: bytes, ca_pem: bytes, pins: Mapping[str, frozenset[bytes]]) -> Kept:
    with tempfile.TemporaryDirectory(prefix="zhiwang-kept-") as scratch:
        shutil.copytree(place, Path(scratch) / "copy")
        client = DirectoryClient(root_json, ca_pem, Path(scratch) / "copy", pins=pins)
        directory = client.load()
        return Kept(directory, client.files, client.roles)
