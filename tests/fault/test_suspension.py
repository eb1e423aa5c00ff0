"""What one admin suspends stops at the hub and, whatever the hub lets pass, at the owner; everybody else goes on.

Real processes, the real command; each test prints how long it took from the registrar's signature.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from breaking_support import INSURED, DirectAdapter, Forge, RealCity, command
from exchange.demo import build
from exchange.demo.build import ADMINS
from promptness import ANSWERED, answered, eventually, observe, tell, watched

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("suspension"), ())
    try:
        city.furnish("hrss")
        yield city
    finally:
        city.stop()


@pytest.fixture(scope="module")
def adapter(city: RealCity) -> Iterator[DirectAdapter]:
    adapter = DirectAdapter(city, "hrss")
    yield adapter
    adapter.stop()


def policy(city: RealCity, *arguments: str) -> dict[str, object]:
    """A command of an admin of the labour bureau."""
    profile = city.layout.directory / "hrss-admin.toml"
    build.write_profile_file(city.layout, profile, f"hrss/admin/{ADMINS[0]}", registrar=city.address("registrar"))
    done = command("policy", *arguments, "--profile", str(profile), "--json")
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


def signing(city: RealCity, admin: str) -> tuple[str, str]:
    return "--sign", str(city.layout.identity(f"hrss/admin/{admin}"))


def published(city: RealCity) -> float:
    """When the registrar put the newest directory in force, since the epoch."""
    lines = [json.loads(line) for line in Path(city.fleet.log("registrar")).read_text("utf-8").splitlines()]
    return datetime.fromisoformat(
        [line["timestamp"] for line in lines if line["event"] == "directory in force"][-1]
    ).timestamp()


async def test_a_suspended_role_is_denied_at_hub_and_owner_and_two_admins_let_it_ask_again(
    city: RealCity, adapter: DirectAdapter
) -> None:
    await eventually(city, [INSURED], ANSWERED)
    forge = Forge(city, keys=await city.owner_keys())
    person = city.applications[0].guardians[0].person.identifier

    def at_the_owner() -> str:
        """As it comes through a hub that lets everything pass."""
        forged = forge.request("hrss", [INSURED], [{"guardian": person}])
        (item,) = adapter.send(forged.request)
        return str(item.reason) or "ANSWERED"

    async def through_the_hub() -> set[str]:
        return await answered(city, [INSURED])

    assert await asyncio.to_thread(at_the_owner) == "ANSWERED"
    seen: dict[str, float] = {}
    async with watched(
        observe(through_the_hub, {"NOT_GRANTED"}, seen, "denied through agent and hub"),
        observe(lambda: asyncio.to_thread(at_the_owner), "NOT_GRANTED", seen, "denied by the owner itself"),
    ):
        told = await asyncio.to_thread(
            policy, city, "suspend", "--role", "edu/enrolment-clerk", *signing(city, ADMINS[0])
        )
        signed = published(city)
    tell("a suspension", signed, seen)
    lifted: dict[str, float] = {}
    both = (*signing(city, ADMINS[0]), *signing(city, ADMINS[1]))
    async with watched(
        observe(through_the_hub, ANSWERED, lifted, "answered again"),
        observe(lambda: asyncio.to_thread(at_the_owner), "ANSWERED", lifted, "answered by the owner itself"),
    ):
        await asyncio.to_thread(policy, city, "lift", str(told["id"]), *both)
        signed = published(city)
    tell("lifting it", signed, lifted)
