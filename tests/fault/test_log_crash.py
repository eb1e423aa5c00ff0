"""Processes that are killed while they append, and processes that append to one file at the same time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import audit_support as support
from audit.sqlite import open_sqlite, reading
from log_appenders import Appender, appending
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    support.close(support.make_store(path))
    support.write_signer(tmp_path / "signer.pem")
    return path


def running(path: Path, count: int, group: int) -> AbstractContextManager[Appender]:
    return appending(str(path), path.with_name("signer.pem"), count, group)


def check_acknowledged(path: Path, lines: list[bytes]) -> int:
    """Every entry whose line was printed is in the log, at its place, and so is what stood beside it."""
    size = support.check_log(path)
    store = support.reopen(path)
    leaves = [row[2] for row in support.rows(store)]
    with reading(store.engine).connect() as connection:
        charged = {int(row[0]) for row in connection.exec_driver_sql("SELECT first FROM charge")}
    support.close(store)
    covered = 1
    for line in lines:
        first, end, hashes = line.split()
        expected = [bytes.fromhex(text.decode()) for text in hashes.split(b",")]
        assert leaves[int(first) : int(first) + len(expected)] == expected
        assert int(first) in charged
        assert int(end) <= size
        covered += len(expected)
    assert covered <= size
    return size


@pytest.mark.parametrize("group", [1, 40])
def test_an_acknowledged_entry_survives_sigkill_at_any_moment(path: Path, group: int) -> None:
    lines: list[bytes] = []
    for turn in range(4):
        with running(path, 0, group) as appender:
            # A different number of groups each time, so that the signal falls at different moments.
            lines += [appender.read() for _ in range(3 + 7 * turn)]
            lines += appender.kill()
        assert check_acknowledged(path, lines) >= 1 + group * len(lines)
    assert len(lines) >= 4 * 3


def test_entries_and_what_stands_beside_them_are_lost_together_or_not_at_all(path: Path) -> None:
    for turn in range(3):
        with running(path, 0, 3) as appender:
            for _ in range(2 + turn):
                appender.read()
            appender.kill()
        store = support.reopen(path)
        with reading(store.engine).connect() as connection:
            charges = connection.exec_driver_sql("SELECT count(*) FROM charge").scalar_one()
        assert store.newest.size == 1 + 3 * charges
        support.close(store)
    support.check_log(path)


def test_several_processes_append_to_one_file_and_make_one_log(path: Path) -> None:
    with running(path, 40, 1) as one, running(path, 40, 3) as three, running(path, 40, 8) as eight:
        lines = [line for appender in (one, three, eight) for line in appender.finish()]
    assert len(lines) == 120
    size = check_acknowledged(path, lines)
    assert size == 1 + 40 * (1 + 3 + 8)


def test_a_process_goes_on_while_another_that_shares_its_file_is_killed(path: Path) -> None:
    store = support.reopen(path)
    done = []
    with running(path, 0, 5) as victim:
        for turn in range(30):
            if turn < 15:
                victim.read()
            elif turn == 15:
                victim.kill()
            done.append(support.append(store, 2))
    support.close(store)
    support.check_log(path, *done)


def test_a_creation_that_was_cut_short_leaves_no_log_behind(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    open_sqlite(path, create=True).dispose()  # killed before its log was committed
    with pytest.raises(FatalError, match="did not finish"):
        support.reopen(path)


def test_the_roots_that_two_processes_sign_are_of_one_history(path: Path) -> None:
    store = support.reopen(path)
    with running(path, 30, 4) as appender:
        mine = [support.append(store, 3) for _ in range(30)]
        lines = appender.finish()
    store.refresh()
    leaves = [merkle.leaf_hash(data) for data in store.entries(0, store.newest.size)]
    for appended in mine:
        assert appended.head.root == merkle.Tree(leaves[: appended.size]).root
    support.close(store)
    check_acknowledged(path, lines)
