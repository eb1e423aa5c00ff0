"""An adapter's store in PostgreSQL, from its administrator's script on: begun, joined, shared, copied and restored."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Connection
from typer.testing import CliRunner

import subject_support
from adapter_frames import Bureau
from adapter_support import ANNA, BO, CHEN, resident
from adapters import backup, delays, installation, replay
from adapters.cli import app
from adapters.frame import FrameProcessor
from adapters.installation import state_files
from adapters.postgres_store import STORE
from adapters.retention import keep
from adapters.rows import Snapshots, fetch, write
from adapters.store import check_tables, create_store, open_store
from adapters.store_keys import trace_key, trace_key_name, trace_years
from adapters.trace import Stand
from audit.origins import position, year_at
from audit.places import database_script, removal_script
from audit.postgres import CONNECTIONS
from audit.yearly import YearlyLog
from audit_support import close
from certs.credentials import IdentityFiles
from certs_support import City
from log_places import PostgresDatabase
from servers import Server
from subject_support import MONTHS, PARENT
from yearly_support import Calendar, append
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import FatalError
from zhiwang.wire.profile import Profile, load_profile
from zhiwang.wire.records import Outcome

PROFILE = """
root = "{root}"
identity = "{identity}"
state = "{state}"
[adapter]
mapping = "mapping.toml"
document = "document.toml"
[retention]
years = 3
"""


class Machine:
    """A city, one database, and profiles of an adapter's replicas."""

    def __init__(self, path: Path, place: PostgresDatabase) -> None:
        self.path = path
        self.place = place
        (path / "city").mkdir()
        self.city = City.create(path / "city")
        self.city.enrol("hrss/adapter/main")

    def profile(self, name: str, *, database: bool = True, adapter: str = "main") -> Profile:
        short = f"hrss/adapter/{adapter}"
        if not self.city.path(short).exists():
            self.city.enrol(short)
        file = self.path / f"{name}.toml"
        text = PROFILE.format(root=self.city.root, identity=self.city.path(short), state=self.path / name)
        file.write_text(text + (f'[log]\nurl = "{self.place.url()}"\n' if database else ""))
        return load_profile(file)

    def opened(self, profile: Profile) -> YearlyLog:
        files = IdentityFiles(profile.identity, profile.root)
        return open_store(state_files(profile), files.signer(), database=profile.log)


@pytest.fixture
def place(postgresql: Server) -> Iterator[PostgresDatabase]:
    place = PostgresDatabase(postgresql, STORE)
    place.create_empty()
    yield place
    place.drop()


@pytest.fixture
def machine(tmp_path: Path, place: PostgresDatabase) -> Machine:
    return Machine(tmp_path, place)


def carried(keys: Path, to: Path) -> None:
    """What a person does before a replica joins."""
    shutil.copytree(keys, to, dirs_exist_ok=True)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout


# Beginning, and what is refused.


def test_a_store_begins_in_the_tables_of_the_printed_script_and_is_joined_with_its_keys(
    machine: Machine, postgresql: Server
) -> None:
    machine.place = PostgresDatabase(postgresql)
    postgresql.execute("", f"CREATE DATABASE {machine.place.name} TEMPLATE template0")
    first, second = machine.profile("first"), machine.profile("second")
    with pytest.raises(FatalError, match="zhiwang adapter init --sql"):
        installation.init(first)
    status, script = run("init", "--profile", str(first.path), "--sql")
    assert (status, script) == (0, database_script(first.log, beside=STORE))
    machine.place.run(script)
    installation.init(first)
    with pytest.raises(FatalError, match=r"keys are not in .*/second/keys\. Copy that directory"):
        installation.init(second, join=True)
    carried(state_files(first).keys, state_files(second).keys)
    installation.init(second, join=True)
    with pytest.raises(FatalError, match="is the guard of a replica that was made before"):
        installation.init(second, join=True)
    with pytest.raises(FatalError, match="holds a log already"):
        installation.init(machine.profile("third"))
    logs = [machine.opened(profile) for profile in (first, second)]
    append(logs[0], 2)
    append(logs[1], 3)
    assert logs[0].refresh().size == logs[1].newest.size == 6
    for log in logs:
        log.verify_all()
        close(log)
    machine.place.drop()


def test_ways_to_begin_that_exclude_each_other_are_wrong_usage(machine: Machine) -> None:
    path = str(machine.profile("one").path)
    assert run("init", "--profile", path, "--sql", "--join")[0] == 2
    assert run("init", "--profile", path, "--year", "2037")[0] == 2
    assert run("init", "--sql")[0] == 2
    with pytest.raises(FatalError, match="there is nothing to join"):
        installation.init(machine.profile("file", database=False), join=True)
    with pytest.raises(FatalError, match="the profile names no database"):
        database_script(machine.profile("file", database=False).log, beside=STORE)


