from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint
from audit.guard import Guard
from zhiwang.wire.errors import FatalError

NOTE = "shenzhen/centre/hub/main\n{}\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n— x AAAAAAAA\n"


def note(size: int) -> bytes:
    return NOTE.format(size).encode()


class Newest:
    size = 1

    def __call__(self) -> bytes:
        return note(self.size)


@pytest.fixture
def newest() -> Newest:
    return Newest()


@pytest.fixture
def guard(tmp_path: Path, newest: Newest) -> Iterator[Guard]:
    guard = Guard(tmp_path / "guard", newest, interval=0.01)
    yield guard
    guard.close()


def test_what_was_written_is_read_back(guard: Guard, newest: Newest) -> None:
    guard.write()
    assert guard.read() == Checkpoint("shenzhen/centre/hub/main", 1, bytes(range(32)))
    newest.size = 5
    guard.write()
    read = guard.read()
    assert read is not None
    assert read.size == 5
    assert [path.name for path in guard.path.parent.iterdir()] == ["guard"]


def test_a_missing_guard_is_refused_with_what_to_do(guard: Guard) -> None:
    with pytest.raises(FatalError, match="make an empty file"):
        guard.read()


def test_an_empty_guard_is_an_operators_decision(guard: Guard) -> None:
    guard.path.touch()
    assert guard.read() is None
    assert not guard.exists()


@pytest.mark.parametrize("data", [b"x", b"\n", note(1)[:-5], b"\xff" * 10])
def test_a_damaged_guard_is_refused(guard: Guard, data: bytes) -> None:
    guard.path.write_bytes(data)
    with pytest.raises(FatalError, match="damaged"):
        guard.read()


def test_the_thread_writes_the_newest_and_the_last(guard: Guard, newest: Newest) -> None:
    written = threading.Event()
    inner = guard.write

    def write() -> None:
        inner()
        written.set()

    guard.write = write  # type: ignore[method-assign]  # to see when the thread writes
    guard.start()
    newest.size = 2
    guard.wake()
    assert written.wait(10)
    newest.size = 9
    guard.wake()
    guard.close()
    assert guard.path.read_bytes() == note(9)


def test_it_is_written_at_most_once_in_an_interval(
    tmp_path: Path, newest: Newest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(tmp_path / "guard", newest, interval=60)
    writes: list[int] = []
    first = threading.Event()

    def write() -> None:
        writes.append(newest.size)
        first.set()

    monkeypatch.setattr(guard, "write", write)
    guard.start()
    guard.wake()
    assert first.wait(10)
    for size in range(2, 10):
        newest.size = size
        guard.wake()
        threading.Event().wait(0.005)
    assert writes == [1]
    guard.close()
    assert writes[-1] == 9


def test_a_guard_that_cannot_be_written_says_so_and_recovers(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, mended = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not mended.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        real(descriptor)

    def until(failure: str | None) -> bool:
        for _ in range(10_000):
            if guard.failure == failure:
                return True
            threading.Event().wait(0.001)
        return False

    monkeypatch.setattr(os, "fsync", fsync)
    guard.start()
    guard.wake()
    assert failed.wait(10)
    assert until("No space left on device; its disk is full: free some space, then try again")
    mended.set()
    assert until(None)
    assert guard.path.read_bytes() == note(1)


def test_a_guard_is_on_the_disk_before_it_takes_the_place_of_the_last(
    guard: Guard, newest: Newest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.write()
    newest.size = 2
    seen: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: seen.append(guard.path.read_bytes()))
    guard.write()
    # First the new file is synced while the old one still stands, then the directory that names it.
    assert seen == [note(1), note(2)]


def test_two_threads_write_in_turn_and_the_newest_stays(
    guard: Guard, newest: Newest, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not writing.is_set():
            writing.set()
            assert go_on.wait(60)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with ThreadPoolExecutor(2) as pool:
        older = pool.submit(guard.write)
        assert writing.wait(60)
        newest.size = 2
        newer = pool.submit(guard.write)
        with suppress(TimeoutError):
            newer.result(0.3)  # time to overtake, were it not to wait for its turn
        go_on.set()
        older.result(60)
        newer.result(60)
    assert guard.path.read_bytes() == note(2)
    assert [path.name for path in guard.path.parent.iterdir()] == ["guard"]


def test_a_guard_that_is_started_and_ended_by_several_threads_ends(guard: Guard, newest: Newest) -> None:
    def reopen(_number: int) -> None:
        guard.start()
        guard.wake()
        guard.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reopen, range(100)))
    newest.size = 7
    reopen(0)
    assert guard.path.read_bytes() == note(7)
    assert not [thread for thread in threading.enumerate() if thread.name == "log guard"]


def test_a_guard_that_nothing_can_keep_says_so_and_can_be_started_later(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(FatalError, match=r"can't start new thread; free some memory, then try again"):
            guard.start()
    guard.start()
    guard.wake()
    guard.close()
    assert guard.path.read_bytes() == note(1)


def no_more(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")  # as Python says it


def test_a_guard_that_an_operator_links_to_other_storage_stays_linked(tmp_path: Path, newest: Newest) -> None:
    there = tmp_path / "other storage"
    there.mkdir()
    (tmp_path / "guard").symlink_to(there / "checkpoint")
    guard = Guard(tmp_path / "guard", newest)
    guard.check_vacant()
    for newest.size in (1, 2):
        guard.write()
        assert (there / "checkpoint").read_bytes() == note(newest.size)
    assert guard.path.is_symlink()
    assert [path.name for path in there.iterdir()] == ["checkpoint"]


def test_a_guard_whose_linked_storage_is_away_is_missing(tmp_path: Path, newest: Newest) -> None:
    (tmp_path / "guard").symlink_to(tmp_path / "away" / "checkpoint")
    guard = Guard(tmp_path / "guard", newest)
    with pytest.raises(FatalError, match="is missing"):
        guard.read()
    with pytest.raises(OSError, match="No such file"):
        guard.write()
    assert guard.path.is_symlink()
