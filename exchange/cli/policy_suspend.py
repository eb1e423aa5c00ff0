"""`zhiwang policy suspend` and `lift`: one admin stops something at once, two let it go on."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from exchange.cli.policy_offline import Out, read_offline, sign_offline, write_out
from exchange.cli.policy_proposals import Note, Sign, SignOne, print_proposals, publish_or_propose, who_signs
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy import editing, publishing
from policy.metadata import SUSPEND, document_path, suspensions_path
from policy.model import Directory
from policy.publishing import Current, Named
from zhiwang.policy.v1 import policy_pb2
from zhiwang.wire import output
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import load_profile

Department = Annotated[str, typer.Option(help="Whose suspensions; the signing admin's own if left out.")]


def suspend(
    profile: output.Profile,
    sign: SignOne = None,
    system: Annotated[str, typer.Option(help="DEPARTMENT/NAME.")] = "",
    role: Annotated[str, typer.Option(help="DEPARTMENT/ROLE.")] = "",
    official: Annotated[str, typer.Option(help="DEPARTMENT/ID, the id as requests carry it.")] = "",
    attribute: Annotated[str, typer.Option(help='For example "hrss.pension_months".')] = "",
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day at whose beginning it ends.")
    ] = None,
    name: Annotated[str, typer.Option("--id", help="Shows in decisions and logs; made up if left out.")] = "",
    out: Out = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Stop a system, a role, an official or an attribute at once, everywhere; what is given must all match.

    It concerns requests to your department and requests of your department's systems. One admin is enough, since it
    can only deny; lifting it takes two.

    With --out nothing is published: the same signed list goes into a file, for `zhiwang adapter load`.

    Example: zhiwang policy suspend --system edu/baoan --sign hrss-li --profile hrss.toml

    Example: zhiwang policy suspend --system edu/baoan --sign hrss-li --out stop.json --profile adapter.toml
    """
    matched: dict[str, str | date] = {
        key: value
        for key, value in (("system", system), ("role", role), ("official", official), ("attribute", attribute))
        if value
    }
    if not matched:
        output.usage_error("say what: --system, --role, --official or --attribute")
    found = load_profile(profile)
    (files,) = who_signs(found, [sign] if sign else [])
    department = files.identity.department
    entry: dict[str, str | date] = {"id": name or _new_id(), **matched}
    if until is not None:
        entry["not_after"] = until.date()
    if out is not None:
        offline = read_offline(found, department)
        content = editing.suspended(_standing(offline.current, department), department, entry)
        file = Named(suspensions_path(department), content)
        signed = sign_offline(offline, file, [files.signer()])
        if as_json:
            output.print_json({"id": entry["id"], "department": department, "file": str(out)})
        write_out(out, signed)
        return

    async def publish(link: RegistrarLink) -> policy_pb2.PublishResponse:
        current = await link.current()
        standing = await link.blocking(lambda: _standing(current, department))
        content = editing.suspended(standing, department, entry)
        file = Named(suspensions_path(department), content)
        (drafted,) = publishing.draft([file], current, now=time.time())
        return await link.publish(publishing.sign(drafted, [files.signer()]))

    response = with_registrar(found, publish)
    told: dict[str, Any] = {"id": entry["id"], "department": department, "directory": response.directory_version}
    if as_json:
        output.print_json(told)
    else:
        output.print_table(("停权 suspended", "department", "directory"), [tuple(told.values())])
    output.next_step(f"two admins lift it: zhiwang policy lift {entry['id']} --profile …")


def lift(
    suspensions: Annotated[list[str], typer.Argument(metavar="ID…", help="As `policy show` names them.")],
    profile: output.Profile,
    sign: Sign = None,
    note: Note = "",
    out: Out = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Lift suspensions of your department. Two admins sign; with one signature it is a proposal.

    With --out nothing is published: the document that both sign goes into a file, for `zhiwang adapter load`; what one
    has signed, the other signs with `zhiwang policy publish FILE --sign DIR --out FILE`.

    Example: zhiwang policy lift 2026-007 --sign hrss-li --sign hrss-wu --profile hrss.toml
    """
    found = load_profile(profile)
    signers = who_signs(found, sign or ())
    department = signers[0].identity.department
    if out is not None:
        offline = read_offline(found, department)
        _check_standing(suspensions, offline.directory, department)
        path = document_path(department)
        file = Named(path, editing.lifted(_document(offline.current, department), suspensions))
        signed = sign_offline(offline, file, [one.signer() for one in signers])
        if as_json:
            output.print_json({"lifted": suspensions, "file": str(out), "lacking": signed.lacking})
        write_out(out, signed)
        return

    async def send(link: RegistrarLink) -> policy_pb2.Proposal | tuple[int, int]:
        directory = await link.directory()
        _check_standing(suspensions, directory, department)
        current = await link.current()
        document = await link.blocking(lambda: _document(current, department))
        files = [Named(document_path(department), editing.lifted(document, suspensions))]
        return await publish_or_propose(
            link, files, [one.signer() for one in signers], note or f"lift {' '.join(suspensions)}"
        )

    done = with_registrar(found, send)
    if isinstance(done, policy_pb2.Proposal):
        print_proposals([done], as_json=as_json)
        output.next_step(f"another admin: zhiwang policy approve {done.id} --publish --profile …")
    elif as_json:
        output.print_json({"lifted": suspensions, "directory": done[0]})
    else:
        output.print_table(("解除 lifted", "directory"), [(" ".join(suspensions), done[0])])


def _standing(current: Current, department: str) -> bytes | None:
    """The list in force; None for none yet."""
    path, listed = suspensions_path(department), current.roles.get(department + SUSPEND)
    return current.content(department + SUSPEND, path) if listed is not None and path in listed.targets else None


def _document(current: Current, department: str) -> bytes:
    path = document_path(department)
    if department not in current.roles or path not in current.roles[department].targets:
        raise RefusedError(Reason.METADATA_INVALID, f"{department} has published no document")
    return current.content(department, path)


def _check_standing(wanted: list[str], directory: Directory, department: str) -> None:
    standing = {entry.id for entry in directory.suspensions if entry.department == department}
    unknown = [name for name in wanted if name not in standing]
    if unknown:
        output.usage_error(
            f"{department} has no suspension {', '.join(unknown)}; it has: {', '.join(sorted(standing))}"
        )


def _new_id() -> str:
    return f"{datetime.now(UTC).astimezone(CITY_TIME):%Y%m%d}-{secrets.token_hex(3)}"
