"""Rows of an XLSX workbook (ISO/IEC 29500), in bounded memory: `tables.py` says what holds for all tables.

Whatever a spreadsheet program would not write is refused, since what reads it here (openpyxl) might pass over it; and
whatever openpyxl does not tell (merged cells, rows out of their order) is looked for in the sheet's own XML.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any, BinaryIO, Final

from zhiwang.wire.tables import MAX_EXACT, CellError, DigitsLostError, Form, RawRow, Table, TableError, check_text

MAX_ROWS: Final = 1 << 20
"""Rows of an XLSX sheet (its specification's own limit)."""

MAX_UNPACKED: Final = 2 << 30
"""Size of an XLSX file when unpacked, in bytes. A sheet of 10^6 rows has about half of it."""

MAX_STRINGS: Final = 256 << 20
"""Unpacked size of what openpyxl keeps in memory whole: the table of texts, and styles."""

MAX_ROW: Final = 8 << 20
"""XML of one row, in bytes; one with text in all of a sheet's 16,384 columns has about a quarter of it."""

_CHUNK: Final = 1 << 20
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<[A-Za-z_]", re.DOTALL)
"""What may stand before the first element: no declaration, also not behind a comment (XML 1.0, production 22)."""
_TAG = re.compile(rb"<(?:[^\s<>/:]+:)?(row|mergeCell)(?=[\s/>])([^<>]*)>")
_ATTRIBUTES = re.compile(rb"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"&]*"|'[^'&]*'))*\s*/?""")
_ROW_NUMBER = re.compile(rb"""\sr\s*=\s*["'](\d+)["']""")
_ROWS_END = re.compile(rb"</(?:[^\s<>/:]+:)?sheetData\s*>")
_MERGED = re.compile(rb"""\sref\s*=\s*["'][A-Z]+\d+:[A-Z]+(\d+)["']""")
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_LARGE = "holds a part of more than {} bytes"
_FOREIGN = "holds XML that no spreadsheet program writes"


def xlsx_table(form: Form, stream: BinaryIO) -> Table:
    """The table of a workbook's sheet.

    Raises:
        TableError: It cannot be read.
    """
    return Table(form, _xlsx_rows(form, stream), _text)


