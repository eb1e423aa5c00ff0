"""`zhiwang adapter`: the process beside an owner's database, and the check that a mapping holds."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from adapters import app as adapter_app
from adapters import backup, installation, loading
from adapters.check import Report, inspect
from adapters.doctor import diagnose
from adapters.drafting import UnusableError, make_draft
from adapters.grants import script
from adapters.kinds import schemes_of
from adapters.known import kept_directory
from adapters.mapping import Mapping
from adapters.postgres_store import STORE
from adapters.printing import (
    draft_as_json,
    long_task,
    print_draft,
    print_findings,
    print_quality,
    print_report,
    print_retention,
    quality_as_json,
    report_as_json,
)
from adapters.quality import DataQuality, measure, read_divisions
from adapters.retention import keep
from adapters.roster_cli import roster
from audit.places import database_script, removal_script
from audit.retention import going
from policy.document import parse_document
from policy.model import Directory
from zhiwang.wire import output
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import FileError

__all__ = ["app", "diagnose"]

app = typer.Typer(
    help="适配器  The adapter beside an owner's database: opens, evaluates, records.", no_args_is_help=True
)
ProfileOption = Annotated[
    Path, typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="profile.toml of this adapter.", dir_okay=False)
]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]


@app.command()
def check(
    mapping: File,
    document: File,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="Profile whose directory names the kinds of subject."),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="With --sql: name of the account; that of the mapping if left out.")
    ] = None,
    divisions: Annotated[
        Path | None,
        typer.Option(
            "--divisions",
            help="With --quality: CSV of the statistical bureau's administrative divisions, with a column `code`.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    *,
    as_json: output.AsJson = False,
    quality: Annotated[
        bool,
        typer.Option("--quality", help="If nothing is wrong, count through the data too: for the owner alone."),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Print one SQL script for sign-off: the account, its grants, and every statement."),
    ] = False,
) -> None:
    """Hold MAPPING against DOCUMENT and the live database: 0 if the adapter may start, 1 if not, 2 for wrong usage.

    Every statement is compiled, run on a sample and explained; what is read whole is told with the index to make. The
    account must not be able to write: it is tried, such that nothing changes. Pairs of texts that collations are known
    to confuse are compared in every compared column, and the adapter's recheck must not be taken in. Probes must come
    true. Prints how many bits a requester can learn through each attribute, and no value of a record.

    Example: zhiwang adapter check mapping.toml document.toml

    Example: zhiwang adapter check mapping.toml document.toml --sql > sign-off.sql

    Example: zhiwang adapter check mapping.toml document.toml --quality --divisions divisions.csv
    """
    known = _divisions(divisions)
    schemes = schemes_of(_directory(profile))
    checked: Mapping | None = None
    counted: list[DataQuality] = []
    try:
        with long_task("核验项 attributes") as progress:
            checked, report = inspect(mapping, document, schemes, progress=progress)
        if quality and not report.findings:
            with long_task("行 rows") as progress:
                published = parse_document(document)
                counted = measure(mapping, published, schemes, clock=time.time, divisions=known, progress=progress)
    except FileError as error:
        report = Report(findings=list(error.findings))
    if as_json:
        counts = {"quality": quality_as_json(counted)} if quality else {}
        sys.stdout.write(json.dumps(report_as_json(report) | counts, ensure_ascii=False) + "\n")
    elif sql:
        print_findings(report, errors=True)
        if checked is not None:
            sys.stdout.write(script(checked, report.uses, report.statements, account=account))
    else:
        print_report(report, checked)
        print_quality(counted)
    if report.findings:
        raise typer.Exit(output.FAILED)


def _divisions(path: Path | None) -> frozenset[str] | None:
    try:
        return None if path is None else read_divisions(path)
    except ValueError as error:
        output.usage_error(str(error))


def _directory(profile: Path | None) -> Directory | None:
    """The directory that the profile's adapter verified last."""
    return None if profile is None else kept_directory(load_profile(profile))


