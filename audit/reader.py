"""Reading a log's tables: heads, entries and tiles, and the recomputation by which a stored log is believed.

Nothing here writes. `LogStore` owns one reader; its methods may be called from any thread and block on the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final

from cryptography import x509
from sqlalchemy import Connection, Engine

from audit import checkpoint, tiles
from audit.appended import Head
from audit.backend import backend_of
from audit.database import Row, Tile
from audit.entry import EntryError, decode_entry
from audit.origins import FIRST, log_of, year_of
from audit.schema import TABLES, Tables
from certs.signing import MALFORMED, CertificateVerifier, Signer
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, Reason, RefusedError

CACHED_TILES: Final = 512
"""Tiles kept for proofs of what is old; 8 KiB each."""
BATCH: Final = 1000

_COUNT: Final = "SELECT coalesce(max(idx), -1) + 1 FROM {entry}"
_TILE: Final = "SELECT hashes FROM {tile} WHERE level = ? AND idx = ?"
_TILES: Final = "SELECT hashes FROM {tile} WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx"
_ROWS: Final = "SELECT leaf_hash, data FROM {entry} WHERE idx >= ? AND idx < ? ORDER BY idx"
_LEAVES: Final = "SELECT leaf_hash FROM {entry} WHERE idx >= ? AND idx < ? ORDER BY idx"
_DATA: Final = "SELECT data FROM {entry} WHERE idx >= ? AND idx < ? ORDER BY idx"
_WHOLE_ROWS: Final = "SELECT idx, key, leaf_hash, data FROM {entry} WHERE idx >= ? AND idx < ? ORDER BY idx"
_KEYS: Final = "SELECT key, idx FROM {entry} WHERE idx >= ? ORDER BY idx"


class LogReader:
    """Reads one log.

    Args:
        engine: As for `LogStore`.
        tables: In which it stands.

    Attributes:
        ended: Whether nothing is appended to it any more.
    """

    def __init__(self, engine: Engine, tables: Tables = TABLES) -> None:
        self.ended = False
        self.backend = backend_of(engine, tables)
        self._engine = self.backend.reading
        sql = self.backend.sql
        self._count, self._keys = sql(_COUNT), sql(_KEYS)
        self._one_tile, self._some_tiles = sql(_TILE), sql(_TILES)
        self._rows, self._leaves, self._data = sql(_ROWS), sql(_LEAVES), sql(_DATA)
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    def head(self, connection: Connection, *, lock: bool = False) -> Head:
        """The stored head; `lock` in a write transaction, where nobody else is to move it."""
        head = self.backend.locked_head(connection) if lock else self.backend.head(connection)
        if head is None:
            raise _broken("it has no head")
        return head

    def position(self) -> tuple[int, bytes]:
        """Size and root of the stored head."""
        with self._engine.connect() as connection:
            head = self.head(connection)
        return head.size, head.root

    def entries(self, start: int, end: int, max_bytes: int | None) -> list[bytes]:
        """Bytes of the entries [start, end); beyond the first no more than `max_bytes`."""
        found: list[bytes] = []
        total = 0
        with self._engine.connect() as connection:
            for (data,) in connection.exec_driver_sql(self._data, (start, end)):
                total += len(data)
                if max_bytes is not None and found and total > max_bytes:
                    break
                found.append(data)
        return found

    def find(self, connection: Connection, keys: Sequence[bytes], start: int) -> dict[bytes, int]:
        """Indexes of those keys that are among the entries from `start` on."""
        wanted = set(keys)
        rows = connection.exec_driver_sql(self._keys, (start,))
        return {key: index for key, index in rows if key in wanted}

    def node(self, level: int, index: int) -> bytes:
        """A complete node whose tile is complete, from the cache or the disk.

        Raises:
            KeyError: The log has no such tile.
        """
        tile_level, height = divmod(level, tiles.TILE_HEIGHT)
        return tiles.node_in_tile(self._tile(tile_level, (index << height) >> tiles.TILE_HEIGHT), level, index)

    def _tile(self, tile_level: int, index: int) -> bytes:
        name = (tile_level, index)
        with self._lock:
            cached = self._tiles.get(name)
            if cached is not None:
                self._tiles.move_to_end(name)
                return cached
        with self._engine.connect() as connection:
            tile: bytes | None = connection.exec_driver_sql(self._one_tile, name).scalar_one_or_none()
        if tile is None:
            raise KeyError(name)
        with self._lock:
            self._tiles[name] = tile
            if len(self._tiles) > CACHED_TILES:
                self._tiles.popitem(last=False)
        return tile

    def over(self, edge: tiles.RightEdge) -> tiles.NodeReader:
        """A reader of nodes that takes from the edge what it has, and the rest from here."""

        def node(level: int, index: int) -> bytes:
            try:
                return edge.node(level, index)
            except KeyError:
                return self.node(level, index)

        return node

    def leaves(self, connection: Connection, start: int, end: int) -> Sequence[bytes]:
        """Leaf hashes of the entries [start, end)."""
        found: Sequence[bytes] = connection.exec_driver_sql(self._leaves, (start, end)).scalars().all()
        return found

    def part(self, connection: Connection, start: int, end: int) -> tuple[list[Row], list[Tile]]:
        """The entries [start, end) as they are stored, and the tiles that they completed.

        Raises:
            FatalError: LOG_UNAVAILABLE: some are missing.
        """
        rows = connection.exec_driver_sql(self.backend.sql(_WHOLE_ROWS), (start, end)).all()
        if len(rows) != end - start:
            raise _broken(f"entries from index {start} on are missing")
        completed: list[Tile] = []
        for level, index in tiles.completed_tiles(start, end):
            hashes = connection.exec_driver_sql(self._one_tile, (level, index)).scalar_one_or_none()
            if hashes is None:
                raise _broken(f"tile {index} of level {level} is missing")
            completed.append((level, index, hashes))
        return [tuple(row) for row in rows], completed

    def load(
        self,
        connection: Connection,
        origin: str,
        signer: Signer,
        verifier: CertificateVerifier | None,
        *,
        lock: bool = False,
    ) -> tuple[Head, tiles.RightEdge]:
        """The stored head and the right edge that leads to it, both checked as `LogStore.open` says.

        In a write transaction with `lock`; otherwise in one that reads one snapshot.

        Raises:
            FatalError: LOG_UNAVAILABLE: something does not hold.
        """
        with self._lock:
            self._tiles.clear()
        self.backend.check(connection, ended=self.ended)
        head = self.head(connection, lock=lock)
        if not head.size and year_of(origin) != FIRST:
            # A year begins in the transaction that ends the one before it.
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the log before {origin} was ended, and {origin} has not begun: no process of ours did that. In "
                "PostgreSQL whoever has the hub's password can; docs/log-store.md says how it is taken back",
            )
        if not head.size:
            raise FatalError(Reason.LOG_UNAVAILABLE, "the store holds no log yet; run the `init` of this process")
        if connection.exec_driver_sql(self._count).scalar_one() != head.size:
            raise _broken("its head counts other entries than there are")
        edge = self.edge(connection, head.size)
        if tiles.root(head.size, edge.node) != head.root:
            raise _broken("the root recomputed from its tiles and entries is not that of its head")
        first, last = (
            connection.exec_driver_sql(self._data, (index, index + 1)).scalar_one() for index in (0, head.size - 1)
        )
        _check_first(first, origin)
        _check_checkpoint(head, origin, signer, verifier, _decoded(last, head.size - 1))
        return head, edge

    def edge(self, connection: Connection, size: int) -> tiles.RightEdge:
        """The right edge of the stored tree of `size`; leaf hashes of the unfinished tile are those of their data."""
        unfinished: list[list[bytes]] = []
        first = size >> tiles.TILE_HEIGHT << tiles.TILE_HEIGHT
        rows = connection.exec_driver_sql(self._rows, (first, size)).all()
        leaves = [leaf for leaf, _ in rows]
        if len(leaves) != size - first:
            raise _broken(f"entries from index {first} on are missing")
        if leaves != [merkle.leaf_hash(data) for _, data in rows]:
            raise _broken(f"an entry from index {first} on is not the one that was hashed")
        unfinished.append(leaves)
        while size >> tiles.TILE_HEIGHT * len(unfinished):
            below = len(unfinished) - 1
            end = size >> tiles.TILE_HEIGHT * len(unfinished)
            start = end >> tiles.TILE_HEIGHT << tiles.TILE_HEIGHT
            found = connection.exec_driver_sql(self._some_tiles, (below, start, end)).scalars().all()
            if len(found) != end - start:
                raise _broken(f"tiles of level {below} are missing")
            unfinished.append([tiles.root_of_nodes(tiles.split_tile(tile)) for tile in found])
        return tiles.RightEdge(size, unfinished)

    def verify_all(self, origin: str, progress: Callable[[int, int], None]) -> Head:
        """Recompute the whole log from its entries, in one snapshot; as `LogStore.verify_all`."""
        with _as_written(), self._engine.connect() as connection:
            head = self.head(connection)
            edge = tiles.RightEdge()
            while edge.size < head.size:
                before = edge.size
                rows = connection.exec_driver_sql(self._rows, (before, min(before + BATCH, head.size))).all()
                if not rows:
                    raise _broken(f"entry {before} is missing")
                leaves = []
                for index, (leaf, data) in enumerate(rows, before):
                    if leaf != merkle.leaf_hash(data):
                        raise _broken(f"entry {index} is not the one that was hashed")
                    _decoded(data, index)
                    leaves.append(leaf)
                if before == 0:
                    _check_first(rows[0][1], origin)
                edge.extend(leaves)
                for tile in tiles.completed_tiles(before, edge.size):
                    if connection.exec_driver_sql(self._one_tile, tile).scalar_one_or_none() != edge.tile(*tile):
                        raise _broken(f"tile {tile[1]} of level {tile[0]} is not that of its entries")
                edge.trim()
                progress(edge.size, head.size)
            if tiles.root(edge.size, edge.node) != head.root:
                raise _broken("the root recomputed from its entries is not that of its head")
        return head


@contextmanager
def _as_written() -> Iterator[None]:
    """In a damaged file a value may be of any kind: SQLite looks at no type when it reads."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise _broken(f"values in it are not of the kind that was written ({type(error).__name__})") from error


