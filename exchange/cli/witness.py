"""`zhiwang witness`: an outside party that cosigns the checkpoints of a log that only grows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import typer

from audit.witness_store import WitnessStore
from exchange import witness
from exchange.witness import StateFiles
from zhiwang.wire import output
from zhiwang.wire.diagnosis import Diagnosis, ok, safely, wrong
from zhiwang.wire.process import read_address
from zhiwang.wire.process import run as run_process
from zhiwang.wire.profile import Profile, load_profile

app = typer.Typer(
    help="见证  A witness: cosigns checkpoints of logs that only grow, and remembers each.", no_args_is_help=True
)


@app.command()
def init(profile: output.Profile) -> None:
    """Make a witness's key and its empty memory. Once; a witness whose state is lost is replaced, not made again.

    The directory `guard` within the state is best put on other storage: it tells whether the memory was rolled back.

    Example: zhiwang witness init --profile witness.toml
    """
    loaded = load_profile(profile)
    key = witness.init(loaded)
    output.print_table(("", ""), [("公钥 verifier key", key), ("状态 state", loaded.state)])
    output.next_step(
        f"give the key to the centre, for [witness.NAME] in centre.toml; zhiwang witness run --profile {profile}"
    )


@app.command()
def run(profile: output.Profile) -> None:
    """Serve POST /add-checkpoint (C2SP tlog-witness) over HTTPS until SIGTERM or Ctrl-C.

    Example: zhiwang witness run --profile witness.toml
    """
    loaded = load_profile(profile)
    raise typer.Exit(run_process("witness", partial(witness.main, loaded), state=loaded.state))


@app.command()
def key(profile: output.Profile, as_json: output.AsJson = False) -> None:  # noqa: FBT002 # typer's way
    """Print the verifier key, for centre.toml and for whoever verifies cosignatures.

    Example: zhiwang witness key --profile witness.toml
    """
    found = witness.verifier_key(StateFiles(load_profile(profile).state))
    if as_json:
        output.print_json({"name": found.name, "key": str(found)})
    else:
        typer.echo(str(found))


def diagnose(profile: Profile) -> Iterator[Diagnosis]:
    """What `zhiwang doctor` says of a witness beyond what every host has."""
    remedy = f"see docs/witness.md; only a new witness: zhiwang witness init --profile {profile.path}"
    yield from safely("witness", lambda: _logs(profile), remedy)


def _logs(profile: Profile) -> Iterator[Diagnosis]:
    state = StateFiles(profile.state)
    names = [log.origin for log in witness.followed(profile)]
    if not state.directory.is_dir():
        return  # said by the checks that every host has
    found, _ = witness.load_key(state)
    yield ok("witness", f"密钥 {found}", f"its key is {found}")
    store = WitnessStore.open(state.store, state.guard)
    try:
        logs: dict[str, Any] = store.logs()
    finally:
        store.close()
    for name in names:
        if not any(origin == name or origin.startswith(f"{name}/") for origin in logs):
            yield wrong(
                "witness",
                f"从未见证 {name}",
                f"has never cosigned {name}",
                "there: [cosigning] in the hub's profile; here: the witness's log says what it refused"
                if read_address(profile.state)
                else f"zhiwang witness run --profile {profile.path}",
            )
    for origin, one in logs.items():
        yield ok("witness", f"{origin}：已见证 {one.size} 条", f"{origin}: {one.size} entries cosigned")
    count = sum(1 for _ in state.evidence.iterdir()) if state.evidence.is_dir() else 0
    if count:
        yield wrong(
            "witness",
            f"{state.evidence} 中有 {count} 份矛盾的检查点",
            f"{count} contradictions in {state.evidence}: a log has signed two histories",
            "call the audit office, and give it these files",
        )
