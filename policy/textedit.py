"""Setting and taking away keys of a TOML file as text: whatever else is in it keeps its bytes.

`tomlkit` writes values; where they go is decided here, by lines. It takes a comment for the end of the table before it,
so that it would leave a grant's own comment behind and take away its neighbour's. Here a comment belongs to what stands
directly below it, and what is set off by a blank line belongs to nobody and stays.

Pure functions of texts with plain line feeds. Paths name elements of arrays by number. Nothing is checked: `editing.py`
reads the result again and holds it against what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import tomlkit

from zhiwang.wire.tomllines import Key, Statement, statements

DOTTED: Final = frozenset({"system", "title"})
"""Tables that begin as dotted keys at the head of the file, `system.counter.roles = […]`; others as `[attribute.x]`."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT = re.compile(r"[ \t]*#")


def put(text: str, path: Key, value: str) -> str:
    """Set a key, or make it, and the table that it stands in.

    Args:
        text: The file.
        path: Of the key. An element of an array of tables that is one beyond its end is made.
        value: As TOML.
    """
    found = _holding(text, path)
    if found is None:
        return _kept_end(text, lambda whole: _new(whole, path, value))
    if found.path != path:
        value = _inside(text[found.value : found.end], path[len(found.path) :], value)
    return text[: found.value] + value + text[found.end :]


def put_element(text: str, path: Key, value: str) -> str:
    """Put an element into an array that is a value, before the one that has its number now."""
    found = _holding(text, path)
    if found is None:
        raise KeyError(path)
    inner = path[len(found.path) :]
    value = _inside(text[found.value : found.end], inner, value, element=True)
    return text[: found.value] + value + text[found.end :]


def take(text: str, path: Key) -> str:
    """Take away a key, a table with all that is in it, or an element of an array, and the comment directly above."""
    found = _holding(text, path)
    if found is not None and found.path != path:
        value = _inside(text[found.value : found.end], path[len(found.path) :], None)
        return text[: found.value] + value + text[found.end :]
    return _kept_end(text, lambda whole: _without(whole, path))


def key_text(path: Key) -> str:
    """A dotted key as TOML; numbers, which name elements, are left out."""
    names = (part for part in path if isinstance(part, str))
    return ".".join(name if _BARE_KEY.fullmatch(name) else tomlkit.string(name).as_string() for name in names)


def _holding(text: str, path: Key) -> Statement | None:
    """The key whose value is, or holds, what is at a path."""
    for found in statements(text):
        if not found.header and path[: len(found.path)] == found.path:
            return found
    return None


def _inside(value: str, path: Key, new: str | None, *, element: bool = False) -> str:
    """A value with something in it set, put in or taken away."""
    document: Any = tomlkit.parse(f"v = {value}\n")
    holder = document["v"]
    for part in path[:-1]:
        holder = holder[part]
    last = path[-1]
    if new is None:
        del holder[last]
    elif element:
        holder.insert(last, tomlkit.value(new))
    elif isinstance(last, int) or last in holder:
        holder[last] = tomlkit.value(new)
    else:
        holder.append(last, tomlkit.value(new))
    changed: str = tomlkit.dumps(document)
    return changed.removeprefix("v = ").removesuffix("\n")


def _kept_end(text: str, change: Callable[[str], str]) -> str:
    """A change of whole lines, of a text whose last one may have no line feed."""
    if not text or text.endswith("\n"):
        return change(text)
    return change(text + "\n").removesuffix("\n")


# New lines -----------------------------------------------------------------------------------------------------------


def _new(text: str, path: Key, value: str) -> str:
    known = statements(text)
    tables = {found.path for found in known if found.header}
    table = max((prefix for prefix in _prefixes(path) if prefix in tables), key=len, default=())
    dotted = not table and (len(path) == 1 or (path[0] in DOTTED and not _begun(path[0], tables)))
    if table or dotted:
        at = _behind_key(text, known, table, path)
        return f"{text[:at]}{key_text(path[len(table) :])} = {value}\n{text[at:]}"
    return _new_table(text, known, path, value)


def _prefixes(path: Key) -> list[Key]:
    return [path[:length] for length in range(1, len(path))]


def _begun(name: str | int, tables: set[Key]) -> bool:
    return any(table[0] == name for table in tables)


def _behind_key(text: str, known: Sequence[Statement], table: Key, path: Key) -> int:
    """Where a line of a table goes: behind its kin, else behind the table's last key, else behind its header."""
    own = [found for found in known if found.table == table]
    kin = [found for found in own if not found.header and found.path[: len(table) + 1] == path[: len(table) + 1]]
    last = (kin or own)[-1:]
    return _line_end(text, last[0].end) if last else 0


def _new_table(text: str, known: Sequence[Statement], path: Key, value: str) -> str:
    """A table with one key, behind the last of its kin, else at the end of the file."""
    if isinstance(path[1], int):
        table, header = path[:2], f"[[{key_text(path[:1])}]]"
    else:
        table, header = path[:2], f"[{key_text(path[:2])}]"
    kin = [found for found in known if found.table[:1] == path[:1]]
    at = _block_end(text, known, kin[-1]) if kin else len(text)
    gap = "\n" if at else ""
    return f"{text[:at]}{gap}{header}\n{key_text(path[len(table) :])} = {value}\n{text[at:]}"


# Lines that go -------------------------------------------------------------------------------------------------------


def _without(text: str, path: Key) -> str:
    known = statements(text)
    gone = [found for found in known if found.path[: len(path)] == path]
    tables = {found.path for found in gone if found.header}
    # From below, so that places above stay what they were.
    for found in reversed(gone):
        start = _commented_from(text, _line_start(text, found.start))
        if found.header:
            last = [own for own in known if own.table == found.path][-1]
            end = _block_end(text, statements(text), last)
            start -= text[:start].endswith("\n\n")
            text = text[:start] + text[end:]
        elif found.table not in tables:
            text = text[:start] + text[_line_end(text, found.end) :]
    return text


def _commented_from(text: str, start: int) -> int:
    """Where the comment begins that stands directly above a line."""
    while start:
        above = _line_start(text, start - 1)
        if _COMMENT.match(text, above) is None:
            break
        start = above
    return start


def _block_end(text: str, known: Sequence[Statement], last: Statement) -> int:
    """Behind a table's last key, and behind the comment directly below, unless that belongs to the next header."""
    end = at = _line_end(text, last.end)
    while at < len(text) and _COMMENT.match(text, at):
        at = _line_end(text, at)
    return end if any(_line_start(text, found.start) == at for found in known) else at


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Behind the line feed of the line that a place is on."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1
