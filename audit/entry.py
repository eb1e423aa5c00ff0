"""The bytes of one log entry: made once, hashed and stored as they are, read back strictly.

Pure functions. An entry is a serialised `zhiwang.audit.v1.Entry` in protobuf's deterministic form; nobody re-serialises
what was appended. A reader refuses bytes that say more than the schema does, since a log is read for years by programs
that must agree on what an entry says.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from zhiwang.audit.v1 import audit_pb2

SCHEMA_VERSION: Final = 1
NONCE_SIZE: Final = 16
HASH_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
MAX_ENTRY_SIZE: Final = 0xFFFF
"""Bytes of the largest entry that is written or read: what a bundle of C2SP tlog-tiles can hold. Its parts are bounded:
a header (16 KiB), the rules named for each claim (16 KiB), an owner's checkpoint (16 KiB)."""

Event = (
    audit_pb2.LogOpened
    | audit_pb2.OwnerAccess
    | audit_pb2.HubAccess
    | audit_pb2.Refusal
    | audit_pb2.DirectoryChange
    | audit_pb2.OwnerKeyPublished
    | audit_pb2.AuditRead
    | audit_pb2.SubjectRead
    | audit_pb2.EntriesDelayed
    | audit_pb2.SubjectErased
    | audit_pb2.HoldPlaced
    | audit_pb2.HoldLifted
    | audit_pb2.EvidenceProduced
    | audit_pb2.QuorumChange
    | audit_pb2.EmergencyStep
    | audit_pb2.ShardRemoved
    | audit_pb2.PolicyStep
    | audit_pb2.LocalPolicyChange
    | audit_pb2.RosterStep
    | audit_pb2.PeopleReferred
)
"""Any message of the oneof `Entry.event`."""

_NANOS: Final = 1_000_000_000
_TIME_LENGTH: Final = 21
"""Where the length of the time stands: behind two bytes of version, eighteen of nonce, and the time's tag."""
_FIELD_OF_EVENT: Final[dict[str, str]] = {
    field.message_type.full_name: field.name  # type: ignore[union-attr]  # every field of the oneof is a message
    for field in audit_pb2.Entry.DESCRIPTOR.oneofs_by_name["event"].fields
}


_OUTCOMES: Final = frozenset(audit_pb2.Outcome.values()) - {audit_pb2.OUTCOME_UNSPECIFIED}

_ACTIONS: Final = frozenset(audit_pb2.PolicyAction.values()) - {audit_pb2.POLICY_ACTION_UNSPECIFIED}
_ROSTER_ACTIONS: Final = frozenset(audit_pb2.RosterAction.values()) - {audit_pb2.ROSTER_ACTION_UNSPECIFIED}
_EMERGENCY_ACTIONS: Final = frozenset(audit_pb2.EmergencyAction.values()) - {audit_pb2.EMERGENCY_ACTION_UNSPECIFIED}


class EntryError(ValueError):
    """Bytes are not an entry of this schema."""


def encode_entry(event: Event, *, nonce: bytes, time: float) -> bytes:
    """The bytes to append for `event`.

    Args:
        event: What happened. It is copied.
        nonce: 16 random bytes, so that equal events have different leaves.
        time: Seconds since the epoch; kept to the microsecond.

    Raises:
        EntryError: The nonce has another size, or the entry would be larger than a reader takes.
    """
    if len(nonce) != NONCE_SIZE:
        raise EntryError("a nonce has 16 bytes")
    entry = audit_pb2.Entry(schema_version=SCHEMA_VERSION, nonce=nonce)
    microseconds = int(time * 1_000_000)
    entry.time.seconds, micros = divmod(microseconds, 1_000_000)
    entry.time.nanos = micros * 1000
    getattr(entry, _FIELD_OF_EVENT[event.DESCRIPTOR.full_name]).CopyFrom(event)
    data = entry.SerializeToString(deterministic=True)
    if len(data) > MAX_ENTRY_SIZE:
        raise EntryError("an entry is larger than its limit")
    return data


