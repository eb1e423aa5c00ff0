"""`make bench` runs every benchmark, `make bench ONLY=name` one; results go to bench/results.json and to the terminal.

A figure is a ratio to something plain that was measured in the same run on the same machine. Names and targets are
those of docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop
from rich.console import Console

from bench import (
    batch,
    calm,
    directory,
    extracts,
    growth,
    hubs,
    log,
    memory,
    policy,
    rehearsal,
    rows,
    stores,
    verification,
)
from bench.result import Result, merge, show

Measure = Callable[[], Coroutine[None, None, list[Result]]]

BENCHMARKS: dict[str, Measure] = {
    "single_throughput": verification.measure_single,
    "single_latency": verification.measure_single,
    "policy_cached": policy.measure,
    "policy_cold": policy.measure,
    "policy_first": policy.measure,
    "directory_verify": directory.measure,
    "directory_load": directory.measure,
    "directory_swap": directory.measure,
    "directory_change": directory.measure,
    "policy_diff": rehearsal.measure,
    "policy_who_can": rehearsal.measure,
    "policy_replay": rehearsal.measure,
    "log_append": log.measure,
    "log_growth": growth.measure,
    "row_growth": rows.measure,
    "frame_store": stores.measure,
    "batch_throughput": batch.measure,
    "two_hubs": hubs.measure,
    "batch_profile": batch.measure_profile,
    "interactive_p99": calm.measure,
    "student": verification.measure_student,
    "memory": memory.measure,
    "extract_load": extracts.measure,
}
"""By name of the figure; some are measured together."""

LONG: dict[str, Measure] = {
    "log_growth": growth.measure_long,
    "log_growth_postgresql": growth.measure_long_postgresql,
    "row_growth": rows.measure_long,
    "batch_throughput": batch.measure_long,
    "memory": memory.measure_long,
}
"""What `make bench-long` runs."""

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Run what was asked for; exit 0 whether targets are met or not, since a missed one is a result too."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument(
        "--only", choices=sorted({*BENCHMARKS, *LONG}), help="run this one, and what is measured with it"
    )
    parser.add_argument("--long", action="store_true", help="to ten million entries; hours")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    arguments = parser.parse_args()
    console = Console(width=max(Console().width, 160))
    benchmarks = LONG if arguments.long else BENCHMARKS
    if arguments.only and arguments.only not in benchmarks:
        parser.error(f"--long has {', '.join(benchmarks)}")
    chosen = [arguments.only] if arguments.only else list(benchmarks)
    measured: list[Result] = []
    for measure in dict.fromkeys(benchmarks[name] for name in chosen):
        print(f"… {measure.__module__}.{measure.__name__}", file=sys.stderr)
        results = uvloop.run(measure())
        merge(arguments.results, results)
        measured += results
    show(measured, console)


if __name__ == "__main__":
    main()
