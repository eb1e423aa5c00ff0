"""Tables written to CSV, XLSX or Parquet: row by row, private to their owner, and in place whole or not at all.

Texts are written in one line and without control characters, since not every format, and not every reader, takes
them. In CSV an apostrophe stands before what a spreadsheet program would calculate; `unguarded` takes it off again.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Final

from exchange.sweep.rosters import PARQUET, XLSX, kind_of, need_parquet
from zhiwang.wire.kept import sync_path
from zhiwang.wire.sheets import MAX_ROWS
from zhiwang.wire.tables import TableError

Cell = str | int
Write = Callable[[Sequence[Cell]], object]
Place = Callable[[Path, Path], object]

MAX_SHEET_ROWS: Final = MAX_ROWS - 1
"""Rows that fit a sheet below its headings."""

_GROUP: Final = 4096
"""Rows of a Parquet row group."""

_BREAKS = re.compile(r"[\r\n]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CALCULATED = re.compile(r"'*[=+\-@＝＋－＠]")
"""What a spreadsheet program may take for a formula (OWASP, CSV Injection); also what looks guarded already, so that
taking the guard off gives back what was there."""


def as_written(text: str) -> str:
    """A text as it stands in results."""
    return _CONTROLS.sub("", _BREAKS.sub(" ", text)).strip()


def guarded(text: str) -> str:
    """A text as it stands in results in CSV."""
    return f"'{text}" if _CALCULATED.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text[1:] if text.startswith("'") and _CALCULATED.match(text) else text


def place_new(temporary: Path, path: Path) -> None:
    """Give a file its name, unless something has it.

    Raises:
        OSError: It cannot have it.
        TableError: Something has.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise TableError(already_there(path)) from None
    except OSError:
        # Some file systems know no second name of a file.
        if os.path.lexists(path):
            raise TableError(already_there(path)) from None
        temporary.replace(path)


def already_there(path: Path) -> str:
    """Why a name cannot be had, and what to do."""
    return f"{path} is there already, and this sweep did not write it; move it away, or name another file"


def remove_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote a table."""
    for one in _temporary(path):
        one.unlink(missing_ok=True)


def _temporary(path: Path) -> tuple[Path, Path]:
    """Where a table lies until it is whole, and where its sheet does; always the same, so that they are found again."""
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.sheet")


def check_fits(path: Path, rows: int) -> None:
    """Refuse a format that cannot hold so many rows, before they are asked.

    Raises:
        TableError: It cannot.
    """
    if kind_of(path) == XLSX and rows > MAX_SHEET_ROWS:
        raise TableError(f"{path.name} can hold {MAX_SHEET_ROWS} rows, and the roster has {rows}; use CSV or Parquet")


@contextmanager
def table_file(path: Path, headings: Sequence[str], place: Place = place_new) -> Iterator[Write]:
    """Write a table; it takes its name when it is whole and on the disk. The first column holds whole numbers.

    Args:
        path: Its extension says the format. Its directory exists.
        headings: Of all columns.
        place: Gives the temporary file its name, when it is whole.

    Raises:
        OSError: It cannot be written; what was there is still there.
        TableError: pyarrow is missing, something has the name, or another process writes the same table.
    """
    kind = kind_of(path)
    begin = _xlsx if kind == XLSX else _parquet if kind == PARQUET else _csv
    temporary, sheet = _temporary(path)
    with ExitStack() as stack:
        stack.callback(remove_leftovers, path)
        with os.fdopen(_new(temporary), "wb") as file:
            with begin(file, sheet, [as_written(one) for one in headings]) as write:
                yield lambda row: write([as_written(one) if isinstance(one, str) else one for one in row])
            file.flush()
            os.fsync(file.fileno())
            if not _is_still(temporary, file):
                stack.pop_all()
                raise TableError(f"{path} is written by another sweep as well; name another file")
            place(temporary, path)
    sync_path(path.parent)


def _new(path: Path) -> int:
    """A new private file; what had its name goes, and nothing is followed."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def _csv(file: BinaryIO, _sheet: Path, headings: Sequence[str]) -> Iterator[Write]:
    # With a byte order mark, by which spreadsheet programs know UTF-8.
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        writer = csv.writer(text)
        writer.writerow([guarded(one) for one in headings])
        yield lambda row: writer.writerow([guarded(one) if isinstance(one, str) else one for one in row])
        text.flush()
    finally:
        # Closing would close the file, which is the caller's to sync.
        text.detach()


@contextmanager
def _xlsx(file: BinaryIO, beside: Path, headings: Sequence[str]) -> Iterator[Write]:
    from openpyxl import Workbook  # noqa: PLC0415 - takes a fifth of a second, and few results need it
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415 - the same
    from openpyxl.worksheet._writer import ALL_TEMP_FILES, WorksheetWriter  # noqa: PLC0415 - the same

    book = Workbook(write_only=True)
    sheet = book.create_sheet("sweep")
    os.close(_new(beside))
    # By itself openpyxl keeps the rows where all temporary files are, and leaves them there if it is killed.
    ALL_TEMP_FILES.append(str(beside))
    sheet._writer = WorksheetWriter(sheet, str(beside))  # noqa: SLF001 - it offers no other way to say where
    sheet._writer.write_top()  # noqa: SLF001 - as it begins a sheet itself

    def cell(value: Cell) -> Any:
        if isinstance(value, int) or not value.startswith(("=", "#")):
            return value
        one = WriteOnlyCell(sheet, value)
        # What was a text in the roster must not become a formula, nor an error.
        one.data_type = "s"
        return one

    sheet.append([cell(one) for one in headings])
    yield lambda row: sheet.append([cell(value) for value in row])
    book.save(file)


@contextmanager
def _parquet(file: BinaryIO, _sheet: Path, headings: Sequence[str]) -> Iterator[Write]:
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
