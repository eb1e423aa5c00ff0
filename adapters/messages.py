"""What of a database's message may be passed on to a person: names of tables, columns and accounts, never a value.

Messages may quote what was stored or compared: PostgreSQL's data exceptions do, and PyMySQL writes parameters into the
statement's text, so that MariaDB's syntax errors quote them. So a message is passed on only if it is of a kind that is
known to quote names alone; of any other only class and code are told.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from adapters.database import DatabaseError, kind_of

_SQLITE = re.compile(
    r"(no such (table|column|function)|near \"|ambiguous column|wrong number|unable to open|file is not|misuse)"
)

_LIBPQ = re.compile(r"connection (failed|to server|timeout)|failed to resolve host|could not translate host name")
"""Of an attempt to connect, which knows no statement yet. libpq never quotes a password."""

_MYSQL = frozenset(
    {
        1044,  # no access to the database
        1045,  # no access with this password
        1049,  # no such database
        1054,  # no such column
        1142,  # command denied for a table
        1143,  # command denied for a column
        1146,  # no such table
        1305,  # no such function
        1370,  # command denied for a routine
        1630,  # no such function in this database
        1698,  # no access
        2003,  # no connection
        2005,  # no such host
    }
)
"""Numbers of MySQL and MariaDB whose messages quote names alone."""


def told(error: Exception) -> str:
    """What may be said of an error of a database."""
    if isinstance(error, DatabaseError):
        return error.outcome.name
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    text = str(original)
    if isinstance(original, sqlite3.Error) and _SQLITE.match(text):
        return text
    module = type(original).__module__
    if module.startswith("pymysql"):
        # It has SQLSTATEs too, but 42000 is also that of a syntax error, which quotes the parameters.
        number, message = (*original.args, None, None)[:2]
        return f"{str(message).splitlines()[0]} ({number})" if number in _MYSQL and message else kind_of(original)
    state = getattr(original, "sqlstate", None)
    if module.startswith("psycopg") and (state.startswith("42") if state else _LIBPQ.match(text)):
        return text.splitlines()[0]
    if isinstance(original, OSError) and original.strerror:
        return original.strerror
    return kind_of(original) if isinstance(original, Exception) else type(original).__name__
