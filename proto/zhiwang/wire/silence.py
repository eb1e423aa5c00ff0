"""Servers that fall silent: frozen, cut off, or waiting for a disk that never answers.

A server ends its own slow statements, and TCP notices a host that is gone. Between the two lies a server that keeps its
connection and says nothing; a driver without a limit of its own would wait for it for ever, and hold a thread with it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOK_SECONDS = 0.5
"""How often the deadlines are looked at."""


class SilenceWatch:
    """Ends connections on which a statement is overdue; their drivers then report them as lost.

    The thread begins with the first statement and ends with `close`, until the next statement.

    Args:
        seconds: How long a statement may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._deadlines: dict[int, float] = {}
        self._closed = threading.Event()  # of the thread that runs
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, descriptor: int) -> Iterator[None]:
        """Watch the socket of this number for as long as a statement runs over it."""
        with self._lock:
            self._deadlines[descriptor] = time.monotonic() + self._seconds
            if self._thread is None:
                self._closed = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(self._closed,), name="silence", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            # Under the lock, so that no socket is ended that has got the number of one that is gone.
            with self._lock:
                self._deadlines.pop(descriptor, None)

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            self._closed.set()
            self._thread = None

    def _run(self, closed: threading.Event) -> None:
        while not closed.wait(LOOK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for descriptor in [one for one, deadline in self._deadlines.items() if deadline < now]:
                    del self._deadlines[descriptor]
                    _shut(descriptor)


def watched(connection: Any, watch: SilenceWatch) -> Any:
    """A class of connections like `psycopg.Connection`, but one that waits for no answer for ever.

    The server ends its own slow statements, unless it is frozen. So everything is watched that is asked of it: what
    SQLAlchemy and psycopg ask by themselves too, when a session begins and when a transaction is rolled back. How long
    it may take to connect is libpq's `connect_timeout`.
    """

    class Watched(connection):  # type: ignore[misc]  # the driver is an extra, and imported by who has it
        def wait(self, *args: Any, **options: Any) -> Any:
            with watch.over(self.fileno()):
                return super().wait(*args, **options)

    return Watched


def _shut(descriptor: int) -> None:
    """End a connection under its driver, which still owns the descriptor."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It ended by itself.
        return
