"""An agent in this process, over a city of `city_support`: the plain API over loopback, a Unix socket and mTLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from certs.credentials import IdentityFiles
from city_support import CHILD, MOTHER, RunningCity
from exchange.client.agent import assemble, watch
from exchange.client.batches import Batches
from exchange.client.client import Client
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name

P = verification_pb2
CONTEXT = P.Context(matter="school-enrolment", reference="2026-000123")
COUNTER = "spiffe://shenzhen/edu/system/counter"

CALLERS = f"""
[agent]
listen_tls = "127.0.0.1:0"
identity = "{{agent}}"

[[agent.caller]]
certificate = "local"
roles = ["edu/enrolment-clerk"]

[[agent.caller]]
certificate = "{COUNTER}"
roles = ["edu/enrolment-clerk"]
matters = ["school-enrolment"]
"""


class Agent:
    """An agent in this process.

    Attributes:
        local: Its loopback address.
        socket: Its Unix socket.
        remote: Its address for other machines.
        client: What it asks with.
    """

    def __init__(self, city: RunningCity, client: Client, stack: AsyncExitStack) -> None:
        self.city = city
        self.client = client
        self.stack = stack
        self.local = self.socket = self.remote = ""

    def stub(self, channel: grpc.aio.Channel) -> Any:
        self.stack.push_async_callback(channel.close)
        return verification_pb2_grpc.VerificationServiceStub(channel)

    @property
    def here(self) -> Any:
        return self.stub(open_channel(self.local, None))

    def there(self, short: str) -> Any:
        files = self.city.kit.city.enrol(short)
        name = server_name("shenzhen", Kind.AGENT)
        return self.stub(open_channel(self.remote, files.channel_credentials(), server_name=name))


@asynccontextmanager
async def agent_of(city: RunningCity, callers: str = CALLERS) -> AsyncIterator[Agent]:
    files: IdentityFiles = city.kit.city.enrol("edu/agent/main")
    more = callers.format(agent=city.kit.city.path("edu/agent/main"))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(city.client(more=more))
        batches = Batches(asyncio.get_running_loop().time)
        stack.push_async_callback(batches.close)
        server = assemble(client, batches, city="shenzhen")
        agent = Agent(city, client, stack)
        agent.local = server.listen("127.0.0.1:0", None)
        agent.socket = server.listen(f"unix:{city.path}/agent.sock", None)
        agent.remote = server.listen("127.0.0.1:0", files.server_credentials())
        await server.start()
        watching = asyncio.create_task(watch(client, server.readiness))
        async with AsyncExitStack() as callers_stack:
            agent.stack = callers_stack
            yield agent
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.stop(0.5)


def case(key: str = "", **changes: Any) -> Any:
    subjects = [P.Subject(slot="child", identifier=CHILD, name="小明"), P.Subject(slot="guardian", identifier=MOTHER)]
    return P.Case(**({"key": key, "subjects": subjects} | changes))


async def refused(call: Any) -> tuple[str, str, str]:
    """Status, reason and field of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    for secret in (CHILD, MOTHER, "小明"):
        assert secret not in f"{error.details()} {error.debug_error_string()} {error.trailing_metadata()}"
    status = rpc_status.from_call(error)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in () if status is None else status.details:
        detail.Unpack(info) or detail.Unpack(bad)
    field = bad.field_violations[0].field if bad.field_violations else ""
    return error.code().name, info.reason, field
