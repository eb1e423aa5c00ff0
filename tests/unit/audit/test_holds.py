"""Holds: derived from the log alone, bounded in time, and each kept to what its placer may see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import audit_support as support
from adapter_support import ANNA
from audit.asking import request_of
from audit.entry import decode_entry, encode_entry, event_number
from audit.evidence import EvidenceServicer
from audit.facts import Facts, facts_of_entry
from audit.holds import MAX_SECONDS, Hold, HoldBook
from audit.log import AuditLog
from audit.proofs import check_entry
from audit.query import EVERYTHING, Query, Scope, scope_of
from audit.store import LogStore
from certs.identity import Identity, Kind
from exchange.cli.audit_reading import moment_of
from zhiwang.audit.v1 import audit_pb2 as pb
from zhiwang.wire.call import Peer, PeerTable
from zhiwang.wire.clock import start_of_day
from zhiwang.wire.errors import Reason, RefusedError

NOW = 1_800_000_000.0
DAY = 86_400
ORDER = "(2026)粤03民初1234号"
OFFICE = Identity(support.CITY, "office", Kind.AUDITOR, "one")
OWNER = Identity(support.CITY, "hrss", Kind.AUDITOR, "two")
KEEPER = Identity(support.CITY, "centre", Kind.ADMIN, "three")
STRANGER = Identity(support.CITY, "edu", Kind.ADMIN, "four")
CONTEXT: Any = None


def refused(reason: Reason) -> AbstractContextManager[object]:
    return pytest.raises(RefusedError, check=lambda error: error.reason is reason)


class Served:
    def __init__(self, path: Path) -> None:
        self.store = support.make_store(path)
        self.log = AuditLog(self.store)
        self.now = NOW
        self.caller = OFFICE
        table = PeerTable(support.CITY, frozenset)
        self.servicer = EvidenceServicer(
            self.store,
            self.log.append,
            scope=lambda who: scope_of(who, "centre", office=who.department == "office"),
            office=lambda who: who.department == "office",
            clock=lambda: self.now,
            peer=lambda: Peer(self.caller, 77, b"", 0.0, 1e12, table),
        )

    async def place(self, order: str = ORDER, days: float = 30, query: Query | None = None) -> pb.PlaceHoldResponse:
        request = pb.PlaceHoldRequest(order=order, conditions=request_of(query or Query(matter="senior-card")))
        request.until_time.FromMicroseconds(round((self.now + days * DAY) * 1e6))
        return await self.servicer.PlaceHold(request, CONTEXT)

    async def orders(self) -> list[str]:
        response = await self.servicer.ListHolds(pb.ListHoldsRequest(), CONTEXT)
        return [hold.order for hold in response.holds]

    async def lift(self, order: str = ORDER, department: str = "") -> pb.LiftHoldResponse:
        return await self.servicer.LiftHold(pb.LiftHoldRequest(order=order, department=department), CONTEXT)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "log.db")
    yield served
    await served.log.close()
    served.store.engine.dispose()
    support.check_log(tmp_path / "log.db")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    store = support.make_store(tmp_path / "plain.db")
    yield store
    support.close(store)


def test_every_kind_of_event_is_told_by_its_bytes() -> None:
    for field in pb.Entry.DESCRIPTOR.oneofs_by_name["event"].fields:
        entry = pb.Entry(schema_version=1, nonce=bytes(16))
        getattr(entry, field.name).SetInParent()
        for seconds, nanos in ((0, 0), (1, 0), (1_790_000_000, 999_999_000), (1 << 40, 5)):
            entry.time.seconds, entry.time.nanos = seconds, nanos
            entry.time.SetInParent()
            assert event_number(entry.SerializeToString(deterministic=True)) == field.number
    assert event_number(b"") == event_number(bytes(22)) == event_number(b"\xff" * 22) == 0


async def test_a_hold_is_placed_with_proof_and_ends_by_itself(served: Served) -> None:
    response = await served.place()
    entry = check_entry(response.entry, support.checker().check(response.head))
    hold = Hold.of_event(entry.hold_placed)
    assert (hold.order, hold.placed_by, hold.placed) == (ORDER, OFFICE.uri, NOW)
    assert (hold.query, hold.scope, hold.department) == (Query(matter="senior-card"), EVERYTHING, "office")
    assert facts_of_entry(entry).system == OFFICE.uri
    assert await served.orders() == [ORDER]
    served.now += 30 * DAY - 1
    assert await served.orders() == [ORDER]
    served.now += 1
    assert await served.orders() == []


async def test_a_hold_is_renewed_with_the_same_conditions_and_not_narrowed(served: Served) -> None:
    await served.place()
    with refused(Reason.HOLD_DIFFERS):
        await served.place(days=60, query=Query(matter="school-enrolment"))
    with refused(Reason.HOLD_DIFFERS):
        await served.place(days=20)
    served.now += DAY
    await served.place(days=60)
    (hold,) = served.servicer.book.holds_in_force(served.now)
    assert (hold.placed, hold.until) == (NOW, NOW + 61 * DAY)
    # Another process on the same log could not know of it: then both conditions hold.
    other = pb.HoldPlaced()
    other.CopyFrom(hold.event())
    other.conditions.CopyFrom(request_of(Query(matter="school-enrolment")))
    await served.log.record(other)
    assert len(served.servicer.book.holds_in_force(served.now)) == 2
    await served.lift()
    assert served.servicer.book.holds_in_force(served.now) == ()


async def test_a_hold_is_lifted_by_its_department_or_an_audit_office_and_by_nobody_else(served: Served) -> None:
    await served.place()
    served.caller = KEEPER
    assert await served.orders() == [ORDER]
    for department in ("", "office"):
        with refused(Reason.HOLD_UNKNOWN):
            await served.lift(department=department)
    served.caller = OWNER
    with refused(Reason.HOLD_UNKNOWN):
        await served.lift(department="office")
    # A hold of its own under the same number is another one, of what it may see.
    await served.place(days=10)
    assert await served.orders() == [ORDER]
    ours = next(hold for hold in served.servicer.book.holds_in_force(served.now) if hold.department == "hrss")
    assert ours.scope == Scope(department="hrss")
    served.caller = OFFICE
    assert await served.orders() == [ORDER, ORDER]
    response = await served.lift(department="hrss")
    assert decode_entry(response.entry.entry).hold_lifted.lifted_by == OFFICE.uri
    assert await served.orders() == [ORDER]
    await served.lift()
    assert await served.orders() == []


async def test_who_may_read_nothing_may_hold_nothing(served: Served) -> None:
    served.caller = STRANGER
    with refused(Reason.RPC_NOT_ALLOWED):
        await served.place()
    with refused(Reason.RPC_NOT_ALLOWED):
        await served.orders()


@pytest.mark.parametrize("order", ["", "x" * 65, "a b", "a\x1b[2J", "order\n", ANNA, f"no-{ANNA}"])
async def test_no_identifier_and_no_strange_text_gets_into_an_order(served: Served, order: str) -> None:
    with refused(Reason.ORDER_INVALID):
        await served.place(order)
    assert served.store.refresh().size == 1


@pytest.mark.parametrize("days", [0, -1, MAX_SECONDS / DAY + 1])
async def test_a_hold_is_bounded(served: Served, days: float) -> None:
    with refused(Reason.ORDER_INVALID):
        await served.place(days=days)


async def test_a_condition_with_an_identifier_is_refused(served: Served) -> None:
    with refused(Reason.CONDITION_INVALID):
        await served.place(query=Query(reference=ANNA))


async def test_a_production_is_recorded_by_whom_it_was_and_over_a_tree_that_is_there(served: Served) -> None:
    def request(**changed: Any) -> pb.RecordProductionRequest:
        said: dict[str, Any] = {
            "order": ORDER,
            "query": "matter=x",
            "count": 1,
            "tree_size": 1,
            "manifest_hash": bytes(32),
        }
        return pb.RecordProductionRequest(production=pb.EvidenceProduced(**(said | changed)))

    response = await served.servicer.RecordProduction(request(produced_by=STRANGER.uri), CONTEXT)
    entry = check_entry(response.entry, support.checker().check(response.head))
    assert entry.evidence_produced.produced_by == OFFICE.uri
    for changed in ({"tree_size": 99}, {"tree_size": 0}, {"manifest_hash": b"short"}):
        with refused(Reason.REQUEST_MALFORMED):
            await served.servicer.RecordProduction(request(**changed), CONTEXT)
    for query in (f"reference={ANNA}", "a\x1bb"):
        with refused(Reason.CONDITION_INVALID):
            await served.servicer.RecordProduction(request(query=query), CONTEXT)


def test_holds_are_found_again_in_the_log_alone_and_carried_into_the_next(store: LogStore) -> None:
    kept = Hold("A-1", OFFICE.uri, NOW, NOW + DAY, Query(owner="hrss"), EVERYTHING)
    ended = Hold("A-2", OFFICE.uri, NOW, NOW - 1, Query(), EVERYTHING)
    over = Hold("A-0", OFFICE.uri, NOW, NOW - MAX_SECONDS, Query(), EVERYTHING)
    scoped = Hold("A-3", OWNER.uri, NOW, NOW + 9, Query(), Scope(department="hrss", place="nbs:440306"))
    support.append(store, 300)
    with store.transaction() as connection:
        appended = store.append(connection, [store.new_entry(one.event()) for one in (kept, over, ended, scoped)])
    store.committed(appended)
    support.append(store, 20)
    book = HoldBook(store)
    assert book.holds_in_force(NOW) == (scoped, kept)
    assert [Hold.of_event(event) for event in book.carried(NOW)] == [ended, scoped, kept], "the clock may come back"


def test_a_hold_covers_what_its_conditions_and_its_placer_s_scope_admit() -> None:
    def facts(**said: Any) -> Facts:
        return Facts(time=int(NOW * 1e6), event="owner_access", **said)

    hold = Hold("A-1", OWNER.uri, NOW, NOW + DAY, Query(matter="senior-card"), Scope(department="hrss"))
    inside = facts(matter="senior-card", owner="hrss")
    others = [facts(matter="senior-card", owner="police"), facts(matter="points", owner="hrss")]
    assert hold.covers(inside)
    assert not any(hold.covers(one) for one in others)
    assert hold.covers_subject([*others, inside])
    assert not hold.covers_subject(others)


def test_a_hold_covers_a_year_if_its_times_reach_into_it() -> None:
    def hold(since: str = "", until: str = "") -> Hold:
        return Hold(
            "A-1", OFFICE.uri, NOW, NOW, Query(since=moment_of(since, ""), until=moment_of(until, "")), EVERYTHING
        )

    def covers(one: Hold, year: int) -> bool:
        return one.covers_span(start_of_day(date(year, 1, 1)), start_of_day(date(year + 1, 1, 1)))

    assert covers(hold(), 2031)
    assert covers(hold(since="2026-12-31T23:59"), 2026)
    assert not covers(hold(since="2027-01-01"), 2026)
    assert not covers(hold(until="2026-01-01"), 2026)
    assert covers(hold(until="2026-01-01T00:00:01"), 2026)


def test_an_entry_of_a_hold_that_lacks_a_field_is_not_read() -> None:
    whole = Hold("A-1", OFFICE.uri, NOW, NOW + DAY, Query(), EVERYTHING).event()
    for name in ("order", "placed_by", "placed_time", "until_time"):
        broken = pb.HoldPlaced()
        broken.CopyFrom(whole)
        broken.ClearField(name)
        with pytest.raises(ValueError, match="lacks a field"):
            decode_entry(encode_entry(broken, nonce=bytes(16), time=NOW))
