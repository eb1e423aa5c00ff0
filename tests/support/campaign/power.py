"""Cases of power that fails: what a disk may hold at each moment of a scene, if only what was synced is certain.

A killed process leaves the kernel's memory behind, so a kill alone would not notice a sync that is missing. Here a
scene is traced with its data once, and the disk is computed from the trace: each write is certain from the next `fsync`
or `fdatasync` of its file on, each name from the next `fsync` of its directory on. What is not certain may be there or
not: not at all, the names without the data, the data without the names, or any sectors of it (512 bytes).

SQLite's shared memory (`-shm`) never outlives a power failure, and is left out.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from campaign import memories, scenes
from campaign.case import Case, concerns
from campaign.child import Said, run
from campaign.judge import Verdict
from campaign.scene import Scene
from campaign.syscalls import furnish
from campaign.tracer import SPEAKING, Call, plain, read_trace

SECTOR: Final = 512
KEPT: Final = ("nothing", "names", "data", "some sectors", "other sectors")
"""What is kept of that which is not certain."""
POINTS: Final = 40
"""Of moments between two that matter (a sync, a new name, a promise), so many are tried in a long scene."""

_PATH = re.compile(rb'<(/[^>]*)>|"(/[^"]*)"')
_NUMBERS = re.compile(rb", (-?\d+)")
_NAMING: Final = frozenset({"openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat"})
_CHANGING: Final = frozenset({"write", "pwrite64", "ftruncate", "fallocate"})
_MATTERING: Final = frozenset({"fsync", "fdatasync", SPEAKING}) | _NAMING - {"openat"}


@dataclass(slots=True)
class File:
    """Content as the process sees it, and as far as it is certain to be on the disk."""

    now: bytearray = field(default_factory=bytearray)
    certain: bytes = b""


@dataclass(slots=True)
class Disk:
    """Files by name, relative to the scene's directory: as the process sees them, and as far as names are certain."""

    root: bytes
    now: dict[bytes, File] = field(default_factory=dict)
    certain: dict[bytes, File] = field(default_factory=dict)
    spoken: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path, seen_as: Path) -> Disk:
        """What lay there before, all of it certain; in the trace its directory has the other name."""
        disk = cls(bytes(seen_as) + b"/")
        for path in directory.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                content = path.read_bytes()
                disk.now[bytes(path.relative_to(directory))] = File(bytearray(content), content)
        disk.certain = dict(disk.now)
        return disk

    def apply(self, event: Event) -> None:
        """Go on by one event."""
        if event.name == SPEAKING:
            self.spoken.append(json.loads(event.text[event.text.index(b'"') + 1 : event.text.rindex(b'"')]))
            return
        names = [path.removeprefix(self.root) for path in event.paths if path.startswith(self.root)]
        if event.name in {"fsync", "fdatasync"}:
            self._sync(event.paths)
        elif not names or names[-1].endswith((b"-shm", b" (deleted)")):
            return
        elif event.name == "openat":
            self._open(names[0], event.text)
        elif event.name.startswith("rename"):
            self.now[names[1]] = self.now.pop(names[0])
        elif event.name.startswith("link"):
            self.now[names[1]] = self.now[names[0]]
        elif event.name.startswith("unlink"):
            self.now.pop(names[0], None)
        elif event.name in _CHANGING:
            self._change(self.now[names[0]].now, event)

    def _open(self, name: bytes, flags: bytes) -> None:
        if b"O_DIRECTORY" in flags or (name not in self.now and b"O_CREAT" not in flags):
            return
        file = self.now.setdefault(name, File())
        if b"O_TRUNC" in flags:
            file.now.clear()

    @staticmethod
    def _change(content: bytearray, event: Event) -> None:
        if event.name in {"write", "pwrite64"}:
            # The only files that are written in sequence here are new ones.
            start = event.numbers[1] if event.name == "pwrite64" else len(content)
            content.extend(bytes(max(0, start - len(content))))
            content[start : start + len(event.data)] = event.data
        elif event.name == "ftruncate":
            size = event.numbers[0]
            del content[size:]
            content.extend(bytes(size - len(content)))
        elif event.name == "fallocate":
            content.extend(bytes(max(0, sum(event.numbers[-2:]) - len(content))))

    def _sync(self, paths: Sequence[bytes]) -> None:
        (path,) = paths
        below = (path + b"/").removeprefix(self.root)
        file = self.now.get(below.removesuffix(b"/"))
        if file is not None:
            file.certain = bytes(file.now)
            return
        for name in {*self.now, *self.certain}:
            if name.startswith(below) and b"/" not in name.removeprefix(below):
                _settle(self.certain, name, self.now.get(name))

    def image(self, kept: str, seed: str) -> dict[bytes, bytes]:
        """What is found after the power failed now."""
        chance = random.Random(seed)  # noqa: S311 - sectors, no secret
        found: dict[bytes, bytes] = {}
        for name in sorted({*self.now, *self.certain}):
            certain, now = self.certain.get(name), self.now.get(name)
            named = {"names": now, "nothing": certain, "data": certain}.get(kept, chance.choice((certain, now)))
            if named is None:
                continue
            if kept == "data":
                found[name] = bytes(named.now)
            elif kept in {"names", "nothing"}:
                found[name] = named.certain
            else:
                found[name] = _mixed(named, chance)
        return found


