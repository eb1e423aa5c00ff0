from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audit.entry import decode_entry
from audit.sqlite import open_sqlite
from audit.store import LogStore
from certs.signing import CertificateVerifier
from exchange import app
from exchange.registrar import make_log, registrar_identity
from policy.publishing import sign
from policy_support import HRSS, DirectoryKit, make_directory
from ports import free_port
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address
from zhiwang.wire.profile import load_profile

ZHIWANG = Path(sys.executable).parent / "zhiwang"
PATIENCE = 30.0

HUB = """
registrar = "{registrar}"
root = "{root}"
identity = "{identity}"
state = "hub-state"
listen = "127.0.0.1:0"
metrics = "127.0.0.1:0"
"""

REGISTRAR = """
root = "{root}"
identity = "{identity}"
state = "{state}"
listen = "127.0.0.1:{port}"
"""


class World:
    """A signed directory, a registrar's profile and a hub's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kit: DirectoryKit = make_directory(path)
        self.city = self.kit.city
        self.hub_state = path / "hub-state"
        self.registrar_port = free_port()
        self.registrar_files = self.city.enrol("dsjj/registrar/main")
        self.hub_files = self.city.enrol("dsjj/hub/main")
        (path / "registrar.toml").write_text(
            REGISTRAR.format(
                root=self.city.root,
                identity=self.registrar_files.directory,
                state=self.kit.path,
                port=self.registrar_port,
            )
        )
        registrar = load_profile(path / "registrar.toml")
        make_log(registrar, registrar_identity(registrar))
        (path / "hub.toml").write_text(
            HUB.format(
                registrar=f"127.0.0.1:{self.registrar_port}",
                root=self.city.root,
                identity=self.hub_files.directory,
            )
        )

    def command(self, *arguments: str) -> list[str]:
        return [str(ZHIWANG), *arguments, "--profile", str(self.path / f"{arguments[0]}.toml")]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own command
            self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def init(self) -> None:
        """As the command does, without its start."""
        app.init(load_profile(self.path / "hub.toml"))

    @contextmanager
    def process(self, noun: str, state: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A running process, that has announced itself."""
        with (self.path / f"{noun}.out").open("ab") as out:
            process = subprocess.Popen(self.command(noun, "run"), stdout=out, stderr=out)  # noqa: S603  our own command
        try:
            end = time.monotonic() + PATIENCE
            while (address := read_address(state)) is None or address["pid"] != process.pid:
                assert process.poll() is None, (self.path / f"{noun}.out").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)

    @asynccontextmanager
    async def channel(self, short: str) -> AsyncIterator[grpc.aio.Channel]:
        address = read_address(self.hub_state)
        assert address is not None
        files = self.city.enrol(short)
        async with open_channel(
            address["listen"], files.channel_credentials(), server_name=server_name("shenzhen", Kind.HUB)
        ) as channel:
            yield channel

    def events(self, kind: str) -> list[object]:
        """What the hub's log says, read while nobody writes."""
        store = LogStore(
            open_sqlite(self.hub_state / "log.db"),
            self.hub_files.identity.log_origin,
            self.hub_files.signer(),
            verifier=CertificateVerifier(self.city.ca_pem, frozenset),
        )
        store.open()
        store.verify_all()
        entries = [decode_entry(data) for data in store.entries(0, store.newest.size)]
        store.close()
        store.engine.dispose()
        return [getattr(entry, kind) for entry in entries if entry.WhichOneof("event") == kind]


def _page(url: str) -> str:
    with urllib.request.urlopen(url) as page:  # noqa: S310  on loopback
        text: str = page.read().decode()
    return text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def health(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=PATIENCE)
    status: int = response.status
    return status


