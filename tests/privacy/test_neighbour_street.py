"""A clerk of one street who asks about a resident of the next one learns what one learns about nobody at all.

Real client, real hub, a real adapter's process: what the requester gets, what the hub sees and records, and how long
either takes.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

import policy_support
from adapter_process import PENSION, AdapterProcess, case, running_adapter
from adapter_support import resident
from audit.entry import decode_entry
from city_support import RunningCity
from exchange.client.case import Answer, ClaimResult, Status
from exchange.client.client import Client
from zhiwang.exchange.v1 import sealed_pb2

HERE, NEXT_STREET, NOBODY = resident(51), resident(52), resident(53)
PEOPLE = ((HERE, "安娜", "440306001003", 24), (NEXT_STREET, "安娜", "440306002003", 24))
STREET = "nbs:440306001"
TIMES = 60
"""How often each of the two is asked about."""
CHANCE = 0.25
"""How far from one half the chance may be that the one takes longer than the other. At this number of pairs, five
standard deviations of what chance alone does, whatever else the machine is busy with."""

pytestmark = pytest.mark.timeout(300)


class Seen:
    """What can be measured of one question after another."""

    def __init__(self, city: RunningCity, adapter: AdapterProcess, client: Client) -> None:
        self.city = city
        self.adapter = adapter
        self.client = client
        self.deliveries: list[Any] = []
        self.at_hub: list[float] = []
        hub, exchange = city.hub.up.parts.hub, client.transport.exchange

        async def overheard(request: sealed_pb2.SealedRequest, seconds: float, *, bulk: bool, owner: str = "") -> Any:
            delivery = await exchange(request, seconds, bulk=bulk, owner=owner)
            self.deliveries.append((request, delivery))
            return delivery

        def replied(owner: str, seconds: float) -> None:
            assert owner == "hrss"
            self.at_hub.append(seconds)

        client.transport.exchange = overheard  # type: ignore[method-assign]  # what comes over the wire
        hub._meter.replied = replied  # type: ignore[method-assign]  # what the hub could note of it

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(f"file:{self.adapter.state.store}?mode=ro", uri=True, timeout=30)) as connection:
            return {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own tables
                for table in ("guess", "trace", "replay", "log_entry")
            }

    async def ask(self, who: str) -> tuple[ClaimResult, dict[str, object], float]:
        """The result, all that does not depend on the moment, and the seconds that it took the requester."""
        before, start = self.rows(), time.perf_counter()
        asked = case(who, "安娜", claims=(PENSION,))
        (claim,) = (await self.client.verify(asked, self.city.context(jurisdiction=STREET), timeout=50)).claims
        seconds = time.perf_counter() - start
        after = self.rows()
        request, delivery = self.deliveries[-1]
        result = delivery.result
        told = {
            "outcome": result.outcome,
            "reason": result.reason,
            "denied": list(result.denied_claims),
            "request": len(request.ciphertext),
            "reply": len(result.reply.ciphertext),
            "owner_entry": lasting(decode_entry(result.owner_entry.entry)),
            "hub_entry": lasting(decode_entry(result.hub_entry.entry)),
            **{table: after[table] - before[table] for table in before},
        }
        return claim, told, seconds


MOMENTARY = {"nonce", "time", "issue_time", "expire_time", "owner_index", "owner_checkpoint", "owner_leaf_hash"}
RANDOM = {"request_id", "signature", "sealed_hash", "request_root", "answer_root"}


def lasting(message: Message) -> Mapping[str, object]:
    """An entry without what another moment changes; of what is random the lengths."""
    return dict(_lasting(message))


def _lasting(message: Message) -> Iterator[tuple[str, object]]:
    for field, value in message.ListFields():
        if field.name in MOMENTARY:
            continue
        if field.name == "header":
            yield field.name, lasting(sealed_pb2.Header.FromString(value))
        elif field.name in RANDOM:
            yield field.name, len(value)
        elif isinstance(value, Message):
            yield field.name, lasting(value)
        else:
            yield field.name, str(value)


def longer(ones: Sequence[float], others: Sequence[float]) -> float:
    """The chance that one of the first is longer than one of the second: a half if nothing tells them apart."""
    won = sum((one > other) + (one == other) / 2 for one in ones for other in others)
    return won / (len(ones) * len(others))


async def test_a_neighbour_streets_resident_cannot_be_told_from_nobody_at_the_requester_or_the_hub(
    tmp_path: Path,
) -> None:
    async with running_adapter(tmp_path, PEOPLE) as (city, adapter):
        # The owner grants it to streets, so that the place alone decides.
        city.publish(policy_support.HRSS.replace('place = "@self"\nlevel = "district"', 'place = "@self"'))
        version = city.kit.directory.version
        async with city.client(short="edu/system/street", name="street") as client:
            seen = Seen(city, adapter, client)
            context = city.context(jurisdiction=STREET, min_policy_version=version)
            own = await client.verify(case(HERE, "安娜", claims=(PENSION,)), context, timeout=50)
            assert [claim.answer for claim in own.claims] == [Answer.YES]
            told: dict[str, list[tuple[ClaimResult, dict[str, object]]]] = {NEXT_STREET: [], NOBODY: []}
            took: dict[str, list[float]] = {NEXT_STREET: [], NOBODY: []}
            at_hub: dict[str, list[float]] = {NEXT_STREET: [], NOBODY: []}
            order = [NEXT_STREET, NOBODY] * TIMES
            random.Random(1).shuffle(order)  # noqa: S311 - so that a busy moment is nobody's in particular
            for who in order:
                claim, measured, seconds = await seen.ask(who)
                told[who].append((claim, measured))
                took[who].append(seconds)
                at_hub[who].append(seen.at_hub[-1])
        claim, measured = told[NOBODY][1]
        assert (claim.status, claim.answer, claim.reason) == (Status.ANSWERED, Answer.UNKNOWN, None)
        first = {who: {"guess": found[0][1]["guess"], "trace": found[0][1]["trace"]} for who, found in told.items()}
        assert first[NEXT_STREET] == first[NOBODY], "charged and indexed alike"
        for who in told:
            assert all(one == (claim, measured) for one in told[who][1:]), who
        for place, times in (("requester", took), ("hub", at_hub)):
            chance = longer(times[NEXT_STREET], times[NOBODY])
            print(f"\nat the {place} a neighbour's resident takes longer than nobody with chance {chance:.2f}")  # noqa: T201 - the measurement
            assert abs(chance - 0.5) < CHANCE, (place, chance)
