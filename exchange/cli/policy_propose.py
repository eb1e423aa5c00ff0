"""`zhiwang policy propose`: a change of one's document, as a file or by flags, signed by the first of two admins."""

from __future__ import annotations

import stat
import time
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from certs.credentials import IdentityFiles
from certs.signing import Signer
from exchange.cli.policy_proposals import Note, Sign, print_proposals, show_change, signers_of
from exchange.cli.policy_rights import named
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy import publishing
from policy.differences import differences
from policy.document import ASSURANCES
from policy.editing import Edit, How, edit, edited, parse_edit
from policy.metadata import document_path
from policy.model import Directory
from policy.publishing import Current, Named
from policy.rehearse import rehearsed
from zhiwang.policy.v1 import policy_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.kept import replace_durably
from zhiwang.wire.places import Level
from zhiwang.wire.profile import Profile, load_profile

_GRANT = "A grant 一项授权"
_KEYS = "Any key of the document 任一键"
_DAY = ["%Y-%m-%d"]


class Base(NamedTuple):
    """What a change starts from.

    Attributes:
        department: Whose document.
        content: Its text.
        version: Of the role's metadata in force; 0 for none. The change is signed as the next one only.
        directory: In force.
    """

    department: str
    content: bytes
    version: int
    directory: Directory


def propose(
    profile: output.Profile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Documents, or the centre's files.", exists=True, dir_okay=False),
    ] = None,
    sign: Sign = None,
    note: Note = "",
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Change this document; the one in force if left out.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Only write the changed document here; sign nothing. Replaces no file but that of --from.",
            dir_okay=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
    grant: Annotated[
        str, typer.Option(metavar="ID", help="Grant, or change the grant of this id.", rich_help_panel=_GRANT)
    ] = "",
    ask: Annotated[
        str | None, typer.Option(help='What: "hrss.pension_months at_least".', rich_help_panel=_GRANT)
    ] = None,
    role: Annotated[str | None, typer.Option(help="Whom: DEPARTMENT/ROLE.", rich_help_panel=_GRANT)] = None,
    matter: Annotated[str | None, typer.Option(help="For which matter.", rich_help_panel=_GRANT)] = None,
    place: Annotated[
        list[str] | None, typer.Option(help="Where: @self, or nbs:440306; repeat for several.", rich_help_panel=_GRANT)
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            help=f"Lowest level of a system that may: {', '.join(one.word for one in Level)}.", rich_help_panel=_GRANT
        ),
    ] = None,
    assurance: Annotated[
        str | None, typer.Option(help=f"Least of the official: {', '.join(ASSURANCES)}.", rich_help_panel=_GRANT)
    ] = None,
    not_before: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First day.", rich_help_panel=_GRANT)
    ] = None,
    not_after: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Day at whose beginning it ends.", rich_help_panel=_GRANT)
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Take a grant away.", rich_help_panel=_GRANT)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="grant.ID.sensitivity=[1, 3], title.en=Labour, …", rich_help_panel=_KEYS
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="To a list: system.counter.roles=clerk", rich_help_panel=_KEYS),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=VALUE]", help="attribute.insured, or system.counter.roles=clerk", rich_help_panel=_KEYS
        ),
    ] = None,
) -> None:
    """Sign a change as the first of two admins and hand it to the registrar, for another to approve.

    Either files as they are, or flags: they change the document in force, or the one that --from names, and leave its
    comments, order and spelling as they are. What would change is shown in sentences before anything is signed; with
    --out nothing is. Keys are those of the file, a grant by its id: grant.ID.not_after, attribute.NAME.at_least,
    system.NAME.roles, emergency.ID.hours, assert, suites, title.zh. A value is TOML; what is none is a text.

    Everything is checked that publishing checks. Suspensions need no second admin: publish them.

    Example: zhiwang policy propose --grant lease --not-after 2028-03-01 --sign hrss-li --profile hrss.toml
    """
    found = load_profile(profile)
    keys: dict[str, Any] = {
        "ask": ask,
        "role": role,
        "matter": matter,
        "place": place and (place[0] if len(place) == 1 else place),
        "level": level,
        "assurance": assurance,
        "not_before": _day(not_before),
        "not_after": _day(not_after),
    }
    edits = _of_grant(grant, {name: value for name, value in keys.items() if value}, revoke or ())
    for how, texts in ((How.SET, set_), (How.ADD, add), (How.REMOVE, remove)):
        edits += [parse_edit(how, text) for text in texts or ()]
    if bool(edits) == bool(files):
        output.usage_error("name files, or say by flags what changes: --grant, --revoke, --set, --add, --remove")
    if not edits and (start or out):
        output.usage_error("--from and --out go with flags; files are proposed as they are")
    if out is not None and out.exists() and (start is None or not out.samefile(start)):
        output.usage_error(f"{out} is there already and is not replaced; name another file, or start --from it")
    if as_json and edits and not yes and out is None:
        output.usage_error("--json asks nothing: give --yes as well")
    signers = signers_of(found, sign or ()) if out is None else []
    if files:
        kept = with_registrar(found, lambda link: _propose(link, named(files), signers, note))
        _print(kept, as_json=as_json)
        return
    base, file = _changed(found, edits, sign[0] if sign else found.identity, start)
    if out is not None:
        _write(out, file.content, replace=start is not None and out.exists())
        if as_json:
            facts = differences(base.directory, rehearsed(base.directory, [file]))
            output.print_json({"file": str(out), "facts": [fact._asdict() for fact in facts]})
        else:
            show_change([file], base.directory)
            output.next_step(f"zhiwang policy propose {out} --profile {profile}")
        return
    if not yes:
        show_change([file], base.directory)
        typer.confirm("签署并提交？ Sign and propose?", abort=True, err=True)
    kept = with_registrar(found, lambda link: _propose(link, [file], signers, note, base))
    _print(kept, as_json=as_json)


