"""The example city, running, for benchmarks: every process real, every link mTLS on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exchange.client.case import Case, Context, Subject
from exchange.client.client import Client
from exchange.demo import build, stores
from exchange.demo.build import MATTER, OWNERS, ROLE, Layout
from exchange.demo.generate import generate
from exchange.demo.model import Application, City
from exchange.demo.places import read_places
from exchange.demo.processes import Fleet
from exchange.demo.town import Town
from zhiwang.wire.profile import load_profile

SEED = 1
JURISDICTION = "nbs:4403"


@dataclass(frozen=True, slots=True)
class RunningCity:
    """A city and a client in this process.

    Attributes:
        client: Of the education bureau's enrolment system.
        pids: Of the city's processes, by name.
    """

    town: Town
    city: City
    client: Client
    pids: dict[str, int]

    def context(self, reference: str = "2026-000001") -> Context:
        """Why the bench asks."""
        return Context(MATTER, reference, "bench-1", ROLE, JURISDICTION)


def case(application: Application, claims: Sequence[str] = ()) -> Case:
    """An application as the client takes it; all claims of the matter unless some are named."""
    subjects = [Subject("child", application.child.person.identifier, application.child.name)]
    subjects += [Subject("guardian", party.person.identifier, party.name) for party in application.guardians]
    subjects.append(Subject("home", application.home.code))
    return Case(tuple(subjects), tuple(claims), application.number)


@asynccontextmanager
async def running(residents: int, students: int) -> AsyncIterator[RunningCity]:
    """Build a city in a temporary directory, run it, and stop it."""
    with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as temporary:
        layout = Layout(Path(temporary))
        examples = build.examples_directory()
        layout.logs.mkdir(mode=0o700)
        build.make_identities(layout)
        build.make_directory(layout, examples)
        fleet = Fleet(layout.logs)
        try:
            town = Town(layout, fleet)
            town.start_registrar()
            city = generate(
                seed=SEED,
                residents=residents,
                students=students,
                places=read_places(examples / "shenzhen_divisions.csv"),
                today=datetime.now(UTC).astimezone().date(),
            )
            town.start_hub()
            for department in OWNERS:
                build.furnish(layout, examples, department)
                stores.write(department, layout.database(department), city, seed=SEED, now=datetime.now(UTC))
            for department in OWNERS:
                town.start_adapter(department)
            town.start_agent()
            await town.ready()
            async with await Client.open(load_profile(layout.system_profile)) as client:
                if not await client.transport.ready(30):
                    raise RuntimeError("the client finds no hub")
                yield RunningCity(town, city, client, fleet.pids)
        finally:
            fleet.stop()
