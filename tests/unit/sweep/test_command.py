"""`zhiwang sweep` as a command: what it writes over, what it throws away, and what it asks first."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer
from openpyxl import Workbook

from exchange.cli import sweep as command
from exchange.sweep import running, writing
from exchange.sweep.journal import Journal, State, journal_of
from exchange.sweep.mapping import RosterColumns
from exchange.sweep.results import Lines
from exchange.sweep.rosters import find_roster
from sweep_support import HEADINGS, Bench, Wire, people, refusing
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tables import Form, TableError


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(command, "PATIENCE", 0.0)


def asked(bench: Bench, **more: object) -> command.Asked:
    given: dict[str, object] = {"until": None, "guessed": False, "yes": True, "before": None, "full": None}
    return command.Asked(bench.roster, bench.columns, bench.context, bench.out, **(given | more))  # type: ignore[arg-type]  # its fields


async def sweep(bench: Bench, what: command.Asked) -> int:
    lines = Lines(bench.reader, bench.matter, changed=what.before is not None)
    return await command._sweep(
        bench.client, bench.matter, what, bench.reader, lines, bench.journal, command._Stopping(), as_json=True
    )


async def test_results_too_large_for_their_format_do_not_take_the_journal_of_an_interrupted_sweep_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    wire.before = refusing(RefusedError(Reason.BULK_CLOSED), 10**9, "police")
    with Bench(tmp_path, list(people(120)), wire) as bench:
        assert await sweep(bench, asked(bench)) == 1
    monkeypatch.setattr(writing, "MAX_SHEET_ROWS", 100)
    earlier = bench.out.rename(tmp_path / "earlier.csv")
    with Bench(tmp_path, None, wire) as again:
        what = asked(again, before=find_roster(earlier, Form()), full=tmp_path / "full.xlsx")
        with pytest.raises(TableError, match="can hold 100 rows"):
            await sweep(again, what)
    journal = Journal.open(journal_of(bench.out))
    assert journal.count()[State.OPEN] == 120
    journal.close()


async def test_neither_results_nor_all_rows_take_the_place_of_a_file_that_is_there(tmp_path: Path) -> None:
    wire = Wire()
    with Bench(tmp_path, list(people(3)), wire) as bench:
        await bench.run()
        bench.write()
        earlier = bench.out.rename(tmp_path / "earlier.csv")
        bench.journal.remove()
    asked_before = len(wire.seen)
    for name in ("results.csv", "full.csv"):
        precious = tmp_path / name
        precious.write_text("another's")
        with Bench(tmp_path, None, wire) as again:
            what = asked(again, before=find_roster(earlier, Form()), full=tmp_path / "full.csv")
            with pytest.raises(TableError, match="is there already"):
                await sweep(again, what)
        assert precious.read_text() == "another's"
        precious.unlink()
    assert len(wire.seen) == asked_before, "it was told only after all were asked"


async def test_results_of_this_very_sweep_are_replaced_unless_somebody_wrote_in_them(tmp_path: Path) -> None:
    wire = Wire()
    wire.before = refusing(RefusedError(Reason.BULK_CLOSED), 10**9, "police")
    for number in range(3):
        with Bench(tmp_path, list(people(3)) if not number else None, wire) as bench:
            assert await sweep(bench, asked(bench)) == 1
    with bench.out.open("a") as file:
        file.write("a note\n")
    with Bench(tmp_path, None, wire) as again:
        with pytest.raises(TableError, match="is there already"):
            await sweep(again, asked(again))
        assert again.out.read_text("utf-8-sig").endswith("a note\n")


async def test_earlier_results_that_cannot_be_compared_are_told_before_anybody_is_asked(tmp_path: Path) -> None:
    wire = Wire()
    (tmp_path / "earlier.csv").write_text("row,key,outcome,reason,other\n2,R0,ANSWERED,,YES\n")
    earlier = find_roster(tmp_path / "earlier.csv", Form())
    with Bench(tmp_path, list(people(3)), wire) as bench, pytest.raises(TableError, match="not among the headings"):
        await sweep(bench, asked(bench, before=earlier))
    assert not wire.seen


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_what_a_sweep_has_written_the_next_one_compares_with_whatever_stands_in_the_cells(
    tmp_path: Path, kind: str
) -> None:
    book = Workbook()
    sheet = book["Sheet"]
    keys = ("=1+1", "#N/A", "两\n行", "+86", "'-1")
    for row in (HEADINGS, *((key, row[1], row[2], "街\n道") for key, row in zip(keys, people(5), strict=True))):
        sheet.append(row)
    for cells in sheet.iter_rows():
        for cell in cells:
            cell.data_type = "s"
    book.save(tmp_path / "roster.xlsx")
    wire = Wire()
    for name, before in (("first", None), ("second", "first")):
        with Bench(tmp_path, [], wire) as bench:
            bench.roster = find_roster(tmp_path / "roster.xlsx", Form())
            bench.out = tmp_path / f"{name}.{kind}"
            await bench.run()
            written = bench.write(before=None if before is None else tmp_path / f"{before}.{kind}")
            bench.journal.remove()
    assert (written.changed, written.gone) == (0, 0)


async def test_a_guess_is_used_unasked_only_where_a_sweep_goes_on_that_was_begun_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with Bench(tmp_path, list(people(3)), Wire()) as bench:
        what = asked(bench, guessed=True, yes=False)._replace(columns=RosterColumns())
        with pytest.raises(typer.Exit):
            command._reader(bench.client, bench.matter, what, known=bool(bench.journal.meta))
        bench.begin()
        command._reader(bench.client, bench.matter, what, known=bool(bench.journal.meta))
