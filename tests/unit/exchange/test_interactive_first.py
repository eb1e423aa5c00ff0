"""At the hub, what a person waits for passes what rosters have queued: toward owners, and back to requesters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from certs.identity import Identity
from exchange.link import MAX_QUEUED, Link, Ticket
from exchange.service import MAX_BULK_BYTES, _Stream
from exchange.waiting import MAX_IN_FLIGHT, Delivery, Requester
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import exchange_pb2, sealed_pb2
from zhiwang.wire.gather import Limits

DESK = Identity.parse("spiffe://shenzhen/data/system/desk")
ADAPTER = Identity.parse("spiffe://shenzhen/hrss/adapter/main")


def ticket(name: str, *, bulk: bool) -> Ticket:
    request = sealed_pb2.SealedRequest(header=name.encode())
    access: Any = SimpleNamespace(request=request, denied=())
    return Ticket(access, 1e12, bulk=bulk, size=100)


def link(credit: int = 4096) -> Link:
    log: Any = SimpleNamespace(
        admit=lambda _link, tickets: tickets, view=SimpleNamespace(known_tree_size=7, known_origin="")
    )
    nothing: Any = None
    return Link(ADAPTER, "one", credit, log, nothing, lambda: 0.0, Limits(count=1, delay=0.0))


def asked(message: adapter_pb2.AttachResponse) -> list[bytes]:
    return [item.request.header for item in message.request_frame.items]


async def test_an_interactive_request_overtakes_rosters_that_wait_for_their_owner_to_read() -> None:
    owner = link()
    for number in range(20):
        owner.send([ticket(f"roster{number}", bulk=True)])
    said = owner.messages()
    assert asked(await anext(said)) == [b"roster0"]
    owner.send([ticket("person", bulk=False)])
    assert asked(await anext(said)) == [b"person"]
    assert asked(await anext(said)) == [b"roster1"]


async def test_rosters_cannot_fill_the_queue_of_an_owner_for_everybody() -> None:
    owner = link(credit=0)
    for number in range(MAX_QUEUED // 2):
        owner.submit(ticket(f"roster{number}", bulk=True))
    assert owner.is_full(bulk=True)
    assert not owner.is_full(bulk=False)
    for number in range(MAX_QUEUED // 2):
        owner.submit(ticket(f"person{number}", bulk=False))
    assert owner.is_full(bulk=False)


def test_a_requesters_rosters_hold_half_of_what_it_may_have_in_flight() -> None:
    desk = Requester()
    roster = ticket("roster", bulk=True)
    for _ in range(MAX_IN_FLIGHT // 2):
        assert not desk.full_of_bulk
        desk.add(roster)
    assert desk.full_of_bulk
    assert not desk.full
    desk.add(roster, -1)
    assert desk.bulk_count == MAX_IN_FLIGHT // 2 - 1
    assert (desk.count, desk.size) == (desk.bulk_count, desk.bulk_size)


async def test_an_interactive_result_overtakes_results_of_rosters_of_which_none_is_lost() -> None:
    no_log: Any = None
    stream = _Stream(DESK, no_log, Requester())
    long = exchange_pb2.ExchangeResult(reply=sealed_pb2.SealedReply(ciphertext=bytes(MAX_BULK_BYTES // 2)))
    for number in range(1, 7):
        waiting: Any = ticket(f"roster{number}", bulk=True)
        stream.waiting[number] = waiting
        stream.deliver(Delivery(number, long))
    frames = stream.frames()
    assert [item.correlation_id for item in (await anext(frames)).items] == [1]
    person: Any = ticket("person", bulk=False)
    stream.waiting[7] = person
    stream.deliver(Delivery(7, exchange_pb2.ExchangeResult()))
    stream.close_when_answered()
    rest = [[item.correlation_id for item in frame.items] async for frame in frames]
    assert rest[0] == [7]
    assert [number for frame in rest[1:] for number in frame] == [2, 3, 4, 5, 6]
    assert not stream.waiting
