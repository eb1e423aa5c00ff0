"""A tiny city in one process, on loopback with real mTLS: signed directory, hub, owners, clients.

    async with running_city(tmp_path, owners=("hrss", "health")) as city:
        async with city.client() as client:
            result = await client.verify(city.case(), city.context())

Owners here are `hub_support.Owner`: honest (they open, record, prove and seal with the modules that an adapter uses)
and answer YES, unless a test makes them do otherwise. Nothing of the hub and the requester's side is replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import policy_support
from audit.appended import Head
from audit.log import AuditLog
from audit.search import SearchIndexes
from audit.store import LogStore
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from exchange.app import assemble, stop
from exchange.client.case import Case, Context, Subject
from exchange.client.client import Client
from exchange.views import OwnerViews
from hub_support import Owner, RunningHub, new_log
from log_places import Place, as_place
from policy.archive import Archive
from policy.directory import DirectoryHolder
from policy.mirror import Mirror
from policy.model import Directory
from policy_support import DirectoryKit, make_directory
from zhiwang.wire.profile import Profile, load_profile

CHILD = "440399201901010018"
"""People who do not exist: the prefix 440399 is not assigned."""
MOTHER = "440399198805050025"
FATHER = "440399198606060030"
HOUSE = "4403060010010100010010101"


def with_check_digit(first: str) -> str:
    """A resident identifier out of its first 17 digits (GB 11643)."""
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(first))
    return first + "10X98765432"[total % 11]


CHILD, MOTHER, FATHER = (with_check_digit(text[:17]) for text in (CHILD, MOTHER, FATHER))


def child(number: int) -> str:
    """One of many."""
    return with_check_digit(f"44039920190101{number % 1000:03}")


PROFILE = """
hub = [{hubs}]
root = "{root}"
identity = "{identity}"
state = "{state}"

[defaults]
role = "edu/enrolment-clerk"
jurisdiction = "nbs:440306"
official = "clerk-17"
{more}
"""


class OneVoice(Owner):
    """An owner whose replies leave one after another, since gRPC takes one write of a stream at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._saying = asyncio.Lock()

    async def say(self, **message: Any) -> None:
        async with self._saying:
            await super().say(**message)


@dataclass
class Hub:
    """A hub of the city that can be stopped and started again over the same log.

    Attributes:
        log: Where its log stands; in its directory if that is None.
    """

    city: RunningCity
    directory: Path
    log: Place | None = None
    running: RunningHub | None = None
    address: str = ""
    files: IdentityFiles | None = None
    cosigned: Callable[[], Head | None] = lambda: None
    _housekeeping: asyncio.Task[None] | None = None

    @property
    def up(self) -> RunningHub:
        assert self.running is not None
        return self.running

    async def start(self, address: str = "127.0.0.1:0") -> Hub:
        kit, clock = self.city.kit, self.city.clock
        first = not self.directory.exists()
        if first:
            (self.directory / "owner_logs").mkdir(parents=True)
        if self.files is None:
            self.files = kit.city.enrol(f"{policy_support.OPERATOR}/hub/{self.directory.name}")
        files = self.files
        audit_log = AuditLog((new_log if first else reopened)(self.log or self.directory / "hub.db", files))
        holder, mirror = DirectoryHolder(clock), Mirror(Archive(self.directory / "published"))
        holder.set(kit.directory)
        await mirror.take(dict(kit.repository.files))
        views = OwnerViews(self.directory / "owner_logs", CertificateVerifier(files.ca_pem, holder.revoked), clock)
        self.index = SearchIndexes(self.directory / "search.db", audit_log.store)
        parts = assemble(
            files.identity,
            files.ca_pem,
            holder,
            mirror,
            audit_log,
            views,
            index=self.index,
            cosigned=lambda: self.cosigned(),  # noqa: PLW0108 - a test may set another one while the hub runs
            root_json=kit.root_json,
            published=self.directory / "published",
            clock=clock,
        )
        self.address = parts.server.listen(address, files.server_credentials())
        await parts.server.start()
        for condition in ("log", "directory"):
            await parts.readiness.set(condition, holds=True)
        self._housekeeping = asyncio.create_task(parts.hub.housekeep())
        self.mirror = mirror
        self.running = RunningHub(kit.city, parts, views, holder, audit_log, self.address)
        return self

    def take(self, directory: Directory) -> None:
        """Decide by another directory, and mirror it."""
        self.up.holder.set(directory)
        files = dict(self.city.kit.repository.files)
        Archive(self.directory / "published").keep(files)
        self.mirror.publish(files)

    async def stop(self, seconds: float = 1.0) -> None:
        if self.running is None or self._housekeeping is None:
            return
        hub, self.running = self.running, None
        await stop(hub.parts, seconds)
        self._housekeeping.cancel()
        await asyncio.gather(self._housekeeping, return_exceptions=True)
        if hub.store.stopped is None:
            hub.store.verify_all()
        await hub.audit_log.close()
        self.index.close()
        hub.store.engine.dispose()


