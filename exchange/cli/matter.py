"""`zhiwang matter`: what a matter makes of a case or a roster, what it asks, and counts that may be shown."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli import sweep_options as options
from exchange.cli.matter_show import print_counts, print_matter, print_ruled, ruled_object
from exchange.cli.sweep import sweep_roster
from exchange.cli.sweep_given import context_given
from exchange.cli.verify import open_client, read_subjects
from exchange.client.case import Case, Context, Ruling
from exchange.client.client import TIMEOUT
from exchange.matter.asking import ask_case
from exchange.matter.judging import Rules
from exchange.matter.summary import count
from exchange.sweep.rosters import find_roster
from policy.model import Matter
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import Profile, load_profile
from zhiwang.wire.tables import Form, TableError

app = typer.Typer(help="事项  What a matter makes of a case or a roster.", add_completion=False, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MATTER", help="E.g. school-points.")]


@app.command()
def run(
    given: typer.Context,
    matter: Name,
    profile: output.Profile,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SLOT=WHO",
            help="One case: SLOT=IDENTIFIER[,NAME], or SLOT=- to read such lines from standard input. With --roster: "
            "SLOT=HEADING[,HEADING]. Several times.",
        ),
    ] = None,
    reference: options.Reference = "",
    official: options.Official = "",
    role: options.Role = "",
    jurisdiction: options.Place = "",
    reference_date: options.Date = "",
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, help="One case: seconds for each round, at most.")
    ] = TIMEOUT,
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
    roster: Annotated[
        Path | None,
        typer.Option(
            help="Many cases: CSV, XLSX or Parquet. The options below go with it, as those of `zhiwang sweep` do.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    summary: Annotated[  # noqa: FBT002  a switch of the command line
        bool, typer.Option("--summary", help="Also counts by jurisdiction and failing claim.")
    ] = False,
    out: options.Out = None,
    key: options.Key = "",
    mapping: options.Mapping = None,
    keep: options.Keep = None,
    header: options.Header = 1,
    sheet: options.Sheet = "",
    separator: options.Separator = "",
    encoding: options.Encoding = "",
    until: options.Until = "",
    changed_since: options.ChangedSince = None,
    full: options.Full = None,
    plan: options.Plan = False,  # noqa: FBT002  a switch of the command line
    rate: options.Rate = None,
    yes: options.Yes = False,  # noqa: FBT002  the same
) -> None:
    """Ask all claims of a matter, and say what its rule makes of the answers.

    Passed, check by hand, or data disagrees; nobody is rejected. Whatever is not YES and stands in the way is named
    with the counter where it is disputed, and as of when its owner's data are. Where the matter gives points, the
    number is searched for. A roster is asked as a sweep: interrupted by whatever, the same command goes on.

    Exit status: 0 if all cases passed, 1 if some did not, 2 for wrong usage; 130 or 143 when a roster was interrupted.
    With --plan 1 if something stands in the way.

    Example: zhiwang matter run school-enrolment --profile edu.toml --reference 2026-000123 --subject child=-
    --subject guardian=- --subject home=4403060170010000100001101
    """
    loaded = load_profile(profile)
    context = Context(matter, reference, official, role, jurisdiction, reference_date)
    if roster is None:
        _refuse(given, {"summary", *options.RosterOptions._fields} - {"subject"}, "goes with --roster")
        case = Case(read_subjects(subject or [], sys.stdin))
        raise typer.Exit(asyncio.run(_one(loaded, case, context_given(loaded, context), timeout, as_json=as_json)))
    _refuse(given, {"timeout"}, "is of one case; a roster has --until")
    if summary:
        _refuse(given, {"plan"}, "asks nothing, so there is nothing to count for --summary")
        _refuse(given, {"as_json"}, "prints one value: take `zhiwang matter summary RESULTS --json` for --summary")
        _refuse(given, {"changed_since"}, "asks again about cases that are counted already: see docs/matters.md")
    said = options.RosterOptions(
        *(roster, out, key, subject, None, mapping, keep, header, sheet, separator, encoding),
        *(until, changed_since, full, plan, rate, yes),
    )
    status = sweep_roster(loaded, said, context, ruled=True, as_json=as_json)
    if summary and status in {output.OK, output.FAILED} and out is not None and out.exists():
        print_counts(count([find_roster(out, Form())]), as_json=False)
    raise typer.Exit(status)


def _refuse(given: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that were given and do not go with the others."""
    stray = []
    for one in given.command.params:
        source = given.get_parameter_source(one.name) if one.name in names else None
        if source is not None and source.name == "COMMANDLINE":
            stray.append(one.opts[0])
    if stray:
        output.usage_error(f"{', '.join(stray)} {why}")


async def _one(profile: Profile, case: Case, context: Context, seconds: float, *, as_json: bool) -> int:
    async with await open_client(profile) as client:
        rules = Rules(_matter(client.directory.matters.get(context.matter)), client.directory)
        told = await ask_case(client, rules, case, context, seconds)
        ruled = rules.judge(told)
        if as_json:
            output.print_json(ruled_object(rules, ruled, told))
        else:
            print_ruled(rules, ruled, told, client.directory)
    return output.OK if ruled.ruling is Ruling.PASSED else output.FAILED


def _matter(found: Matter | None) -> Matter:
    if found is None:
        raise RefusedError(Reason.MATTER_NOT_ALLOWED, field="context.matter")
    return found


@app.command()
def show(matter: Name, profile: output.Profile, as_json: output.AsJson = False) -> None:  # noqa: FBT002  a switch of the command line
    """Say in words what a matter asks, what its rule makes of it, and what counts.

    Exit status: 0, 1 if there is no such matter, 2 for wrong usage.

    Example: zhiwang matter show school-points --profile edu.toml
    """

    async def read() -> None:
        async with await open_client(load_profile(profile)) as client:
            print_matter(_matter(client.directory.matters.get(matter)), client.directory, as_json=as_json)

    asyncio.run(read())


@app.command()
def summary(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS…", help="Written by `zhiwang matter run`.", exists=True, dir_okay=False),
    ],
    by: Annotated[
        str, typer.Option(metavar="HEADING", help="Kept column that says where a case belongs, e.g. 街道.")
    ] = "",
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
) -> None:
    """Count results by jurisdiction and failing claim, so that no small count can be worked out.

    Each case counts once: as passed, or under the first claim that keeps it from passing. Counts below 10 are
    suppressed, and as many others as it takes that none of them follows from the totals.

    Exit status: 0, 2 for wrong usage.

    Example: zhiwang matter summary results.csv --by 街道
    """
    try:
        counts = count([find_roster(path, Form()) for path in results], by)
    except TableError as error:
        output.usage_error(f"these are no results of `zhiwang matter run`, or lack that column: {error}")
    print_counts(counts, as_json=as_json)
