"""`zhiwang audit fsck`: everything that is stored of a log computed again, as files or in the process's own store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from audit import fetch as fetching
from audit import layout
from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.cosignature import WitnessPolicy
from audit.fsck import Examined, examine
from audit.mirror import CERTIFICATE, VKEY, verify_by_key, verify_by_root, vkey_of
from audit.origins import origin_of, shard_of
from certs.credentials import IdentityFiles
from exchange.cli.audit_reading import Shard, bar, check_shard, printable
from exchange.cli.audit_witnesses import Witnessed, Witnesses, witnesses_of
from zhiwang.wire import output
from zhiwang.wire.identity import Kind
from zhiwang.wire.profile import Profile, load_profile

ADAPTER_STORE: Final = "adapter.db"
"""Where an adapter keeps its log, in its state or in the store that its profile names (docs/adapter.md)."""


def fsck(
    place: Annotated[
        str, typer.Argument(metavar="DIR|URL", help="An exported log: a directory or https://…; else give --profile.")
    ] = "",
    profile: Annotated[
        Path | None,
        typer.Option(
            help="In place of DIR: the store of this hub or adapter, which may be running, with its search database. "
            "Use the process's own account.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Pinned root directory: who may keep a log.", exists=True, file_okay=False)
    ] = None,
    vkey: Annotated[str, typer.Option(help="In place of --root: the log's verifier key, as in log.vkey.")] = "",
    hashes_only: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--hashes-only", help="The log was exported without its entries.")
    ] = False,
    origin: Annotated[str, typer.Option(help="Name that the log must have, e.g. shenzhen/hrss/adapter/main.")] = "",
    shard: Shard = "",
    extends: Annotated[
        Path | None, typer.Option(help="A checkpoint of this log that you kept: it must be extended.", exists=True)
    ] = None,
    witness_policy: Witnesses = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Recompute every hash, tile, checkpoint and search column of a log, and name every fault with its entry's index.

    An exported log is checked by whoever has its files; the store of a hub or an adapter by its own account, while the
    process runs or not. Nothing is written. A store holds a log for each year, of which the newest is checked, or that
    of --shard; of files --shard says which year's they must be.

    Exit status: 0 if all of it holds, 1 if not, 2 for wrong usage.

    Example: zhiwang audit fsck logs/hrss --root root
    """
    if bool(place) == (profile is not None):
        output.usage_error("say what to check: an exported log, DIR or URL, or with --profile a process's own store")
    check_shard(shard)
    if shard and origin:
        output.usage_error("--origin names a log with its year; give it or --shard")
    kept = None if extends is None else _kept(extends)
    witnesses = witnesses_of(witness_policy)
    if profile is not None:
        if root is not None or vkey or hashes_only or witnesses:
            output.usage_error(
                "--root, --vkey, --hashes-only and --witness-policy are for exported logs; a profile has its own root"
            )
        found, compared = _examine_store(load_profile(profile), origin, shard, kept, as_json=as_json)
    else:
        found = _examine_files(place, root, vkey, kept, witnesses, entries=not hashes_only, as_json=as_json)
        compared = None
        if found.checkpoint is not None and origin not in {"", found.checkpoint.origin}:
            found.add(layout.CHECKPOINT, None, f"is of the log {found.checkpoint.origin}, not of {origin}")
        if found.checkpoint is not None and shard and shard_of(found.checkpoint.origin) != shard:
            found.add(layout.CHECKPOINT, None, f"is of the log {found.checkpoint.origin}, not of that of {shard}")
    seen = Witnessed(found.cosigned, found.cosignatures, 0 if witnesses is None else witnesses.quorum)
    _tell(found, compared, seen, as_json=as_json)
    raise typer.Exit(output.FAILED if found.number else output.OK)


