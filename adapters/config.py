"""Where an adapter's files lie, and what is not configured.

`zhiwang adapter init` makes the state directory; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapters.store_keys import LEDGER_KEY

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
    """The adapter's state directory, and where the store lies that replicas on one host may share.

    Attributes:
        directory: What is this process's alone; 0700.
        shared: Where the store, unless it stands in PostgreSQL, and its keys lie; the same unless another replica on
            this host made them.
    """

    directory: Path
    shared: Path

    @classmethod
    def alone(cls, directory: Path) -> StateFiles:
        """Of an adapter with a single process."""
        return cls(directory, directory)

    @property
    def store(self) -> Path:
        """Log, ledger, replies and index (SQLite)."""
        return self.shared / "adapter.db"

    @property
    def search(self) -> Path:
        """The log's search database; made from the log whenever it is not there. Each replica has its own."""
        return self.directory / "search.db"

    @property
    def guard(self) -> Path:
        """Newest checkpoint; put this directory on other storage than the store."""
        return self.directory / "guard" / "checkpoint"

    @property
    def keys(self) -> Path:
        """Keys of the ledger and of the index of subjects; they go with the store."""
        return self.shared / "keys"

    @property
    def ledger_key(self) -> Path:
        """Key of the ledger."""
        return self.keys / LEDGER_KEY

    @property
    def owner_keys(self) -> Path:
        """Private halves of the sealing keys: shared too, so that what was sealed for one replica opens at any."""
        return self.shared / "owner_keys"

    @property
    def policy(self) -> Path:
        """The directory as it was verified last."""
        return self.directory / "directory"

    @property
    def local(self) -> Path:
        """What the department's admins signed and put here while hub and registrar could not be reached."""
        return self.directory / "local"

    @property
    def extracts(self) -> Path:
        """The private database made of files, of an adapter that reads files; made when it is first needed."""
        return self.directory / "extracts"

    @property
    def answers(self) -> Path:
        """Usual shares of answers; without it they are learnt again."""
        return self.directory / "answers.json"

    def make(self) -> None:
        """Make the directories."""
        for directory in (self.directory, self.guard.parent, self.keys, self.owner_keys, self.policy):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
