"""The logs of one identity, year after year, as one: who appends stands in the newest, who reads finds all of them.

When the year of the log's clock is over, the log of the new year begins before anything else is appended: in one
transaction its tables, its first entry with the old log's final checkpoint, its first head, and the end of the old log,
to which nothing is ever appended again. A crash leaves either the one or the other. The clock can bring a new year and
never an old one back. Several processes of one store go on together: whoever is first makes the new log, the others
find it in their next transaction, and always inside it, so nobody stands in one log while another writes to the next.

Each log is a `LogStore` of its own, and what is said of it stays said: heads and proofs of an old one come from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError
from sqlalchemy import Connection, Engine

from audit import shards
from audit.appended import Appended, Head, NewEntry
from audit.checkpoint import Checkpoint
from audit.database import Backend
from audit.doubts import Doubt, Doubts
from audit.ends import broken, check_ends, check_known, check_removals
from audit.entry import Event, decode_entry
from audit.guard import Guard
from audit.holds import HoldBook
from audit.linking import add_link
from audit.origins import FIRST, end_of, origin_of, position, year_and_index, year_at, year_of
from audit.proofs import check_entry
from audit.shards import Ended
from audit.store import LogStore
from audit.trouble import ERRORS, trouble
from certs.signing import CertificateVerifier, Signer
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError

PREPARE_SECONDS: Final = 86_400
"""How long before a year is over the log is read for what the next one has to begin with."""

NOTICE_SECONDS: Final = 31 * 86_400
"""How long before a year is over it is looked whether the next one's log can begin."""

RETRY_SECONDS: Final = 3600
"""After how long that is looked at again, and a new year is tried again that could not begin."""

_log = structlog.get_logger(__name__)


