"""Cosignatures in a receipt: a quorum is demanded by whoever names witnesses, and nothing of it can be forged."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import pytest

from audit.checkpoint import sign
from audit.cosignature import WitnessPolicy
from client_support import CASE, FATHER, MOTHER, Log, Witness, World, complete
from exchange.client.case import Case, Subject
from exchange.client.check import check_answer
from exchange.client.receipt import build_receipt, encode_receipt, read_receipt
from exchange.client.receipt_times import Revocations, Trust, Word, prove
from exchange.client.receipt_verify import verify_receipt
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.merkle import leaf_hash

Receipt = verification_pb2.Receipt

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def witnesses() -> list[Witness]:
    return [Witness(f"example.com/{name}") for name in "abc"]


@pytest.fixture(scope="module")
def policy(witnesses: list[Witness]) -> WitnessPolicy:
    return WitnessPolicy({name: [witness.vkey] for name, witness in zip("abc", witnesses, strict=True)}, 2)


def receipt_about(world: World, case: Case = CASE, now: float | None = None) -> Receipt:
    return build_receipt([check_answer(one, world.deliver(one)) for one in world.seal(world.prepare(case), now=now)], 0)


@pytest.fixture(scope="module")
def plain(world: World) -> Receipt:
    return receipt_about(world)


@pytest.fixture
def completed(world: World, plain: Receipt, witnesses: list[Witness]) -> Receipt:
    receipt = copy.deepcopy(plain)
    world.hub.grow(20)
    complete(world, receipt, witnesses[:2], time.time() + 5)
    return receipt


@pytest.fixture
def hub(world: World) -> Iterator[Log]:
    yield (own := world.hub)
    world.hub = own


def refusal(world: World, receipt: Receipt, policy: WitnessPolicy) -> Reason:
    with pytest.raises(RefusedError) as caught:
        prove(receipt, Trust(world.verifier, witnesses=policy))
    return caught.value.reason


def test_a_completed_receipt_names_its_witnesses_and_when_they_saw_it(
    world: World, completed: Receipt, policy: WitnessPolicy
) -> None:
    proved = prove(read_receipt(encode_receipt(completed)), Trust(world.verifier, witnesses=policy))
    for part, said in zip(proved.parts, proved.witnessed, strict=True):
        assert {one.name for one in said.cosignatures} == {"a", "b"}
        assert abs(said.time - time.time() - 5) < 60
        assert part.cosigned is not None
        assert part.cosigned.checkpoint.size > part.hub_checkpoint.size


def test_without_a_policy_cosignatures_are_counted_and_prove_nothing(
    world: World, plain: Receipt, completed: Receipt
) -> None:
    assert prove(completed, Trust(world.verifier)).unchecked_cosignatures == 4
    assert prove(plain, Trust(world.verifier)).unchecked_cosignatures == 0


def test_a_receipt_without_cosignatures_does_not_hold_for_whoever_demands_them(
    world: World, plain: Receipt, completed: Receipt, policy: WitnessPolicy
) -> None:
    assert refusal(world, plain, policy) is Reason.NOT_WITNESSED
    completed.parts[1].ClearField("hub_cosigned")
    assert refusal(world, completed, policy) is Reason.NOT_WITNESSED


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_a_quorum_is_none(
    world: World, plain: Receipt, witnesses: list[Witness], policy: WitnessPolicy, count: int
) -> None:
    receipt = copy.deepcopy(plain)
    complete(world, receipt, witnesses[:count], time.time())
    assert refusal(world, receipt, policy) is Reason.NOT_WITNESSED


def test_a_stranger_does_not_count_towards_the_quorum(
    world: World, plain: Receipt, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    receipt = copy.deepcopy(plain)
    complete(world, receipt, [witnesses[0], Witness("example.com/b"), Witness("example.com/d")], time.time())
    assert refusal(world, receipt, policy) is Reason.NOT_WITNESSED


def test_cosignatures_of_another_tree_are_refused(
    world: World, completed: Receipt, policy: WitnessPolicy, witnesses: list[Witness]
) -> None:
    """Lines that witnesses wrote below one checkpoint, put below another of the same log and size."""
    fork = Log(world.hub.signer, before=world.hub.checkpoint.size)
    signer = fork.signer
    forged = sign(fork.checkpoint, fork.origin, signer.public_key_raw, signer.sign)
    lines = completed.parts[0].hub_cosigned.checkpoint.split(b"\n\n")[1].splitlines()[1:]
    moved = forged + b"\n".join(lines) + b"\n"
    changed = copy.deepcopy(completed)
    changed.parts[0].hub_cosigned.checkpoint = moved
    assert refusal(world, changed, policy) is Reason.PROOF_INVALID
    # A tree that really was cosigned, but has not this entry at its place.
    for witness in witnesses[:2]:
        forged = witness.cosign(forged, time.time())
    changed.parts[0].hub_cosigned.checkpoint = forged
    assert refusal(world, changed, policy) is Reason.PROOF_INVALID


def test_a_cosigned_head_of_another_hub_or_an_older_one_is_refused(
    world: World, hub: Log, plain: Receipt, completed: Receipt, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    other = copy.deepcopy(plain)
    own_head = hub.head()
    world.hub = Log(world.city.enrol("dsjj/hub/other").signer(), before=hub.checkpoint.size)
    complete(world, other, witnesses, time.time())
    assert refusal(world, other, policy) is Reason.IDENTITY_MISMATCH
    world.hub = Log(world.city.enrol("dsjj/system/hub").signer(), before=hub.checkpoint.size)
    complete(world, other, witnesses, time.time())
    assert refusal(world, other, policy) is Reason.CERTIFICATE_INVALID
    small = Log(hub.signer, before=3)
    world.hub = small
    shrunk = copy.deepcopy(completed)
    for part in shrunk.parts:
        part.hub_cosigned.checkpoint = small.head().checkpoint
    assert refusal(world, shrunk, policy) is Reason.PROOF_INVALID
    assert own_head.checkpoint


def test_any_cosigned_tree_that_holds_the_entry_will_do(
    world: World, hub: Log, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    """A busy hub's answer comes under a head that is larger than what was cosigned a moment before."""
    del hub
    (sealed, _) = world.seal(world.prepare())
    cosigned = verification_pb2.Receipt()

    def between(result: exchange_pb2.ExchangeResult) -> None:
        # Cosigned after the entry, and then the log grows before the answer leaves.
        part = cosigned.parts.add()
        part.hub_entry.index = world.hub.checkpoint.size - 1
        complete(world, cosigned, witnesses, time.time())
        world.hub.grow(7)
        result.hub_entry.inclusion_path[:] = world.hub.path(result.hub_entry.index)

    receipt = build_receipt([check_answer(sealed, world.deliver(sealed, change_result=between))], 0)
    receipt.parts[0].hub_cosigned.CopyFrom(cosigned.parts[0].hub_cosigned)
    (part,) = prove(receipt, Trust(world.verifier, witnesses=policy)).parts
    assert part.cosigned is not None
    assert part.cosigned.checkpoint.size == part.hub_checkpoint.size - 7


