"""`zhiwang receipt print`: a receipt on paper, for courts and disputes."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.page import write_page
from exchange.cli.receipt_page import Sheet, as_object, make_page
from exchange.cli.receipt_trust import (
    Profile,
    Receipt,
    Revoked,
    Root,
    TsaRoot,
    Witnesses,
    pinned_root,
    proved,
    trust_of,
)
from exchange.client.receipt import encode_receipt
from zhiwang.wire import output


def print_command(
    file: Receipt,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write, HTML; never over another.")],
    root: Root = None,
    profile: Profile = None,
    witness_policy: Witnesses = None,
    crl: Revoked = None,
    tsa_root: TsaRoot = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="Show identifiers whole; without it they are masked.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Verify a receipt, and write it as a page of one sheet for people: what it says, proves, and does not prove.

    Titles and counters for disputes come from the directory that --profile names. Only its owner can read the file.
    What is many goes on sheets behind the first. Any browser prints it; it loads nothing.

    Exit status: 0 if it is written, 1 if the receipt does not hold; then nothing is written.

    Example: zhiwang receipt print case.receipt.json --profile edu.toml --out case.html
    """
    trust, directory = trust_of(root, profile=profile, witness_policy=witness_policy, crl=crl, tsa_root=tsa_root)
    receipt, found = proved(file, trust, as_json=as_json)
    sheet = Sheet(
        proved=found,
        digest=sha256(encode_receipt(receipt)).digest(),
        root_digest=sha256(pinned_root(root, profile).read_bytes()).digest(),
        directory=directory,
        full=full,
        now=time.time(),
        file=file.name,
    )
    write_page(out, make_page(sheet))
    if as_json:
        output.print_json(as_object(sheet, str(out)))
    else:
        output.say(f"已写入 written: {out}")
        output.next_step("在浏览器中打开并打印 open it in a browser, and print it")
