"""Disks that fail: nothing is answered, the log stops, and it goes on only after what is stored has been recomputed."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from audit.appended import NewEntry
from audit.log import AuditLog
from audit.proofs import HeadView, check_entry
from audit.sqlite import open_sqlite, reading
from audit.store import LogStore
from zhiwang.wire.errors import FatalError, Reason


class Disk:
    """What happens to the next COMMIT or statement of any connection."""

    def __init__(self) -> None:
        self.before_commit = False
        self.after_commit = False
        self.statement = ""

    def connection(self) -> type[sqlite3.Connection]:
        disk = self

        class Cursor(sqlite3.Cursor):
            def executemany(self, sql: str, rows: Any, /) -> Any:
                disk.check(sql)
                return super().executemany(sql, rows)

            def execute(self, sql: str, *parameters: Any) -> Any:
                disk.check(sql)
                return super().execute(sql, *parameters)

        class Connection(sqlite3.Connection):
            def cursor(self, factory: Any = Cursor) -> Any:
                return super().cursor(factory)

            def executemany(self, sql: str, rows: Any, /) -> Any:
                disk.check(sql)
                return super().executemany(sql, rows)

            def execute(self, sql: str, *parameters: Any) -> Any:
                disk.check(sql)
                return super().execute(sql, *parameters)

            def commit(self) -> None:
                if disk.before_commit:
                    raise sqlite3.OperationalError("disk I/O error")
                super().commit()
                if disk.after_commit:
                    raise sqlite3.OperationalError("disk I/O error")

        return Connection

    def check(self, sql: str) -> None:
        if self.statement and self.statement in sql:
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    real, factory = sqlite3.connect, disk.connection()
    monkeypatch.setattr(
        "audit.sqlite.sqlite3.connect", lambda *args, **options: real(*args, factory=factory, **options)
    )
    return disk


class Opened:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: LogStore = support.make_store(path, guard=path.with_name("guard"))
        self.log = AuditLog(self.store)
        self.acknowledged: list[Any] = []

    async def append(self, entries: list[NewEntry]) -> None:
        self.acknowledged.append(await self.log.append(entries))


@pytest.fixture
async def opened(disk: Disk, tmp_path: Path) -> AsyncIterator[Opened]:
    del disk
    opened = Opened(tmp_path / "log.db")
    await opened.append(support.new_entries(opened.store, 250))
    yield opened
    await opened.log.close()
    opened.store.engine.dispose()
    support.check_log(opened.path, *opened.acknowledged)


async def refused_all(opened: Opened, count: int = 20) -> list[NewEntry]:
    """`count` callers append one entry each, and every one is refused; returns their entries."""
    entries = support.new_entries(opened.store, count)
    results = await asyncio.gather(*(opened.log.append([entry]) for entry in entries), return_exceptions=True)
    for result in results:
        assert isinstance(result, FatalError)
        assert result.reason is Reason.LOG_UNAVAILABLE
    assert len({id(result) for result in results}) == count
    return entries


def stored_keys(store: LogStore) -> set[bytes]:
    return {row[1] for row in support.rows(store)}


async def test_answer_is_withheld_when_the_log_cannot_sync(opened: Opened, disk: Disk) -> None:
    disk.before_commit = True
    entries = await refused_all(opened)
    assert not opened.log.healthy
    disk.before_commit = False
    # Not before somebody has looked at what is stored.
    await refused_all(opened, 1)
    await opened.log.reload()
    assert not stored_keys(opened.store) & {entry.key for entry in entries}
    await opened.append(entries)


async def test_a_commit_of_unknown_outcome_is_answered_to_nobody_and_resolved_by_key(
    opened: Opened, disk: Disk
) -> None:
    view = HeadView(support.checker())
    view.verify_head(await opened.log.head())
    disk.after_commit = True
    entries = await refused_all(opened)
    disk.after_commit = False
    await opened.log.reload()
    with reading(opened.store.engine).connect() as connection:
        found = opened.store.find(connection, [entry.key for entry in entries])
    # One caller's group was committed; the rest never reached the disk. Nobody was told either way.
    assert found
    assert {key: index for index, key, _, _ in support.rows(opened.store) if key in found} == found
    await opened.append(support.new_entries(opened.store, 3))
    head, logged = await opened.log.frame(opened.acknowledged[-1:], view.known_tree_size)
    checkpoint = view.verify_head(head)
    for entry in logged:
        check_entry(entry, checkpoint)


async def test_who_tries_again_after_a_commit_of_unknown_outcome_doubles_nothing(opened: Opened, disk: Disk) -> None:
    disk.after_commit = True
    entries = await refused_all(opened)
    disk.after_commit = False
    await opened.log.reload()
    before = stored_keys(opened.store) & {entry.key for entry in entries}
    assert before
    checker = support.checker()
    for entry in entries:
        appended = await opened.log.append([entry])
        checkpoint = checker.check(appended.head.message())
        (logged,) = appended.logged()
        check_entry(logged, checkpoint)
        assert (logged.entry, list(support.rows(opened.store))[logged.index][1]) == (entry.data, entry.key)
        # It is asked for as often as anybody likes.
        again = await opened.log.append([entry]) if entry.key in before else appended
        assert again.first == appended.first
    keys = [row[1] for row in support.rows(opened.store)]
    assert [keys.count(entry.key) for entry in entries] == [1] * len(entries)


@pytest.mark.parametrize(
    "statement", ["BEGIN IMMEDIATE", "SELECT size", "INTO log_entry", "INTO log_tile", "UPDATE log_head"]
)
async def test_whatever_statement_fails_nothing_is_answered(opened: Opened, disk: Disk, statement: str) -> None:
    disk.statement = statement
    await refused_all(opened)
    assert not opened.log.healthy
    if statement in {"BEGIN IMMEDIATE", "SELECT size"}:
        with pytest.raises(FatalError):
            await opened.log.reload()
    await refused_all(opened, 1)
    disk.statement = ""
    await opened.log.reload()
    await opened.append(support.new_entries(opened.store, 10))


async def test_a_reload_that_cannot_force_the_store_to_disk_keeps_the_log_stopped(opened: Opened, disk: Disk) -> None:
    disk.before_commit = True
    await refused_all(opened, 1)
    disk.before_commit = False
    disk.statement = "wal_checkpoint"
    with pytest.raises(FatalError, match="cannot be written to disk"):
        await opened.log.reload()
    assert not opened.log.healthy
    await refused_all(opened, 1)
    disk.statement = ""
    await opened.log.reload()
    await opened.append(support.new_entries(opened.store, 1))


async def test_a_signer_that_fails_stops_the_log_before_anything_is_committed(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        public_key_raw = opened.store.signer.public_key_raw
        certificate_der = opened.store.signer.certificate_der

        def sign(self, message: bytes) -> bytes:
            raise OSError(len(message))

    monkeypatch.setattr(opened.store, "_signer", Broken())
    entries = await refused_all(opened, 2)
    monkeypatch.undo()
    await opened.log.reload()
    assert not stored_keys(opened.store) & {entry.key for entry in entries}
    await opened.append(entries)


async def test_a_store_locked_by_somebody_for_too_long_stops_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.sqlite.BUSY_SECONDS", 0.05)
    opened = Opened(tmp_path / "log.db")
    other = sqlite3.connect(opened.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await refused_all(opened, 3)
    other.execute("ROLLBACK")
    other.close()
    await opened.log.reload()
    await opened.append(support.new_entries(opened.store, 3))
    await opened.log.close()
    opened.store.engine.dispose()
    assert support.check_log(opened.path, *opened.acknowledged) == 4


async def test_a_guard_that_cannot_be_written_lowers_readiness_but_answers_nothing_false(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = opened.store._guard
    assert guard is not None
    monkeypatch.setattr(guard, "failure", "No space left on device")
    assert not opened.log.healthy
    await opened.append(support.new_entries(opened.store, 1))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of another process can be set on Linux only")
def test_a_disk_that_is_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    support.close(support.make_store(path))
    support.write_signer(tmp_path / "signer.pem")
    script = Path(support.__file__).with_name("audit_appender.py")
    command = [sys.executable, str(script), str(path), str(tmp_path / "signer.pem"), "0", "20"]
    process = subprocess.Popen(  # noqa: S603 - our own script
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        # From here on no file of that process grows beyond this: the kernel refuses the write, as a full disk does.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
        out, err = process.communicate(b"go\n", timeout=60)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
    assert process.returncode == 1
    assert b"LOG_UNAVAILABLE" in err
    lines = out.splitlines()
    assert lines
    assert support.check_log(path) == 1 + 20 * len(lines)
    store = support.reopen(path)
    support.append(store, 5)
    support.close(store)
    support.check_log(path)


def test_a_log_whose_guard_nothing_can_keep_appends_nothing_until_something_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, guard = tmp_path / "log.db", tmp_path / "guard"
    support.close(support.make_store(path, guard=guard))
    store = LogStore(
        open_sqlite(path), support.HUB.log_origin, support.signer(), guard=guard, verifier=support.verifier()
    )

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # as Python says it

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(FatalError, match="free some memory, then try again"):
            store.open()
    with pytest.raises(FatalError, match="free some memory"):
        support.append(store, 1)
    store.open()
    done = support.append(store, 1)
    support.close(store)
    support.check_log(path, done)
