"""The hub's own entries, and what is released with them: nothing before the COMMIT of the entry about it.

Owned by the event loop; only the log's append is awaited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from audit.log import AuditLog
from exchange.verify import result
from exchange.waiting import Caller, Delivery
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.wire.errors import Reason, ZhiwangError

NOTE_RETRY = 1.0
"""Seconds after which it is tried again to record what has happened to the hub itself."""

Noted = audit_pb2.DirectoryChange | audit_pb2.QuorumChange | audit_pb2.EmergencyStep


class Meter:
    """Is told what happens; this one takes no notice."""

    def count(self, outcome: str, reason: str, number: int) -> None:
        """So many requests were settled."""

    def replied(self, owner: str, seconds: float) -> None:
        """An owner replied, so long after the request had come."""


@dataclass(slots=True)
class Record:
    """An entry to append, and what is delivered to whom after its COMMIT."""

    event: audit_pb2.HubAccess | audit_pb2.Refusal
    caller: Caller | None = None
    correlation_id: int = 0
    answer: exchange_pb2.ExchangeResult | None = None
    owner_log: audit_pb2.LogHead | None = None


class Recorder:
    """Writes to the hub's log, and delivers.

    Args:
        audit_log: The hub's log.
        meter: Is told what becomes of requests.
        withheld: Whether nothing may be released, since witnesses have not cosigned the log for too long.
        spawn: Runs work of its own beside everything else.
        closing: Whether the hub ends, so that what has happened to it is not waited for.
    """

    def __init__(
        self,
        audit_log: AuditLog,
        meter: Meter,
        withheld: Callable[[], bool],
        spawn: Callable[[Coroutine[None, None, None]], None],
        closing: Callable[[], bool],
    ) -> None:
        self._log = audit_log
        self._meter = meter
        self._withheld = withheld
        self._spawn = spawn
        self._closing = closing
        self._noted: deque[Noted] = deque()

    async def record(self, records: Sequence[Record]) -> None:
        """Append the entries of some records, and deliver what belongs to them once they are durable."""
        entries = [self._log.store.new_entry(record.event) for record in records]
        try:
            appended = await self._log.append(entries)
        except ZhiwangError as error:
            # Nothing is answered that is not recorded.
            withheld = result(audit_pb2.OUTCOME_UNAVAILABLE, error.reason)
            for record in records:
                if record.caller is not None:
                    record.caller.deliver(Delivery(record.correlation_id, withheld))
            self._meter.count("OUTCOME_UNAVAILABLE", error.reason.name, len(records))
            return
        stopped = self._withheld()
        for offset, record in enumerate(records):
            answer = record.answer
            if answer is not None and stopped and answer.outcome == audit_pb2.OUTCOME_ANSWERED:
                # It was on its way when the quorum was lost. The same bytes, sent again, get it without a charge.
                answer = result(audit_pb2.OUTCOME_UNAVAILABLE, Reason.NOT_WITNESSED)
                if record.caller is not None:
                    record.caller.deliver(Delivery(record.correlation_id, answer))
                self._meter.count("OUTCOME_UNAVAILABLE", answer.reason, 1)
            elif answer is not None:
                self._meter.count(audit_pb2.Outcome.Name(answer.outcome), answer.reason, 1)
                if record.caller is not None:
                    delivery = Delivery(record.correlation_id, answer, appended, offset, record.owner_log)
                    record.caller.deliver(delivery)

    def note(self, event: Noted) -> None:
        """Record something that has happened, in its turn. It is told once, so a log that has stopped is waited for."""
        self._noted.append(event)
        if len(self._noted) == 1:
            self._spawn(self._write_noted())

    async def _write_noted(self) -> None:
        while self._noted:
            # One entry, however often it is tried: it may be in a log that stopped before it could say so.
            entry = self._log.store.new_entry(self._noted[0])
            while True:
                try:
                    await self._log.append([entry])
                    break
                except ZhiwangError:
                    if self._closing():
                        return
                    await asyncio.sleep(NOTE_RETRY)
            self._noted.popleft()
