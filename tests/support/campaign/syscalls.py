"""Cases of one kind for each system call that a scene makes on its files: it fails, the disk is full, or it kills."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from campaign import frames, memories, scenes
from campaign.case import Case, concerns
from campaign.child import run
from campaign.judge import Outcome, Verdict
from campaign.scene import Scene
from campaign.tracer import READING, WRITING, Strike, read_trace, touching

LASTING: Final = frozenset({"pwrite64", "write", "fsync", "fdatasync"})
"""Calls that also fail for good, from one on: a disk that is full or broken stays so."""


Found = TypeVar("Found")
MANY: Final = 24
"""Of calls that a scene makes more often, so many are struck: the first, the last, and some evenly between."""


def every_scene() -> tuple[Scene, ...]:
    """Of the log, of those who remember it, and of an adapter's store."""
    return (*scenes.SCENES, *memories.SCENES, *frames.SCENES)


def plan(scratch: Path, only: str) -> Iterator[Case]:
    """Every scene with every fault."""
    for number, scene in enumerate(every_scene()):
        if not concerns(only, "syscall", scene.name):
            continue
        work = scratch / str(number)
        furnished = furnish(scene, work)
        for fault in strikes(scene, furnished, work):
            yield Case("syscall", scene.name, str(fault), partial(strike, scene, furnished, fault))


def furnish(scene: Scene, directory: Path) -> Path:
    """What the scene finds, made once and copied for each case."""
    furnished = directory / "furnished"
    furnished.mkdir(parents=True)
    said = run(scene.furnish, furnished)
    if said.broken or said.refusals:
        raise RuntimeError(f"{scene.name} cannot be furnished: {said.broken or said.refusals}")
    return furnished


def strikes(scene: Scene, furnished: Path, scratch: Path) -> Iterator[Strike]:
    """Every fault of every call that the scene makes on its files, as a first run without faults shows them."""
    directory, trace = scratch / "looked at", scratch / "trace"
    shutil.copytree(furnished, directory)
    said = run(scene.act, directory, trace=trace)
    if said.broken or said.refusals:
        raise RuntimeError(f"{scene.name} fails without a fault: {said.broken or said.refusals}")
    found = touching(list(read_trace(trace)), directory)
    for call in (*WRITING, *READING):
        for number in some(sorted(found.get(call, ()))):
            yield Strike(call, number)
            yield Strike(call, number, "EIO")
            if call in WRITING:
                yield Strike(call, number, "ENOSPC")
            if call in LASTING:
                yield Strike(call, number, "ENOSPC" if "write" in call else "EIO", lasting=True)


def some(found: Sequence[Found]) -> Sequence[Found]:
    """All of them or, of many, the first, the last, and some evenly between."""
    if len(found) <= MANY:
        return found
    return [found[place] for place in sorted({round(one * (len(found) - 1) / (MANY - 1)) for one in range(MANY)})]


def strike(scene: Scene, furnished: Path, fault: Strike, scratch: Path) -> Verdict:
    """One case."""
    directory = scratch / "struck"
    shutil.copytree(furnished, directory)
    said = run(scene.act, directory, fault, trace=scratch / "trace")
    after = run(scene.recover, directory)
    verdict = scene.judge(directory, [said, after])
    return verdict if said.struck or verdict.outcome is Outcome.FAILED else Verdict(Outcome.UNTOUCHED)
