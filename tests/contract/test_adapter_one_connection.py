"""An owner whose mapping allows one connection, while a roster of several statements runs over it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adapter_frames import Bureau, grants
from adapter_support import ANNA, attribute
from adapters.database import Connections
from adapters.turns import Turns
from zhiwang.adapter.v1 import adapter_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.records import Outcome

MONTHS, YEARS = "child: hrss.months at_least 12", "child: hrss.years at_least 2"
TWO_SETS = "".join(
    f'[data.{name}]\ntable = "{name}"\nsubject = "id_card"\n[attribute.{name}]\ndata = "{name}"\nvalue = "n"\n'
    for name in ("months", "years")
)


def test_a_person_is_answered_between_two_statements_of_a_roster_over_one_connection(
    tmp_path: Path, monkeypatch: Any
) -> None:
    bureau = Bureau(
        tmp_path,
        tables="CREATE TABLE months (id_card TEXT, n INTEGER); CREATE TABLE years (id_card TEXT, n INTEGER);",
        rows={"months": [(ANNA, 12)], "years": [(ANNA, 2)]},
        mapping=TWO_SETS,
        published=attribute("months", 'type = "integer"\nat_least = [12]')
        + attribute("years", 'type = "integer"\nat_least = [2]')
        + grants(["hrss.months at_least", "hrss.years at_least"]),
    )
    connections = bureau.source._connections
    connections.turns = Turns(1)
    roster = bureau.request([MONTHS, YEARS], [{"child": ANNA}] * 20, priority=sealed_pb2.PRIORITY_BULK)
    person = bureau.request([MONTHS], [{"child": ANNA}])
    order: list[str] = []
    execute, mine = Connections.execute, threading.get_ident()

    def noted(self: Connections, connection: Any, sql: str, parameters: Any, *, describe: bool) -> list[Any]:
        found = execute(self, connection, sql, parameters, describe=describe)
        order.append("roster" if threading.get_ident() == mine else "person")
        if len(order) == 1:
            # While the first statement runs somebody comes to a counter.
            asking.append(counter.submit(bureau.frames.process, frame))
            deadline = time.monotonic() + 60
            while not self.turns.awaited:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        return found

    frame = adapter_pb2.RequestFrame()
    frame.items.add(correlation_id=1, request=person)
    asking: list[Any] = []
    monkeypatch.setattr(Connections, "execute", noted)
    with ThreadPoolExecutor(1) as counter:
        (item,) = bureau.send(roster)
        reply = asking[0].result(60)
    assert order == ["roster", "person", "roster"]
    assert bureau.open(roster, item) == [Outcome.YES] * 40
    assert not reply.items[0].reason
    bureau.close()
