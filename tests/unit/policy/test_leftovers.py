"""A store of files takes away, when it is opened, what a process left that was killed while it wrote one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from policy import incoming
from policy.archive import Archive
from policy.proposals import Proposals

STORES: dict[str, Callable[[Path], object]] = {
    "archive": lambda place: Archive(place).keep({}),
    "proposals": lambda place: Proposals(place, lambda: 0.0),
    incoming.INCOMING: lambda place: incoming.make(place.parent),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_takes_away_what_a_killed_writer_left(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / ".0123.json.00112233445566ff").write_bytes(b"half")
    (place / ".keep").touch()
    STORES[name](place)
    assert [path.name for path in place.iterdir()] == [".keep"]
