"""The client SDK: ask about a case, get checked answers. The agent serves this same client over gRPC.

    async with await Client.open(load_profile(path)) as client:
        result = await client.verify(case, context)

One client is one system: its signing certificate signs and its TLS certificate connects. A roster runs in `roster.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from datetime import date
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

import grpc
import structlog

from audit.witnessed import PolicyInForce
from certs.credentials import IdentityFiles
from certs.expiry import Expiry, certificate_expiries
from certs.identity import ROOT_METADATA, Kind, server_name
from certs.signing import CertificateVerifier, Signer
from exchange.client.case import Case, CaseResult, Context, Subject
from exchange.client.check import Answered, Delivery, check_answer, check_refusal
from exchange.client.chunks import ChunkPlaces
from exchange.client.heads import Heads
from exchange.client.keeper import Keeper
from exchange.client.keys import OwnerKeys
from exchange.client.outcome import Failure, PartOutcome, results
from exchange.client.plan import Part, Prepared
from exchange.client.question import Posed, Question, Questions
from exchange.client.receipt import build_receipt
from exchange.client.receipt_rows import Paper
from exchange.client.report import OwnerReport, report_claims, told
from exchange.client.roster import run_roster
from exchange.client.seal import Sealed, seal
from exchange.client.transport import CONNECT_SECONDS, Carrier, Transport
from policy.authorise import local_date
from policy.directory import DirectoryClient, DirectoryHolder
from policy.expiries import directory_expiries
from policy.follower import Follower
from policy.model import Directory
from policy.source import directory_of
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2, exchange_pb2_grpc, sealed_pb2
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.channel import RenewableChannel, open_channel, refusal_of
from zhiwang.wire.errors import FatalError, Reason, RefusedError, ZhiwangError
from zhiwang.wire.header import SUITE
from zhiwang.wire.process import background, locked_state
from zhiwang.wire.profile import Profile

TIMEOUT = 10.0
"""Seconds that a verification may take, unless its caller says otherwise."""

MAX_TIMEOUT = 60.0
"""Seconds that one request may take: a sealed request lives no longer."""

MARGIN = 0.05
"""Seconds of a caller's time, at most, that are kept back for checking and returning."""

KEEP_MARGIN = 0.2
"""Seconds besides, at most, for keeping receipts."""

RETRY_PAUSE = 0.3
"""Seconds to wait before asking again, if the directory had nothing newer."""

RETRIED = frozenset({Reason.KEY_UNKNOWN, Reason.DIRECTORY_BEHIND, Reason.MATTER_CHANGED})
"""Refusals that pass by themselves: asked again once, under another header."""

KEYS_SECONDS = 5.0
"""How long fetching the owners' keys may take."""

MAX_BEHIND = 256
"""Calls that wait at once for a directory that is not here yet."""

MAX_BEHIND_EACH = 32
"""Of one caller of an agent."""

MAX_CHUNKS = 12
"""Chunks of all rosters that are being asked about at once; beyond, callers and rosters take turns."""

ASIDE_CASES = 16
"""Cases of a roster's chunk from which on it is sealed and checked beside the event loop, so that others have it."""

_NOT_YET = frozenset({Reason.HUB_UNREACHABLE, Reason.METADATA_INVALID})
"""Why there may be no directory at a start that passes by itself: a hub is down, or lies while the others are."""

