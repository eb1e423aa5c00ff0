"""A sweep as it runs: what was on the way lands, then open rows are asked in passes over the roster.

A chunk's results are in the journal before its place is given to another. No more than a few chunks are
in hand, and nothing of the roster is kept, so a roster of any length needs the same memory. Told to stop, it asks
nothing more and waits for what is on the way. Owned by the event loop; roster and journal are read and written in one
thread of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from exchange.client.case import Case, CaseResult, Context, Status
from exchange.client.outcome import Failure
from exchange.client.plan import Prepared
from exchange.client.roster import CHUNK, WINDOW
from exchange.sweep.asking import SweepClient
from exchange.sweep.cases import CaseReader, Row, row_of
from exchange.sweep.disk import is_full
from exchange.sweep.findings import finding_of, merge, owners_mask
from exchange.sweep.journal import Entry, Flight, Journal, State
from exchange.sweep.rosters import Roster, TouchedError
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.tables import Record

READ_AT_ONCE: Final = 256
"""Rows that are read together."""

TOUCHES: Final = 8
"""How often a roster may be touched while it is read once."""

RETRY_SECONDS: Final = (5.0, 300.0)
"""Pause before open rows are asked again: at first, and at most; each time twice as long."""

FULL_SECONDS: Final = 2.0
"""Pause before it is looked again whether a full disk has room."""

FULL_ROUNDS: Final = 30

Taken = TypeVar("Taken")


class FullError(Exception):
    """There is no room for what was answered."""


def rows_of(roster: Roster, reader: CaseReader) -> Iterator[Record]:
    """The records of a roster's mapped columns.

    Raises:
        TableError: It cannot be read, or a column is not there, or it is no longer what it was.
    """
    with roster.table() as table:
        yield from table.take(table.places({heading: heading for heading in reader.headings}))
    roster.check_stamp()


def in_groups(roster: Roster, reader: CaseReader) -> Iterator[list[Record]]:
    """The same, some at a time; of each group the roster was what it was when all of the group had been read.

    A file that was only touched, or replaced by its own copy, is read again from where it was.
    """
    last = 0
    for left in reversed(range(TOUCHES + 1)):
        records = (record for record in rows_of(roster, reader) if record.number > last)
        try:
            while group := list(islice(records, READ_AT_ONCE)):
                roster.check_stamp()
                yield group
                last = group[-1].number
        except TouchedError:
            if not left:
                raise
        else:
            return


class Sweep:
    """One run of a sweep.

    Args:
        client: Asks; its requests are kept here.
        roster: Who is asked about.
        reader: Makes cases of its rows.
        journal: Taken in, with room set aside.
        context: Why.
        stopping: Set when nothing more is to be asked.
        until: When to stop, in seconds since the epoch; None for `patience` seconds after all were asked once.
        patience: Those seconds.
        clock: Seconds since the epoch.
        told: Called when the tally has changed.
    """

    def __init__(
        self,
        client: SweepClient,
        roster: Roster,
        reader: CaseReader,
        journal: Journal,
        context: Context,
        stopping: asyncio.Event,
        *,
        until: float | None,
        patience: float,
        clock: Callable[[], float] = time.time,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._roster = roster
        self._reader = reader
        self._journal = journal
        self._context = context
        self._stopping = stopping
        self._until = until
        self._patience = patience
        self._clock = clock
        self._told = told
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sweep")
        self._flights: dict[tuple[str, ...], list[int]] = {}
        self._down: set[str] = set()
        self._goes_on = False
        """Whether a row was told something in this pass by which it is asked on, without a pause."""
        self._owners = tuple(one.claim.owner for one in reader.templates)
        client.keep = self._keep
        self.tally: dict[State, int] = dict.fromkeys(State, 0)
        self.waiting = 0
        """Open rows that were asked in vain so far."""
        self.settled = 0
        """Rows that this run has settled."""
        self.full = False
        """Whether it stopped because the disk is full."""
        self.kept = 0
        """Rows of which this run has kept a receipt; one that is asked again for other claims counts again."""
        self.withheld = False
        """Whether it stopped because receipts that are required cannot be kept."""

    async def run(self) -> None:
        """Ask until every row is settled, the time is over or it is told to stop.

        Raises:
            RefusedError: The context cannot be asked under at all.
            TableError: The roster cannot be read, or is another one now.
            FullError: There is no room for answers that have come.
        """
        try:
            self.tally = await self._call(self._journal.count)
            self.waiting = await self._call(self._journal.waiting)
            self._told()
            await self._land_all()
            pause, longest = RETRY_SECONDS
            first = True
            while self.tally[State.OPEN] and not self._over():
                await self._pass(again=not first)
                if self._goes_on:
                    continue
                if first and self._until is None:
                    self._until = self._clock() + self._patience
                first = False
                if not self.tally[State.OPEN] or self._over():
                    break
                await self._rest(pause)
                pause = min(pause * 2, longest)
        finally:
            self._worker.shutdown(wait=True)

    def _over(self) -> bool:
        return self._stopping.is_set() or (self._until is not None and self._clock() >= self._until)

    async def _rest(self, seconds: float) -> None:
        """Wait before asking again; less if the time is over before, or it is told to stop."""
        left = seconds if self._until is None else min(seconds, self._until - self._clock())
        try:
            async with asyncio.timeout(max(left, 0)):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _call(self, function: Callable[[], Taken]) -> Taken:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    # One pass.

    async def _pass(self, *, again: bool) -> None:
        """Ask every open row once."""
        await self._call(self._roster.check_bytes)
        self._down.clear()
        self._goes_on = False
        try:
            async with aclosing(self._client.verify_batches(self._batches(again=again), self._context)) as found:
                async for results in found:
                    await self._take(results, again=again)
        except RefusedError as error:
            # Without a directory in force, say; that passes as an owner's absence does.
            if Failure(error.reason).status is not Status.UNAVAILABLE:
                raise

    async def _batches(self, *, again: bool) -> AsyncIterator[Sequence[Case]]:
        rows = self._open_rows()
        try:
            while not self._over():
                group = await self._call(partial(next, rows, None))
                if group is None:
                    return
                cases = [row.case for row in group if row.case is not None and not (again and self._is_down(row.case))]
                if cases:
                    self._client.rows.update((row.case.key, row.key) for row in group if row.case is not None)
                    yield cases
        finally:
            await self._call(rows.close)

    def _open_rows(self) -> Generator[list[Row]]:
        """Open rows with the claims that are open. In the worker."""
        for group in in_groups(self._roster, self._reader):
            entries = self._journal.entries(group[0].number, group[-1].number, only_open=True)
            masks = {one.number: self._reader.wanted(one.findings) for one in entries}
            rows = [self._reader.read(one, mask) for one in group for mask in masks.get(one.number, ())]
            if rows:
                yield rows

    def _is_down(self, case: Case) -> bool:
        """Whether all owners of a case's claims have just been found away, so that asking would only fill the logs."""
        if not self._down:
            return False
        _, mask = row_of(case.key)
        return all(owner in self._down for index, owner in enumerate(self._owners) if mask >> index & 1)

    async def _take(self, results: Sequence[CaseResult], *, again: bool) -> None:
        flights = self._flights.pop(tuple(one.key for one in results), [])
        for one in results:
            self._client.rows.pop(one.key, None)
        if any(one.reason is Reason.RECEIPT_NOT_KEPT for one in results):
            # They are answered: what asked them stays in the journal, and is sent again.
            self._withhold()
            return
        entries = await self._settle(results, flights)
        if again:
            self._note_down(entries)

    def _withhold(self) -> None:
        self.withheld = True
        self._stopping.set()

    def _note_down(self, entries: Sequence[Entry]) -> None:
        """Owners that answered nothing of a chunk."""
        known: dict[str, bool] = {}
        for entry in entries:
            for one in entry.findings:
                owner = self._owners[one.claim]
                known[owner] = known.get(owner, False) or one.settled
        self._down.update(owner for owner, answered in known.items() if not answered)

    async def _settle(self, results: Sequence[CaseResult], flights: Sequence[int]) -> Sequence[Entry]:
        """Write results down, and count them."""

        def write() -> tuple[Mapping[int, Entry], list[Entry]]:
            before = self._journal.entries_of([row_of(one.key)[0] for one in results])
            known = dict(before)
            for one in results:
                # Several subjects of one row may have been asked about in one chunk.
                number = row_of(one.key)[0]
                known[number] = self._entry(known[number], one)
            now = list(known.values())
            self._journal.settle(now, flights)
            return before, now

        before, now = await self._written(write)
        for entry in now:
            was = before[entry.number]
            self.tally[was.state] -= 1
            self.tally[entry.state] += 1
            self.waiting += _is_waiting(entry) - _is_waiting(was)
            self.settled += entry.state is not State.OPEN
            self._goes_on |= entry.state is State.OPEN and not entry.reason
        self.kept += sum(one.kept for one in results)
        self._told()
        return now

    def _entry(self, before: Entry, result: CaseResult) -> Entry:
        if result.reason is not None:
            if Failure(result.reason).status is Status.UNAVAILABLE:
                return before._replace(reason=result.reason.name)
            return before._replace(state=State.REFUSED, reason=result.reason.name, place=result.field)
        mask = row_of(result.key)[1]
        asked = [finding_of(one, self._reader.index(one.claim, mask)) for one in result.claims]
        findings = merge(before.findings, asked)
        if self._reader.wanted(findings):
            reason = next((one.reason for one in findings if not one.settled), "")
            return before._replace(reason=reason, findings=findings)
        denied = any(one.status is Status.DENIED for one in findings)
        return before._replace(state=State.DENIED if denied else State.ANSWERED, reason="", findings=findings)

    # What is on the way.

    async def _keep(self, keys: Sequence[str], owner: str, request: bytes, secret: bytes) -> None:
        """Keep a request before it leaves; nothing more leaves once it is told to stop, or nothing can be kept.

        Raises:
            RefusedError: SHUTTING_DOWN.
        """
        if self._stopping.is_set():
            raise RefusedError(Reason.SHUTTING_DOWN)
        try:
            number = await self._call(partial(self._journal.launch, keys, owner, request, secret))
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            self.full = True
            self._stopping.set()
            raise RefusedError(Reason.SHUTTING_DOWN) from None
        self._flights.setdefault(tuple(keys), []).append(number)

    async def _written(self, write: Callable[[], Taken]) -> Taken:
        """Write what was answered; where the disk is full, into the room that was set aside.

        Raises:
            FullError: There was none even after a while.
        """
        for _ in range(FULL_ROUNDS):
            try:
                return await self._call(write)
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                self._stopping.set()
                if self.full:
                    await asyncio.sleep(FULL_SECONDS)
                self.full = True
                await self._call(self._release)
        raise FullError

    def _release(self) -> None:
        try:
            self._journal.release()
        except sqlite3.Error as error:
            if not is_full(error):
                raise

    async def _land_all(self) -> None:
        """Bring home what was on the way when the sweep was ended, as far as its life is not over."""
        flights = await self._call(self._journal.flights)
        if not flights:
            return
        wanted = {row_of(key)[0] for flight in flights for key in flight.keys}
        await self._client.recall(flights)
        records = await self._call(partial(self._records, wanted))
        await asyncio.gather(*(self._land(flight, records) for flight in flights))

    def _records(self, wanted: set[int]) -> dict[int, Record]:
        self._roster.check_bytes()
        last = max(wanted)
        found = {}
        for record in rows_of(self._roster, self._reader):
            if record.number > last:
                break
            if record.number in wanted:
                found[record.number] = record
        self._roster.check_stamp()
        return found

    async def _land(self, flight: Flight, records: Mapping[int, Record]) -> None:
        rows = self._rows(flight, records)
        prepared = self._prepared(rows)
        keys = {row.case.key: row.key for row in rows if row.case is not None}
        self._client.rows |= keys
        try:
            results = await self._client.land(flight, prepared) if prepared is not None else None
        except RefusedError as error:
            if error.reason is not Reason.RECEIPT_NOT_KEPT:
                raise
            self._withhold()
            return
        finally:
            for key in keys:
                del self._client.rows[key]
        if results is None:
            # Its life is over: the rows are asked anew, under another header.
            await self._written(partial(self._journal.settle, (), (flight.id,)))
        else:
            await self._settle(results, (flight.id,))

    def _rows(self, flight: Flight, records: Mapping[int, Record]) -> list[Row]:
        """Rows of a request, as far as they are there, with the claims that went to its owner."""
        own = owners_mask(self._reader.templates, flight.owner)
        pairs = map(row_of, flight.keys)
        return [self._reader.read(records[number], mask & own) for number, mask in pairs if number in records]

    def _prepared(self, rows: Sequence[Row]) -> list[Prepared] | None:
        """Their cases; None if they cannot be made any more."""
        prepared = []
        for row in rows:
            if row.case is None or not row.case.claims:
                return None
            try:
                prepared.append(self._client.prepare(row.case, self._context))
            except RefusedError:
                return None
        return prepared


def _is_waiting(entry: Entry) -> bool:
    return entry.state is State.OPEN and bool(entry.reason)


def claims_on_the_way(columns: int) -> int:
    """Claims of rows that can be in hand at a time.

    Args:
        columns: Claims about a row, over all its subjects.
    """
    return CHUNK * WINDOW * columns
