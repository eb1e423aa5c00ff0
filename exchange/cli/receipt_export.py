"""`zhiwang receipt export` and `pack`: a receipt as files that other people's tools verify, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.receipt_trust import Receipt
from exchange.client.receipt import write_receipt
from exchange.client.receipt_files import load_receipt, write_directory
from zhiwang.wire import output


def export_command(
    file: Receipt,
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty directory for the files.", file_okay=False)],
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
) -> None:
    """Write a receipt as files, of which other people's tools verify those that concern the logs.

    For each owner and log: the entry (.entry), its C2SP tlog-proof (.tlog-proof), the certificate of the log's key
    (.pem), and the key (.vkey). The rest stands in claims.json. `receipt verify` takes the directory as well.

    Exit status: 0 if they are written, 1 if it is no receipt. Nothing is verified.

    Example: zhiwang receipt export case.receipt.json --out case
    """
    files = write_directory(out, load_receipt(file))
    if as_json:
        output.print_json({"files": {name: str(path) for name, path in files.items()}})
    else:
        output.print_table(("文件 file", "字节 bytes"), [(path, path.stat().st_size) for path in files.values()])
        output.next_step(f"zhiwang receipt verify {out} --root root")


def pack_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The files of a receipt.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The receipt to write; never over another.")],
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
) -> None:
    """Put a receipt together again from the files of `receipt export`.

    Exit status: 0 if it is written, 1 if they are not the files of a receipt. Nothing is verified.

    Example: zhiwang receipt pack case --out case.receipt.json
    """
    write_receipt(out, load_receipt(directory))
    if as_json:
        output.print_json({"file": str(out)})
    else:
        output.next_step(f"zhiwang receipt verify {out} --root root")
