"""Whether a process can serve, as `grpc.health.v1` and systemd are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from zhiwang.wire.systemd import notify

READINESS = "zhiwang.readiness."
"""With the name of a condition behind it, the name under which health tells whether that condition holds."""

_log = structlog.get_logger(__name__)


class Readiness:
    """Whether this process can serve, as `grpc.health.v1` tells it: only while every condition holds.

    Each condition is told too, as a service of its own (`READINESS`), so that a person need not look for it in the log.

    Args:
        conditions: Names of the conditions, all of them unmet at first, e.g. "log", "directory".
    """

    def __init__(self, conditions: Iterable[str] = ()) -> None:
        self._conditions = dict.fromkeys(conditions, False)
        self._noted: dict[str, bool] = {}
        self._closed = False
        self._services: Sequence[str] = ()
        self.servicer = health_aio.HealthServicer()

    @property
    def serving(self) -> bool:
        """Whether every condition holds and the process is not stopping."""
        return not self._closed and all(self._conditions.values())

    @property
    def unmet(self) -> tuple[str, ...]:
        """Conditions that do not hold."""
        return tuple(name for name, holds in self._conditions.items() if not holds)

    async def attach(self, services: Sequence[str]) -> None:
        """Tell the state of these services as well as that of the whole."""
        self._services = services
        await self._tell()

    async def set(self, condition: str, holds: bool) -> None:  # noqa: FBT001  a condition is named by the first argument
        """Say whether a condition holds; one that was not named before is added."""
        before = self._conditions.get(condition)
        self._conditions[condition] = holds
        if before is not holds:
            _log.info("readiness", condition=condition, holds=holds, serving=self.serving)
            await self._tell()

    async def note(self, name: str, holds: bool) -> None:  # noqa: FBT001  as of `set`
        """Tell of something, as of a condition, that a person has to look at while the process serves all the same."""
        before = self._noted.get(name)
        self._noted[name] = holds
        if before is not holds:
            _log.info("readiness", condition=name, holds=holds, serving=self.serving)
            await self._tell()

    async def close(self) -> None:
        """The process stops: from here on it does not serve, whatever is said later."""
        self._closed = True
        await self._tell()

    async def _tell(self) -> None:
        told = dict.fromkeys(("", *self._services), self.serving)
        told |= {f"{READINESS}{name}": holds for name, holds in (self._noted | self._conditions).items()}
        for service, holds in told.items():
            status = health_pb2.HealthCheckResponse.SERVING if holds else health_pb2.HealthCheckResponse.NOT_SERVING
            await self.servicer.set(service, status)
        notify("STATUS=serving" if self.serving else f"STATUS=not serving: {', '.join(self.unmet) or 'stopping'}")
