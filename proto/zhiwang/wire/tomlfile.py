"""TOML files of ours: read into strict models, every mistake named by file, line and key, all at once.

    document.toml:12: attribute.pension_months.sensitivty: is not a key; did you mean sensitivity?

`load` is what most callers need. Who checks more than a model can say collects keys and messages and turns them into
findings with `as_findings`. Values are not repeated in messages: a mapping's probes name subjects.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from zhiwang.wire.tomldepth import MAX_DEPTH, long_key
from zhiwang.wire.tomllines import Key, key_lines

MAX_FILE = 4 * 1024 * 1024
"""Longest file in bytes."""
MAX_MISTAKES = 500
"""Mistakes of one file that are told: to find words for 100,000 of them takes minutes."""

_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([dh])")
_SECONDS = {"d": 86_400, "h": 3_600}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

Source = Path | bytes
"""A file, or what is in one."""

Mistaken = tuple[Key, str] | tuple[Key, str, str]
"""Path of a key, what is wrong with it, and perhaps what to do about it."""

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of the models of our files: unknown keys are refused, nothing is converted, instances do not change.

    Arrays are tuples, so that this holds through and through.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Form:
    """How a value is written, for the configuration reference: metadata of a type that reads a text of ours.

    Attributes:
        text: To be read after "is".
        empty: What an empty list stands for, as the file would say it.
    """

    text: str
    empty: str = "[]"


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 # pydantic turns only ValueError into a finding
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError('must be written "45d" or "12h"')
    return float(match[1]) * _SECONDS[match[2]]


Duration = Annotated[float, PlainValidator(_duration), Form("days or hours")]
"""A length of time as people write it; in seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        file: Name of the file; empty if it has none.
        line: From 1; 0 if the file could not be read at all.
        key: Dotted path of the key; empty for the whole file.
        message: What is wrong, so that it reads well after the key.
        todo: What to do about it, where the message does not say that already.
    """

    file: str
    line: int
    key: str
    message: str
    todo: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place = f"{self.file}:{self.line}" if self.file else f"line {self.line}"
        return ": ".join(filter(None, (place, self.key, self.message)))


class FileError(ValueError):
    """A file does not hold together.

    Args:
        findings: Everything that is wrong, at least one.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def load(source: Source, model: type[Model], *, name: str = "") -> Model:
    """Read a file into its model.

    Args:
        source: Path, or the file's bytes.
        model: A strict model.
        name: What findings call the file; the path if left out.

    Raises:
        FileError: With every mistake, up to MAX_MISTAKES; of a file that is not TOML the first.
    """
    name = _name(source, name)
    raw = _read(source, name)
    data = _parse(raw, name)
    try:
        return model.model_validate(_frozen(data))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    # Raised outside the handler, since the model's own error knows the values.
    mistakes: list[Mistaken] = list(_mistakes(details[:MAX_MISTAKES], data, model))
    if len(details) > MAX_MISTAKES:
        mistakes.insert(0, ((), f"has {len(details) - MAX_MISTAKES} more mistakes than are told here"))
    raise FileError(_located(raw, name, mistakes))


def parse(source: Source, *, name: str = "") -> dict[str, Any]:
    """What a file says, whatever its keys are.

    Args:
        source: Path, or the file's bytes.
        name: What the finding calls the file; the path if left out.

    Raises:
        FileError: It is too long, not TOML, or nested too deeply.
    """
    name = _name(source, name)
    return _parse(_read(source, name), name)


def as_findings(source: Source, mistakes: Iterable[Mistaken], *, name: str = "") -> list[Finding]:
    """Findings for mistakes that a model could not see, in the order of their lines.

    Args:
        source: The file, as it was loaded.
        mistakes: For each the path of its key, the message, and perhaps what to do. If the file has no such key, the
            line is that of the nearest table around it.
        name: What findings call the file; the path if left out.
    """
    mistakes = list(mistakes)
    if not mistakes:
        return []  # lines are looked for only where something is wrong: it takes as long as reading the file
    name = _name(source, name)
    return _located(_read(source, name), name, mistakes)


def _name(source: Source, name: str) -> str:
    return name or ("" if isinstance(source, bytes) else str(source))


def _read(source: Source, name: str) -> bytes:
    if isinstance(source, bytes):
        raw = source
    else:
        try:
            with source.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            raise FileError([Finding(name, 0, "", error.strerror or "cannot be read")]) from None
    if len(raw) > MAX_FILE:
        raise FileError([Finding(name, 0, "", f"is longer than {MAX_FILE} bytes")])
    return raw


