"""A receipt proves what it says with the pinned roots alone, and nothing of it can be changed."""

from __future__ import annotations

import copy
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.signing import CertificateVerifier
from certs_support import City
from client_support import CASE, CHILD, FATHER, MOTHER, Log, World, unchecked
from exchange.client.case import Case, Subject
from exchange.client.check import Answered, check_answer
from exchange.client.receipt import build_receipt, read_receipt, write_receipt
from exchange.client.receipt_verify import verify_receipt
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.records import Outcome

Receipt = verification_pb2.Receipt

# A changed certificate may have a serial number that its parser only warns about; it is refused all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def answers(world: World, *cases: Case, now: float | None = None) -> list[Answered]:
    return [check_answer(one, world.deliver(one)) for one in world.seal(world.prepare(*cases), now=now)]


@pytest.fixture(scope="module")
def receipt(world: World) -> Receipt:
    """Of the second of three cases, so that there are neighbours on every path."""
    other = Case((Subject("child", MOTHER), Subject("guardian", FATHER)))
    return build_receipt(answers(world, other, CASE, other), 1)


@pytest.fixture(scope="module")
def small(world: World) -> Receipt:
    """Of one owner."""
    claims = ("guardian: hrss.insured exists", "guardian: hrss.name equals 李梅")
    other = Case((Subject("guardian", FATHER),), claims)
    return build_receipt(answers(world, other, Case((Subject("guardian", MOTHER, "李梅"),), claims)), 1)


def broken(world: World, receipt: Receipt) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        verify_receipt(receipt, world.verifier)
    return caught.value


def test_a_receipt_says_who_asked_what_and_what_was_answered(world: World, receipt: Receipt) -> None:
    parts = verify_receipt(receipt, world.verifier)
    assert {part.header.owner for part in parts} == {"hrss", "health"}
    for part in parts:
        assert part.requester.short == "edu/system/enrolment"
        assert part.owner.short == f"{part.header.owner}/adapter/main"
        assert part.hub.short == "dsjj/hub/main"
        assert part.header.matter == "school-enrolment"
        assert abs(part.owner_time - time.time()) < 60
    health = next(part for part in parts if part.header.owner == "health")
    (claim,) = health.claims
    assert claim.claim == "child: health.birth_mother related @guardian"
    assert (claim.identifier, claim.name) == (CHILD, "小明")
    assert claim.compared == ("person", MOTHER, "李·梅")
    assert (claim.outcome, claim.data_as_of) == (Outcome.YES, 1_700_000_000)


def test_a_receipt_holds_nothing_of_other_cases(receipt: Receipt) -> None:
    assert FATHER.encode() not in receipt.SerializeToString()


def test_a_receipt_holds_nothing_that_is_sealed(receipt: Receipt) -> None:
    for part in receipt.parts:
        assert (part.request.ciphertext, part.request.nonce, part.request.enc) == (b"", b"", b"")


