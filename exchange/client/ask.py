"""Asking a running agent over its plain API, as any program of the department does. The other side of `agent.py`.

What an agent answered it has checked; nothing is checked again here, so it is asked on this machine only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import grpc
import structlog

from exchange.client.case import Case, CaseResult, Context
from exchange.client.messages import MOCKED, result_of, verify_request
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import TOLD, open_channel, refusal_of
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.server import is_local

TITLES_SECONDS = 5.0
"""For the titles of what was asked, which are a help to the eye and nothing more."""

log = structlog.get_logger(__name__)


class Told(NamedTuple):
    """What an agent answered.

    Attributes:
        result: Of the case.
        titles: Of the attributes that it asks about, in Chinese.
        mock: Whether a mock said so, and everything is invented.
    """

    result: CaseResult
    titles: dict[str, str]
    mock: bool


async def ask_agent(address: str, case: Case, context: Context, *, seconds: float, receipt: bool) -> Told:
    """One case. Of a mock, the log is warned, whether it answers or refuses.

    Args:
        address: "host:port" on loopback, or "unix:path".
        case: What is asked.
        context: Why; what is empty takes the agent's default.
        seconds: Until when it must be answered, from now.
        receipt: Whether a receipt is wanted.

    Raises:
        RefusedError: As the agent refused; INTERNAL: it failed, or no agent answers; RPC_NOT_ALLOWED for an address
            elsewhere, where the case would travel in clear.
    """
    if not is_local(address):
        raise RefusedError(
            Reason.RPC_NOT_ALLOWED, f"{address} is not on this machine, and the case would travel to it in clear"
        )
    async with open_channel(address, None) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        call = stub.Verify(verify_request(case, context, receipt=receipt), timeout=seconds)
        try:
            # Comes before a refusal, too.
            mock = MOCKED in tuple(await call.initial_metadata())
            if mock:
                log.warning("this is a mock: every answer is invented", agent=address)
            result = result_of((await call).result)
            owners = dict.fromkeys(_owner(one.claim) for one in result.claims)
            return Told(result, await _titles(stub, owners), mock)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.reason is Reason.HUB_UNREACHABLE and refusal.detail != TOLD:
                refusal = RefusedError(
                    Reason.INTERNAL, f"no agent answers at {address}; start one with: zhiwang agent run --profile …"
                )
            elif refusal.reason is Reason.INTERNAL and refusal.detail == TOLD:
                call_id = refusal.metadata.get("call_id", "unknown")
                refusal = RefusedError(
                    Reason.INTERNAL, f"the agent at {address} failed; its log says why, beside the call {call_id}"
                )
            raise refusal from None


def _owner(claim: str) -> str:
    return claim.rpartition(": ")[2].partition(".")[0]


async def _titles(stub: verification_pb2_grpc.VerificationServiceStub, owners: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}

    async def of(owner: str) -> None:
        token = ""
        while True:
            page = await stub.ListAttributes(
                verification_pb2.ListAttributesRequest(owner=owner, page_token=token), timeout=TITLES_SECONDS
            )
            found.update({one.name: one.title.zh for one in page.attributes})
            token = page.next_page_token
            if not token:
                return

    await asyncio.gather(*(of(owner) for owner in owners))
    return found