def test_a_replica_with_another_key_is_refused_whichever_key_it_is(machine: Machine) -> None:
    first, second = machine.profile("first"), machine.profile("second")
    installation.init(first)
    keys = state_files(second).keys
    for name in ("ledger.key", trace_key_name(year_at(time.time()))):
        carried(state_files(first).keys, keys)
        (keys / name).write_bytes(bytes(32))
        with pytest.raises(FatalError, match=f"{name} is not the key that the store was used with"):
            installation.init(second, join=True)
    carried(state_files(first).keys, keys)
    for path in keys.glob("trace-*"):
        path.unlink()
    with pytest.raises(FatalError, match="those of the index are missing"):
        installation.init(second, join=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE zhiwang.replay", "replay"),
        ("DROP TABLE " + ", ".join(f"zhiwang.{name}" for name in STORE.tables), "holds no tables guess, replay"),
        ("ALTER TABLE zhiwang.guess DROP CONSTRAINT guess_pkey", "guess constraint PRIMARY KEY"),
        ("DROP INDEX zhiwang.replay_expires", "replay index replay_expires"),
        ("GRANT UPDATE ON zhiwang.trace TO hub", "hub has UPDATE on trace"),
        ("GRANT DELETE ON zhiwang.store_key TO hub", "hub has DELETE on store_key"),
        ("GRANT UPDATE (scope) ON zhiwang.guess TO hub", "hub has UPDATE on guess.scope"),
        ("GRANT INSERT ON zhiwang.guess TO hub_reader", "several accounts may append"),
        ("GRANT TRUNCATE ON zhiwang.guess TO PUBLIC", "PUBLIC has TRUNCATE on guess"),
        ("REVOKE DELETE ON zhiwang.replay FROM hub", "this account has no DELETE on replay"),
        ("REVOKE UPDATE (at) ON zhiwang.guess FROM hub", "this account has no UPDATE on guess.at"),
        ("ALTER TABLE zhiwang.replay_horizon OWNER TO postgres", "which can log in or is a superuser"),
    ],
)
def test_tables_and_rights_that_are_not_the_scripts_keep_the_adapter_from_starting(
    machine: Machine, change: str, said: str
) -> None:
    profile = machine.profile("one")
    installation.init(profile)
    close(machine.opened(profile))
    machine.place.run(change)
    with pytest.raises(FatalError, match=said):
        machine.opened(profile)


def test_the_account_can_do_to_the_store_what_it_needs_and_nothing_else(place: PostgresDatabase) -> None:
    with place.raw() as connection:
        for statement in (
            "UPDATE trace SET part = 0",
            "UPDATE guess SET scope = 0",
            "UPDATE replay SET ciphertext = ''",
            "DELETE FROM store_key",
            "DELETE FROM replay_horizon",
            "TRUNCATE guess",
            "INSERT INTO log_entry VALUES (0, '', '', '')",
            "DROP TABLE guess",
        ):
            with pytest.raises(Exception, match=r"permission denied|must be owner"):
                connection.execute(f"SET search_path = zhiwang; {statement}".encode())
    with place.raw("postgres") as connection:
        connection.execute("SET ROLE hub_reader")
        with pytest.raises(Exception, match="permission denied"):
            connection.execute("SELECT FROM zhiwang.guess")


# Several replicas.


class Replicas:
    """Two replicas of an adapter, each with a state of its own, over one database."""

    def __init__(self, directory: Path, place: PostgresDatabase) -> None:
        self.bureau = subject_support.bureau_in(directory, place)
        self.one = self.bureau.frames
        state = replace(self.bureau.state, directory=directory / "other")
        self.log = open_store(
            replace(state, shared=self.bureau.state.shared),
            self.bureau.identity.signer(),
            database=self.bureau.store_database,
            clock=lambda: self.bureau.now,
            guarded=False,
        )
        self.two = self.bureau.processor(self.log)

    def at_once(self, *requests: sealed_pb2.SealedRequest) -> list[adapter_pb2.ReplyFrame.Item]:
        """Every request to both at the same moment; what the one said of each, then the other."""
        gate = Barrier(2)

        def send(frames: FrameProcessor) -> list[adapter_pb2.ReplyFrame.Item]:
            frame = adapter_pb2.RequestFrame()
            for number, request in enumerate(requests, 1):
                frame.items.add(correlation_id=number, request=request)
            gate.wait()
            return list(frames.process(frame).items)

        with ThreadPoolExecutor(2) as pool:
            return [item for items in pool.map(send, (self.one, self.two)) for item in items]

    def close(self) -> None:
        close(self.log)
        self.bureau.close()


@pytest.fixture
def replicas(tmp_path: Path, place: PostgresDatabase) -> Iterator[Replicas]:
    replicas = Replicas(tmp_path, place)
    yield replicas
    replicas.close()


