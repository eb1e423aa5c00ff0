"""`zhiwang adapter check` on real servers: accounts, plans and collations, and the script that makes the account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from adapter_support import ANNA, BO, CHEN, SCHEMES, attribute
from adapters.check import Report, inspect
from adapters.cli import app
from adapters.messages import told
from servers import Server, fresh_name

MAPPING = """
department = "hrss"

[database]
url = "URL"

[data.person]
table = "person"
subject = "id_card"
name = "full_name"

[attribute.months]
data = "person"
value = "months"
where = "voided = 0"

[data.jobs]
select = "SELECT p.id_card, e.uscc FROM person p JOIN job e ON e.acct = p.acct"
subject = "id_card"

[attribute.employer]
data = "jobs"
value = "uscc"
rows = "any"

[[probe]]
claim = "hrss.months at_least 12"
subject = "ANNA"
answer = "YES"
"""
PUBLISHED = (
    'department = "hrss"\ntitle = { zh = "部门", en = "Department" }\n'
    + attribute("months", 'type = "integer"\nat_least = [6, 12]')
    + attribute("employer", 'type = "text"\nasks = ["equals"]')
)
TABLES = (
    """CREATE TABLE person (id_card VARCHAR(18), full_name VARCHAR(60), months INTEGER, voided INTEGER, acct INTEGER,
    secret VARCHAR(60))""",
    "CREATE TABLE job (acct INTEGER, uscc VARCHAR(18), wage INTEGER)",
    "CREATE TABLE other (n INTEGER)",
)
INDEXES = ("CREATE INDEX i ON person (id_card)", "CREATE INDEX j ON job (acct)")
ROWS: dict[str, list[tuple[object, ...]]] = {
    "person": [(ANNA, "安娜", 12, 0, 1, "s"), (BO, "波", 3, 0, 2, "s"), (CHEN, "陈", 7, 0, 3, "s")],
    "job": [(1, "91440399MA5EXAMPX", 5), (2, "91440399MA5EXAMPY", 5)],
    "other": [(1,)],
}


@dataclass
class Site:
    """A database with its mapping and document."""

    server: Server
    name: str
    mapping: Path
    document: Path

    def point_at(self, user: str, mapping: str = MAPPING) -> None:
        self.mapping.write_text(mapping.replace("URL", self.server.url(self.name, user)).replace("ANNA", ANNA), "utf-8")

    def report(self) -> Report:
        return inspect(self.mapping, self.document, SCHEMES)[1]

    def connect(self, user: str) -> Connection:
        return create_engine(
            self.server.url(self.name, user), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        ).connect()

    @property
    def admin(self) -> str:
        return self.server.account_of_admin()


@pytest.fixture(params=["postgresql", "mariadb"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    server: Server = request.getfixturevalue(request.param)
    name = fresh_name()
    server.create(name)
    server.execute(name, *TABLES, *INDEXES, rows=ROWS)
    one = Site(server, name, tmp_path / "mapping.toml", tmp_path / "document.toml")
    one.point_at("reader")
    one.document.write_text(PUBLISHED, "utf-8")
    yield one
    server.drop(name)


def test_an_account_that_only_reads_a_sound_schema_is_found_to_be_right(site: Site) -> None:
    found = site.report()
    assert (found.findings, found.warnings) == ([], [])
    assert [probe.passed for probe in found.probes] == [True]


def test_an_account_that_may_write_is_found_out_and_nothing_is_changed(site: Site) -> None:
    site.point_at(site.admin)
    found = {one.message for one in site.report().findings}
    tried = {f"{word} {table}" for word in ("INSERT INTO", "UPDATE", "DELETE FROM") for table in ("person", "job")}
    if site.server.family == "postgresql":
        tried |= {"CREATE TABLE", "TRUNCATE person", "TRUNCATE job"}
    else:
        tried |= {"CREATE TABLE", "DROP TABLE"}
    assert found == {f"the account may {what}" for what in tried}
    with site.connect(site.admin) as connection:
        for table, rows in ROWS.items():
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608 - our own
            assert count == len(rows)
        schema = "'public'" if site.server.family == "postgresql" else "database()"
        there = text(f"SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema}")  # noqa: S608 - our own
        assert connection.execute(there).scalar_one() == len(ROWS)


def test_a_single_right_to_write_a_table_within_a_select_is_found_out(site: Site) -> None:
    account = "reader" if site.server.family == "postgresql" else "reader@localhost"
    site.server.execute(site.name, f"GRANT UPDATE ON job TO {account}")
    assert [one.message for one in site.report().findings] == ["the account may UPDATE job"]
    site.server.execute(site.name, f"REVOKE UPDATE ON job FROM {account}")


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ("UPDATE (months) ON person", "UPDATE person"),
        ("INSERT (voided) ON person", "INSERT INTO person"),
        # A column that the mapping does not use.
        ("UPDATE (wage) ON job", "UPDATE job"),
        ("INSERT (secret) ON person", "INSERT INTO person"),
        ("DELETE ON job", "DELETE FROM job"),
        ("TRUNCATE ON job", "TRUNCATE job"),
    ],
)
def test_a_right_to_write_a_single_column_or_to_empty_a_table_is_found_out(
    site: Site, right: str, message: str
) -> None:
    account = "reader" if site.server.family == "postgresql" else "reader@localhost"
    if right.startswith("TRUNCATE") and site.server.family == "mariadb":
        pytest.skip("MariaDB has no such right: it goes with DROP, which is tried")
    site.server.execute(site.name, f"GRANT {right} TO {account}")
    assert [one.message for one in site.report().findings] == [f"the account may {message}"]
    site.server.execute(site.name, f"REVOKE {right} FROM {account}")


def test_generated_and_required_columns_make_no_finding_of_an_account_that_only_reads(site: Site) -> None:
    site.server.execute(
        site.name,
        "CREATE TABLE ruled (id_card VARCHAR(18) PRIMARY KEY, acct INTEGER NOT NULL,"
        " months INTEGER GENERATED ALWAYS AS (acct + 1) STORED, voided INTEGER NOT NULL)",
    )
    account = "reader" if site.server.family == "postgresql" else "reader@localhost"
    site.server.execute(site.name, f"GRANT SELECT ON ruled TO {account}")
    site.point_at(
        "reader", MAPPING.replace('"person"\nsubject = "id_card"\nname = "full_name"', '"ruled"\nsubject = "id_card"')
    )
    # The probe fails, since nobody is in the table.
    assert [
        one.message for one in site.report().findings if "the account" in one.message or "told" in one.message
    ] == []


def test_a_percent_sign_in_a_name_stands_once_in_grants_and_indexes_and_a_quote_ends_no_name(site: Site) -> None:
    mark = '"' if site.server.family == "postgresql" else "`"
    table, column = f"{mark}50%{mark}", f"{mark}占{mark * 2}比%{mark}"
    site.server.execute(site.name, f"CREATE TABLE {table} (id_card VARCHAR(18), {column} INTEGER)".replace("%", "%%"))
    account = "reader" if site.server.family == "postgresql" else "reader@localhost"
    site.server.execute(site.name, f"GRANT SELECT ON {table} TO {account}".replace("%", "%%"))
    mapping = MAPPING.partition("[data.person]")[0] + (
        f"[data.person]\ntable = '50%'\nsubject = 'id_card'\n[attribute.months]\ndata = 'person'\nvalue = '{column}'\n"
    )
    site.point_at("reader", mapping)
    site.document.write_text(PUBLISHED.partition("[attribute.employer]")[0], "utf-8")
    report = site.report()
    assert report.findings == []
    (index,) = [one.todo or "" for one in report.warnings if one.key == "data.person.subject"]
    assert f" ON {table} (" in index
    script = CliRunner().invoke(app, ["check", str(site.mapping), str(site.document), "--sql"]).stdout
    assert f"{mark}id_card{mark}, {column}) ON " in script
    assert "%%" not in index + script


def test_the_script_makes_an_account_that_reads_what_is_used_and_nothing_else(site: Site) -> None:
    account = fresh_name()
    result = CliRunner().invoke(app, ["check", str(site.mapping), str(site.document), "--sql", "--account", account])
    assert result.exit_code == 0
    postgresql = site.server.family == "postgresql"
    with site.connect(site.admin) as connection:
        for statement in result.stdout.split(";"):
            lines = [line for line in statement.splitlines() if line and not line.startswith("--")]
            if lines:
                connection.exec_driver_sql("\n".join(lines).replace("%", "%%"))
        if not postgresql:
            connection.exec_driver_sql(f"ALTER USER {account}@`%%` ACCOUNT UNLOCK")
    try:
        site.point_at(account)
        found = site.report()
        assert (found.findings, found.warnings) == ([], [])
        assert [(use.table.name, use.in_order()) for use in found.uses] == [
            ("job", ["acct", "uscc"]),
            ("person", ["id_card", "full_name", "months", "voided", "acct"]),
        ]
        with site.connect(account) as connection:
            connection.exec_driver_sql("SELECT id_card, months FROM person").all()
            for refused in ("SELECT secret FROM person", "SELECT wage FROM job", "SELECT n FROM other"):
                with pytest.raises(DBAPIError, match="denied"):
                    connection.exec_driver_sql(refused)
    finally:
        if postgresql:
            site.server.execute(site.name, f"DROP OWNED BY {account}", f"DROP ROLE {account}")
        else:
            site.server.execute(site.name, f"DROP USER {account}")


def test_an_account_of_the_script_cannot_log_in_until_it_is_given_a_password(site: Site) -> None:
    account = fresh_name()
    script = CliRunner().invoke(app, ["check", str(site.mapping), str(site.document), "--sql", "--account", account])
    assert "PASSWORD '" not in script.stdout
    if site.server.family == "mariadb":
        assert f"CREATE USER `{account}`@'%' WITH MAX_USER_CONNECTIONS 6 ACCOUNT LOCK;" in script.stdout


def test_a_missing_index_is_told_with_the_statement_that_makes_it(site: Site) -> None:
    on = "" if site.server.family == "postgresql" else " ON {}"
    site.server.execute(site.name, "DROP INDEX i" + on.format("person"), "DROP INDEX j" + on.format("job"))
    warnings = site.report().warnings
    assert {one.message for one in warnings} == {
        "person is read whole for each question: no index serves person.id_card",
        "job is read whole for each question: no index serves job.acct",
    }
    with site.connect(site.admin) as connection:
        for one in warnings:
            connection.exec_driver_sql(one.todo.partition("run: ")[2])
    assert site.report().warnings == []


def test_where_plans_of_views_may_not_be_seen_the_check_says_so_and_goes_on(site: Site) -> None:
    site.server.execute(site.name, "CREATE VIEW people AS SELECT id_card, full_name, months, voided FROM person")
    site.point_at("reader", MAPPING.replace('table = "person"', 'table = "people"'))
    found = site.report()
    hidden = [("database.url", "the account may not see plans of views")]
    assert [(one.key, one.message) for one in found.warnings] == (hidden if site.server.family == "mariadb" else [])
    assert found.findings == []


def test_names_in_mixed_case_and_in_schemas_are_quoted_in_grants_and_indexes(
    postgresql: Server, tmp_path: Path
) -> None:
    name = fresh_name()
    postgresql.create(name)
    postgresql.execute(
        name,
        'CREATE SCHEMA "Ins"',
        'CREATE TABLE "Ins"."人员" ("IdCard" VARCHAR(18), "Name" VARCHAR(60), "Months" INTEGER)',
        'GRANT USAGE ON SCHEMA "Ins" TO reader',
        'GRANT SELECT ON ALL TABLES IN SCHEMA "Ins" TO reader',
        rows={'"Ins"."人员"': [(ANNA, "安娜", 12)]},
    )
    site = Site(postgresql, name, tmp_path / "mapping.toml", tmp_path / "document.toml")
    mapping = MAPPING.partition("[data.person]")[0] + (
        "[data.person]\ntable = 'Ins.人员'\nsubject = 'IdCard'\nname = 'Name'\n"
        "[attribute.months]\ndata = 'person'\nvalue = '\"Months\"'\n"
    )
    site.point_at("reader", mapping)
    site.document.write_text(PUBLISHED.partition("[attribute.employer]")[0], "utf-8")
    (finding,) = [one for one in site.report().warnings if one.key == "data.person.subject"]
    index = 'CREATE INDEX CONCURRENTLY "zw_人员_IdCard" ON "Ins"."人员" ("IdCard")'
    assert finding.todo == f"have the administrator run: {index}"
    script = CliRunner().invoke(app, ["check", str(site.mapping), str(site.document), "--sql"]).stdout
    assert 'GRANT USAGE ON SCHEMA "Ins" TO "reader";' in script
    assert 'GRANT SELECT ("IdCard", "Name", "Months") ON "Ins"."人员" TO "reader";' in script
    with site.connect(site.admin) as connection:
        connection.exec_driver_sql(index)
    assert not [one for one in site.report().warnings if "read whole" in one.message]
    postgresql.drop(name)


@pytest.mark.parametrize(
    ("change", "key", "message", "todo"),
    [
        (('table = "person"', 'table = "people"'), "data.person.table", "people", "name a table or view"),
        (
            ('subject = "id_card"\nname', 'subject = "idcard"\nname'),
            "data.person.subject",
            "idcard",
            "did you mean id_card?",
        ),
        (('value = "months"', 'value = "monhts"'), "attribute.months.value", "monhts", "select it by hand"),
        (("voided = 0", "nothing(voided)"), "attribute.months.where", "nothing", "select it by hand"),
    ],
)
def test_what_the_database_does_not_have_is_named_with_what_to_do(
    site: Site, change: tuple[str, str], key: str, message: str, todo: str
) -> None:
    site.point_at("reader", MAPPING.replace(*change))
    (finding,) = site.report().findings
    assert (finding.key, message in finding.message, todo in finding.todo) == (key, True, True)
    assert finding.line > 1


def test_collations_of_mariadb_are_shown_for_what_they_are_and_never_take_the_adapter_in(
    mariadb: Server, tmp_path: Path
) -> None:
    name = fresh_name()
    mariadb.create(name)
    mariadb.execute(
        name,
        "CREATE TABLE person (id_card VARCHAR(18) CHARACTER SET gbk COLLATE gbk_chinese_ci, "
        "full_name VARCHAR(60) COLLATE utf8mb4_unicode_ci, months INTEGER, voided INTEGER, acct INTEGER, s INTEGER)",
        "CREATE TABLE job (acct INTEGER, uscc VARCHAR(18) COLLATE utf8mb4_bin, wage INTEGER)",
        rows={"person": [(ANNA, "安娜", 12, 0, 1, 1)]},
    )
    site = Site(mariadb, name, tmp_path / "mapping.toml", tmp_path / "document.toml")
    site.point_at("reader")
    site.document.write_text(PUBLISHED, "utf-8")
    found = {".".join(map(str, one.key)): one for one in site.report().collations}
    equated = {key: {pair.english for pair in one.equated} for key, one in found.items()}
    unheld = {key: {pair.english for pair in one.unheld} for key, one in found.items()}
    assert equated["data.person.subject"] >= {"case", "trailing spaces"}
    assert equated["data.person.name"] >= {"case", "width", "trailing spaces", "ß and ss", "accents"}
    assert "characters beyond the BMP" in equated["data.person.name"] | unheld["data.person.subject"]
    assert equated["attribute.employer.value"] == {"trailing spaces"}
    assert not any(one.fooled for one in found.values())
    mariadb.drop(name)


def test_collations_of_postgresql_are_shown_for_what_they_are_and_never_take_the_adapter_in(
    postgresql: Server, tmp_path: Path
) -> None:
    name = fresh_name()
    postgresql.create(name)
    postgresql.execute(
        name,
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
        "CREATE TABLE person (id_card CHAR(20), full_name VARCHAR(60) COLLATE blind, months INTEGER, voided INTEGER, "
        "acct INTEGER, secret INTEGER)",
        "CREATE TABLE job (acct INTEGER, uscc VARCHAR(18), wage INTEGER)",
        rows={"person": [(ANNA, "安娜", 12, 0, 1, 1)]},
    )
    site = Site(postgresql, name, tmp_path / "mapping.toml", tmp_path / "document.toml")
    site.point_at("reader")
    site.document.write_text(PUBLISHED, "utf-8")
    found = site.report()
    equated = {".".join(map(str, one.key)): {pair.english for pair in one.equated} for one in found.collations}
    assert equated["data.person.subject"] == {"trailing spaces"}
    assert equated["data.person.name"] >= {"case", "width", "accents"}
    assert equated["attribute.employer.value"] == set()
    assert found.findings == []
    assert not any(one.fooled for one in found.collations)
    postgresql.drop(name)


def test_no_message_that_quotes_a_value_is_passed_on(site: Site) -> None:
    secret = "440399-secret"
    site.server.execute(site.name, f"UPDATE person SET secret = '{secret}'")  # noqa: S608 - our own
    refusals = []
    with site.connect("reader") as connection:
        for statement in (
            "SELECT CAST(%(secret)s AS DATE) FROM job WHERE acct = %(secret)s +",
            "SELECT months FROM person WHERE id_card = %(secret)s GROUP %(secret)s",
            "SELECT months FROM person WHERE id_card = %(secret)s AND nothing(%(secret)s) = 1",
            "SELECT months FROM nowhere WHERE id_card = %(secret)s",
            # What is stored comes into messages of PostgreSQL only.
            *(["SELECT CAST(secret AS INTEGER) FROM person"] if site.server.family == "postgresql" else []),
        ):
            with pytest.raises(DBAPIError) as refused:
                connection.exec_driver_sql(statement, {"secret": secret}).all()
            refusals.append(told(refused.value))
    assert not [one for one in refusals if "secret" in one]
    assert "nowhere" in refusals[3]
    with pytest.raises(DBAPIError) as refused, site.connect("nobody_at_all"):
        pass
    assert "nobody_at_all" in told(refused.value)
