"""What a frame carries on its way through the adapter, from sealed bytes to entries and sealed replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters import replay
from adapters.questions import Examination, Examiner
from audit.appended import Appended, NewEntry
from certs.identity import Identity
from certs.sealing import ReplySealer
from policy.authorise import Authorisation
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.header import Header


class OutpacedError(Exception):
    """Another process of this store wrote between review and transaction; the frame has to be reviewed anew."""


class SpoiltError(Exception):
    """A request of the frame failed and was taken out of it; the others have to be settled without it."""


@dataclass(slots=True)
class Request:
    """A request whose sender and time are right.

    Attributes:
        place: Its place in the frame.
        key: What may be used once.
        hash: Over everything that was sent.
    """

    place: int
    envelope: sealed_pb2.SealedRequest
    hub_denied: frozenset[int]
    header: Header
    identity: Identity
    sealed_hash: bytes
    key: bytes
    hash: bytes


@dataclass(slots=True)
class Opened:
    """A request that may be answered, with what is in it."""

    request: Request
    authorisation: Authorisation
    commitments: Sequence[bytes]
    sealer: ReplySealer
    examiner: Examiner
    examination: Examination


@dataclass(slots=True)
class Answer:
    """What one request leaves behind: an entry, a reply, and who was asked about."""

    opened: Opened
    entry: NewEntry
    nonce: bytes
    ciphertext: bytes


@dataclass(slots=True)
class Work:
    """A frame on its way.

    Attributes:
        replies: One for each item, filled as they come.
        repeats: Items that are the same bytes as one before them in this frame, by that one's place.
        stored: Items that were answered before, with what they were answered.
        refusals: Entries of refusals, the same at each attempt.
        answered: Places of what this frame's transaction answers, in the order of its entries.
        appended: What the transaction appended.
    """

    replies: list[adapter_pb2.ReplyFrame.Item]
    repeats: dict[int, int] = field(default_factory=dict)
    stored: dict[int, replay.Answered] = field(default_factory=dict)
    refusals: list[NewEntry] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    appended: Appended | None = None