def reopened(place: Path | Place, files: IdentityFiles) -> LogStore:
    store = LogStore(as_place(place).open(), files.identity.log_origin, files.signer())
    store.open()
    return store


@dataclass
class RunningCity:
    """The city.

    Attributes:
        kit: Its directory and everybody who can change it.
        hubs: By name; "main" is there from the beginning.
        owners: By department.
    """

    path: Path
    kit: DirectoryKit
    clock: Callable[[], float]
    hubs: dict[str, Hub] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def hub(self) -> Hub:
        return self.hubs["main"]

    async def add_hub(self, name: str, log: Place | None = None) -> Hub:
        hub = self.hubs[name] = Hub(self, self.path / "hubs" / name, log)
        self._stack.push_async_callback(hub.stop)
        return await hub.start()

    async def add_owner(self, department: str, hub: Hub | None = None) -> Owner:
        owner = OneVoice((hub or self.hub).up, self.path / "owners" / department, f"{department}/adapter/main")
        self._stack.push_async_callback(owner.close)
        await owner.attach()
        self.owners[department] = owner
        return owner

    def profile(
        self, short: str = "edu/system/enrolment", *, hubs: Sequence[str] = (), more: str = "", name: str = "client"
    ) -> Profile:
        """A profile on disk, with its state directory."""
        directory = self.path / "profiles" / name
        identity = self.kit.city.path(short)
        if not identity.exists():
            self.kit.city.enrol(short)
        (directory / "state").mkdir(parents=True, exist_ok=True)
        addresses = ", ".join(f'"{address}"' for address in (hubs or [self.hub.address]))
        (directory / "profile.toml").write_text(
            PROFILE.format(hubs=addresses, root=self.kit.city.root, identity=identity, state="state", more=more)
        )
        return load_profile(directory / "profile.toml")

    @asynccontextmanager
    async def client(self, **profile: Any) -> AsyncIterator[Client]:
        client = await Client.open(self.profile(**profile), clock=self.clock)
        try:
            yield client
        finally:
            await client.close()

    def publish(self, *documents: str) -> None:
        """Change the directory, and have every hub take it up."""
        directory = self.kit.publish(*documents)
        for hub in self.hubs.values():
            if hub.running is not None:
                hub.take(directory)

    @staticmethod
    def case(number: int | None = None, *, claims: Sequence[str] = (), key: str = "") -> Case:
        """An application that every document of `policy_support` allows."""
        first = CHILD if number is None else child(number)
        subjects = (Subject("child", first, "小明"), Subject("guardian", MOTHER, "李·梅"))
        return Case(subjects, tuple(claims), key)

    @staticmethod
    def context(**changes: Any) -> Context:
        return Context(**({"matter": "school-enrolment", "reference": "2026-000123"} | changes))


@asynccontextmanager
async def running_city(
    path: Path,
    *,
    owners: Sequence[str] = ("hrss", "health"),
    clock: Callable[[], float] = time.time,
    log: Place | None = None,
    **directory: Any,
) -> AsyncIterator[RunningCity]:
    """A city that runs, whose hub's log stands in `log` if that is given. Every hub's log is checked at the end."""
    city = RunningCity(path, make_directory(path, clock=clock, **directory), clock)
    async with city._stack:
        await city.add_hub("main", log)
        for owner in owners:
            await city.add_owner(owner)
        yield city
