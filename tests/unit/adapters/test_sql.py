"""What one statement says of each subject."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import structlog

from adapter_support import ANNA, AS_OF, BO, CHEN, DING, SCHEMES, Owner, attribute, resident
from adapters.dialects import SMALL, spell_list
from adapters.sql import RETRIES
from zhiwang.wire.claims import Predicate
from zhiwang.wire.records import Outcome

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN

TABLES = """
CREATE TABLE person (id_card TEXT, full_name TEXT, region TEXT, months, share, born, status, voided INTEGER);
CREATE INDEX person_id ON person (id_card);
CREATE TABLE padded (id_card TEXT COLLATE RTRIM, kind TEXT COLLATE NOCASE);
CREATE INDEX padded_id ON padded (id_card);
CREATE TABLE lease (id_card TEXT, start_date TEXT, end_date TEXT, house TEXT, voided INTEGER);
CREATE INDEX lease_id ON lease (id_card);
CREATE TABLE parent (child TEXT, parent TEXT);
CREATE INDEX parent_child ON parent (child);
"""

MAPPING = """
[data.person]
table = "person"
subject = "id_card"
name = "full_name"
region = { column = "region", codes = "nbs" }
loaded = "SELECT '2026-09-19 08:00:00'"

[data.free]
table = "person"
subject = "id_card"

[data.lease]
table = "lease"
subject = "id_card"
loaded = "SELECT '2026-09-19 08:00:00'"

[data.padded]
table = "padded"
subject = "id_card"

[data.paid]
select = "SELECT id_card, count(*) AS leases FROM lease WHERE start_date <= :as_of GROUP BY id_card"
subject = "id_card"

[data.parent]
table = "parent"
subject = "child"

[attribute.months]
data = "person"
value = "months"
where = "voided = 0"

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
data = "paid"
value = "leases"

[attribute.parent]
data = "parent"
value = "parent"
rows = "any"

[attribute.padded]
data = "padded"
value = "kind"

