"""`zhiwang audit search`: who asked what, by any conditions together."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from audit.auditor import Auditor
from audit.facts import Facts, facts_of_entry
from audit.origins import year_of
from exchange.cli import audit_selecting as select
from exchange.cli.audit_reading import From, Owner, Shard, printable, with_auditor
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile

LIMIT = 50
"""Entries that are shown unless one asks for more."""

COLUMNS = (
    ("记录", "index"),
    ("时间", "time"),
    ("结果", "outcome"),
    ("原因", "reason"),
    ("系统", "system"),
    ("经办人", "official"),
    ("角色", "role"),
    ("事项", "matter"),
    ("编号", "reference"),
    ("辖区", "place"),
    ("核验项", "attributes"),
    ("应急", "emergency"),
)


def search(
    profile: output.Profile,
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    since: Annotated[str, typer.Option(help="At this time or later: 2026-09-01, or 2026-09-01T08:30.")] = "",
    until: Annotated[str, typer.Option(help="Before this time.")] = "",
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
    emergency: select.Emergency = False,  # noqa: FBT002 # typer's way
    limit: Annotated[int, typer.Option(min=0, help="Entries at most; 0 for all.")] = LIMIT,
    proofs: Annotated[bool, typer.Option("--proofs", help="Prove each entry to be in the log.")] = False,  # noqa: FBT002 # typer's way
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a heading.")] = False,  # noqa: FBT002 # the same
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Find entries by any conditions together, newest first. The search is itself recorded in the log.

    You see what your certificate lets you see: what your department asked or was asked, what was asked in your place,
    or, in the audit office, everything. With --json one object a line.

    Example: zhiwang audit search --profile auditor.toml --official clerk-17 --since 2026-09-01 --outcome DENIED
    """
    loaded = load_profile(profile)
    query = select.selected(
        loaded,
        since=since,
        until=until,
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
        emergency=emergency,
    )
    show = _writer(as_csv=as_csv, as_json=as_json)

    async def read(auditor: Auditor) -> None:
        async for index, entry in auditor.search(query, limit=limit, proofs=proofs):
            show.entry(auditor.origin, index, facts_of_entry(entry))

    with_auditor(loaded, source, owner, read, shard=shard)
    show.end()


class _Lines:
    """One JSON object a line, as they come."""

    def entry(self, origin: str, index: int, facts: Facts) -> None:
        """Write one."""
        sys.stdout.write(json.dumps(_as_object(origin, index, facts), ensure_ascii=False) + "\n")

    def end(self) -> None:
        """Nothing is left."""


class _Csv:
    """Comma-separated, as they come. A cell that a spreadsheet would take for a formula is quoted by an apostrophe."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout)
        self._writer.writerow([name for _, name in COLUMNS])

    def entry(self, origin: str, index: int, facts: Facts) -> None:
        """Write one."""
        cells = [str(value) for value in _cells(origin, index, facts)]
        self._writer.writerow([f"'{cell}" if cell[:1] in "=+-@\t" and cell else cell for cell in cells])

    def end(self) -> None:
        """Nothing is left."""


class _Table:
    """A table, once all of them are there."""

    def __init__(self) -> None:
        self._rows: list[Sequence[object]] = []

    def entry(self, origin: str, index: int, facts: Facts) -> None:
        """Keep one."""
        self._rows.append(_cells(origin, index, facts))

    def end(self) -> None:
        """Print it."""
        if self._rows:
            output.print_table([f"{zh} {en}" for zh, en in COLUMNS], self._rows)
        output.say(f"{len(self._rows)} 条记录 entries")


def _writer(*, as_csv: bool, as_json: bool) -> _Lines | _Csv | _Table:
    if as_csv and as_json:
        output.usage_error("choose one of --csv and --json")
    if as_json:
        return _Lines()
    return _Csv() if as_csv else _Table()


def _cells(origin: str, index: int, facts: Facts) -> list[object]:
    """As `COLUMNS` says; what an entry that nobody trusts says is made harmless for a terminal."""
    told = facts.outcome or facts.event
    texts = (
        told,
        facts.reason,
        output.short_identity(facts.system) or facts.system,
        facts.official,
        facts.role,
        facts.matter,
        facts.reference,
        facts.place,
        " ".join(facts.attributes),
        facts.emergency,
    )
    year = year_of(origin)
    return [
        f"{year}/{index}" if year else index,
        output.local_time(facts.time / 1_000_000),
        *(printable(text) for text in texts),
    ]


def _as_object(origin: str, index: int, facts: Facts) -> dict[str, Any]:
    told = asdict(facts)
    told["time"] = datetime.fromtimestamp(facts.time / 1_000_000, UTC).isoformat()
    return {"origin": origin, "index": index, **{name: value for name, value in told.items() if value}}
