"""Replies that were given, until their requests expire: the same bytes get the same reply, other bytes none.

A row is written in the transaction of the entry that it names, so a crash loses both or neither. What was forgotten is
remembered by one number, the *horizon*: every request whose row would have expired before it is refused for its time,
whatever the clock says now. So neither a clock that is set back nor one that leaps ahead and returns lets the same
bytes be answered twice; the latter's cost is that nothing is answered until time has caught up with the horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection

from adapters.rows import Reading, fetch, pad, padded_marks, write
from zhiwang.wire.header import SKEW

_BATCH = 512

SCHEMA = (
    """CREATE TABLE replay (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        hash BLOB NOT NULL,
        entry INTEGER NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL,
        expires INTEGER NOT NULL
    )""",
    "CREATE INDEX replay_expires ON replay (expires)",
)
"""Table of the replay store in the adapter's store."""

HORIZON_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS replay_horizon (id INTEGER PRIMARY KEY CHECK (id = 1), time INTEGER NOT NULL)"
)
"""The horizon's table; stores that older releases made lack it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply that was given.

    Attributes:
        key: From `replay_key`.
        hash: From `replay_hash`.
        entry: Index of the owner's entry.
        nonce: Of the sealed reply.
        ciphertext: Of the sealed reply.
        expires: Until when it is kept, in seconds since the epoch.
    """

    key: bytes
    hash: bytes
    entry: int
    nonce: bytes
    ciphertext: bytes
    expires: int


def replay_key(system: str, request_id: bytes) -> bytes:
    """What may be used once: a request id of a system."""
    return sha256(system.encode()).digest()[:16] + request_id


def replay_hash(header_hash: bytes, sealed_hash: bytes, request_root: bytes, signature: bytes) -> bytes:
    """Hash over everything that a requester sent, of which each part has a fixed length."""
    return sha256(header_hash + sealed_hash + request_root + signature).digest()


def expiry(expire_time: float) -> int:
    """Until when the reply to a request is kept: longer than its clock and ours let it be taken."""
    return int(expire_time + SKEW) + 1


def begin_horizon(connection: Connection, time: float) -> None:
    """Make the horizon at `time`, if the store has none."""
    connection.exec_driver_sql(HORIZON_SCHEMA)
    write(connection, "INSERT OR IGNORE INTO replay_horizon (id, time) VALUES (1, ?)", [(int(time),)])


def horizon(connection: Reading) -> int:
    """Rows that expired before this time (seconds since the epoch) may have been forgotten."""
    ((time,),) = fetch(connection, "SELECT time FROM replay_horizon")
    return int(time)


def find(connection: Reading, keys: Sequence[bytes]) -> dict[bytes, Answered]:
    """Replies by key, of those that were given."""
    found: dict[bytes, Answered] = {}
    for start in range(0, len(keys), _BATCH):
        group = keys[start : start + _BATCH]
        marks = padded_marks(len(group))
        select = f"SELECT key, hash, entry, nonce, ciphertext, expires FROM replay WHERE key IN ({marks})"  # noqa: S608 - only marks
        for row in fetch(connection, select, pad(group)):
            found[row[0]] = Answered(*row)
    return found


def insert(connection: Connection, answered: Sequence[Answered]) -> None:
    """Keep replies. The caller has looked for the keys within the same transaction."""
    if answered:
        write(
            connection,
            "INSERT INTO replay (key, hash, entry, nonce, ciphertext, expires) VALUES (?, ?, ?, ?, ?, ?)",
            [(one.key, one.hash, one.entry, one.nonce, one.ciphertext, one.expires) for one in answered],
        )


def prune(connection: Connection, now: float) -> None:
    """Forget what has expired, and that it may have been: its requests are refused for their time from now on."""
    write(connection, "DELETE FROM replay WHERE expires < ?", [(int(now),)])
    raise_horizon(connection, int(now))


def raise_horizon(connection: Connection, time: int) -> None:
    """From now on the horizon stands at `time`, or later."""
    write(connection, "UPDATE replay_horizon SET time = ? WHERE time < ?", [(time, time)])
