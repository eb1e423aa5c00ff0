"""`zhiwang roster`: what a department does with a list of its own people once a sweep has asked about them."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import secrets
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit.keeping import address_of
from certs.credentials import IdentityFiles
from certs.identity import write_private, write_public
from certs.referrals import make_key, parse_key, private_of, seal, verify_key
from certs.signing import CertificateVerifier
from exchange.active.inviting import passed
from exchange.active.receiving import Opened, opened
from exchange.active.recording import record_referral, record_step
from exchange.cli.audit_reading import printable
from exchange.sweep.rosters import find_roster
from zhiwang.adapter.v1 import roster_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.lists import (
    HEADINGS,
    SALT_SIZE,
    ListError,
    ListRecord,
    commitment_of,
    new_list,
    people_in,
    read_people,
    read_record,
)
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tables import Form, TableError

app = typer.Typer(
    help="主动服务  Active service: invite people of a department's own list, or hand names on.", no_args_is_help=True
)

DRAWN, INVITED = "DRAWN", "INVITED"

List = Annotated[Path, typer.Argument(metavar="LIST", help="As it was drawn or invited.", exists=True, dir_okay=False)]
Adapter = Annotated[
    str, typer.Option("--from", metavar="DIR|ADDRESS", help="State directory or address of the department's adapter.")
]


@app.command()
def invite(
    drawn: List,
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Of `zhiwang sweep` over LIST.", exists=True, dir_okay=False)
    ],
    profile: output.Profile,
    adapter: Adapter,
    out: Annotated[Path, typer.Option("--out", metavar="INVITATIONS", help="CSV; new, private (0600).")],
    official: Annotated[str, typer.Option(help="For whom; who drew the list if left out.")] = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """List those of LIST who passed, for the department's own invitations.

    Whoever has to be checked by hand, or was not asked, is not on it, and nobody is rejected by that. The adapter
    records it, and in its index each person, before the file takes its name. The list holds names as the department's
    own database has them; it is for this department alone. With results of `--changed-since` it lists whom they newly
    pass.

    Exit status: 0 if it was written, 1 if it was refused, 2 for wrong usage.

    Example: zhiwang roster invite seniors.csv results.csv --profile police-invitations.toml --from police/state
    --out invitations.csv
    """
    files = _files(profile)
    rulings: Counter[str] = Counter()
    try:
        record = _recorded(drawn, files, DRAWN)
        found = find_roster(results, Form())
        with new_list(out) as new:
            writer, count = csv.writer(new.file), 0
            writer.writerow(HEADINGS)
            for person in passed(drawn, found, rulings):
                writer.writerow(person)
                count += 1
            digest, salt = new.digest(), secrets.token_bytes(SALT_SIZE)
            step = audit_pb2.RosterStep(
                action=audit_pb2.ROSTER_ACTION_INVITED,
                official=official or record.official,
                roster=record.roster,
                matter=record.matter,
                reference=record.reference,
                as_of=record.as_of,
                count=count,
                commitment=commitment_of(salt, digest),
            )
            entry = asyncio.run(record_step(files, _address(adapter), step, record.kind, read_people(new.path)))
            said = replace(record, action=INVITED, official=step.official, count=count, entry=entry, salt=salt.hex())
            new.record(said, digest)
    except (ListError, TableError) as error:
        output.usage_error(str(error))
    if as_json:
        output.print_json({"list": str(out), "people": count, "rulings": dict(sorted(rulings.items())), "entry": entry})
        return
    others = sum(rulings.values()) - count
    output.say(f"邀请 {count} 人，其余 {others} 行不在其列  {count} people to invite; {others} other rows: {out}")


@app.command()
def refer(
    invited: List,
    profile: output.Profile,
    adapter: Adapter,
    to: Annotated[
        Path,
        typer.Option("--to", metavar="KEY", help="What `zhiwang roster key` of the recipient wrote.", dir_okay=False),
    ],
    official: Annotated[str, typer.Option(help="For whom; never an identifier of a citizen.")],
    reason: Annotated[str, typer.Option(help="Why, in words. Everybody on the list is told.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The sealed file; new.")],
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Hand the names of LIST to another department: a file that only its system can open.

    For admins of the owner. It needs a rule of the owner's own document (`[[refer]]`, signed by two admins) for this
    roster, matter and recipient's role. The adapter checks that, and records it and each person in its index, before
    the file is there; each of them can be told who has their name, since when and why. No name goes through the
    exchange: hand the file over by your own means.

    Exit status: 0 if it was sealed, 1 if it was refused, 2 for wrong usage.

    Example: zhiwang roster refer invitations.csv --profile police-admin.toml --from police/state --to civil.key
    --official clerk-17 --reason "cards are sent by post" --out for-civil.sealed
    """
    files = _files(profile)
    if out.exists():
        output.usage_error(f"{out} is there already; a sealed file never replaces another")
    try:
        record = _recorded(invited, files, DRAWN, INVITED)
        # Read once, so that exactly those are recorded whose names are sealed.
        content = invited.read_bytes()
        statement = parse_key(to.read_bytes())
        now = time.time()
        key = verify_key(statement, CertificateVerifier(files.ca_pem, frozenset), now)
        head = roster_pb2.ReferralHead(
            matter=record.matter,
            reference=record.reference,
            reason=reason,
            count=record.count,
            roster=record.roster,
            official=official,
        )
        head.time.seconds = int(now)
        sealed = seal(key, head, content, files.signer())
        referred = audit_pb2.PeopleReferred(
            official=official,
            roster=record.roster,
            matter=record.matter,
            reference=record.reference,
            reason=reason,
            count=record.count,
            file_hash=hashlib.sha256(sealed).digest(),
        )
        referral = roster_pb2.Referral(referred=referred, key=statement)
        entry = asyncio.run(
            record_referral(files, _address(adapter), referral, record.kind, people_in(content, invited.name))
        )
        write_private(out, sealed)
    except ListError as error:
        output.usage_error(str(error))
    recipient = key.holder.short
    if as_json:
        output.print_json({"file": str(out), "people": record.count, "recipient": recipient, "entry": entry})
        return
    output.say(f"已为 {recipient} 密封 {record.count} 人，记录号 {entry}  Sealed for it, and recorded: {out}")


