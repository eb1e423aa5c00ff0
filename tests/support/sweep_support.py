"""A sweep in one process: the real client, journal and files before a mock city, without a socket.

with Bench(tmp_path, rows) as bench:
    run = await bench.run()
    lines = bench.write()
"""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Self

from exchange.client.case import Context
from exchange.client.check import Delivery
from exchange.client.keys import OwnerKeys
from exchange.client.mock import OFFICIAL, mock_profile
from exchange.client.mock_city import MockCity, load_directory
from exchange.demo.build import examples_directory
from exchange.demo.codes import resident
from exchange.sweep.asking import SweepClient
from exchange.sweep.cases import CaseReader
from exchange.sweep.ending import Written, write_results
from exchange.sweep.journal import Journal, journal_of
from exchange.sweep.mapping import RosterColumns, SubjectColumns, templates_of
from exchange.sweep.results import Lines
from exchange.sweep.rosters import find_roster
from exchange.sweep.running import Sweep
from exchange.sweep.starting import begin, binding
from policy.model import Directory
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import Header, parse_header
from zhiwang.wire.tables import Form

MATTER = "senior-card"
HEADINGS = ("编号", "身份证号", "姓名", "街道")
COLUMNS = RosterColumns(key="编号", subject=(SubjectColumns(slot="senior", identifier="身份证号"),), keep=("街道",))


@cache
def directory() -> Directory:
    examples = examples_directory()
    return load_directory(
        examples / "centre.toml",
        sorted((examples / "documents").glob("*.toml")),
        sorted((examples / "matters").glob("*.toml")),
        now=time.time(),
    )


def people(count: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows about people who do not exist."""
    for number in range(count):
        yield f"R{number}", resident(date(1950, 1, 1), number % 1000), "某人", "街道"


class Wire(MockCity):
    """A mock city that notes what reaches its owners, and can be broken.

    Attributes:
        seen: Header of each request that an owner was given, once for the same bytes.
        cases: How many cases they were.
        before: Called with each header before it is carried; what it raises is what happens.
        after: The same once the owner has answered, before the reply arrives.
        held: Waited for before a request is carried.
        now: How many requests are on their way.
        most: How many have been at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(directory(), "civil/seniors", clock)
        self.seen: dict[bytes, Header] = {}
        self.before: Callable[[Header], None] = lambda _header: None
        self.after: Callable[[Header], None] = lambda _header: None
        self.held: Callable[[], Awaitable[None]] = _nothing
        self.now = 0
        self.most = 0

    @property
    def cases(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for header in self.seen.values():
            found[header.owner] = found.get(header.owner, 0) + header.cases
        return found

    async def exchange(
        self, request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool, owner: str = ""
    ) -> Delivery:
        assert bulk
        header = parse_header(request.header)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.held()
            self.before(header)
            delivery = await super().exchange(request, seconds, bulk=bulk, owner=owner)
            # As the owner's replay store has it: the same bytes are one asking.
            self.seen[header.hash] = header
            self.after(header)
        finally:
            self.now -= 1
        return delivery


class Bench:
    """One sweep; a new one over the same directory goes on with its journal."""

    def __init__(self, path: Path, rows: Sequence[Sequence[object]] | None, wire: Wire, **more: Any) -> None:
        self.path = path / "roster.csv"
        self.out = path / "results.csv"
        if rows is not None:
            with self.path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([HEADINGS, *rows])
        profile = mock_profile(wire)
        self.client = SweepClient(
            profile=profile,
            signer=lambda: wire.system,
            directory=wire.holder,
            refresh=_nothing,
            transport=wire,
            keys=OwnerKeys(wire.statements, wire.verifier, time.time),
            closing=AsyncExitStack(),
        )
        defaults = profile.defaults
        self.context = Context(MATTER, "SC2026-0001", OFFICIAL, defaults.role, defaults.jurisdiction)
        self.matter = self.client.matter(MATTER)
        self.columns: RosterColumns = more.pop("columns", COLUMNS)
        self.reader = CaseReader(self.columns, templates_of(self.columns, self.matter))
        self.roster = find_roster(self.path, Form())
        self.journal = Journal.open(journal_of(self.out))
        self.stopping = asyncio.Event()
        self.more = {"until": None, "patience": 0.0} | more
        self.sweep: Sweep | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.journal.close()

    def begin(self) -> bool:
        bound = binding(self.roster, self.reader, self.matter, self.context, self.client.identity.short)
        went_on = begin(self.journal, bound, self.roster, self.reader)
        self.journal.set_aside(100)
        return went_on

    async def run(self) -> Sweep:
        self.begin()
        self.sweep = Sweep(
            self.client, self.roster, self.reader, self.journal, self.context, self.stopping, **self.more
        )
        await self.sweep.run()
        return self.sweep

    def write(self, *, before: Path | None = None, full: Path | None = None) -> Written:
        lines = Lines(self.reader, self.matter, changed=before is not None)
        earlier = None if before is None else find_roster(before, Form())
        return write_results(self.journal, self.roster, self.reader, lines, self.out, before=earlier, full=full)


def results(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def refusing(error: RefusedError, times: int, owner: str) -> Callable[[Header], None]:
    """Something that goes wrong so many times with one owner's requests."""
    left = [times]

    def refuse(header: Header) -> None:
        if header.owner == owner and left[0] > 0:
            left[0] -= 1
            raise error

    return refuse


async def _nothing() -> None:
    """Nothing to wait for."""
