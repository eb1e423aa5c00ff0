"""Days of the city. Pure: who needs the time takes a clock.

Every department keeps China standard time, so a date means the day from 00:00 to 24:00 at +08:00.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

CITY_TIME = timezone(timedelta(hours=8), "CST")
"""China standard time; it has had no summer time since 1991."""


def day_of(now: float) -> date:
    """The city's date at a time in seconds since the epoch."""
    return datetime.fromtimestamp(now, CITY_TIME).date()


def start_of_day(day: date) -> float:
    """The first second of a day, in seconds since the epoch."""
    return datetime.combine(day, time(), CITY_TIME).timestamp()


def timestamp_text(now: float) -> str:
    """A time as pages and receipts show it, in the city's time: "2026-09-01 08:30:00 +08:00"."""
    return datetime.fromtimestamp(now, UTC).astimezone(CITY_TIME).strftime("%Y-%m-%d %H:%M:%S +08:00")
