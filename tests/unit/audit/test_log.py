from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import audit_support as support
from audit.appended import Appended
from audit.log import AuditLog
from audit.proofs import HeadView, check_entry
from audit.store import LogStore
from zhiwang.wire.errors import FatalError, Reason, RefusedError


class Opened:
    """A log that is checked when its test ends, with what was acknowledged."""

    def __init__(self, path: Path, *, queue_limit: int = 8192) -> None:
        self.path = path
        self.store = support.make_store(path)
        self.log = AuditLog(self.store, queue_limit=queue_limit)
        self.acknowledged: list[Appended] = []

    async def append(self, count: int = 1) -> Appended:
        appended = await self.log.append(support.new_entries(self.store, count))
        self.acknowledged.append(appended)
        return appended


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    opened = Opened(tmp_path / "log.db")
    yield opened
    await opened.log.close()
    opened.store.engine.dispose()
    support.check_log(opened.path, *opened.acknowledged)


class SlowCommit:
    """Holds the writer before each transaction until it is let go."""

    def __init__(self, store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.groups: list[int] = []
        inner = store.append

        def append(connection: object, entries: list[object]) -> Appended:
            self.groups.append(len(entries))
            self.entered.set()
            assert self.gate.wait(30)
            return inner(connection, entries)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr(store, "append", append)

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


async def test_many_callers_share_transactions_and_each_gets_its_own_entries(opened: Opened) -> None:

    async def caller(number: int) -> None:
        for turn in range(20):
            count = 1 + (number + turn) % 4
            entries = support.new_entries(opened.store, count)
            appended = await opened.log.append(entries)
            assert list(appended.entries) == [entry.data for entry in entries]
            assert len(appended.paths) == count
            opened.acknowledged.append(appended)

    await asyncio.gather(*(caller(number) for number in range(32)))
    transactions = len({appended.size for appended in opened.acknowledged})
    assert transactions < len(opened.acknowledged) / 4
    assert opened.log.waiting == 0


async def test_entries_gather_while_another_group_is_written(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCommit(opened.store, monkeypatch)
    first = asyncio.create_task(opened.append())
    await slow.busy()
    rest = [asyncio.create_task(opened.append(2)) for _ in range(50)]
    await asyncio.sleep(0.01)
    slow.gate.set()
    await asyncio.gather(first, *rest)
    assert slow.groups == [1, 100]


async def test_neighbouring_entries_of_one_caller_stay_neighbours(opened: Opened) -> None:
    parts = await asyncio.gather(*(opened.append(count) for count in (3, 1, 300, 2)))
    taken = [index for part in parts for index in part.indexes]
    assert sorted(taken) == list(range(1, 307))


async def test_a_frame_over_several_groups_is_proved_by_one_head(opened: Opened) -> None:
    view = HeadView(support.checker())
    for _ in range(3):
        parts = [await opened.append(3) for _ in range(4)]
        head, logged = await opened.log.frame(parts, view.known_tree_size)
        checkpoint = view.verify_head(head)
        assert len(logged) == 12
        for entry in logged:
            check_entry(entry, checkpoint)
    head = await opened.log.head(view.known_tree_size)
    assert view.verify_head(head) == view.newest


async def test_an_old_head_is_proved_from_the_disk_without_blocking_the_loop(opened: Opened) -> None:
    await opened.append(300)
    await opened.log.close()
    opened.store.engine.dispose()
    opened.store = support.reopen(opened.path)
    opened.log = AuditLog(opened.store)
    appended = await opened.append(5)
    head, _ = await opened.log.frame([appended], 7)
    assert head.known_tree_size == 7
    assert list(head.consistency_path) == opened.store.consistency(7, appended.size)
    assert (await opened.log.head(7)).consistency_path == head.consistency_path


async def test_a_caller_that_gives_up_is_recorded_all_the_same(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCommit(opened.store, monkeypatch)
    waiting = asyncio.create_task(opened.log.append(support.new_entries(opened.store, 1)))
    await slow.busy()
    queued = asyncio.create_task(opened.log.append(support.new_entries(opened.store, 2)))
    await asyncio.sleep(0)
    for task in (waiting, queued):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    slow.gate.set()
    assert (await opened.append()).first == 4
    assert opened.log.waiting == 0


async def test_a_full_queue_refuses_at_once_and_takes_more_when_it_has_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path / "log.db", queue_limit=10)
    slow = SlowCommit(opened.store, monkeypatch)
    waiting = [asyncio.create_task(opened.append(5)) for _ in range(2)]
    await slow.busy()
    with pytest.raises(RefusedError) as caught:
        await opened.append(1)
    assert caught.value.reason is Reason.OVERLOADED
    slow.gate.set()
    await asyncio.gather(*waiting)
    await opened.append(1)
    # More than the limit is taken whole from an idle queue: otherwise such a caller would never be served.
    await opened.append(11)
    await opened.log.close()
    opened.store.engine.dispose()
    assert support.check_log(opened.path, *opened.acknowledged) == 1 + 10 + 1 + 11


async def test_what_waits_is_written_before_the_log_closes(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCommit(opened.store, monkeypatch)
    waiting = [asyncio.create_task(opened.append()) for _ in range(20)]
    await slow.busy()
    closing = asyncio.create_task(opened.log.close())
    await asyncio.sleep(0)
    with pytest.raises(RefusedError) as caught:
        await opened.append()
    assert caught.value.reason is Reason.SHUTTING_DOWN
    slow.gate.set()
    await asyncio.gather(closing, *waiting)
    assert len(opened.acknowledged) == 20
    assert not opened.log.healthy
    await opened.log.close()


async def test_an_event_is_recorded_in_one_call(opened: Opened) -> None:
    appended = await opened.log.record(support.event(5))
    opened.acknowledged.append(appended)
    head, logged = await opened.log.frame([appended])
    assert check_entry(logged[0], support.checker().check(head)).audit_read.start == 5


async def test_a_reload_of_a_healthy_log_disturbs_nobody(opened: Opened) -> None:
    tasks = [asyncio.create_task(opened.append()) for _ in range(30)]
    head = await opened.log.reload()
    await asyncio.gather(*tasks)
    assert head.size <= opened.store.newest.size == 31
    assert opened.log.healthy


async def test_a_mistake_in_an_entry_stops_the_log_rather_than_its_writer(opened: Opened) -> None:
    broken = support.new_entries(opened.store, 1)[0]._replace(key=b"short")
    with pytest.raises(FatalError):
        await opened.log.append([broken])
    assert not opened.log.healthy
    with pytest.raises(FatalError):
        await opened.append()
    await opened.log.reload()
    await opened.append()


async def test_appending_nothing_is_the_callers_mistake_and_disturbs_nobody(opened: Opened) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await opened.log.append([])
    assert opened.log.healthy
    await opened.append()


async def test_an_error_of_our_own_stops_the_log_too(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: object, entries: object) -> Appended:
        raise RuntimeError(connection, entries)

    monkeypatch.setattr(opened.store, "append", broken)
    with pytest.raises(FatalError):
        await opened.append()
    monkeypatch.undo()
    assert not opened.log.healthy
    with pytest.raises(FatalError):
        await opened.append()
    await opened.log.reload()
    await opened.append()


async def test_a_group_is_bounded_but_one_callers_entries_are_never_parted(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.log.GROUP_LIMIT", 10)
    slow = SlowCommit(opened.store, monkeypatch)
    tasks = [asyncio.create_task(opened.append())]
    await slow.busy()
    tasks += [asyncio.create_task(opened.append(count)) for count in (4, 4, 4, 30, 1)]
    await asyncio.sleep(0.01)
    slow.gate.set()
    await asyncio.gather(*tasks)
    assert slow.groups == [1, 12, 30, 1]
