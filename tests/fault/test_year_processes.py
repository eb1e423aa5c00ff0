"""Processes that share a log while its year turns, as several hubs do: one begins the new year, and nobody loses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import audit_support as support
import yearly_support as years
from log_appenders import Appender, appending
from log_places import Place, PostgresDatabase, SqliteFile
from yearly_support import Calendar
from zhiwang.wire import merkle

LOG = support.HUB.log_origin
OLD, NEW = "2021-12-31", "2022-01-01"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    in_file = request.param == "sqlite"
    place = SqliteFile(tmp_path / "log.db") if in_file else PostgresDatabase(request.getfixturevalue("postgresql"))
    yield place
    place.drop()


def told(clock: Path, text: str) -> None:
    """Set the clock of all of them, in one step."""
    beside = clock.with_suffix(".new")
    beside.write_text(text)
    beside.replace(clock)


def test_of_processes_that_share_a_log_one_turns_the_year_and_no_acknowledged_entry_is_lost(
    place: Place, tmp_path: Path
) -> None:
    years.close(years.make(place, Calendar(OLD)))
    clock = tmp_path / "clock"
    told(clock, OLD)
    where = str(place.path) if isinstance(place, SqliteFile) else ""
    where = place.url() if isinstance(place, PostgresDatabase) else where
    said: list[bytes] = []

    def read(appender: Appender, origin: str) -> None:
        """Follow one until it was acknowledged something in a log."""
        while True:
            line = appender.read()
            assert line, "it ended: its log has stopped"
            said.append(line)
            if line.startswith(origin.encode() + b" "):
                return

    with ExitStack() as stack:
        appenders = []
        for number in range(3):
            # Each has a key of its own under the one name, as hubs that share a log have.
            pem = tmp_path / f"{number}.pem"
            support.write_signer(pem, number=number)
            appenders.append(stack.enter_context(appending(where, pem, clock, 3)))
        for appender in appenders:
            read(appender, LOG)
        told(clock, NEW)
        read(appenders[0], f"{LOG}/2022")
        said += appenders[1].kill()  # wherever it is: before, in or after its own turn
        for appender in (appenders[0], appenders[2]):
            for _ in range(3):
                read(appender, f"{LOG}/2022")
        told(clock, "stop")
        said += [*appenders[0].finish(), *appenders[2].finish()]
    check(place, said)


def check(place: Place, said: list[bytes]) -> None:
    """There are two logs, the second goes on from the first, and all that was acknowledged is where it was said."""
    assert years.check(place) == [f"{LOG}/2022", LOG]
    log = years.reopen(place, Calendar(NEW))
    found = 0
    for line in said:
        origin, first, hashes = line.decode().split()
        entries = log.shard(origin).entries(int(first), len(hashes.split(",")))
        assert [merkle.leaf_hash(entry).hex() for entry in entries] == hashes.split(",")
        found += len(entries)
    stored = sum(store.newest.size for store in log.shards())
    # Each log's first entry, and what was committed by who was killed before it could say so.
    assert 0 <= stored - found - 2 <= 3
    years.close(log)
