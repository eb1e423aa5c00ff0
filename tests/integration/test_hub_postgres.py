"""Two hubs over one log in PostgreSQL, as processes: asked, killed, and left alone by their server."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from audit.entry import decode_entry
from breaking_support import INSURED, PARENT, RealCity, case, command, context, free_port
from certs.ca import Authority
from certs.identity import CA_CERTIFICATE, Identity, write_public
from certs.request import make_requests
from certs.signing import CertificateVerifier
from exchange.client.receipt_verify import verify_receipt
from exchange.demo.auditing import is_serving, read_log
from exchange.demo.build import CENTRE, CITY, HUB
from exchange.demo.processes import zhiwang
from log_places import PostgresDatabase
from servers import MissingError, Postgresql
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.identity import Kind, server_name

OWNERS = ("health", "hrss")
PASSWORD = f"correct horse {secrets.token_hex(4)}"
CALLERS = 4
SECONDS = 8.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A server of this module's own, that asks the hub's account for its password."""
    try:
        server = Postgresql()
    except MissingError as error:
        pytest.skip(f"no postgresql here: {error}")
    rules = server.directory / "data" / "pg_hba.conf"
    rules.write_text(f"local all hub scram-sha-256\n{rules.read_text()}")
    server.execute("", "SELECT pg_reload_conf()")
    yield server
    server.remove()


@dataclass
class SharedCity(RealCity):
    """A city whose two hubs have keys of their own and one name, and share a log.

    Attributes:
        second_port: Of the second hub.
    """

    second_port: int = field(default_factory=free_port)

    @property
    def hub_addresses(self) -> list[str]:
        return [self.hub_address, self.second_address]

    @property
    def second_address(self) -> str:
        return f"127.0.0.1:{self.second_port}"

    def add_second(self) -> None:
        home = self.layout.home("second")
        home.mkdir(mode=0o700)
        authority = Authority.load(self.layout.directory / "authority")
        for request in make_requests(home / "identity", Identity.parse_short(CITY, HUB)):
            write_public(request.with_suffix(".pem"), authority.issue(request.read_bytes()))
        text = self.layout.profile("hub").read_text().replace(self.hub_address, self.second_address)
        first = os.path.relpath(self.layout.identity(HUB), self.layout.home("hub"))
        self.layout.profile("second").write_text(text.replace(f'"{first}"', '"identity"'))
        made = command("hub", "init", "--join", "--profile", str(self.layout.profile("second")))
        assert made.returncode == 0, made.stderr
        self.start_second()

    def start_second(self) -> None:
        self.fleet.start("second", zhiwang("hub", "run", "--profile", str(self.layout.profile("second"))))

    async def second_serving(self) -> bool:
        name = server_name(CITY, Kind.HUB)
        return await is_serving(self.second_address, self.auditor.channel_credentials(), name)


@pytest.fixture(scope="module")
def place(server: Postgresql) -> PostgresDatabase:
    place = PostgresDatabase(server)
    place.create_empty()
    with place.raw("postgres") as connection:
        connection.execute(f"ALTER ROLE hub PASSWORD '{PASSWORD}'".encode())
    return place


@pytest.fixture(scope="module")
def city(place: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCity]:
    directory = tmp_path_factory.mktemp("shared")
    secret = directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSWORD}\n")
    city = SharedCity.build(directory, OWNERS, hub={"log": {"url": place.url(), "password_file": str(secret)}})
    try:
        city.add_second()
        until(city.second_serving)
        yield city
    finally:
        city.fleet.stop()


def until(condition: Any, *, holds: bool = True) -> None:
    async def wait() -> None:
        async with asyncio.timeout(60):
            while await condition() is not holds:  # noqa: ASYNC110 - another process cannot set an event
                await asyncio.sleep(0.05)

    asyncio.run(wait())


def hub_entries(place: PostgresDatabase) -> list[audit_pb2.Entry]:
    with place.raw("postgres") as connection:
        rows = connection.execute("SELECT data FROM zhiwang.log_entry ORDER BY idx").fetchall()
    return [decode_entry(row[0]) for row in rows]


async def ask(city: SharedCity, receipts: list[api.Receipt], number: int) -> None:
    application = random.Random(number).choice(city.applications)  # noqa: S311 - no secret
    request = api.VerifyRequest(context=context(application), case=case(application, [PARENT, INSURED]), receipt=True)
    async with city.agent_stub() as stub:
        response = await stub.Verify(request, timeout=SECONDS)
    if any(one.status == api.CLAIM_STATUS_ANSWERED for one in response.result.claims):
        receipts.append(response.result.receipt)


