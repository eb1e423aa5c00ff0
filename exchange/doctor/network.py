"""Whoever is dialled: can it be reached, is it who it should be, does it serve, and what time is it there.

Each step is taken by itself, since gRPC tells no more than that something was not available.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certs.credentials import IdentityFiles, find_key
from certs.expiry import Expiry
from certs.identity import AUTH_CERTIFICATE, AUTH_KEY, AUTH_NEW_KEY, CA_CERTIFICATE
from exchange.doctor.local import RUNS, Host, expiry
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.diagnosis import Diagnosis, ok, warning, wrong
from zhiwang.wire.errors import Reason
from zhiwang.wire.identity import LOG_KEEPERS, Kind, server_name
from zhiwang.wire.process import running
from zhiwang.wire.readiness import READINESS
from zhiwang.wire.server import TIME_METADATA

DIAL_SECONDS = 5.0
"""How long each step may take."""

SKEW = 5.0
"""Seconds by which clocks may differ: a header from further ahead is refused (CLOCK_SKEW)."""

NOTICEABLE = 1.0
"""Seconds by which they differ where time is kept well."""

_SERVED = {
    Kind.HUB: (
        "zhiwang.exchange.v1.ExchangeService",
        "zhiwang.adapter.v1.AdapterService",
        "zhiwang.exchange.v1.DirectoryService",
    ),
    Kind.REGISTRAR: ("zhiwang.exchange.v1.DirectoryService", "zhiwang.policy.v1.PolicyAdminService"),
    Kind.ADAPTER: ("zhiwang.audit.v1.AuditService",),
    Kind.SYSTEM: ("zhiwang.verification.v1.VerificationService",),
}
"""What is asked for by name, since one port may serve it and another not."""


_CONDITIONS = ("log", "directory", "database", "hub")
"""Every condition of readiness; each kind has some of them."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody who is dialled.

    Attributes:
        target: Its address.
        kind: What its certificate must be.
        tls: Whether it is dialled over mTLS; an agent on its own machine is not.
        own: Whether it is this host's own process.
    """

    target: str
    kind: Kind
    tls: bool = True
    own: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return f"{RUNS[self.kind][0]} {self.target}"


@dataclass(frozen=True, slots=True)
class Health:
    """What a server said of itself, and when.

    Attributes:
        serving: Of each service by name, "" for the whole.
        offset: Seconds by which its clock is ahead of ours; None if it does not tell.
        uncertainty: Seconds by which that may be wrong: half of the way there and back.
        unmet: Conditions of its readiness that do not hold.
    """

    serving: dict[str, bool]
    offset: float | None
    uncertainty: float
    unmet: tuple[str, ...] = ()


def peers_of(host: Host) -> list[Peer]:
    """Whom a host dials, its own process among them if it runs."""
    profile, kind = host.profile, host.kind
    peers = []
    if profile.registrar is not None and kind is not Kind.REGISTRAR:
        peers.append(Peer(profile.registrar, Kind.REGISTRAR))
    if kind is not Kind.HUB:
        peers += [Peer(hub, Kind.HUB) for hub in profile.hub]
    if kind in LOG_KEEPERS:
        peers += [Peer(one, Kind.WITNESS) for one in profile.cosigning.witness.values() if "://" not in one]
    own = running(profile.state) if host.noun else None
    if own is not None and kind is not None and isinstance(own.get("listen"), str):
        peers.append(Peer(str(own["listen"]), kind, tls=kind is not Kind.SYSTEM, own=True))
    return peers


def look(host: Host, peer: Peer, revoked: frozenset[int]) -> Iterator[Diagnosis]:
    """Everything about one peer: name and port, TLS, health, clock.

    Args:
        host: Who dials.
        peer: Who is dialled.
        revoked: Serials of revoked certificates, as far as known.
    """
    refused = None if peer.target.startswith("unix:") else _connect(peer)
    if refused is not None:
        yield refused
        return
    if peer.tls:
        if host.files is None:
            yield warning(
                "network",
                f"{peer.title} 可连接；没有可用证书，未作进一步检查",
                f"{peer.title} takes connections; without certificates nothing more can be asked",
                "mend what is said about certificates first",
            )
            return
        found = list(_handshake(host, host.files, peer, revoked))
        yield from found
        if any(one.area == "network" for one in found):
            return
    if peer.kind is Kind.WITNESS:
        # It speaks no gRPC, and tells nobody how it is.
        yield ok("network", f"{peer.title}：可连接", f"{peer.title} can be reached")
        return
    yield from _ask(host, peer)


def _connect(peer: Peer) -> Diagnosis | None:
    name, _, port = peer.target.rpartition(":")
    try:
        with closing(socket.create_connection((name.strip("[]"), int(port)), DIAL_SECONDS)):
            return None
    except socket.gaierror:
        return wrong(
            "network",
            f"{peer.title}：无法解析主机名",
            f"{peer.title}: the name is not known here",
            f"getent hosts {name}",
        )
    except TimeoutError:
        return wrong(
            "network",
            f"{peer.title}：无响应，可能被防火墙拦截",
            f"{peer.title}: no answer; does a firewall stand between?",
            f"nc -vz {name} {port}",
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return wrong(
            "network",
            f"{peer.title}：无法连接（{reason}）",
            f"{peer.title}: {reason}; is it running?",
            f"there: zhiwang {RUNS[peer.kind][0]} run --profile …; here: nc -vz {name} {port}",
        )


def _handshake(host: Host, files: IdentityFiles, peer: Peer, revoked: frozenset[int]) -> Iterator[Diagnosis]:
    try:
        der = _certificate_of(host, files, peer)
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message
        remedy = f"there: zhiwang doctor --profile …; compare {host.profile.root / CA_CERTIFICATE} with the centre's"
        yield wrong(
            "network", f"{peer.title}：其证书不可信（{said}）", f"{peer.title}: its certificate: {said}", remedy
        )
    except (ssl.SSLError, OSError) as error:
        said = getattr(error, "reason", None) or type(error).__name__
        remedy = f"is something between that ends TLS? openssl s_client -connect {peer.target}"
        yield wrong(
            "network", f"{peer.title}：TLS 握手失败（{said}）", f"{peer.title}: no TLS handshake: {said}", remedy
        )
    else:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.serial_number in revoked:
            remedy = "call the centre: somebody may be posing as it, or it has to take new certificates"
            yield wrong("network", f"{peer.title}：其证书已吊销", f"{peer.title}: its certificate is revoked", remedy)
        ends = Expiry(
            "auth",
            f"the certificate of {peer.title}",
            certificate.not_valid_after_utc.timestamp(),
            "there: zhiwang certs renew --profile …",
        )
        if ends.alarm(host.now) is not None:
            yield expiry("peer", ends, host.now)


def _certificate_of(host: Host, files: IdentityFiles, peer: Peer) -> bytes:
    """What the peer shows at a handshake, verified against the pinned authority and the name that it must have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(host.profile.root / CA_CERTIFICATE)
    context.load_cert_chain(files.directory / AUTH_CERTIFICATE, _key_file(files.directory))
    context.set_alpn_protocols(["h2"])
    name, _, port = peer.target.rpartition(":")
    with (
        socket.create_connection((name.strip("[]"), int(port)), DIAL_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=server_name(files.identity.city, peer.kind)) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def _key_file(directory: Path) -> Path:
    """The key that belongs to the certificate: the fresh one, for a moment of a renewal."""
    certificate = x509.load_pem_x509_certificate((directory / AUTH_CERTIFICATE).read_bytes())
    found = find_key(directory, certificate, AUTH_KEY, AUTH_NEW_KEY)
    return directory / (AUTH_KEY if found is None else found[0])


def _ask(host: Host, peer: Peer) -> Iterator[Diagnosis]:
    try:
        health = asyncio.run(_health(host.files if peer.tls else None, peer))
    except grpc.aio.AioRpcError as error:
        reason = refusal_of(error).reason
        yield wrong(
            "network",
            f"{peer.title}：{reason.value.zh}",
            f"{peer.title}: {reason.name}: {reason.value.en}",
            _remedy(host, reason),
        )
        return
    down = [service or "whole" for service, serving in health.serving.items() if not serving]
    if down:
        unmet = ", ".join(health.unmet)
        yield wrong(
            "network",
            f"{peer.title}：可达但未就绪（{', '.join(down)}）" + (f"；未满足 {unmet}" if unmet else ""),
            f"{peer.title} can be reached and is not ready: {', '.join(down)}"
            + (f"; what does not hold: {unmet}" if unmet else ""),
            'there: look for "readiness" in its log; zhiwang doctor --profile …',
        )
    else:
        yield ok("network", f"{peer.title}：就绪", f"{peer.title} is ready")
    if not peer.own:
        yield from clock(peer, health)


def _remedy(host: Host, reason: Reason) -> str:
    if reason in {Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_REVOKED}:
        return f"zhiwang certs renew {host.profile.identity} --new-keys"
    return "there: zhiwang doctor --profile …"


async def _health(files: IdentityFiles | None, peer: Peer) -> Health:
    if files is None:
        channel = open_channel(peer.target, None)
    else:
        name = server_name(files.identity.city, peer.kind)
        channel = open_channel(peer.target, files.channel_credentials(), server_name=name)
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        serving = {}
        for service in ("", *_SERVED.get(peer.kind, ())):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=DIAL_SECONDS)
            serving[service] = answer.status == health_pb2.HealthCheckResponse.SERVING
        unmet = () if all(serving.values()) else await _unmet(stub)
        # Once more, over a connection that stands: what is measured is the way of one message.
        call = stub.Check(health_pb2.HealthCheckRequest(), timeout=DIAL_SECONDS)
        sent = time.time()
        await call
        came = time.time()
        told = dict(await call.trailing_metadata() or ()).get(TIME_METADATA)
    finally:
        await channel.close()
    uncertainty = (came - sent) / 2
    return Health(serving, None if told is None else int(told) / 1000 - (sent + came) / 2, uncertainty, unmet)


