from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from zhiwang.wire.gather import Gatherer, Gathering, Limits, portions

LIMITS = Limits(count=4, size=100, bulk_size=60, delay=0.002)


def gatherer(credit: int = 1000) -> Gatherer[str]:
    return Gatherer(LIMITS, credit=credit)


def test_a_request_on_an_idle_link_leaves_at_once() -> None:
    g = gatherer()
    g.add("a", 1, 10.0)
    assert g.take(10.0) == ["a"]


def test_requests_gather_while_one_is_unanswered() -> None:
    g = gatherer()
    g.add("a", 1, 10.0)
    g.take(10.0)
    g.add("b", 1, 10.0)
    g.add("c", 1, 10.001)
    assert g.take(10.001) == []
    assert g.due() == 10.002


def test_an_answer_lets_what_gathered_leave() -> None:
    g = gatherer()
    for name in ("a", "b", "c"):
        g.add(name, 1, 10.0)
        g.take(10.0)
    g.answered(interactive=1)
    assert g.take(10.0) == ["b", "c"]


def test_an_answer_to_an_empty_queue_is_not_remembered() -> None:
    g = gatherer()
    for name in ("a", "b"):
        g.add(name, 1, 10.0)
    g.take(10.0)
    g.answered(interactive=1)
    g.add("c", 1, 10.001)
    assert g.take(10.001) == []


def test_two_milliseconds_let_what_gathered_leave() -> None:
    g = gatherer()
    g.add("a", 1, 10.0)
    g.take(10.0)
    g.add("b", 1, 10.0)
    due = g.due()
    assert due is not None
    assert g.take(due) == ["b"]


def test_a_full_frame_leaves_without_waiting() -> None:
    g = gatherer()
    g.add("first", 1, 10.0)
    g.take(10.0)
    for i in range(5):
        g.add(str(i), 1, 10.0)
    assert g.take(10.0) == ["0", "1", "2", "3"]
    assert g.take(10.0) == []


def test_a_frame_is_bounded_by_bytes_but_a_larger_request_goes_alone() -> None:
    g = gatherer()
    g.add("small", 10, 10.0)
    g.add("huge", 500, 10.0)
    g.add("last", 10, 10.0)
    assert g.take(10.0) == ["small"]
    assert g.take(10.0) == ["huge"]
    assert g.take(10.002) == ["last"]


def test_bulk_never_shares_a_frame_with_interactive_requests_and_goes_after_them() -> None:
    g = gatherer()
    g.add("bulk", 1, 9.0, bulk=True)
    g.add("person", 1, 10.0)
    assert g.take(10.0) == ["person"]
    assert g.take(10.0) == ["bulk"]


def test_bulk_leaves_half_of_the_credit_to_interactive_requests() -> None:
    g = gatherer(credit=4)
    for i in range(6):
        g.add(f"bulk{i}", 1, 10.0, bulk=True)
    assert g.take(11.0) == ["bulk0", "bulk1"]
    assert g.take(11.0) == []
    for i in range(4):
        g.add(f"person{i}", 1, 11.0)
    assert g.take(11.0) == ["person0", "person1"]
    assert g.take(12.0) == []


def test_interactive_requests_leave_one_place_to_bulk() -> None:
    g = gatherer(credit=3)
    g.add("bulk", 1, 10.0, bulk=True)
    for i in range(4):
        g.add(f"person{i}", 1, 10.0)
    assert g.take(10.0) == ["person0", "person1"]
    assert g.take(10.0) == ["bulk"]


def test_no_credit_means_nothing_leaves_until_it_returns() -> None:
    g = gatherer(credit=1)
    g.add("a", 1, 10.0)
    g.add("b", 1, 10.0)
    assert g.take(10.0) == ["a"]
    assert g.take(99.0) == []
    assert g.due() is None
    g.answered(interactive=1)
    assert g.take(99.0) == ["b"]
    g.set_credit(0)
    g.answered(interactive=1)
    g.add("c", 1, 99.0)
    assert g.take(100.0) == []


def test_an_unwanted_request_is_dropped_and_holds_no_credit() -> None:
    g: Gatherer[str] = Gatherer(LIMITS, alive=lambda item: item != "gone")
    g.add("gone", 1, 10.0)
    g.add("here", 1, 10.0)
    assert g.take(10.0) == ["here"]
    assert g.unanswered == 1


