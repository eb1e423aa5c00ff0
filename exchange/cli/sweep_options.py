"""The options by which a roster is asked: one group, of `zhiwang sweep` and of `zhiwang matter run --roster`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

Out = Annotated[Path | None, typer.Option("--out", metavar="RESULTS", help="Results; its extension says the format.")]
Key = Annotated[str, typer.Option(metavar="HEADING", help="Column that names a row in the results.")]
Mapping = Annotated[
    Path | None, typer.Option(help="The same as a TOML file: see docs/sweep.md.", exists=True, dir_okay=False)
]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep-columns", metavar="HEADING", help="Copy this column into the results. Several times."),
]
Header = Annotated[int, typer.Option(min=1, max=100, help="Row of the headings.")]
Sheet = Annotated[str, typer.Option(help="Sheet of a workbook, if it has several.")]
Separator = Annotated[str, typer.Option(help="Between the fields of a CSV file; found if left out.")]
Encoding = Annotated[str, typer.Option(help="Of a CSV file: utf-8 or gb18030; found by trying if left out.")]
Until = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="When to stop: 06:00, 2026-12-01T06:00 or 8h, in the city's time. If left out, all rows are asked, "
        "and for an hour more those that nobody could answer.",
    ),
]
ChangedSince = Annotated[
    Path | None,
    typer.Option(metavar="RESULTS", help="Write only rows that differ from these.", exists=True, dir_okay=False),
]
Full = Annotated[
    Path | None, typer.Option(metavar="RESULTS", help="With --changed-since: write the rows of all there.")
]
Plan = Annotated[
    bool,
    typer.Option("--plan", help="Ask nothing: print calls, denials, caps, what runs out, and how long it would take."),
]
Rate = Annotated[
    float | None,
    typer.Option(min=0.1, help="With --plan: rows a second; that of the interrupted sweep if left out."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask by a guessed mapping without being asked.")]

# Of every question.
Reference = Annotated[str, typer.Option(help="Reference of the case or job, in the matter's pattern.")]
Official = Annotated[str, typer.Option(help="Who asks; never an identifier of a citizen.")]
Role = Annotated[str, typer.Option(help="Role in which to ask.")]
Place = Annotated[str, typer.Option(help="Where you act, e.g. nbs:440306.")]
Date = Annotated[str, typer.Option(help="YYYY-MM-DD, where the matter leaves it open.")]


class RosterOptions(NamedTuple):
    """What was said of a roster; each field is called as its option's parameter is."""

    roster: Path
    out: Path | None
    key: str
    subject: list[str] | None
    claim: list[str] | None
    mapping: Path | None
    keep: list[str] | None
    header: int
    sheet: str
    separator: str
    encoding: str
    until: str
    changed_since: Path | None
    full: Path | None
    plan: bool
    rate: float | None
    yes: bool
