"""`zhiwang adapter roster`: a list of the department's own people, drawn, recorded, and only then there."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import grpc
import typer

from adapters.installation import adapter_paths
from adapters.kinds import schemes_of
from adapters.known import kept_directory
from adapters.mapping import Roster
from adapters.printing import long_task
from adapters.rosters import REASONS, Drawn, draw, find_roster
from audit.keeping import address_of, at_keeper, prove
from audit.proofs import HeadChecker
from certs.credentials import IdentityFiles
from zhiwang.adapter.v1 import roster_pb2, roster_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import output
from zhiwang.wire.clock import day_of
from zhiwang.wire.identity import Kind
from zhiwang.wire.lists import (
    LEFT_OUT,
    SALT_SIZE,
    ListError,
    ListRecord,
    blocks_of,
    commitment_of,
    new_list,
    read_people,
)
from zhiwang.wire.profile import Profile, load_profile

TIMEOUT = 600.0
"""Seconds in which a list is recorded; 5,000 people take about a tenth of one."""


def roster(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a [roster.NAME] in the adapter's mapping.")],
    profile: Annotated[
        Path,
        typer.Option("--profile", envvar="ZHIWANG_PROFILE", help="profile.toml of the adapter.", dir_okay=False),
    ],
    by: Annotated[
        Path,
        typer.Option("--by", help="Profile of who draws it: a system or admin of the department.", dir_okay=False),
    ],
    official: Annotated[str, typer.Option(help="For whom; never an identifier of a citizen.")],
    reference: Annotated[str, typer.Option(help="Reference of the job, in the matter's pattern.")],
    out: Annotated[Path, typer.Option("--out", metavar="LIST", help="CSV; new, private (0600).")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Draw a list of the department's own people for a matter, for `zhiwang sweep`.

    The SELECT of the mapping is run as of the matter's reference date, and its rows go into a private file whose
    columns the sweep knows. The adapter, which must be running, records who drew which roster for what, and in its
    index each person, before the file takes its name; so everybody on it can be told. Beside it lies LIST.record, by
    which `zhiwang roster invite` knows the list. Rows without a usable identifier, and second rows of a person, are
    left out and named by key in LIST.left-out.csv. A list never replaces another.

    Exit status: 0 if it was drawn, 1 if it was refused or failed, 2 for wrong usage.

    Example: zhiwang adapter roster seniors --profile police/profile.toml --by police-invitations.toml
    --official clerk-17 --reference SI2026-0001 --out seniors.csv
    """
    own, caller = load_profile(profile), load_profile(by)
    mapping = adapter_paths(own).mapping
    mapped = find_roster(mapping, name)
    directory = kept_directory(own)
    scheme = schemes_of(directory).get(mapped.kind)
    if scheme is None:
        output.usage_error(f"the centre knows no kind of subject {mapped.kind}")
    today = day_of(time.time())
    matter = None if directory is None else directory.matters.get(mapped.matter)
    as_of = today if matter is None or matter.reference_date is None else matter.reference_date
    try:
        target = address_of(str(own.state))
    except ValueError as error:
        output.usage_error(str(error))
    try:
        with new_list(out) as new, long_task("行 rows") as progress:
            left = _LeftOut()
            drawn = draw(mapping, name, as_of, scheme, today, new.file, left.add, lambda rows: progress(rows, rows))
            digest, salt = new.digest(), secrets.token_bytes(SALT_SIZE)
            step = audit_pb2.RosterStep(
                action=audit_pb2.ROSTER_ACTION_DRAWN,
                official=official,
                roster=name,
                matter=mapped.matter,
                reference=reference,
                as_of=as_of.isoformat(),
                count=drawn.rows,
                commitment=commitment_of(salt, digest),
            )
            entry = asyncio.run(_record(caller, target, step, mapped, new.path))
            owner = IdentityFiles(caller.identity, caller.root).identity.department
            record = ListRecord(
                owner,
                "DRAWN",
                name,
                mapped.kind,
                mapped.matter,
                reference,
                official,
                step.as_of,
                drawn.rows,
                entry,
                salt.hex(),
            )
            new.record(record, digest)
            new.put_beside(LEFT_OUT, left.content())
    except ListError as error:
        output.usage_error(str(error))
    _tell(out, drawn, record, as_json=as_json)


class _LeftOut:
    """Rows that were left out, by key; kept in memory up to a bound, since a file of them is for a person."""

    MOST = 10_000

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []

    def add(self, key: str, reason: str) -> None:
        """Another one."""
        if len(self._rows) < self.MOST:
            self._rows.append(("" if reason == "KEY_INVALID" else key, reason))

    def content(self) -> bytes | None:
        """The file of them; None if there are none."""
        if not self._rows:
            return None
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("key", "reason"), *self._rows])
        return text.getvalue().encode()


async def _record(caller: Profile, target: str, step: audit_pb2.RosterStep, mapped: Roster, path: Path) -> int:
    files = IdentityFiles(caller.identity, caller.root)

    def parts() -> Iterator[roster_pb2.RecordRosterRequest]:
        yield roster_pb2.RecordRosterRequest(step=step)
        for identifiers in blocks_of(read_people(path)):
            yield roster_pb2.RecordRosterRequest(people=roster_pb2.People(kind=mapped.kind, identifiers=identifiers))

    async def act(channel: grpc.aio.Channel, checker: HeadChecker) -> int:
        await prove(channel, checker)
        response = await roster_pb2_grpc.RosterServiceStub(channel).RecordRoster(parts(), timeout=TIMEOUT)
        return int(response.index)

    return await at_keeper(files, target, Kind.ADAPTER, files.identity.department, act)


def _tell(out: Path, drawn: Drawn, record: ListRecord, *, as_json: bool) -> None:
    left = sum(drawn.left_out.values())
    if as_json:
        facts = {"list": str(out), "people": drawn.rows, "left_out": dict(sorted(drawn.left_out.items()))}
        sys.stdout.write(json.dumps(facts | {"as_of": record.as_of, "entry": record.entry}, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(
        f"已提取 {drawn.rows} 人，记录号 {record.entry}  {drawn.rows} people as of {record.as_of}: {out}\n"
    )
    if left:
        sys.stderr.write(f"略去 {left} 行  {left} rows were left out: {out.name}{LEFT_OUT}\n")
        for reason, count in sorted(drawn.left_out.items()):
            sys.stderr.write(f"  {count} {reason} {REASONS[reason]}\n")
