"""`zhiwang receipt`: what a receipt proves, offline; and where an agent keeps those that it gave."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.cli import (
    receipt_complete,
    receipt_export,
    receipt_print,
    receipt_timestamp,
    receipt_trust,
    receipt_words,
)
from exchange.client.keeper import open_store
from exchange.client.receipt import gain, issued, write_receipt
from exchange.client.receipt_files import load_receipt, replace_receipt
from exchange.client.receipt_rows import Found
from exchange.client.receipt_store import ReceiptStore
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.header import parse_header
from zhiwang.wire.output import local_time
from zhiwang.wire.profile import load_profile

_CHECKED = {True: "有 yes", False: "尚无 not yet"}

CLEAR_ATTEMPTS = 20
CLEAR_PAUSE = 0.5
"""How often, and at which distance in seconds, a purge tries to empty the write-ahead log while somebody reads."""

app = typer.Typer(
    help="凭证  Verify a receipt offline, read it, print it; find those that an agent keeps.", no_args_is_help=True
)


@app.callback()
def _noun() -> None:
    """凭证  Receipts."""


@app.command("verify")
def verify_command(
    file: receipt_trust.Receipt,
    root: receipt_trust.Root = None,
    profile: receipt_trust.Profile = None,
    witness_policy: receipt_trust.Witnesses = None,
    crl: receipt_trust.Revoked = None,
    tsa_root: receipt_trust.TsaRoot = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Check a receipt with nothing but the pinned roots, and say what it proves.

    What counts is what held when the entries were made: a certificate that expired or was revoked since voids nothing.
    With witnesses named, by a policy or a profile's directory, their quorum is demanded; `receipt complete` fetches it.

    Exit status: 0 if it holds, 1 if it does not.

    Example: zhiwang receipt verify case.receipt.json --root root
    """
    try:
        trust, _ = receipt_trust.trust_of(
            root, profile=profile, witness_policy=witness_policy, crl=crl, tsa_root=tsa_root
        )
    except RefusedError as error:
        receipt_trust.refused(error, as_json=as_json)
    _, proved = receipt_trust.proved(file, trust, as_json=as_json)
    if as_json:
        output.print_json(receipt_words.as_object(proved))
    else:
        for line in receipt_words.words(proved):
            output.console().print(line, markup=False, soft_wrap=True)


app.command("export")(receipt_export.export_command)
app.command("pack")(receipt_export.pack_command)
app.command("complete")(receipt_complete.complete_command)
app.command("timestamp")(receipt_timestamp.timestamp_command)
app.command("print")(receipt_print.print_command)


