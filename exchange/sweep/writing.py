"""Tables written to CSV, XLSX or Parquet: row by row, private to their owner, and in place whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final

from exchange.sweep.rosters import PARQUET, XLSX, kind_of, need_parquet
from zhiwang.wire.archive import sync_directory
from zhiwang.wire.sheets import MAX_ROWS
from zhiwang.wire.tables import TableError

Cell = str | int
Write = Callable[[Sequence[Cell]], None]

MAX_SHEET_ROWS: Final = MAX_ROWS - 1
"""Rows that fit a sheet below its headings."""

_GROUP: Final = 4096
"""Rows of a Parquet row group."""


def check_fits(path: Path, rows: int) -> None:
    """Refuse a format that cannot hold so many rows, before they are asked.

    Raises:
        TableError: It cannot.
    """
    if kind_of(path) == XLSX and rows > MAX_SHEET_ROWS:
        raise TableError(f"{path.name} can hold {MAX_SHEET_ROWS} rows, and the roster has {rows}; use CSV or Parquet")


@contextmanager
def table_file(path: Path, headings: Sequence[str]) -> Iterator[Write]:
    """Write a table; it takes its name when it is whole and on the disk. The first column holds whole numbers.

    Args:
        path: Its extension says the format. Its directory exists.
        headings: Of all columns.

    Raises:
        OSError: It cannot be written; what was there is still there.
        TableError: pyarrow is missing.
    """
    kind = kind_of(path)
    begin = _xlsx if kind == XLSX else _parquet if kind == PARQUET else _csv
    # Always the same, so that what a killed process left is written over; the journal lets one process write.
    temporary = path.with_name(f".{path.name}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with begin(file, headings) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextmanager
def _csv(file: BinaryIO, headings: Sequence[str]) -> Iterator[Write]:
    # With a byte order mark, by which spreadsheet programs know UTF-8.
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        writer = csv.writer(text)
        writer.writerow(headings)
        yield writer.writerow
        text.flush()
    finally:
        # Closing would close the file, which is the caller's to sync.
        text.detach()


@contextmanager
def _xlsx(file: BinaryIO, headings: Sequence[str]) -> Iterator[Write]:
    from openpyxl import Workbook  # noqa: PLC0415 - takes a fifth of a second, and few results need it
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - the same
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE  # noqa: PLC0415 - the same

    book = Workbook(write_only=True)
    sheet = book.create_sheet("sweep")

    def cell(value: Cell) -> Any:
        if isinstance(value, int):
            return value
        text = ILLEGAL_CHARACTERS_RE.sub("", value)
        if not text.startswith("="):
            return text
        one = WriteOnlyCell(sheet, text)
        # What was a text in the roster must not become a formula.
        one.data_type = "s"
        return one

    sheet.append(list(headings))
    yield lambda row: sheet.append([cell(value) for value in row])
    book.save(file)


@contextmanager
def _parquet(file: BinaryIO, headings: Sequence[str]) -> Iterator[Write]:
    arrow = need_parquet()
    types = [arrow.int64(), *[arrow.string()] * (len(headings) - 1)]
    schema = arrow.schema(list(zip(headings, types, strict=True)))
    rows: list[Sequence[Cell]] = []
    with arrow.parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            columns = list(zip(*rows, strict=True)) or [()] * len(headings)
            arrays = [arrow.array(column, one) for column, one in zip(columns, types, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def write(row: Sequence[Cell]) -> None:
            rows.append(tuple(row))
            if len(rows) >= _GROUP:
                flush()

        yield write
        flush()
