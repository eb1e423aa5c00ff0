"""DecisionService at the hub: entries of its log explained, and decided again under what is proposed.

The log is read as its caller, by AuditService's own methods: who may read what, and that the reading is recorded, is
decided there and nowhere else. What takes long is worked out in a process beside the hub; of the log one page at a time
is in memory, read when the caller has taken what came of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc

from audit.asking import request_of
from audit.checkpoint import Checkpoint, split_note
from audit.entry import decode_entry
from audit.query import Query
from audit.service import AuditServicer
from exchange.evidence.rules import parties, read_past
from exchange.explaining import explain_entry
from policy.answering import Sources, fetch_from, past_of
from policy.reading import ANSWER_SECONDS, POLICY_READERS, PolicyDesk, PolicyServicer
from policy.workers import Worker
from zhiwang.audit.v1 import audit_pb2
from zhiwang.policy.v1 import decisions_pb2, decisions_pb2_grpc
from zhiwang.wire.call import current_peer
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.server import RpcRules, time_left

DECISION_RULES: RpcRules = {
    "/zhiwang.policy.v1.DecisionService/ExplainEntry": POLICY_READERS,
    "/zhiwang.policy.v1.DecisionService/Replay": POLICY_READERS,
}
"""Who may call at all; what each may read is AuditService's to say."""

REPLAY_SECONDS: Final = 600.0
"""The longest that a replay may take; the caller's deadline may be shorter."""
REPLAYED_DAYS: Final = 30
PAGE: Final = 250
"""Entries that are decided at once."""
REST: Final = 1.0
"""How long the hub reads no further after a page, as a multiple of what the page took: who verifies comes first."""

_DAY_MICROSECONDS: Final = 86_400_000_000


class DecisionServicer(decisions_pb2_grpc.DecisionServiceServicer):
    """Explains accesses of the hub's log and decides them again.

    Args:
        desk: Works it out.
        policies: Of the same process; knows where proposals are.
        audits: Over the log.
    """

    def __init__(self, desk: PolicyDesk, policies: PolicyServicer, audits: AuditServicer) -> None:
        self._desk = desk
        self._policies = policies
        self._audits = audits

    async def ExplainEntry(  # noqa: N802 - named by the .proto file
        self,
        request: decisions_pb2.ExplainEntryRequest,
        context: grpc.aio.ServicerContext,
    ) -> decisions_pb2.ExplainEntryResponse:
        """One access, by the rules of its day."""
        seconds = time_left(context, ANSWER_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return await self._explained(request, context)
        except TimeoutError:
            raise RefusedError(Reason.DEADLINE_EXCEEDED, f"explaining took longer than {seconds:.0f} s") from None

    async def _explained(
        self, request: decisions_pb2.ExplainEntryRequest, context: grpc.aio.ServicerContext
    ) -> decisions_pb2.ExplainEntryResponse:
        asked = audit_pb2.GetEntryRequest(index=request.index, origin=request.origin)
        got = await self._audits.GetEntry(asked, context)
        entry = decode_entry(got.entry.entry)
        stamp = await self._recorded(parties(entry)[0], context)
        async with self._desk.workers.lent(current_peer().label) as worker:
            sources = await self._desk.sources(worker)
            arguments = request.index, got.entry.entry, sources, stamp
            data = await worker.call("exchange.decisions:explained", *arguments, seconds=ANSWER_SECONDS)
        response = decisions_pb2.ExplainEntryResponse.FromString(data)
        response.entry.CopyFrom(got.entry)
        response.head.CopyFrom(got.head)
        response.origin = Checkpoint.parse(split_note(got.head.checkpoint)[0]).origin
        return response

    async def _recorded(self, version: int, context: grpc.aio.ServicerContext) -> bytes:
        """Hash of the timestamp with which a version came into force, if the caller may read that; else nothing."""
        if not version:
            return b""
        search = request_of(Query(event="directory_change", version=version), max_entries=1)
        async with aclosing(self._audits.Search(search, context)) as pages:
            async for page in pages:
                for logged in page.entries:
                    return decode_entry(logged.entry).directory_change.timestamp_hash
        return b""

    async def Replay(  # noqa: N802 - named by the .proto file
        self,
        request: decisions_pb2.ReplayRequest,
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[decisions_pb2.ReplayResponse]:
        """The accesses of the log decided again, newest first."""
        self._audits.searcher()  # nothing is worked out for who may not search
        self._policies.prepare(request.standpoint, "standpoint")
        now = self._desk.clock()
        query = Query(event="hub_access", since=_since(request, now))
        seconds = time_left(context, REPLAY_SECONDS)
        # Time also runs out while a page waits for its caller to take it: then the call's task is cancelled where it
        # waits, which closes this generator and the call. Behind what was not taken no status could be sent.
        try:
            async with (
                asyncio.timeout(seconds),
                self._desk.workers.lent(current_peer().label, long=True) as worker,
                aclosing(self._replayed(request, query, now, worker, context)) as pages,
            ):
                async for page in pages:
                    yield page
        except TimeoutError:
            raise RefusedError(Reason.DEADLINE_EXCEEDED, f"a replay took longer than {seconds:.0f} s") from None

    async def _replayed(
        self,
        request: decisions_pb2.ReplayRequest,
        query: Query,
        now: float,
        worker: Worker,
        context: grpc.aio.ServicerContext,
    ) -> AsyncGenerator[decisions_pb2.ReplayResponse]:
        async def work(function: str, *arguments: Any) -> Any:
            return await worker.call(f"exchange.deciding:{function}", *arguments, seconds=ANSWER_SECONDS)

        await work("begin", request.SerializeToString(), await self._desk.sources(worker), now)
        loop = asyncio.get_running_loop()
        search = request_of(query, page_size=PAGE, proofs=False)
        async with aclosing(self._audits.Search(search, context)) as pages:
            begun = loop.time()
            async for page in pages:
                entries = [(logged.index, logged.entry) for logged in page.entries]
                said = await work("decide", entries)
                took = loop.time() - begun
                yield decisions_pb2.ReplayResponse.FromString(said)
                await asyncio.sleep(REST * took)
                begun = loop.time()
        yield decisions_pb2.ReplayResponse.FromString(await work("finish"))


def _since(request: decisions_pb2.ReplayRequest, now: float) -> int:
    """In microseconds since the epoch."""
    if not request.HasField("since_time"):
        return round(now * 1_000_000) - REPLAYED_DAYS * _DAY_MICROSECONDS
    try:
        return int(request.since_time.ToMicroseconds())
    except ValueError:
        raise RefusedError(Reason.CONDITION_INVALID, "a time that is none", field="since_time") from None


def explained(_session: object, index: int, data: bytes, sources: Sources, stamp: bytes) -> bytes:
    """An ExplainEntryResponse, worked out in a process of its own (`policy/working.py`)."""
    entry = decode_entry(data)
    version, departments, matters = parties(entry)
    past = read_past(sources.root_json, fetch_from(sources), version, departments, matters, stamp)
    directory = past_of(sources, version) if past.directory is not None else None
    return explain_entry(index, data, entry, past, directory).SerializeToString()
