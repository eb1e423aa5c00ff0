"""Names of the logs that one identity keeps: the one that `init` made, and one for each later year. Pure.

The first keeps the identity's `log_origin`, whatever year it is of; a later one adds its year: `…/hub/main/2027`. Years
are the city's.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from zhiwang.wire.clock import CITY_TIME

FIRST: Final = 0
"""In place of a year: the log that `init` made."""
FIRST_SHARD: Final = "first"
"""The same in words, where people name the log of a year."""
MAX_YEAR: Final = 9999

_INDEX_BITS: Final = 40
"""More entries than any log of a year has, and with a year of four digits less than a signed 64-bit integer holds."""

_LATER: Final = re.compile(r"([^/\n]+(?:/[^/\n]+){3})/([1-9][0-9]{3})")


def origin_of(log: str, year: int) -> str:
    """The origin of an identity's log of a year, or of its first."""
    return log if year == FIRST else f"{log}/{year}"


def log_of(origin: str) -> str:
    """The `log_origin` of the identity whose log this is."""
    later = _LATER.fullmatch(origin)
    return origin if later is None else later[1]


def year_of(origin: str) -> int:
    """The year in an origin; `FIRST` if there is none."""
    later = _LATER.fullmatch(origin)
    return FIRST if later is None else int(later[2])


def shard_of(origin: str) -> str:
    """How people name a log among those of its identity: its year, or `FIRST_SHARD`."""
    year = year_of(origin)
    return FIRST_SHARD if year == FIRST else str(year)


def year_at(seconds: float) -> int:
    """The city's year at a time (seconds since the epoch)."""
    return datetime.fromtimestamp(seconds, CITY_TIME).year


def position(year: int, index: int) -> int:
    """One number for an entry among all logs of an identity: rises from entry to entry and from year to year.

    It is the index itself in the first log, as rows say that were written before there were others.
    """
    return year << _INDEX_BITS | index


def year_and_index(at: int) -> tuple[int, int]:
    """Which entry of which log a position is."""
    return at >> _INDEX_BITS, at & (1 << _INDEX_BITS) - 1


def end_of(year: int) -> float:
    """When a year of the city is over, in seconds since the epoch."""
    if year >= MAX_YEAR:
        return float("inf")
    return datetime(year + 1, 1, 1, tzinfo=CITY_TIME).timestamp()
