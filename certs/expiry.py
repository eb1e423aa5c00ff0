"""What runs out, and telling ahead of it in log and metrics: certificates, signed metadata, lists and keys.

Nothing here decides anything; what has run out is refused where it is used. This is for whoever is on duty.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from certs.credentials import IdentityFiles

DAY = 86_400.0

ALARM_DAYS = (30.0, 7.0, 1.0)
"""Days ahead at which is told what runs out; from the last of them on as an error."""

LOOK_SECONDS = 60.0
"""How often is looked; each thing is told of once a day."""

METRIC = "zhiwang_certificate_expire_time_seconds"
METRIC_TEXT = "When the first of a use runs out, since the epoch: certificates, signed metadata, lists and keys"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Expiry:
    """One thing that runs out.

    Attributes:
        use: What it is for, in one word: the label of its metric.
        what: Its name, for people.
        time: When it runs out, since the epoch.
        remedy: The command that renews it.
        life: Days from its beginning to its end, if known: no alarm falls into the first half of a life.
        days: Days ahead at which is told of it.
    """

    use: str
    what: str
    time: float
    remedy: str
    life: float = math.inf
    days: tuple[float, ...] = ALARM_DAYS

    def left(self, now: float) -> float:
        """Days that are left; negative when it has run out."""
        return (self.time - now) / DAY

    def alarm(self, now: float) -> float | None:
        """The threshold in days that has been passed, 0 once it has run out; None if all is well."""
        left = self.left(now)
        if left <= 0:
            return 0.0
        fitting = [days for days in self.days if days <= self.life / 2] or [self.life / 4]
        return min((days for days in fitting if left <= days), default=None)


def certificate_expiries(files: IdentityFiles) -> list[Expiry]:
    """The certificates of an identity, and the authority's that are pinned beside them."""
    renew = f"zhiwang certs renew {files.directory}"
    expiries = [
        Expiry(use, f"{use}.pem of {files.identity.short}", validity.end, renew, life=validity.days)
        for use, validity in files.validities.items()
    ]
    pin = "a new authority's certificate has to be pinned everywhere beside the old one; see docs/operations.md"
    return [*expiries, Expiry("ca", f"the authority's certificate in {files.root_dir}", files.ca_expires, pin)]


class ExpiryAlarms:
    """Tells of what runs out: a line in the log when a threshold is passed and then once a day, and a metric.

    Args:
        expiries: Gives everything that this process depends on, as it is at the moment.
        clock: Gives the time.
        gauge: Gets the earliest time of each use.
    """

    def __init__(self, expiries: Callable[[], Iterable[Expiry]], clock: Callable[[], float], gauge: Gauge) -> None:
        self._expiries = expiries
        self._clock = clock
        self._gauge = gauge
        self._told: dict[tuple[str, str], tuple[float, float]] = {}

    def look(self) -> list[Expiry]:
        """Look once. Returns what was told of."""
        now = self._clock()
        earliest: dict[str, float] = {}
        told = []
        for expiry in self._expiries():
            earliest[expiry.use] = min(expiry.time, earliest.get(expiry.use, math.inf))
            if self._is_due(expiry, now):
                self._tell(expiry, now)
                told.append(expiry)
        for use, moment in earliest.items():
            self._gauge.labels(use).set(moment)
        return told

    async def watch(self) -> None:
        """Look again and again; runs until it is cancelled."""
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - else nobody would be told of anything any more
                _log.error("it was not looked at what expires", exc_info=error)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_due(self, expiry: Expiry, now: float) -> bool:
        key, alarm = (expiry.use, expiry.what), expiry.alarm(now)
        if alarm is None:
            self._told.pop(key, None)
            return False
        before = self._told.get(key)
        if before is not None and alarm >= before[0] and now - before[1] < DAY:
            return False
        self._told[key] = alarm, now
        return True

    @staticmethod
    def _tell(expiry: Expiry, now: float) -> None:
        left = expiry.left(now)
        say = _log.error if left <= ALARM_DAYS[-1] else _log.warning
        event = "expires soon" if left > 0 else "has expired"
        say(event, use=expiry.use, what=expiry.what, days_left=round(left, 2), remedy=expiry.remedy)
