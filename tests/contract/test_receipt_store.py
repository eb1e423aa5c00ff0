"""Kept receipts: found by their reference, closed to whoever has only the files, gone when their time is over."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from audit import sqlite
from client_support import CASE, CHILD, CONTEXT, MOTHER, World
from exchange.client import keeper as keepers
from exchange.client import receipt_store
from exchange.client.check import check_answer
from exchange.client.keeper import Keeper
from exchange.client.receipt import build_receipt
from exchange.client.receipt_keys import Sealed, YearKey
from exchange.client.receipt_rows import Found, Paper, encode
from exchange.client.receipt_store import PAGE, SLICE, ReceiptStore, year_of
from exchange.client.receipt_verify import verify_receipt
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.profile import load_profile

REFERENCE = CONTEXT.reference
KEY = "our-own-number-9"


def at(year: int, month: int = 6, day: int = 1, hour: int = 12) -> float:
    return datetime(year, month, day, hour, tzinfo=CITY_TIME).timestamp()


NOW = at(2026)
DAY = 86_400


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def receipt(world: World) -> verification_pb2.Receipt:
    sealed = world.seal(world.prepare(CASE))
    return build_receipt([check_answer(one, world.deliver(one)) for one in sealed], 0)


class Kit:
    """A store in a directory, and its files."""

    def __init__(self, path: Path, receipt: verification_pb2.Receipt) -> None:
        self.directory, self.keys = path / "state" / "receipts", path / "keys"
        assert ReceiptStore.create(self.directory, self.keys, NOW)
        self.file = self.directory / receipt_store.FILE
        self.receipt = receipt
        self.store = ReceiptStore(self.directory, self.keys)

    def reopen(self) -> ReceiptStore:
        self.store.close()
        self.store = ReceiptStore(self.directory, self.keys)
        return self.store

    def paper(self, key: str = KEY, reference: str = REFERENCE) -> Paper:
        return Paper(reference, key, self.receipt)

    def add(self, *keys: str, now: float = NOW, reference: str = REFERENCE) -> None:
        self.store.add([self.paper(key, reference) for key in keys or (KEY,)], now)

    def old_row(self, name: str) -> Sealed:
        """As an older release keeps a receipt, without its place by case."""
        row = Sealed(os.urandom(16), 2026, int(NOW * 1000), self.key.found(REFERENCE), b"", None)
        return self.key.seal_again(encode(self.paper(name)), row)

    @property
    def key(self) -> YearKey:
        return YearKey(2026, bytes.fromhex((self.keys / "2026.key").read_text()))

    def found(self, reference: str = REFERENCE) -> list[Found]:
        return list(self.store.find(reference))

    def kept(self) -> list[str]:
        return [one.key for one in self.found()]

    def purge(self, keep: float, now: float) -> int:
        deleted = 0
        while part := self.store.purge(keep, now):
            deleted += part
        assert self.store.clear()
        return deleted

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute(statement)
            connection.commit()

    def bytes_on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.directory.iterdir()) if path.is_file())


@pytest.fixture
def kit(tmp_path: Path, receipt: verification_pb2.Receipt) -> Iterator[Kit]:
    kit = Kit(tmp_path, receipt)
    yield kit
    kit.store.close()


def test_a_kept_receipt_is_found_by_its_reference_and_holds_offline(kit: Kit, world: World) -> None:
    kit.add()
    kit.add("another", reference="2026-000124")
    kit.reopen()
    (found,) = kit.found()
    assert (found.kept, found.matter, found.key) == (NOW, "school-enrolment", KEY)
    assert found.receipt == kit.receipt
    assert found.receipt is not None
    assert {part.header.reference for part in verify_receipt(found.receipt, world.verifier)} == {REFERENCE}
    assert kit.found("2026-000125") == []
    assert REFERENCE not in repr(found)


def test_every_receipt_of_a_roster_is_found_in_the_order_of_keeping(kit: Kit) -> None:
    names = [str(number) for number in range(2 * PAGE + 3)]
    kit.add(*names)
    assert kit.kept() == names


def test_nothing_of_a_case_stands_in_the_files(kit: Kit) -> None:
    kit.add()
    secrets = (CHILD, MOTHER, "小明", "李·梅", REFERENCE, KEY, "school-enrolment", "clerk-17", "hrss", "edu")
    for content in (kit.bytes_on_disk(), *[path.read_bytes() for path in kit.keys.iterdir()]):
        for secret in secrets:
            assert secret.encode() not in content
    kit.reopen()
    assert len(kit.found()) == 1
    assert kit.receipt.parts[0].owner_log.checkpoint not in kit.bytes_on_disk()


def test_the_same_reference_looks_otherwise_in_another_year(kit: Kit) -> None:
    kit.add("a")
    kit.add("b", now=at(2027))
    with closing(sqlite3.connect(kit.file)) as connection:
        assert len(set(connection.execute("SELECT found FROM receipt"))) == 2
    assert kit.kept() == ["a", "b"]


def test_files_belong_to_the_agents_user_alone(kit: Kit) -> None:
    kit.add()
    for path in (*kit.directory.iterdir(), *kit.keys.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600, path
    for path in (kit.directory, kit.keys):
        assert path.stat().st_mode & 0o777 == 0o700
    (kit.keys / "2026.key").chmod(0o640)
    with pytest.raises(FatalError, match="chmod 600"):
        kit.reopen().check_keys()


@pytest.mark.parametrize(
    "change",
    [
        (
            "UPDATE receipt SET sealed = cast(substr(sealed, 1, length(sealed) - 1)"
            " || CASE substr(sealed, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB) WHERE number = 1"
        ),
        "UPDATE receipt SET kept = kept + 1 WHERE number = 1",
        "UPDATE receipt SET kept = -1 WHERE number = 1",
        "UPDATE receipt SET sealed = x'' WHERE number = 1",
        "UPDATE receipt SET id = randomblob(16) WHERE number = 1",
        "UPDATE receipt SET sealed = (SELECT sealed FROM receipt WHERE number = 2) WHERE number = 1",
        "UPDATE receipt SET sealed = x'00' WHERE number = 1",
        "UPDATE receipt SET found = (SELECT found FROM receipt WHERE number = 2) WHERE number = 3",
    ],
)
def test_a_row_that_was_changed_is_noticed_and_spoils_no_other(kit: Kit, change: str) -> None:
    kit.add("a", "b")
    kit.add("c", reference="2026-000124")
    kit.change(change)
    found = kit.found()
    assert [one.receipt is None for one in found].count(True) == 1
    assert "b" in [one.key for one in found]


def test_another_key_is_noticed(kit: Kit) -> None:
    kit.add()
    (kit.keys / "2026.key").write_text("ab" * 32 + "\n")
    store = kit.reopen()
    for attempt in (store.check_keys, kit.found, kit.add):
        with pytest.raises(FatalError, match="another key"):
            attempt()


@pytest.mark.parametrize("content", [None, "", "x" * 65, "ab" * 32])
def test_a_key_that_is_gone_or_broken_is_asked_back_and_never_made_anew(kit: Kit, content: str | None) -> None:
    kit.add()
    path = kit.keys / "2026.key"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    store = kit.reopen()
    for attempt in (store.check_keys, kit.found, kit.add):
        with pytest.raises(FatalError, match="backup"):
            attempt()
    assert path.exists() is (content is not None)


def test_no_store_comes_into_being_because_one_is_missing(tmp_path: Path, kit: Kit) -> None:
    with pytest.raises(FatalError, match="init"):
        ReceiptStore(tmp_path / "elsewhere", kit.keys)
    kit.add()
    assert not ReceiptStore.create(kit.directory, kit.keys, NOW)
    assert kit.kept() == [KEY]


def test_a_file_that_is_no_store_is_refused(kit: Kit) -> None:
    kit.change("PRAGMA user_version = 9")
    with pytest.raises(FatalError, match="this version"):
        kit.reopen()


def test_an_init_that_was_interrupted_can_be_repeated(tmp_path: Path) -> None:
    directory, keys = tmp_path / "receipts", tmp_path / "keys"
    directory.mkdir()
    (directory / f".{receipt_store.FILE}.new").write_bytes(b"half")
    assert ReceiptStore.create(directory, keys, NOW)
    ReceiptStore(directory, keys).close()


def test_what_is_over_its_time_is_deleted_and_nothing_else(kit: Kit) -> None:
    kit.add("old", now=NOW - 11 * DAY)
    kit.add("young", now=NOW - 9 * DAY)
    with closing(sqlite3.connect(kit.file)) as connection:
        (sealed,) = connection.execute("SELECT sealed FROM receipt WHERE number = 1").fetchone()
    assert sealed[100:200] in kit.bytes_on_disk()
    assert kit.purge(10 * DAY, NOW) == 1
    assert kit.kept() == ["young"]
    assert sealed[100:200] not in kit.bytes_on_disk(), "neither in the file nor in the write-ahead log"
    assert kit.purge(10 * DAY, NOW) == 0


def test_a_large_purge_goes_by_slices_so_that_keeping_goes_on_between(kit: Kit) -> None:
    kit.add(*map(str, range(SLICE + 5)), now=NOW - 11 * DAY)
    assert kit.store.purge(10 * DAY, NOW) == SLICE
    kit.add("new")
    assert kit.purge(10 * DAY, NOW) == 5
    assert kit.kept() == ["new"]


def test_a_clock_that_goes_back_keeps_under_the_key_of_that_year(kit: Kit) -> None:
    kit.add("new year", now=at(2027, 1, 1, 0))
    kit.add("back", now=at(2026, 12, 31, 23))
    assert sorted(path.name for path in kit.keys.iterdir()) == ["2026.key", "2027.key"]
    assert kit.kept() == ["back", "new year"]
    kit.reopen().check_keys()


def test_the_year_is_the_citys(kit: Kit) -> None:
    assert year_of(at(2027, 1, 1, 0)) == 2027
    assert year_of(at(2027, 1, 1, 0) - 1) == 2026
    assert kit.kept() == []


def test_a_year_is_erased_by_its_key_in_every_backup(kit: Kit, tmp_path: Path) -> None:
    kit.add("old", now=at(2025))
    kit.add("new")
    backup = tmp_path / "backup"
    backup.mkdir()
    with closing(sqlite3.connect(kit.file)) as source, closing(sqlite3.connect(backup / "receipts.db")) as target:
        source.backup(target)
    assert kit.store.erase(2025, NOW) == 1
    assert not (kit.keys / "2025.key").exists()
    assert kit.kept() == ["new"]
    kit.reopen().check_keys()
    with closing(ReceiptStore(backup, kit.keys)) as old, pytest.raises(FatalError, match="2025"):
        list(old.find(REFERENCE))


def test_in_an_erased_year_nothing_is_kept_any_more(kit: Kit) -> None:
    kit.add(now=at(2025))
    kit.store.erase(2025, NOW)
    with pytest.raises(FatalError, match="erased"):
        kit.add(now=at(2025))
    kit.add()


@pytest.mark.parametrize("year", [2026, 2027, 2024])
def test_a_year_that_is_not_over_or_was_never_used_cannot_be_erased(kit: Kit, year: int) -> None:
    kit.add()
    with pytest.raises(RefusedError):
        kit.store.erase(year, NOW)
    assert kit.kept() == [KEY]


def test_a_lost_key_is_given_up_by_erasing_its_year(kit: Kit) -> None:
    kit.add("lost", now=at(2025))
    kit.add("new")
    (kit.keys / "2025.key").unlink()
    kit.reopen().erase(2025, NOW)
    kit.reopen().check_keys()
    assert kit.kept() == ["new"]


@pytest.mark.parametrize("content", [None, "", "cd" * 32 + "\n"])
def test_a_lost_key_of_this_year_is_given_up_and_the_year_begins_anew(kit: Kit, content: str | None) -> None:
    kit.add("older", now=at(2025))
    kit.add("lost")
    path = kit.keys / "2026.key"
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    store = kit.reopen()
    with pytest.raises(FatalError, match="purge --year 2026"):
        store.check_keys()
    assert store.erase(2026, NOW) == 1
    assert not path.exists()
    kit.add("new")
    kit.reopen().check_keys()
    assert kit.kept() == ["older", "new"]


def test_a_key_of_this_year_that_others_can_read_is_not_taken_for_lost(kit: Kit) -> None:
    kit.add()
    (kit.keys / "2026.key").chmod(0o640)
    with pytest.raises(FatalError, match="chmod 600"):
        kit.store.erase(2026, NOW)
    (kit.keys / "2026.key").chmod(0o600)
    assert kit.kept() == [KEY]


def test_giving_up_this_year_can_be_ended_after_a_crash(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.add("lost")
    (kit.keys / "2026.key").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(kit.store._keys, "destroy", lambda _year: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kit.store.erase(2026, NOW)
    kit.reopen().erase(2026, NOW)
    kit.add("new")
    assert kit.kept() == ["new"]


def test_nothing_is_kept_under_a_key_whose_file_is_gone(kit: Kit) -> None:
    kit.add()
    key = (kit.keys / "2026.key").read_bytes()
    (kit.keys / "2026.key").unlink()
    with pytest.raises(FatalError, match="backup"):
        kit.add("never")
    (kit.keys / "2026.key").write_bytes(key)
    (kit.keys / "2026.key").chmod(0o600)
    kit.add("again")
    assert kit.kept() == [KEY, "again"]


def test_keys_that_others_can_reach_or_that_lie_within_the_state_are_refused(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    keys.chmod(0o750)
    with pytest.raises(FatalError, match="chmod 700"):
        ReceiptStore.create(tmp_path / "state" / "receipts", keys, NOW)
    assert not (tmp_path / "state").exists()
    path = tmp_path / "edu.toml"
    path.write_text(
        'hub = ["hub:1"]\nroot = "root"\nidentity = "identity"\nstate = "state"\n'
        '[agent.receipts]\nkeep = "10d"\nkeys = "state/keys"\n'
    )
    with pytest.raises(FatalError, match="within the state"):
        keepers.make_store(load_profile(path), NOW)


def test_a_key_dies_with_the_last_receipt_of_its_year(kit: Kit) -> None:
    kit.add("old", now=at(2025, 12, 1))
    kit.add("new")
    kit.purge(150 * DAY, NOW)
    assert [path.name for path in kit.keys.iterdir()] == ["2026.key"]
    kit.add("back", now=at(2025, 12, 31))
    assert (kit.keys / "2025.key").exists()
    assert kit.reopen().find(REFERENCE)
    assert kit.kept() == ["back", "new"]


def test_a_key_that_outlived_a_crash_of_an_erasure_is_destroyed_later(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.add("old", now=at(2025))
    kit.add("new")
    with monkeypatch.context() as patch:
        patch.setattr(kit.store._keys, "destroy", lambda _year: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kit.store.erase(2025, NOW)
    assert (kit.keys / "2025.key").exists()
    kit.reopen()
    assert kit.kept() == ["new"]
    kit.purge(3650 * DAY, NOW)
    assert not (kit.keys / "2025.key").exists()
    assert kit.store.erase(2025, NOW) == 1


# The keeper over it.


async def opened(kit: Kit, **options: object) -> Keeper:
    return Keeper(kit.store, 10 * DAY, clock=lambda: NOW, **options)  # type: ignore[arg-type]  # named options


def commits(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    real: Callable[..., None] = kit.store.add

    def add(papers: list[Paper], now: float) -> None:
        counts.append(len(papers))
        real(papers, now)

    monkeypatch.setattr(kit.store, "add", add)
    return counts


async def test_many_callers_share_a_sync_of_the_disk(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = commits(kit, monkeypatch)
    keeper = await opened(kit)
    await asyncio.gather(*(keeper.keep([kit.paper(str(number))]) for number in range(100)))
    assert sum(counts) == 100
    assert len(counts) < 10
    assert keeper.waiting == 0
    assert sorted(kit.kept(), key=int) == [str(number) for number in range(100)]
    await keeper.close()


async def test_what_was_promised_is_there_for_another_process_at_once(kit: Kit) -> None:
    keeper = await opened(kit)
    await keeper.keep([kit.paper()])
    with closing(ReceiptStore(kit.directory, kit.keys)) as other:
        assert [one.key for one in other.find(REFERENCE)] == [KEY]
    await keeper.close()


async def test_a_full_queue_is_told_at_once_and_holds_nothing(kit: Kit) -> None:
    keeper = await opened(kit, queue_limit=3)
    first = asyncio.create_task(keeper.keep([kit.paper("a"), kit.paper("b")]))
    await asyncio.sleep(0)
    with pytest.raises(RefusedError) as caught:
        await keeper.keep([kit.paper("c"), kit.paper("d")])
    assert caught.value.reason is Reason.RECEIPT_NOT_KEPT
    await first
    await keeper.keep([kit.paper("e")])
    assert kit.kept() == ["a", "b", "e"]
    await keeper.close()


async def test_a_roster_waits_for_room_and_a_single_case_is_counted_as_missed(
    kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    missed: Counter[keepers.Missed] = Counter()
    keeper = await opened(kit, queue_limit=4, missed=lambda why, count: missed.update({why: count}))
    end = asyncio.get_running_loop().time() + 60
    rosters = [keeper.keep_until([kit.paper(f"{i}-{j}") for j in range(4)], end, patient=True) for i in range(6)]
    waiting = [asyncio.create_task(one) for one in rosters]
    await asyncio.sleep(0)
    assert [await keeper.keep_until([kit.paper("single")], end) for _ in range(3)] == [False] * 3
    assert await asyncio.gather(*waiting) == [True] * 6
    assert missed == {keepers.Missed.QUEUE_FULL: 3}
    assert len(kit.kept()) == 24
    await keeper.close()
    assert capsys.readouterr().out.count("receipts were not kept") == 1


async def test_closing_ends_who_waits_for_room(kit: Kit) -> None:
    keeper = await opened(kit, queue_limit=1)
    first, second = (asyncio.create_task(keeper.keep([kit.paper(key)], patient=True)) for key in ("a", "b"))
    await asyncio.sleep(0)
    await keeper.close()
    await first
    with pytest.raises(RefusedError, match="RECEIPT_NOT_KEPT"):
        await second
    kit.reopen()
    assert kit.kept() == ["a"]


async def test_a_store_that_fails_fails_its_callers_and_recovers_by_itself(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = await opened(kit)
    with monkeypatch.context() as patch:
        patch.setattr(receipt_store, "_ADD", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)")
        for _ in range(3):
            assert not await keeper.keep_until([kit.paper("no")], asyncio.get_running_loop().time() + 30)
    states = [keeper.failing]
    assert await keeper.keep_until([kit.paper("yes")], asyncio.get_running_loop().time() + 30)
    states.append(keeper.failing)
    assert states == [True, False]
    await keeper.close()
    kit.reopen()
    assert kit.kept() == ["yes"]
    said = capsys.readouterr().out
    assert said.count("receipts cannot be kept") == 1
    assert said.count("receipts are kept again") == 1
    for secret in (CHILD, MOTHER, "小明", REFERENCE):
        assert secret not in said


async def test_who_cannot_wait_any_longer_is_told_that_nothing_is_sure(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed: Counter[keepers.Missed] = Counter()
    keeper = await opened(kit, missed=lambda why, count: missed.update({why: count}))
    go = asyncio.Event()
    loop = asyncio.get_running_loop()
    real = keeper._commit

    def slow(papers: list[Paper]) -> None:
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        real(papers)

    monkeypatch.setattr(keeper, "_commit", slow)
    assert not await keeper.keep_until([kit.paper("late")], loop.time() + 0.05)
    go.set()
    assert await keeper.keep_until([kit.paper("next")], loop.time() + 30)
    assert kit.kept() == ["late", "next"]
    assert missed == {keepers.Missed.LATE: 1}
    await keeper.close()


async def test_closing_writes_what_waits_and_takes_no_more(kit: Kit) -> None:
    keeper = await opened(kit)
    waiting = asyncio.create_task(keeper.keep([kit.paper()]))
    await asyncio.sleep(0)
    await keeper.close()
    await waiting
    with pytest.raises(RefusedError):
        await keeper.keep([kit.paper()])
    kit.reopen()
    assert kit.kept() == [KEY]


async def test_the_agent_purges_at_once_and_every_hour(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "PURGE_SECONDS", 0.01)
    keeper = await opened(kit)
    purging = asyncio.create_task(keeper.purge_hourly(lambda: True))
    for name in ("first", "second"):
        kit.add(name, now=NOW - 11 * DAY)
        kit.add("young")
        async with asyncio.timeout(30):
            while name in kit.kept():  # noqa: ASYNC110  another task's work
                await asyncio.sleep(0.01)
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    assert kit.kept() == ["young", "young"]
    await keeper.close()


async def test_a_purge_holds_nobody_up_while_somebody_reads_and_ends_its_work_later(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keepers, "CLEAR_AGAIN_SECONDS", 0.01)
    # Whoever waits for the reader as transactions wait for each other outlasts this test.
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 1000.0)
    kit.reopen()
    keeper = await opened(kit)
    kit.add("old", now=NOW - 11 * DAY)
    kit.add("young")
    with closing(sqlite3.connect(kit.file)) as connection:
        (sealed,) = connection.execute("SELECT sealed FROM receipt WHERE number = 1").fetchone()
    with closing(sqlite3.connect(kit.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM receipt").fetchone()
        purging = asyncio.create_task(keeper.purge_hourly(lambda: True))
        async with asyncio.timeout(60):
            while "old" in kit.kept():
                await keeper.keep([kit.paper("meanwhile")])
            assert not await asyncio.to_thread(kit.store.clear)
            for _ in range(3):
                await keeper.keep([kit.paper("meanwhile")])
        reader.execute("ROLLBACK")
    async with asyncio.timeout(60):
        while sealed[100:200] in kit.bytes_on_disk():  # noqa: ASYNC110  another task's work
            await asyncio.sleep(0.01)
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    await keeper.close()
    assert "could not be deleted" not in capsys.readouterr().out


async def test_a_clock_that_jumps_within_a_purge_deletes_nothing_more(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.add(*map(str, range(SLICE + 5)), now=NOW - 11 * DAY)
    kit.add("young")
    now = NOW
    real = kit.store.purge
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def purge(keep: float, by: float) -> int:
        nonlocal now
        now = NOW + 400 * DAY
        deleted = real(keep, by)
        if not deleted:
            loop.call_soon_threadsafe(done.set)
        return deleted

    monkeypatch.setattr(kit.store, "purge", purge)
    keeper = Keeper(kit.store, 10 * DAY, clock=lambda: now)
    purging = asyncio.create_task(keeper.purge_hourly(lambda: now == NOW))
    async with asyncio.timeout(60):
        await done.wait()
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    assert kit.kept() == ["young"]
    await keeper.close()


async def test_by_a_clock_that_may_run_ahead_nothing_is_deleted(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "PURGE_SECONDS", 0.01)
    monkeypatch.setattr(keepers, "UNTIMELY_SECONDS", 0.01)
    kit.add()
    looked = 0
    timely = False

    def in_force() -> bool:
        nonlocal looked
        looked += 1
        return timely

    keeper = Keeper(kit.store, 10 * DAY, clock=lambda: NOW + 3650 * DAY)
    purging = asyncio.create_task(keeper.purge_hourly(in_force))
    async with asyncio.timeout(30):
        while looked < 20:  # noqa: ASYNC110  another task's work
            await asyncio.sleep(0.01)
    assert kit.kept() == [KEY]
    timely = True
    async with asyncio.timeout(30):
        while kit.kept():  # noqa: ASYNC110  another task's work
            await asyncio.sleep(0.01)
    purging.cancel()
    await asyncio.gather(purging, return_exceptions=True)
    await keeper.close()


# What receipts gain afterwards.


def gained(receipt: verification_pb2.Receipt) -> verification_pb2.Receipt:
    changed = verification_pb2.Receipt()
    changed.CopyFrom(receipt)
    for part in changed.parts:
        part.hub_cosigned.checkpoint = b"cosigned"
    return changed


def test_a_receipt_that_waits_is_completed_in_its_place(kit: Kit) -> None:
    kit.add("one", "two", "three")
    waiting = kit.store.waiting(0, 0, 10)
    assert [one.key for one in waiting] == ["one", "two", "three"]
    second = waiting[1]._replace(receipt=gained(kit.receipt))
    kit.store.complete([second], NOW + 9)
    assert [one.key for one in kit.store.waiting(0, 0, 10)] == ["one", "three"]
    kit.reopen()
    found = {one.key: one for one in kit.found()}
    assert found["two"].receipt == second.receipt
    assert (found["two"].kept, found["two"].id) == (NOW, second.row.id.hex())
    assert found["one"].receipt == found["three"].receipt == kit.receipt
    assert [one.number for one in waiting] == sorted(one.number for one in waiting)


def test_only_so_many_that_wait_are_read_at_a_time_and_none_that_are_older(kit: Kit) -> None:
    kit.add("old", now=NOW - 10 * DAY)
    kit.add("one", "two", "three")
    first = kit.store.waiting(NOW - DAY, 0, 2)
    assert [one.key for one in first] == ["one", "two"]
    assert [one.key for one in kit.store.waiting(NOW - DAY, first[-1].number, 2)] == ["three"]


def test_a_receipt_that_was_deleted_meanwhile_does_not_come_back(kit: Kit) -> None:
    kit.add("one")
    (one,) = kit.store.waiting(0, 0, 10)
    kit.purge(0, NOW + DAY)
    kit.add("another")  # may get the number of the deleted one
    kit.store.complete([one._replace(receipt=gained(kit.receipt))], NOW)
    (found,) = kit.found()
    assert (found.key, found.receipt) == ("another", kit.receipt)


def test_a_completed_receipt_is_bound_to_its_row_like_any(kit: Kit) -> None:
    kit.add("one", "two")
    waiting = kit.store.waiting(0, 0, 10)
    kit.store.complete([one._replace(receipt=gained(kit.receipt)) for one in waiting], NOW)
    kit.change("UPDATE receipt SET sealed = (SELECT sealed FROM receipt WHERE number = 2) WHERE number = 1")
    kit.reopen()
    assert [found.receipt is None for found in kit.found()] == [True, False]
    # A row that was changed is passed over, and spoils no other.
    kit.change("UPDATE receipt SET completed = 0")
    assert [one.number for one in kit.store.waiting(0, 0, 10)] == [2]


def test_without_its_key_no_receipt_is_completed(kit: Kit) -> None:
    kit.add("one")
    waiting = kit.store.waiting(0, 0, 10)
    (kit.keys / "2026.key").unlink()
    with pytest.raises(FatalError, match="is not there"):
        kit.store.waiting(0, 0, 10)
    with pytest.raises(FatalError, match="is not there"):
        kit.store.complete(waiting, NOW)


SECOND = ("DROP INDEX receipt_case", "DROP INDEX receipt_caseless", "ALTER TABLE receipt DROP COLUMN by_case")
"""What an older store lacks of this version, and of the one before."""
FIRST = (*SECOND, "DROP INDEX receipt_waiting", "ALTER TABLE receipt DROP COLUMN completed")


def older(kit: Kit, *names: str, version: int) -> None:
    """A store of an older release with receipts, opened by this one."""
    kit.store.close()
    for statement in (*(FIRST if version == 1 else SECOND), f"PRAGMA user_version = {version}"):
        kit.change(statement)
    rows = [kit.old_row(name) for name in names]
    with closing(sqlite3.connect(kit.file)) as connection:
        connection.execute("INSERT INTO year (year, proof) VALUES (2026, ?)", (kit.key.proof,))
        connection.executemany(
            "INSERT INTO receipt (id, year, kept, found, sealed) VALUES (?, ?, ?, ?, ?)", [row[:5] for row in rows]
        )
        connection.commit()
    kit.store = ReceiptStore(kit.directory, kit.keys)


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_of_before_is_taken_up_with_its_receipts(kit: Kit, version: int) -> None:
    older(kit, "one", "two", version=version)
    assert kit.kept() == ["one", "two"]
    assert [one.key for one in kit.store.find_case(REFERENCE, "two")] == ["two"]
    one, two = kit.store.waiting(0, 0, 10)
    kit.store.complete([one._replace(receipt=gained(kit.receipt))], NOW)
    kit.reopen()
    assert [waiting.key for waiting in kit.store.waiting(0, 0, 10)] == [two.key]
    # What is kept from now on stands beside them.
    kit.add("two")
    assert [one.key for one in kit.store.find_case(REFERENCE, "two")] == ["two", "two"]


def test_of_one_case_of_a_long_job_only_its_own_receipts_are_opened(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.add(*(f"R{number}" for number in range(2 * PAGE)))
    kit.add("R17", now=NOW + DAY)
    kit.add("R17", reference="2026-000124")
    opened: list[Sealed] = []
    opening = YearKey.open

    def noted(key: YearKey, row: Sealed) -> bytes | None:
        opened.append(row)
        return opening(key, row)

    monkeypatch.setattr(YearKey, "open", noted)
    assert [one.key for one in kit.store.find_case(REFERENCE, "R17")] == ["R17", "R17"]
    assert len(opened) == 2
    assert list(kit.store.find_case(REFERENCE, "R1700")) == []
    assert len(opened) == 2


def test_a_receipt_that_was_moved_to_another_case_is_not_taken_for_its_receipt(kit: Kit) -> None:
    kit.add("one", "two")
    kit.change("UPDATE receipt SET by_case = (SELECT by_case FROM receipt WHERE number = 2)")
    assert [one.receipt is None for one in kit.store.find_case(REFERENCE, "two")] == [True, False]
    kit.change("UPDATE receipt SET by_case = NULL")
    assert [one.receipt is None for one in kit.store.find_case(REFERENCE, "two")] == [True, True]


def test_the_places_of_a_case_tell_nothing_and_differ_from_year_to_year(kit: Kit) -> None:
    kit.add("one")
    kit.add("one", now=at(2027))
    kit.add("one", reference="2026-000124")
    with closing(sqlite3.connect(kit.file)) as connection:
        assert len(set(connection.execute("SELECT by_case FROM receipt"))) == 3
    assert [one.key for one in kit.store.find_case(REFERENCE, "one")] == ["one", "one"]
