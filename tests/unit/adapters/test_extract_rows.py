"""Rows of CSV and XLSX files, and everything for which a file is refused: by row and column, never by value."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from adapter_drivers import write_csv, write_xlsx
from adapter_support import ANNA, BO
from adapters.extract_model import ExtractFile
from adapters.extract_rows import Row, read_rows
from zhiwang.wire import sheets
from zhiwang.wire.tables import MAX_LINE, Form, TableError

HEADINGS = ("身份证号", "姓名", "月数")
COLUMNS = {"id_card": "身份证号", "months": "月数"}


def csv_file(**settings: object) -> ExtractFile:
    return ExtractFile.model_validate({"path": "person.csv", "columns": COLUMNS} | settings)


def xlsx_file(**settings: object) -> ExtractFile:
    return ExtractFile.model_validate({"path": "person.xlsx", "columns": COLUMNS} | settings)


def csv_rows(text: str | bytes, **settings: object) -> list[Row]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_rows(csv_file(**settings), io.BytesIO(data)))


def xlsx_rows(path: Path, **settings: object) -> list[Row]:
    with path.open("rb") as stream:
        return list(read_rows(xlsx_file(**settings), stream))


def table(*rows: str) -> str:
    return "".join(f"{row}\n" for row in (",".join(HEADINGS), *rows))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(TableError) as caught:
        read()
    assert caught.value.__cause__ is None
    return str(caught.value)


# CSV.


def test_columns_are_found_by_their_headings_and_others_are_not_copied() -> None:
    assert csv_rows(table(f"{ANNA},安娜,012", f"{BO},波,3")) == [(ANNA, "012"), (BO, "3")]


def test_a_byte_order_mark_carriage_returns_and_quotes_are_read() -> None:
    text = '\ufeff身份证号,姓名,月数\r\n"' + ANNA + '","安""娜""","1,""2"""\r\n'
    assert csv_rows(text) == [(ANNA, '1,"2"')]


def test_two_stray_quotes_do_not_give_a_person_the_value_of_another() -> None:
    said = refusal(lambda: csv_rows(table(f'{ANNA},"安娜,1', f'{BO},波",240')))
    assert said == "row 2: has a field with a line break; does a quote not end?"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_break_in_any_field_refuses_the_file_also_in_a_column_that_is_not_taken(end: str) -> None:
    expected = "has a field with a line break"
    assert f"row 3: {expected}" in refusal(lambda: csv_rows(table(f"{ANNA},x,1", f'{BO},"x{end}y",2')))
    assert f"row 1: {expected}" in refusal(lambda: csv_rows(f'身份证号,月数,"姓名{end}{ANNA},1,x"\n'))


def test_a_code_that_could_be_a_number_with_an_exponent_is_a_text(tmp_path: Path) -> None:
    codes = ("12E4", "3E15", "1e5", "E+17", "12.5E3")
    assert csv_rows(table(*(f"{ANNA},x,{code}" for code in codes))) == [(ANNA, code) for code in codes]
    path = write_xlsx(tmp_path / "a.xlsx", [HEADINGS, *((ANNA, "x", code) for code in codes)])
    assert xlsx_rows(path) == [(ANNA, code) for code in codes]


@pytest.mark.parametrize("number", ["4.40399E+17", "4E+17", "4.40399e+17", "4.40399E17", "+4.4E+17", "4.4E11"])
def test_a_long_number_as_spreadsheets_and_programs_write_it_refuses_its_file(number: str) -> None:
    expected = "row 2, column months: is a number with an exponent"
    assert expected in refusal(lambda: csv_rows(table(f"{ANNA},x,{number}")))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_separator_is_read(separator: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [HEADINGS, (ANNA, "a;b,c|d\te", 1)], separator=separator)
    assert csv_rows(path.read_bytes(), separator=separator) == [(ANNA, "1")]


def test_rare_characters_of_gb18030_are_read() -> None:
    text = table(f"{ANNA},x,𠮷㐂")
    assert csv_rows(text.encode("gb18030"), encoding="gb18030") == [(ANNA, "𠮷㐂")]


