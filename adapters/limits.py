"""What a mapping bounds besides its statements: guesses, the use of the database, and the shares of its answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from adapters.pace import Hours
from zhiwang.wire import caps
from zhiwang.wire.records import Outcome
from zhiwang.wire.tomlfile import StrictModel


def _hours(text: str) -> str:
    Hours.parse(text)
    return text


class Limits(StrictModel):
    """How many distinct guesses the ledger admits within a window (DESIGN section 11), and how the database is used.

    Attributes:
        values: Compared values of one attribute, for one requesting department and one subject.
        names: Names, for one requesting department and one subject.
        places: Asserted jurisdictions, for one requesting department and one subject.
        days: Length of the window.
        reports: People about whom one official may have a report of who asked, in a day.
        department_reports: The same for all officials of a department together, who are only as good as its word.
        statements_per_second: How many statements one adapter process runs in a second, on average: rosters wait, a
            person at a counter never does.
        bulk_hours: When rosters are answered, e.g. "20:00-06:00", in the city's time; refused at others. It may pass
            midnight.
    """

    values: Annotated[int, Field(ge=1, le=1000)] = caps.VALUES
    names: Annotated[int, Field(ge=1, le=100)] = caps.NAMES
    places: Annotated[int, Field(ge=1, le=100)] = 5
    days: Annotated[int, Field(ge=1, le=366)] = caps.DAYS
    reports: Annotated[int, Field(ge=0, le=10_000)] = 30
    department_reports: Annotated[int, Field(ge=0, le=100_000)] = 300
    statements_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    bulk_hours: Annotated[str, AfterValidator(_hours)] | None = None

    @property
    def hours(self) -> Hours | None:
        """`bulk_hours`, read; None for all day."""
        return None if self.bulk_hours is None else Hours.parse(self.bulk_hours)


def _band(band: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= band[0] < band[1] <= 1:
        raise ValueError("must be two shares between 0 and 1, the lower one first")
    return band


Band = Annotated[tuple[float, float], AfterValidator(_band)]
"""Lowest and highest share of an answer, between 0 and 1."""


class Watch(StrictModel):
    """Which shares of its answers are right for an attribute. Each requesting department is judged by itself.

    Attributes:
        yes: Band of the share of YES. Without a band, a share may not jump by more than half of what was left.
        no: Band of the share of NO.
        unknown: Band of the share of UNKNOWN.
        least: Answers that are judged together, at least.
        suspend: Answer a department no more whose share is outside, until the data set was loaded anew.
    """

    yes: Band | None = None
    no: Band | None = None
    unknown: Band | None = None
    least: Annotated[int, Field(ge=100, le=1_000_000)] = 200
    suspend: bool = False

    def band(self, answer: Outcome) -> tuple[float, float] | None:
        """The band of one answer."""
        return {Outcome.YES: self.yes, Outcome.NO: self.no, Outcome.UNKNOWN: self.unknown}[answer]
