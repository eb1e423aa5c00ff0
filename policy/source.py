"""One place to read the directory from: a hub, or the registrar. What it gives is believed only as far as it verifies.

Fetching blocks in a worker thread, which borrows the event loop for each call; nothing blocks the loop.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent import futures
from typing import Any

import grpc

from policy.directory import Fetch
from policy.mirror import TIMESTAMP
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.channel import RenewableChannel, is_cancelled, refusal_of
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError

Stub = Callable[[], Any]
"""Gives a `DirectoryServiceStub` over the channel in force. Channels are replaced, so it is called each time."""

FETCH_SECONDS = 10.0
"""How long one file may take."""

POLL_SECONDS = 600.0
"""How long a watch may be silent before we look by ourselves."""


def directory_of(channel: RenewableChannel) -> Stub:
    """Whoever serves the directory at the other end of a channel."""
    return lambda: exchange_pb2_grpc.DirectoryServiceStub(channel.current)


def hub_fetch(stub: Stub, loop: asyncio.AbstractEventLoop | None = None) -> Fetch:
    """Fetches files from a `DirectoryService`, for a `DirectoryClient` that works in another thread.

    Args:
        stub: Where to.
        loop: On which the channel lives; the running one by default.
    """
    home = loop or asyncio.get_running_loop()
    return lambda path: asyncio.run_coroutine_threadsafe(get_file(stub, path), home).result()


async def get_file(stub: Stub, path: str) -> bytes:
    """One file of the directory.

    Raises:
        RefusedError: FILE_UNKNOWN; or why it cannot be had.
    """
    try:
        answer = await stub().GetFile(exchange_pb2.GetFileRequest(path=path), timeout=FETCH_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise RefusedError(Reason.HUB_UNREACHABLE, "the channel was closed") from None
    content: bytes = answer.content
    return content


async def timestamps(stub: Stub) -> AsyncIterator[bytes]:
    """Timestamps as they come; ends after a silence, to be asked for again.

    Raises:
        RefusedError: Why they cannot be had.
    """
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


class Source:
    """One of those that a `Follower` reads from.

    Attributes:
        name: For operators: its address.
        stub: Where to.
        trouble: Why nothing could be taken from it when it was tried last; None if all is well.
        behind_since: Since when all it has is older than what is in force, on the loop's clock; None if it is not.
        told: What of this operators were told.
    """

    def __init__(self, name: str, stub: Stub) -> None:
        self.name = name
        self.stub = stub
        self.trouble: ZhiwangError | None = None
        self.behind_since: float | None = None
        self.told = ""


class Reading:
    """Reads the files under one timestamp of one source; called in the thread of a `DirectoryClient`.

    Args:
        source: Whose.
        timestamp: As it was offered.
        loop: On which the channel lives.
    """

    def __init__(self, source: Source, timestamp: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self.timestamp = timestamp
        self._loop = loop
        self._call: futures.Future[bytes] | None = None
        self._abandoned = threading.Event()
        self.begun = loop.time()

    def __call__(self, path: str) -> bytes:
        """The bytes at a path.

        Raises:
            RefusedError: As `get_file`; DEADLINE_EXCEEDED, once abandoned.
        """
        if path == TIMESTAMP:
            return self.timestamp
        if self._abandoned.is_set():
            raise RefusedError(Reason.DEADLINE_EXCEEDED, path)
        self._call = asyncio.run_coroutine_threadsafe(get_file(self._source.stub, path), self._loop)
        if self._abandoned.is_set():
            self._call.cancel()
        try:
            return self._call.result()
        except futures.CancelledError:
            raise RefusedError(Reason.DEADLINE_EXCEEDED, path) from None

    def abandon(self) -> None:
        """End it: what waits fails at once, and nothing more is fetched. What has been verified is kept on disk."""
        self._abandoned.set()
        if self._call is not None:
            self._call.cancel()


def version_of(timestamp: bytes) -> int | None:
    """The version that a timestamp claims, unverified: good for choosing whom to read first, and for nothing else."""
    try:
        version = json.loads(timestamp)["signed"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if type(version) is int else None


def newest_first(offers: Mapping[Source, bytes]) -> list[Source]:
    """In which order sources are read that offer these timestamps. What says nothing readable comes last."""
    versions = {source: version_of(timestamp) for source, timestamp in offers.items()}
    return sorted(offers, key=lambda source: (versions[source] is not None, versions[source] or 0), reverse=True)
