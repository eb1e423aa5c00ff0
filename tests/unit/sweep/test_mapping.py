"""Columns are what the person says, or what their headings say; a mapping that does not fit is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import typer

from exchange.cli.sweep_given import check_key, until_given
from exchange.sweep.cases import CaseReader, Trouble
from exchange.sweep.guessing import guess
from exchange.sweep.mapping import MappingError, RosterColumns, SubjectColumns, subjects_from, template_of, templates_of
from policy.model import Matter
from sweep_support import directory
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.tables import Record
from zhiwang.wire.tomlfile import load

KINDS = directory().centre.subjects
ENROLMENT = directory().matters["school-enrolment"]
SENIOR = directory().matters["senior-card"]


def guessed(matter: Matter, *headings: str) -> list[tuple[str, str, str | None]]:
    return [(one.slot, one.identifier, one.name) for one in guess(headings, matter, KINDS).subject]


def test_slots_are_guessed_by_what_their_columns_are_often_called() -> None:
    assert guessed(SENIOR, "序号", "姓名", "公民身份号码") == [("senior", "公民身份号码", "姓名")]
    assert guessed(SENIOR, "老人身份证号", "子女身份证号") == [("senior", "老人身份证号", None)]
    assert guessed(
        ENROLMENT, "学生姓名", "学生身份证号", "家长1姓名", "家长1 身份证号码", "家长2身份证号码", "房屋编码"
    ) == [
        ("child", "学生身份证号", "学生姓名"),
        ("guardian", "家长1 身份证号码", "家长1姓名"),
        ("guardian", "家长2身份证号码", None),
        ("home", "房屋编码", None),
    ]


def test_where_two_slots_are_of_one_kind_a_bare_heading_is_nobodys() -> None:
    assert guessed(ENROLMENT, "身份证号", "姓名") == []


def test_a_key_is_guessed_and_is_never_an_identifier() -> None:
    assert guess(["办件编号", "身份证号"], SENIOR, KINDS).key == "办件编号"
    assert guess(["身份证号"], SENIOR, KINDS).key is None
    assert guess(["id"], SENIOR, KINDS).key is None


def test_a_guess_is_written_as_a_file_that_says_the_same() -> None:
    columns = guess(["编号", "学生身份证号", "学生姓名"], ENROLMENT, KINDS)
    assert load(columns.as_toml().encode(), RosterColumns) == columns


def columns(*subjects: str, claims: Sequence[str] = (), key: str | None = None) -> RosterColumns:
    return RosterColumns(key=key, subject=subjects_from(subjects), claims=tuple(claims))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (columns("senior=a", "senior=b"), "slot senior takes 1 subjects"),
        (columns("child=a"), "no slot child"),
        (columns(), "no column is mapped"),
        (columns("senior=a", claims=["police.age at_most"]), "docs/claims.md"),
        (columns("senior=a", claims=["senior: police.age at_least {b}"]), "behind equals or related only"),
        (columns("senior=a", claims=["child: police.age at_least 6"]), "names no slot"),
        (columns("senior=a", claims=["police.name equals {b}", "senior: police.name equals {c}"]), "asked twice"),
    ],
)
def test_a_mapping_that_does_not_fit_the_matter_is_told(given: RosterColumns, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        templates_of(given, SENIOR)


@pytest.mark.parametrize("text", ["senior", "senior=", "=a", "Senior=a", "senior=,b"])
def test_a_subject_is_written_with_slot_and_heading(text: str) -> None:
    with pytest.raises(MappingError, match="write --subject"):
        subjects_from([text])


def test_a_compared_text_comes_from_its_column_and_is_found_again_by_its_claim() -> None:
    given = RosterColumns(
        subject=(SubjectColumns(slot="senior", identifier="身份证号"),),
        claims=("senior: police.age at_least 65", "senior: police.name equals {姓名}"),
        keep=("姓名",),
    )
    reader = CaseReader(given, templates_of(given, SENIOR))
    row = reader.read(Record(2, ("1", "安娜")))
    assert row.case is not None
    assert row.case.claims == ("senior: police.age at_least 65", "senior: police.name equals 安娜")
    assert [reader.index(claim) for claim in row.case.claims] == [0, 1]
    assert reader.column_of("claims[1]", row) == "姓名"
    assert reader.read(Record(2, ("1", "安娜")), mask=2).case == row.case.__class__(
        row.case.subjects, row.case.claims[1:], "2/2"
    )


def test_of_several_subjects_each_answer_stands_under_its_own_column() -> None:
    given = columns("guardian=一", "guardian=二", claims=["guardian: hrss.insured_months at_least 12"])
    reader = CaseReader(given, templates_of(given, ENROLMENT))
    row = reader.read(Record(2, (None, "2")))
    assert row.present == {"guardian": [1]}
    assert reader.column_of("subjects[0].identifier", row) == "二"


def test_a_template_says_what_comes_from_a_column() -> None:
    assert template_of("a: b.c equals {住 址}").column == "住 址"
    assert template_of("a: b.c equals {}").column is None
    assert template_of("a: b.c exists").label(None) == "a: b.c exists"


NOW = datetime(2026, 11, 30, 23, 0, tzinfo=CITY_TIME)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("06:00", datetime(2026, 12, 1, 6, 0, tzinfo=CITY_TIME)),
        ("23:30", datetime(2026, 11, 30, 23, 30, tzinfo=CITY_TIME)),
        ("90m", datetime(2026, 12, 1, 0, 30, tzinfo=CITY_TIME)),
        ("2026-12-02T06:00", datetime(2026, 12, 2, 6, 0, tzinfo=CITY_TIME)),
        ("2026-12-02T06:00+00:00", datetime(2026, 12, 2, 6, 0, tzinfo=UTC)),
    ],
)
def test_until_is_a_time_of_day_a_date_or_a_length_in_the_citys_time(text: str, moment: datetime) -> None:
    assert until_given(text, NOW.timestamp) == moment.timestamp()


@pytest.mark.parametrize("text", ["25:00", "tomorrow", "0h", "6"])
def test_another_until_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.Exit):
        until_given(text, NOW.timestamp)


@pytest.mark.parametrize("key", ["证件", "姓名", "学历"])
def test_a_key_is_neither_identifier_nor_name_nor_compared_text_unless_it_is_kept_knowingly(key: str) -> None:
    given = columns("senior=证件,姓名", claims=["police.name equals {学历}"], key=key)
    with pytest.raises(MappingError, match="holds identifiers, names or compared texts"):
        check_key(given)
    check_key(given.model_copy(update={"keep": (key,)}))
    check_key(given.model_copy(update={"key": "编号"}))


def test_a_cell_cannot_make_a_comparison_with_somebody_else_of_a_claim() -> None:
    given = columns("senior=证件", claims=["police.name equals {姓名}"])
    reader = CaseReader(given, templates_of(given, SENIOR))
    row = reader.read(Record(2, ("1", "@senior")))
    assert (row.case, row.trouble, row.column) == (None, Trouble.VALUE_INVALID, "姓名")
