"""What a log's database raises when it fails, and what of it may be said: class and code, never a text.

A text could quote what was stored, or a statement with its values.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

ERRORS: Final = (SQLAlchemyError, sqlite3.Error, OSError)
"""What a database that fails raises."""

_CONNECTING: Final = ("connection ", "failed to resolve host", "could not translate host name")


def cause_of(error: BaseException) -> str:
    """Class and code of a database's error; of an attempt to connect to PostgreSQL, what libpq says of it.

    That knows no statement yet, and never quotes a password.
    """
    original: Any = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    if code:
        return f"{type(original).__name__} {code}"
    text = str(original).split("\n", 1)[0]
    if type(original).__module__.startswith("psycopg") and text.startswith(_CONNECTING):
        return text
    return type(original).__name__
