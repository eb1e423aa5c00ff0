"""One frame, from the bytes that the hub handed over to the reply that it gets. Synchronous; runs in a worker thread.

The order is that of DESIGN section 3.4, cheapest and least trusting first: certificate and revocation, signature,
lifetime, replay, policy by this adapter's own directory; only then the seal is opened and the requester's commitment
recomputed, the ledger asked, and the database, once for the whole frame. Entries, charges, replies and the index of
subjects are written in one transaction; nothing leaves before its COMMIT. If that fails, nothing is answered.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from threading import Lock

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from adapters import replay
from adapters.ledger import Ledger
from adapters.pace import Hours
from adapters.questions import Examination
from adapters.refusals import RefusalCounter
from adapters.report import Names
from adapters.rows import Reading, Snapshots, fetch
from adapters.standpoint import Standpoint
from adapters.subjects import Subjects
from adapters.trace import Trace
from adapters.turns import Turns
from adapters.work import Answer, Opened, OutpacedError, Request, SpoiltError, Work
from audit.appended import Appended, NewEntry
from audit.entry import Event, decode_entry
from audit.store import LogStore
from audit.yearly import YearlyLog
from certs.identity import Kind
from certs.sealing import Opener
from certs.signing import CertificateVerifier
from policy.authorise import authorise
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.commitments import answer_tree, claim_commitments, sealed_hash, signature_message
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.header import SKEW, check_envelope, check_sealed_size, check_times, parse_header
from zhiwang.wire.merkle import Tree, leaf_hash
from zhiwang.wire.records import MAX_REPORT, Answers, Outcome, decode_records, encode_answers

ATTEMPTS = 4
"""How often a frame is settled anew because another process was faster."""

MAX_OWED = 10_000
"""Refusals of frames that failed that wait to be written down; beyond, they are only counted."""

OWED_AT_ONCE = 500
"""Of them in one transaction."""

PRUNE_INTERVAL = 10.0
"""Seconds between two looks for what the store may forget."""

SALT_SIZE = 32

_SYSTEMS = (Kind.SYSTEM,)
_DENIED = Outcome.DENIED_BY_OWNER
_DENIALS = {
    Reason.CELL_NOT_PUBLISHED: Outcome.CELL_NOT_PUBLISHED,
    Reason.DATE_NOT_PUBLISHED: Outcome.DATE_NOT_PUBLISHED,
}
_log = structlog.get_logger(__name__)


class FrameProcessor:
    """Turns frames into replies. May be used from several threads; the store's write lock orders them.

    Args:
        department: Whose adapter this is.
        log: The owner's log; its store also holds ledger, replies and index.
        verifier: Verifies requesters' certificates, with the revocations of the directory.
        standpoint: What is decided by now, or raises DIRECTORY_EXPIRED.
        opener: Opens seals.
        ledger: Charges.
        trace: Indexes who was asked about.
        bulk_hours: When rosters are answered; None for all day.
        withheld: Whether nothing may be released, since witnesses have not cosigned the log for too long.
        answered: Told of each request that was answered, with its department, after COMMIT only.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        department: str,
        log: YearlyLog | LogStore,
        verifier: CertificateVerifier,
        standpoint: Callable[[], Standpoint],
        opener: Opener,
        ledger: Ledger,
        trace: Trace,
        bulk_hours: Hours | None = None,
        withheld: Callable[[], bool] = lambda: False,
        answered: Callable[[str, Examination], None] = lambda _department, _examination: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._department = department
        self._log = YearlyLog.adopt(log)
        self._verifier = verifier
        self._standpoint = standpoint
        self._opener = opener
        self._ledger = ledger
        self._trace = trace
        self._bulk_hours = bulk_hours
        self._withheld = withheld
        self._answered = answered
        self._clock = clock
        self._snapshots = Snapshots(log.engine)
        self.subjects = Subjects(department, log, trace, self._names, clock)
        self._refusals = RefusalCounter(clock)
        self._owed: deque[NewEntry] = deque()  # what is to be written down of them; taken by `housekeep` alone
        self._pruned = clock()
        self._behind = False
        self._reopening = Lock()
        self._turns = Turns()
        self.refused: Counter[Reason] = Counter()
        self.outcomes: Counter[int] = Counter()

    def _names(self) -> Names:
        return Names.of(self._standpoint().enforcer.directory)

    def record(self, events: Sequence[Event]) -> None:
        """Write events of this process (a change of directory, a published key) to the log.

        Raises:
            FatalError: LOG_UNAVAILABLE.
        """
        self.append([self._log.new_entry(event) for event in events])

    def append(self, entries: Sequence[NewEntry]) -> Appended:
        """Append entries in a transaction of their own, unless they are in the log already.

        Raises:
            FatalError: LOG_UNAVAILABLE. The same entries may be given again.
        """
        if self._log.is_recorded(entries):
            return self._log.recorded(entries)
        with self._log.transaction() as connection:
            appended = self._log.append(connection, entries)
        self._log.committed(appended)
        return appended

    def turn_away(self, reason: Reason, number: int) -> None:
        """Count requests that were refused before they came here. Their entry is written with the next housekeeping."""
        self.refused[reason] += number
        self._refusals.count(reason, number)

    def housekeep(self) -> None:
        """Open a log that has stopped, and write down refusals that were only counted. Call every few seconds.

        Raises:
            FatalError: LOG_UNAVAILABLE.
        """
        self._reopen()
        # A server that is gone is noticed although nobody asks, and what other replicas wrote is taken up.
        self._log.refresh()
        self._look_at_clock()
        self._owed.extend(self._log.new_entry(event) for event in self._refusals.take())
        while self._owed:
            # The same entries again if this fails: they may be in the log, and nothing is counted twice.
            due = [self._owed[place] for place in range(min(len(self._owed), OWED_AT_ONCE))]
            if missing := [entry for entry in due if not self._log.is_recorded([entry])]:
                self.append(missing)
            for _ in due:
                self._owed.popleft()

    def _look_at_clock(self) -> None:
        """Say once that the clock stands before what was forgotten: requests are refused until it has caught up."""
        with self._snapshots.read() as connection:
            behind = replay.horizon(connection) - self._clock()
        if behind > SKEW and not self._behind:
            _log.error("the clock was set back; requests are refused until it has caught up", seconds=round(behind))
        self._behind = behind > SKEW

    def _reopen(self) -> None:
        if self._log.stopped is not None:
            with self._reopening:
                if self._log.stopped is not None:
                    self._log.open()

    def process(self, frame: adapter_pb2.RequestFrame) -> adapter_pb2.ReplyFrame:
        """Replies to every item of a frame. Raises nothing that concerns one request, or the log."""
        if self._withheld():
            # What could not be released is not asked of the database, nor charged.
            return self._withhold(frame, Reason.NOT_WITNESSED)
        work = Work([adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id) for item in frame.items])
        try:
            self._answer(work, frame)
            if self._withheld():
                # The quorum was lost meanwhile. The same bytes, sent again, get what is kept now, without a charge.
                return self._withhold(frame, Reason.NOT_WITNESSED)
            return self._reply(work, frame.known_tree_size, frame.known_origin)
        except (FatalError, SQLAlchemyError, OSError) as error:
            _log.error("nothing is answered: log or store failed", error=type(error).__name__)
            self._owe(work)
            return self._withhold(frame, Reason.LOG_UNAVAILABLE)
        except Exception as error:  # noqa: BLE001 - one frame must not end the process, nor tell anything
            _log.error("nothing is answered: the adapter failed", exc_info=error)
            self._owe(work)
            return self._withhold(frame, Reason.OWNER_FAILED)

    def _withhold(self, frame: adapter_pb2.RequestFrame, reason: Reason) -> adapter_pb2.ReplyFrame:
        """Nothing is answered that is not recorded."""
        self.refused[reason] += len(frame.items)
        return adapter_pb2.ReplyFrame(
            items=[
                adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id, reason=reason.name)
                for item in frame.items
            ]
        )

    def _owe(self, work: Work) -> None:
        """Have refusals of a frame that failed written down later, unless they turn out to be in the log."""
        if work.appended is not None:
            return
        for entry in work.refusals:
            if len(self._owed) < MAX_OWED:
                self._owed.append(entry)
            else:
                self._refusals.count(Reason[decode_entry(entry.data).refusal.reason], 1)

    def _answer(self, work: Work, frame: adapter_pb2.RequestFrame) -> None:
        self._reopen()
        now = self._clock()
        requests: list[Request] = []
        for place, item in enumerate(frame.items):
            try:
                requests.append(self._identify(place, item, now))
            except RefusedError as error:
                self._refuse(work, place, item.request, error)
            except Exception as error:  # noqa: BLE001 - one request must not spoil its neighbours
                self._fail(work, place, item.request, error)
        opened: dict[int, Opened] = {}
        outpaced = 0
        while outpaced < ATTEMPTS:
            try:
                self._settle(work, requests, opened, now)
            except OutpacedError:
                # What was read of the store is out of date, and with it perhaps an outcome.
                outpaced += 1
                continue
            except SpoiltError:
                # Without the request that failed guesses may be due to others. Each time there is one request less.
                continue
            return
        raise FatalError(Reason.LOG_UNAVAILABLE, "other processes of this store were always faster")

    # Who asks, and may they.

    def _identify(self, place: int, item: adapter_pb2.RequestFrame.Item, now: float) -> Request:
        """Sender and time of a request.

        Raises:
            RefusedError: Whatever is wrong with them.
        """
        envelope = item.request
        check_envelope(envelope)
        header = parse_header(envelope.header)
        check_sealed_size(header, len(envelope.ciphertext))
        if header.owner != self._department:
            raise RefusedError(Reason.REQUEST_MALFORMED, "the request is for another owner", field="owner")
        certificate = self._verifier.verify(envelope.certificate, now, kinds=_SYSTEMS)
        if certificate.fingerprint != header.certificate_fingerprint or certificate.identity.uri != header.system:
            raise RefusedError(Reason.IDENTITY_MISMATCH, certificate.identity.short, field="system")
        sealed = sealed_hash(envelope.enc, envelope.nonce, envelope.ciphertext)
        certificate.verify_signature(envelope.signature, signature_message(header.hash, sealed, envelope.request_root))
        check_times(header, now)
        denied = frozenset(item.denied_claims)
        if denied and max(denied) >= len(header.claims):
            raise RefusedError(Reason.REQUEST_MALFORMED, "the hub denied a claim that is not there")
        return Request(
            place,
            envelope,
            denied,
            header,
            certificate.identity,
            sealed,
            replay.replay_key(header.system, header.request_id),
            replay.replay_hash(header.hash, sealed, envelope.request_root, envelope.signature),
        )

    def _look_for_repeats(self, work: Work, connection: Reading, requests: Sequence[Request]) -> list[Request]:
        """Set aside what was answered before, or stands earlier in this frame; refuse a used id with other bytes."""
        known = replay.find(connection, [request.key for request in requests])
        horizon = replay.horizon(connection)
        work.repeats.clear()
        first: dict[bytes, Request] = {}
        left: list[Request] = []
        for request in requests:
            if work.replies[request.place].reason:
                continue
            stored = known.get(request.key)
            if stored is None and replay.expiry(request.header.expire_time) < horizon:
                # It may have been answered and forgotten: the clock stood later once than it does now.
                error = RefusedError(Reason.REQUEST_EXPIRED, "expired before the horizon; was the clock set back?")
                self._refuse(work, request.place, request.envelope, error)
                continue
            other = first.setdefault(request.key, request)
            if (stored.hash if stored is not None else other.hash) != request.hash:
                self._refuse(work, request.place, request.envelope, RefusedError(Reason.REPLAYED))
            elif stored is not None:
                work.stored[request.place] = stored
            elif other is not request:
                work.repeats[request.place] = other.place
            else:
                left.append(request)
        return left

    def _open(self, request: Request, now: float) -> Opened:
        """Authorise, open, and prove that what is inside is what was signed.

        Raises:
            RefusedError: BULK_CLOSED, of policy, of the seal, or COMMITMENT_MISMATCH.
        """
        header, envelope = request.header, request.envelope
        if self._bulk_hours is not None and header.bulk and not self._bulk_hours.admit(now):
            raise RefusedError(Reason.BULK_CLOSED)
        standpoint = self._standpoint()
        authorisation = authorise(standpoint.enforcer, header, request.identity, now)
        own_denied = {
            i: _DENIALS.get(authorisation.decisions[i].reason or Reason.NOT_GRANTED, _DENIED)
            for i in authorisation.denied
        }
        if len(own_denied.keys() | request.hub_denied) == len(header.claims):
            # Nothing to answer, so nothing is opened. The reasons do not depend on whom it is about.
            reasons = [decision.reason for decision in authorisation.decisions if decision.reason is not None]
            raise RefusedError(reasons[0] if reasons else Reason.NOT_GRANTED)
        plaintext, sealer = self._opener.open(
            header.certificate_fingerprint,
            header.owner_key_id,
            envelope.enc,
            header.hash,
            envelope.nonce,
            envelope.ciphertext,
        )
        records = decode_records(header, plaintext)
        commitments = claim_commitments(header, records)
        if Tree(commitments).root != envelope.request_root:
            raise RefusedError(Reason.COMMITMENT_MISMATCH)
        examination = standpoint.examiner.prepare(
            header, request.identity.department, records, request.hub_denied, own_denied
        )
        return Opened(request, authorisation, commitments, sealer, standpoint.examiner, examination)

    def _refuse(self, work: Work, place: int, envelope: sealed_pb2.SealedRequest, error: RefusedError) -> None:
        reply = work.replies[place]
        reply.reason = error.reason.name
        if offset := error.metadata.get("clock_offset_ms"):
            reply.clock_offset_ms = int(offset)
        noted = self._refusals.note(error.reason, sha256(envelope.header).digest() if envelope.header else b"")
        if noted is not None:
            _log.info("refused", reason=error.reason.name, detail=error.detail)
            work.refusals.append(self._log.new_entry(noted.event()))

    def _fail(self, work: Work, place: int, envelope: sealed_pb2.SealedRequest, error: Exception) -> None:
        """Take a request out of its frame for an error that nobody foresaw; its neighbours are answered.

        Raises:
            FatalError: It was the log or the store that failed; that concerns every request.
        """
        if isinstance(error, FatalError):
            raise error
        _log.error("a request failed", exc_info=error)
        self._refuse(work, place, envelope, RefusedError(Reason.OWNER_FAILED, type(error).__name__))

    # Answers, and the transaction that they stand or fall with.

    def _settle(self, work: Work, requests: Sequence[Request], known: dict[int, Opened], now: float) -> None:
        """Look for repeats, open, review, evaluate, seal, and write everything in one transaction.

        Args:
            work: The frame.
            requests: Those whose sender and time are right.
            known: What was opened at an attempt before, by place; filled.
            now: When the frame came.

        Raises:
            OutpacedError: Another process wrote since the store was read; nothing was written.
            SpoiltError: A request failed; nothing was written.
            FatalError: LOG_UNAVAILABLE.
        """
        end, opened, fresh = self._review(work, requests, known, now)
        self._evaluate(work, opened)
        answers = self._sealed(work, opened)
        entries = [*(answer.entry for answer in answers), *work.refusals]
        if not entries:
            return
        bulk = any(one.request.header.bulk for one in opened)
        with self._turns.take(bulk=bulk), self._log.transaction() as connection:
            appended = self._log.append(connection, entries)
            # Every transaction that charges or answers also appends: a position that is not the one that was read
            # tells that somebody else has, or that a year has ended.
            if answers and appended.position != end:
                fresh = self._review_again(connection, opened)
            self._write(connection, answers, fresh, appended.position)
        work.appended = appended
        self._log.committed(appended)
        for answer in answers:
            place = answer.opened.request.place
            work.answered.append(place)
            work.replies[place].reply.nonce = answer.nonce
            work.replies[place].reply.ciphertext = answer.ciphertext
            self.outcomes.update(answer.opened.examination.outcomes)
            if not answer.opened.request.header.report:
                self._answered(answer.opened.request.identity.department, answer.opened.examination)

    def _review(
        self, work: Work, requests: Sequence[Request], known: dict[int, Opened], now: float
    ) -> tuple[int, list[Opened], list[tuple[int, int]]]:
        """What one snapshot of the store says: the log's end, repeats, and what guesses are due."""
        if not requests:
            return 0, [], []
        opened: list[Opened] = []
        with self._snapshots.read() as connection:
            end = self._log.end_in(partial(fetch, connection))
            for request in self._look_for_repeats(work, connection, requests):
                one = known.get(request.place)
                if one is None:
                    try:
                        one = known[request.place] = self._open(request, now)
                    except RefusedError as error:
                        self._refuse(work, request.place, request.envelope, error)
                        continue
                    except Exception as error:  # noqa: BLE001 - one request must not spoil its neighbours
                        self._fail(work, request.place, request.envelope, error)
                        continue
                opened.append(one)
            bills = [bill for one in opened for bill in one.examination.bills]
            fresh = self._ledger.review(connection, bills) if bills else []
        return end, opened, fresh

    def _evaluate(self, work: Work, opened: Sequence[Opened]) -> None:
        """Ask the database, all requests together; if that fails as it never should, one by one.

        Raises:
            SpoiltError: Some fail also by themselves, and are taken out.
        """
        by_examiner: dict[int, list[Opened]] = {}
        for one in opened:
            by_examiner.setdefault(id(one.examiner), []).append(one)
        try:
            for group in by_examiner.values():
                group[0].examiner.evaluate([one.examination for one in group])
        except Exception as error:  # noqa: BLE001 - whose fault it is will be seen
            _log.warning("a frame failed and is evaluated one by one", error=type(error).__name__)
            self._each(work, opened, lambda one: one.examiner.evaluate([one.examination]))

    def _sealed(self, work: Work, opened: Sequence[Opened]) -> list[Answer]:
        """Entries and sealed replies.

        Raises:
            SpoiltError: Some could not be made, and their requests are taken out.
        """
        answers: list[Answer] = []
        self._each(work, opened, lambda one: answers.append(self._seal(one)))
        return answers

    def _each(self, work: Work, opened: Sequence[Opened], act: Callable[[Opened], None]) -> None:
        """Do something for each request by itself.

        Raises:
            SpoiltError: It failed for some, which are taken out.
        """
        failed = False
        for one in opened:
            try:
                act(one)
            except Exception as error:  # noqa: BLE001 - one request must not spoil its neighbours
                self._fail(work, one.request.place, one.request.envelope, error)
                failed = True
        if failed:
            raise SpoiltError

    def _review_again(self, connection: Connection, opened: Sequence[Opened]) -> list[tuple[int, int]]:
        """What is due if the outcomes still stand, now that nobody else can write.

        Raises:
            OutpacedError: They do not.
        """
        horizon = replay.horizon(connection)
        if replay.find(connection, [one.request.key for one in opened]) or any(
            replay.expiry(one.request.header.expire_time) < horizon for one in opened
        ):
            raise OutpacedError
        bills = [bill for one in opened for bill in one.examination.bills]
        before = [(bill.closed, frozenset(bill.spent)) for bill in bills]
        fresh = self._ledger.review(connection, bills)
        if before != [(bill.closed, frozenset(bill.spent)) for bill in bills]:
            raise OutpacedError
        return fresh

    def _seal(self, opened: Opened) -> Answer:
        request, examination = opened.request, opened.examination
        header, envelope = request.header, request.envelope
        report = self._report(opened) if header.report else b""
        answers = Answers(os.urandom(SALT_SIZE), tuple(examination.data_as_of), bytes(examination.outcomes), report)
        tree = answer_tree(header, opened.commitments, answers)
        nonce, ciphertext = opened.sealer.seal(encode_answers(header, answers))
        denied = set(examination.denied)
        entry = self._log.new_entry(
            audit_pb2.OwnerAccess(
                header=envelope.header,
                signature=envelope.signature,
                sealed_hash=request.sealed_hash,
                request_root=envelope.request_root,
                answer_root=tree.root,
                cases=header.cases,
                claims=len(header.claims),
                directory_version=opened.authorisation.directory_version,
                document_version=opened.authorisation.owner_document_version,
                rule_ids=[
                    "" if i in denied else decision.rules_text
                    for i, decision in enumerate(opened.authorisation.decisions)
                ],
                denied_claims=examination.denied,
            )
        )
        return Answer(opened, entry, nonce, ciphertext)

    def _report(self, opened: Opened) -> bytes:
        """Who asked about the subject, as its seal holds it; empty where the report was refused or is about nobody.

        Raises:
            RefusedError: OWNER_FAILED: the index cannot be read.
        """
        examination = opened.examination
        if examination.report is None:
            return b""
        if examination.report.closed:
            examination.outcomes[0] = Outcome.REPORTS_SPENT
            return b""
        ((kind, identifier),) = examination.subjects
        with self._snapshots.read() as connection:
            report = self.subjects.report(
                connection, kind, identifier, max_bytes=MAX_REPORT, request=opened.request.header
            )
        examination.outcomes[0] = Outcome.YES
        return report.SerializeToString()

    def _write(
        self, connection: Connection, answers: Sequence[Answer], fresh: Sequence[tuple[int, int]], position: int
    ) -> None:
        """Charges, replies and the index of subjects, beside their entries, which begin at a position."""
        self._ledger.charge(connection, fresh)
        rows = []
        stored = []
        for at, answer in enumerate(answers, position):
            request = answer.opened.request
            rows += [
                self._trace.row(kind, identifier, at, stand)
                for (kind, identifier), stand in answer.opened.examination.traces()
            ]
            expires = replay.expiry(request.header.expire_time)
            stored.append(replay.Answered(request.key, request.hash, at, answer.nonce, answer.ciphertext, expires))
        replay.insert(connection, stored)
        self._trace.insert(connection, rows)
        now = self._clock()
        # Only beside answers: then the directory is in force, so a clock that leapt ahead has leapt by less than a
        # timestamp's life, and no window of the ledger is forgotten for it.
        if answers and not 0 <= now - self._pruned < PRUNE_INTERVAL:
            self._pruned = now
            replay.prune(connection, now)
            self._ledger.prune(connection)

    # The reply.

    def _again(self, position: int) -> Appended:
        """An entry that was written before, with its proof."""
        store, index = self._log.located(position)
        newest = store.newest
        (data,) = store.entries(index, 1)
        path = store.inclusion_path(index, newest.size)
        return Appended(index, [data], [leaf_hash(data)], [path], newest, store.origin)

    def _reply(self, work: Work, known_tree_size: int, known_origin: str) -> adapter_pb2.ReplyFrame:
        """The reply frame: every entry proved under one head, or, where a year has ended, under one of its log."""
        parts: list[tuple[Appended, Sequence[int]]] = []
        if work.stored:
            # Another process may have written them, after a head that this one has not seen.
            self._log.refresh()
            for place, stored in work.stored.items():
                parts.append((self._again(stored.entry), [place]))
                work.replies[place].reply.nonce = stored.nonce
                work.replies[place].reply.ciphertext = stored.ciphertext
        if work.appended is not None and work.answered:
            # Entries of refusals follow those of answers and go to nobody.
            parts.append((work.appended, work.answered))
        frame = adapter_pb2.ReplyFrame()
        by_log: dict[str, list[tuple[Appended, Sequence[int]]]] = {}
        for part in sorted(parts, key=lambda part: part[0].position, reverse=True):
            by_log.setdefault(part[0].origin, []).append(part)
        # Requests live for a minute, so there are two logs at most.
        for former, group in enumerate(by_log.values()):
            head, logged = self._log.frame([part for part, _ in group], known_tree_size, known_origin)
            (frame.former_log if former else frame.log).CopyFrom(head)
            entries = iter(logged)
            for appended, places in group:
                proved = [next(entries) for _ in appended.entries]
                for place, entry in zip(places, proved, strict=False):
                    work.replies[place].entry.CopyFrom(entry)
                    work.replies[place].former = bool(former)
        for place, other in work.repeats.items():
            correlation_id = work.replies[place].correlation_id
            work.replies[place].CopyFrom(work.replies[other])
            work.replies[place].correlation_id = correlation_id
        frame.items.extend(work.replies)
        # Here, so that each item is counted once, by what its sender is told.
        self.refused.update(Reason[item.reason] for item in work.replies if item.reason)
        return frame
