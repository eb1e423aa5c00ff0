"""Several hubs on one log in PostgreSQL, and everything that can break between them and the server."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import audit_support as support
from audit import postgres
from audit.appended import Appended
from audit.log import AuditLog
from audit.store import LogStore
from between import Between, Blow, signal_all
from log_appenders import appending
from log_places import ROLES, PostgresDatabase
from servers import Postgresql, copy_data
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.silence import SilenceWatch

PATIENCE = 60.0


@pytest.fixture(scope="module")
def server(own_postgresql: Postgresql) -> Postgresql:
    """A server of this module's own, since it is not treated well here."""
    return own_postgresql


@pytest.fixture
def place(server: Postgresql) -> Iterator[PostgresDatabase]:
    place = PostgresDatabase(server)
    support.close(support.make_store(place))
    yield place
    place.drop()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def check_acknowledged(place: PostgresDatabase, lines: list[bytes]) -> int:
    """Every entry that was acknowledged is in the log, at its place, and none twice. Returns the log's size."""
    size = support.check_log(place)
    store = support.reopen(place)
    leaves = [row[2] for row in support.rows(store)]
    support.close(store)
    taken: set[int] = set()
    for line in lines:
        first, _, hashes = line.split()
        expected = [bytes.fromhex(text.decode()) for text in hashes.split(b",")]
        assert leaves[int(first) : int(first) + len(expected)] == expected
        indexes = set(range(int(first), int(first) + len(expected)))
        assert not taken & indexes
        taken |= indexes
    return size


# Several hubs.


def test_three_hubs_append_together_and_one_is_killed(place: PostgresDatabase, tmp_path: Path) -> None:
    pems = [tmp_path / f"{number}.pem" for number in range(3)]
    for number, pem in enumerate(pems):
        support.write_signer(pem, number=number)  # a key of its own, with a certificate of the same name
    lines: list[bytes] = []
    url = place.url()
    with (
        appending(url, pems[0], 60, 1) as one,
        appending(url, pems[1], 60, 4) as four,
        appending(url, pems[2], 0, 7) as victim,
    ):
        lines += [victim.read() for _ in range(12)]
        lines += victim.kill()
        acknowledged = sum(len(line.split()[2].split(b",")) for line in lines)
        lines += one.finish()
        lines += four.finish()
    size = check_acknowledged(place, lines)
    assert size - (1 + 60 + 60 * 4 + acknowledged) in {0, 7}  # its last group is there or not, and nothing else is


def test_a_hub_that_did_not_see_the_newest_head_extends_it_all_the_same(place: PostgresDatabase) -> None:
    one, two = support.reopen(place), support.reopen(place, number=1)
    done = [support.append(one, 3), support.append(one, 260)]
    assert two.newest.size == 1
    done.append(support.append(two, 2))
    done.append(support.append(one, 1))
    assert [appended.first for appended in done] == [1, 4, 264, 266]
    support.close(one, two)
    support.check_log(place, *done)


def test_a_hub_waits_for_its_turn_and_signs_nothing_before_it(place: PostgresDatabase) -> None:
    one, two = support.reopen(place), support.reopen(place)
    signed: list[int] = []
    real = two.signer.sign

    class Signer:
        """The signer, which tells when it signs."""

        identity, certificate_der = two.signer.identity, two.signer.certificate_der
        public_key_raw = two.signer.public_key_raw

        def sign(self, message: bytes) -> bytes:
            signed.append(int(message.split(b"\n")[1]))
            return real(message)

    two._signer = Signer()  # type: ignore[assignment] # what a store asks of a signer
    done: list[Appended] = []
    with one.transaction() as connection:
        first = one.append(connection, support.new_entries(one, 2))
        thread = threading.Thread(target=lambda: done.append(support.append(two, 1)))
        thread.start()
        until(lambda: waiting(place, "Lock") == 1)
        assert not signed
    one.committed(first)
    thread.join(PATIENCE)
    assert signed == [4]
    support.close(one, two)
    support.check_log(place, first, *done)


def test_a_hub_whose_transaction_was_rolled_back_is_followed_by_one_that_signs_another_tree(
    place: PostgresDatabase,
) -> None:
    one, two = support.reopen(place), support.reopen(place)
    with pytest.raises(KeyError), one.transaction() as connection:  # noqa: PT012 - the caller fails after appending
        one.append(connection, support.new_entries(one, 2))
        raise KeyError
    assert one.newest.size == 1  # what it signed is shown to nobody
    done = [support.append(two, 2), support.append(one, 2)]
    support.close(one, two)
    support.check_log(place, *done)


