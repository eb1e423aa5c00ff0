"""A memory file is replaced whole, and what is older never replaces what is newer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certs.identity import write_private
from zhiwang.wire.kept import KeptFile, replace_durably, sweep, write_durably, written_aside


def test_a_write_that_is_overtaken_leaves_the_newer_state(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "heads.json")
    older, newer = file.writing(b"older"), file.writing(b"newer")
    newer()
    older()
    assert file.path.read_bytes() == b"newer"


def test_writes_at_the_same_time_fail_none_and_leave_the_newest(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "heads.json")
    writes = [file.writing(b"%d" % number) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write) for write in writes]:
            done.result()
    assert file.path.read_bytes() == b"199"
    assert [path.name for path in tmp_path.iterdir()] == ["heads.json"]
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_failed_can_be_asked_for_again(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "gone" / "heads.json")
    with pytest.raises(OSError, match="No such file"):
        file.writing(b"first")()
    file.path.parent.mkdir()
    file.writing(b"second")()
    assert file.path.read_bytes() == b"second"


def test_writers_who_know_nothing_of_each_other_each_write_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    contents = [bytes([number]) * 20_000 for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(replace_durably, path, content) for content in contents]:
            done.result()
    assert path.read_bytes() in contents
    assert [one.name for one in tmp_path.iterdir()] == ["certificate.pem"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    replace_durably(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]


KILLED = """
import os, pathlib, signal
from zhiwang.wire.kept import written_aside
with written_aside(pathlib.Path({path!r}), b"half"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_behind(path: Path) -> None:
    """What a writer of `path` leaves behind that is killed just before it puts the file in its place."""
    done = subprocess.run([sys.executable, "-c", KILLED.format(path=str(path))], check=False)  # noqa: S603 - ours
    assert done.returncode == -signal.SIGKILL


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_a_killed_writer_left_is_taken_away_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    leave_behind(tmp_path / "heads.json")
    leave_behind(tmp_path / "other.json")
    (tmp_path / ".heads.json.swp").touch()
    (left,) = [name for name in names(tmp_path) if name.startswith(".other.json.")]
    assert len(names(tmp_path)) == 3
    KeptFile(tmp_path / "heads.json").writing(b"{}")()
    assert names(tmp_path) == sorted([".heads.json.swp", left, "heads.json"])
    sweep(tmp_path)
    assert names(tmp_path) == [".heads.json.swp", "heads.json"]


def test_a_directory_of_our_own_is_swept_with_what_is_below_it(tmp_path: Path) -> None:
    below = tmp_path / "targets" / "hrss"
    below.mkdir(parents=True)
    leave_behind(below / "document.toml")
    sweep(tmp_path)
    assert names(below) == []


@pytest.mark.parametrize("write", [replace_durably, write_durably, write_private])
def test_every_writer_takes_away_what_was_left_of_its_file(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    leave_behind(tmp_path / "name")
    write(tmp_path / "name", b"whole")
    assert names(tmp_path) == ["name"]


def test_the_names_of_directories_that_are_made_are_durable_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_durably(tmp_path / "targets" / "hrss" / "document.toml", b"whole")
    assert {tmp_path, tmp_path / "targets"} <= set(synced[:2])
    assert synced[-1] == tmp_path / "targets" / "hrss"
    synced.clear()
    write_durably(tmp_path / "targets" / "hrss" / "document.toml", b"new")
    assert tmp_path not in synced, "what was there is not synced again"


def test_what_another_is_writing_is_never_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with written_aside(path, b"new") as aside:
        sweep(tmp_path)
        aside.replace(path)
    assert path.read_bytes() == b"new"
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(replace_durably, path, b"%d" % number) for number in range(300)]
        sweeps = [pool.submit(sweep, tmp_path) for _ in range(300)]
        for done in [*writes, *sweeps]:
            done.result()
    assert names(tmp_path) == ["checkpoint"]


def test_where_locks_are_refused_files_are_written_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(tmp_path / "checkpoint")

    def refused(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refused)
    replace_durably(tmp_path / "checkpoint", b"new")
    sweep(tmp_path)
    assert (tmp_path / "checkpoint").read_bytes() == b"new"
    assert len(names(tmp_path)) == 2


def test_a_link_to_other_storage_stays_one(tmp_path: Path) -> None:
    there = tmp_path / "other storage"
    there.mkdir()
    link = tmp_path / "heads.json"
    link.symlink_to(there / "remembered")
    leave_behind(there / "remembered")
    KeptFile(link).writing(b"{}")()
    assert link.is_symlink()
    assert names(there) == ["remembered"]
    replace_durably(link, b"plain")
    assert (link.is_symlink(), link.read_bytes(), (there / "remembered").read_bytes()) == (False, b"plain", b"{}")


def test_links_that_lead_in_a_circle_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(OSError, match="symbolic links"):
        replace_durably(tmp_path / "one", b"new", follow=True)
    assert names(tmp_path) == ["one", "two"]
