"""The turn of the year, and a removal, by a process that is killed at any statement of them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import audit_support as support
import yearly_killed
import yearly_support as years
from audit.holds import HoldBook
from audit.retention import apply, survey
from yearly_support import Calendar

LOG = support.HUB.log_origin


def killed(path: Path, pem: Path, clock: Calendar, step: int, what: str) -> str:
    """Run it; what it printed, empty if it was killed."""
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, yearly_killed.__file__, str(path), str(pem), str(clock.now), str(step), what],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode in {0, -signal.SIGKILL}, ran.stderr
    return ran.stdout


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path, Calendar]:
    clock, path, pem = Calendar(), tmp_path / "log.db", tmp_path / "signer.pem"
    support.write_signer(pem)
    log = years.make(path, clock)
    years.append(log, 299)
    years.close(log)
    clock.set("2022-01-01")
    return path, pem, clock


def steps(path: Path, pem: Path, clock: Calendar, what: str, number: int) -> list[int]:
    """Some statements of the whole, evenly spread, found by letting it run once on a copy."""
    shutil.copy(path, path.with_name("whole.db"))
    count = int(killed(path.with_name("whole.db"), pem, clock, 0, what).split()[1])
    assert count > number
    return sorted({1 + place * (count - 1) // (number - 1) for place in range(number)})


def test_a_year_begins_whole_or_not_at_all(made: tuple[Path, Path, Calendar]) -> None:
    path, pem, clock = made
    found = set()
    for step in steps(path, pem, clock, "roll", 9):
        copy = path.with_name(f"roll{step}.db")
        shutil.copy(path, copy)
        assert not killed(copy, pem, clock, step, "roll")
        origins = years.check(copy)
        found.add(len(origins))
        assert origins in ([LOG], [f"{LOG}/2022", LOG])
        log = years.reopen(copy, clock)
        assert len(log.shard(LOG).entries(0, 1000)) == 300
        assert years.append(log, 1).origin == f"{LOG}/2022"
        years.close(log)
        assert years.check(copy) == [f"{LOG}/2022", LOG]
    assert found == {1, 2}, "it was killed before and after the year began"


def test_a_removal_is_gone_on_with_wherever_it_was_killed(made: tuple[Path, Path, Calendar]) -> None:
    path, pem, clock = made
    log = years.reopen(path, clock)
    years.append(log, 1)
    years.close(log)
    clock.set("2023-02-01")
    found = set()
    for step in steps(path, pem, clock, "remove", 9):
        copy = path.with_name(f"remove{step}.db")
        shutil.copy(path, copy)
        assert not killed(copy, pem, clock, step, "remove")
        log = years.reopen(copy, clock)
        shard = survey(log, HoldBook(log), 1, clock.now)[0]
        found.add((shard.removed, shard.done))
        if not shard.removed:
            assert len(log.shard(LOG).entries(0, 1000)) == 300, "what is not recorded has not happened"
        if not shard.done:
            assert apply(log, HoldBook(log), {}, years=1, now=clock.now, no_copy="x") == []
        assert survey(log, HoldBook(log), 1, clock.now)[0].done
        years.close(log)
        assert LOG not in years.check(copy)
    assert found >= {(False, False), (True, False)}