def check(city: SharedCity, place: PostgresDatabase, receipts: list[api.Receipt]) -> None:
    """Every answer that anybody got stands in the one log, whichever hub passed it on."""
    recorded = {
        sha256(entry.hub_access.header).digest()
        for entry in hub_entries(place)
        if entry.hub_access.outcome == audit_pb2.OUTCOME_ANSWERED
    }
    verifier = CertificateVerifier((city.layout.root / CA_CERTIFICATE).read_bytes(), frozenset)
    for receipt in receipts:
        verify_receipt(receipt, verifier)
        for part in receipt.parts:
            assert sha256(part.request.header).digest() in recorded


def test_a_verification_is_recorded_in_the_log_that_both_hubs_show(city: SharedCity, place: PostgresDatabase) -> None:
    receipts: list[api.Receipt] = []

    async def work() -> tuple[Any, Any]:
        for number in range(3):
            await ask(city, receipts, number)
        return await city.verified("hub"), await read_log(city.second_address, Kind.HUB, CENTRE, city.auditor)

    one, two = asyncio.run(work())
    assert len(receipts) == 3
    check(city, place, receipts)
    assert two.checkpoint.origin == one.checkpoint.origin
    assert two.checkpoint.size >= one.checkpoint.size > 4
    assert two.events["hub_access"] == one.events["hub_access"] >= 6


def test_hubs_are_killed_under_load_and_every_answer_is_in_their_log(city: SharedCity, place: PostgresDatabase) -> None:
    receipts: list[api.Receipt] = []

    async def caller(stop: asyncio.Event, number: int) -> None:
        while not stop.is_set():
            try:
                await ask(city, receipts, number)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)

    async def work() -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(caller(stop, number))
            for name in ("hub", "second"):
                answered = len(receipts)
                async with asyncio.timeout(60):
                    while len(receipts) < answered + 5:  # noqa: ASYNC110 - callers have no event for it
                        await asyncio.sleep(0.02)
                await asyncio.to_thread(city.fleet.kill, name)
                await asyncio.sleep(0.3)
                if name == "hub":
                    city.start("hub")
                else:
                    city.start_second()
                async with asyncio.timeout(60):
                    while not (await city.serving("hub") and await city.second_serving()):  # noqa: ASYNC110 - the same
                        await asyncio.sleep(0.05)
            stop.set()

    asyncio.run(work())
    city.wait_ready()
    assert len(receipts) >= 10
    check(city, place, receipts)


def test_hubs_are_not_ready_while_their_server_is_gone_and_become_so_by_themselves(
    city: SharedCity, place: PostgresDatabase, server: Postgresql
) -> None:
    async def hub_serving() -> bool:
        return await city.serving("hub")

    until(hub_serving)
    server.crash()
    for condition in (hub_serving, city.second_serving):
        until(condition, holds=False)
    server.start()
    for condition in (hub_serving, city.second_serving):
        until(condition)
    city.wait_ready()
    receipts: list[api.Receipt] = []
    asyncio.run(ask(city, receipts, 1))
    check(city, place, receipts)


def test_the_doctor_looks_at_the_database_of_the_log(city: SharedCity) -> None:
    found = command("doctor", "--json", "--profile", str(city.layout.profile("hub"))).stdout.decode()
    assert "tables, triggers and rights are as they were made" in found
    assert "the database has fsync = off" in found
    assert "not encrypted" not in found  # over a Unix socket
    assert PASSWORD not in found


def test_a_wrong_password_is_said_without_it(city: SharedCity, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.touch(mode=0o600)
    wrong.write_text("not the horse\n")
    lines = city.layout.profile("second").read_text().splitlines()
    lines = [f'password_file = "{wrong}"' if line.startswith("password_file") else line for line in lines]
    profile = city.layout.home("second") / "wrong.toml"
    profile.write_text("\n".join(['state = "other-state"', *lines]))
    refused = command("hub", "init", "--join", "--profile", str(profile))
    assert refused.returncode == 1
    assert "password authentication failed" in " ".join(refused.stderr.decode().split())
    assert "not the horse" not in refused.stderr.decode() + refused.stdout.decode()
    wrong.chmod(0o644)
    refused = command("hub", "init", "--join", "--profile", str(profile))
    assert "can be read by others" in " ".join(refused.stderr.decode().split())


def test_the_password_is_written_nowhere(city: SharedCity) -> None:
    secret = PASSWORD.encode()
    files = [path for path in city.layout.directory.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert [path for path in files if secret in path.read_bytes()] == []
