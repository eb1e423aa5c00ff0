"""The registrar: keeps the directory fresh, and takes in what departments sign. Its keys lie nowhere else.

State directory: `keys/` (snapshot and timestamp, 0600), `repository/` (everything public that is in force),
`published/` (everything that was), `registrar.pub` (the public keys, for the root ceremony), `guard/timestamp.json`
(the newest timestamp, best on other storage: a repository that was rolled back would sign numbers that readers have
seen, so it is not opened).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, ExpiryAlarms, certificate_expiries
from certs.identity import CA_CERTIFICATE, ROOT_METADATA
from policy import guard
from policy.archive import Archive
from policy.directory import DirectoryHolder
from policy.expiries import directory_expiries
from policy.guard import GUARD
from policy.metadata import Publication
from policy.mirror import TIMESTAMP, Mirror
from policy.model import Directory
from policy.repository import RESIGN_SECONDS, RegistrarKeys, Repository
from policy.service import (
    DIRECTORY_RULES,
    POLICY_ADMIN_RULES,
    POLICY_RULES,
    DirectoryServicer,
    PolicyAdminServicer,
    PolicyServicer,
)
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.policy.v1 import policy_pb2_grpc
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Kind
from zhiwang.wire.metrics import MetricsServer, RpcMetrics, gauge
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import Profile
from zhiwang.wire.server import Readiness, build_server

DEFAULT_LISTEN = "127.0.0.1:7443"
STOP_GRACE = 5.0
RETRY_SECONDS = 60.0
"""How long after a failed signing it is tried again."""

KEYS = "keys"
REPOSITORY = "repository"
PUBLISHED = "published"
PUBLIC_KEYS = "registrar.pub"

_log = structlog.get_logger(__name__)


def init(state: Path) -> Path:
    """Makes the registrar's keys and its empty repository.

    Returns:
        The file with the public keys, which the root ceremony needs.

    Raises:
        FatalError: INTERNAL, if there is a registrar already.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        keys = RegistrarKeys.create(state / KEYS)
        Repository.create(state / REPOSITORY)
    except FileExistsError:
        raise FatalError(Reason.INTERNAL, f"{state} holds a registrar already; it is never replaced") from None
    guard.make(state / GUARD)
    write_public_keys(state / PUBLIC_KEYS, keys)
    return state / PUBLIC_KEYS


def write_public_keys(path: Path, keys: RegistrarKeys) -> None:
    """Writes the file that the root ceremony needs."""
    snapshot, timestamp = keys.public
    path.write_text(json.dumps({"snapshot": snapshot.hex(), "timestamp": timestamp.hex()}, indent=2) + "\n", "utf-8")


