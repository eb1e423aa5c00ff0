"""A gRPC server of ours: who may call what, and how errors become statuses. One wrapper for all four kinds of RPC.

Servicers raise `ZhiwangError` and return; they never abort, and never set a code. What they raise besides reaches the
log of this process, and nothing of it the client. Health and reflection are served by every server.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import ipaddress
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_status import rpc_status

from zhiwang.wire.call import CALL, LOCAL, Call, Caller, Peer, PeerTable, current_peer
from zhiwang.wire.errors import DOMAIN, FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Kind
from zhiwang.wire.readiness import Readiness

__all__ = [
    "ANYBODY",
    "LOCAL",
    "Peer",
    "RpcRules",
    "Server",
    "build_server",
    "current_peer",
    "status_of",
    "time_left",
]

RpcRules = Mapping[str, frozenset[Caller]]
"""Who may call each RPC, by its full name "/package.Service/Method". What is missing here is refused."""

ANYBODY: frozenset[Caller] = frozenset({*Kind, LOCAL})
"""Everybody with a certificate of the city, and local callers."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Longest message in bytes, both ways."""

MAX_METADATA = 16 * 1024
"""Longest header block in bytes."""

KEEPALIVE_SECONDS = 10
"""How long a connection may be silent before it is probed."""

KEEPALIVE_TIMEOUT_SECONDS = 5
"""How long a probe may stay unanswered before the connection is dropped."""

RECHECK_SECONDS = 0.25
"""How often the certificates of the callers of everything that runs are looked at again."""

TIME_METADATA = "zhiwang-time-ms"
"""Metadata of a health check: this machine's time in milliseconds since the epoch, so that clocks can be compared."""

RETURN_MARGIN = 0.05
"""Seconds that are kept back from a caller's deadline for the way home."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients probe at our own interval; without this they would be sent away for pinging too often.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
    ("grpc.http2.max_ping_strikes", 3),
    # Two processes on one port would share its connections by chance.
    ("grpc.so_reuseport", 0),
)

_CODES = {code.name: code for code in grpc.StatusCode}
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_STANDARD_CALLERS = {
    _HEALTH_CHECK: ANYBODY,
    "/grpc.health.v1.Health/List": ANYBODY,
    "/grpc.health.v1.Health/Watch": ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYBODY,
}
_MALFORMED = object()

_log = structlog.get_logger(__name__)


class Observer(Protocol):
    """What is told about each finished RPC; `zhiwang.wire.metrics.RpcMetrics` is one."""

    def __call__(self, method: str, code: str, seconds: float, /) -> None:
        """Note one RPC by its full name, the name of its status and how long it took."""


class Server:
    """A server that is built; `listen`, then `start`. Make it with `build_server`."""

    def __init__(self, inner: grpc.aio.Server, wrapper: _Wrapper, readiness: Readiness) -> None:
        self.inner = inner
        self.readiness = readiness
        self._wrapper = wrapper
        self._rechecking: asyncio.Task[None] | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> str:
        """Open a port. Without credentials only this machine can be served.

        Args:
            address: "host:port" (port 0 takes a free one) or "unix:path".
            credentials: For TLS with client certificates.

        Returns:
            The address with the port that was taken.

        Raises:
            FatalError: INTERNAL, if the port cannot be had, somebody serves at that path, or the port would be open to
                others without TLS.
        """
        if credentials is None and not is_local(address):
            raise FatalError(
                Reason.INTERNAL, f"{address} can be reached from elsewhere; without TLS listen on 127.0.0.1 or unix:"
            )
        if address.startswith("unix:"):
            _check_unused(address.removeprefix("unix:"))
        try:
            if credentials is None:
                port = self.inner.add_insecure_port(address)
            else:
                port = self.inner.add_secure_port(address, credentials)
        except RuntimeError:
            raise FatalError(Reason.INTERNAL, f"cannot listen on {address}; is another process there?") from None
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Take calls."""
        await self.readiness.attach(self._wrapper.services)
        await self.inner.start()
        self._rechecking = asyncio.create_task(self._recheck())

    async def stop(self, grace: float) -> None:
        """Refuse new calls, end the subscriptions, wait up to `grace` seconds for the rest.

        Streams of requests (a link) are the servicer's to end first; an open one makes this wait out the grace.
        """
        await self.readiness.close()
        self._wrapper.end_subscriptions()
        await self.inner.stop(grace)
        if self._rechecking is not None:
            self._rechecking.cancel()

    async def _recheck(self) -> None:
        """End what callers whose certificates no longer hold have running, although nothing is said on it."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                self._wrapper.recheck()
            except Exception as error:  # noqa: BLE001  else nobody would be looked at again
                _log.error("the certificates of callers were not looked at", exc_info=error)

    async def wait(self) -> None:
        """Until it has stopped."""
        await self.inner.wait_for_termination()


def build_server(
    servicers: Iterable[tuple[Callable[[Any, Any], None], Any]],
    rules: RpcRules,
    *,
    city: str | None,
    revoked: Callable[[], Container[int]] = frozenset,
    readiness: Readiness | None = None,
    observe: Observer | None = None,
    maximum_concurrent_rpcs: int | None = None,
    announce: Sequence[tuple[str, str]] = (),
    clock: Callable[[], float] = time.time,
) -> Server:
    """Make a server out of servicers.

    Args:
        servicers: Pairs of the generated `add_…Servicer_to_server` and the servicer.
        rules: Who may call each of their RPCs.
        city: City of the identities that are taken; None for a server that only has local ports.
        revoked: Gives the serials of revoked certificates at the moment.
        readiness: Told by health; without one the server is ready as soon as it has started.
        observe: Told about each finished RPC.
        maximum_concurrent_rpcs: More get RESOURCE_EXHAUSTED at once; streams count.
        announce: Metadata that every call gets before its response, whatever comes of it.
        clock: Gives the time.
    """
    readiness = readiness or Readiness()
    wrapper = _Wrapper({**rules, **_STANDARD_CALLERS}, PeerTable(city, revoked, clock), observe, announce)
    for add, servicer in servicers:
        add(servicer, wrapper)
    health_pb2_grpc.add_HealthServicer_to_server(readiness.servicer, wrapper)
    names = (*wrapper.services, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), wrapper)
    inner = grpc.aio.server(handlers=(wrapper,), options=_OPTIONS, maximum_concurrent_rpcs=maximum_concurrent_rpcs)
    return Server(inner, wrapper, readiness)


def status_of(error: ZhiwangError, call_id: str = "") -> status_pb2.Status:
    """The public form of an error: code, text, `ErrorInfo`, the text in Chinese, and `BadRequest` if a field is named.

    Args:
        error: Its detail stays here.
        call_id: Told for INTERNAL, so that an operator finds the line in the log.
    """
    reason = error.reason
    status = status_pb2.Status(code=_CODES[reason.status].value[0], message=f"{reason.name}: {reason.value.en}")
    metadata = {**error.metadata, "call_id": call_id} if reason is Reason.INTERNAL and call_id else error.metadata
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN, metadata=metadata))
    status.details.add().Pack(error_details_pb2.LocalizedMessage(locale="zh-CN", message=reason.value.zh))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=reason.value.en, reason=reason.name
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status


def time_left(context: grpc.aio.ServicerContext, default: float, margin: float = RETURN_MARGIN) -> float:
    """Seconds that the servicer may use of the caller's time, at most `default`; 0 if it has run out."""
    remaining = context.time_remaining()
    return default if remaining is None else max(0.0, min(default, remaining - margin))