def _xlsx_rows(form: Form, stream: BinaryIO) -> Iterator[RawRow]:
    with warnings.catch_warnings():
        # They quote values.
        warnings.simplefilter("ignore")
        try:
            _check_archive(stream)
            yield from _sheet_rows(form, stream)
        except (TableError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever openpyxl makes of it, the file is no good; messages quote values
            raise TableError(f"is no XLSX file that can be read ({type(error).__name__})") from None


def _check_archive(stream: BinaryIO) -> None:
    """Sizes as the archive declares them, which are also the most that is unpacked; and no declarations of entities."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_UNPACKED:
            raise TableError(f"is larger than {MAX_UNPACKED} bytes when unpacked")
        large = {member.filename for member in members if member.file_size > MAX_STRINGS}
        if not all(map(_SHEET.fullmatch, large)):
            raise TableError(_LARGE.format(MAX_STRINGS))
        for member in members:
            if member.flag_bits & 1:
                raise TableError("is encrypted")
            if member.filename.endswith((".xml", ".rels")):
                with archive.open(member) as part:
                    head = part.read(_CHUNK)
                # Neither a declaration passes, nor UTF-16.
                if not _PROLOG.match(head):
                    raise TableError(_FOREIGN)
        # A sheet's place alone makes no sheet of what openpyxl would keep in memory whole.
        if large and not large <= _sheets_of(archive):
            raise TableError(_LARGE.format(MAX_STRINGS))
    stream.seek(0)


def _sheets_of(archive: zipfile.ZipFile) -> set[str]:
    """Parts that are read row by row: worksheets by whatever openpyxl goes by, and nothing else by any of it."""
    from openpyxl.xml.constants import WORKSHEET_TYPE  # noqa: PLC0415 - takes a fifth of a second, and few need it

    # By its own functions, so that both see one thing.
    reader: Any = import_module("openpyxl.reader.excel")
    package = reader.Manifest.from_tree(reader.fromstring(archive.read(reader.ARC_CONTENT_TYPES)))
    workbook = reader._find_workbook_part(package).PartName[1:]  # noqa: SLF001 - it offers no other way
    related = list(reader.get_dependents(archive, reader.get_rels_path(workbook)))
    sheets = {one.target for one in related if one.Type.endswith("/worksheet")}
    others = {one.target for one in related if not one.Type.endswith("/worksheet")}
    others |= {one.PartName[1:] for one in package.Override if one.ContentType != WORKSHEET_TYPE}
    return sheets - others


def _sheet_rows(form: Form, stream: BinaryIO) -> Iterator[RawRow]:
    from openpyxl import load_workbook  # noqa: PLC0415 - takes a fifth of a second, and few departments need it

    book = load_workbook(stream, read_only=True, keep_links=False)
    try:
        sheet = _sheet_of(form, book)
        _check_sheet(form, sheet)
        # Written by some programs as if the sheet had one cell.
        sheet.reset_dimensions()
        yield from _cells(form, sheet)
    finally:
        book.close()


def _sheet_of(form: Form, book: Any) -> Any:
    if form.sheet is None:
        if len(book.worksheets) != 1:
            raise TableError(f'has {len(book.worksheets)} sheets; say which one: sheet = "…"')
        return book.worksheets[0]
    for sheet in book.worksheets:
        if sheet.title == form.sheet:
            return sheet
    raise TableError("has no sheet of the name that the mapping says")


def _check_sheet(form: Form, sheet: Any) -> None:
    """What openpyxl does not tell: merged cells, whose values only the first one has, and rows out of their order."""
    last = 0
    tail = b""
    # Bytes before `text`, and where the row begins that is read; -1 when there are no more.
    offset = row = 0
    begun = False
    with sheet._get_source() as part:  # noqa: SLF001 - the one way to the sheet's own part of the archive
        while chunk := part.read(_CHUNK):
            text = tail + chunk
            # A tag that the chunk cuts is looked at with the next one.
            end = text.rfind(b"<")
            end = len(text) if end < 0 or b">" in text[end:] else end
            text, tail = text[:end], text[end:]
            if len(tail) > _CHUNK:
                raise TableError(_FOREIGN)
            # Where rows begin in it.
            rows = 0 if begun else len(text)
            for tag in _TAG.finditer(text):
                name, attributes = tag.groups()
                if not _ATTRIBUTES.fullmatch(attributes):
                    # A character reference, say, could hide a number.
                    raise TableError(_FOREIGN)
                if name == b"row":
                    last = _next_row(attributes, last)
                    row = offset + tag.start()
                    rows, begun = min(rows, tag.start()), True
                elif (merged := _MERGED.search(attributes)) and int(merged[1]) >= form.header:
                    raise TableError("is merged with another cell; take merged cells apart", row=int(merged[1]))
            # From there on neither comments nor CDATA, in which another end could stand.
            if text.find(b"<!", rows) >= 0:
                raise TableError(_FOREIGN)
            row = -1 if _ROWS_END.search(text) else row
            offset += len(text)
            # openpyxl would make one text in memory of whatever a cell holds.
            if row >= 0 and offset + len(tail) - row > MAX_ROW:
                raise TableError(f"has more than {MAX_ROW} bytes", row=last)


def _next_row(attributes: bytes, last: int) -> int:
    """The number that a row says, which must be above the one before; the one before, if it says none."""
    said = _ROW_NUMBER.search(attributes)
    if said is None:
        return last
    number = int(said[1])
    if not last < number <= MAX_ROWS:
        raise TableError("has rows that are not in their order", row=min(number, MAX_ROWS))
    return number


def _cells(form: Form, sheet: Any) -> Iterator[RawRow]:
    number = 0
    for cells in sheet.iter_rows():
        number += 1
        if number > MAX_ROWS:
            raise TableError(f"has more than {MAX_ROWS} rows")
        if number == form.header:
            # Of what is no text there are no headings.
            yield number, [cell.value for cell in cells]
        elif number > form.header:
            yield number, cells
    if 0 < number < form.header:
        raise TableError(f"has no row {form.header} with headings")


def _text(cell: Any) -> str | None:
    """A cell as text.

    Raises:
        CellError: It has none that could be trusted.
    """
    value = cell.value
    if value is None:
        return None
    if cell.data_type == "f":
        raise CellError("is a formula; save the sheet with values only")
    if cell.data_type == "e":
        raise CellError("is an error of the spreadsheet")
    return plain_text(value)


def plain_text(value: object) -> str | None:
    """A value of a typed table as text.

    Raises:
        CellError: It is of another type, or a number that has lost digits.
    """
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time().isoformat() == "00:00:00" else value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float):
        if abs(value) >= MAX_EXACT:
            raise DigitsLostError(
                "is a number of sixteen digits or more; its last digits are lost. Format the column as text"
            )
        return _number(value)
    raise CellError("is neither text nor number nor date")


def _number(value: float) -> str:
    """A number's digits without exponent; a whole one without a point."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return format(Decimal(repr(value)), "f")