class YearlyLog:
    """All logs of one identity in one database. Call `create` or `open` first, or begin with `adopt`.

    Args:
        engine: As for `LogStore`.
        signer: Whose logs they are; may be replaced at any time by a renewed one of the same identity.
        clock: Seconds since the epoch.
        guard: Where this process keeps the newest checkpoint; best on other storage. None for no guard.
        verifier: As for `LogStore`.

    Attributes:
        unprepared: Why the next year's log could not begin, as far as that was looked at; None if it could. What is
            appended in the new year then stands in the old log.
    """

    def __init__(
        self,
        engine: Engine,
        signer: Signer,
        clock: Callable[[], float] = time.time,
        *,
        guard: Path | None = None,
        verifier: CertificateVerifier | None = None,
    ) -> None:
        self.engine = engine
        self.log = signer.identity.log_origin
        self._signer = signer
        self._clock = clock
        self._verifier = verifier
        self._guard = Guard(guard, lambda: self.newest.checkpoint) if guard is not None else None
        self._stores: dict[int, LogStore] = {}
        # Replaced whole, and only inside a write transaction; readers take the reference.
        self._current = self._store(FIRST)
        self._backend = self._current.backend
        self._ended: tuple[Ended, ...] = ()
        self._removals = 0
        self._ends = float("inf")
        self._looked = float("-inf")
        self._refused = float("-inf")
        self.unprepared: str | None = None
        self._book = HoldBook(self)
        self._doubts = Doubts()

    @classmethod
    def adopt(cls, store: LogStore | YearlyLog) -> YearlyLog:
        """Go on with the first log of a store, which is open; what goes on already is returned as it is."""
        if isinstance(store, YearlyLog):
            return store
        log = cls(store.engine, store.signer, store.clock, verifier=store.verifier)
        log._guard, log._current = store.guard, store
        log._stores = {FIRST: store}
        with store.backend.writing() as connection:
            store.backend.install_years(connection)
        log._set_end()
        return log

    def _store(self, year: int) -> LogStore:
        """The log of a year; the same object each time, since it remembers what was seen."""
        if year not in self._stores:
            self._stores[year] = self._new_store(year)
        return self._stores[year]

    def _new_store(self, year: int) -> LogStore:
        return LogStore(
            self.engine,
            origin_of(self.log, year),
            self._signer,
            self._clock,
            verifier=self._verifier,
            tables=shards.tables_of(year),
        )

    @property
    def reading(self) -> Engine:
        """The engine for transactions that only read, each in one snapshot."""
        return self._backend.reading

    @property
    def backend(self) -> Backend:
        """The database that all of them stand in."""
        return self._backend

    # What is the newest log's.

    @property
    def signer(self) -> Signer:
        """Who signs the next checkpoint."""
        return self._signer

    @signer.setter
    def signer(self, signer: Signer) -> None:
        for store in list(self._stores.values()):
            store.signer = signer
        self._signer = signer

    @property
    def origin(self) -> str:
        """Of the newest log."""
        return self._current.origin

    @property
    def newest(self) -> Head:
        """The newest head that this process knows to be committed."""
        return self._current.newest

    @property
    def stopped(self) -> str | None:
        """Why nothing can be appended; None if it can."""
        return self._current.stopped

    @property
    def healthy(self) -> bool:
        """Whether the log can be appended to and guarded."""
        return self._current.healthy

    def new_entry(self, event: Event, *, at: float | None = None) -> NewEntry:
        """As `LogStore.new_entry`."""
        return self._current.new_entry(event, at=at)

    def stop(self, error: BaseException) -> FatalError:
        """Refuse everything until `open` succeeds. Returns the error to raise."""
        return self._current.stop(error)

    # Coming into being, and back.

    def create(self, *, predecessor: bytes = b"") -> Head:
        """Make the first log; as `LogStore.create`."""
        first = self._current
        first.guard = self._guard
        head = first.create(predecessor=predecessor)
        with first.transaction() as connection:
            self._backend.install_years(connection)
        self._set_end()
        return head

    def open(self, guarded: Checkpoint | None = None) -> Head:
        """Check what is stored, every log of it and how one goes on from the other, and go on; also after `stopped`.

        Args:
            guarded: What the guard of another process remembers of this store.

        Raises:
            FatalError: LOG_UNAVAILABLE: something does not hold. Nothing is appended.
        """
        failed = self.stopped is not None and self.newest.size > 0
        try:
            if self._guard is not None:
                guarded = self._guard.read()
            self._backend.renew(failed=failed)
            with self._backend.writing() as connection:
                self._load(connection, guarded)
                self._settle(connection)
            if self._guard is not None:
                self._guard.start()
                self._guard.wake()
        except (*ERRORS, FatalError) as error:
            raise self._current.stop(error) from error
        return self.newest

    def _load(self, connection: Connection, guarded: Checkpoint | None) -> None:
        try:
            self._take_up(connection, guarded)
        except (DecodeError, ValueError) as error:
            raise broken(f"how a year ended cannot be read: {type(error).__name__}") from error

    def _settle(self, connection: Connection) -> None:
        """Look up what was in doubt; no other transaction can still bring it in, since this one holds the head."""

        def find(doubt: Doubt) -> dict[bytes, int]:
            store = self._store(year_of(doubt.origin))
            return store.find(connection, doubt.keys, doubt.first) if store.newest.size > doubt.first else {}

        self._doubts.settle(find)

    def _take_up(self, connection: Connection, guarded: Checkpoint | None) -> None:
        self._backend.install_years(connection)
        ended = self._backend.check_years(connection, self.log)
        newest = ended[-1].successor if ended else FIRST
        self._check_years(ended, newest, guarded)
        for one in ended:
            if one.removal is None:
                store = self._store(one.year)
                final = store.take_up(connection, _of(guarded, store.origin), ended=True)
                if final != one.head:
                    raise broken(f"the log {store.origin} is not the one that ended with {one.head.size} entries")
        current = self._store(newest)
        current.take_up(connection, _of(guarded, current.origin))
        if current.backend.has_ended(connection):
            # Another process ended it after we had read which log is the newest; now we hold its head.
            self._take_up(connection, guarded)
            return
        self._enter(current, ended)
        self._check_removals(ended)

    def _check_years(self, ended: Sequence[Ended], newest: int, guarded: Checkpoint | None) -> None:
        """Neither this process nor its guard has seen a later year, or another end of an earlier one."""
        for store in [store for store in self._stores.values() if store.newest.size]:
            seen = Checkpoint(store.origin, store.newest.size, store.newest.root)
            check_known(self.log, ended, newest, "this process", seen)
        if guarded is not None:
            check_known(self.log, ended, newest, "its guard", guarded)

    def _enter(self, store: LogStore, ended: Sequence[Ended]) -> None:
        """Stand in the newest log, inside a write transaction."""
        if ended:
            self._check_chain(store, ended)
        self._ended = tuple(ended)
        self._removals = sum(1 + one.removal.done for one in ended if one.removal is not None)
        if self._current is not store:
            self._current.guard, store.guard = None, self._guard
            self._current = store
            self.unprepared, self._looked = None, float("-inf")
        elif store.guard is not self._guard:
            store.guard = self._guard
        self._set_end()

    def _check_chain(self, store: LogStore, ended: Sequence[Ended]) -> None:
        """The newest log's first entry names the end of the one before it, and so on back to the first."""
        (first,) = store.logged([0], store.newest.size)
        try:
            opened = check_entry(first, Checkpoint(store.origin, store.newest.size, store.newest.root))
        except RefusedError as error:
            raise broken(error.detail) from error
        check_ends(self.log, ended, opened)

    def _check_removals(self, ended: Sequence[Ended]) -> None:
        """What is gone, or to go, the log says, unless the year that did is gone itself."""
        newest = ended[-1].successor if ended else FIRST
        known = {*(one.year for one in ended if one.removal is None), newest}

        def entry(year: int, index: int) -> bytes | None:
            return next(iter(self._store(year).entries(index, 1)), None) if year in known else None

        def empty(year: int) -> bool:
            with self.reading.connect() as connection:
                return self._store(year).backend.is_empty(connection)

        check_removals(self.log, ended, entry, empty)

    def _set_end(self) -> None:
        """Until when the newest log is appended to. The first is of the year in which it was made."""
        year = year_of(self._current.origin)
        if year == FIRST:
            try:
                (first,) = self._current.entries(0, 1)
            except ERRORS as error:
                raise self.stop(error) from error
            year = year_at(decode_entry(first).time.seconds)
        self._ends = end_of(year)

    def close(self) -> None:
        """Write the guard and end its thread. The engine is the caller's."""
        for store in self._stores.values():
            store.close()

    # Appending, and from one year to the next.

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `LogStore.transaction`, in the log of the year. If that has not begun, it begins first."""
        if self._is_over:
            self.roll()
        with self._turn() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[Connection]:
        """A write transaction that stands in the newest log, whichever process made it."""
        begun = self._current
        try:
            with begun.transaction() as connection:
                self._go_on(connection)
                yield connection
        except FatalError as error:
            if self._current is not begun:
                raise self._current.stop(error) from error
            raise

    def _go_on(self, connection: Connection) -> None:
        """Go on to the newest log if the one we stand in has ended; inside a write transaction."""
        if self._current.backend.has_ended(connection):
            self._load(connection, None)
            _log.info("the log goes on in a new year", origin=self.origin, size=self.newest.size)

    def prepare(self) -> None:
        """See whether the next log can begin, and read what it has to begin with, so that nobody waits for it.

        Blocks, and reads the whole log once.

        Raises:
            FatalError: LOG_UNAVAILABLE.
            RefusedError: An entry says a hold that is none.
        """
        now = self._clock()
        if now >= self._ends - NOTICE_SECONDS and not self._looked <= now < self._looked + RETRY_SECONDS:
            self._looked = now
            self._look_for_room(max(year_at(self._ends), year_at(now)))
        if now >= self._ends - PREPARE_SECONDS:
            self._read_holds()

    @property
    def _is_over(self) -> bool:
        """Whether the newest log's year is over. Beyond the signing certificate no clock is believed.

        For a while after no new one could begin it is not: it is tried again then, and at once if the clock goes back.
        """
        now = self._clock()
        return self._ends <= now <= self._signer.expires and not self._refused <= now < self._refused + RETRY_SECONDS

    def roll(self) -> None:
        """Begin the log of this year, unless the one we stand in is of it.

        Raises:
            FatalError: LOG_UNAVAILABLE: the store failed; either log is whole.
        """
        try:
            self._read_holds()
        except RefusedError as error:
            # Nothing may begin without what is held; what is appended meanwhile stands in the old log.
            _log.error("no new year begins: a hold cannot be read", origin=self.origin, detail=error.detail)
            self._refused = self._clock()
            return
        year = year_at(self._clock())
        if not self._look_for_room(year):
            # What is to be recorded is not lost for it: it stands in the old log.
            self._refused = self._clock()
            return
        with self._turn() as connection:
            if not self._is_over:
                return
            ended = self._current.end(connection, year)
            # Its memory is thrown away: whoever appends next, here or elsewhere, reads what was committed.
            self._new_store(year).begin(connection, ended.head.checkpoint, self._book.carried(self._clock()))

    def _read_holds(self) -> None:
        """Read the logs for what is held, as far as they were not read yet. If the store fails, the log stops."""
        try:
            self._book.holds_in_force(self._clock())
        except ERRORS as error:
            raise self.stop(error) from error

    def _look_for_room(self, year: int) -> bool:
        """Whether the log of a year can begin; notes why not."""
        try:
            with self.reading.connect() as connection:
                self._new_store(year).backend.check_prepared(connection)
        except ERRORS as error:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"the log's store failed: {trouble(error)}") from error
        except FatalError as error:
            self.unprepared = error.detail
            _log.error("the log of a year has no room", origin=origin_of(self.log, year), detail=error.detail)
            return False
        self.unprepared = None
        return True

    def catch_up(self, connection: Connection) -> Head:
        """As `LogStore.catch_up`; the transaction is from `transaction`."""
        return self._current.catch_up(connection)

    def append(self, connection: Connection, entries: Sequence[NewEntry]) -> Appended:
        """As `LogStore.append`; the transaction is from `transaction`."""
        appended = self._current.append(connection, entries)
        self._doubts.add(Doubt(appended.origin, appended.first, [entry.key for entry in entries]))
        return appended

    def committed(self, appended: Appended) -> None:
        """The transaction of `appended` has been committed."""
        self._stores[year_of(appended.origin)].committed(appended)
        self._doubts.committed(appended)

    def is_recorded(self, entries: Sequence[NewEntry]) -> bool:
        """Whether these entries are known to be in the log, although it stopped before anybody was told.

        Who was told that the log is unavailable and tries again with the same entries asks here first.
        """
        return entries[0].key in self._doubts.settled

    def recorded(self, entries: Sequence[NewEntry]) -> Appended:
        """Those entries, as their first attempt would have returned them. Reads the disk."""
        origin, first = self._doubts.settled[entries[0].key]
        return self.shard(origin).recorded(first, entries)

    def refresh(self) -> Head:
        """The newest head of the store, whichever process wrote it, in whichever year; as `LogStore.refresh`."""
        current = self._current
        current.refresh()
        try:
            with self.reading.connect() as connection:
                over = current.backend.goes_on(connection)
                removals = self._backend.removals(connection)
                ended = self._backend.logs(connection) if removals != self._removals and not over else None
        except (*ERRORS, FatalError) as error:
            raise self.stop(error) from error
        if ended is not None:
            self._let_go(current, ended, removals)
        if over:
            with self._turn():
                pass
        return self.newest

    def _let_go(self, current: LogStore, ended: Sequence[Ended], removals: int) -> None:
        """Read no more of the years that are to go, once the log says so; what else stands of them is unchanged."""
        known = self._ended
        if [one.year for one in ended] != [one.year for one in known]:
            return  # another thread has gone on to a new year, and looked at these too
        try:
            if any(
                replace(one, removal=None) != replace(had, removal=None) for one, had in zip(ended, known, strict=True)
            ):
                raise broken("what stands there of how earlier years ended was changed")
            current.refresh()  # to the entry that says so, which was committed with its row
            self._check_removals(ended)
        except (*ERRORS, FatalError) as error:
            raise self.stop(error) from error
        self._ended, self._removals = tuple(ended), removals

    # Reading.

    @property
    def ended(self) -> tuple[Ended, ...]:
        """The logs of earlier years, the oldest first."""
        return self._ended

    def shard(self, origin: str = "") -> LogStore:
        """The log of an origin, to read in; the newest if it is empty. It is the same log from then on.

        Raises:
            RefusedError: ENTRY_UNKNOWN: there is none, or its entries are no longer kept.
        """
        current = self._current
        if origin in {"", current.origin}:
            return current
        for one in self._ended:
            if origin_of(self.log, one.year) == origin:
                if one.removal is not None:
                    raise RefusedError(Reason.ENTRY_UNKNOWN, f"the entries of {origin} were removed", field="origin")
                return self._store(one.year)
        raise RefusedError(Reason.ENTRY_UNKNOWN, f"there is no log {origin}", field="origin")

    def shards(self) -> list[LogStore]:
        """All logs whose entries are kept, the newest first."""
        current = self._current
        kept = [self._store(one.year) for one in reversed(self._ended) if one.removal is None]
        return [current, *(store for store in kept if store is not current)]

    @property
    def end(self) -> int:
        """Position behind the newest entry that this process knows to be committed."""
        current = self._current
        return position(year_of(current.origin), current.newest.size)

    def end_in(self, fetch: Callable[[str], Sequence[Any]]) -> int:
        """Position behind the newest entry in somebody's snapshot, of the log that this process stands in.

        Args:
            fetch: Gives the rows of a SELECT in that snapshot.
        """
        current = self._current
        ((size,),) = fetch(current.size_query)
        return position(year_of(current.origin), int(size))

    def located(self, at: int) -> tuple[LogStore, int]:
        """The log in which a position is, and the index there.

        Raises:
            RefusedError: ENTRY_UNKNOWN: there is no such log, or its entries are no longer kept.
        """
        year, index = year_and_index(at)
        return self.shard(origin_of(self.log, year)), index

    def entries(self, start: int, count: int) -> list[bytes]:
        """Bytes of committed entries of one log, from a position on; fewer at its end. Reads the disk.

        Raises:
            RefusedError: As `located`.
        """
        store, index = self.located(start)
        return store.entries(index, count)

    def kept(self, at: int) -> bool:
        """Whether the log of a position is still kept."""
        year, _ = year_and_index(at)
        return all(one.year != year or one.removal is None for one in self._ended)

    def head(self, known_tree_size: int = 0, known_origin: str = "", *, disk: bool = True) -> audit_pb2.LogHead:
        """The newest head for a reader that has verified a tree of this log or of an earlier year's.

        Args:
            known_tree_size: Its size.
            known_origin: Of which log; of the newest if it is empty.
            disk: As for `LogStore.frame`.
        """
        if known_origin and known_origin != self.origin and disk:
            self.refresh()
        current = self._current
        if known_origin in {"", current.origin}:
            return current.head(known_tree_size, disk=disk)
        head = current.head(disk=disk)
        add_link(head, current, self._ended, known_tree_size, known_origin, self._store, disk=disk)
        return head

    def shown(self, head: Head, known_tree_size: int = 0, known_origin: str = "") -> audit_pb2.LogHead:
        """A committed head of the newest log, as `head`. Reads the disk."""
        current = self._current
        if known_origin in {"", current.origin}:
            return current.shown(head, known_tree_size)
        shown = current.shown(head)
        add_link(shown, current, self._ended, known_tree_size, known_origin, self._store, disk=True)
        return shown

    def frame(
        self, parts: Sequence[Appended], known_tree_size: int = 0, known_origin: str = "", *, disk: bool = True
    ) -> tuple[audit_pb2.LogHead, list[audit_pb2.LoggedEntry]]:
        """As `LogStore.frame`, over parts of one log: under its final head if it has ended by now.

        Args:
            parts: At least one, all of the same log.
            known_tree_size: What the reader has verified.
            known_origin: Of which log; of that of the parts if it is empty.
            disk: As for `LogStore.frame`.
        """
        store, current = self._stores[year_of(parts[0].origin)], self._current
        ended = store is not current
        if known_origin in {"", store.origin}:
            return store.frame(parts, known_tree_size, disk=disk, newest=ended)
        head, logged = store.frame(parts, disk=disk, newest=ended)
        add_link(head, store, self._ended, known_tree_size, known_origin, self._store, disk=disk)
        return head, logged

    def verify_all(self, progress: Callable[[int, int], None] = lambda _done, _size: None) -> Head:
        """Recompute every log that is kept from its entries; as `LogStore.verify_all`. The newest head."""
        heads = [store.verify_all(progress) for store in self.shards()]
        return heads[0]


def _of(guarded: Checkpoint | None, origin: str) -> Checkpoint | None:
    return guarded if guarded is not None and guarded.origin == origin else None
