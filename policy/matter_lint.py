"""Matters that are not wrong by themselves but do not fit what owners publish, or have classes that never count.

A finding names its claim or class by the key of the matter's file, or the attribute by that of its owner's document:
each is told whoever changes either. Grants are `lint.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from policy.document import Mistake
from policy.model import Attribute, Directory, Document, Matter, Points, Rule
from policy.points import whole_cells
from zhiwang.wire.claims import Claim

_SHOWN: Final = 6
"""Cells, or gaps between them, that a finding lists at most."""


def lint_matter(matter: Matter, directory: Directory) -> Iterator[Mistake]:
    """What is strange about a matter beside the owners' documents.

    Args:
        matter: As it would be published.
        directory: As it would be with this matter in it (`policy.rehearse.rehearsed`). Owners that have no document yet
            are passed over.
    """
    for name, claim in matter.claims.items():
        document = directory.documents.get(claim.owner)
        if document is not None:
            attribute = document.attributes.get(claim.attribute)
            fault = _unpublished(matter, claim, attribute)
            if fault is not None:
                yield Mistake(("claims", name), f"would always be denied: {claim.owner} {fault}")
            if attribute is not None and matter.points is not None and name == matter.points.each:
                fault = _open_between(attribute)
                if fault is not None:
                    yield Mistake(("points", "each"), f"{name} never gives some numbers: {claim.owner} {fault}")
    if matter.points is not None and matter.rule is not None:
        for index, earlier in _shadowed(matter.points, matter.rule):
            message = f"never counts: class[{earlier}] stands before it and fits everybody whom this one fits"
            yield Mistake(("points", "class", index, "when"), message)


def lint_published(document: Document, directory: Directory) -> Iterator[Mistake]:
    """Where a document does not publish what matters ask of its attributes.

    Args:
        document: As it would be published.
        directory: As it would be with this document in it.
    """
    for matter in directory.matters.values():
        for name, claim in matter.claims.items():
            attribute = document.attributes.get(claim.attribute) if claim.owner == document.department else None
            if attribute is None:
                continue  # not everything that a matter asks has to be offered
            key = ("attribute", claim.attribute)
            fault = _unpublished(matter, claim, attribute)
            if fault is not None:
                yield Mistake(key, f"{matter.name}'s {name} would always be denied: this {fault}")
            if matter.points is not None and name == matter.points.each:
                fault = _open_between(attribute)
                if fault is not None:
                    yield Mistake(
                        (*key, "at_least"),
                        f"{matter.name} gives points by it and never gets some numbers: this {fault}",
                    )


def _unpublished(matter: Matter, claim: Claim, attribute: Attribute | None) -> str | None:
    """Why a claim is denied whoever asks, said of the owner; None if it is not."""
    if attribute is None:
        return f"publishes no {claim.attribute}"
    slots, cells = matter.slots, attribute.cells(claim.predicate)
    kind = slots[claim.slot].kind if claim.slot is not None else attribute.subject
    compared = slots[claim.compared_slot].kind if claim.compared_slot is not None else attribute.type
    day = matter.reference_date
    faults = (
        (kind != attribute.subject, f"answers about {attribute.subject}, and {claim.slot} is {kind}"),
        (claim.predicate not in attribute.predicates, f"does not publish {claim.predicate} of {claim.attribute}"),
        (compared != attribute.type, f"relates to {attribute.type}, and {claim.compared_slot} is {compared}"),
        (
            claim.cell is not None and claim.cell not in cells,
            f"publishes {claim.predicate} {_listed(cells)} of {claim.attribute}, and not {claim.cell}",
        ),
        (
            attribute.dates is not None and day is not None and day not in attribute.dates,
            f"does not open {claim.attribute} to {day}",
        ),
    )
    return next((text for wrong, text in faults if wrong), None)


def _open_between(attribute: Attribute) -> str | None:
    """Which numbers cannot be told apart by the published cells; None if every one up to the last can."""
    cells = whole_cells(attribute.at_least)
    gaps = [f"{low} to {high - 1}" for low, high in pairwise((0, *cells)) if high - low > 1]
    if cells and not gaps:
        return None
    passed_over = len(attribute.at_least) - len(cells)
    apart = (
        f"publishes at_least {_listed(list(map(str, cells)))}, so {_listed(gaps)} cannot be told apart and stay open"
    )
    return apart + (f"; {passed_over} cells that are no whole numbers are passed over" if passed_over else "")


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > _SHOWN:
        return f"{', '.join(texts[: _SHOWN - 2])}, … {texts[-1]} ({len(texts)} in all)"
    return ", ".join(texts) or "nothing"


def _shadowed(points: Points, rule: Rule) -> Iterator[tuple[int, int]]:
    """Classes that are never the first that fits, each with an earlier one that fits whoever fits it."""
    for index, one in enumerate(points.classes):
        for before, earlier in enumerate(points.classes[:index]):
            if all(any(_implies(points, rule, name, wanted) for name in one.when) for wanted in earlier.when):
                yield index, before
                break


def _implies(points: Points, rule: Rule, name: str, wanted: str) -> bool:
    """Whether something that holds within a class makes something else hold, about whomever it must hold."""
    if wanted in points.every and name not in points.every:
        return False
    return name == wanted or set(rule.group(name) or (name,)) <= set(rule.any.get(wanted, ()))
