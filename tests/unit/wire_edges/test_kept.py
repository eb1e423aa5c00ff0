"""A memory file is replaced whole, and what is older never replaces what is newer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zhiwang.wire.kept import KeptFile


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
