"""Old versions of the directory, from whoever keeps them: the hub, and the registrar if the profile names it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from certs.credentials import IdentityFiles
from certs.identity import ROOT_METADATA
from exchange.cli import output
from exchange.cli.audit_reading import target_of
from exchange.demo.places import read_places
from exchange.evidence.rules import Divisions, Past, read_past
from policy.directory import Fetch
from policy.follower import hub_fetch
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.profile import Profile

DivisionsFile = Annotated[
    Path | None,
    typer.Option(
        "--divisions",
        metavar="CSV",
        envvar="ZHIWANG_DIVISIONS",
        help="Names of divisions, with columns level, code, name and parent; else places are codes.",
        exists=True,
        dir_okay=False,
    ),
]


class PastReader:
    """Reads old versions of the directory; each once.

    Args:
        root: The pinned root directory.
        fetches: From each of those who may keep them.
    """

    def __init__(self, root: Path, fetches: Sequence[Fetch]) -> None:
        self._root = root
        self._fetches = fetches
        self._files: dict[str, bytes] = {}

    async def read(self, version: int, departments: set[str], matters: set[str], timestamp_hash: bytes = b"") -> Past:
        """As `exchange.evidence.rules.read_past`."""
        root_json = (self._root / ROOT_METADATA).read_bytes()
        arguments = (root_json, self._fetch, version, departments, matters, timestamp_hash)
        return await asyncio.to_thread(read_past, *arguments)

    def _fetch(self, path: str) -> bytes:
        if path not in self._files:
            self._files[path] = self._fetched(path)
        return self._files[path]

    def _fetched(self, path: str) -> bytes:
        failed = RefusedError(Reason.FILE_UNKNOWN, path)
        for fetch in self._fetches:
            try:
                return fetch(path)
            except RefusedError as error:
                # What one does not have, and what one cannot be asked, another may.
                failed = error if failed.reason is Reason.FILE_UNKNOWN else failed
        raise failed


@asynccontextmanager
async def past_reader(profile: Profile, source: str, owner: str) -> AsyncIterator[PastReader]:
    """A reader of old versions; within a running event loop.

    Args:
        profile: Whose certificates are used, and who is asked.
        source: State directory or address of who keeps the log.
        owner: Department whose own log it is; empty for the hub's, which keeps directories too.
    """
    files = IdentityFiles(profile.identity, profile.root)
    places = [(target, Kind.HUB) for target in ([target_of(profile, source, owner)] if not owner else profile.hub)]
    if profile.registrar is not None:
        places.append((profile.registrar, Kind.REGISTRAR))
    channels = [
        open_channel(target, files.channel_credentials(), server_name=server_name(files.identity.city, kind))
        for target, kind in places
    ]
    stubs = [exchange_pb2_grpc.DirectoryServiceStub(channel) for channel in channels]
    try:
        fetches = [hub_fetch(lambda stub=stub: stub) for stub in stubs]  # type: ignore[misc]  # bound at once
        yield PastReader(profile.root, fetches)
    finally:
        for channel in channels:
            await channel.close()


def divisions_of(path: Path | None) -> Divisions:
    """Names of divisions out of a file."""
    if path is None:
        return lambda _code: ""
    try:
        names = read_places(path).names
    except (KeyError, ValueError, IndexError):
        output.usage_error(f"--divisions {path} is no table of divisions with level, code, name and parent")
    return lambda code: names.get(code, "")
