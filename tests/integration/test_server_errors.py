"""What a client sees of errors: domain errors as reasons, everything else as nothing but INTERNAL."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from logging_support import captured_log
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.call import LOCAL
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.server import RpcRules, build_server, time_left

SECRET = "guess of 11010519491231002X 欧阳晓明"
SERVICE = "/zhiwang.exchange.v1.ExchangeService/"
RULES: RpcRules = {SERVICE + name: frozenset({LOCAL}) for name in ("Exchange", "ExchangeStream")}
WATCH: RpcRules = {"/zhiwang.exchange.v1.DirectoryService/Watch": frozenset({LOCAL})}

Behaviour = Callable[[Any, Any], Any]


class Exchange(exchange_pb2_grpc.ExchangeServiceServicer):
    """Does what the test says."""

    def __init__(self, unary: Behaviour | None = None, stream: Behaviour | None = None) -> None:
        self.unary = unary
        self.stream = stream

    async def Exchange(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's name
        assert self.unary
        return await self.unary(request, context)

    async def GetOwnerKeys(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  gRPC's names
        return exchange_pb2.GetOwnerKeysResponse()

    async def ExchangeStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802  gRPC's name
        assert self.stream
        async for response in self.stream(request_iterator, context):
            yield response


@pytest.fixture(autouse=True)
def log() -> Iterator[Callable[[], str]]:
    """What the server logs."""
    with captured_log() as stream:
        yield stream.getvalue


@asynccontextmanager
async def serving(servicer: Exchange, **options: Any) -> AsyncIterator[exchange_pb2_grpc.ExchangeServiceStub]:
    add = exchange_pb2_grpc.add_ExchangeServiceServicer_to_server
    server = build_server([(add, servicer)], RULES, city=None, **options)
    address = server.listen("127.0.0.1:0", None)
    await server.start()
    try:
        async with open_channel(address, None) as channel:
            yield exchange_pb2_grpc.ExchangeServiceStub(channel)
    finally:
        await server.stop(0.1)


async def fail(stub: Any, *, stream: bool) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (exhaust(stub) if stream else stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=10))
    return caught.value


async def exhaust(stub: Any) -> None:
    async for _ in stub.ExchangeStream(iter([exchange_pb2.ExchangeStreamRequest()]), timeout=10):
        pass


def everything(error: grpc.aio.AioRpcError) -> str:
    return f"{error.details()}{error.debug_error_string()}{error.trailing_metadata()!r}{error.initial_metadata()!r}"


def raising(error: Exception) -> Exchange:
    async def unary(_request: Any, _context: Any) -> Any:
        raise error

    async def stream(requests: Any, _context: Any) -> Any:
        async for _ in requests:
            yield exchange_pb2.ExchangeStreamResponse()
            raise error

    return Exchange(unary, stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, RuntimeError, AssertionError, asyncio.QueueFull, NotImplementedError]
)
async def test_the_text_of_an_unexpected_exception_reaches_neither_client_nor_log(
    kind: type[Exception], log: Callable[[], str], *, stream: bool
) -> None:
    async with serving(raising(kind(SECRET))) as stub:
        error = await fail(stub, stream=stream)
    assert error.code() is grpc.StatusCode.INTERNAL
    refusal = refusal_of(error)
    assert refusal.reason is Reason.INTERNAL
    for part in (SECRET, *SECRET.split()):
        if part != "of":
            assert part not in everything(error)
            assert part not in log()
    assert kind.__name__ not in everything(error)
    (line,) = [json.loads(line) for line in log().splitlines() if "RPC failed" in line]
    assert kind.__name__ in line["exception"]
    assert line["call"] == refusal.metadata["call_id"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [RefusedError, FatalError])
async def test_a_domain_error_is_told_by_its_reason_and_not_by_its_detail(
    error: type[RefusedError | FatalError], log: Callable[[], str], *, stream: bool
) -> None:
    async with serving(raising(error(Reason.OVERLOADED, "the queue of frames is full"))) as stub:
        caught = await fail(stub, stream=stream)
    assert caught.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal_of(caught).reason is Reason.OVERLOADED
    assert "queue of frames" not in everything(caught)
    assert "queue of frames" in log()


async def test_bytes_that_are_no_message_are_refused_as_malformed(log: Callable[[], str]) -> None:
    async def stream(requests: Any, _context: Any) -> Any:
        async for _ in requests:
            yield exchange_pb2.ExchangeStreamResponse()

    server = build_server(
        [(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, Exchange(None, stream))], RULES, city=None
    )
    address = server.listen("127.0.0.1:0", None)
    await server.start()
    garbage = b"\xff" + SECRET.encode()
    async with open_channel(address, None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(SERVICE + "Exchange")(garbage, timeout=10)
        assert refusal_of(caught.value).reason is Reason.REQUEST_MALFORMED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.stream_stream(SERVICE + "ExchangeStream")(iter([garbage]), timeout=10):
                pass
        assert refusal_of(caught.value).reason is Reason.REQUEST_MALFORMED
        assert DecodeError.__name__ not in everything(caught.value)
    await server.stop(0.1)
    assert "11010519491231002X" not in log()


async def test_an_rpc_that_is_missing_in_the_table_is_refused() -> None:
    async with serving(Exchange()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(), timeout=10)
        assert refusal_of(caught.value).reason is Reason.RPC_NOT_ALLOWED


async def test_a_refusal_before_the_servicer_reads_nothing_of_the_request(log: Callable[[], str]) -> None:
    async with serving(Exchange()) as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(owners=[SECRET]), timeout=10)
    assert "欧阳晓明" not in log()


async def test_a_stream_that_its_client_abandons_is_cleaned_up_at_once() -> None:
    cleaned = asyncio.Event()

    async def stream(requests: Any, _context: Any) -> Any:
        try:
            async for _ in requests:
                yield exchange_pb2.ExchangeStreamResponse()
                await asyncio.sleep(3600)
        finally:
            cleaned.set()

    async with serving(Exchange(None, stream)) as stub:
        call = stub.ExchangeStream()
        await call.write(exchange_pb2.ExchangeStreamRequest())
        await call.read()
        call.cancel()
        async with asyncio.timeout(30):
            await cleaned.wait()


async def test_finished_rpcs_are_observed_with_their_status() -> None:
    seen: list[tuple[str, str]] = []

    async def unary(request: Any, _context: Any) -> Any:
        if request.known_tree_size:
            raise RefusedError(Reason.NOT_GRANTED)
        return exchange_pb2.ExchangeResponse()

    async with serving(Exchange(unary), observe=lambda method, code, _: seen.append((method, code))) as stub:
        await stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Exchange(exchange_pb2.ExchangeRequest(known_tree_size=1), timeout=10)
    assert seen == [(SERVICE + "Exchange", "OK"), (SERVICE + "Exchange", "PERMISSION_DENIED")]


async def test_a_callers_time_bounds_the_servicers_with_a_margin_for_the_way_home() -> None:
    left: list[float] = []

    async def unary(_request: Any, context: Any) -> Any:
        left.append(time_left(context, default=7.0))
        return exchange_pb2.ExchangeResponse()

    async with serving(Exchange(unary)) as stub:
        await stub.Exchange(exchange_pb2.ExchangeRequest())
        await stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=100)
        await stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=5)
    assert left[:2] == [7.0, 7.0]
    assert left[2] < 5 - 0.04


async def test_reflection_tells_every_service() -> None:
    server = build_server([(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, Exchange())], RULES, city=None)
    address = server.listen("127.0.0.1:0", None)
    await server.start()
    async with open_channel(address, None) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10)]
    await server.stop(0.1)
    names = {service.name for service in answers[0].list_services_response.service}
    assert {"zhiwang.exchange.v1.ExchangeService", "grpc.health.v1.Health"} <= names


async def test_a_port_that_is_taken_is_not_shared() -> None:
    first, second = build_server([], {}, city=None), build_server([], {}, city=None)
    address = first.listen("127.0.0.1:0", None)
    await first.start()
    with pytest.raises(FatalError, match="another process"):
        second.listen(address, None)
    await first.stop(None)  # type: ignore[arg-type]  # at once
    await second.stop(0)


async def test_a_socket_that_is_served_is_not_taken_over_and_one_that_was_left_is(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'agent.sock'}"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(address.removeprefix("unix:"))
    first, second = build_server([], {}, city=None), build_server([], {}, city=None)
    first.listen(address, None)
    with pytest.raises(FatalError, match="another process serves"):
        second.listen(address, None)
    await first.start()
    async with open_channel(address, None) as channel:
        checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert checked.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(FatalError, match="too long"):
        second.listen(f"unix:/{'x' * 200}", None)
    await first.stop(0)
    assert second.listen(address, None) == address
    await second.stop(0)


async def test_more_calls_than_admitted_are_refused_at_once() -> None:
    release = asyncio.Event()

    async def unary(_request: Any, _context: Any) -> Any:
        await release.wait()
        return exchange_pb2.ExchangeResponse()

    async with serving(Exchange(unary), maximum_concurrent_rpcs=2) as stub:
        waiting = [asyncio.ensure_future(stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=20)) for _ in range(2)]
        await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Exchange(exchange_pb2.ExchangeRequest(), timeout=20)
        assert refusal_of(caught.value).reason is Reason.OVERLOADED
        release.set()
        await asyncio.gather(*waiting)


async def test_a_caller_that_hangs_up_on_a_stream_is_no_error_of_this_process(log: Callable[[], str]) -> None:
    result = exchange_pb2.ExchangeResult(reason="x" * (1 << 20))
    large = exchange_pb2.ExchangeStreamResponse(items=[exchange_pb2.ExchangeStreamResponse.Item(result=result)])
    ended = asyncio.Event()

    async def answers(_requests: Any, _context: Any) -> Any:
        try:
            for _ in range(100):
                yield large
        finally:
            ended.set()

    add = exchange_pb2_grpc.add_ExchangeServiceServicer_to_server
    server = build_server([(add, Exchange(stream=answers))], RULES, city=None)
    address = server.listen("127.0.0.1:0", None)
    await server.start()
    # This client takes so little that it hangs up in the middle of the first answer.
    options = (("grpc.max_receive_message_length", 1000),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
        for _ in range(10):
            ended.clear()
            assert (await fail(stub, stream=True)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await asyncio.wait_for(ended.wait(), 60)
    await server.stop(0.1)
    assert not [line for line in map(json.loads, log().splitlines()) if line["level"] == "error"]
