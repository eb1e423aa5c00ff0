"""`zhiwang adapter init --url`: from a database that was not made for us to files that `adapter check` passes."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine
from typer.testing import CliRunner, Result

from adapter_support import SCHEMES, resident
from adapters.check import inspect
from adapters.cli import app
from adapters.drafting import make_draft
from adapters.mapping import load_mapping
from policy.document import parse_document
from servers import Server, fresh_name
from zhiwang.wire.claims import Predicate
from zhiwang.wire.identifiers import _uscc_check

TODAY = date(2026, 9, 21)
TABLES = """
CREATE TABLE 参保人员 (身份证号 VARCHAR(18) PRIMARY KEY, 姓名 VARCHAR(60), 行政区划 VARCHAR(12), 缴费月数 INTEGER,
    更新时间 TIMESTAMP);
CREATE TABLE t_jzz (id INTEGER PRIMARY KEY, zjhm VARCHAR(20), xm VARCHAR(60), qfrq VARCHAR(8), yxqz VARCHAR(8),
    posfzh VARCHAR(18));
CREATE TABLE deal (buyer_sfzh VARCHAR(18), buyer_xm VARCHAR(60), seller_sfzh VARCHAR(18), seller_xm VARCHAR(60),
    price DECIMAL(18, 2), signed_on DATE);
CREATE TABLE payment (id INTEGER PRIMARY KEY, permit INTEGER, amount DECIMAL(10, 2),
    FOREIGN KEY (permit) REFERENCES t_jzz(id));
CREATE TABLE company (code_of_it CHAR(18), company_name VARCHAR(200));
CREATE VIEW current_permit AS SELECT zjhm AS id_card, xm AS full_name, id AS number, 1.5 AS share FROM t_jzz
    WHERE yxqz > '20260101';
CREATE TABLE load_log (data_set VARCHAR(30), at_time TIMESTAMP)
"""
PEOPLE = tuple(resident(serial) for serial in range(1, 31))
COMPANY = "91440399MA5EXAMP4" + _uscc_check("91440399MA5EXAMP4")


def fill(engine: Engine) -> None:
    """The tables, with rows."""
    mark = "?" if engine.dialect.name == "sqlite" else "%s"

    def insert(table: str, rows: Sequence[tuple[object, ...]]) -> None:
        marks = ", ".join([mark] * len(rows[0]))
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own

    with engine.begin() as connection:
        for statement in TABLES.split(";"):
            connection.exec_driver_sql(statement)
        insert("参保人员", [(one, "某人", "440306", i, "2026-09-20 03:00:00") for i, one in enumerate(PEOPLE)])
        insert("t_jzz", [(i, one, "某人", "20200101", "20300101", PEOPLE[-i]) for i, one in enumerate(PEOPLE)])
        insert("deal", [(one, "某人", PEOPLE[-1], "某某", 100, "2025-05-01") for one in PEOPLE[:5]])
        insert("payment", [(i, i, 10) for i in range(20)])


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'ins.db'}"
    engine = create_engine(address)
    fill(engine)
    engine.dispose()
    return address


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def live(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of an account that reads the tables in one of the databases."""
    if request.param == "sqlite":
        yield request.getfixturevalue("url")
        return
    server: Server = request.getfixturevalue(request.param)
    name = fresh_name()
    server.create(name)
    engine = create_engine(server.url(name, server.account_of_admin()), poolclass=NullPool)
    fill(engine)
    yield server.url(name)
    engine.dispose()
    server.drop(name)


def init(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *arguments], env=env)


def activate(path: Path) -> None:
    """Take the leading # away from every drafted data set and attribute."""
    lines, within = [], False
    for line in path.read_text("utf-8").splitlines():
        within = line.startswith(("# [attribute.", "# [data.")) or (within and line.startswith("# "))
        within = within and "[data.name_of_it]" not in line
        lines.append(line.removeprefix("# ") if within else line)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def test_a_draft_passes_the_check_at_once(live: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert init("--url", live, "--out", str(out), "--department", "hrss").exit_code == 0
    checked = CliRunner().invoke(app, ["check", str(out / "mapping.toml"), str(out / "document.toml"), "--json"])
    report = json.loads(checked.stdout)
    assert (checked.exit_code, report["findings"], len(report["statements"])) == (0, [], 1)


def test_every_candidate_holds_once_it_is_uncommented(live: str, tmp_path: Path) -> None:
    drafted = make_draft(live, tmp_path, department="hrss", hub=None, password_file=None, today=TODAY)
    for path in drafted.files[:2]:
        activate(path)
    mapping, report = inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES)
    assert report.findings == []
    assert len(report.statements) == sum(len(one.candidates) for one in drafted.sets) > 15
    assert set(mapping.attribute) == {candidate.name for one in drafted.sets for candidate in one.candidates}


