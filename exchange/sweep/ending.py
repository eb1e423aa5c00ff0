"""From the journal to the results: the roster is read once more, and every row gets its line, in its order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from exchange.sweep.cases import CaseReader, Row, Trouble, key_hash
from exchange.sweep.journal import Entry, Journal
from exchange.sweep.results import Lines
from exchange.sweep.rosters import Roster, stamp_of
from exchange.sweep.running import in_groups
from exchange.sweep.writing import already_there, as_written, place_new, table_file
from zhiwang.wire.tables import TableError


@dataclass(slots=True)
class Written:
    """What was written.

    Attributes:
        outcomes: Rows of the roster by outcome.
        reasons: Rows that were not asked or not answered, by reason.
        rulings: Rows by what the matter's rule says.
        changed: Rows that differ from the earlier results; None if nothing was compared.
        gone: Rows of the earlier results that the roster no longer has.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rulings: Counter[str] = field(default_factory=Counter)
    changed: int | None = None
    gone: int | None = None


def write_results(
    journal: Journal,
    roster: Roster,
    reader: CaseReader,
    lines: Lines,
    out: Path,
    *,
    before: Roster | None = None,
    full: Path | None = None,
) -> Written:
    """Write the results of all rows, or of those that differ from earlier results.

    Args:
        journal: Of the sweep.
        roster: Who was asked about.
        reader: Of its rows.
        lines: Makes the lines.
        out: Where they go.
        before: Earlier results, with which they are compared.
        full: With earlier results: where the lines of all rows go.

    Raises:
        OSError: They cannot be written; what was there before is still there.
        TableError: The earlier results cannot be read, or are of other claims; or the roster is no longer what it was.
    """
    roster.check_bytes()
    written = Written(changed=None if before is None else 0)
    if before is not None:
        journal.begin_earlier(lines.earlier(before))
    ruling, reason = map(lines.headings.index, ("ruling", "reason"))
    with ExitStack() as stack:
        place = partial(_place, journal)
        write = stack.enter_context(table_file(out, lines.headings, place))
        write_full = stack.enter_context(table_file(full, lines.headings, place)) if full is not None else None
        for row, entry in _known(journal, roster, reader):
            said = lines.said(row, entry)
            # Of rows that have no key of their own there is nothing to compare with.
            keyed = before is not None and row.key and entry.reason != Trouble.KEY_TWICE.name
            change = lines.change(journal.earlier(key_hash(as_written(row.key))), said.words) if keyed else ""
            line = lines.line(row, entry, said, change)
            written.outcomes[said.words[0]] += 1
            written.rulings[str(line[ruling])] += 1
            written.reasons[str(line[reason])] += 1
            if write_full is not None:
                write_full(line)
            if before is None or change:
                write(line)
            if written.changed is not None:
                written.changed += bool(change)
        # Within, so that lines of other people do not take the results' name.
        roster.check_bytes()
    written.gone = None if before is None else journal.gone()
    for counter in (written.rulings, written.reasons):
        counter.pop("", None)
    return written


def check_names(journal: Journal, *paths: Path) -> None:
    """Refuse to write over what this sweep did not write.

    Raises:
        TableError: Something else is there.
    """
    for path in paths:
        if os.path.lexists(path) and not _is_own(journal, path):
            raise TableError(already_there(path))


def _is_own(journal: Journal, path: Path) -> bool:
    try:
        return journal.wrote(stamp_of(path.lstat()))
    except FileNotFoundError:
        return False


def _place(journal: Journal, temporary: Path, path: Path) -> None:
    own = _is_own(journal, path)
    # Before it has its name: whatever ends this process, a file of this sweep is known as such.
    journal.note_written(stamp_of(temporary.lstat()))
    if own:
        temporary.replace(path)
    else:
        place_new(temporary, path)


def _known(journal: Journal, roster: Roster, reader: CaseReader) -> Iterator[tuple[Row, Entry]]:
    for group in in_groups(roster, reader):
        entries = {one.number: one for one in journal.entries(group[0].number, group[-1].number)}
        for record in group:
            yield reader.read(record), entries[record.number]
