"""From a file with a table to rows of text, one after the other, in bounded memory: what all such files share, and CSV.

Everything becomes text: leading zeros stay, and a number means what its digits say. Outer white space goes, and what is
then empty is null. Whatever makes a file as a whole doubtful (bytes of another encoding, a quote that does not end)
ends the reading; what is wrong with one row or one cell of it is told with that row, and whoever reads decides.
Messages say row and column, and never a value: not even a heading of the file's own, since a file without headings
begins with a citizen. Workbooks are read by `sheets.py`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

MAX_LINE: Final = 1 << 20
"""Longest line of a CSV file, in bytes."""

MAX_EXACT: Final = 10**15
"""From here on a spreadsheet's number has lost digits: it keeps fifteen of them."""

_EXPONENT = re.compile(r"[+-]?[0-9](\.[0-9]+[eE]\+?|[eE]\+)[0-9]+")
"""A number with one digit before the point and a sign, or a point, as spreadsheets and programs write it. A code such
as 12E4 is none."""


_RETURNS: Final = "has line ends that are a carriage return alone; save it as CSV UTF-8 anew"


class TableError(Exception):
    """A file, or something in it, cannot be taken.

    Args:
        what: What is wrong, so that it reads well after row and column.
        row: Row in the file, from 1 and counting the headings; 0 for the file as a whole.
        column: Column, by the reader's own name of it.
    """

    def __init__(self, what: str, *, row: int = 0, column: str = "") -> None:
        place = [f"row {row}"] if row else []
        place += [f"column {column}"] if column else []
        super().__init__(": ".join((*([", ".join(place)] if place else []), what)))


class CellError(Exception):
    """A cell, or a whole row, cannot be taken; its text says why and no value."""


class DigitsLostError(CellError):
    """A long number that a spreadsheet has rounded."""


class Form(NamedTuple):
    """How a file is written.

    Attributes:
        header: Row of the headings, from 1; what stands above it is skipped.
        encoding: Of a CSV file.
        separator: Between the fields of a CSV file.
        sheet: Which sheet of a workbook; None for the only one.
    """

    header: int = 1
    encoding: str = "utf-8"
    separator: str = ","
    sheet: str | None = None


class Record(NamedTuple):
    """One row of the columns that are taken.

    Attributes:
        number: Row in the file, from 1 and counting the headings.
        cells: Texts; None for an empty one, and for one that cannot be taken.
        problem: Why the row, or the first such cell of it, cannot be taken; None if it can.
        column: Index in `cells` of that cell; -1 for the row as a whole.
    """

    number: int
    cells: tuple[str | None, ...]
    problem: CellError | None = None
    column: int = -1


RawRow = tuple[int, Sequence[Any]]
"""A row's number and all of its cells, as its format has them."""


