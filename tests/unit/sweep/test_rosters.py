"""Rosters as people have them, in any encoding and format; and every row that cannot be taken has its reason."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_drivers import write_xlsx
from adapter_support import ANNA, BO
from exchange.sweep.cases import CaseReader, Row, Trouble
from exchange.sweep.mapping import RosterColumns, SubjectColumns, template_of
from exchange.sweep.rosters import TouchedError, find_roster, need_parquet
from exchange.sweep.running import rows_of
from exchange.sweep.writing import table_file, unguarded
from zhiwang.wire.tables import Form, TableError

HEADINGS = ("编号", "身份证号", "姓名", "住址", "入职")
COLUMNS = RosterColumns(
    key="编号", subject=(SubjectColumns(slot="person", identifier="身份证号", name="姓名"),), keep=("住址",)
)
TEMPLATES = (template_of("person: police.card exists"),)

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Co", "Cn")), min_size=1, max_size=12
).map(str.strip)


def rows(path: Path, columns: RosterColumns = COLUMNS, **form: object) -> list[Row]:
    reader = CaseReader(columns, TEMPLATES)
    roster = find_roster(path, Form(**form))  # type: ignore[arg-type]  # fields of a form
    return [reader.read(record) for record in rows_of(roster, reader)]


def csv_file(path: Path, lines: Sequence[Sequence[object]], encoding: str = "utf-8", **dialect: object) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(lines)  # type: ignore[arg-type]  # as csv has them
    path.write_bytes(text.getvalue().encode(encoding))
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    names=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]),
    separator=st.sampled_from([",", "\t", ";"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_is_read_in_any_encoding_quoting_and_separator(
    tmp_path: Path, names: list[tuple[str, str]], encoding: str, separator: str, quoting: int, end: str
) -> None:
    lines = [(f"K{index}", ANNA, *pair, "x") for index, pair in enumerate(names)]
    path = csv_file(
        tmp_path / "r.csv", [HEADINGS, *lines], encoding, delimiter=separator, quoting=quoting, lineterminator=end
    )
    found = rows(path)
    assert [row.key for row in found] == [line[0] for line in lines]
    for row, line in zip(found, lines, strict=True):
        assert row.case is not None or "E" in line[3]
        if row.case is not None:
            ((slot, identifier, name),) = row.case.subjects
            assert (slot, identifier, name, row.kept) == ("person", ANNA, line[2], (line[3],))


def test_gb18030_is_found_by_trying_and_utf16_is_told_from_it(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "r.csv", [HEADINGS, ("1", ANNA, "𠮷㐂", "深圳", "")], "gb18030")
    assert find_roster(path, Form()).form.encoding == "gb18030"
    assert rows(path)[0].case is not None
    text = path.read_bytes().decode("gb18030")
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (b"", "utf-16-le"), (b"", "utf-16-be")):
        path.write_bytes(mark + text.encode(encoding))
        with pytest.raises(TableError, match="UTF-16"):
            find_roster(path, Form())
    path.write_bytes(b"\xff\xff,\xff\n")
    with pytest.raises(TableError, match="neither UTF-8 nor GB18030"):
        find_roster(path, Form())


def test_each_row_that_cannot_be_asked_has_its_reason_and_its_column(tmp_path: Path) -> None:
    lines = [
        HEADINGS,
        ("1", ANNA, "安娜", "", ""),
        ("2", "4.40399E+17", "安娜", "", ""),
        ("3", ANNA, "安娜"),
        ("4", "", "安娜", "", ""),
        ("", ANNA, "安娜", "", ""),
        (),
        ("5", BO, "", "", ""),
    ]
    found = rows(csv_file(tmp_path / "r.csv", lines))
    assert [(row.number, row.trouble, row.column) for row in found] == [
        (2, None, ""),
        (3, Trouble.DIGITS_LOST, "身份证号"),
        (4, Trouble.FIELD_COUNT, ""),
        (5, Trouble.NOBODY, ""),
        (6, Trouble.KEY_MISSING, "编号"),
        (8, None, ""),
    ]
    assert found[-1].case is not None
    assert found[-1].case.subjects[0].name == ""


def test_a_field_with_a_line_break_refuses_the_file_since_it_may_hide_a_row(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="row 2: has a field with a line break"):
        rows(csv_file(tmp_path / "r.csv", [HEADINGS, ("1", ANNA, "安\n娜", "", "")]))


def test_identifiers_that_a_spreadsheet_made_numbers_are_refused_and_dates_are_read(tmp_path: Path) -> None:
    lines = [
        HEADINGS,
        ("1", ANNA, "安娜", "a", date(2020, 2, 29)),
        (2, 440399199001010017, "安娜", "b", None),
        ("3", 4.40399199001e17, "安娜", "c", None),
        ("4", "=A1", "安娜", "d", None),
        (None, None, None, None, None),
        ("5", BO, None, "=1+1", None),
    ]
    columns = COLUMNS.model_copy(update={"keep": ("住址", "入职")})
    found = rows(write_xlsx(tmp_path / "r.xlsx", lines), columns)
    assert [(row.key, row.trouble) for row in found] == [
        ("1", None),
        ("2", Trouble.DIGITS_LOST),
        ("3", Trouble.DIGITS_LOST),
        ("4", Trouble.CELL_UNREADABLE),
        ("5", None),
    ]
    assert found[0].kept == ("a", "2020-02-29")
    assert found[-1].kept == ("", ""), "a formula in a column that is only copied does not keep a row from being asked"


def test_parquet_is_read_with_its_own_types(tmp_path: Path) -> None:
    arrow = need_parquet()
    table = arrow.table(
        {
            "编号": [1, 2, 3],
            "身份证号": arrow.array([int(BO[:17]) * 10 + 1, None, 7], arrow.int64()),
            "姓名": ["安娜", None, "c"],
            "住址": [date(2020, 2, 29), None, None],
            "入职": [b"x", b"y", b"z"],
        }
    )
    arrow.parquet.write_table(table, tmp_path / "r.parquet")
    found = rows(tmp_path / "r.parquet")
    assert [(row.key, row.trouble) for row in found] == [("1", None), ("2", Trouble.NOBODY), ("3", None)]
    assert found[0].case is not None
    assert found[0].case.subjects[0].identifier == f"{BO[:17]}1"
    assert found[0].kept == ("2020-02-29",)
    (tmp_path / "r.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match="no Parquet file that can be read"):
        rows(tmp_path / "r.parquet")


def test_without_pyarrow_parquet_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.parquet").write_bytes(b"")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TableError, match=r"zhiwang\[parquet\]"):
        find_roster(tmp_path / "r.parquet", Form())


def test_a_roster_that_was_changed_is_not_the_same(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "r.csv", [HEADINGS, ("1", ANNA, "安娜", "", "")])
    roster = find_roster(path, Form())
    roster.check_stamp()
    os.utime(path)
    with pytest.raises(TouchedError, match="was touched"):
        roster.check_stamp()
    roster.check_stamp()
    path.write_bytes(path.read_bytes().replace(ANNA.encode(), BO.encode()))
    for check in (roster.check_stamp, roster.check_bytes):
        with pytest.raises(TableError, match="was changed meanwhile"):
            check()


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_results_are_private_whole_and_read_back_as_they_were_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"results.{kind}"
    lines = [(2, "=1+1", '是, "是" YES'), (3, "", "否\t"), (4, "012", "𠮷")]
    with table_file(path, ("row", "key", "words")) as write:
        for line in lines:
            write(line)
        assert not path.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    with find_roster(path, Form()).table() as table:
        found = [tuple(unguarded(cell or "") for cell in record.cells) for record in table.take([0, 1, 2])]
    assert found == [(str(row), key, words.strip()) for row, key, words in lines]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_results_that_could_not_be_finished_leave_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("before")

    def fail() -> None:
        with table_file(path, ("row",)) as write:
            write((1,))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("column", ["no UTF-8", "a date beyond the calendar", "a time beyond it"])
def test_parquet_values_that_cannot_be_made_are_told_as_a_file_that_cannot_be_read(tmp_path: Path, column: str) -> None:
    arrow = need_parquet()
    text = b"\xff\xfe440399"
    array = {
        "no UTF-8": lambda: arrow.StringArray.from_buffers(
            1, arrow.array(["x" * len(text)]).buffers()[1], arrow.py_buffer(text)
        ),
        "a date beyond the calendar": lambda: arrow.array([2**31 - 1], arrow.date32()),
        "a time beyond it": lambda: arrow.array([2**62], arrow.timestamp("ms")),
    }[column]()
    names = {name: ["1"] for name in HEADINGS} | {"身份证号": array}
    arrow.parquet.write_table(arrow.table(names), tmp_path / "r.parquet")
    with pytest.raises(TableError, match="no Parquet file that can be read"):
        rows(tmp_path / "r.parquet")


def test_an_encoding_that_was_said_is_not_looked_for(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "r.csv", [("a",), ("卢",)], "gb18030")
    assert path.read_bytes().decode("utf-8"), "only what is both shows something"
    assert find_roster(path, Form()).form.encoding == "utf-8"
    roster = find_roster(path, Form(), encoding="gb18030")
    with roster.table() as table:
        assert [record.cells for record in table.take([0])] == [("卢",)]
    path.write_bytes(b"a\n\xff\xff\n")
    with pytest.raises(TableError, match="is not utf-8;"):
        find_roster(path, Form(), encoding="utf-8")
    with pytest.raises(TableError, match="is neither UTF-8 nor GB18030"):
        find_roster(path, Form())


@pytest.mark.parametrize("rows_of_it", [2, 100_000])
def test_carriage_returns_alone_are_told(tmp_path: Path, rows_of_it: int) -> None:
    (tmp_path / "r.csv").write_bytes(b"id,name\r" + b"1,aaaaaaaaaa\r" * rows_of_it)
    with pytest.raises(TableError, match="carriage return alone"):
        rows(tmp_path / "r.csv")
