"""TOML files that people live in: strict models, and every mistake named by file, line and key, all at once.

`tomllib` reads the values, pydantic checks them, and a small scan of the text finds the lines of the keys, which
neither of the two knows.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Key = tuple[str | int, ...]
"""Path of a key: names of tables and keys, and indexes within arrays."""

Source = Path | bytes
"""A file, or what is in one."""

M = TypeVar("M", bound=BaseModel)

_KEY_PART = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|'([^']*)')\s*""")
_TOML_LINE = re.compile(r"\(at line (\d+)")
_UNION_BRANCH = re.compile(r"[A-Za-z]+\[|function-")


class StrictModel(BaseModel):
    """A table of a file: unknown keys are refused, nothing is converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    Attributes:
        file: Name of the file.
        line: Its line, from 1; 0 where the file as a whole is meant.
        key: Dotted path of the key; empty for the whole file.
        message: What is wrong.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.key}: {self.message}"
            if self.key
            else f"{self.file}:{self.line}: {self.message}"
        )


class FileError(ValueError):
    """A file does not hold together.

    Args:
        findings: Every mistake.
    """

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def load(source: Source, model: type[M], *, name: str = "") -> M:
    """Read a file into its model.

    Arrays become tuples, so that a model can be frozen through and through.

    Args:
        source: The file, or its bytes.
        model: A `StrictModel`.
        name: What to call the bytes in findings.

    Raises:
        FileError: With every finding.
        OSError: The file cannot be read.
    """
    file, data = _read(source, name)
    try:
        values = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise FileError([Finding(file, 0, "", "is not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        line = _TOML_LINE.search(str(error))
        raise FileError([Finding(file, int(line[1]) if line else 0, "", f"is not TOML: {error}")]) from None
    try:
        return model.model_validate(_tuples(values))
    except ValidationError as error:
        mistakes = [
            (_key_of(detail["loc"], values), _message(detail["type"], detail["msg"]))
            for detail in error.errors(include_input=False)
        ]
        raise FileError(as_findings(source, mistakes, name=name)) from None


def as_findings(source: Source, mistakes: Iterable[tuple[Key, str]], *, name: str = "") -> list[Finding]:
    """Mistakes by their keys as findings with lines, each once, in the order of the lines."""
    file, data = _read(source, name)
    lines = key_lines(data.decode())
    findings = {Finding(file, _line(lines, key), _dotted(key), message) for key, message in mistakes}
    return sorted(findings, key=lambda finding: (finding.line, finding.key, finding.message))


def key_lines(text: str) -> dict[Key, int]:
    """Lines (from 1) of the tables and keys of a TOML text. Keys within inline tables count as their table's line."""
    lines: dict[Key, int] = {}
    table: Key = ()
    arrays: dict[Key, int] = {}
    for number, statement in _statements(text):
        if statement.startswith("[["):
            path = _resolve(_key(statement[2:]), arrays)
            arrays[path] = arrays.get(path, -1) + 1
            table = (*path, arrays[path])
            lines.setdefault(path, number)
            lines[table] = number
        elif statement.startswith("["):
            table = _resolve(_key(statement[1:]), arrays)
            lines.setdefault(table, number)
        else:
            path = (*table, *_key(statement))
            for end in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:end], number)
    return lines


def _read(source: Source, name: str) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return name or "file", source
    return name or str(source), source.read_bytes()


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line on which a table or key begins: outside strings and brackets of several lines."""
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not depth and not quote and stripped and not stripped.startswith("#"):
            yield number, stripped
            if stripped.startswith("["):
                continue
        depth, quote = _scan(line, depth, quote)


def _scan(line: str, depth: int, quote: str) -> tuple[int, str]:
    """Bracket depth and open multi-line quote at the end of a line."""
    place = 0
    while place < len(line):
        character = line[place]
        if quote:
            if character == "\\" and quote[0] == '"':
                place += 2
                continue
            if line.startswith(quote, place):
                place += len(quote)
                quote = ""
                continue
        elif character == "#":
            break
        elif character in "\"'":
            quote = character * 3 if line.startswith(character * 3, place) else character
            place += len(quote)
            continue
        else:
            depth += (character in "[{") - (character in "]}")
        place += 1
    # A quote of one character does not outlive its line.
    return depth, quote if len(quote) > 1 else ""


def _key(text: str) -> Key:
    """The dotted key at the beginning of a statement."""
    parts: list[str] = []
    place = 0
    while match := _KEY_PART.match(text, place):
        parts.append(next(part for part in match.groups() if part is not None))
        place = match.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    return tuple(parts)


def _resolve(path: Key, arrays: dict[Key, int]) -> Key:
    """A table's path with the index of the newest element of each array of tables above it."""
    resolved: Key = ()
    for part in path[:-1]:
        resolved = (*resolved, part)
        if resolved in arrays:
            resolved = (*resolved, arrays[resolved])
    return (*resolved, *path[-1:])


def _line(lines: dict[Key, int], key: Key) -> int:
    for end in range(len(key), 0, -1):
        if key[:end] in lines:
            return lines[key[:end]]
    return 1


def _dotted(key: Key) -> str:
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _key_of(location: Key, values: Any) -> Key:
    """Pydantic's location without the names of union branches and such that it adds to the path of the key."""
    key: list[str | int] = []
    for part in location:
        inside = isinstance(values, dict) and part in values
        within = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if inside or within:
            key.append(part)
            values = values[part]
        elif isinstance(values, dict) and isinstance(part, str) and not _UNION_BRANCH.match(part):
            key.append(part)
            values = None
    return tuple(key)


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is no key that is known here"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")
