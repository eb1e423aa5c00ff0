"""`zhiwang audit subject`: who asked about somebody, told by every owner to a desk, or by one to its own people."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import grpc
import typer

from audit.keeping import prove
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from exchange.cli.audit_reading import From, Owner, with_keeper
from exchange.cli.page import write_page
from exchange.cli.subject_report import Titles, as_object, as_page, print_parts
from exchange.cli.verify import open_client
from exchange.client.case import Context, Subject
from exchange.client.report import OwnerReport
from zhiwang.adapter.v1 import subject_pb2, subject_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.clock import timestamp_text
from zhiwang.wire.identity import Kind
from zhiwang.wire.profile import Profile, load_profile

TIMEOUT = 60.0
"""Seconds that an owner may take."""

SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="WHO=-",
        help="Of a desk the slot of the matter, with --owner the kind of subject, e.g. person=-; the identifier is "
        "read from standard input, as arguments show in a process list.",
    ),
]


def read_subject(text: str, lines: Iterable[str]) -> tuple[str, str]:
    """What stands before =-, and the identifier from standard input.

    Raises:
        typer.Exit: With status 2, for wrong usage; nothing of what was given is repeated.
    """
    kind, _, value = text.partition("=")
    if not kind or value != "-":
        output.usage_error("write the slot or kind and =-, e.g. person=-, and give the identifier on standard input")
    given = [line.strip() for line in lines if line.strip()]
    if len(given) != 1:
        output.usage_error(f"standard input holds {len(given)} identifiers, and must hold one")
    return kind, given[0]


def subject(
    who: SubjectArgument,
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    reference: Annotated[str, typer.Option(help="Reference of the citizen's request, e.g. 2026-000017.")] = "",
    matter: Annotated[str, typer.Option(help="Of a desk: the matter for which reports are granted.")] = "",
    official: Annotated[str, typer.Option(help="Of a desk: who asks; never an identifier of a citizen.")] = "",
    role: Annotated[str, typer.Option(help="Of a desk: role in which to ask.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Of a desk: where it acts, e.g. nbs:4403.")] = "",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to print; it is about a citizen, so keep it safe.")
    ] = None,
    whole: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--whole", help="With --owner: show what is delayed too; not for the citizen.")
    ] = False,
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Tell who asked about somebody, or compared them with another. The look-up is itself recorded, and told.

    With a system's profile it asks every owner on the citizen's behalf, and names those that did not tell. With
    --owner it asks one owner's adapter, for the owner's own auditors and admins and the audit office. The identifier
    goes to owners alone, sealed, and stands in no log.

    Exit status: 0 if every owner told, 1 if one is missing, 2 for wrong usage.

    Example: zhiwang audit subject self=- --profile desk.toml --matter access-report --reference 2026-000017
    --official clerk-3 < identifier

    Example: zhiwang audit subject person=- --profile auditor.toml --owner hrss --from hrss/state
    --reference 2026-000017 < identifier
    """
    loaded = load_profile(profile)
    if html is not None and html.exists():
        output.usage_error(f"{html} is there already; a page never replaces another")
    asks = IdentityFiles(loaded.identity, loaded.root).identity.kind is Kind.SYSTEM
    if asks and (owner or source or whole):
        output.usage_error("a system asks every owner, through its hub; --owner, --from and --whole are an auditor's")
    if not asks and not owner:
        output.usage_error("say with --owner whose log to look into; a hub does not know whom requests are about")
    named, identifier = read_subject(who, sys.stdin)
    if asks:
        context = Context(matter, reference, official, role, jurisdiction)
        parts, titles = asyncio.run(_ask_all(loaded, Subject(named, identifier), context))
    else:
        about = subject_pb2.Subject(kind=named, identifier=identifier)
        request = subject_pb2.ReportRequest(subject=about, reference=reference, whole=whole)
        parts, titles = [OwnerReport(owner, _ask_one(loaded, source, owner, request))], Titles()
    if html is not None:
        write_page(html, as_page(parts, titles, reference=reference, made=timestamp_text(time.time())))
    if as_json:
        output.print_json(as_object(parts, titles))
    elif html is None:
        print_parts(parts, titles)
    else:
        output.say(f"已写入 written: {html}")
    if any(part.report is None for part in parts):
        raise typer.Exit(output.FAILED)


async def _ask_all(profile: Profile, about: Subject, context: Context) -> tuple[list[OwnerReport], Titles]:
    async with await open_client(profile) as client:
        return await client.report(about, context), Titles.of(client.directory)


def _ask_one(
    profile: Profile, source: str, owner: str, request: subject_pb2.ReportRequest
) -> subject_pb2.SubjectReport:
    async def ask(channel: grpc.aio.Channel, checker: HeadChecker) -> subject_pb2.SubjectReport:
        await prove(channel, checker)
        response = await subject_pb2_grpc.SubjectServiceStub(channel).Report(request, timeout=TIMEOUT)
        report: subject_pb2.SubjectReport = response.report
        return report

    return with_keeper(profile, source, owner, ask)
