"""Small example cities for tests."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path

from exchange.demo.generate import generate
from exchange.demo.model import City
from exchange.demo.places import Places, read_places

EXAMPLES = Path(__file__).parents[2] / "examples"
TODAY = date(2026, 11, 24)


@cache
def places() -> Places:
    return read_places(EXAMPLES / "shenzhen_divisions.csv")


def city(*, seed: int = 1, residents: int = 3000, students: int = 150, today: date = TODAY) -> City:
    """A city that a test may change."""
    return generate(seed=seed, residents=residents, students=students, places=places(), today=today)


@cache
def shared_city() -> City:
    """A city that no test changes."""
    return city()
