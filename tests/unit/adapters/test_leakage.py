"""The printed bound is what the best adaptive requester can learn, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import pytest

from adapter_support import AS_OF, Owner, attribute, document, mapping_text, resident
from adapters.leakage import bounds
from adapters.mapping import Mapping
from zhiwang.wire.records import Outcome
from zhiwang.wire.tomlfile import load

MAPPING = """
[limits]
values = 4

[data.d]
table = "t"
subject = "id"

[data.dated]
select = "SELECT id, v FROM t WHERE paid <= :as_of"
subject = "id"
"""


def bits(mapped: str, published: str) -> dict[tuple[str, ...], tuple[float, bool, bool]]:
    mapping = load(mapping_text(MAPPING + mapped).encode(), Mapping)
    return {one.attributes: (one.bits, one.per_date, one.per_window) for one in bounds(mapping, document(published))}


def mapped(name: str, more: str = 'value = "v"', data: str = "d") -> str:
    return f'\n[attribute.{name}]\ndata = "{data}"\n{more}\n'


def test_thresholds_leak_the_cells_and_one() -> None:
    found = bits(mapped("m"), attribute("m", 'type = "integer"\nat_least = [6, 12, 18, 24]'))
    assert found == {("m",): (log2(5), False, False)}


def test_at_most_and_at_least_of_one_boundary_are_one_cell_of_whole_numbers_only() -> None:
    cells = "at_least = [6, 12]\nat_most = [5, 12]"
    assert bits(mapped("m"), attribute("m", f'type = "integer"\n{cells}'))["m",][0] == log2(4)
    assert bits(mapped("m"), attribute("m", f'type = "decimal"\n{cells}'))["m",][0] == log2(5)


def test_attributes_over_one_expression_are_bounded_jointly() -> None:
    published = attribute("a", 'type = "integer"\nat_least = [6, 12]') + attribute(
        "b", 'type = "integer"\nat_least = [12, 24]'
    )
    assert bits(mapped("a") + mapped("b", 'value = " v "'), published) == {("a", "b"): (log2(4), False, False)}
    assert len(bits(mapped("a") + mapped("b", 'value = "w"'), published)) == 2


def test_a_fact_that_moves_with_the_date_leaks_for_each_date() -> None:
    cells = 'type = "integer"\nat_least = [6, 12]'
    assert bits(mapped("m", data="dated"), attribute("m", cells))["m",] == (log2(3), True, False)
    closed = attribute("m", f"{cells}\ndates = [2026-09-01, 2027-09-01]")
    assert bits(mapped("m", data="dated"), closed)["m",] == (log2(9), False, False)
    assert bits(mapped("m"), closed)["m",] == (log2(3), False, False)


def test_guesses_leak_their_cap_within_a_window() -> None:
    published = attribute("m", 'type = "code"\nasks = ["equals"]')
    assert bits(mapped("m"), published)["m",] == (log2(5), False, True)
    assert bits(mapped("m", 'value = "v"\nrows = "any"'), published)["m",] == (4.0, False, True)


def test_exists_absent_and_valid_leak_one_bit_each() -> None:
    assert bits(mapped("m", ""), attribute("m", 'asks = ["exists"]'))["m",][0] == 1
    assert bits(mapped("m", ""), attribute("m", 'asks = ["exists", "absent"]'))["m",][0] == 2


VALUES = [None, *range(31)]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    owner = Owner(
        tmp_path_factory.mktemp("leak"),
        tables="CREATE TABLE t (id TEXT, v INTEGER); CREATE INDEX i ON t (id);",
        rows={"t": [(resident(number), value) for number, value in enumerate(VALUES)]},
        mapping='[data.d]\ntable = "t"\nsubject = "id"\n[attribute.m]\ndata = "d"\nvalue = "v"\n',
        published=attribute("m", 'type = "integer"\nat_least = [6, 12, 18]\nat_most = [5, 11, 20]'),
    )
    yield owner
    owner.close()


def test_an_attacker_who_asks_everything_tells_no_more_values_apart_than_the_bound(owner: Owner) -> None:
    """Every question that is published, about every value there can be: as much as any strategy can see."""
    people = [resident(number) for number in range(len(VALUES))]
    published = owner.document.attributes["m"]
    asks = [("m at_least", cell) for cell in published.at_least] + [("m at_most", cell) for cell in published.at_most]
    seen = list(zip(*(owner.ask(ask, *people, value=cell, as_of=AS_OF) for ask, cell in asks), strict=True))
    readable = {view for view, value in zip(seen, VALUES, strict=True) if value is not None}
    (bound,) = bounds(owner.mapping, owner.document)
    assert len(readable) == bound.classes == 5
    unreadable = {view for view, value in zip(seen, VALUES, strict=True) if value is None}
    assert unreadable == {(Outcome.UNKNOWN,) * len(asks)}
