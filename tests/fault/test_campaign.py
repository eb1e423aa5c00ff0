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

SUPPORT = Path(campaign.__file__).parents[1]

traced = pytest.mark.skipif(bool(reason_missing()), reason=f"no system call can be made to fail: {reason_missing()}")


def try_cases(path: Path, only: str, every: int) -> list[dict[str, Any]]:
    """Cases with their outcomes."""
    found = path / "cases.json"
    command = [sys.executable, "-m", "campaign", "--only", only, "--every", str(every), "--workers", "1"]
    done = subprocess.run(  # noqa: S603 - our own
        [*command, "--json", str(found)], cwd=SUPPORT, capture_output=True, text=True, timeout=600, check=False
    )
    assert found.exists(), done.stderr
    cases: list[dict[str, Any]] = json.loads(found.read_text("utf-8"))
    assert [case for case in cases if case["outcome"] == "failed"] == []
    assert done.returncode == 0
    return cases


@traced
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("only", "every"), [("syscall:init", 25), ("syscall:start", 45), ("syscall:commit", 9), ("syscall:sequencer", 15)]
)
def test_whatever_system_call_fails_nothing_that_was_acknowledged_is_lost(
    tmp_path: Path, only: str, every: int
) -> None:
    outcomes = Counter(case["outcome"] for case in try_cases(tmp_path, only, every))
    assert outcomes["survived"] >= 5
