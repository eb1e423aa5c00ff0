"""Kept receipts gain cosignatures in the background, and no answer waits for that."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.cosignature import WitnessPolicy
from client_support import CASE, Witness, World
from exchange.client import completing
from exchange.client.check import check_answer
from exchange.client.completing import Completer, Round, complete_kept, old_ones, one_round
from exchange.client.keeper import Keeper
from exchange.client.receipt import build_receipt
from exchange.client.receipt_rows import Paper
from exchange.client.receipt_store import ReceiptStore
from exchange.client.receipt_times import Trust, prove
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError

DAY = 86_400


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness("example.com/a")


@pytest.fixture(scope="module")
def policy(witness: Witness) -> WitnessPolicy:
    return WitnessPolicy({"a": [witness.vkey]}, 1)


class Hub:
    """A hub's AuditService over a log in memory; `hangs` makes it answer nothing."""

    def __init__(self, world: World, witness: Witness) -> None:
        self.world = world
        self.witness = witness
        self.hangs = False
        self.asked = asyncio.Event()

    async def GetCheckpoint(self, _request: audit_pb2.GetCheckpointRequest, *, timeout: float) -> Any:  # noqa: ASYNC109, N802 - gRPC's
        self.asked.set()
        if self.hangs:
            await asyncio.sleep(timeout + 3600)
        head = self.world.hub.head()
        head.checkpoint = self.witness.cosign(head.checkpoint, time.time())
        return SimpleNamespace(head=head)

    async def GetInclusionProof(self, request: audit_pb2.GetInclusionProofRequest, *, timeout: float) -> Any:  # noqa: ASYNC109, N802 - the same
        assert timeout
        return SimpleNamespace(inclusion_path=self.world.hub.path(request.index))


class Kept:
    """A keeper with its store, and a hub that can be asked."""

    def __init__(
        self, path: Path, world: World, keeper: Keeper, store: ReceiptStore, hub: Hub, clock: list[float]
    ) -> None:
        self.path, self.world, self.keeper, self.store, self.hub, self.clock = path, world, keeper, store, hub, clock

    def papers(self, count: int, reference: str = "2026-000123") -> list[Paper]:
        answered = [
            check_answer(one, self.world.deliver(one)) for one in self.world.seal(self.world.prepare(*[CASE] * count))
        ]
        return [Paper(reference, f"key-{case}", build_receipt(answered, case)) for case in range(count)]

    async def begin(self, policy: WitnessPolicy) -> Round:
        return await Completer(lambda: [self.hub], self.world.verifier, time.time).begin(policy)

    def receipts(self) -> Sequence[verification_pb2.Receipt]:
        return [found.receipt for found in self.store.find("2026-000123") if found.receipt is not None]


@pytest.fixture
async def kept(world: World, witness: Witness, tmp_path: Path) -> AsyncIterator[Kept]:
    places = tmp_path / "receipts", tmp_path / "keys"
    ReceiptStore.create(*places, time.time())
    clock = [time.time()]
    keeper, store = Keeper(ReceiptStore(*places), 3650 * DAY, clock=lambda: clock[0]), ReceiptStore(*places)
    yield Kept(places[0], world, keeper, store, Hub(world, witness), clock)
    await keeper.close()
    store.close()


async def test_kept_receipts_are_completed_batch_by_batch(
    kept: Kept, policy: WitnessPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "BATCH", 3)
    await kept.keeper.keep(kept.papers(8))
    assert await one_round(kept.keeper, await kept.begin(policy), 0) == (8, 0)
    for receipt in kept.receipts():
        assert prove(receipt, Trust(kept.world.verifier, witnesses=policy)).witnessed
    assert await one_round(kept.keeper, await kept.begin(policy), 0) == (0, 0)


async def test_what_a_tree_does_not_hold_yet_is_completed_by_a_later_round(kept: Kept, policy: WitnessPolicy) -> None:
    first = await kept.begin(policy)
    await kept.keeper.keep(kept.papers(2))
    assert await one_round(kept.keeper, first, 0) == (0, 0)
    assert await one_round(kept.keeper, await kept.begin(policy), 0) == (2, 0)


async def test_receipts_that_were_kept_long_ago_are_completed_a_few_at_a_time(
    kept: Kept, policy: WitnessPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(completing, "OLD_BATCH", 3)
    now = kept.clock[0]
    for kept.clock[0], count in ((now - completing.PATIENCE - DAY, 7), (now, 1)):
        await kept.keeper.keep(kept.papers(count))
    gained: list[int] = []
    all_of_them = asyncio.Event()
    completer = Completer(lambda: [kept.hub], kept.world.verifier, time.time)

    def count_them(number: int) -> None:
        gained.extend([number] if number else [])
        if sum(gained) == 8:
            all_of_them.set()

    task = asyncio.create_task(complete_kept(kept.keeper, completer, lambda: policy, time.time, count_them))
    try:
        async with asyncio.timeout(60):
            await all_of_them.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert gained == [1, 3, 3, 1]
    assert await kept.keeper.waiting_for_witnesses(0, 0, 10) == []


async def test_what_can_never_be_completed_keeps_no_turn_from_others(
    kept: Kept, policy: WitnessPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log that no hub shows any more, and one whose row was damaged."""
    monkeypatch.setattr(completing, "OLD_BATCH", 2)
    now = kept.clock[0]
    kept.clock[0] = now - completing.PATIENCE - DAY
    lost = kept.papers(3)
    for paper in lost:
        for part in paper.receipt.parts:
            part.hub_log.checkpoint = part.hub_log.checkpoint.replace(b"/hub/main\n", b"/hub/gone\n", 1)
    await kept.keeper.keep([*lost, *kept.papers(2)])
    with closing(sqlite3.connect(kept.path / "receipts.db")) as connection:
        connection.execute("UPDATE receipt SET sealed = zeroblob(64) WHERE number = 2")
        connection.commit()
    before, turn, counts, turns = now - completing.PATIENCE, 0, [], []
    for _ in range(4):
        count, turn = await old_ones(kept.keeper, await kept.begin(policy), before, turn)
        counts.append(count)
        turns.append(turn)
    # The two that cannot; the two that can; around again, to what is left.
    assert (counts, turns) == ([0, 2, 0, 0], [3, 5, 0, 3])


async def test_no_answer_waits_while_a_hub_hangs(kept: Kept, policy: WitnessPolicy) -> None:
    kept.hub.hangs = True
    completer = Completer(lambda: [kept.hub], kept.world.verifier, time.time)
    task = asyncio.create_task(complete_kept(kept.keeper, completer, lambda: policy, time.time))
    try:
        await kept.hub.asked.wait()
        async with asyncio.timeout(60):
            await kept.keeper.keep(kept.papers(5))
        assert len(kept.receipts()) == 5
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_trouble_ends_no_later_round(kept: Kept, policy: WitnessPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "ROUND_SECONDS", 0.01)
    await kept.keeper.keep(kept.papers(1))
    troubles = [RefusedError(Reason.DIRECTORY_EXPIRED), None]
    gained = asyncio.Event()

    def wavering() -> WitnessPolicy | None:
        if not troubles:
            return policy
        trouble = troubles.pop(0)
        if trouble is not None:
            raise trouble
        return None

    completer = Completer(lambda: [kept.hub], kept.world.verifier, time.time)
    task = asyncio.create_task(
        complete_kept(kept.keeper, completer, wavering, time.time, lambda count: gained.set() if count else None)
    )
    try:
        async with asyncio.timeout(60):
            await gained.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert prove(kept.receipts()[0], Trust(kept.world.verifier, witnesses=policy)).witnessed
