"""The second driver: a directory of CSV and XLSX files, read as if it were a database.

Files become tables of a private SQLite database in the adapter's state directory; everything behind that (statements,
types, ledger, probes, check) is what serves any other database. This module finds the files, waits until they stand
still, has another process load them (`adapters/extract_load.py`) and moves the new database into the place of the one
in force, whole. Connections notice that by themselves, and whoever reads the old one ends with the old one.

A file that cannot be taken alarms and changes nothing: the last good load stays, as old as it is, until the attributes'
`max_age` makes their answers UNKNOWN.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.extract_load import Job, Load, Result, Stamp, Task, read_loads
from adapters.extract_model import ExtractFile, directory_of, indexes, readable
from adapters.mapping import Mapping
from policy.document import Mistake
from zhiwang.wire.metrics import REGISTRY
from zhiwang.wire.tomlfile import FileError, Finding, as_findings

LOOK_SECONDS = 2.0
"""How often the directory is looked at."""

RETRY_SECONDS = 60.0
"""After how long a load is tried again that failed for reasons of the machine: no space, a process that was killed."""

LOAD_SECONDS = 3600.0
"""How long a load may take."""

_POLL_SECONDS = 0.2
_LEEWAY = 5.0
_FAILURES = {
    "no space": "there is no space for the private database",
    "failed": "the load failed for a reason of this machine; it is tried again within a minute",
}

_log = structlog.get_logger(__name__)


class _Seen(NamedTuple):
    """What lies in the directory: a file, and its companion."""

    stamp: Stamp
    companion: Stamp | None


class Extracts:
    """The files of one mapping, and the private database made of them. `look` belongs to one thread at a time.

    Args:
        directory: Of the private database; made if it is not there.
        clock: Seconds since the epoch.
        monotonic: Seconds since some time.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = directory / "extracts.db"
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._source = Path()
        self._files: dict[str, ExtractFile] = {}
        self._indexes: dict[str, tuple[str, ...]] = {}
        self._first_seen: dict[str, tuple[_Seen, float]] = {}
        self._refused: dict[str, _Seen] = {}
        # From these alone no whole database could be made; only others are worth another attempt.
        self._in_vain: dict[str, _Seen] | None = None
        self._retry_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        # What is found at the beginning goes to whoever began, not to a log.
        self._begun = False
        self.loads: dict[str, Load] = {}
        self.problems: dict[str, str] = {}
        self.counts: dict[tuple[str, str], int] = {}

    @property
    def in_use(self) -> bool:
        """Whether the mapping is over files at all."""
        return bool(self._files)

    def begin(self, mapping: Mapping, path: Path) -> tuple[Mapping, list[Finding]]:
        """Take up the files as they are now, and wait for those that are still being written. Blocks.

        Args:
            mapping: Over files; any other is returned as it is.
            path: Of the mapping.

        Returns:
            The mapping over the private database; and what is wrong with files whose last good load is in force.

        Raises:
            FileError: A file cannot be taken, and there is no earlier load of it.
        """
        if not mapping.file:
            return mapping, []
        self._source = directory_of(mapping, path.parent)
        self._files = mapping.file
        self._indexes = indexes(mapping)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for left in self._directory.glob("new-*"):
            left.unlink()
        self.loads = read_loads(self.database, thorough=True)
        until = self._monotonic() + 2 * max(file.settle for file in self._files.values()) + _LEEWAY
        while self.look() and self._monotonic() < until and not self._closing.wait(_POLL_SECONDS):
            pass
        missing = [name for name in self._files if name not in self.loads or self._stale(name)]
        if missing:
            # Where some are wrong, nothing is told of those that only share their fate.
            wrong = {one: self.problems[one] for one in missing if one in self.problems}
            problems = wrong or dict.fromkeys(missing, "is still being written; try again when it is complete")
            raise FileError(as_findings(path, [(("file", one), problem) for one, problem in problems.items()]))
        self._begun = True
        mistakes = [
            Mistake(("file", name), f"{problem}; the load before it is in force")
            for name, problem in self.problems.items()
        ]
        return readable(mapping, self.database), as_findings(path, mistakes)

    async def watch(self, loaded: Callable[[], Awaitable[None]]) -> None:
        """Take up what changes, until cancelled.

        Args:
            loaded: Called after each load.
        """
        while self._files:
            await asyncio.sleep(LOOK_SECONDS)
            before = self.loads
            try:
                await asyncio.to_thread(self.look)
                if self.loads is not before:
                    await loaded()
            except Exception as error:  # noqa: BLE001 - else nobody would look again
                _log.error("extracts could not be looked at", error=type(error).__name__)

    def close(self) -> None:
        """End a load that is running."""
        self._closing.set()
        process = self._process
        if process is not None:
            process.kill()

    def look(self) -> bool:
        """Look at the directory once and load what is new and stands still. Blocks.

        Returns:
            Whether something is there that has yet to settle.
        """
        unsettled = False
        if not self.database.exists():
            self.loads = {}
        fresh: dict[str, _Seen] = {}
        for name, file in self._files.items():
            seen = self._newest(name, file)
            if seen is None:
                continue
            if self._in_force(name, seen):
                self._mend(name)
            elif self._refused.get(name) != seen:
                if self._settled(name, file, seen):
                    fresh[name] = seen
                else:
                    unsettled = True
        # A first load waits for all of them; a table that the mapping no longer has must not stay.
        whole = all(name in self.loads for name in self._files)
        if (fresh and (whole or not unsettled)) or set(self.loads) - set(self._files):
            self._take_up(fresh)
        return unsettled

    def _stale(self, name: str) -> bool:
        """Whether the load in force was made by other words of the mapping."""
        return name not in self.loads or self.loads[name].settings != self._task(name, None).settings

    def _in_force(self, name: str, seen: _Seen) -> bool:
        return not self._stale(name) and self.loads[name].stamp == seen.stamp

    def _task(self, name: str, stamp: Stamp | None) -> Task:
        return Task(file=self._files[name], index=self._indexes[name], stamp=stamp)

    def _newest(self, name: str, file: ExtractFile) -> _Seen | None:
        """Of the files that fit and are complete, the one whose name sorts last; None, and a problem, without one."""
        best: str | None = None
        try:
            with os.scandir(self._source) as entries:
                names = {entry.name for entry in entries}
            for one in names:
                if (best is None or one > best) and _fits(one, file) and _complete(one, file, names):
                    best = one
            if best is None:
                waits = f" with its companion .{file.companion}" if file.companion else ""
                self._alarm(name, f"there is no file {file.path}{waits}")
                return None
            status = (self._source / best).stat(follow_symlinks=False)
            companion = None
            if file.companion:
                beside = f"{best}.{file.companion}"
                companion = Stamp.of(beside, (self._source / beside).stat(follow_symlinks=False))
            return _Seen(Stamp.of(best, status), companion)
        except OSError as error:
            self._alarm(name, f"the directory of the files cannot be read: {error.strerror}")
            return None

    def _settled(self, name: str, file: ExtractFile, seen: _Seen) -> bool:
        """Whether a file has stood unchanged for long enough, by its time or, if that is of another clock, by ours."""
        now = self._monotonic()
        first, since = self._first_seen.get(name, (None, now))
        if first != seen:
            self._first_seen[name] = (seen, now)
            since = now
        age = self._clock() - max(seen.stamp.written, seen.stamp.changed) / 1e9
        return age >= file.settle or now - since >= file.settle

    def _take_up(self, fresh: dict[str, _Seen]) -> None:
        """Have a new database built, and move it into place."""
        if self._monotonic() < self._retry_at or fresh == self._in_vain:
            return
        target = self._directory / f"new-{secrets.token_hex(8)}.db"
        tasks = {name: self._task(name, fresh[name].stamp if name in fresh else None) for name in self._files}
        job = Job(
            directory=str(self._source),
            target=str(target),
            current=str(self.database) if self.loads else None,
            now=int(self._clock()),
            tasks=tasks,
        )
        try:
            result = self._run(job)
            if result is not None and result.outcome == "built":
                target.replace(self.database)
                self.loads = result.loaded
        finally:
            target.unlink(missing_ok=True)
        if result is None:
            return
        self._in_vain = fresh if result.outcome == "incomplete" else None
        if result.outcome == "damaged":
            _log.error("the private database is damaged; every file is loaded anew")
            self.loads = {}
            return
        if result.outcome in _FAILURES:
            self._retry_at = self._monotonic() + RETRY_SECONDS
            for name in fresh:
                self._count(name, "failed")
                self._alarm(name, _FAILURES[result.outcome])
            return
        for name, seen in fresh.items():
            if name in result.refused:
                self._refused[name] = seen
                self._count(name, "refused")
                self._alarm(name, f"{seen.stamp.file}: {result.refused[name]}")
            elif name in self.loads and self.loads[name].stamp == seen.stamp:
                self._count(name, "loaded")
                self._mend(name)
                if self._begun:
                    _log.info("extract loaded", extract=name, at=seen.stamp.file, rows=self.loads[name].rows)

    def _run(self, job: Job) -> Result | None:
        """What the process says; None if we are closing."""
        command = [sys.executable, "-P", "-m", "adapters.extract_load"]
        # Its errors would quote values.
        with subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            self._process = process
            try:
                if self._closing.is_set():
                    process.kill()
                said, _ = process.communicate(job.model_dump_json().encode(), LOAD_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said = b""
            finally:
                self._process = None
        if self._closing.is_set():
            return None
        try:
            return Result.model_validate_json(said)
        except ValueError:
            _log.error("the process that loads extracts ended early", status=process.returncode)
            return Result(outcome="failed")

    def _count(self, name: str, result: str) -> None:
        self.counts[name, result] = self.counts.get((name, result), 0) + 1

    def _alarm(self, name: str, problem: str) -> None:
        if self.problems.get(name) != problem:
            self.problems[name] = problem
            if self._begun:
                _log.error("extract not taken", extract=name, detail=problem)

    def _mend(self, name: str) -> None:
        self._refused.pop(name, None)
        if self.problems.pop(name, None) is not None and self._begun:
            _log.info("extract is good again", extract=name)


def _fits(name: str, file: ExtractFile) -> bool:
    """Whether a name is of the mapping's form; what begins with a dot is on its way to another name."""
    return not name.startswith(".") and name.isprintable() and fnmatchcase(name, file.path)


def _complete(name: str, file: ExtractFile, names: set[str]) -> bool:
    return file.companion is None or f"{name}.{file.companion}" in names


@contextmanager
def taken_up(mapping: Mapping, path: Path, extracts: Extracts | None) -> Iterator[tuple[Mapping, list[Finding]]]:
    """A mapping over whatever its data come from, ready to be read; and warnings.

    Args:
        mapping: Any mapping.
        path: Of the mapping.
        extracts: Where its files go; None for a directory that is gone afterwards.

    Raises:
        FileError: A file cannot be taken.
    """
    if extracts is not None or not mapping.file:
        yield (mapping, []) if extracts is None else extracts.begin(mapping, path)
        return
    with tempfile.TemporaryDirectory(prefix="zhiwang-") as directory:
        yield Extracts(Path(directory)).begin(mapping, path)


class ExtractMetrics(Collector):
    """What an adapter over files tells Prometheus.

    Args:
        extracts: The files.
        registry: Where to register.
    """

    def __init__(self, extracts: Extracts, registry: CollectorRegistry = REGISTRY) -> None:
        self._extracts = extracts
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Everything, at this moment."""
        loads = CounterMetricFamily(
            "zhiwang_adapter_extract_loads", "Files that were looked into, by result", labels=["extract", "result"]
        )
        for (name, result), number in list(self._extracts.counts.items()):
            loads.add_metric([name, result], number)
        yield loads
        failing = GaugeMetricFamily(
            "zhiwang_adapter_extract_failing", "Files of which an older load is in force", labels=["extract"]
        )
        for name in list(self._extracts.problems):
            failing.add_metric([name], 1)
        yield failing
        written = GaugeMetricFamily(
            "zhiwang_adapter_extract_written_seconds", "When the loaded file was written", labels=["extract"]
        )
        rows = GaugeMetricFamily("zhiwang_adapter_extract_rows", "Rows of the loaded file", labels=["extract"])
        for name, load in list(self._extracts.loads.items()):
            written.add_metric([name], load.written)
            rows.add_metric([name], load.rows)
        yield written
        yield rows
