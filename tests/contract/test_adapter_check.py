"""`zhiwang adapter check` against live databases: every mistake by key and line, every doubt as a warning."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from typer.testing import CliRunner

import adapters.check
from adapter_support import ANNA, BO, NOW, SCHEMES, attribute, make_database, mapping_text
from adapters.check import Report, inspect
from adapters.cli import app
from adapters.dialects import DIALECTS
from adapters.doctor import diagnose
from adapters.mapping import Mapping, load_mapping
from adapters.readonly import Writable, writable
from adapters.sessions import open_engine
from adapters.usage import Use, read_tables, together, used
from zhiwang.wire.profile import load_profile

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
    assert set(found.statements) == {"person: loaded", "months at_least"}


def test_doctor_reads_the_database_and_does_not_try_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping, document = files(tmp_path)
    tried: list[Engine] = []

    def attempt(engine: Engine, _: object) -> list[Writable]:
        tried.append(engine)
        return []

    monkeypatch.setattr(adapters.check, "writable", attempt)
    (tmp_path / "hrss.toml").write_text(f'[adapter]\nmapping = "{mapping}"\ndocument = "{document}"\n')
    said = [one.en for one in diagnose(load_profile(tmp_path / "hrss.toml")) if one.area in {"database", "mapping"}]
    assert [text for text in said if "came" in text or "can be read" in text], "the probe was run"
    assert tried == []
    inspect(mapping, document, SCHEMES)
    assert len(tried) == 1


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


@pytest.mark.parametrize(
    ("url", "expected", "todo"),
    [
        (
            "postgresql+psycopg2://reader@127.0.0.1:1/x",
            "is of a driver that is not installed: psycopg2",
            "postgresql+psycopg://",
        ),
        ("mysql://reader@127.0.0.1:1/x", "is of a driver that is not installed: MySQLdb", "mysql+pymysql://"),
        ("mariadb://reader@127.0.0.1:1/x", "is of a driver that is not installed: MySQLdb", "mariadb+pymysql://"),
        ("mysql+nodriver://reader@127.0.0.1:1/x", "is of a driver that is not known", "mysql+pymysql://"),
        ("postgresql+psycopg_async://reader@127.0.0.1:1/x", "is of a driver for asyncio", "postgresql+psycopg://"),
        ("mysql+pymysql://reader@127.0.0.1:1/x?colour=s3cret", "has an option that the driver does not take", "the ?"),
        ("mysql+pymysql://reader@127.0.0.1:1/x?port=s3cret", "has an option that the driver does not take", "the ?"),
        ("mysql+pymysql://reader@127.0.0.1:1/x?ssl=s3cret", "has an option that the driver does not take", "the ?"),
        ("postgresql+psycopg://reader@127.0.0.1:1/x?colour=s3cret", "has an option that the driver does not", "the ?"),
    ],
)
def test_a_url_by_which_nobody_can_connect_is_told_with_what_to_write(
    tmp_path: Path, url: str, expected: str, todo: str
) -> None:
    mapping, document = files(tmp_path)
    mapping.write_text(mapping_text(MAPPING.replace("ANNA", ANNA), url=url), "utf-8")
    result = CliRunner().invoke(app, ["check", str(mapping), str(document)])
    assert (result.exit_code, f"mapping.toml:4: database.url: {expected}" in result.output) == (1, True), result.output
    assert todo in result.output
    assert "s3cret" not in result.output
    result = CliRunner().invoke(app, ["init", "--url", url, "--out", str(tmp_path / "out")])
    assert (result.exit_code, f"--url {expected}" in result.output, todo in result.output) == (2, True, True)
    assert "s3cret" not in result.output


def test_a_server_that_is_not_there_is_no_mistake_of_the_url(tmp_path: Path) -> None:
    mapping, document = files(tmp_path)
    for url in ("mysql+pymysql://reader@127.0.0.1:1/x", "postgresql+psycopg://reader@127.0.0.1:1/x"):
        mapping.write_text(mapping_text(MAPPING.replace("ANNA", ANNA), url=url), "utf-8")
        result = CliRunner().invoke(app, ["check", str(mapping), str(document)])
        assert (result.exit_code, "database.url: cannot be read" in result.output) == (1, True), result.output


def uses_of(engine: Engine, mapping: Mapping) -> list[Use]:
    with engine.connect() as connection:
        return together(used(mapping, read_tables(connection, mapping), connection.dialect.name).values())


def test_an_account_that_may_write_is_found_out_and_nothing_is_changed(tmp_path: Path) -> None:
    path, _ = files(tmp_path)
    mapping = load_mapping(path)
    engine = create_engine(f"sqlite:///{tmp_path / 'data.db'}", isolation_level="AUTOCOMMIT")
    before = (tmp_path / "data.db").read_bytes()
    uses = uses_of(engine, mapping)
    # `load` stands in a SELECT of the mapping only.
    tried = [f"{word} {table}" for table in ("load", "person") for word in ("INSERT INTO", "UPDATE", "DELETE FROM")]
    assert writable(engine, uses) == [Writable(what) for what in [*tried, "CREATE TABLE"]]
    engine.dispose()
    assert (tmp_path / "data.db").read_bytes() == before
    held = open_engine(mapping.database, tmp_path)
    assert writable(held, uses) == []
    held.dispose()


def test_an_attempt_that_fails_for_another_reason_is_no_proof(tmp_path: Path) -> None:
    path, _ = files(tmp_path)
    engine = create_engine(
        f"sqlite:///{tmp_path / 'data.db'}", isolation_level="AUTOCOMMIT", connect_args={"timeout": 0}
    )
    uses = uses_of(engine, load_mapping(path))
    with sqlite3.connect(tmp_path / "data.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        found = writable(engine, uses)
    other.close()
    engine.dispose()
    assert len(found) == 7
    assert all(one.unclear == "OperationalError SQLITE_BUSY" for one in found)


def test_an_index_that_is_missing_is_told_with_the_statement_that_makes_it(tmp_path: Path) -> None:
    (warning,) = report(tmp_path, tables=TABLES).warnings
    assert warning.message == "person is read whole for each question: no index serves person.id_card"
    assert warning.todo == "have the administrator run: CREATE INDEX zw_person_id_card ON person (id_card)"
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute(warning.todo.partition(": ")[2])
    connection.close()
    assert inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)[1].warnings == []


def test_within_a_select_the_table_behind_an_alias_is_named(tmp_path: Path) -> None:
    select = MAPPING.replace(
        'table = "person"',
        'select = "SELECT p.id_card, p.full_name, p.region, q.months FROM person p JOIN paid AS q ON q.acct = p.acct"',
    )
    tables = (
        "CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months INTEGER, acct INTEGER);"
        "CREATE TABLE load (at TEXT); CREATE TABLE paid (acct INTEGER, months INTEGER);" + INDEX
    )
    make_database(tmp_path / "data.db", tables)
    (tmp_path / "mapping.toml").write_text(mapping_text(select.partition("[[probe]]")[0]), "utf-8")
    (tmp_path / "document.toml").write_text(PUBLISHED, "utf-8")
    found = inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)[1]
    assert [(use.table.name, use.in_order()) for use in found.uses] == [
        ("load", ["at"]),
        ("paid", ["acct", "months"]),
        ("person", ["id_card", "full_name", "region", "acct"]),
    ]
    scans = [one.todo for one in found.warnings if "is read whole" in one.message]
    assert scans == ["have the administrator run: CREATE INDEX zw_paid_acct ON paid (acct)"]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM person", {"person": None}),
        ("SELECT p.* , at FROM person p, load", {"person": None, "load": ["at"]}),
        ("SELECT count(*) FROM person", {"person": ["id_card"]}),
        (
            "SELECT months * 2 AS id_card FROM person WHERE full_name = 'region'",
            {"person": ["id_card", "full_name", "months"]},
        ),
        ('WITH x AS (SELECT "ID_CARD" FROM main."person") SELECT id_card FROM x', {"person": ["id_card"]}),
    ],
)
def test_what_a_select_uses_is_read_from_its_words(
    tmp_path: Path, sql: str, expected: dict[str, list[str] | None]
) -> None:
    make_database(tmp_path / "data.db", TABLES)
    path = tmp_path / "mapping.toml"
    path.write_text(mapping_text(f'[data.d]\nselect = {json.dumps(sql)}\nsubject = "id_card"\n'), "utf-8")
    engine = create_engine(f"sqlite:///{tmp_path / 'data.db'}")
    uses = uses_of(engine, load_mapping(path))
    engine.dispose()
    assert {use.table.name: None if use.whole else use.in_order() for use in uses} == expected


def test_every_finding_says_what_to_do(tmp_path: Path) -> None:
    mapping = MAPPING.replace('name = "full_name"', 'name = "fullname"').replace("max(at)", "max(nothing)")
    found = report(tmp_path, mapping=mapping, tables=TABLES)
    assert [(one.key, bool(one.todo), one.line > 0) for one in (*found.findings, *found.warnings)] == [
        ("data.person.name", True, True),
        ("data.person.loaded", True, True),
    ]
    assert found.findings[0].todo == "did you mean full_name?"
    shown = CliRunner().invoke(app, ["check", str(tmp_path / "mapping.toml"), str(tmp_path / "document.toml")]).output
    assert "→ did you mean full_name?" in shown


def test_one_connection_is_enough_for_the_mapping_and_the_check(tmp_path: Path) -> None:
    mapping, document = files(tmp_path)
    mapping.write_text(mapping.read_text("utf-8").replace("[database]", "[database]\nconnections = 1\ntimeout = 2"))
    assert inspect(mapping, document, SCHEMES, clock=lambda: NOW)[1].findings == []


def test_what_a_collation_equates_is_shown_and_the_recheck_is_right(tmp_path: Path) -> None:
    tables = TABLES.replace("id_card TEXT", "id_card TEXT COLLATE NOCASE").replace(
        "full_name TEXT", "full_name TEXT COLLATE RTRIM"
    )
    found = report(tmp_path, tables=tables + INDEX)
    assert {one.column: [pair.english for pair in one.equated] for one in found.collations} == {
        "person.id_card": ["case"],
        "person.full_name": ["trailing spaces"],
    }
    assert found.findings == []
    assert not any(one.fooled for one in found.collations)


def test_a_recheck_that_is_taken_in_stops_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DIALECTS["sqlite"], "same", lambda _self, one, other: one == other)
    found = report(tmp_path, tables=TABLES.replace("id_card TEXT", "id_card TEXT COLLATE NOCASE") + INDEX)
    assert [(one.key, one.message) for one in found.findings] == [
        ("data.person.subject", "takes case for the same, and so would every answer")
    ]


def test_the_script_for_sign_off_is_all_that_standard_output_holds_and_runs(tmp_path: Path) -> None:
    mapping, document = files(tmp_path)
    result = CliRunner().invoke(app, ["check", str(mapping), str(document), "--sql"])
    assert result.exit_code == 0
    assert "-- reads person: id_card, full_name, region, months" in result.stdout
    with sqlite3.connect(f"file:{tmp_path / 'data.db'}?mode=ro", uri=True) as connection:
        for statement in result.stdout.split(";"):
            lines = [line for line in statement.splitlines() if line and not line.startswith("--")]
            if lines:
                marks = statement.count("?")
                connection.execute("\n".join(lines), [None] * marks)
    connection.close()


def test_a_database_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    mapping, document = files(tmp_path)
    (tmp_path / "data.db").unlink()
    result = CliRunner().invoke(app, ["check", str(mapping), str(document), "--json"])
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["key"] == "database.url"
    assert not (tmp_path / "data.db").exists()


CHINESE = """
[data.insured]
table = "参保人员"
subject = "身份证号"
name = "姓名"

