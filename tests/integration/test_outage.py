"""What everybody decides by runs out: nobody answers, everybody says so, and all is well when it comes back.

Killed and frozen processes, full disks and databases that are gone are in `tests/fault/test_kill.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from breaking_support import INSURED, DirectAdapter, Forge, RealCity
from city_support import running_city
from exchange.demo.auditing import is_serving
from exchange.demo.build import CITY
from exchange.readiness import keep_true
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name

DAY = 86_400.0

pytestmark = pytest.mark.timeout(120)


class Clock:
    """A clock that can be set ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not holds():  # noqa: ASYNC110 - of another's state
            await asyncio.sleep(0.02)


async def test_hub_and_client_refuse_and_say_so_once_the_directory_has_expired(tmp_path: Path) -> None:
    clock = Clock()
    async with running_city(tmp_path, clock=clock) as city, city.client() as client:
        hub = city.hub.up
        async with running(keep_true(hub.parts.readiness, hub.holder, hub.audit_log)):
            await until(lambda: hub.parts.readiness.serving)
            first = await client.verify(city.case(), city.context())
            assert {claim.status.name for claim in first.claims} == {"ANSWERED"}
            size = len(hub.entries())
            clock.ahead = 1.05 * DAY
            with pytest.raises(RefusedError) as refused:
                await client.verify(city.case(), city.context())
            assert refused.value.reason is Reason.DIRECTORY_EXPIRED
            assert not client.fresh
            await until(lambda: not hub.parts.readiness.serving)
            assert hub.parts.readiness.unmet == ("directory",)
            assert len(hub.entries()) == size
            clock.ahead = 0.0
            await until(lambda: hub.parts.readiness.serving)
            again = await client.verify(city.case(), city.context())
            assert {claim.status.name for claim in again.claims} == {"ANSWERED"}


@pytest.fixture
def city(tmp_path: Path) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path, ())
    try:
        city.furnish("hrss")
        yield city
    finally:
        city.stop()


async def test_an_adapter_answers_nobody_once_its_directory_has_expired_whatever_a_hub_sends(city: RealCity) -> None:
    adapter = await asyncio.to_thread(DirectAdapter, city, "hrss")
    try:
        async with asyncio.timeout(20):
            while not (keys := await city.owner_keys()):  # noqa: ASYNC110 - of another's state
                await asyncio.sleep(0.05)
        forge = Forge(city, keys=keys)
        subject = city.applications[0].guardians[0].person.identifier

        def send(ahead: float) -> str:
            request = forge.request("hrss", [INSURED], [{"guardian": subject}], issued=ahead, expires=ahead + 30)
            (item,) = adapter.send(request.request)
            assert item.HasField("reply") is not bool(item.reason)
            return item.reason

        async def serving(expected: bool) -> None:  # noqa: FBT001 - one word
            name = server_name(CITY, Kind.ADAPTER)
            own = city.auditor.channel_credentials()
            async with asyncio.timeout(15):
                while await is_serving(adapter.thread.address, own, name) is not expected:  # noqa: ASYNC110 - of another's state
                    await asyncio.sleep(0.05)

        await serving(expected=True)
        assert not send(0)
        adapter.ahead = 1.05 * DAY
        entries = len(city.entries("hrss"))
        assert send(adapter.ahead) == "DIRECTORY_EXPIRED"
        await serving(expected=False)
        new = city.entries("hrss", entries)
        assert [entry.refusal.reason for entry in new if entry.HasField("refusal")] == ["DIRECTORY_EXPIRED"]
        assert not [entry for entry in new if entry.HasField("owner_access")]
        adapter.ahead = 0.0
        assert not send(0)
        await serving(expected=True)
    finally:
        await asyncio.to_thread(adapter.stop)
