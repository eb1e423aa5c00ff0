"""Backup and restore of a log's store: copied while its process writes, believed only as far as nobody has seen more.

A copy of a log is as good as the log itself up to its size, and worthless beyond: whoever signed over an older copy
would tell a second history. So a copy is restored only if it reaches what its guard remembers, or, where the guard is
lost, what somebody else is known to have seen. There is no way to restore one that does not: its log is lost, and a
successor under another name goes on from it, whose first entry says so (docs/adr/restored-logs.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Engine

from audit import shards, tiles
from audit.appended import Head
from audit.backend import backend_of
from audit.checkpoint import Checkpoint, CheckpointError, open_note, split_note
from audit.guard import Guard
from audit.origins import FIRST, log_of, origin_of, year_of
from audit.proofs import checkpoints_in, is_memory
from audit.reader import LogReader
from audit.sqlite import BUSY_SECONDS, open_sqlite, reading
from audit.trouble import ERRORS, cause_of
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier, Signer
from zhiwang.wire.errors import FatalError, Reason

COPIED: Final = 5000
"""Entries that are copied at a time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A state of a log that somebody has seen.

    Attributes:
        who: Who says so, for messages.
        checkpoint: What was seen.
        note: The signed note that it was read from, not verified yet; empty where somebody's memory or our own guard
            says it, which are as good as the place that they were fetched from.
    """

    who: str
    checkpoint: Checkpoint
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Restored:
    """How far a restored log reaches, and how far somebody has seen it.

    Attributes:
        size: Entries of the log.
        seen: Entries of which those who were asked, or the guard, know.
    """

    size: int
    seen: int


def copy_store(source: Path, target: Path) -> None:
    """Copy a database as it stands at one moment, while its process goes on writing.

    Meanwhile its write-ahead log cannot be folded into the file, so it grows by what is written.

    Args:
        source: The database.
        target: To be made.

    Raises:
        FatalError: LOG_UNAVAILABLE: it cannot be read, or the copy cannot be written.
    """
    if not source.is_file():
        raise FatalError(Reason.LOG_UNAVAILABLE, f"there is no store at {source}")
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{source} cannot be copied: {error}") from error
    target.chmod(0o600)


Beside = Callable[[Connection, Connection], None]
"""Copies what stands beside a log: in a transaction that reads, and in one that writes."""


def nothing_beside(_reading: Connection, _writing: Connection) -> None:
    """Nothing stands beside the log."""


def copy_log(source: Engine, target: Engine, beside: Beside = nothing_beside) -> Head:
    """Copy the logs of an identity from one database into another, of the same or of the other kind, at one moment.

    All of it is one transaction at the target, so that what is there is nothing or the whole log. Of a year whose
    entries are gone, or to go, is copied how it ended. In PostgreSQL its tables stay for an administrator to remove.

    Args:
        source: Its database; may be appended to meanwhile.
        target: Where no log has begun yet. In PostgreSQL there is room for each year.
        beside: Copies what stands beside the log, at the same moment.

    Returns:
        The head of the newest log.

    Raises:
        FatalError: LOG_UNAVAILABLE: one of them cannot be used, or the target holds a log.
    """
    years, there = backend_of(source), backend_of(target)
    try:
        with years.reading.connect() as reading, there.writing() as writing:
            there.install_years(writing)
            ended = years.logs(reading)
            for one in ended:
                copy = backend_of(target, shards.tables_of(one.year))
                if one.removal is None:
                    _copy_one(reading, source, writing, target, one.year)
                    copy.end(writing, one)
                else:
                    copy.end_without_entries(writing, one, one.removal)
            head = _copy_one(reading, source, writing, target, ended[-1].successor if ended else FIRST)
            beside(reading, writing)
    except ERRORS as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the log cannot be copied: {cause_of(error)}") from error
    return head


def _copy_one(reading: Connection, source: Engine, writing: Connection, target: Engine, year: int) -> Head:
    """Copy the log of a year, in a snapshot of the one and a transaction of the other."""
    old, new = LogReader(source, shards.tables_of(year)), backend_of(target, shards.tables_of(year))
    new.install(writing)
    head, before = old.head(reading), new.locked_head(writing)
    while before is not None and before.size < head.size:
        # Only the last head is ever committed; those on the way are not signed.
        after = replace(head, size=min(before.size + COPIED, head.size))
        new.append(writing, before, after, *old.part(reading, before.size, after.size))
        before = after
    return head


def has_begun(engine: Engine) -> bool:
    """Whether a database holds a log with an entry in it.

    Raises:
        FatalError: LOG_UNAVAILABLE: it cannot be read, or what should keep the log there is not as it was made.
    """
    backend = backend_of(engine)
    try:
        with backend.reading.connect() as connection:
            if backend.logs(connection):
                return True
            backend.check(connection)
            head = backend.head(connection)
    except ERRORS as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"the log cannot be read: {cause_of(error)}") from error
    return head is not None and head.size > 0


def check_copy(path: Path, signer: Signer, verifier: CertificateVerifier, seen: Sequence[Seen] = ()) -> Head:
    """As `check_log`, of a copied file.

    Raises:
        FatalError: LOG_UNAVAILABLE: something does not hold, or somebody has seen more.
    """
    engine = open_sqlite(path)
    try:
        return check_log(engine, signer, verifier, seen)
    finally:
        engine.dispose()


def check_log(engine: Engine, signer: Signer, verifier: CertificateVerifier, seen: Sequence[Seen] = ()) -> Head:
    """The head of a copy, once every entry, every tile and its checkpoint hold, and it extends what was seen.

    Args:
        engine: Of the copied store.
        signer: Whose log it must be.
        verifier: Of this city's certificates, with no deny-list: a log whose key was revoked must still be restored.
        seen: What others have seen of this log.

    Raises:
        FatalError: LOG_UNAVAILABLE: something does not hold, or somebody has seen more.
    """
    log = YearlyLog(engine, signer, verifier=verifier)
    try:
        log.open()
        head = log.verify_all()
        for one in seen:
            _check_extends(log, one)
    finally:
        log.close()
    return head


def _check_extends(log: YearlyLog, seen: Seen) -> None:
    known = seen.checkpoint
    if log_of(known.origin) != log.log:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{seen.who} remembers another log: {known.origin}")
    ended = {origin_of(log.log, one.year): one for one in log.ended}
    head = ended[known.origin].head if known.origin in ended else log.newest
    if year_of(known.origin) > year_of(log.origin) or known.size > head.size:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"this copy has {head.size} entries, but {seen.who} has seen {known.size}"
            + (f" of {known.origin}" if year_of(known.origin) else "")
            + ": it must not be signed over. Restore a newer backup, or the store's own file if its disk can still be "
            "read. If what is missing is lost for good, the log has ended: begin its successor under another name "
            "(docs/backup.md)",
        )
    if known.origin not in {log.origin, *ended}:
        raise FatalError(
            Reason.LOG_UNAVAILABLE, f"{seen.who} has seen {known.origin}, of which this copy knows nothing"
        )
    if known.origin in ended and ended[known.origin].removal is not None:
        extends = known.size < head.size or known.root == head.root
    else:
        extends = not known.size or tiles.root(known.size, log.shard(known.origin).node) == known.root
    if not extends:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"this copy does not extend the {known.size} entries that {seen.who} has seen: somebody signed another "
            "history. Keep both for the audit office; nothing is restored",
        )


def check_newest(
    head: Head, seen: Sequence[Seen], guard: Path, signer: Signer, *, accept_fewer: bool = False
) -> Restored:
    """What is known of a copy that extends what was seen, once that is enough to sign on from it.

    A guard is enough, also an empty one, which an operator made on purpose. Without it nobody can prove that nothing
    more was seen; but that all who were asked have seen less than the copy holds says that they are not those who have
    seen most, and a person has to decide. A note that is not signed by a key of this log can only refuse a copy
    (`check_copy`), and counts for nothing here.

    Args:
        head: Of the copy, from `check_copy` with the same `seen`.
        seen: From `what_was_seen`.
        guard: Where the process keeps its guard.
        signer: Who goes on with the log.
        accept_fewer: A person has decided to go on although nobody asked has seen all of the copy.

    Raises:
        FatalError: LOG_UNAVAILABLE: nobody who was asked has seen all of the copy.
    """
    keys = {signer.public_key_raw, _key(head.certificate)}
    origin = Checkpoint.parse(split_note(head.checkpoint)[0]).origin
    # What somebody saw of an earlier year is less than any of this one.
    ours = (one for one in seen if one.checkpoint.origin == origin)
    newest = max((one.checkpoint.size for one in ours if _is_signed(one, keys)), default=0)
    if newest < head.size and not guard.exists() and not accept_fewer:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"newest seen {newest} of {head.size} entries: there is no guard, and nobody who was asked has seen all of "
            "this copy, so somebody else may have seen more. Name with --seen the files of further agents, hubs "
            "and auditors; if these are all that there are, restore with --yes",
        )
    return Restored(head.size, newest)


def _is_signed(seen: Seen, keys: Collection[bytes]) -> bool:
    """Whether a note is signed by one of these keys; what is no note has no signature to be wrong."""
    if not seen.note:
        return True
    for key in keys:
        try:
            open_note(seen.note, seen.checkpoint.origin, key)
        except CheckpointError:
            continue
        return True
    return False


def _key(certificate: bytes) -> bytes:
    """The key of a head's certificate, which was verified with the copy."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""


