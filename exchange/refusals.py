"""Refusals of what cannot be trusted: each is recorded, but nobody can fill the log with them.

Up to a rate, every refusal of a peer gets an entry of its own with the hash of the header. Beyond, refusals are counted
by peer and reason and recorded once a second with their number. Pure: time is given.
"""

from __future__ import annotations

from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason

ENTRIES_PER_SECOND = 10
"""Entries of its own that one peer's refusals get each second."""

MAX_PEERS = 10_000
"""Peers that are told apart within one second; beyond, the rest is counted without a peer."""


class Refusals:
    """Counts refusals, and says what is to be recorded."""

    __slots__ = ("_counted", "_rates")

    def __init__(self) -> None:
        self._rates: dict[str, int] = {}
        self._counted: dict[tuple[str, Reason], int] = {}

    def note(self, peer: str, reason: Reason, header_hash: bytes) -> audit_pb2.Refusal | None:
        """A refusal happened.

        Returns:
            The event to record at once; None if it is counted and comes with `flush`.
        """
        if peer not in self._rates and len(self._rates) >= MAX_PEERS:
            peer = ""
        rate = self._rates[peer] = self._rates.get(peer, 0) + 1
        if rate <= ENTRIES_PER_SECOND:
            return audit_pb2.Refusal(reason=reason.name, peer=peer, header_hash=header_hash, count=1)
        self._counted[peer, reason] = self._counted.get((peer, reason), 0) + 1
        return None

    def flush(self) -> list[audit_pb2.Refusal]:
        """A second is over: what was counted in it."""
        events = [
            audit_pb2.Refusal(reason=reason.name, peer=peer, count=count)
            for (peer, reason), count in self._counted.items()
        ]
        self._rates.clear()
        self._counted.clear()
        return events