def _examine_files(
    place: str,
    root: Path | None,
    vkey: str,
    kept: Checkpoint | None,
    witnesses: WitnessPolicy | None,
    *,
    entries: bool,
    as_json: bool,
) -> Examined:
    if (root is None) == (not vkey):
        output.usage_error("say whose signature counts: --root with the pinned root, or --vkey with the log's key")
    fetch = fetching.server(place) if "://" in place else fetching.directory(Path(place))

    def verify(note: bytes) -> Checkpoint:
        if root is None:
            return verify_by_key(note, vkey)
        return verify_by_root(note, fetch(CERTIFICATE), root)

    with bar(visible=not as_json) as progress:
        found = examine(
            fetch,
            verify,
            entries=entries,
            extends=[] if kept is None else [kept],
            witnesses=witnesses,
            progress=progress,
        )
    if root is not None and found.checkpoint is not None:
        told = fetch(VKEY)
        if told is not None and told.strip() != vkey_of(found.checkpoint.origin, fetch(CERTIFICATE) or b"").encode():
            found.add(VKEY, None, "is not the key of this log")
    return found


def _examine_store(
    profile: Profile, origin: str, shard: str, kept: Checkpoint | None, *, as_json: bool
) -> tuple[Examined, int | None]:
    """A process's own store, and how many entries its search database was compared with."""
    # Lazily, so that other commands are quick.
    from audit.fsck_store import (  # noqa: PLC0415
        entries_of,
        examine_search,
        examine_store,
        examine_years,
        kept_years,
        newest_origin,
    )
    from audit.guard import Guard  # noqa: PLC0415
    from audit.places import open_to_read  # noqa: PLC0415
    from exchange.config import StateFiles  # noqa: PLC0415

    identity = IdentityFiles(profile.identity, profile.root).identity
    state = StateFiles(profile.state)
    if identity.kind is Kind.HUB:
        engine = open_to_read(state.log, profile.log)
    elif identity.kind is Kind.ADAPTER and profile.adapter is not None:
        engine = open_to_read(profile.adapter.store / ADAPTER_STORE, profile.log)
    else:
        output.usage_error(f"{identity.short} keeps no log: give the profile of a hub or an adapter")
    try:
        of = origin or newest_origin(engine, identity.log_origin)
        if shard:
            origins = [origin_of(identity.log_origin, year) for year in kept_years(engine)]
            kept_logs = {shard_of(one): one for one in origins}
            if shard not in kept_logs:
                output.usage_error(f"the store has no entries of {shard}; it has those of {', '.join(kept_logs)}")
            of = kept_logs[shard]
        guarded = Guard(state.guard, lambda: b"").read() if state.guard.exists() else None
        remembered = [one for one in (guarded, kept) if one is not None and one.origin == of]
        if kept is not None and kept not in remembered:
            output.usage_error(f"--extends is a checkpoint of {kept.origin}, and this is {of}")
        with bar(visible=not as_json) as progress:
            found = examine_store(
                engine,
                of,
                lambda note, pem: verify_by_root(note, pem, profile.root),
                extends=remembered,
                progress=progress,
            )
            examine_years(engine, identity.log_origin, guarded, found)
            if found.checkpoint is None:
                return found, None
            size = found.checkpoint.size
            compared = examine_search(state.search, of, entries_of(engine, of), size, found)
        return found, compared
    finally:
        engine.dispose()


def _tell(found: Examined, compared: int | None, seen: Witnessed, *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "origin": found.checkpoint.origin if found.checkpoint else None,
        "size": found.checkpoint.size if found.checkpoint else None,
        "entries": found.entries,
        "search_entries": compared,
        "events": dict(sorted(found.events.items())),
        "witnessed": seen.facts,
        "faults": [{"path": one.path, "index": one.index, "message": one.message} for one in found.faults],
        "fault_count": found.number,
    }
    if as_json:
        output.print_json(facts)
        return
    for fault in found.faults:
        output.say(f"不符 {printable(str(fault))}")
    if found.number > len(found.faults):
        output.say(f"… 另有 and {found.number - len(found.faults)} more")
    rows = [
        ("日志 log", printable(str(facts["origin"]))),
        ("记录 entries", facts["size"]),
        ("已读 read", found.entries or "只有散列 hashes only"),
    ]
    if compared is not None:
        rows.append(("检索库已比对 search database compared", compared))
    output.print_table(("", ""), [*rows, *seen.rows, ("不符 faults", found.number)])


def _kept(path: Path) -> Checkpoint:
    try:
        return Checkpoint.parse(split_note(path.read_bytes())[0])
    except CheckpointError as error:
        output.usage_error(f"--extends {path} is no checkpoint: {error}")
