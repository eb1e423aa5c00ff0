"""The log of operation on a disk that takes nothing more."""

from __future__ import annotations

import errno
import io

import structlog

from logging_support import logging_restored
from zhiwang.wire.logging import configure


class Full(io.StringIO):
    """A file on a disk that may be full."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_line_that_cannot_be_written_ends_nothing() -> None:
    stream = Full()
    with logging_restored():
        configure("test", json=True, stream=stream)
        log = structlog.get_logger("test")
        for level in ("info", "warning", "error", "critical"):
            getattr(log, level)("lost")
        stream.full = False
        log.error("found")
    assert "lost" not in stream.getvalue()
    assert "found" in stream.getvalue()
