"""The adapter's store: the owner's log, the ledger, the replies that were given and the index, in one place.

That is an SQLite file, or a PostgreSQL database that replicas on several hosts share. Made once, by `zhiwang adapter
init`; a start never makes one. Who is trusted with what: it holds header fields of requests, keyed hashes and sealed
replies, but no identifier, name or value; with the key files beside it, whoever has both can test whether somebody was
asked about. Whoever can write the file can destroy the log, but not rewrite it unnoticed; of a database that is true of
its administrator, while the adapter's account can only append to the log (`adapters.postgres_store`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Engine

from adapters import ledger, replay, trace
from adapters.config import StateFiles
from adapters.delays import DELAY_SCHEMA
from adapters.postgres_store import STORE
from adapters.rows import in_file, write
from adapters.store_keys import indexed, match_all, open_key, trace_key, trace_years
from audit.backend import backend_of
from audit.entry import decode_entry
from audit.guard import Guard
from audit.origins import year_at
from audit.places import open_place
from audit.postgres_check import check_part
from audit.schema import TABLES
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier, Signer
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.profile import LogDatabase

ROWS: Final = {
    "guess": ("scope", "value", "at"),
    "replay": ("key", "hash", "entry", "nonce", "ciphertext", "expires"),
    "trace": ("year", "subject", "entry", "part", "refused"),
    "delay": ("entry",),
}
"""Tables whose rows belong to a copy of the store, with their columns; beside them there is the horizon."""

_COPIED: Final = 5000
_SCRIPT: Final = "An administrator runs, in an empty database, the script that `zhiwang adapter init --sql` prints"


def create_store(
    state: StateFiles,
    signer: Signer,
    *,
    database: LogDatabase | None = None,
    verifier: CertificateVerifier | None = None,
    clock: Callable[[], float] = time.time,
    predecessor: bytes = b"",
) -> YearlyLog:
    """Make directories and store, with the log's first entry, and the keys of ledger and index unless they are there.

    Args:
        state: Where.
        signer: Who keeps the log.
        database: Where the store stands, if not there; its administrator has made the tables.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
        predecessor: Checkpoint of the lost log that this one succeeds, if it does.

    Raises:
        FatalError: LOG_UNAVAILABLE: there is a store.
    """
    state.make()
    engine = open_place(state.store, database, create=True)
    log = YearlyLog(engine, signer, clock, guard=state.guard, verifier=verifier)
    try:
        check_tables(engine)
        log.create(predecessor=predecessor)
        open_key(state.ledger_key, create=True)
        if database is not None:
            # The first; from it every replica makes those of later years.
            trace_key(state.keys, year_at(clock()), apart=False)
        with log.transaction() as connection:
            if database is None:
                _make_tables(connection)
            else:
                match_all(connection, state.keys)
    except BaseException:
        engine.dispose()
        raise
    return log


def join_store(
    state: StateFiles,
    signer: Signer,
    *,
    database: LogDatabase | None = None,
    verifier: CertificateVerifier | None = None,
) -> None:
    """Make the directories of a further replica, and its guard from the log as it stands.

    Raises:
        FatalError: LOG_UNAVAILABLE: the other replica's store is not there or does not hold together, its keys are not
            here, or this one has a guard already.
    """
    state.make()
    if database is not None and not state.ledger_key.is_file():
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"the store's keys are not in {state.keys}. Copy that directory from the state of a replica that runs, its "
            "files closed to others (0600), or name that state as adapter.store if it is on this host; then join again",
        )
    log = open_store(state, signer, database=database, verifier=verifier, guarded=False)
    try:
        head = log.newest
        guard = Guard(state.guard, lambda: head.checkpoint)
        if guard.exists():
            raise FatalError(Reason.LOG_UNAVAILABLE, f"{state.guard} is the guard of a replica that was made before")
        guard.write()
    finally:
        log.close()
        log.engine.dispose()


def open_store(
    state: StateFiles,
    signer: Signer,
    *,
    database: LogDatabase | None = None,
    verifier: CertificateVerifier | None = None,
    clock: Callable[[], float] = time.time,
    guarded: bool = True,
) -> YearlyLog:
    """Open the store, check its log, and bring tables that an older release made up to date. Blocks.

    Args:
        state: Where.
        signer: Who keeps the log.
        database: Where the store stands, if not there.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
        guarded: Whether the guard is there and goes on with the log.

    Raises:
        FatalError: LOG_UNAVAILABLE: it is not there, or does not hold together.
    """
    engine = open_place(state.store, database)
    log = YearlyLog(engine, signer, clock, guard=state.guard if guarded else None, verifier=verifier)
    try:
        head = log.open()
        check_tables(engine)
        # An older release kept no horizon. It forgot nothing later than in the transaction of its newest entry.
        newest = decode_entry(log.shard().entries(head.size - 1, 1)[0]).time
        with log.transaction() as connection:
            if database is None:
                replay.begin_horizon(connection, newest.seconds + 1)
                trace.upgrade(connection)
                connection.exec_driver_sql(DELAY_SCHEMA)
            else:
                _match_keys(connection, state, year_at(clock()))
    except BaseException:
        log.close()
        engine.dispose()
        raise
    return log


def _make_tables(connection: Connection) -> None:
    for statement in (*ledger.SCHEMA, *trace.SCHEMA, *replay.SCHEMA, DELAY_SCHEMA):
        connection.exec_driver_sql(statement)
    replay.begin_horizon(connection, 0)


def _match_keys(connection: Connection, state: StateFiles, year: int) -> None:
    try:
        # Where nobody has indexed anybody yet, as in a store that was a file, this replica has the first key.
        trace_key(state.keys, year, apart=bool(trace_years(state.keys)) or indexed(connection))
        match_all(connection, state.keys)
    except (OSError, ValueError) as error:
        raise FatalError(
            Reason.LOG_UNAVAILABLE,
            f"the keys in {state.keys} cannot be read ({type(error).__name__}), or those of the index are missing: "
            "copy them from the state of a replica that runs",
        ) from None


def check_tables(engine: Engine) -> None:
    """See that the adapter's own tables in PostgreSQL are as its administrator's script makes them.

    Raises:
        FatalError: LOG_UNAVAILABLE: they are not; says what.
    """
    if not in_file(engine):
        with backend_of(engine).reading.connect() as connection:
            check_own(connection)


def check_own(connection: Connection) -> None:
    """As `check_tables`, in a transaction."""
    check_part(connection, STORE, TABLES, _SCRIPT)


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


def copy_rows(reading: Connection, writing: Connection) -> None:
    """Copy what stands beside the log from one store into another, in the transactions in which the log is copied.

    Args:
        reading: Of the one.
        writing: Of the other, which is a file whose tables are made here, or a database whose tables are empty.
    """
    if in_file(writing):
        _make_tables(writing)
    for table, columns in ROWS.items():
        names = ", ".join(columns)
        rows = reading.exec_driver_sql(
            f"SELECT {names} FROM {table}",  # noqa: S608 - names of this module
            execution_options={"stream_results": True},
        )
        insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - the same
        while batch := rows.fetchmany(_COPIED):
            write(writing, insert, batch)
    replay.raise_horizon(writing, replay.horizon(reading))
