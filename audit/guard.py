"""The guard: the newest checkpoint on other storage, so that a log that was rolled back is noticed at the start.

A guard file holds one checkpoint note; it may be a symbolic link to a file on other storage. It is written by one
process: several processes that share a log have a guard each. It is replaced atomically and durably, at most once a
second, by a thread of its own, so that appending never waits for its disk. Whoever else writes it, as `init` does,
takes turns with that thread, and each writes what is newest in its turn: an older note never replaces a newer one. What
is younger than the guard is caught by agents and witnesses, who remember what they saw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.trouble import trouble
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import replace_durably

INTERVAL: Final = 1.0
"""Seconds between two writings."""

_log = structlog.get_logger(__name__)


class Guard:
    """One guard file.

    Args:
        path: Where it lies; best on other storage than the log.
        newest: Gives the note to write.
        interval: Seconds between two writings.

    Attributes:
        newest: As given; replaced when another log is the newest.
        failure: Why it could not be written the last time; None if it could.
    """

    def __init__(self, path: Path, newest: Callable[[], bytes], *, interval: float = INTERVAL) -> None:
        self.path = path
        self.failure: str | None = None
        self.newest = newest
        self._interval = interval
        self._turn = threading.Lock()
        self._written = b""  # owned by whoever has the turn
        self._wake = threading.Event()
        self._running = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None  # owned by whoever holds `_running`, as is `_stop`

    def read(self) -> Checkpoint | None:
        """The checkpoint that the log must extend; None if an operator left an empty file on purpose.

        Raises:
            FatalError: LOG_UNAVAILABLE: the file is missing or holds something else.
        """
        try:
            note = self.path.read_bytes()
        except FileNotFoundError:
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {self.path} is missing, so nothing tells whether the log was rolled back. Bring it back; "
                "or, if its storage is lost, compare the log with a checkpoint that an auditor or witness keeps "
                "(`zhiwang audit verify`) and make an empty file in its place",
            ) from None
        except OSError as error:
            raise FatalError(
                Reason.LOG_UNAVAILABLE, f"the guard {self.path} cannot be read: {trouble(error)}"
            ) from error
        if not note:
            return None
        try:
            # Not verified: whoever can write the guard can also empty it. It guards against the log's own storage.
            return Checkpoint.parse(split_note(note)[0])
        except CheckpointError as error:
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {self.path} is damaged ({error}). Compare the log with a checkpoint that an auditor or "
                "witness keeps, and make an empty file in its place",
            ) from None

    def exists(self) -> bool:
        """Whether there is a guard of some log.

        Raises:
            FatalError: LOG_UNAVAILABLE: nobody can tell.
        """
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FatalError(
                Reason.LOG_UNAVAILABLE, f"the guard {self.path} cannot be read: {trouble(error)}"
            ) from error

    def check_vacant(self) -> None:
        """Nothing is to be remembered here; an empty file is nothing.

        Raises:
            FatalError: LOG_UNAVAILABLE: there is a guard of some log.
        """
        if self.exists():
            raise FatalError(
                Reason.LOG_UNAVAILABLE,
                f"the guard {self.path} remembers a log. Restore that log; or, if it is given up for good, keep the "
                "guard for the audit office and take it away",
            )

    def write(self) -> None:
        """Write the newest note now, durably. May be called in any thread.

        Raises:
            OSError: It could not be written.
        """
        with self._turn:
            note = self.newest()  # asked for in the turn: who comes later writes no older one
            if note == self._written:
                return
            replace_durably(self.path, note, follow=True)
            self._written = note

    def start(self) -> None:
        """Keep the file fresh from a thread of its own.

        Raises:
            FatalError: LOG_UNAVAILABLE: there can be no further thread.
        """
        with self._running:
            if self._thread is None:
                self._stop.clear()
                thread = threading.Thread(target=self._run, name="log guard", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise FatalError(
                        Reason.LOG_UNAVAILABLE,
                        f"nothing can keep the guard {self.path}: {error}; free some memory, then try again",
                    ) from error
                self._thread = thread

    def wake(self) -> None:
        """There is a newer checkpoint."""
        self._wake.set()

    def close(self) -> None:
        """End the thread and write the last checkpoint."""
        with self._running:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._stop.set()
            self._wake.set()
            thread.join()
        self._try()  # the thread may have been writing an older one when it was told to end

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            if not self._try():
                self._wake.set()  # again after the interval
            self._stop.wait(self._interval)

    def _try(self) -> bool:
        try:
            self.write()
        except OSError as error:
            if self.failure is None:
                _log.exception("the log's guard cannot be written", path=str(self.path))
            self.failure = trouble(error)
            return False
        self.failure = None
        return True
