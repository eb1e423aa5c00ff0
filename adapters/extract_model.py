"""What a mapping says of files: `[file.NAME]` is one table that a department delivers as CSV or XLSX.

    [database]
    url = "files:extracts"

    [file.person]
    path    = "person_*.csv"
    columns = { id_card = "身份证号", months = "参保月数" }

Files become tables of a private SQLite database (`adapters/extract_load.py`), and from there on a mapping over files is
a mapping like any other: `readable` gives it. No SQL here, and no reading of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dictionary
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

from pydantic import Field

from policy.document import Mistake
from zhiwang.wire.tomlfile import StrictModel

if TYPE_CHECKING:  # mapping.py holds these models
    from adapters.mapping import DataSet, Mapping

SCHEME = "files:"
"""What the URL of a mapping over files begins with; behind it stands their directory."""

LOADS = "zw_load"
"""Table of the private database that says of each file what was loaded, and when that was written."""

XLSX = ".xlsx"

ColumnName = Annotated[str, Field(min_length=1, max_length=128, pattern=r'^[^\s"\x00-\x1f]+$')]
Heading = Annotated[str, Field(min_length=1, max_length=128)]

OWN = "zw_"
"""With this begins the name of every relation that our own statements make; no table of a department may."""

_PATH = re.compile(r"[^./\\\[\]\x00-\x1f][^/\\\[\]\x00-\x1f]*")


class ExtractFile(StrictModel):
    """One table that comes as a file.

    Attributes:
        path: Name of the file within the directory; `*` and `?` stand for what changes from day to day. Of several that
            fit, the one whose name sorts last is taken, so write dates as 20260901. What ends in .xlsx is read as such,
            everything else as CSV.
        columns: Which columns are taken, by the file's own headings; as a table, by the names that expressions use.
            Others are not copied.
        header: Row of the headings, from 1; what stands above it is skipped.
        encoding: Of a CSV file. GB18030 reads GBK and GB2312 too.
        separator: Between the fields of a CSV file.
        sheet: Which sheet of an XLSX file; not needed if there is only one.
        index: Columns to index besides the subjects of the data sets over this table.
        companion: What must lie beside a file before it is taken: `FILE.done`, not older than it, or `FILE.sha256` with
            its hash, as sha256sum writes it.
        settle: Seconds for which a file must have stood unchanged before it is taken.
        least_rows: A file with fewer rows is refused.
    """

    path: Annotated[str, Field(min_length=1, max_length=200)]
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=500)] | dict[ColumnName, Heading]
    header: Annotated[int, Field(ge=1, le=100)] = 1
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    separator: Literal[",", ";", "\t", "|"] = ","
    sheet: Annotated[str, Field(min_length=1, max_length=31)] | None = None
    index: tuple[ColumnName, ...] = ()
    companion: Literal["done", "sha256"] | None = None
    settle: Annotated[int, Field(ge=0, le=3600)] = 10
    least_rows: Annotated[int, Field(ge=0)] = 1

    @property
    def headings(self) -> dict[str, str]:
        """Heading in the file of each column of the table."""
        return dict(self.columns) if isinstance(self.columns, dict) else {name: name for name in self.columns}

    @property
    def is_xlsx(self) -> bool:
        """Whether it is a workbook."""
        return self.path.lower().endswith(XLSX)


def check_files(mapping: Mapping) -> Iterator[Mistake]:
    """What is wrong with the files of a mapping, and with data sets over them."""
    over_files = mapping.database.url.startswith(SCHEME)
    if mapping.file and not over_files:
        yield Mistake(("database", "url"), f'must be "{SCHEME}DIRECTORY" where there are tables [file.NAME]')
        return
    if not over_files:
        return
    if not mapping.file:
        yield Mistake(("database", "url"), "names a directory of files; write a table [file.NAME] for each of them")
    if not mapping.database.url.removeprefix(SCHEME):
        yield Mistake(("database", "url"), f'names no directory: write "{SCHEME}DIRECTORY"')
    if mapping.database.password_file is not None:
        yield Mistake(("database", "password_file"), "is for databases; files need none")
    for name, file in mapping.file.items():
        yield from _check_file(("file", name), name, file)
    for name, data in mapping.data.items():
        yield from _check_data(("data", name), data, mapping.file)


def _check_file(key: tuple[str, ...], name: str, file: ExtractFile) -> Iterator[Mistake]:
    if name.startswith((OWN, "sqlite_")):
        yield Mistake(key, "is a name that our own statements use; choose another")
    if not _PATH.fullmatch(file.path):
        yield Mistake((*key, "path"), "must be the name of a file in the directory: no folder, no dot in front, no [ ]")
    names = list(file.headings)
    if not names:
        yield Mistake((*key, "columns"), "names no column")
    if len({one.casefold() for one in names}) != len(names):
        yield Mistake((*key, "columns"), "names a column twice; upper and lower case are the same")
    if len(set(file.headings.values())) != len(names):
        yield Mistake((*key, "columns"), "takes a heading twice")
    for column in file.index:
        if column not in names:
            yield Mistake((*key, "index"), f"{column} is not among the columns")
    if file.sheet is not None and not file.is_xlsx:
        yield Mistake((*key, "sheet"), "is for XLSX files only")
    for word in ("encoding", "separator"):
        if file.is_xlsx and word in file.model_fields_set:
            yield Mistake((*key, word), "is for CSV files only")


def _check_data(key: tuple[str, ...], data: DataSet, files: Dictionary[str, ExtractFile]) -> Iterator[Mistake]:
    if data.table is None:
        return
    file = files.get(data.table)
    if file is None:
        yield Mistake((*key, "table"), f"there is no [file.{data.table}]")
        return
    region = None if data.region is None else data.region.column
    for word, column in (("subject", data.subject), ("name", data.name), ("region", region)):
        # SQLite would take a quoted name that it does not know for a text.
        if column is not None and column not in file.headings:
            yield Mistake((*key, word), f"{column} is not among the columns of [file.{data.table}]")


def with_loads(mapping: Mapping) -> Mapping:
    """The mapping, each of its data sets over files with the time of its load.

    A data set over one file is as old as that file; one that a SELECT makes, as the oldest of all. What the mapping
    says itself stands.
    """
    if not mapping.file:
        return mapping
    data = {
        name: one.model_copy(update={"loaded": _loaded(one)})
        if one.loaded is None and (one.table is None or one.table in mapping.file)
        else one
        for name, one in mapping.data.items()
    }
    return mapping.model_copy(update={"data": data})


def _loaded(data: DataSet) -> str:
    # Names of files are a pattern without quotes.
    statement = f"SELECT min(written) FROM {LOADS}"  # noqa: S608 - a constant
    return statement if data.table is None else f"{statement} WHERE file = '{data.table}'"


def readable(mapping: Mapping, database: Path) -> Mapping:
    """The mapping over the private database in place of the files."""
    url = f"sqlite:///file:{quote(str(database.resolve()))}?mode=ro&uri=true"
    return mapping.model_copy(update={"database": mapping.database.model_copy(update={"url": url})})


def directory_of(mapping: Mapping, base: Path) -> Path:
    """Where the files lie; relative to the mapping."""
    return base / mapping.database.url.removeprefix(SCHEME)


def indexes(mapping: Mapping) -> dict[str, tuple[str, ...]]:
    """Which columns of each file are indexed: those of `index`, and the subjects of the data sets over it."""
    wanted: dict[str, Iterable[str]] = {name: file.index for name, file in mapping.file.items()}
    for data in mapping.data.values():
        if data.table is not None:
            wanted[data.table] = [*wanted[data.table], data.subject]
    return {name: tuple(dict.fromkeys(columns)) for name, columns in wanted.items()}
