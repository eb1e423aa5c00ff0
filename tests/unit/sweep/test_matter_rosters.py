"""A roster of a matter: what makes a row differ from an earlier night's, and how much a search can ask."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exchange.client.case import Answer, Status
from exchange.matter.judging import Rules
from exchange.matter.telling import Telling, ruled_reader
from exchange.sweep.cases import CaseReader
from exchange.sweep.findings import Finding
from exchange.sweep.journal import Entry, State
from exchange.sweep.mapping import RosterColumns, SubjectColumns
from exchange.sweep.results import Lines
from policy.points import next_cell
from policy.rule import Fact
from sweep_support import directory
from zhiwang.wire.tables import Record

MATTER = directory().matters["school-points"]
RULES = Rules(MATTER, directory())
COLUMNS = RosterColumns(
    key="编号",
    subject=(
        SubjectColumns(slot="child", identifier="学生"),
        SubjectColumns(slot="guardian", identifier="监护人"),
        SubjectColumns(slot="home", identifier="房屋"),
    ),
)
RECORD = Record(2, ("R1", "440399201901010018", "440399198805050025", "4403060010010100010010101"), None, -1)
POINTS = ("points", "points_least", "points_most", "class", "counts")
NO_RENT = {"outsider": Answer.NO, "own": Answer.NO}


def answers(reader: CaseReader, months: int, **other: Answer) -> list[Finding]:
    """A child of the district whose one guardian rents and has no home; with the whole search."""
    said = {**dict.fromkeys(MATTER.claims, Answer.YES), **NO_RENT, **other}
    found = []

    def add(index: int, answer: Answer) -> None:
        found.append(Finding(index, 0, 0, Status.ANSWERED, answer, "", 1_780_000_000, "0755-1"))

    for index, template in enumerate(reader.templates):
        if template.only is None and RULES.names[template.text] != "insured":
            add(index, said[RULES.names[template.text]])
    searched = {one.claim.cell: index for index, one in enumerate(reader.templates) if one.only == ("guardian", 0)}
    searched |= {one.claim.cell: index for index, one in enumerate(reader.templates) if one.only is None}
    asked: dict[int, Fact] = {}
    cell: int | None = RULES.first
    while cell is not None:
        asked[cell] = Fact.YES if months >= cell else Fact.NO
        add(searched[str(cell)], Answer.YES if months >= cell else Answer.NO)
        cell = next_cell(RULES.cells, asked)
    return found


def said(lines: Lines, reader: CaseReader, findings: Sequence[Finding]) -> list[str]:
    row = reader.read(RECORD)
    return lines.said(row, Entry(row.number, State.ANSWERED, "", "", findings)).words


@pytest.mark.parametrize(
    ("months", "other", "differs"),
    [
        (70, {}, []),
        (71, {}, ["points", "points_least", "points_most", "counts"]),
        (70, {"homeless": Answer.UNKNOWN}, ["ruling", "points", "points_least", "class", "counts", "homeless"]),
        (70, {"register": Answer.NO}, ["ruling", *POINTS, "register"]),
    ],
)  # fmt: skip
def test_a_row_differs_by_its_ruling_and_points_though_no_column_has_the_answer_that_changed(
    months: int, other: dict[str, Answer], differs: list[str]
) -> None:
    reader = ruled_reader(RULES, COLUMNS)
    lines = Lines(reader, MATTER, changed=True, telling=Telling(RULES, reader, "nbs:440306"))
    before = said(lines, reader, answers(reader, 70))
    now = said(lines, reader, answers(reader, months, **other))
    assert [name for name, was, is_now in zip(lines.compared, before, now, strict=True) if was != is_now] == differs


def test_a_plan_names_the_most_that_a_search_can_ask() -> None:
    most = 0
    for months in range(130):
        asked = {RULES.first: Fact.YES if months >= RULES.first else Fact.NO}
        while (cell := next_cell(RULES.cells, asked)) is not None:
            asked[cell] = Fact.YES if months >= cell else Fact.NO
        most = max(most, len(asked) - 1)
    assert RULES.rounds == most == 6