def check_no_guard(guard: Path) -> None:
    """A log is about to begin here.

    Raises:
        FatalError: LOG_UNAVAILABLE: the guard of another log is there.
    """
    Guard(guard, lambda: b"").check_vacant()


def what_was_seen(guard: Path, files: Sequence[Path], origin: str) -> list[Seen]:
    """What guard and others have seen of a log.

    Args:
        guard: Where the process keeps its guard. One that an operator left empty on purpose remembers nothing.
        files: Of others who remember: a guard, an auditor's memory, an agent's `heads.json`, a hub's `owner_logs/…`.
        origin: Of the log.

    Raises:
        FatalError: LOG_UNAVAILABLE: nobody says anything, or a file cannot be read or says nothing of this log.
    """
    seen = [one for file in files for one in _seen_by(file, origin)]
    if guard.exists():
        remembered = Guard(guard, lambda: b"").read()
        return seen if remembered is None else [Seen("its guard", remembered), *seen]
    if not seen:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"there is no guard at {guard}, so nothing tells whether this copy is the newest. Bring the guard back; or "
            "say with --seen what others have seen of this log: an auditor's memory, an agent's heads.json, "
            "the hub's file in owner_logs",
        )
    return seen


def _seen_by(file: Path, origin: str) -> Iterator[Seen]:
    try:
        data = file.read_bytes()
        found = list(checkpoints_in(data))
    except OSError as error:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, CheckpointError):
        raise FatalError(
            Reason.LOG_UNAVAILABLE, f"{file} is neither a checkpoint nor a file in which somebody remembers logs"
        ) from None
    ours = [checkpoint for checkpoint in found if log_of(checkpoint.origin) == origin]
    note = b"" if is_memory(data) else data
    if not ours:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{file} says nothing of the log {origin}")
    for checkpoint in ours:
        yield Seen(file.name, checkpoint, note)


