"""What is strange about a matter beside the owners' documents is named by line; the example city's are sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from policy.centre import parse_matter
from policy.checking import check
from policy.document import parse_document
from policy.matter_lint import lint_matter, lint_published
from policy.points import next_cell, span_of, whole_cells
from policy.publishing import Named
from policy.rehearse import rehearsed
from policy.rule import Fact

EXAMPLES = Path(__file__).parents[3] / "examples"
NOW = 1_780_000_000.0  # 2026-05-28
MATTER, LEASE, HRSS = "matters/school-points.toml", "matters/housing-lease.toml", "documents/hrss.toml"
PATHS = [EXAMPLES / "centre.toml", *(EXAMPLES / "matters").glob("*.toml"), *(EXAMPLES / "documents").glob("*.toml")]
CITY = {str(path.relative_to(EXAMPLES)): path.read_text("utf-8") for path in PATHS}
CELLS = re.compile(r"(\[attribute\.insured_points\]\n(?:.*\n)*?at_least +=) \[[^]]*\]")
RENTING = 'when  = ["district", "rented", "known", "homeless"]'


def strange(changed: Mapping[str, str]) -> list[tuple[str, int, str, str]]:
    """What `policy check` says of the changed files beside the city's others, but for what it says of those already."""
    others = rehearsed(None, [Named(name, text.encode()) for name, text in CITY.items()])

    def told(files: Mapping[str, str]) -> list[tuple[str, int, str, str]]:
        found = check(others, [Named(name, text.encode()) for name, text in files.items()], NOW)
        assert not any(one.wrong for one in found)
        return [(one.finding.file, one.finding.line, one.finding.key, one.finding.message) for one in found]

    before = {(file, key, message) for file, _, key, message in told({name: CITY[name] for name in changed})}
    return [one for one in told(changed) if (one[0], one[2], one[3]) not in before]


def with_cells(cells: str) -> str:
    text, count = CELLS.subn(rf"\1 {cells}", CITY[HRSS])
    assert count == 1
    return text


def test_nothing_is_strange_about_the_matters_of_the_example_city() -> None:
    city = rehearsed(None, [Named(name, text.encode()) for name, text in CITY.items()])
    for name, text in CITY.items():
        if name.startswith("matters/"):
            assert list(lint_matter(parse_matter(text.encode()), city)) == [], name
        if name.startswith("documents/"):
            assert list(lint_published(parse_document(text.encode()), city)) == [], name


@pytest.mark.parametrize(
    ("matter", "old", "new", "key", "says"),
    [
        (MATTER, "insured_points at_least 61", "insured_points at_least 121", "claims.insured", "and not 121"),
        (MATTER, "title.majority related", "title.most related", "claims.own", "title publishes no most"),
        (MATTER, "title.homes absent", "title.homes at_least 1", "claims.homeless", "not publish at_least of homes"),
        (MATTER, "home: title.majority", "child: title.majority", "claims.own", "about dwelling, and child is person"),
        (LEASE, "related @landlord", "related @company", "claims.owner", "to person, and company is entity"),
        (MATTER, RENTING, 'when  = ["district", "rented"]', "points.class[4].when", "class[3] stands before it"),
        (MATTER, RENTING, 'when  = ["rented"]', "points.class[4].when", "fits everybody whom this one fits"),
        (MATTER, RENTING, 'when  = ["rented"]', "points.class[7].when", "class[3] stands before it"),
    ],
)
def test_what_a_matter_asks_in_vain_or_counts_never_is_named_by_line(
    matter: str, old: str, new: str, key: str, says: str
) -> None:
    text = CITY[matter].replace(old, new, 1)
    assert text != CITY[matter]
    found = strange({matter: text})
    assert (key, True) in [(where, says in message) for _, _, where, message in found], found
    line = next(line for _, line, where, _ in found if where == key)
    assert key.rpartition(".")[2] in text.splitlines()[line - 1]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ("[12, 36, 61]", "publishes at_least 12, 36, 61, so 0 to 11, 12 to 35, 36 to 60 cannot be told apart"),
        ("[1, 2, 3, 61]", "so 3 to 60 cannot be told apart"),
        ("[2, 3, 61]", "so 0 to 1, 3 to 60 cannot be told apart"),
        ("[61]", "so 0 to 60 cannot be told apart"),
    ],
)
def test_numbers_that_published_cells_cannot_tell_apart_are_named_to_both_who_can_mend_it(
    cells: str, says: str
) -> None:
    document = with_cells(cells)
    (of_owner,) = strange({HRSS: document})
    assert of_owner[2] == "attribute.insured_points.at_least"
    assert cells in document.splitlines()[of_owner[1] - 1]
    assert "school-points gives points by it" in of_owner[3]
    assert says in of_owner[3]
    both = strange({HRSS: document, MATTER: CITY[MATTER]})
    (of_matter,) = [one for one in both if one[0] == MATTER]
    assert of_matter[2] == "points.each"
    assert says in of_matter[3]


def test_what_is_named_is_what_the_search_cannot_find() -> None:
    """Finding and search cannot drift apart: each named number stays open by its cells, every other is found."""
    document = parse_document(with_cells("[1, 2, 3, 10, 11, 61]").encode())
    cells = whole_cells(document.attributes["insured_points"].at_least)
    still_open = set()
    for number in range(70):
        answers: dict[int, Fact] = {}
        cell: int | None = 61
        while cell is not None:
            answers[cell] = Fact.YES if number >= cell else Fact.NO
            cell = next_cell(cells, answers)
        if not span_of(cells, answers).exact:
            still_open.add(number)
    city = rehearsed(None, [Named(name, text.encode()) for name, text in CITY.items()])
    (found,) = lint_published(document, city)
    named = {
        number
        for low, high in re.findall(r"(\d+) to (\d+)", found.message)
        for number in range(int(low), int(high) + 1)
    }
    assert still_open == named == {*range(3, 10), *range(11, 61)}


def test_an_owner_that_drops_what_a_matter_asks_is_told_at_its_attribute() -> None:
    (found,) = strange({HRSS: with_cells("[" + ", ".join(map(str, range(1, 61))) + "]")})
    assert found[2] == "attribute.insured_points"
    assert "school-points's insured would always be denied" in found[3]
    assert "and not 61" in found[3]
    assert "[attribute.insured_points]" in with_cells("[1]").splitlines()[found[1] - 1]


def test_a_decimal_cell_is_passed_over_and_told() -> None:
    assert whole_cells(["0", "1", "1.5", "-2", "3"]) == (1, 3)
