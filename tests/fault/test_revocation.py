"""What is revoked stops working at hub and adapters at once, on what is open too; everybody else notices nothing.

Real processes; each test prints how long it took from the registrar's signature. The promise is two seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from breaking_support import INSURED, PARENT, DirectAdapter, Forge, RealCity, exchange
from certs.ca import Authority
from certs.credentials import IdentityFiles
from certs.identity import Identity
from certs.renewal import install, request_renewal
from certs.request import make_requests
from exchange.cli import policy as policy_commands
from exchange.cli.registrar_link import with_registrar
from exchange.demo import build
from exchange.demo.build import ADMINS, CENTRE, CITY, HUB, SYSTEM
from policy.publishing import Named
from promptness import ANSWERED, answered, eventually, observe, tell, watched
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.profile import load_profile

REVOKED = Reason.CERTIFICATE_REVOKED.name

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("revocation"), ("health",))
    try:
        city.furnish("hrss")
        yield city
    finally:
        city.stop()


@pytest.fixture(scope="module")
def adapter(city: RealCity) -> Iterator[DirectAdapter]:
    """The adapter of hrss, attached to the hub, to which a test can also speak as a hub that lets everything pass."""
    adapter = DirectAdapter(city, "hrss")
    yield adapter
    adapter.stop()


def another(city: RealCity, short: str, path: Path) -> IdentityFiles:
    """Further certificates of somebody, over other keys."""
    authority = Authority.load(city.layout.directory / "authority")
    for request in make_requests(path, Identity.parse_short(CITY, short)):
        request.with_suffix(".pem").write_bytes(authority.issue(request.read_bytes()))
    return IdentityFiles(path, city.layout.root)


def admin_profile(city: RealCity, identity: Path | None = None) -> Path:
    path = city.layout.directory / "centre-admin.toml"
    build.write_profile_file(city.layout, path, f"{CENTRE}/admin/{ADMINS[0]}", registrar=city.address("registrar"))
    if identity is not None:
        path = city.layout.directory / "revoked-admin.toml"
        path.write_text(
            f'root = "{city.layout.root}"\nidentity = "{identity}"\nregistrar = "{city.address("registrar")}"\n'
        )
    return path


def publish(city: RealCity, profile: Path) -> None:
    """Publish the list of what is revoked by now, as `zhiwang policy publish crl.pem` does."""
    crl = Authority.load(city.layout.directory / "authority").crl()
    signers = [city.identity(f"{CENTRE}/admin/{admin}").signer() for admin in ADMINS]
    with_registrar(
        load_profile(profile),
        lambda link: policy_commands._publish(link, [Named("crl.pem", crl)], signers, {}, ()),
    )


def revoke(city: RealCity, directory: Path, names: Sequence[str] = ("auth", "signing")) -> float:
    """Revoke certificates and publish. Returns when the registrar put the directory in force, since the epoch."""
    authority = Authority.load(city.layout.directory / "authority")
    for name in names:
        authority.revoke(x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes()).serial_number)
    publish(city, admin_profile(city))
    lines = [json.loads(line) for line in city.fleet.log("registrar").read_text("utf-8").splitlines()]
    signed = [line["timestamp"] for line in lines if line["event"] == "directory in force"]
    return datetime.fromisoformat(signed[-1]).timestamp()


async def ending(call: grpc.aio.StreamStreamCall, into: dict[str, float], what: str) -> None:
    """Note when a stream on which nobody says anything ends, and that it says why."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        found = refusal_of(error)
    else:
        found = refusal_of(
            grpc.aio.AioRpcError(await call.code(), await call.initial_metadata(), await call.trailing_metadata())
        )
    assert found.reason.name == REVOKED, f"{what}: {found.reason.name}"
    into[what] = time.time()


async def outcome_of(call: object) -> str:
    try:
        await call  # type: ignore[misc]  # an RPC
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason.name
    return "OK"


async def test_a_requesters_certificate_is_refused_at_hub_and_adapter_and_loses_its_open_streams(
    city: RealCity, adapter: DirectAdapter, tmp_path: Path
) -> None:
    await eventually(city, [INSURED], ANSWERED)
    files = another(city, SYSTEM, tmp_path / "lost")
    keys = await city.owner_keys()
    lost, good = Forge(city, files, keys=keys), Forge(city, keys=keys)
    person = city.applications[0].guardians[0].person.identifier

    def at_the_adapter() -> str:
        """As it comes through a hub that lets it pass."""
        (item,) = adapter.send(lost.request("hrss", [INSURED], [{"guardian": person}]).request)
        return item.reason

    async with city.hub_channel(files) as channel, city.hub_channel() as other:
        exchanges, directory = (
            exchange_pb2_grpc.ExchangeServiceStub(channel),
            exchange_pb2_grpc.DirectoryServiceStub(channel),
        )
        first = lost.request("hrss", [INSURED], [{"guardian": person}])
        assert (await exchange(channel, first.request)).result.outcome == audit_pb2.OUTCOME_ANSWERED
        assert not await asyncio.to_thread(at_the_adapter)
        stream, watch = exchanges.ExchangeStream(), directory.Watch(exchange_pb2.WatchRequest())
        sealed = lost.request("hrss", [INSURED], [{"guardian": person}])
        await stream.write(exchange_pb2.ExchangeStreamRequest())
        frame = exchange_pb2.ExchangeStreamRequest()
        frame.items.add(correlation_id=1, request=sealed.request).timeout.seconds = 10
        await stream.write(frame)
        assert (await stream.read()).items[0].result.outcome == audit_pb2.OUTCOME_ANSWERED
        await watch.read()
        seen: dict[str, float] = {}

        def call() -> object:
            return outcome_of(exchanges.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(), timeout=5))

        async with watched(
            observe(call, REVOKED, seen, "a new call"),
            ending(stream, seen, "an open stream of requests that is idle"),
            ending(watch, seen, "a subscription"),
            observe(lambda: asyncio.to_thread(at_the_adapter), REVOKED, seen, "a signature at the adapter"),
        ):
            published = await asyncio.to_thread(revoke, city, tmp_path / "lost")
        tell("a requester", published, seen)
        # Another certificate of the same system is as good as before.
        again = good.request("hrss", [INSURED], [{"guardian": person}])
        assert (await exchange(other, again.request)).result.outcome == audit_pb2.OUTCOME_ANSWERED
    # Nor does a connection made anew help.
    async with city.hub_channel(files) as channel:
        assert (
            await outcome_of(
                exchange_pb2_grpc.ExchangeServiceStub(channel).GetOwnerKeys(
                    exchange_pb2.GetOwnerKeysRequest(), timeout=5
                )
            )
            == REVOKED
        )


