"""`zhiwang audit reconcile`: the hub's log held against an owner's."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from audit.auditor import Auditor
from audit.query import Query
from audit.reconcile import Reconciliation
from exchange.cli.audit_reading import From, moment_of, time_text, with_auditor
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile

MICROSECONDS = 1_000_000


def reconcile(
    profile: output.Profile,
    owner: Annotated[str, typer.Option(help="Department whose own log is held against the hub's.")],
    source: From = "",
    hub: Annotated[
        str, typer.Option(metavar="DIR|ADDRESS", help="Who keeps the hub's log; else the profile's hub.")
    ] = "",
    since: Annotated[str, typer.Option(help="From this time on: 2026-09-01, or 2026-09-01T08:30.")] = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Name every access that stands in one of the two logs and not, or not in the same way, in the other.

    Each entry is proved to be in its log. Exit status 0 if they agree, 1 if not.

    Example: zhiwang audit reconcile --profile auditor.toml --owner hrss --from hrss/state --since 2026-09-01
    """
    loaded = load_profile(profile)
    began = moment_of(since, "--since") or 0
    both = Reconciliation(began / MICROSECONDS, time.time())

    async def read_owner(auditor: Auditor) -> None:
        query = Query(event="owner_access", since=round(both.owner_since * MICROSECONDS) if began else None)
        async for index, entry in auditor.search(query, limit=0, proofs=True):
            both.owner(index, entry)

    async def read_hub(auditor: Auditor) -> None:
        query = Query(event="hub_access", owner=owner, since=began or None)
        async for index, entry in auditor.search(query, limit=0, proofs=True):
            both.hub(index, entry)

    with_auditor(loaded, source, owner, read_owner)
    with_auditor(loaded, hub, "", read_hub)
    found = both.result()
    rows = [(one.kind, one.log, one.index, time_text(one.time), one.header_hash.hex()) for one in found.differences]
    if as_json:
        names = ("kind", "log", "index", "time", "header_hash")
        output.print_json(
            {
                "owner": owner,
                "both": found.both,
                "late": found.late,
                "difference_count": found.number,
                "differences": [dict(zip(names, row, strict=True)) for row in rows],
                "read_time": datetime.now(UTC).isoformat(),
            }
        )
    else:
        if rows:
            output.print_table(("不符 difference", "日志 log", "记录 entry", "时间 time", "请求 header hash"), rows)
        output.say(
            f"双方都有 both {found.both}, 迟到 late {found.late}, 不符 differences {found.number}"
            + (f" (列出 named {len(rows)})" if found.number > len(rows) else "")
        )
    raise typer.Exit(output.FAILED if found.number else output.OK)
