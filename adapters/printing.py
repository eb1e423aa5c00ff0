"""What the adapter's commands print: tables and lines for a person, objects for programs, a bar for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from adapters.check import Report
from adapters.drafting import Drafted
from adapters.leakage import Bound
from adapters.mapping import Mapping
from zhiwang.wire.tomlfile import Finding

PLAIN_WIDTH = 200
"""Columns when the output is no terminal: wide enough that no line is folded."""


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
        return {"file": one.file, "line": one.line, "key": one.key, "message": one.message}

    def bound(one: Bound) -> dict[str, Any]:
        return {
            "attributes": list(one.attributes),
            "bits": round(one.bits, 3),
            "classes": one.classes,
            "per_date": one.per_date,
            "per_window": one.per_window,
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
        "statements": report.statements,
    }


def print_report(report: Report, mapping: Mapping | None, *, sql: bool) -> None:
    """An inspection as a person reads it."""
    console = _console()
    for finding in report.findings:
        console.print(f"错误 error    {finding}", markup=False)
    for warning in report.warnings:
        console.print(f"警告 warning  {warning}", markup=False)
    if sql:
        for name, statement in report.statements.items():
            console.print(f"\n-- {name}\n{statement};", markup=False)
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
