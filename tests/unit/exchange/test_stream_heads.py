"""Each head of a requester's stream is proved from the one that was sent before."""

from __future__ import annotations

from pathlib import Path

import audit_support as support
import yearly_support as years
from audit.log import AuditLog
from audit.proofs import HeadView
from audit.years import YearsView
from exchange.service import _Stream
from exchange.waiting import Delivery, Requester
from yearly_support import Calendar
from zhiwang.exchange.v1 import exchange_pb2


async def test_a_requester_that_saw_more_at_another_hub_of_the_log_gets_heads_that_follow_from_each_other(
    tmp_path: Path,
) -> None:
    store = support.make_store(tmp_path / "log.db")
    log = AuditLog(store)
    stream = _Stream(support.HUB, log, Requester())
    earlier, later = support.append(store, 3), support.append(store, 5)
    view = HeadView(support.checker())
    view.verify_head(store.head())
    stream.knows(later.origin, later.size)
    result = exchange_pb2.ExchangeResult()
    for size in (9, 11):
        frame = await stream._frame([Delivery(1, result, earlier)])
        assert view.verify_head(frame.hub_log, view.known_tree_size).size == size
        earlier = support.append(store, 2)
    await log.close()
    store.engine.dispose()


async def test_results_of_two_years_leave_in_frames_of_their_own(tmp_path: Path) -> None:
    clock = Calendar()
    log = AuditLog(years.make(tmp_path / "log.db", clock))
    stream, view, result = (
        _Stream(support.HUB, log, Requester()),
        YearsView(support.checker()),
        exchange_pb2.ExchangeResult(),
    )
    view.verify_head(log.store.head())
    stream.knows(view.known_origin, view.known_tree_size)
    old = [years.append(log.store, 1) for _ in range(2)]
    clock.set("2022-01-01")
    new = [years.append(log.store, 1) for _ in range(2)]
    for number, appended in enumerate([old[0], None, old[1], new[0], None, new[1]], 1):
        stream.deliver(Delivery(number, result, appended))
    stream.end()
    frames = [frame async for frame in stream.frames()]
    assert [[item.correlation_id for item in frame.items] for frame in frames] == [[1, 2, 3], [4, 5, 6]]
    for frame in frames:
        checkpoint = view.verify_head(frame.hub_log, view.known_tree_size, view.known_origin)
        for item in frame.items:
            if item.correlation_id not in {2, 5}:
                view.check_entry(item.result.hub_entry, checkpoint)
    assert view.known_origin.endswith("/2022")
    await log.close()
    log.store.engine.dispose()