def test_two_roots_of_one_size_are_refused(
    world: World, hub: Log, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    (sealed, _) = world.seal(world.prepare())
    answered = check_answer(sealed, world.deliver(sealed))
    receipt = build_receipt([answered], 0)
    # The same entry at the same place, in a tree with another past.
    world.hub = Log(hub.signer, before=hub.checkpoint.size - 1)
    world.hub._leaves.append(leaf_hash(receipt.parts[0].hub_entry.entry))
    complete(world, receipt, witnesses, time.time())
    with pytest.raises(RefusedError, match="two roots"):
        prove(receipt, Trust(world.verifier, witnesses=policy))


def test_cosigned_proofs_of_two_receipts_cannot_be_exchanged(
    world: World, completed: Receipt, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    other = receipt_about(world, Case((Subject("child", MOTHER), Subject("guardian", FATHER))))
    complete(world, other, witnesses, time.time())
    other.parts[0].hub_cosigned.CopyFrom(completed.parts[0].hub_cosigned)
    assert refusal(world, other, policy) is Reason.PROOF_INVALID


def test_no_byte_of_a_cosigned_proof_can_be_changed(world: World, completed: Receipt, policy: WitnessPolicy) -> None:
    del completed.parts[1:]
    trust = Trust(world.verifier, witnesses=policy)
    genuine = prove(completed, trust)
    proof = completed.parts[0].hub_cosigned
    whole = verification_pb2.CosignedProof()
    whole.CopyFrom(proof)
    other = 0
    data = whole.checkpoint
    for place in range(len(data)):
        proof.checkpoint = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        # A cosignature that became one of a stranger is a quorum less; nothing else may pass.
        with pytest.raises(RefusedError):
            prove(completed, trust)
        other += 1
    proof.CopyFrom(whole)
    for number, sibling in enumerate(whole.inclusion_path):
        for place in range(32):
            proof.inclusion_path[number] = sibling[:place] + bytes([sibling[place] ^ 1]) + sibling[place + 1 :]
            with pytest.raises(RefusedError):
                prove(completed, trust)
        proof.CopyFrom(whole)
    for place in range(len(whole.certificate)):
        certificate = bytearray(whole.certificate)
        certificate[place] ^= 1 << place % 8
        proof.certificate = bytes(certificate)
        with pytest.raises(RefusedError):
            prove(completed, trust)
    proof.CopyFrom(whole)
    assert prove(completed, trust) == genuine
    assert other > 400


def test_a_witness_that_saw_the_entry_before_it_was_made_is_not_believed(
    world: World, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    receipt = receipt_about(world, now=time.time() + 3600)
    complete(world, receipt, witnesses, time.time())
    assert refusal(world, receipt, policy) is Reason.PROOF_INVALID


def test_the_time_is_that_of_the_quorum_and_not_of_one_witness_whose_clock_is_behind(
    world: World, plain: Receipt, witnesses: list[Witness], policy: WitnessPolicy
) -> None:
    receipt = copy.deepcopy(plain)
    now = int(time.time())
    complete(world, receipt, witnesses[:1], now - 3000)
    note = receipt.parts[0].hub_cosigned.checkpoint
    for part in receipt.parts:
        part.hub_cosigned.checkpoint = witnesses[2].cosign(witnesses[1].cosign(note, now + 20), now + 10)
    proved = prove(receipt, Trust(world.verifier, witnesses=policy))
    assert {said.time for said in proved.witnessed} == {now + 10}


def test_witnesses_tell_what_was_revoked_since(world: World, completed: Receipt, policy: WitnessPolicy) -> None:
    part = verify_receipt(completed, world.verifier)[0]
    hub = part.certificates[2]
    for later, word in ((3600, Word.WITNESSES), (1, Word.OWN)):
        revoked = Revocations({hub.serial: part.hub_time + later}, time.time() + 86_400)
        trust = Trust(world.verifier, witnesses=policy, revocations=revoked)
        assert {since.word for since in prove(completed, trust).revoked_since} == {word}