def _settle(names: dict[bytes, File], name: bytes, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def _mixed(file: File, chance: random.Random) -> bytes:
    size = chance.choice((len(file.now), len(file.certain)))
    sides = (bytes(file.now), file.certain)
    sectors = (chance.choice(sides)[start : start + SECTOR] for start in range(0, size, SECTOR))
    return b"".join(sector.ljust(min(SECTOR, size - place * SECTOR), b"\0") for place, sector in enumerate(sectors))[
        :size
    ]


@dataclass(frozen=True, slots=True)
class Event:
    """A call that took place."""

    name: str
    text: bytes

    @property
    def paths(self) -> list[bytes]:
        """Paths in it, those behind descriptors too."""
        return [one or other for one, other in _PATH.findall(self.text) if (one or other) and one != b"AT_FDCWD"]

    @property
    def data(self) -> bytes:
        """What is written."""
        start = self.text.index(b'"') + 1
        return self.text[start : start + self.numbers[0]]

    @property
    def numbers(self) -> list[int]:
        """Numbers among the arguments, behind what is written."""
        return [int(number) for number in _NUMBERS.findall(self.text[self.text.rfind(b'"') + 1 :])]


def events(calls: Iterator[Call]) -> Iterator[Event]:
    """What took place, in order: a promise when it begins, everything else when it is done."""
    begun: dict[int, str] = {}
    for call in calls:
        if call.name == SPEAKING:
            text = plain(call.text)
            if call.begins and b'"{' in text:  # an event loop wakes itself by this call too
                yield Event(call.name, text)
            continue
        whole = call.text if call.begins else begun.pop(call.thread, "") + call.text
        if not call.ends:
            begun[call.thread] = whole.removesuffix("<unfinished ...>")
        elif call.succeeded:
            yield Event(call.name, plain(whole.rpartition(" = ")[0]))


@dataclass(frozen=True, slots=True)
class Filmed:
    """A scene as it took place once.

    Attributes:
        scene: Which.
        before: What lay there.
        seen_as: Name of the directory in the trace.
        trace: The trace.
    """

    scene: Scene
    before: Path
    seen_as: Path
    trace: Path

    def __hash__(self) -> int:
        return hash(self.trace)


def plan(scratch: Path, only: str) -> Iterator[Case]:
    """Every moment of every scene, with everything that may be kept."""
    for number, scene in enumerate((*scenes.SCENES, *memories.SCENES)):
        if not concerns(only, "power", scene.name):
            continue
        work = scratch / str(number)
        filmed = film(scene, work)
        for moment in moments(taken_place(filmed)):
            for kept in KEPT:
                yield Case(
                    "power", scene.name, f"after event {moment}, {kept} kept", partial(fail, filmed, moment, kept)
                )


def film(scene: Scene, work: Path) -> Filmed:
    """Let a scene take place once, and keep what it did and said."""
    before, stage, trace = furnish(scene, work), work / "stage", work / "trace"
    shutil.copytree(before, stage)
    said = run(scene.act, stage, trace=trace, whole=True)
    if said.broken or said.refusals:
        raise RuntimeError(f"{scene.name} fails without a fault: {said.broken or said.refusals}")
    return Filmed(scene, before, stage, trace)


@lru_cache(maxsize=2)
def taken_place(filmed: Filmed) -> list[Event]:
    """The events of a scene that concern its files, and its promises."""
    root = bytes(filmed.seen_as)
    return [one for one in events(read_trace(filmed.trace)) if one.name == SPEAKING or root in one.text]


def moments(taken: Sequence[Event]) -> list[int]:
    """Numbers of events after which the power fails."""
    mattering = {number + before for number, one in enumerate(taken) if one.name in _MATTERING for before in (0, 1)}
    step = max(1, len(taken) // POINTS)
    return sorted({*mattering, *range(0, len(taken), step), len(taken)})


def fail(filmed: Filmed, moment: int, kept: str, scratch: Path) -> Verdict:
    """One case."""
    disk = Disk.of(filmed.before, filmed.seen_as)
    for event in taken_place(filmed)[:moment]:
        disk.apply(event)
    directory = scratch / "found"
    (directory / "guard").mkdir(parents=True)
    for name, content in disk.image(kept, f"{moment} {kept}").items():
        path = directory / name.decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    after = run(filmed.scene.recover, directory)
    return filmed.scene.judge(directory, [Said(disk.spoken), after])
