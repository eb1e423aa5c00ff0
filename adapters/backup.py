"""Backup and restore of an adapter's state: what belongs into it, and what a restored one may do.

A backup holds the store (log, ledger, replies, index), the keys of ledger and index, the directory that was verified
last, and what stands beside it. Charges and replies were written in the transactions of their entries, so a store whose
log is the newest has forgotten no guess and no reply. Sealing keys are never in a backup: they live for two days, a
restored adapter makes new ones, and what was sealed for the old ones can then neither be opened nor be answered twice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from adapters.config import StateFiles
from adapters.installation import adapter_identity, state_files
from adapters.rows import write
from adapters.store import copy_rows, create_store
from audit import backup as logs
from audit.moving import copied_log, restored_log
from certs.identity import write_private
from certs.signing import CertificateVerifier
from policy.directory import copy_seen
from zhiwang.wire import archive
from zhiwang.wire.archive import Manifest
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.process import locked_state
from zhiwang.wire.profile import Profile

_ADAPTER = "adapter"
_GUESSES = "SELECT scope, value, at FROM guess"
_TAKE = "INSERT INTO guess (scope, value, at) VALUES (?, ?, ?)"


def back_up(profile: Profile, out: Path) -> Manifest:
    """Write a backup of an adapter, while it runs or not; replicas that share a store have one backup.

    A store that stands in PostgreSQL is copied into a file as that of SQLite is, so that all backups are alike.

    Raises:
        FatalError: There is no such state, its log does not hold, or `out` exists.
        OSError: `out` cannot be written.
    """
    files, state = adapter_identity(profile), state_files(profile)
    verifier = CertificateVerifier(files.ca_pem, frozenset)

    def fill(stage: Path) -> dict[str, str | int]:
        copy = stage / state.store.name
        facts = copied_log(state.store, profile.log, copy, files.signer(), verifier, copy_rows)
        # After the store: the index's key of a new year is made before the first row under it.
        archive.copy_tree(state.keys, stage / state.keys.name)
        # Before the directory: what it has by then has been let go of here.
        archive.copy_tree(state.local, stage / state.local.name)
        archive.copy_tree(state.policy, stage / state.policy.name)
        return facts

    return archive.pack(out, fill, kind=_ADAPTER, identity=files.identity.log_origin, now=time.time())


def restore(profile: Profile, source: Path, seen: Sequence[Path], *, accept_fewer: bool = False) -> logs.Restored:
    """Restore an adapter from its backup into an empty state, if nobody has seen more of its log.

    Args:
        profile: The adapter's; its certificates are there already, renewed or new.
        source: The backup.
        seen: Files in which others remember the log; needed where the guard is lost.
        accept_fewer: As `audit.backup.check_newest`.

    Raises:
        FatalError: Somebody has seen more, nobody says enough, the state is not empty, or the backup does not hold.
            Nothing has changed then.
        OSError: Something cannot be read or written.
    """
    files, state = adapter_identity(profile), state_files(profile)
    if state.shared != state.directory:
        raise FatalError(
            Reason.INTERNAL,
            f"this replica shares the store of {state.shared}; restore the adapter whose state that is, then make this "
            "replica anew with `zhiwang adapter init`",
        )
    origin = files.identity.log_origin
    state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_state(state.directory):
        with archive.restoring(source, state.directory, kind=_ADAPTER, identity=origin) as stage:
            head, restored = restored_log(
                state.store,
                profile.log,
                stage / state.store.name,
                files.signer(),
                CertificateVerifier(files.ca_pem, frozenset),
                guard=state.guard,
                seen=seen,
                accept_fewer=accept_fewer,
                beside=copy_rows,
            )
        state.make()
        logs.restore_guard(state.guard, head)
    return restored


def succeed(profile: Profile, source: Path) -> None:
    """Make the state of an adapter under a new name, which goes on where the log of a lost one ended.

    The new log's first entry names the checkpoint of the backup. The ledger's key and its guesses are taken over, so
    that what was spent until the backup stays spent; guesses made since are forgotten with the entries that held them.
    So are local policy and the memory of emergencies: none of these could be opened again within the day otherwise.
    All of it is made aside and then put in place, so that no store ever stands there whose ledger is not whole.

    Raises:
        FatalError: There is a state already, or the backup is none that this adapter can succeed. Nothing has changed
            then.
        OSError: Something cannot be read or written.
    """
    files, state = adapter_identity(profile), state_files(profile)
    verifier = CertificateVerifier(files.ca_pem, frozenset)
    manifest = archive.read_manifest(source)
    if state.shared != state.directory:
        raise FatalError(Reason.INTERNAL, "a replica that shares a store succeeds nobody; make its first replica do it")
    if manifest.kind != _ADAPTER:
        raise FatalError(Reason.INTERNAL, f"{source.name} is the backup of {manifest.kind} {manifest.identity}")
    state.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_state(state.directory):
        logs.check_no_guard(state.guard)
        with archive.installing(state.directory) as stage:
            made, lost = StateFiles.alone(stage), StateFiles.alone(stage.with_name("lost"))
            archive.unpack(source, lost.directory)
            with logs.predecessor(lost.store, manifest.identity, files.signer(), verifier) as (head, old):
                made.make()
                write_private(made.ledger_key, lost.ledger_key.read_bytes())
                if lost.local.is_dir():
                    shutil.copytree(lost.local, made.local)
                copy_seen(lost.policy, made.policy)
                log = create_store(
                    made, files.signer(), database=profile.log, verifier=verifier, predecessor=head.checkpoint
                )
                try:
                    with log.transaction() as connection:
                        rows = old.exec_driver_sql(_GUESSES)
                        while batch := rows.fetchmany(1000):
                            write(connection, _TAKE, batch)
                finally:
                    log.close()
                    log.engine.dispose()
            shutil.rmtree(made.guard.parent)
        state.make()
        logs.restore_guard(state.guard, log.newest)