def restore_guard(path: Path, head: Head) -> None:
    """Make the guard of a restored log, unless it is there. Call this last: without it nothing starts.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        Guard(path, lambda: head.checkpoint).write()


@contextmanager
def predecessor(
    path: Path, origin: str, signer: Signer, verifier: CertificateVerifier
) -> Iterator[tuple[Head, Connection]]:
    """A copy of the log that another one succeeds: its verified head, and a connection to take over what must be.

    Args:
        path: The copied store.
        origin: Its name, as its backup says.
        signer: Who keeps the new log.
        verifier: Of this city's certificates, with no deny-list.

    Raises:
        FatalError: LOG_UNAVAILABLE: it does not hold, or is not a log that this one can succeed.
    """
    own = signer.identity.log_origin
    if origin == own:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"a log never begins anew under its own name, {own}: who has seen the old one would refuse it. Request "
            "certificates under another name, and make the successor with them",
        )
    if origin.rpartition("/")[0] != own.rpartition("/")[0]:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{own} cannot succeed {origin}: they are not of one kind and place")
    engine = open_sqlite(path)
    try:
        with reading(engine).connect() as connection:
            ended = backend_of(engine).logs(connection)
        year = ended[-1].successor if ended else FIRST
        reader = LogReader(engine, shards.tables_of(year))
        origin = origin_of(origin, year)
        with reading(engine).connect() as connection:
            head, _ = reader.load(connection, origin, signer, verifier)
            reader.verify_all(origin, lambda _done, _size: None)
            yield head, connection
    finally:
        engine.dispose()
