"""From the bytes of a CSV or XLSX file to rows of text, one after the other, in bounded memory.

Everything becomes text: leading zeros stay, and a number means what its digits say. Outer white space goes, and what is
then empty is null. Whatever makes a file doubtful (a row of another length, bytes of another encoding, an identifier
that a spreadsheet made a number) refuses all of it. Errors say file, row and column, and never a value: not even a
heading of the file's own, since a file without headings begins with a citizen.
"""

from __future__ import annotations

import csv
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, BinaryIO, Final

from adapters.extract_model import ExtractFile

Row = tuple[str | None, ...]
"""Values of the mapping's columns, in their order."""

MAX_LINE: Final = 1 << 20
"""Longest line of a CSV file, in bytes."""

MAX_ROWS: Final = 1 << 20
"""Rows of an XLSX sheet (its specification's own limit)."""

MAX_UNPACKED: Final = 2 << 30
"""Size of an XLSX file when unpacked, in bytes. A sheet of 10^6 rows has about half of it."""

MAX_STRINGS: Final = 256 << 20
"""Unpacked size of what openpyxl keeps in memory whole: the table of texts, and styles."""

MAX_EXACT: Final = 10**15
"""From here on a spreadsheet's number has lost digits: it keeps fifteen of them."""

_CHUNK: Final = 1 << 20
_EXPONENT = re.compile(r"[+-]?[0-9](\.[0-9]+[eE]\+?|[eE]\+)[0-9]+")
"""A number with one digit before the point and a sign, or a point, as spreadsheets and programs write it. A code such
as 12E4 is none."""
_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<[A-Za-z_]", re.DOTALL)
"""What may stand before the first element: no declaration, also not behind a comment (XML 1.0, production 22)."""
_TAG = re.compile(rb"<(?:[^\s<>/:]+:)?(row|mergeCell)(?=[\s/>])([^<>]*)>")
_ATTRIBUTES = re.compile(rb"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"&]*"|'[^'&]*'))*\s*/?""")
_ROW_NUMBER = re.compile(rb"""\sr\s*=\s*["'](\d+)["']""")
_MERGED = re.compile(rb"""\sref\s*=\s*["'][A-Z]+\d+:[A-Z]+(\d+)["']""")
_FOREIGN = "holds XML that no spreadsheet program writes"


class ExtractError(Exception):
    """A file cannot be taken.

    Args:
        what: What is wrong, so that it reads well after file, row and column.
        row: Row in the file, from 1 and counting the headings; 0 for the file as a whole.
        column: Column, by the mapping's name.
    """

    def __init__(self, what: str, *, row: int = 0, column: str = "") -> None:
        place = [f"row {row}"] if row else []
        place += [f"column {column}"] if column else []
        super().__init__(": ".join((*([", ".join(place)] if place else []), what)))


def read_rows(file: ExtractFile, stream: BinaryIO) -> Iterator[Row]:
    """Rows of a file without its headings; blank ones are left out.

    Args:
        file: How to read it.
        stream: Its bytes, from the beginning; must be able to seek.

    Raises:
        ExtractError: The file cannot be taken; may come after any row.
    """
    return _xlsx_rows(file, stream) if file.is_xlsx else _csv_rows(file, stream)


# CSV (RFC 4180, with a choice of separators).


def _csv_rows(file: ExtractFile, stream: BinaryIO) -> Iterator[Row]:
    if file.companion is None:
        _check_end(stream)
    number = 0
    reader = csv.reader(_lines(file, stream), delimiter=file.separator, strict=True)
    places: list[int] | None = None
    width = 0
    names = list(file.headings)
    try:
        for fields in reader:
            number += 1
            if number < file.header:
                continue
            whole = "".join(fields)
            if "\n" in whole or "\r" in whole:
                # Two stray quotes would make one row of two, with a value of somebody else.
                raise ExtractError("has a field with a line break; does a quote not end?", row=number)
            if places is None:
                places, width = _places(file, [field.strip() for field in fields]), len(fields)
                continue
            if not whole:
                continue
            if len(fields) != width:
                raise ExtractError(f"has {len(fields)} fields where the headings are {width}", row=number)
            row = tuple([fields[place].strip() or None for place in places])
            for name, value in zip(names, row, strict=True):
                if value is not None and ("\0" in value or _EXPONENT.fullmatch(value)):
                    raise ExtractError(_spoilt(value), row=number, column=name)
            yield row
    except csv.Error:
        raise ExtractError("is not well-formed: a quote or a field does not end", row=number + 1) from None
    except _LineError as error:
        raise ExtractError(error.what, row=number + 1) from None
    if places is None:
        raise ExtractError("is empty" if not number else f"has no row {file.header} with headings")


