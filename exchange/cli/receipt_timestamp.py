"""`zhiwang receipt timestamp`: have a receipt stamped by an authority outside of the city (RFC 3161)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
import urllib3

from exchange.cli.receipt_trust import Profile, Receipt, Root, proved, refused, trust_of
from exchange.client.receipt_files import MAX_RESPONSE, replace_receipt
from exchange.client.receipt_verify import MAX_STAMPS
from exchange.client.time_stamps import add_stamp, load_roots
from zhiwang.wire import output
from zhiwang.wire.errors import FatalError, Reason, RefusedError
from zhiwang.wire.output import local_time

TIMEOUT: Final = urllib3.Timeout(connect=10, read=30)
QUERY: Final = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
ANSWERED: Final = 200


def timestamp_command(
    file: Receipt,
    tsa: Annotated[
        str, typer.Option(metavar="URL", help="Of the time-stamping authority, e.g. http://tsa.example.cn.")
    ],
    tsa_root: Annotated[
        Path,
        typer.Option(metavar="PEM", help="Certificates of authorities that you trust.", exists=True, dir_okay=False),
    ],
    root: Root = None,
    profile: Profile = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Have a receipt stamped, and keep the time stamp in it. The authority learns a hash and nothing else.

    Needs the extra dependency `timestamps`. The receipt is verified first, and the answer before it is kept.

    Exit status: 0 if the receipt has a further time stamp, 1 if not; it is then as it was.

    Example: zhiwang receipt timestamp case.receipt.json --tsa http://tsa.example.cn --tsa-root tsa.pem --root root
    """
    if not tsa.startswith(("http://", "https://")):
        output.usage_error("the address of the authority begins with http:// or https://")
    trust, _ = trust_of(root, profile=profile)
    # Whether witnesses have cosigned yet does not matter here.
    receipt, _ = proved(file, replace(trust, witnesses=None), as_json=as_json)
    if len(receipt.time_stamps) >= MAX_STAMPS:
        raise FatalError(Reason.INTERNAL, f"{file} has {MAX_STAMPS} time stamps; a receipt keeps no more")
    try:
        stamped = add_stamp(receipt, load_roots(tsa_root.read_bytes()), _asking(tsa))
    except RefusedError as error:
        refused(error, as_json=as_json)
    replace_receipt(file, receipt)
    if as_json:
        output.print_json({"file": str(file), **stamped._asdict()})
    else:
        output.say(f"已加盖时间戳 stamped at {local_time(stamped.time)} +08:00 by {stamped.authority}")
        output.next_step(f"zhiwang receipt verify {file} --root … --tsa-root {tsa_root}")


def _asking(url: str) -> Callable[[bytes], bytes]:
    """Sends a query to an authority over HTTP (RFC 3161 section 3.4)."""

    def ask(query: bytes) -> bytes:
        pool = urllib3.PoolManager(timeout=TIMEOUT, retries=False)
        try:
            response = pool.request("POST", url, body=query, headers=QUERY, redirect=False, preload_content=False)
            answer = response.read(MAX_RESPONSE + 1)
            response.release_conn()
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise FatalError(
                Reason.INTERNAL, f"{url} cannot be asked for a time stamp: {type(error).__name__}"
            ) from None
        if response.status != ANSWERED:
            raise FatalError(Reason.INTERNAL, f"{url} gives no time stamp: it answers {response.status}")
        return bytes(answer)

    return ask
