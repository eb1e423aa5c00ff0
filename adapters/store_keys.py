"""Keys of the ledger and of the index of subjects: files of 32 bytes (0600) that go with the store, and never in it.

Replicas on one host share the directory. Where the store stands in PostgreSQL, replicas on several hosts have a copy of
it each, made by a person when a replica joins. Then the key of a new year is derived from that of the year before, one
way, so that every replica has it without anything being moved, and a key that was destroyed does not come back from a
later one. The store holds a fingerprint of every key that was used: a replica with another key would count guesses and
index people apart from the rest, and is refused.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from hmac import compare_digest, digest
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from adapters.rows import Reading, fetch, write
from certs.identity import write_private
from zhiwang.wire.errors import FatalError, Reason

KEY_SIZE: Final = 32
LEDGER_KEY: Final = "ledger.key"
"""Name of the ledger's key."""

_NEXT: Final = b"zhiwang trace key\0"
_FINGERPRINT: Final = b"zhiwang fingerprint\0"
_FINGERPRINT_SIZE: Final = 16


def trace_key_name(year: int) -> str:
    """Name of the file with the key of a year."""
    return f"trace-{year}.key"


def trace_years(directory: Path) -> list[int]:
    """Years whose keys are in a directory, ascending."""
    names = (path.name for path in directory.glob("trace-????.key"))
    return sorted(int(name[6:10]) for name in names if name[6:10].isdecimal())


def trace_key(directory: Path, year: int, *, apart: bool) -> bytes:
    """The key of a year, made if it is not there.

    Args:
        directory: Of the keys.
        year: Which.
        apart: Whether other replicas have directories of their own, so that the key has to be the one that they make.

    Raises:
        FileNotFoundError: There is no earlier key to make it from.
        ValueError: A key is damaged.
        OSError: A file cannot be read or written.
    """
    path = directory / trace_key_name(year)
    if apart and not path.exists():
        earlier = [one for one in trace_years(directory) if one < year]
        for known in range(max(earlier, default=year), year):
            key = open_key(directory / trace_key_name(known), create=False)
            _keep(directory / trace_key_name(known + 1), digest(key, _NEXT + str(known + 1).encode(), "sha256"))
    return open_key(path, create=not apart)


def indexed(connection: Reading) -> bool:
    """Whether any replica has a key of the index."""
    return bool(fetch(connection, "SELECT name FROM store_key WHERE name <> ?", (LEDGER_KEY,)))


def match_all(connection: Connection, directory: Path) -> None:
    """Hold every key of a replica against what others have used; in a write transaction.

    Raises:
        FatalError: LOG_UNAVAILABLE: one is another.
        OSError: A key cannot be read.
        ValueError: A key is damaged.
    """
    for name in (LEDGER_KEY, *map(trace_key_name, trace_years(directory))):
        match(connection, name, open_key(directory / name, create=False))


def match(connection: Connection, name: str, key: bytes) -> bool:
    """Hold a key against the one that was used under its name first; in a write transaction.

    Returns:
        Whether one was; otherwise it is this one from the transaction's COMMIT on.

    Raises:
        FatalError: LOG_UNAVAILABLE: it is another.
    """
    own = digest(key, _FINGERPRINT + name.encode(), "sha256")[:_FINGERPRINT_SIZE]
    found = fetch(connection, "SELECT fingerprint FROM store_key WHERE name = ?", (name,))
    if not found:
        write(connection, "INSERT INTO store_key (name, fingerprint) VALUES (?, ?)", [(name, own)])
        return False
    if not compare_digest(bytes(found[0][0]), own):
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"{name} is not the key that the store was used with: guesses would be counted, or people indexed, apart "
            "from the other replicas. Copy it from the state of a replica that runs (docs/adapter.md)",
        )
    return True


def open_key(path: Path, *, create: bool) -> bytes:
    """Read a key file of 32 bytes; several processes may race to make one, and one of them wins.

    Raises:
        FileNotFoundError: It does not exist and may not be made.
        ValueError: It is not 32 bytes long.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        if not create:
            raise
        _keep(path, secrets.token_bytes(KEY_SIZE))
        key = path.read_bytes()
    if len(key) != KEY_SIZE:
        raise ValueError(f"{path.name} is no key of {KEY_SIZE} bytes")
    return key


def _keep(path: Path, key: bytes) -> None:
    """Write a key unless there is one."""
    with suppress(FileExistsError):
        write_private(path, key)
