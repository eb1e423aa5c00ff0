"""Changing a department's files as text: comments, order and spelling of everything else stay as they are.

An edit names a key as the file does, a grant or an emergency by its id: `grant.enrolment-pension.not_after`,
`system.counter.roles`, `attribute.pension_months.title.en`, `assert[0].place`. What the edits mean is worked out on the
values as well, and the edited text is read again and held against that: it says what was asked for and nothing else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from itertools import pairwise
from typing import Any, Final, NamedTuple, NoReturn

import tomlkit
from tomlkit.exceptions import TOMLKitError

from policy import textedit
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tomlfile import FileError, parse
from zhiwang.wire.tomllines import Key

_PART = re.compile(r"""(?:^|\.)(?:([A-Za-z0-9_-]+)|"([^"\\]+)"|'([^']+)')|\[([0-9]{1,6})\]""")
_NAMED: Final = frozenset({"grant", "emergency"})
"""Arrays of tables whose elements have names, their `id`."""

_TABLES: Final = _NAMED | {"assert"}
"""Arrays of tables; an empty one says as much as none."""

_BOM = "\ufeff"


class How(Enum):
    """What an edit does."""

    SET = "set"
    ADD = "add"
    REMOVE = "remove"


class Edit(NamedTuple):
    """One change.

    Attributes:
        key: Path of the key in the file, with the id of a grant or an emergency in place of its number.
        value: What it is set to; what is added to a list or taken out of one. None takes the key itself away.
        literal: The value as TOML.
    """

    how: How
    key: Key
    value: Any = None
    literal: str = ""


def edit(how: How, key: Key, value: Any) -> Edit:
    """An edit whose value is a Python value."""
    return Edit(how, key, value, _literal(value))


def parse_edit(how: How, text: str) -> Edit:
    """An edit as people type it: KEY=VALUE, or KEY alone to remove it.

    The value is TOML, as in the file; what is no TOML is a text, so that `edu/clerk` needs no quotes.

    Raises:
        RefusedError: DOCUMENT_INVALID.
    """
    key, at = [], 0
    while match := _PART.match(text, at):
        if not at and match[4] is not None:
            break
        bare, basic, literal, number = match.groups()
        key.append(int(number) if number is not None else next(name for name in (bare, basic, literal) if name))
        at = match.end()
        if text[at : at + 1] not in {".", "["}:
            break
    rest = text[at:].lstrip()
    if not key or (rest and not rest.startswith("=")) or (not rest and how is not How.REMOVE):
        wanted = "KEY or KEY=VALUE" if how is How.REMOVE else "KEY=VALUE"
        _refuse(f"an edit is written {wanted}, as grant.enrolment-pension.not_after=2027-03-01, not {text}")
    if not rest:
        return Edit(how, tuple(key))
    written = rest[1:].strip()
    try:
        # Within brackets a comment or a second value would show.
        (value,) = parse(f"v = [{written}]".encode())["v"]
        parse(f"v = {written}".encode())
    except ValueError:
        return edit(how, tuple(key), written)
    return edit(how, tuple(key), written) if "\n" in written else Edit(how, tuple(key), value, written)


def edited(content: bytes, edits: Iterable[Edit]) -> bytes:
    """A file with some of its keys changed; everything else keeps its bytes.

    First what is set, then what is added, then what is removed.

    Args:
        content: The file.
        edits: What to change.

    Raises:
        RefusedError: DOCUMENT_INVALID: an edit is about something that is not there, or the file is written in a way
            in which it cannot be edited. Whether the edited file is a sound document is not looked at.
    """
    mark, text, ending = _text(content)
    data = tomllib.loads(text)
    try:
        text = _edited(text, data, edits)
        same = _told(tomllib.loads(text)) == _told(data)
    except (LookupError, TypeError, ValueError, TOMLKitError, RecursionError):
        same = False
    if not same:
        _refuse("the file is written in a way in which it cannot be edited like this; edit it by hand")
    return (mark + text.replace("\n", ending)).encode()


