"""`zhiwang adapter retention`: a year of an owner's log goes, with what the store's other tables say of it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.cli import app
from adapters.installation import state_files
from adapters.store import create_store, open_store
from audit.origins import position
from certs.credentials import IdentityFiles
from certs_support import City
from yearly_support import Calendar, append
from zhiwang.wire.profile import Profile, load_profile


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """An adapter whose first log is of 2015, and whose index names an entry of it and one of this year."""
    (tmp_path / "city").mkdir()
    city = City.create(tmp_path / "city")
    city.enrol("hrss/adapter/main")
    file = tmp_path / "adapter.toml"
    file.write_text(
        f'root = "{city.root}"\nidentity = "{city.path("hrss/adapter/main")}"\nstate = "state"\n'
        '[adapter]\nmapping = "mapping.toml"\ndocument = "document.toml"\n[retention]\nyears = 3\n'
    )
    loaded = load_profile(file)
    files, state, clock = IdentityFiles(loaded.identity, loaded.root), state_files(loaded), Calendar("2015-06-01")
    log = create_store(state, files.signer(), clock=clock)
    append(log, 20)
    clock.set("2016-02-01")
    append(log, 1)
    clock.now = time.time()
    newest = append(log, 1)
    log.close()
    log.engine.dispose()
    with closing(sqlite3.connect(state.store)) as store, store:
        rows = [(2015, bytes(16), position(0, 7), 1), (2026, bytes(16), newest.position, 1)]
        store.executemany("INSERT INTO trace (year, subject, entry, part) VALUES (?, ?, ?, ?)", rows)
    for year in (2015, 2026):
        (state.keys / f"trace-{year}.key").write_bytes(bytes(32))
    return loaded


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(profile: Profile) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["retention", "--profile", str(profile.path), *arguments])
        return done.exit_code, done.stdout

    return run


def test_a_year_goes_with_its_rows_of_the_index_and_the_key_that_nothing_needs(profile: Profile, run: Run) -> None:
    state = state_files(profile)
    status, told = run("--json")
    first, second = json.loads(told)["logs"]
    assert (status, first["size"], first["fate"], second["fate"]) == (0, 21, "due", "kept")
    status, told = run("--apply")
    assert status == 1
    assert "--exported" in told
    status, told = run("--apply", "--no-copy", "the archive says so", "--json")
    assert status == 0
    assert [one["fate"] for one in json.loads(told)["logs"]] == ["removed", "kept"]
    with closing(sqlite3.connect(state.store)) as store:
        assert store.execute("SELECT year FROM trace").fetchall() == [(2026,)]
        names = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    assert "log_entry" not in names
    assert "log_entry_2016" in names
    assert {path.name for path in state.keys.glob("trace-*.key")} == {"trace-2026.key"}
    files = IdentityFiles(profile.identity, profile.root)
    log = open_store(state, files.signer())
    log.verify_all()
    log.close()
    log.engine.dispose()


def test_nothing_is_recorded_in_a_store_that_was_rolled_back(profile: Profile, run: Run) -> None:
    state = state_files(profile)
    note = state.guard.read_bytes()
    state.guard.write_bytes(note.replace(b"\n2\n", b"\n9\n", 1))
    assert state.guard.read_bytes() != note
    status, told = run("--apply", "--no-copy", "x")
    assert status != 0
    assert "removed" not in told
    with closing(sqlite3.connect(state.store)) as store:
        assert store.execute("SELECT count(*) FROM log_shard_removed").fetchone() == (0,)
        assert store.execute("SELECT count(*) FROM log_entry").fetchone() == (21,)
