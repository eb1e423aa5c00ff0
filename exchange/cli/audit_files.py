"""`zhiwang audit export`: a log as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.auditor import Auditor
from audit.checkpoint import Checkpoint
from audit.mirror import Mirror
from exchange.cli.audit_reading import From, Owner, Shard, bar, with_auditor
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile


def export(
    profile: output.Profile,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Empty, or what this command wrote before.", file_okay=False)
    ],
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    hashes_only: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--hashes-only", help="Without the entries: nothing in DIR tells who asked for what.")
    ] = False,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Write a log as plain files (C2SP tlog-tiles), which any file server can serve and other tools verify.

    What is exported is verified first. Once more into the same directory, and only what is new is read.

    Example: zhiwang audit export --profile auditor.toml --owner hrss --from hrss/state --out logs/hrss
    """
    mirror = Mirror(out, entries=not hashes_only)
    before = mirror.edge.size

    async def read(auditor: Auditor) -> Checkpoint:
        cosigned = await auditor.cosigned()
        view = await auditor.meet()
        if mirror.origin not in {"", auditor.checkpoint.origin}:
            output.usage_error(
                f"{out} holds the log {mirror.origin}, and this is {auditor.checkpoint.origin}; each year goes into a "
                "directory of its own, an older one with --shard"
            )
        await auditor.read(view, progress, edge=mirror.edge, take=mirror.take)
        note = b""
        # One by the key before belongs to a certificate that is not written; the next round has the new one.
        if cosigned is not None and cosigned.certificate == auditor.head.certificate:
            note = cosigned.checkpoint if await auditor.check_cosigned(cosigned, auditor.checkpoint) else b""
        mirror.seal(auditor.head, auditor.checkpoint, note)
        return auditor.checkpoint

    with bar(visible=not as_json) as progress:
        checkpoint = with_auditor(load_profile(profile), source, owner, read, shard=shard)
    if as_json:
        output.print_json(
            {"origin": checkpoint.origin, "size": checkpoint.size, "added": checkpoint.size - before, "out": str(out)}
        )
        return
    output.print_table(
        ("", ""),
        [
            ("日志 log", checkpoint.origin),
            ("记录 entries", checkpoint.size),
            ("新增 added", checkpoint.size - before),
            ("目录 directory", out),
        ],
    )
    output.next_step(f"zhiwang audit fsck {out} --root {load_profile(profile).root}")
