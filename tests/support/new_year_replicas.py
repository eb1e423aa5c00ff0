"""Two replicas of an adapter over one PostgreSQL from New Year's Eve to the new year, one of them killed: processes.

Started with `clock_ahead.c`, which gives this process and all that it starts one time of day; it is a file, and written
here. Prints what was found as JSON.

    python new_year_replicas.py DIRECTORY DIRECTORY-OF-THE-SERVER DATABASE CLOCK-FILE
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from adapter_process import case, metrics_address, outcomes, scrape, told
from adapters.postgres_store import STORE
from audit.entry import decode_entry
from audit.origins import position, year_of
from audit.yearly import YearlyLog
from certs.credentials import IdentityFiles
from certs.signing import CertificateVerifier
from city_support import RunningCity
from exchange.client.case import Answer, Status
from exchange.client.check import Delivery
from exchange.client.client import Client
from log_places import PostgresDatabase
from replica_support import Replica, replicas_over
from servers import Postgresql
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import parse_header

SOON = datetime.fromisoformat("2026-12-31T23:59:30+08:00").timestamp()
MIDNIGHT = datetime.fromisoformat("2027-01-01T00:00:00+08:00").timestamp()
PATIENCE = 150.0
"""Seconds, by a clock that nobody sets."""


class Clock:
    """The time of day of all processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reach(self, when: float) -> None:
        """Set it forward, if it stands earlier; never back."""
        behind = when - time.time()
        if behind > 0:
            beside = self._path.with_suffix(".new")
            beside.write_text(f"{int(self._path.read_text()) + int(behind) + 1}")
            beside.replace(self._path)


class Asking:
    """Clients, and everything that was answered to them."""

    def __init__(self, city: RunningCity) -> None:
        self.city = city
        self.clients: list[Client] = []
        self.answered: list[tuple[sealed_pb2.SealedRequest, Delivery]] = []

    async def begin(self, stack: AsyncExitStack, *replicas: Replica) -> None:
        """Two clients, of which each has the sealing key of another replica."""
        for number in range(40):
            client = await stack.enter_async_context(self.city.client(name=f"client{number}"))
            self.clients.append(client)
            client.transport.exchange = partial(self._noted, client.transport.exchange)  # type: ignore[method-assign]  # what goes over it is looked at
            deadline = time.monotonic() + PATIENCE
            while not await self.ask(client):
                assert time.monotonic() < deadline, replicas[0].log
            if all([await served(one) for one in replicas]):
                self.clients = self.clients[-2:]
                return
        raise AssertionError("all clients took the key of one replica")

    async def _noted(
        self, exchange: Callable[..., Any], request: sealed_pb2.SealedRequest, *more: Any, **by: Any
    ) -> Any:
        delivery = await exchange(request, *more, **by)
        if delivery.result.HasField("owner_entry"):
            self.answered.append((request, delivery))
        return delivery

    async def ask(self, client: Client, name: str = "") -> list[Any]:
        """What is told of one case; empty if nobody answers."""
        result = await client.verify(case(name=name), self.city.context(), timeout=50.0)
        if not all(one.status in {Status.ANSWERED, Status.DENIED} for one in result.claims):
            return []
        return told(result.claims)

    async def go_on(self, client: Client) -> None:
        while True:
            if not await self.ask(client):
                await asyncio.sleep(0.1)

    async def more(self, number: int) -> None:
        """Wait for further answers."""
        enough, deadline = len(self.answered) + number, time.monotonic() + PATIENCE
        while len(self.answered) < enough:
            assert time.monotonic() < deadline, "nothing is answered"
            await asyncio.sleep(0.05)

    async def again(self, request: sealed_pb2.SealedRequest, first: Delivery) -> str:
        """What becomes of the same bytes in another year."""
        expires = parse_header(request.header).expire_time
        try:
            delivery = await self.clients[0].transport.exchange(request, 20.0, bulk=False, owner="hrss")
        except RefusedError as error:
            return error.reason.name
        if time.time() > expires:
            return "LATE"
        reason: str = delivery.result.reason
        same = (
            delivery.result.reply == first.result.reply
            and delivery.result.owner_entry.entry == first.result.owner_entry.entry
            and delivery.result.owner_entry.index == first.result.owner_entry.index
        )
        return reason or ("same" if same else "another")


