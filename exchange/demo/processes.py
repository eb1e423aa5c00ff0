"""The processes of a city on this machine: started together, watched, and none of them left behind.

Every process leads a group of its own, so that stopping it stops whatever it may have started. One that is not to
outlive us is also told by the kernel when we die, even by SIGKILL (Linux; elsewhere only an orderly end stops it).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STOP_SECONDS = 8.0
"""How long processes may take to drain before they are killed."""

_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1


LAST_LINES = 3
"""Lines of a process's log that are shown when it fails."""


class ProcessError(RuntimeError):
    """A process ended by itself, or does not start; the message ends with the last lines of its log."""

    def __init__(self, what: str, log: Path) -> None:
        text = log.read_text("utf-8", "replace") if log.is_file() else ""
        super().__init__("\n".join([f"{what}; see {log}", *text.splitlines()[-LAST_LINES:]]))


def zhiwang(*arguments: str) -> list[str]:
    """Return the command line of the `zhiwang` command that is installed beside this very interpreter."""
    return [sys.executable, str(Path(sysconfig.get_path("scripts")) / "zhiwang"), *arguments]


class Fleet:
    """Processes that were started from here.

    Args:
        logs: Directory for one log file of each process.
        lasting: Whether they may outlive us.
    """

    def __init__(self, logs: Path, *, lasting: bool = False) -> None:
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._before = None if lasting else _die_with_parent()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process; its output goes to `<name>.log`."""
        descriptor = os.open(self.log(name), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own interpreter and command
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                preexec_fn=self._before,  # noqa: PLW1509 - one call of a function that is loaded already; no lock is taken
            )
        finally:
            os.close(descriptor)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f"{name}.log"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name; each is its group's id too."""
        return {name: process.pid for name, process in self._processes.items()}

    def check(self) -> None:
        """Look whether everything still runs.

        Raises:
            ProcessError: Something does not.
        """
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None:
                raise ProcessError(f"{name} ended with status {status}", self.log(name))

    def stop(self) -> None:
        """Stop everything: SIGTERM to all, and SIGKILL to the groups of those that are slow. May be called twice."""
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while time.monotonic() < deadline and not all(_has_ended(process.pid) for process in running):
                time.sleep(_POLL_SECONDS)
        finally:
            # Before its leader is waited for, a group's number cannot have been given to anybody else.
            for process in running:
                _kill_group(process.pid)
                process.wait()


def stop_groups(pids: Sequence[int], is_ours: Callable[[int], bool]) -> list[int]:
    """Stop processes that another run has left running, by their recorded ids.

    Args:
        pids: Leaders of groups.
        is_ours: Whether the process with this id still is what was recorded; an id may have been given to another.

    Returns:
        Those that were running.
    """
    running = [pid for pid in pids if is_ours(pid)]
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and any(is_ours(pid) for pid in running):
        time.sleep(_POLL_SECONDS)
    for pid in running:
        if is_ours(pid):
            _kill_group(pid)
    return running


def _has_ended(pid: int) -> bool:
    """Whether a child of ours has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    """Kill what is left of a group; on some systems one that has ended may not be signalled."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child does before it becomes its program, or None where the kernel knows no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before
