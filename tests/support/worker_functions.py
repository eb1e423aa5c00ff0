"""What a process of `policy.workers` is asked to do in tests."""

from __future__ import annotations

import os
import resource
from typing import Any

from zhiwang.wire.errors import Reason, RefusedError


def pid(_session: object) -> int:
    return os.getpid()


def remember(session: dict[str, Any], value: object) -> list[object]:
    """Everything that was remembered in this session."""
    session.setdefault("values", []).append(value)
    return list(session["values"])


def forever(_session: object) -> None:
    while True:
        pass


def hoard(_session: object) -> int:
    return len(bytearray(resource.getrlimit(resource.RLIMIT_AS)[0]))


def leave(_session: object) -> None:
    os._exit(3)


def fail(_session: object, text: str) -> None:
    raise ValueError(text)


def refuse(_session: object) -> None:
    raise RefusedError(Reason.NAME_UNKNOWN, "why", field="who", metadata={"finding-01": "that"})


def niceness(_session: object) -> int:
    return os.nice(0)
