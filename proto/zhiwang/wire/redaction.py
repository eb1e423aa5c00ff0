"""What of a log line may be written. Everything that could be about a citizen is blanked; nothing of it is wanted.

The rule is to let through what is known to be harmless, not to search for what is not:

- keys that name something of a citizen, or a secret, lose their value;
- only plain values are printed; any other object is named by its type, since its text could hold anything;
- in text, whatever is a valid identifier goes, and so do all letters outside ASCII: names are written in them, and
  messages of ours are not;
- an exception's own message is printed only if its type is known to say nothing of data; a database driver's says
  the parameters of the statement.
"""

from __future__ import annotations

import datetime as dt
import re
import traceback
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any

from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.identity import Identity

BLANK = "[redacted]"

_KEYS = """
    answer birth body case cell ciphertext compared content data enc exported guess hmac id_card identifier key mac name
    nonce param parameter password pem person plaintext private private_key record request_bytes row salt secret
    subject text token url value
"""
SECRET_KEYS = frozenset(_KEYS.split())
"""Keys whose values are never printed, nor those of their plurals, unless these are counts.

Log facts of other kinds under other keys (`adapter=`, `listen=`).
"""

MAX_TEXT = 2000
MAX_DEPTH = 4
MAX_ITEMS = 50
MAX_FRAMES = 40

_LONG_NUMBER = 10**14
_RUN = re.compile(r"[0-9A-Za-z]{15,}", re.ASCII)
# Digits written in groups, as people do with numbers of 15 or 18 places.
_GROUPS = re.compile(r"[0-9](?:[ \-._/:]?[0-9Xx]){14,}", re.ASCII)
_SEPARATORS = re.compile(r"[ \-._/:]+")
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def redact_text(text: str) -> str:
    """Text without identifiers, without letters outside ASCII, without passwords of URLs; one line's worth of it."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    if not text.isascii():
        text = _FOREIGN.sub(BLANK, text)
    if "@" in text:
        text = _CREDENTIALS.sub(f"{BLANK}@", text)
    text = _GROUPS.sub(_blank_identifier, _RUN.sub(_blank_identifier, text))
    return BLANK if contains_identifier(text) else text


def redact_value(value: Any, depth: int = 0) -> Any:
    """A value fit for a log: plain, bounded, and about nobody."""
    result: Any
    if value is None or isinstance(value, bool | float):
        result = value
    elif isinstance(value, Enum):
        result = value.name
    elif isinstance(value, int):
        result = BLANK if abs(value) >= _LONG_NUMBER and contains_identifier(str(abs(value))) else value
    elif isinstance(value, str | Identity | PurePath | dt.date | dt.timedelta):
        result = redact_text(str(value))
    elif isinstance(value, BaseException):
        result = describe_exception(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        result = f"[{len(value)} bytes]"
    else:
        result = _redact_collection(value, depth)
    return result


def redact_fields(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Each value fit for a log, blank where the key alone says that it is not."""
    return {
        redact_text(str(key)): BLANK if _is_secret(str(key).lower(), value) else redact_value(value, depth)
        for key, value in fields.items()
    }


def describe_exception(error: BaseException) -> str:
    """Type, and the message if the type is known to say nothing of data."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, ZhiwangError):
        return f"{kind}: {redact_text(str(error))}"
    if isinstance(error, OSError) and error.strerror and isinstance(error.strerror, str):
        return f"{kind}: {redact_text(error.strerror)}"
    return kind


def describe_traceback(error: BaseException) -> str:
    """Where it was raised, through its causes, as file, line and function: no locals, no messages of unknown types."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines.append(describe_exception(current))
        lines.extend(_frames(current.__traceback__))
        if isinstance(current, BaseExceptionGroup):
            lines.extend(f"  with {describe_exception(inner)}" for inner in current.exceptions[:MAX_ITEMS])
        follows = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if follows is not None:
            lines.append("because of")
        current = follows
    return "\n".join(lines)


def _frames(trace: TracebackType | None) -> list[str]:
    return [
        f"  {redact_text(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"
        for frame, line in list(traceback.walk_tb(trace))[-MAX_FRAMES:]
    ]


def _is_secret(key: str, value: Any) -> bool:
    if key in SECRET_KEYS:
        return True
    return key.removesuffix("s") in SECRET_KEYS and not isinstance(value, int)


def _redact_collection(value: Any, depth: int) -> Any:
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return redact_fields(dict(list(value.items())[:MAX_ITEMS]), depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return [redact_value(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return f"[{type(value).__name__}]"


def _blank_identifier(match: re.Match[str]) -> str:
    run = match[0]
    return BLANK if contains_identifier(_SEPARATORS.sub("", run)) else run
