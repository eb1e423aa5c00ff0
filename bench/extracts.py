"""extract_load, extract_memory: a CSV or XLSX file of many rows on its way into an adapter's private database.

Files are made in a temporary directory and loaded by the very process that an adapter starts. Beside it stands the
least that could do the same: Python's csv module, `executemany` and one CREATE INDEX, without looking at a value.
"""

from __future__ import annotations

import csv
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from openpyxl import Workbook

from adapters.extract_load import Job, Stamp, Task
from adapters.extract_load import Result as Loaded
from adapters.extract_model import ExtractFile
from bench.result import Result

ROWS = (100_000, 1_000_000)
XLSX_ROWS = 100_000
COLUMNS = ("id_card", "full_name", "region", "months", "employer", "begun", "ended")
TAKEN = COLUMNS[:5]
MIB = 1 << 20
FLAT = 1.2
"""What ten times the rows may take of memory."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load.

    Attributes:
        seconds: From the start of the process to its end.
        memory: Its largest resident size, in bytes.
    """

    seconds: float
    memory: int


def _rows(count: int) -> Iterator[tuple[str, ...]]:
    """People who do not exist, in no order of their identifiers."""
    for number in range(count):
        serial = number * 7919 % 10_000_019
        yield (
            f"440399{19000101 + serial // 1000}{serial % 1000:03d}X",
            "王小明",
            "440306001",
            str(number % 400),
            "深圳市某某科技有限公司",
            "2020-01-01",
            "",
        )


def _write(path: Path, count: int) -> None:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_rows(count))
        return
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(COLUMNS)
    for row in _rows(count):
        sheet.append(row)
    book.save(path)


def _peak(pid: int) -> int:
    """Largest resident size of a process so far, in bytes (proc_pid_status(5)); 0 if it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii", "replace"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _load(path: Path, target: Path, count: int) -> Measured:
    file = ExtractFile(path=path.name, columns=TAKEN)
    task = Task(file=file, index=("id_card",), stamp=Stamp.of(path.name, path.stat()))
    job = Job(
        directory=str(path.parent), target=str(target), current=None, now=int(time.time()), tasks={"person": task}
    )
    begun = time.perf_counter()
    memory = 0
    command = [sys.executable, "-m", "adapters.extract_load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(job.model_dump_json().encode())
        process.stdin.close()
        # Not from wait4(2), whose largest size is that of the process before its exec too, and so often ours.
        while process.poll() is None:
            memory = max(memory, _peak(process.pid))
            time.sleep(0.01)
        measured = Measured(time.perf_counter() - begun, memory)
        result = Loaded.model_validate_json(process.stdout.read())
    if result.outcome != "built" or result.loaded["person"].rows != count:
        raise RuntimeError(result.outcome)
    target.unlink()
    return measured


def _bare(path: Path, target: Path) -> float:
    """Seconds of the least that could do the same."""
    begun = time.perf_counter()
    with closing(sqlite3.connect(target, isolation_level=None)) as connection, path.open(encoding="utf-8") as file:
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"CREATE TABLE person ({', '.join(TAKEN)})")
        connection.execute("BEGIN")
        rows = islice(csv.reader(file), 1, None)
        connection.executemany("INSERT INTO person VALUES (?, ?, ?, ?, ?)", (row[:5] for row in rows))
        connection.execute("CREATE INDEX person_id ON person (id_card)")
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    target.unlink()
    return seconds


async def measure() -> list[Result]:
    """Load files of growing size."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        target = directory / "new.db"
        loads: list[Measured] = []
        bare = 0.0
        for count in ROWS:
            path = directory / f"person{count}.csv"
            _write(path, count)
            bare = _bare(path, target)
            loads.append(_load(path, target, count))
            path.unlink()
        book = directory / "person.xlsx"
        _write(book, XLSX_ROWS)
        xlsx = _load(book, target, XLSX_ROWS)
    few, many = loads
    speed, plain, cells = ROWS[-1] / many.seconds, ROWS[-1] / bare, XLSX_ROWS / xlsx.seconds
    floor = few.memory / MIB
    return [
        Result("extract_load", speed, "rows/s", plain, speed / plain, "none", None),
        Result(
            "extract_memory",
            many.memory / MIB,
            "MiB",
            floor,
            many.memory / few.memory,
            "at most 1.2",
            many.memory <= FLAT * few.memory,
        ),
        Result("extract_xlsx", cells, "rows/s", speed, cells / speed, "none", None),
        Result("extract_xlsx_memory", xlsx.memory / MIB, "MiB", floor, xlsx.memory / few.memory, "none", None),
    ]
