"""What the registrar's repository holds, as values: metadata and files of one version, and what readers make of them.

No I/O: `repository.py` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from policy.assemble import Parts
from policy.metadata import CENTRE, EMERGENCY, SUSPEND, departments_of, moment, parse_metadata, stored_path
from zhiwang.wire.errors import FatalError, Reason


@dataclass(frozen=True, slots=True)
class Contents:
    """One version of everything.

    Attributes:
        roots: Bytes of every root, the newest last.
        metadata: The exact bytes of each role but snapshot and timestamp, by role.
        targets: Of each listed file, by path.
        snapshot: Bytes; None before anything was signed.
        timestamp: The same.
    """

    roots: tuple[bytes, ...]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    targets: Mapping[str, bytes] = field(default_factory=dict)
    snapshot: bytes | None = None
    timestamp: bytes | None = None

    @property
    def root(self) -> Root:
        """The newest."""
        signed_root: Root = parse_metadata(self.roots[-1], Root).signed
        return signed_root

    def role(self, name: str) -> Targets | None:
        """Metadata of a role; None if it has published none."""
        data = self.metadata.get(name)
        return None if data is None else parse_metadata(data, Targets).signed

    def files(self) -> dict[str, bytes]:
        """By repository path."""
        files = {f"metadata/{parse_metadata(root, Root).signed.version}.root.json": root for root in self.roots}
        for name, data in self.metadata.items():
            role = parse_metadata(data, Targets).signed
            files[f"metadata/{role.version}.{name}.json"] = data
            for path, target in role.targets.items():
                if path in self.targets:
                    files[stored_path(path, target.hashes["sha256"])] = self.targets[path]
        if self.snapshot is not None and self.timestamp is not None:
            version = parse_metadata(self.snapshot, Snapshot).signed.version
            files[f"metadata/{version}.snapshot.json"] = self.snapshot
            files["metadata/timestamp.json"] = self.timestamp
        return files

    def parts(self, now: float, unsigned: str = "") -> Parts:
        """What a directory is made of, verified by us: what a lapsed department is, is decided as a reader would.

        Args:
            now: Seconds since the epoch.
            unsigned: A department whose metadata still lacks signatures and is taken as if it had them.

        Raises:
            FatalError: INTERNAL: the centre has not published.
        """
        centre = self.role(CENTRE)
        if centre is None or self.snapshot is None or self.timestamp is None:
            raise FatalError(Reason.INTERNAL, "the centre has not published")
        roles = {CENTRE: centre}
        lapsed = {}
        when = moment(now)
        for department in departments_of(centre):
            if department not in self.metadata:
                continue
            try:
                if department == unsigned:
                    own = parse_metadata(self.metadata[department], Targets).signed
                else:
                    own = _verified(centre, department, self.metadata[department], when)
                found = {department: own}
                suspend = department + SUSPEND
                delegations = own.delegations
                if suspend in self.metadata and delegations is not None and suspend in (delegations.roles or {}):
                    found[suspend] = _verified(own, suspend, self.metadata[suspend], when)
            except RepositoryError as error:
                lapsed[department] = f"{type(error).__name__}: {error}"
            else:
                roles |= found
                emergency = department + EMERGENCY
                # What expired or is signed by a former admin opens nothing, and nobody lapses by it.
                with suppress(RepositoryError, ValueError):
                    if emergency in self.metadata:
                        roles[emergency] = _verified(own, emergency, self.metadata[emergency], when)
        return Parts(
            root=self.root,
            timestamp=parse_metadata(self.timestamp, Timestamp).signed,
            snapshot=parse_metadata(self.snapshot, Snapshot).signed,
            roles=roles,
            content=self.targets.__getitem__,
            timestamp_bytes=self.timestamp,
            lapsed=lapsed,
        )


def _verified(delegator: Targets, role: str, data: bytes, now: Any) -> Targets:
    metadata = parse_metadata(data, Targets)
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    if metadata.signed.is_expired(now):
        raise RepositoryError(f"{role} is expired")
    targets: Targets = metadata.signed
    return targets
