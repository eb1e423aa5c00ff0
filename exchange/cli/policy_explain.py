"""`zhiwang policy explain`: why something would be allowed or denied, and why an entry of a log was."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from audit.auditor import Auditor
from exchange.cli import policy_rights
from exchange.cli.audit_reading import From, Owner, Shard, with_auditor
from exchange.cli.audit_show import sought, wanted_of
from policy.document import ASSURANCES
from policy.enforcer import Question
from policy.telling import explained
from zhiwang.policy.v1 import decisions_pb2, policy_pb2, rights_pb2
from zhiwang.wire import output
from zhiwang.wire.claims import Ask
from zhiwang.wire.identity import Identity, Kind
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.profile import load_profile


def explain(
    ask: Annotated[str, typer.Argument(metavar="ASK", help='For example "hrss.pension_months at_least".')] = "",
    system: Annotated[str, typer.Option(help="Who asks: DEPARTMENT/NAME.")] = "",
    role: Annotated[str, typer.Option(help="In which role.")] = "",
    matter: Annotated[str, typer.Option(help="For which matter.")] = "",
    jurisdiction: Annotated[str, typer.Option(help="Where it acts, e.g. nbs:440306.")] = "",
    profile: policy_rights.MaybeProfile = None,
    assurance: Annotated[str, typer.Option(help="asserted, authenticated or certificate.")] = "asserted",
    official: Annotated[str, typer.Option(help="Who asks; matters only where an official is suspended.")] = "",
    at: policy_rights.At = None,
    files: policy_rights.Rehearsed = None,
    entry: Annotated[
        str, typer.Option(metavar="ID", help="An entry of a log instead of a question; as for `audit show`.")
    ] = "",
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Say whether something would be allowed, by which rules, and what stands in the way. Exit status 1 if denied.

    With --entry: why an entry of the log was decided as it was, by the directory of its own day, which is fetched and
    verified and decides once more. Exit status 1 if that directory is not to be had, or decides otherwise. The reading
    stands in the log.

    Example: zhiwang policy explain "hrss.insured exists" --system edu/enrolment --role edu/enrolment-clerk …
    """
    if entry:
        if profile is None or ask or files:
            output.usage_error("--entry needs a --profile, and neither a question nor --with")
        _explain_entry(entry, source, owner, shard, load_profile(profile), as_json=as_json)
    if not (ask and system and role and matter and jurisdiction):
        output.usage_error("name ASK, --system, --role, --matter and --jurisdiction; or an --entry of a log")
    if assurance not in ASSURANCES:
        output.usage_error("an assurance is asserted, authenticated or certificate")
    department, _, name = system.partition("/")
    asked = Ask.parse(ask)
    place = Jurisdiction.parse(jurisdiction)
    directory = policy_rights.directory_of(profile, files or ())
    question = Question(
        system=Identity(directory.centre.city, department, Kind.SYSTEM, name),
        role=role,
        owner=asked.owner,
        attribute=asked.attribute,
        predicate=asked.predicate,
        jurisdiction=place,
        matter=matter,
        assurance=ASSURANCES[assurance],
        now=policy_rights.moment(at),
        official=official,
    )
    told = explained(directory, question)
    if as_json:
        output.print_json(
            {
                "allowed": told.allowed,
                "rules": list(told.rule_ids),
                "grounds": [_ground_json(ground) for ground in told.grounds],
                "directory": told.directory_version,
            }
        )
    else:
        title = "allowed 允许" if told.allowed else "denied 拒绝"
        output.print_table(
            ("", "because"), map(_ground_row, told.grounds), title=f"{title} · directory {told.directory_version}"
        )
    raise typer.Exit(output.OK if told.allowed else output.FAILED)


