"""What commands about receipts share: the receipt that is given, what it is verified by, and how a refusal is told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from audit.checkpoint import CheckpointError
from audit.tlog_policy import parse_policy
from audit.witnessed import policy_of
from certs.identity import CA_CERTIFICATE
from certs.revocation import RevocationList
from certs.signing import CertificateVerifier
from exchange.client.receipt_files import load_receipt
from exchange.client.receipt_times import Proved, Revocations, Trust, prove
from exchange.client.time_stamps import load_roots
from exchange.doctor.directory import kept
from exchange.doctor.local import host_of
from policy.model import Directory
from zhiwang.verification.v1 import verification_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.profile import load_profile

Receipt = Annotated[
    Path, typer.Argument(metavar="RECEIPT", help="The receipt: its file, or its directory of files.", exists=True)
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Directory of the pinned roots; --profile names it too.", exists=True, file_okay=False
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Verify by what an installation has: its pinned roots, and the witnesses and revocations of the directory "
        "that it verified last.",
        exists=True,
        dir_okay=False,
    ),
]
Witnesses = Annotated[
    Path | None,
    typer.Option(
        "--witness-policy",
        metavar="FILE",
        help="Demand the quorum of witnesses of this file (C2SP tlog-policy).",
        exists=True,
        dir_okay=False,
    ),
]
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


def trust_of(
    root: Path | None,
    *,
    profile: Path | None = None,
    witness_policy: Path | None = None,
    crl: Path | None = None,
    tsa_root: Path | None = None,
) -> tuple[Trust, Directory | None]:
    """What to verify by, from the files that were given; and the directory of the profile, if one was.

    What a file says stands above what the directory says.

    Raises:
        ZhiwangError: One of them is not what it should be, or the directory has expired.
        typer.Exit: With status 2: neither roots nor a profile were given.
    """
    loaded = None if profile is None else load_profile(profile)
    place = root or (None if loaded is None else loaded.root)
    if place is None:
        output.usage_error(
            "say by which roots to verify: --root DIR, or --profile FILE of an installation that pins them"
        )
    ca_pem = (place / CA_CERTIFICATE).read_bytes()
    directory = None if loaded is None else kept(host_of(loaded), ca_pem)
    witnesses = revocations = None
    if loaded is not None and directory is None:
        output.say(f"{loaded.state} 中没有名录  There is no directory in {loaded.state}: its roots alone are used.")
    if directory is not None:
        witnesses = policy_of(directory.centre)
        if directory.revocations_as_of:
            revocations = Revocations(directory.revocation_times, directory.revocations_as_of)
    if witness_policy is not None:
        try:
            witnesses = parse_policy(witness_policy.read_bytes())
        except CheckpointError as error:
            output.usage_error(f"{witness_policy}: {error}")
    if crl is not None:
        revocations = Revocations.of_list(RevocationList.parse(crl.read_bytes(), ca_pem))
    trust = Trust(
        verifier=CertificateVerifier(ca_pem, frozenset),
        witnesses=witnesses,
        revocations=revocations,
        tsa_roots=() if tsa_root is None else load_roots(tsa_root.read_bytes()),
    )
    return trust, directory


def pinned_root(root: Path | None, profile: Path | None) -> Path:
    """File of the pinned authority.

    Raises:
        typer.Exit: With status 2: neither roots nor a profile were given.
    """
    place = load_profile(profile).root if root is None and profile is not None else root
    if place is None:
        output.usage_error("say by which roots to verify: --root DIR, or --profile FILE of an installation")
    return place / CA_CERTIFICATE


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
