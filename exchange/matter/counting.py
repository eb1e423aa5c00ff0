"""Counts of results by jurisdiction and failing claim, from which nobody can work out a small one. Pure.

Each case counts once: as passed, under the first claim that keeps it from passing, or as not judged. Counts below
`MINIMUM` are suppressed, zero among them. A suppressed count could be worked out from a total that is printed, so
further counts are suppressed until none can: whoever takes everything printed and solves for what is hidden finds at
least `SLACK` + 1 values possible for each hidden count.

The table with its totals is a circulation: a row's count flows to its column, on to the column's total, the grand
total, the row's total and back. What a hidden count can be, given all that is shown, is therefore what can flow around
the hidden ones, which is exact in whole numbers (R. Ahuja, T. Magnanti, J. Orlin, Network Flows, 1993, chapter 9; for
tables L. Cox, Network models for complementary cell suppression, JASA 90, 1995).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final, NamedTuple

MINIMUM: Final = 10
"""Least count that is shown."""

SLACK: Final = 10
"""By how much the least and the most that a hidden count can be differ, at least."""

TOTAL: Final = ""
"""Name of the row, and of the column, of totals; nothing else is called so."""

Cell = tuple[str, str]


class Counts(NamedTuple):
    """A table that may be shown.

    Attributes:
        rows: Names, without the totals.
        columns: Names, without the totals.
        cells: Counts by row and column, totals under TOTAL; None if suppressed.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[Cell, int | None]


def protect(counts: Mapping[Cell, int], columns: Iterable[str] = ()) -> Counts:
    """Suppress what must not be shown.

    Args:
        counts: By row and column; what is not there is zero.
        columns: Names in the order in which they are shown; others follow.
    """
    rows = tuple(sorted({row for row, _ in counts}))
    names = tuple(dict.fromkeys([*columns, *sorted({column for _, column in counts})]))
    whole = {(row, column): counts.get((row, column), 0) for row in rows for column in names}
    for row in rows:
        whole[row, TOTAL] = sum(whole[row, column] for column in names)
    for column in (*names, TOTAL):
        whole[TOTAL, column] = sum(whole[row, column] for row in rows)
    hidden = {cell for cell, count in whole.items() if count < MINIMUM}
    if rows:
        _hide_more(whole, hidden)
    return Counts(rows, names, {cell: None if cell in hidden else count for cell, count in whole.items()})


def _hide_more(whole: Mapping[Cell, int], hidden: set[Cell]) -> None:
    """Hide further counts until every hidden one is protected; at the latest when all are."""
    waiting = deque(sorted(hidden))
    while waiting:
        cell = waiting.popleft()
        if not _is_protected(whole, hidden, cell):
            more = _around(whole, hidden, cell) - hidden
            hidden |= more
            waiting.extend(sorted(more))


def _around(whole: Mapping[Cell, int], hidden: set[Cell], cell: Cell) -> set[Cell]:
    """The cheapest way around by which a hidden count can grow by SLACK, if these are hidden too; totals are one."""
    ways: dict[Cell, list[tuple[Cell, Cell]]] = {}
    for one, count in whole.items():
        start, end = _ends(one)
        if one != cell:
            ways.setdefault(start, []).append((end, one))
            if count >= SLACK:
                ways.setdefault(end, []).append((start, one))
    goal, begin = _ends(cell)
    reached: dict[Cell, tuple[Cell, Cell] | None] = {}
    queue: list[tuple[tuple[int, int], Cell, tuple[Cell, Cell] | None]] = [((0, 0), begin, None)]
    while goal not in reached:
        (totals, shown), here, step = heappop(queue)
        if here in reached:
            continue
        reached[here] = step
        for there, one in ways.get(here, ()):
            # A total tells the reader most, then a large count.
            cost = (totals, shown) if one in hidden else (totals + (TOTAL in one), shown + whole[one])
            heappush(queue, (cost, there, (here, one)))
    found = set()
    while (step := reached[goal]) is not None:
        goal, one = step
        found.add(one)
    return found


def _is_protected(whole: Mapping[Cell, int], hidden: set[Cell], cell: Cell) -> bool:
    """Whether enough values of a hidden count go together with all that is shown. More hiding never changes that."""
    source, sink = _ends(cell)
    more = _flow(whole, hidden - {cell}, sink, source)
    less = min(whole[cell], _flow(whole, hidden - {cell}, source, sink))
    return more + less >= SLACK


def _ends(cell: Cell) -> tuple[Cell, Cell]:
    """From where to where a count flows: a row is ("row", name), a column ("column", name)."""
    row, column = cell
    ends = (("row", row), ("column", column))
    return ends if (row == TOTAL) == (column == TOTAL) else ends[::-1]


def _flow(whole: Mapping[Cell, int], hidden: set[Cell], source: Cell, sink: Cell) -> int:
    """How much more can flow from source to sink, up to SLACK: counts can grow without end, and fall to zero."""
    left: dict[Cell, dict[Cell, int]] = {}
    for cell in hidden:
        start, end = _ends(cell)
        left.setdefault(start, {})[end] = SLACK
        left.setdefault(end, {})[start] = min(whole[cell], SLACK)
    found = 0
    while found < SLACK:
        before = {source: source}
        queue = deque([source])
        while queue and sink not in before:
            here = queue.popleft()
            for there, room in left.get(here, {}).items():
                if room > 0 and there not in before:
                    before[there] = here
                    queue.append(there)
        if sink not in before:
            break
        path = [sink]
        while path[-1] != source:
            path.append(before[path[-1]])
        steps = [(start, end) for end, start in pairwise(path)]
        amount = min(SLACK - found, *(left[start][end] for start, end in steps))
        for start, end in steps:
            left[start][end] -= amount
            left[end][start] += amount
        found += amount
    return found
