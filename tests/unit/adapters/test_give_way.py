"""One connection to a department's database: a person at a counter waits for one statement of a roster, not for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapter_support import make_database
from adapters.database import Connections, DatabaseError, connect_to
from adapters.mapping import Database

READ = "SELECT n FROM load"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Connections]:
    make_database(tmp_path / "data.db", "CREATE TABLE load (n)", {"load": [(1,)]})
    connections = connect_to(Database(url="sqlite:///file:data.db?mode=ro&uri=true", connections=1), tmp_path)
    yield connections
    connections.close()


@pytest.fixture
def counter() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_whoever_stands_at_a_counter_goes_before_the_next_statement_of_a_roster(
    one: Connections, counter: ThreadPoolExecutor
) -> None:
    order: list[str] = []

    def ask() -> None:
        with one.lend() as lent:
            lent.fetch(READ)
            order.append("person")

    with one.lend(bulk=True) as roster:
        for number in range(3):
            roster.fetch(READ)
            order.append(f"roster {number}")
            asking = counter.submit(ask)
            until(lambda: one.turns.awaited)
            roster.fetch(READ)
            assert asking.done() or order[-1] == "person"
            asking.result(60)
    assert order == ["roster 0", "person", "roster 1", "person", "roster 2", "person"]


def test_a_roster_waits_while_a_person_has_the_connection(one: Connections, counter: ThreadPoolExecutor) -> None:
    def ask() -> list[object]:
        with one.lend(bulk=True) as lent:
            return lent.fetch(READ)

    with one.lend() as person:
        asking = counter.submit(ask)
        for _ in range(3):
            person.fetch(READ)
            assert not asking.done()
    assert asking.result(60) == [(1,)]


def test_a_roster_that_gave_way_does_not_mix_what_it_read_with_another_load(
    one: Connections, counter: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def ask() -> list[object]:
        with one.lend() as lent:
            return lent.fetch(READ)

    with one.lend(bulk=True) as roster:
        assert roster.fetch(READ) == [(1,)]
        make_database(tmp_path / "new.db", "CREATE TABLE load (n)", {"load": [(2,)]}).rename(tmp_path / "data.db")
        assert roster.fetch(READ) == [(1,)], "nobody waits, so it goes on with what it has"
        asking = counter.submit(ask)
        until(lambda: one.turns.awaited)
        with pytest.raises(DatabaseError):
            roster.fetch(READ)
    assert asking.result(60) == [(2,)]
    # No turn was lost, and none was made.
    with one.lend(bulk=True) as lent:
        assert lent.fetch(READ) == [(2,)]
        asking = counter.submit(ask)
        until(lambda: one.turns.awaited)
    assert asking.result(60) == [(2,)]
