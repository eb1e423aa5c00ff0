"""Whatever happens to a roster while it is swept, no answer comes to stand beside somebody else."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import pytest
from openpyxl import Workbook

from exchange.demo.codes import resident
from exchange.sweep import running
from exchange.sweep.journal import JournalError
from exchange.sweep.rosters import find_roster
from sweep_support import HEADINGS, Bench, Wire, people, results
from zhiwang.wire.header import Header
from zhiwang.wire.tables import Form, Record, TableError

YOUNG = resident(date(1990, 1, 1), 77)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_SECONDS", (0.01, 0.05))


def some_people(count: int, young: int) -> list[list[str]]:
    rows = [list(row) for row in people(count)]
    rows[young][1] = YOUNG
    return rows


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADINGS, *rows])


def replace(path: Path, rows: Sequence[Sequence[str]]) -> None:
    write(path.with_name("new.csv"), rows)
    path.with_name("new.csv").replace(path)


def once(wire: Wire, act: Callable[[], object]) -> Callable[[Header], None]:
    def do(_header: Header) -> None:
        wire.before = lambda _header: None
        act()

    return do


@pytest.mark.parametrize("edit", [write, replace])
async def test_a_roster_edited_while_it_is_asked_ends_the_sweep_and_put_back_it_goes_on(
    tmp_path: Path, edit: Callable[[Path, Sequence[Sequence[str]]], None]
) -> None:
    rows, wire = some_people(2000, 1900), Wire()
    swapped = [*rows[:1900], rows[1901], rows[1900], *rows[1902:]]
    with Bench(tmp_path, rows, wire) as bench:
        began = bench.path.read_bytes()
        wire.before = once(wire, lambda: edit(bench.path, swapped))
        with pytest.raises(TableError, match="was changed meanwhile"):
            await bench.run()
        with pytest.raises(TableError, match="was changed meanwhile"):
            bench.write()
        assert not bench.out.exists()
    bench.path.write_bytes(began)
    found = await answers(tmp_path, None, wire)
    (tmp_path / "honest").mkdir()
    assert found == await answers(tmp_path / "honest", rows, Wire())
    assert len({found["R1900"], found["R1901"]}) == 2, "two people of whom the same is true show nothing"


async def answers(path: Path, rows: Sequence[Sequence[str]] | None, wire: Wire) -> dict[str, tuple[str, str]]:
    with Bench(path, rows, wire) as bench:
        await bench.run()
        bench.write()
    return {one["key"]: (one["living"], one["aged"]) for one in results(bench.out)}


@pytest.mark.parametrize("grown", [False, True])
async def test_results_are_not_written_from_a_roster_edited_since_it_was_asked(tmp_path: Path, *, grown: bool) -> None:
    rows, wire = some_people(3, 0), Wire()
    with Bench(tmp_path, rows, wire) as bench:
        wire.before = once(wire, lambda: write(bench.path, [*rows, rows[0]] if grown else [rows[1], rows[0], rows[2]]))
        await bench.run()
        with pytest.raises(TableError, match="was changed meanwhile"):
            bench.write()
    assert not bench.out.exists()


async def test_a_roster_edited_while_its_results_are_written_keeps_them_from_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_people(300, 0)
    with Bench(tmp_path, rows, Wire()) as bench:
        await bench.run()
        entries, before = bench.journal.entries, bench.path.stat()

        def edit(first: int, last: int, *, only_open: bool = False) -> object:
            write(bench.path, [rows[1], rows[0], *rows[2:]])
            # As on a file system with a coarse clock.
            os.utime(bench.path, ns=(before.st_atime_ns, before.st_mtime_ns))
            return entries(first, last, only_open=only_open)

        monkeypatch.setattr(bench.journal, "entries", edit)
        with pytest.raises(TableError, match="was changed meanwhile"):
            bench.write()
    assert not bench.out.exists()


def touch(path: Path) -> None:
    os.utime(path)


def copy(path: Path) -> None:
    path.with_name("new.csv").write_bytes(path.read_bytes())
    path.with_name("new.csv").replace(path)


@pytest.mark.parametrize("act", [touch, copy])
async def test_a_roster_that_is_only_touched_or_replaced_by_its_copy_does_not_stop_the_sweep(
    tmp_path: Path, act: Callable[[Path], None]
) -> None:
    rows, wire = some_people(2000, 1900), Wire()
    with Bench(tmp_path, rows, wire) as bench:
        wire.before = once(wire, lambda: act(bench.path))
        await bench.run()
        bench.write()
        assert [one["key"] for one in results(bench.out)] == [row[0] for row in rows]
        assert {"health", "police"} <= wire.cases.keys()
        assert set(wire.cases.values()) == {2000}, "a row was asked twice"


async def test_what_was_read_while_other_bytes_were_there_is_not_taken_though_they_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_people(600, 300)
    with Bench(tmp_path, rows, Wire()) as bench:
        honest = list(running.rows_of(bench.roster, bench.reader))
        before, rows_of = bench.path.read_bytes(), running.rows_of

        def other_people_meanwhile(*_arguments: object) -> Iterator[Record]:
            monkeypatch.setattr(running, "rows_of", rows_of)
            write(bench.path, rows[::-1])
            found = list(rows_of(find_roster(bench.path, Form()), bench.reader))
            bench.path.write_bytes(before)
            yield from found

        monkeypatch.setattr(running, "rows_of", other_people_meanwhile)
        assert [one for group in running.in_groups(bench.roster, bench.reader) for one in group] == honest


async def test_a_journal_is_bound_to_the_sheet_and_the_row_of_the_headings(tmp_path: Path) -> None:
    book = Workbook()
    for title, start in (("A", 0), ("B", 500)):
        sheet = book.create_sheet(title)
        for row in (HEADINGS, HEADINGS, *list(people(start + 3))[start:]):
            sheet.append(row)
    book.save(tmp_path / "roster.xlsx")
    wire = Wire()
    for form, other in ((Form(2, sheet="A"), False), (Form(2, sheet="B"), True), (Form(1, sheet="A"), True)):
        with Bench(tmp_path, list(people(0)), wire) as bench:
            bench.roster = find_roster(tmp_path / "roster.xlsx", form)
            if other:
                with pytest.raises(JournalError, match="another row of headings, sheet, encoding or separator"):
                    bench.begin()
            else:
                await bench.run()
