"""Breaking the glass with real processes and commands: prepared, opened, used, ended, reviewed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from breaking_support import DirectAdapter, Forge, RealCity, command
from exchange.demo import build
from exchange.demo.build import ADMINS, AUDITOR
from promptness import ANSWERED, answered, eventually, observe, tell, watched

pytestmark = pytest.mark.timeout(240)

VACCINATED = "child: health.vaccinated exists"
REASON = "outbreak at the school of Bao'an"
DENIED = {"NOT_GRANTED"}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("glass"), ())
    try:
        city.furnish("health")
        yield city
    finally:
        city.stop()


@pytest.fixture(scope="module")
def adapter(city: RealCity) -> Iterator[DirectAdapter]:
    adapter = DirectAdapter(city, "health")
    yield adapter
    adapter.stop()


def profile(city: RealCity, short: str) -> Path:
    """Of an admin or auditor."""
    path = city.layout.directory / f"{short.replace('/', '-')}.toml"
    build.write_profile_file(city.layout, path, short, registrar=city.address("registrar"), hub=city.hub_addresses)
    return path


def run(city: RealCity, who: str, *arguments: str, status: int = 0, **options: Any) -> str:
    """A command of somebody; what it printed."""
    done = command(*arguments, "--profile", str(profile(city, who)), **options)
    told = done.stdout.decode() + (done.stderr.decode() if status else "")
    assert done.returncode == status, done.stderr.decode()
    return told


def opened(city: RealCity, who: str, *more: str, status: int = 0) -> str:
    signing = ("--sign", str(city.layout.identity(who)))
    given = ("policy", "activate", "health/outbreak", *signing, "--reason", "-", *more, "--json")
    return run(city, who, *given, status=status, input=REASON.encode())


def logged(city: RealCity, place: str) -> str:
    """What a process told its operator."""
    return Path(city.fleet.log(place)).read_text("utf-8")


def openings(city: RealCity, who: str, *more: str, status: int = 0) -> list[dict[str, Any]]:
    told = run(city, who, "policy", "emergencies", *more, "--json", status=status)
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(told)[0]
    return found


LATER = """
import functools, sys, time
from exchange import registrar
from exchange.cli.main import main
seconds = float(sys.argv.pop(1))
registrar.Registrar = functools.partial(registrar.Registrar, clock=lambda: time.time() + seconds)
main()
"""


def restart_ahead(city: RealCity, seconds: float) -> None:
    """The registrar again, with a clock that is ahead: nobody waits for hours."""
    assert city.fleet.end("registrar") == 0
    path = str(city.layout.profile("registrar"))
    city.fleet.start("registrar", [sys.executable, "-c", LATER, str(seconds), "registrar", "run", "--profile", path])
    city.announced("registrar")


def found(city: RealCity) -> list[dict[str, Any]]:
    """What `audit search --emergency` finds at the hub."""
    told = run(city, AUDITOR, "audit", "search", "--emergency", "--proofs", "--json")
    return [json.loads(line) for line in told.splitlines()]


async def test_an_emergency_is_opened_by_one_used_marked_ended_and_reviewed_by_another(
    city: RealCity, adapter: DirectAdapter
) -> None:
    opener, reviewer = f"edu/admin/{ADMINS[0]}", f"health/admin/{ADMINS[0]}"
    await eventually(city, [VACCINATED], DENIED)
    forge = Forge(city, keys=await city.owner_keys())
    child = city.applications[0].child.person.identifier

    def at_the_owner(later: float = 0.0) -> str:
        """As it comes through a hub that lets everything pass."""
        adapter.ahead = later
        asked = forge.request("health", [VACCINATED], [{"child": child}], issued=later, expires=later + 30)
        (item,) = adapter.send(asked.request)
        adapter.ahead = 0.0
        return str(item.reason) or "ANSWERED"

    assert await asyncio.to_thread(at_the_owner) == "NOT_GRANTED", "what is prepared permits nothing"
    assert "8 hours at most" in await asyncio.to_thread(opened, city, opener, "--hours", "9", status=1)

    seen: dict[str, float] = {}
    async with watched(
        observe(lambda: answered(city, [VACCINATED]), ANSWERED, seen, "answered through agent and hub"),
        observe(lambda: asyncio.to_thread(at_the_owner), "ANSWERED", seen, "answered by the owner itself"),
    ):
        told = json.loads(await asyncio.to_thread(opened, city, opener, "--hours", "2"))
    lines = logged(city, "registrar").splitlines()
    alarms = [json.loads(line) for line in lines if '"an emergency is open"' in line]
    tell("opening an emergency", datetime.fromisoformat(alarms[0]["timestamp"]).timestamp(), seen)

    # It ends by itself, whatever the hub says.
    assert await asyncio.to_thread(at_the_owner, 7100.0) == "ANSWERED"
    assert await asyncio.to_thread(at_the_owner, 7201.0) == "NOT_GRANTED"

    # Alarmed, and the reason is nowhere but in the registrar's log.
    assert [(one["level"], one["opening"]) for one in alarms] == [("error", told["opening"])]
    for place in ("registrar", "hub"):
        assert REASON not in logged(city, place)
    assert "an emergency is open" in logged(city, "hub")
    assert "zhiwang_emergencies_open 1.0" in city.metrics("hub")
    for place in ("hub", "health"):
        assert REASON.encode() not in b"".join(entry.SerializeToString() for entry in city.entries(place))

    # Marked in both logs.
    rule = f"health/emergency/outbreak/{told['opening']}"
    for place in ("hub", "health"):
        entries = city.entries(place)
        accesses = [entry.hub_access if place == "hub" else entry.owner_access for entry in entries]
        assert [rule] in [list(access.rule_ids) for access in accesses]
        assert [entry.emergency_step.opening for entry in entries if entry.HasField("emergency_step")] == [
            told["opening"].removeprefix("edu-")
        ]
    marked = await asyncio.to_thread(found, city)
    assert {one["event"] for one in marked} == {"hub_access", "emergency_step"}
    assert {one["emergency"] for one in marked} == {"health/outbreak"}

    # Listed until somebody of the owner has reviewed it; not opened again within the day.
    for who in (reviewer, opener):
        (listed,) = openings(city, who, status=1)
        assert (listed["opening"], listed["reason"], listed["reviewed_by"]) == (told["opening"], REASON, "")
    assert "less than a day" in await asyncio.to_thread(opened, city, opener, status=1)
    note = ("policy", "review", told["opening"], "--note", "two questions, one school")
    assert "EMERGENCY_UNKNOWN" in run(city, opener, *note, status=1)
    assert "EMERGENCY_OPEN" in run(city, reviewer, *note, status=1)
    assert "still open" in run(city, reviewer, "policy", "emergencies", status=1)
    await asyncio.to_thread(restart_ahead, city, 7201)
    assert "EMERGENCY_UNKNOWN" in run(city, opener, *note, status=1)
    run(city, reviewer, *note)
    assert [one["note"] for one in openings(city, reviewer, "--all")] == ["two questions, one school"]
