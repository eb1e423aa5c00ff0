from __future__ import annotations

import asyncio
import gc
import time
import weakref

from exchange.deadlines import Deadlines


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
