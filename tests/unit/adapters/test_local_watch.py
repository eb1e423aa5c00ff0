"""The watch over local files: what it records fits into an entry, and nothing that it meets ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.local import LocalWatch
from audit.entry import decode_entry, encode_entry
from local_support import INSURED, PENSION, STOP, Adapter, Clock, signed
from policy.incoming import put
from policy_support import DirectoryKit, make_directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.readiness import Readiness

MANY = 1000


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> DirectoryKit:
    return make_directory(tmp_path_factory.mktemp("city"))


@pytest.fixture
def adapter(kit: DirectoryKit, tmp_path: Path) -> Adapter:
    return Adapter(kit, tmp_path / "state", Clock())


def watch_of(adapter: Adapter, told: list[audit_pb2.LocalPolicyChange]) -> LocalWatch:
    return LocalWatch(adapter.local, adapter.client, adapter.holder, Readiness(()), told.append)


async def test_a_list_of_a_thousand_suspensions_is_recorded_in_one_entry(kit: DirectoryKit, adapter: Adapter) -> None:
    names = [f"incident-2026-{number:04d}-".ljust(64, "o") for number in range(MANY)]
    entries = (f'[[suspend]]\nid = "{name}"\nofficial = "edu/o{number}"\n' for number, name in enumerate(names))
    put(adapter.state / "local", signed(kit, 'department = "hrss"\n' + "".join(entries)))
    told: list[audit_pb2.LocalPolicyChange] = []
    await watch_of(adapter, told).look()
    (event,) = told
    read = decode_entry(encode_entry(event, nonce=bytes(16), time=adapter.clock())).local_policy_change
    *named, more = read.suspension_ids
    assert named == names[: len(named)]
    assert more == f"+{MANY - len(named)}"
    assert len(named) > MANY / 5


async def test_what_is_recorded_is_marked_and_what_is_not_is_told_by_the_next_process(
    kit: DirectoryKit, adapter: Adapter
) -> None:
    told: list[audit_pb2.LocalPolicyChange] = []
    put(adapter.state / "local", signed(kit, STOP))
    await watch_of(adapter, told).look()
    adapter.start()
    watch = watch_of(adapter, told)
    await watch.look()
    assert told[0] == told[1]
    await watch.recorded(told[1])
    adapter.start()
    await watch_of(adapter, told).look()
    assert len(told) == 2


async def test_an_error_that_nobody_thought_of_does_not_end_the_watch(
    kit: DirectoryKit, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[audit_pb2.LocalPolicyChange] = []
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fails(*_arguments: object) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise KeyError

    task = asyncio.create_task(watch_of(adapter, told).watch())
    with monkeypatch.context() as broken:
        broken.setattr(adapter.local, "look", fails)
        async with asyncio.timeout(60):
            await failed.wait()
    put(adapter.state / "local", signed(kit, STOP))
    async with asyncio.timeout(60):
        while not told:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)
    assert adapter.denied() == (PENSION, INSURED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
