"""The registrar as a process, driven by the commands that people use, over mTLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import policy_support as support
from certs_support import City
from policy.directory import DirectoryClient, DirectoryHolder
from policy.follower import begin, follow, hub_fetch
from policy.mirror import Mirror
from policy.publishing import Named, draft, read_current, sign
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address

ZHIWANG = Path(sys.executable).parent / "zhiwang"
PATIENCE = 30.0
SUSPEND = 'department = "hrss"\n[[suspend]]\nid = "leak"\nrole = "edu/enrolment-clerk"\n'


class World:
    """A city with profiles for its admins and its registrar.

    Args:
        path: Where.
        published: Whether a directory is in force already; if not, there is only the authority with its admins.
    """

    def __init__(self, path: Path, *, published: bool) -> None:
        self.path = path
        self.kit = support.make_directory(path) if published else None
        self.city = City.create(path, "shenzhen") if self.kit is None else self.kit.city
        self.state = path / "registrar-state" if self.kit is None else self.kit.path
        self.city.enrol("dsjj/registrar/main")
        for department in ("dsjj", "edu", "hrss", "health"):
            for name in ("first", "second") if self.kit is None else ():
                self.city.enrol(f"{department}/admin/{name}")
            self.profile(department, f"{department}/admin/first")
        self.profile("registrar", "dsjj/registrar/main")

    def profile(self, name: str, identity: str, registrar: str = "127.0.0.1:1") -> Path:
        path = self.path / f"{name}.toml"
        path.write_text(
            f'registrar = "{registrar}"\nroot = "{self.city.root}"\nidentity = "{self.city.path(identity)}"\n'
            f'state = "{self.state}"\nlisten = "127.0.0.1:0"\nmetrics = "127.0.0.1:0"\n',
            "utf-8",
        )
        return path

    def run(self, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: S603 # our own command
            [str(ZHIWANG), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def file(self, name: str, content: str) -> Path:
        path = self.path / name
        path.write_text(content, "utf-8")
        return path

    def signing(self, short: str) -> Path:
        return self.city.path(short) / "signing.pem"

    def signs(self, department: str) -> list[object]:
        return [
            part for name in ("first", "second") for part in ("--sign", self.city.path(f"{department}/admin/{name}"))
        ]

    def publish(self, department: str, *files: Path, more: tuple[object, ...] = (), status: int = 0) -> str:
        profile = self.path / f"{department}.toml"
        done = self.run(
            "policy", "publish", *files, "--profile", profile, *self.signs(department), *more, status=status
        )
        return done.stdout + done.stderr

    @contextmanager
    def registrar(self) -> Iterator[subprocess.Popen[bytes]]:
        """The running process, after it has announced itself; every profile points to it."""
        out = self.path / "registrar.out"
        with out.open("ab") as stream:
            process = subprocess.Popen(  # noqa: S603 # our own command
                [str(ZHIWANG), "registrar", "run", "--profile", str(self.path / "registrar.toml")],
                stdout=stream,
                stderr=stream,
            )
        try:
            end = time.monotonic() + PATIENCE
            while (address := read_address(self.state)) is None or address["pid"] != process.pid:
                assert process.poll() is None, out.read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            for department in ("dsjj", "edu", "hrss", "health"):
                self.profile(department, f"{department}/admin/first", address["listen"])
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)

    async def send(self, text: str) -> None:
        """What `policy publish` does, without its start."""
        assert self.kit is not None
        async with self.channel("hrss/admin/first") as channel:
            directory = exchange_pb2_grpc.DirectoryServiceStub(channel)
            current = await asyncio.to_thread(
                read_current, hub_fetch(lambda: directory), self.kit.root_json, time.time()
            )
            for drafted in draft([Named("file", text.encode())], current, now=time.time()):
                publication = sign(drafted, self.kit.admins["hrss"])
                request = policy_pb2.PublishRequest(
                    role=publication.role,
                    metadata=publication.metadata,
                    files=[
                        policy_pb2.PublishRequest.File(path=path, content=content)
                        for path, content in publication.files.items()
                    ],
                )
                await policy_pb2_grpc.PolicyAdminServiceStub(channel).Publish(request, timeout=PATIENCE)

    def channel(self, short: str) -> grpc.aio.Channel:
        address = read_address(self.state)
        assert address is not None
        credentials = self.city.enrol(short).channel_credentials()
        return open_channel(address["listen"], credentials, server_name=server_name("shenzhen", Kind.REGISTRAR))


def found_city(world: World) -> None:
    """The commands of docs/policy.md, up to a registrar that can run."""
    world.run("registrar", "init", "--profile", world.path / "registrar.toml")
    admins = [part for name in ("first", "second") for part in ("--admin", world.signing(f"dsjj/admin/{name}"))]
    ceremony = world.path / "ceremony"
    world.run("policy", "root", ceremony, "--registrar", world.state / "registrar.pub", *admins)
    (world.city.root / "root.json").write_bytes((ceremony / "root.json").read_bytes())


def publish_all(world: World) -> None:
    centre = [world.file("centre.toml", support.CENTRE)]
    centre += [world.file(f"{name}.toml", text) for name, text in support.MATTERS.items()]
    admins = [
        part
        for department in ("edu", "hrss", "health")
        for name in ("first", "second")
        for part in ("--admin", f"{department}={world.signing(f'{department}/admin/{name}')}")
    ]
    world.publish("dsjj", *centre, more=tuple(admins))
    for department, text in support.DOCUMENTS.items():
        world.publish(department, world.file(f"{department}-document.toml", text))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, published=True)


def test_a_city_is_founded_published_and_shown_by_the_commands_alone(tmp_path: Path) -> None:
    world = World(tmp_path, published=False)
    found_city(world)
    hrss = world.path / "hrss.toml"
    with world.registrar() as process:
        publish_all(world)
        shown = json.loads(world.run("policy", "show", "--profile", hrss, "--json").stdout)
        assert set(shown["documents"]) == {"edu", "hrss", "health"}
        assert "养老保险" in world.run("policy", "show", "hrss", "--profile", hrss).stdout
        world.run("policy", "show", "police", "--profile", hrss, status=2)

        asked = ["hrss.insured exists", "--system", "edu/enrolment", "--role", "edu/enrolment-clerk"]
        where = ["--matter", "school-enrolment", "--jurisdiction", "nbs:440306", "--profile", hrss]
        explained = world.run("policy", "explain", *asked, *where).stdout
        assert "allowed" in explained
        assert "hrss/enrolment-insured applies" in explained

        told = world.publish("hrss", world.file("suspend.toml", SUSPEND))
        assert "hrss-suspend" in told
        denied = world.run("policy", "explain", *asked, *where, status=1).stdout
        assert "hrss suspends it: leak" in denied

        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    with world.registrar():
        assert json.loads(world.run("policy", "show", "--profile", hrss, "--json").stdout)["suspended"] == ["hrss/leak"]


def test_wrong_commands_are_told_what_to_do_and_change_nothing(world: World) -> None:
    hrss = world.path / "hrss.toml"
    document = world.file("hrss-document.toml", support.HRSS)
    world.run("registrar", "init", "--profile", world.path / "registrar.toml", status=1)
    with world.registrar():
        before = world.run("policy", "show", "--profile", hrss, "--json").stdout

        bad = world.file("bad.toml", support.HRSS.replace('"hrss.insured exists"', '"police.age exists"'))
        told = world.publish("hrss", bad, status=1)
        assert f"{bad}:" in told
        assert "grant[1].ask" in told
        assert "grant[1].ask" in world.run("policy", "check", bad, status=1).stderr
        world.run("policy", "check", document)

        one = world.run(
            "policy",
            "publish",
            document,
            "--profile",
            hrss,
            "--sign",
            world.city.path("hrss/admin/first"),
            status=1,
        )
        assert "2 signatures" in one.stderr

        foreign = world.run(
            "policy",
            "publish",
            document,
            "--profile",
            world.path / "edu.toml",
            *world.signs("hrss"),
            status=1,
        )
        assert "RPC_NOT_ALLOWED" in foreign.stderr

        unknown = world.file("unknown.toml", support.HRSS.replace('"senior-card"', '"no-such"'))
        assert "there is no matter no-such" in world.publish("hrss", unknown, status=1)
        assert world.run("policy", "show", "--profile", hrss, "--json").stdout == before


async def test_a_follower_has_a_change_as_soon_as_it_is_published(world: World) -> None:
    with world.registrar():
        async with world.channel("dsjj/hub/main") as channel:
            stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
            holder, mirror = DirectoryHolder(), Mirror()
            root = (world.city.root / "root.json").read_bytes()
            client = DirectoryClient(root, world.city.ca_pem, world.path / "hub-directory", hub_fetch(lambda: stub))
            await begin(client, holder, mirror=mirror)
            assert holder.current.documents["hrss"].grants
            changed = asyncio.Event()
            holder.on_change(lambda _: changed.set())
            following = asyncio.create_task(follow(client, holder, lambda: stub, mirror=mirror))
            await asyncio.sleep(0)
            try:
                await world.send(SUSPEND)
                async with asyncio.timeout(PATIENCE):
                    while not holder.current.suspensions:
                        changed.clear()
                        await changed.wait()
                assert mirror.timestamp == mirror.read("metadata/timestamp.json")
                assert holder.problem is None
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        # With nobody there, a restart goes on from disk until the directory expires.
        again = DirectoryHolder()
        await begin(client, again)
        assert again.current == holder.current
        assert again.problem is not None
        assert again.problem.startswith("unreachable")


async def test_only_admins_publish_and_only_what_is_theirs(world: World) -> None:
    with world.registrar():
        cases: list[tuple[str, str, Reason]] = [
            ("edu/system/enrolment", "edu", Reason.RPC_NOT_ALLOWED),
            ("dsjj/hub/main", "targets", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "hrss", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "targets", Reason.RPC_NOT_ALLOWED),
            ("edu/admin/first", "root", Reason.RPC_NOT_ALLOWED),
            ("dsjj/admin/first", "hrss", Reason.RPC_NOT_ALLOWED),
            ("hrss/admin/first", "hrss", Reason.METADATA_INVALID),
            ("hrss/admin/first", "hrss-suspend", Reason.METADATA_INVALID),
            ("dsjj/admin/first", "targets", Reason.METADATA_INVALID),
            ("dsjj/admin/first", "root", Reason.METADATA_INVALID),
        ]
        for short, role, reason in cases:
            async with world.channel(short) as channel:
                assert (
                    await refused(
                        policy_pb2_grpc.PolicyAdminServiceStub(channel).Publish(
                            policy_pb2.PublishRequest(role=role, metadata=b"{}"), timeout=PATIENCE
                        )
                    )
                    is reason
                ), (short, role)
        async with world.channel("edu/agent/main") as channel:
            directory = exchange_pb2_grpc.DirectoryServiceStub(channel)
            for path in (
                "",
                "metadata/9.root.json",
                "../keys/snapshot.key",
                "targets/../../keys/snapshot.key",
                "x" * 9999,
            ):
                request = exchange_pb2.GetFileRequest(path=path)
                assert await refused(directory.GetFile(request, timeout=PATIENCE)) is Reason.FILE_UNKNOWN
            policy = policy_pb2_grpc.PolicyServiceStub(channel)
            assert await refused(policy.GetDirectory(policy_pb2.GetDirectoryRequest())) is Reason.RPC_NOT_ALLOWED
        async with world.channel("dsjj/auditor/zhao") as channel:
            policy = policy_pb2_grpc.PolicyServiceStub(channel)
            answer = await policy.GetDirectory(policy_pb2.GetDirectoryRequest(), timeout=PATIENCE)
            assert answer.role_versions["hrss"] == 1
            explained = await policy.Explain(
                policy_pb2.ExplainRequest(
                    system="spiffe://shenzhen/edu/system/enrolment",
                    role="edu/enrolment-clerk",
                    ask="hrss.insured exists",
                    jurisdiction="nbs:440306",
                    matter="school-enrolment",
                ),
                timeout=PATIENCE,
            )
            assert explained.allowed
            assert list(explained.rule_ids) == ["hrss/enrolment-insured"]


async def refused(call: Any) -> Reason:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return refusal_of(error.value).reason


async def test_killing_the_registrar_at_any_moment_leaves_a_directory_that_readers_take(world: World) -> None:
    for number in range(5):
        with world.registrar() as process:
            sending = asyncio.create_task(world.send(f"{support.HRSS}\n# {number}\n"))
            await asyncio.sleep(0.03 * number)
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.gather(sending, return_exceptions=True)
    with world.registrar():
        await world.send(support.HRSS + "\n# last\n")
        shown = world.run("policy", "show", "hrss", "--profile", world.path / "hrss.toml", "--json").stdout
        assert json.loads(shown)["documents"]["hrss"]["version"] >= 2
