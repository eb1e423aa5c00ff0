"""The client of a sweep: it keeps every sealed request before it leaves, and sends the same bytes again.

Within a request's life (60 s at most) an owner answers the same bytes with the same reply, from its replay store and
with one entry in its log. So wherever a reply may have been lost (the hub, the adapter or this process restarted), the
same bytes are sent until they are answered or their life is over. Only then the claims are asked anew, under another
header; whether the first asking was recorded, nobody can tell from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from certs.owner_keys import VerifiedOwnerKey
from certs.sealing import SealingContext
from exchange.client.case import Case, CaseResult, Context
from exchange.client.check import Answered, Delivery, check_answer, check_refusal
from exchange.client.client import Client
from exchange.client.outcome import Failure, PartOutcome, results
from exchange.client.plan import Part, Prepared
from exchange.client.receipt import build_receipt
from exchange.client.receipt_rows import Paper
from exchange.client.seal import Sealed, header_message, reopen
from exchange.sweep.journal import Flight
from policy.enforcer import Enforcer
from policy.model import Matter
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import KEY_ID_SIZE, MAX_LIFETIME, REQUEST_ID_SIZE, Header, parse_header
from zhiwang.wire.identity import Identity

LOST: Final = frozenset(
    {
        Reason.OWNER_FAILED,
        Reason.OWNER_TIMED_OUT,
        Reason.HUB_UNREACHABLE,
        Reason.DEADLINE_EXCEEDED,
        Reason.LOG_UNAVAILABLE,
        Reason.NOT_WITNESSED,
        Reason.OVERLOADED,
        Reason.PROOF_INVALID,
        Reason.SHUTTING_DOWN,
    }
)
"""After these the owner may have answered and recorded a request whose reply did not arrive."""

PAUSES: Final = (0.25, 8.0)
"""Seconds before the same bytes are sent again: at first, and at most; each time twice as long."""

CLOCK_SECONDS: Final = 5.0
"""By how much the clock may have been set back since a request left, so that its receipts are found all the same."""

log = structlog.get_logger(__name__)

Keep = Callable[[Sequence[str], str, bytes, bytes], Awaitable[None]]
"""Keeps a request before it leaves: keys of its cases, owner, message, secret. Raises what says that it must not."""


class SweepClient(Client):
    """A client whose requests are kept. `keep` is set before anything is asked.

    Where it keeps receipts, they are on the disk before the journal forgets the request that was answered, so whatever
    ends the process, each answer in the journal has its receipt, and has it once.
    """

    keep: Keep
    keep_longer = MAX_LIFETIME

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.rows: dict[str, str] = {}
        """Keys of the rows in hand, by the key of their case: receipts are found by them."""
        self._kept: frozenset[tuple[bytes, int]] = frozenset()

    @property
    def keeps(self) -> bool:
        """Whether it keeps receipts."""
        return self._keeper is not None

    @property
    def identity(self) -> Identity:
        """As whom it asks."""
        return self._signer().identity

    @property
    def enforcer(self) -> Enforcer:
        """Decides by the directory in force, as the hub does.

        Raises:
            RefusedError: DIRECTORY_EXPIRED.
        """
        return self._holder.enforcer

    async def owner_keys(self) -> Mapping[str, VerifiedOwnerKey]:
        """The newest sealing key of every owner that is attached.

        Raises:
            RefusedError: HUB_UNREACHABLE.
        """
        return await self._keys.offered()

    def header(self, part: Part, context: Context, now: float) -> Header:
        """The header that a request of one case would have, but for its owner's key.

        Raises:
            RefusedError: The context cannot be asked under.
        """
        message = header_message(
            part,
            self._question(context).purpose,
            self._signer(),
            request_id=bytes(REQUEST_ID_SIZE),
            key_id=bytes(KEY_ID_SIZE),
            cases=1,
            now=now,
            lifetime=MAX_LIFETIME,
            bulk=True,
        )
        return parse_header(message.SerializeToString(deterministic=True))

    def matter(self, name: str) -> Matter:
        """A matter of the directory in force.

        Raises:
            RefusedError: MATTER_NOT_ALLOWED, if there is none of the name; DIRECTORY_EXPIRED.
        """
        found = self.directory.matters.get(name)
        if found is None:
            raise RefusedError(Reason.MATTER_NOT_ALLOWED, field="context.matter")
        return found

    def prepare(self, case: Case, context: Context) -> Prepared:
        """A case in canonical form, under the directory in force.

        Raises:
            RefusedError: It cannot be asked.
        """
        question = self._question(context)
        return question.planner.prepare(case, question.today)

    async def _deliver(self, sealed: Sealed, cases: Sequence[Prepared], seconds: float, *, bulk: bool) -> Delivery:
        """As the client's, from the same bytes until they are answered or their life is over."""
        keys = [case.case.key for case in cases]
        began = self._loop.time()
        await self.keep(keys, sealed.header.owner, sealed.request.SerializeToString(), sealed.context.secret)
        return await self._carry(sealed, seconds - (self._loop.time() - began), bulk=bulk)

    async def _carry(self, sealed: Sealed, seconds: float, *, bulk: bool) -> Delivery:
        """Send a request until its owner has said something that stands, for so many seconds at most.

        Raises:
            RefusedError: As a transport, at last.
        """
        end = self._loop.time() + seconds
        pause, longest = PAUSES
        lost = False
        while True:
            delivery, error = None, None
            try:
                delivery = await self.transport.exchange(
                    sealed.request, end - self._loop.time(), bulk=bulk, owner=sealed.header.owner
                )
                reason = _reason(delivery)
                lost = lost or delivery.sendings > 1
            except RefusedError as refusal:
                error, reason = refusal, refusal.reason
            lost = lost or reason in LOST
            passing = reason is not None and Failure(reason).status.name == "UNAVAILABLE"
            if not (lost and passing) or end - self._loop.time() <= pause:
                if delivery is None:
                    raise error or RefusedError(Reason.INTERNAL)
                return delivery
            log.info("sending the same bytes again", owner=sealed.header.owner, reason=reason and reason.name)
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    def _called(self, case: Prepared) -> str:
        return self.rows.get(case.case.key, "")

    async def recall(self, flights: Sequence[Flight]) -> None:
        """Look of which cases of these requests receipts were kept before the process ended that had sent them.

        Raises:
            FatalError: The receipts cannot be read.
        """
        requests = [sealed_pb2.SealedRequest.FromString(one.request) for one in flights]
        headers = [sealed_pb2.Header.FromString(one.header) for one in requests]
        if self._keeper is None or not headers:
            return
        first = min(header.issue_time.seconds for header in headers) - CLOCK_SECONDS
        for reference in {header.reference for header in headers}:
            self._kept |= await self._keeper.kept_cases(reference, first)

    async def _keep_landed(self, answered: Answered, cases: Sequence[Prepared]) -> bool:
        """Keep the receipts of a request that were not kept; whether all are, now.

        Raises:
            RefusedError: RECEIPT_NOT_KEPT, where no answer counts without.
        """
        if self._keeper is None:
            return False
        header = answered.sealed.header
        papers = [
            Paper(header.reference, self._called(case), build_receipt((answered,), index))
            for index, case in enumerate(cases)
            if (header.hash, index) not in self._kept
        ]
        kept = not papers or await self._keeper.keep_until(papers, self._loop.time() + MAX_LIFETIME, patient=True)
        if self._keeper.required and not kept:
            raise RefusedError(Reason.RECEIPT_NOT_KEPT)
        return kept

    async def land(self, flight: Flight, cases: Sequence[Prepared]) -> list[CaseResult] | None:
        """Send a request of a process that has ended again, and give what it asked.

        Args:
            flight: The request.
            cases: Its cases, with the claims that went to its owner, in its order.

        Returns:
            Results; None if its life is over, or the cases are others under the directory in force.

        Raises:
            RefusedError: RECEIPT_NOT_KEPT: it is answered, and to be sent again.
        """
        request = sealed_pb2.SealedRequest.FromString(flight.request)
        header = sealed_pb2.Header.FromString(request.header)
        context = SealingContext.restored(flight.owner, header.owner_key_id, request.enc, flight.secret)
        try:
            sealed = reopen(request, context)
        except RefusedError as error:
            log.warning("a request cannot be sent again", owner=flight.owner, reason=error.reason.name)
            return None
        # Where the clock was set back meanwhile, still no longer than a request can live.
        left = min(sealed.header.expire_time - self._clock(), MAX_LIFETIME)
        if left <= 0 or not _is_of(header, cases):
            return None
        try:
            delivery = await self._carry(sealed, left, bulk=True)
            outcome: PartOutcome
            if delivery.result.outcome == audit_pb2.OUTCOME_ANSWERED:
                outcome = check_answer(sealed, delivery)
            else:
                outcome = Failure(check_refusal(sealed, delivery))
        except RefusedError as error:
            outcome = Failure(error.reason)
        kept = isinstance(outcome, Answered) and await self._keep_landed(outcome, cases)
        return results(cases, [outcome], kept=kept)


def _reason(delivery: Delivery) -> Reason | None:
    """Why a delivery brings no answers; None if it does."""
    if delivery.result.outcome == audit_pb2.OUTCOME_ANSWERED:
        return None
    return Reason.__members__.get(delivery.result.reason, Reason.OWNER_FAILED)


def _is_of(header: sealed_pb2.Header, cases: Sequence[Prepared]) -> bool:
    """Whether cases, as they are prepared now, are what a header asks."""
    if len(cases) != header.cases or any(case.plan is not cases[0].plan or len(case.plan.parts) != 1 for case in cases):
        return False
    part = cases[0].plan.parts[0]
    return (
        part.owner == header.owner
        and list(part.header.slots) == list(header.slots)
        and list(part.header.claims) == list(header.claims)
    )
