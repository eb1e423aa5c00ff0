"""`zhiwang receipt complete`: fetch the word of witnesses for receipts that lie in files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from audit.cosignature import WitnessPolicy
from certs.credentials import IdentityFiles
from exchange.cli.receipt_trust import Witnesses, trust_of
from exchange.client.completing import Completer
from exchange.client.receipt_files import load_receipt, replace_receipt
from exchange.client.receipt_times import Trust
from exchange.client.receipt_verify import verify_receipt
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.wire import output
from zhiwang.wire.channel import open_channel
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identity import Kind, server_name
from zhiwang.wire.profile import Profile, load_profile

MAX_PROOFS = 10_000
"""Proofs that one command asks each hub for."""

MAX_SECONDS = 600.0
"""How long one command waits for each hub, in all."""

COMPLETE = "已有见证 cosigned"


def complete_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="RECEIPT…", help="Receipts: files, or directories of files.", exists=True)
    ],
    profile: output.Profile,
    witness_policy: Witnesses = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Fetch what witnesses have cosigned since, and keep it in the receipts. An agent does so for those that it keeps.

    The hub is asked; witnesses are those of the directory in the profile's state, or of a policy. A receipt that is
    complete stays as it is.

    Exit status: 0 if all are complete now, 1 if not.

    Example: zhiwang receipt complete case.receipt.json --profile edu.toml
    """
    loaded = load_profile(profile)
    trust, _ = trust_of(None, profile=profile, witness_policy=witness_policy)
    if trust.witnesses is None:
        output.usage_error(f"the directory in {loaded.state} names no witnesses; name them with --witness-policy")
    told = asyncio.run(_complete(files, loaded, trust, trust.witnesses))
    if as_json:
        output.print_json([{"file": str(file), "complete": said == COMPLETE, "said": said} for file, said in told])
    else:
        output.print_table(("文件 file", "见证 witnesses"), told)
    raise typer.Exit(output.OK if all(said == COMPLETE for _, said in told) else output.FAILED)


async def _complete(
    paths: Sequence[Path], profile: Profile, trust: Trust, witnesses: WitnessPolicy
) -> list[tuple[Path, str]]:
    files = IdentityFiles(profile.identity, profile.root)
    files.check_valid(time.time())
    name = server_name(files.identity.city, Kind.HUB)
    async with AsyncExitStack() as stack:
        stubs = []
        for target in profile.hub:
            channel = open_channel(target, files.channel_credentials(), server_name=name)
            stack.push_async_callback(channel.close)
            stubs.append(audit_pb2_grpc.AuditServiceStub(channel))
        completer = Completer(lambda: stubs, trust.verifier, time.time)
        now = await completer.begin(witnesses, proofs=MAX_PROOFS, seconds=MAX_SECONDS)
        told = []
        for path in paths:
            try:
                receipt = load_receipt(path)
                verify_receipt(receipt, trust.verifier)
                complete = await now.complete(receipt)
            except RefusedError as error:
                told.append((path, f"{error.reason.name}: {error.detail}"))
                continue
            if complete:
                replace_receipt(path, receipt)
            told.append((path, COMPLETE if complete else "尚无 no cosigned checkpoint holds it yet: try again"))
        return told
