"""Places for chunks are shared out by caller and by roster, in order, and none is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from exchange.client.chunks import ChunkPlaces


class Asking:
    """Chunks that are asked about when they have a place, and answered one at a time when a test says so."""

    def __init__(self, count: int) -> None:
        self.places = ChunkPlaces(count)
        self.order: list[str] = []
        self.now: list[tuple[str, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def put(self, caller: str, roster: str, chunks: int) -> list[asyncio.Task[None]]:
        """Chunks of a roster, all of which are in line at once."""
        tasks = [asyncio.create_task(self._ask(caller, roster)) for _ in range(chunks)]
        self.tasks += tasks
        return tasks

    async def _ask(self, caller: str, roster: str) -> None:
        async with self.places.take(caller, f"{caller}/{roster}"):
            self.order.append(f"{caller}/{roster}")
            answered = asyncio.Event()
            self.now.append((f"{caller}/{roster}", answered))
            await answered.wait()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def answer(self) -> None:
        """The oldest that is being asked."""
        self.now.pop(0)[1].set()
        await self.settle()

    async def finish(self) -> None:
        while self.now:
            await self.answer()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def asking(count: int) -> AsyncIterator[Asking]:
    found = Asking(count)
    yield found
    await found.finish()
    assert found.places.free == count
    assert not found.places._waiting
    assert not found.places._callers
    assert not found.places._rosters


async def test_a_small_roster_of_another_caller_has_the_next_place_however_much_waits_before_it() -> None:
    async with asking(4) as city:
        for number in range(20):
            city.put("evening", str(number), 6)
        await city.settle()
        city.put("counter", "fifty rows", 1)
        await city.settle()
        assert len(city.order) == 4
        await city.answer()
        assert city.order[4] == "counter/fifty rows"


async def test_a_small_roster_of_the_same_caller_waits_for_one_turn_of_each_other_at_most() -> None:
    async with asking(4) as city:
        for number in range(3):
            city.put("local", f"large {number}", 600)
        await city.settle()
        city.put("local", "small", 1)
        for _ in range(3):
            await city.answer()
        assert city.order[4:] == ["local/large 1", "local/large 2", "local/small"]


async def test_rosters_of_one_caller_go_round() -> None:
    async with asking(1) as city:
        city.put("local", "before", 1)
        for roster in "abc":
            city.put("local", roster, 3)
        await city.settle()
        await city.finish()
        assert city.order[1:] == [f"local/{roster}" for roster in "abcabcabc"]


async def test_callers_go_round_whatever_number_of_rosters_each_has() -> None:
    async with asking(1) as city:
        city.put("before", "a", 1)
        for number in range(5):
            city.put("many", str(number), 2)
        await city.settle()
        city.put("one", "a", 5)
        await city.settle()
        await city.finish()
        callers = [name.partition("/")[0] for name in city.order[1:]]
        assert callers[:10] == ["many", "one"] * 5
        assert [name for name in city.order if name.startswith("many")] == [f"many/{n}" for n in "0123401234"]


async def test_places_are_held_evenly_though_one_callers_answers_are_slow() -> None:
    async with asking(6) as city:
        city.put("slow", "a", 20)
        await city.settle()
        city.put("quick", "a", 20)
        await city.settle()
        for _ in range(3):
            await city.answer()
        assert Counter(name for name, _ in city.now) == {"slow/a": 3, "quick/a": 3}
        # From here on the slow one gets no answer: the other goes on in its own half.
        for _ in range(10):
            place = next(place for place, (name, _) in enumerate(city.now) if name == "quick/a")
            city.now.pop(place)[1].set()
            await city.settle()
        assert Counter(name for name, _ in city.now) == {"slow/a": 3, "quick/a": 3}
        assert city.order.count("quick/a") == 13


async def test_whoever_is_alone_has_all_places() -> None:
    async with asking(4) as city:
        city.put("local", "a", 9)
        await city.settle()
        assert len(city.now) == 4


async def test_whoever_gives_up_waits_no_longer_and_keeps_no_place() -> None:
    async with asking(2) as city:
        held = city.put("local", "a", 2)
        await city.settle()
        waiting = city.put("local", "b", 3)
        await city.settle()
        for task in waiting:
            task.cancel()
        await city.settle()
        assert not city.places._waiting
        for task in held:
            task.cancel()
        city.now.clear()
        await city.settle()
        assert city.places.free == 2


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_no_place_is_lost_or_given_twice_whatever_is_cancelled_and_when(seed: int, count: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)  # noqa: S311  a test that can be repeated
        places = ChunkPlaces(count)
        held = most = 0

        async def ask(caller: str, roster: str) -> None:
            nonlocal held, most
            async with places.take(caller, roster):
                held += 1
                most = max(most, held)
                try:
                    for _ in range(chance.randrange(3)):
                        await asyncio.sleep(0)
                finally:
                    held -= 1

        tasks = []
        for _ in range(40):
            caller = chance.choice("ab")
            tasks.append(asyncio.create_task(ask(caller, caller + chance.choice("xyz"))))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            if chance.random() < 0.4:
                chance.choice(tasks).cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= count
        assert places.free == count
        assert not places._waiting
        assert not places._callers

    asyncio.run(run())
