"""A signed publication as one file: what `--out` writes, what an adapter loads, and what is published later."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from types import MappingProxyType
from typing import Any, Final

from policy.metadata import MAX_FILE, MAX_METADATA, Publication
from zhiwang.wire.errors import Reason, RefusedError

MAX_SIZE: Final = 2 * (MAX_METADATA + MAX_FILE)
"""Bytes of such a file; its parts are in base64."""


def publication_bytes(publication: Publication) -> bytes:
    """A signed publication as one file."""
    content = {
        "role": publication.role,
        "metadata": b64encode(publication.metadata).decode(),
        "files": {path: b64encode(data).decode() for path, data in publication.files.items()},
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"


def parse_publication(data: bytes) -> Publication:
    """The publication in a file; nothing of it is verified.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    try:
        content: Any = json.loads(data) if len(data) <= MAX_SIZE else None
        return Publication(
            str(content["role"]),
            b64decode(content["metadata"], validate=True),
            MappingProxyType({str(path): b64decode(held, validate=True) for path, held in content["files"].items()}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefusedError(Reason.METADATA_INVALID, "not a signed publication, as --out writes it") from None


def is_publication(data: bytes) -> bool:
    """Whether it is such a file, and not the signed metadata of a root."""
    try:
        parse_publication(data)
    except RefusedError:
        return False
    return True
