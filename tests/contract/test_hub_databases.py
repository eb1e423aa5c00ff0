"""A hub's log in PostgreSQL, from its administrator's script on: begun, joined, backed up, restored and moved."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

import audit_support as support
from audit.doctor import diagnose
from audit.entry import decode_entry
from audit.holds import Hold
from audit.origins import shard_of, year_at
from audit.places import database_script, removal_script
from audit.query import EVERYTHING, Query
from audit.search import SearchIndex, SearchIndexes
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.signing import Signer
from certs_support import City
from exchange import app, backup
from exchange.config import StateFiles
from exchange.store import lenient, open_engine, open_log
from log_places import PostgresDatabase
from servers import Server
from yearly_support import Calendar
from zhiwang.wire.errors import FatalError
from zhiwang.wire.profile import Profile, load_profile

ZHIWANG = Path(sys.executable).parent / "zhiwang"
OWNER_LOG = b'{"origin": "shenzhen/hrss/adapter/main", "size": 7}'


class Machine:
    """A city, one database, and profiles of hubs."""

    def __init__(self, path: Path, server: Server) -> None:
        self.path = path
        (path / "city").mkdir()
        self.city = City.create(path / "city")
        self.place = PostgresDatabase(server)
        server.execute("", f"CREATE DATABASE {self.place.name} TEMPLATE template0")
        # Accounts are the server's; other tests may have made this one, or not yet.
        server.execute(
            "",
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hub') "
            "THEN CREATE ROLE hub LOGIN; END IF; END $$",
        )

    def profile(self, name: str, *, hub: str = "main", database: bool = True) -> Profile:
        """Of a hub with a state directory of this name."""
        short = f"centre/hub/{hub}"
        if not self.city.path(short).exists():
            self.city.enrol(short)
        file = self.path / f"{name}.toml"
        log = f'[log]\nurl = "{self.place.url()}"\n' if database else ""
        file.write_text(
            f'root = "{self.city.root}"\nidentity = "{self.city.path(short)}"\nstate = "{self.path / name}"\n{log}'
        )
        return load_profile(file)

    @staticmethod
    def zhiwang(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [ZHIWANG, "hub", "init", *arguments], capture_output=True, text=True, check=False, timeout=60
        )

    def sign_off(self, profile: Profile) -> None:
        """What the administrator does."""
        self.place.run(database_script(profile.log))


@pytest.fixture
def machine(tmp_path: Path, postgresql: Server) -> Iterator[Machine]:
    machine = Machine(tmp_path, postgresql)
    yield machine
    machine.place.drop()


def opened(profile: Profile) -> YearlyLog:
    return open_log(IdentityFiles(profile.identity, profile.root), StateFiles(profile.state), profile.log)


def signer_of(profile: Profile) -> Signer:
    return IdentityFiles(profile.identity, profile.root).signer()


def append(profile: Profile, count: int) -> None:
    store = opened(profile)
    support.append(store, count)
    support.close(store)


def size(profile: Profile) -> int:
    store = opened(profile)
    support.close(store)
    return store.newest.size


def test_a_log_begins_once_its_administrator_has_run_the_script(machine: Machine) -> None:
    profile = machine.profile("hub")
    with pytest.raises(FatalError, match="the script that `zhiwang hub init --sql` prints"):
        app.init(profile)
    script = machine.zhiwang("--sql", "--profile", str(profile.path)).stdout
    assert script == database_script(profile.log)
    assert 'CREATE ROLE "hub" LOGIN' in script
    assert "password" not in script.replace("sets no password", "").replace("so that the password", "").replace(
        "\\password hub", ""
    )
    machine.sign_off(profile)
    app.init(profile)
    assert size(profile) == 1
    with pytest.raises(FatalError, match="remembers a log"):
        app.init(profile)
    with pytest.raises(FatalError, match="holds a log already"):
        app.init(machine.profile("other"))
    assert size(profile) == 1


def test_a_log_that_has_not_begun_does_not_run(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.make_state(StateFiles(profile.state))
    StateFiles(profile.state).guard.touch()
    with pytest.raises(FatalError, match="no log yet; run the `init`"):
        opened(profile)


def test_the_ways_to_begin_exclude_each_other(machine: Machine) -> None:
    profile = machine.profile("hub")
    assert machine.zhiwang("--sql", "--join", "--profile", str(profile.path)).returncode == 2
    assert machine.zhiwang("--year", "2037", "--profile", str(profile.path)).returncode == 2
    in_file = machine.profile("file", database=False)
    refused = machine.zhiwang("--sql", "--profile", str(in_file.path))
    assert refused.returncode == 1
    assert "names no database" in refused.stderr


def test_a_second_hub_joins_and_has_a_guard_of_its_own(machine: Machine) -> None:
    first, second = machine.profile("first"), machine.profile("second")
    machine.sign_off(first)
    with pytest.raises(FatalError, match="no log yet"):
        app.init(second, join=True)
    app.init(first)
    append(first, 5)
    app.init(second, join=True)
    append(second, 2)
    assert size(first) == size(second) == 8
    with pytest.raises(FatalError, match="remembers a log"):
        app.init(second, join=True)
    with pytest.raises(FatalError, match="belongs to one hub"):
        app.init(machine.profile("alone", database=False), join=True)


def test_only_hubs_of_one_name_share_a_log(machine: Machine) -> None:
    first, other = machine.profile("first"), machine.profile("other", hub="other")
    machine.sign_off(first)
    app.init(first)
    with pytest.raises(FatalError, match="does not open the log shenzhen/centre/hub/other"):
        app.init(other, join=True)


def test_a_log_goes_back_into_an_empty_database_and_not_over_what_others_have_seen(
    machine: Machine, postgresql: Server
) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.init(profile)
    (profile.state / "owner_logs" / "hrss_main.json").write_bytes(OWNER_LOG)
    append(profile, 700)
    older, newest = machine.path / "older.tar", machine.path / "newest.tar"
    backup.back_up_hub(profile, older)
    append(profile, 3)
    backup.back_up_hub(profile, newest)

    # The database is lost, and the state but for its guard.
    guard = StateFiles(profile.state).guard.read_bytes()
    machine.place.drop()
    (machine.path / "hub").rename(machine.path / "lost")
    postgresql.execute("", f"CREATE DATABASE {machine.place.name} TEMPLATE template0")
    machine.sign_off(profile)
    guarded = StateFiles(profile.state).guard
    guarded.parent.mkdir(parents=True)
    guarded.write_bytes(guard)
    with pytest.raises(FatalError, match="701 entries, but its guard has seen 704: it must not be signed over"):
        backup.restore_hub(profile, older, ())
    assert backup.restore_hub(profile, newest, ()).size == 704
    assert (profile.state / "owner_logs" / "hrss_main.json").read_bytes() == OWNER_LOG
    assert not StateFiles(profile.state).log.exists()
    append(profile, 1)
    assert size(profile) == 705


def test_a_database_that_was_put_back_has_to_reach_the_backup_by_itself(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.init(profile)
    append(profile, 10)
    tar = machine.path / "hub.tar"
    backup.back_up_hub(profile, tar)
    append(profile, 4)
    guard = StateFiles(profile.state).guard
    newer = guard.read_bytes()
    (machine.path / "hub").rename(machine.path / "lost")
    guard.parent.mkdir(parents=True)
    guard.write_bytes(newer)
    # The database is there, newer than the backup: it stays as it is, and everything else comes from the backup.
    assert backup.restore_hub(profile, tar, ()).size == 15
    assert size(profile) == 15


def test_a_hub_moves_from_its_file_into_a_database_by_its_backup(machine: Machine) -> None:
    before = machine.profile("before", database=False)
    app.init(before)
    append(before, 600)
    tar = machine.path / "hub.tar"
    backup.back_up_hub(before, tar)
    after = machine.profile("after")
    machine.sign_off(after)
    guard = StateFiles(after.state).guard
    guard.parent.mkdir(parents=True)
    guard.write_bytes(StateFiles(before.state).guard.read_bytes())
    backup.restore_hub(after, tar, ())
    append(after, 2)
    store = opened(after)
    assert store.verify_all().size == 603
    support.close(store)
    # And back.
    back = machine.path / "back.tar"
    backup.back_up_hub(after, back)
    (machine.path / "before").rename(machine.path / "old")
    guard = StateFiles(before.state).guard
    guard.parent.mkdir(parents=True)
    guard.write_bytes(StateFiles(after.state).guard.read_bytes())
    backup.restore_hub(before, back, ())
    append(before, 1)
    assert size(before) == 604


def test_fsck_finds_in_a_database_what_its_triggers_did_not_stop(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.init(profile)
    append(profile, 600)
    store = LogStore(machine.place.open(), "shenzhen/centre/hub/main", signer_of(profile))
    store.open()
    index = SearchIndex(StateFiles(profile.state).search, store)
    while index.follow():
        pass
    index.close()
    support.close(store)

    def fsck() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [ZHIWANG, "audit", "fsck", "--profile", str(profile.path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    whole = fsck()
    assert whole.returncode == 0, whole.stdout + whole.stderr
    with machine.place.raw("postgres") as connection:
        connection.execute("ALTER TABLE zhiwang.log_entry DISABLE TRIGGER ALL")
        connection.execute("UPDATE zhiwang.log_entry SET data = data || '\\x00' WHERE idx = 3")
        for name in ("never", "next", "newest"):
            connection.execute(f"ALTER TABLE zhiwang.log_entry ENABLE ALWAYS TRIGGER log_entry_{name}".encode())
    changed = fsck()
    assert changed.returncode == 1
    assert "entry 3" in changed.stdout + changed.stderr or " 3 " in changed.stdout + changed.stderr


def old_log(profile: Profile) -> YearlyLog:
    """A hub's log of 2015 and of 2016, as it stands today."""
    files, state = IdentityFiles(profile.identity, profile.root), StateFiles(profile.state)
    app.make_state(state)
    clock = Calendar("2015-06-01")
    engine = open_engine(state, profile.log, create=profile.log is None)
    log = YearlyLog(engine, files.signer(), clock, guard=state.guard, verifier=lenient(files))
    log.create()
    for day in ("2015-07-01", "2016-03-01"):
        clock.set(day)
        support.append(log, 40)
    clock.now = time.time() - 60
    support.append(log, 2)
    support.close(log)
    return log


