"""What a compared text means: one canonical form for each guess, and the spellings that a column may have of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from adapters.dialects import spell_list
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.names import canonical_name, name_spellings

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def spell(kind: str, text: str, schemes: Mapping[str, Scheme], today: date) -> tuple[str, str] | None:
    """Canonical form of a compared text and what the statement takes for it; None if it is not of the type.

    Args:
        kind: Type of the attribute.
        text: What is compared with.
        schemes: Scheme of each kind of subject.
        today: No identifier is of a person who is born later.
    """
    if _CONTROL.search(text) is not None:
        # The separator of spellings is one: a value that holds it would be many guesses for the price of one.
        return None
    if kind in _PLAIN:
        plain = _PLAIN[kind](text)
        return None if plain is None else (plain, plain)
    if kind == "code":
        return (text, spell_list((text,))) if text else None
    try:
        if kind == "text":
            name = canonical_name(text)
            return (name, spell_list(dict.fromkeys((*name_spellings(name), text)))) if name else None
        scheme = schemes[kind]
        identifier = scheme.canonical(text, today=today)
    except (RefusedError, KeyError):
        return None
    return identifier, spell_list(scheme.spellings(identifier))


def _integer(text: str) -> str | None:
    return text if _INTEGER.fullmatch(text) and text != "-0" else None


def _decimal(text: str) -> str | None:
    """Without zeros at the end: one number, one guess."""
    if not _DECIMAL.fullmatch(text):
        return None
    plain = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if plain == "-0" else plain


def _day(text: str) -> str | None:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


_PLAIN = {"integer": _integer, "decimal": _decimal, "date": _day}
"""Types whose canonical form is what the statement takes."""