def test_what_has_not_left_can_be_withdrawn() -> None:
    g = gatherer(credit=1)
    g.add("sent", 1, 10.0)
    g.take(10.0)
    g.add("person", 1, 10.0)
    g.add("bulk", 1, 10.0, bulk=True)
    assert g.withdraw() == ["person", "bulk"]
    assert g.queued == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 150), st.booleans()),
        st.tuples(st.just("answer"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("credit"), st.integers(0, 9), st.booleans()),
    ),
    max_size=80,
)


@given(steps)
def test_every_request_leaves_once_in_order_within_bounds_and_never_beyond_credit(
    script: list[tuple[str, int, bool]],
) -> None:
    g: Gatherer[tuple[int, bool, int]] = Gatherer(LIMITS, credit=5)
    now, number, credit = 100.0, 0, 5
    sent: dict[bool, list[int]] = {False: [], True: []}
    open_: dict[bool, int] = {False: 0, True: 0}
    added: dict[bool, list[int]] = {False: [], True: []}

    def take() -> None:
        while frame := g.take(now):
            lanes = {bulk for _, bulk, _ in frame}
            assert len(lanes) == 1
            bulk = lanes.pop()
            assert len(frame) <= LIMITS.count
            assert len(frame) == 1 or sum(size for _, _, size in frame) <= (LIMITS.bulk_size if bulk else LIMITS.size)
            sent[bulk].extend(n for n, _, _ in frame)
            open_[bulk] += len(frame)
            assert open_[False] + open_[True] <= credit

    for kind, amount, bulk in script:
        if kind == "add":
            g.add((number, bulk, amount), amount, now, bulk=bulk)
            added[bulk].append(number)
            number += 1
        elif kind == "answer":
            count = min(amount, open_[bulk])
            open_[bulk] -= count
            g.answered(**{"bulk" if bulk else "interactive": count})
        elif kind == "credit":
            credit = max(amount, open_[False] + open_[True])
            g.set_credit(credit)
        else:
            now += amount / 1000
        take()
    # Whatever happened before, answers and time bring everything out.
    credit = 5
    g.set_credit(credit)
    for _ in range(len(script) + 1):
        now += 1
        g.answered(interactive=open_[False], bulk=open_[True])
        open_ = {False: 0, True: 0}
        take()
    assert sent == added
    assert g.queued == 0


async def test_what_is_added_in_one_turn_of_the_loop_leaves_together() -> None:
    frames: list[list[int]] = []
    gathering: Gathering[int] = Gathering(frames.append)
    for i in range(5):
        gathering.add(i, 1)
    await asyncio.sleep(0)
    assert frames == [[0, 1, 2, 3, 4]]


async def test_the_loop_sends_what_gathered_when_its_time_is_over() -> None:
    left: asyncio.Queue[list[int]] = asyncio.Queue()
    gathering: Gathering[int] = Gathering(left.put_nowait)
    gathering.add(0, 1)
    await asyncio.sleep(0)
    gathering.add(1, 1)
    gathering.add(2, 1)
    assert await left.get() == [0]
    async with asyncio.timeout(5):
        assert await left.get() == [1, 2]


async def test_a_closed_gathering_sends_nothing_and_gives_back_the_rest() -> None:
    frames: list[list[int]] = []
    gathering: Gathering[int] = Gathering(frames.append, credit=1)
    gathering.add(0, 1)
    gathering.add(1, 1)
    await asyncio.sleep(0)
    assert gathering.close() == [1]
    gathering.answered(interactive=1)
    gathering.add(2, 1)
    await asyncio.sleep(0.005)
    assert frames == [[0]]


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 8), st.integers(1, 60))
def test_portions_hold_everything_in_order_and_keep_both_bounds(sizes: list[int], count: int, size: int) -> None:
    cut = [list(portion) for portion in portions(sizes, lambda one: one, count=count, size=size)]
    assert [one for portion in cut for one in portion] == sizes
    assert all(portion for portion in cut)
    assert all(len(portion) <= count and (sum(portion) <= size or len(portion) == 1) for portion in cut)
