"""All cases of a log in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from campaign import databases, small_disk, statements
from campaign.case import Case


def plan(_scratch: Path, only: str) -> Iterator[Case]:
    """Statements that fail, stored things that rot or are older, hubs that race, disks that are full."""
    yield from statements.plan(only)
    yield from databases.plan(only)
    yield from small_disk.plan(only)
