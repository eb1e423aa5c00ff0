"""What a witness remembers: of each log the newest checkpoint that it has cosigned. It never goes back.

One SQLite file of its own, and beside it a guard, best on other storage, with the size of each log. Nothing is signed
that is not durable in both, so a file that was restored from a copy is noticed at the start: such a witness would sign
histories that contradict what it has signed before. It is not restored but replaced, by one with another key.

Trusted with everything: whoever can write both can make the witness forget.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from audit.checkpoint import Checkpoint
from audit.sqlite import open_sqlite, reading
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import KeptFile, sync_path

MAX_LOGS: Final = 1024
"""Logs, each year's shard counted by itself, that one witness follows."""

_TABLE: Final = """CREATE TABLE witness_log (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL CHECK (typeof(root) = 'blob' AND length(root) = 32),
    note BLOB NOT NULL CHECK (typeof(note) = 'blob'),
    time INTEGER NOT NULL,
    signed_by TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID"""
_UPGRADE: Final = "ALTER TABLE witness_log ADD COLUMN signed_by TEXT NOT NULL DEFAULT ''"
"""For a store that an older release has made, which did not keep by whom a checkpoint was signed."""
_FORWARD: Final = """CREATE TRIGGER witness_log_update BEFORE UPDATE ON witness_log
    WHEN NEW.origin IS NOT OLD.origin OR NEW.size <= OLD.size OR NEW.time < OLD.time
    BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END"""
_KEPT: Final = """CREATE TRIGGER witness_log_delete BEFORE DELETE ON witness_log
    BEGIN SELECT RAISE(ABORT, 'a witness never forgets'); END"""
_ONCE: Final = """CREATE TRIGGER witness_log_insert BEFORE INSERT ON witness_log
    WHEN EXISTS (SELECT 1 FROM witness_log WHERE origin = NEW.origin)
    BEGIN SELECT RAISE(ABORT, 'a witness never forgets'); END"""