@app.command()
def init(
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile", envvar="ZHIWANG_PROFILE", help="Make the state of this profile's adapter.", dir_okay=False
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="ZHIWANG_DATABASE_URL",
            show_envvar=True,
            help="Draft mapping, document and profile from the live schema of this database. A password in it is moved "
            "into a file of its own.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory of the drafts.", file_okay=False)] = Path(),
    department: Annotated[
        str | None, typer.Option("--department", help="Name of the department; that of the database if left out.")
    ] = None,
    hub: Annotated[str | None, typer.Option("--hub", help="Address of the hub, for the drafted adapter.toml.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Pinned root directory, for the drafted adapter.toml.", exists=True, file_okay=False
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            help="Directory of the adapter's certificates; with --root the drafted adapter.toml is whole, and the "
            "state is made too.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="File with the account's password, closed to others.", dir_okay=False),
    ] = None,
    successor_of: Annotated[
        Path | None,
        typer.Option(
            "--successor-of",
            help="With --profile: backup of an adapter of another name whose log was lost: go on from it, and say so "
            "in the first entry.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    *,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="With --profile: only print what an administrator runs in the store's PostgreSQL."),
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="With --profile: share the store that other replicas keep in PostgreSQL.")
    ] = False,
    year: output.Years = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --url: one JSON object on standard output.")] = False,
) -> None:
    """Begin an adapter: with --url draft its files from a database that exists, with --profile make its state.

    --url reads the schema and a sample of values, prints no value, and writes mapping.toml, document.toml and
    adapter.toml for a person to go through. A data set is drafted for each table with a column that looks like a
    subject's identifier; one attribute is active, so that `zhiwang adapter check` can be run at once, and everything
    else is commented out. No file is overwritten.

    --profile makes the state, once: an empty log, its guard, and the ledger's key; `run` never makes them. The
    directory `guard` within the state is best put on other storage: it tells whether the log was rolled back.

    Where [log] in the profile names a database of PostgreSQL, its administrator first runs the script that --sql
    prints. Further replicas on any hosts begin with --join, once the directory `keys` of the first one's state was
    copied into theirs. See docs/log-store.md.

    Exit status: 0 when it was made, 1 when a file is there already or the database cannot be read, 2 for wrong usage.

    Example: zhiwang adapter init --url postgresql+psycopg://reader@127.0.0.1/insurance --out hrss --hub hub.city:7440
    --root root --identity identities/hrss/adapter/main

    Example: zhiwang adapter init --profile adapter.toml

    Example: zhiwang adapter init --profile adapter.toml --sql | psql -v ON_ERROR_STOP=1 -h db.hrss -U postgres zhiwang
    """
    if (sql or join or year) and (url is not None or profile is None):
        output.usage_error("--sql, --join and --year go with --profile")
    if sum((sql, join, successor_of is not None)) > 1:
        output.usage_error("give one of --sql, --join and --successor-of")
    if year and not sql:
        output.usage_error("--year says what --sql prints")
    if sql and profile is not None:
        sys.stdout.write(database_script(load_profile(profile).log, year or (), beside=STORE))
    elif url is not None:
        _draft(url, out, department, hub, password_file, root, identity, as_json=as_json)
    elif profile is not None:
        _make_state(profile, successor_of, join=join)
        sys.stderr.write(f"Next: zhiwang adapter run --profile {profile}\n")
    else:
        output.usage_error(
            "give --url to draft an adapter's files from a database, or --profile to make an adapter's state"
        )


def _make_state(profile: Path, successor_of: Path | None = None, *, join: bool = False) -> None:
    loaded = load_profile(profile)
    if successor_of is None:
        installation.init(loaded, join=join)
    else:
        backup.succeed(loaded, successor_of)
    sys.stderr.write(f"The adapter's log lies in {loaded.state if loaded.log is None else loaded.log.url}.\n")


def _draft(
    url: str,
    out: Path,
    department: str | None,
    hub: str | None,
    password_file: Path | None,
    root: Path | None,
    identity: Path | None,
    *,
    as_json: bool,
) -> None:
    if identity is not None and root is not None:
        # Before anything is written: a directory that holds no adapter's certificates is a slip of the hand.
        installation.check_identity(identity, root, department)
    try:
        with long_task("表 tables") as progress:
            drafted = make_draft(
                url,
                out,
                department=department,
                hub=hub,
                password_file=password_file,
                today=datetime.now(CITY_TIME).date(),
                root=root,
                identity=identity,
                progress=progress,
            )
    except UnusableError as error:
        output.usage_error(str(error))
    if identity is not None and root is not None:
        _make_state(drafted.profile)
    if as_json:
        sys.stdout.write(json.dumps(draft_as_json(drafted), ensure_ascii=False) + "\n")
    else:
        print_draft(drafted)


