"""Eight departments' databases, each with the schema that its own history gave it.

The stores only write. They spell identifiers and names as clerks do, and know nothing of mappings or claims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from exchange.demo.model import City
from exchange.demo.stores import civil, edu, health, housing, hrss, market, police, title
from exchange.demo.stores.book import Book, opened

WRITERS: Mapping[str, Callable[[Book, City], None]] = {
    "police": police.write,
    "health": health.write,
    "hrss": hrss.write,
    "housing": housing.write,
    "title": title.write,
    "edu": edu.write,
    "civil": civil.write,
    "market": market.write,
}
"""By department."""


def write(department: str, path: Path, city: City, *, seed: int, now: datetime) -> None:
    """Write one department's database to a file that does not exist yet."""
    with opened(path, f"{seed}-{department}", now) as book:
        WRITERS[department](book, city)
