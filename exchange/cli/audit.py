"""`zhiwang audit`: read a log without trusting who keeps it."""

from __future__ import annotations

import typer

from exchange.cli.audit_delay import delay
from exchange.cli.audit_erase import erase_subject
from exchange.cli.audit_files import export
from exchange.cli.audit_fsck import fsck
from exchange.cli.audit_hold import app as hold
from exchange.cli.audit_produce import check_bundle, produce
from exchange.cli.audit_reconcile import reconcile
from exchange.cli.audit_retention import retention
from exchange.cli.audit_search import search
from exchange.cli.audit_show import show
from exchange.cli.audit_subject import subject
from exchange.cli.audit_verify import init, verify

app = typer.Typer(
    help="审计  Read a log without trusting who keeps it: verify, search, show, hold and produce.", no_args_is_help=True
)

for _command in (init, verify, show, search, subject, delay, reconcile, export, fsck, produce, check_bundle, retention):
    app.command()(_command)
app.command("erase-subject")(erase_subject)
app.add_typer(hold, name="hold")