_CHANNEL_OPTIONS = (("grpc.max_reconnect_backoff_ms", 1000),)

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Client:
    """One system that asks. Owned by the event loop; `open` makes it.

    Args:
        profile: Where the defaults come from.
        signer: Gives the system's signer in force.
        directory: The directory in force.
        refresh: Looks for a newer directory.
        transport: The way to the hub.
        keys: Owners' sealing keys.
        closing: What ends with the client.
        expiries: Gives what the client depends on that runs out.
        keeper: Keeps the receipts; None for a client that keeps none.
        hubs: Gives a channel to each hub, for calls beside the streams.
        clock: Seconds since the epoch.
        random: Gives random bytes.
    """

    keep_longer = 0.0
    """Seconds beyond its own that a verification may take to keep its receipts. A roster on a disk has time."""

    def __init__(
        self,
        *,
        profile: Profile,
        signer: Callable[[], Signer],
        directory: DirectoryHolder,
        refresh: Callable[[], Awaitable[None]],
        transport: Carrier,
        keys: OwnerKeys,
        closing: AsyncExitStack,
        expiries: Callable[[], Sequence[Expiry]] = tuple,
        keeper: Keeper | None = None,
        hubs: Callable[[], Sequence[grpc.aio.Channel]] = tuple,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.profile = profile
        self._signer = signer
        self._holder = directory
        self.witnesses = PolicyInForce(directory)
        """Gives whose cosignatures of the hub's log count, as last known; None if the centre names nobody."""
        self._refresh = refresh
        self.transport = transport
        self._keys = keys
        self._closing = closing
        self.expiries = expiries
        self._keeper = keeper
        self.hubs = hubs
        self._margin = MARGIN if keeper is None else MARGIN + KEEP_MARGIN
        self._clock = clock
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._questions = Questions(profile.defaults)
        self._behind: Counter[str] = Counter()  # calls that wait, by caller
        self._newer = asyncio.Event()
        directory.on_change(self._directory_changed)
        self._hour = -1
        self._today = date.min
        self.chunks = ChunkPlaces(MAX_CHUNKS)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="roster")
        self._closed = False

    @classmethod
    async def open(
        cls,
        profile: Profile,
        *,
        state: str = "client",
        patient: bool = False,
        keeper: Keeper | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Connect, and take up the directory.

        Args:
            profile: Who and where.
            state: Which folder of the profile's state directory is this client's alone.
            patient: Whether to go on without a directory until a hub can be reached; nothing is answered before.
            keeper: Keeps the receipts; closed by whoever opened it, after the client.
            clock: Seconds since the epoch.

        Raises:
            FatalError: Certificates, state or directory do not hold together, or another process uses the state.
            RefusedError: HUB_UNREACHABLE, if no hub can be reached and no directory is at hand from before.
        """
        files = IdentityFiles(profile.identity, profile.root)
        if files.identity.kind is not Kind.SYSTEM:
            raise FatalError(Reason.CERTIFICATE_INVALID, f"{files.identity.short} is no system; only systems ask")
        files.signer()
        if not profile.hub:
            raise FatalError(Reason.HUB_UNREACHABLE, f"{profile.path.name} names no hub")
        async with AsyncExitStack() as stack:
            own = profile.state / state
            if not profile.state.is_dir():
                raise FatalError(
                    Reason.INTERNAL, f"there is no state directory {profile.state}; make it with `zhiwang agent init`"
                )
            own.mkdir(mode=0o700, exist_ok=True)
            stack.enter_context(locked_state(own))
            holder = DirectoryHolder(clock)
            verifier = CertificateVerifier(files.ca_pem, holder.revoked)
            channels = {target: _channel(target, files) for target in profile.hub}
            for channel in channels.values():
                files.on_change(channel.renew)
                stack.push_async_callback(channel.close)
            heads = Heads(own, verifier, clock)
            stack.callback(heads.save)
            transport = Transport(channels, heads)
            stack.push_async_callback(transport.close)
            keys = OwnerKeys(partial(_statements, transport), verifier, clock)
            holder.on_change(lambda _directory: keys.forget())
            root_json = (profile.root / ROOT_METADATA).read_bytes()
            reader = DirectoryClient(root_json, files.ca_pem, own / "directory")
            follower = Follower(reader, holder, {name: directory_of(channel) for name, channel in channels.items()})
            await transport.ready(CONNECT_SECONDS)
            try:
                await follower.begin()
            except ZhiwangError as error:
                if not patient or error.reason not in _NOT_YET:
                    raise
                log.warning("no directory yet", reason=error.reason.name, detail=error.detail)
            for work in (
                follower.follow(),
                heads.keep(),
                heads.relate(lambda: transport.channels),
                files.watch(),
            ):
                stack.push_async_callback(_end, background(work))
            return cls(
                profile=profile,
                signer=files.signer,
                directory=holder,
                refresh=follower.look,
                transport=transport,
                keys=keys,
                closing=stack.pop_all(),
                expiries=lambda: [
                    *certificate_expiries(files),
                    *directory_expiries(holder.latest, files.identity.department),
                ],
                keeper=keeper,
                hubs=lambda: [channel.current for channel in channels.values()],
                clock=clock,
            )
        raise AssertionError("the stack swallows nothing")

    async def close(self) -> None:
        """End everything; who still waits is told SHUTTING_DOWN."""
        await self._closing.aclose()
        self._closed = True
        self._aside.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def directory(self) -> Directory:
        """The directory in force.

        Raises:
            RefusedError: DIRECTORY_EXPIRED.
        """
        return self._holder.current

    @property
    def fresh(self) -> bool:
        """Whether a directory is in force."""
        return self._holder.fresh

    def revoked(self) -> frozenset[int]:
        """Serials of certificates that are revoked, as last known."""
        return self._holder.revoked()

    async def verify(
        self,
        case: Case,
        context: Context,
        *,
        timeout: float = TIMEOUT,  # noqa: ASYNC109  the time goes into the sealed request, it does not only end the wait
        receipt: bool = False,
        caller: str = "",
    ) -> CaseResult:
        """Verify one case. What some owners could not answer does not spoil the others' answers.

        Args:
            case: About whom, and what.
            context: Why.
            timeout: Seconds, at most.
            receipt: Whether to build a receipt.
            caller: For whom this client speaks, if for several: what one of them waits for is bounded for itself.

        Raises:
            RefusedError: The case or the context cannot be asked at all; `field` says which part of it.
                RECEIPT_NOT_KEPT: the answer was withheld. DIRECTORY_BEHIND: the directory that the context names did
                not come in time.
        """
        timeout = await self._reach(context, timeout, caller)
        question = self._question(context)
        prepared = question.planner.prepare(case, question.today)
        (result,) = await self._ask(context, question, (prepared,), timeout, bulk=False, receipt=receipt)
        if result.reason is not None:
            raise RefusedError(result.reason)
        return result

    async def verify_many(
        self,
        cases: Iterable[Case] | AsyncIterable[Sequence[Case]],
        context: Context,
        *,
        timeout: float = MAX_TIMEOUT,  # noqa: ASYNC109  the same
        receipt: bool = False,
    ) -> AsyncGenerator[CaseResult]:
        """Verify a roster. Results come in any order, with their cases' keys.

        Cases are read no faster than results are taken. A case that cannot be asked has a result with its reason.

        Args:
            cases: Asynchronously, in batches of any size.
            context: Why; its reference is the job's.
            timeout: Seconds for each chunk of cases, at most.
            receipt: Whether to build receipts.

        Raises:
            RefusedError: The context cannot be asked under at all.
        """
        async with aclosing(self.verify_batches(cases, context, timeout=timeout, receipt=receipt)) as found:
            async for results in found:
                for result in results:
                    yield result

    async def verify_batches(
        self,
        cases: Iterable[Case] | AsyncIterable[Sequence[Case]],
        context: Context,
        *,
        timeout: float = MAX_TIMEOUT,  # noqa: ASYNC109  the same
        receipt: bool = False,
        caller: str = "",
    ) -> AsyncGenerator[Sequence[CaseResult]]:
        """As `verify_many`, as many results at a time as became ready together; `caller` as in `verify`."""
        await self._reach(context, timeout, caller)
        question = self._question(context)
        roster = object()

        def prepare(case: Case) -> Posed:
            # The directory may change within a long roster.
            nonlocal question
            if question.planner.directory is not self._holder.current:
                question = self._question(context)
            return question.prepare(case)

        async def ask(chunk: Sequence[Posed]) -> Sequence[CaseResult]:
            cases = [one.prepared for one in chunk]
            async with self.chunks.take(caller, roster):
                return await self._ask(context, chunk[0].question, cases, timeout, bulk=True, receipt=receipt)

        async with aclosing(run_roster(cases, prepare, ask)) as found:
            async for results in found:
                yield results

    async def report(self, subject: Subject, context: Context, *, timeout: float = MAX_TIMEOUT) -> list[OwnerReport]:  # noqa: ASYNC109  the same
        """Ask every owner who asked about somebody. An owner that does not tell is named, with why.

        Args:
            subject: In the slot of the matter for which reports are granted.
            context: Why; its reference is that of the citizen's request.
            timeout: Seconds, at most.

        Raises:
            RefusedError: The subject or the context cannot be asked about at all; `field` says which part of it.
        """
        timeout = await self._reach(context, timeout)
        question = self._question(context)
        slot = question.planner.matter.slots.get(subject.slot)
        if slot is None:
            raise RefusedError(Reason.SLOT_UNKNOWN, field="subjects[0].slot")
        claims = report_claims(question.planner.directory, subject.slot, slot.kind)
        case = Case((subject,), tuple(claim for claim in claims.values() if claim), report=True)
        if not case.claims:
            return [OwnerReport(owner, None, Reason.NOT_GRANTED) for owner in claims]
        prepared = question.planner.prepare(case, question.today)
        deadline = self._loop.time() + min(timeout, MAX_TIMEOUT) - MARGIN
        owners = [part.owner for part in prepared.plan.parts]
        outcomes = await asyncio.gather(
            *(
                self._ask_owner(context, question, index, (prepared,), deadline, bulk=False)
                for index in range(len(owners))
            )
        )
        found = dict(zip(owners, outcomes, strict=True))
        return [told(owner, found.get(owner, Failure(Reason.NOT_GRANTED))) for owner in claims]

    def check(self, context: Context) -> None:
        """Check a context without asking anything.

        Raises:
            RefusedError: As `verify`.
        """
        self._question(context)

    def _directory_changed(self, _directory: Directory) -> None:
        self._newer.set()
        self._newer = asyncio.Event()

    async def _reach(self, context: Context, seconds: float, caller: str = "") -> float:
        """Wait until the directory is here that the context names. Returns the seconds that are left.

        Raises:
            RefusedError: DIRECTORY_BEHIND: it did not come in time. OVERLOADED: too many wait already.
        """
        version = context.min_policy_version
        if version <= 0 or self._holder.current.version >= version:
            return seconds
        if caller and self._behind[caller] >= MAX_BEHIND_EACH:
            raise RefusedError(Reason.OVERLOADED, f"{MAX_BEHIND_EACH} calls of this caller wait for a newer directory")
        if self._behind.total() >= MAX_BEHIND:
            raise RefusedError(Reason.OVERLOADED, f"{MAX_BEHIND} calls wait for a newer directory")
        end = self._loop.time() + min(seconds, MAX_TIMEOUT)
        self._behind[caller] += 1
        try:
            async with asyncio.timeout_at(end - min(self._margin, seconds / 10)):
                while self._holder.current.version < version:
                    await self._newer.wait()
        except TimeoutError:
            raise RefusedError(Reason.DIRECTORY_BEHIND, field="context.min_policy_version") from None
        finally:
            self._behind[caller] -= 1
            self._behind += Counter()  # without those who wait for nothing
        return end - self._loop.time()

    def _question(self, context: Context) -> Question:
        now = self._clock()
        hour = int(now // 3600)
        if hour != self._hour:
            # The day in China begins on a full hour.
            self._hour, self._today = hour, local_date(now)
        return self._questions.question(context, self._holder.current, self._today)

    async def _ask(
        self,
        context: Context,
        question: Question,
        cases: Sequence[Prepared],
        seconds: float,
        *,
        bulk: bool,
        receipt: bool,
    ) -> list[CaseResult]:
        """Ask all owners about cases of one plan."""
        seconds = min(seconds, MAX_TIMEOUT)
        end = self._loop.time() + seconds
        deadline = end - min(self._margin, seconds / 10)
        parts = cases[0].plan.parts
        ask = [self._ask_owner(context, question, index, cases, deadline, bulk=bulk) for index in range(len(parts))]
        outcomes = [await ask[0]] if len(ask) == 1 else await asyncio.gather(*ask)
        receipts: dict[int, verification_pb2.Receipt] = {}
        if receipt or self._keeper is not None:
            answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
            if answered:
                receipts = await self._worked(partial(_receipts, answered, len(cases)), len(cases), bulk=bulk)
        kept = False
        if self._keeper is not None and receipts:
            reference = question.purpose.reference
            papers = [Paper(reference, self._called(cases[index]), one) for index, one in receipts.items()]
            kept = await self._keeper.keep_until(papers, end + self.keep_longer, patient=bulk)
            if self._keeper.required and not kept:
                return [CaseResult(one.case.key, reason=Reason.RECEIPT_NOT_KEPT) for one in cases]
        found = partial(results, cases, outcomes, receipts if receipt else None, kept=kept)
        return await self._worked(found, len(cases), bulk=bulk)

    async def _worked(self, work: Callable[[], T], cases: int, *, bulk: bool) -> T:
        """Do what takes long for many cases: a roster's aside, one after another, so that nobody waits for it here."""
        if not bulk or cases < ASIDE_CASES or self._closed:
            return work()
        return await self._loop.run_in_executor(self._aside, work)

    def _called(self, case: Prepared) -> str:
        """The caller's own key of a case, by which its kept receipt is told from others of one reference."""
        return case.case.key

    async def _ask_owner(
        self,
        context: Context,
        question: Question,
        index: int,
        cases: Sequence[Prepared],
        deadline: float,
        *,
        bulk: bool,
    ) -> PartOutcome:
        """Ask one owner; a second time if the first was built on what has changed meanwhile."""
        part = cases[0].plan.parts[index]
        if not part.known:
            # To the requester, what does not exist looks as what is forbidden.
            return Failure(Reason.NOT_GRANTED)
        again = False
        while True:
            try:
                outcome = await self._ask_once(question, part, cases, deadline, bulk=bulk)
            except RefusedError as error:
                if error.reason is Reason.PROOF_INVALID:
                    log.error("an answer was withheld", owner=part.owner, detail=error.detail)  # noqa: TRY400  no trace
                outcome = Failure(error.reason)
            if again or isinstance(outcome, Answered) or outcome.reason not in RETRIED:
                return outcome
            again = True
            log.info("asking again", owner=part.owner, reason=outcome.reason.name)
            newer = await self._renew(context, question, index, cases[0], deadline)
            if newer is None:
                return outcome
            question, part = newer

    async def _ask_once(
        self, question: Question, part: Part, cases: Sequence[Prepared], deadline: float, *, bulk: bool
    ) -> PartOutcome:
        if SUITE not in part.suites:
            return Failure(Reason.SUITE_NOT_ACCEPTED)
        context = self._keys.ready(part.owner)
        if context is None:
            try:
                async with asyncio.timeout_at(deadline):
                    context = await self._keys.context(part.owner)
            except TimeoutError:
                return Failure(Reason.DEADLINE_EXCEEDED)
        left = deadline - self._loop.time()
        if left <= 0:
            return Failure(Reason.DEADLINE_EXCEEDED)
        sealed = await self._worked(
            partial(
                seal,
                part,
                question.purpose,
                cases,
                context,
                self._signer(),
                now=self._clock(),
                lifetime=left,
                bulk=bulk,
                random=self._random,
            ),
            len(cases),
            bulk=bulk,
        )
        left = deadline - self._loop.time()
        if left <= 0:
            return Failure(Reason.DEADLINE_EXCEEDED)
        delivery = await self._deliver(sealed, cases, left, bulk=bulk)
        if delivery.result.outcome == audit_pb2.OUTCOME_ANSWERED:
            # What was seen of logs belongs to the event loop.
            delivery.frame.owner(delivery.owner_log, part.owner)
            return await self._worked(partial(check_answer, sealed, delivery), len(cases), bulk=bulk)
        reason = check_refusal(sealed, delivery)
        if reason is Reason.KEY_UNKNOWN:
            self._keys.spurn(part.owner, context.key_id)
        if reason is Reason.CLOCK_SKEW:
            log.error("clocks differ", milliseconds=delivery.result.clock_offset_ms)
        return Failure(reason)

    async def _deliver(self, sealed: Sealed, cases: Sequence[Prepared], seconds: float, *, bulk: bool) -> Delivery:
        """Send a request and wait for its result. A sweep keeps it first (`exchange/sweep/asking.py`)."""
        del cases
        return await self.transport.exchange(sealed.request, seconds, bulk=bulk, owner=sealed.header.owner)

    async def _renew(
        self, context: Context, question: Question, index: int, case: Prepared, deadline: float
    ) -> tuple[Question, Part] | None:
        """The same part under the newest directory; None if there is no time, or the case is another one there."""
        before = question.planner.directory
        try:
            async with asyncio.timeout_at(deadline):
                await self._refresh()
                if self._holder.current is before:
                    # Ours is the newest; a moment lets whoever is behind catch up, and us if it is we.
                    await asyncio.sleep(RETRY_PAUSE)
                if self._holder.current is before:
                    return question, case.plan.parts[index]
                newer = self._question(context)
                again = newer.planner.prepare(case.case, newer.today)
        except (TimeoutError, ZhiwangError):
            return None
        if again.labels != case.labels or again.plan.asked != case.plan.asked:
            return None
        return newer, again.plan.parts[index]


def _receipts(answered: Sequence[Answered], cases: int) -> dict[int, verification_pb2.Receipt]:
    return {index: build_receipt(answered, index) for index in range(cases)}


def _channel(target: str, files: IdentityFiles) -> RenewableChannel:
    name = server_name(files.identity.city, Kind.HUB)
    return RenewableChannel(
        lambda: open_channel(target, files.channel_credentials(), server_name=name, options=_CHANNEL_OPTIONS)
    )


async def _statements(transport: Transport) -> Iterable[sealed_pb2.OwnerKeyStatement]:
    """What is attached to any of the hubs. One that does not answer delays it, and spoils nothing."""
    channels = transport.channels
    seconds = KEYS_SECONDS / len(channels)
    outcomes = await asyncio.gather(
        *(
            exchange_pb2_grpc.ExchangeServiceStub(channel).GetOwnerKeys(
                exchange_pb2.GetOwnerKeysRequest(), timeout=seconds
            )
            for channel in channels
        ),
        return_exceptions=True,
    )
    answers = [one for one in outcomes if isinstance(one, exchange_pb2.GetOwnerKeysResponse)]
    if answers:
        return {key.SerializeToString(): key for answer in answers for key in answer.keys}.values()
    for outcome in outcomes:
        if isinstance(outcome, grpc.aio.AioRpcError):
            raise refusal_of(outcome)
    raise RefusedError(Reason.HUB_UNREACHABLE, "the channels were closed")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
