"""`zhiwang agent`: the requester's process, which any program of the department calls, and its mock."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from exchange import backup
from exchange.client import agent, mock
from exchange.client.keeper import make_store
from exchange.client.mock_city import MockCity, load_directory
from exchange.client.personas import PERSONAS, identifier
from exchange.demo.build import SYSTEM, examples_directory
from zhiwang.wire import output
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import load_profile

app = typer.Typer(
    help="前置机  The agent: seals, sends, opens, checks; serves the department's programs.", no_args_is_help=True
)

EXAMPLE_SYSTEM = SYSTEM.replace("/system/", "/")
SCHEMES = ("resident", "uscc", "house")


@app.command()
def init(profile: output.Profile) -> None:
    """Make the state directory of an agent, or of `zhiwang verify`. Once.

    It remembers what was seen of the directory and of the hub's log; whoever deletes it forgets that. If the profile
    has a table [agent.receipts], the store of the receipts and this year's key are made too.

    Example: zhiwang agent init --profile edu.toml
    """
    loaded = load_profile(profile)
    loaded.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    output.say(f"The agent's state lies in {loaded.state}.")
    if loaded.agent.receipts is not None and make_store(loaded, time.time()):
        output.say(f"Receipts are kept in it, under keys in {loaded.path.parent / loaded.agent.receipts.keys}.")
        output.say("密钥须另行备份，不得与凭证同处存放。 Back the keys up, and not where the receipts are backed up.")
    output.next_step(f"zhiwang agent run --profile {profile}")


@app.command()
def run(profile: output.Profile) -> None:
    """Serve until SIGTERM or Ctrl-C; then let calls end, and stop.

    Example: zhiwang agent run --profile edu.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("agent", partial(agent.main, loaded), state=loaded.state))


@app.command("mock")
def mock_command(
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Loopback address or unix:PATH; port 0 takes a free one.")
    ] = agent.DEFAULT_LISTEN,
    system: Annotated[
        str, typer.Option(metavar="DEPARTMENT/NAME", help="System for which it speaks, in all of its roles.")
    ] = EXAMPLE_SYSTEM,
    documents: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory with centre.toml, documents/ and matters/.",
            show_default="the example city's",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    matter: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A further matter, or one in place of another.", exists=True, dir_okay=False),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New directory for the mock's ca.pem, to try `receipt verify` with.", file_okay=False
        ),
    ] = None,
    *,
    list_only: Annotated[bool, typer.Option("--list", help="Print the personas and end.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Serve the agent's plain API without hub or certificates: every answer is invented. For programs being written.

    It refuses, denies and answers as an agent does, about the personas of --list and by a fixed chance about everybody
    else. Every response comes with the metadata `zhiwang-mock: 1`.

    Exit status: 0 after an orderly stop or a list, 1 if it cannot start, 2 for wrong usage.

    Example: zhiwang agent mock --listen 127.0.0.1:7441
    """
    if list_only:
        _print_personas(as_json=as_json)
        return
    if as_json:
        output.usage_error("--json belongs to --list")
    place = documents or examples_directory()
    directory = load_directory(
        place / "centre.toml",
        sorted((place / "documents").glob("*.toml")),
        (*sorted((place / "matters").glob("*.toml")), *(matter or ())),
        now=time.time(),
    )
    city = MockCity(directory, system)
    output.say("这是模拟前置机：所有结果均为虚构，不得用于任何办件。")
    output.say("This is a mock: every answer is invented. No application may be decided by it.")
    output.next_step("zhiwang agent mock --list")
    raise typer.Exit(run_process("mock", partial(mock.main, city, listen, root)))


def _print_personas(*, as_json: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "number": persona.number,
                    "group": persona.group,
                    "zh": persona.zh,
                    "en": persona.en,
                    **{scheme: identifier(persona, scheme) for scheme in SCHEMES},
                }
                for persona in PERSONAS
            ]
        )
        return
    for group in dict.fromkeys(persona.group for persona in PERSONAS):
        output.print_table(
            (*SCHEMES, "what happens"),
            [
                (*(identifier(persona, scheme) for scheme in SCHEMES), f"{persona.zh}\n{persona.en}")
                for persona in PERSONAS
                if persona.group == group
            ],
            title=group,
        )


@app.command("backup")
def back_up(profile: output.Profile, out: output.Backup, as_json: output.AsJson = False) -> None:  # noqa: FBT002 # typer's way
    """Write a backup of the agent's state to one file, while the agent runs or not.

    It holds what was seen of the hub's log, the directory, and what else the state keeps; no identity. See
    docs/backup.md.

    Example: zhiwang agent backup --profile edu.toml --out /backup/edu-2026-11-27.tar
    """
    output.print_backup(backup.back_up_agent(load_profile(profile), out), out, as_json=as_json)


@app.command()
def restore(profile: output.Profile, source: output.RestoreFrom) -> None:
    """Restore the agent from a backup into an empty state. What it saw since then is forgotten.

    Example: zhiwang agent restore --profile edu.toml --from /backup/edu-2026-11-27.tar
    """
    backup.restore_agent(load_profile(profile), source)
    output.say("已恢复 restored.")
    output.next_step(f"zhiwang agent run --profile {profile}")
