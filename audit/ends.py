"""Whether what stands of logs that have ended can be believed: how each of them ended, and that its entries may go.

It is a row for each, which stays for ever (`audit.shards`). In PostgreSQL the account of a hub writes it, so whoever
has stolen that can write one too, and a superuser can change it. So each is held against what is signed: the newest
log's first entry names the final checkpoint of the one before it, whose own first entry stands in the row, proved under
that checkpoint; and so on. A removal is believed where the log says it, in an entry of a later year that is still kept.

Pure: rows and bytes of entries are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from audit.checkpoint import Checkpoint, CheckpointError, open_note
from audit.entry import EntryError, decode_entry
from audit.origins import log_of, origin_of, year_of
from audit.proofs import check_entry
from audit.shards import Ended
from audit.years import predecessor_of
from certs.signing import MALFORMED, subject_of
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError

FOR_AUDITORS: Final = "Keep store and guard for the audit office and restore the newest copy. Nothing is appended"


def check_known(log: str, ended: Sequence[Ended], newest: int, who: str, seen: Checkpoint) -> None:
    """Check that the store has not forgotten a year that somebody has seen, and that it ended no earlier.

    Args:
        log: The identity's `log_origin`.
        ended: The logs that have ended.
        newest: Year of the newest log, which has to extend what was seen of it by itself.
        who: Has seen it.
        seen: Of one of the logs.

    Raises:
        FatalError: LOG_UNAVAILABLE: it was rolled back, or is another one.
    """
    year, origin = year_of(seen.origin), seen.origin
    final = next((one.head for one in ended if one.year == year), None)
    if log_of(origin) != log:
        raise FatalError(Reason.LOG_UNAVAILABLE, f"{who} is of another log: {origin}. Bring this log's own guard back")
    if year > newest:
        raise broken(
            f"the log ends with {origin_of(log, newest)}, but {who} has seen {seen.size} entries of {origin}: it was "
            "rolled back to before that year began"
        )
    if year != newest and final is None:
        raise broken(f"{who} has seen {origin}, of which the store knows nothing")
    if final is not None and (seen.size > final.size or (seen.size == final.size and seen.root != final.root)):
        raise broken(f"{origin} ended with {final.size} entries, but {who} has seen {seen.size}, or others")


def check_ends(log: str, ended: Sequence[Ended], opened: audit_pb2.Entry) -> None:
    """Check how each log ended, and that the next one goes on from there; whether its entries are kept or not.

    Args:
        log: The identity's `log_origin`.
        ended: The logs that have ended, the oldest first.
        opened: First entry of the newest log, proved.

    Raises:
        FatalError: LOG_UNAVAILABLE: something does not hold.
    """
    later = opened
    for one in reversed(ended):
        origin = origin_of(log, one.year)
        final = Checkpoint(origin, one.head.size, one.head.root)
        try:
            named = predecessor_of(later, 0, origin_of(log, one.successor))
            if named != final or later.log_opened.predecessor != one.head.checkpoint:
                raise broken(f"the log after {origin} goes on from another end of it")
            _check_signed(one, final, log)
            logged = audit_pb2.LoggedEntry.FromString(one.opened)
            later = check_entry(logged, final)
        except RefusedError as error:
            raise broken(f"how {origin} ended does not hold: {error.detail}") from error
        except (CheckpointError, DecodeError, *MALFORMED) as error:
            raise broken(f"how a year ended cannot be read, or is not signed by its key: {origin}") from error
        if logged.index != 0 or later.log_opened.origin != origin:
            raise broken(f"what stands there as the first entry of {origin} is another one")


def _check_signed(one: Ended, final: Checkpoint, log: str) -> None:
    """Its certificate is of the key that signed the end, and of this identity.

    Who issued it is not asked: that the end is this one says the newest log, and authorities do not last for ever.
    """
    certificate = x509.load_der_x509_certificate(one.head.certificate)
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey) or subject_of(certificate).log_origin != log:
        raise CheckpointError("the certificate is of another key or identity")
    open_note(one.head.checkpoint, final.origin, key.public_bytes_raw())


def check_removals(
    log: str,
    ended: Sequence[Ended],
    entry: Callable[[int, int], bytes | None],
    empty: Callable[[int], bool],
) -> None:
    """Check that the log says of each year whose entries are gone, or to go, that they are.

    The year that says it is a later one. Once that is gone itself, what it said went before it, or it would be kept
    (`audit.retention`): so where there are entries that are to go it can be looked up. Where there are none any more, a
    copy of the log was restored (`Backend.end_without_entries`), and nothing can be lost.

    Args:
        log: The identity's `log_origin`.
        ended: The logs that have ended.
        entry: The bytes of an entry of a log that is kept, by year and index; None if there is none.
        empty: Whether no entries of a year stand there, which is not known to be gone.

    Raises:
        FatalError: LOG_UNAVAILABLE: it does not.
    """
    gone = {one.year for one in ended if one.removal is not None}
    for one in ended:
        removal, origin = one.removal, origin_of(log, one.year)
        if removal is None:
            continue
        if one.year < removal.year and removal.year in gone and (removal.done or empty(one.year)):
            continue
        data = None if removal.year in gone or removal.year <= one.year else entry(removal.year, removal.index)
        try:
            said = audit_pb2.ShardRemoved() if data is None else decode_entry(data).shard_removed
        except EntryError as error:
            raise broken(f"where the log should say that the entries of {origin} may go stands no entry") from error
        if (said.origin, said.size, said.root) != (origin, one.head.size, one.head.root):
            raise broken(f"the entries of {origin} are gone or to go, and the log does not say so")


def broken(what: str) -> FatalError:
    """What is stored of several years does not hold."""
    return FatalError(Reason.LOG_UNAVAILABLE, f"{what}. {FOR_AUDITORS}")
