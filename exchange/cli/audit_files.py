"""`zhiwang audit export` and `zhiwang audit fsck`: a log as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit import fetch as fetching
from audit import layout
from audit.auditor import Auditor
from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.fsck import examine
from audit.mirror import CERTIFICATE, VKEY, Mirror, verify_by_key, verify_by_root, vkey_of
from exchange.cli import output
from exchange.cli.audit_reading import From, Owner, Shard, bar, printable, with_auditor
from exchange.cli.audit_witnesses import Witnessed, Witnesses, witnesses_of
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


def fsck(
    place: Annotated[str, typer.Argument(metavar="DIR|URL", help="An exported log: a directory or https://….")],
    root: Annotated[
        Path | None, typer.Option(help="Pinned root directory: who may keep a log.", exists=True, file_okay=False)
    ] = None,
    vkey: Annotated[str, typer.Option(help="In place of --root: the log's verifier key, as in log.vkey.")] = "",
    hashes_only: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--hashes-only", help="The log was exported without its entries.")
    ] = False,
    origin: Annotated[str, typer.Option(help="Name that the log must have, e.g. shenzhen/hrss/adapter/main.")] = "",
    extends: Annotated[
        Path | None, typer.Option(help="A checkpoint of this log that you kept: it must be extended.", exists=True)
    ] = None,
    witness_policy: Witnesses = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Recompute every hash, tile and checkpoint of an exported log, and name every fault with its entry's index.

    Exit status 0 if all of it holds, 1 if not.

    Example: zhiwang audit fsck logs/hrss --root root
    """
    if (root is None) == (not vkey):
        output.usage_error("say whose signature counts: --root with the pinned root, or --vkey with the log's key")
    fetch = fetching.server(place) if "://" in place else fetching.directory(Path(place))
    kept = None if extends is None else _kept(extends)

    def verify(note: bytes) -> Checkpoint:
        if root is None:
            return verify_by_key(note, vkey)
        return verify_by_root(note, fetch(CERTIFICATE), root)

    with bar(visible=not as_json) as progress:
        witnesses = witnesses_of(witness_policy)
        found = examine(fetch, verify, entries=not hashes_only, extends=kept, witnesses=witnesses, progress=progress)
    seen = Witnessed(found.cosigned, found.cosignatures, 0 if witnesses is None else witnesses.quorum)
    if found.checkpoint is not None and origin not in {"", found.checkpoint.origin}:
        found.add(layout.CHECKPOINT, None, f"is of the log {found.checkpoint.origin}, not of {origin}")
    if root is not None and found.checkpoint is not None:
        told = fetch(VKEY)
        if told is not None and told.strip() != vkey_of(found.checkpoint.origin, fetch(CERTIFICATE) or b"").encode():
            found.add(VKEY, None, "is not the key of this log")
    facts = {
        "origin": found.checkpoint.origin if found.checkpoint else None,
        "size": found.checkpoint.size if found.checkpoint else None,
        "entries": found.entries,
        "events": dict(sorted(found.events.items())),
        "witnessed": seen.facts,
        "faults": [{"path": one.path, "index": one.index, "message": one.message} for one in found.faults],
        "fault_count": found.number,
    }
    if as_json:
        output.print_json(facts)
    else:
        for fault in found.faults:
            output.say(f"不符 {printable(str(fault))}")
        if found.number > len(found.faults):
            output.say(f"… 另有 and {found.number - len(found.faults)} more")
        output.print_table(
            ("", ""),
            [
                ("日志 log", printable(str(facts["origin"]))),
                ("记录 entries", facts["size"]),
                ("已读 read", found.entries or "只有散列 hashes only"),
                *seen.rows,
                ("不符 faults", found.number),
            ],
        )
    raise typer.Exit(output.FAILED if found.number else output.OK)


def _kept(path: Path) -> Checkpoint:
    try:
        return Checkpoint.parse(split_note(path.read_bytes())[0])
    except CheckpointError as error:
        output.usage_error(f"--extends {path} is no checkpoint: {error}")
