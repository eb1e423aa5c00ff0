"""Signing while the registrar cannot be reached: out of the directory that this host keeps, into a file.

For the machine of an adapter, with the adapter's profile; what is signed is what would be published. `zhiwang adapter
load` takes it in there, and `zhiwang policy publish` publishes the same file later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

import typer

from certs.identity import CA_CERTIFICATE, ROOT_METADATA
from certs.signing import Signer
from policy import publishing
from policy.beside import LocalPolicy
from policy.kept import has_kept, load_kept
from policy.metadata import CENTRE, Publication, document_path, stored_path
from policy.model import Directory
from policy.publishing import Current, Named
from policy.signed_file import is_publication, parse_publication, publication_bytes
from zhiwang.wire import output
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.kept import PUBLIC, replace_durably
from zhiwang.wire.profile import Profile

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        dir_okay=False,
        help="Sign what would be published by the directory that this adapter's host keeps, into a file, and send "
        "nothing: for `zhiwang adapter load`, while hub and registrar cannot be reached.",
    ),
]


class Offline(NamedTuple):
    """What this host decides by.

    Attributes:
        current: For drafting.
        directory: As it is decided by here, with what stands beside it.
    """

    current: Current
    directory: Directory


def read_offline(profile: Profile, department: str) -> Offline:
    """The directory that this host keeps, and the department's document that stands beside it.

    Raises:
        FatalError: There is none that still holds. Then the adapter answers nothing.
    """
    place = profile.state / "directory"
    if not has_kept(place):
        raise FatalError(
            Reason.INTERNAL, f"{profile.state} keeps no directory; --out is for an adapter's host, with its profile"
        )
    root_json = (profile.root / ROOT_METADATA).read_bytes()
    kept = load_kept(place, root_json, (profile.root / CA_CERTIFICATE).read_bytes())
    current = publishing.read_current(kept.fetch, root_json, time.time())
    local = LocalPolicy(profile.state / "local", department, None, time.time)
    local.load()
    documents = [one for one in local.standing if one.document is not None]
    newest = max(documents, key=lambda one: one.version, default=None)
    if newest is not None and department in current.roles and newest.version > current.roles[department].version:
        targets = newest.metadata.signed
        path = document_path(department)
        stored = stored_path(path, targets.targets[path].hashes["sha256"])
        current = replace(
            current,
            roles=MappingProxyType({**current.roles, department: targets}),
            fetch=lambda wanted: newest.content if wanted == stored else kept.fetch(wanted),
        )
    return Offline(current, local.over(kept.directory, kept.roles))


class Signed(NamedTuple):
    """What was signed.

    Attributes:
        lacking: How many admins have still to sign it.
    """

    publication: Publication
    lacking: int


def sign_offline(offline: Offline, file: Named, signers: Sequence[Signer]) -> Signed:
    """Sign one file of a department; or what another admin signed before, if it says what its file says.

    Raises:
        RefusedError: No signature counts, or the file does not hold.
        FileError: With every finding.
    """
    handed = parse_publication(file.content) if is_publication(file.content) else None
    files = [file] if handed is None else [Named(path, content) for path, content in handed.files.items()]
    drafts = publishing.draft(files, offline.current, now=time.time())
    if len(drafts) != 1 or drafts[0].role == CENTRE:
        output.usage_error("--out signs one department's document or suspensions")
    publication = handed or publishing.sign_some(drafts[0], signers)
    for signer in signers if handed is not None else ():
        publication = publishing.countersign(publication, offline.current, signer, time.time())
    return Signed(publication, max(0, drafts[0].threshold - publishing.count_signers(publication, drafts[0])))


def write_out(out: Path, signed: Signed) -> None:
    """Write what was signed; it is as public as what is published."""
    replace_durably(out, publication_bytes(signed.publication), mode=PUBLIC)
    if signed.lacking:
        output.next_step(f"another admin: zhiwang policy publish {out} --sign … --out {out} --profile …")
    else:
        output.next_step(f"at each adapter of the department: zhiwang adapter load {out} --profile …")
