"""Certificates are renewed, with fresh keys too, while people ask without a pause; the old ones run out meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from breaking_support import INSURED, RealCity, case, command, context
from certs.expiry import METRIC
from certs.identity import AUTH_CERTIFICATE, AUTH_KEY, CA_CERTIFICATE, SIGNING_CERTIFICATE
from exchange.demo.build import CITY, HUB, REGISTRAR, SYSTEM
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.wire.identity import Kind, server_name

CALLERS = 3
LIFE = 40.0
"""Seconds for which the certificates live that run out during the test."""

SHORT = 20.0
"""The same where nobody renews them in time."""

RELOADED = 30.0
"""Seconds within which a process has taken up what lies there; it looks every five."""

OWNER = "hrss"
PLACES = ("registrar", "hub", OWNER, "agent")
IDENTITIES = (REGISTRAR, HUB, f"{OWNER}/adapter/main", SYSTEM)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("renewal"), (OWNER,))
    yield city
    city.stop()


@dataclass
class Load:
    """People at counters, who ask one question after the other of the agent."""

    city: RealCity
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - no secret
        async with self.city.agent_stub() as stub:
            while not self.stop.is_set():
                application = chance.choice(self.city.applications)
                request = api.VerifyRequest(context=context(application), case=case(application, [INSURED]))
                started = time.monotonic()
                try:
                    response = await stub.Verify(request, timeout=30)
                except grpc.aio.AioRpcError as error:
                    self.failed[error.code().name] += 1
                else:
                    for claim in response.result.claims:
                        if claim.status == api.CLAIM_STATUS_ANSWERED:
                            self.answered += 1
                        else:
                            self.failed[claim.reason] += 1
                self.longest = max(self.longest, time.monotonic() - started)
                await asyncio.sleep(0.1)


def renew(city: RealCity, *options: str) -> None:
    """What the person on duty types."""
    done = command(
        "certs",
        "renew",
        *(str(city.layout.identity(short)) for short in IDENTITIES),
        *("--authority", str(city.layout.directory / "authority"), *options),
    )
    assert done.returncode == 0, done.stderr


def fingerprint(city: RealCity, short: str, name: str) -> bytes:
    pem = (city.layout.identity(short) / name).read_bytes()
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).digest()


def presented(city: RealCity, place: str, kind: Kind) -> bytes:
    """Fingerprint of the certificate that a server shows at a handshake."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(city.layout.root / CA_CERTIFICATE)
    own = city.auditor.directory
    tls.load_cert_chain(own / AUTH_CERTIFICATE, own / AUTH_KEY)
    tls.set_alpn_protocols(["h2"])
    host, _, port = city.address(place).rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname=server_name(CITY, kind)) as secured,
    ):
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()


def used(city: RealCity) -> dict[str, bytes]:
    """What the processes use: servers in a handshake, the system in the last header that the hub recorded."""
    header = next(entry.hub_access.header for entry in reversed(city.entries("hub")) if entry.HasField("hub_access"))
    return {
        REGISTRAR: presented(city, "registrar", Kind.REGISTRAR),
        HUB: presented(city, "hub", Kind.HUB),
        f"{OWNER}/adapter/main": presented(city, OWNER, Kind.ADAPTER),
        SYSTEM: sealed_pb2.Header.FromString(header).certificate_fingerprint,
    }


def wanted(city: RealCity) -> dict[str, bytes]:
    return {
        short: fingerprint(city, short, SIGNING_CERTIFICATE if short == SYSTEM else AUTH_CERTIFICATE)
        for short in IDENTITIES
    }


async def taken_up(city: RealCity) -> float:
    started = time.monotonic()
    async with asyncio.timeout(RELOADED):
        while await asyncio.to_thread(used, city) != wanted(city):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)
    return time.monotonic() - started


async def test_no_request_is_lost_while_everything_is_renewed_with_fresh_keys_and_the_old_runs_out(
    city: RealCity,
) -> None:
    load, reloaded = Load(city), {place: reloads(city, place) for place in PLACES}
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(load.ask(number))
        try:
            await asyncio.to_thread(renew, city, "--days", str(LIFE / 86_400))
            ends = time.time() + LIFE
            short = await taken_up(city)
            await asyncio.to_thread(renew, city, "--new-keys")
            fresh = await taken_up(city)
            assert time.time() < ends, "the machine is too slow for certificates that live so shortly"
            # Past the end of the old ones, and of everything that could still lean on them.
            await asyncio.sleep(ends - time.time() + 6)
            before = load.answered
            async with asyncio.timeout(30):
                while load.answered < before + 2 * CALLERS:  # noqa: ASYNC110 - counted by other tasks
                    await asyncio.sleep(0.05)
        finally:
            load.stop.set()
    print(  # noqa: T201 - the measurement
        f"\n{load.answered} answers, {sum(load.failed.values())} failures; taken up after {short:.1f} s and "
        f"{fresh:.1f} s; the slowest answer took {load.longest:.2f} s"
    )
    assert not load.failed
    assert used(city) == wanted(city)
    for short_name in IDENTITIES:
        assert not list(city.layout.identity(short_name).glob("*.new.key"))
    for place in PLACES:
        assert reloads(city, place) == reloaded[place] + 2, place
        if place != "registrar":  # which serves no metrics here
            assert f'{METRIC}{{use="auth"}}' in city.metrics(place)


async def test_what_ran_out_stops_its_holder_and_everything_comes_back_once_it_is_renewed(city: RealCity) -> None:
    """The logs' last signatures have run out as well, and the hub is started again before anybody renews."""
    before = {place: reloads(city, place) for place in PLACES}
    await asyncio.to_thread(renew, city, "--days", str(SHORT / 86_400))
    ends = time.time() + SHORT
    async with asyncio.timeout(RELOADED):
        while any(reloads(city, place) == before[place] for place in PLACES):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)
    # Under the certificates that are about to run out, so that the logs' last signatures do as well.
    await answered(city)
    await asyncio.sleep(max(0.0, ends - time.time()) + 1)
    assert not await answered(city)
    assert city.fleet.end("hub") == 0
    city.start("hub")
    await asyncio.to_thread(city.announced, "hub")
    assert not await answered(city)
    await asyncio.to_thread(renew, city, "--new-keys")
    async with asyncio.timeout(90):
        while not await answered(city):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.2)
    assert (await city.verified("hub")).checkpoint.size
    for place in PLACES:
        assert city.fleet.poll(place) is None
        lines = lines_of(city, place)
        told = {(line["event"], line["use"]) for line in lines if line["event"] in {"expires soon", "has expired"}}
        # It looks when it starts; the others look once a minute.
        assert place != "hub" or ("has expired", "auth") in told


def lines_of(city: RealCity, place: str) -> list[dict[str, object]]:
    """What a process logged; gRPC's own lines about handshakes stand between."""
    text = city.fleet.log(place).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def reloads(city: RealCity, place: str) -> int:
    return sum(line["event"] == "certificates reloaded" for line in lines_of(city, place))


async def answered(city: RealCity) -> bool:
    application = city.applications[0]
    request = api.VerifyRequest(context=context(application), case=case(application, [INSURED]))
    async with city.agent_stub() as stub:
        try:
            response = await stub.Verify(request, timeout=10)
        except grpc.aio.AioRpcError:
            return False
    return {claim.status for claim in response.result.claims} == {api.CLAIM_STATUS_ANSWERED}