def suspended(content: bytes | None, department: str, entry: Mapping[str, str | date]) -> bytes:
    """suspend.toml with one more entry.

    Args:
        content: In force; None for none yet.
        department: Whose file it is.
        entry: Keys of `[[suspend]]`.
    """
    file = tomlkit.document()
    if content is None:
        file["department"] = department
        content = tomlkit.dumps(file).encode()
    count = len(tomllib.loads(_text(content)[1]).get("suspend", []))
    return edited(content, [edit(How.SET, ("suspend", count, key), value) for key, value in entry.items()])


def lifted(content: bytes, ids: Sequence[str]) -> bytes:
    """document.toml with more lifted suspensions."""
    known = tomllib.loads(_text(content)[1]).get("lifted", [])
    fresh = [name for name in dict.fromkeys(ids) if name not in known]
    return edited(content, [edit(How.ADD, ("lifted",), name) for name in fresh])


# What edits mean: on the values, and beside them on the text ---------------------------------------------------------


def _edited(text: str, data: dict[str, Any], edits: Iterable[Edit]) -> str:
    """The edited text; `data` becomes what it must say."""
    order = {how: place for place, how in enumerate(How)}
    gone: set[Key] = set()
    for step in sorted(edits, key=lambda one: order[one.how]):
        if step.how is How.SET:
            text = _set(text, data, step)
        elif step.how is How.ADD:
            text = _add(text, data, step)
        else:
            gone.add(_found(data, step))
    # From behind, so that elements before keep their numbers.
    for path in sorted(gone, key=lambda path: [(type(part).__name__, part) for part in path], reverse=True):
        holder = _at(data, path[:-1])
        text = textedit.take(text, path)
        del holder[path[-1]]
    return text


def _set(text: str, data: dict[str, Any], step: Edit) -> str:
    path = _resolved(data, step.key, new=True)
    if isinstance(step.value, dict) and _is_item(path):
        if not step.value:
            _refuse(f"{textedit.key_text(step.key)}: say which keys it has")
        for name, value in step.value.items():
            text = _set(text, data, edit(How.SET, (*step.key, name), value))
        return text
    if _at(data, path[:2]) is None and path[:2] != step.key[:2] and step.key[2:] != ("id",):
        text = _set(text, data, edit(How.SET, (*path[:2], "id"), step.key[1]))  # named, and not there yet
    holder: Any = data
    for part, following in pairwise(path):
        holder = _entered(holder, part, following, step)
    last = path[-1]
    if isinstance(holder, list) and last == len(holder):
        _refuse(f"{_name(step.key)}: there is no such element; add one")
    if not _takes(holder, last):
        _refuse(f"{_name(step.key)}: there is nothing that could have such a key")
    holder[last] = step.value
    return textedit.put(text, path, step.literal)


def _entered(holder: Any, part: str | int, following: str | int, step: Edit) -> Any:
    """What stands at one part of a path, made if it is not there."""
    if not _takes(holder, part):
        _refuse(f"{_name(step.key)}: there is nothing that could have such a key")
    if isinstance(holder, list) and isinstance(part, int):
        if part == len(holder):
            holder.append({})
        return holder[part]
    return holder.setdefault(part, [] if isinstance(following, int) else {})


def _takes(holder: Any, part: str | int) -> bool:
    if isinstance(holder, list):
        return isinstance(part, int) and part <= len(holder)
    return isinstance(holder, dict) and isinstance(part, str)


