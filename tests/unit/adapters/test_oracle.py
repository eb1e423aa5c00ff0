"""Oracle's statements, which no server here can run: each predicate for each type is compiled and held against a text.

The text was read by hand. `PYTHONPATH=tests/support python tests/unit/adapters/test_oracle.py` writes it anew after a
change; read the difference before you commit it.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Case, Select
from sqlalchemy.dialects.oracle.base import OracleDialect
from sqlalchemy.sql.visitors import iterate

from adapter_support import ANNA, SCHEMES
from adapters.dialects import DIALECTS
from adapters.dialects.oracle import Oracle
from adapters.mapping import DataSet, Interval, MappedAttribute, Region
from adapters.statements import Asked, Plan
from zhiwang.wire.claims import Predicate

GOLDEN = Path(__file__).parents[2] / "vectors" / "oracle.sql"

TYPES = ("integer", "decimal", "date", "text", "code", "person")
DATA = DataSet(
    select="SELECT * FROM ins.person WHERE paid_on <= :as_of",
    subject="id_card",
    name="full_name",
    region=Region(column="region", codes="nbs"),
)
ENGINE = OracleDialect(paramstyle="named")

LONGEST_LIST = 1000
"""What Oracle takes in a list (ORA-01795)."""


def plan(predicate: Predicate, kind: str, data: DataSet = DATA) -> Plan:
    if predicate is Predicate.VALID:
        mapped = MappedAttribute(data="d", valid=Interval.model_validate({"from": "since", "to": "until"}))
    else:
        mapped = MappedAttribute(data="d", value="v", where="voided = 0", rows="any")
    return Plan(data, [Asked("a", mapped, kind, predicate)], Oracle(), ENGINE)


def asked() -> list[tuple[Predicate, str]]:
    """Every predicate with every type that it can have; those that compare nothing have one form."""
    plain = [(predicate, "integer") for predicate in (Predicate.EXISTS, Predicate.ABSENT, Predicate.VALID)]
    order = product((Predicate.AT_LEAST, Predicate.AT_MOST), TYPES[:3])
    return [*plain, *order, *((Predicate.EQUALS, kind) for kind in TYPES[:5]), (Predicate.RELATED, "person")]


def written() -> str:
    texts = [
        f"-- {predicate} of {kind}\n{plan(predicate, kind).compile((1, 2)).sql}\n;\n" for predicate, kind in asked()
    ]
    return "".join(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE) for text in texts)


def test_every_predicate_of_every_type_compiles_to_what_was_read_by_hand() -> None:
    assert written() == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(("predicate", "kind"), asked())
def test_what_oracle_does_not_have_is_in_no_statement(predicate: Predicate, kind: str) -> None:
    made = plan(predicate, kind)
    sql = made.compile((2, 4)).sql
    # A SELECT without a table, an alias of a table behind AS, a LIMIT.
    assert sql.count("FROM") == sql.count("SELECT")
    assert re.search(r"\b(true|false)\b|MATERIALIZED\b|LIMIT|FROM \w+ AS \w", sql) is None
    # A condition as a value: of a column, or of a branch of a CASE.
    for part in iterate(made.select((2, 4))):
        values = list(part.selected_columns) if isinstance(part, Select) else []
        if isinstance(part, Case):
            values = [value for _, value in part.whens] + ([] if part.else_ is None else [part.else_])
        assert not [value for value in values if isinstance(value.type, Boolean)]
    # Equality stands beside an equality of bytes, and each text is read by what gives null for what is none.
    assert "utl_raw.cast_to_raw" in sql
    assert not re.search(r"CAST\((?:a|records|d)\.\w+ AS (NUMBER|DATE|INTEGER)\)", sql)


def test_the_longest_group_stays_within_oracles_list() -> None:
    dialect = Oracle()
    keys = SCHEMES["person"].spellings(ANNA)
    rows = [(keys + ("",) * (8 - len(keys)), None, "4403", ("12",))] * dialect.longest()
    size = dialect.size(rows)
    assert size[1] <= LONGEST_LIST
    parameters = dialect.parameters(rows, size, date(2026, 9, 1))
    compiled = plan(Predicate.AT_LEAST, "integer").compile(size)
    missing = set(re.findall(r"(?<!:):([a-z_]\w*)", compiled.sql)) - set(parameters)
    assert not missing
    bound = compiled.bind(parameters)
    assert not isinstance(bound, tuple)
    # An empty text is a null there: a place never is one.
    assert all(bound[f"place{i}"] == "\x1f4403" for i in range(len(rows)))


def test_no_mapping_may_use_it_before_a_server_has_seen_it() -> None:
    assert "oracle" not in DIALECTS


if __name__ == "__main__":
    GOLDEN.write_text(written(), "utf-8")
