"""From files to the private SQLite database: built beside the one in force, in a process of its own.

    python -m adapters.extract_load <job.json >result.json

The process is lower in priority and bounded in memory, so that neither a large file nor a malicious one takes anything
from requests. A file that has not changed, or that cannot be taken, is copied from the database in force: what was
good stays. The new database is whole and on the disk before anybody is told of it.

Who is trusted with what: the database holds the columns that the mapping takes, in clear, as the department's own files
do; it lies in the adapter's state directory (0600 in 0700), is derived, and needs no backup.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import resource
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from adapters.extract_model import LOADS, ExtractFile
from adapters.extract_rows import Row, read_rows
from zhiwang.wire.kept import sync_path
from zhiwang.wire.tables import TableError
from zhiwang.wire.tomlfile import StrictModel

MEMORY: Final = 1 << 30
"""Bytes that the process may take: less than what a unit of the adapter has as a whole (examples/systemd), since a unit
of which one process ends for want of memory ends as a whole."""

NICENESS: Final = 10

FORMAT: Final = 1
"""Version of the private database; one of another version is built anew."""

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""Codes of a database that is not what its loads say: damaged pages, or a table that is not there."""

_CACHE_KIB: Final = 8 * 1024
_HASH = re.compile(rb"\s*([0-9a-fA-F]{64})\b")
_MAX_COMPANION: Final = 4096


class Stamp(StrictModel):
    """Which content a file has, as far as the file system tells.

    Attributes:
        file: Its name.
        inode: Its inode.
        size: Bytes.
        written: When it was last written, in nanoseconds since the epoch, as whoever copied it may have kept it.
        changed: When anything about it last changed here, in nanoseconds since the epoch.
    """

    file: str
    inode: int
    size: int
    written: int
    changed: int

    @classmethod
    def of(cls, name: str, status: os.stat_result) -> Stamp:
        """Stamp of a file that is open or listed."""
        return cls(
            file=name,
            inode=status.st_ino,
            size=status.st_size,
            written=status.st_mtime_ns,
            changed=status.st_ctime_ns,
        )


class Load(StrictModel):
    """One file's part in a database.

    Attributes:
        stamp: What was loaded.
        settings: The mapping's words about it; under others it has to be loaded anew.
        written: When the file was written, in seconds since the epoch.
        rows: How many rows it had.
    """

    stamp: Stamp
    settings: str
    written: int
    rows: int


class Task(StrictModel):
    """One table of the database to build.

    Attributes:
        file: How to read it.
        index: Columns to index.
        stamp: The file to load; None to keep what is in force.
    """

    file: ExtractFile
    index: tuple[str, ...]
    stamp: Stamp | None

    @property
    def settings(self) -> str:
        """Everything that decides what the table holds."""
        return f"{FORMAT} {self.index} {self.file.model_dump_json(exclude={'settle'})}"


class Job(StrictModel):
    """What the process is given.

    Attributes:
        directory: Where the files lie.
        target: Where to build; must not exist.
        current: The database in force, if there is one.
        now: Seconds since the epoch.
        tasks: By name of the table.
    """

    directory: str
    target: str
    current: str | None
    now: int
    tasks: dict[str, Task]


class Result(StrictModel):
    """What the process says.

    Attributes:
        outcome: "built", or why there is no database; "damaged" if the one in force cannot be copied from.
        loaded: What each table of it holds.
        refused: What is wrong with files that were not taken.
    """

    outcome: Literal["built", "incomplete", "damaged", "no space", "failed"]
    loaded: dict[str, Load] = Field(default_factory=dict)
    refused: dict[str, str] = Field(default_factory=dict)


class _DamagedError(Exception):
    """The database in force cannot be copied from."""


def read_loads(database: Path, *, thorough: bool = False) -> dict[str, Load]:
    """What a private database holds; nothing if it is not there, not one of ours, or damaged.

    Args:
        database: Its file.
        thorough: Read every page of it, since a table that is damaged shows only where it is read.
    """
    if not database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            if thorough and connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return {}
            rows = connection.execute(f"SELECT file, load FROM {LOADS}").fetchall()  # noqa: S608 - a constant
        return {name: Load.model_validate_json(load) for name, load in rows}
    except (sqlite3.Error, ValueError):
        return {}


def build(job: Job) -> Result:
    """Build a database. Removes it again unless every table is in it.

    Files that cannot be taken are told in the result.

    Raises:
        sqlite3.Error: It cannot be written.
        OSError: The same.
    """
    target = Path(job.target)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        result = _build(job, target)
    except _DamagedError:
        result = Result(outcome="damaged")
    except BaseException:
        target.unlink()
        raise
    if result.outcome != "built":
        target.unlink()
    return result


