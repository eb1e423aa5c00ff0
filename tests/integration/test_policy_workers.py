"""Processes in which policy is worked out: what becomes of them when callers leave, time runs out, or they fail."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policy import workers
from policy.workers import MAX_EACH, Worker, Workers
from policy.working import NICENESS
from zhiwang.wire.errors import Reason, RefusedError

PATIENCE = 90.0
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
async def lender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    lender = Workers()
    yield lender
    await lender.close()


async def pid_of(worker: Worker) -> int:
    pid: int = await worker.call("worker_functions:pid", seconds=PATIENCE)
    return pid


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.05)


async def test_a_process_serves_one_question_after_the_other_and_remembers_none(lender: Workers) -> None:
    async with lender.lent("edu/admin/li") as worker:
        first = await pid_of(worker)
        assert await worker.call("worker_functions:remember", 1, seconds=PATIENCE) == [1]
        assert await worker.call("worker_functions:remember", 2, seconds=PATIENCE) == [1, 2]
        # It stands behind the server that it belongs to.
        assert await worker.call("worker_functions:niceness", seconds=PATIENCE) == min(19, os.nice(0) + NICENESS)
    async with lender.lent("hrss/admin/wu") as worker:
        assert await pid_of(worker) == first
        assert await worker.call("worker_functions:remember", 3, seconds=PATIENCE) == [3]
    await lender.close()
    await gone(first)
    with pytest.raises(RefusedError) as caught:
        async with lender.lent("edu/admin/li"):
            pass
    assert caught.value.reason is Reason.SHUTTING_DOWN


async def test_a_refusal_comes_whole_and_costs_no_process(lender: Workers) -> None:
    async with lender.lent("edu/admin/li") as worker:
        first = await pid_of(worker)
        with pytest.raises(RefusedError) as caught:
            await worker.call("worker_functions:refuse", seconds=PATIENCE)
        error = caught.value
        assert (error.reason, error.detail, error.field) == (Reason.NAME_UNKNOWN, "why", "who")
        assert error.metadata == {"finding-01": "that"}
    async with lender.lent("edu/admin/li") as worker:
        assert await pid_of(worker) == first


async def test_what_goes_wrong_in_it_is_told_by_place_but_not_with_what(lender: Workers) -> None:
    async with lender.lent("edu/admin/li") as worker:
        with pytest.raises(RefusedError) as caught:
            await worker.call("worker_functions:fail", "a secret of a file", seconds=PATIENCE)
        assert caught.value.reason is Reason.INTERNAL
        assert "ValueError" in caught.value.detail
        assert "worker_functions.py" in caught.value.detail
        assert "secret" not in caught.value.detail


async def test_who_goes_away_ends_the_calculation_and_leaves_the_place_free(lender: Workers) -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()

    async def ask() -> None:
        async with lender.lent("edu/admin/li") as worker:
            pids.put_nowait(await pid_of(worker))
            await worker.call("worker_functions:forever", seconds=PATIENCE)

    asking = [asyncio.create_task(ask()) for _ in range(MAX_EACH)]
    async with asyncio.timeout(PATIENCE):
        ended = await pids.get()
    with pytest.raises(RefusedError) as caught:
        async with lender.lent("edu/admin/li"):
            pass
    assert caught.value.reason is Reason.OVERLOADED
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await gone(ended)
    async with lender.lent("edu/admin/li") as worker:
        assert await pid_of(worker) != ended


@pytest.mark.parametrize(("kinds", "expected"), [("ss", "s"), ("ls", "ls")])
async def test_who_asks_without_end_keeps_nobody_else_waiting(lender: Workers, kinds: str, expected: str) -> None:
    running: asyncio.Queue[str] = asyncio.Queue()

    async def ask(kind: str) -> None:
        async with lender.lent("mallory/admin/m", long=kind == "l") as worker:
            running.put_nowait(kind)
            await worker.call("worker_functions:forever", seconds=2 * PATIENCE)

    asking = [asyncio.create_task(ask(kind)) for kind in kinds]
    async with asyncio.timeout(PATIENCE):
        assert sorted([await running.get() for _ in expected]) == sorted(expected)
        for caller in ("edu/admin/li", "hrss/admin/wu", "edu/admin/li"):
            async with lender.lent(caller) as worker:
                assert await pid_of(worker)
    assert running.empty()
    assert not any(task.done() for task in asking)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_what_takes_too_long_or_too_much_is_ended_and_told(lender: Workers) -> None:
    for function, seconds, reason in (
        ("worker_functions:forever", 0.2, Reason.DEADLINE_EXCEEDED),
        ("worker_functions:hoard", PATIENCE, Reason.OVERLOADED),
        ("worker_functions:leave", PATIENCE, Reason.INTERNAL),
    ):
        pid = 0
        try:
            async with lender.lent("edu/admin/li") as worker:
                pid = await pid_of(worker)
                await worker.call(function, seconds=seconds)
        except RefusedError as error:
            told = error.reason
        assert told is reason
        await gone(pid)


async def test_nobody_waits_behind_more_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_WAITING", 1)
    small = Workers(number=1)
    async with small.lent("a/admin/a"):
        waiting = asyncio.create_task(small.lent("b/admin/b").__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as caught:
            async with small.lent("c/admin/c"):
                pass
        assert caught.value.reason is Reason.OVERLOADED
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await small.close()


async def test_the_event_loop_turns_while_a_process_works(lender: Workers) -> None:
    async with lender.lent("edu/admin/li") as worker:
        await pid_of(worker)
        working = asyncio.create_task(worker.call("worker_functions:forever", seconds=1.0))
        turns, before = 0, time.thread_time()
        while not working.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 1
        # What was worked out cost this thread next to nothing.
        assert time.thread_time() - before < 0.5
        with pytest.raises(RefusedError):
            await working


def test_a_process_that_is_started_beside_busy_grpc_is_never_aborted_by_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    script = [sys.executable, str(SUPPORT / "starting_programs.py"), "400"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - our own script
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
