"""The signed facts: the newest that this host verified, and what it would get now, each verified from the root on."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from cryptography import x509

from certs.credentials import IdentityFiles
from certs.identity import AUTH_CERTIFICATE, ROOT_METADATA, SIGNING_CERTIFICATE
from exchange.doctor.local import Host, expiry
from exchange.doctor.network import Peer
from policy.directory import DirectoryClient
from policy.emergencies import open_at
from policy.expiries import directory_expiries
from policy.glass import name_of
from policy.kept import has_kept, load_kept
from policy.model import Directory
from policy.registrar import open_repository
from policy.source import hub_fetch
from zhiwang.exchange.v1 import exchange_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.diagnosis import Diagnosis, ok, warning, wrong
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.process import read_address

_KEPT = {
    Kind.HUB: "directory",
    Kind.ADAPTER: "directory",
    Kind.WITNESS: "directory",
    Kind.SYSTEM: "client/directory",
}
"""Where in its state each kind keeps what it verified last."""

TAKEN_UP_SECONDS = 5.0
"""Within which a process has taken up what it can reach; it needs two."""


def kept(host: Host, ca_pem: bytes) -> Directory | None:
    """The directory that this host verified last; None if it keeps none.

    Args:
        host: Whose.
        ca_pem: The pinned authority.

    Raises:
        ZhiwangError: It has expired, or does not verify.
    """
    if host.kind is Kind.REGISTRAR:
        return open_repository(host.profile).directory
    place = host.profile.state / _KEPT[host.kind] if host.kind in _KEPT else None
    if place is None or not has_kept(place):
        return None
    return load_kept(place, (host.profile.root / ROOT_METADATA).read_bytes(), ca_pem).directory


def served(host: Host, files: IdentityFiles, peer: Peer) -> Directory:
    """The directory that a hub or the registrar serves now, verified from the pinned root on.

    Raises:
        ZhiwangError: It cannot be had, has expired or does not verify.
    """

    async def fetch() -> Directory:
        name = server_name(files.identity.city, peer.kind)
        channel: grpc.aio.Channel = open_channel(peer.target, files.channel_credentials(), server_name=name)
        try:
            stub = exchange_pb2_grpc.DirectoryServiceStub(channel)
            with tempfile.TemporaryDirectory(prefix="zhiwang-doctor-") as scratch:
                client = _client(host, files.ca_pem, Path(scratch), hub_fetch(lambda: stub))
                return await asyncio.to_thread(client.refresh)
        finally:
            await channel.close()

    return asyncio.run(fetch())


def freshness(directory: Directory, source: str) -> Diagnosis:
    """Whether one decides by a directory, which comes from `source`."""
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(directory.expires))
    if directory.expires <= time.time():
        remedy = "does the registrar run, and is the way to it open? zhiwang registrar run --profile …"
        zh, en = f"名录已于 {until} 过期（{source}）", f"the directory of {source} expired at {until}"
        return wrong("directory", zh, en, remedy)
    zh = f"名录第 {directory.version} 版，有效至 {until}（{source}）"
    return ok("directory", zh, f"directory {directory.version} of {source}, good until {until}")


def behind(host: Host, ca_pem: bytes, newest: Directory) -> Iterator[Diagnosis]:
    """Whether a process that runs decides by an older directory than others serve, and stays so."""
    if read_address(host.profile.state) is None:
        return
    mine = kept(host, ca_pem)
    if mine is not None and mine.version < newest.version:
        # What has just been published is on its way.
        time.sleep(TAKEN_UP_SECONDS)
        mine = kept(host, ca_pem)
    if mine is None or mine.version >= newest.version:
        return
    zh = f"本机按名录第 {mine.version} 版决定，而第 {newest.version} 版已公布"
    en = f"this host decides by directory {mine.version}, while {newest.version} is published and reaches it"
    yield wrong("directory", zh, en, "its log says why (directory not taken); restart the process if it does not")


def look(host: Host, directory: Directory) -> Iterator[Diagnosis]:
    """What the newest directory says of what runs out, and of this host."""
    if host.identity is None:
        return
    department = host.identity.department
    for one in directory_expiries(directory, department):
        yield expiry("directory", one, host.now)
    if department in directory.lapsed:
        remedy = "zhiwang policy publish document.toml --sign … --sign …"
        yield wrong("directory", f"{department} 的文件已失效", f"what {department} signed has lapsed", remedy)
    yield from _emergencies(host, directory)
    yield from _revoked(host, directory.revoked)


def _emergencies(host: Host, directory: Directory) -> Iterator[Diagnosis]:
    """What is open now; whether what was opened is reviewed stands in the registrar's log."""
    for activation in open_at(directory, host.now):
        name, opening = f"{activation.owner}/{activation.emergency}", name_of(activation)
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(activation.until))
        yield warning(
            "emergency",
            f"应急授权 {name} 已启用（{opening}），至 {until}",
            f"the emergency {name} is open ({opening}) until {until}",
            f"zhiwang policy emergencies; once it has ended, zhiwang policy review {opening} --note …",
        )


def _revoked(host: Host, revoked: frozenset[int]) -> Iterator[Diagnosis]:
    directory = host.profile.identity
    for name in (AUTH_CERTIFICATE, SIGNING_CERTIFICATE):
        if not (directory / name).is_file():
            continue
        certificate = x509.load_pem_x509_certificate((directory / name).read_bytes())
        if certificate.serial_number in revoked:
            yield wrong(
                "certificates",
                f"{name} 已被吊销",
                f"{name} is revoked",
                f"zhiwang certs renew {directory} --new-keys",
            )


def _client(host: Host, ca_pem: bytes, state: Path, fetch: Callable[[str], bytes]) -> DirectoryClient:
    return DirectoryClient((host.profile.root / ROOT_METADATA).read_bytes(), ca_pem, state, fetch)
