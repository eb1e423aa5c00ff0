"""Two hub processes over one log in PostgreSQL while the year turns, by a clock that all processes share."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from log_places import PostgresDatabase
from moved_clock import environment_at, said_by
from servers import Server

EVE = datetime.fromisoformat("2026-12-31T20:00:00+08:00")
"""Of a year in which what the examples grant holds, on both sides of midnight."""


@pytest.mark.timeout(600)  # two hubs, two owners, an agent and a registrar start, and a year ends
def test_two_hubs_over_one_log_go_on_together_into_the_new_year(postgresql: Server, tmp_path: Path) -> None:
    environment, clock = environment_at(EVE, tmp_path)
    place = PostgresDatabase(postgresql)
    place.create_empty()
    try:
        said = said_by("new_year_hubs.py", tmp_path, place.url(), clock, environment=environment)
    finally:
        place.drop()
    told = json.loads(said)
    old, new = told["log"], f"{told['log']}/2027"
    assert (told["before"], told["after"]) == ([old, old], [new, new])
    assert told["receipts"] == [2] * 7
    # Each case is a request to each of two owners; what was asked again on the way may have left more.
    assert told["found"].keys() == {old, new}
    assert told["found"][old] >= 6
    assert told["found"][new] >= 2
