"""`zhiwang agent`: the requester's process, which any program of the department calls."""

from __future__ import annotations

from functools import partial

import typer

from exchange.cli import output
from exchange.client import agent
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile

app = typer.Typer(
    help="前置机  The agent: seals, sends, opens, checks; serves the department's programs.", no_args_is_help=True
)


@app.command()
def init(profile: output.Profile) -> None:
    """Make the state directory of an agent, or of `zhiwang verify`. Once.

    It remembers what was seen of the directory and of the hub's log; whoever deletes it forgets that.

    Example: zhiwang agent init --profile edu.toml
    """
    loaded = load_profile(profile)
    loaded.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    output.say(f"The agent's state lies in {loaded.state}.")
    output.next_step(f"zhiwang agent run --profile {profile}")


@app.command()
def run(profile: output.Profile) -> None:
    """Serve until SIGTERM or Ctrl-C; then let calls end, and stop.

    Example: zhiwang agent run --profile edu.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("agent", partial(agent.main, loaded), state=loaded.state))
