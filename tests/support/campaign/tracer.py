"""strace as the campaign uses it: it lists the system calls of a process, and makes chosen ones fail or kill.

strace counts for each thread by itself, so the n-th call of a name is the same one in every run of the same work.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

WRITING: Final = (
    "openat", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate", "rename",
    "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "mmap", "chmod", "fchmod",
)  # fmt: skip
"""Calls that a full disk fails as well."""
READING: Final = (
    "read", "pread64", "lseek", "fcntl", "flock", "newfstatat", "stat", "fstat", "lstat", "statx", "access",
    "getdents64", "rmdir", "close", "munmap", "msync",
)  # fmt: skip
SPEAKING: Final = "sendto"
"""How the process under test tells what it was promised; nothing that it does with files makes this call."""

_ATTACHED: Final = 60.0
_CALL = re.compile(r"^(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$", re.DOTALL)
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


class MissingError(Exception):
    """There is no strace here, or it may not trace."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault: the `number`-th call of a name, in whichever thread, fails with `error` or kills the process.

    Attributes:
        call: Name of the system call.
        number: Which one, from 1.
        error: `EIO`, `ENOSPC`, …; empty to kill the process before the call takes place.
        lasting: Also every later one.
    """

    call: str
    number: int
    error: str = ""
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.number}{' and on' if self.lasting else ''}: {self.error or 'SIGKILL'}"

    @property
    def options(self) -> list[str]:
        """For strace."""
        what = f"error={self.error}" if self.error else "signal=KILL"
        return ["-e", f"inject={self.call}:{what}:when={self.number}{'+' if self.lasting else ''}"]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a trace.

    Attributes:
        thread: Whose.
        name: Of the system call.
        text: Arguments and result, as far as they stand on this line.
        begins: Whether the call begins here.
        ends: Whether it ends here.
    """

    thread: int
    name: str
    text: str
    begins: bool
    ends: bool

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was asked to, as far as this line tells."""
        result = self.text.rpartition(" = ")[2]
        return self.ends and result[:1].isdigit()


@lru_cache(maxsize=1)
def reason_missing() -> str:
    """Why nothing can be traced here; empty if it can."""
    if sys.platform != "linux":
        return "system calls are traced on Linux only"
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, timeout=60, check=False)  # noqa: S607 - found on the path
    return "" if tried.returncode == 0 else "strace may not trace here (ptrace is forbidden)"


class Tracer:
    """strace, attached to a process until that ends.

    Args:
        pid: Of the process; all of its threads are traced.
        output: Where the trace goes.
        strike: The fault; None to look only.
        whole: Whether the data of calls is wanted too.

    Raises:
        MissingError: It cannot be attached.
    """

    def __init__(self, pid: int, output: Path, strike: Strike | None = None, *, whole: bool = False) -> None:
        traced = ",".join(f"?{name}" for name in (*WRITING, *READING, SPEAKING))
        command = ["strace", "-f", "-y", "-p", str(pid), "-o", str(output), "-e", f"trace={traced}"]
        command += ["-xx", "-s", "100000000"] if whole else ["-s", "0"]
        command += [] if strike is None else strike.options
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        if "attached" not in line:
            self.wait()
            raise MissingError(line.strip())

    def wait(self) -> None:
        """Until the traced process has ended."""
        assert self._process.stderr is not None
        with self._process.stderr:
            self._process.wait(_ATTACHED)

    def let_go(self) -> None:
        """Leave the traced process to itself, if it has not ended."""
        self._process.terminate()
        self.wait()


def read_trace(path: Path) -> Iterator[Call]:
    """The calls of a trace, in their order."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            found = _CALL.match(line.rstrip("\n"))
            if found is None:
                continue
            thread, name, text, resumed, rest = found.groups()
            ends = not (text or "").endswith("<unfinished ...>")
            if name is not None:
                yield Call(int(thread), name, text, begins=True, ends=ends)
            else:
                yield Call(int(thread), resumed, rest, begins=False, ends=True)


def plain(text: str) -> bytes:
    """What strace has written as \\x…, as bytes."""
    return _HEX.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("latin-1"), text).encode("latin-1")


def touching(calls: Sequence[Call], directory: Path) -> dict[str, set[int]]:
    """Which calls of which name touch files of a directory: numbers as strace counts, of any thread."""
    counted: dict[tuple[int, str], int] = {}
    found: dict[str, set[int]] = {}
    for call in calls:
        if not call.begins:
            continue
        number = counted[call.thread, call.name] = counted.get((call.thread, call.name), 0) + 1
        if str(directory) in call.text and call.name != SPEAKING:
            found.setdefault(call.name, set()).add(number)
    return found
