"""How many points a case has, where places are given by points: a class, and one more for each unit of a number. Pure.

Owners tell no numbers. What a claim `at_least` asks is searched for among the published cells by halves, so a number
with 120 cells takes seven asks. Whatever is still open leaves several classes or numbers possible; then the case has a
range of points, never the least of them: however the open answers turn out, if the case passes, its points lie within.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from policy.model import Matter, Points, Rule
from policy.rule import (
    Fact,
    Finding,
    Known,
    Truth,
    Verdict,
    evaluate,
    in_the_way,
    once,
    truth_of,
)
from zhiwang.wire.claims import Claim


class Span(NamedTuple):
    """What a number can still be, both ends included."""

    least: int
    most: int

    @property
    def exact(self) -> bool:
        """Whether it is known."""
        return self.least == self.most


class Score(NamedTuple):
    """The points of a case.

    Attributes:
        ordinal: Which subject of the slot counts; None while that is open.
        classes: Indexes of the classes that remain possible for whoever may count.
        number: Of whoever counts, or whatever it can be for those who may.
        least: Fewest points that remain possible, if the case passes.
        most: Most.
    """

    ordinal: int | None
    classes: tuple[int, ...]
    number: Span
    least: int
    most: int


class Judgement(NamedTuple):
    """What a matter makes of a case.

    Attributes:
        verdict: Passed, check by hand, or data disagrees.
        score: Its points; None where the matter gives none, or the case does not come to them.
        reasons: What keeps it from passing, each answer that is not YES once.
    """

    verdict: Verdict
    score: Score | None
    reasons: tuple[Finding, ...]


class _Standing(NamedTuple):
    """One subject of the slot.

    Attributes:
        counts: Whether the rule holds by it.
        classes: Indexes of classes that it may be in; None stands for no class.
    """

    counts: Truth
    classes: frozenset[int | None]
    span: Span

    def points(self, points: Points) -> Span:
        """What it can have, if it is in a class."""
        bases = [points.classes[one].base for one in self.classes if one is not None]
        return Span(min(bases) + self.span.least, max(bases) + self.span.most)

    @property
    def may(self) -> bool:
        """Whether it may be the one that counts."""
        return self.counts is not Truth.FAILS and self.classes != {None}


# The search for a number.


def span_of(cells: Sequence[int], answers: Mapping[int, Fact]) -> Span:
    """What a number can be by the answers so far, counted from 0 to the last cell.

    Args:
        cells: Published cells of `at_least`, ascending.
        answers: By cell.
    """
    least = max((cell for cell, fact in answers.items() if fact is Fact.YES), default=0)
    most = min((cell - 1 for cell, fact in answers.items() if fact is Fact.NO), default=cells[-1])
    # Where a record changed between two asks the answers may not go together; then it is open between them.
    return Span(least, most) if least <= most else Span(most, least)


def next_cell(cells: Sequence[int], answers: Mapping[int, Fact]) -> int | None:
    """Which cell to ask next; None if no further answer tells more, or one was neither YES nor NO."""
    if any(fact not in {Fact.YES, Fact.NO} for fact in answers.values()):
        return None
    if max((cell for cell, fact in answers.items() if fact is Fact.YES), default=0) >= min(
        (cell for cell, fact in answers.items() if fact is Fact.NO), default=cells[-1] + 1
    ):
        return None
    span = span_of(cells, answers)
    left = [cell for cell in cells if span.least < cell <= span.most and cell not in answers]
    return left[len(left) // 2] if left else None


# What comes of it.


def judge(
    matter: Matter, cells: Sequence[int], findings: Sequence[Finding], asked: Mapping[int, Mapping[int, Fact]]
) -> Judgement:
    """What a matter makes of a case.

    Args:
        matter: With a rule.
        cells: Published cells of the claim that `points.each` names, ascending; not looked at without points.
        findings: Every claim of the matter about every subject, or pair of subjects, of its slots.
        asked: By subject of the points' slot: what was answered to `points.each`, by cell.
    """
    rule, points = matter.rule, matter.points
    if rule is None:
        raise ValueError(f"{matter.name} has no rule")
    verdict = evaluate(rule, findings)
    reasons = in_the_way(rule, findings)
    if points is None or verdict is Verdict.DATA_DISAGREES:
        return Judgement(verdict, None, tuple(reasons))
    known = Known(rule, findings)
    standing = _standings(rule, points, cells, findings, asked)
    may = {ordinal: one for ordinal, one in standing.items() if one.may}
    if not may:
        # No answer that is still open could put anybody into a class.
        reasons += [one for ordinal in standing for one in _leaves(known, points, ordinal) if one.fact is Fact.NO]
        return Judgement(Verdict.DATA_DISAGREES if standing else Verdict.CHECK_BY_HAND, None, tuple(once(reasons)))
    score = _score(points, may)
    if score.ordinal is None or verdict is not Verdict.PASSED:
        verdict = Verdict.CHECK_BY_HAND
        for ordinal, one in may.items():
            if one.counts is Truth.OPEN:
                leaves = [leaf for name in rule.some[points.slot] for leaf in known.about(name, points.slot, ordinal)]
                reasons += [leaf for leaf in leaves if leaf.fact is not Fact.YES]
            if len(one.classes) > 1:
                disputed = _disputed(rule, points, known, ordinal)
                reasons += [
                    leaf
                    for leaf in _leaves(known, points, ordinal)
                    if leaf.fact not in {Fact.YES, Fact.NO} or leaf in disputed
                ]
            if not one.span.exact:
                reasons += known.about(points.each, points.slot, ordinal)
    return Judgement(verdict, score, tuple(once(reasons)))


def searched(
    matter: Matter, cells: Sequence[int], findings: Sequence[Finding], asked: Mapping[int, Mapping[int, Fact]]
) -> dict[int, int]:
    """Whose number to search for, and by which cell to go on.

    Nobody is asked about by whom the rule does not hold, or who is in no class: it would be learned for nothing.

    Args:
        matter: With points.
        cells: As for `judge`.
        findings: As for `judge`.
        asked: As for `judge`.

    Returns:
        By subject of the slot, a cell that was not asked yet.
    """
    rule, points = matter.rule, matter.points
    if rule is None or points is None or evaluate(rule, findings) is Verdict.DATA_DISAGREES:
        return {}
    found = {}
    for ordinal, one in _standings(rule, points, cells, findings, asked).items():
        cell = next_cell(cells, asked.get(ordinal, {})) if one.may and ordinal in asked else None
        if cell is not None:
            found[ordinal] = cell
    return found


def _score(points: Points, may: Mapping[int, _Standing]) -> Score:
    spans = {ordinal: one.points(points) for ordinal, one in may.items()}
    sure = [n for n, one in may.items() if one.counts is Truth.HOLDS and None not in one.classes]
    least = max(spans[n].least for n in sure) if sure else min(one.least for one in spans.values())
    most = max(one.most for one in spans.values())
    winner = next((n for n in sure if spans[n].least == least == most), None)
    counting = [may[winner]] if winner is not None else list(may.values())
    classes = sorted({index for one in counting for index in one.classes if index is not None})
    number = Span(min(one.span.least for one in counting), max(one.span.most for one in counting))
    return Score(winner, tuple(classes), number, least, most)


def _standings(
    rule: Rule,
    points: Points,
    cells: Sequence[int],
    findings: Sequence[Finding],
    asked: Mapping[int, Mapping[int, Fact]],
) -> dict[int, _Standing]:
    known = Known(rule, findings)
    counts = known.some(points.slot) if points.slot in rule.some else {}
    names = {points.each, *(name for one in points.classes for name in one.when)}
    ordinals = sorted({*counts, *known.ordinals(points.slot, names)})
    otherwise = Truth.OPEN if points.slot in rule.some else Truth.HOLDS
    return {
        ordinal: _Standing(
            counts.get(ordinal, otherwise),
            _classes(rule, points, list(findings), ordinal),
            span_of(cells, asked.get(ordinal, {})),
        )
        for ordinal in ordinals
    }


def _classes(
    rule: Rule,
    points: Points,
    findings: list[Finding],
    ordinal: int,
    supposed: Mapping[object, Truth] = MappingProxyType({}),
) -> frozenset[int | None]:
    """Classes in which a subject may be: each open answer, and each disputed fact, that decides is taken both ways."""
    known = Known(rule, findings)
    for index, one in enumerate(points.classes):
        parts = [part for name in one.when for part in _parts(rule, points, known, name, ordinal, supposed)]
        truth = min(part.truth for part in parts)
        if truth is Truth.HOLDS:
            return frozenset({index})
        if truth is Truth.OPEN:
            part = next(part for part in parts if part.truth is Truth.OPEN)
            found: frozenset[int | None] = frozenset()
            if part.fact is not None:
                for way in (Truth.HOLDS, Truth.FAILS):
                    found |= _classes(rule, points, findings, ordinal, {**supposed, part.fact: way})
                return found
            leaf = next((leaf for leaf in part.said if leaf.fact not in {Fact.YES, Fact.NO}), None)
            if leaf is None:
                # A claim that was not asked at all: every later class remains possible, and none.
                return frozenset({*range(index, len(points.classes)), None})
            for fact in (Fact.YES, Fact.NO):
                turned = [replace(other, fact=fact) if other is leaf else other for other in findings]
                found |= _classes(rule, points, turned, ordinal, supposed)
            return found
    return frozenset({None})


class _Part(NamedTuple):
    """One thing that a class needs.

    Attributes:
        said: What was answered about it.
        fact: What tells one fact of several sources from others; None where an answer stands for itself.
        disputed: Whether one of its sources denies it and another does not.
    """

    truth: Truth
    said: Sequence[Finding]
    fact: object = None
    disputed: bool = False


def _parts(
    rule: Rule, points: Points, known: Known, name: str, ordinal: int, supposed: Mapping[object, Truth]
) -> list[_Part]:
    """What a name within a class needs.

    Of several sources of one fact, one that denies it alone lowers nobody's points: while another confirms it, which is
    right nobody knows, and one that is silent might confirm it. All of them have to deny it.
    """
    place = _place(points, name, ordinal)
    if name not in rule.agree:
        return [_Part(known.holds(name, *place), known.about(name, *place))]
    parts = []
    for subjects, sources in known.facts(name, *place).items():
        said = [min((truth_of(one.fact) for one in found), default=Truth.OPEN) for found in sources]
        disputed = Truth.FAILS in said and set(said) != {Truth.FAILS}
        fact = (name, subjects)
        truth = supposed.get(fact, Truth.OPEN if disputed else max(said))
        parts.append(_Part(truth, [one for found in sources for one in found], fact, disputed))
    return parts or [_Part(Truth.OPEN, ())]


def _disputed(rule: Rule, points: Points, known: Known, ordinal: int) -> list[Finding]:
    """Answers by which it is in dispute what a class needs."""
    return [
        said
        for one in points.classes
        for name in one.when
        for part in _parts(rule, points, known, name, ordinal, {})
        for said in part.said
        if part.disputed and said.fact is not Fact.YES
    ]


def _place(points: Points, name: str, ordinal: int) -> tuple[str | None, int]:
    """About whom a name within a class must hold."""
    return (None, 0) if name in points.every else (points.slot, ordinal)


def _leaves(known: Known, points: Points, ordinal: int) -> list[Finding]:
    """The answers by which a subject's class is decided."""
    return [
        leaf
        for one in points.classes
        for name in one.when
        for leaf in known.about(name, *_place(points, name, ordinal))
    ]


def cell_of(claim: Claim) -> int | None:
    """The cell of a claim as a whole number; None if it is none."""
    try:
        return int(claim.cell or "")
    except ValueError:
        return None


def whole_cells(published: Iterable[str]) -> tuple[int, ...]:
    """Published cells that are whole numbers, from 1 on, ascending; by others no number is searched for."""
    return tuple(sorted({int(cell) for cell in published if cell.isdecimal() and int(cell)}))
