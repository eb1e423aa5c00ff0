"""What a log's store promises, in an SQLite file and in a database of a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

import audit_support as support
from audit import tiles
from audit.appended import Appended
from audit.entry import decode_entry
from audit.proofs import HeadView, check_entry
from audit.schema import Tables
from audit.sqlite import open_sqlite
from audit.store import LogStore
from log_places import Place, PostgresDatabase, SqliteFile
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Makes places for logs, each another."""
    made: list[Place] = []

    def make() -> Place:
        server = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
        made.append(SqliteFile(tmp_path / f"log{len(made)}.db") if server is None else PostgresDatabase(server))
        return made[-1]

    yield make
    for place in made:
        place.drop()


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


def unopened(path: Path, *, create: bool = False, guard: Path | None = None) -> LogStore:
    signer = support.signer()
    return LogStore(open_sqlite(path, create=create), support.HUB.log_origin, signer, guard=guard)


def test_a_log_begins_with_its_own_name(place: Place) -> None:
    store = support.make_store(place)
    (data,) = store.entries(0, 10)
    assert decode_entry(data).log_opened.origin == support.HUB.log_origin
    support.close(store)
    assert support.check_log(place) == 1


def test_no_log_comes_into_being_because_a_file_was_missing(path: Path) -> None:
    with pytest.raises(FatalError, match="made once, by the `init`") as caught:
        open_sqlite(path)
    assert caught.value.reason is Reason.LOG_UNAVAILABLE
    assert not path.exists()
    store = unopened(path, create=True)
    with pytest.raises(FatalError, match="holds no log"):
        store.open()
    support.close(store)


def test_a_log_is_never_made_over_another(path: Path) -> None:
    store = support.make_store(path)
    support.append(store, 3)
    with pytest.raises(FatalError, match="exists"):
        open_sqlite(path, create=True)
    with pytest.raises(FatalError, match="holds a log already"):
        store.create()
    support.close(store)
    assert support.check_log(path) == 4


