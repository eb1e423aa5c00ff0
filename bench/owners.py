"""Owners for benchmarks of rosters: five departments with one table in several sizes, and a client that asks them.

Registrar, hub and adapters are the real processes of the example city, on mTLS; only what the departments keep is
plainer than theirs, so that it can be made with any number of rows and its statements can be run alone. Three claims
about one person stand in one data set of an owner, two thresholds and `exists`, scoped by place, so that the ledger is
charged for everybody.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.database import connect_to
from adapters.mapping import load_mapping
from adapters.sql import Source
from bench.rows import person
from exchange.client.case import Case, Context, Subject
from exchange.client.client import Client
from exchange.demo import build
from exchange.demo.build import CENTRE, DEPARTMENTS, REQUESTER, ROLE, Layout
from exchange.demo.processes import Fleet
from exchange.demo.town import Town
from policy.document import parse_document
from servers import Server
from zhiwang.wire.claims import Predicate
from zhiwang.wire.profile import load_profile

OWNERS = ("hrss", "police", "health", "housing", "title")
"""Who is asked: the first alone, or all."""

JURISDICTION = "nbs:4403"
COMMUNITY = "440306001001"
MATTER = "roster"
DATABASE = "rosters"
CLAIMS = (("months", Predicate.AT_LEAST, "12"), ("paid", Predicate.AT_MOST, "600"), ("known", Predicate.EXISTS, ""))
"""Of one owner about one person: attribute, predicate, cell."""

_PUBLISHED = {
    "months": 'type = "integer"\nat_least = [6, 12]',
    "paid": 'type = "integer"\nat_most = [600, 1200]',
    "known": 'asks = ["exists"]',
}
_CENTRE = """city = "shenzhen"
[subject]
person = "resident"
"""
_MATTER = f"""matter = "{MATTER}"
title = {{ zh = "名单", en = "Roster" }}
basis = "a benchmark"
requesters = ["{REQUESTER}"]
reference_date = 2026-09-01
reference = "2026-[0-9]{{6}}"
[slots]
person = "person"
"""


def name(rows: int) -> str:
    """What a table, a data set and the ends of its attributes' names are called, by its size: "e6" for a million."""
    return f"{rows:.0e}".replace("1e+0", "e")


def claims(owner: str, rows: int) -> tuple[str, ...]:
    """The three claims as the client takes them."""
    return tuple(
        f"person: {owner}.{attribute}_{name(rows)} {predicate.value} {cell}".strip()
        for attribute, predicate, cell in CLAIMS
    )


def _title(text: str) -> str:
    return f'title = {{ zh = "{text}", en = "{text}" }}\n'


def _document(department: str, sizes: Sequence[int]) -> str:
    lines = [f'department = "{department}"\n', _title(department)]
    if department == REQUESTER:
        lines.append(f'system.enrolment.roles = ["{ROLE.partition("/")[2]}"]\n')
    if department not in OWNERS:
        return "".join(lines)
    for rows in sizes:
        for attribute, predicate, _ in CLAIMS:
            full = f"{attribute}_{name(rows)}"
            lines.append(f'\n[attribute.{full}]\n{_title(full + "?")}subject = "person"\ncounter = "0755-00000000"\n')
            lines.append(_PUBLISHED[attribute])
            lines.append(f'\n[[grant]]\nid = "{full.replace("_", "-")}"\nrole = "{ROLE}"\nmatter = "{MATTER}"\n')
            lines.append(f'ask = "{department}.{full} {predicate.value}"\n')
    return "".join(lines)


def _mapping(department: str, url: str, sizes: Sequence[int]) -> str:
    lines = [f'department = "{department}"\n[database]\nurl = "{url}"\n']
    for rows in sizes:
        data = name(rows)
        lines.append(f'\n[data.{data}]\ntable = "{data}"\nsubject = "id_card"\n')
        lines.append('region = { column = "region", codes = "nbs" }\n')
        for attribute, *_ in CLAIMS:
            value = "" if attribute == "known" else f'value = "{attribute}"\n'
            lines.append(f'\n[attribute.{attribute}_{data}]\ndata = "{data}"\n{value}')
    return "".join(lines)


def _examples(directory: Path, url: str, sizes: Sequence[int]) -> Path:
    """What the city's people would publish, laid out as the example files are."""
    for folder in ("documents", "mappings", "matters"):
        (directory / folder).mkdir(parents=True)
    centre = [_CENTRE]
    for department in DEPARTMENTS:
        centre.append(f'[department.{department}]\n{_title(department)}home = "{JURISDICTION}"\n')
        if department == REQUESTER:
            centre.append(f'system.enrolment.home = "{JURISDICTION}"\n')
        if department == CENTRE:
            centre.append("auditor.zhao.office = true\n")
        (directory / "documents" / f"{department}.toml").write_text(_document(department, sizes), "utf-8")
    for department in OWNERS:
        own = url or f"sqlite:///file:{department}.db?mode=ro&uri=true"
        (directory / "mappings" / f"{department}.toml").write_text(_mapping(department, own, sizes), "utf-8")
    (directory / "centre.toml").write_text("".join(centre), "utf-8")
    (directory / "matters" / f"{MATTER}.toml").write_text(_MATTER, "utf-8")
    return directory


