"""From a row of a roster to a case, or to why it cannot be asked. Pure.

What cannot be asked stands in the results by a word of `Trouble`, or by the protocol's own reason, with the heading of
the column that is at fault and never with what stood in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

from exchange.client.case import Case, Subject
from exchange.sweep.findings import Finding, open_claims
from exchange.sweep.mapping import RosterColumns, Template
from policy.model import Title
from zhiwang.wire.tables import DigitsLostError, Record

KEY_HASH = 16
"""Bytes of a row key's hash in the journal."""

_SUBJECT_FIELD = re.compile(r"subjects\[(\d+)\]\.(identifier|name|slot)")
_CLAIM_FIELD = re.compile(r"claims\[(\d+)\]")


class Trouble(Enum):
    """Why a row was not asked, besides the reasons of docs/errors.md."""

    FIELD_COUNT = Title("本行列数与表头不符", "The row has another number of fields than the headings.")
    DIGITS_LOST = Title(
        "长数字被表格软件舍去了尾数，请将该列设为文本后重新导出",
        "A spreadsheet made a number of it and lost its last digits; format the column as text and export it anew.",
    )
    CELL_UNREADABLE = Title(
        "单元格是公式、错误值或其他类型", "The cell is a formula, an error, or neither text, number nor date."
    )
    KEY_MISSING = Title("本行没有编号", "The row has no key.")
    KEY_TWICE = Title("编号与前面某行重复", "An earlier row has the same key.")
    NOBODY = Title("本行没有任何主体", "No slot of the row has anybody in it.")
    VALUE_INVALID = Title(
        "比对值不能以 @ 开头", "A compared value begins with @, by which a claim names a slot; nobody is called so."
    )
    VALUE_MISSING = Title("比对值为空", "A column that is to be compared is empty.")
    TIME_OVER = Title("时限已到，未及核验", "The time was over before the row was asked; run the command again.")


class Row(NamedTuple):
    """One row, read.

    Attributes:
        number: Row in the file, counting the headings.
        key: What names it in the results; empty if it has no key.
        case: What to ask; None if it cannot be.
        trouble: Why it cannot.
        column: Heading of the column at fault.
        kept: Texts of the columns that are copied into the results.
        present: By slot, which of its mapped subjects are there, from 0.
    """

    number: int
    key: str
    case: Case | None
    trouble: Trouble | None
    column: str
    kept: tuple[str, ...]
    present: Mapping[str, Sequence[int]]


