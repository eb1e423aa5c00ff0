"""Hubs that share a log are killed, frozen and stopped while people ask and a roster runs; nobody notices but the log.

Three hubs over one PostgreSQL, real adapters, one agent. Callers keep every receipt. Afterwards the one log of the hubs
and the owners' logs are read and held against them, entry by entry: what was answered stands in both, once at its
owner, and no owner has recorded what nobody got. The long form:
`ZHIWANG_HUBS_ROUNDS=20 pytest tests/fault/test_hubs_under_load.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import grpc
import pytest

from audit.auditor import ReadLog
from breaking_support import INSURED, PARENT, case, context
from certs.identity import CA_CERTIFICATE, Kind
from certs.signing import CertificateVerifier
from exchange.client.receipt_verify import verify_receipt
from exchange.demo.auditing import read_log
from exchange.demo.build import CENTRE
from hubs_support import SharedCity, ThreeHubs, hub_entries, shared_city
from log_places import PostgresDatabase
from servers import Postgresql
from zhiwang.audit.v1 import audit_pb2
from zhiwang.verification.v1 import verification_pb2 as api
from zhiwang.verification.v1 import verification_pb2_grpc

OWNERS = ("health", "hrss")
ROUNDS = int(os.environ.get("ZHIWANG_HUBS_ROUNDS", "1"))
CALLERS = 6
SECONDS = 50.0
"""How long a caller waits; on a machine that is busy with something else, too."""

WAIT = 60.0
"""For a condition, at most."""

ANSWERS = 40
"""That callers get between two blows."""

SHARE = 0.5
"""Of an equal share of the answers, what each hub has at least."""

MEASURED = 150
"""Answers over which the shares are measured."""

pytestmark = pytest.mark.timeout(300 + ROUNDS * 120)


@pytest.fixture(scope="module")
def place(own_postgresql: Postgresql) -> PostgresDatabase:
    return PostgresDatabase(own_postgresql)


@pytest.fixture(scope="module")
def city(place: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCity]:
    with shared_city(ThreeHubs, place, tmp_path_factory.mktemp("hubs"), OWNERS) as city:
        yield city


@dataclass
class Callers:
    """Six people at counters and one roster without an end, all at one agent.

    Attributes:
        receipts: Of every answer at a counter, and of one case of each chunk of the roster.
        troubles: Why claims were not answered, and how calls failed.
        cases: Of the roster, that were answered.
    """

    city: SharedCity
    receipts: list[api.Receipt] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    _asked: set[tuple[bytes, ...]] = field(default_factory=set)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with self.city.agent_stub() as stub, asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._interactive(stub, stop, number))
            group.create_task(self._roster(stub, stop))
            try:
                yield
            finally:
                stop.set()

    async def _interactive(
        self, stub: verification_pb2_grpc.VerificationServiceStub, stop: asyncio.Event, number: int
    ) -> None:
        application = random.Random(number).choice(self.city.applications)  # noqa: S311 - no secret
        request = api.VerifyRequest(
            context=context(application), case=case(application, [PARENT, INSURED]), receipt=True
        )
        while not stop.is_set():
            try:
                response = await stub.Verify(request, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                self.troubles[error.code().name] += 1
                await asyncio.sleep(0.05)
            else:
                self._note(response.result)

    async def _roster(self, stub: verification_pb2_grpc.VerificationServiceStub, stop: asyncio.Event) -> None:
        applications = [one for one in self.city.applications if one.district == self.city.applications[0].district]
        # Cases that are under way, at most: the roster asks as fast as it is answered.
        room = asyncio.Semaphore(300)

        async def requests() -> AsyncIterator[api.VerifyBatchRequest]:
            first = True
            number = 0
            while not stop.is_set():
                cases = []
                for _ in range(30):
                    await room.acquire()
                    number += 1
                    cases.append(case(applications[number % len(applications)], [PARENT, INSURED], key=str(number)))
                message = api.VerifyBatchRequest(cases=cases, receipt=True)
                if first:
                    message.context.CopyFrom(context(applications[0]))
                    first = False
                yield message

        async for response in stub.VerifyBatch(requests()):
            for result in response.results:
                room.release()
                self.cases += self._note(result)

    def _note(self, result: api.CaseResult) -> bool:
        self.troubles.update(one.reason for one in result.claims if one.reason)
        answered = all(one.status == api.CLAIM_STATUS_ANSWERED for one in result.claims)
        if result.HasField("receipt"):
            asked = tuple(part.request.signature for part in result.receipt.parts)
            if asked not in self._asked:  # cases of one chunk share their requests
                self._asked.add(asked)
                self.receipts.append(result.receipt)
        return answered

    async def more(self, number: int = ANSWERS) -> None:
        """Until callers have so many more answers, and the roster moves too."""
        receipts, cases = len(self.receipts) + number, self.cases + 1
        await until(lambda: len(self.receipts) >= receipts and self.cases >= cases)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.05)


def heard_nothing(city: SharedCity) -> int:
    """How often the agent has left a hub that did not answer."""
    return city.fleet.log("agent").read_text("utf-8").count("hub does not answer")


def heard_nothing_since(city: SharedCity, before: int) -> bool:
    return heard_nothing(city) > before


def answered_by(city: SharedCity, place: str) -> float:
    pattern = r'^zhiwang_hub_requests_total\{outcome="OUTCOME_ANSWERED".*\} (\S+)$'
    found = re.findall(pattern, city.metrics(place), re.MULTILINE)
    return sum(map(float, found))


async def shares(city: SharedCity, callers: Callers) -> dict[str, float]:
    """Which part of the answers went by each hub."""
    before = {hub: await asyncio.to_thread(answered_by, city, hub) for hub in city.hubs}
    await callers.more(MEASURED)
    after = {hub: await asyncio.to_thread(answered_by, city, hub) - before[hub] for hub in city.hubs}
    return {hub: number / sum(after.values()) for hub, number in after.items()}


async def is_busy(city: SharedCity, hub: str) -> None:
    """Until a hub that came back answers requests again."""
    async with asyncio.timeout(WAIT):
        while not await city.serving(hub):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.1)
    await asyncio.to_thread(city.announced, hub)
    before = await asyncio.to_thread(answered_by, city, hub)
    async with asyncio.timeout(WAIT):
        while await asyncio.to_thread(answered_by, city, hub) <= before:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.1)


def reconcile(city: SharedCity, place: PostgresDatabase, callers: Callers) -> Counter[str]:
    """Hold receipts, the hubs' log and the owners' logs against each other. Returns outcomes in the hubs' log."""
    verifier = CertificateVerifier((city.layout.root / CA_CERTIFICATE).read_bytes(), frozenset)
    asked = set()
    for receipt in callers.receipts:
        verify_receipt(receipt, verifier)
        asked |= {sha256(part.request.header).digest() for part in receipt.parts}
    accesses = [entry.hub_access for entry in hub_entries(place) if entry.WhichOneof("event") == "hub_access"]
    passed = {sha256(one.header).digest() for one in accesses if one.outcome == audit_pb2.OUTCOME_ANSWERED}
    recorded: list[bytes] = []
    for owner in OWNERS:
        events = [entry for entry in city.entries(owner) if entry.WhichOneof("event") == "owner_access"]
        recorded += [sha256(entry.owner_access.header).digest() for entry in events]
    assert not asked - passed, "answered, and not in the hubs' log"
    assert not asked - set(recorded), "answered, and not in its owner's log"
    assert not set(recorded) - asked, "recorded at an owner under a header that nobody got an answer to"
    assert len(recorded) == len(set(recorded)), "answered twice by an owner"
    return Counter(audit_pb2.Outcome.Name(one.outcome) for one in accesses)


