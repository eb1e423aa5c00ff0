"""`zhiwang audit subject`: who asked about somebody, told by one owner to its own people."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import grpc
import typer

from audit.proofs import HeadChecker
from exchange.cli import output
from exchange.cli.audit_reading import From, Owner, with_keeper
from exchange.cli.subject_report import Part, Titles, as_object, print_parts
from zhiwang.adapter.v1 import subject_pb2, subject_pb2_grpc
from zhiwang.audit.v1 import audit_pb2, audit_pb2_grpc
from zhiwang.wire.profile import load_profile

TIMEOUT = 60.0
"""Seconds that an owner may take."""

SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND=-",
        help="Kind of subject, e.g. person=-; the identifier is read from standard input, as arguments show in a "
        "process list.",
    ),
]


def read_subject(text: str, lines: Iterable[str]) -> tuple[str, str]:
    """What stands before =-, and the identifier from standard input.

    Raises:
        typer.Exit: With status 2, for wrong usage; nothing of what was given is repeated.
    """
    kind, _, value = text.partition("=")
    if not kind or value != "-":
        output.usage_error("write the kind and =-, e.g. person=-, and give the identifier on standard input")
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
    whole: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--whole", help="Show what is delayed too: for an investigation, not for the citizen.")
    ] = False,
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Tell who asked an owner about somebody, asked about or compared with. The look-up is itself recorded and told.

    For the owner's own auditors and admins, and the audit office, at the owner's adapter. The identifier never goes to
    a hub, and stands in no log.

    Example: zhiwang audit subject person=- --profile auditor.toml --owner hrss --from hrss/state
    --reference 2026-000017 < identifier
    """
    loaded = load_profile(profile)
    if not owner:
        output.usage_error("say with --owner whose log to look into; a hub does not know whom requests are about")
    kind, identifier = read_subject(who, sys.stdin)
    request = subject_pb2.ReportRequest(
        subject=subject_pb2.Subject(kind=kind, identifier=identifier), reference=reference, whole=whole
    )

    async def ask(channel: grpc.aio.Channel, checker: HeadChecker) -> subject_pb2.SubjectReport:
        # Whose process this is must be proved before it is told about whom one asks.
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        checker.check((await stub.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=TIMEOUT)).head)
        response = await subject_pb2_grpc.SubjectServiceStub(channel).Report(request, timeout=TIMEOUT)
        report: subject_pb2.SubjectReport = response.report
        return report

    parts = [Part(owner, with_keeper(loaded, source, owner, ask))]
    if as_json:
        output.print_json(as_object(parts, Titles()))
    else:
        print_parts(parts, Titles())
