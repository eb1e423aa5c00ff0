"""Rosters as files: CSV (UTF-8, or GB18030, found by trying), XLSX and Parquet, read row by row as often as needed.

A roster is read several times (to take it in, to ask, to write results), always from its beginning and in bounded
memory, so nothing of it has to be copied anywhere. Its hash says that it is still the same one, and while it is read
its size and time say so.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final

from zhiwang.wire.sheets import plain_text, xlsx_table
from zhiwang.wire.tables import MAX_LINE, CellError, Form, RawRow, Table, TableError, csv_table

XLSX: Final = ".xlsx"
PARQUET: Final = ".parquet"
CSV: Final = ".csv"
KINDS: Final = (CSV, XLSX, PARQUET)

ENCODINGS: Final = ("utf-8", "gb18030")
"""Tried in this order. GB18030 reads GBK and GB2312 too; hardly anything in it is UTF-8 by chance."""

SEPARATORS: Final = (",", "\t", ";", "|")

Stamp = tuple[int, int, int, int]

_CHUNK: Final = 1 << 20
_BATCH: Final = 1024
_LETTERS: Final = 64
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def kind_of(path: Path) -> str:
    """Its format by its extension.

    Raises:
        TableError: It is none of ours.
    """
    suffix = path.suffix.lower()
    suffix = CSV if suffix in {".txt", ".tsv"} else suffix
    if suffix not in KINDS:
        raise TableError(f"must be a file of {', '.join(KINDS)}")
    return suffix


def need_parquet() -> Any:
    """pyarrow, which few departments need.

    Raises:
        TableError: It is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: PLC0415 - 40 MB that only Parquet needs
    except ImportError:
        raise TableError(
            "Parquet needs pyarrow, which is not installed: pip install 'zhiwang[parquet]', or use CSV or XLSX"
        ) from None
    return pyarrow


class TouchedError(TableError):
    """The bytes are what they were, but not the file or its time: what was read meanwhile is to be read again."""


@dataclass(slots=True)
class Roster:
    """A file that can be read.

    Attributes:
        path: Where it lies.
        kind: CSV, XLSX or PARQUET.
        form: How it is written.
        sha256: Of its bytes, in hex.
        stamp: Which file it was when its bytes were hashed last, as `stamp_of` gives it.
    """

    path: Path
    kind: str
    form: Form
    sha256: str
    stamp: Stamp

    @contextmanager
    def table(self) -> Iterator[Table]:
        """Its table, from the beginning.

        Raises:
            TableError: It cannot be read, or is no longer what it was.
        """
        if stamp_of(self.path.stat()) != self.stamp:
            self.check_bytes()
        with self.path.open("rb") as stream:
            if stamp_of(os.fstat(stream.fileno())) != self.stamp:
                raise TableError(self._changed)
            if self.kind == XLSX:
                yield xlsx_table(self.form, stream)
            elif self.kind == PARQUET:
                yield Table(self.form, _parquet_rows(stream), _parquet_text)
            else:
                yield csv_table(self.form, stream)

    def check_stamp(self) -> None:
        """Refuse a file that has been written or replaced since it was hashed: what was read may be of other people.

        Raises:
            TouchedError: It has, and its bytes are the same again, or still; they were not while they were read, maybe.
            TableError: It has, and they are not.
        """
        if stamp_of(self.path.stat()) != self.stamp:
            self.check_bytes()
            raise TouchedError(f"{self.path.name} was touched while it was read; give the same command again")

    def check_bytes(self) -> None:
        """Refuse other bytes, also where a coarse clock hides that; whatever file holds the same ones is this one.

        Raises:
            TableError: They are others, or are being written.
        """
        with self.path.open("rb") as stream:
            stamp = stamp_of(os.fstat(stream.fileno()))
            same = _look_through(stream)[0] == self.sha256
        if not same or stamp_of(self.path.stat()) != stamp:
            raise TableError(self._changed)
        self.stamp = stamp

    @property
    def _changed(self) -> str:
        return f"{self.path.name} was changed meanwhile; put it back as it was, and give the same command again"


