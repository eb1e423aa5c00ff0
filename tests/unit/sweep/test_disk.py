"""What a sweep leaves on the disk: nothing of others written over, nothing left for others to read."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from exchange.sweep import running
from exchange.sweep.cases import Trouble
from exchange.sweep.disk import is_full
from exchange.sweep.journal import Journal, JournalError, State, journal_of
from exchange.sweep.rosters import find_roster
from exchange.sweep.writing import guarded, place_new, remove_leftovers, table_file, unguarded
from sweep_support import Bench, Wire, people, refusing
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tables import Form, TableError

KINDS = ("csv", "xlsx", "parquet")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_SECONDS", (0.01, 0.05))


def test_a_table_does_not_take_the_place_of_what_appeared_while_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"

    def write_while_another_does() -> None:
        with table_file(path, ("row",)) as write:
            write((1,))
            path.write_text("another's")

    with pytest.raises(TableError, match="is there already"):
        write_while_another_does()
    assert path.read_text() == "another's"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_same_holds_where_a_file_cannot_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    new, path = tmp_path / "new", tmp_path / "results.csv"
    new.write_text("new")
    place_new(new, path)
    assert (path.read_text(), new.exists()) == ("new", False)
    new.write_text("newer")
    with pytest.raises(TableError, match="is there already"):
        place_new(new, path)
    assert path.read_text() == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_two_sweeps_that_write_one_file_do_not_mix_their_lines(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"full.{kind}"
    other = path.with_name(f"other.{kind}")

    def both() -> None:
        with table_file(path, ("row", "key")) as write:
            write((1, "first"))
            with table_file(other, ("row", "key"), lambda one, _path: one.replace(_part(path))) as write_other:
                write_other((1, "second"))

    with pytest.raises(TableError, match="written by another sweep as well"):
        both()
    assert not path.exists()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@pytest.mark.parametrize(("kind", "suffix"), [*((kind, "part") for kind in KINDS), ("xlsx", "sheet")])
def test_a_planted_file_neither_leads_the_results_elsewhere_nor_gives_them_its_mode(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    path, victim = tmp_path / f"results.{kind}", tmp_path / "victim"
    victim.write_text("precious")
    planted = tmp_path / f".results.{kind}.{suffix}"
    planted.symlink_to(victim)
    with table_file(path, ("row", "key")) as write:
        write((2, "x"))
    assert (victim.read_text(), path.is_symlink()) == ("precious", False)
    path.unlink()
    planted.write_text("")
    planted.chmod(0o666)
    with table_file(path, ("row", "key")) as write:
        write((2, "x"))
        assert {one.stat().st_mode & 0o777 for one in tmp_path.glob(".results*")} == {0o600}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_while_it_writes_leaves_nothing_but_what_the_next_one_removes(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"results.{kind}"
    script = (
        "import os, sys; from pathlib import Path; from exchange.sweep.writing import table_file\n"
        "with table_file(Path(sys.argv[1]), ('row', 'key')) as write:\n"
        "    for i in range(5000): write((i, f'R{i}'))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", script, str(path)],
        env=os.environ | {"TMPDIR": str(elsewhere), "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=100,
    )
    assert done.returncode == -signal.SIGKILL
    assert not list(elsewhere.iterdir())
    left = [one for one in tmp_path.iterdir() if one.is_file()]
    assert left
    assert {one.stat().st_mode & 0o777 for one in left} == {0o600}
    remove_leftovers(path)
    assert [one for one in tmp_path.iterdir() if one.is_file()] == []


@pytest.mark.parametrize("text", ["=1+1", "+86", "-5", "@x", "＝1", "'=1", "''-1"])
def test_what_a_spreadsheet_would_calculate_is_guarded_in_csv_and_read_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.csv"
    with table_file(path, ("row", "key")) as write:
        write((2, text))
    assert path.read_text("utf-8-sig").splitlines()[1] == f"2,'{text}"
    assert unguarded(guarded(text)) == text
    assert guarded("'t") == unguarded("'t") == "'t"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_no_table_could_be_read_with_are_written_so_that_it_can(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"results.{kind}"
    with table_file(path, ("row", "key", "kept")) as write:
        write((2, "#N/A", "福田街道\r\n12号\x01"))
    if kind == "xlsx":
        assert load_workbook(path)["sweep"]["B2"].data_type == "s"
    with find_roster(path, Form()).table() as table:
        assert [record.cells for record in table.take([0, 1, 2])] == [("2", "#N/A", "福田街道 12号")]


# The journal.


def test_a_journal_is_no_link_to_another_file_and_private_whatever_was_there(tmp_path: Path) -> None:
    path, victim = tmp_path / "x.sweep", tmp_path / "victim"
    victim.write_text("")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Journal.open(path)
    assert victim.read_bytes() == b""
    path.unlink()
    path.write_text("")
    path.chmod(0o666)
    Journal.open(path).close()
    path.write_text("")
    path.chmod(0o666)
    journal = Journal.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    journal.close()


async def test_no_secret_outlives_its_request_in_the_journal_nor_in_its_rollback_file(tmp_path: Path) -> None:
    wire, secrets = Wire(), []
    wire.before = refusing(RefusedError(Reason.BULK_CLOSED), 10**9, "police")
    with Bench(tmp_path, list(people(600)), wire) as bench:
        launch = bench.journal.launch

        def noting(keys: Any, owner: str, request: bytes, secret: bytes) -> int:
            secrets.append(secret)
            return launch(keys, owner, request, secret)

        bench.journal.launch = noting  # type: ignore[method-assign]  # to know them
        await bench.run()
        assert not bench.journal.flights()
        rollback = Path(f"{journal_of(bench.out)}-journal")
        for moment in ("while it is open", "once it is closed"):
            assert not _held(secrets, rollback, journal_of(bench.out)), moment
            bench.journal.close()
    assert len(secrets) > 3
    Journal.open(journal_of(bench.out)).close()


def _held(secrets: Sequence[bytes], *paths: Path) -> list[bytes]:
    held = b"".join(path.read_bytes() for path in paths)
    assert all(path.stat().st_size for path in paths), "an empty file shows nothing"
    return [one for one in secrets if one in held]


def test_what_a_killed_run_left_in_the_rollback_file_is_overwritten_when_the_next_begins(tmp_path: Path) -> None:
    path, rollback = tmp_path / "x.sweep", tmp_path / "x.sweep-journal"
    script = (
        "import os, sys; from pathlib import Path; from exchange.sweep.journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1])); journal.take_in({'roster': 'x'}, [(2, None, None, '')])\n"
        "for letter in (b'S', b'T'): journal.launch(['2/1'], 'x', b'request', letter * 32)\n"
        "journal.settle((), (1,)); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", script, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=100,
    )
    assert done.returncode == -signal.SIGKILL
    settled, on_the_way = b"S" * 32, b"T" * 32
    assert _held([settled], path, rollback), "it left nothing, which shows nothing"
    journal = Journal.open(path)
    assert not _held([settled], path, rollback)
    assert [flight.secret for flight in journal.flights()] == [on_the_way]
    journal.close()


def test_a_journal_into_which_nothing_was_taken_goes_when_it_is_closed(tmp_path: Path) -> None:
    Journal.open(tmp_path / "x.sweep").close()
    assert not list(tmp_path.iterdir())


def test_whoever_waited_for_a_journal_that_was_removed_does_not_take_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Journal.open(tmp_path / "x.sweep")
    first.take_in({"roster": "x"}, [(2, None, None, "")])
    connect = sqlite3.connect

    def end_meanwhile(*given: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given, **more)
        first.remove()
        return connection

    monkeypatch.setattr(sqlite3, "connect", end_meanwhile)
    with pytest.raises(JournalError, match="has just ended"):
        Journal.open(tmp_path / "x.sweep")
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_of_rows_with_one_key_the_first_that_can_be_asked_is_asked(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "x.sweep")
    rows = [
        (2, b"a", Trouble.DIGITS_LOST, "id"),
        (3, b"a", None, ""),
        (4, b"a", None, ""),
        (5, b"a", Trouble.NOBODY, ""),
        (6, b"a", None, ""),
        (7, b"b", None, ""),
    ]
    journal.take_in({"roster": "x", "key": "k"}, rows)
    assert [(one.number, one.reason) for one in journal.entries(0, 9)] == [
        (2, "DIGITS_LOST"),
        (3, ""),
        (4, "KEY_TWICE"),
        (5, "NOBODY"),
        (6, "KEY_TWICE"),
        (7, ""),
    ]
    journal.close()


def test_a_write_that_a_limit_or_a_quota_refuses_is_told_as_a_full_disk(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "x.sweep")
    journal.take_in({"roster": "x"}, [(number, None, None, "") for number in range(10)])
    size = journal.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(sqlite3.Error) as caught:
            journal.launch(["2/1"], "x", b"r" * 100_000, b"s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_full(caught.value)
    journal.launch(["2/1"], "x", b"r" * 100_000, b"s")
    assert journal.count()[State.OPEN] == 10
    journal.close()
    assert not is_full(FileNotFoundError())
