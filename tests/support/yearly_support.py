"""A log over several years, by a clock that a test sets; and the checker with which every such test ends."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import audit_support as support
from audit.appended import Appended
from audit.yearly import YearlyLog
from certs.identity import Identity
from log_places import Place, as_place
from zhiwang.wire.clock import CITY_TIME


class Calendar:
    """A clock. Years lie in the past, where every certificate of the tests is still far from its end.

    Attributes:
        now: Seconds since the epoch.
    """

    def __init__(self, text: str = "2021-06-01") -> None:
        self.now = 0.0
        self.set(text)

    def __call__(self) -> float:
        return self.now

    def set(self, text: str) -> None:
        """To a day or a time of the city."""
        self.now = datetime.fromisoformat(text).replace(tzinfo=CITY_TIME).timestamp()


def make(
    place: Path | Place, clock: Calendar, *, guard: Path | None = None, identity: Identity = support.HUB
) -> YearlyLog:
    engine = as_place(place).create()
    log = YearlyLog(engine, support.signer(identity), clock, guard=guard, verifier=support.verifier())
    log.create()
    return log


def unopened(place: Path | Place, clock: Calendar, *, guard: Path | None = None, number: int = 0) -> YearlyLog:
    signer = support.signer(support.HUB, number)
    return YearlyLog(as_place(place).open(), signer, clock, guard=guard, verifier=support.verifier())


def reopen(place: Path | Place, clock: Calendar, *, guard: Path | None = None, number: int = 0) -> YearlyLog:
    """The log as another process would open it."""
    log = unopened(place, clock, guard=guard, number=number)
    log.open()
    return log


def close(*logs: YearlyLog) -> None:
    for log in logs:
        log.close()
        log.engine.dispose()


def append(log: YearlyLog, count: int) -> Appended:
    """Append `count` entries in a transaction of their own."""
    with log.transaction() as connection:
        entries = [log.new_entry(support.event(number)) for number in range(count)]
        appended = log.append(connection, entries)
    log.committed(appended)
    return appended


def check(place: Path | Place, *acknowledged: Appended) -> list[str]:
    """Every log of a place holds, and holds what was acknowledged. Returns their origins, the newest first."""
    log = reopen(place, Calendar())
    try:
        log.verify_all()
        for appended in acknowledged:
            store = log.shard(appended.origin)
            assert store.entries(appended.first, len(appended.entries)) == list(appended.entries)
        return [store.origin for store in log.shards()]
    finally:
        close(log)
