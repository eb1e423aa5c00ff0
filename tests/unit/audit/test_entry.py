from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import MAX_ENTRY_SIZE, EntryError, Event, decode_entry, encode_entry
from zhiwang.audit.v1 import audit_pb2

NONCE = bytes(range(16))
OWNER = audit_pb2.OwnerAccess(
    header=b"header",
    signature=b"s" * 64,
    sealed_hash=b"h" * 32,
    request_root=b"r" * 32,
    answer_root=b"a" * 32,
    cases=2,
    claims=3,
    directory_version=7,
    document_version=4,
    rule_ids=["enrolment-pension", "", "x"],
    denied_claims=[1],
)
HUB = audit_pb2.HubAccess(
    header=b"header",
    signature=b"s" * 64,
    sealed_hash=b"h" * 32,
    request_root=b"r" * 32,
    outcome=audit_pb2.OUTCOME_ANSWERED,
    directory_version=7,
    rule_ids=["enrolment-pension"],
    owner_leaf_hash=b"l" * 32,
    owner_index=9,
    owner_checkpoint=b"note",
)
EVENTS: list[Event] = [
    audit_pb2.LogOpened(origin="shenzhen/centre/hub/main"),
    OWNER,
    HUB,
    audit_pb2.Refusal(
        reason="SIGNATURE_INVALID", peer="spiffe://shenzhen/edu/agent/one", header_hash=b"h" * 32, count=1
    ),
    audit_pb2.Refusal(reason="SIGNATURE_INVALID", count=1000),
    audit_pb2.DirectoryChange(directory_version=8, timestamp_hash=b"t" * 32),
    audit_pb2.OwnerKeyPublished(key_id=b"k" * 16, serial=5),
    audit_pb2.AuditRead(reader="spiffe://shenzhen/audit/auditor/one", method="GetEntry", start=4, count=1),
    audit_pb2.SubjectRead(reader="spiffe://shenzhen/hrss/auditor/one", reference="2026-000017"),
    audit_pb2.EntriesDelayed(by="spiffe://shenzhen/hrss/admin/one", order="7", matter="school-enrolment"),
    audit_pb2.SubjectErased(by="spiffe://shenzhen/hrss/admin/one", order="8"),
    audit_pb2.HoldPlaced(
        order="A-1",
        placed_by="spiffe://shenzhen/audit/auditor/one",
        placed_time=Timestamp(seconds=1_790_000_000),
        until_time=Timestamp(seconds=1_800_000_000),
        conditions=audit_pb2.SearchRequest(matter="senior-card"),
        scope_department="hrss",
    ),
    audit_pb2.HoldLifted(order="A-1", department="audit", lifted_by="spiffe://shenzhen/audit/auditor/one"),
    audit_pb2.EvidenceProduced(order="A-1", query="everything", count=3, tree_size=9, manifest_hash=b"m" * 32),
    audit_pb2.QuorumChange(held=False, size=812, quorum=2),
    audit_pb2.PolicyStep(
        action=next(one for one in audit_pb2.PolicyAction.values() if one),
        role="hrss",
        role_version=3,
        content_hash=b"c" * 32,
    ),
    audit_pb2.LocalPolicyChange(
        in_force=True,
        role="hrss-suspend",
        role_version=2,
        content_hash=b"c" * 32,
        key_ids=["ab" * 32],
        suspension_ids=["2026-007"],
        directory_version=8,
    ),
    audit_pb2.EmergencyStep(
        action=audit_pb2.EMERGENCY_ACTION_IN_FORCE,
        owner="health",
        emergency="shelter",
        department="civil",
        opening="20261127-3f9c2a",
        since_time=Timestamp(seconds=1_790_000_000),
        until_time=Timestamp(seconds=1_790_028_800),
        directory_version=9,
    ),
    audit_pb2.RosterStep(
        action=audit_pb2.ROSTER_ACTION_DRAWN,
        by="spiffe://shenzhen/police/system/invitations",
        roster="seniors",
        count=3,
        people=3,
        commitment=b"c" * 32,
    ),
    audit_pb2.PeopleReferred(
        by="spiffe://shenzhen/police/admin/chen",
        recipient="spiffe://shenzhen/civil/system/seniors",
        count=3,
        people=3,
        file_hash=b"f" * 32,
    ),
    audit_pb2.ShardRemoved(origin="shenzhen/centre/hub/main", size=9, root=b"r" * 32, retention_years=5, note="none"),
]


