"""The agent: serves the client to the department's own programs, in any language, over the plain gRPC API.

It stands on the requester's premises. On its own machine it is called without TLS, over loopback or a Unix socket; from
elsewhere over mTLS only. Cases and results pass through memory; it keeps nothing of them but receipts, if its profile
says so (`keeper.py`).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, TypeVar

from certs.credentials import IdentityFiles
from certs.expiry import METRIC, METRIC_TEXT, ExpiryAlarms, certificate_expiries
from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.client.batches import Batches
from exchange.client.callers import Caller, Callers
from exchange.client.case import Case, CaseResult, Context
from exchange.client.client import MAX_TIMEOUT, TIMEOUT, Client
from exchange.client.completing import Completer, complete_kept
from exchange.client.keeper import Keeper, Missed
from exchange.client.messages import attribute_message, case_of, context_of, fitting, matter_message, result_message
from exchange.client.streams import OpenStreams
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire import metrics
from zhiwang.wire.call import LOCAL
from zhiwang.wire.call import Caller as AnyCaller
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.identity import Kind
from zhiwang.wire.process import Process, background
from zhiwang.wire.profile import Profile
from zhiwang.wire.readiness import Readiness
from zhiwang.wire.server import RpcRules, Server, build_server, current_peer, time_left

DEFAULT_LISTEN = "127.0.0.1:7441"

PAGE = 100
MAX_PAGE = 1000
"""Attributes or matters on a page: usually, and at most."""

RESULTS = 64
"""Results in one message of a batch, at most."""

STOP_GRACE = 10.0
"""Seconds that calls have to end when the agent stops."""

WATCH_SECONDS = 0.5
"""How often readiness is looked at."""

CALLERS: frozenset[AnyCaller] = frozenset({LOCAL, Kind.SYSTEM, Kind.AGENT})

RULES: RpcRules = {
    f"/zhiwang.verification.v1.VerificationService/{method}": CALLERS
    for method in ("Verify", "VerifyBatch", "SubmitBatch", "GetBatchResults", "ListAttributes", "ListMatters")
}
"""Who may call at all; which of them, the profile says."""

ServicerContext = Any
"""grpc.aio.ServicerContext, which carries no types."""

T = TypeVar("T")


class AgentMetrics:
    """What an agent counts: claims by status and reason, never by answer, and nothing of a case."""

    def __init__(self, client: Callable[[], Client], keeper: Keeper | None = None) -> None:
        self._claims = metrics.counter("zhiwang_agent_claims", "Claims settled, by status", ("status", "reason"))
        self._cases = metrics.counter("zhiwang_agent_cases", "Cases settled", ("reason",))
        metrics.gauge("zhiwang_agent_pending", "Requests at the hub").set_function(lambda: client().transport.pending)
        metrics.gauge("zhiwang_agent_connected", "Whether a hub takes requests").set_function(
            lambda: client().transport.connected
        )
        metrics.gauge("zhiwang_agent_hubs_serving", "Hubs that are reached and say that they serve").set_function(
            lambda: client().transport.serving
        )
        self._kept = metrics.counter("zhiwang_agent_receipts", "Cases whose receipts are kept")
        if keeper is not None:
            metrics.gauge("zhiwang_agent_receipts_waiting", "Receipts that wait for the disk").set_function(
                lambda: keeper.waiting
            )
            metrics.gauge("zhiwang_agent_receipts_failing", "Whether receipts cannot be kept").set_function(
                lambda: keeper.failing
            )

    def __call__(self, results: Sequence[CaseResult]) -> None:
        """Note settled cases."""
        for result in results:
            self._kept.inc(result.kept)
            self._cases.labels(result.reason.name if result.reason else "").inc()
            for claim in result.claims:
                self._claims.labels(claim.status.name, claim.reason.name if claim.reason else "").inc()


def count_missed() -> Callable[[Missed, int], None]:
    """A counter of receipts that are not kept, by why; whether their answers were withheld is the profile's to say."""
    counter = metrics.counter("zhiwang_agent_receipts_missed", "Receipts that are not kept", ("why",))
    kinds = {why: counter.labels(why.name.lower()) for why in Missed}
    return lambda why, count: kinds[why].inc(count)


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """The plain API over one client.

    Args:
        client: Of the system for which the agent speaks.
        callers: Who may call.
        batches: Those that were submitted.
        count: Told about settled cases.
    """

    def __init__(
        self,
        client: Client,
        callers: Callers,
        batches: Batches,
        count: Callable[[Sequence[CaseResult]], None] = lambda _results: None,
    ) -> None:
        self._client = client
        self._callers = callers
        self._batches = batches
        self._count = count
        self.streams = OpenStreams()

    async def Verify(  # noqa: N802  named by gRPC
        self, request: verification_pb2.VerifyRequest, context: ServicerContext
    ) -> verification_pb2.VerifyResponse:
        """One case."""
        caller = self._caller()
        asked = self._asked(caller, request.context)
        seconds = time_left(context, TIMEOUT if context.time_remaining() is None else MAX_TIMEOUT)
        if seconds <= 0:
            raise RefusedError(Reason.DEADLINE_EXCEEDED)
        try:
            result = await self._client.verify(
                case_of(request.case), asked, timeout=seconds, receipt=request.receipt, caller=caller.certificate
            )
        except RefusedError as error:
            if error.field and not error.field.startswith("context"):
                raise RefusedError(error.reason, error.detail, field=f"case.{error.field}") from None
            raise
        self._count((result,))
        return verification_pb2.VerifyResponse(result=result_message(result))

    async def VerifyBatch(  # noqa: N802  named by gRPC
        self, request_iterator: AsyncIterator[verification_pb2.VerifyBatchRequest], context: ServicerContext
    ) -> AsyncIterator[verification_pb2.VerifyBatchResponse]:
        """Many cases, read no faster than their results are taken."""
        del context
        caller = self._caller()
        with self.streams.hold(caller.certificate):
            first = await anext(aiter(request_iterator), None)
            if first is None:
                return
            peer = current_peer()

            async def batches() -> AsyncIterator[Sequence[Case]]:
                for part in _slices(first.cases):
                    yield [case_of(case) for case in part]
                async for request in request_iterator:
                    peer.check()
                    _same_purpose(first, request)
                    for part in _slices(request.cases):
                        yield [case_of(case) for case in part]

            asked = self._asked(caller, first.context)
            async with aclosing(self._counted(caller, batches(), asked, receipt=first.receipt)) as found:
                async for results in found:
                    for some in _slices(results):
                        rest = [result_message(result) for result in some]
                        while rest:
                            part = fitting(rest, RESULTS)
                            rest = rest[len(part) :]
                            yield verification_pb2.VerifyBatchResponse(results=part)

    async def SubmitBatch(  # noqa: N802  named by gRPC
        self, request: verification_pb2.SubmitBatchRequest, context: ServicerContext
    ) -> verification_pb2.SubmitBatchResponse:
        """Many cases at once."""
        del context
        caller = self._caller()
        asked = self._asked(caller, request.context)
        self._client.check(asked)
        cases = await asyncio.to_thread(lambda: [case_of(case) for case in request.cases])
        return verification_pb2.SubmitBatchResponse(
            batch_id=self._batches.submit(
                caller.certificate, len(cases), self._counted(caller, cases, asked, receipt=request.receipt)
            )
        )

    async def GetBatchResults(  # noqa: N802  named by gRPC
        self, request: verification_pb2.GetBatchResultsRequest, context: ServicerContext
    ) -> verification_pb2.GetBatchResultsResponse:
        """What is ready of a submitted batch."""
        del context
        return await self._batches.fetch(
            self._caller().certificate, request.batch_id, request.page_size, request.page_token
        )

    async def ListAttributes(  # noqa: N802  named by gRPC
        self, request: verification_pb2.ListAttributesRequest, context: ServicerContext
    ) -> verification_pb2.ListAttributesResponse:
        """What can be asked."""
        del context
        self._caller()
        found = {
            f"{attribute.owner}.{attribute.name}": attribute
            for department, document in self._client.directory.documents.items()
            if request.owner in {"", department}
            for attribute in document.attributes.values()
        }
        names, token = page(found, request.page_size, request.page_token)
        return verification_pb2.ListAttributesResponse(
            attributes=[attribute_message(found[name]) for name in names], next_page_token=token
        )

    async def ListMatters(  # noqa: N802  named by gRPC
        self, request: verification_pb2.ListMattersRequest, context: ServicerContext
    ) -> verification_pb2.ListMattersResponse:
        """For what one can ask."""
        del context
        self._caller()
        found = self._client.directory.matters
        names, token = page(found, request.page_size, request.page_token)
        return verification_pb2.ListMattersResponse(
            matters=[matter_message(found[name]) for name in names], next_page_token=token
        )

    def _caller(self) -> Caller:
        return self._callers.of(current_peer())

    def _asked(self, caller: Caller, context: verification_pb2.Context) -> Context:
        return caller.context(context_of(context), self._client.profile.defaults)

    async def _counted(
        self, caller: Caller, cases: Iterable[Case] | AsyncIterable[Sequence[Case]], context: Context, *, receipt: bool
    ) -> AsyncGenerator[Sequence[CaseResult]]:
        async with aclosing(
            self._client.verify_batches(cases, context, receipt=receipt, caller=caller.certificate)
        ) as found:
            async for results in found:
                self._count(results)
                yield results


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as are worked on before others have their turn."""
    return (items[start : start + RESULTS] for start in range(0, len(items), RESULTS))


def _same_purpose(first: verification_pb2.VerifyBatchRequest, later: verification_pb2.VerifyBatchRequest) -> None:
    """Refuse what would be asked, and recorded, under another purpose than the caller says."""
    if later.HasField("context") and later.context != first.context:
        raise RefusedError(Reason.REQUEST_MALFORMED, "the context changes within a batch", field="context")
    if later.receipt and not first.receipt:
        raise RefusedError(Reason.REQUEST_MALFORMED, "receipts are asked for within a batch", field="receipt")


def page(names: Iterable[str], size: int, token: str) -> tuple[list[str], str]:
    """Names of one page, in order, and the token of the next; a token is the last name before it.

    Raises:
        RefusedError: PAGE_TOKEN_INVALID.
    """
    if size < 0 or (token and not token.isprintable()):
        raise RefusedError(Reason.PAGE_TOKEN_INVALID)
    rest = sorted(name for name in names if name > token)
    found = rest[: min(size or PAGE, MAX_PAGE)]
    return found, found[-1] if len(found) < len(rest) else ""


def assemble(
    client: Client,
    batches: Batches,
    count: Callable[[Sequence[CaseResult]], None] = lambda _results: None,
    observe: metrics.RpcMetrics | None = None,
    city: str | None = None,
    announce: Sequence[tuple[str, str]] = (),
) -> Server:
    """An agent's server over a client that is open.

    Args:
        client: Of the system for which it speaks.
        batches: Those that are submitted.
        count: Told about settled cases.
        observe: Told about each finished RPC.
        city: Of callers with certificates; None for local callers only.
        announce: Metadata that every call gets before its response.
    """
    servicer = VerificationServicer(client, Callers(client.profile.agent.caller), batches, count)
    return build_server(
        ((verification_pb2_grpc.add_VerificationServiceServicer_to_server, servicer),),
        RULES,
        city=city,
        revoked=client.revoked,
        readiness=Readiness(("directory", "hub")),
        observe=observe,
        announce=announce,
    )


async def main(profile: Profile, process: Process) -> None:
    """Run an agent until the process is told to stop.

    Raises:
        ZhiwangError: It cannot start.
    """
    files = agent_files(profile)
    async with AsyncExitStack() as stack:
        keeper = Keeper.open(profile, missed=count_missed())
        if keeper is not None:
            stack.push_async_callback(keeper.close)
        client = await stack.enter_async_context(await Client.open(profile, patient=True, keeper=keeper))
        if keeper is not None:
            _keep(stack, keeper.purge_hourly(lambda: client.fresh))
            _keep(stack, completing(client, keeper, profile.root))
        batches = Batches(asyncio.get_running_loop().time)
        stack.push_async_callback(batches.close)
        city = files.identity.city if files is not None else None
        server = assemble(client, batches, AgentMetrics(lambda: client, keeper), metrics.RpcMetrics(), city)
        address = server.listen(profile.listen or DEFAULT_LISTEN, None)
        address_tls = None
        if files is not None and profile.agent.listen_tls is not None:
            address_tls = server.listen(profile.agent.listen_tls, files.server_credentials())
            _keep(stack, files.watch())
        served = metrics.MetricsServer(profile.metrics) if profile.metrics is not None else None
        if served is not None:
            stack.callback(served.close)
        _keep(stack, watch(client, server.readiness))
        alarms = ExpiryAlarms(
            lambda: [*client.expiries(), *(() if files is None else certificate_expiries(files))],
            time.time,
            metrics.gauge(METRIC, METRIC_TEXT, ("use",)),
        )
        _keep(stack, alarms.watch())
        await server.start()
        process.announce(listen=address, listen_tls=address_tls, metrics=served.address if served is not None else None)
        # What lives from here to the end needs no looking at by the garbage collector.
        gc.freeze()
        await process.stopping.wait()
        await server.stop(STOP_GRACE)


async def completing(client: Client, keeper: Keeper, root: Path) -> None:
    """Give the receipts that are kept their cosignatures; runs until it is cancelled."""
    verifier = CertificateVerifier((root / CA_CERTIFICATE).read_bytes(), client.revoked)
    completer = Completer(lambda: list(map(audit_pb2_grpc.AuditServiceStub, client.hubs())), verifier, time.time)
    counter = metrics.counter("zhiwang_agent_receipts_cosigned", "Kept receipts that gained cosignatures")
    await complete_kept(keeper, completer, client.witnesses, time.time, counter.inc)


def agent_files(profile: Profile) -> IdentityFiles | None:
    """The agent's own certificates, with which it serves other machines; None if it does not.

    Raises:
        FatalError: CERTIFICATE_INVALID.
    """
    if profile.agent_identity is None:
        return None
    files = IdentityFiles(profile.agent_identity, profile.root)
    if files.identity.kind is not Kind.AGENT:
        raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no agent; `listen_tls` needs one")
    return files


async def watch(client: Client, readiness: Readiness) -> None:
    """Tell whether the agent can serve; runs until it is cancelled."""
    while True:
        await readiness.set("directory", holds=client.fresh)
        await readiness.set("hub", holds=client.transport.connected)
        await asyncio.sleep(WATCH_SECONDS)


def _keep(stack: AsyncExitStack, work: Any) -> None:
    task = background(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