async def _unmet(stub: health_pb2_grpc.HealthStub) -> tuple[str, ...]:
    """Conditions that the server says do not hold; one that it does not have, or is too old to tell, is none."""
    unmet = []
    for name in _CONDITIONS:
        request = health_pb2.HealthCheckRequest(service=f"{READINESS}{name}")
        try:
            answer = await stub.Check(request, timeout=DIAL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            continue
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            unmet.append(name)
    return tuple(unmet)


def clock(peer: Peer, health: Health) -> Iterator[Diagnosis]:
    """How far the clocks of two machines lie apart, as far as the way between them lets it be known."""
    if health.offset is None:
        yield warning("clock", f"{peer.title} 未告知时间", f"{peer.title} does not tell its time", "update it")
        return
    beyond = abs(health.offset) - health.uncertainty
    zh = f"与 {peer.title} 的时钟相差 {-health.offset:+.3f} 秒（±{health.uncertainty:.3f}）"
    en = f"this clock is {-health.offset:+.3f} s from that of {peer.title} (±{health.uncertainty:.3f})"
    remedy = "timedatectl set-ntp true; chronyc makestep (on the machine whose clock is wrong)"
    if beyond > SKEW:
        yield wrong("clock", zh, en, remedy)
    elif beyond > NOTICEABLE:
        yield warning("clock", zh, en, remedy)
    else:
        yield ok("clock", zh, en)