def test_the_same_bytes_to_two_replicas_at_once_are_answered_once(replicas: Replicas) -> None:
    bureau = replicas.bureau
    for number in range(12):
        before = bureau.log.refresh().size
        request = bureau.request([MONTHS], [{"child": resident(500 + number)}])
        items = replicas.at_once(request)
        assert [item.reason for item in items] == ["", ""]
        assert items[0].reply == items[1].reply
        assert items[0].entry.entry == items[1].entry.entry
        assert bureau.log.refresh().size == before + 1


def test_guesses_through_two_replicas_at_once_never_exceed_the_cap(replicas: Replicas) -> None:
    bureau = replicas.bureau
    for number in range(6):
        subject = resident(600 + number)
        requests = [
            bureau.request([f"child: hrss.parent related {resident(700 + guess)}"], [{"child": subject}])
            for guess in range(6)
        ]
        gate = Barrier(2)

        def ask(half: int, requests: list[sealed_pb2.SealedRequest] = requests, gate: Barrier = gate) -> list[Outcome]:
            frames, found = (replicas.one, replicas.two)[half], []
            gate.wait()
            for request in requests[half::2]:
                frame = adapter_pb2.RequestFrame()
                frame.items.add(correlation_id=1, request=request)
                (item,) = frames.process(frame).items
                found += bureau.open(request, item)
            return found

        with ThreadPoolExecutor(2) as pool:
            outcomes = [outcome for found in pool.map(ask, (0, 1)) for outcome in found]
        # Two by the mapping.
        assert len([one for one in outcomes if one is not Outcome.GUESSES_SPENT]) == 2, outcomes


def test_a_reply_of_another_replica_is_given_without_its_sealing_key(replicas: Replicas) -> None:
    bureau = replicas.bureau
    request = bureau.request([MONTHS], [{"child": ANNA}])
    first = bureau.send(request)[0]

    def gone(*_: object) -> None:
        raise AssertionError("nothing is opened for a request that was answered")

    replicas.two._opener = type("Closed", (), {"open": gone})()  # the other's key is elsewhere
    bureau.frames = replicas.two
    assert bureau.send(request)[0].reply == first.reply


def test_a_new_year_has_the_same_key_at_every_replica_though_nothing_was_carried(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    first = trace_key(one, 2026, apart=False)
    carried(one, two)
    assert trace_key(one, 2027, apart=True) == trace_key(two, 2027, apart=True) != first
    # Also where one of them slept through a year, which it can tell of as the others can.
    assert trace_key(one, 2029, apart=True) == trace_key(two, 2029, apart=True)
    assert trace_years(one) == trace_years(two) == [2026, 2027, 2028, 2029]
    # No later key gives an earlier one back, and none begins by itself.
    (one / trace_key_name(2026)).unlink()
    with pytest.raises(FileNotFoundError):
        trace_key(one, 2026, apart=True)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in two.glob("trace-*"))


def test_a_replica_that_indexes_under_another_key_answers_nothing(replicas: Replicas) -> None:
    bureau = replicas.bureau
    bureau.ask_all([MONTHS], {"child": ANNA})
    bureau.now += 366 * 86_400
    bureau.directory_ = replace(bureau.directory_, expires=bureau.now + 3600)
    log = bureau.log.refresh()
    # Its own key of the new year was made by hand; the other replica has used the true one.
    key = bureau.state.keys / trace_key_name(2027)
    with replicas.log.transaction() as connection:
        true = trace_key(bureau.state.keys, 2027, apart=True)
        trace = bureau.trace()
        trace.insert(connection, [trace.row("person", BO, 0, Stand(0))])
    assert key.read_bytes() == true
    key.write_bytes(bytes(32))
    bureau.frames._trace = bureau.trace()
    trace = bureau.frames._trace
    with pytest.raises(FatalError, match=r"trace-2027\.key is not the key"), bureau.log.transaction() as connection:
        trace.insert(connection, [trace.row("person", CHEN, 0, Stand(0))])
    bureau.log.open()
    assert bureau.log.newest.size == log.size
    assert bureau.stored("SELECT count(*) FROM trace") == [(2,)]


def test_who_holds_a_snapshot_always_finds_a_connection_to_read_the_log(replicas: Replicas) -> None:
    log, snapshots = replicas.bureau.log, Snapshots(replicas.bureau.log.engine)
    threads = 3 * CONNECTIONS
    held = Barrier(CONNECTIONS // 2)

    def read(number: int) -> int:
        with snapshots.read():
            if number < held.parties:
                held.wait()
            log.refresh()
            return len(log.entries(0, 1))

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(read, range(threads))) == [1] * threads
    assert log.healthy


# Copies, and years.


