"""A log goes into a backup and comes back, whether it stands in a file or in PostgreSQL: a copy is a file always."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit import backup as logs
from audit.appended import Head
from audit.checkpoint import Checkpoint
from audit.places import open_place, using
from audit.sqlite import open_sqlite
from certs.signing import CertificateVerifier, Signer
from zhiwang.wire.profile import LogDatabase


def copied_log(
    path: Path,
    database: LogDatabase | None,
    copy: Path,
    signer: Signer,
    verifier: CertificateVerifier,
    beside: logs.Beside = logs.nothing_beside,
) -> dict[str, str | int]:
    """Copy the store of a process that may be running into a backup; what is to be known of its log.

    Args:
        path: Of the store, if it is a file.
        database: Where it stands instead.
        copy: File to be made.
        signer: Whose log it must be.
        verifier: Of this city's certificates, with no deny-list.
        beside: As of `audit.backup.copy_log`, from a database.

    Raises:
        FatalError: It does not hold.
    """
    if database is None:
        logs.copy_store(path, copy)
    else:
        with using(open_place(path, database)) as store, using(open_sqlite(copy, create=True)) as file:
            logs.copy_log(store, file, beside)
    head = logs.check_copy(copy, signer, verifier)
    return {"log_size": head.size, "log_root": head.root.hex()}


def restored_log(
    path: Path,
    database: LogDatabase | None,
    copy: Path,
    signer: Signer,
    verifier: CertificateVerifier,
    *,
    guard: Path,
    seen: Sequence[Path],
    accept_fewer: bool,
    beside: logs.Beside = logs.nothing_beside,
) -> tuple[Head, logs.Restored]:
    """Take up the log of a backup, once it holds and nobody has seen more of it.

    Where it belongs into a database that holds no log yet, it is copied there, and the file is removed. A log that is
    there, put back by its administrator, stays and has to hold and reach as far by itself.

    Args:
        path: Where the store will be, if it is a file.
        database: Where it stands instead.
        copy: File of the backup.
        signer: Whose log it must be.
        verifier: Of this city's certificates, with no deny-list.
        guard: Of the process.
        seen: Files in which others remember the log.
        accept_fewer: As `audit.backup.check_newest`.
        beside: As of `audit.backup.copy_log`, into a database.

    Raises:
        FatalError: Somebody has seen more, nobody says enough, or it does not hold.
    """
    origin = signer.identity.log_origin
    known = logs.what_was_seen(guard, seen, origin)
    if database is None:
        head = logs.check_copy(copy, signer, verifier, known)
        return head, logs.check_newest(head, known, guard, signer, accept_fewer=accept_fewer)
    with using(open_place(path, database)) as store:
        begun = logs.has_begun(store)
        head = logs.check_copy(copy, signer, verifier, () if begun else known)
        if begun:
            # Put back by the database's own means; it is newer than the backup, or it is not good.
            known.append(logs.Seen("the backup", Checkpoint(origin, head.size, head.root)))
            head = logs.check_log(store, signer, verifier, known)
        restored = logs.check_newest(head, known, guard, signer, accept_fewer=accept_fewer)
        if not begun:
            with using(open_sqlite(copy)) as file:
                logs.copy_log(file, store, beside)
    copy.unlink()
    return head, restored
