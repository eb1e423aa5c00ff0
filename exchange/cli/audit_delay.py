"""`zhiwang audit delay`: entries that citizens are told of only after a date."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer

from audit.keeping import prove
from audit.proofs import HeadChecker
from exchange.cli.audit_reading import From, Owner, moment_of, with_keeper
from exchange.cli.audit_subject import TIMEOUT
from zhiwang.adapter.v1 import subject_pb2, subject_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile


def delay(
    profile: output.Profile,
    order: Annotated[str, typer.Option(help="Number of the order that it rests on.")],
    until: Annotated[str, typer.Option(help="From when on they are told, at most 366 days from now: 2027-01-31.")],
    source: From = "",
    owner: Owner = "",
    department: Annotated[str, typer.Option(help="Department that asked.")] = "",
    official: Annotated[str, typer.Option(help="For whom it asked.")] = "",
    matter: Annotated[str, typer.Option(help="For which matter.")] = "",
    reference: Annotated[str, typer.Option(help="Reference of the case.")] = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Leave entries out of what citizens are told, until a date; then they appear by themselves.

    For admins of the owner's department, at its adapter. All conditions that are given must hold; one of official,
    matter and reference is needed. The order is an entry of the owner's log before it has effect. A longer
    investigation orders again, and that is an entry as well. Auditors of the owner and the audit office see through it.

    Example: zhiwang audit delay --profile admin.toml --owner police --from police/state --order 2026-D-7
    --until 2027-01-31 --department police --reference 2026-000123
    """
    loaded = load_profile(profile)
    if not owner:
        output.usage_error("say with --owner whose log it is")
    end = moment_of(until, "--until")
    if end is None:
        output.usage_error("say with --until when it ends; nothing is hidden without end")
    request = subject_pb2.DelayRequest(
        order=order, department=department, official=official, matter=matter, reference=reference
    )
    request.until_time.FromMicroseconds(end)

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> int:
        await prove(channel, checker)
        response = await subject_pb2_grpc.SubjectAdminServiceStub(channel).Delay(request, timeout=TIMEOUT)
        return int(response.index)

    index = with_keeper(loaded, source, owner, act)
    if as_json:
        output.print_json({"owner": owner, "entry": index})
    else:
        output.say(f"已生效，至 {until} 自动解除  In force as entry {index}; it ends by itself on {until}.")
