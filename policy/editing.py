"""Changing a department's files as text: comments, order and spelling of everything else stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from zhiwang.wire.errors import Reason, RefusedError


def suspended(content: bytes | None, department: str, entry: Mapping[str, str | date]) -> bytes:
    """suspend.toml with one more entry.

    Args:
        content: In force; None for none yet.
        department: Whose file it is.
        entry: Keys of `[[suspend]]`.
    """
    file = _parsed(content) if content is not None else tomlkit.document()
    if content is None:
        file["department"] = department
    table = tomlkit.table()
    for key, value in entry.items():
        table[key] = value
    entries = file.get("suspend")
    if entries is None:
        entries = file["suspend"] = tomlkit.aot()
        entries = file["suspend"]
    entries.append(table)
    return tomlkit.dumps(file).encode()


def lifted(content: bytes, ids: list[str]) -> bytes:
    """document.toml with more lifted suspensions."""
    file = _parsed(content)
    known = [str(name) for name in file.get("lifted", [])]
    names = tomlkit.array()
    names.extend([*known, *(name for name in ids if name not in known)])
    if "lifted" in file:
        file["lifted"] = names
        return tomlkit.dumps(file).encode()
    # At the head, since a key behind a table would be the table's.
    return f"lifted = {names.as_string()}\n".encode() + content


def _parsed(content: bytes) -> Any:
    try:
        return tomlkit.parse(content.decode())
    except (TOMLKitError, UnicodeDecodeError):
        raise RefusedError(Reason.DOCUMENT_INVALID, "the file in force cannot be edited as text") from None
