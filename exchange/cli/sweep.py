"""`zhiwang sweep`: a whole roster from a file to a file, however often it is interrupted."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import time
from collections import deque
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from exchange.cli import sweep_options as options
from exchange.cli.sweep_given import check_key, check_out, columns_given, context_given, until_given
from exchange.cli.sweep_show import Screen, print_mapping, print_plan, print_summary, summary
from exchange.cli.verify import open_beside
from exchange.client.case import Context, Ruling
from exchange.client.keeper import Keeper
from exchange.matter.judging import Rules
from exchange.matter.telling import Telling, ruled_reader
from exchange.sweep.asking import SweepClient
from exchange.sweep.cases import CaseReader
from exchange.sweep.disk import is_full
from exchange.sweep.ending import Written, check_names, write_results
from exchange.sweep.guessing import guess
from exchange.sweep.journal import Journal, JournalError, State, journal_of
from exchange.sweep.mapping import MappingError, RosterColumns, instances, templates_of
from exchange.sweep.planning import Search, plan_sweep
from exchange.sweep.results import NOT_ASKED, UNAVAILABLE, Lines
from exchange.sweep.rosters import ENCODINGS, Roster, find_roster
from exchange.sweep.running import FullError, Sweep, claims_on_the_way
from exchange.sweep.starting import begin, binding
from exchange.sweep.writing import check_fits, remove_leftovers
from policy.model import Matter
from zhiwang.wire import output
from zhiwang.wire.profile import Profile, load_profile
from zhiwang.wire.tables import Form, TableError

PATIENCE: Final = 3600.0
"""Seconds for which rows that nobody could answer are asked again, unless --until says otherwise."""

app = typer.Typer(help="批量核验  Verify a whole roster.", add_completion=False)


class Asked(NamedTuple):
    """What a sweep was told on the command line, checked as far as it can be without the directory."""

    roster: Roster
    columns: RosterColumns
    context: Context
    out: Path
    until: float | None
    guessed: bool
    yes: bool
    before: Roster | None
    full: Path | None
    ruled: bool = False
    """Whether it ends with what the matter makes of each row, as `zhiwang matter run` says it."""


@app.command()
def sweep(
    roster: Annotated[
        Path, typer.Argument(metavar="ROSTER", help="CSV, XLSX or Parquet.", exists=True, dir_okay=False)
    ],
    profile: output.Profile,
    matter: Annotated[str, typer.Option(help="For which matter, e.g. senior-card; the profile's if left out.")] = "",
    out: options.Out = None,
    key: options.Key = "",
    subject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SLOT=HEADING[,HEADING]", help="Column with a slot's identifier, and with the name. Several times."
        ),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLAIM",
            help="What to ask, with {HEADING} for a compared text; all claims of the matter if left out.",
        ),
    ] = None,
    mapping: options.Mapping = None,
    keep: options.Keep = None,
    header: options.Header = 1,
    sheet: options.Sheet = "",
    separator: options.Separator = "",
    encoding: options.Encoding = "",
    reference: options.Reference = "",
    official: options.Official = "",
    role: options.Role = "",
    jurisdiction: options.Place = "",
    reference_date: options.Date = "",
    until: options.Until = "",
    changed_since: options.ChangedSince = None,
    full: options.Full = None,
    plan: options.Plan = False,  # noqa: FBT002  a switch of the command line
    rate: options.Rate = None,
    yes: options.Yes = False,  # noqa: FBT002  the same
    as_json: output.AsJson = False,  # noqa: FBT002  the same
) -> None:
    """Ask about every row of a roster, and write what the owners answered in the roster's order.

    Interrupted by whatever, the same command goes on where it was: beside the results lies a journal, RESULTS.sweep,
    until every row is settled. Without --subject and --mapping the columns are guessed and shown first.

    Exit status: 0 if all rows were asked and answered or denied, 1 if some were not, 2 for wrong usage; 130 or 143 when
    it was interrupted. With --plan 1 if something stands in the way.

    Example: zhiwang sweep roster.xlsx --profile civil.toml --matter senior-card --reference SC2026-0001
    --subject senior=身份证号,姓名 --key 编号 --out results.xlsx --until 06:00
    """
    given = options.RosterOptions(
        *(roster, out, key, subject, claim, mapping, keep, header, sheet, separator, encoding),
        *(until, changed_since, full, plan, rate, yes),
    )
    context = Context(matter, reference, official, role, jurisdiction, reference_date)
    raise typer.Exit(sweep_roster(load_profile(profile), given, context, as_json=as_json))


def sweep_roster(
    profile: Profile, given: options.RosterOptions, context: Context, *, ruled: bool = False, as_json: bool
) -> int:
    """Sweep a roster, or plan it, as it was said on the command line.

    Args:
        profile: As whom.
        given: The roster, and how it is to be asked.
        context: Why; the profile's defaults fill it in.
        ruled: Whether to end with what the matter makes of each row.
        as_json: As one JSON value.

    Returns:
        The exit status.
    """
    try:
        columns = columns_given(given.mapping, given.key, given.subject or (), given.claim or (), given.keep or ())
        if ruled and columns.claims:
            output.usage_error("a matter's rule takes all of its claims: leave claims out of the mapping")
        if given.encoding and given.encoding not in ENCODINGS:
            output.usage_error(f"--encoding is one of {', '.join(ENCODINGS)}")
        form = Form(given.header, sheet=given.sheet or None)
        found = find_roster(given.roster, form, separator=given.separator, encoding=given.encoding)
        if given.out is not None:
            check_out(given.out, given.roster, given.changed_since, given.full)
        elif not given.plan:
            output.usage_error("say with --out where the results go")
        before = None if given.changed_since is None else find_roster(given.changed_since, Form())
    except (MappingError, TableError) as error:
        output.usage_error(str(error))
    # A plan writes nothing, and looks beside the results only for the rate of the sweep that was interrupted.
    asked = Asked(
        *(found, columns, context_given(profile, context), given.out or given.roster, until_given(given.until)),
        guessed=not columns.subject,
        yes=given.yes or given.plan,
        before=before,
        full=given.full,
        ruled=ruled,
    )
    run = _plan(profile, asked, given.rate, as_json=as_json) if given.plan else _run(profile, asked, as_json=as_json)
    return asyncio.run(run)


async def _plan(profile: Profile, asked: Asked, rate: float | None, *, as_json: bool) -> int:
    async with await open_beside(SweepClient, profile, "sweep") as client:
        client.check(asked.context)
        matter = client.matter(asked.context.matter)
        keys = await client.owner_keys()
        try:
            reader, _ = _reader(client, matter, asked, known=True)
            measured = await asyncio.to_thread(_measured, journal_of(asked.out))
            found = await asyncio.to_thread(
                plan_sweep,
                *(client, asked.roster, reader, asked.context),
                keys=keys,
                rate=rate or measured,
                now=time.time(),
                search=_search(client, matter) if asked.ruled else None,
            )
        except (MappingError, TableError, JournalError) as error:
            output.usage_error(str(error))
    source = "--rate" if rate is not None else "measured by the interrupted sweep" if measured is not None else ""
    print_plan(found, source, as_json=as_json)
    ends = bool(found.endings) and found.seconds is not None
    return output.FAILED if found.not_asked or found.denials or found.caps or found.away or ends else output.OK


def _search(client: SweepClient, matter: Matter) -> Search | None:
    """The search for the number that gives points; None if the matter gives none."""
    points = matter.points
    if points is None:
        return None
    return Search(matter.claims[points.each].owner, points.slot, Rules(matter, client.directory).rounds)


def _measured(path: Path) -> float | None:
    """Rows a second of a sweep that was interrupted; None if there is none."""
    if not path.exists():
        return None
    journal = Journal.open(path)
    try:
        rate = journal.meta.get("rate")
    finally:
        journal.close()
    return None if rate is None else float(rate)


async def _run(profile: Profile, asked: Asked, *, as_json: bool) -> int:
    stopping = _Stopping()
    try:
        async with AsyncExitStack() as stack:
            keeper = Keeper.open(profile)
            if keeper is not None:
                stack.push_async_callback(keeper.close)
            client = await stack.enter_async_context(await open_beside(SweepClient, profile, "sweep", keeper))
            client.check(asked.context)
            matter = client.matter(asked.context.matter)
            try:
                journal = Journal.open(journal_of(asked.out))
                try:
                    reader, lines = _reader(client, matter, asked, known=bool(journal.meta))
                    return await _sweep(client, matter, asked, reader, lines, journal, stopping, as_json=as_json)
                finally:
                    journal.close()
            except (MappingError, TableError, JournalError) as error:
                output.usage_error(str(error))
    except FullError:
        return _full(asked)
    except (sqlite3.Error, OSError) as error:
        # Also of the profile's state, at the start and at the end.
        if not is_full(error):
            raise
        return _full(asked)


async def _sweep(
    client: SweepClient,
    matter: Matter,
    asked: Asked,
    reader: CaseReader,
    lines: Lines,
    journal: Journal,
    stopping: _Stopping,
    *,
    as_json: bool,
) -> int:
    written_to = tuple(filter(None, (asked.out, asked.full)))
    check_names(journal, *written_to)
    for path in written_to:
        remove_leftovers(path)
    if asked.before is not None:
        # Earlier results that cannot be compared with are told before anybody is asked, not after all were.
        await asyncio.to_thread(deque, lines.earlier(asked.before), 0)
    bound = binding(asked.roster, reader, matter, asked.context, client.identity.short)

    def fits(rows: int) -> None:
        for path in written_to:
            check_fits(path, rows)

    went_on = await asyncio.to_thread(begin, journal, bound, asked.roster, reader, fits)
    columns = sum(len(instances(reader.columns, matter, one)) for one in reader.templates if one.only is None)
    await asyncio.to_thread(journal.set_aside, claims_on_the_way(columns))
    began = time.monotonic()
    with Screen() as screen:
        run = Sweep(
            client,
            asked.roster,
            reader,
            journal,
            asked.context,
            stopping.event,
            until=asked.until,
            patience=PATIENCE,
            told=lambda: screen.show(run),
        )
        if went_on:
            output.say("接续上次批量核验  Going on with the sweep that was interrupted.")
        with stopping:
            await run.run()
    seconds = time.monotonic() - began
    if run.full:
        return _full(asked)
    if run.withheld:
        output.say("凭证无法保存，已停止核验  Receipts cannot be kept, so nothing more was asked.")
        output.next_step(
            "look at the disk of the profile's state and at the receipts' keys; then the same command again"
        )
        return output.FAILED
    if run.settled:
        await asyncio.to_thread(journal.note, "rate", f"{run.settled / max(seconds, 0.001):.3f}")
    if stopping.number:
        output.say(f"已中断，尚余 {run.tally[State.OPEN]} 行  Interrupted; {run.tally[State.OPEN]} rows are left.")
        output.next_step("the same command again; nothing that was answered is asked again")
        return 128 + stopping.number
    written = await asyncio.to_thread(
        write_results, journal, asked.roster, reader, lines, asked.out, before=asked.before, full=asked.full
    )
    if not run.tally[State.OPEN]:
        journal.remove()
    _tell(asked, written, run, seconds, kept=run.kept if client.keeps else None, as_json=as_json)
    if asked.ruled:
        return output.OK if written.rulings[Ruling.PASSED.name] == sum(written.outcomes.values()) else output.FAILED
    left = written.outcomes[UNAVAILABLE] + written.outcomes[NOT_ASKED]
    return output.FAILED if left else output.OK


def _tell(asked: Asked, written: Written, run: Sweep, seconds: float, *, kept: int | None, as_json: bool) -> None:
    told = summary(asked.out, written, run.settled, seconds) | ({} if kept is None else {"receipts_kept": kept})
    if as_json:
        output.print_json(told)
    else:
        print_summary(written, told)
    if run.tally[State.OPEN]:
        output.next_step("the same command again asks the rows that nobody could answer")


def _full(asked: Asked) -> int:
    output.say("磁盘或配额已满，已停止核验  The disk, or a quota, is full, so nothing more was asked.")
    output.next_step(f"make room beside {asked.out} and in the profile's state, and give the same command again")
    return output.FAILED


class _Stopping:
    """Whether the person wants it to stop: the first signal lets what is on the way arrive, the second ends at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.number = 0

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    def __exit__(self, *_error: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.number = number
        self.event.set()
        output.say("正在收尾，再按一次立即结束  Waiting for what is on the way; once more ends at once.")


def _reader(client: SweepClient, matter: Matter, asked: Asked, *, known: bool) -> tuple[CaseReader, Lines]:
    """What makes cases of the roster's rows, and lines of their results.

    Args:
        client: Has the directory.
        matter: For which is asked.
        asked: What the person said.
        known: Whether a journal is bound to this mapping, to which the person has agreed.

    Raises:
        MappingError: The mapping does not fit the matter or the roster.
        TableError: The roster cannot be read.
    """
    columns = asked.columns
    with asked.roster.table() as table:
        if asked.guessed:
            found = guess(table.headings, matter, client.directory.centre.subjects)
            columns = columns.model_copy(update={"key": columns.key or found.key, "subject": found.subject})
        rules = Rules(matter, client.directory) if asked.ruled else None
        reader = CaseReader(columns, templates_of(columns, matter)) if rules is None else ruled_reader(rules, columns)
        table.places({heading: heading for heading in reader.headings})
    check_key(columns)
    if asked.before is not None and columns.key is None:
        raise MappingError("--changed-since finds rows by their keys; name the key's column with --key")
    print_mapping(columns, reader, matter, guessed=asked.guessed)
    if asked.guessed and not asked.yes and not known:
        _confirm()
    telling = None if rules is None else Telling(rules, reader, asked.context.jurisdiction)
    return reader, Lines(reader, matter, changed=asked.before is not None, telling=telling)


def _confirm() -> None:
    if not sys.stdin.isatty():
        output.usage_error("the columns were guessed; say that they are right with --yes, or name them with --subject")
    if not typer.confirm("列对应是否正确？ Are these the right columns?", err=True):
        raise typer.Exit(output.USAGE)
