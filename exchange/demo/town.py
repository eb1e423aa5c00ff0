"""A city that runs: registrar, hub, eight adapters and the education bureau's agent, each a process of its own.

They bind free ports and say which in their state directories, so each is started when the addresses that it needs are
known: first the registrar, then the hub, then all adapters and the agent at once. Meanwhile the databases are written.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path

import typer

from certs.credentials import IdentityFiles
from exchange import app as hub
from exchange.cli.main import ENTRY_POINTS
from exchange.demo import build
from exchange.demo.auditing import is_serving
from exchange.demo.build import (
    ADMIN,
    ADMINS,
    AUDITOR,
    CARDS,
    CITY,
    CLERKS,
    DESK,
    DESK_MATTER,
    DESK_ROLE,
    DISTRICT,
    HUB,
    INVITER,
    LOOPBACK,
    OWNERS,
    ROLE,
    SYSTEM,
    Layout,
)
from exchange.demo.places import CODE_SYSTEM
from exchange.demo.processes import Fleet, ProcessError, stop_groups, zhiwang
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import FatalError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import locked_state, read_address
from zhiwang.wire.profile import load_profile

START_SECONDS = 60.0
"""How long a process may take to announce its address, and the city to become ready."""

_POLL_SECONDS = 0.02


class Town:
    """The processes of one city directory.

    Args:
        layout: The directory.
        fleet: Starts and stops processes.
        owners: Departments whose adapters run.
    """

    def __init__(self, layout: Layout, fleet: Fleet, owners: Collection[str] = OWNERS) -> None:
        self.layout = layout
        self.fleet = fleet
        self._owners = owners
        self.addresses: dict[str, str] = {}
        self.auditor = IdentityFiles(layout.identity(AUDITOR), layout.root)

    def start_registrar(self) -> None:
        """Start the registrar; its profile was written when its directory was made."""
        self._start("registrar")

    def start_hub(self) -> None:
        """Make the hub's log and start it as soon as the registrar can be reached."""
        build.write_profile(self.layout, "hub", HUB, listen=LOOPBACK, registrar=self._address("registrar"))
        hub.init(load_profile(self.layout.profile("hub")))
        self._start("hub")

    def start_adapter(self, department: str) -> None:
        """Make an adapter's store and start it as soon as the hub can be reached. Its database must be there."""
        build.write_profile(
            self.layout,
            department,
            f"{department}/adapter/main",
            listen=LOOPBACK,
            hub=[self._address("hub")],
            adapter={"mapping": "mapping.toml", "document": "document.toml"},
        )
        _command("adapter", "init", "--profile", str(self.layout.profile(department)))
        self._start(department, "adapter")

    def start_agent(self) -> None:
        """Start the education bureau's agent, and leave profiles for its people, an admin and an auditor."""
        defaults = {"role": ROLE, "jurisdiction": f"{CODE_SYSTEM}:{DISTRICT}"}
        target = [self._address("hub")]
        build.write_profile(
            self.layout,
            "agent",
            SYSTEM,
            listen=LOOPBACK,
            hub=target,
            defaults=defaults,
            agent={"caller": ({"certificate": "local", "roles": [ROLE]},)},
        )
        build.write_profile_file(
            self.layout, self.layout.system_profile, SYSTEM, hub=target, state="edu-state", defaults=defaults
        )
        desk = {"role": DESK_ROLE, "matter": DESK_MATTER, "jurisdiction": f"{CODE_SYSTEM}:{DISTRICT[:4]}"}
        build.write_profile_file(
            self.layout, self.layout.desk_profile, DESK, hub=target, state="desk-state", defaults=desk
        )
        self._active_service(target)
        for name, (system, role, matter) in CLERKS.items():
            clerk = {"role": role, "matter": matter, "jurisdiction": f"{CODE_SYSTEM}:{DISTRICT[:4]}"}
            build.write_profile_file(
                self.layout,
                self.layout.clerk_profile(name),
                system,
                hub=target,
                state=f"{name}-state",
                defaults=clerk,
            )
        for state in (
            self.layout.state("agent"),
            self.layout.directory / "edu-state",
            self.layout.directory / "desk-state",
            *(self.layout.directory / f"{name}-state" for name in CLERKS),
        ):
            state.mkdir(mode=0o700)
        for path, identity in ((self.layout.auditor_profile, AUDITOR), (self.layout.admin_profile, ADMIN)):
            build.write_profile_file(
                self.layout,
                path,
                identity,
                hub=target,
                registrar=self._address("registrar"),
                state=f"{path.stem}-state",
            )
        self._start("agent")

    def _active_service(self, hub: list[str]) -> None:
        """Profiles of who draws rosters and invites, of the admin who hands names on, and of who receives them."""
        city = f"{CODE_SYSTEM}:{DISTRICT[:4]}"
        inviting = {"role": "police/senior-inviter", "jurisdiction": city, "matter": "senior-invite"}
        for name, identity, defaults in (
            ("police-invitations", INVITER, inviting),
            ("police-admin", f"police/admin/{ADMINS[0]}", {}),
            ("civil-seniors", CARDS, {"role": "civil/senior-clerk", "jurisdiction": city, "matter": "senior-invite"}),
        ):
            path = self.layout.directory / f"{name}.toml"
            more = {"defaults": defaults} if defaults else {}
            build.write_profile_file(self.layout, path, identity, hub=hub, state=f"{name}-state", **more)
            (self.layout.directory / f"{name}-state").mkdir(mode=0o700)

    def _start(self, place: str, noun: str = "") -> None:
        self.fleet.start(place, zhiwang(noun or place, "run", "--profile", str(self.layout.profile(place))))

    def _address(self, place: str) -> str:
        """Address of a process, once it has announced one.

        Raises:
            ProcessError: It ended, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while place not in self.addresses:
            announced = read_address(self.layout.state(place))
            if announced is not None and announced["pid"] == self.fleet.pids[place]:
                self.addresses[place] = str(announced["listen"])
                break
            self.fleet.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"{place} does not start", self.fleet.log(place))
            time.sleep(_POLL_SECONDS)
        return self.addresses[place]

    async def ready(self) -> None:
        """Wait until every process says by `grpc.health.v1` that it serves.

        Raises:
            ProcessError: One of them ended, or takes too long.
        """
        kinds = {"registrar": Kind.REGISTRAR, "hub": Kind.HUB, **dict.fromkeys(self._owners, Kind.ADAPTER)}
        credentials = self.auditor.channel_credentials()
        deadline = time.monotonic() + START_SECONDS
        for place in (*kinds, "agent"):
            target = await asyncio.to_thread(self._address, place)
            kind = kinds.get(place)
            own, name = (credentials, server_name(CITY, kind)) if kind is not None else (None, "")
            while not await is_serving(target, own, name):
                self.fleet.check()
                if time.monotonic() > deadline:
                    raise ProcessError(f"{place} does not become ready", self.fleet.log(place))
                await asyncio.sleep(_POLL_SECONDS)
        await self._attached(deadline)

    async def _attached(self, deadline: float) -> None:
        """Wait until the hub has the sealing keys of every owner: then each adapter is attached."""
        files = IdentityFiles(self.layout.identity(SYSTEM), self.layout.root)
        channel = open_channel(
            self.addresses["hub"], files.channel_credentials(), server_name=server_name(CITY, Kind.HUB)
        )
        try:
            stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
            while True:
                response = await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(), timeout=5)
                owners = {sealed_pb2.OwnerKey.FromString(statement.key).owner for statement in response.keys}
                missing = sorted(set(self._owners) - owners)
                if not missing:
                    return
                self.fleet.check()
                if time.monotonic() > deadline:
                    raise ProcessError(f"{missing[0]} is not attached to the hub", self.fleet.log(missing[0]))
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await channel.close()

    @property
    def agent(self) -> str:
        """Address of the education bureau's agent."""
        return self.addresses["agent"]

    def note(self) -> None:
        """Write down the process ids of a city that is left running."""
        self.layout.processes.write_text(json.dumps(self.fleet.pids, indent=2) + "\n", "utf-8")


def stop(directory: Path) -> list[str]:
    """Stop a city that was left running.

    Returns:
        Names of the processes that ran.

    Raises:
        FileNotFoundError: None was left running in this directory.
    """
    layout = Layout(directory)
    pids: dict[str, int] = json.loads(layout.processes.read_text("utf-8"))
    places = {pid: place for place, pid in pids.items()}

    def is_ours(pid: int) -> bool:
        """A process that serves is named by its state directory and holds its lock; after its death nobody does."""
        state = layout.state(places[pid])
        announced = read_address(state)
        return announced is not None and announced["pid"] == pid and _is_held(state)

    stopped = stop_groups(list(places), is_ours)
    layout.processes.unlink()
    return [places[pid] for pid in stopped]


def _is_held(state: Path) -> bool:
    try:
        with locked_state(state):
            return False
    except FatalError:
        return True


def _command(noun: str, *arguments: str) -> None:
    """Run a command of a folder that this one may not import, in this process: it comes by its entry point."""
    (found,) = entry_points(group=ENTRY_POINTS, name=noun)
    # What it says to a person who makes one adapter by hand would only be in the way here.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        typer.main.get_command(found.load())(list(arguments), standalone_mode=False)
