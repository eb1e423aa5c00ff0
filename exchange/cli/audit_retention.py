"""`zhiwang audit retention`: which years of a hub's log need not be kept any more, and their removal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from audit import retention as keeping
from audit.guard import Guard
from audit.holds import HoldBook
from audit.places import removal_script
from audit.search import remove_search
from audit.yearly import YearlyLog
from exchange.app import hub_identity
from exchange.cli.audit_reading import bar
from exchange.config import StateFiles
from exchange.store import lenient, open_engine
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile


def retention(
    profile: output.Profile,
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is due; otherwise only say what is.")] = False,  # noqa: FBT002 # typer's way
    exported: Annotated[
        list[Path] | None,
        typer.Option(
            "--exported",
            metavar="DIR",
            help="What `audit export` wrote of a year that is to go; read whole first. Several times for several.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    no_copy: Annotated[
        str, typer.Option("--no-copy", metavar="REASON", help="Why there need be no copy; it stands in the log.")
    ] = "",
    sql: Annotated[  # noqa: FBT002 # the same
        bool,
        typer.Option("--sql", help="Only print what an administrator runs in PostgreSQL to remove what was recorded."),
    ] = False,
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Say which years of a hub's log need not be kept any more; with --apply, remove their entries.

    On the hub's own machine, with the hub's profile, whether it runs or not. For an owner's log: `zhiwang adapter
    retention`. A year goes only when the retention of the profile is over, no order holds anything of it, and a copy
    was shown (--exported) or need not be kept (--no-copy). How it ended stays for ever, so old receipts still verify.

    From PostgreSQL the hub's account can remove nothing: --apply records in the log what is to go, and nobody reads it
    any more; an administrator of the database then runs what --sql prints.

    Exit status 0; 1 if something is due and stays, since no copy of it was shown.

    Example: zhiwang audit retention --profile hub.toml

    Example: zhiwang audit retention --profile hub.toml --apply --exported archive/hub-2026

    Example: zhiwang audit retention --profile hub.toml --sql | psql -v ON_ERROR_STOP=1 -h db.city zhiwang
    """
    if sql and (apply or exported or no_copy or as_json):
        output.usage_error("--sql only prints what was recorded by --apply; give it alone")
    loaded = load_profile(profile)
    files, state, years = hub_identity(loaded), StateFiles(loaded.state), loaded.retention.years
    copies = keeping.copies_of(exported or [], loaded.root)
    log = YearlyLog(open_engine(state, loaded.log), files.signer(), verifier=lenient(files))
    kept: list[str] = []
    with keeping.opened(log, Guard(state.guard, lambda: b"").read()), bar(visible=not as_json) as progress:
        book, now = HoldBook(log), time.time()
        if apply:
            kept = keeping.apply(log, book, copies, years=years, now=now, no_copy=no_copy, progress=progress)
        found = keeping.survey(log, book, years, now)
    going = [one.year for one in keeping.going(found)]
    if sql:
        for shard in found:
            if shard.removed and not shard.done and shard.holds:
                output.say(f"不含 left out: {shard.origin} {keeping.fate(shard, now)[1]}")
        sys.stdout.write(removal_script(loaded.log, going))
        if not going:
            output.say("没有待移除的年份 no removal is recorded that is not done; nothing to run")
        return
    for shard in found:
        if shard.done:
            remove_search(state.search, shard.year)
    if as_json:
        output.print_json({"years": years, "logs": [keeping.as_object(one, now, kept) for one in found]})
    else:
        if found:
            output.print_table(keeping.COLUMNS, [keeping.as_row(one, now, kept) for one in found])
        output.say(f"保留期 {years} 年 retention of {years} years")
    if going and loaded.log is not None:
        output.next_step(
            f"an administrator of the database: zhiwang audit retention --profile {profile} --sql "
            "| psql -v ON_ERROR_STOP=1 …"
        )
    raise typer.Exit(output.FAILED if kept else output.OK)
