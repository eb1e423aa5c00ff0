from __future__ import annotations

import asyncio
import gc
import time
import weakref

from exchange.deadlines import MANY, Deadlines


class Thing:
    pass


async def test_alarms_ring_in_the_order_of_their_times_whatever_the_order_of_setting() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    deadlines: Deadlines[str] = Deadlines(rung.put_nowait, time.time)
    now = time.time()
    deadlines.set(now + 0.03, "third")
    deadlines.set(now + 0.02, "second")
    deadlines.set(now - 1, "past")
    async with asyncio.timeout(5):
        assert [await rung.get() for _ in range(3)] == ["past", "second", "third"]


async def test_an_alarm_that_is_called_off_does_not_ring_and_lets_go_of_its_item() -> None:
    rung: asyncio.Queue[Thing] = asyncio.Queue()
    deadlines: Deadlines[Thing] = Deadlines(rung.put_nowait, time.time)
    thing, other = Thing(), Thing()
    gone = weakref.ref(thing)
    alarm = deadlines.set(time.time() + 0.01, thing)
    deadlines.set(time.time() + 0.02, other)
    alarm.cancel()
    del thing
    gc.collect()
    assert gone() is None
    async with asyncio.timeout(5):
        assert await rung.get() is other
    assert rung.empty()


async def test_an_alarm_set_while_another_rings_is_kept() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()

    def ring(item: str) -> None:
        rung.put_nowait(item)
        if item == "first":
            deadlines.set(time.time(), "second")

    deadlines: Deadlines[str] = Deadlines(ring, time.time)
    deadlines.set(time.time(), "first")
    async with asyncio.timeout(5):
        assert [await rung.get(), await rung.get()] == ["first", "second"]


async def test_nothing_rings_after_closing() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    deadlines: Deadlines[str] = Deadlines(rung.put_nowait, time.time)
    deadlines.set(time.time(), "never")
    deadlines.close()
    await asyncio.sleep(0.03)
    assert rung.empty()


async def test_alarms_that_are_called_off_do_not_stay_until_their_times() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    deadlines: Deadlines[str] = Deadlines(rung.put_nowait, time.time)
    later = time.time() + 3600
    alarms = [deadlines.set(later, "later") for _ in range(100)]
    most = 0
    for _ in range(20_000):
        deadlines.set(later, "settled").cancel()
        most = max(most, len(deadlines._heap))
    assert most <= 2 * len(alarms) + MANY
    # Those that stand still ring, and what has rung may be called off without harm.
    due = [deadlines.set(time.time(), str(number)) for number in range(3)]
    async with asyncio.timeout(20):
        assert {await rung.get() for _ in due} == {"0", "1", "2"}
    for alarm in (*due, *alarms, *alarms):
        alarm.cancel()
    assert 0 <= deadlines._off <= len(deadlines._heap)
    deadlines.close()


async def test_alarms_may_be_called_off_while_others_ring() -> None:
    rung: list[int] = []
    over = asyncio.Event()

    def ring(item: int) -> None:
        rung.append(item)
        for alarm in alarms[10:-1]:
            alarm.cancel()
        if item == len(alarms) - 1:
            over.set()

    deadlines: Deadlines[int] = Deadlines(ring, time.time)
    start = time.time()
    alarms = [deadlines.set(start, number) for number in range(4 * MANY)]
    async with asyncio.timeout(20):
        await over.wait()
    assert rung == [*range(10), len(alarms) - 1]
    deadlines.close()
