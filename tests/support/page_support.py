"""A page of the documentation, followed word by word: files written and commands run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

ZHIWANG = Path(sysconfig.get_path("scripts")) / "zhiwang"
START_SECONDS = 100.0


@dataclass
class Reader:
    """Somebody who does what the page says, in an empty directory.

    Attributes:
        directory: Theirs.
        commands: How many they have typed.
        running: Processes that run in the background, by their noun.
    """

    directory: Path
    commands: int = 0
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def follow(self, page: str) -> str:
        """Do everything; what the last command printed."""
        said = ""
        for text, language, block in re.findall(r"(.*?)^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
            if language == "toml":
                *_, name = re.findall(r"`([\w/-]+\.toml)`", text)
                path = self.directory / name
                adding, anew = "Add to" in text, " anew" in text
                assert adding or anew or not path.exists(), f"{name} is there already"
                path.write_text((path.read_text("utf-8") if adding else "") + "\n" + block, "utf-8")
            for line in block.splitlines() if language == "sh" else ():
                said = self.type(line)
        return said

    def type(self, line: str) -> str:
        """One command; one that ends with & goes on, and the reader waits until it serves."""
        self.commands += 1
        words = shlex.split(line)
        assert words[0] == "zhiwang"
        if words[-1] != "&":
            done = subprocess.run(  # noqa: S603 - our own command
                [ZHIWANG, *words[1:]], cwd=self.directory, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            return done.stdout
        self.end(words[1])
        log = (self.directory / f"{words[1]}.log").open("ab")
        with log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [ZHIWANG, *words[1:-1]], cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        self.running[words[1]] = process
        profile = self.directory / words[words.index("--profile") + 1]
        (state,) = re.findall(r'^state +=? *"(.*)"', profile.read_text("utf-8"), re.MULTILINE)
        address = profile.parent / state / "address.json"
        eventually(lambda: address.exists() or process.poll() is not None)
        assert process.poll() is None, (self.directory / f"{words[1]}.log").read_text("utf-8")
        return ""

    def end(self, noun: str) -> None:
        """Stop a process as Ctrl-C does; nothing if it does not run."""
        process = self.running.pop(noun, None)
        if process is not None:
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(60) == 0, noun

    def close(self) -> None:
        """Leave nothing behind."""
        for noun in reversed(list(self.running)):
            self.end(noun)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def with_free_ports(page: str, ports: Sequence[int]) -> str:
    """The page, with other ports where one of its own is taken."""
    if not all(_is_free(port) for port in ports):
        for port in ports:
            page = page.replace(str(port), str(free_port()))
    return page


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