def test_a_receipt_survives_its_file(receipt: Receipt, tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    write_receipt(path, receipt)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_receipt(path.read_bytes()) == receipt
    with pytest.raises(FileExistsError):
        write_receipt(path, receipt)


def test_a_receipt_of_an_empty_slot_holds(world: World) -> None:
    (answered,) = answers(world, Case((), ("guardian: hrss.insured exists",)))
    (part,) = verify_receipt(build_receipt([answered], 0), world.verifier)
    assert part.claims[0].identifier == ""


def test_a_receipt_of_one_claim_without_the_others_holds(world: World, receipt: Receipt) -> None:
    shorter = copy.deepcopy(receipt)
    for part in shorter.parts:
        del part.claims[1:]
    assert all(len(part.claims) == 1 for part in verify_receipt(shorter, world.verifier))


def refuses(world: World, receipt: Receipt) -> bool:
    try:
        verify_receipt(receipt, world.verifier)
    except RefusedError:
        return True
    return False


def fields(message: Message, path: str = "") -> Iterator[tuple[str, Message, Any, int | None]]:
    """Every field of a message and of all that is in it, repeated ones by element."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}"
        elements = list(enumerate(value)) if field.is_repeated else [(None, value)]
        for index, element in elements:
            if field.message_type is not None:
                yield from fields(element, f"{here}[{index}]")
            else:
                yield here, message, field, index


def change(message: Message, field: Any, index: int | None, value: Any) -> None:
    if index is None:
        setattr(message, field.name, value)
    else:
        getattr(message, field.name)[index] = value


def fill(message: Message, field: Any) -> None:
    """Set a field that is not set."""
    value: Any = {field.TYPE_BYTES: b"x", field.TYPE_STRING: "x"}.get(field.type, 1)
    if field.message_type is not None:
        (getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)).SetInParent()
    elif field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def test_no_byte_and_no_field_of_a_receipt_can_be_changed(world: World, small: Receipt) -> None:
    changed = copy.deepcopy(small)
    seen = 0
    for path, message, field, index in list(fields(changed)):
        value = getattr(message, field.name) if index is None else getattr(message, field.name)[index]
        if isinstance(value, bytes):
            others: list[Any] = [value[:i] + bytes([value[i] ^ 1 << i % 8]) + value[i + 1 :] for i in range(len(value))]
            others += [value + b"\0", value[:-1]]
        elif isinstance(value, str):
            others = [f"{value}x", value[:-1], f"{value} ", f"x{value}"]
        else:
            others = [value + 1, value - 1, value ^ 64]
        for other in others:
            if other == value or (isinstance(other, int) and other < 0):
                continue
            change(message, field, index, other)
            assert refuses(world, changed), f"{path} can be changed"
            seen += 1
        change(message, field, index, value)
    assert changed == small
    assert seen > 1500


def test_no_field_of_a_receipt_can_be_left_out_or_put_in(world: World, small: Receipt) -> None:
    for path, message, field, index in list(fields(changed := copy.deepcopy(small))):
        value = getattr(message, field.name) if index is None else getattr(message, field.name)[index]
        if index is None and field.default_value != value:
            message.ClearField(field.name)
            assert refuses(world, changed), f"{path} can be left out"
            setattr(message, field.name, value)
    part = changed.parts[0]
    # Whatever these messages can carry elsewhere, or will one day.
    for message in (part.request, part.owner_log, part.hub_log, part.owner_entry, part.hub_entry):
        whole = message.SerializeToString()
        unset = [field for field in message.DESCRIPTOR.fields if field not in dict(message.ListFields())]
        for field in unset:
            fill(message, field)
            broken(world, changed)
            message.ParseFromString(whole)
    assert changed == small
    for one in part.claims:
        one.commitment_path.append(bytes(32))
        broken(world, changed)
        one.commitment_path.pop()
    part.claims.append(part.claims[0])
    broken(world, changed)
    part.claims.pop()
    unknown = Receipt.FromString(changed.SerializeToString() + b"\x7a\x01x")
    broken(world, unknown)
    assert verify_receipt(changed, world.verifier)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_a_receipts_file_can_be_changed(
    world: World, receipt: Receipt, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flip.json"
    if not path.exists():
        write_receipt(path, receipt)
    content = bytearray(path.read_bytes())
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    content[place] ^= 1 << bit
    with pytest.raises(RefusedError):
        verify_receipt(read_receipt(bytes(content)), world.verifier)


def test_spaces_between_tokens_do_not_matter(receipt: Receipt, tmp_path: Path) -> None:
    write_receipt(tmp_path / "r", receipt)
    content = json.loads((tmp_path / "r").read_bytes())
    assert read_receipt(json.dumps(content, indent=4).encode()) == receipt


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"x": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_receipt_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_receipt(content)
    assert caught.value.reason is Reason.PROOF_INVALID


def test_a_key_that_stands_twice_is_refused(receipt: Receipt, tmp_path: Path) -> None:
    write_receipt(tmp_path / "r", receipt)
    text = (tmp_path / "r").read_text("utf-8").replace("{", '{"format_version": 2,', 1)
    with pytest.raises(RefusedError):
        read_receipt(text.encode())


def test_parts_of_two_applications_cannot_be_put_together(world: World, receipt: Receipt) -> None:
    other = build_receipt(answers(world, Case((Subject("child", CHILD), Subject("guardian", FATHER)))), 0)
    mixed = Receipt(format_version=1, parts=[receipt.parts[0], other.parts[1]])
    assert "two subjects" in broken(world, mixed).detail
    twice = Receipt(format_version=1, parts=[receipt.parts[0], receipt.parts[0]])
    assert "different requests" in broken(world, twice).detail


def test_a_receipt_without_parts_proves_nothing(world: World) -> None:
    broken(world, Receipt(format_version=1))


def test_a_receipt_of_another_citys_authority_is_refused(tmp_path: Path, receipt: Receipt) -> None:
    other = CertificateVerifier(City.create(tmp_path / "other").ca_pem, frozenset)
    with pytest.raises(RefusedError) as caught:
        verify_receipt(receipt, other)
    assert caught.value.reason is Reason.CERTIFICATE_INVALID


def test_a_receipt_from_before_a_certificate_began_is_refused(world: World) -> None:
    old = build_receipt(answers(world, CASE, now=time.time() - 86_400 * 30), 0)
    assert broken(world, old).reason is Reason.CERTIFICATE_EXPIRED


def test_an_entry_long_after_its_request_is_refused(world: World) -> None:
    sealed = world.seal(world.prepare())[0]
    deliveries = []
    original = world.owner(sealed.header.owner).append

    def late(event: Any, *, at: float) -> Any:
        return original(event, at=at + 3600)

    log = world.owner(sealed.header.owner)
    log.append = late  # type: ignore[method-assign]  # a log whose clock is an hour ahead
    try:
        deliveries.append(world.deliver(sealed))
    finally:
        del log.append
    assert "time" in broken(world, build_receipt([check_answer(sealed, deliveries[0])], 0)).detail


# What a requester, an owner or a hub that lies could put together.


def put(field: str, value: Any) -> Any:
    def change(message: Any) -> None:
        setattr(message, field, value)

    return change


COMMON = [("header", b"x"), ("signature", bytes(64)), ("sealed_hash", bytes(32)), ("request_root", bytes(32))]
OWNERS = [*COMMON, ("answer_root", bytes(32)), ("cases", 2), ("claims", 7)]
HUBS = [
    *COMMON,
    ("outcome", audit_pb2.OUTCOME_REFUSED),
    ("owner_leaf_hash", bytes(32)),
    ("owner_index", 1),
    ("owner_checkpoint", b"x"),
]


@pytest.mark.parametrize(
    "changes",
    [
        *[{"change_owner": put(*one)} for one in OWNERS],
        *[{"change_hub": put(*one)} for one in HUBS],
    ],
)
def test_entries_that_do_not_belong_to_the_request_prove_nothing(world: World, changes: dict[str, Any]) -> None:
    (sealed, _) = world.seal(world.prepare())
    broken(world, build_receipt([unchecked(world, sealed, **changes)], 0))
    assert verify_receipt(build_receipt([unchecked(world, sealed)], 0), world.verifier)


def test_an_older_checkpoint_of_the_owner_in_the_hubs_entry_proves_nothing(world: World) -> None:
    (sealed, _) = world.seal(world.prepare())
    old = world.owner(sealed.header.owner).head().checkpoint
    broken(world, build_receipt([unchecked(world, sealed, change_hub=put("owner_checkpoint", old))], 0))


def test_an_entry_in_another_departments_log_proves_nothing(world: World) -> None:
    (sealed, _) = world.seal(world.prepare())
    owner = sealed.header.owner
    own = world.owner(owner)
    world._owners[owner] = Log(world.city.enrol("police/adapter/main").signer())
    try:
        receipt = build_receipt([unchecked(world, sealed)], 0)
    finally:
        world._owners[owner] = own
    assert broken(world, receipt).reason is Reason.IDENTITY_MISMATCH


@pytest.mark.parametrize("lie", ["identity", "fingerprint"])
def test_a_header_that_names_another_system_proves_nothing(world: World, lie: str) -> None:
    own, other = world.signer, world.city.enrol("edu/system/other").signer()
    liar = SimpleNamespace(
        identity=own.identity,
        fingerprint=own.fingerprint,
        certificate_der=own.certificate_der,
        sign=own.sign,
    )
    setattr(liar, lie, getattr(other, lie))
    world.signer = liar  # type: ignore[assignment]  # as a requester that lies
    try:
        (sealed, _) = world.seal(world.prepare())
    finally:
        world.signer = own
    assert broken(world, build_receipt([unchecked(world, sealed)], 0)).reason is Reason.IDENTITY_MISMATCH


def test_claims_of_two_cases_cannot_be_put_together(world: World) -> None:
    (answered, *_) = [one for one in answers(world, CASE, CASE) if one.sealed.header.owner == "hrss"]
    first, second = build_receipt([answered], 0), build_receipt([answered], 1)
    mixed = copy.deepcopy(first)
    mixed.parts[0].claims[1].CopyFrom(second.parts[0].claims[1])
    assert "one case" in broken(world, mixed).detail


def test_signatures_of_others_do_not_ride_along(world: World, receipt: Receipt) -> None:
    changed = copy.deepcopy(receipt)
    line = changed.parts[0].owner_log.checkpoint.splitlines()[-1]
    changed.parts[0].owner_log.checkpoint += line.replace(b"adapter", b"witness") + b"\n"
    broken(world, changed)


def test_signatures_of_witnesses_are_left_out_of_a_receipt(world: World) -> None:
    def cosigned(head: audit_pb2.LogHead) -> audit_pb2.LogHead:
        line = head.checkpoint.splitlines()[-1].replace(b"adapter", b"witness")
        return audit_pb2.LogHead(checkpoint=head.checkpoint + line + b"\n", certificate=head.certificate)

    (sealed, _) = world.seal(world.prepare())
    answered = check_answer(sealed, world.deliver(sealed, owner_head=cosigned))
    assert verify_receipt(build_receipt([answered], 0), world.verifier)
