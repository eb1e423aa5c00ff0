"""What one statement says of each subject, by one suite over SQLite and real servers of PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, CHEN, DING, Owner, attribute, resident
from adapters.dialects import SMALL, spell_list
from servers import Server
from zhiwang.wire.names import name_spellings
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN

EVE, FANG, GU = (resident(serial) for serial in (5, 6, 7))
SHORT = EVE[:6] + EVE[8:17]
NOBODY = resident(77)

TABLES = """
CREATE TABLE person (
    id_card VARCHAR(20), full_name VARCHAR(100), region VARCHAR(12), months INTEGER, share NUMERIC(10, 2),
    born DATE, status VARCHAR(20), voided INTEGER
);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE stored (id_card VARCHAR(20), number VARCHAR(40), day VARCHAR(40));
CREATE INDEX stored_id ON stored (id_card);
CREATE TABLE lease (id_card VARCHAR(20), start_date DATE, end_date DATE, voided INTEGER);
CREATE INDEX lease_id ON lease (id_card);
CREATE TABLE parent (child VARCHAR(20), parent VARCHAR(20));
CREATE INDEX parent_child ON parent (child);
CREATE TABLE loads (kind VARCHAR(20), loaded_at VARCHAR(30));
"""

MAPPING = r"""
[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT max(loaded_at) FROM loads WHERE kind LIKE 'night%' AND '\\:' <> 'x'"

[data.free]
table = "person"
subject = "id_card"

[data.stored]
table = "stored"
subject = "id_card"

[data.lease]
table = "lease"
subject = "id_card"
loaded = "SELECT max(loaded_at) FROM loads"

[data.begun]
select = "SELECT id_card, count(*) AS leases FROM lease WHERE start_date <= :as_of GROUP BY id_card"
subject = "id_card"

[data.parent]
table = "parent"
subject = "child"

[attribute.months]
data = "person"
value = "months"
where = "voided = 0"

[attribute.card]
data = "person"

[attribute.free_months]
data = "free"
value = "months"

[attribute.share]
data = "free"
value = "share"

[attribute.born]
data = "free"
value = "born"

[attribute.status]
data = "free"
value = "status"

[attribute.called]
data = "free"
value = "full_name"

[attribute.number]
data = "stored"
value = "number"

[attribute.fraction]
data = "stored"
value = "number"

[attribute.day]
data = "stored"
value = "day"

[attribute.lease]
data = "lease"
valid = { from = "start_date", to = "end_date" }
rows = "any"

[attribute.only_lease]
data = "lease"
valid = { from = "start_date", to = "end_date" }

[attribute.owns]
data = "lease"
where = "voided = 0"

[attribute.homeless]
data = "person"
where = "voided = 0"

[attribute.leases]
data = "begun"
value = "leases"

[attribute.parent]
data = "parent"
value = "parent"
rows = "any"
"""

PUBLISHED = "".join([
    attribute("months", 'type = "integer"\nat_least = [6, 12]\nat_most = [24]\nasks = ["equals", "exists"]'),
    attribute("card", 'asks = ["exists"]'),
    attribute("free_months", 'type = "integer"\nat_least = [6, 12]\nat_most = [24]\nasks = ["equals", "exists"]'),
    attribute("share", 'type = "decimal"\nat_least = ["50.5", "51"]\nat_most = ["50.5"]\nasks = ["equals"]'),
    attribute("born", 'type = "date"\nat_most = [2008-09-01]\nat_least = [2008-09-01]\nasks = ["equals"]'),
    attribute("status", 'type = "code"\nasks = ["equals"]'),
    attribute("called", 'type = "text"\nasks = ["equals"]'),
    attribute("number", 'type = "integer"\nat_least = [0, 12]\nasks = ["equals"]'),
    attribute("fraction", 'type = "decimal"\nat_least = ["0", "12"]\nasks = ["equals"]'),
    attribute("day", 'type = "date"\nat_most = [2008-09-01]\nasks = ["equals"]'),
    attribute("lease", 'asks = ["valid"]'),
    attribute("only_lease", 'asks = ["valid"]'),
    attribute("owns", 'asks = ["absent", "exists"]\nmax_age = "30d"'),
    attribute("homeless", 'asks = ["absent"]\nmax_age = "30d"'),
    attribute("leases", 'type = "integer"\nat_least = [1, 2]'),
    attribute("parent", 'type = "person"\nasks = ["related"]'),
])  # fmt: skip

ROWS: dict[str, list[tuple[object, ...]]] = {
    "person": [
        (ANNA, "安娜", "440306001001", 12, 51, "2008-09-01", "A1", 0),
        (BO, "阿依·古丽", "440305", 3, "50.50", "2008-09-02", "a1", 0),
        (CHEN, "陈", "440306", None, None, None, None, 0),
        (DING, "丁", "440306", 12, 51, "2008-09-01", "A1 ", 0),
        (DING, "丁", "440306", 3, 12, "2008-09-30", "Ａ1", 0),
        (DING, "丁", "440306", 99, 0, "2000-01-01", "A1", 1),
        (SHORT, "𠮷田", "440306", 12, 12, "1990-01-01", "A1", 0),
    ],
    "lease": [
        (ANNA, "2026-01-01", "2026-09-01", 0),
        (ANNA, "2024-01-01", "2025-01-01", 0),
        (BO, "2026-09-02", "2027-01-01", 1),
        (CHEN, "2026-01-01", None, 0),
        (DING, "2020-01-01", "2021-01-01", None),
    ],
    "parent": [(ANNA, BO), (ANNA, CHEN), (BO, None)],
    "loads": [("nightly", "2026-09-19 08:00:00"), ("daily", "2026-09-18 08:00:00")],
}

FAMILIES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(scope="module", params=FAMILIES)
def database(request: pytest.FixtureRequest) -> Server | None:
    """The server of each family; None for SQLite, which needs none."""
    return None if request.param == "sqlite" else request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def owner(database: Server | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    owner = Owner(
        tmp_path_factory.mktemp("owner"),
        tables=TABLES,
        rows=ROWS,
        mapping=MAPPING,
        published=PUBLISHED,
        server=database,
    )
    yield owner
    owner.close()


def test_a_threshold_is_met_from_the_cell_on(owner: Owner) -> None:
    assert owner.ask("months at_least", ANNA, BO, value="12") == [YES, NO]
    assert owner.ask("months at_most", ANNA, BO, value="3") == [NO, YES]
    assert owner.ask("months equals", ANNA, BO, value="12") == [YES, NO]
    assert owner.ask("share at_least", ANNA, BO, value="50.5") == [YES, YES]
    assert owner.ask("share at_least", ANNA, BO, value="50.51") == [YES, NO]
    assert owner.ask("share at_most", ANNA, BO, value="50.5") == [NO, YES]
    assert owner.ask("share equals", ANNA, BO, value="51") == [YES, NO]


def test_days_are_compared_as_days(owner: Owner) -> None:
    assert owner.ask("born at_most", ANNA, BO, CHEN, value="2008-09-01") == [YES, NO, UNKNOWN]
    assert owner.ask("born at_least", ANNA, BO, value="2008-09-02") == [NO, YES]
    assert owner.ask("born equals", ANNA, BO, value="2008-09-01") == [YES, NO]


def test_nothing_tells_no_record_from_a_null_a_wrong_name_or_another_place(owner: Owner) -> None:
    assert owner.ask("months at_least", NOBODY, CHEN, value="12") == [UNKNOWN, UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", name="李四") == [UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", place="440305") == [UNKNOWN]
    assert owner.ask("months exists", ANNA, NOBODY, name="李四") == [UNKNOWN, UNKNOWN]


def test_a_name_is_the_same_bytes_or_another_name(owner: Owner) -> None:
    assert owner.ask("card exists", ANNA, name="安娜") == [YES]
    assert owner.ask("card exists", EVE, name="𠮷田") == [YES]
    # To utf8mb4_general_ci every character beyond U+FFFF is the same one.
    assert owner.ask("card exists", EVE, name="𡋣田") == [UNKNOWN]
    assert owner.ask("card exists", EVE, name="吉田") == [UNKNOWN]
    assert owner.ask("called equals", BO, value=spell_list(["阿依•古丽", "阿依·古丽"])) == [YES]
    assert owner.ask("called equals", EVE, value=spell_list(["𡋣田"])) == [NO]


def test_a_place_covers_what_its_code_begins(owner: Owner) -> None:
    assert owner.ask("months at_least", ANNA, value="12", place="440306001") == [YES]
    # A record that names only the district cannot be told to lie in a street of it.
    assert owner.ask("months at_least", BO, value="3", place="440305001") == [UNKNOWN]


def test_rows_that_disagree_are_unknown_and_filtered_rows_do_not_count(owner: Owner) -> None:
    assert owner.ask("months at_least", DING, value="12") == [UNKNOWN]
    assert owner.ask("months at_least", DING, value="2") == [YES]
    assert owner.ask("months at_most", DING, value="50") == [YES]


def test_one_of_several_rows_is_enough_where_the_mapping_says_any(owner: Owner) -> None:
    assert owner.ask("lease valid", ANNA, BO) == [YES, NO]
    assert owner.ask("only_lease valid", ANNA, BO) == [UNKNOWN, NO]


def test_an_interval_holds_on_its_first_and_its_last_day_and_needs_both(owner: Owner) -> None:
    assert owner.ask("lease valid", BO, as_of=date(2026, 9, 2)) == [YES]
    assert owner.ask("lease valid", BO, as_of=date(2027, 1, 1)) == [YES]
    assert owner.ask("lease valid", BO, as_of=date(2027, 1, 2)) == [NO]
    assert owner.ask("lease valid", CHEN) == [UNKNOWN]
    assert owner.ask("lease valid", CHEN, as_of=date(2020, 1, 1)) == [UNKNOWN]


def test_exists_is_never_no(owner: Owner) -> None:
    assert owner.ask("owns exists", ANNA, BO, NOBODY) == [YES, UNKNOWN, UNKNOWN]


def test_absent_is_no_for_a_row_yes_for_none_and_unknown_where_the_filter_is_null(owner: Owner) -> None:
    assert owner.ask("owns absent", ANNA, BO, DING, NOBODY) == [NO, YES, UNKNOWN, YES]


def test_absent_is_not_scoped_by_place_and_a_wrong_name_does_not_make_it_yes(owner: Owner) -> None:
    assert owner.ask("homeless absent", ANNA, place="330106") == [NO]
    assert owner.ask("homeless absent", ANNA, name="李四") == [UNKNOWN]
    assert owner.ask("homeless absent", ANNA, name="安娜") == [NO]


def test_a_select_is_evaluated_as_of_the_reference_date(owner: Owner) -> None:
    assert owner.ask("leases at_least", ANNA, value="2") == [YES]
    assert owner.ask("leases at_least", ANNA, value="2", as_of=date(2025, 6, 1)) == [NO]
    assert owner.ask("leases at_least", ANNA, value="1", as_of=date(2020, 1, 1)) == [UNKNOWN]


def test_a_relation_compares_identifiers_in_every_accepted_spelling(owner: Owner) -> None:
    def spelled(identifier: str) -> str:
        return spell_list([identifier, identifier.lower()])

    assert owner.ask("parent related", ANNA, value=spelled(BO)) == [YES]
    assert owner.ask("parent related", ANNA, value=spelled(CHEN)) == [YES]
    assert owner.ask("parent related", ANNA, value=spelled(DING)) == [NO]
    assert owner.ask("parent related", BO, value=spelled(DING)) == [UNKNOWN]
    assert owner.ask("parent related", ANNA, value=None) == [UNKNOWN]


def test_codes_are_equal_bytewise_or_not_at_all(owner: Owner) -> None:
    assert owner.ask("status equals", ANNA, BO, value=spell_list(["A1"])) == [YES, NO]
    assert owner.ask("status equals", ANNA, value=spell_list(["A1 "])) == [NO]
    assert owner.ask("status equals", ANNA, value=spell_list(["A"])) == [NO]
    assert owner.ask("status equals", ANNA, value=spell_list(["Á1"])) == [NO]


def test_a_subject_stored_with_fifteen_digits_is_found(owner: Owner) -> None:
    assert owner.ask("months exists", EVE) == [YES]


STORED = [
    ("12", YES),
    ("0", NO),
    ("-3", NO),
    ("13", YES),
    ("012", UNKNOWN),
    (" 12", UNKNOWN),
    ("12 ", UNKNOWN),
    ("12abc", UNKNOWN),
    ("1e3", UNKNOWN),
    ("NaN", UNKNOWN),
    ("Infinity", UNKNOWN),
    ("１２", UNKNOWN),
    ("12\n", UNKNOWN),
    ("", UNKNOWN),
    ("+12", UNKNOWN),
    ("0x10", UNKNOWN),
    (None, UNKNOWN),
]
"""Texts where an integer was published, and whether they are at least 12."""

DAYS = [
    ("2008-09-01", YES),
    ("2008-09-02", NO),
    ("2008-09-01 23:59:59", YES),
    ("2008-09-01T10:00", YES),
    ("2008-09-01 23:00:00.123", YES),
    ("2008-09-01 25:00:00", UNKNOWN),
    ("2008-02-30", UNKNOWN),
    ("2007-02-29", UNKNOWN),
    ("2008-02-30 10:00:00", UNKNOWN),
    ("2008-09-01 ", UNKNOWN),
    ("2008-09-00", UNKNOWN),
    ("0000-00-00", UNKNOWN),
    ("2008-13-01", UNKNOWN),
    ("2008-9-1", UNKNOWN),
    ("20080901", UNKNOWN),
    ("01/09/2008", UNKNOWN),
    ("2008-09-01x", UNKNOWN),
    ("2008-09-01\n", UNKNOWN),
    ("today", UNKNOWN),
    ("", UNKNOWN),
    (None, UNKNOWN),
]
"""Texts where a date was published, and whether they are at most 2008-09-01."""


def test_a_text_is_a_number_or_a_day_only_if_it_is_exactly_one(owner: Owner) -> None:
    people = [resident(serial) for serial in range(200, 200 + max(len(STORED), len(DAYS)))]
    numbers = dict(zip(people, STORED, strict=False))
    days = dict(zip(people, DAYS, strict=False))
    rows = [(person, numbers.get(person, (None,))[0], days.get(person, (None,))[0]) for person in people]
    owner.insert("stored", rows)
    assert owner.ask("number at_least", *numbers, value="12") == [expected for _, expected in STORED]
    assert owner.ask("day at_most", *days, value="2008-09-01") == [expected for _, expected in DAYS]
    # Of a decimal zeros in front are no fault.
    expected = [YES if text == "012" else outcome for text, outcome in STORED]
    assert owner.ask("fraction at_least", *numbers, value="12") == expected


def test_a_group_says_of_each_subject_what_it_says_of_it_alone(owner: Owner) -> None:
    people = [ANNA, BO, CHEN, DING, EVE, NOBODY] * SMALL
    for claim, value in (
        ("months at_least", "12"),
        ("lease valid", None),
        ("owns absent", None),
        ("owns exists", None),
        ("status equals", spell_list(["A1"])),
    ):
        alone = [owner.ask(claim, person, value=value)[0] for person in people[:6]]
        assert owner.ask(claim, *people[:6], value=value) == alone
        assert owner.ask(claim, *people, value=value) == alone * SMALL


def test_each_subject_of_a_group_is_compared_with_its_own_value(owner: Owner) -> None:
    assert owner.ask("months at_least", *[ANNA] * 300, values=["12", "13"] * 150) == [YES, NO] * 150


def test_the_last_load_is_a_time_of_the_city(owner: Owner) -> None:
    with owner.source.lend() as lent:
        loaded = owner.source.loaded(lent, "person")
    assert loaded.whole
    assert loaded.time == 1_789_776_000  # 2026-09-19 08:00 +08:00
    owner.source.look()


def test_a_frame_is_answered_from_every_database(database: Server | None, tmp_path: Path) -> None:
    asks = ["hrss.months at_least", "hrss.card exists", "hrss.owns absent", "hrss.parent related", "hrss.lease valid"]
    bureau = Bureau(
        tmp_path,
        tables=TABLES,
        rows=ROWS,
        mapping=MAPPING,
        published=PUBLISHED + grants(asks),
        server=database,
    )
    try:
        claims = [
            "child: hrss.months at_least 12",
            "child: hrss.card exists",
            "child: hrss.owns absent",
            "child: hrss.parent related @guardian",
            "child: hrss.lease valid",
        ]
        outcomes = bureau.ask_all(
            claims,
            {"child": (ANNA, "安娜"), "guardian": BO},
            {"child": (BO, "阿依·古丽"), "guardian": DING},
            {"child": (EVE, "𡋣田"), "guardian": DING},
            {"child": NOBODY, "guardian": DING},
        )
        assert outcomes[:5] == [YES, YES, NO, YES, YES]
        assert outcomes[5:10] == [NO, YES, YES, UNKNOWN, NO]
        assert outcomes[10:15] == [UNKNOWN, UNKNOWN, YES, UNKNOWN, UNKNOWN]
        assert outcomes[15:] == [UNKNOWN, UNKNOWN, YES, UNKNOWN, UNKNOWN]
        assert bureau.data_as_of[0] == 1_789_776_000
    finally:
        bureau.close()


def test_every_middle_dot_that_a_table_may_hold_is_found(owner: Owner) -> None:
    assert owner.ask("called equals", BO, value=spell_list(name_spellings("阿依·古丽"))) == [YES]
