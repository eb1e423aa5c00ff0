"""Following the directory while the channel under it is replaced, as it is after each renewal of a certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import grpc
import pytest
import structlog

from policy.follower import Follower
from policy.source import directory_of
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.channel import RenewableChannel, open_channel
from zhiwang.wire.process import background


class Directories(exchange_pb2_grpc.DirectoryServiceServicer):
    """Watches of whoever follows.

    Attributes:
        begun: How many have begun.
    """

    def __init__(self) -> None:
        self.begun = 0

    async def GetFile(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        raise AssertionError((request, context))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - named by gRPC
        del request, context
        self.begun += 1
        yield exchange_pb2.WatchResponse(timestamp=b"x")
        await asyncio.Event().wait()


class Holder:
    """A directory that is what the watch tells of."""

    problem: str | None = None
    fresh = True

    class latest:  # noqa: N801 - a directory of one field
        timestamp_hash = sha256(b"x").digest()

    def failed(self, problem: str) -> None:
        self.problem = problem


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for is the state of a server
            await asyncio.sleep(0.02)


@pytest.fixture
async def served() -> AsyncIterator[tuple[Directories, str]]:
    server = grpc.aio.server()
    directories = Directories()
    exchange_pb2_grpc.add_DirectoryServiceServicer_to_server(directories, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield directories, f"127.0.0.1:{port}"
    await server.stop(0)


async def test_the_directory_is_followed_after_the_channel_of_an_old_certificate_was_closed(
    served: tuple[Directories, str],
) -> None:
    directories, address = served
    channel = RenewableChannel(lambda: open_channel(address, None))
    holder: Any = Holder()
    client: Any = None
    task = background(Follower(client, holder, {address: directory_of(channel)}).follow())
    for number in (1, 2, 3):
        await until(lambda number=number: directories.begun == number or task.done())  # type: ignore[misc]  # bound here
        assert not task.done()
        channel.renew(0.1)
    await until(lambda: directories.begun == 4 or task.done())
    assert not task.done()
    assert holder.problem is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await channel.close()


@pytest.mark.parametrize("how", ["returns", "fails", "is cancelled from within"])
async def test_what_should_run_for_ever_and_ends_is_an_alarm(how: str) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        if how == "fails":
            raise ValueError
        if how != "returns":
            raise asyncio.CancelledError

    with structlog.testing.capture_logs() as lines:
        task = background(work())
        await asyncio.wait({task})
        await asyncio.sleep(0)
    assert [(line["log_level"], "has ended" in line["event"]) for line in lines] == [("error", True)]


async def test_what_is_stopped_is_no_alarm() -> None:
    with structlog.testing.capture_logs() as lines:
        task = background(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
    assert lines == []