async def test_an_adapters_link_is_dropped_although_nobody_asks_and_returns_with_new_certificates(
    city: RealCity,
) -> None:
    await eventually(city, [PARENT], ANSWERED)
    directory = city.layout.identity("health/adapter/main")
    seen: dict[str, float] = {}

    async def listed() -> bool:
        return "health" in {key.owner for key in await city.owner_keys()}

    assert await listed()
    async with watched(observe(listed, False, seen, "the link is dropped and its keys are withdrawn")):
        published = await asyncio.to_thread(revoke, city, directory)
    tell("an adapter", published, seen)
    assert await answered(city, [PARENT]) <= {"OWNER_NOT_ATTACHED", "KEY_UNKNOWN"}
    # It dials again, and is refused as often.
    await asyncio.sleep(1.0)
    assert not await listed()
    authority = Authority.load(city.layout.directory / "authority")
    renewals = request_renewal(directory, new_keys=True)
    install(directory, authority.certificate_pem, [authority.issue(one.request.read_bytes()) for one in renewals])
    await eventually(city, [PARENT], ANSWERED)


async def test_an_admin_publishes_nothing_more(city: RealCity, tmp_path: Path) -> None:
    files = another(city, f"{CENTRE}/admin/{ADMINS[1]}", tmp_path / "lost")
    profile = admin_profile(city, files.directory)
    await asyncio.to_thread(publish, city, profile)
    seen: dict[str, float] = {}
    target, name = city.address("registrar"), server_name(CITY, Kind.REGISTRAR)
    async with open_channel(target, files.channel_credentials(), server_name=name) as channel:
        stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
        watch = stub.Watch(exchange_pb2.WatchRequest())
        await watch.read()

        def call() -> object:
            return outcome_of(stub.GetFile(exchange_pb2.GetFileRequest(path="metadata/timestamp.json"), timeout=5))

        async with watched(
            observe(call, REVOKED, seen, "a call at the registrar"), ending(watch, seen, "a subscription there")
        ):
            published = await asyncio.to_thread(revoke, city, files.directory)
    tell("an admin", published, seen)
    with pytest.raises(RefusedError) as refused:
        await asyncio.to_thread(publish, city, profile)
    assert refused.value.reason.name in {REVOKED, "HUB_UNREACHABLE"}


async def test_no_answer_passes_an_agent_once_the_hubs_signature_is_revoked_until_it_signs_with_a_new_one(
    city: RealCity, adapter: DirectAdapter
) -> None:
    assert adapter
    await eventually(city, [INSURED], ANSWERED)
    directory = city.layout.identity(HUB)
    seen: dict[str, float] = {}

    async def refused() -> bool:
        return not await answered(city, [INSURED]) & ANSWERED

    async with watched(observe(refused, True, seen, "answers are withheld by the agent")):
        published = await asyncio.to_thread(revoke, city, directory, ["signing"])
    tell("a hub", published, seen)
    assert await answered(city, [INSURED]) <= {REVOKED, "PROOF_INVALID"}
    authority = Authority.load(city.layout.directory / "authority")
    renewals = request_renewal(directory, new_keys=True)
    install(directory, authority.certificate_pem, [authority.issue(one.request.read_bytes()) for one in renewals])
    await eventually(city, [INSURED], ANSWERED)
    assert city.fleet.poll("hub") is None


async def test_a_hub_whose_own_certificate_is_revoked_gets_no_newer_directory_until_it_has_another(
    city: RealCity, adapter: DirectAdapter
) -> None:
    """It may go on relaying what it had, until the timestamp runs out; nothing that it relays could be its own."""
    assert adapter
    await eventually(city, [INSURED], ANSWERED)
    directory = city.layout.identity(HUB)

    def told() -> bool:
        return REVOKED in city.fleet.log("hub").read_text("utf-8").rpartition("directory in force")[2]

    seen: dict[str, float] = {}
    async with watched(observe(told, True, seen, "the registrar sends it away")):
        published = await asyncio.to_thread(revoke, city, directory, ["auth"])
    tell("a hub", published, seen)
    # What it has still holds, and is older than the revocation.
    assert await answered(city, [INSURED]) == ANSWERED
    authority = Authority.load(city.layout.directory / "authority")
    renewals = request_renewal(directory, new_keys=True)
    install(directory, authority.certificate_pem, [authority.issue(one.request.read_bytes()) for one in renewals])
    async with asyncio.timeout(90):
        while told():  # noqa: ASYNC110 - another process's log
            await asyncio.sleep(0.1)
    await eventually(city, [INSURED], ANSWERED)