def _check_end(stream: BinaryIO) -> None:
    """A file that was cut within its last line does not end with a line break."""
    size = stream.seek(0, 2)
    if size:
        stream.seek(size - 1)
        if stream.read(1) != b"\n":
            raise ExtractError(
                "does not end with a line break; it may be cut. Mend the export, or use a companion file"
            )
    stream.seek(0)


class _LineError(Exception):
    """A line cannot be read."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _lines(file: ExtractFile, stream: BinaryIO) -> Iterator[str]:
    """Decoded line by line, so that an error knows its row: in neither encoding is a line feed part of a character."""
    first = True
    while raw := stream.readline(MAX_LINE):
        if len(raw) == MAX_LINE:
            raise _LineError(f"is longer than {MAX_LINE} bytes")
        try:
            line = raw.decode(file.encoding)
        except UnicodeDecodeError:
            raise _LineError(f"is not {file.encoding}") from None
        if first:
            line, first = line.removeprefix("\ufeff"), False
        yield line


def _places(file: ExtractFile, found: Sequence[str | None]) -> list[int]:
    """Where each of the mapping's columns stands."""
    places = []
    for name, heading in file.headings.items():
        count = found.count(heading)
        if count != 1:
            what = "is twice among the headings" if count else f"is not among the headings{_hint(file, found)}"
            raise ExtractError(what, row=file.header, column=name)
        places.append(found.index(heading))
    return places


def _hint(file: ExtractFile, found: Sequence[str | None]) -> str:
    if len(found) == 1 and not file.is_xlsx:
        return "; is the separator right?"
    return ""


def _spoilt(value: str) -> str:
    if "\0" in value:
        return "holds a NUL character"
    return "is a number with an exponent, as a spreadsheet writes a long one; its digits are lost. Export it as text"


# XLSX (ISO/IEC 29500).


