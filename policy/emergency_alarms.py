"""Alarms about emergencies: a line in the log when one is opened, and what metrics count. Neither names a citizen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from policy.emergencies import open_at, prepared
from policy.glass import Opening, name_of, step_of
from policy.model import Directory
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.clock import timestamp_text
from zhiwang.wire.metrics import REGISTRY, gauge

REMIND_SECONDS: Final = 3600.0
"""How often it is said that an opened emergency has not been reviewed."""

_log = structlog.get_logger(__name__)


class EmergencyAlarms:
    """Tells of each opening once, when this process begins to decide by it.

    Args:
        latest: Gives the newest directory.
        clock: Gives the time.
        record: Has it recorded that this process decides by it; None where only the alarm is wanted.
        registry: Of metrics.
    """

    def __init__(
        self,
        latest: Callable[[], Directory | None],
        clock: Callable[[], float],
        record: Callable[[audit_pb2.EmergencyStep], None] | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._latest = latest
        self._clock = clock
        self._record = record
        self._told: set[str] = set()
        gauge("zhiwang_emergencies_open", "Emergencies that are open now", registry=registry).set_function(
            self.open_now
        )

    def open_now(self) -> int:
        """How many are open."""
        directory = self._latest()
        return 0 if directory is None else len(open_at(directory, self._clock()))

    def look(self, directory: Directory) -> None:
        """Look at a directory that has come into force."""
        now = self._clock()
        for activation in directory.activations:
            name = name_of(activation)
            if name in self._told or activation.until <= now or prepared(directory.documents, activation) is None:
                continue
            self._told.add(name)
            _log.error(
                "an emergency is open",
                emergency=f"{activation.owner}/{activation.emergency}",
                opening=name,
                until=timestamp_text(activation.until),
                remedy=f"zhiwang policy emergencies; once it has ended, zhiwang policy review {name}",
            )
            if self._record is not None:
                self._record(
                    step_of(audit_pb2.EMERGENCY_ACTION_IN_FORCE, activation, directory_version=directory.version)
                )


async def remind(unreviewed: Callable[[], Iterable[Opening]]) -> None:
    """Say again and again which openings nobody has reviewed; runs until it is cancelled."""
    gauge("zhiwang_emergencies_unreviewed", "Opened emergencies that nobody has reviewed").set_function(
        lambda: len(list(unreviewed()))
    )
    while True:
        for opening in unreviewed():
            _log.error(
                "an emergency awaits review",
                emergency=opening.full_name,
                opening=opening.name,
                since=timestamp_text(opening.since),
                until=timestamp_text(opening.until),
                remedy=f"once it has ended, zhiwang policy review {opening.name}",
            )
        await asyncio.sleep(REMIND_SECONDS)
