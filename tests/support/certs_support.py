"""A city's authority and its identities in a temporary directory: real keys, real certificates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certs.ca import DEFAULT_DAYS, Authority
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, Identity
from certs.request import make_requests


@dataclass(frozen=True)
class City:
    """An authority and what it has issued.

    Attributes:
        directory: Where everything lies.
        authority: Of the city.
        root: The pinned root directory.
    """

    directory: Path
    authority: Authority
    root: Path

    @classmethod
    def create(cls, directory: Path, name: str = "shenzhen", *, now: datetime | None = None) -> City:
        authority = Authority.create(directory / "authority", name, now=now)
        root = directory / "root"
        root.mkdir()
        (root / CA_CERTIFICATE).write_bytes(authority.certificate_pem)
        return cls(directory, authority, root)

    @property
    def ca_pem(self) -> bytes:
        return self.authority.certificate_pem

    def path(self, short: str) -> Path:
        return self.directory / "identities" / short

    def enrol(self, short: str, *, now: datetime | None = None, days: float = DEFAULT_DAYS) -> IdentityFiles:
        """Make keys for `department/kind/name` (or renew its certificates) and have them certified."""
        identity = Identity.parse_short(self.authority.city, short)
        for request in make_requests(self.path(short), identity):
            pem = self.authority.issue(request.read_bytes(), now=now or datetime.now(UTC), days=days)
            request.with_suffix(".pem").write_bytes(pem)
        return IdentityFiles(self.path(short), self.root)
