"""`zhiwang adapter load`: puts what the department's own admins signed where the adapter takes it in.

It is checked here by the same code as in the adapter, so that whoever stands at the machine is told what is wrong, and
then waited for. Command and process meet in the state directory only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.installation import adapter_identity, pinned_admins, state_files
from certs.identity import ROOT_METADATA
from policy.beside import LocalPolicy
from policy.incoming import put
from policy.kept import has_kept, load_kept
from policy.local import Local, check_local, file_name, read_local
from policy.signed_file import parse_publication
from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.process import running
from zhiwang.wire.profile import Profile

PATIENCE: Final = 30.0
"""Seconds in which an adapter that runs has looked at it; it needs less than one."""

_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was put there.

    Attributes:
        local: What it says.
        in_force: Whether the adapter decides by it now; if not, it will once it runs.
        unchecked: Why it could not be checked here; empty if it was. Without a directory in force nothing is answered.
    """

    local: Local
    in_force: bool
    unchecked: str = ""


def load(profile: Profile, file: Path) -> Loaded:
    """Put a signed file beside the directory of this profile's adapter.

    Raises:
        RefusedError: METADATA_INVALID or DOCUMENT_INVALID: it changes nothing; with why.
        FatalError: The profile is not an adapter's, has no state, or the adapter did not take it.
        OSError: It cannot be read or written.
    """
    department = adapter_identity(profile).identity.department
    state = state_files(profile)
    if not state.directory.is_dir():
        raise FatalError(Reason.INTERNAL, f"there is no state {state.directory}; zhiwang adapter init makes it")
    data = file.read_bytes()
    local = read_local(parse_publication(data), department)
    name = file_name(local)
    stands = state.local / name
    unchecked = "" if stands.is_file() else _check(profile, local, department)
    waiting = put(state.local, data)
    if running(profile.state) is None:
        return Loaded(local, in_force=False, unchecked=unchecked)
    end = time.monotonic() + PATIENCE
    while waiting.exists() and time.monotonic() < end and not unchecked:
        time.sleep(_POLL_SECONDS)
    if not unchecked and waiting.exists():
        raise FatalError(Reason.INTERNAL, f"the adapter has not looked at {waiting} yet; zhiwang doctor --profile …")
    if not unchecked and not stands.is_file():
        raise FatalError(
            Reason.INTERNAL, 'the adapter did not take it; look for "a local file changes nothing" in its log'
        )
    return Loaded(local, in_force=not unchecked, unchecked=unchecked)


def _check(profile: Profile, local: Local, department: str) -> str:
    """Check it as the adapter will. Returns why that cannot be done."""
    files = adapter_identity(profile)
    state = state_files(profile)
    pins = pinned_admins(profile, department)
    if not has_kept(state.policy):
        return "this adapter has never had a directory"
    try:
        kept = load_kept(state.policy, (profile.root / ROOT_METADATA).read_bytes(), files.ca_pem, pins=pins)
    except ZhiwangError as error:
        return f"{error.reason.name}: {error.detail}"
    standing = LocalPolicy(state.local, department, pins.get(department), time.time)
    standing.load()
    directory = standing.over(kept.directory, kept.roles)
    check_local(local, directory, kept.roles, pins.get(department), department, time.time())
    return ""
