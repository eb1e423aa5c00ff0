"""Messages of a log that nobody trusts as plain values, harmless for a terminal and for JSON."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from zhiwang.exchange.v1 import sealed_pb2


def plain(message: Message) -> dict[str, Any]:
    """The fields that are set, as JSON has them; bytes in hex, a header and a checkpoint as what they say."""
    facts: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.is_repeated:
            facts[descriptor.name] = [_value(descriptor, item) for item in value]
        else:
            facts[descriptor.name] = _value(descriptor, value)
    return facts


def _value(descriptor: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, bytes):
        return _bytes(descriptor.name, value)
    if isinstance(value, Timestamp):
        try:
            return value.ToDatetime(UTC).isoformat()
        except (ValueError, OverflowError):
            return f"{value.seconds}s {value.nanos}ns"
    if isinstance(value, Message):
        return plain(value)
    if descriptor.enum_type is not None:
        known = descriptor.enum_type.values_by_number.get(value)
        return known.name if known else value
    return printable(value) if isinstance(value, str) else value


def _bytes(name: str, value: bytes) -> Any:
    if name in {"owner_checkpoint", "predecessor"}:
        return [printable(line) for line in value.decode(errors="replace").splitlines()]
    if name == "header":
        try:
            return plain(sealed_pb2.Header.FromString(value))
        except DecodeError:
            return value.hex()
    return value.hex()


def printable(text: str) -> str:
    """Text of a log that nobody trusts, without what would command a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