def test_outer_blanks_go_and_what_is_empty_then_is_null() -> None:
    assert csv_rows(table(f"\t{ANNA} ,x,", f"\u3000{BO},x,  ")) == [(ANNA, None), (BO, None)]


def test_blank_lines_are_no_rows_and_the_headings_may_stand_lower() -> None:
    assert csv_rows("导出\n\n" + table(f"{ANNA},x,1", "", ",,", f"{BO},x,2", "", ""), header=3) == [
        (ANNA, "1"),
        (BO, "2"),
    ]


CSV_REFUSALS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "no headings": ("\n\n", "row 1, column id_card: is not among the headings"),
    "a heading missing": ("身份证号,月\n1,2\n", "row 1, column months: is not among the headings"),
    "a heading twice": ("身份证号,月数,月数\n", "row 1, column months: is twice among the headings"),
    "another separator": ("身份证号;姓名;月数\n", "is the separator right?"),
    "too few fields": (table(f"{ANNA},x,1", f"{BO},x"), "row 3: has 2 fields where the headings are 3"),
    "too many fields": (table(f"{ANNA},x,1,2"), "row 2: has 4 fields where the headings are 3"),
    "cut": (table(f"{ANNA},x,1") + f"{BO},x,2", "does not end with a line break; it may be cut"),
    "a quote that does not end": (table(f'{ANNA},"x,1', f"{BO},x,2"), "row 2: is not well-formed"),
    "text behind a quote": (table(f'{ANNA},"x"y,1'), "row 2: is not well-formed"),
    "other bytes": (table(f"{ANNA},x,1").encode() + b"\xff\xfe,x,1\n", "row 3: is not utf-8"),
    "a line without end": (table() + "x" * MAX_LINE + "\n", "row 2: is longer than 1048576 bytes"),
    "an exponent": (table("4.40399E+17,x,1"), "row 2, column id_card: is a number with an exponent"),
    "NUL": (table(f"{ANNA},x,1\0"), "row 2, column months: holds a NUL character"),
    "headings beyond the end": ("a\n", "is not among the headings"),
}


@pytest.mark.parametrize("name", CSV_REFUSALS)
def test_a_doubtful_csv_file_is_refused_by_row_and_column_and_without_a_value(name: str) -> None:
    text, expected = CSV_REFUSALS[name]
    said = refusal(lambda: csv_rows(text))
    assert expected in said
    for value in (ANNA, BO, "4.40399", "身份证号", "安娜"):
        assert value not in said


def test_a_file_of_another_encoding_is_refused_at_its_first_foreign_row() -> None:
    text = table(f"{ANNA},x,1", f"{BO},波,2")
    assert "row 1: is not utf-8" in refusal(lambda: csv_rows(text.encode("gb18030")))
    ascii_first = "id,name\n1,a\n2,波\n"
    said = refusal(lambda: csv_rows(ascii_first.encode("gb18030"), columns=("id",)))
    assert "row 3: is not utf-8" in said


def test_headings_lower_than_the_end_are_missed() -> None:
    assert "has no row 5 with headings" in refusal(lambda: csv_rows("a\nb\n", header=5))


def test_a_file_with_a_companion_may_end_without_a_line_break() -> None:
    assert csv_rows(table(f"{ANNA},x,1").rstrip("\n"), companion="sha256") == [(ANNA, "1")]


def test_rows_are_given_one_by_one_whatever_the_length_of_the_file() -> None:
    class Endless(io.BytesIO):
        """Hands out rows for as long as anybody asks."""

        asked = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            del size
            self.asked += 1
            return (",".join(HEADINGS) if self.asked == 1 else f"{ANNA},x,{self.asked}").encode() + b"\n"

    endless = Endless()
    rows = read_rows(csv_file(companion="done"), endless)
    assert [next(rows)[1] for _ in range(5)] == ["2", "3", "4", "5", "6"]
    assert endless.asked < 10


# XLSX.