@app.command()
def run(profile: ProfileOption) -> None:
    """Answer until SIGTERM or Ctrl-C; then finish what is here, and stop.

    Example: zhiwang adapter run --profile adapter.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("adapter", partial(adapter_app.main, loaded), state=loaded.state))


@app.command("backup")
def back_up(
    profile: ProfileOption,
    out: output.Backup,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Write a backup of the adapter's state to one file, while the adapter runs or not.

    It holds log, ledger, replies and index with their keys, and the directory; no sealing key and no identity. Keep it
    as safe as the state: whoever has it can test whether somebody was asked about. See docs/backup.md.

    Example: zhiwang adapter backup --profile adapter.toml --out /backup/hrss-2026-11-27.tar
    """
    manifest = backup.back_up(load_profile(profile), out)
    facts = {"file": str(out), "identity": manifest.identity, "files": len(manifest.files), **manifest.facts}
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(f"{name}: {fact}\n" for name, fact in facts.items())


@app.command()
def restore(
    profile: ProfileOption,
    source: output.RestoreFrom,
    seen: output.Seen = None,
    *,
    yes: output.AcceptFewer = False,
) -> None:
    """Restore the adapter from a backup into an empty state, if nobody has seen more of its log than is in it.

    Exit status 1: somebody has, or nobody who was asked has seen all of it; then nothing was changed, and the message
    says what to do.

    Example: zhiwang adapter restore --profile adapter.toml --from /backup/hrss-2026-11-27.tar
    """
    restored = backup.restore(load_profile(profile), source, seen or (), accept_fewer=yes)
    sys.stderr.write(f"已恢复 restored: newest seen {restored.seen} of {restored.size} entries.\n")
    sys.stderr.write(f"Next: zhiwang adapter run --profile {profile}\n")


@app.command()
def retention(
    profile: ProfileOption,
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
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is due; otherwise only say what is.")] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Only print what an administrator runs in PostgreSQL to remove what was recorded."),
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Say which years of the owner's log need not be kept any more; with --apply, remove their entries.

    With them goes what the index of subjects says of them, and the keys of index years of which nothing is left. As
    `zhiwang audit retention` for a hub; see docs/retention.md.

    From PostgreSQL the adapter's account can remove no entry: --apply records what is to go, and removes it from the
    index; an administrator of the database then runs what --sql prints. Keys are files of each replica: run --apply at
    each.

    Exit status 0; 1 if something is due and stays, since no copy of it was shown.

    Example: zhiwang adapter retention --profile adapter.toml --apply --exported archive/hrss-2026
    """
    if sql and (apply or exported or no_copy or as_json):
        output.usage_error("--sql only prints what was recorded by --apply; give it alone")
    loaded = load_profile(profile)
    with long_task("移除 removing") as progress:
        kept = keep(loaded, exported or (), no_copy, apply=apply, progress=progress)
    left = [one.year for one in going(kept.shards)] if loaded.log is not None else []
    if sql:
        sys.stdout.write(removal_script(loaded.log, left))
        return
    print_retention(kept.years, kept.shards, kept.now, kept.without_copy, as_json=as_json)
    if left:
        sys.stderr.write(
            f"Next: an administrator of the database: zhiwang adapter retention --profile {profile} --sql "
            "| psql -v ON_ERROR_STOP=1 …\n"
        )
    raise typer.Exit(output.FAILED if kept.without_copy else 0)


@app.command()
def load(
    file: File,
    profile: ProfileOption,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Decide by FILE beside the directory: what your department's admins signed while hub and registrar are away.

    FILE comes from `zhiwang policy suspend --out` (one admin: it can only deny) or from `policy lift` or `policy
    publish` with --out (two admins). An adapter that runs takes it within a second; one that does not, when it starts.
    It stands across restarts until the directory contains it, it ends, or two admins lift it, and is an entry of the
    owner's log. Replicas each have their own: load it at each.

    Exit status 1: it is older than the directory, another department's, or not signed by enough; nothing has changed.

    Example: zhiwang adapter load stop.json --profile adapter.toml
    """
    loaded = loading.load(load_profile(profile), file)
    local = loaded.local
    facts = {
        "role": local.role,
        "version": local.version,
        "suspensions": [entry.id for entry in local.suspensions],
        "in_force": loaded.in_force,
        "unchecked": loaded.unchecked,
    }
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
    elif loaded.unchecked:
        sys.stderr.write(
            "已放置；尚无有效名录可核对，此时不作任何答复 "
            f"placed; nothing is answered here until there is a directory to check it by ({loaded.unchecked})\n"
        )
    elif loaded.in_force:
        sys.stdout.write(f"已生效 in force: {local.role} {local.version}\n")
    else:
        sys.stdout.write(f"适配器启动时生效 in force when the adapter starts: {local.role} {local.version}\n")
    sys.stderr.write(f"Next: when the registrar answers again: zhiwang policy publish {file} --profile …\n")


app.command()(roster)
