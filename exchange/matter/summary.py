"""From files of results to counts by jurisdiction and failing claim."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from exchange.client.case import Ruling
from exchange.matter.counting import Cell, Counts, protect
from exchange.matter.telling import BECAUSE, JURISDICTION
from exchange.sweep.rosters import Roster

PASSED: Final = "passed"
NOT_JUDGED: Final = "not judged"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def count(results: Iterable[Roster], by: str = "") -> Counts:
    """Count cases, with what must not be shown suppressed.

    Args:
        results: Files that `zhiwang matter run` wrote.
        by: Heading of a column that says where a case belongs; the jurisdiction under which was asked if left out.

    Raises:
        TableError: A file cannot be read, or lacks a column.
    """
    found: Counter[Cell] = Counter()
    for one in results:
        with one.table() as table:
            headings = (by or JURISDICTION, "ruling", BECAUSE)
            for record in table.take(table.places({heading: heading for heading in headings})):
                where, ruling, because = [cell or "" for cell in record.cells]
                found[where or "-", _column(ruling, because)] += 1
    return protect(found, (PASSED, NOT_JUDGED))


def _column(ruling: str, because: str) -> str:
    if ruling == Ruling.PASSED.name:
        return PASSED
    name = _NAME.match(because)
    return NOT_JUDGED if ruling not in Ruling.__members__ or name is None else name[0]
