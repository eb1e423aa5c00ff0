"""Channels to our servers: options, the check of the server's identity, renewal, and errors on the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from zhiwang.wire.errors import DOMAIN, Reason, RefusedError
from zhiwang.wire.identity import MAX_URI
from zhiwang.wire.server import KEEPALIVE_SECONDS, KEEPALIVE_TIMEOUT_SECONDS, MAX_MESSAGE, MAX_METADATA

DRAIN_SECONDS = 90.0
"""How long a channel that was replaced may finish its calls."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # Each channel has connections of its own: a renewed certificate must not ride on an old connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

TOLD = "told by the server"
"""Detail of an error that a server of ours gave, and not gRPC on this side."""

_DETAILS_KEY = "grpc-status-details-bin"
_BY_STATUS = {
    grpc.StatusCode.UNAVAILABLE: Reason.HUB_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
    grpc.StatusCode.UNIMPLEMENTED: Reason.RPC_NOT_ALLOWED,
    grpc.StatusCode.PERMISSION_DENIED: Reason.RPC_NOT_ALLOWED,
}


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    *,
    server_name: str = "",
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.aio.Channel:
    """A channel to one server.

    Args:
        target: "host:port" or "unix:path".
        credentials: For TLS; None for a server on this machine.
        server_name: Whom the server's certificate must name: `identity.server_name(city, kind)` for any server of a
            kind, `Identity.server_name` for one in particular. Must be given with credentials: without it, TLS would
            look for the name that was dialled, which no certificate of ours has.
        options: Further channel arguments.

    Raises:
        ValueError: Credentials without a server name, or the reverse.
    """
    if (credentials is None) == bool(server_name):
        raise ValueError("credentials and server_name belong together")
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=(*_OPTIONS, *options))
    name = (("grpc.ssl_target_name_override", server_name), ("grpc.default_authority", server_name))
    return grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *name, *options))


class RenewableChannel:
    """A channel that can be replaced, since a client certificate cannot change inside one. Event loop only.

    Ask for `current` at each call; streams that must move as well listen with `on_renewal` and start anew.

    Args:
        build: Opens a channel with the credentials in force.
    """

    def __init__(self, build: Callable[[], grpc.aio.Channel]) -> None:
        self._build = build
        self._current = build()
        self._draining: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel for the next call."""
        return self._current

    def on_renewal(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each replacement."""
        self._listeners.append(listener)

    def renew(self, drain: float = DRAIN_SECONDS) -> None:
        """Swap in a new channel; the old one finishes its calls, for `drain` seconds at most."""
        old, self._current = self._current, self._build()
        task = asyncio.get_running_loop().create_task(old.close(drain))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        for listener in self._listeners:
            listener()

    async def close(self, grace: float | None = None) -> None:
        """End every call, after `grace` seconds if given."""
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        await self._current.close(grace)


def is_cancelled() -> bool:
    """Whether the running task is being cancelled, in a handler of CancelledError.

    grpc.aio raises that error also in whoever waits for a call whose channel was closed, or that was cancelled from
    this side; the task itself goes on then.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def refusal_of(error: grpc.aio.AioRpcError) -> RefusedError:
    """The error that a server of ours raised, from what came over the wire; never its free text.

    A status without our ErrorInfo (from gRPC itself, or from something between) gets the nearest reason.
    """
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            refusal = _from_details(value)
            if refusal is not None:
                return refusal
    return RefusedError(_BY_STATUS.get(error.code(), Reason.INTERNAL), f"gRPC status {error.code().name}")


def _from_details(value: bytes) -> RefusedError | None:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    try:
        for detail in status_pb2.Status.FromString(value).details:
            detail.Unpack(info) or detail.Unpack(bad)
    except DecodeError:
        return None
    if info.domain != DOMAIN or info.reason not in Reason.__members__:
        return None
    field = bad.field_violations[0].field[:MAX_URI] if bad.field_violations else ""
    return RefusedError(Reason[info.reason], TOLD, field=field, metadata=dict(info.metadata))
