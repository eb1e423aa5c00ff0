"""A matter's table of points as it is written: what is wrong with it by itself. Pure.

What comes of it is `points.py`'s; what is strange about it beside the owners' documents is `matter_lint.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policy.model import Matter, Points, Rule
from policy.points import cell_of
from policy.rule import IDENTITY, claim_slots, claims_of
from zhiwang.wire.claims import Predicate

MAX_LEAVES = 16
"""Answers, at most, on which a class may depend; two to this power ways to turn out are looked at in the worst case."""

Path = tuple[str | int, ...]


def check_points(matter: Matter) -> list[tuple[Path, str]]:
    """What is wrong with a matter's table of points.

    Returns:
        (place, message) for each mistake; places as in the file, e.g. ("points", "class", 0, "when").
    """
    points, rule = matter.points, matter.rule
    if points is None or rule is None:
        return []
    if points.slot not in matter.slots:
        return [(("points", "slot"), "the matter has no such slot")]
    mistakes: list[tuple[Path, str]] = list(_check_each(matter, points))
    if not points.classes:
        mistakes.append((("points", "class"), "is empty; there would be no points"))
    named = {name for one in points.classes for name in one.when}
    mistakes += [(("points", "every"), f"no class names {name}") for name in sorted(points.every) if name not in named]
    for index, one in enumerate(points.classes):
        mistakes += [((*_AT, index, "when"), message) for message in _check_when(matter, rule, points, one.when)]
    if not mistakes and _leaf_count(matter, rule, points, named) > MAX_LEAVES:
        mistakes.append((("points", "class"), f"depends on more than {MAX_LEAVES} answers about one subject"))
    return mistakes


_AT: Path = ("points", "class")


def _check_each(matter: Matter, points: Points) -> Iterable[tuple[Path, str]]:
    claim = matter.claims.get(points.each)
    if claim is None:
        yield ("points", "each"), f"{points.each} is no claim of this matter"
    elif claim.predicate is not Predicate.AT_LEAST or claim.slot != points.slot or cell_of(claim) is None:
        yield ("points", "each"), f"{points.each} must ask at_least of a whole number about {points.slot}"


def _check_when(matter: Matter, rule: Rule, points: Points, when: Sequence[str]) -> Iterable[str]:
    if not when:
        yield "names nothing; the class would fit everybody"
    for name in sorted(set(when)):
        if when.count(name) > 1:
            yield f"{name} stands twice"
        if name not in matter.claims and rule.group(name) is None:
            yield f"{name} is no claim and no group of this matter"
        elif points.each in claims_of(rule, (name,)):
            yield f"{name} counts already, as the number for which it is searched"
    yield from _check_absent(matter, rule, points, when)


def _check_absent(matter: Matter, rule: Rule, points: Points, when: Sequence[str]) -> Iterable[str]:
    """As in a rule: absence counts beside a claim that identifies the same subject, or all of them for `every`."""
    for name in when:
        beside = {*rule.all, *(one for one in when if one in points.every or name not in points.every)}
        if name not in points.every:
            beside.update(rule.some.get(points.slot, ()))
        known = {
            matter.claims[one].slot
            for one in beside
            if one in matter.claims and matter.claims[one].predicate in IDENTITY
        }
        for claim in (matter.claims[one] for one in claims_of(rule, (name,)) if one in matter.claims):
            if claim.predicate is Predicate.ABSENT and claim.slot not in known:
                yield f"{name} asks for absence: require exists, equals or related about {claim.slot} beside it"


def _leaf_count(matter: Matter, rule: Rule, points: Points, named: Iterable[str]) -> int:
    count = 0
    for name in named:
        for claim in (matter.claims[one] for one in claims_of(rule, (name,))):
            of_one = set() if name in points.every else {points.slot}
            ways = 1
            for slot in claim_slots(claim) - of_one:
                ways *= matter.slots[slot].up_to
            count += ways
    return count
