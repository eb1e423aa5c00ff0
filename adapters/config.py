"""Where an adapter's files lie, and what is not configured.

`zhiwang adapter init` makes the state directory; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_LISTEN = "127.0.0.1:7442"
"""Where an adapter serves its own log unless its profile says otherwise."""

DRAIN_SECONDS = 20.0
"""How long an adapter that stops finishes what it has."""

STOP_GRACE = 2.0
"""How long its server then waits for calls to end."""

ADMINS = "admins"
"""Directory within the pinned root with the signing certificates of the department's own admins, if it pins them."""


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The adapter's state directory.

    Attributes:
        directory: All of it; 0700.
    """

    directory: Path

    @property
    def store(self) -> Path:
        """Log, ledger, replies and index (SQLite)."""
        return self.directory / "adapter.db"

    @property
    def guard(self) -> Path:
        """Newest checkpoint; put this directory on other storage than the store."""
        return self.directory / "guard" / "checkpoint"

    @property
    def keys(self) -> Path:
        """Keys of the ledger and of the index of subjects."""
        return self.directory / "keys"

    @property
    def ledger_key(self) -> Path:
        """Key of the ledger."""
        return self.keys / "ledger.key"

    @property
    def owner_keys(self) -> Path:
        """Private halves of the sealing keys."""
        return self.directory / "owner_keys"

    @property
    def policy(self) -> Path:
        """The directory as it was verified last."""
        return self.directory / "directory"

    def make(self) -> None:
        """Make the directories."""
        for directory in (self.directory, self.guard.parent, self.keys, self.owner_keys, self.policy):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
