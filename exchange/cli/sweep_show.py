"""What `zhiwang sweep` shows: the mapping, how far it is, and what came of it. Never anything of a row."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from exchange.sweep.cases import CaseReader
from exchange.sweep.ending import Written
from exchange.sweep.journal import State
from exchange.sweep.mapping import RosterColumns
from exchange.sweep.planning import SweepPlan
from exchange.sweep.results import OUTCOMES, meaning
from exchange.sweep.running import Sweep
from policy.model import Matter
from zhiwang.wire import output

LINE_SECONDS: Final = 10.0
"""How often a line is written where there is no terminal."""


def print_mapping(columns: RosterColumns, reader: CaseReader, matter: Matter, *, guessed: bool) -> None:
    """Which column is what, as the mapping file would say it."""
    output.say("推测的列对应 guessed columns:" if guessed else "列对应 columns:")
    for line in columns.as_toml().splitlines():
        output.say(f"    {line}")
    output.say(f"    # {reader.all.bit_count()} 项待核事实 claims about each row")
    asked = {slot for one in reader.templates for slot in (one.claim.slot, one.claim.compared_slot)}
    missing = [slot for slot in matter.slots if slot in asked and slot not in {one.slot for one in columns.subject}]
    if missing:
        output.say(f"没有对应列的主体位置 slots without a column, about which nothing is known: {', '.join(missing)}")


class Screen:
    """How far a sweep is: a bar on a terminal, a line now and then where there is none."""

    def __init__(self) -> None:
        shown = output.error_console()
        self._bar = shown.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            console=shown,
            disable=not self._bar,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._began = time.monotonic()
        self._said = self._began

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, run: Sweep) -> None:
        """The tally as it is."""
        now = time.monotonic()
        total = sum(run.tally.values())
        settled = total - run.tally[State.OPEN]
        if self._bar:
            # In lines that leave room for the bar on a terminal of eighty columns.
            text = "\n".join(self._texts(run, now))
            self._progress.update(self._task, description=text, completed=settled, total=total)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            output.say("  ".join(self._texts(run, now)))

    def _texts(self, run: Sweep, now: float) -> tuple[str, str, str]:
        tally = run.tally
        total = sum(tally.values())
        rate = run.settled / max(now - self._began, 0.001)
        left = "?" if not run.settled else _hours(tally[State.OPEN] / rate)
        return (
            f"{total - tally[State.OPEN]:,}/{total:,} 行 rows  {rate:,.0f}/s  剩余 left {left}",
            f"答复 ANSWERED {tally[State.ANSWERED]:,}  未获准 DENIED {tally[State.DENIED]:,}",
            f"暂不可用 UNAVAILABLE {run.waiting:,}  不能核验 NOT_ASKED {tally[State.REFUSED]:,}",
        )


def summary(out: Path, written: Written, settled: int, seconds: float) -> dict[str, Any]:
    """What `--json` prints; its keys are a contract."""
    told: dict[str, Any] = {
        "results": str(out),
        "rows": sum(written.outcomes.values()),
        "outcomes": {name: written.outcomes[name] for name in OUTCOMES},
        "rulings": dict(sorted(written.rulings.items())),
        "reasons": dict(sorted(written.reasons.items())),
        "settled_now": settled,
        "seconds": round(seconds, 3),
        "rows_per_second": round(settled / max(seconds, 0.001), 1),
    }
    if written.changed is not None:
        told |= {"changed": written.changed, "gone": written.gone}
    return told


def print_summary(written: Written, told: dict[str, Any]) -> None:
    """What came of it, for people."""
    rows: list[tuple[object, ...]] = [(name, count, "") for name, count in told["outcomes"].items()]
    rows += [(f"rule {name}", count, "") for name, count in told["rulings"].items()]
    rows += [(name, count, meaning(name)) for name, count in told["reasons"].items()]
    if written.changed is not None:
        rows += [("变化 changed", written.changed, ""), ("不再在册 gone", written.gone, "")]
    if "receipts_kept" in told:
        rows.append(("留存凭证 receipts kept", told["receipts_kept"], ""))
    output.print_table(("结果 outcome", "行 rows", "说明 words"), rows)
    output.say(
        f"{told['results']}: {told['settled_now']:,} 行 rows, {told['seconds']} s, {told['rows_per_second']:,}/s"
    )


def print_plan(plan: SweepPlan, source: str, *, as_json: bool) -> None:
    """What a sweep would do.

    Args:
        plan: The plan.
        source: Where its rate is from; empty if there is none.
        as_json: As one JSON value; its keys are a contract.
    """
    if as_json:
        output.print_json(
            {
                "rows": plan.rows,
                "not_asked": dict(sorted(plan.not_asked.items())),
                "calls": dict(sorted(plan.calls.items())),
                "answers": dict(sorted(plan.claims.items())),
                "search": None
                if plan.search is None
                else {"owner": plan.search.owner, "rounds": plan.search.rounds, "answers": plan.searched},
                "away": plan.away,
                "denials": [one._asdict() for one in plan.denials],
                "caps": [one._asdict() for one in plan.caps],
                "endings": [one._asdict() for one in plan.endings],
                "seconds": plan.seconds,
                "rate": source,
            }
        )
        return
    rows: list[tuple[object, ...]] = [("行 rows", plan.rows, "")]
    rows += [(f"不能核验 {name}", count, meaning(name)) for name, count in sorted(plan.not_asked.items())]
    for owner, calls in sorted(plan.calls.items()):
        away = "未接入 not attached now" if owner in plan.away else ""
        rows.append((f"部门 owner {owner}", calls, f"请求 requests, {plan.claims[owner]:,} 项 answers  {away}"))
    if plan.search is not None:
        text = f"项 answers more, in {plan.search.rounds} rounds, to search for the numbers that give points"
        rows.append((f"至多另有 at most, of {plan.search.owner}", plan.searched, text))
    rows += [
        (f"将被拒绝 denied {one.owner}", one.rows, f"{one.claim}: {one.reason} {meaning(one.reason)} {one.rules}")
        for one in plan.denials
    ]
    rows += [
        (
            f"超出比对次数 cap of {one.owner}",
            one.subjects,
            (
                f"{one.what}: 同一主体多于 more than {one.cap} for one subject "
                "(默认值，该部门可另定 the default; its own may differ)"
            ),
        )
        for one in plan.caps
    ]
    rows += [(f"到期 runs out {output.local_time(one.time)}", "", f"{one.what}: {one.remedy}") for one in plan.endings]
    if plan.seconds is None:
        rows.append(("用时 time", "", "未知，请用 --rate 指定 unknown; say rows a second with --rate"))
    else:
        rows.append(("用时 time", _hours(plan.seconds), source))
    output.print_table(("计划 plan", "", ""), rows)


def _hours(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
