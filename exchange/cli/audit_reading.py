"""What the commands of `zhiwang audit` share: whom to read from, and how an entry looks to a person."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import grpc
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit.auditor import Auditor
from audit.keeping import StrangerError, address_of, at_keeper
from audit.origins import FIRST_SHARD
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from exchange.evidence.plain import printable as printable  # noqa: PLC0414 - for the commands that read
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.identity import Kind
from zhiwang.wire.profile import Profile

REGISTRAR = "registrar"
_ADDRESS = re.compile(r"unix:.+|.+:\d{1,5}")
_YEAR = re.compile(r"[1-9][0-9]{3}")
T = TypeVar("T")

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="DIR|ADDRESS|registrar",
        help="State directory or address of who keeps the log, or the profile's registrar; else the profile's hub.",
    ),
]
Owner = Annotated[str, typer.Option(help="Department whose own log it is; else the hub's log.")]


Shard = Annotated[
    str, typer.Option(metavar="YYYY|first", help="The log of this year, or the first one; else the newest.")
]


def check_shard(shard: str) -> str:
    """A year, or the word for the first log, as it was given; ends with a usage error if it is neither."""
    if shard not in {"", FIRST_SHARD} and not _YEAR.fullmatch(shard):
        output.usage_error(f"--shard {shard} is neither a year nor {FIRST_SHARD}")
    return shard


def with_auditor(
    profile: Profile,
    source: str,
    owner: str,
    act: Callable[[Auditor], Awaitable[T]],
    recall: Callable[[str], bytes] = lambda _origin: b"",
    shard: str = "",
) -> T:
    """Do something with an auditor of one log.

    Args:
        profile: Whose certificates are used.
        source: State directory or address of who keeps the log; empty for the profile's hub.
        owner: Department whose own log it is; empty for the hub's.
        act: What to do.
        recall: What was seen of a log of some origin the last time.
        shard: Of which year, as `Shard` takes it.

    Raises:
        ZhiwangError: As the log's keeper refused, or what it says does not hold.
    """
    check_shard(shard)

    async def with_channel(channel: grpc.aio.Channel, checker: HeadChecker) -> T:
        evidence = audit_pb2_grpc.EvidenceServiceStub(channel)
        return await act(Auditor(audit_pb2_grpc.AuditServiceStub(channel), checker, recall, evidence, shard))

    return with_keeper(profile, source, owner, with_channel)


def with_keeper(
    profile: Profile,
    source: str,
    owner: str,
    act: Callable[[grpc.aio.Channel, HeadChecker], Awaitable[T]],
) -> T:
    """Do something with the process that keeps a log.

    Args:
        profile: Whose certificates are used.
        source: State directory or address of who keeps the log; empty for the profile's hub.
        owner: Department whose own log it is; empty for the hub's.
        act: What to do, over a channel to it, and what checks the heads of its log.

    Raises:
        ZhiwangError: As the log's keeper refused, or what it says does not hold.
    """
    kind = Kind.REGISTRAR if source == REGISTRAR else Kind.ADAPTER if owner else Kind.HUB
    target = target_of(profile, source, owner)
    files = IdentityFiles(profile.identity, profile.root)
    try:
        return asyncio.run(at_keeper(files, target, kind, owner, act))
    except StrangerError as error:
        output.usage_error(error.detail or str(error))


def target_of(profile: Profile, source: str, owner: str) -> str:
    """Where the process that keeps the log serves."""
    if source == REGISTRAR:
        if owner or not profile.registrar:
            output.usage_error(f"--from {REGISTRAR} reads the log of the registrar that {profile.path.name} names")
        return profile.registrar
    if not source:
        if owner:
            output.usage_error(f"say with --from where the log of {owner} is kept: a state directory or an address")
        if not profile.hub:
            output.usage_error(f"{profile.path.name} names no hub; name one, or use --from")
        return profile.hub[0]
    try:
        return address_of(source)
    except ValueError as error:
        output.usage_error(str(error))


@contextmanager
def bar(*, visible: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal's standard error; gives what is told how much of how much is done."""
    console = output.error_console()
    columns = (TextColumn("读取 reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not visible or not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)


def time_text(seconds: int) -> str:
    """A time of the log, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def moment_of(text: str, option: str) -> int | None:
    """A time of the city in microseconds since the epoch."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        output.usage_error(f"{option} is a day or a time: 2026-09-01, or 2026-09-01T08:30")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=CITY_TIME)
    return round(moment.timestamp() * 1_000_000)
