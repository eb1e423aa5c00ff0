"""A report of who asked about somebody, for a person to read and for a program: words, a table, JSON.

It is about a citizen. Everything here is printed where the citizen or the desk asked for it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from exchange.cli.audit_reading import printable
from exchange.cli.page import heading, page, paragraph, table
from exchange.client.report import OwnerReport
from policy.model import Directory, Title
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire import output
from zhiwang.wire.claims import Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason

NOT_TOLD = (
    (
        "这里列出该部门记录中查询过此人的各次查询。",
        "This lists the times at which these departments were asked about the person.",
    ),
    (
        "依法正在办理的案件，其查询可以延期告知，到期自动列出；无论是否有延期，本行文字都一样。",
        (
            "The law allows a query of a running investigation to be told later; it then appears by itself. "
            "This line reads the same whether or not there is one."
        ),
    ),
    (
        "不列出：未被打开即遭拒绝的请求（谁也不知其涉及何人）；已依法抹去或密钥已销毁年份的记录；其他任何人；市以下地点。",
        (
            "Not listed: requests refused before they were opened, of which nobody knows whom they were about; what "
            "was lawfully erased, and years whose key was destroyed; any other person; any place below the city."
        ),
    ),
    (
        "记录部门与枢纽如果串通，可以隐瞒一次查询；单独一方不能。",
        "A department and the hub that collude could hide a query; neither can alone.",
    ),
)
"""What every report says of itself."""

FATES = {
    subject_pb2.FATE_ALLOWED: "准许 allowed",
    subject_pb2.FATE_DENIED: "未获准 denied",
    subject_pb2.FATE_REFUSED: "超次拒绝 refused",
}
LISTINGS = {
    subject_pb2.LISTING_DRAWN: "本部门从自有数据中提取名单 put on a list from its own data",
    subject_pb2.LISTING_INVITED: "列入本部门邀请名单 listed to be invited by the department itself",
    subject_pb2.LISTING_REFERRED: "姓名已转介给 the name was handed to",
}
ASSURANCES = {
    sealed_pb2.ASSURANCE_ASSERTED: "声明 asserted",
    sealed_pb2.ASSURANCE_AUTHENTICATED: "认证 authenticated",
    sealed_pb2.ASSURANCE_CERTIFICATE: "证书 by certificate",
}
"""How well a department knew its official."""
COMPARED = "作为比对对象 compared with"
COLUMNS = ("时间 time", "谁 who", "事项 for what", "查询内容 what", "结果 outcome", "记录号 entry")
WIDTHS = (16, 21, 19, 27, 9, 8)
"""Of the columns of a page, in percent."""


@dataclass(frozen=True, slots=True)
class Titles:
    """What things are called, as the directory says; names stand for what it does not know.

    Attributes:
        departments: By name.
        matters: By name.
        attributes: By owner and name, e.g. "hrss.pension_months".
        counters: Where to ask about an owner's report, by owner.
    """

    departments: Mapping[str, Title] = field(default_factory=dict)
    matters: Mapping[str, Title] = field(default_factory=dict)
    attributes: Mapping[str, Title] = field(default_factory=dict)
    counters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Directory) -> Titles:
        """As one snapshot of the directory says."""
        attributes = [one for document in directory.documents.values() for one in document.attributes.values()]
        return cls(
            {name: info.title for name, info in directory.centre.departments.items()},
            {name: matter.title for name, matter in directory.matters.items()},
            {f"{one.owner}.{one.name}": one.title for one in attributes},
            {one.owner: one.counter for one in attributes if one.reports},
        )


def name_of(titles: Mapping[str, Title], name: str) -> str:
    """Title in Chinese and name; what is not known has its name alone."""
    title = titles.get(name)
    return f"{title.zh} {name}" if title is not None else printable(name)


def asker_of(row: subject_pb2.Lookups, titles: Titles) -> str:
    """Who asked: department, system, official; in which role, and how well the department knew the official."""
    department = (
        name_of(titles.departments, row.department) if row.department else "市内某部门 a department of the city"
    )
    who = " / ".join((department, *(printable(text) for text in (row.system, row.official) if text)))
    how = [printable(row.role)] if row.role else []
    how += [ASSURANCES[row.assurance]] if row.official and row.assurance in ASSURANCES else []
    return f"{who}（{'，'.join(how)}）" if how else who


def period_of(row: subject_pb2.Lookups) -> str:
    """When, and how often if more than once."""
    first, last = (_local(moment.ToSeconds()) for moment in (row.first_time, row.last_time))
    return first if row.entries == 1 else f"{first} 至 to {last}，共 {row.entries} 次 times"


def asked_of(row: subject_pb2.Lookups, titles: Titles) -> list[str]:
    """What was asked, each question in words."""
    if row.read:
        return ["查阅本人被查询记录 who had asked"]
    if row.listing:
        return _listed(row, titles)
    return [_question(one, titles) for one in row.asked]


def _listed(row: subject_pb2.Lookups, titles: Titles) -> list[str]:
    """What the owner itself did with a list in which the person stands."""
    said = [LISTINGS.get(row.listing, "列入名单 put on a list")]
    if row.listing == subject_pb2.LISTING_REFERRED:
        to = name_of(titles.departments, row.handed_to) if row.handed_to else "市内某部门 a department of the city"
        said = [f"{said[0]}: {to}", f"原因 why: {printable(row.why)}"]
    return said


def fate_of(row: subject_pb2.Lookups) -> str:
    """What became of the questions; each by itself where they differ."""
    fates = [FATES.get(one.fate, "") for one in row.asked]
    marks = ["尚未告知 not told yet"] if row.delayed else []
    return "\n".join([*(dict.fromkeys(fates) if len(set(fates)) < 2 else fates), *marks])  # noqa: PLR2004 - alike


def why_of(row: subject_pb2.Lookups, titles: Titles) -> str:
    """For which matter, and the reference of the case."""
    matter = name_of(titles.matters, row.matter) if row.matter else ""
    kind = "例行批量 routine" if row.routine else "本次查询 this request" if row.this_request else ""
    return "\n".join(filter(None, (matter, printable(row.reference), kind)))


def as_object(parts: Sequence[OwnerReport], titles: Titles) -> dict[str, Any]:
    """The report as one JSON value."""
    return {
        "complete": all(part.report is not None for part in parts),
        "owners": [_part(part, titles) for part in parts],
        "notes": [{"zh": zh, "en": en} for zh, en in NOT_TOLD],
    }


def print_parts(parts: Sequence[OwnerReport], titles: Titles) -> None:
    """The report as tables on standard output."""
    for part in parts:
        title = name_of(titles.departments, part.owner)
        if part.report is None:
            output.console().print(f"\n{title}：{missing(part)}", markup=False)
            continue
        output.print_table(COLUMNS, _cells(part.report, titles), title=title)
        for line in _remarks(part.report, titles):
            output.console().print(line, markup=False)
    for zh, en in NOT_TOLD:
        output.console().print(f"{zh}\n  {en}", markup=False)


def as_page(parts: Sequence[OwnerReport], titles: Titles, *, reference: str, made: str) -> str:
    """The report as a printable page.

    Args:
        parts: What each owner told.
        titles: What things are called.
        reference: Of the citizen's request.
        made: When, in words.
    """
    body = [paragraph(f"办理编号 reference: {reference}    出具时间 made: {made}")]
    absent = [name_of(titles.departments, part.owner) for part in parts if part.report is None]
    if absent:
        body.append(paragraph(f"本报告不完整，缺少下列部门 This report is incomplete; it lacks: {'、'.join(absent)}"))
    for part in parts:
        body.append(heading(name_of(titles.departments, part.owner)))
        if part.report is None:
            body.append(paragraph(missing(part)))
            continue
        body.append(table(COLUMNS, _cells(part.report, titles), WIDTHS))
        body += [paragraph(line, note=True) for line in _remarks(part.report, titles)]
    body.append(heading("说明 What this says and what it does not"))
    body += [paragraph(text, note=True) for pair in NOT_TOLD for text in pair]
    return page("本人信息核验查询记录  Who asked about a person", body)


def missing(part: OwnerReport) -> str:
    """Why an owner's part is missing."""
    reason = part.reason or Reason.INTERNAL
    if reason is Reason.NOT_GRANTED:
        return "该部门未向本窗口开放此项查询，请到该部门柜台查询 it has not granted this desk its reports: NOT_GRANTED"
    return f"未能取得，请稍后再试或到该部门柜台查询 missing: {reason.name} {reason.value.zh}"


