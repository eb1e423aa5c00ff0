"""AuditService over one log: checkpoints, entries and proofs for auditors, witnesses and the log's own department.

The RPC table says which kinds of identity may call; this module says of which department. Who only proves (checkpoints
and consistency) learns nothing but the log's size; who reads entries sees who asked what about which attributes, so
that is for auditors and the log's own admins, and it is recorded: one AuditRead entry for each listing, when its first
page is asked for, and one for each single entry. An entry for each page would make a log that is read grow with the
number of its pages, and a listing chase its own tail.

Disk reads run in worker threads. Every page is bounded by entries and by bytes, streams by number.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

import grpc

from audit.appended import NewEntry
from audit.store import LogStore
from certs.identity import Kind
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.call import Caller, Peer, current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.server import RpcRules

DEFAULT_PAGE: Final = 256
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 << 20
WATCH_SECONDS: Final = 1.0
"""How often a watched log is looked at."""
MAX_WATCHERS: Final = 64

_PROVERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.WITNESS, Kind.ADMIN, Kind.AGENT, Kind.HUB})
_READERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.ADMIN})

RULES: Final[RpcRules] = {
    "/zhiwang.audit.v1.AuditService/GetCheckpoint": _PROVERS,
    "/zhiwang.audit.v1.AuditService/WatchCheckpoints": _PROVERS,
    "/zhiwang.audit.v1.AuditService/GetConsistencyProof": _PROVERS,
    "/zhiwang.audit.v1.AuditService/ListEntries": _READERS,
    "/zhiwang.audit.v1.AuditService/GetEntry": _READERS,
}
"""Who may call what, for `zhiwang.wire.server.build_server`. No local caller: everybody who reads a log has a name."""

_PAGE_TOKEN: Final = struct.Struct(">4sQQ")
_PAGE_MAGIC: Final = b"zwa1"
_PAGE_MAC_SIZE: Final = 16


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves one log.

    Args:
        store: An open log.
        append: Records the reads; `AuditLog.append`, or what does the same where an adapter writes.
        department: Whose log it is; its admins may read entries.
        peer: Gives the caller of the RPC that is being served.
    """

    def __init__(
        self,
        store: LogStore,
        append: Callable[[Sequence[NewEntry]], Awaitable[object]],
        department: str,
        *,
        peer: Callable[[], Peer] = current_peer,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._store = store
        self._append = append
        self._department = department
        self._peer = peer
        self._watch_seconds = watch_seconds
        self._watchers = 0
        # A listing is recorded with its first page, so nobody but this process may say where a later page begins.
        self._page_key = secrets.token_bytes(32)

    async def GetCheckpoint(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetCheckpointRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetCheckpointResponse:
        """The newest head, whichever process wrote it."""
        del context
        await asyncio.to_thread(self._store.refresh)
        return audit_pb2.GetCheckpointResponse(head=await self._head(request.known_tree_size))

    async def WatchCheckpoints(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.WatchCheckpointsRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[audit_pb2.WatchCheckpointsResponse]:
        """The newest head at once, then newer ones, at most one in each interval."""
        del context
        if self._watchers >= MAX_WATCHERS:
            raise RefusedError(Reason.OVERLOADED, "too many watchers of the log")
        self._watchers += 1
        try:
            known, shown = request.known_tree_size, -1
            while True:
                newest = await asyncio.to_thread(self._store.refresh)
                self._peer().check()
                if newest.size != shown:
                    yield audit_pb2.WatchCheckpointsResponse(head=await self._head(known))
                    known = shown = newest.size
                await asyncio.sleep(self._watch_seconds)
        finally:
            self._watchers -= 1

    async def GetConsistencyProof(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetConsistencyProofRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetConsistencyProofResponse:
        """That the tree of one size is a prefix of another."""
        del context
        newest = await asyncio.to_thread(self._store.refresh)
        new_size = request.new_size or newest.size
        if not 1 <= request.old_size <= new_size <= newest.size:
            raise RefusedError(Reason.ENTRY_UNKNOWN, "sizes of a consistency proof", field="old_size")
        path = await asyncio.to_thread(self._store.consistency, request.old_size, new_size)
        return audit_pb2.GetConsistencyProofResponse(consistency_path=path, head=newest.message())

    async def ListEntries(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.ListEntriesRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.ListEntriesResponse:
        """A page of the entries that were in the log when its listing began."""
        del context
        reader = self._reader()
        if request.page_size < 0:
            raise RefusedError(Reason.REQUEST_MALFORMED, "a negative page size", field="page_size")
        count = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        newest = await asyncio.to_thread(self._store.refresh)
        if request.page_token:
            start, end = self._read_token(reader, request.page_token)
            if not start < end <= newest.size:
                raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
        else:
            start, end = request.start, newest.size
            if start > end:
                raise RefusedError(Reason.ENTRY_UNKNOWN, "a listing beyond the log's end", field="start")
            # Recorded before anything is shown; it stands behind the end of this listing.
            await self._record(reader, "ListEntries", start, end - start)
        count = min(count, end - start)
        entries = await asyncio.to_thread(self._store.entries, start, count, max_bytes=MAX_PAGE_BYTES)
        following = start + len(entries)
        return audit_pb2.ListEntriesResponse(
            entries=entries, start=start, next_page_token=self._token(reader, following, end) if following < end else ""
        )

    async def GetEntry(  # noqa: N802 - named by the .proto file
        self,
        request: audit_pb2.GetEntryRequest,
        context: grpc.aio.ServicerContext,
    ) -> audit_pb2.GetEntryResponse:
        """One entry and its proof."""
        del context
        reader = self._reader()
        newest = await asyncio.to_thread(self._store.refresh)
        if request.index >= newest.size:
            raise RefusedError(Reason.ENTRY_UNKNOWN, "no such entry", field="index")
        await self._record(reader, "GetEntry", request.index, 1)
        (logged,) = await asyncio.to_thread(self._store.logged, [request.index], newest.size)
        return audit_pb2.GetEntryResponse(entry=logged, head=newest.message())

    def _reader(self) -> str:
        """Who reads entries; refused unless an auditor or of the log's own department."""
        identity = self._peer().identity
        if identity.kind is not Kind.AUDITOR and identity.department != self._department:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{identity.short} may not read the log of {self._department}")
        return identity.uri

    async def _record(self, reader: str, method: str, start: int, count: int) -> None:
        read = audit_pb2.AuditRead(reader=reader, method=method, start=start, count=min(count, (1 << 32) - 1))
        await self._append([self._store.new_entry(read)])

    async def _head(self, known_tree_size: int) -> audit_pb2.LogHead:
        try:
            return self._store.head(known_tree_size, disk=False)
        except KeyError:
            return await asyncio.to_thread(self._store.head, known_tree_size)

    def _token(self, reader: str, start: int, end: int) -> str:
        place = _PAGE_TOKEN.pack(_PAGE_MAGIC, start, end)
        return urlsafe_b64encode(place + self._page_mac(reader, place)).decode().rstrip("=")

    def _read_token(self, reader: str, token: str) -> tuple[int, int]:
        try:
            data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            place, mac = data[: _PAGE_TOKEN.size], data[_PAGE_TOKEN.size :]
            magic, start, end = _PAGE_TOKEN.unpack(place)
        except (ValueError, struct.error) as error:
            raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token") from error
        if magic != _PAGE_MAGIC or not hmac.compare_digest(mac, self._page_mac(reader, place)):
            raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
        return start, end

    def _page_mac(self, reader: str, place: bytes) -> bytes:
        return hmac.digest(self._page_key, place + reader.encode(), "sha256")[:_PAGE_MAC_SIZE]
