"""Rosters by the machinery of sweeps: what to ask of a row once its claims are settled, and what its line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from exchange.client.case import Ruling, Status
from exchange.matter.judging import Ruled, Rules, Told
from exchange.sweep.cases import CaseReader
from exchange.sweep.findings import Finding
from exchange.sweep.mapping import RosterColumns, Template, templates_of
from exchange.sweep.results import local_time
from policy.points import cell_of
from zhiwang.wire.errors import Reason, RefusedError

JURISDICTION: Final = "jurisdiction"
BECAUSE: Final = "because"
"""Column that names what keeps a case from passing: claim, answer, counter, and as of when the data are."""

_POINTS: Final = ("points", "points_least", "points_most", "class", "counts")
KEPT: Final = 4096
"""Judgements that are remembered by the answers that they follow from."""


def ruled_reader(rules: Rules, columns: RosterColumns) -> CaseReader:
    """What makes cases of rows, asks all claims of the matter, and then searches for the number that gives points.

    Raises:
        MappingError: The columns do not fit the matter.
        RefusedError: CLAIM_SYNTAX: the mapping names claims of its own, so the rule could not be judged.
    """
    if columns.claims:
        raise RefusedError(Reason.CLAIM_SYNTAX, "a matter's rule takes all of its claims; leave claims out")
    own = templates_of(columns, rules.matter)
    points = rules.matter.points
    if points is None:
        return CaseReader(columns, own)
    alone = []
    for ordinal in range(rules.matter.slots[points.slot].up_to):
        for cell in rules.cells:
            claim = rules.claim_at(points, cell)
            if cell != rules.first:
                alone.append(Template(str(claim), claim, str(claim), None, (points.slot, ordinal)))
    templates = (*own, *alone)
    index = {(one.only, cell_of(one.claim)): number for number, one in enumerate(templates) if one.only is not None}
    told_of = _TelledBy(rules, templates)

    def then(findings: Sequence[Finding]) -> int:
        wanted = rules.next(told_of(findings))
        return sum(1 << index[(points.slot, ordinal), cell] for ordinal, cell in wanted.items())

    return CaseReader(columns, templates, then)


class _TelledBy:
    """What findings of a row tell."""

    def __init__(self, rules: Rules, templates: Sequence[Template]) -> None:
        points = rules.matter.points
        only = next(iter(rules.matter.slots)) if len(rules.matter.slots) == 1 else ""
        self._known = []
        for one in templates:
            name = points.each if points is not None and one.only is not None else rules.names[one.text]
            cell = cell_of(one.claim) if points is not None and name == points.each else None
            self._known.append((name, one.claim.slot or only, one.claim.compared_slot, cell, one.only))

    def __call__(self, findings: Sequence[Finding]) -> list[Told]:
        told = []
        for one in findings:
            name, slot, compared, cell, only = self._known[one.claim]
            ordinals = {slot: one.ordinal if only is None else only[1]}
            if compared is not None:
                ordinals[compared] = one.compared
            told.append(Told(name, ordinals, cell, one.status, one.answer, one.reason, one.as_of, one.counter))
        return told


class Telling:
    """Says of a row what its matter makes of it.

    Args:
        rules: Of the matter.
        reader: Made by `ruled_reader`.
        jurisdiction: Where the requester acts.
    """

    def __init__(self, rules: Rules, reader: CaseReader, jurisdiction: str) -> None:
        self._rules = rules
        self._told = _TelledBy(rules, reader.templates)
        self._jurisdiction = jurisdiction
        self._points = rules.matter.points
        self._known: dict[tuple[tuple[int, ...], ...], tuple[Ruled, tuple[int, ...]]] = {}
        told = _POINTS if self._points is not None else ()
        self.headings = (JURISDICTION, BECAUSE, *told)
        # Points change with cells that have no column of their own, and the rule with the matter.
        self.compared = ("ruling", *told)

    def __call__(self, findings: Sequence[Finding], present: Mapping[str, Sequence[int]]) -> tuple[Ruling, list[str]]:
        """The ruling, and what stands under the headings."""
        if not findings:
            return Ruling.NONE, [self._jurisdiction, *[""] * (len(self.headings) - 1)]
        told = self._told(findings)
        ruled, places = self._judge(findings, told)
        because = "; ".join(self._because(told[place], present) for place in places)
        return ruled.ruling, [self._jurisdiction, because, *self._score(ruled, present)]

    def _judge(self, findings: Sequence[Finding], told: Sequence[Told]) -> tuple[Ruled, tuple[int, ...]]:
        key = tuple([(one.claim, one.ordinal, one.compared, one.status, one.answer) for one in findings])
        known = self._known.get(key)
        if known is None:
            ruled = self._rules.judge(told)
            known = ruled, tuple(next(i for i, one in enumerate(told) if one is reason) for reason in ruled.reasons)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = known
        return known

    def _because(self, one: Told, present: Mapping[str, Sequence[int]]) -> str:
        there = {slot: _mapped(present, slot, ordinal) for slot, ordinal in one.ordinals.items()}
        said = [one.word if one.status is Status.ANSWERED else f"{one.word} {one.reason}"]
        said += [one.counter] if one.counter else []
        said += [f"data as of {local_time(one.as_of)}"] if one.as_of else []
        return f"{one._replace(ordinals=there).which(self._rules.matter)}: {', '.join(said)}"

    def _score(self, ruled: Ruled, present: Mapping[str, Sequence[int]]) -> list[str]:
        points, score = self._points, ruled.score
        if points is None:
            return []
        if score is None:
            return [""] * len(_POINTS)
        exact = str(score.least) if ruled.ruling is Ruling.PASSED else ""
        classes = " / ".join(points.classes[one].title.zh for one in score.classes)
        counts = ""
        if score.ordinal is not None:
            counts = f"{points.slot} #{_mapped(present, points.slot, score.ordinal) + 1}: {score.number.least}"
        return [exact, str(score.least), str(score.most), classes, counts]


def _mapped(present: Mapping[str, Sequence[int]], slot: str, ordinal: int) -> int:
    """Which of the mapped subjects the one is that stands there in this row."""
    there = present.get(slot, ())
    return there[ordinal] if ordinal < len(there) else ordinal
