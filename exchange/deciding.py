"""Accesses of a log decided again, as messages: one replay, whether a command reads the log or a server does. Pure.

`policy/replay.py` decides; here stands what of an entry is decided, and what is told of it. Memory stays bounded: of
single flips nothing is kept once they were told, of groups one number each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from audit.entry import EntryError, decode_entry
from policy.answering import Sources, directory_of
from policy.model import Directory
from policy.replay import POLICY_REASONS, Access, Flip, Group, Replay, grouped
from zhiwang.audit.v1 import audit_pb2
from zhiwang.policy.v1 import decisions_pb2, rights_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import Header, parse_header

MAX_GROUPS: Final = 5_000
"""Groups that are told, the most frequent first."""

_SESSION: Final = "replay"


def denied_of(access: audit_pb2.HubAccess | audit_pb2.OwnerAccess, claims: int) -> frozenset[int]:
    """Indexes of the claims that were denied; of a request that was denied as a whole, all of them."""
    if isinstance(access, audit_pb2.HubAccess) and access.outcome == audit_pb2.OUTCOME_DENIED:
        return frozenset(range(claims))
    return frozenset(access.denied_claims)


def access_of(entry: audit_pb2.Entry) -> audit_pb2.HubAccess | audit_pb2.OwnerAccess | None:
    """The access that an entry is; None if it is something else."""
    kind = entry.WhichOneof("event")
    return getattr(entry, kind) if kind in {"hub_access", "owner_access"} else None


class Replaying:
    """Decides entries again, page by page.

    Args:
        current: The directory in force.
        proposed: As it would be.
        at: The moment at which they are asked again, in seconds since the epoch.
        max_flips: Single flips to tell; 0 for all.
    """

    def __init__(self, current: Directory, proposed: Directory, at: float, max_flips: int = 0) -> None:
        self._replay = Replay(current, proposed, at)
        self._groups: Counter[Group] = Counter()
        self._most = max_flips
        self._told = self._flipped = self._by_proposed = self._not_read = 0
        self._version = current.version

    def decide(self, entries: Iterable[tuple[int, audit_pb2.Entry]]) -> decisions_pb2.ReplayResponse:
        """Decide some entries again.

        Args:
            entries: Each with its index.

        Returns:
            What flips among them, and how far it has come.
        """
        response = self._response()
        for index, entry in entries:
            access = self._access(index, entry)
            if access is None:
                continue
            flips = list(self._replay.flips([access]))
            self._groups.update(grouped(flips))
            self._flipped += len(flips)
            for flip in flips:
                self._by_proposed += not flip.already
                if not self._most or self._told < self._most:
                    self._told += 1
                    response.flips.append(_message(flip))
        response.MergeFrom(self._response())
        return response

    def readable(self, entries: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, audit_pb2.Entry]]:
        """Entries as they read; those that this program cannot read are counted."""
        for index, data in entries:
            try:
                yield index, decode_entry(data)
            except EntryError:
                self._not_read += 1

    def finish(self) -> decisions_pb2.ReplayResponse:
        """The groups, once all is decided."""
        response = self._response()
        response.done = True
        for group, count in self._groups.most_common(MAX_GROUPS):
            response.groups.add(**group._asdict(), count=count)
        return response

    def _response(self) -> decisions_pb2.ReplayResponse:
        return decisions_pb2.ReplayResponse(
            accesses=self._replay.accesses,
            not_read=self._not_read,
            flipped=self._flipped,
            by_standpoint=self._by_proposed,
            directory_version=self._version,
        )

    def _access(self, index: int, entry: audit_pb2.Entry) -> Access | None:
        """What policy decided; None for everything else, and for a header that cannot be read, which is counted."""
        access = access_of(entry)
        if access is None:
            return None
        try:
            header = parse_header(access.header)
        except RefusedError:
            self._not_read += 1
            return None
        whole = isinstance(access, audit_pb2.HubAccess) and access.outcome == audit_pb2.OUTCOME_DENIED
        if whole and access.reason not in POLICY_REASONS:  # type: ignore[union-attr]  # only the hub's can be whole
            return None  # a matter or directory that was just changing, say: asked again it was decided
        return Access(index, _time(entry), header, denied_of(access, len(header.claims)))


def _time(entry: audit_pb2.Entry) -> float:
    return entry.time.seconds + entry.time.nanos / 1e9


def _message(flip: Flip) -> decisions_pb2.Flip:
    header: Header = flip.access.header
    message = decisions_pb2.Flip(
        index=flip.access.entry,
        system=header.system,
        official=header.official,
        role=header.role,
        matter=header.matter,
        reference=header.reference,
        jurisdiction=str(header.jurisdiction),
        ask=flip.ask,
        allowed=flip.allowed,
        reason=flip.reason,
        already=flip.already,
    )
    message.time.FromMicroseconds(round(flip.access.time * 1_000_000))
    return message


# In a process of its own (`policy/working.py`). -----------------------------------------------------------------------


def begin(session: dict[str, Replaying], data: bytes, sources: Sources, now: float) -> None:
    """Begin a replay.

    Raises:
        RefusedError: As `policy.answering.directory_of`.
    """
    request = decisions_pb2.ReplayRequest.FromString(data)
    current = directory_of(rights_pb2.Standpoint(), sources)
    session[_SESSION] = Replaying(current, directory_of(request.standpoint, sources), now, request.max_flips)


def decide(session: dict[str, Replaying], entries: list[tuple[int, bytes]]) -> bytes:
    """Decide a page of entries again; a ReplayResponse."""
    replaying = session[_SESSION]
    return replaying.decide(replaying.readable(entries)).SerializeToString()


def finish(session: dict[str, Replaying]) -> bytes:
    """The last ReplayResponse."""
    return session[_SESSION].finish().SerializeToString()