def decode_entry(data: bytes) -> audit_pb2.Entry:
    """The entry that `data` is, after every check that needs nothing else.

    Raises:
        EntryError: Not protobuf, not the deterministic form, an unknown field or event, another schema version, or a
            field of the wrong size.
    """
    if len(data) > MAX_ENTRY_SIZE:
        raise EntryError("an entry is larger than its limit")
    entry = audit_pb2.Entry()
    try:
        entry.ParseFromString(data)
    except DecodeError as error:
        raise EntryError("not a protobuf message") from error
    if entry.schema_version != SCHEMA_VERSION:
        raise EntryError("unknown schema version")
    entry.DiscardUnknownFields()
    if entry.SerializeToString(deterministic=True) != data:
        raise EntryError("unknown fields, or not the deterministic form")
    if len(entry.nonce) != NONCE_SIZE:
        raise EntryError("a nonce has 16 bytes")
    if not entry.HasField("time") or not 0 <= entry.time.nanos < _NANOS or entry.time.seconds < 0:
        raise EntryError("no valid time")
    _check_event(entry)
    return entry


def event_number(data: bytes) -> int:
    """Number of the event's field in the bytes of an entry, which are not read otherwise; 0 if they are none.

    For looking through a whole log for the few entries of a kind: in the deterministic form the event's tag stands
    behind version, nonce and time.
    """
    if len(data) <= _TIME_LENGTH:
        return 0
    at = _TIME_LENGTH + 1 + data[_TIME_LENGTH]
    low, high = data[at : at + 2].ljust(2, b"\0")
    # A varint of one byte, or of two; its last three bits are the wire's type.
    return (low & 0x7F | high << 7 if low & 0x80 else low) >> 3


def _check_event(entry: audit_pb2.Entry) -> None:
    kind = entry.WhichOneof("event")
    if kind is None:
        raise EntryError("no event")
    if kind == "owner_access":
        owner = entry.owner_access
        _sizes("owner_access", HASH_SIZE, owner.sealed_hash, owner.request_root, owner.answer_root)
        _sizes("owner_access", SIGNATURE_SIZE, owner.signature)
    elif kind == "hub_access":
        hub = entry.hub_access
        _sizes("hub_access", HASH_SIZE, hub.sealed_hash, hub.request_root)
        _sizes("hub_access", SIGNATURE_SIZE, hub.signature)
        if hub.owner_leaf_hash:
            _sizes("hub_access", HASH_SIZE, hub.owner_leaf_hash)
        if hub.outcome not in _OUTCOMES:
            raise EntryError("hub_access has no outcome")
    elif kind == "refusal" and entry.refusal.header_hash:
        _sizes("refusal", HASH_SIZE, entry.refusal.header_hash)
    elif kind == "hold_placed":
        hold = entry.hold_placed
        if not hold.order or not hold.placed_by or not hold.HasField("placed_time") or not hold.HasField("until_time"):
            raise EntryError("hold_placed lacks a field")
    elif kind == "shard_removed":
        _sizes("shard_removed", HASH_SIZE, entry.shard_removed.root)
    elif kind == "evidence_produced":
        _sizes("evidence_produced", HASH_SIZE, entry.evidence_produced.manifest_hash)
        if entry.evidence_produced.previous_manifest_hash:
            _sizes("evidence_produced", HASH_SIZE, entry.evidence_produced.previous_manifest_hash)
    else:
        _check_policy(kind, entry)


def _check_policy(kind: str, entry: audit_pb2.Entry) -> None:
    if kind == "policy_step":
        _sizes("policy_step", HASH_SIZE, entry.policy_step.content_hash)
        if entry.policy_step.action not in _ACTIONS or not entry.policy_step.role:
            raise EntryError("policy_step lacks a field")
    elif kind == "local_policy_change":
        _sizes("local_policy_change", HASH_SIZE, entry.local_policy_change.content_hash)
        if not entry.local_policy_change.role:
            raise EntryError("local_policy_change lacks a field")
    elif kind == "emergency_step":
        _check_emergency(entry.emergency_step)
    elif kind == "roster_step":
        _sizes("roster_step", HASH_SIZE, entry.roster_step.commitment)
        if entry.roster_step.action not in _ROSTER_ACTIONS or not entry.roster_step.by:
            raise EntryError("roster_step lacks a field")
    elif kind == "people_referred":
        _sizes("people_referred", HASH_SIZE, entry.people_referred.file_hash)
        if not entry.people_referred.by or not entry.people_referred.recipient:
            raise EntryError("people_referred lacks a field")


def _check_emergency(step: audit_pb2.EmergencyStep) -> None:
    named = step.owner and step.emergency and step.department and step.opening
    timed = step.HasField("since_time") and step.HasField("until_time")
    if step.action not in _EMERGENCY_ACTIONS or not named or not timed:
        raise EntryError("emergency_step lacks a field")


def _sizes(kind: str, size: int, *values: bytes) -> None:
    for value in values:
        if len(value) != size:
            raise EntryError(f"{kind} has a field of the wrong size")
