"""Columns that change under a running adapter, on every database: what closes an attribute, and what opens it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, NOW, Owner, attribute, document
from adapters.answers import AnswerWatch
from adapters.database import connect_to
from adapters.drift import ColumnWatch
from adapters.ledger import Ledger
from adapters.mapping import load_mapping
from adapters.standpoint import RETRY, Standpoints
from policy.directory import DirectoryHolder
from servers import Server, fresh_name
from zhiwang.wire.records import Outcome

FAMILIES = ("sqlite", "postgresql", "mariadb")

TABLES = (
    "CREATE TABLE person (id_card VARCHAR(20) NOT NULL, months INTEGER, days INTEGER, spare INTEGER)",
    f"INSERT INTO person VALUES ('{ANNA}', 12, 360, 1), ('{BO}', 3, 90, 1)",  # noqa: S608 - our own
    "CREATE VIEW insured AS SELECT id_card, months FROM person",
)

MAPPING = f"""
[data.person]
table = "person"
subject = "id_card"

[data.view]
table = "insured"
subject = "id_card"

[data.written]
select = "SELECT id_card, days / 30 AS months, days FROM person"
subject = "id_card"

[attribute.months]
data = "person"
value = "Months"

[attribute.days]
data = "person"
value = "months"
where = "coalesce(days, 0) > 1"

[attribute.card]
data = "person"

[attribute.blind]
data = "person"
value = "months"

[attribute.viewed]
data = "view"
value = "months"

[attribute.written]
data = "written"
value = "months"

[[probe]]
claim = "hrss.blind exists"
subject = "{ANNA}"
answer = "YES"

[[probe]]
claim = "hrss.card exists"
subject = "{ANNA}"
answer = "YES"

