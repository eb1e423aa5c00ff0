"""Which entries of a log are meant: the conditions that search, hold and produce share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit.facts import OUTCOME_PREFIX
from audit.query import Query
from certs.credentials import IdentityFiles
from exchange.cli.audit_reading import moment_of
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.profile import Profile

Event = Annotated[str, typer.Option(help="Kind of entry, e.g. hub_access, refusal, audit_read.")]
Department = Annotated[str, typer.Option(help="Department that asked.")]
System = Annotated[str, typer.Option(help="System that asked: edu/enrolment, or a whole identity.")]
Official = Annotated[str, typer.Option(help="For whom it asked.")]
Role = Annotated[str, typer.Option(help="In which role, e.g. edu/enrolment-clerk.")]
Matter = Annotated[str, typer.Option(help="For which matter.")]
Reference = Annotated[str, typer.Option(help="Reference of the case or job.")]
Place = Annotated[str, typer.Option(help="Where it asked, with all that lies in it, e.g. nbs:440306.")]
Asked = Annotated[str, typer.Option(help="Department that was asked.")]
Attribute = Annotated[str, typer.Option(help="Attribute that was asked, e.g. hrss.pension_months.")]
Outcome = Annotated[str, typer.Option(help="ANSWERED, DENIED, UNAVAILABLE or REFUSED.")]
Reason = Annotated[str, typer.Option(help="Public reason of another outcome than ANSWERED.")]
Header = Annotated[str, typer.Option(help="First digits, eight at least, of the header hash.")]
Directory = Annotated[int, typer.Option(min=0, help="Version of the directory by which it was decided.")]

Emergency = Annotated[
    bool, typer.Option("--emergency", help="Only what an opened emergency alone allowed, and its steps.")
]

DivisionsFile = Annotated[
    Path | None,
    typer.Option(
        "--divisions",
        metavar="CSV",
        envvar="ZHIWANG_DIVISIONS",
        help="Names of divisions, with columns level, code, name and parent; else places are codes.",
        exists=True,
        dir_okay=False,
    ),
]


def selected(
    profile: Profile,
    *,
    since: str = "",
    until: str = "",
    event: str = "",
    department: str = "",
    system: str = "",
    official: str = "",
    role: str = "",
    matter: str = "",
    reference: str = "",
    place: str = "",
    asked: str = "",
    attribute: str = "",
    outcome: str = "",
    reason: str = "",
    directory: int = 0,
    header: str = "",
    emergency: bool = False,
) -> Query:
    """What these options look for; ends with a usage error if one of them is none."""
    query = Query(
        since=moment_of(since, "--since"),
        until=moment_of(until, "--until"),
        event=event,
        department=department,
        official=official,
        role=role,
        matter=matter,
        reference=reference,
        place=place,
        owner=asked,
        attribute=attribute,
        outcome=_outcome(outcome),
        reason=reason,
        version=directory,
        header=header.lower(),
        emergency=emergency,
    )
    if not system:
        return query
    return replace(query, system=_system(system, IdentityFiles(profile.identity, profile.root).identity.city))


def _outcome(text: str) -> str:
    known = [name.removeprefix(OUTCOME_PREFIX) for name in audit_pb2.Outcome.keys()][1:]  # noqa: SIM118 - no dict
    if text and text.upper() not in known:
        output.usage_error(f"--outcome is one of {', '.join(known)}")
    return text.upper()


def _system(text: str, city: str) -> str:
    """The whole identity of a system that is named in short."""
    if "://" in text:
        return text
    department, _, name = text.partition("/")
    kind = "" if "/" in name else f"{Kind.SYSTEM}/"
    try:
        return Identity.parse_short(city, f"{department}/{kind}{name}").uri
    except RefusedError:
        output.usage_error("--system is DEPARTMENT/NAME, as edu/enrolment, or a whole identity, spiffe://…")
