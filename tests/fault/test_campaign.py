"""A part of the fault campaign (`make faults`), in processes of their own as there.

Each kind is tried with every so-maniest case, the same ones in every run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import campaign
from campaign.tracer import reason_missing
from servers import Server

SUPPORT = Path(campaign.__file__).parents[1]

pytestmark = pytest.mark.timeout(600)
traced = pytest.mark.skipif(bool(reason_missing()), reason=f"no system call can be made to fail: {reason_missing()}")


def run_campaign(path: Path, *options: str, broken: str = "") -> list[dict[str, Any]]:
    """Cases with their outcomes, also where something was broken on purpose before (statements of Python)."""
    found = path / "cases.json"
    program = f"{broken}\nimport sys\nfrom campaign.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", program, *options, "--workers", "1", "--json", str(found)],
        cwd=SUPPORT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.exists(), done.stderr
    cases: list[dict[str, Any]] = json.loads(found.read_text("utf-8"))
    assert done.returncode == any(case["outcome"] == "failed" for case in cases)
    return cases


def outcomes_of(path: Path, only: str, every: int) -> Counter[str]:
    """How many cases had which outcome; none failed."""
    cases = run_campaign(path, "--only", only, "--every", str(every))
    assert [case for case in cases if case["outcome"] == "failed"] == []
    return Counter(case["outcome"] for case in cases)


@traced
@pytest.mark.parametrize(
    ("only", "every"),
    [
        ("syscall:init", 45),
        ("syscall:start", 70),
        ("syscall:commit", 25),
        ("syscall:seq", 25),
        ("syscall:roll", 40),
        ("syscall:roll to the next year:pread64", 5),
        ("syscall:adapter", 60),
    ],
)
def test_whatever_system_call_fails_nothing_that_was_acknowledged_is_lost(
    tmp_path: Path, only: str, every: int
) -> None:
    assert outcomes_of(tmp_path, only, every)["survived"] >= 3


@traced
@pytest.mark.parametrize(
    ("only", "every"),
    [("power:init", 45), ("power:start", 50), ("power:commit", 50), ("power:roll", 50), ("power:agent", 30)],
)
def test_whenever_the_power_fails_nothing_that_was_acknowledged_is_lost(tmp_path: Path, only: str, every: int) -> None:
    assert outcomes_of(tmp_path, only, every)["survived"] >= 6


@pytest.mark.parametrize("only", ["bit", "truncation"])
def test_what_rots_on_disk_is_refused_or_does_no_harm(tmp_path: Path, only: str) -> None:
    outcomes = outcomes_of(tmp_path, only, 16)
    assert outcomes["refused"] >= 8
    assert outcomes["survived"] >= 2


@pytest.mark.parametrize(
    ("only", "every", "refused"), [("restore", 9, 4), ("clock", 3, 0), ("writers", 8, 0), ("disk full", 5, 0)]
)
def test_files_clocks_and_writers_that_do_not_belong_together_sign_one_history(
    tmp_path: Path, only: str, every: int, refused: int
) -> None:
    outcomes = outcomes_of(tmp_path, only, every)
    assert outcomes["refused"] >= refused
    assert outcomes["survived"] >= 2


def test_a_log_in_postgresql_loses_nothing_that_was_acknowledged_and_tells_what_rots(
    tmp_path: Path, postgresql: Server
) -> None:
    assert postgresql.family == "postgresql"
    assert outcomes_of(tmp_path, "postgresql:connection cut:commit:", 7)["survived"] >= 5
    outcomes = outcomes_of(tmp_path, "postgresql:rows", 17)
    assert outcomes["refused"] >= 3
    assert outcomes["survived"] >= 1


def test_a_campaign_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    arguments = ("--only", "truncation:guard", "--every", "20", "--resume", str(kept))
    whole = run_campaign(tmp_path, *arguments)
    lines = kept.read_text("utf-8").splitlines(keepends=True)
    assert len(lines) == len(whole) > 3
    # Killed while it wrote the third.
    kept.write_text("".join(lines[:2]) + lines[2][:20], "utf-8")
    again = run_campaign(tmp_path, *arguments)
    assert [case["name"] for case in again] == [case["name"] for case in whole]
    assert kept.read_text("utf-8").splitlines(keepends=True)[:2] == lines[:2]
    assert len(kept.read_text("utf-8").splitlines()) == len(lines)


# That the campaign finds what it is there to find.

NO_SYNC = """
import audit.sqlite
prepare = audit.sqlite._prepare
def careless(connection, record):
    prepare(connection, record)
    connection.execute("PRAGMA synchronous = {mode}")
audit.sqlite._prepare = careless
"""
NO_NAMES = """
import audit.sqlite, zhiwang.wire.kept
zhiwang.wire.kept.sync_path = audit.sqlite.sync_path = lambda _directory: None
"""


@traced
@pytest.mark.parametrize(
    ("broken", "only"),
    [
        pytest.param(NO_SYNC.format(mode="OFF"), "power:commit", id="nothing is synced"),
        pytest.param(NO_SYNC.format(mode="NORMAL"), "power:commit of", id="a commit is not synced"),
        pytest.param(NO_NAMES, "power:init", id="names are not synced"),
    ],
)
def test_a_sync_that_is_left_out_is_found(tmp_path: Path, broken: str, only: str) -> None:
    cases = run_campaign(tmp_path, "--only", only, "--every", "11", broken=broken)
    assert any(case["outcome"] == "failed" for case in cases)


def test_a_guard_that_is_not_looked_at_is_found(tmp_path: Path) -> None:
    broken = "import audit.guard\naudit.guard.Guard.read = lambda _self: None"
    cases = run_campaign(tmp_path, "--only", "restore", "--every", "5", broken=broken)
    assert any(case["outcome"] == "failed" for case in cases)


def test_an_entry_that_is_acknowledged_though_its_commit_failed_is_found(tmp_path: Path, postgresql: Server) -> None:
    assert postgresql.family == "postgresql"
    broken = """
import audit.postgres
from contextlib import contextmanager, suppress
@contextmanager
def careless(engine):
    with engine.connect() as connection:
        transaction = connection.begin()
        yield connection
        with suppress(Exception):
            transaction.commit()
audit.postgres.writing = careless
"""
    listed = subprocess.run(
        [sys.executable, "-m", "campaign", "--list", "--only", "postgresql:statement fails:commit:"],
        cwd=SUPPORT,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    # The last that the process makes: after another one it would find out by itself.
    last = [case for case in listed.stdout.splitlines() if case.endswith("COMMIT")][-1]
    (found,) = run_campaign(tmp_path, "--only", last, broken=broken)
    assert found["outcome"] == "failed"
    assert "was acknowledged and is not in the log" in found["detail"]
