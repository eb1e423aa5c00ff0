"""A `DirectoryService` without a socket: what a `Follower` reads from. It can be down, hang, lag or lie.

hub = ServedHub(kit.fetch)
Follower(client, holder, {"hub": lambda: hub})
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from policy.directory import Fetch
from policy.mirror import TIMESTAMP
from zhiwang.exchange.v1 import exchange_pb2


def _unavailable() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


class ServedHub:
    """It tells of whatever timestamp is there now, and then is silent.

    Attributes:
        serve: Gives the bytes at a path.
        down: Whether it cannot be reached.
        hangs: Whether it never gives what stands at a path.
        delay: Seconds that a file takes.
        asked: Paths of which files were asked for, in order.
    """

    def __init__(self, serve: Fetch) -> None:
        self.serve = serve
        self.down = False
        self.hangs: Callable[[str], bool] = lambda _path: False
        self.delay = 0.0
        self.asked: list[str] = []

    async def GetFile(self, request: Any, timeout: float) -> exchange_pb2.GetFileResponse:  # noqa: ASYNC109, N802  gRPC's
        del timeout
        self.asked.append(request.path)
        if self.down:
            raise _unavailable()
        if self.hangs(request.path):
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay)
        return exchange_pb2.GetFileResponse(content=self.serve(request.path))

    def Watch(self, request: Any) -> Any:  # noqa: N802  gRPC's
        del request
        return _Watch(self)


class _Watch:
    def __init__(self, hub: ServedHub) -> None:
        self._hub = hub
        self._told: bytes | None = None

    async def read(self) -> exchange_pb2.WatchResponse:
        while True:
            if self._hub.down:
                raise _unavailable()
            timestamp = self._hub.serve(TIMESTAMP)
            if timestamp != self._told:
                self._told = timestamp
                return exchange_pb2.WatchResponse(timestamp=timestamp)
            await asyncio.sleep(0.01)

    def cancel(self) -> None:
        self._told = None