def audit(profile: Profile, *arguments: str, status: int = 0) -> str:
    """What `zhiwang audit` says about a hub's own log."""
    command, *rest = arguments
    done = subprocess.run(  # noqa: S603 - our own command
        [ZHIWANG, "audit", command, "--profile", str(profile.path), *rest],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def index(profile: Profile) -> None:
    """Let the search databases follow the logs to their ends."""
    log = opened(profile)
    indexes = SearchIndexes(StateFiles(profile.state).search, log)
    while indexes.follow():
        pass
    indexes.close()
    support.close(log)


def test_one_years_log_of_a_database_is_computed_again_by_itself(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    machine.place.run(database_script(profile.log, [2016]))
    log = old_log(profile)
    index(profile)
    present = str(year_at(time.time()))
    for shard in ("first", "2016", present):
        facts = json.loads(audit(profile, "fsck", "--shard", shard, "--json"))
        assert (shard_of(facts["origin"]), facts["fault_count"]) == (shard, 0)
        assert facts["search_entries"] == facts["entries"] > 2
    assert json.loads(audit(profile, "fsck", "--json"))["origin"] == log.origin

    def harm(connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE zhiwang.log_entry_2016 SET data = data || '\\x00' WHERE idx = 2")

    machine.place.unlocked(harm)
    assert json.loads(audit(profile, "fsck", "--shard", "first", "--json"))["fault_count"] == 0
    harmed = json.loads(audit(profile, "fsck", "--shard", "2016", "--json", status=1))
    assert 2 in {fault["index"] for fault in harmed["faults"]}


def test_a_log_that_does_not_reach_its_guard_is_told_by_fsck(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.init(profile)
    older = machine.place.copy()
    append(profile, 3)
    index(profile)
    assert json.loads(audit(profile, "fsck", "--json"))["size"] == 4
    machine.place.replace(older)
    told = json.loads(audit(profile, "fsck", "--json", status=1))
    assert told["size"] == 1
    assert "older than the one that was kept: 1 entries, not 4" in told["faults"][0]["message"]


def test_what_is_held_after_its_removal_was_recorded_is_left_out_of_what_an_administrator_runs(
    machine: Machine,
) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    machine.place.run(database_script(profile.log, [2016]))
    old_log(profile)
    audit(profile, "retention", "--apply", "--no-copy", "the archive has one")
    assert "DROP TABLE" in audit(profile, "retention", "--sql")
    log, now = opened(profile), time.time()
    held = Hold(
        "A-2026-7", "spiffe://shenzhen/audit/auditor/one", now, now + 7e6, Query(matter="senior-card"), EVERYTHING
    )
    with log.transaction() as connection:
        appended = log.append(connection, [log.new_entry(held.event())])
    log.committed(appended)
    support.close(log)
    assert audit(profile, "retention", "--sql") == ""
    (first, _) = json.loads(audit(profile, "retention", "--json"))["logs"]
    assert (first["fate"], first["holds"]) == ("removing_held", ["A-2026-7"])


def test_a_year_goes_from_a_database_by_two_hands(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    present = year_at(time.time())
    machine.place.run(database_script(profile.log, [2016]))
    assert old_log(profile).origin.endswith(str(present))

    def retention(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own command
            [ZHIWANG, "audit", "retention", "--profile", str(profile.path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = json.loads(retention("--apply", "--no-copy", "the archive has one", "--json"))
    assert [one["fate"] for one in told["logs"]] == ["removing", "kept"]
    with machine.place.raw() as connection:
        assert connection.execute("SELECT count(*) FROM zhiwang.log_entry").fetchone() == (41,)
    machine.place.run(retention("--sql"))
    told = json.loads(retention("--json"))
    assert [one["fate"] for one in told["logs"]] == ["removed", "kept"]
    with machine.place.raw() as connection, pytest.raises(errors.UndefinedTable):
        connection.execute("SELECT count(*) FROM zhiwang.log_entry")
    # A backup of it goes into a file, and from there into another database.
    tar, other = machine.path / "hub.tar", machine.profile("file", database=False)
    backup.back_up_hub(profile, tar)
    guard = StateFiles(other.state).guard
    guard.parent.mkdir(parents=True)
    guard.write_bytes(StateFiles(profile.state).guard.read_bytes())
    backup.restore_hub(other, tar, ())
    assert size(other) == size(profile) == 4


def test_the_doctor_says_what_the_next_year_lacks_and_who_can_become_the_owner(machine: Machine) -> None:
    profile = machine.profile("hub")
    machine.sign_off(profile)
    app.init(profile)
    assert not [one for one in diagnose(profile) if "cannot begin" in one.en or "become the owner" in one.en]
    year = year_at(time.time()) + 1
    machine.place.run(f"DROP TABLE zhiwang.log_entry_{year}; DROP ROLE IF EXISTS keeper; CREATE ROLE keeper")
    try:
        machine.place.run("GRANT hub_owner TO keeper")
        found = [one.en for one in diagnose(profile)]
    finally:
        machine.place.run("DROP ROLE keeper")
    assert any(f"the log of {year} cannot begin" in one and f"log_entry_{year}" in one for one in found)
    assert any("the account keeper can become the owner" in one for one in found)


def test_a_successor_of_a_lost_log_begins_in_a_database(machine: Machine) -> None:
    lost = machine.profile("lost", database=False)
    app.init(lost)
    (lost.state / "owner_logs" / "hrss_main.json").write_bytes(OWNER_LOG)
    append(lost, 5)
    tar = machine.path / "hub.tar"
    backup.back_up_hub(lost, tar)
    profile = machine.profile("second", hub="second")
    machine.sign_off(profile)
    backup.succeed_hub(profile, tar)
    files = IdentityFiles(profile.identity, profile.root)
    store = LogStore(
        open_engine(StateFiles(profile.state), profile.log),
        files.identity.log_origin,
        files.signer(),
        guard=StateFiles(profile.state).guard,
        verifier=lenient(files),
    )
    store.open()
    assert b"\n6\n" in decode_entry(store.entries(0, 1)[0]).log_opened.predecessor
    support.close(store)
    assert (profile.state / "owner_logs" / "hrss_main.json").read_bytes() == OWNER_LOG


@pytest.mark.parametrize("old", [False, True])
def test_a_log_that_began_in_an_earlier_year_finds_room_for_the_present_one(machine: Machine, old: bool) -> None:  # noqa: FBT001 - a case
    script = database_script(machine.profile("hub").log, old=old)
    present = year_at(time.time())
    made = {int(year) for year in re.findall(r"CREATE TABLE zhiwang\.log_entry_([0-9]{4}) ", script)}
    assert made == set(range(present, present + 11))
    if old:
        return
    profile = machine.profile("hub")
    machine.sign_off(profile)
    files, state = IdentityFiles(profile.identity, profile.root), StateFiles(profile.state)
    app.make_state(state)
    clock = Calendar(f"{present - 1}-06-01")
    log = YearlyLog(open_engine(state, profile.log), files.signer(), clock, guard=state.guard, verifier=lenient(files))
    log.create()
    clock.now = time.time() - 60
    assert support.append(log, 1).origin.endswith(f"/{present}")
    assert log.unprepared is None
    support.close(log)


def test_a_script_that_the_database_refuses_ends_psql_with_a_fault_as_the_pages_call_it(machine: Machine) -> None:
    help_of = subprocess.run(  # noqa: S603 - our own command
        [ZHIWANG, "audit", "retention", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    call = help_of.stdout.partition("| ")[2].split("zhiwang")[0].split()
    assert call[:3] == ["psql", "-v", "ON_ERROR_STOP=1"], call
    profile = machine.profile("hub")
    machine.sign_off(profile)
    script = machine.path / "remove.sql"
    script.write_text(removal_script(profile.log, [0]))
    psql = Path(machine.place.server.program).parent / "psql"
    url = machine.place.url("postgres").replace("+psycopg", "")
    done = subprocess.run([psql, *call[1:3], "-f", script, "-d", url], capture_output=True, text=True, check=False)  # noqa: S603 - theirs
    assert "the log does not say that log_entry may go" in done.stderr
    assert done.returncode == 3