def test_cells_become_canonical_text(tmp_path: Path) -> None:
    cells: list[tuple[object, str | None]] = [
        ("012", "012"), (12, "12"), (12.0, "12"), (0.1, "0.1"), (1e-7, "0.0000001"),
        (999999999999999, "999999999999999"),
        (-3, "-3"), (date(2008, 9, 1), "2008-09-01"), (datetime(2008, 9, 1, 10, 5), "2008-09-01 10:05:00"),  # noqa: DTZ001 - a cell has no zone
        (True, "TRUE"), (None, None), ("  ", None), ("𠮷", "𠮷"), ("\t7", "7"),
    ]  # fmt: skip
    path = write_xlsx(tmp_path / "a.xlsx", [HEADINGS, *((ANNA, "x", cell) for cell, _ in cells)])
    assert xlsx_rows(path) == [(ANNA, text) for _, text in cells]


def test_trailing_blank_rows_and_cells_are_no_rows(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [HEADINGS, (ANNA, "x", 1), (), (None, " ", None), (BO,), (), ()]
    assert xlsx_rows(write_xlsx(tmp_path / "a.xlsx", rows)) == [(ANNA, "1"), (BO, None)]


def test_a_sheet_is_chosen_by_its_name(tmp_path: Path) -> None:
    book = Workbook()
    for title in ("说明", "人员"):
        page = book.create_sheet(title)
        page.append(list(HEADINGS))
        page.append([ANNA, "x", title])
    del book["Sheet"]
    book.save(tmp_path / "a.xlsx")
    assert xlsx_rows(tmp_path / "a.xlsx", sheet="人员") == [(ANNA, "人员")]
    assert "has 2 sheets; say which one" in refusal(lambda: xlsx_rows(tmp_path / "a.xlsx"))
    assert "has no sheet of the name" in refusal(lambda: xlsx_rows(tmp_path / "a.xlsx", sheet="法人"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (440399199001010017, "row 3, column months: is a number of sixteen digits or more"),
        (4.40399e17, "row 3, column months: is a number of sixteen digits or more"),
        ("4.40399E+17", "row 3, column months: is a number with an exponent"),
        ("=1+1", "row 3, column months: is a formula"),
        ("#N/A", "row 3, column months: is an error of the spreadsheet"),
        (time(10, 5), "row 3, column months: is neither text nor number nor date"),
    ],
)
def test_a_doubtful_cell_refuses_its_file_by_row_and_column(tmp_path: Path, cell: object, expected: str) -> None:
    said = refusal(lambda: xlsx_rows(write_xlsx(tmp_path / "a.xlsx", [HEADINGS, (BO, "x", 1), (ANNA, "x", cell)])))
    assert expected in said
    assert "440399" not in said
    # In a column that is not taken it does not matter.
    assert xlsx_rows(write_xlsx(tmp_path / "b.xlsx", [HEADINGS, (ANNA, cell, 1)])) == [(ANNA, "1")]


def test_merged_cells_are_refused_below_the_headings_only(tmp_path: Path) -> None:
    def merged(cells: str) -> Path:
        book = Workbook()
        page = book.active
        assert page is not None
        for row in (("人员名单", None, None), HEADINGS, (ANNA, "x", 1), (BO, "x", 2)):
            page.append(list(row))
        page.merge_cells(cells)
        book.save(tmp_path / "a.xlsx")
        return tmp_path / "a.xlsx"

    assert xlsx_rows(merged("A1:C1"), header=2) == [(ANNA, "1"), (BO, "2")]
    assert "row 4: is merged with another cell" in refusal(lambda: xlsx_rows(merged("C3:C4"), header=2))
    for written in (b"ref='C3:C4'", b'ref = "C3:C4"', b"ref='C3:C4' a='" + b"x" * 1000 + b"'"):
        other = _rewritten(merged("C3:C4"), lambda data, to=written: data.replace(b'ref="C3:C4"', to))  # type: ignore[misc]  # bound now
        assert "row 4: is merged" in refusal(lambda path=other: xlsx_rows(path, header=2))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize(
    ("tag", "other"),
    [
        (b'<mergeCell ref="C2:C3"', b'<mergeCell ref="C2:C&#51;"'),
        (b'<mergeCell ref="C2:C3"', b'<mergeCell a=">" ref="C2:C3"'),
        (b'<row r="3"', b'<row r="&#50;"'),
    ],
)
def test_a_tag_that_is_written_such_that_it_would_be_overlooked_refuses_its_file(
    tmp_path: Path, tag: bytes, other: bytes
) -> None:
    book = load_workbook(_book(tmp_path))
    book.worksheets[0].merge_cells("C2:C3")
    book.save(tmp_path / "a.xlsx")
    changed = _rewritten(tmp_path / "a.xlsx", lambda data: data.replace(tag, other))
    assert changed.stat().st_size != (tmp_path / "a.xlsx").stat().st_size
    assert "XML that no spreadsheet program writes" in refusal(lambda: xlsx_rows(changed))


def test_a_tag_that_a_chunk_cuts_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _rewritten(_book(tmp_path), lambda data: data.replace(b'<row r="3"', b"<row r='2'"))
    for size in range(200, 420, 7):
        monkeypatch.setattr(sheets, "_CHUNK", size)
        assert "not in their order" in refusal(lambda: sheets._check_sheet(Form(), _Sheet(path)))


class _Sheet:
    """A workbook's sheet as far as its part of the archive is concerned."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _get_source(self) -> io.BytesIO:
        with zipfile.ZipFile(self._path) as archive:
            return io.BytesIO(archive.read("xl/worksheets/sheet1.xml"))


def _rewritten(path: Path, change: Callable[[bytes], bytes], part: str = "xl/worksheets/sheet1.xml") -> Path:
    """The workbook with one part changed."""
    changed = path.with_name("changed.xlsx")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, change(data) if name == part else data)
    return changed


def _book(tmp_path: Path) -> Path:
    return write_xlsx(tmp_path / "a.xlsx", [HEADINGS, (ANNA, "x", 1), (BO, "x", 2)])


def test_rows_out_of_their_order_are_refused_rather_than_left_out(tmp_path: Path) -> None:
    path = _rewritten(_book(tmp_path), lambda data: data.replace(b'<row r="3"', b'<row r="2"'))
    assert "row 2: has rows that are not in their order" in refusal(lambda: xlsx_rows(path))


def test_a_row_number_without_end_is_refused(tmp_path: Path) -> None:
    path = _rewritten(_book(tmp_path), lambda data: data.replace(b'<row r="3"', b'<row r="99999999999"'))
    assert "not in their order" in refusal(lambda: xlsx_rows(path))


def test_a_sheet_that_says_it_is_smaller_than_it_is_is_read_whole(tmp_path: Path) -> None:
    def shrunk(data: bytes) -> bytes:
        return data.replace(b"<sheetData>", b'<dimension ref="A1:A1"/><sheetData>')

    assert xlsx_rows(_rewritten(_book(tmp_path), shrunk)) == [(ANNA, "1"), (BO, "2")]


def test_an_archive_that_unpacks_to_more_than_it_may_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = _rewritten(_book(tmp_path), lambda data: data + b" " * (64 << 20))
    assert bomb.stat().st_size < 1 << 20
    monkeypatch.setattr(sheets, "MAX_UNPACKED", 32 << 20)
    assert "is larger than" in refusal(lambda: xlsx_rows(bomb))
    monkeypatch.setattr(sheets, "MAX_STRINGS", 100)
    assert "holds a part of more than 100 bytes" in refusal(lambda: xlsx_rows(_book(tmp_path)))


def test_texts_that_lie_where_sheets_do_are_bounded_as_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    part = f'<Override PartName="/xl/worksheets/texts.xml" ContentType="{kind}"/></Types>'.encode()
    texts = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>x</t></si></sst>'
    hidden = _rewritten(_book(tmp_path), lambda data: data.replace(b"</Types>", part), "[Content_Types].xml")
    with zipfile.ZipFile(hidden, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/texts.xml", texts + b" " * (1 << 17))
    assert xlsx_rows(hidden) == [(ANNA, "1"), (BO, "2")]
    monkeypatch.setattr(sheets, "MAX_STRINGS", 1 << 16)
    assert "holds a part of more than" in refusal(lambda: xlsx_rows(hidden))
    large = _rewritten(_book(tmp_path), lambda data: data + b" " * (1 << 17))
    assert xlsx_rows(large) == [(ANNA, "1"), (BO, "2")], "a sheet is read row by row, however large"


def test_entities_are_not_even_looked_at(tmp_path: Path) -> None:
    def declared(data: bytes) -> bytes:
        return b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + data.removeprefix(b"<?xml version='1.0' encoding='UTF-8'?>\n")

    assert "XML that no spreadsheet program writes" in refusal(lambda: xlsx_rows(_rewritten(_book(tmp_path), declared)))
    comment = b"<!-- <a " + b" " * (1 << 19) + b"-->"
    for before in (comment, b"<!-- x --><?a b?>", b"\xef\xbb\xbf<!-- <worksheet> -->"):
        behind = _rewritten(_book(tmp_path), lambda data, to=before: to + declared(data))  # type: ignore[misc]  # bound now
        assert "XML that no spreadsheet program writes" in refusal(lambda path=behind: xlsx_rows(path))  # type: ignore[misc]  # bound now
    remarked = _rewritten(_book(tmp_path), lambda data: data.replace(b"<worksheet", b"<!-- by a program --><worksheet"))
    assert len(xlsx_rows(remarked)) == 2
    hidden = _rewritten(_book(tmp_path), lambda data: data.decode().encode("utf-16"))
    assert "XML that no spreadsheet program writes" in refusal(lambda: xlsx_rows(hidden))


def test_what_is_no_workbook_or_was_cut_is_refused(tmp_path: Path) -> None:
    whole = _book(tmp_path).read_bytes()
    for number, data in enumerate((b"", b"PK\x03\x04", whole[:-30], whole[: len(whole) // 2], b"a,b\n1,2\n")):
        path = tmp_path / f"cut{number}.xlsx"
        path.write_bytes(data)
        assert "is no XLSX file that can be read" in refusal(lambda path=path: xlsx_rows(path))  # type: ignore[misc]  # bound now


def test_a_cell_whose_error_would_quote_its_value_is_refused_without_it(tmp_path: Path) -> None:
    spoilt = _rewritten(_book(tmp_path), lambda data: data.replace(b"<v>1</v>", b"<v>" + ANNA.encode() + b"zz</v>"))
    said = refusal(lambda: xlsx_rows(spoilt))
    assert "is no XLSX file that can be read" in said
    assert ANNA not in said


@pytest.mark.parametrize("cell", ["one text", "many runs", "behind an end in a comment"])
def test_a_row_that_unpacks_to_more_than_a_row_can_be_is_refused(tmp_path: Path, cell: str) -> None:
    size = sheets.MAX_ROW + (2 << 20)
    text = {
        "one text": b"<t>" + b"A" * size + b"</t>",
        "many runs": b"<r><t>" + b"</t></r><r><t>".join([b"A" * (1 << 19)] * (size >> 19)) + b"</t></r>",
        "behind an end in a comment": b"<!--</sheetData>--><t>" + b"A" * size + b"</t>",
    }[cell]
    row = b'<row r="4"><c r="A4" t="inlineStr"><is>' + text + b"</is></c></row></sheetData>"
    bomb = _rewritten(_book(tmp_path), lambda data: data.replace(b"</sheetData>", row))
    assert bomb.stat().st_size < 1 << 20
    expected = "XML that no spreadsheet" if "comment" in cell else f"row 4: has more than {sheets.MAX_ROW} bytes"
    assert expected in refusal(lambda: xlsx_rows(bomb))


def test_what_stands_behind_the_rows_may_be_longer_than_a_row(tmp_path: Path) -> None:
    behind = b"</sheetData>" + b" " * (sheets.MAX_ROW + (2 << 20))
    assert len(xlsx_rows(_rewritten(_book(tmp_path), lambda data: data.replace(b"</sheetData>", behind)))) == 2
