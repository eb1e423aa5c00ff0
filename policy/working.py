"""A process beside a server that works out what takes long; `workers.py` starts it, with `main`.

It reads calls from standard input, one after the other, and writes what came of each to standard output: eight bytes of
length, then a pickle. Both ends are one program of one installation, and nobody else holds the pipes. It is nice to the
server beside it, takes no more than so much memory, and ends by itself when a call takes too long or nobody is there.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from importlib import import_module
from typing import Any, BinaryIO, Final, NamedTuple

from zhiwang.wire.errors import ZhiwangError

LENGTH: Final = struct.Struct(">Q")
MAX_MEMORY: Final = 512 << 20
"""Bytes of address space, several times what 10,000 rules take. What would need more is refused: the server must not be
the one to suffer, since who limits the memory of a service ends all of it."""
NICENESS: Final = 10
LEEWAY_SECONDS: Final = 5.0
"""By how much later than its server this process ends a call by itself."""


class Task(NamedTuple):
    """A call.

    Attributes:
        function: "module:name"; it is called with the session and the arguments.
        arguments: Whatever can be pickled.
        seconds: How long it may take.
        begins: Whether a new session begins: nothing is left of the one before.
    """

    function: str
    arguments: tuple[Any, ...]
    seconds: float
    begins: bool


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        result: If all went well.
        refusal: Name of the reason, detail, field and metadata of a refusal; None without one.
        trouble: What went wrong in this program; empty if nothing did.
    """

    result: Any = None
    refusal: tuple[str, str, str, dict[str, str]] | None = None
    trouble: str = ""


def main() -> None:
    """Work until nobody asks any more."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    # Who stops the server by a key stops this process by closing its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    session: dict[str, Any] = {}
    while True:
        data = _read(source)
        if data is None:
            return
        task: Task = pickle.loads(data)  # noqa: S301 - our own server's
        if task.begins:
            session = {}
        # Its default is to end the process: whoever waits for it sees its end.
        signal.setitimer(signal.ITIMER_REAL, task.seconds + LEEWAY_SECONDS)
        said = pickle.dumps(_run(task, session), pickle.HIGHEST_PROTOCOL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sink.write(LENGTH.pack(len(said)) + said)
        sink.flush()


def _run(task: Task, session: dict[str, Any]) -> Outcome:
    module, _, name = task.function.partition(":")
    try:
        return Outcome(getattr(import_module(module), name)(session, *task.arguments))
    except ZhiwangError as error:
        return Outcome(refusal=(error.reason.name, error.detail, error.field, error.metadata))
    except MemoryError:
        return Outcome(trouble="MemoryError")
    except Exception as error:  # noqa: BLE001 - told to the server, which logs it
        # Where, but not with what: the text could quote a file that somebody sent.
        return Outcome(trouble="".join((type(error).__name__, "\n", *traceback.format_tb(error.__traceback__))))


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = source.read(length)
    return data if len(data) == length else None
