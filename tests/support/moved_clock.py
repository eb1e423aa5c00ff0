"""A time of day that a test sets for processes and all that they start (`clock_ahead.c`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent


def environment_at(when: datetime, directory: Path) -> tuple[Mapping[str, str], Path]:
    """What a process needs to believe that it is `when` now, and the file by which that is set forward.

    Where it cannot be built the test is skipped.
    """
    compiler, made, clock = shutil.which("cc"), directory / "clock_ahead.so", directory / "clock"
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler here, by which processes are made to believe another clock")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", made, SUPPORT / "clock_ahead.c"], check=True)  # noqa: S603 - found above
    clock.write_text(f"{int(when.timestamp() - time.time())}")
    path = os.pathsep.join(one for one in sys.path if one)
    return os.environ | {"LD_PRELOAD": str(made), "CLOCK_AHEAD": str(clock), "PYTHONPATH": path}, clock


def said_by(script: str, *arguments: str | Path, environment: Mapping[str, str]) -> str:
    """The last line that a script of ours prints under a moved clock."""
    command: Sequence[str | Path] = [sys.executable, SUPPORT / script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()[-1]