def _add(text: str, data: dict[str, Any], step: Edit) -> str:
    path = _resolved(data, step.key, new=True)
    values = _at(data, path)
    if values is None:
        values = []
        if not isinstance(step.value, dict):
            return _set(text, data, Edit(How.SET, step.key, [step.value], f"[{step.literal}]"))
    if not isinstance(values, list):
        # One value stands for a list of one, as a grant's place does.
        return _set(text, data, edit(How.SET, step.key, [values, step.value]))
    if path[0] in _TABLES and len(path) == 1:
        if not isinstance(step.value, dict):
            _refuse(f'{_name(step.key)}: add a table, as {{deny = "…", role = "…", matter = "…", place = "…"}}')
        if path[0] in _NAMED and "id" not in step.value:
            _refuse(f"each {path[0]} has an id")
        count = len(values)
        for name, value in sorted(step.value.items(), key=lambda item: item[0] != "id"):
            text = _set(text, data, edit(How.SET, (path[0], count, name), value))
        return text
    if step.value in values:
        _refuse(f"{_name(step.key)} has {step.literal} already")
    place = _place(values, step.value)
    values.insert(place, step.value)
    return textedit.put_element(text, (*path, place), step.literal)


def _place(values: list[Any], value: Any) -> int:
    """Cells and dates rise; other lists grow at their end."""
    if isinstance(value, int | float | date) and all(type(one) is type(value) for one in values):
        return next((place for place, one in enumerate(values) if one > value), len(values))
    return len(values)


def _found(data: dict[str, Any], step: Edit) -> Key:
    """Path of what is to be removed."""
    path = _resolved(data, step.key, new=False)
    values = _at(data, path)
    if values is None:
        _refuse(f"there is no {_name(step.key)}")
    if not step.literal:
        return path
    places = [place for place, one in enumerate(values if isinstance(values, list) else ()) if _is(one, step.value)]
    if len(places) != 1:
        _refuse(f"{_name(step.key)}: {len(places) or 'none'} of it is {step.literal}, and it must be one")
    return (*path, places[0])


def _is(one: Any, wanted: Any) -> bool:
    """Whether an element is the one that was named; a table by some of its keys."""
    if isinstance(one, dict) and isinstance(wanted, dict):
        return bool(wanted) and wanted.items() <= one.items()
    return type(one) is type(wanted) and bool(one == wanted)


def _resolved(data: dict[str, Any], key: Key, *, new: bool) -> Key:
    """A key with a number in place of the id of a grant or an emergency."""
    kind = key[0]
    if kind not in _NAMED or len(key) == 1 or isinstance(key[1], int):
        return key
    known = data.get(str(kind), [])
    for place, one in enumerate(known):
        if one.get("id") == key[1]:
            return (kind, place, *key[2:])
    if not new:
        _refuse(f"there is no {kind} {key[1]}")
    return (kind, len(known), *key[2:])


def _is_item(path: Key) -> bool:
    """Whether a rule, an attribute or a system stands there: to set it is to set the keys given."""
    return len(path) == len(("attribute", "name")) and path[0] in {*_TABLES, "attribute", "system"}


def _at(data: Any, path: Key) -> Any:
    """What stands at a path; None if nothing does."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _told(data: Any) -> Any:
    """Values without what says nothing: tables and arrays of tables that are empty."""
    if isinstance(data, dict):
        told = {name: _told(value) for name, value in data.items()}
        return {name: value for name, value in told.items() if value != {} and (name not in _TABLES or value != [])}
    return [_told(value) for value in data] if isinstance(data, list) else data


def _text(content: bytes) -> tuple[str, str, str]:
    """A byte order mark if there is one, the text with plain line feeds, and what its lines end in."""
    try:
        parse(content)
        text = content.decode()
    except FileError:
        _refuse("the file is not TOML and cannot be edited")
    mark = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    ends = text.count("\r\n")
    if ends and ends != text.count("\n"):
        _refuse("some lines of the file end otherwise than others; edit it by hand")
    return mark, text.replace("\r\n", "\n"), "\r\n" if ends else "\n"


def _literal(value: Any) -> str:
    """A value as TOML that stands on one line."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{textedit.key_text((name,))} = {_literal(one)}" for name, one in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return str(tomlkit.item(value).as_string())


def _name(key: Key) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.DOCUMENT_INVALID, detail)
