"""What a verified receipt says, in words for a terminal and as JSON."""

from __future__ import annotations

from typing import Any

from exchange.cli.audit_reading import printable
from exchange.cli.verify import ANSWERS, answer_text
from exchange.client.case import Answer
from exchange.client.receipt_times import Proved, RevokedSince, Word
from exchange.client.receipt_verify import ProvedClaim, ProvedPart
from zhiwang.wire.output import local_time

ASSURANCES = {1: "由请求方声明 asserted by the requester", 2: "由前置机认证 authenticated", 3: "凭证书 by certificate"}

WORDS = {
    Word.TIME_STAMP: "时间戳 a time stamp",
    Word.WITNESSES: "见证方 witnesses",
    Word.HUB: "枢纽日志 the hub's log",
    Word.OWN: "仅其自身时钟 its own clock only",
}


def words(proved: Proved) -> list[str]:
    """What was asked, by whom, for what, as of when, who answered what and when, and on whose word that rests."""
    parts = proved.parts
    header = parts[0].header
    lines = [
        "凭证有效  The receipt holds.",
        f"  城市   in          {parts[0].requester.city}",
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
            f"  出示   shown       {shown(part)}",
        ]
        lines += [f"  {line}" for claim in part.claims for line in _claim(claim)]
    lines += ["", "时间依据 whose word for the time", *(f"  {line}" for line in time_words(proved))]
    # Names and values are what a requester chose to commit to.
    return list(map(printable, lines))


def time_words(proved: Proved) -> list[str]:
    """By whose word the entries were made when they say, and what was revoked."""
    lines = ["日志时钟 clocks of the logs, within the minute that the requester signed"]
    lines += witness_words(proved)
    lines += [
        f"时间戳 time stamp: 不晚于 no later than {local_time(stamp.time)} +08:00，{stamp.authority} #{stamp.serial}"
        for stamp in proved.stamps
    ]
    if proved.unchecked_stamps:
        lines.append(f"时间戳 {proved.unchecked_stamps} 个未核验 time stamps that are not checked: give --tsa-root")
    elif not proved.stamps:
        lines.append("无时间戳 no time stamp")
    if proved.revocations_as_of is None:
        lines.append("未核验吊销 revocation is not checked: give --crl")
    else:
        as_of = local_time(proved.revocations_as_of)
        lines.append(f"答复时证书均未吊销 no certificate was revoked by then, says the list of {as_of} +08:00")
    return [*lines, *map(_revoked_words, proved.revoked_since)]


def witness_words(proved: Proved) -> list[str]:
    """Who witnessed the hub's log, and when; or plainly that nobody is known to have."""
    if proved.unchecked_cosignatures:
        count = proved.unchecked_cosignatures
        return [f"{count} 个见证签名未核验 cosignatures that are not checked: give --witness-policy or --profile"]
    if not proved.witnessed:
        return ["无见证：仅凭日志自身签名 no cosignatures: the logs' own signatures only"]
    lines: dict[str, None] = {}
    for part, witnessed in zip(proved.parts, proved.witnessed, strict=True):
        names = "，".join(f"{one.name} {local_time(one.time)}" for one in witnessed.cosignatures)
        origin, size = part.hub_checkpoint.origin, part.cosigned.checkpoint.size if part.cosigned else 0
        lines[f"见证 witnesses: {origin} 至 up to {size} 条 entries: {names} +08:00"] = None
    return list(lines)


def _revoked_words(since: RevokedSince) -> str:
    return (
        f"{since.certificate.identity.short} 的证书于事后 {local_time(since.time)} +08:00 吊销 was revoked afterwards; "
        f"记录在先的依据 that the entry is older, says: {WORDS[since.word]}"
    )


def shown(part: ProvedPart) -> str:
    """How many of the claims that were asked the receipt shows."""
    shown, asked = len(part.claims), len(part.header.claims)
    return f"所问 {asked} 项中的 {shown} 项  {shown} of {asked} claims"


def said(claim: ProvedClaim) -> str:
    """An answer, or why there is none."""
    answer = Answer(claim.outcome.answer)
    if answer in ANSWERS:
        return answer_text(claim.claim, answer)
    reason = claim.outcome.reason
    return "" if reason is None else f"未答复 no answer：{reason.value.zh} {reason.name}"


def _claim(claim: ProvedClaim) -> list[str]:
    as_of = f"（数据截至 data as of {local_time(claim.data_as_of)}）" if claim.data_as_of else ""
    lines = [
        f"{claim.claim}  →  {said(claim)}{as_of}",
        f"    主体   subject   {who(claim.kind, claim.identifier, claim.name)}",
    ]
    if claim.compared is not None:
        lines.append(f"    比对   compared  {who(*claim.compared)}")
    return lines


def who(kind: str, identifier: str, name: str) -> str:
    """A subject in words."""
    return f"{kind} {identifier} {name}".rstrip() if identifier else f"{kind}（空 nobody）"


def as_object(proved: Proved) -> dict[str, Any]:
    """All of it as one JSON object."""
    return {
        "valid": True,
        "parts": [_part(part) for part in proved.parts],
        "witnessed": [
            {
                "owner": part.header.owner,
                "size": None if part.cosigned is None else part.cosigned.checkpoint.size,
                "quorum_time": said.time,
                "cosignatures": {one.name: one.time for one in said.cosignatures},
            }
            for part, said in zip(proved.parts, proved.witnessed, strict=False)
        ],
        "cosignatures_unchecked": proved.unchecked_cosignatures,
        "time_stamps": [stamp._asdict() for stamp in proved.stamps],
        "time_stamps_unchecked": proved.unchecked_stamps,
        "revocations_as_of": proved.revocations_as_of,
        "revoked_since": [
            {"identity": one.certificate.identity.uri, "time": one.time, "older_says": one.word.value}
            for one in proved.revoked_since
        ],
    }


def _part(part: ProvedPart) -> dict[str, Any]:
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
        "owner_log": part.owner_checkpoint.origin,
        "owner_index": part.owner_index,
        "owner_time": part.owner_time,
        "owner_size": part.owner_checkpoint.size,
        "owner_root": part.owner_checkpoint.root.hex(),
        "hub_log": part.hub_checkpoint.origin,
        "hub_index": part.hub_index,
        "hub_time": part.hub_time,
        "hub_size": part.hub_checkpoint.size,
        "hub_root": part.hub_checkpoint.root.hex(),
        "directory_version": part.directory_version,
        "document_version": part.document_version,
        "rules": list(part.rule_ids),
        "certificates": [
            {
                "identity": one.identity.uri,
                "serial": f"{one.serial:x}",
                "sha256": one.fingerprint.hex(),
                "not_before": one.not_before,
                "not_after": one.not_after,
            }
            for one in part.certificates
        ],
        "claims_asked": len(header.claims),
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
