"""Each head of a requester's stream is proved from the one that was sent before."""

from __future__ import annotations

from pathlib import Path

import audit_support as support
from audit.log import AuditLog
from audit.proofs import HeadView
from exchange.hub import Delivery
from exchange.service import _Stream
from zhiwang.exchange.v1 import exchange_pb2


async def test_a_requester_that_saw_more_at_another_hub_of_the_log_gets_heads_that_follow_from_each_other(
    tmp_path: Path,
) -> None:
    store = support.make_store(tmp_path / "log.db")
    log = AuditLog(store)
    stream = _Stream(support.HUB, log)
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