def filled(bureau: Bureau) -> None:
    bureau.ask_all([MONTHS], {"child": ANNA})
    bureau.ask_all([PARENT], {"child": BO, "guardian": ANNA})
    subject_support.People(bureau, "hrss/admin/one").delay(60, reference="2026-000001")


def rows_of(log: YearlyLog) -> dict[str, list[object]]:
    with Snapshots(log.engine).read() as connection:
        return {
            table: sorted(fetch(connection, f"SELECT * FROM {table}"))  # noqa: S608 - our names
            for table in ("guess", "trace", "delay", "replay_horizon")
        } | {"replay": sorted(fetch(connection, "SELECT key, hash, entry, nonce, ciphertext, expires FROM replay"))}


@pytest.mark.parametrize("into", [True, False])
@pytest.mark.parametrize("out_of", [True, False])
def test_a_backup_carries_the_whole_store_between_file_and_database(
    machine: Machine, tmp_path: Path, *, out_of: bool, into: bool
) -> None:
    before = machine.profile("before", database=out_of)
    installation.init(before)
    log = machine.opened(before)
    append(log, 3)
    year = year_at(time.time())
    with log.transaction() as connection:
        ledger_rows(connection, year)
    kept = rows_of(log)
    close(log)
    copy = tmp_path / "copy.tar"
    manifest = backup.back_up(before, copy)
    assert manifest.facts["log_size"] == 4
    if out_of:
        machine.place.drop()
        machine.place.create_empty()
    after = machine.profile("after", database=into)
    state_files(after).guard.parent.mkdir(parents=True)
    shutil.copy(state_files(before).guard, state_files(after).guard)
    assert backup.restore(after, copy, []).size == 4
    log = machine.opened(after)
    assert rows_of(log) == kept
    assert all(kept.values())
    log.verify_all()
    close(log)
    assert (state_files(after).store).exists() != into
    assert (state_files(after).keys / "ledger.key").read_bytes() == (
        state_files(before).keys / "ledger.key"
    ).read_bytes()
    with pytest.raises(FatalError):
        backup.restore(after, copy, [])


def ledger_rows(connection: Connection, year: int) -> None:
    """One row in each table."""
    write(connection, "INSERT INTO guess (scope, value, at) VALUES (?, ?, ?)", [(-5, 7, 9), (2**62, -3, 4)])
    write(
        connection,
        "INSERT INTO trace (year, subject, entry, part, refused) VALUES (?, ?, ?, ?, ?)",
        [(year, bytes(16), 2, 1 << 40, -1)],
    )
    delays.insert(connection, 3)
    replay.insert(connection, [replay.Answered(bytes(32), bytes(32), 2, b"n", b"c", 12)])
    replay.raise_horizon(connection, 11)


def test_a_successor_takes_the_spent_guesses_over_into_a_database(machine: Machine, tmp_path: Path) -> None:
    lost = machine.profile("lost", database=False)
    installation.init(lost)
    log = machine.opened(lost)
    with log.transaction() as connection:
        ledger_rows(connection, year_at(time.time()))
    close(log)
    copy = tmp_path / "copy.tar"
    backup.back_up(lost, copy)
    after = machine.profile("after", adapter="second")
    backup.succeed(after, copy)
    log = machine.opened(after)
    assert rows_of(log)["guess"] == [(-5, 7, 9), (2**62, -3, 4)]
    close(log)


def test_a_year_is_recorded_by_the_adapter_and_removed_by_the_administrator(machine: Machine) -> None:
    profile = machine.profile("one")
    files, state, clock = IdentityFiles(profile.identity, profile.root), state_files(profile), Calendar("2016-06-01")
    log = create_store(state, files.signer(), database=profile.log, clock=clock)
    append(log, 20)
    clock.set("2017-02-01")
    append(log, 1)
    clock.now = time.time()
    newest = append(log, 1)
    with log.transaction() as connection:
        for year, entry in ((2016, position(0, 7)), (2026, newest.position)):
            trace_key(state.keys, year, apart=True)
            write(
                connection,
                "INSERT INTO trace (year, subject, entry, part, refused) VALUES (?, ?, ?, 1, 0)",
                [(year, bytes(16), entry)],
            )
    close(log)
    kept = keep(profile, [], "the archive says so", apply=True, progress=lambda _done, _size: None)
    assert [one.removed for one in kept.shards] == [True, False]
    assert not kept.shards[0].done
    log = machine.opened(profile)
    with Snapshots(log.engine).read() as reading:
        assert fetch(reading, "SELECT year FROM trace") == [(2026,)]
    close(log)
    assert trace_years(state.keys) == [2026]
    status, script = run("retention", "--profile", str(profile.path), "--sql")
    expected = removal_script(profile.log, [0])
    assert status == 0
    assert script.endswith(expected)
    machine.place.run(expected)
    log = machine.opened(profile)
    log.verify_all()
    check_tables(log.engine)
    close(log)
