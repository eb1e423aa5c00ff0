"""docs/witness.md, followed word by word behind the first steps of docs/join.md, until an auditor sees cosignatures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from page_support import Reader, with_free_ports

DOCS = Path(__file__).parents[2] / "docs"
PORTS = (7440, 7441, 7442, 7443, 7444, 7542)
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(400)  # some twenty processes, and the machine may have other work


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path / "empty")
    reader.directory.mkdir()
    yield reader
    reader.close()


def test_the_page_leads_from_nothing_to_a_cosigned_log(reader: Reader) -> None:
    city = (DOCS / "join.md").read_text("utf-8").partition("\n## 4.")[0]
    page = (DOCS / "witness.md").read_text("utf-8").partition("## What a cosignature says")[0]
    city, page = with_free_ports(f"{city}\0{page}", PORTS).split("\0")
    reader.follow(city)
    making, mark, rest = page.partition("The last command prints the key.")
    assert mark
    key = reader.follow(making).strip()
    assert key.startswith("shenzhen/office/witness/main+")
    assert rest.count("KEY") == 1
    publishing, mark, looking = rest.replace("KEY", key).partition("Within a few seconds")
    assert mark
    reader.follow(publishing)
    # "Within a few seconds": on a machine that has nothing else to do.
    cosigned = reader.directory / "hub-state" / "cosigned.json"
    deadline = time.monotonic() + PATIENCE
    while not cosigned.exists():
        assert time.monotonic() < deadline, (reader.directory / "hub.log").read_text("utf-8")
        time.sleep(0.1)
    said = reader.follow(looking)
    assert "1 of 1 needed" in said
    assert "office" in said
