"""Drawing a list: whom it has, whom it leaves out and why, and what of a mapping's roster is told before."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from adapter_support import ANNA, AS_OF, BO, CHEN, NOW, SCHEMES, attribute, make_database, mapping_text, resident
from adapters.check import Report, inspect
from adapters.mapping import load_mapping
from adapters.rosters import draw
from zhiwang.wire.errors import FatalError, RefusedError
from zhiwang.wire.tomlfile import FileError

TABLES = "CREATE TABLE person (no TEXT, id_card TEXT, full_name TEXT, born TEXT); CREATE INDEX i ON person (id_card);"
ROSTER = """
[roster.seniors]
select = "SELECT no, id_card, full_name FROM person WHERE born <= :as_of"
key = "no"
subject = "id_card"
name = "full_name"
matter = "invite"
"""
REST = """
[data.person]
table = "person"
subject = "id_card"

[attribute.known]
data = "person"
"""
OLD = "1950-01-01"


def files(tmp_path: Path, rows: Sequence[tuple[object, ...]], roster: str = ROSTER) -> Path:
    make_database(tmp_path / "data.db", TABLES, {"person": rows})
    (tmp_path / "mapping.toml").write_text(mapping_text(REST + roster), "utf-8")
    published = 'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    (tmp_path / "document.toml").write_text(published + attribute("known", 'asks = ["exists"]'), "utf-8")
    return tmp_path / "mapping.toml"


def drawn(mapping: Path, as_of: date = AS_OF) -> tuple[list[str], list[tuple[str, str]], Counter[str]]:
    to, left = io.StringIO(newline=""), []
    found = draw(mapping, "seniors", as_of, SCHEMES["person"], AS_OF, to, lambda *one: left.append(one))
    lines = to.getvalue().split("\r\n")[:-1]
    assert lines[0] == "key,identifier,name"
    assert found.rows == len(lines) - 1
    return lines[1:], left, found.left_out


def checked(tmp_path: Path, rows: Sequence[tuple[object, ...]], roster: str) -> Report:
    mapping = files(tmp_path, rows, roster)
    return inspect(mapping, tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)[1]


def test_a_list_has_everybody_of_the_select_as_of_the_date_in_the_order_of_keys(tmp_path: Path) -> None:
    rows = [("2", BO, "波", OLD), ("1", ANNA, "安·娜", OLD), ("3", CHEN, None, "2026-12-31")]
    lines, left, _ = drawn(files(tmp_path, rows))
    assert lines == [f"1,{ANNA},安·娜", f"2,{BO},波"]
    assert left == []
    assert len(drawn(tmp_path / "mapping.toml", date(2027, 1, 1))[0]) == 3


def test_what_nobody_can_be_asked_or_invited_by_is_left_out_and_named_by_its_key(tmp_path: Path) -> None:
    first15 = ANNA[:6] + ANNA[8:17]
    rows = [
        ("10", ANNA, "安娜", OLD),
        ("11", first15, "安娜", OLD),  # the same person, as identifiers were written once
        ("12", ANNA.lower(), "安娜", OLD),
        ("13", BO[:-1] + ("0" if BO[-1] != "0" else "1"), "波", OLD),
        ("14", None, "波", OLD),
        (None, BO, "波", OLD),
        (CHEN, CHEN, "陈", OLD),
        ("16", CHEN, "陈\n陈", OLD),
        ("17", BO, "波", OLD),
        ("17", CHEN, "陈", OLD),
    ]
    lines, left, counted = drawn(files(tmp_path, rows))
    assert lines in ([f"10,{ANNA},安娜", f"17,{BO},波"], [f"10,{ANNA},安娜", f"17,{CHEN},陈"])
    assert counted == {
        "SUBJECT_TWICE": 2,
        "IDENTIFIER_INVALID": 1,
        "IDENTIFIER_MISSING": 1,
        "KEY_MISSING": 1,
        "KEY_INVALID": 1,
        "NAME_INVALID": 1,
        "KEY_TWICE": 1,
    }
    assert ("13", "IDENTIFIER_INVALID") in left


def test_an_identifier_of_15_digits_is_asked_in_its_18(tmp_path: Path) -> None:
    lines, _, _ = drawn(files(tmp_path, [("1", ANNA[:6] + ANNA[8:17], "安娜", OLD)]))
    assert lines == [f"1,{ANNA},安娜"]


def test_a_roster_that_is_not_mapped_is_told_with_those_that_are(tmp_path: Path) -> None:
    mapping = files(tmp_path, [])
    with pytest.raises(RefusedError, match="seniors"):
        draw(mapping, "juniors", AS_OF, SCHEMES["person"], AS_OF, io.StringIO(), lambda *_one: None)


def test_many_rows_are_drawn_whole(tmp_path: Path) -> None:
    rows: Sequence[tuple[object, ...]] = [
        (f"{n:05}", resident(n % 1000, f"19{n // 1000 + 40}0101"), "某", OLD) for n in range(12_000)
    ]
    lines, left, _ = drawn(files(tmp_path, rows))
    assert (len(lines), left) == (12_000, [])


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        (('subject = "id_card"', 'subject = "id_number"'), "roster.seniors.subject", "no such column: id_number"),
        (('key = "no"', 'key = "number"'), "roster.seniors.key", "no such column: number"),
        (('name = "full_name"', 'name = "nick"'), "roster.seniors.name", "no such column: nick"),
        (("FROM person", "FROM people"), "roster.seniors.select", "no such table: people"),
        (('subject = "id_card"', 'subject = "full_name"'), "roster.seniors.subject", "gives no identifier"),
        (('key = "no"', 'key = "id_card"'), "roster.seniors.key", "holds identifiers"),
        (('matter = "invite"', 'matter = "invite"\nkind = "ship"'), "roster.seniors.kind", "no kind of subject ship"),
    ],
)
def test_what_is_wrong_with_a_roster_is_named_by_key_and_line(
    tmp_path: Path, change: tuple[str, str], key: str, message: str
) -> None:
    found = checked(tmp_path, [("1", ANNA, "安娜", OLD)], ROSTER.replace(*change))
    (finding,) = found.findings
    assert (finding.key, message in finding.message) == (key, True)
    assert finding.line > 0
    assert ANNA not in str(found.findings) + str(found.warnings)


def test_a_roster_that_holds_has_no_finding_and_its_statement_is_shown_for_sign_off(tmp_path: Path) -> None:
    found = checked(tmp_path, [("1", ANNA, "安娜", OLD)], ROSTER)
    assert found.findings == []
    assert "FROM person WHERE born <= ?" in found.statements["roster seniors"]
    assert {column for use in found.uses for column in use.in_order()} == {"no", "id_card", "full_name", "born"}


def test_an_empty_roster_is_a_doubt(tmp_path: Path) -> None:
    found = checked(tmp_path, [("1", ANNA, "安娜", "2090-01-01")], ROSTER)
    assert [one.key for one in found.warnings if "roster" in one.key] == ["roster.seniors"]


@pytest.mark.parametrize(
    "select",
    [
        "DELETE FROM person RETURNING no, id_card, full_name",
        "SELECT no, id_card, full_name FROM person; DELETE FROM person",
        "SELECT no, id_card, full_name FROM person -- and more",
        "SELECT no, id_card, full_name FROM person WHERE born <= :tomorrow",
    ],
)
def test_a_roster_is_one_select_that_reads(tmp_path: Path, select: str) -> None:
    mapping = files(
        tmp_path, [], ROSTER.replace("SELECT no, id_card, full_name FROM person WHERE born <= :as_of", select)
    )
    with pytest.raises(FileError) as caught:
        load_mapping(mapping)
    assert [one.key for one in caught.value.findings] == ["roster.seniors.select"]


def test_a_select_that_would_write_is_stopped_by_the_database(tmp_path: Path) -> None:
    writing = "WITH gone AS (SELECT 1) DELETE FROM person RETURNING no, id_card, full_name"
    mapping = files(
        tmp_path,
        [("1", ANNA, "安娜", OLD)],
        ROSTER.replace("SELECT no, id_card, full_name FROM person WHERE born <= :as_of", writing),
    )
    with pytest.raises(FatalError) as caught:
        drawn(mapping)
    assert ANNA not in str(caught.value)
    (tmp_path / "mapping.toml").write_text(mapping_text(REST + ROSTER), "utf-8")
    assert len(drawn(mapping)[0]) == 1
