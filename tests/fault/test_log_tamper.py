"""Hands in the file: what triggers refuse, and what opening, verifying and going on find out without them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import audit_support as support
from audit.checkpoint import Checkpoint, sign
from audit.schema import TABLES, statements
from audit.store import LogStore
from certs.identity import Identity, Kind
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason

SIZE = 601


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    store = support.make_store(path)
    support.append(store, SIZE - 1)
    support.close(store)
    return path


def raw(path: Path) -> sqlite3.Connection:
    """A connection as any other program makes it."""
    return sqlite3.connect(path, isolation_level=None)


# S608: the statements are the examples of this file; nothing in them comes from outside.
# ruff: noqa: S608
STATEMENTS = statements(TABLES)
SECOND = "x'" + "22" * 32 + "'"

REFUSED = [
    "UPDATE log_entry SET data = x'00' WHERE idx = 5",
    "UPDATE log_entry SET idx = 9999 WHERE idx = 600",
    "UPDATE OR REPLACE log_entry SET idx = 5 WHERE idx = 600",
    "UPDATE OR IGNORE log_entry SET data = x'00' WHERE idx = 600",
    "DELETE FROM log_entry WHERE idx = 600",
    "DELETE FROM log_entry",
    f"INSERT INTO log_entry VALUES (5, {SECOND}, {SECOND}, x'00')",
    f"INSERT OR REPLACE INTO log_entry VALUES (5, {SECOND}, {SECOND}, x'00')",
    f"REPLACE INTO log_entry VALUES (600, {SECOND}, {SECOND}, x'00')",
    f"INSERT OR IGNORE INTO log_entry VALUES (5, {SECOND}, {SECOND}, x'00')",
    f"INSERT INTO log_entry VALUES (5, {SECOND}, {SECOND}, x'00') ON CONFLICT DO UPDATE SET data = x'00'",
    f"INSERT INTO log_entry VALUES (602, {SECOND}, {SECOND}, x'00')",
    f"INSERT INTO log_entry VALUES (-1, {SECOND}, {SECOND}, x'00')",
    f"INSERT INTO log_entry VALUES (NULL, {SECOND}, {SECOND}, x'00')",
    "UPDATE log_tile SET hashes = zeroblob(8192) WHERE idx = 0",
    "DELETE FROM log_tile",
    "INSERT OR REPLACE INTO log_tile VALUES (0, 0, zeroblob(8192))",
    "REPLACE INTO log_tile VALUES (0, 1, zeroblob(8192))",
    "INSERT INTO log_tile VALUES (0, 7, zeroblob(8192))",
    "INSERT INTO log_tile VALUES (1, 1, zeroblob(8192))",
    "UPDATE log_head SET size = 600",
    "UPDATE log_head SET size = 602",
    f"UPDATE log_head SET root = {SECOND}",
    "UPDATE log_head SET id = 2",
    "DELETE FROM log_head",
    f"INSERT INTO log_head VALUES (2, 601, {SECOND}, x'00', x'00')",
    f"INSERT OR REPLACE INTO log_head VALUES (1, 601, {SECOND}, x'00', x'00')",
    f"REPLACE INTO log_head VALUES (1, 10, {SECOND}, x'00', x'00')",
]


@pytest.mark.parametrize("statement", REFUSED)
@pytest.mark.parametrize("recursive", ["OFF", "ON"])
def test_the_database_itself_refuses_everything_but_appending(path: Path, statement: str, recursive: str) -> None:
    with closing(raw(path)) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    assert support.check_log(path) == SIZE


def test_a_statement_that_is_refused_is_refused_by_a_trigger_and_not_by_chance(path: Path) -> None:
    with closing(raw(path)) as connection:
        for statement in REFUSED:
            with pytest.raises(sqlite3.IntegrityError) as caught:
                connection.execute(statement)
            assert "append-only" in str(caught.value) or "CHECK" in str(caught.value)


def unlock(connection: sqlite3.Connection) -> None:
    """What a determined hand does first."""
    for name in STATEMENTS:
        if STATEMENTS[name].startswith("CREATE TRIGGER"):
            connection.execute(f"DROP TRIGGER {name}")


def lock(connection: sqlite3.Connection) -> None:
    """And last, to hide it."""
    for statement in STATEMENTS.values():
        if statement.startswith("CREATE TRIGGER"):
            connection.execute(statement)


def tamper(path: Path, *statements: str) -> None:
    with closing(raw(path)) as connection:
        unlock(connection)
        for statement in statements:
            connection.execute(statement)
        lock(connection)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE log_entry SET data = CAST(data || x'00' AS BLOB) WHERE idx = 599", "not the one that was hashed"),
        (f"UPDATE log_entry SET leaf_hash = {SECOND} WHERE idx = 599", "not the one that was hashed"),
        ("UPDATE log_tile SET hashes = zeroblob(8192) WHERE idx = 1", "root recomputed"),
        ("DELETE FROM log_tile WHERE idx = 1", "tiles of level 0 are missing"),
        ("DELETE FROM log_entry WHERE idx = 600", "counts other entries"),
        ("DELETE FROM log_entry WHERE idx = 590", "are missing"),
        (f"UPDATE log_head SET root = {SECOND}", "root recomputed"),
        (
            "UPDATE log_head SET checkpoint = CAST(replace(checkpoint, 'hub', 'hum') AS BLOB)",
            "checkpoint does not verify",
        ),
        ("UPDATE log_head SET certificate = x'00'", "certificate of its checkpoint does not verify"),
        ("DELETE FROM log_head", "no head"),
        ("UPDATE log_entry SET data = (SELECT data FROM log_entry WHERE idx = 1) WHERE idx = 0", "first entry"),
    ],
)
def test_what_was_changed_behind_the_triggers_is_found_when_the_log_is_opened(
    path: Path, statement: str, message: str
) -> None:
    tamper(path, statement)
    with pytest.raises(FatalError, match=message) as caught:
        support.reopen(path)
    assert caught.value.reason is Reason.LOG_UNAVAILABLE
    assert "audit office" in caught.value.detail or "restore" in caught.value.detail


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER log_entry_delete",
        "CREATE TRIGGER more BEFORE INSERT ON log_entry BEGIN SELECT RAISE(IGNORE); END",
        "CREATE INDEX quicker ON log_entry (key)",
        "ALTER TABLE log_entry ADD COLUMN note TEXT",
    ],
)
def test_a_log_whose_tables_or_triggers_were_changed_is_not_opened(path: Path, statement: str) -> None:
    with closing(raw(path)) as connection:
        connection.execute(statement)
    with pytest.raises(FatalError, match="not as they were made"):
        support.reopen(path)


def test_an_old_entry_that_was_changed_is_found_when_everything_is_verified(path: Path) -> None:
    tamper(path, "UPDATE log_entry SET data = CAST(data || x'00' AS BLOB) WHERE idx = 3")
    store = support.reopen(path)
    with pytest.raises(FatalError, match="entry 3 is not the one that was hashed"):
        store.verify_all()
    support.close(store)


def test_an_old_entry_that_was_changed_with_its_hash_is_found_when_everything_is_verified(path: Path) -> None:
    with closing(raw(path)) as connection:
        data = connection.execute("SELECT data FROM log_entry WHERE idx = 4").fetchone()[0]
    leaf = merkle.leaf_hash(data).hex()
    tamper(path, f"UPDATE log_entry SET data = x'{data.hex()}', leaf_hash = x'{leaf}' WHERE idx = 3")
    store = support.reopen(path)
    with pytest.raises(FatalError, match="tile 0 of level 0"):
        store.verify_all()
    support.close(store)


def test_a_head_signed_by_the_right_key_over_another_tree_is_not_believed(path: Path) -> None:
    signer = support.signer()
    origin = support.HUB.log_origin
    note = sign(Checkpoint(origin, SIZE, bytes(32)), origin, signer.public_key_raw, signer.sign)
    tamper(path, f"UPDATE log_head SET checkpoint = x'{note.hex()}'")
    with pytest.raises(FatalError, match="another size or root"):
        support.reopen(path)


def test_a_head_signed_in_the_logs_name_by_another_identity_is_not_believed(path: Path) -> None:
    other = support.signer(Identity(support.CITY, "centre", Kind.HUB, "other"))
    store = support.reopen(path)
    head = Checkpoint(store.origin, store.newest.size, store.newest.root)
    support.close(store)
    note = sign(head, head.origin, other.public_key_raw, other.sign)
    tamper(path, f"UPDATE log_head SET checkpoint = x'{note.hex()}', certificate = x'{other.certificate_der.hex()}'")
    with pytest.raises(FatalError, match="another identity"):
        support.reopen(path)


# Rolled back.


@pytest.fixture
def guarded(tmp_path: Path) -> tuple[Path, Path]:
    path, guard = tmp_path / "log.db", tmp_path / "elsewhere" / "guard"
    guard.parent.mkdir()
    store = support.make_store(path, guard=guard)
    support.append(store, 300)
    support.close(store)
    return path, guard


def test_a_log_restored_from_an_old_copy_is_not_signed_over(guarded: tuple[Path, Path]) -> None:
    path, guard = guarded
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    store = support.reopen(path, guard=guard)
    support.append(store, 10)
    support.close(store)
    shutil.copy(copy, path)
    before = path.read_bytes()
    with pytest.raises(FatalError, match="has 301 entries, but its guard has seen 311: it was rolled back"):
        support.reopen(path, guard=guard)
    assert path.read_bytes() == before
    assert b"\n311\n" in guard.read_bytes()


def test_a_log_that_was_restored_and_grew_past_its_guard_is_not_signed_over(guarded: tuple[Path, Path]) -> None:
    path, guard = guarded
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    store = support.reopen(path, guard=guard)
    support.append(store, 10)
    support.close(store)
    shutil.copy(copy, path)
    store = support.reopen(path)  # by somebody who forgot the guard
    support.append(store, 20)
    support.close(store)
    with pytest.raises(FatalError, match="does not extend the 311 that its guard has seen"):
        support.reopen(path, guard=guard)


def test_a_log_opens_with_the_guard_that_it_extends(guarded: tuple[Path, Path]) -> None:
    path, guard = guarded
    old = guard.read_bytes()
    store = support.reopen(path, guard=guard)
    support.append(store, 10)
    support.close(store)
    assert b"\n311\n" in guard.read_bytes()
    guard.write_bytes(old)  # a guard that was not written for a while
    store = support.reopen(path, guard=guard)
    support.close(store)
    assert b"\n311\n" in guard.read_bytes()


def test_a_log_without_its_guard_is_opened_only_on_purpose(guarded: tuple[Path, Path]) -> None:
    path, guard = guarded
    guard.unlink()
    with pytest.raises(FatalError, match="is missing"):
        support.reopen(path, guard=guard)
    guard.touch()
    support.close(support.reopen(path, guard=guard))
    assert b"\n301\n" in guard.read_bytes()


def test_the_guard_of_another_log_is_refused(guarded: tuple[Path, Path], tmp_path: Path) -> None:
    _, guard = guarded
    other = tmp_path / "owner.db"
    support.close(support.make_store(other, support.ADAPTER))
    with pytest.raises(FatalError, match="guard is of another log"):
        support.reopen(other, support.ADAPTER, guard=guard)


def test_a_log_is_not_begun_anew_beside_the_guard_of_one_that_was_lost(guarded: tuple[Path, Path]) -> None:
    path, guard = guarded
    for file in path.parent.glob("log.db*"):
        file.unlink()
    with pytest.raises(FatalError, match="remembers a log"):
        support.make_store(path, guard=guard)


def running(path: Path) -> LogStore:
    store = support.reopen(path)
    support.append(store, 10)
    return store


def replace_with(path: Path, copy: Path) -> None:
    """Put another log's content into the file under the feet of a process, as a restore tool does through SQLite."""
    with closing(raw(copy)) as source, closing(raw(path)) as target:
        source.backup(target)


def grown(path: Path, copy: Path, count: int) -> None:
    shutil.copy(path, copy)
    store = support.reopen(copy)
    if count:
        support.append(store, count)
    support.close(store)


@pytest.mark.parametrize(
    ("count", "message"), [(0, "rolled back"), (5, "rolled back"), (10, "rolled back"), (30, "rewritten")]
)
@pytest.mark.parametrize("use", ["append", "refresh"])
def test_a_log_that_is_exchanged_under_a_running_process_is_not_signed_over(
    path: Path, count: int, message: str, use: str
) -> None:
    copy = path.with_name("copy.db")
    grown(path, copy, count)
    store = running(path)
    replace_with(path, copy)
    act: Callable[[], object] = store.refresh if use == "refresh" else lambda: support.append(store, 1)
    with pytest.raises(FatalError, match=message):
        act()
    assert not store.healthy
    # A reload does not forget what was seen.
    with pytest.raises(FatalError, match="this process has seen"):
        store.open()
    with pytest.raises(FatalError):
        support.append(store, 1)
    support.close(store)
    assert support.check_log(path) == SIZE + count
