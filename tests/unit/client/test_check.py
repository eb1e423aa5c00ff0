"""No answer is released that is not what owner and hub recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from client_support import CASE, World
from exchange.client.check import Delivery, Frame, check_answer, check_refusal
from exchange.client.seal import Sealed
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.records import Outcome


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def sealed(world: World) -> Sealed:
    """The part of an owner with two claims."""
    return next(one for one in world.seal(world.prepare()) if one.header.owner == "hrss")


def withheld(sealed: Sealed, delivery: Delivery) -> str:
    with pytest.raises(RefusedError) as caught:
        check_answer(sealed, delivery)
    assert caught.value.reason in {Reason.PROOF_INVALID, Reason.CERTIFICATE_INVALID}
    return caught.value.detail


def test_an_honest_answer_is_released(world: World, sealed: Sealed) -> None:
    answered = check_answer(sealed, world.deliver(sealed, outcomes=bytes([Outcome.NO, Outcome.UNKNOWN])))
    assert list(answered.answers.outcomes) == [Outcome.NO, Outcome.UNKNOWN]
    assert answered.answers.data_as_of == (1_700_000_000, 1_700_000_000)


def test_a_masked_claim_is_released_as_denied(world: World, sealed: Sealed) -> None:
    answered = check_answer(sealed, world.deliver(sealed, denied=(1,)))
    assert list(answered.answers.outcomes) == [Outcome.YES, Outcome.DENIED_BY_HUB]


OwnerChange = Callable[[audit_pb2.OwnerAccess], None]
HubChange = Callable[[audit_pb2.HubAccess], None]
ResultChange = Callable[[exchange_pb2.ExchangeResult], None]


def put(field: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        setattr(message, field, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("header", b"another"),
        put("signature", bytes(64)),
        put("sealed_hash", bytes(32)),
        put("request_root", bytes(32)),
        put("answer_root", bytes(32)),
        put("cases", 2),
        put("claims", 1),
    ],
)
def test_an_owners_entry_of_another_request_or_answer_is_noticed(
    world: World, sealed: Sealed, change: OwnerChange
) -> None:
    withheld(sealed, world.deliver(sealed, change_owner=change))


@pytest.mark.parametrize(
    "change",
    [
        put("header", b"another"),
        put("signature", bytes(64)),
        put("sealed_hash", bytes(32)),
        put("request_root", bytes(32)),
        put("outcome", audit_pb2.OUTCOME_UNAVAILABLE),
        put("owner_leaf_hash", bytes(32)),
        put("owner_index", 1),
        put("owner_checkpoint", b"another"),
        lambda event: event.denied_claims.append(0),
    ],
)
def test_a_hubs_entry_of_another_request_or_owners_entry_is_noticed(
    world: World, sealed: Sealed, change: HubChange
) -> None:
    withheld(sealed, world.deliver(sealed, change_hub=change))


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.ClearField("reply"),
        lambda result: result.ClearField("hub_entry"),
        lambda result: result.ClearField("owner_entry"),
        lambda result: put("entry", result.owner_entry.entry + b"x")(result.owner_entry),
        lambda result: put("index", result.owner_entry.index - 1)(result.owner_entry),
        lambda result: put("index", result.hub_entry.index - 1)(result.hub_entry),
        lambda result: result.hub_entry.inclusion_path.pop(),
        lambda result: put("ciphertext", bytes(len(result.reply.ciphertext)))(result.reply),
        lambda result: put("nonce", bytes(12))(result.reply),
    ],
)
def test_what_is_missing_or_changed_on_the_way_is_noticed(world: World, sealed: Sealed, change: ResultChange) -> None:
    withheld(sealed, world.deliver(sealed, change_result=change))


def test_a_denial_that_the_hubs_entry_hides_is_noticed(world: World, sealed: Sealed) -> None:
    outcomes = bytes([Outcome.YES, Outcome.DENIED_BY_HUB])
    assert "does not stand in its entry" in withheld(sealed, world.deliver(sealed, outcomes=outcomes))


def test_an_answer_to_a_claim_that_the_hub_denied_is_noticed(world: World, sealed: Sealed) -> None:
    outcomes = bytes([Outcome.YES, Outcome.YES])
    assert "was answered" in withheld(sealed, world.deliver(sealed, outcomes=outcomes, denied=(1,)))


def test_a_reply_of_another_request_is_noticed(world: World, sealed: Sealed) -> None:
    other = next(one for one in world.seal(world.prepare()) if one.header.owner == "hrss")
    withheld(sealed, world.deliver(other))


def test_a_log_of_another_department_does_not_count_as_the_owners(world: World, sealed: Sealed) -> None:
    foreign = world.owner("health").head()
    assert "not the one" in withheld(sealed, world.deliver(sealed, owner_head=lambda _head: foreign))


def test_a_head_that_no_log_signed_is_noticed(world: World, sealed: Sealed) -> None:
    def forged(head: audit_pb2.LogHead) -> audit_pb2.LogHead:
        checkpoint = head.checkpoint.replace(b"\n6\n", b"\n7\n")
        assert checkpoint != head.checkpoint
        return audit_pb2.LogHead(checkpoint=checkpoint, certificate=head.certificate)

    world_of_its_own = world.owner("hrss")
    while world_of_its_own.checkpoint.size != 5:
        world_of_its_own._leaves.pop()  # so that the next checkpoint says 6
    withheld(sealed, world.deliver(sealed, owner_head=forged))


def test_an_answer_without_the_hubs_head_is_noticed(world: World, sealed: Sealed) -> None:
    delivery = world.deliver(sealed)
    frame = Frame(None, None, delivery.frame.owner_logs, delivery.frame._check_owner)
    withheld(sealed, Delivery(delivery.result, frame, 0))


def test_an_index_of_a_head_that_is_not_there_is_noticed(world: World, sealed: Sealed) -> None:
    delivery = world.deliver(sealed)
    withheld(sealed, Delivery(delivery.result, delivery.frame, 1))


def test_each_owners_head_is_verified_once_for_a_frame(world: World) -> None:
    calls = []

    def count(department: str, head: audit_pb2.LogHead) -> Any:
        calls.append(department)
        return world._check_owner(department, head)

    frame = Frame(None, None, [world.owner("hrss").head()], count)
    assert frame.owner(0, "hrss") is frame.owner(0, "hrss")
    assert calls == ["hrss"]


def test_a_refusal_tells_its_reason(world: World, sealed: Sealed) -> None:
    delivery = world.refuse(sealed, "ROLE_NOT_HELD", audit_pb2.OUTCOME_DENIED)
    assert check_refusal(sealed, delivery) is Reason.ROLE_NOT_HELD


def test_a_refusal_that_was_recorded_otherwise_is_noticed(world: World, sealed: Sealed) -> None:
    delivery = world.refuse(sealed, "ROLE_NOT_HELD", audit_pb2.OUTCOME_DENIED)
    delivery.result.reason = "NOT_GRANTED"
    with pytest.raises(RefusedError, match="another reason"):
        check_refusal(sealed, delivery)


def test_a_refusal_of_another_request_is_noticed(world: World, sealed: Sealed) -> None:
    other = world.seal(world.prepare(CASE))[0]
    with pytest.raises(RefusedError, match="another request"):
        check_refusal(sealed, world.refuse(other, "NOT_GRANTED", audit_pb2.OUTCOME_DENIED))


def test_a_reason_outside_the_catalogue_is_not_passed_on(world: World, sealed: Sealed) -> None:
    delivery = world.refuse(sealed, "李梅 has no record", audit_pb2.OUTCOME_UNAVAILABLE)
    assert check_refusal(sealed, delivery) is Reason.OWNER_FAILED