class _Wrapper(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """Takes the place of a server when generated code registers handlers, and wraps each once."""

    def __init__(
        self,
        rules: RpcRules,
        peers: PeerTable,
        observe: Observer | None,
        announce: Sequence[tuple[str, str]],
    ) -> None:
        self.services: list[str] = []
        self._rules = rules
        self._peers = peers
        self._observe = observe
        self._announce = tuple(announce)
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._subscriptions: set[asyncio.Task[Any]] = set()
        self._running: dict[Call, Peer] = {}
        self._stopping = False

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Generated code says everything a second time by name, see below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Take the handlers of one service."""
        self.services.append(service)
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            callers = self._rules.get(method)
            if callers is None:
                _log.warning("an RPC stands in no table and will be refused", method=method)
            self._handlers[method] = self._wrap(method, handler, callers or frozenset())

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of one call; None makes gRPC answer UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def end_subscriptions(self) -> None:
        """End every stream that only the server speaks on."""
        self._stopping = True
        for task in self._subscriptions:
            task.cancel()

    def recheck(self) -> None:
        """End the calls of those whose certificates expired or were revoked meanwhile; they are told so."""
        for call, peer in list(self._running.items()):
            try:
                peer.check()
            except ZhiwangError as error:
                call.end(error)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _wrap(self, method: str, handler: grpc.RpcMethodHandler, callers: frozenset[Caller]) -> grpc.RpcMethodHandler:
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if handler.response_streaming:
            run = self._streaming(behaviour, subscription=not handler.request_streaming)
        else:
            run = behaviour
        wrapped = self._guard(method, run, callers, streams=handler.response_streaming)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        # An exception of the deserialiser would go out as text. For a stream it is raised where the servicer reads.
        parse = handler.request_deserializer if handler.request_streaming else _lenient(handler.request_deserializer)
        return make(wrapped, request_deserializer=parse, response_serializer=handler.response_serializer)

    def _streaming(
        self, behaviour: Callable[..., Any], *, subscription: bool
    ) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[None]]:
        generates = inspect.isasyncgenfunction(behaviour)

        async def speak(request: Any, context: grpc.aio.ServicerContext) -> None:
            if not generates:
                await behaviour(request, context)
                return
            responses: AsyncGenerator[Any, None] = behaviour(request, context)
            # Closed here, so that its `finally` runs while the call still is there.
            async with aclosing(responses):
                async for response in responses:
                    try:
                        await context.write(response)
                    except grpc.aio.InternalError:
                        # The caller hung up while it was told this, so nobody is there to be told of an error either.
                        raise asyncio.CancelledError from None

        async def subscribe(request: Any, context: grpc.aio.ServicerContext) -> None:
            task = asyncio.current_task()
            if task is None or self._is_stopping():
                raise RefusedError(Reason.SHUTTING_DOWN)
            self._subscriptions.add(task)
            try:
                await speak(request, context)
            except asyncio.CancelledError:
                if not self._is_stopping() or context.cancelled():
                    raise
                task.uncancel()
                raise RefusedError(Reason.SHUTTING_DOWN) from None
            finally:
                self._subscriptions.discard(task)

        return subscribe if subscription else speak

    def _guard(
        self,
        method: str,
        run: Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]],
        callers: frozenset[Caller],
        *,
        streams: bool,
    ) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]:
        peers, observe, running = self._peers, self._observe, self._running
        announce, tells_time = self._announce, method == _HEALTH_CHECK

        async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
            started = time.perf_counter() if observe else 0.0
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  gRPC runs each handler in a task
            call = Call(method, task)
            CALL.set(call)
            code = "OK"
            try:
                # A stream says it by itself: a task that is cancelled while its first response still carries it would
                # send it again with the refusal, which gRPC does not take (TOO_MANY_OPERATIONS).
                if announce or streams:
                    await context.send_initial_metadata(announce)
                call.peer = peer = peers.identify(context.auth_context())
                if peer.caller not in callers:
                    raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{peer.label} may not call {method}")  # noqa: TRY301  refusals of the wrapper and of servicers go one way
                peer.check()
                running[call] = peer
                if tells_time:
                    context.set_trailing_metadata(((TIME_METADATA, str(round(peers.clock() * 1000))),))
                if request is _MALFORMED:
                    raise RefusedError(Reason.REQUEST_MALFORMED, "not a message of this RPC")  # noqa: TRY301  the same
                return await run(request, context)
            except grpc.aio.AbortError:
                code = "ABORTED"
                raise
            except asyncio.CancelledError:
                if call.ended is None or context.cancelled():
                    code = "CANCELLED"
                    raise
                task.uncancel()
                running.pop(call, None)
                refusal = _refusal(call.ended, call)
                code = refusal.reason.status
                await _abort(context, refusal, call)
            except Exception as error:  # noqa: BLE001  nothing may reach gRPC, which would tell its text to the client
                running.pop(call, None)
                refusal = _refusal(error, call)
                code = refusal.reason.status
                await _abort(context, refusal, call)
            finally:
                running.pop(call, None)
                if observe:
                    observe(method, code, time.perf_counter() - started)

        return handle


def _refusal(error: Exception, call: Call) -> ZhiwangError:
    """What the caller is told, after this process's log has been told everything."""
    label = call.peer.label if call.peer else "unidentified"
    if isinstance(error, DecodeError):
        error = RefusedError(Reason.REQUEST_MALFORMED, "a message of the stream cannot be read")
    if isinstance(error, FatalError):
        _log.error("RPC failed", reason=error.reason.name, detail=error.detail, caller=label)
        return error
    if isinstance(error, ZhiwangError) and error.reason is not Reason.INTERNAL:
        _log.info("RPC refused", reason=error.reason.name, detail=error.detail, caller=label)
        return error
    _log.error("RPC failed", reason=Reason.INTERNAL.name, caller=label, exc_info=error)
    return error if isinstance(error, ZhiwangError) else RefusedError(Reason.INTERNAL)


async def _abort(context: grpc.aio.ServicerContext, error: ZhiwangError, call: Call) -> NoReturn:
    status = rpc_status.to_status(status_of(error, call.id if error.reason is Reason.INTERNAL else ""))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")  # and if it ever did not, the handler must not go on to answer OK


def _lenient(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserializer is None:
        return None

    def parse(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError:
            return _MALFORMED

    return parse


def _check_unused(path: str) -> None:
    """Refuse the path of a socket that is served: gRPC would unlink it and take its callers over in silence."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            found = probe.connect_ex(path)
        except OSError as error:
            # The path is too long for a socket, or holds a zero byte.
            raise FatalError(Reason.INTERNAL, f"cannot listen on unix:{path}: {error}") from None
    if found in {errno.ENOENT, errno.ECONNREFUSED}:
        # Nothing there, or what an ended process left.
        return
    if found in {0, errno.EAGAIN}:
        raise FatalError(Reason.INTERNAL, f"another process serves at unix:{path}; stop it first, or take another path")
    raise FatalError(Reason.INTERNAL, f"cannot listen on unix:{path}: {os.strerror(found)}")


def is_local(address: str) -> bool:
    """Whether an address is on this machine, so that nothing of a call without TLS leaves it."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
