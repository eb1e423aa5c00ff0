"""Erasing a subject from the index of who was asked about, down to the bytes of the store's files.

Entries and their proofs stay: they name nobody. Deleting a row leaves its bytes behind: in the write-ahead log, in free
pages, in the free part of pages that are in use. SQLite's `secure_delete` overwrites what it deletes, but not every
copy that stayed in a page when that was split earlier. So the files are searched afterwards, and the whole index is
written anew if anything is left. In PostgreSQL the rows are gone for everybody who asks the server, and their bytes are
the server's: only its administrator can have them overwritten (docs/subject.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from adapters.rows import Reading, fetch, in_file, write
from adapters.trace import SCHEMA, SUBJECT_SIZE
from audit.sqlite import clear_log

WAIT_SECONDS: Final = 5.0
"""How long readers are waited for before the write-ahead log is emptied; writers wait meanwhile."""

_PIECE: Final = 1 << 24
"""Bytes of a file that are searched at a time."""


def entries_of(connection: Reading, subjects: Mapping[int, bytes]) -> list[int]:
    """Entries that concern a subject, ascending.

    Args:
        connection: To the store.
        subjects: What stands for it, by year.
    """
    select = "SELECT entry FROM trace WHERE year = ? AND subject = ?"
    return sorted({entry for key in subjects.items() for (entry,) in fetch(connection, select, key)})


def erase(connection: Connection, subjects: Mapping[int, bytes]) -> None:
    """Delete a subject's rows, in the transaction of the entry that says so, and overwrite them.

    Args:
        connection: In a transaction that writes.
        subjects: What stands for the subject, by year.
    """
    with overwriting(connection):
        write(connection, "DELETE FROM trace WHERE year = ? AND subject = ?", list(subjects.items()))


def overwrite(engine: Engine, store: Path, subjects: Collection[bytes]) -> bool:
    """See to it that nothing of erased rows is left in the store's files. Blocks; call it after the COMMIT.

    Args:
        engine: Of the store; no transaction may be open in this thread.
        store: Its file.
        subjects: What stood for the subject, in each year.

    Returns:
        Whether nothing is left. Otherwise somebody kept the files in use, so that it has to be called again; or the
        store stands in PostgreSQL.

    Raises:
        FatalError: LOG_UNAVAILABLE: the store failed.
    """
    if not in_file(engine) or not clear_log(engine, WAIT_SECONDS):
        return False
    if not _left(store, subjects):
        return True
    with engine.begin() as connection:
        _write_anew(connection)
    return clear_log(engine, WAIT_SECONDS) and not _left(store, subjects)


def _write_anew(connection: Connection) -> None:
    (made,) = SCHEMA
    with overwriting(connection):
        connection.exec_driver_sql("ALTER TABLE trace RENAME TO trace_before")
        connection.exec_driver_sql(made)
        connection.exec_driver_sql(
            "INSERT INTO trace (year, subject, entry, part, refused) "
            "SELECT year, subject, entry, part, refused FROM trace_before ORDER BY year, subject, entry"
        )
        connection.exec_driver_sql("DROP TABLE trace_before")


@contextmanager
def overwriting(connection: Connection) -> Iterator[None]:
    """What is deleted is overwritten meanwhile, where the store is a file."""
    if not in_file(connection):
        yield
        return
    # Some builds of SQLite overwrite by default; the connection goes back to its pool as it came.
    before = int(connection.exec_driver_sql("PRAGMA secure_delete").scalar_one())
    connection.exec_driver_sql("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete = {before}")


def _left(store: Path, subjects: Collection[bytes]) -> bool:
    """Whether any of some byte strings stands in the files of a store."""
    for suffix in ("", "-wal"):
        path = Path(f"{store}{suffix}")
        if not path.exists():
            continue
        with path.open("rb") as file:
            before = b""
            while piece := file.read(_PIECE):
                window = before + piece
                if any(subject in window for subject in subjects):
                    return True
                before = window[-SUBJECT_SIZE:]
    return False
