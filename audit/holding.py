"""Holding and producing, from the side of who asks for it: every answer is believed once its entry is proved."""

from __future__ import annotations

from typing import Any, Final

from audit.asking import request_of
from audit.checkpoint import Checkpoint
from audit.holds import Hold
from audit.proofs import HeadChecker, check_entry
from audit.query import Query
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.errors import Reason, RefusedError

TIMEOUT: Final = 120.0
"""Seconds for one call: the keeper may have to read its whole log once, for the holds in it."""


class EvidenceClient:
    """Asks one log's keeper.

    Args:
        stub: Of the process that keeps it; None if nothing is asked.
        checker: Says which logs are welcome.
    """

    def __init__(self, stub: audit_pb2_grpc.EvidenceServiceStub | None, checker: HeadChecker) -> None:
        self._stub = stub
        self._checker = checker

    async def place(self, order: str, until: float, query: Query) -> tuple[Hold, int]:
        """Hold entries; the hold as it is recorded, and the index of its entry.

        Args:
            order: Number of the order.
            until: Seconds since the epoch; from then on it no longer holds.
            query: Which entries.

        Raises:
            RefusedError: PROOF_INVALID, or an error of the certificate.
            grpc.aio.AioRpcError: The call failed, or was refused.
        """
        request = audit_pb2.PlaceHoldRequest(order=order, conditions=request_of(query))
        request.until_time.FromMicroseconds(round(until * 1_000_000))
        entry, index, checkpoint = self._proved(await self._service.PlaceHold(request, timeout=TIMEOUT))
        hold = Hold.of_event(entry.hold_placed)
        if (hold.order, hold.until, hold.query) != (order, until, query):
            raise _other(checkpoint, "another hold than was asked for")
        return hold, index

    async def lift(self, order: str, department: str) -> int:
        """End a hold; the index of the entry that says so. Raises as `place`."""
        request = audit_pb2.LiftHoldRequest(order=order, department=department)
        entry, index, checkpoint = self._proved(await self._service.LiftHold(request, timeout=TIMEOUT))
        if entry.hold_lifted.order != order:
            raise _other(checkpoint, "another lifting than was asked for")
        return index

    async def holds(self) -> list[Hold]:
        """The holds in force, the earliest end first, as their keeper says."""
        response: audit_pb2.ListHoldsResponse = await self._service.ListHolds(
            audit_pb2.ListHoldsRequest(), timeout=TIMEOUT
        )
        return [Hold.of_event(placed) for placed in response.holds]

    async def produce(
        self, production: audit_pb2.EvidenceProduced
    ) -> tuple[audit_pb2.RecordProductionResponse, Checkpoint]:
        """Record a production; its entry and proof, verified, and the checkpoint of that. Raises as `place`."""
        request = audit_pb2.RecordProductionRequest(production=production)
        response: audit_pb2.RecordProductionResponse = await self._service.RecordProduction(request, timeout=TIMEOUT)
        entry, _, checkpoint = self._proved(response)
        recorded = entry.evidence_produced
        if (recorded.order, recorded.manifest_hash) != (production.order, production.manifest_hash):
            raise _other(checkpoint, "another production than was asked for")
        return response, checkpoint

    @property
    def _service(self) -> audit_pb2_grpc.EvidenceServiceStub:
        assert self._stub is not None  # noqa: S101 - of whoever builds an auditor that holds and produces
        return self._stub

    def _proved(self, response: Any) -> tuple[audit_pb2.Entry, int, Checkpoint]:
        checkpoint = self._checker.check(response.head)
        return check_entry(response.entry, checkpoint), response.entry.index, checkpoint


def _other(checkpoint: Checkpoint, what: str) -> RefusedError:
    return RefusedError(Reason.PROOF_INVALID, f"{checkpoint.origin}: it recorded {what}")