def _statements(rows: int) -> tuple[str, str]:
    table = name(rows)
    return (
        f"CREATE TABLE {table} (id_card VARCHAR(18), region VARCHAR(12), months INTEGER, paid INTEGER)",
        f"CREATE INDEX {table}_id ON {table} (id_card)",
    )


def _write(directory: Path, server: Server | None, sizes: Sequence[int]) -> Path:
    """Make the tables. Without a server: a file of SQLite, of which each owner gets a copy."""
    path = directory / "rosters.db"
    if server is not None:
        server.create(DATABASE)
    connection = sqlite3.connect(path)
    for rows in sizes:
        print(f"… {rows:,} rows", file=sys.stderr)
        table, index = _statements(rows)
        records = ((person(i), COMMUNITY, i % 24, i % 24 * 100) for i in range(rows))
        if server is None:
            connection.execute(table)
            connection.executemany(f"INSERT INTO {name(rows)} VALUES (?, ?, ?, ?)", records)  # noqa: S608 - our name
            connection.execute(index)
            continue
        loaded = server.directory / "load.csv"
        with loaded.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(records)
        loaded.chmod(0o644)
        copy = f"COPY {name(rows)} FROM '{loaded}' (FORMAT csv)"
        server.execute(DATABASE, table, copy, index, f"VACUUM ANALYZE {name(rows)}", "CHECKPOINT")
        loaded.unlink()
    connection.execute("ANALYZE")
    connection.commit()
    connection.close()
    return path


@dataclass(frozen=True, slots=True)
class RunningOwners:
    """Owners and a client in this process.

    Attributes:
        client: Of the education bureau's enrolment system.
        sources: The owners' data sets, opened once more: to run their statements alone.
        pids: Of the processes, by name.
        agent: Address of the bureau's agent.
    """

    layout: Layout
    client: Client
    sources: dict[str, Source]
    pids: dict[str, int]
    agent: str

    def context(self) -> Context:
        """Why the bench asks."""
        return Context(MATTER, "2026-000001", "bench-1", ROLE, JURISDICTION)


def case(identifier: str, asked: tuple[str, ...]) -> Case:
    """A person as the client takes one."""
    return Case((Subject("person", identifier),), asked, identifier)


class _SampledFleet(Fleet):
    """Processes that tell where they spend their CPU time (`bench/sampled.py`)."""

    def start(self, name: str, command: Sequence[str]) -> None:
        python, *script = command
        super().start(name, [python, "-m", "bench.sampled", str(self.log(name).with_suffix(".json")), *script])


@asynccontextmanager
async def running(
    sizes: Sequence[int], server: Server | None = None, *, sampled: bool = False
) -> AsyncIterator[RunningOwners]:
    """Make the owners in a temporary directory, run everything, and stop it.

    Args:
        sizes: Rows of each owner's tables.
        server: Keeps the tables; None for SQLite files.
        sampled: Whether the processes tell where they spend their CPU time.
    """
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
        layout = Layout(Path(temporary))
        url = "" if server is None else server.url(DATABASE)
        examples = _examples(layout.directory / "examples", url, sizes)
        database = _write(layout.directory, server, sizes)
        layout.logs.mkdir(mode=0o700)
        build.make_identities(layout)
        build.make_directory(layout, examples)
        fleet = (_SampledFleet if sampled else Fleet)(layout.logs)
        sources = {}
        try:
            town = Town(layout, fleet, OWNERS)
            town.start_registrar()
            town.start_hub()
            for department in OWNERS:
                build.furnish(layout, examples, department)
                if server is None:
                    shutil.copyfile(database, layout.database(department))
                town.start_adapter(department)
                sources[department] = _source(layout.home(department))
            town.start_agent()
            await town.ready()
            async with await Client.open(load_profile(layout.system_profile)) as client:
                if not await client.transport.ready(30):
                    raise RuntimeError("the client finds no hub")
                yield RunningOwners(layout, client, sources, fleet.pids, town.agent)
        finally:
            for source in sources.values():
                source.close()
            await asyncio.to_thread(fleet.stop)
            if server is not None:
                server.drop(DATABASE)


def _source(home: Path) -> Source:
    document = parse_document((home / "document.toml").read_bytes())
    mapping = load_mapping(home / "mapping.toml", document)
    return Source(connect_to(mapping.database, home), mapping, document.attributes)