def test_a_hub_that_holds_its_turn_and_says_nothing_loses_it(
    place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IDLE_SECONDS", 1)
    one, two = support.reopen(place), support.reopen(place)
    done = []
    with pytest.raises(FatalError), one.transaction() as connection:  # noqa: PT012 - it is frozen after appending
        one.append(connection, support.new_entries(one, 2))
        done.append(support.append(two, 3))
    assert not one.healthy
    one.open()
    done.append(support.append(one, 1))
    support.close(one, two)
    support.check_log(place, *done)


def test_a_hub_that_waits_too_long_stops_and_goes_on_when_it_is_asked(
    place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 1)
    one, two = support.reopen(place), support.reopen(place)
    with one.transaction() as connection:
        first = one.append(connection, support.new_entries(one, 2))
        with pytest.raises(FatalError, match="LockNotAvailable 55P03") as caught:
            support.append(two, 1)
        assert caught.value.reason is Reason.LOG_UNAVAILABLE
    one.committed(first)
    two.open()
    done = support.append(two, 1)
    support.close(one, two)
    support.check_log(place, first, done)


def test_a_turn_that_the_server_gave_away_is_still_one_threads_in_its_process(place: PostgresDatabase) -> None:
    store = support.reopen(place)
    support.append(store, 3)
    ended = threading.Event()
    seen: list[bool] = []

    def other() -> None:
        with store.backend.writing() as connection:
            seen.append(ended.is_set())
            store.backend.locked_head(connection)

    thread = threading.Thread(target=other)
    with pytest.raises(FatalError), store.transaction() as connection:  # noqa: PT012 - it is cut off after appending
        store.append(connection, support.new_entries(store, 2))
        (pid,) = connection.exec_driver_sql("SELECT pg_backend_pid()").one()
        with place.raw("postgres") as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        thread.start()
        thread.join(0.5)
        ended.set()
    thread.join(PATIENCE)
    assert seen == [True]
    store.open()
    done = support.append(store, 1)
    support.close(store)
    support.check_log(place, done)


# A server that ends, freezes, or is another one afterwards.


def waiting(place: PostgresDatabase, kind: str) -> int:
    """How many of the hub's sessions wait for something of a kind, or for one thing of that name."""
    with place.raw("postgres") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND %s IN (wait_event_type, wait_event)",
            (place.name, kind),
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_server_that_crashes_under_load_stops_the_log_until_it_is_back(
    server: Postgresql, place: PostgresDatabase
) -> None:
    log = AuditLog(support.reopen(place))
    acknowledged: list[Appended] = []
    refused: list[Reason] = []

    async def caller() -> None:
        while not refused:
            try:
                acknowledged.append(await log.append(support.new_entries(log.store, 2)))
            except (FatalError, RefusedError) as error:
                refused.append(error.reason)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    while len(acknowledged) < 40:  # noqa: ASYNC110 - another process has no event to wait for
        await asyncio.sleep(0.01)
    server.crash()
    await asyncio.gather(*callers)
    assert set(refused) == {Reason.LOG_UNAVAILABLE}
    assert log.store.stopped is not None
    with pytest.raises(FatalError, match="connection"):
        await log.reload()
    with pytest.raises(FatalError):
        await log.append(support.new_entries(log.store, 1))
    server.start()  # here, since it ends with the thread that starts it
    head = await log.reload()
    assert log.healthy
    assert head.size >= max(appended.size for appended in acknowledged)
    acknowledged.append(await log.append(support.new_entries(log.store, 1)))
    await log.close()
    log.store.engine.dispose()
    support.check_log(place, *acknowledged)


def test_a_server_that_was_restarted_at_rest_is_found_out_and_the_log_goes_on(
    server: Postgresql, place: PostgresDatabase
) -> None:
    store = support.reopen(place)
    done = [support.append(store, 2)]
    server.stop(signal.SIGQUIT)
    server.start()
    with pytest.raises(FatalError):
        support.append(store, 1)
    store.open()
    done.append(support.append(store, 1))
    support.close(store)
    support.check_log(place, *done)


def test_after_a_failure_no_connection_is_used_that_was_there_before(place: PostgresDatabase) -> None:
    # One may lead to a server that was replaced and does not know it yet.
    store = support.reopen(place)
    with store.reading.connect() as one, store.reading.connect() as two:
        before = {connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for connection in (one, two)}
    store.stop(OSError())
    store.open()
    with store.reading.connect() as one, store.reading.connect() as two:
        after = {connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for connection in (one, two)}
    assert not before & after
    support.close(store)


def test_a_server_that_freezes_is_not_waited_for(
    server: Postgresql, place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = support.reopen(place)
    monkeypatch.setattr(postgres, "_WATCH", watch := SilenceWatch(1.0))
    done = [support.append(store, 2)]
    with frozen(server), pytest.raises(FatalError):
        support.append(store, 1)
    assert not store.healthy
    monkeypatch.undo()
    store.open()
    done.append(support.append(store, 1))
    watch.close()
    support.close(store)
    support.check_log(place, *done)


@contextmanager
def frozen(server: Postgresql) -> Iterator[None]:
    pids = server.pids()
    signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(pids[::-1], signal.SIGCONT)


@pytest.mark.parametrize("asked", ["BEGIN", "version()", "SAVEPOINT", "ROLLBACK", "current_setting(name)", "log_entry"])
def test_a_server_that_freezes_while_a_log_is_opened_is_not_waited_for(
    server: Postgresql, place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def opening(url: str) -> None:
        engine = postgres.open_postgres(url)
        store = LogStore(engine, support.HUB.log_origin, support.signer(), verifier=support.verifier())
        try:
            store.open()
        finally:
            support.close(store)

    with between(server) as one:
        url = one.url(place.name, ROLES.writer)
        opening(url)
        monkeypatch.setattr(postgres, "_WATCH", watch := SilenceWatch(1.0))
        one.arm(Blow("server frozen", "before", words=asked))
        with pytest.raises(FatalError) as caught:
            opening(url)
        assert caught.value.reason is Reason.LOG_UNAVAILABLE
        assert asked in one.struck()
        signal_all(server.pids(), signal.SIGCONT)
        watch.close()
        monkeypatch.undo()
        opening(url)
    assert support.check_log(place) == 1


@contextmanager
def between(server: Postgresql) -> Iterator[Between]:
    one = Between(server)
    thread = threading.Thread(target=one.serve)
    thread.start()
    try:
        yield one
    finally:
        signal_all(server.pids(), signal.SIGCONT)
        one.close()
        thread.join(PATIENCE)


def test_a_server_that_lost_commits_is_refused_as_rolled_back(
    server: Postgresql, place: PostgresDatabase, tmp_path: Path
) -> None:
    data, standby, lost = (server.directory / name for name in ("data", "standby", "lost"))
    store = support.reopen(place)
    support.close(store)
    store = LogStore(
        place.open(),
        support.HUB.log_origin,
        support.signer(),
        guard=tmp_path / "guard",
        verifier=support.verifier(),
    )
    (tmp_path / "guard").write_bytes(b"")
    store.open()
    support.append(store, 5)
    server.stop()
    copy_data(data, standby)  # what a standby had that lagged behind
    server.start()
    with pytest.raises(FatalError):
        support.append(store, 1)
    store.open()
    done = support.append(store, 7)
    server.stop()
    data.rename(lost)
    standby.rename(data)
    server.start()
    try:
        with pytest.raises(FatalError):
            support.append(store, 1)
        with pytest.raises(FatalError, match=r"has 6 entries, but this process has seen \d+: it was rolled back"):
            store.open()
        # Also where it grew on meanwhile, past what was seen.
        other = support.reopen(place)
        support.append(other, 20)
        support.close(other)
        with pytest.raises(FatalError, match="it was rewritten"):
            store.open()
        support.close(store)
        # And by a hub that starts anew.
        with pytest.raises(FatalError, match=r"does not extend the \d+ that its guard has seen"):
            support.reopen(place, guard=tmp_path / "guard")
    finally:
        server.stop()
        shutil.rmtree(data)
        lost.rename(data)
        server.start()
    store = support.reopen(place, guard=tmp_path / "guard")
    assert store.newest.size >= done.size
    support.close(store)
    support.check_log(place, done)


# A COMMIT of unknown outcome.


@pytest.mark.parametrize(("where", "there"), [("before", False), ("after", True)])
def test_after_a_connection_was_cut_in_commit_the_keys_tell_what_is_in_the_log(
    server: Postgresql,
    place: PostgresDatabase,
    where: str,
    there: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    with between(server) as cutter:
        engine = postgres.open_postgres(cutter.url(place.name, ROLES.writer))
        store = LogStore(engine, support.HUB.log_origin, support.signer(), verifier=support.verifier())
        store.open()
        entries = support.new_entries(store, 3)
        cutter.arm(Blow("connection cut", where, words="COMMIT"))
        with pytest.raises(FatalError) as caught, store.transaction() as connection:
            store.append(connection, entries)
        assert caught.value.reason is Reason.LOG_UNAVAILABLE
        assert not store.healthy
        store.open()
        with store.reading.connect() as connection:
            found = store.find(connection, [entry.key for entry in entries])
        assert found == ({entry.key: 1 + index for index, entry in enumerate(entries)} if there else {})
        done = support.append(store, 1)
        support.close(store)
    assert support.check_log(place, done) == (5 if there else 2)


@pytest.mark.parametrize(("where", "there"), [("before", False), ("after", True)])
async def test_who_tries_again_after_a_connection_was_cut_in_commit_doubles_nothing(
    server: Postgresql,
    place: PostgresDatabase,
    where: str,
    there: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    with between(server) as cutter:
        engine = postgres.open_postgres(cutter.url(place.name, ROLES.writer))
        store = LogStore(engine, support.HUB.log_origin, support.signer(), verifier=support.verifier())
        store.open()
        log = AuditLog(store)
        entries = support.new_entries(store, 3)
        cutter.arm(Blow("connection cut", where, number=2, words="COMMIT"))  # the first is BEGIN … READ COMMITTED
        with pytest.raises(FatalError):
            await log.append(entries)
        assert cutter.struck() == "COMMIT"
        await log.reload()
        assert log.store.is_recorded(entries) is there
        # Another process appends meanwhile.
        other = support.reopen(place)
        done = [support.append(other, 2)]
        support.close(other)
        done.extend([await log.append(entries) for _ in range(2 if there else 1)])
        assert done[-1].first == (1 if there else 3)
        await log.close()
        engine.dispose()
    assert support.check_log(place, *done) == 6


def test_a_commit_whose_standby_did_not_confirm_is_not_acknowledged(
    server: Postgresql, place: PostgresDatabase
) -> None:
    store = support.reopen(place)
    entries = support.new_entries(store, 2)
    failures: list[FatalError] = []

    def append() -> None:
        try:
            with store.transaction() as connection:
                store.append(connection, entries)
        except FatalError as error:
            failures.append(error)

    server.execute("", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        thread = threading.Thread(target=append)
        thread.start()
        until(lambda: waiting(place, "SyncRep") == 1)
        with place.raw("postgres") as connection:
            connection.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = %s",
                (ROLES.writer,),
            )
        thread.join(PATIENCE)
    finally:
        server.execute("", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    assert [error.detail for error in failures] == [store.stopped]
    assert "did not confirm a commit" in (store.stopped or "")
    assert "then try again" in (store.stopped or "")
    store.open()  # waits for the standby itself, as every commit does
    with store.reading.connect() as reading:
        assert len(store.find(reading, [entry.key for entry in entries])) == 2
    support.close(store)
    assert support.check_log(place) == 3


def test_a_commit_that_waits_for_a_standby_for_ever_is_given_up_and_nothing_goes_past_it(
    server: Postgresql, place: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 1)
    store = support.reopen(place)
    entries = support.new_entries(store, 2)
    monkeypatch.setattr(postgres, "_WATCH", watch := SilenceWatch(1.0))
    server.execute("", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        with pytest.raises(FatalError), store.transaction() as connection:
            store.append(connection, entries)
        # The server has not ended that transaction, which still holds the head.
        with pytest.raises(FatalError, match="55P03"):
            store.open()
    finally:
        server.execute("", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    until(lambda: waiting(place, "SyncRep") == 0)
    store.open()
    with store.reading.connect() as reading:
        assert len(store.find(reading, [entry.key for entry in entries])) == 2
    watch.close()
    support.close(store)
    assert support.check_log(place) == 3


def test_a_standby_takes_no_entries_and_says_so(server: Postgresql, place: PostgresDatabase) -> None:
    signal_file = server.directory / "data" / "standby.signal"
    server.stop()
    signal_file.touch()
    try:
        server.start()
        with pytest.raises(FatalError, match="the server is a standby"):
            support.reopen(place)
    finally:
        server.stop()
        signal_file.unlink()
        server.start()
    assert support.check_log(place) == 1
