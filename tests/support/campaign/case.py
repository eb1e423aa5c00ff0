"""A case and what came of it; the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from campaign.judge import Outcome, Verdict

KINDS: Final = {
    "syscall": "a system call fails with EIO or ENOSPC, once or from then on, or the process is killed before it",
    "power": "the power fails: of what was not synced nothing is left, or any part",
    "bit": "one bit of what is stored is flipped",
    "truncation": "a file is cut short",
    "restore": "whole files of several moments are put together: older copies, other guards",
    "clock": "the clock goes back, or leaps ahead and returns",
    "writers": "several writers on one file, some of them killed; a second one on a copy",
    "disk full": "no file grows any more, until there is room again",
    "postgresql": "a log in PostgreSQL: each statement fails, rows and files rot, copies are restored, hubs race",
}
"""What is tried, by kind."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to try.

    Attributes:
        kind: Of `KINDS`.
        scene: What is struck or damaged.
        name: How.
        run: Tries it in an empty directory.
    """

    kind: str
    scene: str
    name: str
    run: Callable[[Path], Verdict]

    @property
    def title(self) -> str:
        """By which a person names it."""
        return f"{self.kind}: {self.scene}: {self.name}"


def concerns(only: str, kind: str, scene: str, name: str = "") -> bool:
    """Whether cases are asked for: by `KIND`, `KIND:SCENE` or `KIND:SCENE:NAME`, or by how each of these begins.

    Args:
        only: What is asked for.
        kind: Of the cases.
        scene: Of the cases.
        name: Of one case; empty for some of the scene.
    """
    wanted = [*(one.strip() for one in only.split(":", 2)), "", ""]
    return kind.startswith(wanted[0]) and scene.startswith(wanted[1]) and (not name or name.startswith(wanted[2]))


@dataclass(frozen=True, slots=True)
class Tried:
    """A case that was tried."""

    kind: str
    scene: str
    name: str
    outcome: Outcome
    detail: str
    withdrawn: int
    seconds: float


def table(tried: Sequence[Tried]) -> Table:
    """Cases by kind and scene, and what became of them."""
    found = Table(title="make faults", caption=f"{len(tried)} cases")
    for heading in ("kind", "scene", "tried", "survived", "refused", "failed"):
        found.add_column(heading, justify="left" if heading in {"kind", "scene"} else "right")
    counted: dict[tuple[str, str], Counter[Outcome]] = {}
    for one in tried:
        counted.setdefault((one.kind, one.scene), Counter())[one.outcome] += 1
    total: Counter[Outcome] = Counter()
    for (kind, scene), counts in counted.items():
        total += counts
        found.add_row(kind, scene, *_row(counts))
    found.add_section()
    found.add_row("all", "", *_row(total))
    return found


def _row(counts: Counter[Outcome]) -> list[str]:
    struck = counts.total() - counts[Outcome.UNTOUCHED]
    return [f"{number:,}" for number in (struck, *(counts[one] for one in OUTCOMES))]


OUTCOMES: Final = (Outcome.SURVIVED, Outcome.REFUSED, Outcome.FAILED)


def show_failures(tried: Sequence[Tried], console: Console) -> None:
    """Every case that failed, and why."""
    for one in tried:
        if one.outcome is Outcome.FAILED:
            console.print(f"FAILED {one.kind}: {one.scene}: {one.name}\n  {one.detail}", markup=False, highlight=False)
