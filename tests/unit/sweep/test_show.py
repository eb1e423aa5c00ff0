"""What a person sees of a running sweep: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

SCRIPT = """
from types import SimpleNamespace
from exchange.cli import sweep_show
from exchange.sweep.journal import State
sweep_show.LINE_SECONDS = 0.0
tally = {State.OPEN: 800_000, State.ANSWERED: 190_000, State.DENIED: 0, State.REFUSED: 12}
with sweep_show.Screen() as screen:
    screen._began -= 200
    screen.show(SimpleNamespace(tally=tally, waiting=3, settled=190_000))
"""
ENVIRONMENT = {"TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
"""Without what a tester's own terminal says of its size and colours."""


def run(terminal: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", SCRIPT], stdin=terminal, stdout=terminal, stderr=terminal, env=environment | ENVIRONMENT
    ) as process:
        os.close(terminal)
        assert process.wait(100) == 0


@pytest.mark.parametrize("columns", [80, 132])
def test_on_a_terminal_bar_rate_counts_and_time_left_are_all_within_its_width(columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    run(theirs)
    text = _everything(ours)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("190,012/990,012 行 rows")[-1]
    assert re.search(r"9\d\d/s  剩余 left 0:1\d:\d\d ━", last)
    for said in ("答复 ANSWERED 190,000", "未获准 DENIED 0", "暂不可用 UNAVAILABLE 3", "不能核验 NOT_ASKED 12"):
        assert said in last
    assert "…" not in last


def test_where_there_is_no_terminal_a_line_says_the_same() -> None:
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=os.environ | ENVIRONMENT,
        timeout=100,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"190,012/990,012 行 rows  9\d\d/s  剩余 left 0:1\d:\d\d  答复 ANSWERED 190,000  未获准 DENIED 0  "
        r"暂不可用 UNAVAILABLE 3  不能核验 NOT_ASKED 12",
        line,
    )
    assert done.stdout == ""


def _everything(terminal: int) -> str:
    found = b""
    try:
        while part := os.read(terminal, 1 << 16):
            found += part
    except OSError as error:
        # How Linux tells that nobody has the other end any more.
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(terminal)
    return found.decode()
