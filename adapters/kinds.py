"""Schemes of the kinds of subject, as the centre names them."""

from __future__ import annotations

from collections.abc import Mapping

from policy.model import Directory
from zhiwang.wire.identifiers import Scheme, scheme

USUAL: Mapping[str, str] = {"person": "resident", "entity": "uscc", "dwelling": "house"}
"""Kinds that every centre has, for checks without a directory."""


def schemes_of(directory: Directory | None) -> dict[str, Scheme]:
    """Scheme of each kind of subject; the usual ones without a directory."""
    if directory is None:
        return {kind: scheme(name) for kind, name in USUAL.items()}
    return {kind.name: scheme(kind.scheme, kind.pattern) for kind in directory.centre.subjects.values()}