@app.command()
def key(
    profile: output.Profile,
    private: Annotated[Path, typer.Option("--private", metavar="FILE", help="The private half; new (0600).")],
    out: Annotated[Path, typer.Option("--out", metavar="KEY", help="The signed public half, for the owner; new.")],
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Make the key for which another department seals names for this system. It is good for 31 days.

    Destroy the private half when the file has been opened.

    Example: zhiwang roster key --profile civil-seniors.toml --private civil.private --out civil.key
    """
    files = _files(profile)
    if out.exists():
        output.usage_error(f"{out} is there already; a key never replaces another")
    write_public(out, make_key(private, files.signer(), time.time()))
    if as_json:
        output.print_json({"key": str(out), "holder": files.identity.short})
    else:
        output.say(f"已生成，请将公开的一半交给提供方  Made for {files.identity.short}; give the owner {out}")


@app.command("open")
def open_sealed(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sealed file.", exists=True, dir_okay=False)],
    profile: output.Profile,
    private: Annotated[Path, typer.Option("--private", help="What `zhiwang roster key` wrote.", dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", metavar="LIST", help="CSV; new, private (0600).")],
    again: Annotated[bool, typer.Option("--again", help="Also if this system has opened it before.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Open names that another department handed to this system, and say from whom, for what and why.

    It is checked by the newest directory that the hubs of the profile have, or the last one if it still holds: that the
    sender is an admin of its department and not revoked, that its department's rule hands these names to a role of
    this system, now and when the file was made, that nobody concerned is suspended, and that the file is not older than
    31 days. Without a directory in force nothing is opened. That it was opened is recorded in the state
    (roster/opened.jsonl) before the list takes its name, and the same file is opened a second time only with --again.

    Exit status: 0 if it was opened, 1 if it is another's, was opened before, is not as its sender made it, or its
    sender may not hand it on, 2 for wrong usage.

    Example: zhiwang roster open for-civil.sealed --profile civil-seniors.toml --private civil.private --out names.csv
    """
    loaded = load_profile(profile)

    async def run() -> Opened:
        async with opened(loaded, file.read_bytes(), private_of(private), out, time.time()) as found:
            if found.earlier and not again:
                raise RefusedError(
                    Reason.INTERNAL,
                    f"{file.name} was opened before, last on {output.local_time(found.earlier[-1])}; ask its sender if "
                    "it was handed over twice. With --again it is opened once more, and recorded so",
                )
            with new_list(out) as new:
                new.file.write(found.content.decode())
                found.book.add(found.opening)
            return found

    try:
        found = asyncio.run(run())
    except ListError as error:
        output.usage_error(str(error))
    head, opening = found.head, found.opening
    told = {
        "list": str(out),
        "from": opening.sender,
        "matter": head.matter,
        "reference": head.reference,
        "reason": head.reason,
        "basis": found.rule.basis,
        "people": head.count,
        "time": output.local_time(head.time.seconds),
        "opened_before": len(found.earlier),
    }
    if as_json:
        output.print_json(told)
    else:
        output.print_table(("", ""), [(name, printable(str(value))) for name, value in told.items()])


def _files(profile: Path) -> IdentityFiles:
    loaded = load_profile(profile)
    return IdentityFiles(loaded.identity, loaded.root)


def _address(adapter: str) -> str:
    try:
        return address_of(adapter)
    except ValueError as error:
        output.usage_error(str(error))


def _recorded(path: Path, files: IdentityFiles, *actions: str) -> ListRecord:
    """The record of a list that may be used so, by its own department.

    Raises:
        ListError: It is none.
    """
    record = read_record(path)
    if record.action not in actions:
        raise ListError(f"{path.name} was {record.action.lower()}, not {' or '.join(actions).lower()}")
    if record.owner != files.identity.department:
        raise ListError(f"{path.name} is a list of {record.owner}, and {files.identity.short} is not of it")
    return record