def _check_first(data: bytes, origin: str) -> None:
    entry = _decoded(data, 0)
    if entry.WhichOneof("event") != "log_opened" or entry.log_opened.origin != origin:
        raise _broken(f"its first entry does not open the log {origin}")


def _check_checkpoint(
    head: Head, origin: str, signer: Signer, verifier: CertificateVerifier | None, last: audit_pb2.Entry
) -> None:
    key = signer.public_key_raw
    if head.certificate != signer.certificate_der:
        if verifier is None:
            raise _broken("its checkpoint was signed with another certificate, and no verifier was given")
        try:
            # It was valid when the last entry was made; it may have expired since.
            moment = _within(head.certificate, last.time.seconds)
            certificate = verifier.verify(head.certificate, moment, kinds=(signer.identity.kind,))
        except RefusedError as error:
            raise _broken(f"the certificate of its checkpoint does not verify: {error}") from error
        if certificate.identity.log_origin != log_of(origin):
            raise _broken("its checkpoint was signed by another identity")
        key = certificate.public_key_raw
    try:
        signed = checkpoint.open_note(head.checkpoint, origin, key)
    except checkpoint.CheckpointError as error:
        raise _broken(f"its checkpoint does not verify: {error}") from error
    if (signed.size, signed.root) != (head.size, head.root):
        raise _broken("its checkpoint says another size or root than its head")


def _within(certificate: bytes, moment: float) -> float:
    """The moment of a certificate's life that is nearest to `moment`.

    A clock that was wrong while the last entry was made must not make the log of a renewed certificate unreadable. Only
    whether the certificate was this city's matters: whoever has its key can write any time into an entry.
    """
    try:
        life = x509.load_der_x509_certificate(certificate)
        begins, ends = life.not_valid_before_utc.timestamp(), life.not_valid_after_utc.timestamp()
    except MALFORMED:
        return moment  # the verifier will say so
    return min(max(moment, begins), ends - 1)


def _decoded(data: bytes, index: int) -> audit_pb2.Entry:
    try:
        return decode_entry(data)
    except EntryError as error:
        raise _broken(f"entry {index} cannot be read: {error}") from error


def _broken(what: str) -> FatalError:
    return FatalError(
        Reason.LOG_UNAVAILABLE,
        f"the log cannot be believed: {what}. Keep the file for the audit office and restore it from a copy that "
        "reaches its guard",
    )
