"""Real handshakes on loopback: who gets in, as whom, and how certificates are replaced and refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certs.credentials import IdentityFiles
from certs_support import City
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.channel import RenewableChannel, open_channel, refusal_of
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.readiness import Readiness
from zhiwang.wire.server import LOCAL, TIME_METADATA, RpcRules, Server, build_server, current_peer

GET_FILE = "/zhiwang.exchange.v1.DirectoryService/GetFile"
WATCH = "/zhiwang.exchange.v1.DirectoryService/Watch"
RULES: RpcRules = {GET_FILE: frozenset({Kind.SYSTEM, Kind.ADAPTER, LOCAL}), WATCH: frozenset({Kind.SYSTEM})}


class Echo(exchange_pb2_grpc.DirectoryServiceServicer):
    """Tells the caller whom it takes it for."""

    async def GetFile(self, request: Any, context: Any) -> exchange_pb2.GetFileResponse:  # noqa: ARG002, N802  gRPC's names
        peer = current_peer()
        return exchange_pb2.GetFileResponse(content=peer.label.encode())

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[exchange_pb2.WatchResponse]:  # noqa: ARG002, N802  gRPC's names
        while True:
            current_peer().check()
            yield exchange_pb2.WatchResponse(timestamp=b"1")
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    return City.create(tmp_path_factory.mktemp("city"))


@asynccontextmanager
async def serving(
    files: IdentityFiles | None,
    *,
    city: str = "shenzhen",
    revoked: Callable[[], set[int]] = set,
    servicer: Echo | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Server, str]]:
    add = exchange_pb2_grpc.add_DirectoryServiceServicer_to_server
    server = build_server([(add, servicer or Echo())], RULES, city=city if files else None, revoked=revoked, **options)
    address = server.listen("127.0.0.1:0", files.server_credentials() if files else None)
    await server.start()
    try:
        yield server, address
    finally:
        await server.stop(0.1)


async def ask(address: str, credentials: grpc.ChannelCredentials, name: str) -> str:
    async with open_channel(address, credentials, server_name=name) as channel:
        stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
        response = await stub.GetFile(exchange_pb2.GetFileRequest(path="x"), timeout=10)
        return bytes(response.content).decode()


async def exhaust(stream: Any) -> None:
    """Read a stream of responses to its end, which raises unless it ended well."""
    while await stream.read() is not grpc.aio.EOF:
        pass


HUB = server_name("shenzhen", Kind.HUB)


async def test_a_caller_is_who_its_certificate_names(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    async with serving(city.enrol("data/hub/main")) as (_, address):
        assert await ask(address, system.channel_credentials(), HUB) == "edu/system/enrolment"


@pytest.mark.parametrize("poser", ["hrss/adapter/main", "data/registrar/main", "edu/agent/main"])
async def test_no_other_server_of_the_city_can_pose_as_the_hub(city: City, poser: str) -> None:
    system = city.enrol("edu/system/enrolment")
    async with serving(city.enrol(poser)) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, system.channel_credentials(), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_one_server_in_particular_can_be_demanded(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    adapter = city.enrol("hrss/adapter/main")
    async with serving(adapter) as (_, address):
        assert await ask(address, system.channel_credentials(), adapter.identity.server_name)
        other = city.enrol("police/adapter/main").identity.server_name
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(address, system.channel_credentials(), other)


async def test_an_identity_that_does_not_serve_has_no_server_credentials(city: City) -> None:
    with pytest.raises(FatalError):
        city.enrol("edu/system/enrolment").server_credentials()


async def test_a_system_cannot_serve_even_when_it_tries(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    server = grpc.aio.server()
    pair = [((system.directory / "auth.key").read_bytes(), (system.directory / "auth.pem").read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair, city.ca_pem, True))
    await server.start()
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(f"127.0.0.1:{port}", system.channel_credentials(), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(None)


async def test_a_certificate_of_another_city_is_refused(city: City, tmp_path: Path) -> None:
    elsewhere = City.create(tmp_path, "guangzhou")
    foreign = elsewhere.enrol("edu/system/enrolment")
    pair = [(foreign.directory / name).read_bytes() for name in ("auth.key", "auth.pem")]
    async with serving(city.enrol("data/hub/main")) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, grpc.ssl_channel_credentials(city.ca_pem, *pair), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_without_a_certificate_is_refused(city: City) -> None:
    async with serving(city.enrol("data/hub/main")) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, grpc.ssl_channel_credentials(city.ca_pem), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_signing_certificate_is_not_good_for_tls(city: City) -> None:
    files = city.enrol("edu/system/enrolment")
    pair = [(files.directory / name).read_bytes() for name in ("signing.key", "signing.pem")]
    async with serving(city.enrol("data/hub/main")) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, grpc.ssl_channel_credentials(city.ca_pem, *pair), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_certificate_is_refused(city: City) -> None:
    expired = city.enrol("edu/system/old", now=datetime.now(UTC) - timedelta(days=3), days=1)
    async with serving(city.enrol("data/hub/main")) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, expired.channel_credentials(), HUB)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_expires_on_an_open_connection_is_refused_at_the_next_call(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    clock = [datetime.now(UTC).timestamp()]
    async with (
        serving(city.enrol("data/hub/main"), clock=lambda: clock[0]) as (_, address),
        open_channel(address, system.channel_credentials(), server_name=HUB) as channel,
    ):
        stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
        await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)
        clock[0] = system.expires + 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)
        assert refusal_of(caught.value).reason is Reason.CERTIFICATE_EXPIRED


async def test_a_revoked_certificate_is_refused_at_the_next_call_and_the_next_frame(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    serial = x509.load_pem_x509_certificate((system.directory / "auth.pem").read_bytes()).serial_number
    revoked: set[int] = set()
    async with (
        serving(city.enrol("data/hub/main"), revoked=lambda: revoked) as (_, address),
        open_channel(address, system.channel_credentials(), server_name=HUB) as channel,
    ):
        stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
        await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)
        stream = stub.Watch(exchange_pb2.WatchRequest(), timeout=10)
        await stream.read()
        revoked.add(serial)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)
        assert refusal_of(caught.value).reason is Reason.CERTIFICATE_REVOKED
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await exhaust(stream)
        assert refusal_of(ended.value).reason is Reason.CERTIFICATE_REVOKED


async def test_a_kind_that_the_table_does_not_name_is_refused(city: City) -> None:
    auditor = city.enrol("audit/auditor/one")
    async with serving(city.enrol("data/hub/main")) as (_, address):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(address, auditor.channel_credentials(), HUB)
        assert refusal_of(caught.value).reason is Reason.RPC_NOT_ALLOWED
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_server_takes_its_renewed_certificate_at_the_next_handshake(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    hub = city.enrol("data/hub/renewed")
    async with serving(hub) as (_, address):
        assert await ask(address, system.channel_credentials(), hub.identity.server_name)
        before = await served_certificate(address, system)
        city.enrol("data/hub/renewed")
        assert hub.reload()
        after = await served_certificate(address, system)
        assert after != before
        assert after == (hub.directory / "auth.pem").read_bytes()
        assert await ask(address, system.channel_credentials(), hub.identity.server_name)
        assert await served_certificate(address, system) == after


async def test_a_client_takes_its_renewed_certificate_with_a_new_channel_while_the_old_one_drains(city: City) -> None:
    files = city.enrol("edu/system/moving")
    first = x509.load_pem_x509_certificate((files.directory / "auth.pem").read_bytes()).serial_number
    revoked: set[int] = set()
    async with serving(city.enrol("data/hub/main"), revoked=lambda: revoked) as (_, address):
        channel = RenewableChannel(lambda: open_channel(address, files.channel_credentials(), server_name=HUB))
        files.on_change(channel.renew)
        stream = exchange_pb2_grpc.DirectoryServiceStub(channel.current).Watch(exchange_pb2.WatchRequest(), timeout=10)
        await stream.read()
        city.enrol("edu/system/moving")
        assert files.reload()
        await stream.read()
        revoked.add(first)
        stub = exchange_pb2_grpc.DirectoryServiceStub(channel.current)
        response = await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)
        assert response.content == b"edu/system/moving"
        with pytest.raises(grpc.aio.AioRpcError):
            await exhaust(stream)
        await channel.close()


async def served_certificate(address: str, client: IdentityFiles) -> bytes:
    """What the server shows, by TLS of the standard library: a second opinion on the handshake."""
    import ssl  # noqa: PLC0415  only here

    context = ssl.create_default_context(cafile=str(client.root_dir / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(client.directory / "auth.pem", client.directory / "auth.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    pem = ssl.DER_cert_to_PEM_cert(der)
    return pem.encode()


async def test_a_port_without_tls_serves_this_machine_only() -> None:
    async with serving(None) as (server, address):
        with pytest.raises(FatalError):
            server.listen("0.0.0.0:0", None)
        with pytest.raises(FatalError):
            server.listen("[::]:0", None)
        async with open_channel(address, None) as channel:
            stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
            assert (await stub.GetFile(exchange_pb2.GetFileRequest(), timeout=10)).content == b"local"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Watch(exchange_pb2.WatchRequest(), timeout=10).read()
            assert refusal_of(caught.value).reason is Reason.RPC_NOT_ALLOWED


async def test_health_falls_with_a_condition_and_rises_again() -> None:
    readiness = Readiness(["log"])
    async with serving(None, readiness=readiness) as (_, address), open_channel(address, None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)).status)

        for service in ("", "zhiwang.exchange.v1.DirectoryService"):
            await readiness.set("log", False)
            assert await status(service) == health_pb2.HealthCheckResponse.NOT_SERVING
            await readiness.set("log", True)
            assert await status(service) == health_pb2.HealthCheckResponse.SERVING


async def test_stopping_ends_subscriptions_without_waiting_out_the_grace(city: City) -> None:
    system = city.enrol("edu/system/enrolment")
    async with (
        serving(city.enrol("data/hub/main")) as (server, address),
        open_channel(address, system.channel_credentials(), server_name=HUB) as channel,
    ):
        stream = exchange_pb2_grpc.DirectoryServiceStub(channel).Watch(exchange_pb2.WatchRequest())
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await stream.read()
        await health.read()
        async with asyncio.timeout(30):
            await server.stop(3600)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exhaust(stream)
        assert refusal_of(caught.value).reason is Reason.SHUTTING_DOWN


async def test_stopping_tells_a_subscriber_whose_first_response_is_still_being_written(city: City) -> None:
    class Slow(Echo):
        async def Watch(self, request: Any, context: Any) -> AsyncIterator[exchange_pb2.WatchResponse]:  # noqa: ARG002, N802  gRPC's names
            # The write begins when this goes on, and the loop comes to the next callback before it is done.
            asyncio.get_running_loop().call_soon(server._wrapper.end_subscriptions)
            yield exchange_pb2.WatchResponse(timestamp=bytes(1 << 20))

    system = city.enrol("edu/system/enrolment")
    async with (
        serving(city.enrol("data/hub/main"), servicer=Slow()) as (server, address),
        open_channel(address, system.channel_credentials(), server_name=HUB) as channel,
    ):
        stream = exchange_pb2_grpc.DirectoryServiceStub(channel).Watch(exchange_pb2.WatchRequest(), timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exhaust(stream)
        assert refusal_of(caught.value).reason is Reason.SHUTTING_DOWN


@pytest.mark.parametrize("why", ["CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED"])
async def test_a_stream_on_which_nobody_speaks_ends_when_its_callers_certificate_no_longer_holds(
    city: City, why: str
) -> None:
    lost, other = city.enrol("edu/system/lost", days=1), city.enrol("edu/system/other", days=30)
    serial = x509.load_pem_x509_certificate((lost.directory / "auth.pem").read_bytes()).serial_number
    revoked: set[int] = set()
    ahead = 0.0

    def clock() -> float:
        return time.time() + ahead

    async with (
        serving(city.enrol("data/hub/main"), revoked=lambda: revoked, clock=clock) as (_, address),
        open_channel(address, lost.channel_credentials(), server_name=HUB) as mine,
        open_channel(address, other.channel_credentials(), server_name=HUB) as others,
    ):
        request = health_pb2.HealthCheckRequest()
        silent, neighbour = (health_pb2_grpc.HealthStub(channel).Watch(request) for channel in (mine, others))
        await silent.read()
        await neighbour.read()
        if why == "CERTIFICATE_REVOKED":
            revoked.add(serial)
        else:
            ahead = timedelta(days=2).total_seconds()
        async with asyncio.timeout(10):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await exhaust(silent)
        assert refusal_of(ended.value).reason is Reason[why]
        assert not neighbour.done()
        neighbour.cancel()


async def test_a_health_check_tells_the_servers_time() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    async with serving(None, clock=lambda: moment) as (_, address), open_channel(address, None) as channel:
        call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await call
        assert dict(await call.trailing_metadata())[TIME_METADATA] == str(round(moment * 1000))