def _write(out: Path, content: bytes, *, replace: bool) -> None:
    if replace:
        replace_durably(out, content, mode=stat.S_IMODE(out.stat().st_mode), exactly=True)
        return
    try:
        with out.open("xb") as file:
            file.write(content)
    except FileExistsError:
        output.usage_error(f"{out} came into being meanwhile and is not replaced; name another file")


def _of_grant(name: str, keys: dict[str, Any], revoked: Sequence[str]) -> list[Edit]:
    if keys and not name:
        output.usage_error("say which grant: --grant ID")
    if name and not keys:
        output.usage_error(f"say what changes of grant {name}: --ask, --role, --matter, --place, …")
    granted = [edit(How.SET, ("grant", name, key), value) for key, value in keys.items()]
    return granted + [Edit(How.REMOVE, ("grant", one)) for one in revoked]


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _changed(profile: Profile, edits: Sequence[Edit], identity: Path, start: Path | None) -> tuple[Base, Named]:
    """The document that a change starts from, and the changed one."""
    department = IdentityFiles(identity, profile.root).identity.department
    content = None if start is None else start.read_bytes()
    base = with_registrar(profile, lambda link: _base(link, department, content))
    changed = edited(base.content, edits)
    if changed == base.content:
        output.usage_error("nothing would change")
    return base, Named(document_path(department), changed)


async def _base(link: RegistrarLink, department: str, content: bytes | None) -> Base:
    current = await link.current()
    path = document_path(department)
    role = current.roles.get(department)
    if content is None:
        if role is None or path not in role.targets:
            output.usage_error(f"{department} has published no document; propose a first one as a file")
        if department in current.lapsed:
            output.usage_error(
                f"what {department} has published is no longer signed by its admins: start --from a file"
            )
        content = await link.blocking(lambda: current.content(department, path))
    directory = await link.directory()
    return Base(department, content, _version(current, department), directory)


async def _propose(
    link: RegistrarLink, files: Sequence[Named], signers: Sequence[Signer], note: str, base: Base | None = None
) -> list[policy_pb2.Proposal]:
    current = await link.current()
    if base is not None and _version(current, base.department) != base.version:
        raise RefusedError(
            Reason.METADATA_INVALID,
            f"{base.department} has published another document since this one was read; do it again",
        )
    drafts = publishing.draft(files, current, now=time.time())
    if publishing.classify_all(files)["suspend"]:
        output.usage_error("a suspension needs no second admin: zhiwang policy publish")
    # Suspensions that other admins sign again follow the document: `policy publish`, once it is in force.
    publications = [publishing.sign_some(drafted, signers) for drafted in drafts if drafted.threshold > 1]
    return [await link.propose(publication, note) for publication in publications]


def _version(current: Current, department: str) -> int:
    role = current.roles.get(department)
    return 0 if role is None else role.version


def _print(kept: Sequence[policy_pb2.Proposal], *, as_json: bool) -> None:
    print_proposals(kept, as_json=as_json)
    for proposal in kept:
        output.next_step(f"another admin: zhiwang policy approve {proposal.id} --profile …")
