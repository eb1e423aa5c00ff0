"""Readings of the machine: CPU time of other processes, and what a disk's fsync costs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds that a process has used, with its finished threads (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def running_seconds(pid: int) -> float:
    """CPU seconds of a process's threads that live, to the nanosecond (Documentation/scheduler/sched-stats.rst).

    What `cpu_seconds` tells comes in steps of a tick, 10 ms: too coarse for a server that works for a few of them.
    """
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int(path.read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


@dataclass(frozen=True, slots=True)
class CpuMeter:
    """CPU time of named processes over a stretch of work."""

    pids: dict[str, int]

    def read(self) -> dict[str, float]:
        """CPU seconds so far, by name."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}


def synced(directory: Path, size: int, seconds: float) -> list[float]:
    """Seconds of each write of `size` bytes to the end of a file in `directory`, until they are durable."""
    times: list[float] = []
    data = os.urandom(size)
    stop = time.perf_counter() + seconds
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        while (started := time.perf_counter()) < stop:
            file.write(data)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return times


def fsync_seconds(directory: Path, size: int, rounds: int = 50) -> float:
    """Median seconds of appending `size` bytes to a file in `directory` and making them durable."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(rounds):
            file.write(os.urandom(size))
            started = time.perf_counter()
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)
