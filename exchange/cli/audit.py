"""`zhiwang audit`: read a log without trusting who keeps it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import grpc
import typer
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit import fetch as fetching
from audit.auditor import Auditor
from audit.checkpoint import Checkpoint, split_note
from audit.fsck import examine
from audit.mirror import CERTIFICATE, Mirror, verify_by_key, verify_by_root
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from certs.identity import write_public
from certs.signing import CertificateVerifier
from exchange.cli import output
from zhiwang.audit.v1 import audit_pb2_grpc
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.channel import open_channel, refusal_of
from zhiwang.wire.identity import Identity, Kind, server_name
from zhiwang.wire.process import locked_state, read_address
from zhiwang.wire.profile import Profile, load_profile

app = typer.Typer(
    help="审计  Read a log without trusting who keeps it: verify it whole, or show one entry.", no_args_is_help=True
)

SEEN = "seen"
"""Directory of the state: what was seen of each log the last time, by its origin."""

_ADDRESS = re.compile(r"unix:.+|.+:\d{1,5}")
T = TypeVar("T")

From = Annotated[
    str,
    typer.Option(
        "--from", metavar="DIR|ADDRESS", help="State directory or address of who keeps the log; else the profile's hub."
    ),
]
Owner = Annotated[str, typer.Option(help="Department whose own log it is; else the hub's log.")]


@app.command()
def init(profile: output.Profile) -> None:
    """Make the state directory in which `verify` remembers what it has seen. Once.

    Example: zhiwang audit init --profile auditor.toml
    """
    state = load_profile(profile).state
    (state / SEEN).mkdir(mode=0o700, parents=True)
    output.next_step(f"zhiwang audit verify --profile {profile}")


@app.command()
def verify(
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Read a whole log and recompute its root; it must be the signed one, and extend what was seen the last time.

    Example: zhiwang audit verify --profile auditor.toml --owner hrss --from hrss/state
    """
    loaded = load_profile(profile)
    seen = loaded.state / SEEN
    with locked_state(loaded.state), _bar(visible=not as_json) as progress:
        found, view = _with_auditor(
            loaded, source, owner, lambda auditor: auditor.verify(progress), recall=lambda origin: _recall(seen, origin)
        )
        seen.mkdir(mode=0o700, exist_ok=True)
        write_public(_memory(seen, found.checkpoint.origin), view.export())
    facts = {
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
        "extends": found.extends or None,
        "first_time": _time(found.first_time),
        "last_time": _time(found.last_time),
        "events": dict(sorted(found.events.items())),
        "verified": True,
    }
    if as_json:
        output.print_json(facts)
        return
    rows = [
        ("日志 log", found.checkpoint.origin),
        ("记录 entries", found.checkpoint.size),
        ("根 root", found.checkpoint.root.hex()),
        ("自 from", facts["first_time"]),
        ("至 to", facts["last_time"]),
        *((f"  {kind}", count) for kind, count in sorted(found.events.items())),
    ]
    output.print_table(("", ""), rows)
    if found.extends:
        output.say(f"核对无误。It holds, and extends the {found.extends} entries that were seen the last time.")
    else:
        output.say("核对无误。It holds. This log was seen for the first time; its checkpoint is remembered.")


