"""The baseline of the wire: client, relay and echo, three processes of bare unary grpcio over mTLS.

`python -m bench.relay echo|relay …` is a process of it. Payloads are opaque bytes of the sizes that the real request
and reply have, so that what is compared is everything that Zhiwang adds and nothing that grpcio costs anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop
from grpc import aio

from certs.credentials import IdentityFiles
from certs.identity import Kind, server_name
from zhiwang.wire.channel import open_channel

METHOD = "/bench.Relay/Call"
Call = Callable[[bytes], Awaitable[bytes]]


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio carries no types
    """One unary method over raw bytes."""

    def __init__(self, call: Call) -> None:
        async def serve(request: bytes, _context: aio.ServicerContext[bytes, bytes]) -> bytes:
            return await call(request)

        self._handler = grpc.unary_unary_rpc_method_handler(serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if handler_call_details.method == METHOD else None


async def _serve(files: IdentityFiles, call: Call) -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((_Handler(call),))
    port = server.add_secure_port("127.0.0.1:0", files.server_credentials())
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def calling(channel: aio.Channel) -> Call:
    """The method at the other end of `channel`."""
    method: Call = channel.unary_unary(METHOD)
    return method


def _channel(target: str, files: IdentityFiles, kind: Kind) -> aio.Channel:
    return open_channel(target, files.channel_credentials(), server_name=server_name(files.identity.city, kind))


async def echo(files: IdentityFiles, reply_size: int) -> None:
    """Answer every request with `reply_size` bytes."""
    reply = os.urandom(reply_size)

    async def call(_request: bytes) -> bytes:
        return reply

    await _serve(files, call)


async def relay(files: IdentityFiles, target: str) -> None:
    """Pass every request on to `target`."""
    await _serve(files, calling(_channel(target, files, Kind.ADAPTER)))


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay.

    Attributes:
        call: Sends bytes through relay and echo and returns what comes back.
        pids: Of its processes, by name.
    """

    call: Call
    pids: dict[str, int]


@asynccontextmanager
async def running(root: Path, client: Path, middle: Path, end: Path, reply_size: int) -> AsyncIterator[Relay]:
    """Start echo and relay with the identities in `end` and `middle`, and connect with that in `client`."""
    processes: list[subprocess.Popen[bytes]] = []

    async def start(*arguments: str) -> str:
        # Not by the event loop: uvloop forks, and gRPC's threads now and then abort what was forked from them.
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own module, and it takes a millisecond
            [sys.executable, "-m", "bench.relay", "--root", str(root), *arguments], stdout=subprocess.PIPE
        )
        processes.append(process)
        if process.stdout is None:
            raise RuntimeError("no pipe")
        return f"127.0.0.1:{int(await asyncio.to_thread(process.stdout.readline))}"

    try:
        behind = await start("--identity", str(end), "echo", "--reply-size", str(reply_size))
        front = await start("--identity", str(middle), "relay", "--target", behind)
        async with _channel(front, IdentityFiles(client, root), Kind.HUB) as channel:
            pids = {"relay": processes[1].pid, "echo": processes[0].pid, "client": os.getpid()}
            yield Relay(calling(channel), pids)
    finally:
        for process in processes:
            process.terminate()
            await asyncio.to_thread(process.wait)
            if process.stdout is not None:
                process.stdout.close()


def main() -> None:
    """Run one process of the relay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="pinned roots")
    parser.add_argument("--identity", type=Path, required=True, help="identity directory")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("echo").add_argument("--reply-size", type=int, required=True)
    commands.add_parser("relay").add_argument("--target", required=True)
    arguments = parser.parse_args()
    files = IdentityFiles(arguments.identity, arguments.root)
    if arguments.command == "echo":
        uvloop.run(echo(files, arguments.reply_size))
    else:
        uvloop.run(relay(files, arguments.target))


if __name__ == "__main__":
    main()
