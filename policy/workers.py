"""Processes beside a server in which policy is worked out: nobody who verifies waits for somebody who rehearses.

A directory of 10,000 rules keeps a processor busy for seconds; in a thread it would hold the interpreter's lock and
every request with it. Each question has a process to itself while it lasts. Who goes away, or takes too long, costs
that process its life: there is no other way to stop a calculation. Processes begin when they are needed.
"""

from __future__ import annotations

import asyncio
import copyreg
import pickle
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

import structlog

from policy.working import LENGTH, Outcome, Task
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError

WORKERS: Final = 2
"""For questions of a minute at most, one for each caller: nobody alone keeps the others out."""
LONG: Final = 1
"""Besides them, for what goes on for minutes."""
MAX_EACH: Final = 2
"""Questions of one caller at once, those that wait included."""
MAX_WAITING: Final = 16
"""Questions of all callers that may wait."""
STOP_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


def _frozen(mapping: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(mapping)


def _reduced(mapping: Mapping[Any, Any]) -> tuple[Any, ...]:
    return _frozen, (dict(mapping),)


# Directories are made of these, and pickle cannot take them by itself.
copyreg.pickle(MappingProxyType, _reduced)


class Worker:
    """One process; made by `Workers`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._begins = True

    async def call(self, function: str, *arguments: Any, seconds: float) -> Any:
        """What a function of the process says.

        Args:
            function: "module:name"; called with the session, a dict, and the arguments.
            arguments: Whatever can be pickled, and is small unless it is bytes.
            seconds: How long to wait.

        Raises:
            ZhiwangError: As the function raised it; DEADLINE_EXCEEDED; OVERLOADED: it took too much memory.
        """
        task = Task(function, arguments, seconds, self._begins)
        self._begins = False
        try:
            async with asyncio.timeout(seconds):
                outcome = await self._ask(task)
        except TimeoutError:
            raise _EndedError(Reason.DEADLINE_EXCEEDED, f"{function} took longer than {seconds:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _EndedError(Reason.INTERNAL, f"the process of {function} ended early") from error
        if outcome.refusal is not None:
            reason, detail, field, metadata = outcome.refusal
            raise RefusedError(Reason[reason], detail, field=field, metadata=metadata)
        if outcome.trouble == MemoryError.__name__:
            raise _EndedError(Reason.OVERLOADED, f"{function} took too much memory")
        if outcome.trouble:
            raise RefusedError(Reason.INTERNAL, f"{function}: {outcome.trouble}")
        return outcome.result

    async def _ask(self, task: Task) -> Outcome:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None and source is not None  # noqa: S101, PT018 - both are pipes; this only tells mypy
        data = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        sink.write(LENGTH.pack(len(data)) + data)
        await sink.drain()
        (length,) = LENGTH.unpack(await source.readexactly(LENGTH.size))
        outcome: Outcome = pickle.loads(await source.readexactly(length))  # noqa: S301 - our own process's
        return outcome

    def rest(self) -> None:
        """Its session is over: the next call begins another."""
        self._begins = True

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.returncode is None

    async def end(self) -> None:
        """End it, whatever it is at."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class _EndedError(RefusedError):
    """The process is of no more use."""


class Workers:
    """Lends processes; `close` ends them. Event loop only.

    Args:
        number: Processes at most.
        long: Besides them, for what goes on for minutes.
    """

    def __init__(self, number: int = WORKERS, long: int = LONG) -> None:
        self._free = asyncio.Semaphore(number)
        self._long = asyncio.Semaphore(long)
        self._room = number + MAX_WAITING
        self._callers: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}  # of the callers who ask just now
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def lent(self, caller: str, *, long: bool = False) -> AsyncIterator[Worker]:
        """A process for one question, once one is free and what else the caller asks has had its own.

        Args:
            caller: Who asks.
            long: Whether it goes on for minutes.

        Raises:
            RefusedError: OVERLOADED: too many wait, or too many of this caller. SHUTTING_DOWN.
        """
        if self._callers.total() >= self._room or self._callers[caller] >= MAX_EACH:
            raise RefusedError(Reason.OVERLOADED, "too many questions about policy at once")
        if long and self._long.locked():
            raise RefusedError(Reason.OVERLOADED, "a log is being replayed already")
        self._callers[caller] += 1
        try:
            if long:
                async with self._long, self._lent() as worker:
                    yield worker
            else:
                # The caller's turn first: who waits for it keeps no place that others could have.
                async with self._turns.setdefault(caller, asyncio.Lock()), self._free, self._lent() as worker:
                    yield worker
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
                self._turns.pop(caller, None)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Worker]:
        if self._closed:
            raise RefusedError(Reason.SHUTTING_DOWN)
        worker = await self._begun()
        self._busy.add(worker)
        sound = False
        try:
            yield worker
            sound = True
        except ZhiwangError as error:
            sound = not isinstance(error, _EndedError)
            raise
        finally:
            self._busy.discard(worker)
            if sound and worker.alive and not self._closed:
                worker.rest()
                self._idle.append(worker)
            else:
                self._end(worker)

    async def _begun(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            "from policy.working import main; main()",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return Worker(process)

    def _end(self, worker: Worker) -> None:
        """In a task of its own: who was cancelled cannot wait for it."""
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End every process."""
        self._closed = True
        for worker in (*self._idle, *self._busy):
            self._end(worker)
        self._idle.clear()
        if self._ending:
            _, left = await asyncio.wait(self._ending, timeout=STOP_SECONDS)
            if left:
                _log.error("a process that works out policy does not end", number=len(left))
