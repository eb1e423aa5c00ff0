"""Make docs/configuration.md from the models of our TOML files and the examples in examples/reference.

`python dev/make_config_docs.py` writes it; with `--check` it writes nothing and exits 1 when what is committed differs.
A key takes its meaning from the `Attributes` section of its model's docstring, type, default and bounds from the
model itself; a key without a meaning fails the generation.
"""

from __future__ import annotations

import inspect
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adapters.mapping import Mapping as MappingFile
from dev.written import LackingError, write_or_compare
from exchange.sweep.mapping import RosterColumns
from policy.shapes import ActivationFile, CentreFile, DocumentFile, MatterFile, SuspendFile
from zhiwang.wire.places import Level
from zhiwang.wire.profile import ProfileFile
from zhiwang.wire.tomlfile import Form, StrictModel

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLES = ROOT / "examples" / "reference"

FILES: Mapping[str, tuple[type[StrictModel], str]] = {
    "profile.toml": (ProfileFile, "Who I am and whom I talk to. Every process and every command begins with one."),
    "mapping.toml": (MappingFile, "Where an owner's facts lie. Private, beside the database."),
    "document.toml": (DocumentFile, "What a department says to others. Public, signed by two of its admins."),
    "matter.toml": (MatterFile, "A public service for which one asks. Public, signed by the centre."),
    "centre.toml": (CentreFile, "Who belongs, and what nobody may do. Public, signed by the centre."),
    "suspend.toml": (SuspendFile, "What stops at once. Public, signed by one of a department's admins."),
    "emergency.toml": (
        ActivationFile,
        "What is open for hours. Public, made by `zhiwang policy activate`, signed by one of a department's admins.",
    ),
    "roster.toml": (RosterColumns, "Which column of a roster is what, for `zhiwang sweep --mapping`. Private."),
}
"""Every file that people write, with its model and what it is for."""

HEAD = """# Configuration: every key of every file

Made by `dev/make_config_docs.py` from the models and from `examples/reference/`; do not edit, but run `make docs`.
How the files are meant to be used is in [files.md](files.md), and for mappings in [adapter.md](adapter.md).

Unknown keys are refused, and every mistake is named by file, line and key, all at once. Paths are relative to the file
in which they stand. Nothing else configures a process: no setting that is not here, and no environment variable but
`ZHIWANG_PROFILE`, which stands for `--profile`, and systemd's `NOTIFY_SOCKET` and `WATCHDOG_USEC`. `NAME` is a name of
your own; `[[…]]` may stand several times.
"""

_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w+): ((?:.*\n?)(?:^      +.*\n?)*)", re.MULTILINE)
_OWN_HEADER = re.compile(r"\A\[.*?\]: ")
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", date: "date", Any: "value"}


class UndescribedError(LackingError):
    """A key has no meaning in its model's docstring."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file.

    Attributes:
        header: As TOML writes it, without the brackets; empty for the top of the file.
        repeated: Whether it may stand several times.
        model: Its shape.
        path: Path of keys from the top of the file; "*" stands for any name or place.
    """

    header: str
    repeated: bool
    model: type[StrictModel]
    path: tuple[str, ...]


def page() -> str:
    """The whole page.

    Raises:
        UndescribedError: With every key that has no meaning.
    """
    missing = [
        f"{table.model.__module__}.{table.model.__qualname__}.{name}"
        for model, _ in FILES.values()
        for table in tables(model)
        for name in table.model.model_fields
        if name not in meanings(table.model)
    ]
    if missing:
        raise UndescribedError(f"say in the Attributes of the docstring what these mean: {', '.join(missing)}")
    return HEAD + "".join(_file(name, model, purpose) for name, (model, purpose) in FILES.items())


def tables(model: type[StrictModel]) -> list[Table]:
    """All tables of a file, each after the one in which it stands."""
    return list(_below(Table("", repeated=False, model=model, path=())))


def _below(table: Table) -> Iterator[Table]:
    yield table
    for name, field in table.model.model_fields.items():
        key = field.alias or name
        for model, steps in _models(field.annotation):
            parts = ["NAME" for step in steps if step == "name"]
            header = ".".join(filter(None, (table.header, key, *parts)))
            path = (*table.path, key, *("*" for _ in steps))
            yield from _below(Table(header, "place" in steps, model, path))


def _models(annotation: Any, steps: tuple[str, ...] = ()) -> Iterator[tuple[type[StrictModel], tuple[str, ...]]]:
    """Models within a type, each with the names and places that lead to it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        yield annotation, steps
    elif origin is dict:
        yield from _models(arguments[1], (*steps, "name"))
    elif origin is tuple:
        yield from _models(arguments[0], (*steps, "place"))
    elif origin is Annotated:
        yield from _models(arguments[0], steps)
    else:
        for argument in arguments:
            yield from _models(argument, steps)


def meanings(model: type[StrictModel]) -> dict[str, str]:
    """What each key means, by the name of its field, from the docstrings of the model and its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        section = _ATTRIBUTES.search(inspect.cleandoc(base.__doc__ or "") + "\n")
        if section is not None:
            found |= {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(section[1])}
    return found


