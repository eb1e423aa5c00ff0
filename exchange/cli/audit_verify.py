"""`zhiwang audit init` and `zhiwang audit verify`: what a log says, held against all that was seen of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from audit.auditor import Auditor, ReadLog
from audit.checkpoint import Checkpoint, CheckpointError, split_note
from audit.origins import log_of
from audit.proofs import checkpoints_in
from audit.tiles import RightEdge, edge_bytes, edge_of
from audit.years import YearsView
from certs.identity import write_public
from exchange.cli.audit_reading import From, Owner, Shard, bar, printable, time_text, with_auditor
from exchange.cli.audit_witnesses import Witnessed, Witnesses, witnessed, witnesses_of
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.process import locked_state
from zhiwang.wire.profile import load_profile

SEEN: Final = "seen"
"""Directory of the state: what was seen of each log the last time, by its origin."""
MAX_FILE: Final = 16 << 20
"""Bytes of the largest file in which somebody remembers a log."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that somebody kept.

    Attributes:
        source: The file it is from.
        checkpoint: What it says of this log.
        fault: Why the log does not extend it; empty if it does.
    """

    source: str
    checkpoint: Checkpoint
    fault: str = ""


def init(profile: output.Profile) -> None:
    """Make the state directory in which `verify` remembers what it has seen. Once.

    Example: zhiwang audit init --profile auditor.toml
    """
    state = load_profile(profile).state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / SEEN).mkdir(mode=0o700)
    output.next_step(f"zhiwang audit verify --profile {profile}")


def verify(
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    since: Annotated[
        list[Path] | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="What somebody kept of this log: a checkpoint (also an exported log's), a receipt, an agent's "
            "heads.json, an auditor's memory. Several times for several. It must be extended; no entry is read.",
            exists=True,
        ),
    ] = None,
    shard: Shard = "",
    full: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--full", help="Read every entry again, from the first, and not only what is new.")
    ] = False,
    consistency: Annotated[  # noqa: FBT002 # the same
        bool,
        typer.Option("--consistency", help="Read no entry: only that the log extends what was seen of it."),
    ] = False,
    witness_policy: Witnesses = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Check that a log extends all that was seen of it, read what is new in it, and recompute its root.

    The state directory remembers the last time: the log must extend that, and only newer entries are read, unless
    --full asks for all of them. With --since, and with --consistency, only hashes are asked for, which takes a moment
    and is allowed to whoever may not read every entry. It is told which witnesses have cosigned what, and when; what
    they cosigned must be of the same history.

    A log is one for each year. The newest is read, and must go on from the one that was seen before; with --shard an
    older one, which must be one of those from which the newest goes on.

    Exit status: 0 if all of it holds, 1 if something does not or cannot be read, 2 for wrong usage.

    Example: zhiwang audit verify --profile auditor.toml --since receipt.json --since old/checkpoint
    """
    if full and consistency:
        output.usage_error("--full reads every entry, and --consistency none; choose one")
    loaded = load_profile(profile)
    seen = loaded.state / SEEN
    demanded = witnesses_of(witness_policy)
    hashes_only = consistency or (bool(since) and not full)
    with locked_state(loaded.state), bar(visible=not as_json) as progress:

        async def act(auditor: Auditor) -> tuple[ReadLog, YearsView, RightEdge, list[Kept], Witnessed]:
            cosigned = await auditor.cosigned()
            view = await auditor.meet()
            checkpoint = auditor.checkpoint
            told = await witnessed(auditor, loaded, cosigned, checkpoint, demanded)
            edge = RightEdge() if full or hashes_only else _edge(seen, checkpoint.origin)
            kept = [await _held_against(auditor, one) for one in _kept(since or (), checkpoint.origin)]
            if hashes_only or any(one.fault for one in kept):
                found = ReadLog(checkpoint, view.restored_size if checkpoint == view.newest else 0)
                return found, view, edge, kept, told
            try:
                found = await auditor.read(view, progress, edge=edge)
            except RefusedError:
                if full or not _edge(seen, checkpoint.origin).size:
                    raise
                # Either the log does not hold, or what was kept of it here: the whole tells.
                edge = RightEdge()
                found = await auditor.read(view, progress, edge=edge)
            await auditor.settle(view, found)
            return found, view, edge, kept, told

        found, view, edge, kept, told = with_auditor(
            loaded, source, owner, act, recall=lambda origin: _recall(_memory(seen, origin)), shard=shard
        )
        faults = [one for one in kept if one.fault]
        if not faults:
            seen.mkdir(mode=0o700, exist_ok=True)
            origin = found.checkpoint.origin
            # One memory for all years; that of an older year never stands for the newest.
            write_public(_memory(seen, log_of(origin)), view.export())
            if edge.size:
                write_public(_edge_file(seen, origin), edge_bytes(edge))
    facts = {**_facts(found, kept, hashes_only=hashes_only), "witnessed": told.facts}
    if as_json:
        output.print_json(facts)
    else:
        _print(facts, found, kept, told)
    raise typer.Exit(output.FAILED if faults else output.OK)


