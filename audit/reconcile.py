"""The hub's log held against an owner's: what one has and the other lacks. Pure.

An access is identified by its header hash; repeats may add entries, so distinct hashes are counted. The two logs are
read at nearly the same moment, so what is younger than `SLACK` may rightly stand in one of them only. Of each of the
owner's accesses some hundred bytes are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.merkle import leaf_hash

SLACK: Final = 90.0
"""Seconds: a request lives for sixty, and a late reply is recorded for thirty more."""
MAX_NAMED: Final = 1000

Kind = Literal["hub lacks", "owner lacks", "differs"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One access that the two logs do not agree on.

    Attributes:
        kind: "hub lacks": the owner recorded it and the hub did not. "owner lacks": the hub says that it was answered,
            and the owner has no entry. "differs": the hub names another entry than stands in the owner's log, or says
            that the owner was never asked or refused, although it has an entry.
        log: In which log the entry stands that is named.
        index: Of that entry.
        time: Of that entry, in seconds since the epoch.
        header_hash: What identifies the access.
    """

    kind: Kind
    log: Literal["hub", "owner"]
    index: int
    time: int
    header_hash: bytes


@dataclass(slots=True)
class Reconciled:
    """Two logs side by side.

    Attributes:
        both: Accesses that the owner recorded and the hub recorded as answered.
        late: Accesses that the owner recorded and the hub recorded as unavailable: the reply came too late.
        differences: What does not agree, at most `MAX_NAMED`.
        number: How many differences there are.
    """

    both: int = 0
    late: int = 0
    differences: list[Difference] = field(default_factory=list)
    number: int = 0

    def add(self, difference: Difference) -> None:
        """Note a difference."""
        self.number += 1
        if len(self.differences) < MAX_NAMED:
            self.differences.append(difference)


@dataclass(slots=True)
class _Owned:
    """An access in the owner's log: its entries as (index, leaf hash), what the hub said of it, and where."""

    time: int
    entries: list[tuple[int, bytes]]
    outcomes: set[int] = field(default_factory=set)
    hub_index: int = 0
    hub_time: int = 0


class Reconciliation:
    """Give it the owner's log, then the hub's, then ask for the result.

    Args:
        since: Entries before this time are left aside.
        now: When both are read.
    """

    def __init__(self, since: float, now: float) -> None:
        self._since = since
        self._settled = now - SLACK
        self._owned: dict[bytes, _Owned] = {}
        self._found = Reconciled()

    @property
    def owner_since(self) -> float:
        """From when on the owner's log is needed: the hub records an access later than the owner."""
        return self._since - SLACK

    def owner(self, index: int, entry: audit_pb2.Entry) -> None:
        """An entry of the owner's log."""
        if entry.WhichOneof("event") != "owner_access":
            return
        key = sha256(entry.owner_access.header).digest()
        known = self._owned.setdefault(key, _Owned(entry.time.seconds, []))
        known.entries.append((index, leaf_hash(entry.SerializeToString(deterministic=True))))

    def hub(self, index: int, entry: audit_pb2.Entry) -> None:
        """An entry of the hub's log about this owner; the owner's log has been given whole."""
        if entry.WhichOneof("event") != "hub_access" or entry.time.seconds < self._since:
            return
        access, moment = entry.hub_access, entry.time.seconds
        key = sha256(access.header).digest()
        answered = access.outcome == audit_pb2.OUTCOME_ANSWERED
        known = self._owned.get(key)
        if known is None:
            if answered and moment <= self._settled:
                self._found.add(Difference("owner lacks", "hub", index, moment, key))
            return
        known.outcomes.add(access.outcome)
        known.hub_index, known.hub_time = index, moment
        if answered and (access.owner_index, access.owner_leaf_hash) not in known.entries:
            self._found.add(Difference("differs", "hub", index, moment, key))

    def result(self) -> Reconciled:
        """What agrees and what does not."""
        for key, known in self._owned.items():
            if audit_pb2.OUTCOME_ANSWERED in known.outcomes:
                self._found.both += 1
            elif audit_pb2.OUTCOME_UNAVAILABLE in known.outcomes:
                self._found.late += 1
            elif known.outcomes:
                self._found.add(Difference("differs", "hub", known.hub_index, known.hub_time, key))
            elif self._since <= known.time <= self._settled:
                self._found.add(Difference("hub lacks", "owner", known.entries[0][0], known.time, key))
        return self._found