[attribute.months]
data = "insured"
value = '"月数"'
"""


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('subject = "身份证号"', 'subject = "身份证"'), "data.insured.subject"),
        (('name = "姓名"', 'name = "名字"'), "data.insured.name"),
        (("'\"月数\"'", "'\"月份\"'"), "attribute.months.value"),
        (('table = "参保人员"', 'table = "参保人"'), "data.insured.table"),
    ],
)
def test_a_misspelt_name_that_needs_quotes_is_found_like_any_other(
    tmp_path: Path, change: tuple[str, str], key: str
) -> None:
    make_database(
        tmp_path / "data.db",
        'CREATE TABLE "参保人员" ("身份证号" TEXT PRIMARY KEY, "姓名" TEXT, "月数" INTEGER);',
        {'"参保人员"': [(ANNA, "安娜", 12)]},
    )
    published = 'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    (tmp_path / "document.toml").write_text(
        published + attribute("months", 'type = "integer"\nat_least = [6, 12]'), "utf-8"
    )
    path = tmp_path / "mapping.toml"
    path.write_text(mapping_text(CHINESE), "utf-8")
    assert inspect(path, tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)[1].findings == []
    path.write_text(mapping_text(CHINESE.replace(*change)), "utf-8")
    found = inspect(path, tmp_path / "document.toml", SCHEMES, clock=lambda: NOW)[1].findings
    assert [one.key for one in found] == [key]
