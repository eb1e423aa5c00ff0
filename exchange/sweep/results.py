"""The results of a sweep: one line for each row of the roster, in its order, with what is known of each claim.

They hold the row's number and key and what was answered; of the roster's other columns only those that the mapping
keeps. `words` says in both languages why a row was not asked or has no answer yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from exchange.client.case import Ruling, Status
from exchange.sweep.cases import CaseReader, Row, Trouble, key_hash
from exchange.sweep.findings import Finding, Judge
from exchange.sweep.journal import Entry, State
from exchange.sweep.mapping import MappingError, instances
from exchange.sweep.rosters import CSV, Roster
from exchange.sweep.writing import unguarded
from policy.model import Matter
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason
from zhiwang.wire.tables import TableError

NOT_ASKED: Final = "NOT_ASKED"
UNAVAILABLE: Final = "UNAVAILABLE"
OUTCOMES: Final = ("ANSWERED", "DENIED", UNAVAILABLE, NOT_ASKED)
"""What can stand in the column `outcome`."""

_FIRST: Final = ("row", "key")
_THEN: Final = ("outcome", "ruling", "reason", "column", "words")
_CHANGED: Final = "changed"
_COUNTERS: Final = "counters"
_NEW: Final = "new"


class Telling(Protocol):
    """Says more of a row's ruling than the rule alone does."""

    headings: tuple[str, ...]
    compared: tuple[str, ...]
    """Of them and of `ruling`: what makes a row differ from earlier results, beside its answers."""

    def __call__(self, findings: Sequence[Finding], present: Mapping[str, Sequence[int]]) -> tuple[Ruling, list[str]]:
        """The ruling, and what stands under the headings.

        Args:
            findings: Of the row.
            present: By slot, which of its mapped subjects are there.
        """


class Said(NamedTuple):
    """What a line says of a row.

    Attributes:
        words: As later results are compared with it.
        more: What stands under the headings of `Telling`.
    """

    words: list[str]
    ruling: Ruling
    more: list[str]


Instance = tuple[int, int, int]
"""Of a claim: which it is, which mapped subject of its slot, and which compared one."""


def meaning(reason: str) -> str:
    """What a reason says, in both languages; empty for none."""
    if not reason:
        return ""
    if reason in Trouble.__members__:
        title = Trouble[reason].value
        return f"{title.zh} {title.en}"
    found = Reason.__members__.get(reason)
    return f"{found.value.zh} {found.value.en}" if found is not None else ""


