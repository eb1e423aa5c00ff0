"""What the adapter's commands print: tables and lines for a person, objects for programs, a bar for what takes long."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from adapters.check import Report
from adapters.collations import PAIRS, Compared
from adapters.drafting import Drafted
from adapters.leakage import Bound
from adapters.mapping import Mapping
from adapters.quality import COUNTS, DataQuality
from audit import retention
from zhiwang.wire.output import PLAIN_WIDTH
from zhiwang.wire.tomlfile import Finding


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


@contextmanager
def long_task(word: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, at a terminal only; told how much is done, and of how much."""
    console = Console(stderr=True)
    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(word, total=None)

        def progress(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield progress


def report_as_json(report: Report) -> dict[str, Any]:
    """An inspection as one JSON object."""

    def finding(one: Finding) -> dict[str, Any]:
        return {"file": one.file, "line": one.line, "key": one.key, "message": one.message, "todo": one.todo}

    def bound(one: Bound) -> dict[str, Any]:
        return {
            "attributes": list(one.attributes),
            "bits": round(one.bits, 3),
            "classes": one.classes,
            "per_date": one.per_date,
            "per_window": one.per_window,
        }

    def collation(one: Compared) -> dict[str, Any]:
        return {
            "key": ".".join(map(str, one.key)),
            "column": one.column,
            "collation": one.collation,
            "equates": [pair.english for pair in one.equated],
            "recheck_fooled_by": [pair.english for pair in one.fooled],
            "cannot_hold": [pair.english for pair in one.unheld],
        }

    return {
        "ok": not report.findings,
        "findings": [finding(one) for one in report.findings],
        "warnings": [finding(one) for one in report.warnings],
        "probes": [
            {"attribute": one.attribute, "expected": one.expected, "found": one.found, "passed": one.passed}
            for one in report.probes
        ],
        "bounds": [bound(one) for one in report.bounds],
        "collations": [collation(one) for one in report.collations],
        "statements": report.statements,
        "reads": [{"table": use.table.title, "columns": use.in_order(), "whole": use.whole} for use in report.uses],
    }


def print_findings(report: Report, *, errors: bool = False) -> None:
    """What is wrong and what is doubtful, each with what to do; to standard error if standard output is a script."""
    console = Console(highlight=False, soft_wrap=True, stderr=True) if errors else _console()
    for word, findings in (("错误 error", report.findings), ("警告 warning", report.warnings)):
        for finding in findings:
            console.print(f"{word}  {finding}", markup=False)
            if finding.todo:
                console.print(f"    → {finding.todo}", markup=False)


def print_report(report: Report, mapping: Mapping | None) -> None:
    """An inspection as a person reads it."""
    console = _console()
    print_findings(report)
    if report.collations:
        _print_collations(console, report.collations)
    if report.bounds and mapping is not None:
        table = Table("核验项 attribute", "比特 bits", "类 classes", "条件 holds for")
        for bound in sorted(report.bounds, key=lambda one: -one.bits):
            conditions = ["每个基准日 each reference date"] if bound.per_date else []
            if bound.per_window:
                conditions.append(f"每部门每 {mapping.limits.days} 天 each department in {mapping.limits.days} days")
            table.add_row(" + ".join(bound.attributes), f"{bound.bits:.1f}", str(bound.classes), "; ".join(conditions))
        console.print(table)
    passed = sum(one.passed for one in report.probes)
    console.print(
        f"{len(report.findings)} 处错误 errors, {len(report.warnings)} 处警告 warnings, "
        f"探针 probes {passed}/{len(report.probes)}",
        markup=False,
    )


def _print_collations(console: Console, compared: Sequence[Compared]) -> None:
    """Columns whose collation equates what is not equal, and that the recheck was taken in nowhere."""
    equating = [one for one in compared if one.equated]
    if equating:
        table = Table("列 column", "类型与排序规则 type and collation", "视为相同 takes for the same", "复核 recheck")
        # A column may be compared both as a name and as an attribute's value.
        for one in {(one.column, one.equated, one.fooled): one for one in equating}.values():
            pairs = "; ".join(f"{pair.chinese} {pair.english}" for pair in one.equated)
            verdict = "错误 wrong" if one.fooled else "正确 right"
            table.add_row(*map(Text, (one.column, one.collation, pairs, verdict)))
        console.print(table)
    asked = sum(len(PAIRS) - len(one.unheld) for one in compared)
    right = asked - sum(len(one.fooled) for one in compared)
    console.print(
        f"逐字节复核 bytewise recheck: {right}/{asked} 对正确 pairs right, {len(compared)} 列 columns", markup=False
    )


def quality_as_json(counted: Sequence[DataQuality]) -> list[dict[str, Any]]:
    """Counts as JSON: every one that applies, also those that are 0."""
    return [
        {
            "data": one.data,
            "rows": one.rows,
            "loaded_days": one.loaded_days,
            "stale_attributes": list(one.stale),
            "counts": one.counts,
        }
        for one in counted
    ]


def print_quality(counted: Sequence[DataQuality]) -> None:
    """Counts as a person reads them: those that are not 0."""
    if not counted:
        return
    table = Table("数据集 data set", "问题 what", "行数 rows", "占比 share")
    for one in counted:
        table.add_row(Text(one.data), "全部 all", f"{one.rows:,}", "")
        for word, count in one.counts.items():
            if count:
                table.add_row("", " ".join(COUNTS[word]), f"{count:,}", f"{count / max(one.rows, 1):.2%}")
        if one.loaded_days is not None:
            table.add_row("", f"上次入库距今 {one.loaded_days:g} 天 days since the last load", "", "")
    console = _console()
    console.print(table)
    console.print("仅供本部门使用  For the owner alone: how good data is tells about people, too", markup=False)


def draft_as_json(drafted: Drafted) -> dict[str, Any]:
    """A draft as one JSON object."""
    return {
        "department": drafted.department,
        "files": [str(path) for path in drafted.files],
        "active": drafted.active,
        "data_sets": [
            {
                "name": one.name,
                "table": one.title,
                "kind": one.kind,
                "subject": one.subject,
                "certain": one.certain,
                "joined": one.joined,
                "name_column": one.named,
                "region_column": one.region[0] if one.region else None,
                "candidates": [candidate.name for candidate in one.candidates],
            }
            for one in drafted.sets
        ],
        "without_subject": list(drafted.left),
    }


def print_draft(drafted: Drafted) -> None:
    """A draft as a person reads it: what was found, then what to do next."""
    console = _console()
    headings = ("表 table", "数据集 data set", "主体 subject", "姓名 name", "区划 region", "候选 candidates")
    table = Table(*headings, header_style="bold")
    for one in drafted.sets:
        subject = f"{one.subject} ({one.kind}{'' if one.certain else ' ?'})"
        cells = (one.title, one.name, subject, one.named or "", one.region[0] if one.region else "")
        table.add_row(*map(Text, cells), str(len(one.candidates)))
    if drafted.sets:
        console.print(table)
    if drafted.left:
        console.print(f"无主体列 no subject found in: {', '.join(drafted.left)}", markup=False)
    for path in drafted.files:
        console.print(f"已写 written: {path}", markup=False)
    if drafted.active is None:
        console.print(
            "没有找到主体列  No column looks like a subject's identifier; write a data set into mapping.toml by hand",
            markup=False,
        )
        return
    mapping, document = drafted.files[:2]
    console.print(f"下一步 next: zhiwang adapter check {mapping} {document}", markup=False)


def print_retention(
    years: int, shards: Sequence[retention.Shard], now: float, kept: Sequence[str], *, as_json: bool
) -> None:
    """What has become of the years of a log."""
    if as_json:
        logs = [retention.as_object(one, now, kept) for one in shards]
        sys.stdout.write(json.dumps({"years": years, "logs": logs}, ensure_ascii=False) + "\n")
        return
    console = _console()
    if shards:
        table = Table(*retention.COLUMNS)
        for one in shards:
            table.add_row(*(str(cell) for cell in retention.as_row(one, now, kept)))
        console.print(table)
    console.print(f"保留期 {years} 年 retention of {years} years", markup=False)