async def test_hubs_are_killed_frozen_and_stopped_and_no_caller_notices(
    city: SharedCity, place: PostgresDatabase
) -> None:
    callers = Callers(city)
    seen = []
    async with callers.asking():
        for hub in city.hubs:
            await is_busy(city, hub)
        seen.append(await shares(city, callers))
        for _ in range(ROUNDS):
            city.fleet.kill("hub")
            await callers.more()
            city.start("hub")
            await is_busy(city, "hub")

            silences = heard_nothing(city)
            city.fleet.signal("second", signal.SIGSTOP)
            # Others go elsewhere at once, and what it holds as soon as it is known to hang.
            await callers.more()
            await until(partial(heard_nothing_since, city, silences))
            await callers.more()
            city.fleet.signal("second", signal.SIGCONT)
            await is_busy(city, "second")

            assert await asyncio.to_thread(city.fleet.end, "third") == 0
            await callers.more()
            city.start("third")
            await is_busy(city, "third")
        seen.append(await shares(city, callers))
    assert not callers.troubles, "a caller saw what an agent had to see alone"
    assert len(callers.receipts) > ANSWERS * 4 * ROUNDS
    outcomes = reconcile(city, place, callers)
    assert outcomes["OUTCOME_ANSWERED"] > ANSWERS
    for found in seen:
        assert min(found.values()) >= SHARE / len(city.hubs), f"load is not spread: {found}"
    logs = [await _log(city, hub) for hub in city.hubs]
    assert len({(log.checkpoint.origin, log.events["hub_access"]) for log in logs}) == 1


async def _log(city: SharedCity, hub: str) -> ReadLog:
    """A hub's own showing of the log, verified from its first entry to its signed checkpoint."""
    return await read_log(city.hub_address_of(hub), Kind.HUB, CENTRE, city.auditor)
