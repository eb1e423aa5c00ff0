"""Readiness of a process that keeps a log and decides by the directory; a log that has stopped is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from audit.log import AuditLog
from policy.directory import DirectoryHolder
from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.readiness import Readiness

WATCH_SECONDS: Final = 0.25
"""How often readiness is brought up to date; a directory's expiry is announced by no event."""
RELOAD_SECONDS: Final = 5.0
"""How often a log that has stopped is looked at again."""

_log = structlog.get_logger(__name__)


async def _nothing() -> None:
    """Nothing has to be made good."""


async def keep_true(
    readiness: Readiness,
    holder: DirectoryHolder,
    log: AuditLog,
    reloaded: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    """Keep readiness true to log and directory; runs until it is cancelled.

    Args:
        readiness: With the conditions "log" and "directory".
        holder: Of the directory.
        log: Opened.
        reloaded: What is to be done once a log that had stopped goes on.
    """
    loop = asyncio.get_running_loop()
    tried = 0.0
    while True:
        await readiness.set("log", log.healthy)
        await readiness.set("directory", holder.fresh)
        if not log.healthy and loop.time() - tried > RELOAD_SECONDS:
            try:
                await log.reload()
                await reloaded()
            except ZhiwangError as error:
                _log.error("the log stays stopped", detail=error.detail)
            except Exception as error:  # noqa: BLE001 - else nobody would look at the log, or at readiness, again
                _log.error("the log stays stopped", exc_info=error)
            tried = loop.time()
        await asyncio.sleep(WATCH_SECONDS)
