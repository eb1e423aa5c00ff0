"""SubjectService and SubjectAdminService over one owner's index: for the owner's own people, on its own machine.

What somebody reads or orders here is an entry before it is shown or has effect. Disk work runs in worker threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import grpc
from sqlalchemy import Connection

from adapters import delays, erasure, replay
from adapters.ledger import Ledger
from adapters.rows import Snapshots, in_file
from adapters.subjects import Subjects
from adapters.trace import Stand, Trace, slot_part
from audit.appended import Appended
from audit.entry import event_number
from audit.facts import facts_of
from audit.holds import HoldBook, check_order
from audit.query import Scope
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.identity import Identity, Kind
from zhiwang.adapter.v1 import subject_pb2, subject_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.call import Caller, Peer, current_peer
from zhiwang.wire.clock import day_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import is_token
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.server import RpcRules

MAX_SHOWN: Final = 4 << 20
"""Bytes of a report that is shown to the owner's own people."""

ATTEMPTS: Final = 10
"""How often an erasure is begun anew because something was recorded about the subject, or held, meanwhile."""

_READERS: Final[frozenset[Caller]] = frozenset({Kind.AUDITOR, Kind.ADMIN})
_ADMINS: Final[frozenset[Caller]] = frozenset({Kind.ADMIN})

RULES: Final[RpcRules] = {
    "/zhiwang.adapter.v1.SubjectService/Report": _READERS,
    "/zhiwang.adapter.v1.SubjectAdminService/Delay": _ADMINS,
    "/zhiwang.adapter.v1.SubjectAdminService/Erase": _ADMINS,
}
"""Who may call what, for `zhiwang.wire.server.build_server`."""


def canonical(subject: subject_pb2.Subject, schemes: Mapping[str, Scheme], now: float) -> tuple[str, str]:
    """Kind and canonical identifier of a subject.

    Raises:
        RefusedError: SLOT_UNKNOWN: there is no such kind; IDENTIFIER_INVALID.
    """
    scheme = schemes.get(subject.kind)
    if scheme is None:
        raise RefusedError(Reason.SLOT_UNKNOWN, "the centre knows no such kind of subject", field="subject.kind")
    try:
        return subject.kind, scheme.canonical(subject.identifier, today=day_of(now))
    except RefusedError as error:
        raise RefusedError(error.reason, error.detail, field="subject.identifier") from None


class _OutpacedError(Exception):
    """Something was recorded about the subject, or held, since that was looked at; nothing was written."""


class SubjectServicer(subject_pb2_grpc.SubjectServiceServicer):
    """Tells who asked about a subject.

    Args:
        subjects: Makes the reports.
        log: The owner's log; its store holds the index.
        trace: The index.
        ledger: Bounds how many people one reader looks up in a day.
        schemes: Scheme of each kind of subject, by the directory in force.
        scope: What somebody may read of the log; only who may read all of it may ask here.
        clock: Seconds since the epoch.
        peer: Gives the caller of the RPC that is being served.
    """

    def __init__(
        self,
        subjects: Subjects,
        log: YearlyLog | LogStore,
        trace: Trace,
        ledger: Ledger,
        schemes: Callable[[], Mapping[str, Scheme]],
        scope: Callable[[Identity], Scope],
        clock: Callable[[], float],
        peer: Callable[[], Peer] = current_peer,
    ) -> None:
        self._subjects = subjects
        self._log = YearlyLog.adopt(log)
        self._trace = trace
        self._ledger = ledger
        self._schemes = schemes
        self._scope = scope
        self._clock = clock
        self._peer = peer
        self._snapshots = Snapshots(log.engine)

    async def Report(  # noqa: N802 - named by the .proto file
        self,
        request: subject_pb2.ReportRequest,
        context: grpc.aio.ServicerContext,
    ) -> subject_pb2.ReportResponse:
        """Record that it is read, and by whom; then read it, so that it tells of this reading too."""
        del context
        reader = self._peer().identity
        if not self._scope(reader).everything:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{reader.short} may not read all of this log")
        if not is_token(request.reference):
            raise RefusedError(Reason.REFERENCE_INVALID, field="reference")
        kind, identifier = canonical(request.subject, self._schemes(), self._clock())
        report = await asyncio.to_thread(self._report, reader, kind, identifier, request)
        return subject_pb2.ReportResponse(report=report)

    def _report(
        self, reader: Identity, kind: str, identifier: str, request: subject_pb2.ReportRequest
    ) -> subject_pb2.SubjectReport:
        self._record(reader, kind, identifier, request)
        with self._snapshots.read() as connection:
            return self._subjects.report(connection, kind, identifier, max_bytes=MAX_SHOWN, whole=request.whole)

    def _record(self, reader: Identity, kind: str, identifier: str, request: subject_pb2.ReportRequest) -> None:
        read = audit_pb2.SubjectRead(reader=reader.uri, reference=request.reference, whole=request.whole)
        entry = self._log.new_entry(read)
        with self._log.transaction() as connection:
            fresh = self._ledger.review_reports(connection, reader.department, reader.short, kind, identifier)
            if fresh is None:
                raise RefusedError(Reason.REPORTS_SPENT, f"{reader.short} has looked up too many people today")
            appended = self._log.append(connection, [entry])
            self._ledger.charge(connection, fresh)
            self._trace.insert(connection, [self._trace.row(kind, identifier, appended.position, Stand(slot_part(0)))])
        self._log.committed(appended)


