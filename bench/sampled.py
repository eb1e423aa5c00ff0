"""Where a process spends its CPU time: `python -m bench.sampled OUT SCRIPT ARGUMENTS…` runs a script and samples it.

A thread looks at the others every few milliseconds and books the CPU time that each has used since (by the thread's own
clock) to the function of ours in which it stands. What no thread of Python used is booked to "native threads": gRPC's,
mostly. With SIGUSR1 the books are written to OUT and begun anew.

A thread is seen where it lets the interpreter go, which it does within half a millisecond here; so what takes much less
is told apart only by chance, and what sits beside a call that lets go (a COMMIT, a SELECT) is slightly understated.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

INTERVAL = 0.004
"""Seconds between two looks."""

SWITCH = 0.0005
"""Seconds after which a thread has to let another one run."""

NATIVE = "native threads"
LOOP = "event loop and gRPC"
RUNNERS = frozenset({"proto/zhiwang/wire/process.py:run", "bench/__main__.py:main"})
"""Functions that run an event loop: time in which nothing of ours stands above them is the loop's."""
ROOT = str(Path(__file__).parents[1])


class Books:
    """Where CPU time went, by function of ours.

    Args:
        path: Where it is written down.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._clocks: dict[int, float] = {}
        self._all = time.process_time()
        self._due = False
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def run(self) -> None:
        """Look, again and again."""
        own = threading.get_ident()
        while not self._stopped.wait(INTERVAL):
            total = 0.0
            for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to see them
                used = self._used(ident)
                total += used
                if ident != own:
                    self._spent[_place(frame)] += used
            now = time.process_time()
            self._spent[NATIVE] += max(0.0, now - self._all - total)
            self._all = now
            if self._due:
                self._due = False
                draft = self._path.with_suffix(".draft")
                draft.write_text(json.dumps(self._spent), "utf-8")
                draft.replace(self._path)
                self._spent.clear()

    def _used(self, ident: int) -> float:
        try:
            now = time.clock_gettime(time.pthread_getcpuclockid(ident))
        except OSError:
            return 0.0
        before = self._clocks.get(ident, 0.0)
        self._clocks[ident] = now
        return max(0.0, now - before)

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Have the books written down at the next look."""
        self._due = True


def _place(frame: FrameType | None) -> str:
    """The nearest function of ours."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(ROOT) and "/.venv/" not in code.co_filename:
            place = f"{code.co_filename.removeprefix(ROOT + os.sep)}:{code.co_qualname}"
            return LOOP if place in RUNNERS else place
        frame = frame.f_back
    return "elsewhere"


def main() -> None:
    """Run the script under the sampler."""
    path, script, *arguments = sys.argv[1:]
    books = Books(Path(path))
    signal.signal(signal.SIGUSR1, books.ask)
    sys.setswitchinterval(SWITCH)
    threading.Thread(target=books.run, daemon=True).start()
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
