"""A registrar, a hub and witnesses as processes, driven by the commands that people use."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc

from audit.cosignature import Cosignature, WitnessPolicy, parse_witness_key
from exchange import app, witness
from exchange.registrar import make_log, registrar_identity
from policy_support import CENTRE, DirectoryKit, make_directory
from ports import free_port
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.errors import Reason
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address
from zhiwang.wire.profile import load_profile

ZHIWANG = Path(sys.executable).parent / "zhiwang"
PATIENCE = 60.0
ORIGIN = "shenzhen/dsjj/hub/main"

REGISTRAR = """
root = "{root}"
identity = "{identity}"
state = "{state}"
listen = "127.0.0.1:{port}"
"""
HUB = """
registrar = "127.0.0.1:{registrar}"
root = "{root}"
identity = "{identity}"
state = "hub-state"
listen = "127.0.0.1:0"
metrics = "127.0.0.1:0"

[cosigning]
every = 1
alarm_after = 5
"""
WITNESS = """
registrar = "127.0.0.1:{registrar}"
root = "{root}"
identity = "{identity}"
state = "{name}-state"
listen = "127.0.0.1:{port}"

[[witness.log]]
origin = "{origin}"
"""
AUDITOR = """
hub = ["{hub}"]
root = "{root}"
identity = "{identity}"
state = "auditor-state"
"""


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  on loopback
        text: str = answer.read().decode()
    return text


class WitnessCity:
    """Profiles and states; processes run while a test holds them.

    Args:
        path: Where.
        names: The witnesses.
        quorum: How many of them the centre demands.
    """

    def __init__(self, path: Path, names: Sequence[str], quorum: int) -> None:
        self.path = path
        self.names = names
        self.quorum = quorum
        self.kit: DirectoryKit = make_directory(path)
        self.city = self.kit.city
        self.registrar = free_port()
        self.ports = {name: free_port() for name in names}
        self.states = {"registrar": self.kit.path, "hub": path / "hub-state"}
        self.states |= {name: path / f"{name}-state" for name in names}
        registrar, hub = self.city.enrol("dsjj/registrar/main"), self.city.enrol("dsjj/hub/main")
        self.write(
            "registrar",
            REGISTRAR.format(
                root=self.city.root, identity=registrar.directory, state=self.kit.path, port=self.registrar
            ),
        )
        profile = load_profile(path / "registrar.toml")
        make_log(profile, registrar_identity(profile))
        addresses = "".join(f'witness.{name} = "127.0.0.1:{port}"\n' for name, port in self.ports.items())
        self.write("hub", HUB.format(registrar=self.registrar, root=self.city.root, identity=hub.directory) + addresses)
        for name in names:
            files = self.city.enrol(f"{name}/witness/main")
            self.write(
                name,
                WITNESS.format(
                    registrar=self.registrar,
                    root=self.city.root,
                    identity=files.directory,
                    name=name,
                    port=self.ports[name],
                    origin=ORIGIN,
                ),
            )
        self.keys = {name: self.make(name) for name in names}
        self.publish()

    def make(self, name: str) -> str:
        """A witness's key and state, as `zhiwang witness init` makes them, without its start."""
        return str(witness.init(load_profile(self.path / f"{name}.toml")))

    def make_hub(self) -> None:
        """The hub's state, in the same way."""
        app.init(load_profile(self.path / "hub.toml"))

    @property
    def policy(self) -> WitnessPolicy:
        """What the centre says, with the witnesses' names as it gives them."""
        return WitnessPolicy({name: [parse_witness_key(key)] for name, key in self.keys.items()}, self.quorum)

    def publish(self) -> None:
        keys = "".join(f'{name}.key = "{key}"\n' for name, key in self.keys.items())
        self.kit.publish(f"witness_quorum = {self.quorum}\n{CENTRE}\n[witness]\n{keys}")

    def write(self, name: str, text: str) -> None:
        (self.path / f"{name}.toml").write_text(text)

    def run(self, *arguments: str, name: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
        """A command with the profile of `name`; of the first argument if it is empty."""
        command = [str(ZHIWANG), *arguments, "--profile", str(self.path / f"{name or arguments[0]}.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603  our own command
        assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def log(self, name: str) -> str:
        """What a process logged by now, in all of its lives."""
        return (self.path / f"{name}.out").read_text("utf-8")

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process that has announced itself; ended with the block."""
        process = self.start(name)
        try:
            yield process
        finally:
            self.end(process)

    def start(self, name: str, command: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        words = command or [str(ZHIWANG), self.noun(name), "run", "--profile", str(self.path / f"{name}.toml")]
        with (self.path / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out)  # noqa: S603  our own command
        self.eventually(lambda: self._serves(name, process), lambda: self.log(name))
        return process

    def noun(self, name: str) -> str:
        """The command that runs a process of this name."""
        return name if name in {"registrar", "hub"} else "witness"

    def _serves(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log(name)
        address = read_address(self.states[name])
        return address is not None and address["pid"] == process.pid

    @staticmethod
    def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
        if process.poll() is None:
            process.send_signal(number)
        process.wait(PATIENCE)

    @staticmethod
    def eventually(holds: Callable[[], object], told: Callable[[], str] = lambda: "") -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, told()
            time.sleep(0.05)

    def metric(self, name: str) -> float:
        """A metric of the hub; 0 if it is not there."""
        address = read_address(self.states["hub"])
        assert address is not None
        text = page(f"http://{address['metrics']}/metrics")
        found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", text, re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    def metrics_text(self) -> str:
        address = read_address(self.states["hub"])
        assert address is not None
        return page(f"http://{address['metrics']}/metrics")

    def auditor(self) -> str:
        """Writes the auditor's profile for the hub as it runs now."""
        address = read_address(self.states["hub"])
        assert address is not None
        files = self.city.enrol("dsjj/auditor/zhao")
        self.write("auditor", AUDITOR.format(hub=address["listen"], root=self.city.root, identity=files.directory))
        return str(address["listen"])

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Any]:
        target = self.auditor()
        files = self.city.enrol("dsjj/auditor/zhao")
        async with open_channel(
            target, files.channel_credentials(), server_name=server_name("shenzhen", Kind.HUB)
        ) as channel:
            yield audit_pb2_grpc.AuditServiceStub(channel)

    async def cosigned(self, stub: Any) -> audit_pb2.LogHead | None:
        """The newest cosigned head; None while there is none."""
        try:
            response = await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(cosigned=True), timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            if refusal_of(error).reason is not Reason.NOT_WITNESSED:
                raise
            return None
        head: audit_pb2.LogHead = response.head
        return head

    async def until_cosigned(
        self, stub: Any, holds: Callable[[tuple[Cosignature, ...]], bool] = lambda _: True
    ) -> audit_pb2.LogHead:
        """The newest cosigned head, once its cosignatures are as they should be."""
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await self.cosigned(stub)
                if head is not None and holds(self.policy.cosignatures(head.checkpoint)):
                    return head
                await asyncio.sleep(0.1)


def names_of(cosignatures: Sequence[Cosignature]) -> set[str]:
    return {one.name for one in cosignatures}
