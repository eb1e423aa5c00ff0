"""Cases of a PostgreSQL whose disk is full: its data directory lies on a small file system of its own (tmpfs).

A full disk fails one statement where a table cannot grow, and ends the server where its write-ahead log cannot; then
there is room again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Final

import audit_support as support
from campaign.case import Case, concerns
from campaign.child import Running, Voice, run
from campaign.cluster import Cluster
from campaign.judge import Outcome, Verdict
from campaign.scenes import append, furnished, going_on, insist, opened
from campaign.statements import KIND, judged, persist
from servers import MissingError, Postgresql

SCENE: Final = "disk full"
SIZE: Final = 96
"""MiB of the file system: three times what an empty server takes."""
LEFT: Final = (0, 8, 64, 256, 512, 1024)
"""KiB that are free when a process begins to append."""
GROUPS: Final = 12
"""Transactions of so many times 150 KB, of which only the first find room."""


class OnSmallDisk(Postgresql):
    """A server whose disk is full before long."""

    segment = 1

    @property
    def disk(self) -> Path:
        """Where the file system is mounted."""
        return self.directory / "data"

    def initialise(self) -> None:
        """Mount it, and make the data directory there."""
        self.disk.mkdir()
        _mount(self.disk)
        status = self.directory.stat()
        os.chown(self.disk, status.st_uid, status.st_gid)
        super().initialise()

    def command(self) -> list[str]:
        """With a write-ahead log that leaves room for tables."""
        return [*super().command(), "-c", "max_wal_size=8MB"]

    def remove(self) -> None:
        """Stop it, and take the file system away."""
        self.stop()
        _unmount(self.disk)
        super().remove()


def _mount(directory: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603 - our own
        raise MissingError("no file system can be mounted here")


def _unmount(directory: Path) -> None:
    if directory.is_mount():
        subprocess.run(["umount", "--lazy", str(directory)], check=False)  # noqa: S603, S607 - our own


@lru_cache(maxsize=1)
def reason_missing() -> str:
    """Why no disk can be made full here; empty if one can."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            _mount(Path(directory))
        except MissingError as error:
            return str(error)
        _unmount(Path(directory))
    return ""


@cache
def _of(_process: int) -> Cluster:
    return Cluster(OnSmallDisk())


def plan(only: str) -> Iterator[Case]:
    """The disk is full sooner or later; nothing where none can be made full."""
    if concerns(only, KIND, SCENE) and not reason_missing():
        for left in LEFT:
            yield Case(KIND, SCENE, f"{left} KiB left", partial(_full, left))


def _filling(directory: Path, voice: Voice) -> Iterator[None]:
    store = opened(directory, voice)
    append(store, voice)
    yield
    for _ in range(GROUPS):
        insist(store, voice, lambda: append(store, voice, 100, 1500))
    voice.say("tried")
    persist(store, voice, 1)
    support.close(store)


def _full(left: int, scratch: Path) -> Verdict:
    here = _of(os.getpid())
    here.heal()
    server = here.server
    assert isinstance(server, OnSmallDisk)
    place, directory = here.copy(here.furnished("full", furnished(20)), scratch)
    running = Running(_filling, directory)
    filler = server.disk / "filler"
    space = os.statvfs(server.disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - left * 1024)
    running.go()
    running.until("tried", 1)
    filler.unlink()
    here.heal()
    said = running.end()
    verdict = judged(place, directory, [said, run(going_on, directory)])
    place.drop()
    if verdict.outcome is Outcome.SURVIVED and not said.refusals:
        return Verdict(Outcome.UNTOUCHED)
    return verdict
