"""What a sweep begins with: a journal that is bound to one roster, mapping and purpose, and the roster taken in.

Taking in reads the whole roster once before anything is asked: a file that cannot be read to its end, or a key that
would carry identifiers into the results, is found then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Final

from exchange.client.case import Context
from exchange.sweep.cases import CaseReader, Trouble, key_hash
from exchange.sweep.journal import Journal, JournalError
from exchange.sweep.mapping import MappingError
from exchange.sweep.rosters import Roster
from exchange.sweep.running import rows_of
from policy.model import Matter
from zhiwang.wire.identifiers import contains_identifier

_CALLED: Final[Mapping[str, str]] = {
    "roster": "another roster, or this one before it was changed",
    "system": "another system",
    "matter": "another matter",
    "purpose": "another reference, official, role, jurisdiction or reference date",
    "claims": "other claims; if nobody changed the command, the matter was published anew",
    "mapping": "other columns",
    "form": "another row of headings, sheet, encoding or separator",
}


def binding(roster: Roster, reader: CaseReader, matter: Matter, context: Context, system: str) -> dict[str, str]:
    """What a journal is bound to.

    Args:
        roster: Who is asked about.
        reader: Of its rows.
        matter: For which is asked.
        context: Why, with the profile's defaults filled in.
        system: Who asks, e.g. "edu/system/enrolment".
    """
    return {
        "roster": roster.sha256,
        "system": system,
        "matter": matter.name,
        "purpose": json.dumps(asdict(context), sort_keys=True),
        "claims": json.dumps([one.text for one in reader.templates], ensure_ascii=False),
        "mapping": reader.columns.as_json(),
        "form": json.dumps(roster.form, ensure_ascii=False),
        "key": reader.columns.key or "",
    }


def begin(
    journal: Journal,
    bound: Mapping[str, str],
    roster: Roster,
    reader: CaseReader,
    fits: Callable[[int], None] = lambda _rows: None,
) -> bool:
    """Take a roster in, unless the journal has it already.

    Args:
        journal: Of the sweep.
        bound: What `binding` gives.
        roster: Who is asked about.
        reader: Of its rows.
        fits: Raises TableError if so many rows are too many.

    Returns:
        Whether the journal had it.

    Raises:
        JournalError: The journal is bound to something else.
        MappingError: The key column holds identifiers.
        TableError: The roster cannot be read to its end, or has too many rows; nothing was taken in.
        sqlite3.Error: There is no room for the journal.
    """
    known = journal.meta
    if known.get("roster") is None:
        journal.take_in(bound, _rows(roster, reader, fits))
        return False
    other = [called for name, called in _CALLED.items() if known.get(name) != bound[name]]
    if other:
        raise JournalError(
            f"{journal.path.name} belongs to a sweep of {'; of '.join(other)}. Go on with that one as it was begun, "
            "choose another --out, or remove the journal to give it up"
        )
    fits(sum(journal.count().values()))
    return True


def _rows(
    roster: Roster, reader: CaseReader, fits: Callable[[int], None]
) -> Iterator[tuple[int, bytes | None, Trouble | None, str]]:
    columns = reader.columns
    count = 0
    checked = columns.key is not None and columns.key not in columns.keep
    for record in rows_of(roster, reader):
        row = reader.read(record)
        if checked and contains_identifier(row.key):
            raise MappingError(
                f"row {row.number}: the key would carry an identifier into the results; name another column with "
                "--key or none, or keep the column knowingly with --keep-columns"
            )
        count += 1
        yield row.number, key_hash(row.key) if columns.key is not None and row.key else None, row.trouble, row.column
    fits(count)
