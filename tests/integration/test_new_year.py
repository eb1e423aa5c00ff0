"""Hub, owners, agents and auditors while their logs' year turns: nobody loses an answer, and nobody is fooled.

The year turns when a test says so (`turn`): the year of a first log is then over, and its successor is of the year that
it is. Nothing else of any clock is moved.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import policy_support
from audit.auditor import Auditor
from audit.entry import decode_entry
from audit.origins import year_at
from audit.proofs import HeadChecker
from audit.query import Query
from audit.service import prove_consistency
from audit.yearly import YearlyLog
from certs.signing import CertificateVerifier
from city_support import OneVoice, RunningCity, running_city
from exchange.client.case import Answer, CaseResult
from exchange.client.client import Client
from exchange.client.receipt_verify import verify_receipt
from hub_support import Owner, Reply
from log_places import Place, PostgresDatabase, SqliteFile
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.identity import Kind

AUDITOR = f"{policy_support.OPERATOR}/auditor/one"


def process(self: Owner, frame: adapter_pb2.RequestFrame) -> Reply:
    """As `Owner.process`, in the log of the year."""
    log = YearlyLog.adopt(self.log)  # type: ignore[attr-defined]  # set below
    done = [self._process(item) for item in frame.items]
    with log.transaction() as connection:
        appended = log.append(connection, [log.new_entry(event) for event, _ in done])
    log.committed(appended)
    head, logged = log.frame([appended], frame.known_tree_size, frame.known_origin)
    reply = Reply(log=head)
    for item, (_, sealed), entry in zip(frame.items, done, logged, strict=True):
        reply.items.add(correlation_id=item.correlation_id, reply=sealed, entry=entry)
    return reply


def relate(self: Owner, old_size: int, new_size: int) -> adapter_pb2.Related:
    """As `Owner.relate`, in the log that the hub asks about."""
    proof = prove_consistency(self.log, old_size, new_size, self.asked_origin)  # type: ignore[attr-defined]  # set below
    return adapter_pb2.Related(old_size=old_size, new_size=new_size, origin=self.asked_origin, proof=proof)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where the hub's log stands."""
    in_file = request.param == "sqlite"
    place = SqliteFile(tmp_path / "log.db") if in_file else PostgresDatabase(request.getfixturevalue("postgresql"))
    yield place
    place.drop()


@pytest.fixture
async def city(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningCity]:
    monkeypatch.setattr(OneVoice, "process", process)
    monkeypatch.setattr(OneVoice, "relate", relate)
    async with running_city(tmp_path, log=place) as city:
        for owner in city.owners.values():
            owner.log = YearlyLog.adopt(owner.store)  # type: ignore[attr-defined]  # for `process`
        yield city


def turn(log: YearlyLog) -> str:
    """The year of a first log is over. The origin of the next one."""
    log._ends = 0.0
    return f"{log.log}/{year_at(log._clock())}"


def logs(city: RunningCity) -> list[YearlyLog]:
    return [city.hub.up.store, *(owner.log for owner in city.owners.values())]  # type: ignore[attr-defined]  # set above


async def work(
    client: Client, city: RunningCity, numbers: itertools.count[int], until: asyncio.Event
) -> list[CaseResult]:
    results = []
    while not until.is_set():
        results.append(await client.verify(city.case(next(numbers)), city.context(), receipt=True))
    return results


async def test_no_answer_is_lost_and_every_receipt_holds_when_the_year_turns_under_load(city: RunningCity) -> None:
    numbers, done = itertools.count(), asyncio.Event()
    async with city.client() as client, city.client(name="other") as other:
        before = await client.verify(city.case(next(numbers)), city.context(), receipt=True)
        working = [asyncio.create_task(work(one, city, numbers, done)) for one in (client, other) for _ in range(6)]
        for log in logs(city):
            await asyncio.sleep(0.3)
            origin = turn(log)
            async with asyncio.timeout(30):
                while log.origin != origin:  # noqa: ASYNC110 - what is waited for is the log's
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        done.set()
        results = [result for one in await asyncio.gather(*working) for result in one]
    assert len(results) > 20
    assert {claim.answer for result in results for claim in result.claims} == {Answer.YES}
    verifier = CertificateVerifier(city.kit.city.ca_pem, frozenset)
    for result in (before, *results):
        assert result.receipt is not None
        assert len(verify_receipt(result.receipt, verifier)) == 2
    for log in logs(city):
        old, new = log.shard(log.log), log.shard()
        assert new.newest.size > 1
        assert decode_entry(new.entries(0, 1)[0]).log_opened.predecessor == old.newest.checkpoint
        log.verify_all()
    view = city.hub.up.parts.hub.links.owner_log(city.owners["hrss"].files.identity).view
    assert view.known_origin == city.owners["hrss"].log.origin  # type: ignore[attr-defined]  # set above
    assert view.fork is None


async def test_an_agent_that_was_away_over_new_year_follows_when_it_comes_back(city: RunningCity) -> None:
    async with city.client() as client:
        await client.verify(city.case(1), city.context())
    for log in logs(city):
        turn(log)
    async with city.client(name="other") as other:
        for number in range(3):
            await other.verify(city.case(number), city.context())
    assert "/20" in city.hub.up.store.origin
    async with city.client() as client:
        result = await client.verify(city.case(2), city.context())
        assert {claim.answer for claim in result.claims} == {Answer.YES}
    await city.hub.up.audit_log.append([city.hub.up.store.new_entry(audit_pb2.AuditRead(reader="x"))])
    async with city.client() as client:
        assert {claim.answer for claim in (await client.verify(city.case(3), city.context())).claims} == {Answer.YES}


async def test_an_auditor_follows_the_hub_from_year_to_year_and_reads_both(city: RunningCity) -> None:
    files = city.kit.city.enrol(AUDITOR)
    checker = HeadChecker(CertificateVerifier(files.ca_pem, frozenset), kinds={Kind.HUB})
    async with city.client() as client, city.hub.up.channel(AUDITOR) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        await client.verify(city.case(1), city.context())
        _, view = await Auditor(stub, checker).verify()
        memory = view.export()
        origin = turn(city.hub.up.store)
        await client.verify(city.case(2), city.context())
        auditor = Auditor(stub, checker, lambda _origin: memory)
        found, view = await auditor.verify()
        assert found.checkpoint.origin == origin
        assert found.goes_on_from is not None
        assert found.goes_on_from == view.ended(found.goes_on_from.origin)
        old = await Auditor(stub, checker, lambda _origin: memory, shard="first").verify()
        assert old[0].checkpoint == found.goes_on_from
        both = [one async for one in Auditor(stub, checker).search(Query(event="hub_access"), limit=0, proofs=True)]
        assert len(both) == len({entry.SerializeToString() for _, entry in both}) >= 4
        first = Auditor(stub, checker, shard="first").search(Query(event="hub_access"), limit=0, proofs=False)
        assert 0 < len([one async for one in first]) < len(both)
