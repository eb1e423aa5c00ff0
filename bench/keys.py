"""A throw-away authority and its identities for benchmarks that need no whole city."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from certs.ca import Authority
from certs.credentials import IdentityFiles
from certs.identity import CA_CERTIFICATE, Identity
from certs.request import make_requests

CITY = "shenzhen"


def enrol(directory: Path, *shorts: str) -> dict[str, IdentityFiles]:
    """Make an authority in `directory` and certified identities like "centre/hub/main" under it."""
    authority = Authority.create(directory / "authority", CITY)
    root = directory / "root"
    root.mkdir()
    (root / CA_CERTIFICATE).write_bytes(authority.certificate_pem)
    files = {}
    for short in shorts:
        place = directory / "identities" / short
        for request in make_requests(place, Identity.parse_short(CITY, short)):
            pem = authority.issue(request.read_bytes(), now=datetime.now(UTC))
            request.with_suffix(".pem").write_bytes(pem)
        files[short] = IdentityFiles(place, root)
    return files
