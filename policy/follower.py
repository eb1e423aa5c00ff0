"""Keeps a `DirectoryHolder` fresh over gRPC: watch, refresh, swap. The same for hub, adapters, agents and admins.

Fetching blocks in a worker thread, which borrows the event loop for each call; nothing blocks the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from policy.directory import DirectoryClient, DirectoryHolder, Fetch
from policy.mirror import Mirror
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.channel import is_cancelled, refusal_of
from zhiwang.wire.errors import RefusedError, ZhiwangError

FETCH_SECONDS = 10.0
"""How long one file may take."""

POLL_SECONDS = 600.0
"""How long a watch may be silent before we look by ourselves."""

FIRST_BACKOFF = 0.2
MAX_BACKOFF = 30.0
"""Seconds between attempts; they double, and are jittered so that a city does not come back in step."""

_log = structlog.get_logger(__name__)


def hub_fetch(stub: Callable[[], Any], loop: asyncio.AbstractEventLoop | None = None) -> Fetch:
    """Fetches files from a `DirectoryService`, for a `DirectoryClient` that works in another thread.

    Args:
        stub: Gives a `DirectoryServiceStub` over the channel in force (channels are replaced, so ask each time).
        loop: On which the channel lives; the running one by default.
    """
    home = loop or asyncio.get_running_loop()

    async def call(path: str) -> bytes:
        try:
            answer = await stub().GetFile(exchange_pb2.GetFileRequest(path=path), timeout=FETCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise refusal_of(error) from None
        content: bytes = answer.content
        return content

    def fetch(path: str) -> bytes:
        return asyncio.run_coroutine_threadsafe(call(path), home).result()

    return fetch


async def begin(client: DirectoryClient, holder: DirectoryHolder, *, mirror: Mirror | None = None) -> None:
    """Puts a first directory in force: the newest that can be had, or the last one from disk if it still holds.

    Raises:
        RefusedError: HUB_UNREACHABLE, if there is neither.
        FatalError: What can be had does not verify, and there is none on disk.
    """
    try:
        await _refresh(client, holder, mirror)
    except ZhiwangError as newest:
        try:
            directory = await asyncio.to_thread(client.load)
        except ZhiwangError:
            raise newest from None
        holder.set(directory)
        if mirror is not None:
            await mirror.take(client.files)
        holder.failed(_told(newest))


async def follow(
    client: DirectoryClient, holder: DirectoryHolder, stub: Callable[[], Any], *, mirror: Mirror | None = None
) -> None:
    """Takes up each newer directory, until cancelled. Never raises otherwise: the last good one stays until it expires.

    Args:
        client: Over `hub_fetch` of the same stub.
        holder: What is kept fresh.
        stub: Gives a `DirectoryServiceStub`.
        mirror: Gets the files of each verified directory (the hub's).
    """
    backoff = FIRST_BACKOFF
    while True:
        try:
            async for timestamp in _timestamps(stub):
                latest = holder.latest
                known = latest is not None and latest.timestamp_hash == hashlib.sha256(timestamp).digest()
                if not known or holder.problem is not None or not holder.fresh:
                    await _refresh(client, holder, mirror)
                backoff = FIRST_BACKOFF
        except ZhiwangError as error:
            holder.failed(_told(error))
        except Exception:  # noqa: BLE001 # a bug must not end the watch silently; what is in force expires by itself
            _log.exception("following the directory failed")
            holder.failed("internal error")
        await asyncio.sleep(backoff * random.uniform(0.5, 1.5))  # noqa: S311 # jitter, no secret
        backoff = min(backoff * 2, MAX_BACKOFF)


async def _timestamps(stub: Callable[[], Any]) -> Any:
    """Timestamps as they come; after a silence whatever stands at its path."""
    call = stub().Watch(exchange_pb2.WatchRequest())
    try:
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    response = await call.read()
            except TimeoutError:
                return
            if response is grpc.aio.EOF:
                return
            yield response.timestamp
    except asyncio.CancelledError:
        # After a renewal the channel under the watch is closed; the next one is over the channel that took its place.
        if is_cancelled():
            raise
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    finally:
        call.cancel()  # an abandoned stream is never collected


async def _refresh(client: DirectoryClient, holder: DirectoryHolder, mirror: Mirror | None) -> None:
    directory = await asyncio.to_thread(client.refresh)
    holder.set(directory)
    if mirror is not None:
        await mirror.take(client.files)


def _told(error: ZhiwangError) -> str:
    kind = "unreachable" if isinstance(error, RefusedError) else "refused"
    return f"{kind}: {error.reason.name}: {error.detail}"
