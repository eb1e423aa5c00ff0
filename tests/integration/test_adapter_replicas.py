"""Replicas of an adapter in states of their own over one PostgreSQL, as processes: asked, killed, and left alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from adapter_process import SECONDS, ZHIWANG, case, metrics_address, outcomes, scrape, told
from city_support import MOTHER, RunningCity
from exchange.client.case import Answer, Status
from replica_support import Replica, running_replicas
from servers import Postgresql
from zhiwang.wire.errors import Reason

# Processes of their own, which start slowly where much else runs.
pytestmark = pytest.mark.timeout(400)

YES = [Answer.YES, Answer.YES]
NAMES_CAP = 5
"""Of names, by default."""


@pytest.fixture(scope="module")
def server(own_postgresql: Postgresql) -> Postgresql:
    """A server of this module's own, which is frozen and killed."""
    return own_postgresql


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(3 * SECONDS):
        while not condition():  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.1)


async def served(replica: Replica) -> float:
    return outcomes(await asyncio.to_thread(scrape, metrics_address(replica)))


async def clients_of_both(city: RunningCity, stack: AsyncExitStack, *replicas: Replica) -> list[Any]:
    """Clients, of which each replica has answered one: each took the sealing key of one of them."""
    clients = []
    for number in range(40):
        client = await stack.enter_async_context(city.client(name=f"client{number}"))
        clients.append(client)
        assert told((await client.verify(case(), city.context())).claims) == YES
        if all([await served(one) > 0 for one in replicas]):
            return clients
    raise AssertionError("all clients took the key of one replica")


async def test_guesses_through_all_replicas_together_never_exceed_the_cap(tmp_path: Path, server: Postgresql) -> None:
    async with running_replicas(tmp_path, server) as (city, one, two), AsyncExitStack() as stack:
        clients = await clients_of_both(city, stack, one, two)
        asked = [clients[-1 - number % 2].verify(case(name=f"李{number:03}"), city.context()) for number in range(24)]
        results = [told(result.claims) for result in await asyncio.gather(*asked)]
        assert results.count([Answer.UNKNOWN] * 2) == NAMES_CAP, results
        assert results.count([Reason.GUESSES_SPENT] * 2) == len(results) - NAMES_CAP
        with one.place.raw("postgres") as connection:
            assert connection.execute("SELECT count(*) FROM zhiwang.guess").fetchone() == (NAMES_CAP + 1,)
        assert one.check_replies() >= len(results)


async def test_a_replica_is_killed_under_load_and_every_answer_is_in_the_log(
    tmp_path: Path, server: Postgresql
) -> None:
    async with running_replicas(tmp_path, server) as (city, one, two), AsyncExitStack() as stack:
        clients = await clients_of_both(city, stack, one, two)
        answered = len(clients)

        async def ask(client: Any) -> None:
            nonlocal answered
            while True:
                result = await client.verify(case(), city.context(), timeout=5.0)
                answered += all(claim.status is Status.ANSWERED for claim in result.claims)

        async def more(number: int) -> None:
            enough = answered + number
            await until(lambda: answered >= enough)

        askers = [asyncio.create_task(ask(client)) for client in clients[-2:] * 3]
        await more(20)
        assert await two.stop(signal.SIGKILL) == -signal.SIGKILL
        # Whose key is gone with its replica, seals for the other one.
        await more(40)
        await two.start()
        await two.attached(city, links=2)
        assert await one.stop(signal.SIGKILL) == -signal.SIGKILL
        await more(40)
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
        await one.start()
        await one.attached(city, links=2)
        assert one.check_replies() > 0
        assert answered <= len(one.accesses())


async def command(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *ZHIWANG[:2], *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(process.communicate(), 3 * SECONDS)
    return process.returncode or 0, out.decode()


async def test_while_the_server_is_gone_nothing_is_answered_and_then_it_goes_on_by_itself(
    tmp_path: Path, server: Postgresql
) -> None:
    def lost(replica: Replica) -> bool:
        return '"condition": "log", "holds": false' in replica.log

    async with running_replicas(tmp_path, server) as (city, one, two), city.client() as client:
        assert told((await client.verify(case(), city.context())).claims) == YES
        size = len(one.accesses())
        server.crash()
        await until(lambda: lost(one) and lost(two))
        result = await client.verify(case(), city.context(), timeout=8.0)
        assert all(claim.status is Status.UNAVAILABLE for claim in result.claims)
        status, said = await command("doctor", "--profile", str(one.profile), "--json")
        assert status == 1
        assert "cannot be reached" in said
        server.start()

        async def answers() -> None:
            async with asyncio.timeout(3 * SECONDS):
                while told((await client.verify(case(), city.context(), timeout=8.0)).claims) != YES:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.2)

        await answers()
        assert len(one.accesses()) > size
        for pid in server.pids():
            signal_to(pid, signal.SIGSTOP)
        try:
            result = await client.verify(case(), city.context(), timeout=8.0)
            assert all(claim.status is Status.UNAVAILABLE for claim in result.claims)
        finally:
            for pid in server.pids():
                signal_to(pid, signal.SIGCONT)
        await answers()
        _, said = await command("doctor", "--profile", str(one.profile), "--json")
        assert "tables of ledger, replies and index" in said


def signal_to(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # a session that has just ended
        os.kill(pid, number)


async def test_commands_work_on_the_store_and_a_replica_without_its_keys_is_refused(
    tmp_path: Path, server: Postgresql
) -> None:
    async with running_replicas(tmp_path, server) as (city, one, two), city.client() as client:
        assert told((await client.verify(case(), city.context())).claims) == YES
        status, said = await command("audit", "fsck", "--profile", str(one.profile), "--json")
        assert (status, json.loads(said)["fault_count"]) == (0, 0), said
        status, said = await command("adapter", "retention", "--profile", str(two.profile), "--json")
        assert (status, json.loads(said)["logs"]) == (0, []), said
        backup = tmp_path / "hrss.tar"
        status, said = await command("adapter", "backup", "--profile", str(one.profile), "--out", str(backup), "--json")
        assert status == 0, said
        assert json.loads(said)["log_size"] > 2
        assert MOTHER.encode() not in backup.read_bytes()
        assert await two.stop() == 0
        # Other keys would count guesses apart.
        (two.state.keys / "ledger.key").write_bytes(bytes(32))
        await two.start()
        assert two.process is not None
        assert await asyncio.wait_for(two.process.wait(), SECONDS) == 1
        assert "ledger.key is not the key that the store was used with" in two.log