def _xlsx_rows(file: ExtractFile, stream: BinaryIO) -> Iterator[Row]:
    with warnings.catch_warnings():
        # They quote values.
        warnings.simplefilter("ignore")
        try:
            _check_archive(stream)
            yield from _sheet_rows(file, stream)
        except (ExtractError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever openpyxl makes of it, the file is no good; messages quote values
            raise ExtractError(f"is no XLSX file that can be read ({type(error).__name__})") from None


def _check_archive(stream: BinaryIO) -> None:
    """Sizes as the archive declares them, which are also the most that is unpacked; and no declarations of entities."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_UNPACKED:
            raise ExtractError(f"is larger than {MAX_UNPACKED} bytes when unpacked")
        for member in members:
            in_rows = member.filename.startswith("xl/worksheets/")
            if not in_rows and member.file_size > MAX_STRINGS:
                raise ExtractError(f"holds a part of more than {MAX_STRINGS} bytes")
            if member.flag_bits & 1:
                raise ExtractError("is encrypted")
            if member.filename.endswith((".xml", ".rels")):
                with archive.open(member) as part:
                    head = part.read(_CHUNK)
                # Neither a declaration passes, nor UTF-16.
                if not _PROLOG.match(head):
                    raise ExtractError(_FOREIGN)
    stream.seek(0)


def _sheet_rows(file: ExtractFile, stream: BinaryIO) -> Iterator[Row]:
    from openpyxl import load_workbook  # noqa: PLC0415 - takes a fifth of a second, and few departments need it

    book = load_workbook(stream, read_only=True, keep_links=False)
    try:
        sheet = _sheet_of(file, book)
        _check_sheet(file, sheet)
        # Written by some programs as if the sheet had one cell.
        sheet.reset_dimensions()
        yield from _cells(file, sheet)
    finally:
        book.close()


def _sheet_of(file: ExtractFile, book: Any) -> Any:
    if file.sheet is None:
        if len(book.worksheets) != 1:
            raise ExtractError(f'has {len(book.worksheets)} sheets; say which one: sheet = "…"')
        return book.worksheets[0]
    for sheet in book.worksheets:
        if sheet.title == file.sheet:
            return sheet
    raise ExtractError("has no sheet of the name that the mapping says")


def _check_sheet(file: ExtractFile, sheet: Any) -> None:
    """What openpyxl does not tell: merged cells, whose values only the first one has, and rows out of their order."""
    last = 0
    tail = b""
    with sheet._get_source() as part:  # noqa: SLF001 - the one way to the sheet's own part of the archive
        while chunk := part.read(_CHUNK):
            text = tail + chunk
            # A tag that the chunk cuts is looked at with the next one.
            end = text.rfind(b"<")
            end = len(text) if end < 0 or b">" in text[end:] else end
            text, tail = text[:end], text[end:]
            if len(tail) > _CHUNK:
                raise ExtractError(_FOREIGN)
            for name, attributes in _TAG.findall(text):
                if not _ATTRIBUTES.fullmatch(attributes):
                    # A character reference, say, could hide a number.
                    raise ExtractError(_FOREIGN)
                if name == b"row":
                    last = _next_row(attributes, last)
                elif (merged := _MERGED.search(attributes)) and int(merged[1]) >= file.header:
                    raise ExtractError("is merged with another cell; take merged cells apart", row=int(merged[1]))


def _next_row(attributes: bytes, last: int) -> int:
    """The number that a row says, which must be above the one before; the one before, if it says none."""
    said = _ROW_NUMBER.search(attributes)
    if said is None:
        return last
    number = int(said[1])
    if not last < number <= MAX_ROWS:
        raise ExtractError("has rows that are not in their order", row=min(number, MAX_ROWS))
    return number


def _cells(file: ExtractFile, sheet: Any) -> Iterator[Row]:
    names = list(file.headings)
    places: list[int] | None = None
    number = 0
    for cells in sheet.iter_rows():
        number += 1
        if number > MAX_ROWS:
            raise ExtractError(f"has more than {MAX_ROWS} rows")
        if number < file.header:
            continue
        if places is None:
            found = [cell.value.strip() if isinstance(cell.value, str) else None for cell in cells]
            places = _places(file, found)
            continue
        row = tuple(
            [
                _text(cells[place], number, name) if place < len(cells) else None
                for place, name in zip(places, names, strict=True)
            ]
        )
        if any(value is not None for value in row):
            yield row
    if places is None:
        raise ExtractError("is empty" if not number else f"has no row {file.header} with headings")


def _text(cell: Any, row: int, column: str) -> str | None:
    """A cell as text."""
    value = cell.value
    if value is None:
        return None
    if cell.data_type == "f":
        raise ExtractError("is a formula; save the sheet with values only", row=row, column=column)
    if cell.data_type == "e":
        raise ExtractError("is an error of the spreadsheet", row=row, column=column)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time().isoformat() == "00:00:00" else value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float):
        if abs(value) >= MAX_EXACT:
            what = "is a number of sixteen digits or more; its last digits are lost. Format the column as text"
            raise ExtractError(what, row=row, column=column)
        return _number(value)
    if not isinstance(value, str):
        raise ExtractError("is neither text nor number nor date", row=row, column=column)
    if "\0" in value or _EXPONENT.fullmatch(value.strip()):
        raise ExtractError(_spoilt(value), row=row, column=column)
    return value.strip() or None


def _number(value: float) -> str:
    """A number's digits without exponent; a whole one without a point."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return format(Decimal(repr(value)), "f")
