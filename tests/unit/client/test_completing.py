"""What a receipt gains afterwards: only from a hub that shows what witnesses cosigned, and within bounds."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from audit.checkpoint import Checkpoint, split_note
from audit.cosignature import WitnessPolicy
from client_support import CASE, Log, Witness, World
from exchange.client.check import check_answer
from exchange.client.completing import Completer, CosignedHead, Round, one_round
from exchange.client.receipt import build_receipt
from exchange.client.receipt_rows import Waiting
from exchange.client.receipt_times import Trust, prove
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

Receipt = verification_pb2.Receipt


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def witnesses() -> list[Witness]:
    return [Witness(f"example.com/{name}") for name in "abc"]


@pytest.fixture(scope="module")
def policy(witnesses: list[Witness]) -> WitnessPolicy:
    return WitnessPolicy({name: [one.vkey] for name, one in zip("abc", witnesses, strict=True)}, 2)


class Hub:
    """A hub's AuditService over a log in memory: what it shows, and what it was asked."""

    def __init__(self, log: Log, witnesses: Sequence[Witness]) -> None:
        self.log = log
        self.witnesses = witnesses
        self.asked: list[int] = []
        self.refusal: RefusedError | None = None

    async def GetCheckpoint(self, request: audit_pb2.GetCheckpointRequest, *, timeout: float) -> Any:  # noqa: ASYNC109, N802 - gRPC's
        assert request.cosigned
        assert timeout
        if self.refusal is not None:
            raise self.refusal
        head = self.log.head()
        for witness in self.witnesses:
            head.checkpoint = witness.cosign(head.checkpoint, time.time())
        self.size = self.log.checkpoint.size
        return SimpleNamespace(head=head)

    async def GetInclusionProof(self, request: audit_pb2.GetInclusionProofRequest, *, timeout: float) -> Any:  # noqa: ASYNC109, N802 - the same
        assert (request.tree_size, request.origin, bool(timeout)) == (self.size, self.log.origin, True)
        self.asked.append(request.index)
        return SimpleNamespace(inclusion_path=self.log.path(request.index))


def receipts(world: World, count: int = 1) -> list[Receipt]:
    answered = [check_answer(one, world.deliver(one)) for one in world.seal(world.prepare(*[CASE] * count))]
    return [build_receipt(answered, case) for case in range(count)]


def completer(world: World, *hubs: Hub) -> Completer:
    return Completer(lambda: hubs, world.verifier, time.time)


