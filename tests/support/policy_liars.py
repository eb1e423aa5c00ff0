"""A registrar that signs whatever is put before it: what readers have to withstand.

liar = LyingRegistrar(kit)
liar.put("hrss", metadata_bytes, {"hrss/document.toml": content})
kit.client(tmp_path / "state", fetch=liar).refresh()
"""

from __future__ import annotations

from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from certs.signing import Signer
from policy.metadata import TufSigner, meta_file, signed, stored_path
from policy_support import DirectoryKit
from zhiwang.wire.errors import Reason, RefusedError


class LyingRegistrar:
    """Has the registrar's two keys, and signs whatever is put before it."""

    def __init__(self, kit: DirectoryKit) -> None:
        self.kit = kit
        self.files = dict(kit.repository.files)
        self.timestamp = Metadata[Timestamp].from_bytes(self.files["metadata/timestamp.json"]).signed
        version = self.timestamp.snapshot_meta.version
        self.snapshot = Metadata[Snapshot].from_bytes(self.files[f"metadata/{version}.snapshot.json"]).signed

    def role(self, name: str) -> Metadata[Targets]:
        version = self.snapshot.meta[f"{name}.json"].version
        return Metadata[Targets].from_bytes(self.files[f"metadata/{version}.{name}.json"])

    def put(self, name: str, data: bytes, contents: dict[str, bytes] | None = None) -> None:
        targets = Metadata[Targets].from_bytes(data).signed
        self.files[f"metadata/{targets.version}.{name}.json"] = data
        self.snapshot.meta[f"{name}.json"] = meta_file(targets.version, data)
        for path, content in (contents or {}).items():
            self.files[stored_path(path, targets.targets[path].hashes["sha256"])] = content
        self.sign()

    def sign(self) -> None:
        self.snapshot.version += 1
        data = signed(Metadata(self.snapshot), [self.kit.keys.snapshot])
        self.files[f"metadata/{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.version += 1
        self.timestamp.snapshot_meta = meta_file(self.snapshot.version, data)
        self.files["metadata/timestamp.json"] = signed(Metadata(self.timestamp), [self.kit.keys.timestamp])

    def __call__(self, path: str) -> bytes:
        if path not in self.files:
            raise RefusedError(Reason.FILE_UNKNOWN)
        return self.files[path]


def tuf(signers: list[Signer]) -> list[TufSigner]:
    return [TufSigner(signer) for signer in signers]
