"""`zhiwang policy replay`: the accesses of the last days decided again under a proposal."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.auditor import Auditor
from audit.query import Query
from exchange.cli.audit_reading import From, Owner, printable, with_auditor
from exchange.cli.policy_rights import named
from exchange.cli.registrar_link import with_registrar
from exchange.deciding import Replaying
from policy.rehearse import rehearsed
from zhiwang.policy.v1 import decisions_pb2
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile

SHOWN = 20
"""Single flips that a table shows unless one asks for more."""
_DAY = 86_400.0


def replay(
    profile: output.Profile,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="The proposal.", exists=True, dir_okay=False)
    ] = None,
    days: Annotated[float, typer.Option(min=0, help="How far back.")] = 30,
    remove: Annotated[list[str] | None, typer.Option(help="Name of a matter that goes.")] = None,
    source: From = "",
    owner: Owner = "",
    limit: Annotated[int, typer.Option(min=0, help="Single flips to list; 0 for all.")] = SHOWN,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Decide the accesses in the log again, as if they were asked today under these files, and list what flips.

    Read as what you are: in the hub's log an owner's admin what the owner was asked, the audit office everything; or
    an owner's own log (--owner hrss --from hrss/state). Without files under the directory in force. What that decides
    otherwise already is told apart. The reading stands in the log. Exit status 1 if anything flips, or if an entry
    cannot be read.

    Example: zhiwang policy replay hrss/document.toml --days 30 --owner hrss --from hrss/state --profile hrss.toml
    """
    loaded = load_profile(profile)
    now = time.time()
    current = with_registrar(loaded, lambda link: link.directory())
    proposed = rehearsed(current, named(files or ()), removed=remove or ())
    replaying = Replaying(current, proposed, now, limit)
    query = Query(event="owner_access" if owner else "hub_access", since=round((now - days * _DAY) * 1_000_000))
    flips: list[decisions_pb2.Flip] = []

    async def read(auditor: Auditor) -> None:
        with output.counting("重放 replaying") as count:
            async for entry in auditor.search(query, limit=0, proofs=False):
                said = replaying.decide([entry])
                flips.extend(said.flips)
                count(said.accesses)

    with_auditor(loaded, source, owner, read)
    told = replaying.finish()
    if as_json:
        output.print_json(
            {
                "directory": current.version,
                "accesses": told.accesses,
                "not_read": told.not_read,
                "groups": [_group_json(group) for group in told.groups],
                "flips": [_as_json(flip) for flip in flips],
            }
        )
    else:
        _print(flips, told)
        if told.not_read:
            output.say(
                f"{told.not_read} 条记录本程序读不懂，未计入 "
                f"{told.not_read} entries cannot be read by this program; not counted"
            )
    raise typer.Exit(output.FAILED if told.flipped or told.not_read else output.OK)


def _print(flips: list[decisions_pb2.Flip], told: decisions_pb2.ReplayResponse) -> None:
    if told.groups:
        output.print_table(
            ("部门 department", "role", "matter", "ask", "变为 becomes", "原因 reason", "", "次 claims"),
            [
                (
                    group.department,
                    group.role,
                    group.matter,
                    group.ask,
                    "允许 allowed" if group.allowed else "拒绝 denied",
                    group.reason,
                    "现已如此 already so" if group.already else "",
                    group.count,
                )
                for group in told.groups
            ],
        )
        output.print_table(
            ("记录 entry", "时间 time", "system", "official", "reference", "ask", "变为 becomes"),
            [
                (
                    flip.index,
                    output.local_time(flip.time.ToMicroseconds() / 1e6),
                    printable(output.short_identity(flip.system)),
                    printable(flip.official),
                    printable(flip.reference),
                    flip.ask,
                    "允许 allowed" if flip.allowed else f"拒绝 denied {flip.reason}",
                )
                for flip in flips
            ],
        )
    output.say(f"{told.accesses} 次访问，{told.flipped} 项结果改变，其中 {told.by_standpoint} 项因本提案")
    output.say(f"{told.accesses} accesses, {told.flipped} claims flip, {told.by_standpoint} of them by this proposal")


def _group_json(group: decisions_pb2.FlipGroup) -> dict[str, Any]:
    return {
        "department": group.department,
        "role": group.role,
        "matter": group.matter,
        "ask": group.ask,
        "allowed": group.allowed,
        "reason": group.reason,
        "already": group.already,
        "count": group.count,
    }


def _as_json(flip: decisions_pb2.Flip) -> dict[str, Any]:
    return {
        "entry": flip.index,
        "time": datetime.fromtimestamp(flip.time.ToMicroseconds() / 1e6, UTC).isoformat(),
        "system": flip.system,
        "official": flip.official,
        "role": flip.role,
        "matter": flip.matter,
        "reference": flip.reference,
        "jurisdiction": flip.jurisdiction,
        "ask": flip.ask,
        "allowed": flip.allowed,
        "reason": flip.reason,
        "already": flip.already,
    }