async def until_health(channel: grpc.aio.Channel, wanted: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await health(channel) != wanted:  # noqa: ASYNC110  another process has no event to wait for
            await asyncio.sleep(0.05)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_hub_does_not_run_without_a_log_that_was_made_deliberately(world: World) -> None:
    missing = world.run("hub", "run")
    assert missing.returncode == 1
    assert not world.hub_state.exists()
    made = world.run("hub", "init")
    assert made.returncode == 0, made.stderr
    assert world.hub_state.stat().st_mode & 0o777 == 0o700
    again = world.run("hub", "init")
    assert again.returncode == 1
    assert "LOG_UNAVAILABLE" in again.stderr
    (world.hub_state / "log.db").rename(world.hub_state / "elsewhere.db")
    lost = world.run("hub", "run")
    assert lost.returncode == 1
    assert not (world.hub_state / "log.db").exists()


def test_only_a_hubs_certificate_runs_a_hub(world: World) -> None:
    profile = world.path / "hub.toml"
    profile.write_text(profile.read_text().replace("dsjj/hub/main", "dsjj/registrar/main"))
    assert world.run("hub", "init").returncode == 1
    assert not world.hub_state.exists()


async def test_a_hub_mirrors_the_directory_is_ready_tells_metrics_and_stops_in_order(world: World) -> None:
    world.init()
    with world.process("registrar", world.kit.path), world.process("hub", world.hub_state) as hub:
        async with world.channel("hrss/adapter/main") as channel:
            await until_health(channel, SERVING)
            directory = exchange_pb2_grpc.DirectoryServiceStub(channel)
            got = await directory.GetFile(exchange_pb2.GetFileRequest(path="metadata/timestamp.json"))
            assert b"timestamp" in got.content
        address = read_address(world.hub_state)
        assert address is not None
        text = await asyncio.to_thread(_page, f"http://{address['metrics']}/metrics")
        assert "zhiwang_hub_in_flight 0.0" in text
        assert "zhiwang_hub_log_size" in text
        for name in ("owner_heads_unlinked", "owner_heads_given_up", "owner_logs_distrusted"):
            assert f"zhiwang_hub_{name} 0.0" in text
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(PATIENCE) == 0
    assert read_address(world.hub_state) is None
    assert len(world.events("directory_change")) == 1


async def test_a_hub_without_registrar_is_not_ready_and_becomes_so_by_itself(world: World) -> None:
    world.init()
    with world.process("hub", world.hub_state):
        async with world.channel("hrss/adapter/main") as channel:
            assert await health(channel) == NOT_SERVING
            with world.process("registrar", world.kit.path):
                await until_health(channel, SERVING)


async def test_a_killed_hub_comes_back_with_the_directory_that_it_had(world: World) -> None:
    world.init()
    with world.process("registrar", world.kit.path), world.process("hub", world.hub_state) as hub:
        async with world.channel("hrss/adapter/main") as channel:
            await until_health(channel, SERVING)
        hub.kill()
        hub.wait(PATIENCE)
    with world.process("hub", world.hub_state):
        async with world.channel("hrss/adapter/main") as channel:
            await until_health(channel, SERVING)


async def test_what_is_published_reaches_the_hub_and_its_log(world: World) -> None:
    world.init()
    changed = world.kit.drafts(HRSS.replace("sensitivity = 2", "sensitivity = 3"))
    signers = [signer for some in world.kit.admins.values() for signer in some]
    with world.process("hub", world.hub_state) as hub:
        with world.process("registrar", world.kit.path) as registrar:
            async with world.channel("hrss/adapter/main") as channel:
                await until_health(channel, SERVING)
            registrar.send_signal(signal.SIGTERM)
            assert registrar.wait(PATIENCE) == 0
        world.kit.repository.publish(sign(changed[0], signers))
        version = world.kit.directory.version
        with world.process("registrar", world.kit.path):
            async with world.channel("dsjj/auditor/one") as channel:
                audit = audit_pb2_grpc.AuditServiceStub(channel)

                async def versions() -> list[int]:
                    response = await audit.ListEntries(audit_pb2.ListEntriesRequest())
                    events = [decode_entry(data) for data in response.entries]
                    return [e.directory_change.directory_version for e in events if e.HasField("directory_change")]

                async with asyncio.timeout(PATIENCE):
                    while version not in await versions():  # noqa: ASYNC110  the same
                        await asyncio.sleep(0.1)
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(PATIENCE) == 0
