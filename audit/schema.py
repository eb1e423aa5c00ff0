"""Tables of a log in SQLite, and the triggers that let them only grow.

`log_entry` holds the leaf data with its hash, `log_tile` the complete tiles of the tree, `log_head` one row: the newest
size, root and signed checkpoint with the certificate of the key that signed it. Their names carry a prefix because an
adapter's own tables stand in the same file, and for a further log in it a suffix (`Tables`).

The triggers fire BEFORE, so that they also refuse INSERT OR REPLACE from a connection without `recursive_triggers`:
SQLite would otherwise take the old row away silently. An index or a tile can only be the next one, which refuses gaps
and replacements with one look at the end of the table. There is no index over `key`: random keys in an index cost more
than everything else in the transaction and grow with the log (measured at 10^6 entries: 5.1 against 1.9 ms for a
group of 64), while the key is only ever sought among the newest entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from zhiwang.wire.errors import FatalError, Reason

_SUFFIX: Final = re.compile(r"(?:[0-9]{4})?")


@dataclass(frozen=True, slots=True)
class Tables:
    """Names of the tables of one log, of which several may stand in one database.

    Attributes:
        suffix: What tells them from another log's: nothing, or the four digits of a year.
    """

    suffix: str = ""

    def __post_init__(self) -> None:
        if not _SUFFIX.fullmatch(self.suffix):
            raise ValueError("tables of a log end in nothing or in a year")

    @property
    def entry(self) -> str:
        """Name of the table of entries; its triggers begin with it."""
        return self._name("entry")

    @property
    def tile(self) -> str:
        """Name of the table of complete tiles."""
        return self._name("tile")

    @property
    def head(self) -> str:
        """Name of the table of the one head."""
        return self._name("head")

    def _name(self, kind: str) -> str:
        return f"log_{kind}_{self.suffix}" if self.suffix else f"log_{kind}"

    def fill(self, text: str) -> str:
        """SQL in which `{entry}`, `{tile}` and `{head}` stand for the tables. Done once for each store."""
        return text.format(entry=self.entry, tile=self.tile, head=self.head, year=self.suffix or 0)


TABLES: Final = Tables()
"""Those of the first log of a database; mostly there is no other."""

_STATEMENTS: Final[dict[str, str]] = {
    "{entry}": """CREATE TABLE {entry} (
        idx INTEGER PRIMARY KEY,
        key BLOB NOT NULL CHECK (typeof(key) = 'blob' AND length(key) = 32),
        leaf_hash BLOB NOT NULL CHECK (typeof(leaf_hash) = 'blob' AND length(leaf_hash) = 32),
        data BLOB NOT NULL CHECK (typeof(data) = 'blob')
    )""",
    "{tile}": """CREATE TABLE {tile} (
        level INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        hashes BLOB NOT NULL CHECK (typeof(hashes) = 'blob' AND length(hashes) = 8192),
        PRIMARY KEY (level, idx)
    )""",
    "{head}": """CREATE TABLE {head} (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        size INTEGER NOT NULL,
        root BLOB NOT NULL CHECK (typeof(root) = 'blob' AND length(root) = 32),
        checkpoint BLOB NOT NULL CHECK (typeof(checkpoint) = 'blob'),
        certificate BLOB NOT NULL CHECK (typeof(certificate) = 'blob')
    )""",
    "{entry}_insert": """CREATE TRIGGER {entry}_insert BEFORE INSERT ON {entry}
        WHEN NEW.idx IS NOT (SELECT coalesce(max(idx), -1) + 1 FROM {entry})
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: an entry has the next index'); END""",
    "{entry}_update": """CREATE TRIGGER {entry}_update BEFORE UPDATE ON {entry}
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: an entry never changes'); END""",
    "{entry}_delete": """CREATE TRIGGER {entry}_delete BEFORE DELETE ON {entry}
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: an entry is never deleted'); END""",
    "{tile}_insert": """CREATE TRIGGER {tile}_insert BEFORE INSERT ON {tile}
        WHEN NEW.idx IS NOT (SELECT coalesce(max(idx), -1) + 1 FROM {tile} WHERE level = NEW.level)
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a tile has the next index'); END""",
    "{tile}_update": """CREATE TRIGGER {tile}_update BEFORE UPDATE ON {tile}
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a tile never changes'); END""",
    "{tile}_delete": """CREATE TRIGGER {tile}_delete BEFORE DELETE ON {tile}
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: a tile is never deleted'); END""",
    "{head}_insert": """CREATE TRIGGER {head}_insert BEFORE INSERT ON {head}
        WHEN EXISTS (SELECT 1 FROM {head})
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: it has one head'); END""",
    "{head}_update": """CREATE TRIGGER {head}_update BEFORE UPDATE ON {head}
        WHEN NEW.id IS NOT OLD.id OR NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root IS NOT OLD.root)
            OR NEW.size IS NOT (SELECT coalesce(max(idx), -1) + 1 FROM {entry})
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: its head only grows, to the number of entries'); END""",
    "{head}_delete": """CREATE TRIGGER {head}_delete BEFORE DELETE ON {head}
        BEGIN SELECT RAISE(ABORT, 'the log is append-only: its head is never deleted'); END""",
}