_SELECT: Final = "SELECT size, root, note, time, signed_by FROM witness_log WHERE origin = ?"
_INSERT: Final = "INSERT INTO witness_log (origin, size, root, note, time, signed_by) VALUES (?, ?, ?, ?, ?, ?)"
_UPDATE: Final = "UPDATE witness_log SET size = ?, root = ?, note = ?, time = ?, signed_by = ? WHERE origin = ?"


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The newest checkpoint of a log that was cosigned.

    Attributes:
        size: Of the tree.
        root: Of the tree; 32 bytes.
        note: The checkpoint as the log signed it; empty if none was ever cosigned.
        time: When it was cosigned first, in seconds since the epoch; no later signature is older.
        signed_by: By what the note can be verified later, whatever the log signs with by then: the certificate of its
            key in PEM, or a verifier key. Empty if an older release cosigned it.
    """

    size: int
    root: bytes
    note: bytes
    time: int
    signed_by: str = ""


NOTHING: Final = Cosigned(0, b"", b"", 0)


class WitnessStore:
    """Opened by `create` or `open`. Calls block; they are safe from several threads, which take turns.

    Args:
        engine: From `audit.sqlite.open_sqlite`.
        guard: File with the sizes.
    """

    def __init__(self, engine: Engine, guard: Path) -> None:
        self._engine = engine
        self._guard = KeptFile(guard)
        # Only one turn at a time, so that the guard is written in the order of the commits.
        self._turn = Lock()
        # What the guard holds.
        self._sizes: dict[str, tuple[int, bytes]] = {}

    @classmethod
    def create(cls, path: Path, guard: Path) -> Self:
        """Make an empty store and its guard. Once.

        Raises:
            FatalError: LOG_UNAVAILABLE: there is one already, or a guard of one.
        """
        if guard.exists():
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {guard} remembers what this witness has cosigned. A witness whose state is lost is not "
                "made again under its old key: keep the guard for the audit office and make a new witness elsewhere",
            )
        store = cls(open_sqlite(path, create=True), guard)
        with store._engine.begin() as connection:
            for statement in (_TABLE, _ONCE, _FORWARD, _KEPT):
                connection.exec_driver_sql(statement)
        store._write_guard({})
        return store

    @classmethod
    def open(cls, path: Path, guard: Path) -> Self:
        """Open a store, which must reach at least as far as its guard.

        Raises:
            FatalError: LOG_UNAVAILABLE: something is missing, damaged, or was rolled back.
        """
        store = cls(open_sqlite(path), guard)
        try:
            store._upgrade()
            store._check()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def logs(self) -> dict[str, Cosigned]:
        """Everything that is remembered, by origin."""
        with self._failing(), reading(self._engine).connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT origin, size, root, note, time, signed_by FROM witness_log ORDER BY origin"
            )
            return {str(row[0]): Cosigned(*row[1:]) for row in found}

    def advance(
        self,
        checkpoint: Checkpoint,
        note: bytes,
        signed_by: str,
        decide: Callable[[Cosigned], None],
        now: Callable[[Cosigned], int],
    ) -> int:
        """Take a checkpoint, if it may follow the one before, and make it durable.

        Args:
            checkpoint: What the note says.
            note: As the log signed it; verified.
            signed_by: By what it was verified, as in `Cosigned`.
            decide: Given what was cosigned last, within the turn in which nobody else can change it; raises if the
                checkpoint may not follow.
            now: Gives the time of the cosignature, given the same; raises if the clock cannot be right.

        Returns:
            The time.

        Raises:
            FatalError: LOG_UNAVAILABLE: it could not be made durable. Nothing may be signed.
        """
        with self._turn:
            with self._failing(), self._engine.begin() as connection:
                before = _read(connection, checkpoint.origin)
                decide(before)
                time = now(before)
                if not before.note:
                    self._check_room(connection)
                    connection.exec_driver_sql(
                        _INSERT, (checkpoint.origin, checkpoint.size, checkpoint.root, note, time, signed_by)
                    )
                elif checkpoint.size > before.size:
                    connection.exec_driver_sql(
                        _UPDATE, (checkpoint.size, checkpoint.root, note, time, signed_by, checkpoint.origin)
                    )
            if self._sizes.get(checkpoint.origin) != (checkpoint.size, checkpoint.root):
                self._write_guard({**self._sizes, checkpoint.origin: (checkpoint.size, checkpoint.root)})
        return time

    @staticmethod
    def _check_room(connection: Connection) -> None:
        (count,) = connection.exec_driver_sql("SELECT count(*) FROM witness_log").one()
        if count >= MAX_LOGS:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"this witness follows {MAX_LOGS} logs already")

    def _upgrade(self) -> None:
        with self._failing(), self._engine.begin() as connection:
            columns = connection.exec_driver_sql("SELECT name FROM pragma_table_info('witness_log')").scalars().all()
            if "signed_by" not in columns:
                connection.exec_driver_sql(_UPGRADE)

    def _check(self) -> None:
        """What is stored must reach as far as the guard."""
        stored = self.logs()
        guarded = self._read_guard()
        for origin, (size, root) in guarded.items():
            held = stored.get(origin, NOTHING)
            if held.size < size or (held.size == size and held.root != root):
                raise FatalError(
                    Reason.LOG_UNAVAILABLE,
                    f"this witness has cosigned {size} entries of {origin}, and its store knows of {held.size}: it was "
                    "rolled back. It must never sign again: keep store and guard for the audit office, and make a new "
                    "witness with another key (docs/witness.md)",
                )
        self._sizes = guarded

    def _read_guard(self) -> dict[str, tuple[int, bytes]]:
        path = self._guard.path
        try:
            content = json.loads(path.read_bytes())
            return {origin: (int(size), b64decode(root, validate=True)) for origin, (size, root) in content.items()}
        except FileNotFoundError:
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {path} is missing, so nothing tells whether this witness was rolled back. Bring it back; "
                "if its storage is lost, make a new witness with another key (docs/witness.md)",
            ) from None
        except OSError as error:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"the guard {path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError):
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {path} is damaged; bring it back, or make a new witness with another key (docs/witness.md)",
            ) from None

    def _write_guard(self, sizes: dict[str, tuple[int, bytes]]) -> None:
        content = {origin: [size, b64encode(root).decode()] for origin, (size, root) in sizes.items()}
        try:
            self._guard.writing(json.dumps(content).encode())()
            sync_path(self._guard.path.parent)
        except OSError as error:
            raise FatalError(
                Reason.LOG_UNAVAILABLE, f"the guard {self._guard.path} cannot be written: {error.strerror}"
            ) from None
        self._sizes = sizes

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"the witness's store failed: {type(error).__name__}") from error


def _read(connection: Connection, origin: str) -> Cosigned:
    row = connection.exec_driver_sql(_SELECT, (origin,)).one_or_none()
    return NOTHING if row is None else Cosigned(*row)
