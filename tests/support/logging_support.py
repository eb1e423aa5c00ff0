"""The log of operation of a test, set up as in a process, and everything put back afterwards."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from zhiwang.wire.logging import configure


@contextmanager
def logging_restored() -> Iterator[None]:
    """Whatever is set up inside holds inside only."""
    root = logging.getLogger()
    handlers, level, hook, formatter = root.handlers[:], root.level, sys.excepthook, warnings.formatwarning
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers = handlers
        root.setLevel(level)
        sys.excepthook, warnings.formatwarning = hook, formatter
        structlog.reset_defaults()


@contextmanager
def captured_log(process: str = "test") -> Iterator[io.StringIO]:
    """All lines that are logged inside, as JSON."""
    with logging_restored():
        stream = io.StringIO()
        configure(process, json=True, stream=stream)
        yield stream
