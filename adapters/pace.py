"""When rosters are answered, and how often the department's database is asked: what its DBA can hold us to.

Interactive requests are for a person at a counter, so they never wait here; what they use is charged, and bulk waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from zhiwang.wire.clock import CITY_TIME

LONGEST_DEBT = 10.0
"""Seconds, at most, for which bulk makes up for what interactive requests used beyond the rate."""

_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of each day, in the city's time; they may pass midnight.

    Attributes:
        first: Minute of the day from which they run.
        last: Minute of the day at which they end, not in them itself.
    """

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "20:00-06:00".

        Raises:
            ValueError: It is not of that form, or begins when it ends.
        """
        first, last = (_minute(part) for part in text.split("-", 1)) if "-" in text else (0, 0)
        if first % _DAY == last % _DAY and (first, last) != (0, _DAY):
            raise ValueError("must be two different times of a day, such as 20:00-06:00")
        return cls(first, last)

    def admit(self, now: float) -> bool:
        """Whether a moment (seconds since the epoch) lies in them."""
        moment = datetime.fromtimestamp(now, CITY_TIME)
        minute = moment.hour * 60 + moment.minute
        if self.first < self.last:
            return self.first <= minute < self.last
        return minute >= self.first or minute < self.last


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if len(hours) != 2 or len(minutes) != 2 or not (hours + minutes).isdecimal():  # noqa: PLR2004 - two digits each
        raise ValueError("must be two times such as 20:00-06:00")
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _DAY:  # noqa: PLR2004 - minutes of an hour
        raise ValueError("must be two times between 00:00 and 24:00")
    return minute


class Pace:
    """A token bucket over the statements of a process: bulk begins only while one is left. Belongs to one thread.

    A frame's statements are counted when they have run, so one frame may take more than is left; the next then waits
    until that has been made up for. Frames that wait are joined, so that fewer statements serve them.

    Args:
        rate: Statements a second; None for any number.
        statements: How many have run.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(
        self, rate: int | None, statements: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._statements = statements
        self._clock = clock
        self._tokens = float(rate or 0)
        self._filled = clock()
        self._seen = statements()

    def pause(self) -> float:
        """Seconds until a bulk frame may begin; 0 if it may now."""
        if self._rate is None:
            return 0.0
        now, run = self._clock(), self._statements()
        tokens = self._tokens + (now - self._filled) * self._rate - (run - self._seen)
        self._tokens = max(-LONGEST_DEBT * self._rate, min(float(self._rate), tokens))
        self._filled, self._seen = now, run
        return max(0.0, (1.0 - self._tokens) / self._rate)