def test_subjects_names_and_regions_are_found_by_name_and_by_value(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ins.db") as connection:
        connection.execute("INSERT INTO company VALUES (?, ?)", (COMPANY, "某公司"))
    connection.close()
    drafted = make_draft(url, tmp_path, department="hrss", hub=None, password_file=None, today=TODAY)
    found = {one.title: (one.kind, one.subject, one.named, one.region, one.certain) for one in drafted.sets}
    assert found == {
        "参保人员": ("person", "身份证号", "姓名", ("行政区划", True), True),
        "t_jzz": ("person", "zjhm", "xm", None, True),
        "deal": ("person", "buyer_sfzh", "buyer_xm", None, True),
        "payment": ("person", "zjhm", "xm", None, False),
        "current_permit": ("person", "id_card", "full_name", None, True),
        "company": ("entity", "code_of_it", "company_name", None, False),
    }
    assert drafted.left == ("load_log",)
    # A view has no index that could be missing.
    text = (tmp_path / "mapping.toml").read_text("utf-8")
    assert ("No index begins with zjhm" in text, "No index begins with id_card" in text) == (True, False)
    document = parse_document(tmp_path / "document.toml")
    assert [one.predicates for one in document.attributes.values()] == [frozenset({Predicate.EXISTS})]
    assert document.grants == ()


def test_a_column_whose_values_are_no_identifiers_is_no_subject_whatever_its_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ins.db") as connection:
        connection.execute("CREATE TABLE t (id_card TEXT, code TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(f"card {i}", PEOPLE[i]) for i in range(9)])
    connection.close()
    drafted = make_draft(
        f"sqlite:///{tmp_path / 'ins.db'}", tmp_path, department="d", hub=None, password_file=None, today=TODAY
    )
    assert [(one.subject, one.certain) for one in drafted.sets] == [("code", False)]


def test_no_value_of_a_record_stands_in_a_draft_or_is_printed(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = (
        init("--url", url, "--out", str(out)).output + init("--url", url, "--out", str(out / "b"), "--json").output
    )
    text = printed + "".join(path.read_text("utf-8") for path in out.rglob("*.toml"))
    for value in (*PEOPLE, "某人", "440306"):
        assert value not in text.replace('# place      = "@self"                 # within', "").replace(
            "nbs:440306", ""
        )


def test_no_file_is_overwritten(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "document.toml").write_text("mine", "utf-8")
    refused = init("--url", url, "--out", str(out))
    assert "document.toml: is there already" in str(refused.exception)
    assert [(path.name, path.read_text("utf-8")) for path in out.iterdir()] == [("document.toml", "mine")]


def test_a_private_file_is_closed_to_others_and_a_password_is_never_written_into_the_mapping(
    tmp_path: Path, url: str
) -> None:
    out = tmp_path / "out"
    # SQLite has no accounts; its URL may hold a password all the same, and must be treated like any other.
    with_password = url.replace("sqlite:///", "sqlite://reader:s3cr%25t@/")
    printed = init("--url", with_password, "--out", str(out))
    assert printed.exit_code == 0, printed.output
    assert (out / "database.password").read_text("utf-8") == "s3cr%t\n"
    for path in (out / "database.password", out / "mapping.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    everything = printed.output + "".join(path.read_text("utf-8") for path in out.glob("*.toml"))
    assert "s3cr" not in everything
    assert load_mapping(out / "mapping.toml").database.password_file == "database.password"


def test_a_password_of_the_url_is_moved_into_a_file_that_the_check_uses(mariadb: Server, tmp_path: Path) -> None:
    name, user = fresh_name(), fresh_name()
    mariadb.create(name)
    mariadb.execute(
        name,
        f"CREATE TABLE person (id_card VARCHAR(18) PRIMARY KEY) SELECT '{PEOPLE[0]}' AS id_card",
        f"CREATE USER {user}@localhost IDENTIFIED BY 's3cr%%t'",
        f"GRANT SELECT ON {name}.* TO {user}@localhost",
    )
    url = mariadb.url(name, f"{user}:s3cr%25t")
    made = init("--url", url, "--out", str(tmp_path))
    assert made.exit_code == 0, made.output
    assert (tmp_path / "database.password").read_text("utf-8") == "s3cr%t\n"
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "mapping.toml"), str(tmp_path / "document.toml")])
    assert checked.exit_code == 0, checked.output
    files = "".join(path.read_text("utf-8") for path in tmp_path.glob("*.toml"))
    assert "s3cr" not in made.output + checked.output + files
    (tmp_path / "database.password").write_text("other\n", "utf-8")
    refused = CliRunner().invoke(app, ["check", str(tmp_path / "mapping.toml"), str(tmp_path / "document.toml")])
    assert (refused.exit_code, "Access denied for user" in refused.output) == (1, True)
    mariadb.execute("", f"DROP USER {user}@localhost")
    mariadb.drop(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --url to draft"),
        (["--url", "nonsense"], "is no database URL"),
        (["--url", "oracle+oracledb://reader@host/db"], "oracle is not among the databases"),
        (["--url", "postgresql+psycopg://reader@host"], "names no database"),
        (["--url", "postgresql+psycopg://reader@host/db?password=s3cret"], "holds a password in its query"),
        (["--url", "postgresql+psycopg://reader:s3cret@s3cret@host/db"], "as %40 %3A %2F"),
        (["--url", "postgresql+psycopg://reader:x@s3cret/y@host/db"], "as %40 %3A %2F"),
        (["--url", "sqlite:///nowhere.db"], "there is no file nowhere.db"),
        (["--url", "sqlite:///nowhere.db", "--department", "Ärzte"], "there is no file"),
    ],
)
def test_what_is_typed_wrong_is_answered_with_what_to_type(arguments: list[str], message: str) -> None:
    result = init(*arguments, env={"ZHIWANG_PROFILE": "", "ZHIWANG_DATABASE_URL": ""})
    assert result.exit_code == 2
    assert message in result.output
    assert "s3cret" not in result.output


