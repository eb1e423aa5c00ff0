"""A process that asks about a roster, round and round, from when it is told to go until it is told to stop.

`python -m bench.roster --profile P --state S --cases FILE` is a client of its own; with `--agent ADDRESS` it streams
to an agent, as a program in any language would. For each word on its standard input, `go` or `stop`, it writes a
line; that of `stop` tells what was answered since `go`. It ends with its input. `Roster` is the other end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, astuple, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

from exchange.client.case import Case, Context, Status, Subject
from exchange.client.client import Client
from exchange.client.messages import verify_request
from zhiwang.verification.v1 import verification_pb2, verification_pb2_grpc
from zhiwang.wire.channel import open_channel
from zhiwang.wire.profile import load_profile

AT_ONCE = 256
"""Cases of one message to an agent."""

MARK = "> "
"""Begins a line that is for `Roster`; others are the log of operation's."""

Statuses = Callable[[], AsyncGenerator[Sequence[int]]]
"""Statuses of claims, some at a time, for ever."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a roster got between `go` and `stop`.

    Attributes:
        answers: Claims that were answered.
        others: Claims that were not.
        seconds: How long it asked.
    """

    answers: int
    others: int
    seconds: float


def write_cases(path: Path, cases: Sequence[Case], context: Context) -> None:
    """Leave cases and context for processes of this module."""
    rows = [[case.subjects, case.claims, case.key] for case in cases]
    path.write_text(json.dumps({"context": astuple(context), "cases": rows}), encoding="utf-8")


def read_cases(path: Path) -> tuple[list[Case], Context]:
    """What `write_cases` left."""
    found = json.loads(path.read_text(encoding="utf-8"))
    cases = [Case(tuple(Subject(*one) for one in rows), tuple(claims), key) for rows, claims, key in found["cases"]]
    return cases, Context(*found["context"])


def through_client(client: Client, cases: Sequence[Case], context: Context) -> Statuses:
    """By `verify_batches` of a client."""

    async def statuses() -> AsyncGenerator[Sequence[int]]:
        async with aclosing(client.verify_batches(cycle(cases), context)) as found:
            async for results in found:
                yield [claim.status for result in results for claim in result.claims]

    return statuses


def through_agent(
    stub: verification_pb2_grpc.VerificationServiceStub, cases: Sequence[Case], context: Context
) -> Statuses:
    """By `VerifyBatch` of an agent. The messages are made beforehand, so that the machine is the agent's."""
    asked = [verify_request(case, context, receipt=False) for case in cases]
    messages = [
        verification_pb2.VerifyBatchRequest(cases=[one.case for one in asked[start : start + AT_ONCE]])
        for start in range(0, len(asked), AT_ONCE)
    ]

    async def requests() -> AsyncIterator[verification_pb2.VerifyBatchRequest]:
        yield verification_pb2.VerifyBatchRequest(context=asked[0].context)
        for message in cycle(messages):
            yield message

    async def statuses() -> AsyncGenerator[Sequence[int]]:
        call = stub.VerifyBatch(requests())
        try:
            async for response in call:
                yield [claim.status for result in response.results for claim in result.claims]
        finally:
            call.cancel()

    return statuses


class _Asking:
    """Asks in the background. Owned by the event loop."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses
        self._answers = self._others = 0
        self._started = 0.0
        self._task: asyncio.Task[None] | None = None

    def go(self) -> None:
        self._answers = self._others = 0
        self._started = time.perf_counter()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> Share:
        if self._task is None:
            raise RuntimeError("stopped before it was started")
        seconds = time.perf_counter() - self._started
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return Share(self._answers, self._others, seconds)

    async def _run(self) -> None:
        async with aclosing(self._statuses()) as found:
            async for statuses in found:
                answered = sum(status == Status.ANSWERED for status in statuses)
                self._answers += answered
                self._others += len(statuses) - answered


def _tell(what: object) -> None:
    print(f"{MARK}{json.dumps(what)}", flush=True)


async def serve(arguments: argparse.Namespace) -> None:
    """Obey standard input until it ends."""
    cases, context = read_cases(arguments.cases)
    async with AsyncExitStack() as stack:
        if arguments.agent:
            channel = await stack.enter_async_context(open_channel(arguments.agent, None))
            statuses = through_agent(verification_pb2_grpc.VerificationServiceStub(channel), cases, context)
        else:
            client = await Client.open(load_profile(arguments.profile), state=arguments.state)
            await stack.enter_async_context(client)
            statuses = through_client(client, cases, context)
        asking = _Asking(statuses)
        _tell("ready")
        while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if word == "go":
                asking.go()
                _tell("gone")
            else:
                _tell(asdict(await asking.stop()))


class Roster:
    """One such process, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def go(self) -> None:
        """Begin to ask."""
        await self._say("go")

    async def stop(self) -> Share:
        """Stop, and tell what was answered."""
        return Share(**await self._say("stop"))

    async def ready(self) -> None:
        """Until it can ask."""
        await self._heard()

    async def _say(self, word: str) -> Any:
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(f"{word}\n".encode())
        return await self._heard()

    async def _heard(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        while line := (await self._process.stdout.readline()).decode():
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError("a process that asks for a roster has ended")


@asynccontextmanager
async def rosters(
    number: int, cases: Path, profile: Path, agent: str | None = None, log: Path | None = None
) -> AsyncIterator[list[Roster]]:
    """Start some such processes, and end them.

    Args:
        number: How many.
        cases: As `write_cases` left them.
        profile: Of the system.
        agent: Address of an agent to ask through; None to be clients.
        log: Where their logs of operation go; None to drop them.
    """
    running: list[asyncio.subprocess.Process] = []
    try:
        with (log or Path("/dev/null")).open("ab") as errors:
            for one in range(number):
                command = [
                    *("--cases", str(cases), "--profile", str(profile), "--state", f"roster-{one}"),
                    *(() if agent is None else ("--agent", agent)),
                ]
                running.append(
                    await asyncio.create_subprocess_exec(
                        *(sys.executable, "-m", "bench.roster", *command),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        stderr=errors,
                        limit=1 << 20,
                    )
                )
        found = [Roster(process) for process in running]
        for roster in found:
            await roster.ready()
        yield found
    finally:
        for process in running:
            # One that has ended by itself has told why already; to kill it would hide that.
            if process.returncode is None:
                process.kill()
            await process.wait()


def main() -> None:
    """Run one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="cases and context")
    parser.add_argument("--profile", type=Path, required=True, help="of the system that asks")
    parser.add_argument("--state", required=True, help="folder of its state")
    parser.add_argument("--agent", help="address of an agent to ask through")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