def _cells(report: subject_pb2.SubjectReport, titles: Titles) -> list[Sequence[object]]:
    return [
        (
            period_of(row),
            asker_of(row, titles),
            why_of(row, titles),
            "\n".join(asked_of(row, titles)),
            fate_of(row),
            "" if row.this_request else f"{row.log_year}/{row.index}" if row.log_year else row.index,
        )
        for row in report.lookups
    ]


def _remarks(report: subject_pb2.SubjectReport, titles: Titles) -> list[str]:
    years = "、".join(map(str, report.years))
    lines = [f"可查年份 years that can be told: {years or '无 none'}"]
    if report.left_out:
        lines.append(f"另有较早的 {report.left_out} 条未列出，请到柜台查询 older ones not shown: {report.left_out}")
    counter = titles.counters.get(report.owner)
    if counter:
        lines.append(f"咨询与更正 to ask and to correct: {counter}")
    return lines


def _question(one: subject_pb2.Asked, titles: Titles) -> str:
    try:
        predicate = str(Predicate.from_number(one.predicate))
    except KeyError:
        predicate = str(one.predicate)
    said = " ".join(filter(None, (printable(one.attribute), predicate, printable(one.cell))))
    title = titles.attributes.get(one.attribute)
    words = f"{title.zh} {said}" if title is not None else said
    return f"{words}（{COMPARED}）" if one.compared else words


