"""Hours of rosters, and statements a second."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.limits import Limits
from adapters.link import FRAME_ANSWERS, Lanes, Session
from adapters.pace import LONGEST_DEBT, Hours, Pace
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.header import INTERACTIVE_CASES


def at(hour: int, minute: int = 0) -> float:
    return datetime(2026, 9, 21, hour, minute, tzinfo=CITY_TIME).timestamp()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("20:00-06:00", [(20, 0), (23, 59), (0, 0), (5, 59)], [(6, 0), (12, 0), (19, 59)]),
        ("01:30-02:00", [(1, 30), (1, 59)], [(1, 29), (2, 0), (23, 0)]),
        ("22:00-24:00", [(22, 0), (23, 59)], [(0, 0), (21, 59)]),
        ("22:00-00:00", [(22, 0), (23, 59)], [(0, 0), (21, 59)]),
        ("00:00-24:00", [(0, 0), (12, 0), (23, 59)], []),
    ],
)
def test_hours_begin_with_their_first_minute_and_end_before_their_last_also_over_midnight(
    text: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]
) -> None:
    hours = Hours.parse(text)
    assert all(hours.admit(at(*one)) for one in inside)
    assert not any(hours.admit(at(*one)) for one in outside)


@pytest.mark.parametrize(
    "text", ["", "20:00", "8:00-9:00", "20:00-20:00", "20:61-22:00", "20:00-25:00", "a-b", "24:00-00:00"]
)
def test_hours_that_are_none_are_refused_with_the_file(text: str) -> None:
    with pytest.raises(ValidationError, match="must be two"):
        Limits(bulk_hours=text)


class Database:
    """Counts statements; its clock is moved by hand."""

    def __init__(self, rate: int | None) -> None:
        self.now, self.run = 100.0, 0
        self.pace = Pace(rate, lambda: self.run, lambda: self.now)


def test_bulk_waits_until_what_ran_is_made_up_for() -> None:
    database = Database(10)
    assert database.pace.pause() == 0
    database.run += 30
    assert database.pace.pause() == pytest.approx(2.1)
    database.now += 2.0
    assert database.pace.pause() == pytest.approx(0.1)
    database.now += 0.1
    assert database.pace.pause() == pytest.approx(0, abs=1e-9)


def test_over_a_long_time_bulk_keeps_to_the_rate_whatever_its_frames_take() -> None:
    database = Database(10)
    while database.now < 200:
        if database.pace.pause() <= 0:
            database.run += 7
        database.now += 0.05
    assert 10 * 100 - 20 <= database.run <= 10 * 100 + 20


def test_a_quiet_night_is_no_credit_and_a_busy_day_no_endless_debt() -> None:
    database = Database(10)
    database.now += 3600
    assert database.pace.pause() == 0
    database.run += 12
    assert database.pace.pause() > 0
    database.run += 1_000_000
    assert database.pace.pause() <= LONGEST_DEBT + 0.1


def test_without_a_rate_nothing_waits() -> None:
    database = Database(None)
    database.run += 10**9
    assert database.pace.pause() == 0


class Link:
    """Takes the place of a stream: keeps what was replied."""

    def __init__(self) -> None:
        self.replied: list[adapter_pb2.ReplyFrame.Item] = []

    def reply(self, frame: adapter_pb2.ReplyFrame, *, bulk: bool) -> None:  # noqa: ARG002  as a session has it
        self.replied += frame.items


def job(number: int, priority: sealed_pb2.Priority.ValueType, seconds: int = 60) -> adapter_pb2.RequestFrame:
    frame = adapter_pb2.RequestFrame()
    item = frame.items.add(correlation_id=number)
    item.request.header = sealed_pb2.Header(priority=priority).SerializeToString()
    item.timeout.seconds = seconds
    return frame


def mixed(*headers: bytes) -> adapter_pb2.RequestFrame:
    frame = adapter_pb2.RequestFrame(known_tree_size=7)
    for number, header in enumerate(headers, 1):
        frame.items.add(correlation_id=number).request.header = header
    return frame


async def test_a_roster_never_takes_the_lane_of_people_at_a_counter_whatever_stands_beside_it_or_in_its_header() -> (
    None
):
    frames: list[tuple[str, int, list[int]]] = []

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        numbers = [item.correlation_id for item in frame.items]
        frames.append((threading.current_thread().name.partition("_")[0], frame.known_tree_size, numbers))
        return adapter_pb2.ReplyFrame(items=[adapter_pb2.ReplyFrame.Item(correlation_id=n) for n in numbers])

    def header(priority: sealed_pb2.Priority.ValueType, cases: int) -> bytes:
        return sealed_pb2.Header(priority=priority, cases=cases).SerializeToString()

    lanes = Lanes(process)
    link: Any = Link()
    lanes.add(
        link,
        mixed(
            header(sealed_pb2.PRIORITY_INTERACTIVE, INTERACTIVE_CASES),
            header(sealed_pb2.PRIORITY_BULK, 1),
            header(sealed_pb2.PRIORITY_INTERACTIVE, INTERACTIVE_CASES + 1),
            b"\xff",
        ),
    )
    running = asyncio.create_task(lanes.run())
    async with asyncio.timeout(30):
        await lanes.drained()
    assert sorted(frames) == [("bulk", 7, [2, 3]), ("interactive", 7, [1, 4])]
    assert sorted(item.correlation_id for item in link.replied) == [1, 2, 3, 4]
    running.cancel()
    lanes.close()


async def test_bulk_waits_for_its_turn_and_interactive_requests_pass_it() -> None:
    frames: list[list[int]] = []
    closed = True

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        frames.append([item.correlation_id for item in frame.items])
        return adapter_pb2.ReplyFrame(
            items=[adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id) for item in frame.items]
        )

    lanes = Lanes(process, lambda: 0.001 if closed else 0.0)
    running = asyncio.create_task(lanes.run())
    link: Any = Link()
    session: Session = link
    lanes.add(session, job(1, sealed_pb2.PRIORITY_BULK))
    lanes.add(session, job(2, sealed_pb2.PRIORITY_BULK, seconds=0))
    lanes.add(session, job(3, sealed_pb2.PRIORITY_BULK))
    lanes.add(session, job(4, sealed_pb2.PRIORITY_INTERACTIVE))
    async with asyncio.timeout(30):
        while not link.replied:  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.001)
        assert frames == [[4]]
        closed = False
        await lanes.drained()
    # What waited was joined, and what nobody waits for any more was told so.
    assert frames == [[4], [1, 3]]
    assert [(item.correlation_id, item.reason) for item in link.replied] == [
        (4, ""), (2, "OWNER_TIMED_OUT"), (1, ""), (3, ""),
    ]  # fmt: skip
    running.cancel()
    lanes.close()


async def test_a_frame_of_work_holds_so_many_answers_however_many_rosters_wait() -> None:
    frames: list[list[int]] = []

    def process(frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        frames.append([item.correlation_id for item in frame.items])
        return adapter_pb2.ReplyFrame(
            items=[adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id) for item in frame.items]
        )

    def header(answers: int) -> bytes:
        shapes = [sealed_pb2.ClaimShape(attribute="insured")]
        return sealed_pb2.Header(priority=sealed_pb2.PRIORITY_BULK, cases=answers, claims=shapes).SerializeToString()

    half = header(FRAME_ANSWERS // 2)
    lanes = Lanes(process)
    link: Any = Link()
    lanes.add(link, mixed(half, half, half, header(8 * FRAME_ANSWERS), header(1)))
    lanes.add(link, mixed(header(1)))
    running = asyncio.create_task(lanes.run())
    async with asyncio.timeout(30):
        await lanes.drained()
    assert frames == [[1, 2], [3], [4], [5, 1]]
    running.cancel()
    lanes.close()
