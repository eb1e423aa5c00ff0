"""Where a hub's log stands, an SQLite file of its own or a PostgreSQL database that it may share, and how it begins.

Made once, by `zhiwang hub init`; a start never makes one.
"""

from __future__ import annotations

from sqlalchemy import Engine

from audit.guard import Guard
from audit.places import open_place, using
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from exchange.config import StateFiles
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.profile import LogDatabase


def open_engine(state: StateFiles, database: LogDatabase | None, *, create: bool = False) -> Engine:
    """The engine of a hub's log; the file is made if `create`, a database never is.

    Raises:
        FatalError: LOG_UNAVAILABLE, with what to do.
    """
    return open_place(state.log, database, create=create)


def open_log(
    files: IdentityFiles,
    state: StateFiles,
    database: LogDatabase | None = None,
    *,
    create: bool = False,
    predecessor: bytes = b"",
) -> YearlyLog:
    """The hub's log; made if `create`, else opened and checked. Blocks.

    Args:
        files: The hub's certificates.
        state: Where it lies.
        database: Where it stands instead, if not there.
        create: Make it.
        predecessor: Checkpoint of the lost log that a new one succeeds.

    Raises:
        FatalError: LOG_UNAVAILABLE, with what to do.
    """
    engine = open_engine(state, database, create=create)
    store = YearlyLog(engine, files.signer(), guard=state.guard, verifier=lenient(files))
    try:
        if create:
            store.create(predecessor=predecessor)
        else:
            store.open()
    except BaseException:
        engine.dispose()
        raise
    return store


def join_log(files: IdentityFiles, state: StateFiles, database: LogDatabase | None) -> None:
    """Make the guard of a further hub from the log that others keep already.

    Raises:
        FatalError: LOG_UNAVAILABLE: the log does not hold together, or this hub has a guard already.
    """
    if database is None:
        raise FatalError(
            Reason.LOG_UNAVAILABLE, "a log in the state directory belongs to one hub; name the shared one in [log]"
        )
    with using(open_engine(state, database)) as engine:
        log = YearlyLog(engine, files.signer(), verifier=lenient(files))
        head = log.open()
        guard = Guard(state.guard, lambda: head.checkpoint)
        guard.check_vacant()
        guard.write()
        log.close()


def lenient(files: IdentityFiles) -> CertificateVerifier:
    """Verifies with no deny-list: a log whose former key was revoked must still be opened."""
    return CertificateVerifier(files.ca_pem, frozenset)
