"""`zhiwang policy replay`: the accesses of the last days decided again under a proposal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.auditor import Auditor
from audit.query import Query
from exchange.cli import output
from exchange.cli.audit_reading import From, Owner, printable, with_auditor
from exchange.cli.policy_rights import named
from exchange.cli.registrar_link import with_registrar
from policy.rehearse import rehearsed
from policy.replay import POLICY_REASONS, Access, Flip, Replay, grouped
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import parse_header
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

    Read as what you are: an owner's admin its own log (--owner hrss --from hrss/state), the audit office the hub's.
    Without files under the directory in force. What the directory in force decides otherwise already is told apart.
    The reading stands in the log. Exit status 1 if anything flips, or if an entry cannot be read.

    Example: zhiwang policy replay hrss/document.toml --days 30 --owner hrss --from hrss/state --profile hrss.toml
    """
    loaded = load_profile(profile)
    now = time.time()
    current = with_registrar(loaded, lambda link: link.directory())
    proposed = rehearsed(current, named(files or ()), removed=remove or ())
    replayed = Replay(current, proposed, now)
    query = Query(event="owner_access" if owner else "hub_access", since=round((now - days * _DAY) * 1_000_000))

    async def read(auditor: Auditor) -> tuple[list[Flip], int]:
        found: list[Flip] = []
        unread = 0
        with output.counting("重放 replaying") as count:
            async for access in accesses_of(auditor, query):
                if access is None:
                    unread += 1
                    continue
                found += replayed.flips([access])
                count(replayed.accesses)
        return found, unread

    flips, unread = with_auditor(loaded, source, owner, read)
    shown = flips[: limit or None]
    if as_json:
        output.print_json(
            {
                "directory": current.version,
                "accesses": replayed.accesses,
                "not_read": unread,
                "groups": [{**group._asdict(), "count": count} for group, count in grouped(flips).most_common()],
                "flips": [_as_json(flip) for flip in shown],
            }
        )
    else:
        _print(flips, shown, replayed.accesses)
        if unread:
            output.say(
                f"{unread} 条记录本程序读不懂，未计入 {unread} entries cannot be read by this program; not counted"
            )
    raise typer.Exit(output.FAILED if flips or unread else output.OK)


async def accesses_of(auditor: Auditor, query: Query) -> AsyncIterator[Access | None]:
    """Accesses that policy decided, newest first; None for one whose header this program cannot read."""
    async for index, entry in auditor.search(query, limit=0, proofs=False):
        access = entry.hub_access if entry.WhichOneof("event") == "hub_access" else entry.owner_access
        try:
            header = parse_header(access.header)
        except RefusedError:
            yield None
            continue
        denied = frozenset(access.denied_claims)
        if isinstance(access, audit_pb2.HubAccess) and access.outcome == audit_pb2.OUTCOME_DENIED:
            if access.reason not in POLICY_REASONS:
                continue  # a matter or directory that was just changing, say: asked again it was decided
            denied = frozenset(range(len(header.claims)))
        yield Access(index, entry.time.seconds + entry.time.nanos / 1e9, header, denied)


def _print(flips: list[Flip], shown: list[Flip], accesses: int) -> None:
    groups = grouped(flips)
    if groups:
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
                    count,
                )
                for group, count in groups.most_common()
            ],
        )
        output.print_table(
            ("记录 entry", "时间 time", "system", "official", "reference", "ask", "变为 becomes"),
            [
                (
                    flip.access.entry,
                    output.local_time(flip.access.time),
                    printable(output.short_identity(flip.access.header.system)),
                    printable(flip.access.header.official),
                    printable(flip.access.header.reference),
                    flip.ask,
                    "允许 allowed" if flip.allowed else f"拒绝 denied {flip.reason}",
                )
                for flip in shown
            ],
        )
    own = sum(not flip.already for flip in flips)
    output.say(f"{accesses} 次访问，{len(flips)} 项结果改变，其中 {own} 项因本提案")
    output.say(f"{accesses} accesses, {len(flips)} claims flip, {own} of them by this proposal")


def _as_json(flip: Flip) -> dict[str, Any]:
    header = flip.access.header
    return {
        "entry": flip.access.entry,
        "time": datetime.fromtimestamp(flip.access.time, UTC).isoformat(),
        "system": header.system,
        "official": header.official,
        "role": header.role,
        "matter": header.matter,
        "reference": header.reference,
        "jurisdiction": str(header.jurisdiction),
        "ask": flip.ask,
        "allowed": flip.allowed,
        "reason": flip.reason,
        "already": flip.already,
    }