def encoded(event: Event) -> bytes:
    return encode_entry(event, nonce=NONCE, time=1_790_000_000.25)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.DESCRIPTOR.name)
def test_every_event_is_read_back_as_it_was_written(event: Event) -> None:
    entry = decode_entry(encoded(event))
    assert getattr(entry, entry.WhichOneof("event") or "") == event
    assert entry.schema_version == 1
    assert entry.nonce == NONCE
    assert entry.time.ToNanoseconds() == 1_790_000_000_250_000_000


def test_the_tests_know_every_event_of_the_schema() -> None:
    known = {event.DESCRIPTOR.full_name for event in EVENTS}
    fields = audit_pb2.Entry.DESCRIPTOR.oneofs_by_name["event"].fields
    assert known == {field.message_type.full_name for field in fields if field.message_type is not None}


def test_the_same_event_with_the_same_nonce_and_time_has_the_same_bytes() -> None:
    assert encoded(OWNER) == encoded(OWNER)


def test_the_bytes_of_an_entry_are_pinned() -> None:
    entry = encode_entry(audit_pb2.LogOpened(origin="a/b/hub/c"), nonce=NONCE, time=1.5)
    assert (
        entry.hex()
        == "08011210000102030405060708090a0b0c0d0e0f1a08080110" + "80cab5ee01" + "520b0a09612f622f6875622f63"
    )


@given(time=st.floats(min_value=0, max_value=4_000_000_000))
def test_a_time_is_kept_to_the_microsecond(time: float) -> None:
    entry = decode_entry(encode_entry(OWNER, nonce=NONCE, time=time))
    assert entry.time.nanos % 1000 == 0
    assert abs(entry.time.ToNanoseconds() / 1e9 - time) < 2e-6


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_nonce_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(EntryError):
        encode_entry(OWNER, nonce=bytes(size), time=1.0)


def test_an_entry_larger_than_readers_take_is_never_written() -> None:
    with pytest.raises(EntryError):
        encode_entry(audit_pb2.OwnerAccess(header=bytes(MAX_ENTRY_SIZE)), nonce=NONCE, time=1.0)
    with pytest.raises(EntryError):
        decode_entry(bytes(MAX_ENTRY_SIZE + 1))


def changed(**fields: object) -> bytes:
    entry = audit_pb2.Entry.FromString(encoded(OWNER))
    for name, value in fields.items():
        setattr(entry, name, value)
    return entry.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xff", id="not protobuf"),
        pytest.param(changed(schema_version=2), id="another schema version"),
        pytest.param(changed(nonce=b"short"), id="short nonce"),
        pytest.param(encoded(OWNER) + b"\x98\x06\x01", id="unknown field"),
        pytest.param(encoded(OWNER) + b"\x08\x01", id="a field twice"),
        pytest.param(b"\x08\x81\x00" + encoded(OWNER)[2:], id="an overlong number"),
        pytest.param(encode_entry(audit_pb2.OwnerAccess(), nonce=NONCE, time=1.0), id="hashes missing"),
        pytest.param(
            encode_entry(
                audit_pb2.HubAccess(signature=b"s" * 64, sealed_hash=b"h" * 32, request_root=b"r" * 32),
                nonce=NONCE,
                time=1.0,
            ),
            id="no outcome",
        ),
        pytest.param(audit_pb2.Entry(schema_version=1, nonce=NONCE).SerializeToString(), id="no event"),
    ],
)
def test_what_is_not_exactly_an_entry_is_refused(data: bytes) -> None:
    with pytest.raises(EntryError):
        decode_entry(data)


def test_an_unknown_field_deep_inside_is_refused() -> None:
    owner = audit_pb2.OwnerAccess.FromString(OWNER.SerializeToString() + b"\x98\x06\x01")
    with pytest.raises(EntryError):
        decode_entry(encode_entry(owner, nonce=NONCE, time=1.0))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_an_entry_error(data: bytes) -> None:
    try:
        decode_entry(data)
    except EntryError:
        pass
    else:
        pytest.fail("random bytes are no entry")


@given(position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_an_entry_with_a_flipped_bit_is_refused_or_another_entry(position: int, bit: int) -> None:
    data = bytearray(encoded(OWNER))
    data[position % len(data)] ^= 1 << bit
    try:
        entry = decode_entry(bytes(data))
    except EntryError:
        return
    assert entry.SerializeToString(deterministic=True) == bytes(data)