def test_names_that_could_break_out_of_their_place_do_not(tmp_path: Path) -> None:
    odd = 'a"b\nurl = "x" :c;d'
    with sqlite3.connect(tmp_path / "ins.db") as connection:
        quoted = '"' + odd.replace('"', '""') + '"'
        connection.execute(f"CREATE TABLE {quoted} (id_card TEXT, {quoted} INTEGER)")
        connection.executemany(f"INSERT INTO {quoted} VALUES (?, 1)", [(one,) for one in PEOPLE])  # noqa: S608 - our own
    connection.close()
    drafted = make_draft(
        f"sqlite:///{tmp_path / 'ins.db'}", tmp_path, department="d", hub=None, password_file=None, today=TODAY
    )
    assert len(drafted.sets) == 1
    for path in drafted.files[:2]:
        activate(path)
    report = inspect(tmp_path / "mapping.toml", tmp_path / "document.toml", SCHEMES)[1]
    assert report.findings == []
    assert len(report.statements) == 2


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [("s3cret\n", 0o640, "can be read by others: chmod 600"), ("\n", 0o600, "must hold the account's password")],
)
def test_a_password_file_that_others_can_read_or_that_is_empty_stops_the_check(
    url: str, tmp_path: Path, text: str, mode: int, message: str
) -> None:
    make_draft(url, tmp_path, department="d", hub=None, password_file=None, today=TODAY)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(mapping.read_text("utf-8").replace("# connections = 4", 'password_file = "pw"#'), "utf-8")
    (tmp_path / "pw").write_text(text, "utf-8")
    (tmp_path / "pw").chmod(mode)
    result = CliRunner().invoke(app, ["check", str(mapping), str(tmp_path / "document.toml")])
    assert result.exit_code == 1
    assert message in result.output.replace("\n", "")
    assert "s3cret" not in result.output


@pytest.mark.parametrize("family", ["postgresql", "mariadb"])
def test_a_percent_sign_in_a_name_stands_once_in_a_draft(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    server: Server = request.getfixturevalue(family)
    name, mark = fresh_name(), '"' if family == "postgresql" else "`"
    server.create(name)
    server.execute(name, f"CREATE TABLE person (id_card VARCHAR(18), {mark}share%%{mark} INTEGER)")
    server.execute(name, *([] if family == "mariadb" else ["GRANT SELECT ON person TO reader"]))
    make_draft(server.url(name), tmp_path, department="hrss", hub=None, password_file=None, today=TODAY)
    drafted = (tmp_path / "mapping.toml").read_text("utf-8")
    assert f"{mark}share%{mark}" in drafted
    assert "%%" not in drafted
    server.drop(name)