async def _held_against(auditor: Auditor, kept: Kept) -> Kept:
    try:
        await auditor.check_extends(auditor.checkpoint, kept.checkpoint)
    except RefusedError as error:
        if error.reason is not Reason.PROOF_INVALID:
            raise
        return Kept(kept.source, kept.checkpoint, error.detail or error.reason.name)
    return kept


def _kept(files: Sequence[Path], origin: str) -> Iterator[Kept]:
    """What the files say of this log, each checkpoint once.

    Raises:
        typer.Exit: With status 2: a file says nothing of it, or cannot be read.
    """
    for file in files:
        try:
            told = [one for one in _told_by(file) if one.origin == origin]
        except (CheckpointError, ValueError, KeyError, TypeError, RefusedError):
            output.usage_error(f"--since {file} is no checkpoint, no receipt and nobody's memory of a log")
        if not told:
            output.usage_error(f"--since {file} says nothing of the log {origin}")
        for checkpoint in dict.fromkeys(told):
            yield Kept(str(file), checkpoint)


def _told_by(file: Path) -> Iterator[Checkpoint]:
    if file.is_dir():
        yield from _of_receipt(file)
        return
    with file.open("rb") as opened:
        data = opened.read(MAX_FILE)
    if b'"parts"' in data and data.lstrip()[:1] == b"{":
        yield from _of_receipt(file)
        return
    yield from checkpoints_in(data)


def _of_receipt(path: Path) -> Iterator[Checkpoint]:
    from exchange.client.receipt_files import load_receipt  # noqa: PLC0415  lazily: few need it, and it is slow

    for part in load_receipt(path).parts:
        for head in (part.hub_log, part.owner_log):
            yield Checkpoint.parse(split_note(head.checkpoint)[0])


def _facts(found: ReadLog, kept: Sequence[Kept], *, hashes_only: bool) -> dict[str, Any]:
    read = sum(found.events.values())
    return {
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
        "extends": found.extends or None,
        "goes_on_from": None
        if found.goes_on_from is None
        else {"origin": found.goes_on_from.origin, "size": found.goes_on_from.size},
        "since": [
            {
                "file": one.source,
                "size": one.checkpoint.size,
                "root": one.checkpoint.root.hex(),
                "extended": not one.fault,
                "fault": one.fault or None,
            }
            for one in kept
        ],
        "read": 0 if hashes_only else read,
        "whole": read == found.checkpoint.size,
        "first_time": time_text(found.first_time) if found.first_time else None,
        "last_time": time_text(found.last_time) if found.last_time else None,
        "events": dict(sorted(found.events.items())),
        "verified": not any(one.fault for one in kept),
    }


def _print(facts: dict[str, Any], found: ReadLog, kept: Sequence[Kept], told: Witnessed) -> None:
    rows: list[tuple[str, object]] = [
        ("日志 log", facts["origin"]),
        ("记录 entries", facts["size"]),
        ("根 root", facts["root"]),
        ("已读 read", facts["read"] or "只有散列 hashes only"),
    ]
    if facts["first_time"]:
        rows.append(("自 from", facts["first_time"]))
    if facts["last_time"]:
        rows.append(("至 to", facts["last_time"]))
    if found.goes_on_from is not None:
        rows.append(("续 goes on from", f"{found.goes_on_from.origin}, {found.goes_on_from.size} 条记录 entries"))
    rows += [(f"  {kind}", count) for kind, count in facts["events"].items()]
    rows += [
        (
            f"延续 extends {Path(one.source).name}",
            f"{one.checkpoint.size}  {printable(one.fault) or '是 yes'}",
        )
        for one in kept
    ]
    rows += told.rows
    output.print_table(("", ""), rows)
    if not facts["verified"]:
        output.say("不符。The log does not extend what was kept of it: keep these files for the audit office.")
    elif found.extends:
        output.say(f"核对无误。It holds, and extends the {found.extends} entries that were seen the last time.")
    else:
        output.say("核对无误。It holds. This log was seen for the first time; its checkpoint is remembered.")


def _memory(seen: Path, origin: str) -> Path:
    return seen / f"{origin.replace('/', '+')}.json"  # no part of an origin has a plus


def _edge_file(seen: Path, origin: str) -> Path:
    return _memory(seen, origin).with_suffix(".edge")


def _recall(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _edge(seen: Path, origin: str) -> RightEdge:
    """The tree that was read the last time; an empty one if that is not known.

    It need not be believed: with a wrong one the root does not come out, and everything is read again.
    """
    data = _recall(_edge_file(seen, origin))
    try:
        return edge_of(data)
    except ValueError:
        return RightEdge()