class SubjectAdminServicer(subject_pb2_grpc.SubjectAdminServiceServicer):
    """Changes what is told.

    Args:
        department: Whose log it is; only its own admins order anything here.
        log: The owner's log; its store holds the index.
        trace: The index.
        schemes: Scheme of each kind of subject, by the directory in force.
        store: The store's file, unless it stands in a database.
        holds: What stands above erasure.
        clock: Seconds since the epoch.
        peer: Gives the caller of the RPC that is being served.
    """

    def __init__(
        self,
        department: str,
        log: YearlyLog | LogStore,
        trace: Trace,
        schemes: Callable[[], Mapping[str, Scheme]],
        store: Path,
        holds: HoldBook,
        clock: Callable[[], float],
        peer: Callable[[], Peer] = current_peer,
    ) -> None:
        self._department = department
        self._log = YearlyLog.adopt(log)
        self._trace = trace
        self._schemes = schemes
        self._store = store
        self._holds = holds
        self._clock = clock
        self._peer = peer
        self._snapshots = Snapshots(log.engine)

    async def Delay(  # noqa: N802 - named by the .proto file
        self,
        request: subject_pb2.DelayRequest,
        context: grpc.aio.ServicerContext,
    ) -> subject_pb2.DelayResponse:
        """The order is an entry first; with its COMMIT it has effect."""
        del context
        order = audit_pb2.EntriesDelayed(
            by=self._admin().uri,
            order=request.order,
            until_time=request.until_time,
            department=request.department,
            official=request.official,
            matter=request.matter,
            reference=request.reference,
        )
        delays.check(order, self._clock())
        return subject_pb2.DelayResponse(index=await asyncio.to_thread(self._delay, order))

    def _delay(self, order: audit_pb2.EntriesDelayed) -> int:
        entry = self._log.new_entry(order)
        with self._log.transaction() as connection:
            appended = self._log.append(connection, [entry])
            delays.insert(connection, appended.position)
        self._log.committed(appended)
        return appended.first

    async def Erase(  # noqa: N802 - named by the .proto file
        self,
        request: subject_pb2.EraseRequest,
        context: grpc.aio.ServicerContext,
    ) -> subject_pb2.EraseResponse:
        """Entry and erasure stand or fall together; then the files are seen to."""
        del context
        admin = self._admin()
        check_order(request.order)
        kind, identifier = canonical(request.subject, self._schemes(), self._clock())
        erased = audit_pb2.SubjectErased(by=admin.uri, order=request.order)
        return await asyncio.to_thread(self._erase, kind, identifier, erased)

    def _erase(self, kind: str, identifier: str, erased: audit_pb2.SubjectErased) -> subject_pb2.EraseResponse:
        for _ in range(ATTEMPTS):
            self._log.refresh()
            # Anew each time: a year that begins meanwhile has a key of its own.
            subjects = self._trace.subjects(kind, identifier)
            end = self._log.end
            self._check_not_held(subjects)
            try:
                with self._log.transaction() as connection:
                    appended = self._log.append(connection, [self._log.new_entry(erased)])
                    self._check_nothing_new(end, appended, connection, subjects)
                    erasure.erase(connection, subjects)
                    # Sealed replies about the subject go with their requests, a minute after these.
                    replay.prune(connection, self._clock())
                break
            except _OutpacedError:
                continue
        else:
            raise RefusedError(Reason.OVERLOADED, "holds are being placed, or the subject asked about, all the time")
        self._log.committed(appended)
        overwritten = erasure.overwrite(self._log.engine, self._store, subjects.values())
        return subject_pb2.EraseResponse(
            index=appended.first, overwritten=overwritten, in_database=not in_file(self._log.engine)
        )

    def _check_not_held(self, subjects: Mapping[int, bytes]) -> None:
        """Refuse if an entry about the subject is held.

        Raises:
            RefusedError: SUBJECT_HELD.
        """
        with self._snapshots.read() as connection:
            entries = erasure.entries_of(connection, subjects)
        facts = [facts_of(data) for at in entries if self._log.kept(at) for data in self._log.entries(at, 1)]
        orders = [hold.order for hold in self._holds.holds_in_force(self._clock()) if hold.covers_subject(facts)]
        if orders:
            raise RefusedError(Reason.SUBJECT_HELD, ", ".join(orders))

    def _check_nothing_new(
        self, end: int, appended: Appended, connection: Connection, subjects: Mapping[int, bytes]
    ) -> None:
        """Now that nobody else writes: what was looked at is still all there is.

        Raises:
            _OutpacedError: The subject was asked about, or a hold placed, since the log ended at a position; or a year
                has ended since.
        """
        placed = audit_pb2.Entry.HOLD_PLACED_FIELD_NUMBER
        newest = max(erasure.entries_of(connection, subjects), default=0)
        more = appended.position - end
        if newest >= end or more > appended.first or self._trace.years() != sorted(subjects):
            raise _OutpacedError
        if any(event_number(data) == placed for data in self._log.entries(end, more)):
            raise _OutpacedError

    def _admin(self) -> Identity:
        admin = self._peer().identity
        if admin.department != self._department:
            raise RefusedError(Reason.RPC_NOT_ALLOWED, f"{admin.short} is no admin of {self._department}")
        return admin
