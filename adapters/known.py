"""The directory that an adapter verified last, for commands beside it."""

from __future__ import annotations

from adapters.config import StateFiles
from certs.credentials import IdentityFiles
from certs.identity import ROOT_METADATA
from policy.directory import DirectoryClient
from policy.model import Directory
from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.profile import Profile


def kept_directory(profile: Profile) -> Directory | None:
    """As the adapter keeps it; None if there is none that still holds."""
    files = IdentityFiles(profile.identity, profile.root)
    state = StateFiles.alone(profile.state)
    if not state.policy.is_dir():
        return None
    client = DirectoryClient((profile.root / ROOT_METADATA).read_bytes(), files.ca_pem, state.policy)
    try:
        return client.load()
    except ZhiwangError:
        return None