class Table:
    """A table whose headings have been read.

    Args:
        form: How it is written.
        raw: Its headings, then its rows.
        text: A cell as text; raises CellError.
        exact: Whether every row has as many cells as there are headings.
    """

    def __init__(
        self, form: Form, raw: Iterator[RawRow], text: Callable[[Any], str | None], *, exact: bool = False
    ) -> None:
        first = next(raw, None)
        if first is None:
            raise TableError("is empty")
        self._header = form.header
        self._raw = raw
        self._text = text
        self._exact = exact
        self._width = len(first[1])
        self.headings: tuple[str | None, ...] = tuple(
            [cell.strip() or None if isinstance(cell, str) else None for cell in first[1]]
        )

    def places(self, wanted: Mapping[str, str]) -> list[int]:
        """Where columns stand.

        Args:
            wanted: Heading of each column, by the reader's own name of it.

        Raises:
            TableError: A heading is not there, or there twice.
        """
        places = []
        for name, heading in wanted.items():
            count = self.headings.count(heading)
            if count != 1:
                hint = "; is the separator right?" if self._exact and self._width == 1 else ""
                what = "is twice among the headings" if count else f"is not among the headings{hint}"
                raise TableError(what, row=self._header, column=name)
            places.append(self.headings.index(heading))
        return places

    def take(self, places: Sequence[int]) -> Iterator[Record]:
        """The rows, of some columns only; blank ones are left out.

        Args:
            places: Of the columns.

        Raises:
            TableError: The file cannot be read on; may come after any row.
        """
        text = self._text
        for number, cells in self._raw:
            width = len(cells)
            if self._exact and width != self._width:
                what = f"has {width} fields where the headings are {self._width}"
                yield Record(number, (None,) * len(places), CellError(what))
                continue
            try:
                taken = tuple([text(cells[place]) if place < width else None for place in places])
            except CellError:
                yield self._spoilt(number, cells, places)
                continue
            if self._exact or any(value is not None for value in taken):
                yield Record(number, taken)

    def _spoilt(self, number: int, cells: Sequence[Any], places: Sequence[int]) -> Record:
        taken: list[str | None] = []
        problem: CellError | None = None
        column = -1
        for index, place in enumerate(places):
            try:
                taken.append(self._text(cells[place]) if place < len(cells) else None)
            except CellError as error:
                taken.append(None)
                if problem is None:
                    problem, column = error, index
        return Record(number, tuple(taken), problem, column)


def check_text(value: str) -> str | None:
    """A text without its outer white space; None if nothing is left.

    Raises:
        CellError: It holds NUL, or is a number whose digits are lost.
    """
    value = value.strip()
    if "\0" in value:
        raise CellError("holds a NUL character")
    if _EXPONENT.fullmatch(value):
        raise DigitsLostError(
            "is a number with an exponent, as a spreadsheet writes a long one; its digits are lost. Export it as text"
        )
    return value or None


# CSV (RFC 4180, with a choice of separators).


def csv_table(form: Form, stream: BinaryIO) -> Table:
    """The table of a CSV file.

    Raises:
        TableError: It cannot be read.
    """
    return Table(form, _csv_rows(form, stream), check_text, exact=True)


def check_end(stream: BinaryIO) -> None:
    """Refuse a CSV file that was cut within its last line, which then does not end with a line break.

    Raises:
        TableError: It may have been.
    """
    size = stream.seek(0, 2)
    if size:
        stream.seek(size - 1)
        if stream.read(1) != b"\n":
            raise TableError("does not end with a line break; it may be cut. Mend the export, or use a companion file")
    stream.seek(0)


def _csv_rows(form: Form, stream: BinaryIO) -> Iterator[RawRow]:
    number = 0
    try:
        for fields in csv.reader(_lines(form, stream), delimiter=form.separator, strict=True):
            number += 1
            if number < form.header:
                continue
            whole = "".join(fields)
            if "\n" in whole or "\r" in whole:
                # Two stray quotes would make one row of two, with a value of somebody else.
                raise TableError("has a field with a line break; does a quote not end?", row=number)
            if whole or number == form.header:
                yield number, fields
    except csv.Error as error:
        if "new-line character" in str(error):
            raise TableError(_RETURNS) from None
        raise TableError("is not well-formed: a quote or a field does not end", row=number + 1) from None
    except _LineError as error:
        raise TableError(error.what, row=number + 1) from None
    if 0 < number < form.header:
        raise TableError(f"has no row {form.header} with headings")


class _LineError(Exception):
    """A line cannot be read."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def _lines(form: Form, stream: BinaryIO) -> Iterator[str]:
    """Decoded line by line, so that an error knows its row: in neither encoding is a line feed part of a character."""
    first = True
    while raw := stream.readline(MAX_LINE):
        if len(raw) == MAX_LINE:
            if first and b"\r" in raw:
                raise TableError(_RETURNS)
            raise _LineError(f"is longer than {MAX_LINE} bytes")
        try:
            line = raw.decode(form.encoding)
        except UnicodeDecodeError:
            raise _LineError(f"is not {form.encoding}") from None
        if first:
            line, first = line.removeprefix("\ufeff"), False
        yield line