def _build(job: Job, target: Path) -> Result:
    loaded: dict[str, Load] = {}
    refused: dict[str, str] = {}
    before = read_loads(Path(job.current)) if job.current is not None else {}
    with closing(sqlite3.connect(target, isolation_level=None, uri=True)) as connection:
        for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")
        if before:
            # As it stands: another load cannot be moved into its place while this one is being made.
            connection.execute("ATTACH ? AS before", (f"{Path(job.current or '').resolve().as_uri()}?mode=ro",))
        connection.execute(f"CREATE TABLE {LOADS} (file TEXT PRIMARY KEY, written INTEGER, load TEXT)")
        for name, task in job.tasks.items():
            connection.execute("BEGIN")
            try:
                load = None if task.stamp is None else _load(connection, job, name, task, task.stamp)
            except TableError as error:
                refused[name] = str(error)
                load = None
            except MemoryError:
                refused[name] = f"needs more than {MEMORY} bytes of memory; deliver it as CSV"
                load = None
            if load is None:
                # What was half loaded leaves no page behind.
                connection.execute("ROLLBACK")
                connection.execute("BEGIN")
                load = _keep(connection, name, task, before.get(name))
            if load is None:
                connection.execute("ROLLBACK")
                continue
            loaded[name] = load
            for column in task.index:
                index = _quoted(f"{name} {column}")
                connection.execute(f"CREATE INDEX main.{index} ON {_quoted(name)} ({_quoted(column)})")
            connection.execute(
                f"INSERT INTO {LOADS} VALUES (?, ?, ?)",  # noqa: S608 - a constant
                (name, load.written, load.model_dump_json()),
            )
            connection.execute("COMMIT")
    if len(loaded) < len(job.tasks):
        return Result(outcome="incomplete", refused=refused)
    sync_path(target)
    return Result(outcome="built", loaded=loaded, refused=refused)


def _load(connection: sqlite3.Connection, job: Job, name: str, task: Task, stamp: Stamp) -> Load:
    """Fill one table from its file."""
    columns = list(task.file.headings)
    with _opened(Path(job.directory), stamp) as (folder, stream):
        _check_companion(folder, task.file, stamp, stream)
        connection.execute(_create(name, columns))
        insert = f"INSERT INTO main.{_quoted(name)} VALUES ({','.join('?' * len(columns))})"  # noqa: S608 - quoted
        counted = _Counted(read_rows(task.file, stream))
        connection.executemany(insert, counted)
        if Stamp.of(stamp.file, os.fstat(stream.fileno())) != stamp:
            raise TableError("was changed while it was read")
    if counted.rows < task.file.least_rows:
        raise TableError(f"has {counted.rows} rows, fewer than the {task.file.least_rows} that it must have")
    # A clock ahead of ours makes no file younger than it can be.
    written = min(stamp.written // 1_000_000_000, job.now)
    return Load(stamp=stamp, settings=task.settings, written=written, rows=counted.rows)


def _keep(connection: sqlite3.Connection, name: str, task: Task, before: Load | None) -> Load | None:
    """Copy one table from the database in force, if it was made by the same words of the mapping.

    Raises:
        _DamagedError: It cannot be read.
    """
    if before is None or before.settings != task.settings:
        return None
    connection.execute(_create(name, list(task.file.headings)))
    try:
        connection.execute(f"INSERT INTO main.{_quoted(name)} SELECT * FROM before.{_quoted(name)}")  # noqa: S608 - quoted
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGE:
            raise _DamagedError from None
        raise
    return before


class _Counted:
    """Rows on their way, counted."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.rows = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.rows += 1
            yield row


def _create(name: str, columns: list[str]) -> str:
    return f"CREATE TABLE main.{_quoted(name)} ({', '.join(f'{_quoted(column)} TEXT' for column in columns)})"


def _quoted(name: str) -> str:
    """A name in SQL. The mapping's patterns exclude quotes already."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _opened(directory: Path, stamp: Stamp) -> Iterator[tuple[int, BufferedReader]]:
    """The directory and the file in it: a plain file of that very directory, and the one that was seen."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _plain(folder, stamp.file) as stream:
            if Stamp.of(stamp.file, os.fstat(stream.fileno())) != stamp:
                raise TableError("was changed before it was read")
            yield folder, stream
    finally:
        os.close(folder)


@contextmanager
def _plain(folder: int, name: str) -> Iterator[BufferedReader]:
    """Open a plain file for reading; a link could lead out of the directory, a pipe would never end."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        what = (
            "is a link; links are not followed" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        )
        raise TableError(what) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TableError("is no plain file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _check_companion(folder: int, file: ExtractFile, stamp: Stamp, stream: BufferedReader) -> None:
    if file.companion is None:
        return
    name = f"{stamp.file}.{file.companion}"
    try:
        with _plain(folder, name) as companion:
            written = os.fstat(companion.fileno()).st_mtime_ns
            said = _HASH.match(companion.read(_MAX_COMPANION))
    except TableError as error:
        raise TableError(f"its companion .{file.companion} {error}") from None
    if file.companion == "done":
        if written < stamp.written:
            raise TableError("is younger than its companion .done")
        return
    if said is None:
        raise TableError("its companion .sha256 holds no hash")
    if hashlib.file_digest(stream, "sha256").digest() != bytes.fromhex(said[1].decode()):
        raise TableError("does not have the hash that its companion .sha256 says")
    stream.seek(0)


def main() -> None:
    """One job from standard input to standard output. Tells kinds of errors only, since their texts quote values."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with suppress(OSError):
        # Should the machine as a whole run out of memory, this process goes before the adapter (proc(5)).
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    job = Job.model_validate_json(sys.stdin.buffer.read())
    try:
        result = build(job)
    except (sqlite3.Error, OSError) as error:
        full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL or (
            isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        )
        result = Result(outcome="no space" if full else "failed")
    sys.stdout.write(result.model_dump_json())


if __name__ == "__main__":
    main()