async def served(replica: Replica) -> bool:
    return outcomes(await asyncio.to_thread(scrape, metrics_address(replica))) > 0


async def over_new_year(
    city: RunningCity, one: Replica, two: Replica, clock: Clock, stack: AsyncExitStack
) -> dict[str, Any]:
    asking = Asking(city)
    await asking.begin(stack, one, two)
    before = [await asking.ask(asking.clients[0], f"李{number}") for number in range(3)]
    # What the administrator does before New Year, while both run; the tables of the new year were not there.
    status, statements, _ = await one.command("init", "--sql", "--year", "2027", "--profile", str(one.profile))
    assert status == 0
    one.place.run(statements)
    clock.reach(SOON)
    for client in asking.clients:
        await asking.ask(client)
    eve = asking.answered[-2:]
    askers = [asyncio.create_task(asking.go_on(client)) for client in asking.clients * 2]
    await asking.more(8)
    clock.reach(MIDNIGHT)
    assert await two.stop(signal.SIGKILL) == -signal.SIGKILL
    again = [await asking.again(*sent) for sent in eve]
    await asking.more(20)
    await two.start()
    await two.attached(city, links=2)
    await asking.more(20)
    for asker in askers:
        asker.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    after = {
        name: [await asking.ask(client, name) for client in asking.clients]
        for name in (f"李{number}" for number in range(3, 7))
    }
    assert one.process is not None
    assert one.process.returncode is None, one.log
    return {
        "again": again,
        "unknown_before": before.count([Answer.UNKNOWN] * 2),
        "unknown_after": sum(found == [[Answer.UNKNOWN] * 2] * 2 for found in after.values()),
        "spent_after": sum(found.count([Reason.GUESSES_SPENT] * 2) for found in after.values()),
        **recorded(city, one, asking),
    }


def recorded(city: RunningCity, replica: Replica, asking: Asking) -> dict[str, Any]:
    """Whether everything that was answered stands in the log of its year, once, with reply and index row."""
    identity = IdentityFiles(replica.directory / "identity", city.kit.city.root)
    verifier = CertificateVerifier(identity.ca_pem, frozenset)
    log = YearlyLog(replica.place.open(), identity.signer(), verifier=verifier)
    log.open()
    log.verify_all()
    places: dict[int, bytes] = {}
    times: dict[int, list[float]] = {}
    for store in log.shards():
        year = year_of(store.origin)
        for index, data in enumerate(store.entries(0, 1_000_000)):
            entry = decode_entry(data)
            times.setdefault(year, []).append(entry.time.seconds)
            if entry.WhichOneof("event") == "owner_access":
                places[position(year, index)] = data
    log.close()
    log.engine.dispose()
    headers = Counter(decode_entry(data).owner_access.header for data in places.values())
    acknowledged = {delivery.result.owner_entry.entry for _, delivery in asking.answered}
    with replica.place.raw("postgres") as connection:
        replies = connection.execute("SELECT key, entry FROM zhiwang.replay").fetchall()
        traced = {entry for (entry,) in connection.execute("SELECT DISTINCT entry FROM zhiwang.trace").fetchall()}
        (guesses,) = connection.execute("SELECT count(*) FROM zhiwang.guess").fetchone() or (0,)
    strays = 0
    for key, at in replies:
        header = parse_header(decode_entry(places[at]).owner_access.header)
        strays += key != sha256(header.system.encode()).digest()[:16] + header.request_id
    return {
        "years": sorted(times),
        "late_in_old": sum(one >= MIDNIGHT for one in times[0]),
        "in_new": len([at for at in places if at >= position(2027, 0)]),
        "twice": sum(number > 1 for number in headers.values()),
        "missing": len(acknowledged - set(places.values())),
        "acknowledged": len(acknowledged),
        "accesses": len(places),
        "untraced": len(set(places) - traced),
        "replies": len(replies),
        "stray_replies": strays,
        "guesses": guesses,
    }


async def main(directory: Path, server: Path, database: str, clock: Path) -> None:
    reached = Postgresql.__new__(Postgresql)  # the test's own, as it is reached from here
    reached.directory = server
    place = PostgresDatabase(reached, STORE)
    place.name = database
    async with AsyncExitStack() as outer:
        city, one, two = await outer.enter_async_context(replicas_over(directory, place))
        async with AsyncExitStack() as stack:
            found = await over_new_year(city, one, two, Clock(clock), stack)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
