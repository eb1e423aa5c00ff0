"""A roster is drawn from every kind of database as it stands there: whole, in the order of its keys, and streaming."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from adapter_support import ANNA, BO, CHEN, DING, make_database, resident
from adapters.quality import CHUNK
from adapters.rosters import Drawn, draw
from servers import Server, fresh_name
from zhiwang.wire.identifiers import scheme
from zhiwang.wire.lists import HEADINGS

AS_OF, TODAY = date(2026, 9, 1), date(2026, 11, 1)

ROSTER = """
[roster.seniors]
select = "SELECT no, id_card, full_name FROM people WHERE born <= :as_of AND full_name NOT LIKE '隐%'"
key = "no"
subject = "id_card"
name = "full_name"
matter = "senior-invite"
"""

SCHEMAS = {
    "sqlite": "CREATE TABLE people (no text, id_card text, full_name text, born text)",
    # Filled up with blanks, as old systems have them; they are no part of what is written there.
    "postgresql": "CREATE TABLE people (no char(12), id_card char(18), full_name varchar(60), born date)",
    # GB 18030's predecessor, and a collation by which the blanks at an end do not count.
    "mariadb": "CREATE TABLE people (no char(12), id_card varchar(18), full_name varchar(60), born date) "
    "CHARACTER SET gbk COLLATE gbk_chinese_ci",
}

Row = tuple[str | None, str | None, str | None, str]


class Registry:
    """A department's table of people in one kind of database, and the mapping with a roster of them."""

    def __init__(self, family: str, directory: Path, server: Server | None) -> None:
        self.family = family
        self.server = server
        self.name = fresh_name()
        self.mapping = directory / "mapping.toml"
        url = "sqlite:///file:data.db?mode=ro&uri=true"
        if server is not None:
            server.create(self.name)
            server.execute(self.name, SCHEMAS[family])
            url = server.url(self.name)
        self.mapping.write_text(f'department = "police"\n[database]\nurl = "{url}"\n{ROSTER}', "utf-8")

    def fill(self, rows: Sequence[Row]) -> None:
        if self.server is None:
            make_database(self.mapping.with_name("data.db"), SCHEMAS["sqlite"], {"people": rows})
            return
        for start in range(0, len(rows), 2 * CHUNK):
            self.server.execute(self.name, rows={"people": rows[start : start + 2 * CHUNK]})

    def draw(self, out: Path, progress: object = None) -> tuple[Drawn, list[list[str]], list[tuple[str, str]]]:
        """What was drawn, its rows, and what was left out."""
        left: list[tuple[str, str]] = []
        with out.open("w", encoding="utf-8", newline="") as file:
            drawn = draw(
                self.mapping,
                "seniors",
                AS_OF,
                scheme("resident"),
                TODAY,
                file,
                lambda key, reason: left.append((key, reason)),
                progress or (lambda _rows: None),  # type: ignore[arg-type]  # a function of a test
            )
        with out.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert tuple(head) == HEADINGS
        return drawn, rows, left

    def cursor(self) -> str:
        """What the server does for the reader while the first rows of many have been taken."""
        assert self.server is not None
        with self.server.admin("") as connection:
            if self.family == "postgresql":
                sql = "SELECT state, query FROM pg_stat_activity WHERE datname = %s AND usename = 'reader'"
            else:
                sql = "SELECT command, info FROM information_schema.processlist WHERE db = %s AND user = 'reader'"
            ((state, text),) = connection.exec_driver_sql(sql, (self.name,)).fetchall()
            return f"{state}: {text}"

    def close(self) -> None:
        if self.server is not None:
            self.server.drop(self.name)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    server = None if request.param == "sqlite" else request.getfixturevalue(request.param)
    registry = Registry(request.param, tmp_path, server)
    yield registry
    registry.close()


def test_a_roster_has_names_and_identifiers_as_they_are_written_and_says_what_it_leaves_out(
    registry: Registry, tmp_path: Path
) -> None:
    fifteen = BO[:6] + BO[8:17]
    old, young = "1950-01-01", "2026-10-01"
    registry.fill(
        [
            ("P-07", ANNA, "欧阳娜娜", old),
            ("P-02", fifteen, "买买提·吐尔逊", old),
            ("P-03", CHEN.lower(), " 陳大文 ", old),
            ("P-04", DING, "丁", young),
            ("P-05", "440399199001010010", "李", old),
            ("P-06", None, "无证", old),
            ("P-08", ANNA, "欧阳娜娜", old),
            (None, DING, "丁", old),
            ("P-09", DING, "隐去", old),
        ]
    )
    drawn, rows, left = registry.draw(tmp_path / "out.csv")
    assert rows == [["P-02", BO, "买买提·吐尔逊"], ["P-03", CHEN, "陳大文"], ["P-07", ANNA, "欧阳娜娜"]]
    assert drawn.rows == 3
    assert sorted(left) == [
        ("", "KEY_MISSING"),
        ("P-05", "IDENTIFIER_INVALID"),
        ("P-06", "IDENTIFIER_MISSING"),
        ("P-08", "SUBJECT_TWICE"),
    ]
    assert sum(drawn.left_out.values()) == 4


@pytest.mark.timeout(400)  # there is only so much that a busy machine can write and read in two minutes
def test_a_roster_of_200_000_is_drawn_whole_and_never_held_whole(registry: Registry, tmp_path: Path) -> None:
    days = [(date(1930, 1, 1) + timedelta(day)).strftime("%Y%m%d") for day in range(400)]
    # SQLite hands rows over one by one, always.
    size = 200_000 if registry.server is not None else 2 * CHUNK
    people = [(f"P{number:06}", resident(number % 500, days[number // 500]), "欧阳娜娜") for number in range(size)]
    registry.fill([(*person, "1930-01-01") for person in reversed(people)])
    seen: list[str] = []

    def look(done: int) -> None:
        if not seen and registry.server is not None:
            assert done == CHUNK
            seen.append(registry.cursor())

    drawn, rows, left = registry.draw(tmp_path / "out.csv", look)
    assert (drawn.rows, left) == (size, [])
    assert rows == [list(person) for person in people]
    if registry.family == "postgresql":
        # Fetched from a cursor of the server, page by page; a client that has all of them has ended its statement.
        assert seen[0].startswith("idle in transaction: FETCH FORWARD")
    elif registry.family == "mariadb":
        # The server is still sending; it would be asleep if the client had taken everything.
        assert seen[0].startswith("Query: SELECT")