@app.command()
def show(
    index: Annotated[int, typer.Argument(min=0, help="Index of the entry.")],
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Show one entry, once it is proved to be in the log. The reading is itself recorded there.

    Example: zhiwang audit show 17 --profile auditor.toml
    """
    entry, checkpoint = _with_auditor(load_profile(profile), source, owner, lambda auditor: auditor.entry(index))
    kind = entry.WhichOneof("event") or ""
    facts: dict[str, Any] = {
        "origin": checkpoint.origin,
        "index": index,
        "size": checkpoint.size,
        "time": _time(entry.time.seconds),
        "event": kind,
        **_plain(getattr(entry, kind)),
    }
    if as_json:
        output.print_json(facts)
    else:
        output.print_table(("", ""), list(_rows(facts)))


@app.command()
def export(
    profile: output.Profile,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Empty, or what this command wrote before.", file_okay=False)
    ],
    source: From = "",
    owner: Owner = "",
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
        view = await auditor.meet()
        if mirror.origin not in {"", view.newest.origin}:
            output.usage_error(f"{out} holds the log {mirror.origin}, and this is {view.newest.origin}")
        await auditor.read(view, progress, edge=mirror.edge, take=mirror.take)
        mirror.seal(auditor.head, view.newest)
        return view.newest

    with _bar(visible=not as_json) as progress:
        checkpoint = _with_auditor(load_profile(profile), source, owner, read)
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


@app.command()
def fsck(
    place: Annotated[str, typer.Argument(metavar="DIR|URL", help="An exported log: a directory or https://….")],
    root: Annotated[
        Path | None, typer.Option(help="Pinned root directory: who may keep a log.", exists=True, file_okay=False)
    ] = None,
    vkey: Annotated[str, typer.Option(help="In place of --root: the log's verifier key, as in log.vkey.")] = "",
    extends: Annotated[
        Path | None, typer.Option(help="A checkpoint of this log that you kept: it must be extended.", exists=True)
    ] = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Recompute every hash, tile and checkpoint of an exported log, and name every fault with its entry's index.

    Exit status 0 if all of it holds, 1 if not.

    Example: zhiwang audit fsck logs/hrss --root root
    """
    if (root is None) == (not vkey):
        output.usage_error("say whose signature counts: --root with the pinned root, or --vkey with the log's key")
    fetch = fetching.server(place) if "://" in place else fetching.directory(Path(place))
    kept = None if extends is None else Checkpoint.parse(split_note(extends.read_bytes())[0])

    def verify(note: bytes) -> Checkpoint:
        return verify_by_key(note, vkey) if root is None else verify_by_root(note, fetch(CERTIFICATE), root)

    with _bar(visible=not as_json) as progress:
        found = examine(fetch, verify, extends=kept, progress=progress)
    facts = {
        "origin": found.checkpoint.origin if found.checkpoint else None,
        "size": found.checkpoint.size if found.checkpoint else None,
        "entries": found.entries,
        "events": dict(sorted(found.events.items())),
        "faults": [{"path": one.path, "index": one.index, "message": one.message} for one in found.faults],
        "fault_count": found.number,
    }
    if as_json:
        output.print_json(facts)
    else:
        for fault in found.faults:
            output.say(f"不符 {_printable(str(fault))}")
        if found.number > len(found.faults):
            output.say(f"… 另有 and {found.number - len(found.faults)} more")
        output.print_table(
            ("", ""),
            [
                ("日志 log", _printable(str(facts["origin"]))),
                ("记录 entries", facts["size"]),
                ("已读 read", found.entries or "只有散列 hashes only"),
                ("不符 faults", found.number),
            ],
        )
    raise typer.Exit(output.FAILED if found.number else output.OK)


def _with_auditor(
    profile: Profile,
    source: str,
    owner: str,
    act: Callable[[Auditor], Awaitable[T]],
    recall: Callable[[str], bytes] = lambda _origin: b"",
) -> T:
    kind = Kind.ADAPTER if owner else Kind.HUB
    target = _target(profile, source, owner)
    files = IdentityFiles(profile.identity, profile.root)

    def expected(identity: Identity) -> bool:
        return not owner or identity.department == owner

    async def run() -> T:
        # No deny-list: a log whose key was revoked must still be read, and the pinned root is all that is trusted.
        checker = HeadChecker(CertificateVerifier(files.ca_pem, frozenset), kinds=(kind,), expected=expected)
        channel = open_channel(target, files.channel_credentials(), server_name=server_name(files.identity.city, kind))
        try:
            return await act(Auditor(audit_pb2_grpc.AuditServiceStub(channel), checker, recall))
        except grpc.aio.AioRpcError as error:
            raise refusal_of(error) from None
        finally:
            await channel.close()

    return asyncio.run(run())


def _target(profile: Profile, source: str, owner: str) -> str:
    """Where the process that keeps the log serves."""
    if not source:
        if owner:
            output.usage_error(f"say with --from where the log of {owner} is kept: a state directory or an address")
        if not profile.hub:
            output.usage_error(f"{profile.path.name} names no hub; name one, or use --from")
        return profile.hub[0]
    if Path(source).is_dir():
        announced = read_address(Path(source))
        if announced is None or not announced.get("listen"):
            output.usage_error(f"nothing serves from {source}: it has no address.json. Start it, or give an address")
        return str(announced["listen"])
    if not _ADDRESS.fullmatch(source):
        output.usage_error(f"--from {source} is neither a directory nor host:port")
    return source


def _memory(seen: Path, origin: str) -> Path:
    return seen / f"{origin.replace('/', '+')}.json"  # no part of an origin has a plus


def _recall(seen: Path, origin: str) -> bytes:
    try:
        return _memory(seen, origin).read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def _bar(*, visible: bool) -> Iterator[Callable[[int, int], None]]:
    console = output.error_console()
    columns = (TextColumn("读取 reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not visible or not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _plain(message: Message) -> dict[str, Any]:
    """The fields that are set, as JSON has them; bytes in hex, a header and a checkpoint as what they say."""
    facts: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.is_repeated:
            facts[descriptor.name] = [_value(descriptor, item) for item in value]
        else:
            facts[descriptor.name] = _value(descriptor, value)
    return facts


def _value(descriptor: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, bytes):
        return _bytes(descriptor.name, value)
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC).isoformat()
    if isinstance(value, Message):
        return _plain(value)
    if descriptor.enum_type is not None:
        known = descriptor.enum_type.values_by_number.get(value)
        return known.name if known else value
    return _printable(value) if isinstance(value, str) else value


def _bytes(name: str, value: bytes) -> Any:
    if name in {"owner_checkpoint", "predecessor"}:
        return [_printable(line) for line in value.decode(errors="replace").splitlines()]
    if name == "header":
        try:
            return _plain(sealed_pb2.Header.FromString(value))
        except DecodeError:
            return value.hex()
    return value.hex()


def _printable(text: str) -> str:
    """Text of a log that nobody trusts, without what would command a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _rows(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                yield from _rows(item, f"{prefix}{name}[{number}].")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
