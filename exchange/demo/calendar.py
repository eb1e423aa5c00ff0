"""Days and months of the example city."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

ENROLMENT_DAY = date(2026, 9, 1)
"""Reference date of the enrolment matter, on which the city's people have the ages that they have."""


def month_index(day: date) -> int:
    """Return the month as one number: year * 12 + month - 1."""
    return day.year * 12 + day.month - 1


def month_text(index: int) -> str:
    """Return the month as YYYYMM."""
    return f"{index // 12:04d}{index % 12 + 1:02d}"


def years_before(day: date, years: int) -> date:
    """Return the same day some years earlier; 29 February becomes the 28th."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def whole_months(start: date, end: date) -> int:
    """Return how many whole months lie between two days; negative if the second is the earlier."""
    return month_index(end) - month_index(start) - (end.day < start.day)


def whole_years(born: date, day: date) -> int:
    """Return the age on a day."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def some_day(rng: Random, earliest: date, latest: date) -> date:
    """Return a day between two, both included."""
    return earliest + timedelta(days=rng.randrange((latest - earliest).days + 1))
