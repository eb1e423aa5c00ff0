"""How a refusal tells what is wrong: as lines in the details of an error, no more of them than it may carry."""

from __future__ import annotations

from typing import NoReturn

from zhiwang.wire.errors import Reason, RefusedError

MAX_FINDINGS = 50
"""Findings that one refusal tells."""
MAX_FINDING = 500
"""Characters of one."""
MAX_FINDING_BYTES = 6_000
"""Of all of them: details travel as metadata, and what is longer than that may be is lost whole."""


def findings_metadata(found: list[str]) -> dict[str, str]:
    """Findings for the details of an error, as many as it may carry."""
    lines = [line for text in found for line in text.splitlines()]
    told: dict[str, str] = {}
    room = MAX_FINDING_BYTES
    for number, line in enumerate(lines[:MAX_FINDINGS], 1):
        text = line[:MAX_FINDING]
        room -= len(text.encode())
        if room < 0:
            break
        told[f"finding-{number:02d}"] = text
    return told


def refuse(detail: str) -> NoReturn:
    """Refuse metadata.

    Raises:
        RefusedError: METADATA_INVALID, always.
    """
    raise RefusedError(Reason.METADATA_INVALID, detail, metadata=findings_metadata([detail]))
