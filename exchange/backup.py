"""Backup and restore of a hub's and of an agent's state: what belongs into it, and what a restored one may do.

A hub's backup holds its log, what it has seen of owners' logs, and the directories that it verified. An agent's
holds all of its state: what it has seen of the hub's log, the directory, and receipts if it keeps them. No identity is
ever in one: a lost key is replaced by a new certificate under the same name, which a log takes up.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from audit import backup as logs
from audit import moving
from audit.appended import Head
from certs.credentials import IdentityFiles
from certs.identity import Kind
from exchange.app import hub_identity, make_state
from exchange.config import StateFiles
from exchange.store import lenient, open_log
from policy.directory import copy_seen
from zhiwang.wire import archive
from zhiwang.wire.archive import Manifest
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.process import ADDRESS_FILE, locked_state
from zhiwang.wire.profile import Profile

_HUB = "hub"
_AGENT = "agent"


def back_up_hub(profile: Profile, out: Path) -> Manifest:
    """Write a backup of a hub, while it runs or not.

    A log that stands in PostgreSQL is copied into a file as that of SQLite is, so that all backups are alike.

    Raises:
        FatalError: There is no such state, its log does not hold, or `out` exists.
        OSError: `out` cannot be written.
    """
    files, state = hub_identity(profile), StateFiles(profile.state)

    def fill(stage: Path) -> dict[str, str | int]:
        facts = copied_log(files, state, stage, profile)
        for directory in (state.owner_logs, state.policy, state.published):
            archive.copy_tree(directory, stage / directory.name)
        return facts

    return archive.pack(out, fill, kind=_HUB, identity=files.identity.log_origin, now=time.time())


def restore_hub(profile: Profile, source: Path, seen: Sequence[Path], *, accept_fewer: bool = False) -> logs.Restored:
    """Restore a hub from its backup into an empty state, if nobody has seen more of its log.

    Where the profile names a database, the backup's log goes into it if it holds none yet; one that is there, put back
    by its administrator, stays and has to hold and reach as far by itself.

    Args:
        profile: The hub's; its certificates are there already, renewed or new.
        source: The backup.
        seen: Files in which others remember the log; needed where the guard is lost.
        accept_fewer: As `audit.backup.check_newest`.

    Raises:
        FatalError: Somebody has seen more, nobody says enough, the state is not empty, or the backup does not hold.
            Nothing has changed then.
        OSError: Something cannot be read or written.
    """
    files, state = hub_identity(profile), StateFiles(profile.state)
    origin = files.identity.log_origin
    state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_state(state.directory):
        with archive.restoring(source, state.directory, kind=_HUB, identity=origin) as stage:
            head, restored = restored_log(files, state, stage, profile, seen, accept_fewer=accept_fewer)
        logs.restore_guard(state.guard, head)
    return restored


def copied_log(files: IdentityFiles, state: StateFiles, stage: Path, profile: Profile) -> dict[str, str | int]:
    """Copy the log of a process that may be running into a backup; what is to be known of it.

    Raises:
        FatalError: It does not hold.
    """
    return moving.copied_log(state.log, profile.log, stage / state.log.name, files.signer(), lenient(files))


def restored_log(
    files: IdentityFiles,
    state: StateFiles,
    stage: Path,
    profile: Profile,
    seen: Sequence[Path],
    *,
    accept_fewer: bool,
) -> tuple[Head, logs.Restored]:
    """Take up the log of a backup, once it holds and nobody has seen more of it.

    Args:
        files: Of the process.
        state: Where it will be, and its guard is.
        stage: With the backup's files.
        profile: Says where the log stands.
        seen: Files in which others remember the log.
        accept_fewer: As `audit.backup.check_newest`.

    Raises:
        FatalError: Somebody has seen more, nobody says enough, or it does not hold.
    """
    return moving.restored_log(
        state.log,
        profile.log,
        stage / state.log.name,
        files.signer(),
        lenient(files),
        guard=state.guard,
        seen=seen,
        accept_fewer=accept_fewer,
    )


def succeed_hub(profile: Profile, source: Path) -> None:
    """Make the state of a hub under a new name, which goes on where the log of a lost one ended.

    The new log's first entry names the checkpoint of the backup, and what was seen of owners' logs and emergencies is
    taken over. All of it is made aside and then put in place, so that no log ever stands there whose hub has forgotten
    the owners'.

    Raises:
        FatalError: There is a state already, or the backup is none that this hub can succeed. Nothing has changed then.
        OSError: Something cannot be read or written.
    """
    files, state = hub_identity(profile), StateFiles(profile.state)
    manifest = archive.read_manifest(source)
    if manifest.kind != _HUB:
        raise FatalError(Reason.INTERNAL, f"{source.name} is the backup of {manifest.kind} {manifest.identity}")
    state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_state(state.directory):
        logs.check_no_guard(state.guard)
        with archive.installing(state.directory) as stage:
            made, lost = StateFiles(stage), StateFiles(stage.with_name("lost"))
            archive.unpack(source, lost.directory)
            with logs.predecessor(lost.log, manifest.identity, files.signer(), lenient(files)) as (head, _):
                make_state(made)
                store = open_log(files, made, profile.log, create=True, predecessor=head.checkpoint)
            store.close()
            store.engine.dispose()
            archive.copy_tree(lost.owner_logs, made.owner_logs)
            archive.copy_tree(lost.published, made.published)
            copy_seen(lost.policy, made.policy)
            shutil.rmtree(made.guard.parent)
        make_state(state)
        logs.restore_guard(state.guard, store.newest)


def agent_identity(profile: Profile) -> IdentityFiles:
    """The certificates of the profile, which must be a system's.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    files = IdentityFiles(profile.identity, profile.root)
    if files.identity.kind is not Kind.SYSTEM:
        raise FatalError(
            Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no system; is this the profile of an agent?"
        )
    return files


def back_up_agent(profile: Profile, out: Path) -> Manifest:
    """Write a backup of an agent, while it runs or not.

    Raises:
        FatalError: There is no such state, or `out` exists.
        OSError: `out` cannot be written.
    """
    files = agent_identity(profile)
    if not profile.state.is_dir():
        raise FatalError(Reason.INTERNAL, f"there is no state directory {profile.state}")

    def fill(stage: Path) -> dict[str, str | int]:
        databases = sorted(profile.state.rglob("*.db"))
        beside = [f"{path.name}{suffix}" for path in databases for suffix in ("", "-wal", "-shm")]
        archive.copy_tree(profile.state, stage, skip={ADDRESS_FILE, *archive.KEPT, *beside})
        for path in databases:
            logs.copy_store(path, stage / path.relative_to(profile.state))
        return {}

    return archive.pack(out, fill, kind=_AGENT, identity=files.identity.log_origin, now=time.time())


def restore_agent(profile: Profile, source: Path) -> None:
    """Restore an agent from its backup into an empty state.

    What it saw since is forgotten: of the hub's log it will accept again what extends the backup. Nothing is signed by
    an agent's state, so an older one contradicts nobody.

    Raises:
        FatalError: The state is not empty, or the backup does not hold. Nothing has changed then.
        OSError: Something cannot be read or written.
    """
    origin = agent_identity(profile).identity.log_origin
    profile.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_state(profile.state), archive.restoring(source, profile.state, kind=_AGENT, identity=origin):
        pass  # nothing in it has to be judged: the directory is verified at the start, heads extend or are refused
