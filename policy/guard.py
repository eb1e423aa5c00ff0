"""The registrar's guard: the newest timestamp on other storage, so that a repository that was rolled back is noticed.

Readers refuse an older directory, but only once the registrar has signed past the number that they have seen, and
until then nobody hears of a change. So a repository is opened only if it reaches what its guard remembers. What stands
in a guard is public.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from tuf.api.metadata import Timestamp

from policy.metadata import parse_metadata
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.kept import PUBLIC, replace_durably

GUARD = Path("guard") / "timestamp.json"
"""Where it lies in the registrar's state; best with the directory `guard` on other storage."""

_log = structlog.get_logger(__name__)


def make(guard: Path, timestamp: bytes = b"") -> None:
    """Makes or replaces a guard; an empty one remembers that nothing was signed.

    Raises:
        OSError: It cannot be written.
    """
    guard.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_durably(guard, timestamp, mode=PUBLIC, follow=True)


def remember(guard: Path, timestamp: bytes) -> None:
    """Notes what was just signed, before anybody is told.

    If it cannot be written, that is logged and no more: what stops at once (a revocation, a suspension) must not wait
    for this file.
    """
    try:
        replace_durably(guard, timestamp, mode=PUBLIC, follow=True)
    except OSError:
        _log.exception("the registrar's guard cannot be written", path=str(guard))


def version(guard: Path) -> int:
    """Version of the timestamp that it remembers; 0 if nothing was signed.

    Raises:
        FatalError: INTERNAL: it is missing or damaged.
    """
    try:
        remembered = guard.read_bytes()
        return _version(remembered) if remembered else 0
    except (OSError, RefusedError):
        raise FatalError(
            Reason.INTERNAL,
            f"the guard {guard} is missing or damaged, so nothing tells whether the repository was rolled back. Bring "
            "it back; or put `metadata/timestamp.json` of a hub's `directory` in its place",
        ) from None


def check(guard: Path, timestamp: bytes | None) -> None:
    """Whether a repository with this timestamp reaches what its guard remembers.

    Raises:
        FatalError: INTERNAL: the guard is missing or damaged, or the repository was rolled back.
    """
    there, known = 0 if timestamp is None else _version(timestamp), version(guard)
    if there < known:
        raise FatalError(
            Reason.INTERNAL,
            f"the repository has timestamp {there}, and {known} was signed: it was rolled back, and readers would "
            "refuse what it signs. Restore it from a backup and from what readers have (docs/backup.md)",
        )


def _version(timestamp: bytes) -> int:
    return int(parse_metadata(timestamp, Timestamp).signed.version)