[[probe]]
claim = "hrss.days at_least 12"
subject = "{ANNA}"
answer = "YES"
"""  # noqa: S608 - our own

PUBLISHED = "".join(
    attribute(name, 'type = "integer"\nat_least = [12]') for name in ("months", "days", "viewed", "written")
) + attribute("card", 'asks = ["exists"]')
PUBLISHED += attribute("blind", 'type = "integer"\nat_least = [12]\nasks = ["exists"]')


class Office:
    """A database that changes, and what an adapter makes of it."""

    def __init__(self, directory: Path, url: str, execute: Callable[..., None]) -> None:
        self.execute = execute
        execute(*TABLES)
        path = directory / "mapping.toml"
        path.write_text(f'department = "hrss"\n[database]\nurl = "{url}"\n' + MAPPING, "utf-8")
        published = document(PUBLISHED)
        mapping = load_mapping(path, published)
        connections = connect_to(mapping.database, directory)
        ledger = Ledger(b"k" * 32, mapping.limits, lambda: NOW)
        self.standpoints = Standpoints(
            DirectoryHolder(lambda: NOW), connections, mapping, ledger, published, AnswerWatch({}), lambda: NOW
        )
        self.standpoints.look_at_columns()
        self.standpoints.probe()

    @property
    def closed(self) -> set[str]:
        return set(self.standpoints.failing | self.standpoints.drifted)

    def look(self, *statements: str) -> list[tuple[str, object]]:
        """Change something and look. Returns what was alarmed about."""
        self.execute(*statements)
        with structlog.testing.capture_logs() as lines:
            self.standpoints.look_at_columns()
        return [(line["event"], line.get("attribute")) for line in lines if line["log_level"] == "error"]


@pytest.fixture(params=FAMILIES)
def office(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Office]:
    if request.param == "sqlite":

        def execute(*statements: str) -> None:
            with sqlite3.connect(tmp_path / "data.db") as connection:
                for statement in statements:
                    connection.execute(statement)
            connection.close()

        office = Office(tmp_path, "sqlite:///file:data.db?mode=ro&uri=true", execute)
        yield office
        office.standpoints.close()
        return
    server: Server = request.getfixturevalue(request.param)
    name = fresh_name()
    server.create(name)
    office = Office(tmp_path, server.url(name), lambda *statements: server.execute(name, *statements))
    yield office
    office.standpoints.close()
    server.drop(name)


VIEW = TABLES[2]


def retyped(office: Office, column: str, kind: str) -> Sequence[str]:
    """Statements that give a column of `person` another type, as each database can."""
    family = office.standpoints.family
    if family == "postgresql":
        change: Sequence[str] = (f"ALTER TABLE person ALTER {column} TYPE {kind}",)
    elif family == "sqlite":
        change = (
            f"ALTER TABLE person ADD COLUMN other {kind}",
            f"UPDATE person SET other = {column}",  # noqa: S608 - our own
            f"ALTER TABLE person DROP COLUMN {column}",
            f"ALTER TABLE person RENAME COLUMN other TO {column}",
        )
    else:
        change = (f"ALTER TABLE person MODIFY {column} {kind}",)
    return ("DROP VIEW insured", *change, VIEW)


def needs(office: Office, families: str, reason: str) -> None:
    """Skip a test of what only some databases have."""
    if office.standpoints.family not in families.split():
        pytest.skip(reason)


def test_columns_that_stand_still_and_columns_that_nobody_uses_alarm_nobody(office: Office) -> None:
    assert office.look() == []
    assert office.look("ALTER TABLE person ADD COLUMN news INTEGER") == []
    assert office.look("ALTER TABLE person DROP COLUMN spare") == []
    assert office.closed == set()


def test_a_column_that_vanished_closes_the_attributes_that_use_it_and_no_other(office: Office) -> None:
    alarms = office.look("ALTER TABLE person RENAME COLUMN days TO gone")
    assert ("columns changed", "days") in alarms
    assert ("probe failed", "days") in alarms
    assert "days" in office.closed
    assert not office.closed & {"months", "card"}
    # It comes back: its probe passes, and it is answered again.
    office.look("ALTER TABLE person RENAME COLUMN gone TO days")
    assert office.closed == set()


def test_a_retyped_column_is_relied_on_only_where_a_probe_passes_over_it(office: Office) -> None:
    alarms = office.look(*retyped(office, "months", "BIGINT"))
    assert {("columns changed", name) for name in ("months", "days", "viewed")} <= set(alarms)
    # A probe that looks at no value proves none.
    assert office.closed == {"months", "viewed", "blind"}
    # Nothing that happens by itself opens the others, except that the columns are again what they were.
    office.standpoints.probe()
    assert office.look() == []
    assert office.closed == {"months", "viewed", "blind"}
    office.look(*retyped(office, "months", "INTEGER"))
    assert office.closed == set()


def test_a_column_that_may_now_hold_null_alarms_and_closes_nothing(office: Office) -> None:
    needs(office, "postgresql mysql mariadb", "SQLite cannot change a column's nullability in place")
    change = (
        "ALTER id_card DROP NOT NULL" if office.standpoints.family == "postgresql" else "MODIFY id_card VARCHAR(20)"
    )
    alarms = office.look(f"ALTER TABLE person {change}")
    assert ("columns changed", "card") in alarms
    assert office.closed == set()


def test_another_collation_closes_what_has_no_probe(office: Office) -> None:
    needs(office, "postgresql mysql mariadb", "SQLite's catalogue does not tell a collation")
    if office.standpoints.family == "postgresql":
        change = 'ALTER id_card TYPE VARCHAR(20) COLLATE "POSIX"'
    else:
        change = "MODIFY id_card VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL"
    office.look("DROP VIEW insured", f"ALTER TABLE person {change}", VIEW)
    assert {"months", "blind"} <= office.closed
    assert not office.closed & {"days", "card"}


def test_a_written_select_closes_when_what_it_gives_changes(office: Office) -> None:
    needs(office, "postgresql mysql mariadb", "SQLite's driver tells no types of a SELECT")
    office.look(*retyped(office, "days", "NUMERIC(12,3)"))
    assert "written" in office.closed


def test_a_table_that_a_load_replaces_is_answered_again_when_it_is_there(office: Office) -> None:
    office.look("DROP VIEW insured", "ALTER TABLE person RENAME TO old")
    assert {"months", "card", "viewed"} <= office.closed
    office.look("ALTER TABLE old RENAME TO person", VIEW)
    assert office.closed == set()


def test_a_lost_right_to_read_a_column_closes_its_attributes(office: Office) -> None:
    needs(office, "postgresql", "only PostgreSQL's test account has rights on single tables")
    office.look("REVOKE SELECT ON person FROM reader", "GRANT SELECT (id_card, days) ON person TO reader")
    assert "months" in office.closed
    assert "card" not in office.closed


def test_what_has_probes_is_closed_until_they_could_be_asked_for_the_first_time(tmp_path: Path) -> None:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT, months INTEGER);",
        rows={"person": [(ANNA, 12)]},
        mapping='[data.person]\ntable = "person"\nsubject = "id_card"\n[attribute.card]\ndata = "person"\n'
        '[attribute.months]\ndata = "person"\nvalue = "months"\n'
        f'[[probe]]\nclaim = "hrss.months at_least 12"\nsubject = "{ANNA}"\nanswer = "YES"\n',
        published=attribute("months", 'type = "integer"\nat_least = [12]')
        + attribute("card", 'asks = ["exists"]')
        + grants(["hrss.months at_least", "hrss.card exists"]),
    )
    standpoints = Standpoints(
        DirectoryHolder(lambda: bureau.now),
        bureau.connections,
        bureau.mapping,
        Ledger(b"k" * 32, bureau.mapping.limits, lambda: bureau.now),
        bureau.document,
        bureau.answers,
        lambda: bureau.now,
    )
    bureau.closed = standpoints._doubtful
    away = bureau.database.rename(tmp_path / "away.db")
    standpoints.look_at_columns()
    standpoints.probe()
    # The database comes back before anybody asks the probes again.
    away.rename(bureau.database)
    claims = ["child: hrss.months at_least 12", "child: hrss.card exists"]
    assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.PROBE_FAILED, Outcome.YES]
    assert standpoints.seconds_to_probe == RETRY
    standpoints.probe()
    assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.YES, Outcome.YES]
    # Once they were asked, an outage changes nothing of what they said.
    away = bureau.database.rename(tmp_path / "away.db")
    standpoints.probe()
    away.rename(bureau.database)
    assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.YES, Outcome.YES]
    bureau.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [('"p%"', "n"), ("p", "n"), ("p", '"N"')],
    ids=["percent sign in the table's name", "small beside capital", "capital beside small"],
)
def test_columns_of_oddly_named_tables_are_looked_at_too(
    postgresql: Server, tmp_path: Path, table: str, column: str
) -> None:
    def once(statement: str) -> str:
        return statement.replace("%", "%%")

    owner = Owner(
        tmp_path,
        tables=once(f'CREATE TABLE {table} (id_card varchar(20), n integer, "N" integer)'),
        rows={},
        mapping=f"[data.person]\ntable = '{table.strip(chr(34))}'\nsubject = 'id_card'\n"
        f"[attribute.n]\ndata = 'person'\nvalue = '{column}'\n",
        published=attribute("n", 'type = "integer"\nat_least = [1]'),
        server=postgresql,
    )
    watch = ColumnWatch(owner.connections, owner.mapping)
    watch.look()
    owner.change(once(f"ALTER TABLE {table} ALTER {column} TYPE text"))
    watch.look()
    assert watch.drifted == {"n"}
    owner.close()


# Through a frame: what the requester gets.


def test_a_column_that_changed_is_answered_unavailable_and_never_no(tmp_path: Path) -> None:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT, months INTEGER, days INTEGER);",
        rows={"person": [(ANNA, 12, 360)]},
        mapping='[data.person]\ntable = "person"\nsubject = "id_card"\n'
        '[attribute.months]\ndata = "person"\nvalue = "months"\n[attribute.card]\ndata = "person"\n',
        published=attribute("months", 'type = "integer"\nat_least = [12]')
        + attribute("card", 'asks = ["exists"]')
        + grants(["hrss.months at_least", "hrss.card exists"]),
    )
    claims = ["child: hrss.months at_least 12", "child: hrss.card exists"]
    standpoints = Standpoints(
        DirectoryHolder(lambda: bureau.now),
        bureau.connections,
        bureau.mapping,
        Ledger(b"k" * 32, bureau.mapping.limits, lambda: bureau.now),
        bureau.document,
        bureau.answers,
        lambda: bureau.now,
    )
    bureau.closed = lambda attribute: attribute in standpoints.drifted
    standpoints.look_at_columns()
    assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.YES, Outcome.YES]
    with sqlite3.connect(bureau.database) as connection:
        # Another meaning under the old name: everybody would be NO.
        connection.execute("ALTER TABLE person DROP COLUMN months")
        connection.execute("ALTER TABLE person ADD COLUMN months TEXT DEFAULT '0'")
    connection.close()
    standpoints.look_at_columns()
    assert bureau.ask_all(claims, {"child": ANNA}) == [Outcome.PROBE_FAILED, Outcome.YES]
    bureau.close()
