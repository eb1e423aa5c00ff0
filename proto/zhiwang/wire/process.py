"""One process: its event loop, its signals, its state directory and where others find it.

A state directory is made by an `init` command only, and belongs to one process at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvloop

from zhiwang.wire.errors import FatalError, Reason, ZhiwangError
from zhiwang.wire.kept import PUBLIC, replace_durably
from zhiwang.wire.logging import configure, log_loop_errors
from zhiwang.wire.systemd import keep_alive, notify

ADDRESS_FILE = "address.json"
LOCK_FILE = "lock"

EXIT_OK = 0
EXIT_FAILED = 1

_log = structlog.get_logger(__name__)


class Process:
    """What the main coroutine of a process is given.

    Attributes:
        name: What it calls itself in its log.
        state: Its state directory.
        stopping: Set when it has to stop in an orderly way; wait for it once everything serves.
    """

    def __init__(self, name: str, state: Path | None) -> None:
        self.name = name
        self.state = state
        self.stopping = asyncio.Event()

    def announce(self, **addresses: str | int | None) -> None:
        """Say where this process serves, once it does: `state/address.json` with the addresses and the process id."""
        if self.state is not None:
            write_address(self.state, **addresses)
        _log.info("serving", **addresses)
        notify("READY=1")

    def stop(self) -> None:
        """Stop as if the signal had come."""
        self.stopping.set()


def run(name: str, main: Callable[[Process], Coroutine[Any, Any, None]], *, state: Path | None = None) -> int:
    """Run a process until it is told to stop by SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        name: What it calls itself in its log.
        main: Its composition root; returns when everything has been stopped.
        state: Its state directory, which must exist.

    Returns:
        Exit status: 0 after an orderly stop, 1 if it could not start or go on; then the log says why.
    """
    configure(name)
    try:
        with locked_state(state):
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(_supervise(name, main, state))
            finally:
                if state is not None:
                    (state / ADDRESS_FILE).unlink(missing_ok=True)
    except ZhiwangError as error:
        _log.error("cannot go on", reason=error.reason.name, detail=error.detail)
        return EXIT_FAILED
    except (asyncio.CancelledError, KeyboardInterrupt):
        _log.warning("ended at once by a second signal")
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001  whatever it was, its text must not reach the terminal
        _log.critical("the process ends by an error", exc_info=error)
        return EXIT_FAILED
    _log.info("stopped")
    return EXIT_OK


async def _supervise(name: str, main: Callable[[Process], Coroutine[Any, Any, None]], state: Path | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_errors)
    process = Process(name, state)
    task = loop.create_task(main(process))

    def on_signal() -> None:
        if process.stopping.is_set():
            task.cancel()
        else:
            _log.info("stopping")
            notify("STOPPING=1")
            process.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    alive = loop.create_task(keep_alive())
    try:
        await task
    finally:
        alive.cancel()


@contextmanager
def locked_state(state: Path | None) -> Iterator[None]:
    """Hold a state directory for this process alone.

    Raises:
        FatalError: INTERNAL, if it does not exist or another process has it.
    """
    if state is None:
        yield
        return
    try:
        descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise FatalError(
            Reason.INTERNAL, f"there is no state directory {state}; make it with the init command"
        ) from None
    except OSError as error:
        raise FatalError(Reason.INTERNAL, f"the state directory {state} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FatalError(
                Reason.INTERNAL, f"another process uses the state directory {state}; stop it first"
            ) from None
        yield
    finally:
        os.close(descriptor)


def write_address(state: Path, **addresses: str | int | None) -> None:
    """Write `address.json` with these addresses and our process id; a reader sees all of it or none."""
    content = {key: value for key, value in addresses.items() if value is not None}
    said = json.dumps({**content, "pid": os.getpid()}) + "\n"
    replace_durably(state / ADDRESS_FILE, said.encode(), mode=PUBLIC)


def read_address(state: Path) -> dict[str, Any] | None:
    """What the process with this state directory last announced; None if it does not serve."""
    try:
        content = json.loads((state / ADDRESS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def running(state: Path) -> dict[str, Any] | None:
    """What the process with this state directory announced, if it is alive; one that was killed leaves it behind."""
    found = read_address(state)
    if found is None or not isinstance(found.get("pid"), int):
        return None
    try:
        os.kill(found["pid"], 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return found


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run something for as long as the process runs. If it ends before it is cancelled, that is an alarm."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    if task.cancelling():
        return
    error = None if task.cancelled() else task.exception()
    work = getattr(task.get_coro(), "__qualname__", "")
    _log.error("what runs in the background has ended; restart the process", work=work, exc_info=error)