def example(data: Any, path: tuple[str, ...]) -> Any:
    """The first value at a path, in which "*" stands for any name or place.

    Raises:
        KeyError: There is none.
    """
    if not path:
        return data
    if path[0] == "*":
        for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
            try:
                return example(value, path[1:])
            except KeyError:
                continue
    elif isinstance(data, dict) and path[0] in data:
        return example(data[path[0]], path[1:])
    raise KeyError(path)


def examples_of(name: str) -> list[Path]:
    """Examples of a kind of file, which show every key between them: mapping.toml, mapping-files.toml."""
    return sorted(EXAMPLES.glob(f"{Path(name).stem}*.toml"), key=lambda path: len(path.name))


def _file(name: str, model: type[StrictModel], purpose: str) -> str:
    texts = [path.read_text(encoding="utf-8") for path in examples_of(name)]
    # As if the examples were tables of one array, so that the first that has a key shows it.
    data = [tomllib.loads(text) for text in texts]
    parts = [f"\n## {name}\n\n{purpose}\n"]
    for table in tables(model):
        if table.header:
            brackets = "[[{}]]" if table.repeated else "[{}]"
            parts.append(f"\n### `{brackets.format(table.header)}`\n\n{_summary(table.model)}\n")
        parts.append("\n| key | type | default | meaning | example |\n|---|---|---|---|---|\n")
        told = meanings(table.model)
        for field_name, field in table.model.model_fields.items():
            key = field.alias or field_name
            cells = (f"`{key}`", type_of(field), default_of(field), told[field_name], _shown(field, data, table, key))
            parts.append(_row(cells))
    parts += [f"\n```toml\n{text}```\n" for text in texts]
    return "".join(parts)


def _shown(field: FieldInfo, data: Any, table: Table, key: str) -> str:
    """The example of a key; a table of its own shows its keys by itself."""
    if any(_models(field.annotation)):
        return "below"
    try:
        return f"`{_toml(example(data, ('*', *table.path, key)))}`"
    except KeyError:
        return "–"


def _row(cells: tuple[str, ...]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _summary(model: type[StrictModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "")
    return " ".join(_OWN_HEADER.sub("", _ATTRIBUTES.sub("", text + "\n")).split())


def type_of(field: FieldInfo) -> str:
    """Type and bounds of a field, in words."""
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, metadata: Any) -> str:  # noqa: PLR0911 - one for each kind of type
    for one in metadata:
        if isinstance(one, Form):
            return one.text
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [part for one in annotation.__metadata__ for part in (one.metadata if _is_field(one) else [one])]
        return _words(arguments[0], [*inner, *metadata])
    if origin in {Union, types.UnionType}:
        words = dict.fromkeys(_words(part, metadata) for part in arguments if part is not type(None))
        return " or ".join(words)
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in arguments)
    if origin is dict:
        return f"table of names; each {_words(arguments[1], ())}"
    if origin is tuple:
        return f"list; each {_words(arguments[0], ())}"
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        return "table"
    return ", ".join((_PLAIN[annotation], *_bounds(metadata)))


def _is_field(one: object) -> bool:
    return isinstance(one, FieldInfo)


def _bounds(metadata: Any) -> Iterator[str]:
    for one in metadata:
        match one:
            case Ge():
                yield f"at least {one.ge}"
            case Gt():
                yield f"more than {one.gt}"
            case Le():
                yield f"at most {one.le}"
            case Lt():
                yield f"less than {one.lt}"
            case MinLen():
                yield f"at least {one.min_length} characters"
            case MaxLen():
                yield f"at most {one.max_length} characters"
            case StringConstraints():
                if one.min_length is not None:
                    yield f"at least {one.min_length} characters"
                if one.max_length is not None:
                    yield f"at most {one.max_length} characters"
                if one.pattern is not None:
                    yield f"`{one.pattern}`"
            case _ if getattr(one, "pattern", None):  # pydantic's own metadata of Field(pattern=…)
                yield f"`{one.pattern}`"


def default_of(field: FieldInfo) -> str:
    """What holds when the key is left out."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, StrictModel):
        return "the defaults below"
    if isinstance(value, tuple) and not value:
        forms = [one for one in field.metadata if isinstance(one, Form)]
        return f"`{forms[0].empty}`" if forms else "none"
    if isinstance(value, dict) and not value:
        return "none"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    """A value as a TOML file would say it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Level):
        return f'"{value.word}"'
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
    return str(value)


def main() -> None:
    """Write, or compare."""
    write_or_compare(__doc__, PAGE, page, "the models say")


if __name__ == "__main__":
    main()