def test_only_its_owner_can_read_the_file(path: Path) -> None:
    store = support.make_store(path)
    for file in path.parent.glob("log.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    support.close(store)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(FatalError, match="cannot be opened as a database"):
        open_sqlite(path)


@given(groups=st.lists(st.integers(min_value=1, max_value=300), min_size=1, max_size=6))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_appended_entry_is_proved_by_the_head_of_its_transaction(
    new_place: Callable[[], Place], groups: list[int]
) -> None:
    place = new_place()
    store = support.make_store(place)
    view = HeadView(support.checker())
    done = []
    for count in groups:
        appended = support.append(store, count)
        head, logged = store.frame([appended], view.known_tree_size)
        checkpoint = view.verify_head(head)
        assert len(logged) == count
        for entry in logged:
            check_entry(entry, checkpoint)
        done.append(appended)
    support.close(store)
    assert support.check_log(place, *done) == 1 + sum(groups)


def test_a_log_goes_on_after_a_restart_at_any_size(place: Place) -> None:
    store = support.make_store(place)
    done: list[Appended] = []
    for count in (1, 253, 1, 1, 1, 255, 300, 1000, 47):
        done.append(support.append(store, count))
        support.close(store)
        store = support.reopen(place)
        assert store.newest == done[-1].head
    support.close(store)
    support.check_log(place, *done)


def test_a_tile_of_tiles_is_kept_and_used(place: Place) -> None:
    store = support.make_store(place)
    done = [support.append(store, 9000) for _ in range(8)]
    support.close(store)
    store = support.reopen(place)
    size = store.newest.size
    for index in (0, 1, 255, 256, 65_535, 65_536, size - 1):
        (logged,) = store.logged([index], size)
        merkle.verify_inclusion(index, size, merkle.leaf_hash(logged.entry), logged.inclusion_path, store.newest.root)
    for appended in done:
        proof = store.consistency(appended.size, size)
        merkle.verify_consistency(appended.size, size, appended.head.root, store.newest.root, proof)
    support.close(store)
    support.check_log(place, done[-1])


def test_what_the_caller_writes_stands_or_falls_with_the_entries(place: Place) -> None:
    store = support.make_store(place)
    place.prepare("CREATE TABLE charge (n INTEGER)")

    def charge_and_append(*, fails: bool) -> None:
        with store.transaction() as connection:
            connection.exec_driver_sql(f"INSERT INTO {place.beside}charge VALUES (1)")  # noqa: S608 - our own name
            appended = store.append(connection, support.new_entries(store, 5))
            if fails:
                raise KeyError("a mistake of the caller")
        store.committed(appended)

    charge_and_append(fails=False)
    with pytest.raises(KeyError):
        charge_and_append(fails=True)
    assert store.healthy
    charge_and_append(fails=False)
    with store.reading.connect() as connection:
        assert (
            connection.exec_driver_sql(
                f"SELECT count(*) FROM {place.beside}charge"  # noqa: S608 - our own name
            ).scalar_one()
            == 2
        )
    support.close(store)
    assert support.check_log(place) == 11


def test_a_rolled_back_group_leaves_no_trace_in_the_next_proofs(place: Place) -> None:
    store = support.make_store(place)
    support.append(store, 250)
    for count in (1, 10, 300):
        with pytest.raises(KeyError), store.transaction() as connection:  # noqa: PT012 - the caller fails after appending
            store.append(connection, support.new_entries(store, count))
            raise KeyError
        appended = support.append(store, 7)
        head, logged = store.frame([appended], appended.first)
        checkpoint = support.checker().check(head)
        for entry in logged:
            check_entry(entry, checkpoint)
    support.close(store)
    assert support.check_log(place) == 1 + 250 + 21


def test_two_openers_of_one_file_share_one_log(place: Place) -> None:
    one = support.make_store(place)
    two = support.reopen(place)
    done = []
    for round_ in range(40):
        store = (one, two)[round_ % 3 == 0]
        done.append(support.append(store, 1 + round_ * 7 % 40))
    # Either proves to a reader what the other wrote, whatever it has seen of it.
    view = HeadView(support.checker())
    for store in (one, two, one):
        head, logged = store.frame(done[-1:], view.known_tree_size)
        check_entry(logged[0], view.verify_head(head))
        assert view.newest.size == done[-1].size
    assert one.refresh() == two.refresh()
    support.close(one, two)
    support.check_log(place, *done)


def test_an_opener_that_fell_far_behind_catches_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one = support.make_store(place)
    two = support.reopen(place)
    monkeypatch.setattr("audit.store.FAR_BEHIND", 500)
    done = [support.append(one, count) for count in (200, 400, 300)]
    done.append(support.append(two, 3))
    done.append(support.append(one, 3))
    support.close(one, two)
    support.check_log(place, *done)


def test_threads_of_one_process_take_turns(place: Place) -> None:
    store = support.make_store(place)
    done: list[Appended] = []

    def work() -> None:
        done.extend(support.append(store, 1 + number % 5) for number in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    support.close(store)
    assert support.check_log(place, *done) == 1 + 4 * 4 * 15


def test_one_head_proves_the_entries_of_several_transactions(place: Place) -> None:
    store = support.make_store(place)
    parts = [support.append(store, count) for count in (3, 1, 300, 5)]
    head, logged = store.frame([parts[2].part(10, 2), parts[0], parts[3]], 2, disk=False)
    checkpoint = support.checker().check(head)
    assert checkpoint.size == store.newest.size
    assert [entry.index for entry in logged] == [15, 16, 1, 2, 3, *parts[3].indexes]
    for entry in logged:
        check_entry(entry, checkpoint)
    support.close(store)


def test_what_is_recent_is_proved_without_the_disk_and_what_is_old_with_it(place: Place) -> None:
    store = support.make_store(place)
    support.append(store, 300)
    support.close(store)
    store = support.reopen(place)
    appended = support.append(store, 64)
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    store.frame([appended], appended.first, disk=False)
    store.head(appended.first, disk=False)
    assert not statements
    with pytest.raises(KeyError):
        store.head(10, disk=False)
    head = store.head(10)
    old = [merkle.leaf_hash(data) for data in store.entries(0, 10)]
    merkle.verify_consistency(10, store.newest.size, merkle.Tree(old).root, store.newest.root, head.consistency_path)
    support.close(store)


def test_a_reader_that_claims_more_than_there_is_gets_no_proof(place: Place) -> None:
    store = support.make_store(place)
    head = store.head(1000)
    assert (head.known_tree_size, list(head.consistency_path)) == (0, [])
    support.close(store)


def test_entries_are_read_in_bounded_pages(place: Place) -> None:
    store = support.make_store(place)
    support.append(store, 20)
    everything = store.entries(0, 100)
    assert len(everything) == 21
    assert store.entries(5, 4) == everything[5:9]
    assert store.entries(21, 4) == []
    assert store.entries(3, 10, max_bytes=1) == everything[3:4]
    assert store.entries(3, 10, max_bytes=len(b"".join(everything[3:6]))) == everything[3:6]
    support.close(store)


def test_after_a_commit_of_unknown_outcome_the_keys_tell_what_is_in_the_log(place: Place) -> None:
    store = support.make_store(place)
    entries = support.new_entries(store, 3)
    with store.transaction() as connection:
        appended = store.append(connection, entries)
    lost = support.new_entries(store, 2)
    with store.reading.connect() as connection:
        found = store.find(connection, [entry.key for entry in [*entries, *lost]])
    assert found == dict(zip([entry.key for entry in entries], appended.indexes, strict=True))
    support.close(store)


def test_a_renewed_certificate_signs_on_and_the_log_opens_with_either(place: Place) -> None:
    store = support.make_store(place)
    view = HeadView(support.checker())
    view.verify_head(store.head())
    store.signer = support.signer(support.HUB, 1)
    appended = support.append(store, 2)
    assert appended.head.certificate == support.signer(support.HUB, 1).certificate_der
    view.verify_head(store.head(view.known_tree_size))
    support.close(store)
    support.close(support.reopen(place))  # with the first one
    support.close(support.reopen(place, number=2))  # with one that never signed
    support.check_log(place, appended)


def test_a_checkpoint_by_an_unknown_certificate_stops_the_log(place: Place) -> None:
    store = support.make_store(place)
    support.close(store)
    store = LogStore(place.open(), support.HUB.log_origin, support.signer(support.HUB, 3))
    with pytest.raises(FatalError, match="no verifier was given"):
        store.open()
    support.close(store)


def test_an_expired_certificate_still_opens_the_log_that_it_signed_in_its_time(place: Place) -> None:
    old = support.signer(support.HUB, 7, days_ago=60, days=30)
    then = old.expires - 10 * 86400
    store = LogStore(place.create(), support.HUB.log_origin, old, lambda: then)
    store.create()
    support.close(store)
    support.close(support.reopen(place))
    # Also where a wrong clock dated its entries later.
    store = LogStore(place.open(), support.HUB.log_origin, old)
    store.open()
    done = support.append(store, 1)
    support.close(store)
    store = support.reopen(place)
    assert store.newest == done.head
    support.close(store)


def test_a_log_is_signed_only_by_its_own_identity(place: Place) -> None:
    store = support.make_store(place)
    with pytest.raises(FatalError, match="cannot sign"):
        store.signer = support.signer(support.ADAPTER)
    with pytest.raises(FatalError, match="cannot sign"):
        LogStore(store.engine, "another/log/hub/x", support.signer())
    support.close(store)
    with pytest.raises(FatalError, match="believed"):
        support.reopen(place, support.ADAPTER)


def test_logs_that_share_a_file_stand_apart(path: Path) -> None:
    first = support.make_store(path)
    second = LogStore(first.engine, support.HUB.log_origin, support.signer(), tables=Tables("2027"))
    with pytest.raises(FatalError, match="holds no log"):
        second.open()
    second.create()
    done = [support.append(second, 300), support.append(second, 5)]
    acknowledged = support.append(first, 40)
    second.open()
    assert second.newest == done[-1].head
    assert second.verify_all().size == 306
    assert second.entries(1, 1) == list(done[0].entries[:1])
    support.close(first)
    assert support.check_log(path, acknowledged) == 41


@pytest.mark.parametrize("suffix", ["27", "20270", "year", "２０２７", "2027\n", "2027; DROP TABLE log_entry"])
def test_names_of_tables_end_in_a_year_and_nothing_else(suffix: str) -> None:
    with pytest.raises(ValueError, match="year"):
        Tables(suffix)


def test_nothing_is_not_an_append(place: Place) -> None:
    store = support.make_store(place)
    with pytest.raises(ValueError, match="nothing"), store.transaction() as connection:
        store.append(connection, [])
    support.close(store)


def test_the_stored_tiles_are_those_of_the_published_format(place: Place) -> None:
    store = support.make_store(place)
    support.append(store, 600)
    with store.reading.connect() as connection:
        rows = connection.exec_driver_sql("SELECT level, idx, hashes FROM log_tile").all()
    leaves = [merkle.leaf_hash(data) for data in store.entries(0, 512)]
    assert [(level, index) for level, index, _ in rows] == [(0, 0), (0, 1)]
    assert tiles.split_tile(rows[0][2]) + tiles.split_tile(rows[1][2]) == leaves
    support.close(store)


def test_verifying_everything_reports_its_progress(place: Place) -> None:
    store = support.make_store(place)
    support.append(store, 2500)
    steps: list[tuple[int, int]] = []
    store.verify_all(lambda done, size: steps.append((done, size)))
    assert steps == [(1000, 2501), (2000, 2501), (2501, 2501)]
    support.close(store)


def test_every_connection_is_durable_and_fires_every_trigger(path: Path) -> None:
    store = support.make_store(path)
    wanted = {
        "synchronous": 2,
        "journal_mode": "wal",
        "recursive_triggers": 1,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }
    with store.engine.connect() as one, store.reading.connect() as two:
        for connection in (one, two):
            for pragma, value in wanted.items():
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value
    support.close(store)


def test_a_transaction_begins_with_the_right_to_write(path: Path) -> None:
    store = support.make_store(path)
    with store.engine.begin() as writer:
        before = writer.exec_driver_sql("SELECT count(*) FROM log_entry").scalar_one()
        # A reader neither waits nor sees what is not committed.
        store.append(writer, support.new_entries(store, 2))
        with store.reading.connect() as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM log_entry").scalar_one() == before
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    support.close(store)


def test_a_log_that_has_stopped_takes_nothing_in_a_transaction_begun_elsewhere_either(place: Place) -> None:
    store = support.make_store(place)
    store.stop(OSError())
    with pytest.raises(FatalError), store.engine.begin() as connection:
        store.append(connection, support.new_entries(store, 1))
    store.open()
    support.append(store, 1)
    support.close(store)
    assert support.check_log(place) == 2


def test_memory_does_not_grow_with_the_log(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.tiles.KEPT_TILES", (2, 2))
    monkeypatch.setattr("audit.reader.CACHED_TILES", 3)
    store = support.make_store(place)
    for _ in range(40):
        support.append(store, 256)
    for index in range(0, store.newest.size, 256):
        store.inclusion_path(index, store.newest.size)
    assert sum(len(nodes) for _, nodes in store._edge._levels) < 2 * (2 + 3) * tiles.TILE_WIDTH
    assert len(store._reader._tiles) == 3
    support.close(store)
