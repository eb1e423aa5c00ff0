"""A disk that is really full under a sweep: results, journal and the profile's state lie on a small file system.

`tests/integration/test_sweep.py` has a quota, by which a write fails early; here the kernel has no page left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from breaking_support import RealCity
from exchange.demo import build
from exchange.demo.build import ROLE, SYSTEM
from sweep_processes import (
    OWNERS,
    ROWS,
    WAIT,
    Asked,
    asked_once,
    begin,
    check_whole,
    command,
    eventually,
    finish,
    write_roster,
)

SIZE_MIB = 24

pytestmark = pytest.mark.timeout(400)  # real processes, and the machine may have other work


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("full"), OWNERS)
    yield city
    city.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True, check=False).returncode:  # noqa: S603 - our own
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)  # noqa: S603, S607 - our own


class Filler:
    """Takes the room of a disk, and gives it back."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self) -> None:
        """Leave nothing."""
        page = bytes(os.statvfs(self._path.parent).f_frsize)
        with self._path.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(page)

    def clear(self) -> None:
        self._path.unlink()


def test_a_disk_that_fills_up_stops_the_sweep_with_a_word_and_with_room_it_goes_on(city: RealCity, disk: Path) -> None:
    roster = write_roster(city, disk / "名册.csv")
    profile = disk / "system.toml"
    defaults = {"role": ROLE, "jurisdiction": "nbs:440306"}
    build.write_profile_file(city.layout, profile, SYSTEM, hub=city.hub_addresses, state="state", defaults=defaults)
    (disk / "state").mkdir(mode=0o700)
    words = command(city, roster)
    words[words.index("--profile") + 1] = str(profile)
    asked, filler = Asked(city), Filler(disk)

    # While rows are asked.
    process = begin(words)
    eventually(lambda: bool(asked.cases("hrss")), process)
    process.send_signal(signal.SIGSTOP)
    filler.fill()
    process.send_signal(signal.SIGCONT)
    output, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, output) == (1, ""), errors[-3000:]
    assert "is full" in errors, errors[-3000:]
    assert "give the same command again" in errors
    assert "Traceback" not in errors
    assert not roster.with_name("results.csv").exists()
    assert asked_once(asked)["hrss"]

    # A start on a disk that still is full says the same. What it asks has room in the journal, and is asked once.
    filler.fill()
    before = asked_once(asked)
    again = begin(words)
    _, errors = again.communicate(timeout=WAIT)
    assert (again.returncode, "is full" in errors, "Traceback" in errors) == (1, True, False), errors[-3000:]
    after = asked_once(asked)
    assert all(before[owner] <= after[owner] for owner in OWNERS)

    filler.clear()
    summary = finish(words)
    assert summary["outcomes"] == {"ANSWERED": ROWS, "DENIED": 0, "UNAVAILABLE": 0, "NOT_ASKED": 0}
    check_whole(roster)
    assert asked_once(asked) == dict.fromkeys(OWNERS, ROWS)
