"""`zhiwang policy`: the root ceremony, publishing documents, and asking why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from certs.credentials import IdentityFiles
from certs.identity import ROOT_METADATA
from certs.signing import Signer
from exchange.cli import (
    policy_emergency,
    policy_explain,
    policy_export,
    policy_offline,
    policy_proposals,
    policy_propose,
    policy_rehearsal,
    policy_replay,
    policy_rights,
    policy_suspend,
)
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy import ceremony, publishing, telling
from policy.emergencies import open_at
from policy.glass import name_of
from policy.metadata import SUSPEND
from policy.model import Attribute, Directory, Document
from policy.registrar import read_public_keys
from policy.words import Words
from zhiwang.wire import output
from zhiwang.wire.profile import Profile, load_profile

app = typer.Typer(
    help="政策：检查、签署、发布文件，解释决定。 Check, sign and publish documents; explain decisions.",
    no_args_is_help=True,
)

Certificates = Annotated[
    list[Path], typer.Option("--admin", help="signing.pem of an admin of the centre.", exists=True, dir_okay=False)
]


@app.command()
def root(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where root keys and root.json will lie.")],
    registrar: Annotated[
        Path, typer.Option(help="registrar.pub, as `zhiwang registrar init` wrote it.", exists=True, dir_okay=False)
    ],
    admin: Certificates,
    keys: Annotated[int, typer.Option(min=1, max=16, help="How many root keys.")] = ceremony.DEFAULT_KEYS,
    threshold: Annotated[
        int, typer.Option(min=1, help="How many must sign a later root.")
    ] = ceremony.DEFAULT_THRESHOLD,
    pin: output.Pin = None,
) -> None:
    """Make the root keys and the root that every installation pins; do it once, on a machine that is offline.

    Example: zhiwang policy root /secure/root --registrar registrar.pub --admin li/signing.pem --admin wang/signing.pem
    """
    path = ceremony.make_root(
        directory,
        registrar=read_public_keys(registrar),
        admins=[publishing.certificate_key(file.read_bytes()) for file in admin],
        keys=keys,
        threshold=threshold,
        now=time.time(),
    )
    if pin is not None:
        output.pin(pin, ROOT_METADATA, path.read_bytes())
    output.print_table(("what", "file"), [("root, to be pinned everywhere", path)])
    output.say(f"Give each of the {keys} root-*.key files into other hands, offline.")
    output.next_step(f"give {pin or path} to every installation as its root directory, then: zhiwang registrar run")


@app.command("renew-root")
def renew_root(
    current: Annotated[Path, typer.Argument(metavar="ROOT_JSON", exists=True, dir_okay=False)],
    key: Annotated[list[Path], typer.Option(help="A root key; a threshold of them.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Where the next root goes; publish it with `policy publish`.")],
    registrar: Annotated[Path | None, typer.Option(help="registrar.pub, if its keys change.", exists=True)] = None,
    admin: Annotated[
        list[Path] | None, typer.Option(help="signing.pem of every admin of the centre, if they change.", exists=True)
    ] = None,
) -> None:
    """Sign the root after this one: later expiry, other admins of the centre, other keys of the registrar.

    Example: zhiwang policy renew-root root.json --key root-1.key --key root-2.key --out root-2.json
    """
    data = ceremony.next_root(
        current.read_bytes(),
        key_files=key,
        registrar=None if registrar is None else read_public_keys(registrar),
        admins=None if not admin else [publishing.certificate_key(file.read_bytes()) for file in admin],
        now=time.time(),
    )
    out.write_bytes(data)
    output.next_step(f"zhiwang policy publish {out} --profile …, as an admin of the centre")


app.command()(policy_rehearsal.check)
app.command()(policy_rehearsal.diff)
app.command()(policy_replay.replay)
app.command()(policy_propose.propose)
app.command()(policy_export.export)
app.command()(policy_proposals.proposals)
app.command()(policy_proposals.approve)
app.command()(policy_proposals.reject)
app.command()(policy_proposals.rollback)
app.command()(policy_suspend.suspend)
app.command()(policy_suspend.lift)
app.command()(policy_emergency.activate)
app.command()(policy_emergency.emergencies)
app.command()(policy_emergency.review)
app.command()(policy_proposals.history)
app.command()(policy_explain.explain)
app.command("list")(policy_rights.list_attributes)
app.command("who-can")(policy_rights.who_can)
app.command("what-can")(policy_rights.what_can)


@app.command()
def publish(
    profile: output.Profile,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…",
            help="centre.toml, matters, crl.pem, documents, suspensions, root.json, what --out wrote; told apart by "
            "what is in them.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    proposal: Annotated[
        list[str] | None, typer.Option(help="Id of a proposal that has enough signatures, instead of files.")
    ] = None,
    sign: Annotated[
        list[Path] | None, typer.Option(help="Identity directory of an admin who signs.", exists=True, file_okay=False)
    ] = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(help="DEPARTMENT=signing.pem of each admin of a department that is added or changes admins."),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Name of a matter that goes.")] = None,
    out: policy_offline.Out = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Sign files with the keys of the admins at hand and publish them, or publish a proposal. All or nothing for each.

    Example: zhiwang policy publish hrss/document.toml --sign admin-li --sign admin-wang --profile hrss-admin.toml
    """
    found = load_profile(profile)
    if not files and not proposal and not remove:
        output.usage_error("name the files, or with --proposal what was proposed")
    named = [publishing.Named(str(file), file.read_bytes()) for file in files or ()]
    signers = [IdentityFiles(directory, found.root).signer() for directory in sign or ()]
    admins = _admins(admin or ())
    if out is not None:
        _sign_out(found, named, signers, out, as_json=as_json)
        return

    async def send(link: RegistrarLink) -> list[tuple[str, int, int]]:
        rows = await _publish(link, named, signers, admins, remove or ()) if named or remove else []
        return rows + await _publish_proposals(link, proposal or ())

    rows = with_registrar(found, send)
    if as_json:
        output.print_json([{"role": role, "version": version, "directory": new} for role, version, new in rows])
    else:
        output.print_table(("role", "version", "directory"), rows)


