from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo_support import shared_city
from exchange.demo.stores import WRITERS, write

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, sqlite3.Connection]]:
    directory = tmp_path_factory.mktemp("books")
    connections = {}
    for department in WRITERS:
        path = directory / f"{department}.db"
        write(department, path, shared_city(), seed=1, now=NOW)
        connections[department] = sqlite3.connect(path)
    yield connections
    for connection in connections.values():
        connection.close()


def test_databases_are_readable_by_their_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "market.db"
    write("market", path, shared_city(), seed=1, now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write("market", path, shared_city(), seed=1, now=NOW)
    assert path.read_bytes() == before


def test_the_same_seed_writes_the_same_spellings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write("title", tmp_path / name, shared_city(), seed=1, now=NOW)
    dumps = []
    for name in ("a", "b"):
        connection = sqlite3.connect(tmp_path / name)
        dumps.append(list(connection.iterdump()))
        connection.close()
    assert dumps[0] == dumps[1]


def column(connection: sqlite3.Connection, sql: str) -> list[str]:
    return [value for (value,) in connection.execute(sql)]


def test_eight_departments_spell_as_differently_as_real_ones(books: dict[str, sqlite3.Connection]) -> None:
    assert any(value.endswith("x") for value in column(books["hrss"], "SELECT id_card FROM person"))
    assert not any(value.endswith("X") for value in column(books["hrss"], "SELECT id_card FROM person"))
    assert {len(value) for value in column(books["title"], "SELECT ZJH FROM BDC_QLR")} == {15, 18}
    assert any("０" <= value[0] <= "９" for value in column(books["housing"], "SELECT certificate_no FROM fw_lessee"))
    assert all(
        re.fullmatch(r"\d{4}/\d\d/\d\d", day) for day in column(books["housing"], "SELECT start_on FROM fw_contract")
    )
    assert "长期" in column(books["police"], "SELECT YXQZ FROM T_SFZ")
    names = "".join(column(books["police"], "SELECT XM FROM T_SYRK"))
    assert {"·", "•"} <= set(names)
    assert "新生儿身份证号" in column(books["health"], "SELECT name FROM pragma_table_info('出生医学证明')")


def test_people_have_several_rows_where_life_gives_them_several(books: dict[str, sqlite3.Connection]) -> None:
    for department, table, subject in (
        ("police", "T_JZZ", "ZJHM"),
        ("hrss", "payment", "acct_no"),
        ("title", "BDC_QLR", "FWBM"),
        ("civil", "marriage_party", "registration_no"),
    ):
        (most,) = (
            books[department]
            .execute(
                f"SELECT max(n) FROM (SELECT count(*) AS n FROM {table} GROUP BY {subject})"  # noqa: S608 - names of this test
            )
            .fetchone()
        )
        assert most > 1, table
