"""Two logs side by side: what is missing in one of them is named, what is merely late is not."""

from __future__ import annotations

from hashlib import sha256

import pytest

from audit.entry import decode_entry, encode_entry
from audit.reconcile import SLACK, Difference, Reconciled, Reconciliation
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.merkle import leaf_hash

NOW = 2_000_000.0
OLD = NOW - 1000


def owned(header: bytes, time: float = OLD) -> bytes:
    event = audit_pb2.OwnerAccess(
        header=header, signature=bytes(64), sealed_hash=bytes(32), request_root=bytes(32), answer_root=bytes(32)
    )
    return encode_entry(event, nonce=sha256(header).digest()[:16], time=time)


def routed(
    header: bytes, owner: bytes | None, index: int = 0, time: float = OLD, outcome: str = "ANSWERED"
) -> audit_pb2.Entry:
    event = audit_pb2.HubAccess(
        header=header,
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=audit_pb2.Outcome.Value(f"OUTCOME_{outcome}"),
        owner_leaf_hash=b"" if owner is None else leaf_hash(owner),
        owner_index=index,
    )
    return decode_entry(encode_entry(event, nonce=bytes(16), time=time))


def reconciled(owner: list[bytes], hub: list[audit_pb2.Entry], since: float = 0) -> Reconciled:
    both = Reconciliation(since, NOW)
    for index, data in enumerate(owner):
        both.owner(index, decode_entry(data))
    for index, entry in enumerate(hub):
        both.hub(index, entry)
    return both.result()


def named(found: Reconciled) -> list[tuple[str, str, int]]:
    assert found.number == len(found.differences)
    return [(one.kind, one.log, one.index) for one in found.differences]


def test_logs_that_agree_have_no_difference_and_repeats_count_once() -> None:
    one, again, two = owned(b"one"), owned(b"one", OLD + 1), owned(b"two")
    hub = [routed(b"one", one, 0), routed(b"one", again, 1), routed(b"two", two, 2)]
    found = reconciled([one, again, two], hub)
    assert (found.both, found.late, found.differences) == (2, 0, [])


def test_an_access_that_the_hub_hides_and_one_that_the_owner_hides_are_named() -> None:
    one, two = owned(b"one"), owned(b"two")
    found = reconciled([one, two], [routed(b"two", two, 1), routed(b"three", owned(b"three"), 7)])
    assert named(found) == [("owner lacks", "hub", 1), ("hub lacks", "owner", 0)]
    assert found.differences[1] == Difference("hub lacks", "owner", 0, int(OLD), sha256(b"one").digest())


@pytest.mark.parametrize(("index", "header"), [(5, b"one"), (0, b"other")])
def test_an_entry_that_is_not_the_one_that_the_hub_names_is_a_difference(index: int, header: bytes) -> None:
    one = owned(b"one")
    assert named(reconciled([one], [routed(b"one", owned(header), index)])) == [("differs", "hub", 0)]


def test_a_reply_that_came_too_late_is_counted_and_is_no_difference() -> None:
    found = reconciled([owned(b"one")], [routed(b"one", None, outcome="UNAVAILABLE")])
    assert (found.both, found.late, found.differences) == (0, 1, [])


@pytest.mark.parametrize("outcome", ["DENIED", "REFUSED"])
def test_an_answer_that_the_hub_calls_denied_or_refused_is_a_difference(outcome: str) -> None:
    one = owned(b"one")
    found = reconciled([one], [routed(b"one", None, outcome=outcome)])
    assert named(found) == [("differs", "hub", 0)]
    # What was answered once may be refused when it is sent again.
    again = reconciled([one], [routed(b"one", one, 0), routed(b"one", None, outcome=outcome)])
    assert (again.both, again.differences) == (1, [])


def test_denials_reach_no_owner_and_are_no_difference() -> None:
    assert reconciled([], [routed(b"one", None, outcome="DENIED")]).differences == []


def test_what_is_still_on_its_way_is_no_difference() -> None:
    young = NOW - SLACK / 2
    one = owned(b"one", young)
    assert reconciled([one], []).differences == []
    assert reconciled([], [routed(b"two", owned(b"two"), time=young)]).differences == []


def test_what_is_older_than_is_asked_for_is_left_aside() -> None:
    assert reconciled([owned(b"one", OLD - 50)], [], since=OLD).differences == []
    # The hub records later than the owner: an access around the beginning is found on both sides.
    one = owned(b"one", OLD - 5)
    assert reconciled([one], [routed(b"one", one, time=OLD + 5)], since=OLD).both == 1
