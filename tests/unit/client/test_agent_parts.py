"""The agent's parts that need no server: who may call, batches, pages, messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from client_support import directory
from exchange.client import batches as kept_batches
from exchange.client.agent import page
from exchange.client.batches import KEPT_SECONDS, MAX_BATCHES, MAX_CASES, SHARE, Batches
from exchange.client.callers import Callers
from exchange.client.case import Answer, CaseResult, ClaimResult, Context, Ruling, Status
from exchange.client.messages import MAX_RESULTS_BYTES, attribute_message, fitting, matter_message, result_message
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity
from zhiwang.wire.profile import AgentCaller, Defaults

TABLE = PeerTable("shenzhen")
LOCAL_PEER = Peer(None, 0, b"", 0, 0, TABLE)
OTHER = "spiffe://shenzhen/edu/system/counter"
DEFAULTS = Defaults(role="edu/enrolment-clerk", matter="school-enrolment")


def remote(uri: str) -> Peer:
    return Peer(Identity.parse(uri), 1, b"", 0, 0, TABLE)


def refusal(call: Any) -> tuple[Reason, str]:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.reason, caught.value.field


def test_nobody_may_call_unless_the_profile_says_so() -> None:
    callers = Callers([])
    assert refusal(lambda: callers.of(LOCAL_PEER))[0] is Reason.CALLER_NOT_MAPPED
    assert refusal(lambda: callers.of(remote(OTHER)))[0] is Reason.CALLER_NOT_MAPPED


def test_a_certificate_is_mapped_and_no_other() -> None:
    callers = Callers([AgentCaller(certificate=OTHER, roles=("edu/clerk",))])
    assert callers.of(remote(OTHER)).roles == ("edu/clerk",)
    assert refusal(lambda: callers.of(remote(OTHER + "2")))[0] is Reason.CALLER_NOT_MAPPED
    assert refusal(lambda: callers.of(LOCAL_PEER))[0] is Reason.CALLER_NOT_MAPPED


def test_a_caller_asks_in_its_roles_and_for_its_matters_only() -> None:
    caller = Callers([AgentCaller(certificate="local", roles=("edu/a", "edu/b"), matters=("school-enrolment",))]).of(
        LOCAL_PEER
    )
    assert caller.context(Context("", role="edu/b"), DEFAULTS).role == "edu/b"
    held = (Reason.ROLE_NOT_HELD, "context.role")
    assert refusal(lambda: caller.context(Context("", role="edu/c"), DEFAULTS)) == held
    assert refusal(lambda: caller.context(Context(""), DEFAULTS)) == held
    matter = (Reason.MATTER_NOT_ALLOWED, "context.matter")
    assert refusal(lambda: caller.context(Context("senior-card", role="edu/a"), DEFAULTS)) == matter


def test_the_only_role_of_a_caller_need_not_be_said() -> None:
    caller = Callers([AgentCaller(certificate="local", roles=("edu/a",))]).of(LOCAL_PEER)
    assert caller.context(Context(""), DEFAULTS).role == "edu/a"
    assert caller.context(Context("senior-card"), DEFAULTS).matter == "senior-card"


def test_the_profiles_role_is_a_callers_default_only_if_it_has_it() -> None:
    caller = Callers([AgentCaller(certificate="local", roles=("edu/a", "edu/enrolment-clerk"))]).of(LOCAL_PEER)
    assert caller.context(Context(""), DEFAULTS).role == "edu/enrolment-clerk"


@given(st.sets(st.from_regex(r"[a-z]{1,3}\.[a-z]{1,3}", fullmatch=True), max_size=40), st.integers(1, 7))
def test_pages_give_everything_once_and_in_order(names: set[str], size: int) -> None:
    found: list[str] = []
    token = ""
    while True:
        part, token = page(names, size, token)
        assert len(part) <= size
        found += part
        if not token:
            break
    assert found == sorted(names)


def test_a_page_token_that_is_none_is_refused() -> None:
    assert refusal(lambda: page(["a"], -1, ""))[0] is Reason.PAGE_TOKEN_INVALID
    assert refusal(lambda: page(["a"], 1, "\x00"))[0] is Reason.PAGE_TOKEN_INVALID


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def ready(batches: Iterable[Sequence[str]]) -> AsyncGenerator[Sequence[CaseResult]]:
    for keys in batches:
        await asyncio.sleep(0)
        yield [CaseResult(key) for key in keys]


async def everything(batches: Batches, name: str, size: int = 0) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        response = await batches.fetch("me", name, size, token)
        found += [result.key for result in response.results]
        token = response.next_page_token
        if not token:
            assert response.done
            return found


async def test_results_of_a_batch_come_in_pages_until_it_is_done() -> None:
    batches = Batches(Clock())
    name = batches.submit("me", 5, ready([["a", "b"], ["c"], ["d", "e"]]))
    assert await everything(batches, name, 2) == ["a", "b", "c", "d", "e"]
    assert await everything(batches, name) == ["a", "b", "c", "d", "e"]


async def test_a_page_of_receipts_fits_what_a_grpc_library_takes_by_default() -> None:
    receipt = verification_pb2.Receipt(parts=[verification_pb2.Receipt.Part(sealed_hash=bytes(9_000))])
    results = [CaseResult(str(number), receipt=receipt) for number in range(1000)]

    async def large() -> AsyncGenerator[Sequence[CaseResult]]:
        yield results

    batches = Batches(Clock())
    name = batches.submit("me", len(results), large())
    found, token, pages = [], "", 0
    while token or not pages:
        response = await batches.fetch("me", name, 1000, token)
        assert response.ByteSize() < 4 << 20
        found += [result.key for result in response.results]
        token, pages = response.next_page_token, pages + 1
    assert found == [result.key for result in results]
    assert pages == 3


def test_a_result_that_is_too_large_for_any_message_goes_alone() -> None:
    small, large = result_message(CaseResult("small")), result_message(CaseResult("x" * MAX_RESULTS_BYTES))
    assert fitting([large, small], 64) == [large]
    assert fitting([small, large], 64) == [small]
    assert fitting([small] * 3, 2) == [small] * 2
    assert fitting([], 64) == []


async def test_a_batch_is_its_callers_alone() -> None:
    batches = Batches(Clock())
    name = batches.submit("me", 1, ready([["a"]]))
    with pytest.raises(RefusedError) as caught:
        await batches.fetch("another", name, 0, "")
    assert caught.value.reason is Reason.BATCH_UNKNOWN
    await batches.close()


async def test_a_batch_is_forgotten_an_hour_after_its_end() -> None:
    clock = Clock()
    batches = Batches(clock)
    name = batches.submit("me", 1, ready([["a"]]))
    await everything(batches, name)
    clock.now = KEPT_SECONDS
    assert await everything(batches, name) == ["a"]
    clock.now += 1
    with pytest.raises(RefusedError) as caught:
        await batches.fetch("me", name, 0, "")
    assert caught.value.reason is Reason.BATCH_UNKNOWN


async def test_a_batch_that_failed_says_so_after_its_last_result() -> None:
    async def fail() -> AsyncGenerator[Sequence[CaseResult]]:
        yield [CaseResult("a")]
        raise RefusedError(Reason.DIRECTORY_EXPIRED)

    batches = Batches(Clock())
    name = batches.submit("me", 2, fail())
    await asyncio.sleep(0.01)
    response = await batches.fetch("me", name, 0, "")
    assert [result.key for result in response.results] == ["a"]
    with pytest.raises(RefusedError) as caught:
        await batches.fetch("me", name, 0, response.next_page_token)
    assert caught.value.reason is Reason.DIRECTORY_EXPIRED


@pytest.mark.parametrize("token", ["1", "r", "r-1", "r2", "rx", "r9999999999", "\u0661"])
async def test_a_token_that_is_none_of_ours_is_refused(token: str) -> None:
    batches = Batches(Clock())
    name = batches.submit("me", 1, ready([["a"]]))
    await everything(batches, name)
    with pytest.raises(RefusedError) as caught:
        await batches.fetch("me", name, 0, token)
    assert caught.value.reason is Reason.PAGE_TOKEN_INVALID


async def test_a_batch_is_let_go_of_in_time_although_nobody_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_batches, "KEPT_SECONDS", 0.01)
    monkeypatch.setattr(kept_batches, "FORGET_SECONDS", 0.01)
    batches = Batches(asyncio.get_running_loop().time)
    batches.submit("me", 1, ready([["a"]]))
    async with asyncio.timeout(60):
        while batches._batches:  # noqa: ASYNC110  a timer's work
            await asyncio.sleep(0.01)


async def test_what_is_kept_is_bounded_for_all_and_for_each_caller() -> None:
    batches = Batches(Clock())
    assert refusal(lambda: batches.submit("me", MAX_CASES + 1, ready([])))[0] is Reason.TOO_MANY_CLAIMS
    assert refusal(lambda: batches.submit("me", 0, ready([]))) == (Reason.REQUEST_MALFORMED, "cases")
    for _ in range(MAX_BATCHES // SHARE):
        batches.submit("me", 1, ready([]))
    assert refusal(lambda: batches.submit("me", 1, ready([])))[0] is Reason.OVERLOADED
    for number in range(MAX_BATCHES - MAX_BATCHES // SHARE):
        batches.submit(f"another {number}", 1, ready([]))
    assert refusal(lambda: batches.submit("yet another", 1, ready([])))[0] is Reason.OVERLOADED
    await batches.close()


async def test_results_that_are_too_many_bytes_end_their_batch_and_what_came_before_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_batches, "MAX_KEPT_BYTES", 2 * SHARE * 1000)
    batches = Batches(Clock())
    name = batches.submit("me", 9, ready([[f"{number}{'x' * 1000}"] for number in range(9)]))
    found: list[str] = []

    async def fetch() -> None:
        token = ""
        while token or not found:
            response = await batches.fetch("me", name, 0, token)
            found.extend([result.key[0] for result in response.results])
            token = response.next_page_token

    with pytest.raises(RefusedError) as caught:
        await fetch()
    assert caught.value.reason is Reason.OVERLOADED
    assert found == ["0", "1"]
    assert refusal(lambda: batches.submit("me", 1, ready([])))[0] is Reason.OVERLOADED
    other = batches.submit("another", 1, ready([["a"]]))
    assert (await batches.fetch("another", other, 0, "")).results[0].key == "a"
    await batches.close()


def test_a_result_is_told_whole() -> None:
    claim = ClaimResult(
        "a: b.c exists", "n", 1, 2, Status.DENIED, Answer.NONE, Reason.NOT_GRANTED, 1_700_000_000, "0755"
    )
    message = result_message(CaseResult("k", (claim,), Ruling.PASSED, None, Reason.NAME_INVALID, "subjects[0].name"))
    assert message == verification_pb2.CaseResult(
        key="k",
        ruling=verification_pb2.RULING_PASSED,
        reason="NAME_INVALID",
        field="subjects[0].name",
        claims=[
            verification_pb2.ClaimResult(
                claim="a: b.c exists",
                name="n",
                ordinal=1,
                compared_ordinal=2,
                status=verification_pb2.CLAIM_STATUS_DENIED,
                reason="NOT_GRANTED",
                counter="0755",
                data_as_of=Timestamp(seconds=1_700_000_000),
            )
        ],
    )


def test_what_is_published_is_told_whole() -> None:
    published = directory()
    attribute = attribute_message(published.documents["hrss"].attributes["pension_months"])
    assert attribute.name == "hrss.pension_months"
    assert list(attribute.cells) == ["6", "12", "18", "24"]
    assert list(attribute.predicates) == ["at_least"]
    matter = matter_message(published.matters["school-enrolment"])
    assert matter.claims["pension"] == "guardian: hrss.pension_months at_least 12"
    assert [(slot.name, slot.kind, slot.up_to) for slot in matter.slots] == [
        ("child", "person", 1),
        ("guardian", "person", 2),
        ("home", "dwelling", 1),
    ]
    assert matter_message(published.matters["senior-card"]).reference_date == "today"
