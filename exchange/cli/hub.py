"""`zhiwang hub`: the process in the middle."""

from __future__ import annotations

from functools import partial

import typer

from exchange import app as hub_app
from exchange.cli import output
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile

app = typer.Typer(help="枢纽  The hub: authorises, routes, records; sees no citizen.", no_args_is_help=True)


@app.command()
def init(profile: output.Profile) -> None:
    """Make a hub's state: an empty log and its guard. Once; `run` never makes one.

    The directory `guard` within the state is best put on other storage: it tells whether the log was rolled back.

    Example: zhiwang hub init --profile hub.toml
    """
    loaded = load_profile(profile)
    hub_app.init(loaded)
    output.say(f"The hub's log lies in {loaded.state}.")
    output.next_step(f"zhiwang hub run --profile {profile}")


@app.command()
def run(profile: output.Profile) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is with owners, and stop.

    Example: zhiwang hub run --profile hub.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("hub", partial(hub_app.main, loaded), state=loaded.state))
