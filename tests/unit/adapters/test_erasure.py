"""A person's rows leave no byte behind, wherever pages were split while they were written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import Engine

from adapters import erasure
from adapters.trace import SCHEMA
from audit.sqlite import clear_log, driver, open_sqlite


def written(path: Path, seed: int) -> tuple[Engine, bytes, int]:
    """An index of a hundred groups, each with one row of the same person."""
    engine = open_sqlite(path, create=True)
    drawn = random.Random(seed)  # noqa: S311 - chooses an example
    person = drawn.randbytes(16)
    with engine.begin() as connection:
        connection.exec_driver_sql(SCHEMA[0])
    for group in range(100):
        rows = [(2026, drawn.randbytes(16), group * 200 + place, 1) for place in range(100)]
        with engine.begin() as connection:
            insert = "INSERT INTO trace VALUES (?, ?, ?, ?, 0)"
            driver(connection).executemany(insert, [*rows, (2026, person, group * 200 + 150, 1)])
    return engine, person, 100 * 100


# With SQLite 3.40, deleting alone leaves a copy under all of these but the first.
@pytest.mark.parametrize("seed", [0, 28, 30, 32])
def test_copies_that_a_split_page_left_behind_are_overwritten_too(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    engine, person, others = written(path, seed)
    with engine.begin() as connection:
        assert len(erasure.entries_of(connection, {2026: person})) == 100
        erasure.erase(connection, {2026: person})
    assert erasure.overwrite(engine, path, [person])
    assert person not in path.read_bytes()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM trace").scalar_one() == others
        erasure._write_anew(connection)
        assert connection.exec_driver_sql("SELECT count(*) FROM trace").scalar_one() == others
    engine.dispose()


def test_files_that_are_in_use_are_not_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "WAIT_SECONDS", 0.05)
    path = tmp_path / "store.db"
    engine, person, _ = written(path, 0)
    clear_log(engine, 1.0)
    held = engine.raw_connection()
    reader = driver(held)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM trace").fetchone()
    with engine.begin() as connection:
        erasure.erase(connection, {2026: person})
    assert not erasure.overwrite(engine, path, [person])
    reader.execute("ROLLBACK")
    held.close()
    assert erasure.overwrite(engine, path, [person])
    assert person not in path.read_bytes()
    engine.dispose()