def read_public_keys(path: Path) -> tuple[bytes, bytes]:
    """Raw public keys of snapshot and timestamp.

    Raises:
        RefusedError: METADATA_INVALID, if the file is none of ours.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = bytes.fromhex(content["snapshot"]), bytes.fromhex(content["timestamp"])
    except (ValueError, KeyError, TypeError):
        keys = b"", b""
    if {len(key) for key in keys} != {32}:
        raise RefusedError(Reason.METADATA_INVALID, f"{path.name} is no file of `zhiwang registrar init`")
    return keys


class Registrar:
    """The registrar's work, apart from how it is served. Owned by the event loop.

    Args:
        repository: On disk.
        clock: Gives the time.
        guard_file: Remembers the newest timestamp; None for no guard.
        published: Keeps every directory that was in force; None to forget them.
    """

    def __init__(
        self,
        repository: Repository,
        clock: Callable[[], float] = time.time,
        *,
        guard_file: Path | None = None,
        published: Path | None = None,
    ) -> None:
        self._repository = repository
        self._guard = guard_file
        self._changing = asyncio.Lock()
        self.mirror = Mirror(None if published is None else Archive(published))
        self.holder = DirectoryHolder(clock)
        self.mirror.publish(self._repository.files)
        self._hold()

    async def publish(self, publication: Publication) -> Directory:
        """Checks and publishes; whoever watches hears of it before this returns.

        Raises:
            RefusedError: As `Repository.publish`. Nothing has changed then.
        """
        async with self._changing:
            directory = await asyncio.to_thread(self._repository.publish, publication)
            await self._remember()
            await self.mirror.take(self._repository.files)
            self._hold()
        return directory

    async def resign(self) -> None:
        """Signs a newer timestamp, if the centre has published."""
        async with self._changing:
            await asyncio.to_thread(self._repository.resign)
            await self._remember()
            await self.mirror.take(self._repository.files)
            self._hold()

    async def try_resign(self) -> bool:
        """As `resign`, but a failure is noted and what is in force stays so until it expires."""
        try:
            await self.resign()
        except (ZhiwangError, OSError) as error:
            self.holder.failed(f"signing failed: {error}")
            return False
        return True

    async def keep_fresh(self, *, signed: bool) -> None:
        """Signs whenever the timestamp gets old, until cancelled.

        Args:
            signed: Whether it has just been signed.
        """
        pause: float = RESIGN_SECONDS if signed else RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = RESIGN_SECONDS if await self.try_resign() else RETRY_SECONDS

    async def _remember(self) -> None:
        timestamp = self._repository.files.get(TIMESTAMP)
        if self._guard is not None and timestamp is not None:
            await asyncio.to_thread(guard.remember, self._guard, timestamp)

    def _hold(self) -> None:
        directory = self._repository.directory
        if directory is not None:
            self.holder.set(directory)


async def serve(process: Process, profile: Profile) -> None:
    """Runs the registrar until the process is told to stop. The composition root.

    Raises:
        FatalError: What is needed is missing or does not hold together.
    """
    files = IdentityFiles(profile.identity, profile.root)
    if files.identity.kind is not Kind.REGISTRAR:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no registrar")
    repository = open_repository(profile)
    registrar = Registrar(repository, guard_file=profile.state / GUARD, published=profile.state / PUBLISHED)
    readiness = Readiness(["directory"])
    server = build_server(
        [
            (exchange_pb2_grpc.add_DirectoryServiceServicer_to_server, DirectoryServicer(registrar.mirror)),
            (
                policy_pb2_grpc.add_PolicyAdminServiceServicer_to_server,
                PolicyAdminServicer(registrar.publish, files.identity.department),
            ),
            (policy_pb2_grpc.add_PolicyServiceServicer_to_server, PolicyServicer(registrar.holder, time.time)),
        ],
        {**DIRECTORY_RULES, **POLICY_ADMIN_RULES, **POLICY_RULES},
        city=files.identity.city,
        revoked=registrar.holder.revoked,
        readiness=readiness,
        observe=RpcMetrics(),
    )
    metrics = None if profile.metrics is None else MetricsServer(profile.metrics)
    expires = gauge("zhiwang_directory_expire_time_seconds", "When the directory's timestamp expires, since the epoch")
    version = gauge("zhiwang_directory_version", "Version of the directory's snapshot")

    def note(directory: Directory) -> None:
        expires.set(directory.expires)
        version.set(directory.version)

    registrar.holder.on_change(note)
    alarms = ExpiryAlarms(
        lambda: [*certificate_expiries(files), *directory_expiries(registrar.holder.latest, files.identity.department)],
        time.time,
        gauge(METRIC, METRIC_TEXT, ("use",)),
    )
    # Before anybody is served: the last timestamp may be as old as the last stop.
    signed = await registrar.try_resign()
    tasks = [
        background(registrar.keep_fresh(signed=signed)),
        background(_watch_readiness(readiness, registrar.holder)),
        background(files.watch()),
        background(alarms.watch()),
    ]
    try:
        listen = server.listen(profile.listen or DEFAULT_LISTEN, files.server_credentials())
        await server.start()
        process.announce(listen=listen, metrics=None if metrics is None else metrics.address)
        await process.stopping.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(STOP_GRACE)
        if metrics is not None:
            metrics.close()


def open_repository(profile: Profile) -> Repository:
    """The repository of a profile's state directory, under its pinned root.

    Raises:
        FatalError: INTERNAL, if `registrar init` was not run, the pinned root is missing, nothing verifies, or the
            repository was rolled back.
    """
    try:
        repository = Repository(
            profile.state / REPOSITORY,
            (profile.root / ROOT_METADATA).read_bytes(),
            RegistrarKeys.load(profile.state / KEYS),
            (profile.root / CA_CERTIFICATE).read_bytes(),
        )
    except OSError as error:
        raise FatalError(Reason.INTERNAL, f"{error.filename or profile.state}: {error.strerror or error}") from None
    except RefusedError as error:
        raise FatalError(error.reason, error.detail) from error
    guard.check(profile.state / GUARD, repository.files.get(TIMESTAMP))
    return repository


async def _watch_readiness(readiness: Readiness, holder: DirectoryHolder) -> None:
    """Readiness falls when the timestamp expires, which no event announces."""
    while True:
        await readiness.set("directory", holder.fresh)
        await asyncio.sleep(1)
