"""What an adapter answers, the same over every kind of source: databases of three families, CSV and XLSX files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from adapter_drivers import DRIVERS, Driver, Files, Table, Tables, make_driver, moment
from adapter_frames import Bureau, grants
from adapter_support import ANNA, BO, CHEN, DING, Owner, attribute, resident
from adapters.mapping import Mapping as MappingFile
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN

EVE, FANG, GUO = (resident(serial) for serial in (5, 6, 7))
SHORT = GUO[:6] + GUO[8:17]
"""The same person as GUO, in fifteen digits."""

RARE = "𠮷㐂·𡋣"
"""Beyond the basic plane, and four bytes each in GB18030."""

LOADED = moment(date(2026, 9, 19))

TABLES: Tables = {
    "person": Table(
        {
            "id_card": "text",
            "full_name": "text",
            "region": "text",
            "months": "integer",
            "share": "decimal",
            "born": "date",
            "status": "text",
            "score": "text",
            "voided": "integer",
        },
        [
            (ANNA, "安娜", "440306001001", 12, 51, date(2008, 9, 1), "A1", "7", 0),
            (BO, RARE, "440305", 3, 50.5, date(2008, 9, 2), "a1", "12abc", 0),
            (CHEN, "陈", "440306", None, None, None, None, None, 0),
            (DING, "丁", "440306", 12, 51, date(2008, 9, 1), "007", "8", 0),
            (DING, "丁", "440306", 3, 12.25, date(2001, 1, 1), "7", "8", 0),
            (DING, "丁", "440306", 99, 0, date(1999, 9, 9), "x", "8", 1),
            (EVE, '夏,"夜"\'); DROP TABLE person; --', "440306", 24, 0.1, date(2000, 2, 29), "-- 1", "-3", 0),
            (SHORT, "郭", "440306", 6, 100, date(1970, 1, 1), "𠮷", "0", 0),
        ],
        "id_card",
    ),
    "lease": Table(
        {"id_card": "text", "start_date": "date", "end_date": "date"},
        [
            (ANNA, date(2024, 1, 1), date(2025, 1, 1)),
            (ANNA, date(2026, 1, 1), date(2026, 9, 1)),
            (BO, date(2024, 1, 1), date(2025, 1, 1)),
            (CHEN, date(2024, 1, 1), None),
        ],
        "id_card",
    ),
    "parent": Table({"child": "text", "parent": "text"}, [(ANNA, BO), (ANNA, CHEN), (BO, CHEN.lower())], "child"),
}

MAPPING = """
[limits]
values = 5

