"""Old versions of the directory, from whoever keeps them: the hub, and the registrar if the profile names it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from certs.credentials import IdentityFiles
from exchange.cli.audit_reading import REGISTRAR, target_of
from exchange.demo.places import read_places
from exchange.evidence.rules import Divisions
from exchange.evidence.telling import PastReader
from policy.source import hub_fetch
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.channel import open_channel
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.profile import Profile


@asynccontextmanager
async def past_reader(profile: Profile, source: str, owner: str) -> AsyncIterator[PastReader]:
    """A reader of old versions; within a running event loop.

    Args:
        profile: Whose certificates are used, and who is asked.
        source: State directory or address of who keeps the log.
        owner: Department whose own log it is; empty for the hub's, which keeps directories too.
    """
    files = IdentityFiles(profile.identity, profile.root)
    hubs = profile.hub if owner or source == REGISTRAR else [target_of(profile, source, owner)]
    places = [(target, Kind.HUB) for target in hubs]
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
