"""The log of operation: structlog for ours, and the standard library's records brought into it.

Written to standard error: JSON unless that is a terminal. Every line passes `zhiwang.wire.redaction`, whoever wrote
it. Of a record of somebody else's library only the template is kept, not what it was filled with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any, TextIO

import grpc
import structlog

from zhiwang.wire.call import CALL
from zhiwang.wire.redaction import describe_traceback, redact_fields, redact_text

LEVEL = logging.INFO
WARNING = logging.WARNING
CRITICAL = logging.CRITICAL
"""For commands, which speak by themselves."""

_GRPC_CORE = "grpc._cython.cygrpc"
"""Logs an error for every caller that is gone by the time its answer is there, which is no fault of this process."""

FOREIGN_LEVEL = logging.WARNING
"""Libraries are heard from this level up; SQLAlchemy tells every statement below it."""


def configure(
    process: str,
    json: bool | None = None,  # noqa: FBT001  the one thing to choose besides the name
    *,
    stream: TextIO | None = None,
    level: int = LEVEL,
) -> None:
    """Set up all logging of this process; the last call holds.

    Args:
        process: What this process calls itself in each line, e.g. "hub" or "adapter hrss".
        json: One JSON object a line; if None, unless the stream is a terminal.
        stream: Where to; standard error if None.
        level: Lowest level of our own lines.
    """
    stream = stream or sys.stderr
    as_json = not stream.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )

    def add_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_call,
            redact,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_process,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_arguments: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(FOREIGN_LEVEL)
    logging.captureWarnings(capture=True)
    warnings.formatwarning = _format_warning
    sys.excepthook = _log_uncaught


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor through which every line passes: blanks, and turns an exception into where it was raised."""
    error = _exception_of(event.pop("exc_info", None))
    event.pop("stack_info", None)
    message = event.pop("event", "")
    line: dict[str, Any] = {
        "event": redact_text(message) if isinstance(message, str) else f"[{type(message).__name__}]"
    }
    line.update(redact_fields(event))
    if error is not None:
        line["exception"] = describe_traceback(error)
    return line


def log_loop_errors(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: the standard one would print the exception's text, and a task's arguments."""
    structlog.get_logger("asyncio").error("error outside any task", exc_info=context.get("exception"))


class _Lines(structlog.WriteLogger):
    """Writes lines. One that cannot be written is lost: a full disk must not end the task that tells of it."""

    def msg(self, message: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _Bridge(logging.Handler):
    """Turns records of the standard library into lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.name == _GRPC_CORE and isinstance(error, grpc.aio.InternalError):
            structlog.get_logger().info("an answer was not taken: the caller hung up, or takes none of its length")
            return
        # Not getMessage(): arguments are data. A message without arguments may have been filled before; it is redacted.
        template = record.msg if isinstance(record.msg, str) else f"[{type(record.msg).__name__}]"
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, template, logger=record.name, exc_info=error)


def _add_call(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    call = CALL.get()
    if call is not None:
        event["call"] = call.id
        event["rpc"] = call.method
    return event


def _exception_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        error = exc_info[1]
        return error if isinstance(error, BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _format_warning(
    message: Warning | str,  # noqa: ARG001  the text may quote data
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,  # noqa: ARG001  the standard library's signature
) -> str:
    return f"{category.__name__} at {filename}:{lineno}"


def _log_uncaught(_kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    structlog.get_logger().critical("the process ends by an error", exc_info=error)