def _explain_entry(identifier: str, source: str, owner: str, shard: str, loaded: Any, *, as_json: bool) -> NoReturn:
    # Lazily, so that other commands are quick.
    from exchange.cli.audit_directory import past_reader  # noqa: PLC0415
    from exchange.evidence.rules import parties  # noqa: PLC0415
    from exchange.evidence.telling import past_of  # noqa: PLC0415
    from exchange.explaining import explain_entry  # noqa: PLC0415

    wanted = wanted_of(identifier)
    if owner and wanted.owner not in {"", owner}:
        output.usage_error(f"{identifier} is an entry of {wanted.owner}, and --owner says {owner}")
    keeper = owner or wanted.owner

    async def read(auditor: Auditor) -> tuple[int, decisions_pb2.ExplainEntryResponse]:
        index, origin = wanted.index, ""
        if index is None:
            index, origin = await sought(auditor, wanted, identifier)
        logged, head, found, checkpoint = await auditor.logged(index, origin)
        async with past_reader(loaded, source, keeper) as reader:
            past = await past_of(auditor, found, reader)
            version = parties(found)[0]
            directory = await reader.whole(version) if past.directory is not None else None
        response = explain_entry(index, logged.entry, found, past, directory)
        response.entry.CopyFrom(logged)
        response.head.CopyFrom(head)
        response.origin = checkpoint.origin
        return index, response

    index, told = with_auditor(loaded, source, keeper, read, shard=shard)
    if as_json:
        output.print_json(_entry_json(index, told))
    else:
        _print_entry(index, told)
    raise typer.Exit(output.OK if told.agrees else output.FAILED)


def _print_entry(index: int, told: decisions_pb2.ExplainEntryResponse) -> None:
    title = f"{told.origin} #{index} · {told.outcome} {told.reason}".rstrip() + f" · directory {told.directory_version}"
    rows: list[tuple[str, str]] = []
    for claim in told.claims:
        rows.append(("拒绝 denied" if claim.denied else "允许 allowed", f"{_both(claim.title)}  [{claim.claim}]"))
        for rule in claim.rules:
            rows.append(("  记录所列 named", f"{rule.id}: {_both(rule.sentence)}".rstrip(": ")))
            rows += [("", line) for line in rule.source.splitlines()]
        rows += [(f"  {mark}", text) for mark, text in map(_ground_row, claim.grounds)]
        if claim.grounds:
            again = "允许 allowed" if claim.allowed_again else f"拒绝 denied {claim.reason_again}"
            rows.append(("  重新判断 again", f"{again}  {' '.join(claim.rule_ids)}".rstrip()))
    rows += [("已核验 verified", _both(text)) for text in told.verified]
    if told.HasField("unavailable"):
        rows.append(("无法取得规则 no rules", _both(told.unavailable)))
    agrees = "与记录一致 as the entry says" if told.agrees else "与记录不一致 not as the entry says"
    rows.append(("结论 result", agrees))
    output.print_table(("", ""), rows, title=title)


def _entry_json(index: int, told: decisions_pb2.ExplainEntryResponse) -> dict[str, Any]:
    return {
        "log": told.origin,
        "index": index,
        "outcome": told.outcome,
        "reason": told.reason,
        "directory": told.directory_version,
        "document": told.document_version or None,
        "agrees": told.agrees,
        "claims": [
            {
                "claim": claim.claim,
                "denied": claim.denied,
                "named": [
                    {"id": rule.id, "zh": rule.sentence.zh, "en": rule.sentence.en, "line": rule.line or None}
                    for rule in claim.rules
                ],
                "allowed_again": claim.allowed_again,
                "reason_again": claim.reason_again,
                "rules": list(claim.rule_ids),
                "grounds": [_ground_json(ground) for ground in claim.grounds],
            }
            for claim in told.claims
        ],
        "verified": [{"zh": text.zh, "en": text.en} for text in told.verified],
        "unavailable": {"zh": told.unavailable.zh, "en": told.unavailable.en} if told.HasField("unavailable") else None,
    }


def _ground_row(ground: policy_pb2.Ground) -> tuple[str, str]:
    return ("✓" if ground.holds else "✗", ground.text)


def _ground_json(ground: policy_pb2.Ground) -> dict[str, Any]:
    kind = policy_pb2.Ground.Kind.Name(ground.kind).removeprefix("KIND_").lower()
    return {"kind": kind, "holds": ground.holds, "text": ground.text}


def _both(text: rights_pb2.Text) -> str:
    return "  ".join(dict.fromkeys(filter(None, (text.zh, text.en))))
