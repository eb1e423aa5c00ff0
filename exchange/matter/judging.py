"""From what was told about a case to what its matter makes of it, and to what has to be asked next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from exchange.client.case import Answer, Case, ClaimResult, Ruling, Status
from exchange.client.outcome import RULING_OF, fact_of
from policy.model import Directory, Matter, Points
from policy.points import Score, cell_of, judge, searched, whole_cells
from policy.rule import Fact, Finding
from zhiwang.wire.claims import Claim
from zhiwang.wire.errors import Reason, RefusedError


class Told(NamedTuple):
    """What was told about one claim of the matter and certain subjects.

    Attributes:
        name: Of the claim in the matter.
        ordinals: Which subject of each slot.
        cell: Of the claim that gives points; None for others.
        reason: Why there is no answer, by name; empty if there is one.
        as_of: Last load of the owner's data, in seconds since the epoch; 0 if unknown.
        counter: Where it is disputed; empty for YES.
    """

    name: str
    ordinals: Mapping[str, int]
    cell: int | None
    status: Status
    answer: Answer
    reason: str
    as_of: int
    counter: str

    @property
    def word(self) -> str:
        """YES, NO, UNKNOWN, DENIED or UNAVAILABLE."""
        return self.answer.name if self.status is Status.ANSWERED else self.status.name

    @property
    def fact(self) -> Fact:
        """As a rule takes it."""
        return fact_of(self.status, self.answer)

    def which(self, matter: Matter) -> str:
        """Its name, with the number of each subject of a slot that takes several."""
        numbers = [f"{slot} #{ordinal + 1}" for slot, ordinal in self.ordinals.items() if matter.slots[slot].up_to > 1]
        return " ".join([self.name, *numbers])


class Ruled(NamedTuple):
    """What a matter makes of a case.

    Attributes:
        score: Its points; None where there are none.
        reasons: What keeps it from passing.
    """

    ruling: Ruling
    score: Score | None
    reasons: tuple[Told, ...]


class Rules:
    """The rule of one matter, and its points.

    Args:
        matter: With a rule.
        directory: Has the published cells.

    Raises:
        RefusedError: CLAIM_SYNTAX: the matter names no claims, so there is nothing to judge.
    """

    def __init__(self, matter: Matter, directory: Directory) -> None:
        if matter.rule is None:
            raise RefusedError(Reason.CLAIM_SYNTAX, f"the matter {matter.name} names no claims, so it has no rule")
        self.matter = matter
        self.names = {str(claim): name for name, claim in matter.claims.items()}
        self.cells: tuple[int, ...] = ()
        self.first = 0
        """The cell by which the search for the number begins."""
        points = matter.points
        if points is not None:
            claim = matter.claims[points.each]
            attribute = directory.attribute(claim.owner, claim.attribute)
            published = whole_cells(attribute.at_least) if attribute is not None else ()
            self.first = cell_of(claim) or 0
            # Where the claim's own cell is not published it is denied, and the number stays open.
            self.cells = tuple(sorted({*published, self.first}))

    @property
    def rounds(self) -> int:
        """How often one subject's number is asked for, at most, beside the matter's own claim."""
        below = sum(cell < self.first for cell in self.cells)
        return max(below, len(self.cells) - 1 - below).bit_length() if self.cells else 0

    def told(self, one: ClaimResult) -> Told:
        """What a result tells; of a claim of the matter, or of `points.each` at another cell."""
        claim = Claim.parse(one.claim)
        name, cell = self.names.get(one.claim, ""), None
        points = self.matter.points
        if points is not None and name in {"", points.each}:
            name, cell = points.each, cell_of(claim)
        only = next(iter(self.matter.slots)) if len(self.matter.slots) == 1 else ""
        ordinals = {claim.slot or only: one.ordinal}
        if claim.compared_slot is not None:
            ordinals[claim.compared_slot] = one.compared_ordinal
        reason = one.reason.name if one.reason is not None else ""
        return Told(name, ordinals, cell, one.status, one.answer, reason, one.data_as_of or 0, one.counter)

    def judge(self, told: Sequence[Told]) -> Ruled:
        """What the matter makes of a case.

        Args:
            told: All that was told about it.
        """
        found = judge(self.matter, self.cells, *self._findings(told))
        known = {_place(one.name, one.ordinals): one for one in told if one.cell in {None, self.first}}
        # Where the search for a number broke off, that answer is the reason and not the one by which it began.
        known |= {_place(one.name, one.ordinals): one for one in told if one.fact not in {Fact.YES, Fact.NO}}
        reasons = tuple(known[_place(one.claim, one.ordinals)] for one in found.reasons)
        return Ruled(RULING_OF[found.verdict], found.score, reasons)

    def next(self, told: Sequence[Told]) -> dict[int, int]:
        """By subject of the points' slot: the cell to ask next."""
        return searched(self.matter, self.cells, *self._findings(told)) if self.matter.points is not None else {}

    def claim_at(self, points: Points, cell: int) -> Claim:
        """The claim that gives points, at another cell."""
        return replace(self.matter.claims[points.each], cell=str(cell))

    def case_of(self, case: Case, ordinal: int, cell: int) -> Case:
        """A case that asks about the number of one subject, and nothing of anybody else.

        Raises:
            ValueError: The matter gives no points.
        """
        points = self.matter.points
        if points is None:
            raise ValueError(f"{self.matter.name} gives no points")
        subjects = [one for one in case.subjects if one.slot == points.slot]
        return Case((subjects[ordinal],), (str(self.claim_at(points, cell)),), case.key)

    def _findings(self, told: Iterable[Told]) -> tuple[list[Finding], dict[int, dict[int, Fact]]]:
        points = self.matter.points
        findings, asked = [], dict[int, dict[int, Fact]]()
        for one in told:
            if one.cell in {None, self.first}:
                findings.append(Finding(one.name, one.ordinals, one.fact))
            if points is not None and one.cell is not None:
                asked.setdefault(one.ordinals[points.slot], {})[one.cell] = one.fact
        return findings, asked


def _place(name: str, ordinals: Mapping[str, int]) -> tuple[str, tuple[tuple[str, int], ...]]:
    return name, tuple(sorted(ordinals.items()))
