"""The journal of a sweep: one SQLite file beside the results, by which it goes on after whatever ended it.

It says of each row whether it is settled and what is known of it, and keeps every sealed request from before it leaves
until its results are here, so that the same bytes can be sent again. It holds no identifiers in clear, but whoever has
it can open the requests on the way: it is 0600, as the roster should be, and goes when every row is settled.

Room for the results of what is on the way is set aside within the file before anything is asked, and used when the
disk is full. Calls block; one thread at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from exchange.sweep.cases import Trouble
from exchange.sweep.disk import make_private, overwrite
from exchange.sweep.findings import Finding, pack, unpack

SUFFIX: Final = ".sweep"
FORMAT: Final = "2"

RESERVE_BYTES: Final = 4 << 20
"""Room that is set aside, besides `RESERVE_CLAIM` for each claim of a row on the way."""

RESERVE_CLAIM: Final = 64

CACHE_KIB: Final = 16 * 1024
LOCK_SECONDS: Final = 1.0

_WROTE: Final = "wrote"

_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE row (
        number INTEGER PRIMARY KEY,
        key BLOB,
        state INTEGER NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        place TEXT NOT NULL DEFAULT '',
        findings BLOB NOT NULL DEFAULT x''
    )""",
    "CREATE TABLE word (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    """CREATE TABLE flight (
        id INTEGER PRIMARY KEY,
        keys TEXT NOT NULL,
        owner TEXT NOT NULL,
        request BLOB NOT NULL,
        secret BLOB NOT NULL
    )""",
    "CREATE TABLE reserve (id INTEGER PRIMARY KEY, room BLOB NOT NULL)",
)


class State(IntEnum):
    """Of a row. OPEN rows are asked, or asked again; the others never.

    Of a DENIED row some claims were denied and the others answered; a REFUSED one cannot be asked at all.
    """

    OPEN = 0
    ANSWERED = 1
    DENIED = 2
    REFUSED = 3


class JournalError(Exception):
    """The journal cannot be used; its text says what to do."""


class Entry(NamedTuple):
    """What the journal says of a row.

    Attributes:
        number: Row in the roster.
        reason: Name of a `Trouble` or of a reason, if the row could not be asked; of an open row, why not yet.
        place: Heading of a column, or field of a case, of which the reason speaks.
        findings: What is known of its claims.
    """

    number: int
    state: State
    reason: str
    place: str
    findings: Sequence[Finding]


class Flight(NamedTuple):
    """A sealed request that left, or was about to.

    Attributes:
        keys: Of its cases, in their order.
        owner: Department to which it went.
        request: The message, serialised.
        secret: Opens its reply.
    """

    id: int
    keys: Sequence[str]
    owner: str
    request: bytes
    secret: bytes


class Journal:
    """One journal, held by this process alone.

    Args:
        connection: To its file.
        path: Its file.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._rollback = path.with_name(f"{path.name}-journal")
        self._open = True
        self.path = path
        self._texts = dict(connection.execute("SELECT number, text FROM word").fetchall())
        self._words = {text: number for number, text in self._texts.items()}
        if self.meta.get("format", FORMAT) != FORMAT:
            raise JournalError(f"{path.name} was written by another version; finish with that, or remove it")

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open or make a journal.

        Raises:
            JournalError: Another process has it, or it is none.
            OSError: The file cannot be made.
        """
        inode = make_private(path)
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_SECONDS, check_same_thread=False)
        try:
            # In PERSIST its own rollback file keeps its room, which a full disk could not give.
            for pragma in (
                *("locking_mode=EXCLUSIVE", "journal_mode=PERSIST", "synchronous=FULL", "secure_delete=ON"),
                f"cache_size=-{CACHE_KIB}",
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
            if path.exists() and path.stat().st_ino == inode:
                journal = cls(connection, path)
                # What a killed run left in it: it is rolled back by now, if it was to be.
                journal._wipe()
                return journal
        except sqlite3.Error as error:
            connection.close()
            if "locked" in str(error):
                raise JournalError(f"another sweep has {path.name} open; wait for it, or stop it") from None
            raise JournalError(f"{path.name} cannot be used as a journal ({error})") from None
        except BaseException:
            connection.close()
            raise
        # It was opened before the sweep that had it removed it.
        connection.close()
        raise JournalError("another sweep of these results has just ended; give the command again")

    def close(self) -> None:
        """Let go of the file; one into which nothing was taken goes with it."""
        if not self._open:
            return
        if not self.meta:
            self.remove()
            return
        self._open = False
        self._wipe()
        self._connection.close()

    def remove(self) -> None:
        """Remove the file, and close: everything is in the results."""
        self._open = False
        self._wipe()
        # Both while it is locked: whoever makes the next journal has a rollback file of its own at once.
        self._rollback.unlink(missing_ok=True)
        self.path.unlink()
        self._connection.close()

    def _wipe(self) -> None:
        """Overwrite the rollback file between two transactions: `secure_delete` does not reach what it holds of pages.

        It keeps its size, which is room on a full disk.
        """
        overwrite(self._rollback)

    @property
    def meta(self) -> Mapping[str, str]:
        """What it is bound to; empty before a roster was taken in."""
        return dict(self._connection.execute("SELECT name, value FROM meta").fetchall())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # Taking a roster in.

    def take_in(self, bound: Mapping[str, str], rows: Iterable[tuple[int, bytes | None, Trouble | None, str]]) -> None:
        """Take a roster in, whole or not at all.

        Args:
            bound: What the journal is bound to from here on.
            rows: Number, hash of the key, why it cannot be asked, and the column at fault.

        Raises:
            sqlite3.Error: It could not be written.
        """
        run = self._connection
        statement = "INSERT INTO row (number, key, state, reason, place) VALUES (?, ?, ?, ?, ?)"
        with self._writing():
            run.execute("DELETE FROM row")
            run.executemany(statement, (_taken(*row) for row in rows))
            # Of rows that can be asked only: the first of them is asked, and stays in the index while the others go.
            run.execute("CREATE INDEX row_key ON row (key, number) WHERE key IS NOT NULL AND state = 0")
            run.execute(
                "UPDATE row SET state = ?, reason = ?, place = ? WHERE key IS NOT NULL AND state = 0 AND EXISTS "
                "(SELECT 1 FROM row AS first WHERE first.key = row.key AND first.state = 0 "
                "AND first.number < row.number)",
                (State.REFUSED, Trouble.KEY_TWICE.name, bound.get("key", "")),
            )
            run.execute("DROP INDEX row_key")
            run.execute("CREATE INDEX IF NOT EXISTS row_open ON row (number) WHERE state = 0")
            run.executemany(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", [*bound.items(), ("format", FORMAT)]
            )

    def set_aside(self, claims: int) -> None:
        """Set room aside for the results of so many claims on the way.

        Raises:
            sqlite3.Error: There is none.
        """
        wanted = RESERVE_BYTES + RESERVE_CLAIM * claims
        # What is there stays: on a disk that is full it could not be made anew.
        if self._connection.execute("SELECT 1 FROM reserve WHERE length(room) >= ?", (wanted,)).fetchone() is None:
            with self._writing():
                self._connection.execute("INSERT OR REPLACE INTO reserve (id, room) VALUES (1, zeroblob(?))", (wanted,))
        # To give it back, and to write into it, takes as much again in the rollback file, which a full disk would not
        # have: it is given back once now, and that undone. The file keeps its size from then on.
        if not self._rollback.exists() or self._rollback.stat().st_size < wanted:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM reserve")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def release(self) -> None:
        """Give the room that was set aside to the next writes."""
        with self._writing():
            self._connection.execute("DELETE FROM reserve")

    def note(self, name: str, value: str) -> None:
        """Remember something about the sweep."""
        with self._writing():
            self._connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def note_written(self, stamp: Sequence[int]) -> None:
        """Remember results of this sweep, by the stamp of their file."""
        self.note(_WROTE, json.dumps([*self._written(), list(stamp)]))

    def wrote(self, stamp: Sequence[int]) -> bool:
        """Whether a file is as this sweep has written it."""
        return list(stamp) in self._written()

    def _written(self) -> list[list[int]]:
        found: list[list[int]] = json.loads(self.meta.get(_WROTE, "[]"))
        return found

    # While it runs.

    def launch(self, keys: Sequence[str], owner: str, request: bytes, secret: bytes) -> int:
        """Keep a sealed request before it leaves.

        Raises:
            sqlite3.Error: It could not be kept, so it must not leave.
        """
        with self._writing():
            cursor = self._connection.execute(
                "INSERT INTO flight (keys, owner, request, secret) VALUES (?, ?, ?, ?)",
                (json.dumps(keys), owner, request, secret),
            )
        return int(cursor.lastrowid or 0)

    def flights(self) -> list[Flight]:
        """Requests that were on the way when the sweep was ended."""
        rows = self._connection.execute("SELECT id, keys, owner, request, secret FROM flight ORDER BY id")
        return [Flight(number, tuple(json.loads(keys)), *rest) for number, keys, *rest in rows]

    def settle(self, entries: Sequence[Entry], flights: Iterable[int]) -> None:
        """Write down what is known of rows, and forget the requests that told it, in one transaction.

        Raises:
            sqlite3.Error: It could not be written; nothing of it was.
        """
        remembered = len(self._words)
        try:
            with self._writing():
                self._connection.executemany("DELETE FROM flight WHERE id = ?", [(one,) for one in flights])
                self._connection.executemany(
                    "UPDATE row SET state = ?, reason = ?, place = ?, findings = ? WHERE number = ?",
                    [
                        (one.state, one.reason, one.place, pack(one.findings, self._number), one.number)
                        for one in entries
                    ],
                )
        except BaseException:
            self._forget_words(remembered)
            raise
        if self._connection.execute("SELECT 1 FROM flight LIMIT 1").fetchone() is None:
            self._wipe()

    def entries(self, first: int, last: int, *, only_open: bool = False) -> list[Entry]:
        """What is known of the rows between two numbers, both included."""
        rows = self._connection.execute(
            "SELECT number, state, reason, place, findings FROM row WHERE number BETWEEN ? AND ? AND state <= ? "
            "ORDER BY number",
            (first, last, State.OPEN if only_open else max(State)),
        )
        return [self._entry(*row) for row in rows]

    def entries_of(self, numbers: Sequence[int]) -> dict[int, Entry]:
        """What is known of some rows, by number."""
        found = {}
        for number in numbers:
            row = self._connection.execute(
                "SELECT number, state, reason, place, findings FROM row WHERE number = ?", (number,)
            ).fetchone()
            if row is not None:
                found[number] = self._entry(*row)
        return found

    def count(self) -> dict[State, int]:
        """How many rows there are in each state."""
        found = dict(self._connection.execute("SELECT state, count(*) FROM row GROUP BY state").fetchall())
        return {state: found.get(state, 0) for state in State}

    def waiting(self) -> int:
        """How many open rows were asked in vain."""
        statement = "SELECT count(*) FROM row WHERE state = 0 AND reason <> ''"
        return int(self._connection.execute(statement).fetchone()[0])

    # Earlier results, for the time of one run.

    def begin_earlier(self, rows: Iterable[tuple[bytes, str]]) -> None:
        """Take up what earlier results said, by hash of the key. It goes with the connection."""
        self._connection.execute("CREATE TEMP TABLE earlier (key BLOB PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID")
        with self._writing():
            self._connection.executemany("INSERT OR IGNORE INTO earlier (key, said) VALUES (?, ?)", rows)

    def earlier(self, key: bytes) -> str | None:
        """What they said of a row, asked once; None if they did not know it."""
        row = self._connection.execute("DELETE FROM earlier WHERE key = ? RETURNING said", (key,)).fetchall()
        return str(row[0][0]) if row else None

    def gone(self) -> int:
        """How many rows of theirs nobody has asked for."""
        return int(self._connection.execute("SELECT count(*) FROM earlier").fetchone()[0])

    def _entry(self, number: int, state: int, reason: str, place: str, findings: bytes) -> Entry:
        return Entry(number, State(state), reason, place, unpack(findings, self._texts.__getitem__))

    def _number(self, text: str) -> int:
        """Under which a word is remembered; within a transaction."""
        number = self._words.get(text)
        if number is None:
            number = len(self._words) + 1
            self._connection.execute("INSERT INTO word (number, text) VALUES (?, ?)", (number, text))
            self._words[text], self._texts[number] = number, text
        return number

    def _forget_words(self, remembered: int) -> None:
        """Those that a transaction remembered which came to nothing."""
        for number in range(remembered + 1, len(self._words) + 1):
            del self._words[self._texts.pop(number)]


def journal_of(results: Path) -> Path:
    """Where the journal of a sweep lies."""
    return results.with_name(results.name + SUFFIX)


def _taken(number: int, key: bytes | None, trouble: Trouble | None, column: str) -> tuple[Any, ...]:
    if trouble is None:
        return number, key, State.OPEN, "", ""
    return number, key, State.REFUSED, trouble.name, column
