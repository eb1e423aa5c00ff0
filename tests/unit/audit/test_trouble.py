"""What a failed store says: cause and remedy, and nothing of what was being written."""

from __future__ import annotations

import errno
import sqlite3

import pytest
from sqlalchemy.exc import DatabaseError

from audit.trouble import trouble


def failed(name: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("a text of SQLite's own")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("SQLITE_FULL", "free some space"),
        ("SQLITE_IOERR_FSYNC", "look at its disk"),
        ("SQLITE_CORRUPT_INDEX", "restore it from a copy that reaches its guard"),
        ("SQLITE_NOTADB", "restore it from a copy that reaches its guard"),
        ("SQLITE_BUSY_RECOVERY", "end whatever holds it"),
    ],
)
def test_a_store_that_failed_names_the_cause_and_the_remedy(name: str, remedy: str) -> None:
    said = trouble(failed(name))
    assert said.startswith(f"DatabaseError {name};")
    assert remedy in said


def test_nothing_of_a_statement_or_its_parameters_is_said() -> None:
    said = trouble(DatabaseError("INSERT INTO secret VALUES (?)", ("440399",), failed("SQLITE_FULL")))
    assert said.startswith("DatabaseError SQLITE_FULL;")
    assert "secret" not in said
    assert "440399" not in said


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EFBIG, "free some space"), (errno.EIO, "errors")]
)
def test_an_error_of_the_operating_system_names_the_cause_and_the_remedy(number: int, remedy: str) -> None:
    assert remedy in trouble(OSError(number, "what happened"))
    assert trouble(OSError(number, "what happened")).startswith("what happened;")