@app.command()
def show(
    profile: output.Profile,
    department: Annotated[str, typer.Argument(help="One department's document; all in short if left out.")] = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Show the directory in force, verified from the pinned root on.

    Example: zhiwang policy show hrss --profile admin.toml
    """
    directory = with_registrar(load_profile(profile), lambda link: link.directory())
    if department and department not in directory.documents:
        output.usage_error(f"{department} has published nothing that is in force")
    if as_json:
        output.print_json(_as_json(directory, department))
    elif department:
        _show_document(directory.documents[department], directory)
    else:
        _show_directory(directory)


def _sign_out(
    profile: Profile, named: Sequence[publishing.Named], signers: list[Signer], out: Path, *, as_json: bool
) -> None:
    """Sign one document into a file, while the registrar cannot be reached; or what another admin signed so."""
    handed, files = publishing.split_signed(named)
    departments = [one.role.removesuffix(SUSPEND) for one in handed] + list(publishing.classify_all(files)["document"])
    if len(named) != 1 or len(departments) != 1:
        output.usage_error("--out takes one document; for a suspension: zhiwang policy suspend --out")
    offline = policy_offline.read_offline(profile, departments[0])
    if handed and not as_json:
        said = [publishing.Named(path, content) for path, content in handed[0].files.items()]
        policy_proposals.show_change(said, offline.directory)
    signed = policy_offline.sign_offline(offline, named[0], signers)
    if as_json:
        output.print_json({"role": signed.publication.role, "file": str(out), "lacking": signed.lacking})
    policy_offline.write_out(out, signed)


async def _publish(
    link: RegistrarLink,
    named: Sequence[publishing.Named],
    signers: Sequence[Signer],
    admins: dict[str, list[bytes]],
    removed: Sequence[str],
) -> list[tuple[str, int, int]]:
    signed, files = publishing.split_signed(named)
    current = await link.current()
    drafts = publishing.draft(files, current, now=time.time(), admins=admins, removed=removed)
    # Everything is signed before anything is sent: too few signatures publish nothing at all.
    publications = [*signed, *(publishing.sign(drafted, signers) for drafted in drafts)]
    rows = []
    for publication in publications:
        response = await link.publish(publication)
        rows.append((publication.role, response.role_version, response.directory_version))
    return rows


async def _publish_proposals(link: RegistrarLink, ids: Sequence[str]) -> list[tuple[str, int, int]]:
    return [((await link.proposal(one))[0].role, *await link.publish_proposal(one)) for one in ids]


def _admins(texts: Sequence[str]) -> dict[str, list[bytes]]:
    admins: dict[str, list[bytes]] = {}
    for text in texts:
        department, equals, file = text.partition("=")
        if not equals or not Path(file).is_file():
            output.usage_error(f"--admin is written DEPARTMENT=signing.pem, not {text}")
        admins.setdefault(department, []).append(publishing.certificate_key(Path(file).read_bytes()))
    return admins


def _show_directory(directory: Directory) -> None:
    expires = datetime.fromtimestamp(directory.expires, UTC).isoformat(timespec="seconds")
    rows = [
        (
            name,
            info.title.zh,
            str(info.home),
            len(info.systems),
            *_counts(directory.documents.get(name)),
            directory.lapsed.get(name, ""),
        )
        for name, info in directory.centre.departments.items()
    ]
    columns = ("department", "部门", "home", "systems", "version", "attributes", "grants", "lapsed")
    output.print_table(
        columns, rows, title=f"directory {directory.version} · {directory.centre.city} · until {expires}"
    )
    output.print_table(
        ("matter", "事项", "requesters", "reference date"),
        [
            (matter.name, matter.title.zh, " ".join(sorted(matter.requesters)), matter.reference_date or "today")
            for matter in directory.matters.values()
        ],
    )
    stops = [("centre", deny.id) for deny in directory.centre.denies]
    stops += [(entry.department, entry.id) for entry in directory.suspensions]
    openings = [
        (f"{one.owner}/{one.emergency}", name_of(one), output.local_time(one.until))
        for one in open_at(directory, time.time())
    ]
    if openings:
        output.print_table(("应急授权 emergency, open", "启用 opening", "至 until"), openings)
    if stops:
        output.print_table(("denied by", "id"), stops)


def _counts(document: Document | None) -> tuple[object, object, object]:
    if document is None:
        return "", "", ""
    return document.version, len(document.attributes), len(document.grants)


def _show_document(document: Document, directory: Directory) -> None:
    title = f"{document.department} {document.title.zh} · version {document.version} · directory {directory.version}"
    output.print_table(
        ("attribute", "核验项", "subject", "asked", "sensitivity"),
        [
            (name, attribute.title.zh, attribute.subject, _asked(attribute), attribute.sensitivity)
            for name, attribute in document.attributes.items()
        ],
        title=title,
    )
    words = Words(directory)
    output.print_table(
        ("grant", "说明 in words"),
        [(grant.id, f"{(said := words.grant(grant)).zh}\n{said.en}") for grant in document.grants],
    )
    policy_rights.print_emergencies(list(telling.emergencies(directory, document.department)))
    output.print_table(
        ("system", "roles"), [(system, " ".join(sorted(roles))) for system, roles in document.roles.items()]
    )


def _asked(attribute: Attribute) -> str:
    return "; ".join(
        f"{predicate} {' '.join(attribute.cells(predicate))}".strip() for predicate in sorted(attribute.predicates)
    )


def _as_json(directory: Directory, department: str) -> dict[str, Any]:
    documents = {
        name: {
            "version": document.version,
            "title": {"zh": document.title.zh, "en": document.title.en},
            "systems": {system: sorted(roles) for system, roles in document.roles.items()},
            "attributes": {attribute.name: _asked(attribute) for attribute in document.attributes.values()},
            "grants": [
                {"id": grant.id, "role": grant.role, "ask": str(grant.ask), "matter": grant.matter}
                for grant in document.grants
            ],
            "emergencies": [policy_rights.emergency_json(one) for one in telling.emergencies(directory, name)],
        }
        for name, document in directory.documents.items()
        if department in {"", name}
    }
    return {
        "version": directory.version,
        "expires": datetime.fromtimestamp(directory.expires, UTC).isoformat(timespec="seconds"),
        "roles": dict(directory.role_versions),
        "matters": sorted(directory.matters),
        "documents": documents,
        "open": [
            {
                "emergency": f"{one.owner}/{one.emergency}",
                "opening": name_of(one),
                "since": one.since,
                "until": one.until,
            }
            for one in open_at(directory, time.time())
        ],
        "suspended": [f"{entry.department}/{entry.id}" for entry in directory.suspensions],
        "lapsed": dict(directory.lapsed),
    }
