"""A city of real processes that a test may break, and requests that no honest client would send.

    city = RealCity.build(tmp_path, owners=("health", "hrss"))      # registrar, hub, adapters, agent: processes
    city.kill("hub"); city.start("hub"); city.wait_ready()
    forge = Forge(city)
    forged = forge.request("hrss", [INSURED], [{"guardian": GUARDIAN}], role="edu/nobody")

Departments, documents, mappings and people are those of the example city, only fewer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import grpc
from prometheus_client.registry import Collector

import adapters.app
import adapters.installation
from audit.auditor import ReadLog
from audit.entry import decode_entry
from certs.credentials import IdentityFiles
from certs.sealing import SealingContext
from exchange import app as hub_app
from exchange.demo import build, stores
from exchange.demo.auditing import is_serving, read_log
from exchange.demo.build import AUDITOR, CENTRE, CITY, HUB, LOOPBACK, MATTER, ROLE, SYSTEM, Layout
from exchange.demo.generate import generate
from exchange.demo.model import Application, City
from exchange.demo.places import read_places
from exchange.demo.processes import Fleet, zhiwang
from policy import registrar
from policy.directory import DirectoryClient
from policy.model import Directory
from ports import free_port
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.verification.v1 import verification_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.claims import Claim
from zhiwang.wire.commitments import header_hash, request_tree, sealed_hash, signature_message
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import SUITE, Header, parse_header
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.metrics import REGISTRY
from zhiwang.wire.process import Process, read_address
from zhiwang.wire.profile import load_profile
from zhiwang.wire.records import Answers, CaseRecord, Outcome, SubjectRecord, decode_answers, encode_records

START_SECONDS = 60.0
POLL_SECONDS = 0.05
SEED = 9

PARENT = "child: health.parent related @guardian"
INSURED = "guardian: hrss.insured_months at_least 12"
LEASE = "home: housing.lease_months at_least 12"
LESSEE = "home: housing.lessee related @guardian"
USE = "home: housing.use equals "


class Breakable(Fleet):
    """Processes that can be killed one by one, and started again."""

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and nothing of it left."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def end(self, name: str) -> int:
        """SIGTERM, and wait for an orderly end."""
        process = self._processes[name]
        process.terminate()
        return process.wait(20)

    def poll(self, name: str) -> int | None:
        return self._processes[name].poll()


@dataclass
class RealCity:
    """Processes over one directory, and everything to talk to them."""

    layout: Layout
    fleet: Breakable
    owners: tuple[str, ...]
    city: City
    directory: Directory
    hub_port: int

    @classmethod
    def build(
        cls,
        path: Path,
        owners: Sequence[str],
        *,
        residents: int = 500,
        students: int = 12,
        hub: Mapping[str, Any] | None = None,
    ) -> Self:
        """Build and start, with these further keys in the hub's profile; ready when this returns."""
        layout, examples = Layout(path / "city"), build.examples_directory()
        layout.directory.mkdir()
        layout.logs.mkdir(mode=0o700)
        build.make_identities(layout)
        build.make_directory(layout, examples)
        directory = _read_directory(layout, path / "reader")
        people = generate(
            seed=SEED,
            residents=residents,
            students=students,
            places=read_places(examples / "shenzhen_divisions.csv"),
            today=datetime.now(UTC).date(),
        )
        # Lasting: what else Fleet does in the child before it becomes its program is not safe beside gRPC's threads.
        fleet = Breakable(layout.logs, lasting=True)
        city = cls(layout, fleet, tuple(owners), people, directory, free_port())
        try:
            city.start("registrar")
            registrar_address = city.address("registrar")
            build.write_profile(
                layout, "hub", HUB, listen=city.hub_address, registrar=registrar_address, metrics=LOOPBACK, **hub or {}
            )
            hub_app.init(load_profile(layout.profile("hub")))
            city.start("hub")
            for department in owners:
                city.furnish(department)
                city.start(department)
            city.write_agent()
            asyncio.run(city.until_serving("hub", serving=True))
            city.start("agent")
            city.wait_ready()
        except BaseException:
            city.fleet.stop()
            raise
        return city

    def furnish(self, department: str) -> None:
        """What an adapter needs before its first start: database, files, profile, store."""
        layout = self.layout
        build.furnish(layout, build.examples_directory(), department)
        stores.write(department, layout.database(department), self.city, seed=SEED, now=datetime.now(UTC))
        profile = build.write_profile(
            layout,
            department,
            f"{department}/adapter/main",
            listen=LOOPBACK,
            metrics=LOOPBACK,
            hub=self.hub_addresses,
            adapter={"mapping": "mapping.toml", "document": "document.toml"},
        )
        adapters.installation.init(profile)

    def write_agent(self, **agent: Any) -> None:
        layout, defaults = self.layout, {"role": ROLE, "jurisdiction": "nbs:440306"}
        build.write_profile(
            layout,
            "agent",
            SYSTEM,
            listen=LOOPBACK,
            metrics=LOOPBACK,
            hub=self.hub_addresses,
            defaults=defaults,
            agent=agent or {"caller": ({"certificate": "local", "roles": [ROLE]},)},
        )
        build.write_profile_file(
            layout, layout.system_profile, SYSTEM, hub=self.hub_addresses, state="edu-state", defaults=defaults
        )
        for state in (layout.state("agent"), layout.directory / "edu-state"):
            state.mkdir(mode=0o700, exist_ok=True)

    @property
    def hub_address(self) -> str:
        return f"127.0.0.1:{self.hub_port}"

    @property
    def hub_addresses(self) -> list[str]:
        """Of all hubs that agents and adapters are to use."""
        return [self.hub_address]

    @property
    def places(self) -> tuple[str, ...]:
        """Every process but the registrar."""
        return ("hub", *self.owners, "agent")

    @property
    def applications(self) -> list[Application]:
        return self.city.applications

    def start(self, place: str) -> None:
        noun = "adapter" if place in self.owners else place
        self.fleet.start(place, zhiwang(noun, "run", "--profile", str(self.layout.profile(place))))

    def announced(self, place: str) -> dict[str, Any]:
        """What a process says of itself, once it serves."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            found = read_address(self.layout.state(place))
            if found is not None and found["pid"] == self.fleet.pids[place]:
                return found
            assert self.fleet.poll(place) is None, f"{place} ended: {self.tail(place)}"
            assert time.monotonic() < deadline, f"{place} does not start: {self.tail(place)}"
            time.sleep(POLL_SECONDS)

    def tail(self, place: str) -> str:
        return self.fleet.log(place).read_text("utf-8")[-2000:]

    def address(self, place: str) -> str:
        return str(self.announced(place)["listen"])

    def wait_ready(self) -> None:
        """Until every process says that it serves, and every owner is attached."""
        asyncio.run(self.ready())

    async def ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for place in self.places:
            await asyncio.to_thread(self.announced, place)
            while not await self.serving(place):
                assert time.monotonic() < deadline, f"{place} does not become ready: {self.tail(place)}"
                await asyncio.sleep(POLL_SECONDS)
        while set(self.owners) - {key.owner for key in await self.owner_keys()}:
            assert time.monotonic() < deadline, "an owner does not attach"
            await asyncio.sleep(POLL_SECONDS)

    async def serving(self, place: str) -> bool:
        """What `grpc.health.v1` says."""
        if place == "agent":
            return await is_serving(self.address("agent"), None, "")
        kind = Kind.HUB if place == "hub" else Kind.ADAPTER
        return await is_serving(self.address(place), self.auditor.channel_credentials(), server_name(CITY, kind))

    async def until_serving(self, place: str, *, serving: bool, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while await self.serving(place) is not serving:  # noqa: ASYNC110 - another process cannot set an event
                await asyncio.sleep(POLL_SECONDS)

    @property
    def auditor(self) -> IdentityFiles:
        return self.identity(AUDITOR)

    def identity(self, short: str) -> IdentityFiles:
        return IdentityFiles(self.layout.identity(short), self.layout.root)

    @asynccontextmanager
    async def hub_channel(self, files: IdentityFiles | None = None) -> Any:
        files = files or self.identity(SYSTEM)
        channel = open_channel(self.hub_address, files.channel_credentials(), server_name=server_name(CITY, Kind.HUB))
        try:
            yield channel
        finally:
            await channel.close()

    @asynccontextmanager
    async def agent_stub(self, address: str = "") -> Any:
        channel = open_channel(address or self.address("agent"), None)
        try:
            yield verification_pb2_grpc.VerificationServiceStub(channel)
        finally:
            await channel.close()

    async def owner_keys(self) -> list[sealed_pb2.OwnerKey]:
        async with self.hub_channel() as channel:
            stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
            response = await stub.GetOwnerKeys(exchange_pb2.GetOwnerKeysRequest(), timeout=5)
        return [sealed_pb2.OwnerKey.FromString(statement.key) for statement in response.keys]

    def log_file(self, place: str) -> Path:
        return self.layout.state(place) / ("log.db" if place in {"hub", "registrar"} else "adapter.db")

    def entries(self, place: str, start: int = 0) -> list[audit_pb2.Entry]:
        """Entries of a log, as they lie on disk."""
        with closing(sqlite3.connect(f"file:{self.log_file(place)}?mode=ro", uri=True, timeout=10)) as connection:
            rows = connection.execute("SELECT data FROM log_entry WHERE idx >= ? ORDER BY idx", (start,))
            return [decode_entry(row[0]) for row in rows]

    def count(self, place: str, table: str) -> int:
        with closing(sqlite3.connect(f"file:{self.log_file(place)}?mode=ro", uri=True, timeout=10)) as connection:
            (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a test's own table
            return int(number)

    async def verified(self, place: str) -> ReadLog:
        """A log read over the wire from its first entry to its signed checkpoint."""
        kind, department = (Kind.HUB, CENTRE) if place in {"hub", "registrar"} else (Kind.ADAPTER, place)
        return await read_log(self.address(place), kind, department, self.auditor)

    def metrics(self, place: str) -> str:
        address = self.announced(place)["metrics"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            return str(page.read().decode())

    def stop(self) -> None:
        self.fleet.stop()


def _read_directory(layout: Layout, scratch: Path) -> Directory:
    """What was published, as every reader verifies it. Before the registrar runs, since the state is then its own."""
    files = dict(registrar.open_repository(load_profile(layout.profile("registrar"))).files)
    scratch.mkdir()

    def fetch(path: str) -> bytes:
        if path not in files:
            raise RefusedError(Reason.FILE_UNKNOWN)
        return files[path]

    root, authority = (layout.root / "root.json").read_bytes(), (layout.root / "ca.pem").read_bytes()
    return DirectoryClient(root, authority, scratch, fetch).refresh()


def context(application: Application | None = None, **changes: Any) -> api.Context:
    district = application.district if application is not None else "440306"
    fields: dict[str, Any] = {"matter": MATTER, "reference": "2026-000123", "official": "clerk-17", "role": ROLE}
    return api.Context(**(fields | {"jurisdiction": f"nbs:{district}"} | changes))


def case(application: Application, claims: Sequence[str] = (), *, key: str = "k") -> api.Case:
    """An application, whole."""
    subjects = [api.Subject(slot="child", identifier=application.child.person.identifier, name=application.child.name)]
    subjects += [
        api.Subject(slot="guardian", identifier=party.person.identifier, name=party.name)
        for party in application.guardians
    ]
    subjects.append(api.Subject(slot="home", identifier=application.home.code))
    return api.Case(key=key, subjects=subjects, claims=claims)


Subjects = Mapping[str, tuple[str, str] | str]
"""One case of a forged request: (identifier, name) or identifier by slot."""

KINDS = {"child": "person", "guardian": "person", "home": "dwelling"}


@dataclass(frozen=True)
class Forged:
    """A request and what opens its reply."""

    request: sealed_pb2.SealedRequest
    header: Header
    records: Sequence[CaseRecord]
    context: SealingContext

    def answers(self, reply: sealed_pb2.SealedReply) -> Answers:
        return decode_answers(self.header, self.context.open_reply(self.header.hash, reply.nonce, reply.ciphertext))

    def outcomes(self, reply: sealed_pb2.SealedReply) -> list[Outcome]:
        return [Outcome(code) for code in self.answers(reply).outcomes]


class Forge:
    """Makes sealed requests, right in everything but what a test changes.

    Args:
        city: Whose.
        files: Who signs.
        keys: Owners' sealing keys; asked of the hub if not given.
    """

    def __init__(
        self, city: RealCity, files: IdentityFiles | None = None, keys: Sequence[sealed_pb2.OwnerKey] = ()
    ) -> None:
        self.city = city
        self.signer = (files or city.identity(SYSTEM)).signer()
        self.keys = {key.owner: key for key in keys or asyncio.run(city.owner_keys())}
        self._contexts: dict[str, SealingContext] = {}

    def context(self, owner: str) -> SealingContext:
        if owner not in self._contexts:
            key = self.keys[owner]
            self._contexts[owner] = SealingContext(owner, key.key_id, key.public_key)
        return self._contexts[owner]

    def header(self, owner: str, claims: Sequence[str], cases: int = 1, **changes: Any) -> sealed_pb2.Header:
        """A header about these claims; `changes` set its fields, times in seconds from now."""
        directory, now = self.city.directory, time.time()
        parsed = [Claim.parse(claim) for claim in claims]
        slots = list(dict.fromkeys(name for claim in parsed for name in (claim.slot, claim.compared_slot) if name))
        header = sealed_pb2.Header(
            suite=SUITE,
            request_id=os.urandom(16),
            system=self.signer.identity.uri,
            certificate_fingerprint=self.signer.fingerprint,
            role=ROLE,
            official="clerk-17",
            assurance=sealed_pb2.ASSURANCE_ASSERTED,
            matter=MATTER,
            matter_version=directory.matters[MATTER].version,
            reference_date="2026-09-01",
            reference="2026-000123",
            jurisdiction="nbs:4403",
            owner=owner,
            owner_key_id=self.keys[owner].key_id,
            owner_document_version=directory.documents[owner].version,
            slots=[sealed_pb2.Slot(name=slot, kind=KINDS.get(slot, "person")) for slot in slots],
            cases=cases,
            priority=sealed_pb2.PRIORITY_INTERACTIVE,
        )
        header.issue_time.FromNanoseconds(int((now + changes.pop("issued", 0)) * 1e9))
        header.expire_time.FromNanoseconds(int((now + changes.pop("expires", 30)) * 1e9))
        values = 0
        for claim in parsed:
            shape = header.claims.add(
                slot=slots.index(claim.slot or ""),
                attribute=claim.attribute,
                predicate=claim.predicate.number,
                cell=claim.cell or "",
            )
            if claim.compared_slot:
                shape.compared_slot = slots.index(claim.compared_slot)
            elif claim.text is not None:
                shape.compared_value, values = values, values + 1
        for name, value in changes.items():
            setattr(header, name, value)
        return header

    def request(
        self,
        owner: str,
        claims: Sequence[str],
        cases: Sequence[Subjects],
        *,
        change: Callable[[sealed_pb2.Header], None] = lambda _header: None,
        **changes: Any,
    ) -> Forged:
        """A whole request: sealed to the owner, committed, signed."""
        message = self.header(owner, claims, len(cases), **changes)
        change(message)
        texts = tuple(claim.text for claim in map(Claim.parse, claims) if claim.text is not None)
        return self.seal(owner, message.SerializeToString(deterministic=True), cases, texts)

    def seal(self, owner: str, raw: bytes, cases: Sequence[Subjects], texts: Sequence[str] = ()) -> Forged:
        """Seal under exactly this header."""
        header, sealing = parse_header(raw), self.context(owner)
        records = [
            CaseRecord(
                os.urandom(32), tuple(_subject(one, slot.name, slot.kind) for slot in header.slots), tuple(texts)
            )
            for one in cases
        ]
        nonce, ciphertext = sealing.seal(header.hash, encode_records(header, records))
        request = sealed_pb2.SealedRequest(
            header=raw,
            enc=sealing.enc,
            nonce=nonce,
            ciphertext=ciphertext,
            request_root=request_tree(header, records).root,
            certificate=self.signer.certificate_der,
        )
        self.sign(request)
        return Forged(request, header, records, sealing)

    def sign(self, request: sealed_pb2.SealedRequest) -> None:
        """Sign whatever the request holds by now."""
        hashed = sealed_hash(request.enc, request.nonce, request.ciphertext)
        request.signature = self.signer.sign(
            signature_message(header_hash(request.header), hashed, request.request_root)
        )

    def altered(self, forged: Forged, **changes: bytes) -> sealed_pb2.SealedRequest:
        """The same request with other fields, signed as it is then."""
        request = sealed_pb2.SealedRequest()
        request.CopyFrom(forged.request)
        for name, value in changes.items():
            setattr(request, name, value)
        self.sign(request)
        return request


def _subject(one: Subjects, slot: str, kind: str) -> SubjectRecord | None:
    found = one.get(slot)
    if found is None:
        return None
    identifier, name = (found, "") if isinstance(found, str) else found
    return SubjectRecord(kind, identifier, name)


async def exchange(
    channel: grpc.aio.Channel, request: sealed_pb2.SealedRequest, *, seconds: float = 10.0
) -> exchange_pb2.ExchangeResponse:
    """One unary call to the hub."""
    response: exchange_pb2.ExchangeResponse = await exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(
        exchange_pb2.ExchangeRequest(request=request), timeout=seconds
    )
    return response


class InThread:
    """A process's main coroutine on a loop and thread of its own, so that a test can reach inside.

    Args:
        main: As `zhiwang.wire.process.run` takes it.
        state: Its state directory.
    """

    def __init__(self, main: Callable[[Process], Coroutine[Any, Any, None]], state: Path) -> None:
        self._main = main
        self._state = state
        self._process: Process | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> InThread:
        """Returns when it has announced its address."""
        (self._state / "address.json").unlink(missing_ok=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while read_address(self._state) is None:
            assert self._thread.is_alive(), f"it ended: {self._error!r}"
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(POLL_SECONDS)
        return self

    @property
    def address(self) -> str:
        found = read_address(self._state)
        assert found is not None
        return str(found["listen"])

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something on its loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def stop(self) -> None:
        if self._loop is not None and self._process is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._process.stop)
        self._thread.join(40)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._process = Process("under test", self._state)
            await self._main(self._process)

        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told by `stop`
            self._error = error


class DirectAdapter:
    """A real adapter in this process, attached to the hub; and its frames without the hub: as a hub that lies sends.

    Attributes:
        ahead: Seconds by which its clock is ahead.
    """

    def __init__(self, city: RealCity, department: str) -> None:
        self.adapter: Any = None
        self.ahead = 0.0
        self._metrics = _put_away_metrics()
        profile = load_profile(city.layout.profile(department))
        files, paths = adapters.installation.adapter_identity(profile), adapters.installation.adapter_paths(profile)

        async def main(process: Process) -> None:
            self.adapter = adapters.app.Adapter(profile, files, paths, process)
            self.adapter._clock = lambda: time.time() + self.ahead
            try:
                await self.adapter.start()
                await process.stopping.wait()
            finally:
                await self.adapter.stop()

        self.thread = InThread(main, profile.state).start()

    def send(
        self, *requests: sealed_pb2.SealedRequest, denied: Sequence[int] = ()
    ) -> list[adapter_pb2.ReplyFrame.Item]:
        """One frame, straight to the adapter."""
        frame = adapter_pb2.RequestFrame()
        for number, request in enumerate(requests, 1):
            frame.items.add(correlation_id=number, request=request, denied_claims=denied)
        return list(self.adapter._frames.process(frame).items)

    def stop(self) -> None:
        try:
            self.thread.stop()
        finally:
            _put_away_metrics()
            for collector in self._metrics:
                REGISTRY.register(collector)


def _put_away_metrics() -> list[Collector]:
    """A process has one set of metrics; here several parts of a city may follow one another in one process."""
    found = [collector for collector, names in list(REGISTRY._collector_to_names.items()) if _is_ours(names)]
    for collector in found:
        REGISTRY.unregister(collector)
    return found


def _is_ours(names: Sequence[str]) -> bool:
    return any(name.startswith("zhiwang_") for name in names)


@contextmanager
def altered(path: Path, before: str, after: str) -> Iterator[None]:
    """A department's database while its DBA is at work."""

    def run(statement: str) -> None:
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(statement)

    run(before)
    try:
        yield
    finally:
        run(after)


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A `zhiwang` command, to its end."""
    return subprocess.run(zhiwang(*arguments), capture_output=True, timeout=60, check=False, **options)  # noqa: S603 - our own


def refusal(error: grpc.aio.AioRpcError) -> str:
    """Everything that a call's error says, for whoever searches it."""
    return json.dumps(
        [error.details(), str(error.debug_error_string()), [(k, repr(v)) for k, v in error.trailing_metadata() or ()]],
        ensure_ascii=False,
    )
