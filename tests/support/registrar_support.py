"""The registrar as a process, its admins with their profiles, and the commands that they run.

world = World(tmp_path, published=True)
with world.registrar():
    world.run("policy", "show", "--profile", world.path / "hrss.toml")
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

import policy_support as support
from certs_support import City
from exchange.registrar import make_log, registrar_identity
from policy.publishing import Named, draft, read_current, sign
from policy.source import hub_fetch
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2, policy_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address
from zhiwang.wire.profile import load_profile

ZHIWANG = Path(sys.executable).parent / "zhiwang"
PATIENCE = 30.0


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
        registrar = load_profile(self.profile("registrar", "dsjj/registrar/main"))
        if published:
            make_log(registrar, registrar_identity(registrar))

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
