"""Processes are killed, frozen and starved while people ask, and nothing is answered that is not recorded.

Callers keep every answer that they got with its receipt; afterwards each must stand in the owner's log and in the
hub's. The long form: `ZHIWANG_KILL_ROUNDS=60 pytest tests/fault/test_kill.py -k sigkill --timeout 3600`.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import grpc
import pytest

from breaking_support import INSURED, PARENT, Forge, Forged, RealCity, altered, case, context, exchange
from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.client.receipt_verify import verify_receipt
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import exchange_pb2
from zhiwang.verification.v1 import verification_pb2 as api

OWNERS = ("health", "hrss")
ROUNDS = int(os.environ.get("ZHIWANG_KILL_ROUNDS", "3"))
CALLERS = 6
SECONDS = 8.0
"""How long a caller waits."""

pytestmark = pytest.mark.timeout(max(180, ROUNDS * 30))


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCity]:
    city = RealCity.build(tmp_path_factory.mktemp("kill"), OWNERS)
    yield city
    city.stop()


@pytest.fixture(autouse=True)
def whole(city: RealCity) -> None:
    """No test stands in for what another has left undone."""
    dead = [place for place in city.places if city.fleet.poll(place) is not None]
    for place in dead:
        city.start(place)
    if dead:
        city.wait_ready()


@dataclass
class Callers:
    """People at counters, who ask one question after the other.

    Attributes:
        receipts: Of every answer that anybody got.
        raw: Answers that came over the hub's own API: the request and its result.
        reasons: Of what was not answered.
    """

    city: RealCity
    receipts: list[api.Receipt] = field(default_factory=list)
    raw: list[tuple[Forged, exchange_pb2.ExchangeResult]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        forge = Forge(self.city, keys=await self.city.owner_keys())
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._ask_agent(stop, number))
            group.create_task(self._ask_hub(stop, forge))
            try:
                yield
            finally:
                stop.set()

    async def _ask_agent(self, stop: asyncio.Event, number: int) -> None:
        while not stop.is_set():
            application = random.Random(number).choice(self.city.applications)  # noqa: S311 - no secret
            request = api.VerifyRequest(
                context=context(application), case=case(application, [PARENT, INSURED]), receipt=True
            )
            try:
                async with self.city.agent_stub() as stub:
                    response = await stub.Verify(request, timeout=SECONDS)
            except grpc.aio.AioRpcError as error:
                self.reasons[error.code().name] += 1
                await asyncio.sleep(0.05)
                continue
            except AssertionError:
                # The agent has been killed and has not announced itself again.
                await asyncio.sleep(0.05)
                continue
            answered = any(one.status == api.CLAIM_STATUS_ANSWERED for one in response.result.claims)
            assert answered == response.result.HasField("receipt")
            self.reasons.update(one.reason for one in response.result.claims if one.reason)
            if answered:
                self.receipts.append(response.result.receipt)

    async def _ask_hub(self, stop: asyncio.Event, forge: Forge) -> None:
        async with self.city.hub_channel() as channel:
            while not stop.is_set():
                subject = self.city.applications[0].guardians[0].person
                sealed = forge.request(
                    "hrss", [INSURED], [{"guardian": (subject.identifier, subject.name)}], expires=59
                )
                try:
                    response = await exchange(channel, sealed.request, seconds=SECONDS)
                except grpc.aio.AioRpcError as error:
                    self.reasons[error.code().name] += 1
                    await asyncio.sleep(0.05)
                    continue
                if response.result.outcome == audit_pb2.OUTCOME_ANSWERED:
                    self.raw.append((sealed, response.result))
                else:
                    self.reasons[response.result.reason] += 1
                    await asyncio.sleep(0.02)

    def check(self) -> None:
        """Every answer has its entry at the owner and at the hub, and is what the owner's entry commits to."""
        hub = {
            sha256(entry.hub_access.header).digest(): entry.hub_access
            for entry in self.city.entries("hub")
            if entry.hub_access.outcome == audit_pb2.OUTCOME_ANSWERED
        }
        owners = {
            owner: {
                sha256(entry.owner_access.header).digest(): entry.owner_access for entry in self.city.entries(owner)
            }
            for owner in OWNERS
        }
        verifier = CertificateVerifier((self.city.layout.root / CA_CERTIFICATE).read_bytes(), frozenset)
        for receipt in self.receipts:
            verify_receipt(receipt, verifier)
            for part in receipt.parts:
                _check(hub, owners, part.request.header)
        for sealed, result in self.raw:
            _check(hub, owners, sealed.request.header)
            assert sealed.answers(result.reply).outcomes