class Lines:
    """Makes lines of results.

    Args:
        reader: Of the roster's rows.
        matter: For which was asked.
        changed: Whether the lines say what has changed.
        telling: Says more of rulings; the rule alone is judged if left out.

    Raises:
        MappingError: A kept column is called as one of the results' own.
    """

    def __init__(
        self, reader: CaseReader, matter: Matter, *, changed: bool = False, telling: Telling | None = None
    ) -> None:
        self._reader = reader
        self._telling = telling if telling is not None else _Plain(Judge(matter, reader.templates))
        self._changed = changed
        names = {str(claim): name for name, claim in matter.claims.items()}
        only = next(iter(matter.slots)) if len(matter.slots) == 1 else ""
        self._slots = tuple((one.claim.slot or only, one.claim.compared_slot) for one in reader.templates)
        self._instances: dict[Instance, str] = {}
        for index, template in enumerate(reader.templates):
            if template.only is not None:
                continue
            for ordinal, compared in instances(reader.columns, matter, template):
                name = names.get(template.text, template.text)
                self._instances[index, ordinal, compared] = name + _which(
                    ordinal, compared, related=template.claim.compared_slot is not None
                )
        own = [*_FIRST, *([_CHANGED] if changed else []), *_THEN, *self._telling.headings]
        claims = [f"{name}{part}" for name in self._instances.values() for part in ("", " reason", " as_of")]
        for heading in reader.columns.keep:
            if heading in {*own, *claims, _COUNTERS}:
                raise MappingError(f"the results have a column {heading} of their own; it cannot be kept")
        self.headings: tuple[str, ...] = (*own, *reader.columns.keep, *claims, _COUNTERS)
        self.compared: tuple[str, ...] = ("outcome", "reason", *self._telling.compared, *self._instances.values())
        """Columns by which results are compared."""

    def line(self, row: Row, entry: Entry, said: Said, changed: str = "") -> list[str | int]:
        """A line.

        Args:
            row: Of the roster.
            entry: What the journal knows of it.
            said: As `said` gives it.
            changed: What has changed.
        """
        found = self._found(row, entry.findings)
        outcome, why, *_ = said.words
        reason = why or entry.reason or next((one.reason for one in entry.findings if one.reason), "")
        place = self._reader.column_of(entry.place, row) or entry.place if entry.state is State.REFUSED else ""
        cells: list[str | int] = [row.number, row.key, *([changed] if self._changed else []), outcome]
        cells += [_ruling(said.ruling), reason, place, meaning(reason), *said.more, *row.kept]
        for key in self._instances:
            one = found.get(key)
            as_of = "" if one is None or not one.as_of else local_time(one.as_of)
            cells += [one.word, one.reason, as_of] if one is not None else ["", "", ""]
        cells.append("; ".join(dict.fromkeys(self._counters(found))))
        return cells

    def said(self, row: Row, entry: Entry) -> Said:
        """What a line says."""
        outcome = outcome_of(entry)
        found = self._found(row, entry.findings)
        reason = ""
        if entry.state is State.REFUSED:
            reason = entry.reason
        elif entry.state is State.OPEN and not entry.findings and not entry.reason:
            outcome, reason = NOT_ASKED, Trouble.TIME_OVER.name
        ruling, more = self._telling(entry.findings, row.present)
        told = {"ruling": _ruling(ruling), **dict(zip(self._telling.headings, more, strict=True))}
        words = [outcome, reason, *(told[name] for name in self._telling.compared)]
        return Said([*words, *(found[key].word if key in found else "" for key in self._instances)], ruling, more)

    def change(self, before: str | None, said: Sequence[str]) -> str:
        """What has changed; empty if nothing.

        Args:
            before: What earlier results said, as JSON; None if they did not know the row.
            said: What is said now.
        """
        if before is None:
            return _NEW
        pairs = zip(self.compared, json.loads(before), said, strict=True)
        return "; ".join(f"{name}: {was or '-'} → {now or '-'}" for name, was, now in pairs if was != now)

    def earlier(self, roster: Roster) -> Iterator[tuple[bytes, str]]:
        """What earlier results of the same claims said, by hash of the key.

        Raises:
            TableError: They cannot be read, or are of other claims.
        """
        with roster.table() as table:
            places = table.places({name: name for name in ("key", *self.compared)})
            for record in table.take(places):
                if record.problem is not None:
                    raise TableError("is not as a sweep wrote it", row=record.number)
                if record.cells[0] is None:
                    continue
                key, *said = [unguarded(cell or "") if roster.kind == CSV else cell or "" for cell in record.cells]
                yield key_hash(key), json.dumps(said, ensure_ascii=False)

    def _found(self, row: Row, findings: Sequence[Finding]) -> Mapping[Instance, Finding]:
        """By the mapped subjects, of which some may not have been there."""
        found = {}
        for one in findings:
            slot, compared = self._slots[one.claim]
            there = row.present.get(slot, (0,))
            others = row.present.get(compared, (0,)) if compared is not None else (0,)
            everybody = self._reader.templates[one.claim].only is None
            if everybody and one.ordinal < len(there) and one.compared < len(others):
                found[one.claim, there[one.ordinal], others[one.compared]] = one
        return found

    def _counters(self, found: Mapping[Instance, Finding]) -> Iterator[str]:
        for key, one in found.items():
            if one.counter:
                yield f"{self._instances[key]}: {one.counter}"


class _Plain:
    """What the rule alone says."""

    headings: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def __call__(self, findings: Sequence[Finding], _present: Mapping[str, Sequence[int]]) -> tuple[Ruling, list[str]]:
        return self._judge(findings), []


def _ruling(ruling: Ruling) -> str:
    return ruling.name if ruling is not Ruling.NONE else ""


def outcome_of(entry: Entry) -> str:
    """What the column `outcome` says of a row."""
    if entry.state is State.REFUSED:
        return NOT_ASKED
    if entry.state is State.OPEN:
        return UNAVAILABLE
    return "DENIED" if any(one.status is Status.DENIED for one in entry.findings) else "ANSWERED"


def _which(ordinal: int, compared: int, *, related: bool) -> str:
    """Which of several subjects; the first is not worth a number."""
    if not ordinal and not compared:
        return ""
    return f" #{ordinal + 1}" + (f" @#{compared + 1}" if related else "")


def local_time(seconds: int) -> str:
    """A time as it stands in results: the city's, without its offset."""
    return datetime.fromtimestamp(seconds, CITY_TIME).isoformat(" ", "seconds").partition("+")[0]
