"""`zhiwang adapter check` against live databases: every mistake by key and line, every doubt as a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from adapter_support import ANNA, BO, NOW, SCHEMES, attribute, make_database, mapping_text
from adapters.check import Report, inspect
from adapters.cli import app
from adapters.database import open_engine
from adapters.mapping import load_mapping
from adapters.readonly import writable

TABLES = "CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months INTEGER); CREATE TABLE load (at TEXT);"
INDEX = "CREATE INDEX i ON person (id_card);"
MAPPING = """
[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT max(at) FROM load"

[attribute.months]
data = "person"
value = "months"
where = "months IS NOT NULL"

[[probe]]
claim = "hrss.months at_least 12"
subject = "ANNA"
name = "安娜"
answer = "YES"
"""
PUBLISHED = 'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n' + attribute(
    "months", 'type = "integer"\nat_least = [6, 12]\nmax_age = "45d"'
)


def files(tmp_path: Path, *, tables: str = TABLES + INDEX, mapping: str = MAPPING) -> tuple[Path, Path]:
    make_database(
        tmp_path / "data.db",
        tables,
        {"person": [(ANNA, "安娜", "440306", 12), (BO, "波", "440305", 3)], "load": [("2026-09-20",)]},
    )
    (tmp_path / "mapping.toml").write_text(mapping_text(mapping.replace("ANNA", ANNA)), "utf-8")
    (tmp_path / "document.toml").write_text(PUBLISHED, "utf-8")
    return tmp_path / "mapping.toml", tmp_path / "document.toml"


def report(tmp_path: Path, **changes: str) -> Report:
    mapping, document = files(tmp_path, **changes)
    return inspect(mapping, document, SCHEMES, clock=lambda: NOW)[1]


def test_a_mapping_that_holds_has_no_finding_and_no_warning(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert (found.findings, found.warnings) == ([], [])
    assert [probe.passed for probe in found.probes] == [True]
    assert set(found.statements) == {"months at_least"}


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        (('table = "person"', 'table = "people"'), "data.person.table", "no such table: people"),
        (('subject = "id_card"', 'subject = "id_number"'), "data.person.subject", "no such column: id_number"),
        (('name = "full_name"', 'name = "nick_name"'), "data.person.name", "no such column: nick_name"),
        (('column = "region"', 'column = "place"'), "data.person.region", "no such column: place"),
        (("max(at)", "max(on_day)"), "data.person.loaded", "cannot be run"),
        (('value = "months"', 'value = "years"'), "attribute.months.value", "no such column: years"),
        (('where = "months', 'where = "weeks'), "attribute.months.where", "no such column: weeks"),
        (('answer = "YES"', 'answer = "NO"'), "probe[0].answer", "must be NO, but YES came"),
    ],
)
def test_what_the_database_does_not_have_is_named_by_key_and_line(
    tmp_path: Path, change: tuple[str, str], key: str, message: str
) -> None:
    found = report(tmp_path, mapping=MAPPING.replace(*change))
    (finding,) = found.findings
    assert (finding.key, message in finding.message) == (key, True)
    line = (tmp_path / "mapping.toml").read_text("utf-8").splitlines()[finding.line - 1]
    assert change[1].replace("ANNA", ANNA) in line


def test_several_mistakes_are_named_at_once(tmp_path: Path) -> None:
    mapping = MAPPING.replace('name = "full_name"', 'name = "nick"').replace('column = "region"', 'column = "place"')
    assert [finding.key for finding in report(tmp_path, mapping=mapping).findings] == [
        "data.person.name",
        "data.person.region",
    ]


def test_a_missing_index_and_an_empty_load_table_are_warned_of(tmp_path: Path) -> None:
    assert [one.key for one in report(tmp_path, tables=TABLES).warnings] == ["data.person.subject"]
    other = tmp_path / "other"
    other.mkdir()
    found = report(other, mapping=MAPPING.replace("max(at)", "max(CASE WHEN at = 'never' THEN at END)"))
    assert [one.key for one in found.warnings] == ["data.person.loaded"]


def test_a_column_of_another_type_is_warned_of(tmp_path: Path) -> None:
    found = report(
        tmp_path, mapping=MAPPING.replace('value = "months"', 'value = "full_name"').partition("[[probe]]")[0]
    )
    assert any("is UNKNOWN for each of 2 sampled subjects" in one.message for one in found.warnings)


def test_nothing_printed_names_anybody(tmp_path: Path) -> None:
    mapping, document = files(tmp_path, mapping=MAPPING.replace("安娜", "安妮"))
    for arguments in ([], ["--json"], ["--sql"]):
        result = CliRunner().invoke(app, ["check", str(mapping), str(document), *arguments])
        assert result.exit_code == 1
        for secret in (ANNA, BO, "安娜", "440306"):
            assert secret not in result.output


def test_an_account_that_may_write_is_found_out_and_nothing_is_changed(tmp_path: Path) -> None:
    mapping, _ = files(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / 'data.db'}", isolation_level="AUTOCOMMIT")
    before = (tmp_path / "data.db").read_bytes()
    assert writable(engine, load_mapping(mapping)) == ["UPDATE person", "DELETE FROM person", "CREATE TABLE"]
    engine.dispose()
    assert (tmp_path / "data.db").read_bytes() == before
    held = open_engine(load_mapping(mapping).database, tmp_path)
    assert writable(held, load_mapping(mapping)) == []
    held.dispose()


def test_a_database_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    mapping, document = files(tmp_path)
    (tmp_path / "data.db").unlink()
    result = CliRunner().invoke(app, ["check", str(mapping), str(document), "--json"])
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["key"] == "database.url"
    assert not (tmp_path / "data.db").exists()
