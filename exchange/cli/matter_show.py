"""What `zhiwang matter` prints: a ruling with its reasons, a matter in words, counts. Never who a case is about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from exchange.cli.verify import RULINGS, STATUSES, answer_text
from exchange.client.case import Status
from exchange.matter.counting import MINIMUM, TOTAL, Counts
from exchange.matter.judging import Ruled, Rules, Told
from policy.model import Directory, Matter
from policy.points import Score
from zhiwang.wire import output
from zhiwang.wire.errors import Reason

SUPPRESSED: Final = "·"
"""Stands for a count that is not shown, whether it is small or hides one that is."""


def ruled_object(rules: Rules, ruled: Ruled, told: Sequence[Told]) -> dict[str, Any]:
    """A ruling as one JSON object; its keys are a contract."""
    return {
        "matter": rules.matter.name,
        "ruling": ruled.ruling.name,
        "points": None if ruled.score is None else _score_object(rules, ruled.score, exact=not ruled.reasons),
        "because": [_told_object(rules, one) for one in ruled.reasons],
        "claims": [_told_object(rules, one) for one in told],
    }


def _score_object(rules: Rules, score: Score, *, exact: bool) -> dict[str, Any]:
    points = rules.matter.points
    titles = [] if points is None else [points.classes[one].title for one in score.classes]
    return {
        "points": score.least if exact else None,
        "least": score.least,
        "most": score.most,
        "classes": [{"zh": one.zh, "en": one.en} for one in titles],
        "counts": score.ordinal,
        "number": {"least": score.number.least, "most": score.number.most},
    }


def _told_object(rules: Rules, one: Told) -> dict[str, Any]:
    return {
        "name": one.name,
        "claim": _claim(rules, one),
        "ordinals": dict(one.ordinals),
        "status": one.status.name,
        "answer": one.answer.name if one.status is Status.ANSWERED else "",
        "reason": one.reason,
        "data_as_of": datetime.fromtimestamp(one.as_of, UTC).isoformat() if one.as_of else None,
        "counter": one.counter,
    }


def _claim(rules: Rules, one: Told) -> str:
    points = rules.matter.points
    if points is not None and one.cell is not None:
        return str(rules.claim_at(points, one.cell))
    return str(rules.matter.claims[one.name])


def print_ruled(rules: Rules, ruled: Ruled, told: Sequence[Told], directory: Directory) -> None:
    """A ruling for people: what stands in the way first, then all that was asked."""
    columns = ("名称 name", "待核事实 claim", "结果 answer", "数据截至 data as of", "说明 note")
    if ruled.reasons:
        output.print_table(columns, [_line(rules, one) for one in ruled.reasons], title="原因 because")
    rest = [one for one in told if one not in ruled.reasons]
    output.print_table(columns, [_line(rules, one) for one in rest], title="其余 the rest")
    output.console().print(f"事项规则 rule: {RULINGS[ruled.ruling]}", markup=False)
    if ruled.score is not None:
        for line in _points_lines(rules, ruled, ruled.score, directory):
            output.console().print(line, markup=False)


def _line(rules: Rules, one: Told) -> tuple[str, ...]:
    claim = _claim(rules, one)
    said = answer_text(claim, one.answer) if one.status is Status.ANSWERED else STATUSES[one.status]
    reason = Reason.__members__.get(one.reason)
    note = [f"{reason.value.zh} {reason.name}"] if reason is not None else []
    note += [f"异议窗口 counter: {one.counter}"] if one.counter else []
    as_of = output.local_time(one.as_of) if one.as_of else ""
    return one.which(rules.matter), claim, said, as_of, "; ".join(note)


def _points_lines(rules: Rules, ruled: Ruled, score: Score, directory: Directory) -> list[str]:
    points = rules.matter.points
    if points is None:
        return []
    exact = not ruled.reasons and score.least == score.most
    lines = [
        f"积分 points: {score.least}"
        if exact
        else f"积分尚不能确定，可能为 points remain open: {score.least}–{score.most}"
    ]
    titles = [points.classes[one].title for one in score.classes]
    lines += [f"    类别 class: {one.zh} {one.en}" for one in titles]
    number = score.number.least if score.number.exact else f"{score.number.least}–{score.number.most}"
    who = "" if score.ordinal is None else f" ({points.slot} #{score.ordinal + 1})"
    lines.append(f"    {points.each}: {number}{who}")
    return [*lines, *_counting(rules.matter, directory)]


def _counting(matter: Matter, directory: Directory) -> list[str]:
    points = matter.points
    if points is None:
        return []
    claim = matter.claims[points.each]
    attribute = directory.attribute(claim.owner, claim.attribute)
    lines = ["计分规则 what counts:", f"    {points.counting.zh}", f"    {points.counting.en}"]
    if attribute is not None:
        lines += [f"    {claim.owner}.{claim.attribute}: {attribute.title.zh} {attribute.title.en}"]
    return lines


def print_matter(matter: Matter, directory: Directory, *, as_json: bool) -> None:
    """A matter in words, or as one JSON object whose keys are a contract."""
    rule, points = matter.rule, matter.points
    if as_json:
        output.print_json(_matter_object(matter))
        return
    output.console().print(f"{matter.title.zh} {matter.title.en} ({matter.name}): {matter.basis}", markup=False)
    day = matter.reference_date.isoformat() if matter.reference_date else "办理当日 the day of asking"
    output.console().print(
        f"基准日 as of {day}; 经办部门 asked by {', '.join(sorted(matter.requesters))}", markup=False
    )
    output.print_table(
        ("主体位置 slot", "类型 kind", "至多 up to"),
        [(one.name, one.kind, one.up_to) for one in matter.slots.values()],
    )
    rows = []
    for name, claim in matter.claims.items():
        attribute = directory.attribute(claim.owner, claim.attribute)
        title = attribute.title if attribute is not None else None
        rows.append((name, claim, f"{title.zh} {title.en}" if title else "", attribute.counter if attribute else ""))
    output.print_table(("名称 name", "待核事实 claim", "问题 question", "窗口 counter"), rows)
    if rule is not None:
        lines: list[tuple[str, str]] = [("须全部成立 all must hold", ", ".join(rule.all))] if rule.all else []
        lines += [
            (f"须由同一 {slot} 全部成立 all by one {slot}", ", ".join(names)) for slot, names in rule.some.items()
        ]
        lines += [(f"{name}: 其一成立 one of", ", ".join(names)) for name, names in rule.any.items()]
        lines += [
            (f"{name}: 同一事实的来源，不得矛盾 sources of one fact, none may deny it", ", ".join(names))
            for name, names in rule.agree.items()
        ]
        output.print_table(("规则 rule", ""), lines)
    if points is not None:
        output.print_table(
            ("类别（取首个符合的） class, the first that fits", "条件 when", "基础分 base"),
            [(f"{one.title.zh} {one.title.en}", ", ".join(one.when), one.base) for one in points.classes],
        )
        output.console().print(
            f"每单位加一分 one more for each unit of {points.each}; 以最高者计 the {points.slot} with the most counts; "
            f"须人人成立 for every {points.slot}: {', '.join(sorted(points.every)) or '-'}",
            markup=False,
        )
        for line in _counting(matter, directory):
            output.console().print(line, markup=False)
    output.console().print("任何结论都不会自动拒绝任何人  No ruling rejects anybody.", markup=False)


def _matter_object(matter: Matter) -> dict[str, Any]:
    rule, points = matter.rule, matter.points
    return {
        "matter": matter.name,
        "title": {"zh": matter.title.zh, "en": matter.title.en},
        "basis": matter.basis,
        "requesters": sorted(matter.requesters),
        "reference_date": matter.reference_date.isoformat() if matter.reference_date else None,
        "slots": {one.name: {"kind": one.kind, "up_to": one.up_to} for one in matter.slots.values()},
        "claims": {name: str(claim) for name, claim in matter.claims.items()},
        "rule": None
        if rule is None
        else {
            "all": rule.all,
            "any": dict(rule.any),
            "agree": dict(rule.agree),
            "some": dict(rule.some),
        },
        "points": None
        if points is None
        else {
            "slot": points.slot,
            "each": points.each,
            "every": sorted(points.every),
            "counting": {"zh": points.counting.zh, "en": points.counting.en},
            "class": [
                {"title": {"zh": one.title.zh, "en": one.title.en}, "when": one.when, "base": one.base}
                for one in points.classes
            ],
        },
    }


def print_counts(counts: Counts, *, as_json: bool) -> None:
    """Counts that may be shown, for people or as one JSON object whose keys are a contract."""
    if as_json:
        output.print_json(
            {
                "minimum": MINIMUM,
                "columns": counts.columns,
                "rows": [
                    {
                        "jurisdiction": row,
                        "counts": {column: counts.cells[row, column] for column in counts.columns},
                        "total": counts.cells[row, TOTAL],
                    }
                    for row in (*counts.rows, TOTAL)
                ],
            }
        )
        return
    columns = (*counts.columns, TOTAL)
    rows = [
        (row or "合计 total", *(_shown(counts.cells[row, column]) for column in columns))
        for row in (*counts.rows, TOTAL)
    ]
    output.print_table(("辖区 jurisdiction", *counts.columns, "合计 total"), rows)
    output.say(
        f"{SUPPRESSED} 小于 {MINIMUM} 或为保护小数而隐去  "
        f"below {MINIMUM}, or suppressed so that none of those follows from the totals"
    )


def _shown(count: int | None) -> str:
    return SUPPRESSED if count is None else f"{count:,}"