class CaseReader:
    """Makes cases of records.

    Args:
        columns: The mapping.
        templates: What is asked.
        then: Mask of what to ask once all of that is settled, by what is known; 0 for nothing.
    """

    def __init__(
        self,
        columns: RosterColumns,
        templates: Sequence[Template],
        then: Callable[[Sequence[Finding]], int] = lambda _findings: 0,
    ) -> None:
        self.columns = columns
        self.templates = tuple(templates)
        self.headings = columns.headings
        self._then = then
        self.all = sum(1 << index for index, one in enumerate(self.templates) if one.only is None)
        """Mask of all claims that are asked of every row."""
        self._alone: dict[tuple[str, int], int] = {}
        for index, one in enumerate(self.templates):
            if one.only is not None:
                self._alone[one.only] = self._alone.get(one.only, 0) | 1 << index
        place = {heading: index for index, heading in enumerate(self.headings)}
        self._key = None if columns.key is None else place[columns.key]
        self._kept = tuple(place[heading] for heading in columns.keep)
        slots = [one.slot for one in columns.subject]
        self._subjects = tuple(
            (
                one.slot,
                slots[:index].count(one.slot),
                place[one.identifier],
                None if one.name is None else place[one.name],
            )
            for index, one in enumerate(columns.subject)
        )
        self._asked = len(columns.model_copy(update={"keep": ()}).headings)
        self._values = tuple(None if one.column is None else place[one.column] for one in self.templates)
        self._exact: dict[str, list[int]] = {}
        for index, one in enumerate(self.templates):
            if one.column is None:
                self._exact.setdefault(one.head, []).append(index)
        self._heads = tuple((one.head, i) for i, one in enumerate(self.templates) if one.column is not None)

    def read(self, record: Record, mask: int | None = None) -> Row:
        """A row.

        Args:
            record: Of the columns of `headings`.
            mask: Which claims to ask; None for all.
        """
        cells = record.cells
        key = str(record.number) if self._key is None else cells[self._key] or ""
        kept = tuple([cells[place] or "" for place in self._kept])
        trouble, column = self._trouble(record, key)
        if trouble is not None:
            return Row(record.number, key, None, trouble, column, kept, {})
        asked = self.all if mask is None else mask
        alone = None if not asked & ~self.all else next(one for one, bits in self._alone.items() if bits & asked)
        subjects = []
        present: dict[str, list[int]] = {}
        for slot, ordinal, place, name in self._subjects:
            identifier = cells[place]
            if identifier is not None:
                before = present.setdefault(slot, [])
                if alone in {None, (slot, len(before))}:
                    subjects.append(Subject(slot, identifier, "" if name is None else cells[name] or ""))
                before.append(ordinal)
        claims = tuple(
            [
                template.label(None if place is None else cells[place])
                for index, (template, place) in enumerate(zip(self.templates, self._values, strict=True))
                if asked >> index & 1
            ]
        )
        case = Case(tuple(subjects), claims, case_key(record.number, asked))
        return Row(record.number, key, case, None, "", kept, present)

    def wanted(self, findings: Sequence[Finding]) -> list[int]:
        """What to ask of a row next: masks, each for a case of its own; empty once the row is settled."""
        mask = open_claims(findings, self.all) or self._then(findings)
        return [part for part in (mask & self.all, *(mask & bits for bits in self._alone.values())) if part]

    def _trouble(self, record: Record, key: str) -> tuple[Trouble | None, str]:
        cells = record.cells
        if record.problem is not None and record.column < self._asked:
            if record.column < 0:
                return Trouble.FIELD_COUNT, ""
            lost = isinstance(record.problem, DigitsLostError)
            return (Trouble.DIGITS_LOST if lost else Trouble.CELL_UNREADABLE), self.headings[record.column]
        if not key:
            return Trouble.KEY_MISSING, self.columns.key or ""
        if all(cells[place] is None for _, _, place, _ in self._subjects):
            return Trouble.NOBODY, ""
        return self._value_trouble(cells)

    def _value_trouble(self, cells: Sequence[str | None]) -> tuple[Trouble | None, str]:
        for place in self._values:
            if place is None:
                continue
            value = cells[place]
            if value is None:
                return Trouble.VALUE_MISSING, self.headings[place]
            if value.startswith("@"):
                return Trouble.VALUE_INVALID, self.headings[place]
        return None, ""

    def index(self, label: str, mask: int = -1) -> int:
        """Which of the templates a claim as it was asked is.

        Args:
            label: The claim.
            mask: Which claims were asked.
        """
        found = next((index for index in self._exact.get(label, ()) if mask >> index & 1), None)
        return next(i for head, i in self._heads if label.startswith(head)) if found is None else found

    def column_of(self, field: str, row: Row) -> str:
        """Heading of the column of which the refusal of a row's case speaks, e.g. "subjects[0].identifier"."""
        case = row.case
        if case is None:
            return row.column
        found = _SUBJECT_FIELD.match(field)
        if found is not None and int(found[1]) < len(case.subjects):
            number = int(found[1])
            slot = case.subjects[number].slot
            before = sum(subject.slot == slot for subject in case.subjects[:number])
            one = [one for one in self.columns.subject if one.slot == slot][row.present[slot][before]]
            return (one.name if found[2] == "name" else one.identifier) or ""
        found = _CLAIM_FIELD.match(field)
        if found is not None and int(found[1]) < len(case.claims):
            return self.templates[self.index(case.claims[int(found[1])])].column or ""
        return ""


def case_key(number: int, mask: int) -> str:
    """What a case is called within this process: its row and which claims are asked."""
    return f"{number}/{mask:x}"


def row_of(key: str) -> tuple[int, int]:
    """Row and claims of a `case_key`."""
    number, _, mask = key.partition("/")
    return int(number), int(mask, 16)


def key_hash(key: str) -> bytes:
    """By what rows of one key are found; 16 bytes."""
    return sha256(key.encode()).digest()[:KEY_HASH]
