"""What is known of a row: the results of its claims, packed small, merged over several askings, and judged. Pure.

A claim that was answered or denied is settled and never asked again; one that was unavailable is asked again, alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from exchange.client.case import Answer, ClaimResult, Ruling, Status
from exchange.client.outcome import judge
from exchange.sweep.mapping import Template
from policy.model import Matter

_PACKED = struct.Struct(">HBBBBHIH")

MAX_TEMPLATES: Final = 1024
"""Claims about a row."""


class Finding(NamedTuple):
    """What is known of one claim about one subject, or pair of subjects, of a row.

    Attributes:
        claim: Which claim.
        ordinal: Which subject of its slot.
        compared: Which compared subject.
        reason: Name of the reason; empty if answered.
        as_of: Last load of the owner's data, in seconds since the epoch; 0 if unknown.
        counter: Where it is disputed; empty for YES.
    """

    claim: int
    ordinal: int
    compared: int
    status: Status
    answer: Answer
    reason: str
    as_of: int
    counter: str

    @property
    def settled(self) -> bool:
        """Whether asking again would be asking twice."""
        return self.status is not Status.UNAVAILABLE

    @property
    def word(self) -> str:
        """YES, NO, UNKNOWN, DENIED or UNAVAILABLE."""
        return self.answer.name if self.status is Status.ANSWERED else self.status.name


def finding_of(result: ClaimResult, index: int) -> Finding:
    """What a result says of a claim."""
    return Finding(
        index,
        result.ordinal,
        result.compared_ordinal,
        result.status,
        result.answer,
        result.reason.name if result.reason is not None else "",
        result.data_as_of or 0,
        result.counter,
    )


def pack(findings: Iterable[Finding], number: Callable[[str], int]) -> bytes:
    """Findings as bytes; 14 for each.

    Args:
        findings: Of one row.
        number: Gives the number under which a word is remembered.
    """
    return b"".join(
        _PACKED.pack(
            one.claim,
            one.ordinal,
            one.compared,
            one.status,
            one.answer,
            number(one.reason),
            min(max(one.as_of, 0), 0xFFFFFFFF),
            number(one.counter),
        )
        for one in findings
    )


def unpack(data: bytes, word: Callable[[int], str]) -> list[Finding]:
    """The reverse of `pack`."""
    return [
        Finding(claim, ordinal, compared, Status(status), Answer(answer), word(reason), as_of, word(counter))
        for claim, ordinal, compared, status, answer, reason, as_of, counter in _PACKED.iter_unpack(data)
    ]


def merge(before: Iterable[Finding], now: Iterable[Finding]) -> list[Finding]:
    """What is known after another asking: what was settled stays, whatever came later."""
    found = {one[:3]: one for one in before}
    for one in now:
        known = found.get(one[:3])
        if known is None or not known.settled:
            found[one[:3]] = one
    return sorted(found.values(), key=lambda one: one[:3])


def open_claims(findings: Iterable[Finding], everything: int) -> int:
    """Mask of the claims that have no settled answer about everybody.

    Args:
        findings: Of one row.
        everything: Mask of all claims.
    """
    unsettled = everything
    for one in findings:
        unsettled &= ~(1 << one.claim)
    for one in findings:
        if not one.settled:
            unsettled |= 1 << one.claim
    return unsettled


def owners_mask(templates: Sequence[Template], owner: str) -> int:
    """Mask of the claims that go to one owner."""
    return sum(1 << index for index, one in enumerate(templates) if one.claim.owner == owner)


class Judge:
    """Says what the matter's rule makes of a row; remembers what followed from the same findings.

    Args:
        matter: Whose rule.
        templates: What is asked.
    """

    def __init__(self, matter: Matter, templates: Sequence[Template]) -> None:
        names = {str(claim): name for name, claim in matter.claims.items()}
        only = next(iter(matter.slots)) if len(matter.slots) == 1 else ""
        self._names = tuple(names.get(one.text, "") for one in templates)
        self._slots = tuple((one.claim.slot or only, one.claim.compared_slot) for one in templates)
        self._rule = matter.rule if set(matter.claims) <= set(self._names) and matter.points is None else None
        self._known: dict[tuple[tuple[int, ...], ...], Ruling] = {}

    def __call__(self, findings: Sequence[Finding]) -> Ruling:
        """The ruling; NONE if the rule's claims were not all asked."""
        if self._rule is None or not findings:
            return Ruling.NONE
        key = tuple([(one.claim, one.ordinal, one.compared, one.status, one.answer) for one in findings])
        ruling = self._known.get(key)
        if ruling is None:
            ruling = judge(
                self._rule,
                [
                    (self._names[one.claim], self._ordinals(one), one.status, one.answer)
                    for one in findings
                    if self._names[one.claim]
                ],
            )
            if len(self._known) < MAX_TEMPLATES * 4:
                self._known[key] = ruling
        return ruling

    def _ordinals(self, one: Finding) -> Mapping[str, int]:
        slot, compared = self._slots[one.claim]
        return {slot: one.ordinal} if compared is None else {slot: one.ordinal, compared: one.compared}
