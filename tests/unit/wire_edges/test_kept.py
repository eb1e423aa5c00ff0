"""A memory file is replaced whole, and what is older never replaces what is newer."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zhiwang.wire.kept import KeptFile, replace_durably


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
