"""`zhiwang hub`: the process in the middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer

from audit import doctor as doctor_log
from audit.places import database_script
from exchange import app as hub_app
from exchange import backup
from zhiwang.wire import output
from zhiwang.wire.diagnosis import Diagnosis
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import Profile, load_profile

app = typer.Typer(help="枢纽  The hub: authorises, routes, records; sees no citizen.", no_args_is_help=True)


@app.command()
def init(
    profile: output.Profile,
    successor_of: output.Successor = None,
    sql: Annotated[bool, typer.Option("--sql", help="Only print what an administrator runs in the database.")] = False,  # noqa: FBT002 # typer's way
    join: Annotated[  # noqa: FBT002 # the same
        bool, typer.Option("--join", help="Share the log that other hubs of this name keep already.")
    ] = False,
    year: output.Years = None,
    upgrade: Annotated[  # noqa: FBT002 # the same
        bool, typer.Option("--upgrade", help="With --sql: add what a log of an earlier release lacks to go on by year.")
    ] = False,
) -> None:
    """Make a hub's state: an empty log and its guard. Once; `run` never makes one.

    The directory `guard` within the state is best put on other storage: it tells whether the log was rolled back.

    Where [log] in the profile names a database of PostgreSQL, its administrator first runs the script that --sql
    prints; it makes the tables of the first log, of this year (for a log that began before it) and of the ten that
    come, and three roles that can do no more than they need. When those years are used up, and doctor says so, run
    what --sql --year prints. Further hubs that share the log begin with --join. See docs/log-store.md.

    Example: zhiwang hub init --profile hub.toml

    Example: zhiwang hub init --profile hub.toml --sql | psql -v ON_ERROR_STOP=1 -h db.city -U postgres zhiwang

    Example: zhiwang hub init --profile hub.toml --sql --year 2037 | psql -v ON_ERROR_STOP=1 -h db.city zhiwang
    """
    loaded = load_profile(profile)
    if sum((successor_of is not None, sql, join)) > 1:
        output.usage_error("give one of --sql, --join and --successor-of")
    if (year or upgrade) and not sql:
        output.usage_error("--year and --upgrade say what --sql prints")
    if year and upgrade:
        output.usage_error("give one of --year and --upgrade")
    if sql:
        sys.stdout.write(database_script(loaded.log, year or (), old=upgrade))
        return
    if successor_of is None:
        hub_app.init(loaded, join=join)
    else:
        backup.succeed_hub(loaded, successor_of)
    output.say(f"The hub's log lies in {loaded.state if loaded.log is None else loaded.log.url}.")
    output.next_step(f"zhiwang hub run --profile {profile}")


@app.command()
def run(profile: output.Profile) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is with owners, and stop.

    Example: zhiwang hub run --profile hub.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("hub", partial(hub_app.main, loaded), state=loaded.state))


@app.command("backup")
def back_up(profile: output.Profile, out: output.Backup, as_json: output.AsJson = False) -> None:  # noqa: FBT002 # typer's way
    """Write a backup of the hub's state to one file, while the hub runs or not.

    It holds the log, what was seen of owners' logs, and the directory; no key. See docs/backup.md.

    Example: zhiwang hub backup --profile hub.toml --out /backup/hub-2026-11-27.tar
    """
    output.print_backup(backup.back_up_hub(load_profile(profile), out), out, as_json=as_json)


@app.command()
def restore(
    profile: output.Profile,
    source: output.RestoreFrom,
    seen: output.Seen = None,
    yes: output.AcceptFewer = False,  # noqa: FBT002 # typer's way
) -> None:
    """Restore the hub from a backup into an empty state, if nobody has seen more of its log than is in it.

    Exit status 1: somebody has, or nobody who was asked has seen all of it; then nothing was changed, and the message
    says what to do.

    Example: zhiwang hub restore --profile hub.toml --from /backup/hub-2026-11-27.tar
    """
    restored = backup.restore_hub(load_profile(profile), source, seen or (), accept_fewer=yes)
    output.say(f"已恢复 restored: newest seen {restored.seen} of {restored.size} entries.")
    output.next_step(f"zhiwang hub run --profile {profile}")


def diagnose(profile: Profile) -> Iterator[Diagnosis]:
    """What `zhiwang doctor` says of a hub beyond what every host has."""
    yield from doctor_log.diagnose(profile)
