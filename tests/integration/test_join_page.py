"""docs/join.md, followed word by word: files written as they stand there, commands run as they stand there.

What the page leaves to its reader is given here: a database with a table of insured persons. Ports that something else
on this machine has taken are changed in the whole page.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapter_support import resident
from servers import Server, fresh_name

PAGE = Path(__file__).parents[2] / "docs" / "join.md"
ZHIWANG = Path(sysconfig.get_path("scripts")) / "zhiwang"
PORTS = (7440, 7441, 7442, 7443, 7542)
SUBJECT = "440399199001010018"
URL = "sqlite:///insurance.db"
MOST_COMMANDS = 15
TABLE = "CREATE TABLE insured (id_card CHAR(18) PRIMARY KEY, full_name VARCHAR(50), region CHAR(6), months INTEGER)"
PEOPLE = [(SUBJECT, "安娜", "440306", 30), *((resident(number), "某人", "440305", number) for number in range(2, 400))]
START_SECONDS = 100.0

pytestmark = pytest.mark.timeout(400)  # nineteen processes, and the machine may have other work


@dataclass
class Reader:
    """Somebody who does what the page says, in an empty directory.

    Attributes:
        directory: Theirs.
        commands: How many they have typed.
        running: Processes that run in the background.
    """

    directory: Path
    commands: int = 0
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def follow(self, page: str) -> str:
        """Do everything; what the last command printed."""
        said = ""
        for text, language, block in re.findall(r"(.*?)^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
            if language == "toml":
                *_, name = re.findall(r"`([\w/-]+\.toml)`", text)
                path = self.directory / name
                adding = "Add to" in text
                assert adding or not path.exists(), f"{name} is there already"
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
        log = (self.directory / f"{words[1]}.log").open("wb")
        with log:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [ZHIWANG, *words[1:-1]], cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        self.running.append(process)
        profile = self.directory / words[words.index("--profile") + 1]
        (state,) = re.findall(r'^state +=? *"(.*)"', profile.read_text("utf-8"), re.MULTILINE)
        address = profile.parent / state / "address.json"
        eventually(lambda: address.exists() or process.poll() is not None)
        assert process.poll() is None, (self.directory / f"{words[1]}.log").read_text("utf-8")
        return ""


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """An empty directory, and nothing left behind."""
    reader = Reader(tmp_path / "empty")
    reader.directory.mkdir()
    yield reader
    for process in reversed(reader.running):
        os.killpg(process.pid, signal.SIGTERM)
    for process in reader.running:
        assert process.wait(60) == 0


def page_for_this_machine() -> str:
    """The page, with other ports where one of its own is taken."""
    page = PAGE.read_text("utf-8")
    if not all(_is_free(port) for port in PORTS):
        for port in PORTS:
            page = page.replace(str(port), str(_any_free()))
    return page


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def make_sqlite(directory: Path) -> None:
    connection = sqlite3.connect(directory / "insurance.db")
    connection.execute(TABLE)
    connection.executemany("INSERT INTO insured VALUES (?, ?, ?, ?)", PEOPLE)
    connection.commit()
    connection.close()


def test_the_page_leads_from_an_empty_directory_to_the_first_answer(
    reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sqlite(reader.directory)
    began = time.monotonic()
    answer = reader.follow(page_for_this_machine())
    took = time.monotonic() - began
    assert "YES" in answer
    assert reader.commands <= MOST_COMMANDS
    with capsys.disabled():
        print(f"\ndocs/join.md: {reader.commands} commands, {took:.0f} s of the machine's time")  # noqa: T201 - measured
    for name in ("hub.log", "adapter.log", "agent.log", "registrar.log"):
        assert SUBJECT not in (reader.directory / name).read_text("utf-8")


@pytest.fixture
def insurance(postgresql: Server) -> Iterator[str]:
    """Address of a database that was there before; removed once its readers have ended."""
    name = fresh_name()
    postgresql.create(name)
    postgresql.execute(name, TABLE, rows={"insured": PEOPLE})
    yield postgresql.url(name)
    postgresql.drop(name)


def test_the_page_leads_to_the_first_answer_out_of_a_postgresql(insurance: str, reader: Reader) -> None:
    page = page_for_this_machine()
    assert page.count(URL) == 1
    assert "YES" in reader.follow(page.replace(URL, shlex.quote(insurance)))