def stamp_of(status: os.stat_result) -> Stamp:
    """By what it is seen that a file was written or replaced: device, inode, size, and time of the last writing."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def find_roster(path: Path, form: Form, *, separator: str = "", encoding: str = "") -> Roster:
    """Look a file through: its format, its encoding and its hash.

    Args:
        path: The file.
        form: Row of the headings, and the sheet.
        separator: Of a CSV file; empty to find it in the headings.
        encoding: Of a CSV file, one of ENCODINGS; empty to find it by trying.

    Raises:
        TableError: It cannot be read as a roster.
        OSError: It cannot be read at all.
    """
    kind = kind_of(path)
    with path.open("rb") as stream:
        stamp = stamp_of(os.fstat(stream.fileno()))
        tried = () if kind != CSV else (encoding,) if encoding else ENCODINGS
        sha256, found = _look_through(stream, tried)
        if kind == CSV:
            if found is None:
                what = f"not {encoding}" if encoding else "neither UTF-8 nor GB18030"
                raise TableError(f"is {what}; export it as one of {', '.join(ENCODINGS)}")
            form = form._replace(encoding=found)
            stream.seek(0)
            form = form._replace(separator=separator or _separator(form, stream))
    roster = Roster(path, kind, form, sha256, stamp)
    with roster.table():
        return roster


def _look_through(stream: BinaryIO, encodings: Sequence[str] = ()) -> tuple[str, str | None]:
    """Its hash, and the first encoding in which all of it can be read; None if there is none, or none is wanted."""
    digest = hashlib.sha256()
    decoders = {name: codecs.getincrementaldecoder(name)() for name in encodings}
    first = True
    while chunk := stream.read(_CHUNK):
        # Without its mark too: no other text has a NUL among its first letters.
        if first and encodings and (chunk.startswith(_UTF16) or b"\0" in chunk[:_LETTERS]):
            raise TableError('is UTF-16, as a spreadsheet\'s "Unicode text" is; save it as CSV UTF-8')
        first = False
        digest.update(chunk)
        _drop_failing(decoders, chunk, final=False)
    _drop_failing(decoders, b"", final=True)
    return digest.hexdigest(), next(iter(decoders), None)


def _drop_failing(decoders: dict[str, codecs.IncrementalDecoder], chunk: bytes, *, final: bool) -> None:
    for name, decoder in tuple(decoders.items()):
        try:
            decoder.decode(chunk, final)
        except UnicodeDecodeError:
            del decoders[name]


def _separator(form: Form, stream: BinaryIO) -> str:
    """The one that gives the line of the headings most fields."""
    line = b""
    for _ in range(form.header):
        line = stream.readline(MAX_LINE)
    text = line.decode(form.encoding, "replace").removeprefix("\ufeff")

    def fields(separator: str) -> int:
        try:
            return max((len(row) for row in csv.reader([text], delimiter=separator)), default=0)
        except csv.Error:
            return 0

    return max(SEPARATORS, key=fields)


# Parquet.


def _parquet_rows(stream: BinaryIO) -> Iterator[RawRow]:
    arrow = need_parquet()
    try:
        file = arrow.parquet.ParquetFile(stream)
        yield 1, file.schema_arrow.names
        number = 1
        for batch in file.iter_batches(batch_size=_BATCH):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, cells
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Also of a text that is no UTF-8, or a date beyond the calendar, which it makes no error of its own of.
        # Its messages may quote values.
        raise TableError(f"is no Parquet file that can be read ({type(error).__name__})") from None


def _parquet_text(value: object) -> str | None:
    """A value of a column; whole numbers are exact there, however long.

    Raises:
        CellError: It is of another type.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        raise CellError("is neither text nor number nor date")
    return plain_text(value)
