"""`make faults` runs the campaign, `make faults ONLY=KIND`, `ONLY=KIND:SCENE` or `ONLY=KIND:SCENE:NAME` a part of it.

Exit status 0 if every case was survived or refused, 1 if one failed, 2 if nothing matches.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import create_engine

import audit_support as support
from campaign import cluster, damage, histories, postgresql, power, small_disk, syscalls, tracer
from campaign.case import KINDS, Case, Tried, concerns, show_failures, table
from campaign.judge import Outcome, Verdict

PLANS: Final = {
    "syscall": syscalls.plan,
    "power": power.plan,
    "bit": damage.plan_bits,
    "truncation": damage.plan_truncations,
    "restore": histories.plan_restores,
    "clock": histories.plan_clocks,
    "writers": histories.plan_writers,
    "disk full": histories.plan_full,
    "postgresql": postgresql.plan,
}
"""What lists the cases of a kind."""
NEEDS: Final = {
    "syscall": tracer.reason_missing,
    "power": tracer.reason_missing,
    "postgresql": cluster.reason_missing,
    f"postgresql:{small_disk.SCENE}": small_disk.reason_missing,
}
"""Kinds and scenes that this machine may lack something for: each tells what that is."""

_cases: list[Case] = []
_scratch = Path()


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan, try and tell."""
    parser = argparse.ArgumentParser(
        prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    parser.add_argument("--only", default="", help=f"KIND, KIND:SCENE or KIND:SCENE:NAME, or how they begin ({kinds})")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th case of each scene")
    parser.add_argument("--workers", type=int, default=2, help="processes that try cases (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write every case with its outcome to this file")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep each outcome in this file, and try no case that it has"
    )
    parser.add_argument("--list", action="store_true", help="list the cases and try none")
    options = parser.parse_args(arguments)
    console = Console(width=max(Console().width, 120))
    left_out = _left_out(options.only)
    for what, reason in left_out.items():
        console.print(f"left out: {what}: {reason}")
    global _scratch  # noqa: PLW0603 - what the forked workers find
    with tempfile.TemporaryDirectory(prefix="zhiwang-faults-") as scratch:
        _scratch = Path(scratch)
        _warm()
        _cases[:] = _chosen(options.only, options.every, left_out)
        if not _cases:
            console.print(f"no case matches {options.only!r}; kinds are: {', '.join(KINDS)}")
            return 2
        if options.list:
            for case in _cases:
                console.print(case.title, markup=False, highlight=False)
            return 0
        results = _try_all(options.workers, {} if options.resume is None else _known(options.resume), options.resume)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n", "utf-8")
    console.print(table(results))
    show_failures(results, console)
    return int(any(one.outcome is Outcome.FAILED for one in results))


def _warm() -> None:
    """Load and make what every process under test needs, so that it does so before the fault."""
    create_engine("sqlite://").dispose()
    for number in range(2):
        support.signer(number=number)


def _left_out(only: str) -> dict[str, str]:
    """What of that which is asked for cannot be tried here, and why."""
    found = {}
    for what, missing in NEEDS.items():
        kind, _, scene = what.partition(":")
        asked = concerns(only, kind, scene) if scene else kind.startswith(only.partition(":")[0].strip())
        if asked and (reason := missing()):
            found[what] = reason
    return found


def _chosen(only: str, every: int, left_out: Container[str]) -> list[Case]:
    counted: Counter[tuple[str, str]] = Counter()
    chosen = []
    for kind, plan in PLANS.items():
        if kind in left_out or not kind.startswith(only.partition(":")[0]):
            continue
        for case in plan(_scratch / "plan" / kind, only):
            if not concerns(only, case.kind, case.scene, case.name):
                continue
            if counted[case.kind, case.scene] % every == 0:
                chosen.append(case)
            counted[case.kind, case.scene] += 1
    return chosen


def _known(path: Path) -> dict[tuple[str, str, str], Tried]:
    """Cases that were tried before the campaign was interrupted."""
    if not path.exists():
        return {}
    lines = path.read_text("utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]), "utf-8")  # the campaign ended while it wrote the last one
        del lines[-1]
    found = [Tried(**{**case, "outcome": Outcome(case["outcome"])}) for case in map(json.loads, lines)]
    return {(one.kind, one.scene, one.name): one for one in found}


def _try_all(workers: int, known: Mapping[tuple[str, str, str], Tried], keep: Path | None) -> list[Tried]:
    """Every case in order: what became of it now, or before."""
    found = [known.get((case.kind, case.scene, case.name)) for case in _cases]
    missing = [number for number, one in enumerate(found) if one is None]
    with keep.open("a", encoding="utf-8") if keep is not None else nullcontext() as file:
        for number, result in _trying(workers, missing):
            found[number] = result
            if file is not None:
                file.write(json.dumps(asdict(result)) + "\n")
                file.flush()
    return [one for one in found if one is not None]


def _trying(workers: int, numbers: Sequence[int]) -> Iterator[tuple[int, Tried]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[failed]}"))
    with (
        # Forked, so that each worker has everything loaded and the same keys, and itself forks what is struck.
        multiprocessing.get_context("fork").Pool(workers) as pool,
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
    ):
        task = progress.add_task("cases", total=len(numbers), failed="")
        failed = 0
        for number, result in pool.imap_unordered(_try, numbers):
            failed += result.outcome is Outcome.FAILED
            progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")
            yield number, result
        # They end by themselves, and so take their servers away.
        pool.close()
        pool.join()


def _try(number: int) -> tuple[int, Tried]:
    case = _cases[number]
    directory = _scratch / f"case-{number}"
    directory.mkdir()
    start = time.monotonic()
    try:
        verdict = case.run(directory)
    except Exception:  # noqa: BLE001 - a case that breaks the campaign is one that failed
        verdict = Verdict(Outcome.FAILED, traceback.format_exc())
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    seconds = round(time.monotonic() - start, 3)
    return number, Tried(case.kind, case.scene, case.name, verdict.outcome, verdict.detail, verdict.withdrawn, seconds)


if __name__ == "__main__":
    sys.exit(main())
