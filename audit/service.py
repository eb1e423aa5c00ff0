"""AuditService over one identity's logs: checkpoints, entries and proofs for auditors, witnesses and its own people.

The RPC table says which kinds of identity may call; this module says of which department. Who only proves (checkpoints
and consistency) learns nothing but the log's size; who reads entries sees who asked what about which attributes, so
that is for auditors and the log's own admins, each within its scope, and it is recorded: one AuditRead entry for each
listing or search, when its first page is asked for, and one for each single entry. An entry for each page would make a
log that is read grow with the number of its pages, and a listing chase its own tail. What is outside a reader's scope
looks like what is not there.

Disk reads run in worker threads. Every page is bounded by entries and by bytes, streams by number.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple

import grpc

from audit.appended import Head, NewEntry
from audit.asking import query_of, words_of
from audit.checkpoint import Checkpoint, split_note
from audit.facts import facts_of
from audit.origins import origin_of, year_of
from audit.query import NOTHING, Scope, scope_of
from audit.search import SearchIndex, SearchIndexes
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.identity import Identity, Kind
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.call import Caller, Peer, current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.server import RpcRules

DEFAULT_PAGE: Final = 256
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 << 20
RUN: Final = 64
"""Neighbouring entries that a search reads at once: 4 MiB where each is as large as can be."""
WATCH_SECONDS: Final = 1.0
"""How often a watched log is looked at."""
MAX_WATCHERS: Final = 64
"""Watchers of one log."""
MAX_WATCHERS_EACH: Final = 4
"""Of them by one identity, so that nobody keeps the others out."""

_WATCHERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.WITNESS, Kind.ADMIN, Kind.AGENT, Kind.HUB})
_PROVERS: Final[frozenset[Caller]] = _WATCHERS | {Kind.SYSTEM}
_READERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.ADMIN})

RULES: Final[RpcRules] = {
    "/zhiwang.audit.v1.AuditService/GetCheckpoint": _PROVERS,
    "/zhiwang.audit.v1.AuditService/WatchCheckpoints": _WATCHERS,
    "/zhiwang.audit.v1.AuditService/GetConsistencyProof": _PROVERS,
    "/zhiwang.audit.v1.AuditService/GetInclusionProof": _PROVERS,
    "/zhiwang.audit.v1.AuditService/ListEntries": _READERS,
    "/zhiwang.audit.v1.AuditService/GetEntry": _READERS,
    "/zhiwang.audit.v1.AuditService/Search": _READERS,
}
"""Who may call what, for `zhiwang.wire.server.build_server`. No local caller: everybody who reads a log has a name."""

_PAGE_TOKEN: Final = struct.Struct(">4sHQQQ")
_PAGE_MAGIC: Final = b"zwa2"
_SEARCH_MAGIC: Final = b"zws2"
_PAGE_MAC_SIZE: Final = 16


class _Place(NamedTuple):
    """Where a later page goes on.

    Attributes:
        year: In which log.
        before: A listing's next index; the index before which a search goes on.
        size: Size of that log when it was begun.
        left: Entries that a search may still return.
    """

    year: int
    before: int
    size: int
    left: int = 0


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves one log.

    Args:
        store: An open log, with those of earlier years.
        append: Records the reads; `AuditLog.append`, or what does the same where an adapter writes.
        department: Whose log it is; its own people may read all of it.
        scope: What others may read, as the directory in force says; without it nobody else reads.
        index: The search databases of the logs.
        cosigned: Gives the newest head that a quorum of witnesses cosigned, None while there is none.
        peer: Gives the caller of the RPC that is being served.
    """

    def __init__(
        self,
        store: YearlyLog | LogStore,
        append: Callable[[Sequence[NewEntry]], Awaitable[object]],
        department: str,
        *,
        scope: Callable[[Identity], Scope] | None = None,
        index: SearchIndexes | SearchIndex | None = None,
        cosigned: Callable[[], Head | None] = lambda: None,
        peer: Callable[[], Peer] = current_peer,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._log = YearlyLog.adopt(store)
        self._append = append
        self._scope = scope or (lambda identity: scope_of(identity, department))
        self._index = index
        self._cosigned = cosigned
        self._peer = peer
        self._watch_seconds = watch_seconds
        self._watchers: Counter[str] = Counter()
        # A listing is recorded with its first page, so nobody but this process may say where a later page begins.
        self._page_key = secrets.token_bytes(32)

    async def GetCheckpoint(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetCheckpointRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetCheckpointResponse:
        """The newest head, whichever process wrote it; or the newest that witnesses cosigned."""
        del context
        if request.cosigned:
            cosigned = self._cosigned()
            if cosigned is None:
                raise RefusedError(Reason.NOT_WITNESSED, "no checkpoint has a quorum", field="cosigned")
            shown = await asyncio.to_thread(self._log.shown, cosigned, request.known_tree_size, request.known_origin)
            return audit_pb2.GetCheckpointResponse(head=shown)
        store = await self._shard(request.origin)
        if not request.origin or store.origin == self._log.origin:
            return audit_pb2.GetCheckpointResponse(head=await self._head(request.known_tree_size, request.known_origin))
        head = await asyncio.to_thread(store.head, request.known_tree_size)
        return audit_pb2.GetCheckpointResponse(head=head)

    async def WatchCheckpoints(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.WatchCheckpointsRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[audit_pb2.WatchCheckpointsResponse]:
        """The newest head at once, then newer ones, at most one in each interval."""
        del context
        watcher = self._peer().identity.uri
        if self._watchers.total() >= MAX_WATCHERS or self._watchers[watcher] >= MAX_WATCHERS_EACH:
            raise RefusedError(Reason.OVERLOADED, "too many watchers of the log")
        self._watchers[watcher] += 1
        try:
            known, origin = request.known_tree_size, request.known_origin
            shown = b""
            while True:
                await asyncio.to_thread(self._log.refresh)
                self._peer().check()
                head = await self._head(known, origin)
                if head.checkpoint != shown:
                    yield audit_pb2.WatchCheckpointsResponse(head=head)
                    checkpoint = Checkpoint.parse(split_note(head.checkpoint)[0])
                    shown, known, origin = head.checkpoint, checkpoint.size, checkpoint.origin
                await asyncio.sleep(self._watch_seconds)
        finally:
            self._watchers[watcher] -= 1
            self._watchers += Counter()  # forgets who watches no more

    async def GetConsistencyProof(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetConsistencyProofRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetConsistencyProofResponse:
        """That the tree of one size is a prefix of another."""
        del context
        return await asyncio.to_thread(prove_consistency, self._log, request.old_size, request.new_size, request.origin)

    async def GetInclusionProof(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetInclusionProofRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetInclusionProofResponse:
        """That an entry is in the tree of some size."""
        del context
        store = await self._shard(request.origin)
        size = request.tree_size or store.newest.size
        if not request.index < size <= store.newest.size:
            raise RefusedError(Reason.ENTRY_UNKNOWN, "index or size of an inclusion proof", field="index")
        path = await asyncio.to_thread(store.inclusion_path, request.index, size)
        return audit_pb2.GetInclusionProofResponse(inclusion_path=path, tree_size=size)

    async def ListEntries(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.ListEntriesRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.ListEntriesResponse:
        """A page of the entries that were in the log when its listing began."""
        del context
        reader, scope = self._reader()
        if not scope.everything:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{reader} may search this log, but not list it")
        count = _page_size(request.page_size)
        store = await self._shard(request.origin)
        newest = store.newest
        if request.page_token:
            place = self._read_token(reader, request.page_token)
            start, end = place.before, place.size
            if place.year != year_of(store.origin):
                # It was begun before the year turned, and names no log: it goes on where it began.
                if request.origin:
                    raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
                store = self._log.shard(origin_of(self._log.log, place.year))
                newest = store.newest
            if not start < end <= newest.size:
                raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
        else:
            start, end = request.start, newest.size
            if start > end:
                raise RefusedError(Reason.ENTRY_UNKNOWN, "a listing beyond the log's end", field="start")
            # Recorded before anything is shown; it stands behind the end of this listing.
            await self._record(reader, "ListEntries", start, end - start, of=store)
        count = min(count, end - start)
        entries = await asyncio.to_thread(store.entries, start, count, max_bytes=MAX_PAGE_BYTES)
        following = start + len(entries)
        token = self._token(reader, _Place(year_of(store.origin), following, end)) if following < end else ""
        return audit_pb2.ListEntriesResponse(entries=entries, start=start, next_page_token=token, origin=store.origin)

    async def GetEntry(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetEntryRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetEntryResponse:
        """One entry and its proof."""
        del context
        reader, scope = self._reader()
        store = await self._shard(request.origin)
        newest = store.newest
        if request.index >= newest.size:
            raise RefusedError(Reason.ENTRY_UNKNOWN, "no such entry", field="index")
        (logged,) = await asyncio.to_thread(store.logged, [request.index], newest.size)
        if not scope.admits(facts_of(logged.entry)):
            raise RefusedError(Reason.ENTRY_UNKNOWN, f"{reader} may not read entry {request.index}", field="index")
        await self._record(reader, "GetEntry", request.index, 1, of=store)
        return audit_pb2.GetEntryResponse(entry=logged, head=newest.message())

    async def Search(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.SearchRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[audit_pb2.SearchResponse]:
        """What is looked for, newest first, page by page, each read when the one before was taken."""
        del context
        reader, scope, index = self.searcher()
        query = query_of(request)
        count = _page_size(request.page_size)
        store = await self._shard(request.origin)
        said = words_of(query)
        token_of = f"{reader}\n{request.origin}\n{said}"
        if request.page_token:
            # How many were to be read stands in the log, so a token goes on with what is left of them.
            place = self._read_token(token_of, request.page_token, _SEARCH_MAGIC)
            store = self._log.shard(origin_of(self._log.log, place.year))
            if not place.before <= place.size <= store.newest.size:
                raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
        else:
            stores = [store] if request.origin else self._log.shards()
            size = store.newest.size
            left = request.max_entries or sum(one.newest.size for one in stores)
            place = _Place(year_of(store.origin), size, size, left)
            await self._record(reader, "Search", 0, left, said, of=store)
        while True:
            self._peer().check()
            size, left = place.size, place.left
            found, before = await asyncio.to_thread(
                index.of(store).search, query, scope, place.before, min(count, left)
            )
            newest = store.newest
            entries = await asyncio.to_thread(_found, store, found, newest.size, proofs=request.proofs)
            if len(entries) < len(found):
                # The page is full of bytes: what is left of it comes with the next.
                before = found[len(entries) - 1]
            left -= len(entries)
            next_store = store
            if not before and not request.origin:
                older = self._older(store)
                if older is not None:
                    next_store, before = older, older.newest.size
                    size = before
            place = _Place(year_of(next_store.origin), before, size, left)
            following = self._token(token_of, place, kind=_SEARCH_MAGIC) if before and left else ""
            yield audit_pb2.SearchResponse(entries=entries, head=newest.message(), next_page_token=following)
            if not following:
                return
            store = next_store

    def _older(self, store: LogStore) -> LogStore | None:
        """The newest log before one, of those whose entries are kept."""
        year = year_of(store.origin)
        return next((one for one in self._log.shards() if year_of(one.origin) < year), None)

    async def _shard(self, origin: str) -> LogStore:
        """The log that is asked for, as it stands in the store."""
        await asyncio.to_thread(self._log.refresh)
        return self._log.shard(origin)

    def searcher(self) -> tuple[str, Scope, SearchIndexes | SearchIndex]:
        """Who searches, which entries, and in what.

        Raises:
            RefusedError: RPC_NOT_ALLOWED: the caller may read nothing of this log, or it cannot be searched.
        """
        reader, scope = self._reader()
        if self._index is None:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, "this log has no search database")
        return reader, scope, self._index

    def _reader(self) -> tuple[str, Scope]:
        """Who reads entries, and which; refused if none at all."""
        identity = self._peer().identity
        scope = self._scope(identity)
        if scope == NOTHING:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{identity.short} may read nothing of this log")
        return identity.uri, scope

    async def _record(self, reader: str, method: str, start: int, count: int, query: str = "", *, of: LogStore) -> None:
        origin = "" if of.origin == self._log.origin else of.origin
        read = audit_pb2.AuditRead(
            reader=reader, method=method, start=start, count=min(count, (1 << 32) - 1), query=query, origin=origin
        )
        await self._append([self._log.new_entry(read)])

    async def _head(self, known_tree_size: int, known_origin: str) -> audit_pb2.LogHead:
        try:
            return self._log.head(known_tree_size, known_origin, disk=False)
        except KeyError:
            return await asyncio.to_thread(self._log.head, known_tree_size, known_origin)

    def _token(self, reader: str, place: _Place, *, kind: bytes = _PAGE_MAGIC) -> str:
        packed = _PAGE_TOKEN.pack(kind, *place)
        return urlsafe_b64encode(packed + self._page_mac(reader, packed)).decode().rstrip("=")

    def _read_token(self, reader: str, token: str, kind: bytes = _PAGE_MAGIC) -> _Place:
        try:
            data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            packed, mac = data[: _PAGE_TOKEN.size], data[_PAGE_TOKEN.size :]
            magic, *place = _PAGE_TOKEN.unpack(packed)
        except (ValueError, struct.error) as error:
            raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token") from error
        if magic != kind or not hmac.compare_digest(mac, self._page_mac(reader, packed)):
            raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
        return _Place(*place)

    def _page_mac(self, reader: str, place: bytes) -> bytes:
        return hmac.digest(self._page_key, place + reader.encode(), "sha256")[:_PAGE_MAC_SIZE]


def prove_consistency(
    log: YearlyLog | LogStore, old_size: int, new_size: int = 0, origin: str = ""
) -> audit_pb2.GetConsistencyProofResponse:
    """That the tree of one size is a prefix of another, or of the newest if that is 0. Reads the disk.

    Args:
        log: The logs.
        old_size: Entries of the smaller tree.
        new_size: Of the larger.
        origin: Of which log; empty for the newest.

    Raises:
        RefusedError: ENTRY_UNKNOWN: the log has no such trees.
        FatalError: LOG_UNAVAILABLE.
    """
    log = YearlyLog.adopt(log)
    log.refresh()
    store = log.shard(origin)
    newest = store.newest
    new_size = new_size or newest.size
    if not 1 <= old_size <= new_size <= newest.size:
        raise RefusedError(Reason.ENTRY_UNKNOWN, "sizes of a consistency proof", field="old_size")
    path = store.consistency(old_size, new_size)
    return audit_pb2.GetConsistencyProofResponse(consistency_path=path, head=newest.message())


def _found(store: LogStore, indexes: Sequence[int], size: int, *, proofs: bool) -> list[audit_pb2.LoggedEntry]:
    """The first of these entries, newest first, as many as a page may hold; proved in the tree of `size`."""
    found: list[audit_pb2.LoggedEntry] = []
    total = 0
    for start, end in _runs(indexes):
        if proofs:
            run = store.logged(range(start, end), size)
        else:
            data = store.entries(start, end - start)
            run = [audit_pb2.LoggedEntry(entry=entry, index=index) for index, entry in enumerate(data, start)]
        for logged in reversed(run):
            total += len(logged.entry)
            if found and total > MAX_PAGE_BYTES:
                return found
            found.append(logged)
    return found


def _page_size(asked: int) -> int:
    if asked < 0:
        raise RefusedError(Reason.REQUEST_MALFORMED, "a negative page size", field="page_size")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def _runs(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Falling indexes as runs of neighbours, [start, end), each of which is read at once."""
    end = start = indexes[0] + 1 if indexes else 0
    for index in indexes:
        if index != start - 1 or end - index > RUN:
            yield start, end
            end = index + 1
        start = index
    if indexes:
        yield start, end
