"""Who asked about a subject: read from the owner's index and log, for one report at a time.

Nobody but the owner can tell. What the index does not hold is not told: entries of a year whose key was destroyed,
subjects that were erased, and requests that were refused before they were opened, whose subjects nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from adapters import delays
from adapters.report import Names, compile_report, row_of, this_row
from adapters.rows import Reading, fetch
from adapters.trace import Trace
from audit.entry import EntryError, decode_entry
from audit.origins import year_and_index
from audit.store import LogStore
from audit.yearly import YearlyLog
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.header import Header

MAX_ENTRIES: Final = 5_000
"""Entries that one report is made of, since others wait meanwhile. Older ones are left out; how many, is told."""


class Subjects:
    """Makes reports.

    Args:
        department: Whose log it is.
        log: The owner's log.
        trace: The index.
        names: Who may be named, by the directory in force.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        department: str,
        log: YearlyLog | LogStore,
        trace: Trace,
        names: Callable[[], Names],
        clock: Callable[[], float],
    ) -> None:
        self._department = department
        self._log = YearlyLog.adopt(log)
        self._trace = trace
        self._names = names
        self._clock = clock

    def report(
        self,
        connection: Reading,
        kind: str,
        identifier: str,
        *,
        max_bytes: int,
        whole: bool = False,
        request: Header | None = None,
    ) -> subject_pb2.SubjectReport:
        """The report about a subject.

        Args:
            connection: To the store, in one state.
            kind: Kind of the subject.
            identifier: Canonical.
            max_bytes: Of the report.
            whole: Show what citizens are not told of yet.
            request: What the report answers, if that came through the hub: it is in the report, too.

        Raises:
            RefusedError: OWNER_FAILED: a key of the index cannot be read.
            FatalError: LOG_UNAVAILABLE: index or log cannot be read.
        """
        now, names = self._clock(), self._names()
        # Another replica may have written entries that this process has not seen.
        self._log.refresh()
        orders = delays.in_force(connection, self._log.entries, self._log.kept, now)
        try:
            years = self._trace.years()
            # Rows of a year that is no longer kept go with its entries, which may not have happened yet.
            found = [one for one in self._trace.find(connection, kind, identifier) if self._log.kept(one.entry)]
        except (OSError, ValueError) as error:
            raise RefusedError(
                Reason.OWNER_FAILED, f"a key of the index cannot be read ({type(error).__name__}); restore it"
            ) from None
        left_out = 0

        def rows() -> Iterator[subject_pb2.Lookups]:
            nonlocal left_out
            if request is not None:
                yield this_row(request.raw, now, names)
            shown = 0
            for place, (at, stand) in enumerate(found):
                # Of those that are shown: where fewer were, what is missing would be what is delayed.
                if shown == MAX_ENTRIES:
                    left_out = len(found) - place
                    return
                year, index = year_and_index(at)
                row = row_of(self._entry(connection, at), index, stand, names, orders)
                if row is not None:
                    row.log_year = year
                    shown += whole or not row.delayed
                    yield row

        report = compile_report(self._department, now, years, rows(), whole=whole, max_bytes=max_bytes)
        report.left_out += left_out
        return report

    def _entry(self, connection: Reading, at: int) -> audit_pb2.Entry:
        try:
            log, index = self._log.located(at)
            ((data,),) = fetch(connection, log.entry_query, (index,))
            return decode_entry(data)
        except (ValueError, EntryError, RefusedError):
            raise FatalError(Reason.LOG_UNAVAILABLE, f"entry {at}, which the index names, cannot be read") from None
