"""A receipt as a printed page for courts and disputes: who asked whom what, the answers in words, and what that proves.

Made of a receipt that was verified. Titles and counters come from the directory, if one is at hand; they are no part
of the proof, and the page says so. The first page holds everything but what is many; the rest follows on pages behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from exchange.cli.audit_reading import printable
from exchange.cli.page import heading, page, paragraph, table
from exchange.cli.receipt_words import ASSURANCES, said, time_words
from exchange.client.receipt_times import Proved
from exchange.client.receipt_verify import ProvedClaim, ProvedPart
from policy.model import Directory, Title
from zhiwang.wire.claims import Claim
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.output import local_time

CLAIMS_FIRST, LOGS_FIRST = 4, 6
"""Claims, and entries of logs, on the first sheet: as many as one side of A4 holds with everything else."""
CLAIMS_MORE, LOGS_MORE = 16, 24
"""On each sheet behind it."""

SHOWN_BEFORE, SHOWN_BEHIND = 3, 2
"""Characters of a masked identifier that are shown."""

_CLAIMS: Final = (
    ("部门 owner", "待核事实 what was asked", "主体 about whom", "结果 answer", "异议 where to dispute"),
    (15, 33, 22, 15, 15),
)
_LOGS: Final = (
    ("日志 log", "记录号/条数 entry/size", "记录时间 recorded at", "根哈希 root hash", "版本 versions"),
    (20, 12, 16, 37, 15),
)
_ASKED: Final = (("", ""), (16, 84))
"""Headings of the tables, and how wide their columns are."""

_Kind = tuple[Sequence[str], Sequence[int]]

_MEANING: Final = (
    "证明：上列部门在所列时间对所列请求作出所列答复，并已写入只能追加的日志；其后证书到期或吊销，均不改变。",
    "It proves that these departments gave these answers to this request at these times, in logs that can only grow.",
    "不证明：答复属实（只证明该部门如此陈述）；经办人身份（以所注依据为限）；另有何部门被问、作何答复。",
    "It does not prove that an answer is true, only that the owner stated it; nor what other owners were asked.",
    "“无法核实”不得作为拒绝的理由，须人工核验；任何答复都不自动拒绝任何人。对答复有异议的，向所列窗口提出。",
    "UNKNOWN never rejects anybody: a person has to look. No answer rejects by itself. Dispute it where named.",
)
_PARTIAL: Final = (
    "仅出示部分问题，其余本页不能说明 Only some of the claims are shown; of the rest this page says nothing."
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a page is made of.

    Attributes:
        proved: The receipt, verified.
        digest: SHA-256 of the receipt's file.
        root_digest: SHA-256 of the pinned root by which it was verified.
        directory: Titles and counters; None if none is at hand.
        full: Whether identifiers are shown whole.
        now: When it is printed, in seconds since the epoch.
        file: Name of the receipt's file, for the commands.
    """

    proved: Proved
    digest: bytes
    root_digest: bytes
    directory: Directory | None
    full: bool
    now: float
    file: str


def make_page(sheet: Sheet) -> str:
    """The HTML of a receipt."""
    parts = sheet.proved.parts
    claims = [_claim_row(sheet, part, claim) for part in parts for claim in part.claims]
    logs = [row for part in parts for row in _log_rows(part)]
    partial = any(len(part.claims) < len(part.header.claims) for part in parts)
    printed = f"{local_time(sheet.now)} +08:00 打印，打印前已核验 printed, and verified before"
    return page(
        "核验凭证 Verification receipt",
        [
            _note(f"{parts[0].requester.city}，{printed}"),
            heading("谁为何事查询 Who asked, and for what"),
            _table(_ASKED, _asked(sheet)),
            heading("问了什么，如何答复 What was asked, and answered"),
            _table(_CLAIMS, claims[:CLAIMS_FIRST]),
            *_more(claims, CLAIMS_FIRST, "项 claims"),
            *((_note(_PARTIAL),) if partial else ()),
            heading("日志与时间依据 Logs, and whose word for the time"),
            _table(_LOGS, logs[:LOGS_FIRST]),
            *_more(logs, LOGS_FIRST, "条 entries"),
            _note("；".join(time_words(sheet.proved))),
            heading("证明什么，不证明什么 What it proves, and what it does not"),
            *map(_note, _MEANING),
            heading("任何人如何核验 How anybody verifies it"),
            *map(_note, _how(sheet)),
            *_behind(claims[CLAIMS_FIRST:], CLAIMS_MORE, "问了什么，如何答复（续） Claims, continued", _CLAIMS),
            *_behind(logs[LOGS_FIRST:], LOGS_MORE, "日志（续） Logs, continued", _LOGS),
        ],
        dense=True,
    )


def as_object(sheet: Sheet, out: str) -> dict[str, object]:
    """What was printed, as one JSON object."""
    parts = sheet.proved.parts
    return {
        "file": out,
        "claims": sum(len(part.claims) for part in parts),
        "owners": [part.header.owner for part in parts],
        "reference": parts[0].header.reference,
        "sha256": sheet.digest.hex(),
        "titles_of_directory": None if sheet.directory is None else sheet.directory.version,
    }


