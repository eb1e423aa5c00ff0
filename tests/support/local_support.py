"""An adapter's directory with what stands beside it, without the rest of the adapter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from certs.signing import Signer
from policy.authorise import authorise
from policy.beside import Change, LocalPolicy
from policy.directory import DirectoryClient, DirectoryHolder
from policy.incoming import INCOMING, make, put
from policy.local import file_name
from policy.metadata import DAY, Publication
from policy.publishing import sign
from policy.signed_file import publication_bytes
from policy_support import HRSS, DirectoryKit, make_header, system

STOP = """
department = "hrss"
[[suspend]]
id = "stop-1"
system = "edu/enrolment"
"""
OTHER = STOP.replace("stop-1", "stop-2").replace('system = "edu/enrolment"', 'attribute = "hrss.insured"')
LIFTED = 'lifted = ["stop-1"]\n' + HRSS
PENSION, INSURED = range(2)


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Adapter:
    """What an adapter has of its directory, without the rest of it.

    Attributes:
        log_works: Whether the owner's log takes what is recorded.
    """

    kit: DirectoryKit
    state: Path
    clock: Clock
    pins: frozenset[bytes] | None = None
    log_works: bool = True

    def __post_init__(self) -> None:
        make(self.state / "local")
        self.start(begin=DirectoryClient.refresh)

    def start(self, begin: Callable[[DirectoryClient], object] = DirectoryClient.load) -> None:
        """A new process over what is on disk, with nobody to be reached."""
        pins = {} if self.pins is None else {"hrss": self.pins}
        self.client = self.kit.client(self.state / "directory", pins=pins)
        self.local = LocalPolicy(self.state / "local", "hrss", self.pins, self.clock)
        self.local.load()
        self.holder = DirectoryHolder(self.clock, lambda directory: self.local.over(directory, self.client.roles))
        self.holder.set(begin(self.client))  # type: ignore[arg-type]  # both give a Directory

    def follow(self) -> list[Change]:
        """The registrar can be reached again."""
        self.holder.set(self.client.refresh())
        return self.look()

    def load(self, content: bytes) -> list[Change]:
        put(self.state / "local", content)
        return self.look()

    def look(self) -> list[Change]:
        changes = self.local.look(self.holder.verified, self.client.roles)
        if changes:
            self.holder.again()
        if self.log_works:
            for change in changes:
                self.local.recorded(file_name(change.local), in_force=change.in_force)
        return changes

    def wind(self, seconds: float) -> None:
        """Time passes, and a timestamp of the registrar comes that says no more than that."""
        self.clock.ahead += seconds
        verified = self.holder.verified
        assert verified is not None
        self.holder.set(replace(verified, version=verified.version + 1, expires=self.clock() + DAY))

    @property
    def waiting(self) -> list[str]:
        """Names of what waits."""
        return sorted(path.name for path in (self.state / "local" / INCOMING).iterdir())

    @property
    def files(self) -> list[str]:
        """Names of what stands, and what is still to be recorded."""
        return sorted(path.name for path in (self.state / "local").glob("*.json"))

    def denied(self) -> tuple[int, ...]:
        """Which of the two claims of the example request."""
        enforcer = self.holder.enforcer
        return authorise(enforcer, make_header(enforcer.directory), system(), self.clock()).denied


def publication(kit: DirectoryKit, file: str, signers: list[Signer] | None = None) -> Publication:
    """What would be published, signed by the first admin, or by these."""
    (drafted,) = kit.drafts(file)
    return sign(drafted, kit.admins["hrss"][:1] if signers is None else signers)


def signed(kit: DirectoryKit, file: str, signers: list[Signer] | None = None) -> bytes:
    return publication_bytes(publication(kit, file, signers))
