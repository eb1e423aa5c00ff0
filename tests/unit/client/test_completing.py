"""What a receipt gains afterwards: only from a hub that shows what witnesses cosigned, and within bounds."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from audit.checkpoint import split_note
from audit.cosignature import WitnessPolicy
from client_support import CASE, Log, Witness, World
from exchange.client.check import check_answer
from exchange.client.completing import Completer
from exchange.client.receipt import build_receipt
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