@app.command("find")
def find_command(
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="Of the application, or of the job that a roster was asked under."),
    ],
    profile: output.Profile,
    matter: Annotated[str, typer.Option(help="Only those of this matter.")] = "",
    key: Annotated[str, typer.Option(help="Only those of the case with this key of the caller's own.")] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the receipts into this directory.", file_okay=False)
    ] = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Find the receipts that an agent keeps, by the reference under which was asked. The agent may be running.

    Whoever may read the agent's files may do this; use the agent's account.

    A file that is there already is compared: it never becomes another receipt, and gains what the kept one has gained.

    Exit status: 0 if any was found and all could be opened, 1 if not, or if a file in DIR is another.

    Example: zhiwang receipt find 2026-000123 --profile edu.toml --out receipts
    """
    if not reference.isprintable():
        output.usage_error("a reference has printable characters only")
    store = open_store(load_profile(profile))
    rows: list[dict[str, Any]] = []
    broken = 0
    others: list[str] = []
    if out is not None:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for found in store.find_case(reference, key) if key else store.find(reference):
            if found.receipt is None:
                broken += 1
                continue
            if matter and found.matter != matter:
                continue
            row = _kept(found, found.receipt, out)
            if out is not None and not _write(Path(row["file"]), found.receipt):
                others.append(row["file"])
            rows.append(row)
    finally:
        store.close()
    if as_json:
        output.print_json({"receipts": rows, "broken": broken, "other_files": others})
    else:
        _print_kept(rows, out)
    if broken:
        output.say(f"{broken} 份凭证无法解开，可能已被改动  {broken} receipts cannot be opened: they were changed.")
    for other in others:
        output.say(f"{other} 已存在且不是这份凭证  {other} is there and is not this receipt; move it away and repeat.")
    raise typer.Exit(output.OK if rows and not broken and not others else output.FAILED)


def _write(file: Path, receipt: verification_pb2.Receipt) -> bool:
    """Whether a file holds a receipt now, with what it has gained, or did so before."""
    try:
        write_receipt(file, receipt)
    except FileExistsError:
        try:
            there = load_receipt(file)
        except RefusedError:
            return False
        if issued(there) != issued(receipt):
            return False
        if gain(there, receipt):
            replace_receipt(file, there)
    return True


def _kept(found: Found, receipt: verification_pb2.Receipt, out: Path | None) -> dict[str, Any]:
    """A line about a kept receipt, and its file if a directory is given."""
    file = None if out is None else out / f"{found.id}.receipt.json"
    return {
        "kept": local_time(found.kept),
        "matter": found.matter,
        "key": found.key,
        "owners": [parse_header(part.request.header).owner for part in receipt.parts],
        "cosigned": all(part.HasField("hub_cosigned") for part in receipt.parts),
        "file": None if file is None else str(file),
    }


def _print_kept(rows: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    if not rows:
        output.say("没有此编号的凭证  No receipt of this reference is kept.")
        return
    output.print_table(
        ("保存于 kept", "事项 matter", "办件 key", "部门 owners", "见证 cosigned", "文件 file"),
        [
            (row["kept"], row["matter"], row["key"], ", ".join(row["owners"]), _CHECKED[row["cosigned"]], row["file"])
            for row in rows
        ],
    )
    output.next_step("zhiwang receipt verify FILE --root root" if out else "the same with --out DIR, to have the files")


@app.command("purge")
def purge_command(
    profile: output.Profile,
    year: Annotated[
        int | None,
        typer.Option(
            help="Erase everything of a year that is over or whose key is lost, and destroy its key.",
            show_default=False,
            min=2000,
            max=9999,
        ),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Delete the receipts whose time is over; with --year, all of a year. The agent may be running.

    The agent does the first by itself, every hour. A year that is erased cannot be brought back from a backup of the
    receipts, only from one of its key: destroy that too. This year can only be given up if its key is lost; it begins
    anew with another.

    Exit status: 0 if it was done, 1 if not, or not wholly because somebody reads the receipts all the time.

    Example: zhiwang receipt purge --profile edu.toml --year 2016
    """
    loaded = load_profile(profile)
    store = open_store(loaded)
    now = time.time()
    try:
        if year is None:
            keep = loaded.agent.receipts.keep if loaded.agent.receipts is not None else math.inf
            count = store.overdue(keep, now)
            if count and not yes:
                typer.confirm(
                    f"删除 {local_time(now - keep)} 以前的 {count} 份凭证，不可恢复。 "
                    f"Delete {count} receipts kept before then for good?",
                    abort=True,
                    err=True,
                )
            deleted = 0
            while part := store.purge(keep, now):
                deleted += part
        else:
            if not yes:
                typer.confirm(
                    f"删除 {year} 年全部凭证，不可恢复。 Erase all receipts of {year} for good?", abort=True, err=True
                )
            deleted = store.erase(year, now)
        cleared = _cleared(store)
    finally:
        store.close()
    if as_json:
        output.print_json({"deleted": deleted, "year": year})
    else:
        output.say(f"已删除 {deleted} 份凭证  {deleted} receipts are deleted.")
    if not cleared:
        output.say("凭证库正被读取，预写日志中尚有残留，请稍后重试。")
        output.say(
            "Somebody reads the receipts, so the write-ahead log still holds what was deleted: repeat this later."
        )
        raise typer.Exit(output.FAILED)


def _cleared(store: ReceiptStore) -> bool:
    """Whether what was deleted has left the write-ahead log; a moment is granted to those who read."""
    for _ in range(CLEAR_ATTEMPTS):
        if store.clear():
            return True
        time.sleep(CLEAR_PAUSE)
    return False
