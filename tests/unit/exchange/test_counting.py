"""Counts that are shown: an attacker who solves for what is hidden, from all that is printed, finds nothing out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.matter.counting import MINIMUM, SLACK, TOTAL, Counts, protect

Row = list[Fraction]
UNBOUNDED = 10**9


def equations(table: Counts) -> tuple[list[tuple[str, str]], list[Row], Row]:
    """What everything printed says of the hidden counts: every row and every column adds up to its total."""
    hidden = [cell for cell, count in table.cells.items() if count is None]
    sides, known = [], []
    lines = [[(row, column) for column in (*table.columns, TOTAL)] for row in (*table.rows, TOTAL)]
    lines += [[(row, column) for row in (*table.rows, TOTAL)] for column in (*table.columns, TOTAL)]
    for line in lines:
        signs = dict.fromkeys(line[:-1], 1) | {line[-1]: -1}
        sides.append([Fraction(signs.get(cell, 0)) for cell in hidden])
        known.append(-sum((Fraction(sign * (table.cells[cell] or 0)) for cell, sign in signs.items()), Fraction(0)))
    return hidden, sides, known


def pivot(rows: list[Row], basis: list[int], at: int, column: int) -> None:
    factor = rows[at][column]
    rows[at] = [value / factor for value in rows[at]]
    for number, row in enumerate(rows):
        if number != at and row[column]:
            rows[number] = [value - row[column] * own for value, own in zip(row, rows[at], strict=True)]
    basis[at] = column


def maximise(rows: list[Row], basis: list[int], goal: Row, width: int) -> Fraction | None:
    """Simplex with Bland's rule over exact fractions; None if there is no end. Rows end with their known side."""
    while True:
        costs = [
            goal[column] - sum(goal[basis[number]] * row[column] for number, row in enumerate(rows))
            for column in range(width)
        ]
        entering = next((column for column, cost in enumerate(costs) if cost > 0), None)
        if entering is None:
            return sum((goal[basis[number]] * row[-1] for number, row in enumerate(rows)), Fraction(0))
        ratios = [
            (row[-1] / row[entering], basis[number], number) for number, row in enumerate(rows) if row[entering] > 0
        ]
        if not ratios:
            return None
        pivot(rows, basis, min(ratios)[2], entering)


def attack(table: Counts) -> dict[tuple[str, str], tuple[int, int]]:
    """Least and most of each hidden count, by linear programming over everything printed; no count is below 0."""
    hidden, sides, known = equations(table)
    width, height = len(hidden), len(sides)
    rows = []
    for number, (side, value) in enumerate(zip(sides, known, strict=True)):
        sign = -1 if value < 0 else 1
        rows.append([sign * one for one in side] + [Fraction(number == one) for one in range(height)] + [sign * value])
    basis = list(range(width, width + height))
    assert maximise(rows, basis, [Fraction(0)] * width + [Fraction(-1)] * height, width + height) == 0
    # What could not be driven out says nothing more than the others.
    for number in range(height):
        if basis[number] >= width:
            column = next((one for one in range(width) if rows[number][one]), None)
            if column is not None:
                pivot(rows, basis, number, column)
    kept = [number for number in range(height) if basis[number] < width]
    rows = [[*rows[number][:width], rows[number][-1]] for number in kept]
    basis = [basis[number] for number in kept]
    found = {}
    for index, cell in enumerate(hidden):
        goal = [Fraction(index == one) for one in range(width)]
        most = maximise([*map(list, rows)], list(basis), goal, width)
        least = maximise([*map(list, rows)], list(basis), [-one for one in goal], width)
        assert least is not None
        found[cell] = (int(-least), UNBOUNDED if most is None else int(most))
    return found


def grid(values: Sequence[Sequence[int]]) -> dict[tuple[str, str], int]:
    return {(f"r{row}", f"c{column}"): n for row, line in enumerate(values) for column, n in enumerate(line)}


def whole(counts: Mapping[tuple[str, str], int], table: Counts) -> dict[tuple[str, str], int]:
    full = {(row, column): counts.get((row, column), 0) for row in table.rows for column in table.columns}
    for row in table.rows:
        full[row, TOTAL] = sum(full[row, column] for column in table.columns)
    for column in (*table.columns, TOTAL):
        full[TOTAL, column] = sum(full[row, column] for row in table.rows)
    return full


def is_safe(counts: Mapping[tuple[str, str], int]) -> Counts:
    table = protect(counts)
    truth = whole(counts, table)
    for cell, count in table.cells.items():
        assert count is None or (count == truth[cell] and count >= MINIMUM)
    for cell, (least, most) in attack(table).items():
        assert least <= truth[cell] <= most
        assert most - least >= SLACK, "a count that is hidden can be told from what is shown"
    return table


COUNT = st.one_of(st.integers(0, 12), st.integers(0, 300))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(COUNT, min_size=width, max_size=width), min_size=1, max_size=5)
    )
)
def test_whoever_solves_for_what_is_hidden_finds_many_values_for_each(values: list[list[int]]) -> None:
    is_safe(grid(values))


@pytest.mark.parametrize(
    ("values", "hidden"),
    [
        ([[100, 200], [300, 400]], 0),
        ([[5, 200], [300, 400]], 4),
        ([[0, 200, 50], [300, 400, 50]], 4),
        ([[1, 1], [1, 1]], 9),
    ],
)
def test_no_more_is_hidden_than_it_takes(values: list[list[int]], hidden: int) -> None:
    assert list(is_safe(grid(values)).cells.values()).count(None) == hidden


def test_the_attacker_tells_what_is_hidden_where_only_small_counts_are() -> None:
    """The attacker is worth its name: without complementary suppression it finds the count."""
    counts = grid([[5, 200], [300, 400]])
    table = protect(counts)
    bare = Counts(table.rows, table.columns, {c: None if n < MINIMUM else n for c, n in whole(counts, table).items()})
    assert attack(bare) == {("r0", "c0"): (5, 5)}


def test_a_city_of_many_places_is_protected_in_a_moment() -> None:
    values = [[(row * 7919 + column * 104729) % 61 for column in range(10)] for row in range(74)]
    table = protect(grid(values))
    assert None in table.cells.values()
    assert any(count is not None for count in table.cells.values())


def test_a_table_without_rows_shows_nothing() -> None:
    counts = protect({}, ["passed"])
    assert counts.rows == ()
    assert set(counts.cells.values()) == {None}
