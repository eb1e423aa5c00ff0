"""A requester waits for its own change: whoever is behind the directory that a request names holds it, and does not
decide by an older one; bounded in time and number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import exchange.behind
import exchange.client.client as client_module
from adapters.link import Lanes, Session
from city_support import running_city
from hub_support import Owner, Requester, RunningHub, Stream, directory, running_hub
from policy_support import HRSS
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError

NEXT = 8
"""The version after that of `hub_support.directory()`."""
PENSION = "guardian: hrss.pension_months at_least 12"

pytestmark = pytest.mark.timeout(120)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.01)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
async def owner(hub: RunningHub, tmp_path: Path) -> AsyncIterator[Owner]:
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach()
    yield owner
    await owner.close()


@pytest.fixture
async def stream(hub: RunningHub) -> AsyncIterator[Stream]:
    async with hub.channel("edu/system/enrolment") as channel:
        stream = Stream(channel)
        yield stream
        stream.close()


def held(hub: RunningHub) -> int:
    return len(hub.parts.hub._behind)


async def test_the_hub_holds_a_request_until_the_directory_that_it_names_and_decides_by_that(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    await stream.introduce(requester, owner)
    await stream.send(requester.seal(owner.key, min_policy_version=NEXT).request, first=1)
    await stream.send(requester.seal(owner.key).request, first=2)
    assert (await stream.result(2)).outcome == audit_pb2.OUTCOME_ANSWERED, "nobody waits for who waits"
    assert held(hub) == 1
    hub.holder.set(directory(version=NEXT))
    assert (await stream.result(1)).outcome == audit_pb2.OUTCOME_ANSWERED
    assert [entry.directory_version for entry in hub.entries()] == [NEXT - 1, NEXT - 1, NEXT]
    assert held(hub) == 0


async def test_a_directory_that_does_not_come_in_time_is_told_and_recorded(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key, min_policy_version=2**63).request, seconds=0.5)
    result = await stream.result()
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "DIRECTORY_BEHIND")
    (entry,) = hub.entries()
    assert (entry.reason, entry.directory_version) == ("DIRECTORY_BEHIND", 0)
    assert not owner.frames
    assert hub.parts.hub.in_flight == 0


async def test_what_the_awaited_directory_forbids_is_denied_by_it(
    hub: RunningHub, owner: Owner, stream: Stream
) -> None:
    requester = Requester(hub.city)
    await stream.send(requester.seal(owner.key, min_policy_version=NEXT).request)
    await until(lambda: held(hub))
    serials = frozenset({_serial(requester)})
    hub.holder.set(directory(version=NEXT, revoked=serials))
    # The connection belongs to the same certificate's owner, so the stream may end before the result is read.
    await until(hub.entries)
    (entry,) = hub.entries()
    assert entry.reason == "CERTIFICATE_REVOKED"
    assert not owner.frames


def _serial(requester: Requester) -> int:
    from cryptography import x509  # noqa: PLC0415

    return x509.load_der_x509_certificate(requester.signer.certificate_der).serial_number


async def test_one_requester_holds_no_more_than_its_share_and_others_go_on(
    hub: RunningHub, owner: Owner, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange.behind, "MAX_BEHIND_EACH", 3)
    requester = Requester(hub.city)
    requests = [requester.seal(owner.key, min_policy_version=NEXT).request for _ in range(4)]
    await stream.send(*requests, first=1)
    result = await stream.result(4)
    assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "DIRECTORY_BEHIND")
    assert held(hub) == 3
    hub.holder.set(directory(version=NEXT))
    for number in (1, 2, 3):
        assert (await stream.result(number)).outcome == audit_pb2.OUTCOME_ANSWERED


async def test_who_hangs_up_is_held_no_longer_and_is_recorded(hub: RunningHub, owner: Owner) -> None:
    async with hub.channel("edu/system/enrolment") as channel:
        stream = Stream(channel)
        await stream.send(Requester(hub.city).seal(owner.key, min_policy_version=NEXT).request)
        await until(lambda: held(hub))
        stream.close()
    await until(hub.entries)
    assert held(hub) == 0
    hub.holder.set(directory(version=NEXT))
    assert [entry.reason for entry in hub.entries()] == ["DEADLINE_EXCEEDED"]
    assert not owner.frames


async def test_a_client_asks_once_its_own_directory_and_the_hubs_are_there(tmp_path: Path) -> None:
    async with running_city(tmp_path) as city, city.client() as client:
        version = client.directory.version + 1
        context = city.context(official="clerk-17", jurisdiction="nbs:440306", role="edu/enrolment-clerk")
        asked = city.context(
            official="clerk-17", jurisdiction="nbs:440306", role="edu/enrolment-clerk", min_policy_version=version
        )
        task = asyncio.create_task(client.verify(city.case(claims=[PENSION]), asked, timeout=60))
        before = await client.verify(city.case(claims=[PENSION]), context, timeout=60)
        assert before.claims[0].reason is None
        assert not task.done()
        city.publish(HRSS.replace("at_least = [6, 12, 18, 24]", "at_least = [6, 12]"))
        after = await task
        assert after.claims[0].reason is None
        assert client.directory.version == version
        decided = [event.directory_version for event in city.hub.up.entries()]
        assert decided == [version - 1, version]


async def test_a_client_gives_up_in_its_time_and_holds_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_city(tmp_path, owners=()) as city, city.client() as client:
        asked = city.context(
            official="clerk-17", jurisdiction="nbs:440306", role="edu/enrolment-clerk", min_policy_version=2**40
        )
        with pytest.raises(RefusedError) as behind:
            await client.verify(city.case(claims=[PENSION]), asked, timeout=0.3)
        assert (behind.value.reason, behind.value.field) == (Reason.DIRECTORY_BEHIND, "context.min_policy_version")
        monkeypatch.setattr(client_module, "MAX_BEHIND", 1)
        first = asyncio.create_task(client.verify(city.case(claims=[PENSION]), asked, timeout=5))
        await until(lambda: client._behind.total() == 1)
        with pytest.raises(RefusedError) as full:
            await client.verify(city.case(claims=[PENSION]), asked, timeout=5)
        assert full.value.reason is Reason.OVERLOADED
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert not client._behind


async def test_one_caller_of_an_agent_that_waits_for_nothing_leaves_room_for_the_others(tmp_path: Path) -> None:
    async with running_city(tmp_path, owners=()) as city, city.client() as client:
        context = city.context(
            official="clerk-17", jurisdiction="nbs:440306", role="edu/enrolment-clerk", min_policy_version=2**40
        )

        def ask(caller: str, seconds: float) -> Any:
            return client.verify(city.case(claims=[PENSION]), context, timeout=seconds, caller=caller)

        share = client_module.MAX_BEHIND_EACH
        flood = [asyncio.create_task(ask("spiffe://x/edu/system/one", 60)) for _ in range(client_module.MAX_BEHIND)]
        await until(lambda: sum(task.done() for task in flood) == client_module.MAX_BEHIND - share)
        with pytest.raises(RefusedError) as full:
            await ask("spiffe://x/edu/system/one", 60)
        assert full.value.reason is Reason.OVERLOADED
        with pytest.raises(RefusedError) as waited:
            await ask("local", 0.3)
        assert waited.value.reason is Reason.DIRECTORY_BEHIND
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        assert not client._behind


class Heard:
    """A session of which only the replies are seen."""

    def __init__(self) -> None:
        self.replied: list[int] = []

    def reply(self, frame: adapter_pb2.ReplyFrame, *, bulk: bool) -> None:
        assert not bulk
        self.replied += [item.correlation_id for item in frame.items]


def frame(*versions: int, seconds: float = 30.0) -> adapter_pb2.RequestFrame:
    found = adapter_pb2.RequestFrame()
    for number, version in enumerate(versions, 1):
        header = sealed_pb2.Header(cases=1, priority=sealed_pb2.PRIORITY_INTERACTIVE, min_policy_version=version)
        item = found.items.add(correlation_id=number)
        item.request.header = header.SerializeToString()
        item.timeout.FromNanoseconds(int(seconds * 1e9))
    return found


async def test_an_adapter_holds_what_names_a_later_directory_and_answers_the_rest() -> None:
    here = [7]
    heard: Any = Heard()

    def process(given: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        items = [adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id) for item in given.items]
        return adapter_pb2.ReplyFrame(items=items)

    lanes = Lanes(process, version=lambda: here[0])
    work = asyncio.create_task(lanes.run())
    session: Session = heard
    try:
        lanes.add(session, frame(0, 7, 8, 9))
        await until(lambda: heard.replied == [1, 2])
        here[0] = 8
        lanes.reached(8)
        await until(lambda: heard.replied == [1, 2, 3])
        start = time.monotonic()
        lanes.add(session, frame(2**60, seconds=0.5))
        await until(lambda: len(heard.replied) == 4)
        assert time.monotonic() - start >= 0.39, "it is refused by the directory, with most of its time over"
        here[0] = 9
        lanes.reached(9)
        await until(lambda: len(heard.replied) == 5)
        assert not lanes._held
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        lanes.close()


async def test_an_adapter_holds_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.link.MAX_HELD", 2)
    heard: Any = Heard()
    lanes = Lanes(lambda _given: adapter_pb2.ReplyFrame(), version=lambda: 7)
    lanes.add(heard, frame(8, 8, 8))
    assert len(lanes._held) == 2
    for one in lanes._held:
        assert one.timer is not None
        one.timer.cancel()
    lanes.close()
