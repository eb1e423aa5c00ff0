"""Who of a list passed: its rows beside the results of a sweep over it, row by row, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from exchange.client.case import Ruling
from exchange.sweep.rosters import CSV, Roster
from exchange.sweep.writing import unguarded
from zhiwang.wire.lists import ListError, Person, read_people
from zhiwang.wire.tables import TableError

NO_RULING = "NO_RULING"
"""Of a row that was not asked, or not whole: nobody is invited by it."""


def passed(path: Path, results: Roster, rulings: Counter[str]) -> Iterator[Person]:
    """The people of a list whose ruling is passed, in its order.

    Args:
        path: The list.
        results: Of a sweep over it: all its rows, or those that have changed.
        rulings: Counts what the results say, by ruling.

    Raises:
        ListError: The results are not of this list, or not of a whole matter.
        TableError: The results cannot be read.
    """
    people = read_people(path)
    with results.table() as table:
        try:
            places = table.places({name: name for name in ("key", "ruling")})
        except TableError:
            raise ListError(f"{results.path.name} has no columns key and ruling: it is no sweep of a matter") from None
        for record in table.take(places):
            if record.problem is not None:
                raise TableError("is not as a sweep wrote it", row=record.number)
            key, ruling = ((cell or "") for cell in record.cells)
            key = unguarded(key) if results.kind == CSV else key
            person = next((one for one in people if one.key == key), None)
            if person is None:
                raise ListError(f"{results.path.name} row {record.number} is not of {path.name}, or out of its order")
            rulings[ruling or NO_RULING] += 1
            if ruling == Ruling.PASSED.name:
                yield person
