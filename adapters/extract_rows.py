"""From the bytes of a file that a mapping names to rows of text, one after the other, in bounded memory.

How CSV and XLSX files are read stands in `zhiwang/wire/tables.py` and `sheets.py`. An owner's data are taken whole or
not at all: whatever makes one row doubtful (another length, an identifier that a spreadsheet made a number) refuses the
file. Errors say row and column, and never a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from adapters.extract_model import ExtractFile
from zhiwang.wire.sheets import xlsx_table
from zhiwang.wire.tables import Form, TableError, check_end, csv_table

Row = tuple[str | None, ...]
"""Values of the mapping's columns, in their order."""


def read_rows(file: ExtractFile, stream: BinaryIO) -> Iterator[Row]:
    """Rows of a file without its headings; blank ones are left out.

    Args:
        file: How to read it.
        stream: Its bytes, from the beginning; must be able to seek.

    Raises:
        TableError: The file cannot be taken; may come after any row.
    """
    form = Form(file.header, file.encoding, file.separator, file.sheet)
    if not file.is_xlsx and file.companion is None:
        check_end(stream)
    table = xlsx_table(form, stream) if file.is_xlsx else csv_table(form, stream)
    names = tuple(file.headings)
    for number, cells, problem, column in table.take(table.places(file.headings)):
        if problem is not None:
            raise TableError(str(problem), row=number, column=names[column] if column >= 0 else "")
        yield cells
