"""A hub that is told to answer nothing once its witnesses have been silent for too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_support import Owner, Requester, RunningHub, exchange, running_hub
from zhiwang.audit.v1 import audit_pb2


class Witnesses:
    """Whether they are silent."""

    silent = False


@pytest.fixture
def witnesses() -> Witnesses:
    return Witnesses()


@pytest.fixture
async def hub(tmp_path: Path, witnesses: Witnesses) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, withheld=lambda: witnesses.silent) as running:
        yield running


@pytest.fixture
async def owner(hub: RunningHub, tmp_path: Path) -> AsyncIterator[Owner]:
    owner = Owner(hub, tmp_path / "hrss")
    await owner.attach()
    yield owner
    await owner.close()


async def test_without_witnesses_nothing_goes_to_an_owner_and_the_refusal_is_recorded(
    hub: RunningHub, owner: Owner, witnesses: Witnesses
) -> None:
    requester = Requester(hub.city)
    async with hub.channel("edu/system/enrolment") as channel:
        witnesses.silent = True
        sealed = requester.seal(owner.key)
        refused = (await exchange(channel, sealed.request)).result
        assert (refused.outcome, refused.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "NOT_WITNESSED")
        assert owner.frames == []
        assert [one.reason for one in hub.entries("refusal")] == ["NOT_WITNESSED"]
        witnesses.silent = False
        assert (await exchange(channel, sealed.request)).result.outcome == audit_pb2.OUTCOME_ANSWERED


async def test_an_answer_that_is_on_its_way_when_witnesses_fall_silent_is_withheld_and_had_by_asking_again(
    hub: RunningHub, owner: Owner, witnesses: Witnesses
) -> None:
    requester = Requester(hub.city)
    async with hub.channel("edu/system/enrolment") as channel:
        sealed = requester.seal(owner.key)
        owner.hold.clear()
        asked = asyncio.create_task(exchange(channel, sealed.request))
        await owner.received(1)
        witnesses.silent = True
        owner.hold.set()
        result = (await asked).result
        assert (result.outcome, result.reason) == (audit_pb2.OUTCOME_UNAVAILABLE, "NOT_WITNESSED")
        assert not result.HasField("reply")
        assert not result.HasField("owner_entry")
        # It is recorded as what it was.
        assert [one.outcome for one in hub.entries()] == [audit_pb2.OUTCOME_ANSWERED]
        witnesses.silent = False
        assert (await exchange(channel, sealed.request)).result.outcome == audit_pb2.OUTCOME_ANSWERED
