"""How much a requester can learn about one value: log2 of the number of classes that the best one can tell apart.

Bounds hold whoever asks and however often, while the value stands still (DESIGN section 11); those of `equals` and
`related` rest on the guess ledger, for one requesting department within one window. That a subject has no readable
record at all (UNKNOWN) is one class more, and the same for every predicate; it is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import log2

from adapters.limits import Limits
from adapters.mapping import DataSet, MappedAttribute, Mapping
from policy.model import Attribute, Document
from zhiwang.wire.claims import Predicate


@dataclass(frozen=True, slots=True)
class Bound:
    """What can be learnt through attributes over one expression.

    Attributes:
        attributes: Their names. More than one are bounded jointly.
        classes: How many values can be told apart.
        per_date: Whether that holds for each reference date anew, because the fact itself moves with the date.
        per_window: Whether part of it rests on the ledger's cap within its window.
    """

    attributes: tuple[str, ...]
    classes: int
    per_date: bool
    per_window: bool

    @property
    def bits(self) -> float:
        """Bits about the value."""
        return log2(self.classes)


def bounds(mapping: Mapping, document: Document) -> list[Bound]:
    """The bound of every mapped and published attribute, those over one expression together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, mapped in mapping.attribute.items():
        if name in document.attributes and mapped.data in mapping.data:
            groups.setdefault(_expression(mapped), []).append(name)
    return [_bound(names, mapping, document.attributes) for names in groups.values()]


def _expression(mapped: MappedAttribute) -> tuple[object, ...]:
    """What makes two attributes speak of one value; spacing does not."""

    def plain(text: str | None) -> str | None:
        return None if text is None else " ".join(text.split())

    valid = None if mapped.valid is None else (plain(mapped.valid.from_), plain(mapped.valid.to))
    return mapped.data, plain(mapped.value), valid, plain(mapped.where), mapped.rows


def _bound(names: list[str], mapping: Mapping, published: Dictionary[str, Attribute]) -> Bound:
    attributes = [published[name] for name in names]
    mapped = mapping.attribute[names[0]]
    least = {edge for attribute in attributes for edge in _edges(attribute, Predicate.AT_LEAST)}
    most = {edge for attribute in attributes for edge in _edges(attribute, Predicate.AT_MOST)}
    # Of several rows, at_least sees the largest value and at_most the smallest: two values.
    classes = (len(least) + 1) * (len(most) + 1) if mapped.rows == "any" else len(least | most) + 1
    asked = {predicate for attribute in attributes for predicate in attribute.predicates}
    # YES or NO of a bare fact; with exists, YES or UNKNOWN.
    classes *= 2 ** len(asked & {Predicate.EXISTS, Predicate.ABSENT, Predicate.VALID})
    guessed = sum(len(attribute.predicates & {Predicate.EQUALS, Predicate.RELATED}) > 0 for attribute in attributes)
    if guessed:
        guesses = guessed * mapping.limits.values
        # One value: each guess that fails excludes one, and the one that succeeds ends it. Several: each tells a bit.
        classes *= 2**guesses if mapped.rows == "any" else guesses + 1
    per_date = _moves(mapped, mapping.data[mapped.data])
    dates = {attribute.dates for attribute in attributes}
    if per_date and None not in dates:
        # The dates are closed: the cells of all of them together.
        classes **= len(frozenset().union(*(one for one in dates if one is not None)))
        per_date = False
    return Bound(tuple(names), classes, per_date, guessed > 0)


def _moves(mapped: MappedAttribute, data: DataSet) -> bool:
    """Whether the fact depends on the reference date."""
    if mapped.valid is not None:
        return True
    return any(":as_of" in (text or "") for text in (mapped.value, mapped.where, data.select))


def _edges(attribute: Attribute, predicate: Predicate) -> set[tuple[Decimal, int]]:
    """Places between values that cells let one see, as (value, 0 for just below it or 1 for just above it)."""
    whole = attribute.type in {"integer", "date"}
    edges = set()
    for cell in attribute.cells(predicate):
        number = Decimal(date.fromisoformat(cell).toordinal()) if attribute.type == "date" else Decimal(cell)
        if predicate is Predicate.AT_LEAST:
            edges.add((number, 0))
        else:
            # Of whole numbers and days, at most 5 is less than 6.
            edges.add((number + 1, 0) if whole else (number, 1))
    return edges


def describe(bound: Bound, limits: Limits) -> str:
    """One line for a person."""
    text = f"{' + '.join(bound.attributes)}: {bound.bits:.1f} bits ({bound.classes} classes)"
    if bound.per_date:
        text += ", for each reference date"
    if bound.per_window:
        text += f", for each department in {limits.days} days"
    return text
