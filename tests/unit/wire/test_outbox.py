"""What waits for one stream: interactive first, bulk all the same."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from zhiwang.wire.outbox import IN_A_ROW, Outbox


async def test_what_a_person_waits_for_overtakes_what_a_roster_has_put_there() -> None:
    outbox: Outbox[str] = Outbox()
    for number in range(100):
        outbox.put(f"roster{number}", bulk=True)
    assert await outbox.get() == "roster0"
    outbox.put("person")
    assert await outbox.get() == "person"
    assert await outbox.get() == "roster1"


async def test_a_roster_moves_however_many_persons_there_are() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.put("roster", bulk=True)
    for _ in range(10 * IN_A_ROW):
        outbox.put("person")
    assert [await outbox.get() for _ in range(IN_A_ROW + 1)] == [*["person"] * IN_A_ROW, "roster"]


async def test_a_roster_has_one_turn_at_a_time_however_long_it_is() -> None:
    outbox: Outbox[str] = Outbox()
    for _ in range(3):
        outbox.put("roster", bulk=True)
    for _ in range(10 * IN_A_ROW):
        outbox.put("person")
    turn = [*["person"] * IN_A_ROW, "roster"]
    assert [await outbox.get() for _ in range(3 * len(turn))] == turn * 3


async def test_whom_no_roster_waits_behind_has_passed_none() -> None:
    outbox: Outbox[str] = Outbox()
    for _ in range(IN_A_ROW):
        outbox.put("person")
        assert await outbox.get() == "person"
    outbox.put("roster", bulk=True)
    outbox.put("person")
    assert [await outbox.get() for _ in range(2)] == ["person", "roster"]


async def test_the_end_comes_after_everything_and_nothing_after_the_end() -> None:
    outbox: Outbox[str] = Outbox()
    waiting = asyncio.ensure_future(outbox.get())
    await asyncio.sleep(0)
    outbox.put("roster", bulk=True)
    outbox.end()
    outbox.put("too late")
    assert await waiting == "roster"
    assert await outbox.get() is None
    assert await outbox.get() is None


@given(st.lists(st.tuples(st.sampled_from(["put", "get"]), st.booleans()), max_size=60))
def test_within_a_lane_the_order_stays_and_nothing_is_lost(script: list[tuple[str, bool]]) -> None:
    async def run() -> None:
        outbox: Outbox[tuple[bool, int]] = Outbox()
        got: list[tuple[bool, int]] = []
        number = 0
        for kind, bulk in script:
            if kind == "put":
                outbox.put((bulk, number), bulk=bulk)
                number += 1
            elif outbox:
                found = await outbox.get()
                assert found is not None
                got.append(found)
        outbox.end()
        while (found := await outbox.get()) is not None:
            got.append(found)
        for lane in (False, True):
            numbers = [one for bulk, one in got if bulk is lane]
            assert numbers == sorted(numbers)
        assert sorted(one for _, one in got) == list(range(number))

    asyncio.run(run())
