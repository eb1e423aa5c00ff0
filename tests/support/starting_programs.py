"""A process of `zhiwang`'s kind that starts programs beside busy gRPC; prints how many of them did not end well."""

from __future__ import annotations

import exchange.cli  # noqa: F401 - as every process begins

# isort: split
import asyncio
import sys

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CALLERS = 8


async def main(programs: int) -> None:
    """Start so many programs while a server and its callers are busy."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def busy() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            while True:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    callers = [asyncio.create_task(busy()) for _ in range(CALLERS)]
    ended_badly = 0
    for _ in range(programs):
        process = await asyncio.create_subprocess_exec("/bin/true", stderr=asyncio.subprocess.DEVNULL)
        ended_badly += await process.wait() != 0
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await server.stop(None)
    print(ended_badly)  # noqa: T201 - what its test reads


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
