"""Two processes of an adapter over one PostgreSQL while the year turns, one killed, by a clock that all share."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from adapters.postgres_store import STORE
from audit.schema import TABLES
from log_places import PostgresDatabase
from moved_clock import environment_at, said_by
from servers import Server

EVE = datetime.fromisoformat("2026-12-31T23:52:00+08:00")
"""Within the ten minutes for which a client keeps to one replica's key."""
NAMES_CAP = 5


@pytest.mark.timeout(600)  # a hub and two replicas start, one of them twice, and a year ends
def test_two_replicas_go_on_into_the_new_year_and_one_that_is_killed_loses_and_doubles_nothing(
    postgresql: Server, tmp_path: Path
) -> None:
    environment, clock = environment_at(EVE, tmp_path)
    place, home = PostgresDatabase(postgresql, STORE), tmp_path / "home"
    postgresql.execute("", f"CREATE DATABASE {place.name} TEMPLATE template0")
    place.install(TABLES)
    home.mkdir()
    try:
        said = said_by("new_year_replicas.py", home, postgresql.directory, place.name, clock, environment=environment)
    finally:
        place.drop()
    told = json.loads(said)
    assert told["years"] == [0, 2027]
    # What was answered is in one of the two logs, once, and nothing of the new year is in the old one.
    assert (told["missing"], told["twice"], told["late_in_old"]) == (0, 0, 0), told
    assert told["acknowledged"] >= 40
    assert told["in_new"] >= 20
    # Beside each entry stand its reply and whom it was about, whichever log it is in.
    assert (told["untraced"], told["stray_replies"]) == (0, 0), told
    assert told["replies"] > 0
    # The same bytes get the same reply in the new year, from the log that ended; whoever was killed says nothing.
    assert "another" not in told["again"]
    assert "same" in told["again"] or set(told["again"]) & {"LATE", "REQUEST_EXPIRED"}, told
    # Guesses of the old year stay spent, whichever replica is asked.
    assert (told["unknown_before"], told["unknown_after"]) == (3, NAMES_CAP - 3)
    assert told["spent_after"] == 2 * (4 - told["unknown_after"])
    assert told["guesses"] == NAMES_CAP + 1