def _text(raw: bytes) -> str:
    """Editors on Windows put a byte order mark before a text; TOML has none."""
    return raw.decode("utf-8-sig").replace("\r\n", "\n")


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    try:
        text = _text(raw)
        deep = long_key(text)
        if deep is None:
            data = tomllib.loads(text)
            if not _deeper(data, MAX_DEPTH):
                return data
        finding = Finding(name, deep or 1, "", "is nested too deeply")
    except UnicodeDecodeError as error:
        finding = Finding(name, raw.count(b"\n", 0, error.start) + 1, "", "is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _AT_LINE.search(message)
        line = int(place[1]) if place else raw.count(b"\n") + 1
        where = f" (column {place[2]})" if place else ""
        finding = Finding(name, line, "", f"is not TOML: {_AT_LINE.sub('', message)}{where}")
    except RecursionError:
        finding = Finding(name, 1, "", "is nested too deeply")
    except ValueError:
        # A date or number that has the form of one but is none: the library's own error has no place.
        finding = Finding(name, 1, "", "is not TOML: it holds a date or a number that does not exist")
    raise FileError([finding])


def _located(raw: bytes, name: str, mistakes: Iterable[Mistaken]) -> list[Finding]:
    lines = key_lines(_text(raw))
    findings = [Finding(name, _line(lines, path), _key_text(path), *said) for path, *said in mistakes]
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.line)


def _line(lines: Mapping[Key, int], path: Key) -> int:
    """Line of a key, or of the nearest one around it."""
    for end in range(len(path), 0, -1):
        line = lines.get(path[:end])
        if line is not None:
            return line
    return 1


def _key_text(path: Key) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else f'"{part}"')
    return text


def _deeper(value: Any, depth: int) -> bool:
    """Whether there are more tables and arrays within one another than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not depth or any(_deeper(item, depth - 1) for item in inner)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple([_frozen(item) for item in value])
    return value


# From the model's errors to messages.


def _mistakes(details: Sequence[ErrorDetails], data: Any, model: type[BaseModel]) -> list[tuple[Key, str]]:
    plain: list[tuple[Key, str]] = []
    choices: dict[Key, list[str]] = {}
    for detail in details:
        path, chosen = _path(detail, data)
        message = _message(detail, path, model)
        if chosen:
            choices.setdefault(path, []).append(message)
        else:
            plain.append((path, message))
    # Where a value may be one of several things, each says what it misses. What came furthest is meant.
    paths = [path for path, _ in plain] + list(choices)
    for path, messages in choices.items():
        if not any(len(other) > len(path) and other[: len(path)] == path for other in paths):
            plain.append((path, ", or ".join(dict.fromkeys(messages))))
    return plain


def _path(detail: ErrorDetails, data: Any) -> tuple[Key, bool]:
    """Path of the key in the file, and whether the model had to choose among alternatives on the way.

    A model's location also names alternatives; what is no key of the data is one of them, except a missing key.
    """
    path: list[str | int] = []
    chosen = False
    location = detail["loc"]
    for index, part in enumerate(location):
        if _holds(data, part):
            data = data[part]
        elif detail["type"] != "missing" or index + 1 < len(location):
            chosen = chosen or part != "[key]"
            continue
        path.append(part)
    return tuple(path), chosen


def _holds(data: Any, part: str | int) -> bool:
    """Whether a table has this key, or an array this place."""
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


_WORDS = {
    "missing": "is missing",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "date_type": "must be a date, as 2026-03-01 without quotes",
    "datetime_type": "must be a time, as 2026-03-01T00:00:00+08:00 without quotes",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must be of the form {pattern}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
}


def _message(detail: ErrorDetails, path: Key, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(model, set())
        close = get_close_matches(str(path[-1]), sorted(known), 1) if path and path[-1] not in known else []
        return "is not a key" + (f"; did you mean {close[0]}?" if close else " that stands here")
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", "")) or "is wrong"
    if kind in _WORDS:
        return _WORDS[kind].format_map(context)
    return detail["msg"].replace("Input should be", "must be")


def _known_keys(annotation: Any, seen: set[Any]) -> set[str]:
    """Names of all keys that a model knows at any depth."""
    keys: set[str] = set()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            for name, field in annotation.model_fields.items():
                keys |= {field.alias or name} | _known_keys(field.annotation, seen)
        return keys
    for argument in get_args(annotation):
        keys |= _known_keys(argument, seen)
    return keys
