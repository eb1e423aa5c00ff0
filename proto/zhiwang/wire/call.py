"""The RPC that is being served: its method, its caller, and an id under which its log lines are found.

One `Call` stands in a context variable for as long as its handler runs. The caller is what TLS proved, never what a
message says.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Identity, Kind

_CACHED_PEERS = 4096


class Local(Enum):
    """A caller on the same machine, over a port without TLS (loopback or a Unix socket)."""

    LOCAL = "local"


LOCAL: Final = Local.LOCAL
"""Stands in a table of RPCs beside kinds, for ports without TLS."""

Caller = Kind | Literal[Local.LOCAL]


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller as its connection proved it.

    Attributes:
        certified: The identity of its certificate; None for a local caller.
        serial: Serial of its certificate.
        fingerprint: SHA-256 of the DER of its certificate.
        not_before: First second of its certificate's validity.
        not_after: Last second of its certificate's validity.
        table: Where it comes from; knows clock and revocations.
    """

    certified: Identity | None
    serial: int
    fingerprint: bytes
    not_before: float
    not_after: float
    table: PeerTable

    @property
    def local(self) -> bool:
        """Whether it called over a port without TLS."""
        return self.certified is None

    @property
    def identity(self) -> Identity:
        """Who it is.

        Raises:
            RefusedError: RPC_NOT_ALLOWED, for a local caller, which has no identity.
        """
        if self.certified is None:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, "a local caller has no identity")
        return self.certified

    @property
    def caller(self) -> Caller:
        """What a table of RPCs admits or not."""
        return LOCAL if self.certified is None else self.certified.kind

    @property
    def label(self) -> str:
        """For logs: "edu/system/enrolment" or "local"."""
        return "local" if self.certified is None else self.certified.short

    def check(self) -> None:
        """Check that the certificate still holds: at each call, and on a long stream at each frame.

        Raises:
            RefusedError: CERTIFICATE_EXPIRED or CERTIFICATE_REVOKED.
        """
        if self.certified is None:
            return
        if not self.not_before <= self.table.clock() <= self.not_after:
            raise RefusedError(Reason.CERTIFICATE_EXPIRED, self.certified.short)
        if self.serial in self.table.revoked():
            raise RefusedError(Reason.CERTIFICATE_REVOKED, self.certified.short)


class PeerTable:
    """Takes callers from gRPC's authentication context, remembering parsed certificates. Event loop only.

    TLS has verified the chain when this is asked; what a certificate of the city is not allowed to be is decided here.

    Args:
        city: The only city whose identities are taken.
        revoked: Gives the serials that are revoked at the moment.
        clock: Gives the time.
    """

    def __init__(
        self,
        city: str | None,
        revoked: Callable[[], Container[int]] = frozenset,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.city = city
        self.revoked = revoked
        self.clock = clock
        self._local = Peer(None, 0, b"", 0.0, 0.0, self)
        self._known: OrderedDict[bytes, Peer] = OrderedDict()

    def identify(self, auth_context: Mapping[str, Sequence[bytes]]) -> Peer:
        """The caller of one RPC, not yet checked.

        Args:
            auth_context: As `ServicerContext.auth_context()` gives it.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if a TLS caller does not have exactly one identity of this city.
        """
        pem = auth_context.get("x509_pem_cert")
        if not pem:
            if auth_context.get("transport_security_type", [b""])[0] == b"ssl":
                raise RefusedError(Reason.CERTIFICATE_INVALID, "a TLS caller without a certificate")
            return self._local
        peer = self._known.get(pem[0])
        if peer is None:
            peer = self._parse(pem[0], auth_context.get("peer_uri", ()))
            self._known[pem[0]] = peer
            if len(self._known) > _CACHED_PEERS:
                self._known.popitem(last=False)
        return peer

    def _parse(self, pem: bytes, uris: Sequence[bytes]) -> Peer:
        if len(uris) != 1:
            raise RefusedError(Reason.CERTIFICATE_INVALID, "the caller's certificate must name exactly one URI")
        try:
            identity = Identity.parse(uris[0].decode("ascii"))
            certificate = x509.load_pem_x509_certificate(pem)
        except ValueError:
            raise RefusedError(Reason.CERTIFICATE_INVALID, "the caller's certificate cannot be read") from None
        if identity.city != self.city:
            raise RefusedError(Reason.CERTIFICATE_INVALID, "a caller of another city")
        return Peer(
            certified=identity,
            serial=certificate.serial_number,
            fingerprint=hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest(),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
            table=self,
        )


class Call:
    """One RPC being served.

    Args:
        method: Its full name.
        task: Which runs its handler.

    Attributes:
        ended: Why `end` ended it.
    """

    __slots__ = ("_id", "_task", "ended", "method", "peer")

    def __init__(self, method: str, task: asyncio.Task[Any]) -> None:
        self.method = method
        self.peer: Peer | None = None
        self.ended: ZhiwangError | None = None
        self._task = task
        self._id = ""

    def end(self, error: ZhiwangError) -> None:
        """End it from outside of its handler, whatever that waits for; the caller is told this error."""
        if self.ended is None:
            self.ended = error
            self._task.cancel()

    @property
    def id(self) -> str:
        """Random, for the log and for the text of an internal error; made when it is first needed."""
        if not self._id:
            self._id = os.urandom(8).hex()
        return self._id


CALL: ContextVar[Call | None] = ContextVar("zhiwang_call", default=None)
"""The RPC that the current task serves."""


def current_call() -> Call:
    """The RPC that the current task serves.

    Raises:
        RefusedError: INTERNAL, outside an RPC.
    """
    call = CALL.get()
    if call is None:
        raise RefusedError(Reason.INTERNAL, "no RPC is being served here")
    return call


def current_peer() -> Peer:
    """The caller of the RPC that the current task serves.

    Raises:
        RefusedError: INTERNAL, outside an RPC.
    """
    peer = current_call().peer
    if peer is None:
        raise RefusedError(Reason.INTERNAL, "no RPC is being served here")
    return peer
