"""Refusals as log entries: each one by itself, and beyond a rate counted, so that nobody fills the log with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import Reason

RATE = 20.0
"""Refusals a second that get entries of their own."""

BURST = 100.0
"""How many may come at once before they are counted."""


COUNTING = 5.0
"""Seconds for which refusals are counted before an entry tells their number."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal that gets an entry of its own."""

    reason: Reason
    header_hash: bytes

    def event(self) -> audit_pb2.Refusal:
        """As it is logged."""
        return audit_pb2.Refusal(reason=self.reason.name, header_hash=self.header_hash, count=1)


class RefusalCounter:
    """A token bucket over refusals. Safe to use from several threads.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float], *, rate: float = RATE, burst: float = BURST) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled = clock()
        self._counted: Counter[Reason] = Counter()
        self._counting_since = 0.0
        self._lock = Lock()

    def note(self, reason: Reason, header_hash: bytes) -> Refused | None:
        """A refusal that is to be logged by itself; None if it was only counted."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled) * self._rate)
            self._filled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return Refused(reason, header_hash)
        self.count(reason, 1)
        return None

    def count(self, reason: Reason, number: int) -> None:
        """Refusals that get no entries of their own."""
        with self._lock:
            if not self._counted:
                self._counting_since = self._clock()
            self._counted[reason] += number

    def take(self) -> list[audit_pb2.Refusal]:
        """What was counted for `COUNTING` seconds, one event a reason; nothing before that."""
        with self._lock:
            if not self._counted or self._clock() - self._counting_since < COUNTING:
                return []
            counted, self._counted = self._counted, Counter()
        return [audit_pb2.Refusal(reason=reason.name, count=count) for reason, count in counted.items()]
