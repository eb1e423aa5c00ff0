"""docs/join.md, followed word by word: files written as they stand there, commands run as they stand there.

What the page leaves to its reader is given here: a database with a table of insured persons. Ports that something else
on this machine has taken are changed in the whole page.
"""

from __future__ import annotations

import shlex
import sqlite3
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapter_support import resident
from page_support import Reader, with_free_ports
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


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """An empty directory, and nothing left behind."""
    reader = Reader(tmp_path / "empty")
    reader.directory.mkdir()
    yield reader
    reader.close()


def page_for_this_machine() -> str:
    """The page, with other ports where one of its own is taken."""
    return with_free_ports(PAGE.read_text("utf-8"), PORTS)


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
