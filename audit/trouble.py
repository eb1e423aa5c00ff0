"""What a log's database raises when it fails, and what of it may be said: class and code, and what to do; never a text.

A text could quote what was stored, or a statement with its values.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

ERRORS: Final = (SQLAlchemyError, sqlite3.Error, OSError)
"""What a database that fails raises."""

_CONNECTIONS: Final = ("connection ", "consuming input failed", "failed to resolve host", "could not translate host")
"""How libpq and psycopg begin what they say of a connection that fails."""


def cause_of(error: BaseException) -> str:
    """Class and code of a database's error; of a connection to PostgreSQL that fails, what libpq says of it.

    That concerns the connection alone: it quotes neither statements nor a password.
    """
    original: Any = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    if code:
        return f"{type(original).__name__} {code}"
    text = str(original).split("\n", 1)[0]
    if type(original).__module__.startswith("psycopg") and text.startswith(_CONNECTIONS):
        return text
    return type(original).__name__


_DAMAGED: Final = (
    "the store is damaged: keep it for the audit office, and restore it from a copy that reaches its guard "
    "(docs/backup.md)"
)
_FULL: Final = "its disk is full: free some space, then try again"
_BUSY: Final = "another process holds it: end whatever holds it, then try again"
_DISK: Final = "look at its disk (errors, space, permissions), then try again"
_SERVER: Final = "look at its database server and the way there, then try again"
_RIGHTS: Final = "tables or rights of the log were changed: make them what docs/log-store.md says, then try again"
_REMEDIES: Final = {
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
    "SQLITE_FULL": _FULL,
    "SQLITE_BUSY": _BUSY,
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_": _DISK,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "53100": _FULL,
    "55P03": _BUSY,
    "42": _RIGHTS,
    "58": _DISK,
}
"""By how codes of SQLite and PostgreSQL begin; the first that fits. What has no code failed at or before the server."""


def trouble(error: BaseException) -> str:
    """Cause of a store's error, and what its operator can do.

    For example: "OperationalError SQLITE_IOERR_FSYNC; look at its disk (errors, space, permissions), then try again".
    """
    original: Any = getattr(error, "orig", None) or error
    if isinstance(original, OSError):
        full = original.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        return f"{original.strerror or type(original).__name__}; {_FULL if full else _DISK}"
    code = str(getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None) or "")
    otherwise = _SERVER if type(original).__module__.startswith("psycopg") else _DISK
    remedy = next((text for beginning, text in _REMEDIES.items() if code.startswith(beginning)), otherwise)
    return f"{cause_of(error)}; {remedy}"
