"""Two hubs over one log in PostgreSQL, as processes: asked, killed, and left alone by their server."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from breaking_support import INSURED, PARENT, case, command, context
from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.client.receipt_verify import verify_receipt
from exchange.demo.auditing import read_log
from exchange.demo.build import CENTRE
from hubs_support import SharedCity, hub_entries
from log_places import PostgresDatabase
from servers import Postgresql
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.identity import Kind

OWNERS = ("health", "hrss")
PASSWORD = f"correct horse {secrets.token_hex(4)}"
CALLERS = 4
SECONDS = 8.0


@pytest.fixture(scope="module")
def server(own_postgresql: Postgresql) -> Postgresql:
    """A server of this module's own, that asks the hub's account for its password."""
    server = own_postgresql
    rules = server.directory / "data" / "pg_hba.conf"
    rules.write_text(f"local all hub scram-sha-256\n{rules.read_text()}")
    server.execute("", "SELECT pg_reload_conf()")
    return server


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
        city.join()
        until(partial(city.serving, "second"))
        yield city
    finally:
        city.fleet.stop()


def until(condition: Any, *, holds: bool = True) -> None:
    async def wait() -> None:
        async with asyncio.timeout(60):
            while await condition() is not holds:  # noqa: ASYNC110 - another process cannot set an event
                await asyncio.sleep(0.05)

    asyncio.run(wait())


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
        return await city.verified("hub"), await read_log(city.hub_address_of("second"), Kind.HUB, CENTRE, city.auditor)

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
                city.start(name)
                async with asyncio.timeout(60):
                    while not (await city.serving("hub") and await city.serving("second")):  # noqa: ASYNC110 - the same
                        await asyncio.sleep(0.05)
            stop.set()

    asyncio.run(work())
    city.wait_ready()
    assert len(receipts) >= 10
    check(city, place, receipts)


def test_hubs_are_not_ready_while_their_server_is_gone_and_become_so_by_themselves(
    city: SharedCity, place: PostgresDatabase, server: Postgresql
) -> None:
    hubs = [partial(city.serving, place) for place in city.hubs]
    until(hubs[0])
    server.crash()
    for condition in hubs:
        until(condition, holds=False)
    server.start()
    for condition in hubs:
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
