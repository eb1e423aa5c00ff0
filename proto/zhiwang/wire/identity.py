"""Who a certificate names: `spiffe://<city>/<department>/<kind>/<name>`.

Pure: parsing and printing. What proves that a process *is* that identity is the business of `certs`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from zhiwang.wire.errors import Reason, RefusedError

MAX_URI = 256
"""Longest identity URI in characters; the parts below keep every DNS name under 253."""

_PART = r"[a-z][a-z0-9_-]{0,46}[a-z0-9]|[a-z]"
_CACHED = 1024


class Kind(StrEnum):
    """What a certificate may be used for."""

    HUB = "hub"
    REGISTRAR = "registrar"
    SYSTEM = "system"
    ADAPTER = "adapter"
    AGENT = "agent"
    ADMIN = "admin"
    AUDITOR = "auditor"
    WITNESS = "witness"

    @property
    def serves(self) -> bool:
        """Whether processes of this kind listen, so that their TLS certificates carry server names."""
        return self in _SERVERS


LOG_KEEPERS = frozenset({Kind.HUB, Kind.ADAPTER, Kind.REGISTRAR})
"""Kinds whose processes keep a log of their own."""

_SERVERS = frozenset({Kind.HUB, Kind.REGISTRAR, Kind.ADAPTER, Kind.AGENT, Kind.WITNESS})
_URI = re.compile(
    rf"spiffe://(?P<city>{_PART})/(?P<department>{_PART})/(?P<kind>{'|'.join(Kind)})/(?P<name>{_PART})", re.ASCII
)
_SHORT = re.compile(rf"(?P<department>{_PART})/(?P<kind>{'|'.join(Kind)})/(?P<name>{_PART})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """One holder of certificates.

    Attributes:
        city: Trust domain; one certificate authority.
        department: Member organisation.
        kind: What it is.
        name: Which of its kind in its department.
    """

    city: str
    department: str
    kind: Kind
    name: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """From a SPIFFE URI.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if it is not one of ours.
        """
        return cls(*_parse(uri))

    @classmethod
    def parse_short(cls, city: str, short: str) -> Self:
        """From `department/kind/name`, as the command line takes it.

        Raises:
            RefusedError: CERTIFICATE_INVALID, if the text does not have this form.
        """
        if not _SHORT.fullmatch(short):
            raise RefusedError(Reason.CERTIFICATE_INVALID, "an identity is written department/kind/name")
        return cls.parse(f"spiffe://{city}/{short}")

    @property
    def uri(self) -> str:
        """The SPIFFE URI."""
        return f"spiffe://{self.city}/{self.department}/{self.kind}/{self.name}"

    @property
    def short(self) -> str:
        """Without the city: "edu/system/enrolment"."""
        return f"{self.department}/{self.kind}/{self.name}"

    @property
    def log_origin(self) -> str:
        """First line of the checkpoints of this identity's log."""
        return f"{self.city}/{self.department}/{self.kind}/{self.name}"

    @property
    def server_name(self) -> str:
        """DNS name in the TLS certificate of a server of exactly this identity."""
        return f"{self.name}.{self.department}.{self.kind}.{self.city}.zhiwang.internal"

    def __str__(self) -> str:
        return self.uri


def server_name(city: str, kind: Kind) -> str:
    """DNS name in the TLS certificate of every server of this kind in this city, e.g. any hub.

    These names are never resolved. The authority puts them into certificates according to the identity, and a client
    passes the one that it expects as the channel's target-name override, so TLS itself refuses an adapter that poses
    as the hub.
    """
    return f"{kind}.{city}.zhiwang.internal"


@lru_cache(_CACHED)
def _parse(uri: str) -> tuple[str, str, Kind, str]:
    match = _URI.fullmatch(uri) if len(uri) <= MAX_URI else None
    if match is None:
        raise RefusedError(Reason.CERTIFICATE_INVALID, "not an identity of the form spiffe://city/department/kind/name")
    return match["city"], match["department"], Kind(match["kind"]), match["name"]
