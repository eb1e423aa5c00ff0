"""`zhiwang audit hold`: keep entries from being erased or dropped, until a date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.asking import words_of
from audit.holds import Hold
from exchange.cli import audit_selecting as select
from exchange.cli.audit_reading import From, Owner, printable, with_auditor
from zhiwang.wire import output
from zhiwang.wire.clock import start_of_day, timestamp_text
from zhiwang.wire.identity import Identity
from zhiwang.wire.profile import load_profile

Order = Annotated[str, typer.Option(metavar="NO", help="Number of the court's or office's order.")]

app = typer.Typer(invoke_without_command=True)


@app.callback()
def hold(
    context: typer.Context,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile", envvar="ZHIWANG_PROFILE", help="Profile: who I am and whom I talk to.", dir_okay=False
        ),
    ] = None,
    order: Order = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day on which it holds, e.g. 2027-06-30.")] = "",
    source: From = "",
    owner: Owner = "",
    since: Annotated[str, typer.Option(help="Entries of this time or later: 2026-09-01, or 2026-09-01T08:30.")] = "",
    before: Annotated[str, typer.Option(help="Entries before this time.")] = "",
    event: select.Event = "",
    department: select.Department = "",
    system: select.System = "",
    official: select.Official = "",
    role: select.Role = "",
    matter: select.Matter = "",
    reference: select.Reference = "",
    place: select.Place = "",
    asked: select.Asked = "",
    attribute: select.Attribute = "",
    outcome: select.Outcome = "",
    reason: select.Reason = "",
    directory: select.Directory = 0,
    header: select.Header = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """保全  Keep entries from being erased or dropped until a date, by the number of an order. It ends by itself.

    Without conditions it holds all that you may read of the log. Once more with the same conditions and a later date
    renews it. The hold is recorded in the log, and nothing but the log says what is held.

    Example: zhiwang audit hold --profile auditor.toml --order "(2026)粤民初12号" --until 2027-06-30 --matter points
    """
    if context.invoked_subcommand is not None:
        return
    if profile is None or not order or not until:
        output.usage_error("a hold needs --profile, --order and --until; see also: zhiwang audit hold list, lift")
    loaded = load_profile(profile)
    query = select.selected(
        loaded,
        since=since,
        until=before,
        event=event,
        department=department,
        system=system,
        official=official,
        role=role,
        matter=matter,
        reference=reference,
        place=place,
        asked=asked,
        attribute=attribute,
        outcome=outcome,
        reason=reason,
        directory=directory,
        header=header,
    )
    end = _end_of(until)
    placed, index = with_auditor(loaded, source, owner, lambda auditor: auditor.evidence.place(order, end, query))
    if as_json:
        output.print_json({**as_object(placed), "index": index})
        return
    output.print_table(("", ""), [*_rows(placed), ("记录 entry", index)])
    output.say("已保全，并已记入日志。It holds, and the log says so.")


@app.command("list")
def list_command(
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """List the holds in force: all of them for who may read the whole log, your department's own for others.

    Example: zhiwang audit hold list --profile auditor.toml
    """
    held = with_auditor(load_profile(profile), source, owner, lambda auditor: auditor.evidence.holds())
    if as_json:
        output.print_json([as_object(one) for one in held])
        return
    if held:
        output.print_table(
            ("文书编号 order", "部门 department", "至 until", "自 since", "范围 entries"),
            [
                (
                    printable(one.order),
                    one.department,
                    timestamp_text(one.until),
                    timestamp_text(one.placed),
                    words_of_hold(one),
                )
                for one in held
            ],
        )
    output.say(f"{len(held)} 项保全 holds in force")


@app.command("lift")
def lift_command(
    profile: output.Profile,
    order: Order,
    department: Annotated[
        str, typer.Option(help="Whose hold it is, for an audit office; else your own department's.")
    ] = "",
    source: From = "",
    owner: Owner = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """End a hold before its date. The department that placed it may, and an audit office.

    Example: zhiwang audit hold lift --profile auditor.toml --order "(2026)粤民初12号"
    """
    loaded = load_profile(profile)
    index = with_auditor(loaded, source, owner, lambda auditor: auditor.evidence.lift(order, department))
    if as_json:
        output.print_json({"order": order, "index": index})
        return
    output.say(f"已解除，并已记入日志第 {index} 条。It is lifted, and entry {index} of the log says so.")


def as_object(held: Hold) -> dict[str, Any]:
    """A hold as one JSON object."""
    return {
        "order": held.order,
        "department": held.department,
        "placed_by": held.placed_by,
        "placed_time": datetime.fromtimestamp(held.placed, UTC).isoformat(),
        "until_time": datetime.fromtimestamp(held.until, UTC).isoformat(),
        "conditions": words_of(held.query),
        "scope": {"department": held.scope.department, "place": held.scope.place},
    }


def words_of_hold(held: Hold) -> str:
    """Which entries a hold holds, in words."""
    said = words_of(held.query)
    if not held.scope.everything:
        seen = [held.scope.department, held.scope.place]
        said += f" (of what {' or '.join(filter(None, seen))} may see)"
    return printable(said)


def _rows(held: Hold) -> list[tuple[str, str]]:
    return [
        ("文书编号 order", printable(held.order)),
        ("至 until", timestamp_text(held.until)),
        ("自 since", timestamp_text(held.placed)),
        ("范围 entries", words_of_hold(held)),
        ("由 placed by", Identity.parse(held.placed_by).short),
    ]


def _end_of(text: str) -> float:
    """The first second after a day of the city."""
    try:
        return start_of_day(date.fromisoformat(text) + timedelta(days=1))
    except (ValueError, OverflowError):
        output.usage_error("--until is a day: 2027-06-30")