_ENDED: Final[dict[str, str]] = {
    f"{{{table}}}_{act}": f"""CREATE TRIGGER {{{table}}}_{act} BEFORE {act.upper()} ON {{{table}}} {when}
        BEGIN SELECT RAISE(ABORT, 'the log has ended: {why}'); END"""
    for table in ("entry", "tile", "head")
    for act, when, why in (
        ("insert", "", "it goes on in that of a later year"),
        ("update", "", "nothing in it changes"),
        (
            "delete",
            "WHEN NOT EXISTS (SELECT 1 FROM log_shard_removed WHERE year = {year})",
            "it is kept until its removal is recorded",
        ),
    )
}
"""Triggers of a log that has ended, in place of those of the same names."""

_INSTALLED: Final = (
    "SELECT name, sql FROM sqlite_master WHERE tbl_name IN ('{entry}', '{tile}', '{head}') AND sql IS NOT NULL"
)


def statements(tables: Tables, *, ended: bool = False) -> dict[str, str]:
    """What makes the tables and triggers of a log, by their names; `ended` if nothing is appended to it any more."""
    made = _STATEMENTS | _ENDED if ended else _STATEMENTS
    return {tables.fill(name): tables.fill(statement) for name, statement in made.items()}


def end(connection: Connection, tables: Tables) -> None:
    """From this transaction on nothing is appended to a log; its tables can only be emptied once that is recorded."""
    for name, statement in _ENDED.items():
        connection.exec_driver_sql(f"DROP TRIGGER {tables.fill(name)}")
        connection.exec_driver_sql(tables.fill(statement))


def drop(connection: Connection, tables: Tables) -> None:
    """Drop the tables of a log, which are empty."""
    for table in (tables.entry, tables.tile, tables.head):
        connection.exec_driver_sql(f"DROP TABLE {table}")


def install(connection: Connection, tables: Tables) -> None:
    """Make tables and triggers, in the caller's transaction.

    Raises:
        FatalError: LOG_UNAVAILABLE: the file holds such a log already.
    """
    if _installed(connection, tables):
        raise FatalError(Reason.LOG_UNAVAILABLE, "the store holds a log already; a log is made once")
    for statement in statements(tables).values():
        connection.exec_driver_sql(statement)


def check(connection: Connection, tables: Tables, *, ended: bool = False) -> None:
    """Check that tables and triggers are exactly those of this module.

    Args:
        connection: In a transaction.
        tables: Of which log.
        ended: Whether nothing is appended to it any more.

    Raises:
        FatalError: LOG_UNAVAILABLE: there is no log, or something was changed, added or taken away.
    """
    made = statements(tables, ended=ended)
    found = _installed(connection, tables)
    if not found:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            "the store holds no log; its `init` did not finish. Remove the file and run the `init` of this process",
        )
    wrong = sorted(name for name in made.keys() | found.keys() if _plain(found.get(name)) != _plain(made.get(name)))
    if wrong:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"tables or triggers of the log are not as they were made: {', '.join(wrong)}. Somebody changed the "
            "store; keep a copy of it for the audit office and restore the file",
        )


def _installed(connection: Connection, tables: Tables) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in connection.exec_driver_sql(tables.fill(_INSTALLED))}


def _plain(statement: str | None) -> str | None:
    return None if statement is None else " ".join(statement.split())
