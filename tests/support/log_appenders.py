"""Processes that append to a log, to be killed or to compete: how a test starts, follows and ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import audit_support as support

APPENDER = Path(support.__file__).with_name("audit_appender.py")
YEARLY = APPENDER.with_name("yearly_appender.py")


class Appender:
    """The process of audit_appender.py, or of yearly_appender.py.

    Args:
        where: File or URL of the log.
        pem: Key and certificate of who signs.
        until: How many groups to append, for ever if 0; or the file that says the time and when to stop.
        group: Entries of each.
    """

    def __init__(self, where: str, pem: Path, until: int | Path, group: int) -> None:
        program = APPENDER if isinstance(until, int) else YEARLY
        command = [sys.executable, str(program), where, str(pem), str(until), str(group)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - ours
        assert self.read() == b"open\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def read(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> list[bytes]:
        """Kill it; returns what it had still said."""
        self.process.send_signal(signal.SIGKILL)
        return self._rest()

    def finish(self) -> list[bytes]:
        """Let it end; returns what it still says."""
        lines = self._rest()
        assert self.process.returncode == 0
        return lines

    def _rest(self) -> list[bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # Not communicate(): that would read past what `read` has buffered.
        with self.process.stdin, self.process.stdout:
            lines = self.process.stdout.read().splitlines()
        self.process.wait(60)
        return lines


@contextmanager
def appending(where: str, pem: Path, until: int | Path, group: int) -> Iterator[Appender]:
    """An appender that appends, and is surely gone at the end."""
    appender = Appender(where, pem, until, group)
    try:
        appender.go()
        yield appender
    finally:
        if appender.process.poll() is None:
            appender.kill()
