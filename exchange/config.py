"""Where the hub's files lie, and what is not configured.

`zhiwang hub init` makes the state directory; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_LISTEN = "0.0.0.0:7440"
"""Where a hub listens unless its profile says otherwise."""

DRAIN_SECONDS = 20.0
"""How long a hub that stops waits for what is with owners."""

STOP_GRACE = 2.0
"""How long it then waits for streams to be read to their ends."""


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The hub's state directory.

    Attributes:
        directory: All of it; 0700.
    """

    directory: Path

    @property
    def log(self) -> Path:
        """The hub's log (SQLite)."""
        return self.directory / "log.db"

    @property
    def search(self) -> Path:
        """The log's search database; made from the log whenever it is not there."""
        return self.directory / "search.db"

    @property
    def guard(self) -> Path:
        """Newest checkpoint; put this directory on other storage than the log."""
        return self.directory / "guard" / "checkpoint"

    @property
    def owner_logs(self) -> Path:
        """What was seen of owners' logs."""
        return self.directory / "owner_logs"

    @property
    def policy(self) -> Path:
        """The directory as it was verified last."""
        return self.directory / "directory"

    @property
    def published(self) -> Path:
        """Every directory that was in force, so that old entries of the log can be explained."""
        return self.directory / "published"