def _asked(sheet: Sheet) -> list[tuple[str, str]]:
    part = sheet.proved.parts[0]
    header, directory = part.header, sheet.directory
    matter = directory.matters.get(header.matter) if directory else None
    department = directory.centre.departments.get(part.requester.department) if directory else None
    place = f"辖区 place {header.jurisdiction}，基准日 as of {header.reference_date}"
    asker = _titled(department.title if department else None, part.requester.short)
    return [
        ("请求方 asked by", f"{asker}，角色 as {header.role}"),
        ("经办人 official", f"{header.official}（{ASSURANCES.get(header.assurance, '')}）"),
        ("事项 for", _titled(matter.title if matter else None, header.matter)),
        *([("依据 legal basis", matter.basis)] if matter else []),
        ("编号 reference", f"{header.reference}，{place}"),
        ("请求时间 asked at", f"{local_time(header.issue_time)} +08:00"),
    ]


def _claim_row(sheet: Sheet, part: ProvedPart, claim: ProvedClaim) -> tuple[str, ...]:
    owner = part.header.owner
    document = sheet.directory.documents.get(owner) if sheet.directory else None
    attribute = document.attributes.get(_attribute(claim.claim)) if document else None
    about = [_who(claim.kind, claim.identifier, claim.name, full=sheet.full)]
    if claim.compared is not None:
        about.append(f"比对 compared with {_who(*claim.compared, full=sheet.full)}")
    answer = said(claim)
    if claim.data_as_of:
        answer += f"\n数据截至 data as of {local_time(claim.data_as_of)}"
    asked = claim.claim
    if not sheet.full and contains_identifier(asked, grouped=True):
        asked = f"{' '.join(asked.split(' ')[:3])} ***"
    question = _title(attribute.title) if attribute else ""
    counter = attribute.counter if attribute else ""
    return (
        _titled(document.title if document else None, owner),
        "\n".join(filter(None, (question, asked))),
        "\n".join(about),
        answer,
        counter or "见该部门公布 as the owner publishes",
    )


def _attribute(claim: str) -> str:
    try:
        return Claim.parse(claim).attribute
    except RefusedError:
        return ""


def _log_rows(part: ProvedPart) -> list[tuple[str, ...]]:
    owner, hub = part.owner_checkpoint, part.hub_checkpoint
    versions = f"名录 directory {part.directory_version}，文件 document {part.document_version}"
    return [
        (owner.origin, f"#{part.owner_index} / {owner.size}", local_time(part.owner_time), owner.root.hex(), versions),
        (hub.origin, f"#{part.hub_index} / {hub.size}", local_time(part.hub_time), hub.root.hex(), ""),
    ]


def _how(sheet: Sheet) -> list[str]:
    file, directory = sheet.file, sheet.directory
    titles = "未取用名录 no directory was at hand"
    if directory is not None:
        of = f"名录第 {directory.version} 版 of directory {directory.version}"
        titles = f"标题与窗口取自{of}，不属证明内容 titles and counters are no part of the proof"
    return [
        f"凭证 receipt {file}：SHA-256 {sheet.digest.hex()}",
        f"根证书 root ca.pem：SHA-256 {sheet.root_digest.hex()}。{titles}。",
        f"zhiwang receipt verify {file} --root DIR：离线核验，只需根证书 offline, with the pinned root alone.",
        f"zhiwang receipt export {file} --out DIR：得 *.tlog-proof (c2sp.org/tlog-proof)，供他人工具核验 for others.",
    ]


def _table(kind: _Kind, rows: Sequence[tuple[str, ...]]) -> str:
    """A table of texts that came from others: nothing in them that is not seen when it is printed."""
    columns, widths = kind
    return table(columns, [tuple("\n".join(map(printable, cell.split("\n"))) for cell in row) for row in rows], widths)


def _note(text: str) -> str:
    return paragraph(printable(text), note=True)


def _more(rows: Sequence[object], first: int, of: str) -> list[str]:
    rest = len(rows) - first
    return [_note(f"另有 {rest} {of} 见后页 more on the sheets behind")] if rest > 0 else []


def _behind(rows: Sequence[tuple[str, ...]], each: int, title: str, kind: _Kind) -> list[str]:
    """Pages behind the first."""
    parts: list[str] = []
    rest = iter(rows)
    while part := list(islice(rest, each)):
        parts += [heading(title, new_page=True), _table(kind, part)]
    return parts


def _who(kind: str, identifier: str, name: str, *, full: bool) -> str:
    if not identifier:
        return f"{kind}（空 nobody）"
    hidden = len(identifier) - SHOWN_BEFORE - SHOWN_BEHIND
    number = identifier if full else f"{identifier[:SHOWN_BEFORE]}{'*' * hidden}{identifier[-SHOWN_BEHIND:]}"
    if not full and hidden <= SHOWN_BEFORE:
        number = "*" * len(identifier)
    return f"{kind} {number} {name}".rstrip()


def _title(title: Title | None) -> str:
    return "" if title is None else f"{title.zh} {title.en}"


def _titled(title: Title | None, name: str) -> str:
    return name if title is None else f"{_title(title)}（{name}）"