def _check(
    hub: Mapping[bytes, audit_pb2.HubAccess], owners: Mapping[str, Mapping[bytes, audit_pb2.OwnerAccess]], header: bytes
) -> None:
    digest = sha256(header).digest()
    assert digest in hub, "answered, and not in the hub's log"
    owner = next((entries[digest] for entries in owners.values() if digest in entries), None)
    assert owner is not None, "answered, and not in the owner's log"
    assert (hub[digest].sealed_hash, hub[digest].request_root) == (owner.sealed_hash, owner.request_root)


async def test_sigkill_at_any_moment_never_yields_an_answer_without_its_entries(city: RealCity) -> None:
    chance = random.Random(os.environ.get("ZHIWANG_SEED"))  # noqa: S311 - moments of death
    callers = Callers(city)
    victims = ["hub", "hrss", "agent"] * (ROUNDS // 3 + 1)
    for number, victim in enumerate(victims[:ROUNDS]):
        before = len(callers.receipts) + len(callers.raw)
        async with callers.asking():
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            city.fleet.kill(victim)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            city.start(victim)
            if number % 2:
                # It is hit again before it stands.
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                city.fleet.kill(victim)
                city.start(victim)
            # Without anybody's help: whatever the killed one has left behind.
            await city.ready()
            served = len(callers.receipts)
            async with asyncio.timeout(20):
                while len(callers.receipts) < served + 2:  # noqa: ASYNC110 - counted by other tasks
                    await asyncio.sleep(0.02)
        assert len(callers.receipts) + len(callers.raw) > before
        callers.check()
        for place in ("hub", *OWNERS):
            assert (await city.verified(place)).checkpoint.size >= len(city.entries(place)) - 50
    assert callers.receipts
    assert callers.raw
    # Nobody was told anything but "not now".
    assert set(callers.reasons) <= {
        "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "OWNER_NOT_ATTACHED", "OWNER_FAILED", "OWNER_TIMED_OUT",
        "HUB_UNREACHABLE", "KEY_UNKNOWN", "SHUTTING_DOWN", "DIRECTORY_EXPIRED", "LOG_UNAVAILABLE",
    }, callers.reasons  # fmt: skip


@pytest.mark.parametrize("victims", [("hrss",), ("hub",), ("hub", "hrss")])
async def test_a_replay_after_a_kill_gives_the_same_answer_and_charges_once(
    city: RealCity, victims: Sequence[str]
) -> None:
    forge = Forge(city, keys=await city.owner_keys())
    party = city.applications[len(victims)].guardians[0]
    sealed = forge.request(
        "hrss", [INSURED], [{"guardian": (party.person.identifier, f"某{len(victims)}{victims[0]}")}], expires=59
    )
    async with city.hub_channel() as channel:
        first = (await exchange(channel, sealed.request)).result
    assert first.outcome == audit_pb2.OUTCOME_ANSWERED
    charged, traced = city.count("hrss", "guess"), city.count("hrss", "trace")
    for victim in victims:
        city.fleet.kill(victim)
    for victim in victims:
        city.start(victim)
    await city.ready()
    async with city.hub_channel() as channel:
        again = (await exchange(channel, sealed.request)).result
    assert again.outcome == audit_pb2.OUTCOME_ANSWERED, again.reason
    assert again.reply == first.reply
    assert again.owner_entry.entry == first.owner_entry.entry
    assert (city.count("hrss", "guess"), city.count("hrss", "trace")) == (charged, traced)


async def ask(city: RealCity, seconds: float = SECONDS) -> dict[str, set[str]]:
    """Statuses and reasons by owner."""
    application = city.applications[1]
    request = api.VerifyRequest(context=context(application), case=case(application, [PARENT, INSURED]))
    async with city.agent_stub() as stub:
        response = await stub.Verify(request, timeout=seconds)
    found: dict[str, set[str]] = {"health": set(), "hrss": set()}
    for claim in response.result.claims:
        owner = "health" if "health." in claim.claim else "hrss"
        found[owner].add(claim.reason or api.ClaimStatus.Name(claim.status))
    return found


ANSWERED = {"CLAIM_STATUS_ANSWERED"}


async def answered_again(city: RealCity) -> None:
    async with asyncio.timeout(30):
        while await ask(city) != {"health": ANSWERED, "hrss": ANSWERED}:  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.1)