async def test_a_completed_receipt_satisfies_whoever_demands_the_quorum(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    (receipt,) = receipts(world)
    world.hub.grow(9)
    hub = Hub(world.hub, [*witnesses, Witness("example.com/stranger")])
    now = await completer(world, hub).begin(policy)
    assert await now.complete(receipt)
    assert prove(receipt, Trust(world.verifier, witnesses=policy)).witnessed
    # Whoever adds lines of nobody makes the receipt no larger.
    names = {name for name, *_ in split_note(receipt.parts[0].hub_cosigned.checkpoint)[1]}
    assert names == {world.hub.origin, *(witness.vkey.name for witness in witnesses)}


async def test_the_cases_of_a_roster_share_their_proofs_and_what_is_complete_asks_for_none(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    some = receipts(world, 4)
    hub = Hub(world.hub, witnesses)
    now = await completer(world, hub).begin(policy)
    assert [await now.complete(one) for one in some] == [True] * 4
    assert len(hub.asked) == len(some[0].parts)
    before = copy.deepcopy(some[0])
    assert await (await completer(world, hub).begin(policy)).complete(some[0])
    assert (some[0], len(hub.asked)) == (before, len(some[0].parts))


async def test_a_receipt_whose_witnesses_are_no_longer_enough_is_completed_anew(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    (receipt,) = receipts(world)
    hub = Hub(world.hub, witnesses)
    assert await (await completer(world, hub).begin(policy)).complete(receipt)
    later = [Witness("example.com/d"), Witness("example.com/e")]
    newer = WitnessPolicy({"d": [later[0].vkey], "e": [later[1].vkey]}, 2)
    hub.witnesses = later
    assert await (await completer(world, hub).begin(newer)).complete(receipt)
    assert prove(receipt, Trust(world.verifier, witnesses=newer)).witnessed


async def test_a_round_asks_for_no_more_proofs_than_its_bound_and_leaves_the_rest_as_it_was(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    first, second = receipts(world)[0], receipts(world)[0]
    untouched = copy.deepcopy(second)
    hub = Hub(world.hub, witnesses)
    now = await completer(world, hub).begin(policy, proofs=3)
    assert await now.complete(first)
    assert not await now.complete(second)
    assert (len(hub.asked), now.over, second) == (3, True, untouched)


async def test_an_entry_beyond_the_cosigned_tree_waits(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    now = await completer(world, Hub(world.hub, witnesses)).begin(policy)
    (receipt,) = receipts(world)
    untouched = copy.deepcopy(receipt)
    assert not await now.complete(receipt)
    assert receipt == untouched


async def test_each_receipt_is_completed_by_the_hub_whose_log_it_is_in(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    (receipt,) = receipts(world)
    other = Hub(Log(world.city.enrol("dsjj/hub/other").signer(), before=400), witnesses)
    assert not await (await completer(world, other).begin(policy)).complete(receipt)
    own, broken = Hub(world.hub, witnesses), Hub(world.hub, witnesses)
    broken.refusal = RefusedError(Reason.HUB_UNREACHABLE)
    assert await (await completer(world, other, broken, own).begin(policy)).complete(receipt)
    assert other.asked == []


async def test_a_hub_that_calls_cosigned_what_is_not_gives_nothing(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    stranger = Witness("example.com/a")
    for some in ([], witnesses[:1], [witnesses[0], stranger]):
        now = await completer(world, Hub(world.hub, some)).begin(policy)
        assert now.over


async def test_a_cosigned_tree_without_the_entry_is_an_alarm_and_changes_nothing(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    (receipt,) = receipts(world)
    untouched = copy.deepcopy(receipt)
    forked = Hub(Log(world.hub.signer, before=world.hub.checkpoint.size + 3), witnesses)
    now = await completer(world, forked).begin(policy)
    with pytest.raises(RefusedError) as caught:
        await now.complete(receipt)
    assert caught.value.reason is Reason.PROOF_INVALID
    assert receipt == untouched


# Hubs that refuse or hang.

FIRST, SECOND = "shenzhen/centre/hub/first", "shenzhen/centre/hub/second"


class Refusing:
    """Receipts in the logs of two hubs, of which none is ever proved; and which entries each was asked for."""

    def __init__(self, *origins: str, parts: int = 1) -> None:
        self.asked: dict[str, list[int]] = {FIRST: [], SECOND: []}
        self.hangs: set[str] = set()
        self._waiting = [self._receipt(number + 1, origin, parts) for number, origin in enumerate(origins)]

    @staticmethod
    def _receipt(number: int, origin: str, parts: int) -> Any:
        receipt = Receipt()
        for part in range(parts):
            added = receipt.parts.add()
            added.hub_log.checkpoint = f"{origin}\n1\n{'A' * 43}=\n\n\u2014 {origin} AAAAAAAA\n".encode()
            added.hub_entry.index = number * 10 + part
        return Waiting(number, None, "", receipt)  # type: ignore[arg-type]  # the row is never looked at

    async def waiting_for_witnesses(self, _since: float, after: int, limit: int) -> list[Waiting]:
        return [one for one in self._waiting if one.number > after][:limit]

    def _head(self, origin: str) -> CosignedHead:
        async def prove(index: int) -> Sequence[bytes]:
            self.asked[origin].append(index)
            if origin in self.hangs:
                await asyncio.sleep(0.1)
            if index % 10 == 0 and len(self.asked[origin]) % 2:
                raise RefusedError(Reason.ENTRY_UNKNOWN)
            raise RefusedError(Reason.HUB_UNREACHABLE)

        async def earlier(_origin: str) -> CosignedHead:
            raise AssertionError

        return CosignedHead(origin, b"", b"", Checkpoint(origin, 10**6, bytes(32)), (), prove, earlier)

    async def round(self, policy: WitnessPolicy, after: int = 0, *, proofs: int = 20, seconds: float = 60.0) -> int:
        """One round; where the next begins."""
        now = Round(policy, {origin: self._head(origin) for origin in self.asked}, proofs, seconds)
        count, after = await one_round(self, now, 0, after)  # type: ignore[arg-type]  # as much of a keeper as it takes
        assert count == 0
        return after


async def test_a_hub_that_refuses_every_proof_keeps_no_receipt_of_another_from_its_turn(policy: WitnessPolicy) -> None:
    keeper = Refusing(*[FIRST] * 90, *[SECOND] * 10)
    after = await keeper.round(policy)
    assert (len(keeper.asked[FIRST]), len(keeper.asked[SECOND])) == (20, 10)
    # Nor its own that come after those.
    for _ in range(5):
        after = await keeper.round(policy, after)
    assert len(set(keeper.asked[FIRST])) == 90
    assert after in {0, 10, 20, 30}, "and again from the beginning"


async def test_a_hub_that_hangs_is_waited_for_a_while_and_no_receipt_of_another_is(policy: WitnessPolicy) -> None:
    keeper = Refusing(*[FIRST] * 30, *[SECOND] * 10)
    keeper.hangs = {FIRST}
    after = await keeper.round(policy, seconds=0.05)
    assert keeper.asked[FIRST] == [10]
    assert 1 <= len(keeper.asked[SECOND]) <= 10
    await keeper.round(policy, after, seconds=0.05)
    assert keeper.asked[FIRST] == [10, 20]
