"""Hub and registrar are dead, and an owner stops something at its own adapter: the real commands, a real adapter.

The adapter is asked past the dead hub, as a hub sends. What is stopped stays so when the adapter starts anew, until two
admins lift it there, or the directory has it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.entry import Event
from breaking_support import INSURED, DirectAdapter, Forge, RealCity, command
from exchange.demo import build
from exchange.demo.build import ADMIN, ADMINS, CITY, HUB, LOOPBACK
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address

pytestmark = pytest.mark.timeout(240)

PATIENCE = 40.0


class CutOff:
    """A city whose hub and registrar are dead, with an adapter that runs in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.city = RealCity.build(path, ())
        self.city.furnish("hrss")
        self.adapter = DirectAdapter(self.city, "hrss")
        asyncio.run(self._attached())
        self.forge = Forge(self.city)
        self.person = self.city.applications[0].guardians[0].person.identifier
        for place in ("hub", "registrar"):
            self.city.fleet.kill(place)

    async def _attached(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.city.owner_keys():  # noqa: ASYNC110 - another process cannot set an event
                await asyncio.sleep(0.1)

    def answer(self) -> str:
        (item,) = self.adapter.send(self.forge.request("hrss", [INSURED], [{"guardian": self.person}]).request)
        return str(item.reason) or "ANSWERED"

    def wait(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.05)

    def run(self, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        profile = self.city.layout.profile("hrss")
        done = command(*map(str, arguments), "--profile", str(profile))
        assert done.returncode == status, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def sign(self, *admins: str) -> list[object]:
        return [part for name in admins for part in ("--sign", self.city.layout.identity(name))]

    def restart(self) -> None:
        self.halt()
        self.adapter = DirectAdapter(self.city, "hrss")

    def halt(self) -> None:
        self.adapter.stop()
        # As the process does at its end.
        (self.city.layout.state("hrss") / "address.json").unlink()

    @property
    def local(self) -> Path:
        return self.city.layout.state("hrss") / "local"

    def recorded(self) -> list[audit_pb2.LocalPolicyChange]:
        return [
            one.local_policy_change
            for one in self.city.entries("hrss")
            if one.WhichOneof("event") == "local_policy_change"
        ]

    def alone(self) -> bool:
        """What health tells of the adapter; it serves all the same."""
        assert asyncio.run(self._told(""))
        return asyncio.run(self._told("zhiwang.readiness.directory_alone"))

    async def _told(self, service: str) -> bool:
        credentials, name = self.city.auditor.channel_credentials(), server_name(CITY, Kind.ADAPTER)
        async with open_channel(self.adapter.thread.address, credentials, server_name=name) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def metrics(self) -> str:
        announced = read_address(self.city.layout.state("hrss"))
        assert announced is not None
        with urllib.request.urlopen(f"http://{announced['metrics']}/metrics", timeout=PATIENCE) as page:
            return str(page.read().decode())

    def doctor(self) -> list[dict[str, str]]:
        done = command("doctor", "--profile", str(self.city.layout.profile("hrss")), "--json")
        return [one for one in json.loads(done.stdout) if one["area"] == "local"]

    def stop(self) -> None:
        try:
            self.adapter.stop()
        finally:
            self.city.stop()


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[CutOff]:
    found = CutOff(tmp_path)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def coming_back(tmp_path: Path) -> Iterator[CutOff]:
    found = CutOff(tmp_path)
    try:
        yield found
    finally:
        found.stop()


def test_an_owner_stops_a_role_at_its_own_adapter_while_hub_and_registrar_are_dead(cut_off: CutOff) -> None:
    first, second = (f"hrss/admin/{name}" for name in ADMINS)
    stop, lift = cut_off.path / "stop.json", cut_off.path / "lift.json"
    assert cut_off.answer() == "ANSWERED"
    cut_off.wait(cut_off.alone)

    cut_off.run(
        "policy", "suspend", "--role", "edu/enrolment-clerk", "--id", "local-1", *cut_off.sign(first), "--out", stop
    )
    assert cut_off.answer() == "ANSWERED", "a signed file alone changes nothing"
    cut_off.run("adapter", "load", stop)
    assert cut_off.answer() == "NOT_GRANTED", "in force when the command says so"
    cut_off.wait(lambda: len(cut_off.recorded()) > 0)
    (recorded,) = cut_off.recorded()
    assert recorded.in_force
    assert (recorded.role, list(recorded.suspension_ids)) == ("hrss-suspend", ["local-1"])
    assert len(recorded.key_ids) == 1
    cut_off.wait(lambda: not cut_off.alone())
    assert "\nzhiwang_adapter_local_policy 1.0\n" in cut_off.metrics()
    (found,) = cut_off.doctor()
    assert found["state"] == "warning"
    assert "local-1" in found["en"]

    cut_off.restart()
    assert cut_off.answer() == "NOT_GRANTED"

    cut_off.run("policy", "lift", "local-1", *cut_off.sign(first), "--out", lift)
    cut_off.run("adapter", "load", lift, status=1)
    assert cut_off.answer() == "NOT_GRANTED", "one admin alone lifts nothing"
    cut_off.run("policy", "publish", lift, *cut_off.sign(second), "--out", lift)
    cut_off.run("adapter", "load", lift)
    assert cut_off.answer() == "ANSWERED"
    cut_off.restart()
    assert cut_off.answer() == "ANSWERED"


def test_what_stands_at_the_adapter_is_published_later_and_then_the_directory_has_it(coming_back: CutOff) -> None:
    stop = coming_back.path / "stop.json"
    coming_back.run("policy", "suspend", "--attribute", "hrss.insured_months", *coming_back.sign(ADMIN), "--out", stop)
    coming_back.halt()
    coming_back.run("adapter", "load", stop)
    coming_back.adapter = DirectAdapter(coming_back.city, "hrss")
    assert coming_back.answer() == "NOT_GRANTED", "before the first request"

    city = coming_back.city
    city.start("registrar")
    registrar = city.address("registrar")
    build.write_profile(city.layout, "hub", HUB, listen=city.hub_address, registrar=registrar, metrics=LOOPBACK)
    city.start("hub")
    admin = city.layout.directory / "hrss-admin.toml"
    build.write_profile_file(city.layout, admin, ADMIN, registrar=registrar)
    done = command("policy", "publish", str(stop), "--profile", str(admin))
    assert done.returncode == 0, done.stderr.decode()
    coming_back.wait(lambda: not list(coming_back.local.glob("*.json")))
    assert coming_back.answer() == "NOT_GRANTED"
    coming_back.wait(lambda: [one.in_force for one in coming_back.recorded()] == [True, False])
    coming_back.wait(coming_back.alone)


def test_another_departments_file_is_refused_by_command_and_adapter(cut_off: CutOff) -> None:
    before = cut_off.recorded()
    stop, forged = cut_off.path / "stop.json", cut_off.path / "forged.json"
    cut_off.run("policy", "suspend", "--role", "edu/enrolment-clerk", *cut_off.sign(ADMIN), "--out", stop)
    content = json.loads(stop.read_text("utf-8"))
    forged.write_text(json.dumps({**content, "role": "edu-suspend"}), "utf-8")
    done = cut_off.run("adapter", "load", forged, status=1)
    assert "edu-suspend" in done.stderr.decode()
    # Past the command, straight into the state.
    (cut_off.local / "incoming" / "forged.json").write_bytes(forged.read_bytes())
    cut_off.wait(lambda: not list((cut_off.local / "incoming").iterdir()))
    assert cut_off.answer() == "ANSWERED"
    assert cut_off.recorded() == before


def test_nothing_that_lies_there_or_is_signed_ends_recording_or_keeps_the_adapter_from_starting(
    cut_off: CutOff,
) -> None:
    stop, lift = cut_off.path / "junk.json", cut_off.path / "unjunk.json"
    first, second = (f"hrss/admin/{name}" for name in ADMINS)
    before = len(cut_off.recorded())
    cut_off.run(
        "policy", "suspend", "--role", "edu/enrolment-clerk", "--id", "junk-1", *cut_off.sign(first), "--out", stop
    )
    content = json.loads(stop.read_bytes())
    metadata = json.loads(b64decode(content["metadata"]))
    metadata["signatures"] += [{"keyid": f"{number:064x}", "sig": "00"} for number in range(1100)]
    content["metadata"] = b64encode(json.dumps(metadata).encode()).decode()
    stop.write_text(json.dumps(content), "utf-8")

    large = audit_pb2.LocalPolicyChange(role="hrss", content_hash=bytes(32), key_ids=["ab" * 32] * 1100)
    cut_off.adapter.thread.call(_put(cut_off.adapter.adapter._events, large))
    cut_off.run("adapter", "load", stop)
    assert cut_off.answer() == "NOT_GRANTED"
    cut_off.wait(lambda: len(cut_off.recorded()) > before)
    (recorded,) = cut_off.recorded()[before:]
    assert (len(recorded.key_ids), list(recorded.suspension_ids)) == (1, ["junk-1"])

    (cut_off.local / "incoming" / "00.json").mkdir()
    try:
        cut_off.restart()
        assert cut_off.answer() == "NOT_GRANTED"
        cut_off.run("policy", "lift", "junk-1", *cut_off.sign(first, second), "--out", lift)
        cut_off.run("adapter", "load", lift)
        assert cut_off.answer() == "ANSWERED"
        cut_off.wait(lambda: [one.in_force for one in cut_off.recorded()[before:]] == [True, True, False])
        assert len(cut_off.recorded()[before + 1].key_ids) == 2
        assert not [task for task in cut_off.adapter.adapter._tasks if task.done()], "everything goes on"
    finally:
        (cut_off.local / "incoming" / "00.json").rmdir()


async def _put(events: asyncio.Queue[Event], event: Event) -> None:
    events.put_nowait(event)
