"""`zhiwang registrar`: the process that keeps the directory fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli import output
from policy import registrar
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile

app = typer.Typer(help="名录服务：保持名录新鲜。 The registrar, which keeps the directory fresh.", no_args_is_help=True)


@app.command()
def init(profile: output.Profile) -> None:
    """Make the registrar's two keys and its empty repository; do it once.

    Example: zhiwang registrar init --profile registrar.toml
    """
    path = registrar.init(load_profile(profile).state)
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
    raise typer.Exit(run_process("registrar", lambda process: registrar.serve(process, found), state=found.state))


def _short(path: Path) -> str:
    return path.name
