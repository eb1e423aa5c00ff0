"""An entry of a log as an account: who asked what of whom, for what, by which rules, and what became of it.

One structure for everybody: commands print it, bundles hold it as data, pages show it. What an entry says is its own
text, made harmless for terminals and pages; titles and sentences come from the directory of the entry's own day, as far
as that is at hand (`rules.py`). Texts for people are in Chinese and English. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from google.protobuf.message import DecodeError

from audit.facts import OUTCOME_PREFIX
from exchange.evidence.plain import plain, printable
from exchange.evidence.rules import Told
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.clock import timestamp_text
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity
from zhiwang.wire.merkle import leaf_hash

Bilingual = dict[str, str]
"""A text for people: {"zh": …, "en": …}."""

EVENTS: Final[dict[str, tuple[str, str]]] = {
    "log_opened": ("日志启用", "the log came into being"),
    "owner_access": ("数据部门处理了一次核验", "an owner processed a request"),
    "hub_access": ("枢纽处理了一次核验", "the hub routed or denied a request"),
    "refusal": ("拒绝了无法信任的请求", "a request was refused before it could be trusted"),
    "directory_change": ("启用了新版名录", "another version of the directory came into force"),
    "owner_key_published": ("发布了新的封装公钥", "a new sealing key was published"),
    "audit_read": ("有人查阅了日志", "the log was read"),
    "subject_read": ("有人查阅了谁核验过某人", "it was looked up who had asked about somebody"),
    "entries_delayed": ("部分记录延期告知当事人", "citizens are told of some entries later"),
    "subject_erased": ("抹去了某人的查询索引", "somebody was erased from the index of who was asked about"),
    "hold_placed": ("保全了记录", "entries were put beyond erasure"),
    "hold_lifted": ("解除了保全", "a hold was ended"),
    "evidence_produced": ("向法院或机关出具了证据", "entries were handed to a court or an office"),
    "roster_step": (
        "部门从自有数据中提取了名单，或据此邀请",
        "an owner drew a list of its own people, or invited some of it",
    ),
    "people_referred": ("部门将姓名转介给另一部门", "an owner handed names to another department"),
    "quorum_change": ("见证的法定数量失去或恢复", "the quorum of witnesses was lost, or is back"),
    "shard_removed": ("往年日志到期移除", "an earlier year's log was removed"),
    "emergency_step": ("应急授权被启用、生效或复核", "an emergency was opened, came into force or was reviewed"),
    "policy_step": ("管理员变更政策", "an admin changed the policy, or took a step towards it"),
    "local_policy_change": (
        "适配器启用或停用了名录之外的本地政策",
        "an adapter began, or ceased, to decide by what stands beside the directory",
    ),
}
OUTCOMES: Final[dict[str, tuple[str, str]]] = {
    "ANSWERED": ("已答复（结果未记录）", "answered; what the answer was is recorded nowhere in clear"),
    "DENIED": ("已拒绝，未送达数据部门", "denied; nothing reached the owner"),
    "UNAVAILABLE": ("未能答复", "not answered: the owner could not be reached, or failed"),
    "REFUSED": ("数据部门整体拒绝", "refused by the owner as a whole"),
}
PREDICATES: Final[dict[str, tuple[str, str]]] = {
    "exists": ("有无记录", "is there a record"),
    "absent": ("是否无记录", "is there no record"),
    "equals": ("是否等于（密封的值）", "does it equal (a sealed value)"),
    "at_least": ("是否不少于", "is it at least"),
    "at_most": ("是否不多于", "is it at most"),
    "valid": ("当日是否有效", "is it valid on the day"),
    "related": ("是否有此关系（密封的对方）", "is it so related (to a sealed other)"),
    "report": ("谁核验过此人", "who asked about the person"),
}
ASSURANCES: Final[dict[int, tuple[str, str]]] = {
    1: ("由请求方声明", "asserted by the requester"),
    2: ("由前置机认证", "authenticated by the agent"),
    3: ("凭证书", "by certificate"),
}


def account(index: int, data: bytes, entry: audit_pb2.Entry, told: Told) -> dict[str, Any]:
    """An entry in words and as data; values are JSON's.

    Args:
        index: Its place in the log.
        data: Its exact bytes.
        entry: What they say.
        told: What the directory of its day says.
    """
    kind = entry.WhichOneof("event") or ""
    event = getattr(entry, kind)
    moment = entry.time.seconds + entry.time.nanos / 1e9
    said: dict[str, Any] = {
        "index": index,
        "time": datetime.fromtimestamp(moment, UTC).isoformat(),
        "local_time": timestamp_text(moment),
        "event": kind,
        "event_title": _pair(EVENTS.get(kind, (kind, kind))),
        "leaf_hash": leaf_hash(data).hex(),
    }
    if kind in {"hub_access", "owner_access"}:
        said |= _access(kind, event, told)
    elif kind == "refusal" and event.reason:
        said["reason"] = _reason(event.reason)
    return {**said, "entry": plain(event)}


def _access(kind: str, event: audit_pb2.HubAccess | audit_pb2.OwnerAccess, told: Told) -> dict[str, Any]:
    said: dict[str, Any] = {"header_hash": sha256(event.header).hexdigest()}
    try:
        header = sealed_pb2.Header.FromString(event.header)
    except DecodeError:
        header = sealed_pb2.Header()
        said["unreadable"] = _pair(("请求头无法解读", "the header cannot be read"))
    said |= {
        "asked_by": _asker(header, told),
        "matter": {"name": printable(header.matter), **told.matter(header.matter)},
        "reference": printable(header.reference),
        "reference_date": printable(header.reference_date),
        "place": {"code": printable(header.jurisdiction), "name": told.place(header.jurisdiction)},
        "owner": {"department": printable(header.owner), "title": told.department(header.owner)},
        "cases": header.cases,
        "claims": [_claim(i, header, event, told) for i in range(len(header.claims))],
    }
    if isinstance(event, audit_pb2.HubAccess):
        outcome = audit_pb2.Outcome.Name(event.outcome).removeprefix(OUTCOME_PREFIX)
        said["outcome"] = {"code": outcome, **_pair(OUTCOMES.get(outcome, (outcome, outcome)))}
        if event.reason:
            said["reason"] = _reason(event.reason)
        if event.owner_leaf_hash:
            said["owner_entry"] = {"index": event.owner_index, "leaf_hash": event.owner_leaf_hash.hex()}
    else:
        whole = event.claims > 0 and len(event.denied_claims) == event.claims
        outcome = "DENIED" if whole else "ANSWERED"
        zh_en = ("全部核验项被拒绝", "every claim was denied") if whole else OUTCOMES["ANSWERED"]
        said["outcome"] = {"code": outcome, **_pair(zh_en)}
    said["rules"] = told.as_object(kind, event)
    return said


def _asker(header: sealed_pb2.Header, told: Told) -> dict[str, Any]:
    try:
        identity = Identity.parse(header.system)
        department, system = identity.department, identity.short
    except RefusedError:
        department, system = "", printable(header.system)
    return {
        "department": department,
        "title": told.department(department),
        "system": system,
        "official": printable(header.official),
        "assurance": _pair(ASSURANCES.get(header.assurance, ("", ""))),
        "role": printable(header.role),
    }


def _claim(
    number: int, header: sealed_pb2.Header, event: audit_pb2.HubAccess | audit_pb2.OwnerAccess, told: Told
) -> dict[str, Any]:
    shape = header.claims[number]
    predicate = sealed_pb2.Predicate.Name(shape.predicate).removeprefix("PREDICATE_").lower()
    slot = header.slots[shape.slot] if shape.slot < len(header.slots) else sealed_pb2.Slot()
    ordinal = f" {slot.ordinal + 1}" if slot.ordinal else ""
    name = f"{header.owner}.{shape.attribute}"
    rules = event.rule_ids[number] if number < len(event.rule_ids) else ""
    return {
        "claim": printable(f"{slot.name}{ordinal}: {name} {predicate}" + (f" {shape.cell}" if shape.cell else "")),
        "attribute": printable(name),
        "title": told.question(header.owner, shape.attribute),
        "predicate": {"name": predicate, "cell": printable(shape.cell), **_pair(PREDICATES.get(predicate, ("", "")))},
        "denied": number in event.denied_claims,
        "rules": [told.rule(one) for one in rules.split(",") if one],
        "counter": told.counter(header.owner, shape.attribute),
    }


def _reason(name: str) -> dict[str, str]:
    try:
        meaning = Reason[name].value
    except KeyError:
        return {"code": printable(name), "zh": "", "en": ""}
    return {"code": name, "zh": meaning.zh, "en": meaning.en}


def _pair(texts: tuple[str, str]) -> Bilingual:
    return dict(zip(("zh", "en"), texts, strict=True))


# In words ------------------------------------------------------------------------------------------------------------


def rows(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """An account in words: (what, value), both in Chinese and English, in the order in which a person asks."""
    yield "发生了什么 what", both(said["event_title"])
    yield "时间 when", said["local_time"]
    if "asked_by" in said:
        yield from _access_rows(said)
    if "reason" in said:
        reason = said["reason"]
        yield "公开原因 public reason", f"{reason['zh']}  {reason['en']}（{reason['code']}）"
    if "asked_by" not in said:
        for name, value in said["entry"].items():
            yield name, str(value)


def _access_rows(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    asker, matter, place, owner = said["asked_by"], said["matter"], said["place"], said["owner"]
    yield "请求部门 asked by", named(asker["title"], asker["department"])
    yield "系统 system", asker["system"]
    yield "经办人 official", f"{asker['official']}（{both(asker['assurance'])}）"
    yield "角色 role", asker["role"]
    yield "事项 matter", named(matter["title"], matter["name"])
    if matter["basis"]:
        yield "依据 legal basis", matter["basis"]
    yield "编号 reference", said["reference"]
    yield "基准日 as of", said["reference_date"]
    yield "辖区 place", f"{place['name']} {place['code']}".strip()
    yield "数据部门 owner", named(owner["title"], owner["department"])
    yield "办件数 cases", str(said["cases"])
    for number, claim in enumerate(said["claims"], 1):
        yield f"核验项 claim {number}", _claim_text(claim)
        for rule in claim["rules"]:
            yield "  准许依据 allowed by", rule_text(rule)
        if claim["counter"]:
            yield "  异议窗口 counter", claim["counter"]
    yield "处理结果 outcome", both(said["outcome"])
    if "owner_entry" in said:
        yield "数据部门记录 owner's entry", f"#{said['owner_entry']['index']}"
    yield "请求标识 header hash", said["header_hash"]
    yield from rules_rows(said["rules"])


def rules_rows(rules: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """By which policy it was decided, and how far that is proved."""
    versions = f"名录 directory {rules['directory_version']}"
    if rules["document_version"]:
        versions += f"，{rules['owner']} 文件 document {rules['document_version']}"
    yield "政策版本 policy", versions
    for text in rules["verified"]:
        yield "  已核验 verified", both(text)
    if rules["unavailable"]:
        yield "  无法取得规则 no rules", both(rules["unavailable"])


def _claim_text(claim: dict[str, Any]) -> str:
    predicate = claim["predicate"]
    asked = f"{predicate['zh']} {predicate['en']} {predicate['cell']}".rstrip()
    title = both(claim["title"])
    denied = "，已拒绝 denied" if claim["denied"] else ""
    return f"{title}（{asked}）{denied}  [{claim['claim']}]"


def rule_text(rule: dict[str, Any]) -> str:
    """A rule by its sentence, else by its name."""
    sentence = both(rule["sentence"])
    return f"{rule['id']}: {sentence}" if sentence else rule["id"]


def both(text: Bilingual) -> str:
    """Chinese, then English; once where they are the same."""
    texts: Sequence[str] = list(dict.fromkeys(filter(None, (text["zh"], text["en"]))))
    return "  ".join(texts)


def named(title: Bilingual, name: str) -> str:
    """A title with the name that it stands for."""
    told = both(title)
    return told if not name or told == name else f"{told}（{name}）"
