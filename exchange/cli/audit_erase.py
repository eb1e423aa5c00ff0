"""`zhiwang audit erase-subject`: a person's trace is taken out of an owner's index."""

from __future__ import annotations

import sys
from typing import Annotated

import grpc
import typer

from audit.keeping import prove
from audit.proofs import HeadChecker
from exchange.cli.audit_reading import From, Owner, with_keeper
from exchange.cli.audit_subject import SubjectArgument, read_subject
from zhiwang.adapter.v1 import subject_pb2, subject_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile

TIMEOUT = 600.0
"""Seconds that it may take: the files of a large store are read through."""


def erase_subject(
    who: SubjectArgument,
    profile: output.Profile,
    order: Annotated[str, typer.Option(help="Number of the order or decision that it rests on.")],
    source: From = "",
    owner: Owner = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Erase a person from an owner's index of who was asked about. Entries and proofs stay: they name nobody.

    For admins of the owner's department, at its adapter. What is under a hold is not erased. That somebody was erased,
    and by which order, is an entry; who, is said nowhere. It cannot be undone, and older backups still hold the rows.

    Exit status: 0 if no byte of the rows is left in the store, 1 if it was refused or the files were in use; then run
    it again. 1 also where the store stands in PostgreSQL: the rows are gone, and an administrator has their bytes
    overwritten.

    Example: zhiwang audit erase-subject person=- --profile admin.toml --owner hrss --from hrss/state --order 2026-E-3
    < identifier
    """
    loaded = load_profile(profile)
    if not owner:
        output.usage_error("say with --owner whose log it is")
    kind, identifier = read_subject(who, sys.stdin)
    request = subject_pb2.EraseRequest(subject=subject_pb2.Subject(kind=kind, identifier=identifier), order=order)

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> subject_pb2.EraseResponse:
        await prove(channel, checker)
        response: subject_pb2.EraseResponse = await subject_pb2_grpc.SubjectAdminServiceStub(channel).Erase(
            request, timeout=TIMEOUT
        )
        return response

    done = with_keeper(loaded, source, owner, act)
    if as_json:
        output.print_json(
            {"owner": owner, "entry": done.index, "overwritten": done.overwritten, "in_database": done.in_database}
        )
    elif done.overwritten:
        output.say(f"已抹去，库文件中不留痕迹  Erased, as entry {done.index} says; no byte of it is left in the store.")
    elif done.in_database:
        output.say("已抹去；数据库文件、WAL 与备份中的残留须由数据库管理员清除（docs/log-store.md）")
        output.say(
            f"Erased, as entry {done.index} says. The bytes in the database's files, WAL and dumps are its "
            "administrator's to overwrite: docs/log-store.md says how."
        )
    else:
        output.say("已抹去，但库文件正被占用，未能清除残留；请再次运行")
        output.say("Erased, but the store's files were in use and could not be overwritten; run it again.")
    if not done.overwritten:
        raise typer.Exit(output.FAILED)
