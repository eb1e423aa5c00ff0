"""`zhiwang audit`: read a log without trusting who keeps it."""

from __future__ import annotations

from pathlib import Path

import typer

from audit.auditor import Auditor, ReadLog
from audit.origins import log_of
from audit.years import YearsView
from certs.identity import write_public
from exchange.cli import output
from exchange.cli.audit_delay import delay
from exchange.cli.audit_erase import erase_subject
from exchange.cli.audit_files import export, fsck
from exchange.cli.audit_hold import app as hold
from exchange.cli.audit_reading import From, Owner, Shard, bar, time_text, with_auditor
from exchange.cli.audit_reconcile import reconcile
from exchange.cli.audit_retention import retention
from exchange.cli.audit_search import search
from exchange.cli.audit_show import show
from exchange.cli.audit_subject import subject
from exchange.cli.audit_witnesses import Witnessed, Witnesses, witnessed, witnesses_of
from zhiwang.wire.process import locked_state
from zhiwang.wire.profile import load_profile

app = typer.Typer(
    help="审计  Read a log without trusting who keeps it: verify it whole, or show one entry.", no_args_is_help=True
)

SEEN = "seen"
"""Directory of the state: what was seen of each log the last time, by its origin."""


@app.command()
def init(profile: output.Profile) -> None:
    """Make the state directory in which `verify` remembers what it has seen. Once.

    Example: zhiwang audit init --profile auditor.toml
    """
    state = load_profile(profile).state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / SEEN).mkdir(mode=0o700)
    output.next_step(f"zhiwang audit verify --profile {profile}")


@app.command()
def verify(
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    witness_policy: Witnesses = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Read a whole log and recompute its root; it must be the signed one, and extend what was seen the last time.

    It is told which witnesses have cosigned what, and when; what they cosigned must be of the same history.

    A log is one for each year. The newest is read, and must go on from the one that was seen before; with --shard an
    older one, which must be one of those from which the newest goes on.

    Example: zhiwang audit verify --profile auditor.toml --shard first

    Example: zhiwang audit verify --profile auditor.toml --owner hrss --from hrss/state
    """
    loaded = load_profile(profile)
    seen = loaded.state / SEEN
    demanded = witnesses_of(witness_policy)

    async def read(auditor: Auditor) -> tuple[ReadLog, YearsView, Witnessed]:
        head = await auditor.cosigned()
        found, view = await auditor.verify(progress)
        return found, view, await witnessed(auditor, loaded, head, found.checkpoint, demanded)

    with locked_state(loaded.state), bar(visible=not as_json) as progress:
        found, view, told = with_auditor(
            loaded, source, owner, read, recall=lambda origin: _recall(seen, origin), shard=shard
        )
        seen.mkdir(mode=0o700, exist_ok=True)
        # One memory for all years; that of an older year never stands for the newest.
        write_public(_memory(seen, log_of(found.checkpoint.origin)), view.export())
    facts = {
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
        "extends": found.extends or None,
        "goes_on_from": None
        if found.goes_on_from is None
        else {"origin": found.goes_on_from.origin, "size": found.goes_on_from.size},
        "first_time": time_text(found.first_time),
        "last_time": time_text(found.last_time),
        "events": dict(sorted(found.events.items())),
        "witnessed": told.facts,
        "verified": True,
    }
    if as_json:
        output.print_json(facts)
        return
    rows = [
        ("日志 log", found.checkpoint.origin),
        ("记录 entries", found.checkpoint.size),
        ("根 root", found.checkpoint.root.hex()),
        ("自 from", facts["first_time"]),
        ("至 to", facts["last_time"]),
        *(
            [("续 goes on from", f"{found.goes_on_from.origin}, {found.goes_on_from.size} 条记录 entries")]
            if found.goes_on_from
            else []
        ),
        *((f"  {kind}", count) for kind, count in sorted(found.events.items())),
        *told.rows,
    ]
    output.print_table(("", ""), rows)
    if found.extends:
        output.say(f"核对无误。It holds, and extends the {found.extends} entries that were seen the last time.")
    else:
        output.say("核对无误。It holds. This log was seen for the first time; its checkpoint is remembered.")


def _memory(seen: Path, origin: str) -> Path:
    return seen / f"{origin.replace('/', '+')}.json"  # no part of an origin has a plus


def _recall(seen: Path, origin: str) -> bytes:
    try:
        return _memory(seen, origin).read_bytes()
    except FileNotFoundError:
        return b""


for _command in (show, search, subject, delay, reconcile, export, fsck, retention):
    app.command()(_command)
app.command("erase-subject")(erase_subject)
app.add_typer(hold, name="hold")
