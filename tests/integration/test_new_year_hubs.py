"""Two hub processes over one log in PostgreSQL while the year turns, by a clock that all processes share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from log_places import PostgresDatabase
from servers import Server

SUPPORT = Path(__file__).parents[1] / "support"
EVE = datetime.fromisoformat("2026-12-31T20:00:00+08:00")
"""Of a year in which what the examples grant holds, on both sides of midnight."""


@pytest.fixture
def ahead(tmp_path: Path) -> Path:
    """The library by which processes believe another time of day."""
    compiler, made = shutil.which("cc"), tmp_path / "clock_ahead.so"
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler here, by which processes are made to believe another clock")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", made, SUPPORT / "clock_ahead.c"], check=True)  # noqa: S603 - found above
    return made


@pytest.mark.timeout(600)  # two hubs, two owners, an agent and a registrar start, and a year ends
def test_two_hubs_over_one_log_go_on_together_into_the_new_year(
    postgresql: Server, ahead: Path, tmp_path: Path
) -> None:
    place, clock = PostgresDatabase(postgresql), tmp_path / "clock"
    place.create_empty()
    clock.write_text(f"{int(EVE.timestamp() - time.time())}")
    environment = os.environ | {
        "LD_PRELOAD": str(ahead),
        "CLOCK_AHEAD": str(clock),
        "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, SUPPORT / "new_year_hubs.py", tmp_path, place.url(), clock],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
    finally:
        place.drop()
    told = json.loads(done.stdout.splitlines()[-1])
    old, new = told["log"], f"{told['log']}/2027"
    assert (told["before"], told["after"]) == ([old, old], [new, new])
    assert told["receipts"] == [2] * 7
    # Each case is a request to each of two owners; what was asked again on the way may have left more.
    assert told["found"].keys() == {old, new}
    assert told["found"][old] >= 6
    assert told["found"][new] >= 2
