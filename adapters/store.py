"""The adapter's store: one SQLite file with the owner's log, the ledger, the replies that were given and the index.

Made once, by `zhiwang adapter init`; a start never makes one. Who is trusted with what: the file holds header fields
of requests, keyed hashes and sealed replies, but no identifier, name or value; with the key files beside it, whoever
has both can test whether somebody was asked about. Whoever can write it can destroy the log, but not rewrite it
unnoticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from adapters import ledger, replay, trace
from adapters.config import StateFiles
from adapters.delays import DELAY_SCHEMA
from adapters.ledger import open_key
from audit.entry import decode_entry
from audit.guard import Guard
from audit.sqlite import open_sqlite
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier, Signer
from zhiwang.wire.errors import FatalError, Reason


def create_store(
    state: StateFiles,
    signer: Signer,
    *,
    verifier: CertificateVerifier | None = None,
    clock: Callable[[], float] = time.time,
    predecessor: bytes = b"",
) -> YearlyLog:
    """Make directories and store, with the log's first entry, and the ledger's key unless it is there.

    Args:
        state: Where.
        signer: Who keeps the log.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
        predecessor: Checkpoint of the lost log that this one succeeds, if it does.

    Raises:
        FatalError: LOG_UNAVAILABLE: there is a store.
    """
    state.make()
    engine = open_sqlite(state.store, create=True)
    log = YearlyLog(engine, signer, clock, guard=state.guard, verifier=verifier)
    try:
        log.create(predecessor=predecessor)
        with log.transaction() as connection:
            for statement in (*ledger.SCHEMA, *trace.SCHEMA, *replay.SCHEMA, DELAY_SCHEMA):
                connection.exec_driver_sql(statement)
            replay.begin_horizon(connection, 0)
        open_key(state.ledger_key, create=True)
    except BaseException:
        engine.dispose()
        raise
    return log


def join_store(state: StateFiles, signer: Signer, *, verifier: CertificateVerifier | None = None) -> None:
    """Make the directories of a further replica, and its guard from the log as it stands.

    Raises:
        FatalError: LOG_UNAVAILABLE: the other replica's store is not there or does not hold together, or this one has
            a guard already.
    """
    state.make()
    engine = open_sqlite(state.store)
    log = YearlyLog(engine, signer, verifier=verifier)
    try:
        head = log.open()
        guard = Guard(state.guard, lambda: head.checkpoint)
        if guard.exists():
            raise FatalError(Reason.LOG_UNAVAILABLE, f"{state.guard} is the guard of a replica that was made before")
        guard.write()
    finally:
        log.close()
        engine.dispose()


def open_store(
    state: StateFiles,
    signer: Signer,
    *,
    verifier: CertificateVerifier | None = None,
    clock: Callable[[], float] = time.time,
) -> YearlyLog:
    """Open the store, check its log, and bring tables that an older release made up to date. Blocks.

    Raises:
        FatalError: LOG_UNAVAILABLE: it is not there, or does not hold together.
    """
    engine = open_sqlite(state.store)
    log = YearlyLog(engine, signer, clock, guard=state.guard, verifier=verifier)
    try:
        head = log.open()
        # An older release kept no horizon. It forgot nothing later than in the transaction of its newest entry.
        newest = decode_entry(log.shard().entries(head.size - 1, 1)[0]).time
        with log.transaction() as connection:
            replay.begin_horizon(connection, newest.seconds + 1)
            trace.upgrade(connection)
            connection.exec_driver_sql(DELAY_SCHEMA)
    except BaseException:
        log.close()
        engine.dispose()
        raise
    return log


def ledger_key(state: StateFiles) -> bytes:
    """The ledger's key.

    Raises:
        FatalError: INTERNAL: it is missing or damaged. Without it every guess would count as new.
    """
    try:
        return open_key(state.ledger_key, create=False)
    except (OSError, ValueError) as error:
        raise FatalError(
            Reason.INTERNAL, f"{state.ledger_key.name} cannot be read ({type(error).__name__}); restore it"
        ) from None
