"""The claim syntax: the same words on the command line, in matters, grants and pages (docs/claims.md).

claim     = [slot ": "] owner "." attribute " " predicate
predicate = "exists" | "absent" | "valid" | "report" | ("at_least" | "at_most") " " cell
          | ("equals" | "related") " " (text | "@" slot)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier

NAME = r"[a-z][a-z0-9_]*"
"""Pattern of the names of slots, owners and attributes."""

MAX_CLAIM = 512
"""Longest claim in characters."""

_SLOT = re.compile(rf"({NAME}): +")
_ASK = re.compile(rf"({NAME})\.({NAME}) +([a-z_]+)")
_CELL = re.compile(r"[A-Za-z0-9.+-]{1,32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_COMPARED_SLOT = re.compile(rf"@({NAME})")


class Predicate(StrEnum):
    """How a claim compares; in the words of the syntax."""

    EXISTS = "exists"
    ABSENT = "absent"
    EQUALS = "equals"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    VALID = "valid"
    RELATED = "related"
    REPORT = "report"
    """Not of a record: who asked the owner about the subject. It stands alone in its request."""

    @property
    def number(self) -> sealed_pb2.Predicate.ValueType:
        """Its value on the wire."""
        return _NUMBERS[self]

    @property
    def takes_cell(self) -> bool:
        """Whether it compares with a published threshold."""
        return self in {Predicate.AT_LEAST, Predicate.AT_MOST}

    @property
    def compares(self) -> bool:
        """Whether it compares with a sealed text or subject."""
        return self in {Predicate.EQUALS, Predicate.RELATED}

    @staticmethod
    def from_number(number: int) -> Predicate:
        """The predicate of a value on the wire.

        Raises:
            KeyError: There is none.
        """
        return _PREDICATES[number]


_NUMBERS = {
    Predicate.EXISTS: sealed_pb2.PREDICATE_EXISTS,
    Predicate.ABSENT: sealed_pb2.PREDICATE_ABSENT,
    Predicate.EQUALS: sealed_pb2.PREDICATE_EQUALS,
    Predicate.AT_LEAST: sealed_pb2.PREDICATE_AT_LEAST,
    Predicate.AT_MOST: sealed_pb2.PREDICATE_AT_MOST,
    Predicate.VALID: sealed_pb2.PREDICATE_VALID,
    Predicate.RELATED: sealed_pb2.PREDICATE_RELATED,
    Predicate.REPORT: sealed_pb2.PREDICATE_REPORT,
}
_PREDICATES = {int(number): predicate for predicate, number in _NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a grant is about: an attribute and a predicate, without slot and cell."""

    owner: str
    attribute: str
    predicate: Predicate

    @staticmethod
    def parse(text: str) -> Ask:
        """Read "hrss.pension_months at_least".

        Raises:
            RefusedError: CLAIM_SYNTAX.
        """
        ask, end = _parse_ask(text, 0)
        if end != len(text):
            _refuse("an ask stops before the cell or value")
        return ask

    def __str__(self) -> str:
        return f"{self.owner}.{self.attribute} {self.predicate}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim.

    Attributes:
        slot: Of the subject; None where the case has only one.
        owner: Department.
        attribute: Name within the department.
        predicate: How it compares.
        cell: Threshold of at_least and at_most.
        text: Text that equals or related compares with. May be personal: it belongs in no log.
        compared_slot: Slot that equals or related compares with.
    """

    slot: str | None
    owner: str
    attribute: str
    predicate: Predicate
    cell: str | None = None
    text: str | None = None
    compared_slot: str | None = None

    @staticmethod
    def parse(text: str) -> Claim:
        """Read a claim.

        Raises:
            RefusedError: CLAIM_SYNTAX. Its detail repeats nothing of the text, which may be personal.
        """
        if len(text) > MAX_CLAIM or _CONTROL.search(text):
            _refuse(f"longer than {MAX_CLAIM} characters, or with control characters")
        slot = _SLOT.match(text)
        ask, end = _parse_ask(text, slot.end() if slot else 0)
        name = slot.group(1) if slot else None
        rest = text[end:].strip()
        predicate = ask.predicate
        if predicate.takes_cell:
            # What stands in the header in clear must be about nobody, also where a program mixes its columns up.
            if not _CELL.fullmatch(rest) or contains_identifier(rest, grouped=True):
                _refuse(f"{predicate} is followed by a threshold")
            return Claim(name, ask.owner, ask.attribute, predicate, cell=rest)
        if predicate.compares:
            if not rest:
                _refuse(f"{predicate} is followed by a text or by @slot")
            if rest.startswith("@"):
                compared = _COMPARED_SLOT.fullmatch(rest)
                if compared is None:
                    _refuse("@ is followed by the name of a slot")
                return Claim(name, ask.owner, ask.attribute, predicate, compared_slot=compared.group(1))
            return Claim(name, ask.owner, ask.attribute, predicate, text=rest)
        if rest:
            _refuse(f"nothing follows {predicate}")
        return Claim(name, ask.owner, ask.attribute, predicate)

    @property
    def ask(self) -> Ask:
        """What it needs a grant for."""
        return Ask(self.owner, self.attribute, self.predicate)

    def __str__(self) -> str:
        slot = f"{self.slot}: " if self.slot else ""
        compared = f"@{self.compared_slot}" if self.compared_slot else self.text
        rest = self.cell if self.cell is not None else compared
        return f"{slot}{self.ask}" + (f" {rest}" if rest is not None else "")


def _parse_ask(text: str, start: int) -> tuple[Ask, int]:
    match = _ASK.match(text, start)
    if match is None or (match.end() < len(text) and text[match.end()] != " "):
        _refuse("written [slot: ]owner.attribute predicate …")
    owner, attribute, word = match.groups()
    try:
        return Ask(owner, attribute, Predicate(word)), match.end()
    except ValueError:
        _refuse("the predicates are " + ", ".join(Predicate))


def _refuse(detail: str) -> NoReturn:
    raise RefusedError(Reason.CLAIM_SYNTAX, detail)
