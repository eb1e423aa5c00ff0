"""What runs out in a directory, as one department sees it; for alarms and for `zhiwang doctor`."""

from __future__ import annotations

from certs.expiry import Expiry
from policy.metadata import CENTRE, REVOCATIONS_FILE
from policy.model import Directory

HALF_A_DAY = (0.5,)
"""The registrar signs a timestamp every six hours; one with half its day left tells that it no longer does."""

WEEK = (7.0, 1.0)
"""A revocation list lives for a month."""


def directory_expiries(directory: Directory | None, department: str) -> list[Expiry]:
    """The signed parts of a directory that people have to renew: the city's, and a department's own.

    Args:
        directory: The newest seen, even if it has expired; None if there is none.
        department: Whose document.
    """
    if directory is None:
        return []
    found = directory.expiries
    parts = (
        ("root", "root", "the root metadata", "zhiwang policy renew-root root.json --key … --out next.json", None),
        ("targets", CENTRE, "the centre's metadata", "zhiwang policy publish centre.toml --sign … --sign …", None),
        (
            "document",
            department,
            f"the document of {department}",
            "zhiwang policy publish document.toml --sign … --sign …",
            None,
        ),
        (
            "crl",
            REVOCATIONS_FILE,
            "the revocation list",
            "zhiwang certs crl --authority DIR --out crl.pem, then zhiwang policy publish crl.pem --sign … --sign …",
            WEEK,
        ),
        ("timestamp", "timestamp", "the directory's timestamp", "zhiwang registrar run --profile …", HALF_A_DAY),
    )
    return [
        Expiry(use, what, found[key], remedy) if days is None else Expiry(use, what, found[key], remedy, days=days)
        for use, key, what, remedy, days in parts
        if key in found
    ]
