"""`zhiwang receipt`: what a receipt proves, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from certs.identity import CA_CERTIFICATE
from certs.signing import CertificateVerifier
from exchange.cli import output
from exchange.cli.verify import ANSWERS, answer_text, local_time
from exchange.client.case import Answer
from exchange.client.receipt import ProvedClaim, ProvedPart, read_receipt, verify_receipt
from zhiwang.wire.errors import RefusedError

ASSURANCES = {1: "由请求方声明 asserted by the requester", 2: "由前置机认证 authenticated", 3: "凭证书 by certificate"}

app = typer.Typer(help="凭证  Verify a receipt offline, and read it.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """凭证  Receipts."""


@app.command("verify")
def verify_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.", exists=True, dir_okay=False)],
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the pinned roots.", exists=True, file_okay=False)
    ],
    as_json: output.AsJson = False,  # noqa: FBT002  a switch of the command line
) -> None:
    """Check a receipt with nothing but the pinned roots, and say what it proves.

    Exit status: 0 if it holds, 1 if it does not.

    Example: zhiwang receipt verify case.receipt.json --root root
    """
    verifier = CertificateVerifier((root / CA_CERTIFICATE).read_bytes(), frozenset)
    try:
        parts = verify_receipt(read_receipt(file.read_bytes()), verifier)
    except RefusedError as error:
        if as_json:
            output.print_json({"valid": False, "reason": error.reason.name, "detail": error.detail})
        else:
            output.say(f"凭证无效  The receipt does not hold: {error.reason.value.zh} {error.reason.name}")
            output.say(f"  {error.detail}")
        raise typer.Exit(output.FAILED) from None
    if as_json:
        output.print_json({"valid": True, "parts": [as_object(part) for part in parts]})
    else:
        for line in words(parts):
            output.console().print(line, markup=False, soft_wrap=True)


def words(parts: Sequence[ProvedPart]) -> list[str]:
    """What a verified receipt says: what was asked, by whom, for what, as of when, and who answered what, when."""
    header = parts[0].header
    lines = [
        "凭证有效  The receipt holds.",
        f"  请求方 asked by    {parts[0].requester.short}，角色 as {header.role}",
        f"  经办人 official    {header.official}（{ASSURANCES.get(header.assurance, '')}）",
        f"  事项   for         {header.matter}，编号 reference {header.reference}，辖区 place {header.jurisdiction}",
        f"  基准日 as of       {header.reference_date}",
    ]
    for part in parts:
        lines += [
            "",
            f"{part.header.owner} 答复于 answered at {local_time(part.owner_time)} +08:00",
            f"  记录   entries     {part.owner.short} #{part.owner_index}；{part.hub.short} #{part.hub_index}",
        ]
        lines += [f"  {line}" for claim in part.claims for line in _claim(claim)]
    return lines


def _claim(claim: ProvedClaim) -> list[str]:
    outcome = claim.outcome
    answer = Answer(outcome.answer)
    reason = outcome.reason
    said = (
        answer_text(claim.claim, answer)
        if answer in ANSWERS
        else f"未答复 no answer：{reason.value.zh} {reason.name}"
        if reason is not None
        else ""
    )
    as_of = f"（数据截至 data as of {local_time(claim.data_as_of)}）" if claim.data_as_of else ""
    lines = [
        f"{claim.claim}  →  {said}{as_of}",
        f"    主体   subject   {_who(claim.kind, claim.identifier, claim.name)}",
    ]
    if claim.compared is not None:
        lines.append(f"    比对   compared  {_who(*claim.compared)}")
    return lines


def _who(kind: str, identifier: str, name: str) -> str:
    return f"{kind} {identifier} {name}".rstrip() if identifier else f"{kind}（空 nobody）"


def as_object(part: ProvedPart) -> dict[str, Any]:
    """A part as one JSON object."""
    header = part.header
    return {
        "owner": header.owner,
        "requester": part.requester.uri,
        "role": header.role,
        "official": header.official,
        "matter": header.matter,
        "reference": header.reference,
        "reference_date": header.reference_date.isoformat(),
        "jurisdiction": str(header.jurisdiction),
        "owner_log": part.owner.log_origin,
        "owner_index": part.owner_index,
        "owner_time": part.owner_time,
        "hub_log": part.hub.log_origin,
        "hub_index": part.hub_index,
        "hub_time": part.hub_time,
        "claims": [
            {
                "claim": claim.claim,
                "ordinal": claim.ordinal,
                "kind": claim.kind,
                "identifier": claim.identifier,
                "name": claim.name,
                "compared": claim.compared,
                "outcome": claim.outcome.name,
                "data_as_of": claim.data_as_of,
            }
            for claim in part.claims
        ],
    }
