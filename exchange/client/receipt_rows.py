"""Receipts on their way into their store and out of it: what is kept of each, sealed, and what is found again."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from google.protobuf.message import DecodeError

from exchange.client.receipt_keys import Sealed, YearKey
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import parse_header

_KEY_LENGTH = Struct(">I")


class Paper(NamedTuple):
    """A receipt to be kept. Never printed.

    Attributes:
        reference: By which it is found.
        key: The caller's own key of the case.
        receipt: The receipt.
    """

    reference: str
    key: str
    receipt: verification_pb2.Receipt

    def __repr__(self) -> str:
        return "Paper()"


class Found(NamedTuple):
    """A kept receipt. Never printed.

    Attributes:
        id: In hexadecimal digits; for file names.
        kept: When, in seconds since the epoch.
        matter: For which it was asked.
        key: The caller's own key of the case.
        receipt: The receipt; None if it is not as it was kept.
    """

    id: str
    kept: float
    matter: str
    key: str
    receipt: verification_pb2.Receipt | None

    def __repr__(self) -> str:
        return f"Found(id={self.id!r})"


class Waiting(NamedTuple):
    """A kept receipt that has not gained cosignatures. Never printed.

    Attributes:
        number: Its place; rises.
        row: As it is kept.
        key: The caller's own key of the case.
        receipt: The receipt.
    """

    number: int
    row: Sealed
    key: str
    receipt: verification_pb2.Receipt

    def __repr__(self) -> str:
        return f"Waiting(number={self.number})"


def encode(paper: Paper) -> bytes:
    """What is sealed of a receipt."""
    key = paper.key.encode()
    return _KEY_LENGTH.pack(len(key)) + key + paper.receipt.SerializeToString(deterministic=True)


def open_row(key: YearKey, row: Sealed) -> Found:
    """A kept receipt; without one, if the row is not as it was kept."""
    plaintext = key.open(row)
    if plaintext is None:
        return Found(row.id.hex(), row.kept / 1000, "", "", None)
    start = _KEY_LENGTH.size + _KEY_LENGTH.unpack_from(plaintext)[0]
    try:
        receipt = verification_pb2.Receipt.FromString(plaintext[start:])
        matter = parse_header(receipt.parts[0].request.header).matter
    except (DecodeError, RefusedError, IndexError):
        return Found(row.id.hex(), row.kept / 1000, "", "", None)
    return Found(row.id.hex(), row.kept / 1000, matter, plaintext[_KEY_LENGTH.size : start].decode(), receipt)