def _part(part: OwnerReport, titles: Titles) -> dict[str, Any]:
    if part.report is None:
        return {"owner": part.owner, "reported": False, "reason": (part.reason or Reason.INTERNAL).name}
    return {
        "owner": part.owner,
        "reported": True,
        "time": _utc(part.report.time.ToSeconds()),
        "years": list(part.report.years),
        "counter": titles.counters.get(part.owner, ""),
        "left_out": part.report.left_out,
        "lookups": [_row(row) for row in part.report.lookups],
    }


def _row(row: subject_pb2.Lookups) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "first_time": _utc(row.first_time.ToSeconds()),
        "last_time": _utc(row.last_time.ToSeconds()),
        "entries": row.entries,
        "entry": None if row.this_request else row.index,
        "log_year": row.log_year or None,
        "department": row.department,
        "system": row.system,
        "official": row.official,
        "assurance": sealed_pb2.Assurance.Name(row.assurance).removeprefix("ASSURANCE_") if row.assurance else "",
        "role": row.role,
        "matter": row.matter,
        "reference": row.reference,
        "city": row.city,
        "asked": [
            {
                "attribute": one.attribute,
                "predicate": str(Predicate.from_number(one.predicate)),
                "cell": one.cell,
                "compared": one.compared,
                "fate": subject_pb2.Fate.Name(one.fate).removeprefix("FATE_"),
            }
            for one in row.asked
        ],
    }
    if row.listing:
        facts["listing"] = subject_pb2.Listing.Name(row.listing).removeprefix("LISTING_")
    if row.listing == subject_pb2.LISTING_REFERRED:
        facts |= {"handed_to": row.handed_to, "why": row.why}
    return facts | {name: True for name in ("routine", "read", "this_request", "delayed") if getattr(row, name)}


def _local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, CITY_TIME).strftime("%Y-%m-%d %H:%M")


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
