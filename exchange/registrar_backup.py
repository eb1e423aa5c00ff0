"""Backup and restore of the registrar: the directory, and the log of every step that was taken with it.

The directory is restored from what readers have seen, the log only if nobody has seen more of it. A registrar whose
newest steps are lost goes on under another name, since the directory must not wait: its log begins with the end of the
lost one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from audit import backup as logs
from audit.appended import Head
from exchange.backup import copied_log, restored_log
from exchange.config import StateFiles
from exchange.registrar import registrar_identity
from exchange.store import lenient, open_log
from policy import backup
from policy.backup import SignedSet
from zhiwang.wire import archive
from zhiwang.wire.archive import Manifest
from zhiwang.wire.profile import Profile

_DATABASES: Final = frozenset(
    f"{name}{suffix}" for name in ("log.db", "search.db") for suffix in ("", "-wal", "-shm", "-journal")
)


class Restored(NamedTuple):
    """What a restored registrar goes on from.

    Attributes:
        directory: None if nothing was published yet.
        renewed: Whether new keys of snapshot and timestamp were made: the next root must put them in force.
        log: Size of its log, and the largest size that anybody asked has seen.
        successor: Whether its log is a new one, which begins with the end of the lost one.
    """

    directory: SignedSet | None
    renewed: bool
    log: logs.Restored
    successor: bool


def back_up(profile: Profile, out: Path, *, with_keys: bool) -> Manifest:
    """Write a backup of the registrar, while it runs or not.

    Raises:
        FatalError: There is no such state, what it holds does not verify, or `out` exists.
        OSError: `out` cannot be written.
    """
    files, state = registrar_identity(profile), StateFiles(profile.state)

    def log(stage: Path) -> dict[str, str | int]:
        return copied_log(files, state, stage, profile)

    return backup.back_up(profile, out, with_keys=with_keys, skip=_DATABASES, more=log)


def restore(
    profile: Profile, source: Path, readers: Sequence[Path], seen: Sequence[Path] = (), *, accept_fewer: bool = False
) -> Restored:
    """Restore the registrar into an empty state.

    Args:
        profile: The registrar's; its certificates are there already. With those of another name its log is a successor.
        source: The backup.
        readers: `directory` in the states of readers, best of every hub.
        seen: Files in which others remember the log; needed where the guard is lost.
        accept_fewer: As `audit.backup.check_newest`.

    Raises:
        FatalError: Somebody has seen more, nobody says enough, the state is not empty, or the backup does not hold.
            Nothing has changed then.
        OSError: Something cannot be read or written.
    """
    files, state = registrar_identity(profile), StateFiles(profile.state)
    lost = archive.read_manifest(source).identity
    succeeds = lost != files.identity.log_origin
    if succeeds:
        logs.check_no_guard(state.guard)
    found: list[tuple[Head, logs.Restored]] = []

    def take(stage: Path) -> None:
        if not succeeds:
            found.append(restored_log(files, state, stage, profile, seen, accept_fewer=accept_fewer))
            return
        old = (stage / state.log.name).rename(stage / "lost.db")
        made = StateFiles(stage)
        with logs.predecessor(old, lost, files.signer(), lenient(files)) as (head, _):
            made.guard.parent.mkdir(mode=0o700, exist_ok=True)
            store = open_log(files, made, profile.log, create=True, predecessor=head.checkpoint)
        store.close()
        store.engine.dispose()
        shutil.rmtree(made.guard.parent)
        for path in stage.glob("lost.db*"):
            path.unlink()
        found.append((store.newest, logs.Restored(store.newest.size, store.newest.size)))

    directory, renewed = backup.restore(profile, source, readers, predecessor=lost if succeeds else "", take=take)
    ((head, restored),) = found
    logs.restore_guard(state.guard, head)
    return Restored(directory, renewed, restored, succeeds)
