"""`zhiwang registrar`: the process that keeps the directory fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange import registrar as process_of
from exchange import registrar_backup
from policy import registrar
from zhiwang.wire import output
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile

app = typer.Typer(help="名录服务：保持名录新鲜。 The registrar, which keeps the directory fresh.", no_args_is_help=True)


@app.command()
def init(profile: output.Profile) -> None:
    """Make the registrar's two keys, its empty repository and its log; do it once.

    The directory `guard` within the state is best put on other storage: it tells whether the directory was rolled back.

    Example: zhiwang registrar init --profile registrar.toml
    """
    path = process_of.init(load_profile(profile))
    output.print_table(("what", "file"), [("public keys, for the root ceremony", path)])
    output.next_step(f"zhiwang policy root DIR --registrar {path} --admin signing.pem --admin signing.pem")


@app.command()
def run(
    profile: output.Profile,
    check: Annotated[bool, typer.Option("--check", help="Only check what would be served, and end.")] = False,  # noqa: FBT002 # typer's way
) -> None:
    """Serve the directory and take in what admins sign, until SIGTERM.

    Example: zhiwang registrar run --profile registrar.toml
    """
    found = load_profile(profile)
    if check:
        directory = registrar.open_repository(found).directory
        version = "nothing published yet" if directory is None else f"version {directory.version}"
        output.say(f"{_short(found.state)}: {version}")
        return
    raise typer.Exit(run_process("registrar", lambda process: process_of.serve(process, found), state=found.state))


@app.command("backup")
def back_up(
    profile: output.Profile,
    out: output.Backup,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Include the keys of snapshot and timestamp.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Write a backup of the registrar's state to one file, while the registrar runs or not. See docs/backup.md.

    Example: zhiwang registrar backup --profile registrar.toml --out /backup/registrar-2026-11-27.tar
    """
    output.print_backup(registrar_backup.back_up(load_profile(profile), out, with_keys=with_keys), out, as_json=as_json)


@app.command()
def restore(
    profile: output.Profile,
    source: output.RestoreFrom,
    reader: Annotated[
        list[Path] | None,
        typer.Option(
            help="`directory` in the state of a hub, an adapter or an agent; several times for several.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    no_reader: Annotated[bool, typer.Option("--no-reader", help="No reader of this directory is left.")] = False,  # noqa: FBT002 # typer's way
    seen: output.Seen = None,
    yes: output.AcceptFewer = False,  # noqa: FBT002 # the same
) -> None:
    """Restore the registrar into an empty state, at the newest directory that the backup or a reader has seen.

    A backup alone would sign numbers that readers have seen already, and they would refuse it. Its log is taken up if
    nobody has seen more of it. If the newest steps are lost, request certificates under another name
    (DEPARTMENT/registrar/NAME) and restore with them: the new log begins with the end of the lost one.

    Example: zhiwang registrar restore --profile registrar.toml --from registrar.tar --reader hub/state/directory
    """
    if bool(reader) == no_reader:
        output.usage_error("say with --reader what a hub has seen of the directory; or --no-reader, if none is left")
    done = registrar_backup.restore(load_profile(profile), source, reader or (), seen or (), accept_fewer=yes)
    found = done.directory
    state = "nothing was published yet" if found is None else f"timestamp {found.timestamp}, snapshot {found.snapshot}"
    output.say(f"已恢复 restored: {state}.")
    if done.successor:
        output.say("日志另起 its log is a new one, which begins with the end of the lost one.")
    else:
        output.say(f"日志 its log: newest seen {done.log.seen} of {done.log.size} entries.")
    if done.renewed:
        public = load_profile(profile).state / registrar.PUBLIC_KEYS
        output.say("The backup holds no keys, so there are new ones; nothing is signed until a root names them.")
        output.next_step(
            f"zhiwang policy renew-root root.json --registrar {public} --key … --key … --out root-next.json"
        )
    output.next_step(f"zhiwang registrar run --profile {profile}")


def _short(path: Path) -> str:
    return path.name
