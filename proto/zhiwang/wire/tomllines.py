"""On which line of a TOML file each key stands, and from where to where each of its statements goes.

`tomllib` reads values and forgets where they stood. This walks the same text once more, keeping keys and lines alone:
tables, arrays of tables, dotted and quoted keys, inline tables, arrays and texts over several lines. It reads only what
`tomllib` has accepted, so it checks nothing.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress
from typing import NamedTuple

Key = tuple[str | int, ...]
"""Path of a key: names of tables and keys, and from 0 the places in arrays."""

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
# A text over several lines may end in up to two quotation marks of its own.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?!')", re.DOTALL)
_PLAIN = re.compile(r"[^,\]}\n#]*")


class Statement(NamedTuple):
    """A header, or a key with its value, as places in the text.

    Attributes:
        path: Of the table or key.
        table: Of the table that it stands in; of a header the same as its path.
        header: Whether it is one: `[table]` or `[[array of tables]]`.
        start: Of its first character.
        value: Of the first character of the value; of a header its end.
        end: Behind its last character: a comment on the same line is no part of it.
    """

    path: Key
    table: Key
    header: bool
    start: int
    value: int
    end: int


def statements(text: str) -> list[Statement]:
    """Headers and keys from top to bottom; what stands inside of a value is no statement.

    Args:
        text: As in `key_lines`.

    Raises:
        RecursionError: It is nested too deeply.
    """
    scanner = _Scanner(text)
    scanner.file()
    return scanner.statements


def key_lines(text: str) -> dict[Key, int]:
    """Lines, from 1, of every key, table and array element.

    Args:
        text: Of a file that `tomllib` accepts, with plain line feeds at the ends of its lines.
    """
    scanner = _Scanner(text)
    # Where tomllib's recursion just sufficed and this one's does not, what was found up to there has its line.
    with suppress(RecursionError):
        scanner.file()
    return scanner.lines


class _Scanner:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self.statements: list[Statement] = []
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer(r"\n", text)]
        self._elements: dict[Key, int] = {}  # arrays of tables, with how many elements each has so far

    def file(self) -> None:
        """Walk the whole text."""
        text = self._text
        current: Key = ()
        self._skip(_BLANK)
        while self._at < len(text):
            start = self._at
            if text[start] == "[":
                current = self._header(2 if text.startswith("[[", start) else 1)
                self.statements.append(Statement(current, current, True, start, self._at, self._at))
            else:
                path, value = self._pair(current)
                # A number or a date is read up to what ends it, and so are the spaces before that.
                end = start + len(text[start : self._at].rstrip())
                self.statements.append(Statement(path, current, False, start, value, end))
            self._skip(_BLANK)

    def _header(self, brackets: int) -> Key:
        start = self._at
        self._at += brackets
        keys = self._keys()
        self._at += brackets
        path: Key = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            self._note(path, start)
            if brackets == 2 and index == len(keys) - 1:  # noqa: PLR2004  two brackets make an array of tables
                self._elements[path] = self._elements.get(path, 0) + 1
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
                self._note(path, start)
        return path

    def _pair(self, table: Key) -> tuple[Key, int]:
        """One key and its value; gives its path and where the value begins."""
        start = self._at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        value = self._at
        self._value(path)
        return path, value

    def _keys(self) -> list[str]:
        """A dotted key; ends behind it and the spaces after it."""
        keys = []
        while True:
            self._skip(_SPACE)
            character = self._text[self._at]
            if character == '"':
                quoted = self._take(_BASIC)
                keys.append(next(iter(tomllib.loads(f"{quoted} = 0"))) if "\\" in quoted else quoted[1:-1])
            elif character == "'":
                keys.append(self._take(_LITERAL)[1:-1])
            else:
                keys.append(self._take(_BARE_KEY))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: Key) -> None:
        text, at = self._text, self._at
        if text.startswith('"""', at):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._skip(_LONG_LITERAL)
        elif text.startswith('"', at):
            self._skip(_BASIC)
        elif text.startswith("'", at):
            self._skip(_LITERAL)
        elif text.startswith("[", at):
            self._array(path)
        elif text.startswith("{", at):
            self._inline(path)
        else:
            self._skip(_PLAIN)

    def _array(self, path: Key) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                break
            element = (*path, index)
            self._note(element, self._at)
            self._value(element)
            index += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _inline(self, path: Key) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                break
            self._pair(path)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
        self._at += 1

    def _note(self, path: Key, at: int) -> None:
        if path not in self.lines:
            self.lines[path] = bisect_right(self._ends, at - 1) + 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        start = self._at
        self._skip(pattern)
        return self._text[start : self._at]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
