"""Tables that were not made for us, by the very mappings that docs/databases.md shows, on every database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from adapter_support import ANNA, AS_OF, BO, CHEN, DING, SCHEMES, Owner, attribute, resident
from adapters.database import DatabaseError
from adapters.dialects import spell_list
from servers import Server
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"
FENCE = re.compile(r"^```(sql|toml)([a-z ]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

MONTHS = attribute("months", 'type = "integer"\nat_least = [6, 12]')

NUMBERED = [person for person in (resident(serial) for serial in range(100, 130)) if not person.endswith("X")]
"""People whose identifiers are numbers."""

Rows = dict[str, Sequence[Sequence[object]]]
Make = Callable[..., Owner]


def shown(heading: str, family: str) -> tuple[str, str]:
    """Statements and mapping lines that the page shows for a family under a heading."""
    section = PAGE.read_text("utf-8").split(f"\n### {heading}\n")[1]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    texts = {"sql": "", "toml": ""}
    for kind, families, text in FENCE.findall(section):
        if not families.split() or family in families.split():
            texts[kind] += text
    assert all(texts.values()), (heading, family)
    return texts["sql"].rstrip("\n"), texts["toml"]


def plain(subject: str, name: str) -> str:
    return (
        f'[data.person]\ntable = "person"\nsubject = "{subject}"\n\n'
        f'[attribute.{name}]\ndata = "person"\nvalue = "{name}"\n'
    )


@pytest.fixture(params=("sqlite", "postgresql", "mariadb"))
def family(request: pytest.FixtureRequest) -> str:
    family: str = request.param
    return family


@pytest.fixture
def server(family: str, request: pytest.FixtureRequest) -> Server | None:
    return None if family == "sqlite" else request.getfixturevalue(family)


@pytest.fixture
def make(family: str, server: Server | None, tmp_path: Path) -> Iterator[Make]:
    """Makes an owner of what the page shows under a heading."""
    made: list[Owner] = []

    def make(heading: str, published: str, rows: Rows) -> Owner:
        tables, mapping = shown(heading, family)
        owner = Owner(tmp_path, tables=tables, rows=rows, mapping=mapping, published=published, server=server)
        made.append(owner)
        return owner

    yield make
    for owner in made:
        owner.close()


def test_quoted_mixed_case_and_chinese_names(make: Make, family: str) -> None:
    table = "`Person`" if family == "mariadb" else '"Person"'
    owner = make(
        "Quoted, mixed-case and Chinese names",
        MONTHS,
        {table: [(ANNA, "安娜", 12, 1), (BO, "波", 3, 1), (BO, "波", 12, 2)]},
    )
    assert owner.ask("months at_least", ANNA, BO, value="12") == [YES, NO]
    assert owner.ask("months at_least", ANNA, value="12", name="波") == [UNKNOWN]
    owner.source.look()


def test_schemas(make: Make, family: str, server: Server | None) -> None:
    if family == "mariadb":
        assert server is not None
        server.create("ins")
    try:
        owner = make("Schemas", MONTHS, {})
        table = {"mariadb": "ins.`Person`", "postgresql": 'ins."Person"', "sqlite": '"Person"'}[family]
        owner.insert(table, [(ANNA, 12), (BO, 3)])
        if family == "postgresql":
            owner.change("GRANT USAGE ON SCHEMA ins TO reader", 'GRANT SELECT ON ins."Person" TO reader')
        assert owner.ask("months at_least", ANNA, BO, value="12") == [YES, NO]
        owner.source.look()
    finally:
        if family == "mariadb":
            assert server is not None
            server.drop("ins")


def test_views(make: Make) -> None:
    owner = make("Views", MONTHS, {"raw_person": [(ANNA, 12, "x"), (BO, None, "y"), (CHEN, 3, None)]})
    assert owner.ask("months at_least", ANNA, BO, CHEN, value="12") == [YES, UNKNOWN, NO]


def test_joins(make: Make) -> None:
    rows: Rows = {
        "holder": [(1, ANNA), (2, BO)],
        "account": [(1, 12, "pension"), (1, 1, "health"), (2, 3, "pension")],
    }
    owner = make("Joins", MONTHS, rows)
    assert owner.ask("months at_least", ANNA, BO, CHEN, value="12") == [YES, NO, UNKNOWN]


def test_several_names_of_one_person(make: Make) -> None:
    rows: Rows = {
        "person": [(ANNA, 12), (BO, 3)],
        "person_name": [
            (ANNA, "安娜", "2000-01-01", "2020-12-31"),
            (ANNA, "安·王", "2021-01-01", None),
            (ANNA, "安 王", "2021-01-01", None),
            (BO, "波", "2000-01-01", None),
        ],
    }
    owner = make("Several names of one person", MONTHS, rows)
    assert owner.ask("months at_least", ANNA, value="12", name="安·王") == [YES]
    assert owner.ask("months at_least", ANNA, value="12", name="安 王") == [YES]
    assert owner.ask("months at_least", ANNA, value="12", name="安娜") == [UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", name="安娜", as_of=date(2020, 12, 31)) == [YES]
    assert owner.ask("months at_least", BO, value="12", name="波") == [NO]


def test_relations_that_ended(make: Make) -> None:
    rows: Rows = {"guardian": [(ANNA, BO, None), (ANNA, CHEN, "2026-08-31"), (ANNA, DING, "2026-09-02")]}
    owner = make("Relations that ended", attribute("guardian", 'type = "person"\nasks = ["related"]'), rows)
    related = [owner.ask("guardian related", ANNA, value=spell_list([one]))[0] for one in (BO, CHEN, DING)]
    assert related == [YES, NO, YES]
    assert owner.ask("guardian related", ANNA, value=spell_list([CHEN]), as_of=date(2026, 8, 30)) == [YES]


def test_of_versioned_rows_only_the_live_one_counts(make: Make) -> None:
    rows: Rows = {
        "person": [(ANNA, 3, 1, "N"), (ANNA, 12, 2, "Y"), (BO, 12, 1, None), (BO, 3, 2, "Y"), (CHEN, 12, 1, "N")]
    }
    published = MONTHS + attribute("latest_months", 'type = "integer"\nat_least = [6, 12]')
    owner = make("Versioned rows", published, rows)
    assert owner.ask("months at_least", ANNA, BO, CHEN, value="12") == [YES, NO, UNKNOWN]
    assert owner.ask("latest_months at_least", ANNA, BO, CHEN, value="12") == [YES, NO, YES]


def test_columns_that_are_filled_up_with_blanks(make: Make) -> None:
    rows: Rows = {"padded": [(ANNA, "A1"), (BO, "A 1")], "written": [(f"{ANNA}  ", "A1  "), (BO, "A 1")]}
    published = "".join(
        attribute(name, 'type = "code"\nasks = ["equals", "exists"]') for name in ("status", "written_status")
    )
    owner = make("Columns that are filled up with blanks", published, rows)
    for name in ("status", "written_status"):
        assert owner.ask(f"{name} exists", ANNA, BO, CHEN) == [YES, YES, UNKNOWN]
        assert owner.ask(f"{name} equals", ANNA, BO, value=spell_list(["A1"])) == [YES, NO]
        assert owner.ask(f"{name} equals", ANNA, value=spell_list(["A1  "])) == [NO]


def test_dates_as_text(make: Make) -> None:
    rows: Rows = {"person": [(ANNA, "20080901"), (BO, "20080902"), (CHEN, "20080230"), (DING, "2008")]}
    owner = make("Dates as text", attribute("born", 'type = "date"\nat_most = [2008-09-01]'), rows)
    assert owner.ask("born at_most", ANNA, BO, CHEN, DING, value="2008-09-01") == [YES, NO, UNKNOWN, UNKNOWN]


def test_chinese_collations_and_character_sets(make: Make) -> None:
    rows: Rows = {
        "person": [(ANNA, "𠮷田", "Straße"), (BO, "王芳", "a1"), (CHEN.lower(), "ＡＢ", "甲"), (DING, "yi", "A1")]
    }
    owner = make(
        "Chinese collations and character sets", attribute("status", 'type = "code"\nasks = ["equals", "exists"]'), rows
    )
    assert owner.ask("status exists", ANNA, name="𠮷田") == [YES]
    for other in ("𡋣田", "吉田", "𠮷 田", "𠮷田 "):
        assert owner.ask("status exists", ANNA, name=other) == [UNKNOWN], other
    assert owner.ask("status exists", BO, CHEN, name="王芳") == [YES, UNKNOWN]
    assert owner.ask("status exists", DING, name="YI") == [UNKNOWN]
    assert owner.ask("status equals", ANNA, value=spell_list(["Strasse"])) == [NO]
    assert owner.ask("status equals", BO, DING, value=spell_list(["A1"])) == [NO, YES]
    assert owner.ask("status equals", CHEN, value=spell_list(["𠮷"])) == [NO]
    assert owner.ask("status equals", CHEN, value=spell_list(["甲"])) == [YES]


@pytest.mark.parametrize(
    "charset",
    [
        "gbk",
        "gb2312",
        "latin1",
        "ascii",
        "utf8mb3",
        "utf8mb4",
        "utf8mb4 COLLATE utf8mb4_unicode_ci",
        "utf8mb4 COLLATE utf8mb4_bin",
        "binary",
    ],
)
def test_whatever_the_character_set_of_the_subjects_column_its_index_serves(
    mariadb: Server, tmp_path: Path, charset: str
) -> None:
    column = "VARBINARY(80)" if charset == "binary" else f"VARCHAR(40) CHARACTER SET {charset}"
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE person (id_card {column}, months INTEGER);\nCREATE INDEX person_id ON person (id_card)",
        rows={"person": [(ANNA, 12), (BO, 3), *((resident(serial), 5) for serial in range(100, 400))]},
        mapping=plain("id_card", "months"),
        published=MONTHS,
        server=mariadb,
    )
    try:
        assert owner.ask("months at_least", ANNA, BO, CHEN, value="12") == [YES, NO, UNKNOWN]
        plan = owner.source.plan("person", (("months", Predicate.AT_LEAST),))
        asked = [(SCHEMES["person"].spellings(ANNA), None, None, ["12"])]
        with owner.source.lend() as lent:
            sql, parameters = plan.statement(owner.source._askable(lent, plan, AS_OF, asked), AS_OF)
            steps = lent.fetch(f"EXPLAIN {sql}", parameters)
        read = [step for step in steps if step[2] == "person"]
        assert read
        assert all(step[5] == "person_id" for step in read), steps
    finally:
        owner.close()


@pytest.mark.parametrize("charset", ["utf8mb4", "utf8mb3", "utf16", "utf16le", "utf32", "ucs2", "gbk"])
def test_somebody_in_full_width_is_never_absent_whatever_the_character_set(
    mariadb: Server, tmp_path: Path, charset: str
) -> None:
    wide = ANNA.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE person (id_card VARCHAR(20) CHARACTER SET {charset}, loaded DATETIME)",
        rows={"person": [(wide, "2026-09-20 00:00:00")]},
        mapping="""
        [data.person]
        table = "person"
        subject = "id_card"
        loaded = "SELECT max(loaded) FROM person"

        [attribute.home]
        data = "person"
        """,
        published=attribute("home", 'asks = ["exists", "absent"]\nmax_age = "10d"'),
        server=mariadb,
    )
    try:
        assert owner.ask("home absent", ANNA, BO) == [NO, YES]
        assert owner.ask("home exists", ANNA, BO) == [YES, UNKNOWN]
    finally:
        owner.close()


def test_a_character_set_that_is_not_known_is_unavailable_rather_than_asked_for_less(
    mariadb: Server, tmp_path: Path
) -> None:
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_card VARCHAR(40) CHARACTER SET sjis, months INTEGER)",
        rows={"person": [(ANNA, 12)]},
        mapping=plain("id_card", "months"),
        published=MONTHS,
        server=mariadb,
    )
    try:
        with capture_logs() as logs, pytest.raises(DatabaseError) as caught:
            owner.ask("months at_least", ANNA, value="12")
        assert caught.value.outcome is Outcome.DATABASE_UNAVAILABLE
        assert [(one["event"], one["repertoire"]) for one in logs] == [
            ("what the subject column can hold is not known", "sjis")
        ]
    finally:
        owner.close()


@pytest.mark.parametrize("kind", ["CHAR(18)", "VARCHAR(20)", "TEXT", 'VARCHAR(20) COLLATE "zh-x-icu"'])
def test_whatever_the_type_of_the_subjects_column_its_index_serves(
    postgresql: Server, tmp_path: Path, kind: str
) -> None:
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE person (id_card {kind}, months INTEGER);\nCREATE INDEX person_id ON person (id_card)",
        rows={"person": [(ANNA, 12), (BO, 3)]},
        mapping=plain("id_card", "months"),
        published=MONTHS,
        server=postgresql,
    )
    try:
        owner.change("INSERT INTO person SELECT lpad(n::text, 18, '1'), 5 FROM generate_series(1, 20000) n", "ANALYZE")
        assert owner.ask("months at_least", ANNA, BO, CHEN, value="12") == [YES, NO, UNKNOWN]
        plan = owner.source.plan("person", (("months", Predicate.AT_LEAST),))
        sql, parameters = plan.statement([(SCHEMES["person"].spellings(ANNA), None, None, ["12"])], AS_OF)
        with owner.source.lend() as lent:
            steps = " ".join(row[0] for row in lent.fetch(f"EXPLAIN {sql}", parameters))
        assert "person_id" in steps, steps
        assert "Seq Scan on person" not in steps
    finally:
        owner.close()


def test_identifiers_and_codes_in_columns_of_numbers(make: Make) -> None:
    one, two, three = NUMBERED[:3]
    owner = make(
        "Identifiers and codes in columns of numbers",
        attribute("division", 'type = "code"\nasks = ["equals", "exists"]'),
        {"person": [(one, 440306), (two, 440305)]},
    )
    assert owner.ask("division exists", one, two, three) == [YES, YES, UNKNOWN]
    assert owner.ask("division equals", one, two, value=spell_list(["440306"])) == [YES, NO]
    # A database that compares a number with a text takes these for 440306.
    for other in ("440306abc", "0440306", "440306.0", " 440306", "4.40306e5"):
        assert owner.ask("division equals", one, value=spell_list([other])) == [NO], other


def test_a_number_is_never_taken_for_a_neighbour_that_it_is_rounded_to(mariadb: Server, tmp_path: Path) -> None:
    people = NUMBERED[:2]
    near = [str(int(people[0]) + 1), str(int(people[0]) - 1)]
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_number BIGINT, months INTEGER)",
        rows={"person": [(near[0], 12), (near[1], 12), (people[1], 12)]},
        mapping=plain("id_number", "months"),
        published=MONTHS,
        server=mariadb,
    )
    try:
        assert owner.ask("months at_least", *people, value="12") == [UNKNOWN, YES]
    finally:
        owner.close()


def test_a_column_of_numbers_that_cannot_be_asked_is_unavailable_and_not_unknown(
    postgresql: Server, tmp_path: Path
) -> None:
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_number BIGINT, months INTEGER)",
        rows={"person": [(NUMBERED[0], 12)]},
        mapping=plain("id_number", "months"),
        published=MONTHS,
        server=postgresql,
    )
    try:
        with pytest.raises(DatabaseError):
            owner.ask("months at_least", NUMBERED[0], value="12")
    finally:
        owner.close()


def test_a_number_that_is_none_or_without_end_is_unknown(postgresql: Server, tmp_path: Path) -> None:
    rows = [(ANNA, "NaN"), (BO, "Infinity"), (CHEN, 12.5), (DING, "-Infinity")]
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_card VARCHAR(20), weight DOUBLE PRECISION)",
        rows={"person": rows},
        mapping=plain("id_card", "weight"),
        published=attribute("weight", 'type = "decimal"\nat_least = ["12"]'),
        server=postgresql,
    )
    try:
        assert owner.ask("weight at_least", ANNA, BO, CHEN, DING, value="12") == [UNKNOWN, UNKNOWN, YES, UNKNOWN]
    finally:
        owner.close()


def test_a_moment_belongs_to_the_citys_day_wherever_the_server_stands(
    family: str, server: Server | None, tmp_path: Path
) -> None:
    kind = {"postgresql": "TIMESTAMPTZ", "mariadb": "TIMESTAMP", "sqlite": "TEXT"}[family]
    rows = [(ANNA, "2026-08-31 15:59:59+00:00"), (BO, "2026-08-31 16:00:00+00:00")]
    if family == "mariadb":  # its literals take no offset; the admin's session is in the server's own time, -05:00
        rows = [(ANNA, "2026-08-31 10:59:59"), (BO, "2026-08-31 11:00:00")]
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE person (id_card VARCHAR(20), seen {kind})",
        rows={"person": rows},
        mapping=plain("id_card", "seen"),
        published=attribute("seen", 'type = "date"\nat_most = [2026-08-31]'),
        server=server,
    )
    try:
        assert owner.ask("seen at_most", ANNA, BO, value="2026-08-31") == [YES, NO]
    finally:
        owner.close()


@pytest.mark.parametrize("name", ["records", "k", "a", "d", "r", "keys_of_year"])
def test_a_table_may_be_called_as_a_statement_would_call_its_own(
    server: Server | None, tmp_path: Path, name: str
) -> None:
    owner = Owner(
        tmp_path,
        tables=f"CREATE TABLE {name} (id_card CHAR(18), months INTEGER)",
        rows={name: [(ANNA, 12), (BO, 3)]},
        mapping=plain("id_card", "months").replace('"person"\nsubject', f'"{name}"\nsubject'),
        published=MONTHS,
        server=server,
    )
    try:
        people = [ANNA, BO, CHEN]
        assert owner.ask("months at_least", *people, value="12") == [YES, NO, UNKNOWN]
        # The form for groups has relations of its own.
        assert owner.ask("months at_least", *people * 20, value="12") == [YES, NO, UNKNOWN] * 20
    finally:
        owner.close()