[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
LOADED

[data.plain]
table = "person"
subject = "id_card"
LOADED

[data.lease]
table = "lease"
subject = "id_card"
LOADED

[data.parent]
table = "parent"
subject = "child"

[data.leases]
select = "SELECT id_card, count(*) AS n FROM lease WHERE start_date <= :as_of GROUP BY id_card"
subject = "id_card"
LOADED

[attribute.months]
data = "person"
value = "months"
where = "voided = 0"

[attribute.all_months]
data = "plain"
value = "months"

[attribute.any_months]
data = "plain"
value = "months"
rows = "any"

[attribute.share]
data = "plain"
value = "share"
where = "voided = 0"

[attribute.born]
data = "plain"
value = "born"
where = "voided = 0"

[attribute.status]
data = "plain"
value = "status"
where = "voided = 0"

[attribute.called]
data = "plain"
value = "full_name"

[attribute.score]
data = "plain"
value = "SCORE"

[attribute.card]
data = "person"

[attribute.lease]
data = "lease"
valid = { from = "start_date", to = "end_date" }
rows = "any"

[attribute.leases]
data = "leases"
value = "n"

[attribute.parent]
data = "parent"
value = "parent"
rows = "any"
"""

PUBLISHED = "".join([
    attribute(
        "months", 'type = "integer"\nat_least = [6, 12]\nat_most = [6]\nasks = ["equals", "exists"]\nmax_age = "55h"'
    ),
    attribute("all_months", 'type = "integer"\nat_least = [6, 12]'),
    attribute("any_months", 'type = "integer"\nat_least = [6, 50, 100]'),
    attribute("share", 'type = "decimal"\nat_least = ["50.5", "51"]\nasks = ["equals"]'),
    attribute("born", 'type = "date"\nat_most = [2008-09-01]\nasks = ["equals"]'),
    attribute("status", 'type = "code"\nasks = ["equals"]'),
    attribute("called", 'type = "text"\nasks = ["equals"]'),
    attribute("score", 'type = "integer"\nat_least = [7]'),
    attribute("card", 'asks = ["exists", "absent"]\nmax_age = "30d"'),
    attribute("lease", 'asks = ["valid", "absent"]\nmax_age = "30d"'),
    attribute("leases", 'type = "integer"\nat_least = [1, 2]'),
    attribute("parent", 'type = "person"\nasks = ["related"]'),
    grants([
        "hrss.months at_least", "hrss.card exists", "hrss.card absent", "hrss.status equals",
        "hrss.parent related", "hrss.lease valid",
    ]),
])  # fmt: skip


class _Driven:
    """An owner over a driver's tables."""

    driver: Driver

    def lay_out(self, tables: str, rows: Mapping[str, Iterable[Sequence[object]]], mapping: str) -> str:
        del tables, rows
        directory: Path = self.directory  # type: ignore[attr-defined]  # the owner's
        header = self.driver.lay_out(directory, TABLES, LOADED)
        # A text of digits is a number by a cast in most databases; SQLite's would read as far as it can.
        score = "score" if "sqlite" in header or "files:" in header or "mariadb" in header else "cast(score as integer)"
        body = mapping.replace("LOADED", self.driver.loaded()).replace("SCORE", score)
        return f'department = "hrss"\n{header}{body}'

    def opened(self, mapping: MappingFile) -> MappingFile:
        return self.driver.opened(mapping, self.mapping_path)  # type: ignore[attr-defined]  # the owner's


class DrivenOwner(_Driven, Owner):
    def __init__(self, directory: Path, driver: Driver) -> None:
        self.driver = driver
        super().__init__(directory, tables="", rows={}, mapping=MAPPING, published=PUBLISHED)


class DrivenBureau(_Driven, Bureau):
    def __init__(self, directory: Path, driver: Driver) -> None:
        self.driver = driver
        super().__init__(directory, tables="", rows={}, mapping=MAPPING, published=PUBLISHED)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    served = {"postgresql", "mariadb"}
    one = make_driver(request.param, request.getfixturevalue(request.param) if request.param in served else None)
    yield one
    one.close()


@pytest.fixture
def owner(tmp_path: Path, driver: Driver) -> Iterator[DrivenOwner]:
    owner = DrivenOwner(tmp_path, driver)
    yield owner
    owner.close()


@pytest.fixture
def bureau(tmp_path: Path, driver: Driver) -> Iterator[DrivenBureau]:
    bureau = DrivenBureau(tmp_path, driver)
    yield bureau
    bureau.close()


def test_every_predicate_and_type_answers_alike(owner: DrivenOwner) -> None:
    everybody = (ANNA, BO, CHEN, DING, EVE, GUO, FANG)
    asked: dict[tuple[str, str | None], list[Outcome]] = {
        ("months at_least", "12"): [YES, NO, UNKNOWN, UNKNOWN, YES, NO, UNKNOWN],
        ("months at_most", "6"): [NO, YES, UNKNOWN, UNKNOWN, NO, YES, UNKNOWN],
        ("months equals", "12"): [YES, NO, UNKNOWN, UNKNOWN, NO, NO, UNKNOWN],
        ("months exists", None): [YES, YES, YES, YES, YES, YES, UNKNOWN],
        ("share at_least", "51"): [YES, NO, UNKNOWN, UNKNOWN, NO, YES, UNKNOWN],
        ("share at_least", "50.5"): [YES, YES, UNKNOWN, UNKNOWN, NO, YES, UNKNOWN],
        ("share equals", "0.1"): [NO, NO, UNKNOWN, NO, YES, NO, UNKNOWN],
        ("born at_most", "2008-09-01"): [YES, NO, UNKNOWN, YES, YES, YES, UNKNOWN],
        ("born equals", "2000-02-29"): [NO, NO, UNKNOWN, NO, YES, NO, UNKNOWN],
        ("status equals", "\x1fA1\x1f"): [YES, NO, UNKNOWN, NO, NO, NO, UNKNOWN],
        ("status equals", "\x1f𠮷\x1f"): [NO, NO, UNKNOWN, NO, NO, YES, UNKNOWN],
        ("called equals", f"\x1f{RARE}\x1f"): [NO, YES, NO, NO, NO, NO, UNKNOWN],
        ("card exists", None): [YES, YES, YES, YES, YES, YES, UNKNOWN],
        ("card absent", None): [NO, NO, NO, NO, NO, NO, YES],
        ("lease valid", None): [YES, NO, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN],
        ("lease absent", None): [NO, NO, NO, YES, YES, YES, YES],
        ("leases at_least", "2"): [YES, NO, NO, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN],
    }
    found = {key: owner.ask(key[0], *everybody, value=key[1]) for key in asked}
    assert found == asked
    # One by one takes another form of the statement.
    assert {key: [owner.ask(key[0], one, value=key[1])[0] for one in everybody] for key in asked} == asked


def test_rows_that_disagree_are_unknown_unless_one_is_enough(owner: DrivenOwner) -> None:
    assert owner.ask("all_months at_least", DING, value="6") == [UNKNOWN]
    assert [owner.ask("any_months at_least", DING, value=cell) for cell in ("6", "50", "100")] == [[YES], [YES], [NO]]
    assert owner.ask("any_months at_least", CHEN, value="6") == [UNKNOWN]


def test_leading_zeros_count_and_nothing_is_taken_for_a_statement(owner: DrivenOwner) -> None:
    assert owner.ask("status equals", DING, value="\x1f007\x1f") == [UNKNOWN]
    assert owner.ask("status equals", EVE, value="\x1f-- 1\x1f") == [YES]
    assert owner.ask("card exists", ANNA, name="安娜") == [YES]


def test_a_name_is_compared_byte_by_byte(owner: DrivenOwner) -> None:
    assert owner.ask("card exists", BO, name=RARE) == [YES]
    for near in (RARE.replace("𠮷", "𡋣"), RARE.replace("㐂", "喜"), RARE + "a"):
        assert owner.ask("card exists", BO, name=near) == [UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", name="安妮") == [UNKNOWN]
    assert owner.ask("card absent", ANNA, name="安妮") == [UNKNOWN]


def test_records_outside_the_callers_place_are_not_seen(owner: DrivenOwner) -> None:
    for place, outcome in (("4403", YES), ("440306001", YES), ("440305", UNKNOWN), ("44030600100", YES)):
        assert owner.ask("months at_least", ANNA, value="12", place=place) == [outcome]
    assert owner.ask("card absent", ANNA, place="440305") == [NO]


def test_a_value_that_is_no_number_spoils_its_own_answer_only(owner: DrivenOwner) -> None:
    crowd = [ANNA, BO, CHEN, EVE, GUO, *(resident(serial) for serial in range(100, 130))]
    assert owner.ask("score at_least", *crowd, value="7") == [YES, UNKNOWN, UNKNOWN, NO, NO] + [UNKNOWN] * 30


def test_relations_are_found_in_every_accepted_spelling(owner: DrivenOwner) -> None:
    def listed(one: str) -> str:
        return f"\x1f{one}\x1f"

    assert owner.ask("parent related", ANNA, value=listed(BO)) == [YES]
    assert owner.ask("parent related", ANNA, value=listed(CHEN)) == [YES]
    assert owner.ask("parent related", ANNA, value=listed(DING)) == [NO]
    assert owner.ask("parent related", DING, value=listed(ANNA)) == [UNKNOWN]


def test_the_time_of_the_load_is_known(owner: DrivenOwner) -> None:
    with owner.source.lend() as lent:
        for data in ("person", "plain", "lease", "leases"):
            loaded = owner.source.loaded(lent, data)
            assert (loaded.time, loaded.whole) == (int(LOADED.timestamp()), True)


def test_a_later_load_takes_over_whole(owner: DrivenOwner) -> None:
    assert owner.ask("months at_least", ANNA, BO, value="12") == [YES, NO]
    changed = [tuple(24 if value == 3 else value for value in row) for row in TABLES["person"].rows[1:]]
    later = {**TABLES, "person": Table(TABLES["person"].columns, changed, "id_card")}
    owner.driver.replace(owner.directory, later, LOADED + timedelta(days=1))
    owner.now += 10
    assert owner.ask("months at_least", ANNA, BO, value="12") == [UNKNOWN, YES]
    assert owner.ask("card absent", ANNA, BO) == [YES, NO]
    with owner.source.lend() as lent:
        assert owner.source.loaded(lent, "person").time == int(LOADED.timestamp()) + 86400


def test_a_sealed_request_is_answered_and_the_age_of_the_data_told(bureau: DrivenBureau) -> None:
    claims = [
        "child: hrss.months at_least 12",
        "child: hrss.card exists",
        "child: hrss.lease valid",
        "child: hrss.status equals A1",
        "child: hrss.parent related @guardian",
    ]
    case: dict[str, tuple[str, str] | str | None] = {"child": (ANNA, "安娜"), "guardian": BO}
    assert bureau.ask_all(claims, case) == [YES] * 5
    assert bureau.ask_all(claims, {"child": BO, "guardian": ANNA}) == [NO, YES, NO, NO, NO]
    assert bureau.ask_all(["child: hrss.card absent"], {"child": FANG}) == [YES]
    told = int(LOADED.timestamp())
    assert bureau.data_as_of == (told,)
    # Older than months may be (55 hours), not than the others.
    bureau.now += 3600
    bureau.directory_ = replace(bureau.directory_, expires=bureau.now + 60)
    assert bureau.ask_all(claims, case) == [UNKNOWN, YES, YES, YES, YES]


def test_files_need_no_statement_that_says_when_they_were_loaded(tmp_path: Path) -> None:
    driver = Files("csv")
    owner = DrivenOwner(tmp_path, driver)
    try:
        assert owner.mapping.data["person"].loaded == "SELECT min(written) FROM zw_load WHERE file = 'person'"
        assert owner.mapping.data["leases"].loaded == "SELECT min(written) FROM zw_load"
    finally:
        owner.close()