[attribute.rented]
data = "lease"
value = "json_extract(house, '$.n')"
"""

PUBLISHED = "".join([
    attribute("months", 'type = "integer"\nat_least = [6, 12]\nat_most = [24]\nasks = ["equals", "exists"]'),
    attribute("share", 'type = "decimal"\nat_least = ["50.5", "51"]\nasks = ["equals"]'),
    attribute("born", 'type = "date"\nat_most = [2008-09-01]\nasks = ["equals"]'),
    attribute("status", 'type = "code"\nasks = ["equals"]'),
    attribute("called", 'type = "text"\nasks = ["equals"]'),
    attribute("lease", 'asks = ["valid"]'),
    attribute("only_lease", 'asks = ["valid"]'),
    attribute("owns", 'asks = ["absent", "exists"]\nmax_age = "30d"'),
    attribute("homeless", 'asks = ["absent"]\nmax_age = "30d"'),
    attribute("leases", 'type = "integer"\nat_least = [1, 2]'),
    attribute("parent", 'type = "person"\nasks = ["related"]'),
    attribute("padded", 'type = "code"\nasks = ["exists", "equals"]'),
    attribute("rented", 'type = "integer"\nat_least = [1]'),
])  # fmt: skip

EVE = resident(5)
SHORT = EVE[:6] + EVE[8:17]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(
        tmp_path,
        tables=TABLES,
        rows={
            "person": [
                (ANNA, "安娜", "440306001001", 12, 51, "2008-09-01", "A1", 0),
                (BO, "阿依·古丽", "440305", 3, "50.5", "2008-09-02", "a1", 0),
                (CHEN, "陈", "440306", None, None, None, None, 0),
                (DING, "丁", "440306", 12, 51.0, "2008-09-01 10:00:00", "A1 ", 0),
                (DING, "丁", "440306", 3, 12, "2008-02-30", "440306abc", 0),
                (DING, "丁", "440306", 99, 0, "x", 440306, 1),
                (SHORT, "夏", "440306", "12", "12abc", 20080901, "A1", 0),
            ],
            "lease": [
                (ANNA, "2026-01-01", "2026-09-01", '{"n": 1}', 0),
                (ANNA, "2024-01-01", "2025-01-01", '{"n": 2}', 0),
                (BO, "2026-09-02", "2027-01-01", '{"n": 3}', 1),
                (CHEN, "2026-01-01", None, "not json", 0),
                (DING, "2020-01-01", "2021-01-01", '{"n": 0}', None),
            ],
            "padded": [(f"{ANNA}  ", "A1"), (BO, "a1")],
            "parent": [(ANNA, BO), (ANNA, CHEN), (BO, None)],
        },
        mapping=MAPPING,
        published=PUBLISHED,
    )
    yield owner
    owner.close()


def test_a_threshold_is_met_from_the_cell_on(owner: Owner) -> None:
    assert owner.ask("months at_least", ANNA, BO, value="12") == [YES, NO]
    assert owner.ask("months at_most", ANNA, BO, value="3") == [NO, YES]


def test_nothing_tells_no_record_from_a_null_a_wrong_name_or_another_place(owner: Owner) -> None:
    nobody = resident(77)
    assert owner.ask("months at_least", nobody, CHEN, value="12") == [UNKNOWN, UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", name="李四") == [UNKNOWN]
    assert owner.ask("months at_least", ANNA, value="12", place="440305") == [UNKNOWN]
    assert owner.ask("months exists", ANNA, nobody, name="李四") == [UNKNOWN, UNKNOWN]


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


def test_an_interval_holds_on_its_first_and_its_last_day_of_the_reference_date(owner: Owner) -> None:
    assert owner.ask("lease valid", BO, as_of=date(2026, 9, 2)) == [YES]
    assert owner.ask("lease valid", BO, as_of=date(2027, 1, 1)) == [YES]
    assert owner.ask("lease valid", BO, as_of=date(2027, 1, 2)) == [NO]


def test_an_interval_without_an_end_is_unknown(owner: Owner) -> None:
    assert owner.ask("lease valid", CHEN) == [UNKNOWN]
    assert owner.ask("lease valid", CHEN, as_of=date(2020, 1, 1)) == [UNKNOWN]


def test_exists_is_never_no(owner: Owner) -> None:
    assert owner.ask("owns exists", ANNA, BO, resident(77)) == [YES, UNKNOWN, UNKNOWN]


def test_absent_is_no_for_a_row_yes_for_none_and_unknown_where_the_filter_is_null(owner: Owner) -> None:
    assert owner.ask("owns absent", ANNA, BO, DING, resident(77)) == [NO, YES, UNKNOWN, YES]


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


def test_texts_are_equal_bytewise_or_not_at_all(owner: Owner) -> None:
    assert owner.ask("status equals", ANNA, BO, value=spell_list(["A1"])) == [YES, NO]
    assert owner.ask("status equals", ANNA, value=spell_list(["A1 "])) == [NO]
    assert owner.ask("status equals", ANNA, value=spell_list(["A"])) == [NO]
    assert owner.ask("called equals", BO, value=spell_list(["阿依•古丽", "阿依·古丽"])) == [YES]


def test_values_that_are_not_of_the_type_are_unknown_and_exact_texts_of_numbers_are_read(owner: Owner) -> None:
    assert owner.ask("share at_least", ANNA, BO, EVE, value="50.5") == [YES, YES, UNKNOWN]
    assert owner.ask("months at_least", EVE, value="12") == [YES]
    assert owner.ask("born at_most", ANNA, BO, EVE, value="2008-09-01") == [YES, NO, UNKNOWN]
    # A text where a number was published, a day that does not exist: of these rows nothing is known.
    assert owner.ask("born at_most", DING, value="2008-09-01") == [UNKNOWN]
    assert owner.ask("status equals", DING, value=spell_list(["440306"])) == [UNKNOWN]


def test_a_subject_stored_with_fifteen_digits_is_found(owner: Owner) -> None:
    assert owner.ask("months exists", EVE) == [YES]


def test_one_bad_row_spoils_neither_its_group_nor_its_neighbours(owner: Owner) -> None:
    people = [ANNA, CHEN, DING, *(resident(number) for number in range(100, 100 + 3 * SMALL)), CHEN, ANNA]
    outcomes = owner.ask("rented at_least", *people, value="1")
    assert outcomes[:3] == [YES, UNKNOWN, NO]
    assert outcomes[-2:] == [UNKNOWN, YES]
    assert set(outcomes[3:-2]) == {UNKNOWN}


def test_bad_rows_beyond_a_budget_are_unavailable_after_a_bounded_number_of_statements(tmp_path: Path) -> None:
    people = [resident(number) for number in range(900)]
    names = ("one", "two", "three")
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT PRIMARY KEY, note TEXT)",
        rows={"person": [(person, '{"n": 1}' if number == 0 else "{bad") for number, person in enumerate(people)]},
        mapping='[data.person]\ntable = "person"\nsubject = "id_card"\n'
        + "".join(f"[attribute.{name}]\ndata = 'person'\nvalue = \"json_extract(note, '$.n')\"\n" for name in names),
        published="".join(attribute(name, 'type = "integer"\nat_least = [1]') for name in names),
    )
    plan = owner.source.plan("person", tuple((name, Predicate.AT_LEAST) for name in names))
    rows = [(SCHEMES["person"].spellings(person), None, None, ["1"] * 3) for person in people]
    with structlog.testing.capture_logs() as lines, owner.source.lend() as lent:
        outcomes = owner.source.run(lent, plan, AS_OF, rows)
    assert owner.connections.statements <= RETRIES + 10
    assert outcomes[:2] == [bytes([YES] * 3), bytes([UNKNOWN] * 3)]
    assert outcomes[-1] == bytes([Outcome.DATABASE_UNAVAILABLE] * 3)
    assert [line["event"] for line in lines] == ["too many records cannot be read"]
    # The plans of single claims are made once.
    assert plan.parts() is plan.parts()
    owner.close()


def test_a_group_says_of_each_subject_what_it_says_of_it_alone(owner: Owner) -> None:
    people = [ANNA, BO, CHEN, DING, EVE, resident(77)] * SMALL
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
    assert owner.ask("months at_least", *[ANNA] * 20, values=["12", "13"] * 10) == [YES, NO] * 10


def test_what_a_collation_equates_is_not_equal(owner: Owner) -> None:
    assert owner.ask("padded exists", ANNA, BO) == [UNKNOWN, YES]
    assert owner.ask("padded equals", BO, value=spell_list(["A1"])) == [NO]
