from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exchange.demo import processes
from exchange.demo.processes import Fleet, ProcessError, stop_groups

WAIT = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]
PARENT = [
    sys.executable,
    "-c",
    f"import subprocess; p = subprocess.Popen({WAIT!r}); print(p.pid, flush=True); p.wait()",
]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second if it is reaped between the opening and the reading
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.stop()


def test_stop_leaves_no_process_and_may_be_called_twice(fleet: Fleet) -> None:
    for name in ("a", "b", "c"):
        fleet.start(name, WAIT)
    pids = list(fleet.pids.values())
    assert all(is_running(pid) for pid in pids)
    fleet.stop()
    fleet.stop()
    assert not any(is_running(pid) for pid in pids)


def test_one_that_does_not_listen_is_killed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    fleet.start("stubborn", STUBBORN)
    assert eventually(lambda: fleet.log("stubborn").read_text() == "ready\n")
    fleet.stop()
    assert not any(is_running(pid) for pid in fleet.pids.values())


def test_what_a_process_has_started_is_stopped_with_it(fleet: Fleet) -> None:
    fleet.start("parent", PARENT)
    assert eventually(lambda: fleet.log("parent").read_text().endswith("\n"))
    child = int(fleet.log("parent").read_text())
    fleet.stop()
    assert eventually(lambda: not is_running(child))


def test_one_that_ends_by_itself_is_noticed_and_its_log_named(fleet: Fleet) -> None:
    fleet.start("quick", [sys.executable, "-c", "raise SystemExit(3)"])

    def noticed() -> bool:
        try:
            fleet.check()
        except ProcessError as error:
            return "quick ended with status 3" in str(error) and str(fleet.log("quick")) in str(error)
        return False

    assert eventually(noticed)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent died")
def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from exchange.demo.processes import Fleet\n"
        f"fleet = Fleet(Path({str(tmp_path)!r})); fleet.start('child', {WAIT!r})\n"
        "print(fleet.pids['child'], flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603 - our own
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
        parent.wait()
    assert eventually(lambda: not is_running(child))


def test_a_city_that_was_kept_is_stopped_by_its_recorded_ids_and_others_are_spared(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, lasting=True)
    fleet.start("ours", WAIT)
    fleet.start("other", WAIT)
    ours, other = fleet.pids["ours"], fleet.pids["other"]
    try:
        assert stop_groups([ours, other], lambda pid: pid == ours and is_running(pid)) == [ours]
        assert not is_running(ours)
        assert is_running(other)
    finally:
        os.killpg(other, signal.SIGKILL)
        fleet.stop()
