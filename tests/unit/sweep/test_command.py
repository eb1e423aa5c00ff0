"""`zhiwang sweep` as a command: what it writes over, what it throws away, and what it asks first."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.cli import sweep as command
from exchange.sweep import running, writing
from exchange.sweep.journal import Journal, State, journal_of
from exchange.sweep.results import Lines
from exchange.sweep.rosters import find_roster
from sweep_support import Bench, Wire, people, refusing
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