async def test_an_adapter_that_is_down_leaves_the_other_owners_claims_answered(city: RealCity) -> None:
    await answered_again(city)
    city.fleet.kill("hrss")
    try:
        start = time.monotonic()
        found = await ask(city)
        assert found["health"] == ANSWERED
        assert found["hrss"] <= {"OWNER_NOT_ATTACHED", "OWNER_FAILED"}
        assert time.monotonic() - start < SECONDS
    finally:
        city.start("hrss")
        await city.ready()
    await answered_again(city)


async def test_an_adapter_that_is_frozen_makes_its_claims_unavailable_within_the_deadline(city: RealCity) -> None:
    await answered_again(city)
    city.fleet.signal("hrss", signal.SIGSTOP)
    try:
        start = time.monotonic()
        found = await ask(city, 2.0)
        assert found["health"] == ANSWERED
        assert found["hrss"] <= {"OWNER_TIMED_OUT", "DEADLINE_EXCEEDED", "OWNER_NOT_ATTACHED"}
        assert time.monotonic() - start < 2.0
    finally:
        city.fleet.signal("hrss", signal.SIGCONT)
    await answered_again(city)


@pytest.mark.parametrize("place", ["hub", "hrss"])
async def test_a_disk_that_takes_nothing_more_means_that_nothing_is_answered(city: RealCity, place: str) -> None:
    await answered_again(city)
    await city.until_serving(place, serving=True)
    pid = city.fleet.pids[place]
    forge = Forge(city, keys=await city.owner_keys())
    subject = city.applications[2].guardians[0].person.identifier
    recorded, size = len(city.entries(place)), (await city.verified(place)).checkpoint.size
    # Writes beyond this offset of any file fail, those of the process's own log of operation too.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    try:
        for _ in range(3):
            found = await ask(city)
            assert "CLAIM_STATUS_ANSWERED" not in found["hrss"]
            if place == "hub":
                assert "CLAIM_STATUS_ANSWERED" not in found["health"]
            else:
                assert found["health"] == ANSWERED
            # Nor does anything leave for a caller that would not look for proofs.
            async with city.hub_channel() as channel:
                result = (
                    await exchange(channel, forge.request("hrss", [INSURED], [{"guardian": subject}]).request)
                ).result
            assert result.reason == "LOG_UNAVAILABLE"
            assert not result.HasField("reply")
        await city.until_serving(place, serving=False)
        assert len(city.entries(place)) <= recorded + 2
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # It comes back by itself, and its log still holds from the first entry on.
    await city.until_serving(place, serving=True, seconds=30)
    await answered_again(city)
    assert (await city.verified(place)).checkpoint.size > size
    assert city.fleet.pids[place] == pid


async def test_a_database_that_is_gone_makes_claims_unavailable_and_readiness_fall_until_it_returns(
    city: RealCity,
) -> None:
    await answered_again(city)
    database = city.layout.database("hrss")
    with altered(database, "ALTER TABLE person RENAME TO away", "ALTER TABLE away RENAME TO person"):
        assert await ask(city) == {"health": ANSWERED, "hrss": {"DATABASE_UNAVAILABLE"}}
        await city.until_serving("hrss", serving=False)
    await answered_again(city)
    await city.until_serving("hrss", serving=True)


async def test_what_a_killed_process_leaves_behind_blocks_nobody(city: RealCity) -> None:
    """A stale address and lock, a half-written file of the same name, and a pid that belongs to somebody else."""
    await answered_again(city)
    for place in ("hub", "hrss", "agent"):
        city.fleet.kill(place)
        state = city.layout.state(place)
        assert (state / "address.json").exists()
        (state / "address.json").write_text('{"listen": "127.0.0.1:1", "pid": 1', "utf-8")
        (state / ".address.json.1").write_text("{", "utf-8")
        city.start(place)
    await city.ready()
    await answered_again(city)
