"""What commands about receipts share: the receipt that is given, what it is verified by, and how a refusal is told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from certs.identity import CA_CERTIFICATE
from certs.revocation import RevocationList
from certs.signing import CertificateVerifier
from exchange.cli import output
from exchange.client.receipt_files import load_receipt
from exchange.client.receipt_times import Proved, Revocations, Trust, prove
from exchange.client.time_stamps import load_roots
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire.errors import RefusedError

Receipt = Annotated[
    Path, typer.Argument(metavar="RECEIPT", help="The receipt: its file, or its directory of files.", exists=True)
]
Root = Annotated[Path, typer.Option(metavar="DIR", help="Directory of the pinned roots.", exists=True, file_okay=False)]
Revoked = Annotated[
    Path | None,
    typer.Option(
        "--crl",
        metavar="FILE",
        help="The authority's revocation list, made after the entries: refuse what was revoked before them.",
        exists=True,
        dir_okay=False,
    ),
]
TsaRoot = Annotated[
    Path | None,
    typer.Option(
        "--tsa-root",
        metavar="PEM",
        help="Certificates of time-stamping authorities that you trust: check the time stamps by them.",
        exists=True,
        dir_okay=False,
    ),
]


def trust_of(root: Path, crl: Path | None, tsa_root: Path | None) -> Trust:
    """What to verify by, from the files that were given.

    Raises:
        RefusedError: CERTIFICATE_INVALID: one of them is not what it should be.
    """
    ca_pem = (root / CA_CERTIFICATE).read_bytes()
    revocations = None
    if crl is not None:
        revocations = Revocations.of_list(RevocationList.parse(crl.read_bytes(), ca_pem))
        if revocations.as_of > time.time():
            output.say("吊销列表的时间晚于本机时间  The revocation list is younger than this machine's clock.")
    return Trust(
        verifier=CertificateVerifier(ca_pem, frozenset),
        revocations=revocations,
        tsa_roots=() if tsa_root is None else load_roots(tsa_root.read_bytes()),
    )


def proved(path: Path, trust: Trust, *, as_json: bool) -> tuple[verification_pb2.Receipt, Proved]:
    """A receipt and what it proves.

    Raises:
        typer.Exit: With status 1, once it was said: it does not hold.
    """
    try:
        receipt = load_receipt(path)
        return receipt, prove(receipt, trust)
    except RefusedError as error:
        refused(error, as_json=as_json)


def refused(error: RefusedError, *, as_json: bool) -> NoReturn:
    """Say that a receipt does not hold, and end.

    Raises:
        typer.Exit: With status 1.
    """
    if as_json:
        output.print_json({"valid": False, "reason": error.reason.name, "detail": error.detail})
    else:
        output.say(f"凭证无效  The receipt does not hold: {error.reason.value.zh} {error.reason.name}")
        output.say(f"  {error.detail}")
    raise typer.Exit(output.FAILED) from None
