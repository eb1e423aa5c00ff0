"""`zhiwang verify --agent`: the plain API from its caller's side, against the real agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from city_support import CHILD, MOTHER, RunningCity, running_city
from exchange.client.agent import assemble
from exchange.client.ask import ask_agent
from exchange.client.batches import Batches
from exchange.client.case import Answer, Case, Context, Ruling, Status, Subject
from zhiwang.wire.errors import Reason, RefusedError

CONTEXT = Context("school-enrolment", "2026-000123")
CASE = Case((Subject("child", CHILD, "小明"), Subject("guardian", MOTHER)))
CALLERS = '\n[[agent.caller]]\ncertificate = "local"\nroles = ["edu/enrolment-clerk"]\n'


@pytest.fixture
async def city(tmp_path: Path) -> AsyncIterator[RunningCity]:
    async with running_city(tmp_path) as city:
        yield city


@pytest.fixture
async def address(city: RunningCity) -> AsyncIterator[str]:
    async with city.client(more=CALLERS) as client:
        batches = Batches(asyncio.get_running_loop().time)
        server = assemble(client, batches)
        listening = server.listen("127.0.0.1:0", None)
        await server.start()
        yield listening
        await server.stop(0.5)
        await batches.close()


async def test_an_agent_answers_what_a_client_of_its_own_would_be_answered(city: RunningCity, address: str) -> None:
    result, titles, mock = await ask_agent(address, CASE, CONTEXT, seconds=20, receipt=True)
    async with city.client(name="itself") as client:
        itself = await client.verify(CASE, CONTEXT)
    assert [one[:7] for one in result.claims] == [one[:7] for one in itself.claims]
    assert {one.status for one in result.claims} == {Status.ANSWERED}
    assert Answer.NONE not in {one.answer for one in result.claims}
    assert (result.ruling, result.ruling is not Ruling.NONE) == (itself.ruling, True)
    assert result.receipt is not None
    assert not mock
    assert all(titles[one.claim.rpartition(": ")[2].partition(" ")[0]] for one in result.claims)


async def test_what_an_agent_refuses_comes_back_with_reason_and_field(address: str) -> None:
    wrong = CHILD[:-1] + ("1" if CHILD[-1] != "1" else "2")
    with pytest.raises(RefusedError) as refused:
        await ask_agent(address, Case((Subject("child", wrong),)), CONTEXT, seconds=20, receipt=False)
    assert (refused.value.reason, refused.value.field) == (
        Reason.IDENTIFIER_INVALID,
        "case.subjects[0].identifier",
    )
    assert wrong not in str(refused.value)


async def test_without_an_agent_one_is_told_how_to_start_it() -> None:
    with pytest.raises(RefusedError) as refused:
        await ask_agent("unix:/nonexistent/agent.sock", CASE, CONTEXT, seconds=20, receipt=False)
    assert "zhiwang agent run" in refused.value.detail


async def test_a_case_never_travels_in_clear_to_another_machine() -> None:
    with pytest.raises(RefusedError) as refused:
        await ask_agent("192.0.2.1:7441", CASE, CONTEXT, seconds=20, receipt=False)
    assert refused.value.reason is Reason.RPC_NOT_ALLOWED
