"""One measured figure, and the table and file that hold them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """A figure beside its baseline.

    Attributes:
        name: As in the table of targets in docs/performance.md.
        value: Measured figure.
        unit: Its unit.
        baseline: What it is held against, in the same unit and from the same run.
        ratio: The two divided, so that the target reads off it.
        target: In words, e.g. "at least 1.0".
        met: Whether the ratio meets it; None where there is no target.
    """

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float
    target: str
    met: bool | None


def merge(path: Path, results: list[Result]) -> None:
    """Write `results` into the JSON list at `path`, in place of former figures of the same names."""
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    names = {result.name for result in results}
    kept = [row for row in former if row["name"] not in names]
    path.write_text(json.dumps(kept + [asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def show(results: list[Result], console: Console) -> None:
    """Print the table."""
    table = Table(title="make bench")
    for heading in ("name", "value", "unit", "baseline", "ratio", "target", "met"):
        table.add_column(
            heading,
            no_wrap=heading != "target",
            justify="left" if heading in {"name", "unit", "target", "met"} else "right",
        )
    for result in results:
        met = "" if result.met is None else "yes" if result.met else "NO"
        table.add_row(
            result.name,
            f"{result.value:,.6g}",
            result.unit,
            f"{result.baseline:,.6g}",
            f"{result.ratio:,.3g}",
            result.target,
            met,
        )
    console.print(table)
