"""One log in a database: made deliberately, checked when opened, appended to inside a caller's transaction.

`append` writes entries, finished tiles and the newly signed head in the transaction that it is given, so that an
adapter's replay rows, charges and replies stand or fall with them. Several processes may share a log, by its file or by
its PostgreSQL: they take turns (`audit.backend`), and each extends from the head row that it reads inside its
transaction. What a process keeps in memory is a cache of that head's right edge, brought up to date when another
process moved it.

A log that has ended with its year is read here, and never appended to; `audit/yearly.py` goes from one to the next.

Who may touch what: the right edge is owned by whoever is inside a write transaction. Reading proofs of sizes that are
committed needs neither the lock nor, when they are recent, the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, Engine

from audit import checkpoint, tiles
from audit.appended import Appended, Head, NewEntry
from audit.database import Backend
from audit.entry import NONCE_SIZE, Event, encode_entry
from audit.guard import Guard
from audit.origins import log_of
from audit.reader import LogReader
from audit.schema import TABLES, Tables
from audit.shards import Ended
from audit.trouble import ERRORS, trouble
from certs.signing import CertificateVerifier, Signer
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason, RefusedError

KEY_SIZE: Final = 32
FAR_BEHIND: Final = 65_536
"""Entries that other processes may have added before the right edge is loaded anew instead of extended."""

_log = structlog.get_logger(__name__)


class LogStore:
    """A log. Call `create` or `open` before anything else.

    Args:
        engine: From `audit.sqlite.open_sqlite` or `audit.postgres.open_postgres`.
        origin: Name of the log and of its key: the identity's `log_origin`, or that of a later year.
        signer: Signs checkpoints; may be replaced at any time by a renewed one of the same identity.
        clock: Seconds since the epoch.
        guard: Where this process keeps the newest checkpoint; best on other storage. None for no guard.
        verifier: Tells whether a former signing certificate was this city's, when the stored checkpoint was signed by
            another than `signer`. It should consult no deny-list: a revoked key's log must still be opened.
        tables: In which it stands; the names of another log's, where several share a database.
    """

    def __init__(
        self,
        engine: Engine,
        origin: str,
        signer: Signer,
        clock: Callable[[], float] = time.time,
        *,
        guard: Path | None = None,
        verifier: CertificateVerifier | None = None,
        tables: Tables = TABLES,
    ) -> None:
        if signer.identity.log_origin != log_of(origin):
            raise FatalError(Reason.LOG_UNAVAILABLE, f"{signer.identity.short} cannot sign for the log {origin}")
        self.engine = engine
        self.origin = origin
        self.stopped: str | None = "the log is not open"
        self._signer = signer
        self._clock = clock
        self._verifier = verifier
        self._reader = LogReader(engine, tables)
        self._backend = self._reader.backend
        # Owned by whoever is inside a write transaction.
        self._edge = tiles.RightEdge()
        # What is committed for certain. Replaced whole; readers take the reference.
        self._newest = Head(0, merkle.EMPTY_ROOT, b"", b"")
        self._guard = Guard(guard, lambda: self._newest.checkpoint) if guard is not None else None

    @property
    def signer(self) -> Signer:
        """Who signs the next checkpoint."""
        return self._signer

    @signer.setter
    def signer(self, signer: Signer) -> None:
        if signer.identity != self._signer.identity:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"{signer.identity.short} cannot sign for the log {self.origin}")
        self._signer = signer

    @property
    def reading(self) -> Engine:
        """The engine for transactions that only read, each in one snapshot."""
        return self._backend.reading

    @property
    def backend(self) -> Backend:
        """The database that it stands in."""
        return self._backend

    @property
    def size_query(self) -> str:
        """The SELECT of one number that tells how many entries are stored."""
        return self._backend.sql("SELECT size FROM {head}")

    @property
    def entry_query(self) -> str:
        """The SELECT of the bytes of one entry, by its index: for who reads many of them, here and there."""
        return self._backend.sql("SELECT data FROM {entry} WHERE idx = ?")

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since the epoch."""
        return self._clock

    @property
    def verifier(self) -> CertificateVerifier | None:
        """Of the city's certificates, as it was given."""
        return self._verifier

    def shard(self, origin: str = "") -> LogStore:
        """This log; as `YearlyLog.shard`, for who reads either.

        Raises:
            RefusedError: ENTRY_UNKNOWN: another is asked for.
        """
        if origin not in {"", self.origin}:
            raise RefusedError(Reason.ENTRY_UNKNOWN, f"there is no log {origin}", field="origin")
        return self

    @property
    def newest(self) -> Head:
        """The newest head that this process knows to be committed."""
        return self._newest

    @property
    def healthy(self) -> bool:
        """Whether the log can be appended to and guarded."""
        return self.stopped is None and (self._guard is None or self._guard.failure is None)

    # Coming into being, and back.

    def create(self, *, predecessor: bytes = b"") -> Head:
        """Make the log in the engine's database, with LogOpened as its first entry.

        Args:
            predecessor: Checkpoint of the lost log that this one succeeds, if it does.

        Raises:
            FatalError: LOG_UNAVAILABLE: there is a log, or a guard of one.
        """
        if self._guard is not None:
            self._guard.check_vacant()
        self.stopped = None
        with self.transaction() as connection:
            appended = self.begin(connection, predecessor)
        self.committed(appended)
        if self._guard is not None:
            try:
                self._guard.write()
            except OSError as error:
                raise FatalError(
                    Reason.LOG_UNAVAILABLE,
                    f"the log is made, but not its guard {self._guard.path}: {trouble(error)}. Take away what was made "
                    "before",
                ) from error
            self._guard.start()
        return self._newest

    def begin(self, connection: Connection, predecessor: bytes = b"", carried: Sequence[Event] = ()) -> Appended:
        """Make the log inside the caller's write transaction; as `create`, of which it is a part.

        Args:
            connection: In that transaction.
            predecessor: Checkpoint of the log that this one goes on from.
            carried: What else it begins with.
        """
        opened = audit_pb2.LogOpened(origin=self.origin, predecessor=predecessor)
        self.stopped = None
        self._backend.install(connection)
        return self.append(connection, [self.new_entry(event) for event in (opened, *carried)])

    def open(self) -> Head:
        """Check what is stored and go on from there; also after `stopped`.

        The root is recomputed from tiles and leaf hashes, the leaf hashes of the unfinished tile from their entries.
        The stored checkpoint must be signed for this log, and the log must extend the guard.

        Raises:
            FatalError: LOG_UNAVAILABLE: something does not hold. Nothing is appended to such a log.
        """
        failed = self.stopped is not None and self._newest.size > 0
        try:
            guarded = self._guard.read() if self._guard is not None else None
            self._backend.renew(failed=failed)
            # A write transaction, so that no other thread of this process has the edge in hand.
            with self._backend.writing() as connection:
                head = self.take_up(connection, guarded)
            if self._guard is not None:
                self._guard.start()
                self._guard.wake()
        except (*ERRORS, FatalError) as error:
            raise self.stop(error) from error
        return head

    def take_up(
        self, connection: Connection, guarded: checkpoint.Checkpoint | None = None, *, ended: bool = False
    ) -> Head:
        """Check what is stored and go on from there, inside a write transaction; as `open`, of which it is a part.

        Args:
            connection: In a transaction that has written nothing to this log yet.
            guarded: What a guard remembers of it.
            ended: Whether nothing is appended to it any more.
        """
        self._reader.ended = ended
        head, edge = self._reader.load(connection, self.origin, self._signer, self._verifier, lock=True)
        for known in (guarded, self._newest):
            self._check_extends(head, edge, known)
        self._edge, self._newest = edge, head
        self.stopped = None
        return head

    def end(self, connection: Connection, successor: int) -> Ended:
        """Let nothing be appended any more, from this write transaction on. How it ends.

        Args:
            connection: In that transaction.
            successor: Year of the log that goes on from this one.
        """
        self._check_running()
        head = self._catch_up(connection)
        (opened,) = self.logged([0], head.size)
        ended = Ended(self._backend.year, successor, head, opened.SerializeToString())
        self._backend.end(connection, ended)
        return ended

    @property
    def guard(self) -> Guard | None:
        """Where the newest checkpoint is kept. It goes on with the log of the next year."""
        return self._guard

    @guard.setter
    def guard(self, guard: Guard | None) -> None:
        self._guard = guard
        if guard is not None:
            guard.newest = lambda: self._newest.checkpoint

    def close(self) -> None:
        """Write the guard and end its thread. The engine is the caller's."""
        self.stopped = "the log is closed"
        if self._guard is not None:
            self._guard.close()

    def _check_extends(self, head: Head, edge: tiles.RightEdge, known: checkpoint.Checkpoint | Head | None) -> None:
        if known is None or known.size == 0:
            return
        who = "this process"
        if isinstance(known, checkpoint.Checkpoint):
            who = "its guard"
            if known.origin != self.origin:
                raise FatalError(
                    Reason.LOG_UNAVAILABLE,
                    f"the guard is of another log: {known.origin}. Bring this log's own guard back",
                )
        if known.size > head.size:
            raise _rolled_back(head.size, who, known.size)
        if tiles.root(known.size, self._reader.over(edge)) != known.root:
            raise _rewritten(head.size, who, known.size)

    # Appending.

    def new_entry(self, event: Event, *, at: float | None = None) -> NewEntry:
        """An entry for `event` with random nonce and key, at this moment by the log's clock or at `at`."""
        nonce_and_key = os.urandom(NONCE_SIZE + KEY_SIZE)
        data = encode_entry(event, nonce=nonce_and_key[:NONCE_SIZE], time=self._clock() if at is None else at)
        return NewEntry(nonce_and_key[NONCE_SIZE:], data)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction. If the store fails, the log stops until `open` succeeds.

        An error raised by the caller rolls back and passes through; the log goes on.

        Raises:
            FatalError: LOG_UNAVAILABLE: the store failed; whether COMMIT took place is not known.
        """
        self._check_running()
        try:
            with self._backend.writing() as connection:
                yield connection
        except (*ERRORS, FatalError) as error:
            raise self.stop(error) from error

    def stop(self, error: BaseException) -> FatalError:
        """Refuse everything until `open` succeeds. Returns the error to raise."""
        detail = error.detail if isinstance(error, FatalError) else f"the log's store failed: {trouble(error)}"
        if detail != self.stopped:
            _log.error("the log has stopped", origin=self.origin, size=self._newest.size, detail=detail)
        self.stopped = detail
        return FatalError(Reason.LOG_UNAVAILABLE, detail)

    def append(self, connection: Connection, entries: Sequence[NewEntry]) -> Appended:
        """Append inside the caller's write transaction. Call `committed` after its COMMIT and before any answer.

        Args:
            connection: In a write transaction (`transaction`; on SQLite `engine.begin()` as well).
            entries: At least one.

        Raises:
            FatalError: LOG_UNAVAILABLE: the log has stopped, or the stored head does not extend what was seen.
        """
        if not entries:
            raise ValueError("nothing to append")
        self._check_running()
        stored = self._catch_up(connection)
        before, edge = stored.size, self._edge
        leaves = [merkle.leaf_hash(entry.data) for entry in entries]
        edge.extend(leaves)
        rest = tiles.ragged(edge.size, edge.node)
        root = rest[-1] or merkle.EMPTY_ROOT
        signer = self._signer
        note = checkpoint.sign(
            checkpoint.Checkpoint(self.origin, edge.size, root), self.origin, signer.public_key_raw, signer.sign
        )
        head = Head(edge.size, root, note, signer.certificate_der)
        rows = [
            (index, entry.key, leaf, entry.data)
            for index, entry, leaf in zip(range(before, edge.size), entries, leaves, strict=True)
        ]
        finished = [
            (level, index, edge.tile(level, index)) for level, index in tiles.completed_tiles(before, edge.size)
        ]
        self._backend.append(connection, stored, head, rows, finished)
        return Appended(
            before,
            [entry.data for entry in entries],
            leaves,
            tiles.paths(before, len(entries), edge.size, edge.node, rest),
            head,
            self.origin,
        )

    def committed(self, appended: Appended) -> None:
        """The transaction of `appended` has been committed."""
        if appended.head.size > self._newest.size:
            self._newest = appended.head
        if self._guard is not None:
            self._guard.wake()

    def refresh(self) -> Head:
        """The newest head of the store, whichever process wrote it. Reads the disk; takes a write turn if it moved.

        Raises:
            FatalError: LOG_UNAVAILABLE: the stored head does not extend what was seen, or cannot be read.
        """
        self._check_running()
        try:
            if self._reader.position() != (self._newest.size, self._newest.root):
                with self._backend.writing() as connection:
                    self._catch_up(connection)
        except (*ERRORS, FatalError) as error:
            raise self.stop(error) from error
        return self._newest

    def _check_running(self) -> None:
        if self.stopped is not None:
            raise FatalError(Reason.LOG_UNAVAILABLE, self.stopped)

    def _catch_up(self, connection: Connection) -> Head:
        """The stored head, which must extend what is known to be committed; brings the edge to it."""
        head, edge, newest = self._reader.head(connection, lock=True), self._edge, self._newest
        if head.size < newest.size or (head.size == newest.size and head.root != newest.root):
            raise _rolled_back(head.size, "this process", newest.size)
        if head.size != edge.size or (head.size != newest.size and tiles.root(head.size, edge.node) != head.root):
            # Another process moved the head, or our own last transaction was rolled back.
            if head.size - newest.size > FAR_BEHIND:
                edge = self._reader.edge(connection, head.size)
                self._check_extends(head, edge, newest)
            else:
                edge.truncate(newest.size)
                edge.extend(self._reader.leaves(connection, newest.size, head.size))
            if edge.size != head.size or tiles.root(head.size, edge.node) != head.root:
                raise _rewritten(head.size, "this process", newest.size)
        edge.trim()
        self._edge, self._newest = edge, head
        return head

    def catch_up(self, connection: Connection) -> Head:
        """As `refresh`, inside a write transaction: another one would wait for this one until it fails."""
        self._check_running()
        return self._catch_up(connection)

    def find(self, connection: Connection, keys: Sequence[bytes], start: int = 0) -> dict[bytes, int]:
        """Which of these keys are in the log from `start` on, and at what index: after a COMMIT of unknown outcome.

        To be asked once `open` has succeeded: until then a server may still be about to commit.
        """
        return self._reader.find(connection, keys, start)

    def recorded(self, first: int, entries: Sequence[NewEntry]) -> Appended:
        """Entries that stand in the log from `first` on, as `append` returned or would have. Reads the disk."""
        head, data = self._newest, [entry.data for entry in entries]
        leaves = [merkle.leaf_hash(one) for one in data]
        paths = tiles.paths(first, len(data), head.size, self.node)
        return Appended(first, data, leaves, paths, head, self.origin)

    # Proofs.

    def node(self, level: int, index: int) -> bytes:
        """A complete node of the tree, from memory or the disk."""
        return self._reader.over(self._edge)(level, index)

    def frame(
        self, parts: Sequence[Appended], known_tree_size: int = 0, *, disk: bool = True, newest: bool = False
    ) -> tuple[audit_pb2.LogHead, list[audit_pb2.LoggedEntry]]:
        """One head over entries of several transactions, and every entry with its proof under that head.

        Args:
            parts: At least one, all committed.
            known_tree_size: What the reader has verified.
            disk: Whether old parts of the tree may be read from the disk; otherwise KeyError is raised for them.
            newest: Under the newest head there is, rather than that of the newest part.
        """
        head = max((part.head for part in parts), key=lambda head: head.size)
        there = self._reaching(max(known_tree_size, head.size), disk=disk)
        if newest or known_tree_size > head.size:
            head = there
        node = self.node if disk else self._edge.node
        logged: list[audit_pb2.LoggedEntry] = []
        for part in parts:
            if part.head.size == head.size:
                logged += part.logged()
            else:
                paths = tiles.paths(part.first, len(part.entries), head.size, node)
                moved = Appended(part.first, part.entries, part.leaf_hashes, paths, head, self.origin)
                logged += moved.logged()
        return self._shown(head, known_tree_size, node), logged

    def head(self, known_tree_size: int = 0, *, disk: bool = True) -> audit_pb2.LogHead:
        """The newest head for a reader that has verified the tree of `known_tree_size`; `disk` as in `frame`.

        A reader that claims more than there is gets no proof, and will notice.
        """
        head = self._reaching(known_tree_size, disk=disk)
        return self._shown(head, known_tree_size, self.node if disk else self._edge.node)

    def shown(self, head: Head, known_tree_size: int = 0) -> audit_pb2.LogHead:
        """A committed head of this log for a reader that has verified the tree of `known_tree_size`. Reads the disk."""
        return self._shown(head, known_tree_size, self.node)

    def _reaching(self, size: int, *, disk: bool) -> Head:
        """The newest head; if it is smaller than `size`, another process may have written a newer one."""
        if size <= self._newest.size:
            return self._newest
        if not disk:
            raise KeyError(size)
        return self.refresh()

    def _shown(self, head: Head, known: int, node: tiles.NodeReader) -> audit_pb2.LogHead:
        if not 0 < known <= head.size:
            return head.message()
        return head.message(known, tiles.consistency(known, head.size, node))

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """Audit path of one entry in a committed tree of `size`. May read the disk."""
        return tiles.paths(index, 1, size, self.node)[0]

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Consistency proof between two committed sizes. May read the disk."""
        return tiles.consistency(old_size, new_size, self.node)

    def entries(self, start: int, count: int, *, max_bytes: int | None = None) -> list[bytes]:
        """Bytes of committed entries, at most `count` and, beyond the first, at most `max_bytes`. Reads the disk."""
        return self._reader.entries(start, min(start + count, self._newest.size), max_bytes)

    def logged(self, indexes: Sequence[int], size: int) -> list[audit_pb2.LoggedEntry]:
        """Entries with their proofs in the committed tree of `size`. Reads the disk."""
        logged = []
        for index in indexes:
            (data,) = self._reader.entries(index, index + 1, None)
            logged.append(
                audit_pb2.LoggedEntry(entry=data, index=index, inclusion_path=self.inclusion_path(index, size))
            )
        return logged

    def verify_all(self, progress: Callable[[int, int], None] = lambda _done, _size: None) -> Head:
        """Recompute everything from the entries' bytes: hashes, tiles, root, first entry. Reads the whole log.

        Raises:
            FatalError: LOG_UNAVAILABLE: something does not hold; the message says where.
        """
        try:
            return self._reader.verify_all(self.origin, progress)
        except ERRORS as error:
            raise FatalError(Reason.LOG_UNAVAILABLE, f"the log cannot be verified: {trouble(error)}") from error


def _rolled_back(size: int, who: str, known: int) -> FatalError:
    return FatalError(
        Reason.LOG_UNAVAILABLE,
        f"the log has {size} entries, but {who} has seen {known}: it was rolled back. Restore the newest copy of "
        "the store; if none reaches that size, keep what there is for the audit office. Nothing is appended to it",
    )


def _rewritten(size: int, who: str, known: int) -> FatalError:
    return FatalError(
        Reason.LOG_UNAVAILABLE,
        f"the stored log of {size} entries does not extend the {known} that {who} has seen: it was rewritten. Keep "
        "the store and the guard for the audit office and restore the log. Nothing is appended to it",
    )
