"""Prometheus metrics of one process, served on a port of their own. No label ever holds anything about a citizen."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from zhiwang.wire.errors import FatalError, Reason

LATENCY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds; a verification takes a few milliseconds, a chunk of a roster some hundred."""

HOST = "127.0.0.1"


def make_registry() -> CollectorRegistry:
    """A registry with what every process tells: CPU seconds, memory, open files, garbage collection, version."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    if hasattr(gc, "callbacks"):
        GCCollector(registry=registry)
    return registry


REGISTRY: Final = make_registry()
"""Registry of this process."""


def counter(
    name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry = REGISTRY
) -> Counter:
    """A counter; keep the children that `labels` gives where the path is hot."""
    return Counter(name, documentation, labels, registry=registry)


def gauge(
    name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry = REGISTRY
) -> Gauge:
    """A gauge."""
    return Gauge(name, documentation, labels, registry=registry)


def histogram(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = LATENCY_BUCKETS,
    registry: CollectorRegistry = REGISTRY,
) -> Histogram:
    """A histogram, of seconds unless its name says otherwise."""
    return Histogram(name, documentation, labels, buckets=buckets, registry=registry)


class RpcMetrics:
    """Counts RPCs and their time; pass it to `build_server` as `observe`. One for each registry.

    Methods come from tables of ours and codes from gRPC, so the number of label values is bounded.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = histogram(
            "zhiwang_rpc_seconds",
            "Time of RPCs served, streams from open to end",
            ("method", "code"),
            registry=registry,
        )
        self._children: dict[tuple[str, str], Histogram] = {}

    def __call__(self, method: str, code: str, seconds: float) -> None:
        """Note one finished RPC."""
        child = self._children.get((method, code))
        if child is None:
            child = self._children[method, code] = self._seconds.labels(method.lstrip("/"), code)
        child.observe(seconds)


class MetricsServer:
    """Serves a registry over HTTP from a thread of its own, until `close`.

    Args:
        address: "host:port", or a port alone for this machine only; port 0 takes a free one.
        registry: What is served.

    Raises:
        FatalError: INTERNAL, if the port cannot be had.
    """

    def __init__(self, address: str, registry: CollectorRegistry = REGISTRY) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or HOST
        try:
            self._server, self._thread = start_http_server(int(port), host, registry)
        except (OSError, ValueError, OverflowError) as error:
            raise FatalError(
                Reason.INTERNAL, f"metrics cannot be served on {address}: {type(error).__name__}"
            ) from None
        self.port: int = self._server.server_port
        self.address = f"{host}:{self.port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
