"""Identities and where their keys lie.

The identity itself (`Identity`, `Kind`) stands in `zhiwang.wire.identity`, since the edges of the wire name their
callers by it; this module adds the files of one holder and how a private key is written.

One identity directory holds `auth.key`, `auth.pem`, `signing.key` and `signing.pem`, and `*.csr` until they are
issued; while a certificate for a fresh key is awaited, that key is `auth.new.key` (see `certs/renewal.py`). One pinned
root directory holds `ca.pem` and `root.json`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from zhiwang.wire.identity import Identity, Kind, server_name
from zhiwang.wire.kept import PRIVATE, PUBLIC, replace_durably, sync_path, written_aside

__all__ = ["Identity", "Kind", "read_private", "server_name", "write_private", "write_public"]

AUTH_KEY = "auth.key"
AUTH_CERTIFICATE = "auth.pem"
AUTH_REQUEST = "auth.csr"
AUTH_NEW_KEY = "auth.new.key"
SIGNING_KEY = "signing.key"
SIGNING_CERTIFICATE = "signing.pem"
SIGNING_REQUEST = "signing.csr"
SIGNING_NEW_KEY = "signing.new.key"
CA_CERTIFICATE = "ca.pem"
ROOT_METADATA = "root.json"


def write_private(path: Path, data: bytes) -> None:
    """Create a file that only its owner can read, whole and durable or not at all; never replaces one.

    Raises:
        FileExistsError: There is such a file.
        OSError: It could not be written, as on a full disk.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    # Written aside: a key that is half there could neither be used nor, as nothing replaces it, made again.
    with written_aside(path, data, mode=PRIVATE, exactly=True) as aside:
        os.link(aside, path)
    sync_path(path.parent)


def read_private(path: Path) -> bytes:
    """A private file's bytes.

    Raises:
        PermissionError: Others than its owner may read or change it.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_mode & 0o077:
            raise PermissionError(f"{path.name} can be read by others; allow its owner only: chmod 600 {path}")
        return file.read()


def write_public(path: Path, data: bytes) -> None:
    """Write or replace a file that everybody may read, so that a reader sees the old one or the whole new one.

    Raises:
        OSError: It could not be written; the old one is still there.
    """
    replace_durably(path, data, mode=PUBLIC)
