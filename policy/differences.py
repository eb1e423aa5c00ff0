"""What else differs between two directories than who may ask: what is published, and the wording of matters.

`policy.reach.changes` tells the rights; here stand thresholds, dates, roles, members, denies and suspensions, field by
field, so that a reviewer sees every line that a publication changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from typing import Any, NamedTuple

from policy.model import Directory, Document


class Difference(NamedTuple):
    """One thing that was, or is, or was otherwise.

    Attributes:
        path: Which, e.g. ("hrss", "attribute", "pension_months", "at_least").
        before: As text; empty if it was not there.
        after: As text; empty if it is gone.
    """

    path: tuple[str, ...]
    before: str
    after: str


_DERIVED = frozenset({"version", "documents"})
"""Fields that say nothing by themselves."""


def differences(before: Directory, after: Directory) -> Iterator[Difference]:
    """Every published fact that differs, but for versions and for grants that are the same under another number."""
    yield from _mapping(("centre", "department"), before.centre.departments, after.centre.departments)
    yield from _mapping(("centre", "subject"), before.centre.subjects, after.centre.subjects)
    yield from _mapping(("centre", "deny"), _by_id(before.centre.denies), _by_id(after.centre.denies))
    yield from _mapping(("matter",), before.matters, after.matters)
    for department in sorted({*before.documents, *after.documents}):
        yield from _document(department, before.documents.get(department), after.documents.get(department))
    yield from _mapping(("suspend",), _suspensions(before), _suspensions(after))


def _document(department: str, before: Document | None, after: Document | None) -> Iterator[Difference]:
    if before is None or after is None:
        yield Difference((department,), _text(before and before.title), _text(after and after.title))
        return
    yield from _values((department, "title"), before.title, after.title)
    yield from _values((department, "suites"), before.suites, after.suites)
    yield from _mapping((department, "system"), before.roles, after.roles)
    yield from _mapping((department, "attribute"), before.attributes, after.attributes)
    yield from _mapping((department, "grant"), _by_id(before.grants), _by_id(after.grants))
    yield from _mapping((department, "emergency"), _by_id(before.emergencies), _by_id(after.emergencies))
    yield from _mapping((department, "refer"), _by_id(before.referrals), _by_id(after.referrals))
    yield from _mapping((department, "assert"), _by_text(before.assertions), _by_text(after.assertions))


def _mapping(path: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        yield from _values((*path, name), before.get(name), after.get(name))


def _values(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if is_dataclass(before) and is_dataclass(after) and type(before) is type(after):
        for field in fields(before):
            if field.name not in _DERIVED:
                yield from _values((*path, field.name), getattr(before, field.name), getattr(after, field.name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _mapping(path, before, after)
    else:
        yield Difference(path, _text(before), _text(after))


def _text(value: Any) -> str:
    """A value as the files write it, or nearly so."""
    if value is None:
        text = ""
    elif isinstance(value, Enum):
        text = str(value.value) if isinstance(value.value, str) else value.name.lower()
    elif isinstance(value, frozenset):
        text = ", ".join(sorted(map(_text, value))) or "-"
    elif isinstance(value, tuple):
        text = ", ".join(map(_text, value)) or "-"
    elif isinstance(value, Mapping):
        text = "; ".join(f"{name} = {_text(inner)}" for name, inner in sorted(value.items())) or "-"
    elif is_dataclass(value) and type(value).__str__ is object.__str__:
        told = ((field.name, getattr(value, field.name)) for field in fields(value))
        text = "; ".join(f"{name} = {_text(inner)}" for name, inner in told if inner not in (None, (), ""))
    else:
        text = value.isoformat() if isinstance(value, date) else str(value)
    return text


def _by_id(rules: Iterable[Any]) -> dict[str, Any]:
    return {rule.id: rule for rule in rules}


def _by_text(rules: Iterable[Any]) -> dict[str, Any]:
    return {str(rule): rule for rule in rules}


def _suspensions(directory: Directory) -> dict[str, Any]:
    return {f"{entry.department}/{entry.id}": entry for entry in directory.suspensions}
