"""`zhiwang policy proposals`, `approve`, `reject`, `rollback`, `history`: four eyes at two desks.

What is signed is never taken from the registrar's word: an approver drafts nothing and trusts nothing, but signs the
bytes that it has looked at, and they are shown as what they would change.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.auditor import Auditor
from audit.query import Query
from certs.credentials import IdentityFiles
from certs.identity import ROOT_METADATA, Kind
from certs.signing import Signer
from exchange.cli.audit_reading import REGISTRAR, printable, with_auditor
from exchange.cli.policy_rehearsal import facts_json, print_comparison
from exchange.cli.registrar_link import RegistrarLink, with_registrar
from policy import publishing
from policy.comparing import Comparison, compare
from policy.history import History
from policy.metadata import Publication
from policy.model import Directory
from policy.publishing import Named
from policy.rehearse import rehearsed, removed_matters
from zhiwang.audit.v1 import audit_pb2
from zhiwang.policy.v1 import policy_pb2
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.profile import Profile, load_profile

OWN = "the profile's own if left out"
Sign = Annotated[
    list[Path] | None,
    typer.Option(help=f"Identity directory of an admin who signs; {OWN}.", exists=True, file_okay=False),
]
SignOne = Annotated[
    Path | None,
    typer.Option("--sign", help=f"Identity directory of the admin who signs; {OWN}.", exists=True, file_okay=False),
]
Note = Annotated[str, typer.Option(help="Why, in words; stands in the log.")]
Yes = Annotated[bool, typer.Option("--yes", help="Sign without asking; for who has looked at it already.")]
ProposalId = Annotated[str, typer.Argument(metavar="PROPOSAL", help="Its id, as `policy proposals` shows it.")]


def proposals(
    profile: output.Profile,
    proposal: Annotated[str, typer.Argument(metavar="[PROPOSAL]", help="One of them, with what it would change.")] = "",
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Open proposals of your department; or what one of them would change, in sentences.

    Example: zhiwang policy proposals --profile hrss.toml
    """
    found = load_profile(profile)
    if not proposal:
        print_proposals(with_registrar(found, lambda link: link.proposals()), as_json=as_json)
        return
    kept, publication, directory = with_registrar(found, lambda link: _look(link, proposal))
    if as_json:
        output.print_json(
            {
                **_as_json(kept),
                "files": {path: content.decode(errors="replace") for path, content in publication.files.items()},
                "facts": facts_json(_compared(publication, directory)),
            }
        )
        return
    print_proposals([kept], as_json=False)
    _show(publication, directory)


async def _look(link: RegistrarLink, proposal_id: str) -> tuple[policy_pb2.Proposal, Publication, Directory]:
    proposal, publication = await link.proposal(proposal_id)
    return proposal, publication, await link.directory()


def show_change(files: Sequence[Named], directory: Directory) -> None:
    """What files would change, in sentences."""
    print_comparison(compare(directory, rehearsed(directory, files), time.time()))


def _show(publication: Publication, directory: Directory) -> None:
    print_comparison(_compared(publication, directory))


def _compared(publication: Publication, directory: Directory) -> Comparison:
    removed = removed_matters(publication, directory)
    return compare(directory, rehearsed(directory, _files(publication), removed=removed), time.time())


def _files(publication: Publication) -> list[Named]:
    return [Named(path, content) for path, content in publication.files.items()]


def approve(
    proposal: ProposalId,
    profile: output.Profile,
    sign: Sign = None,
    yes: Yes = False,  # noqa: FBT002 # typer's way
    publish: Annotated[bool, typer.Option("--publish", help="And publish it, if that was the last signature.")] = False,  # noqa: FBT002 # the same
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Look at what another admin proposes, sign it, and hand the signature in.

    Example: zhiwang policy approve 3f9c2a1b5d7e8f60 --sign hrss-wu --publish --profile hrss.toml
    """
    found = load_profile(profile)
    signers = signers_of(found, sign or ())
    kept, publication, directory = with_registrar(found, lambda link: _look(link, proposal))
    if not yes:
        print_proposals([kept], as_json=False)
        _show(publication, directory)
        typer.confirm("签署此提案？ Sign this proposal?", abort=True, err=True)
    approved = with_registrar(found, lambda link: _approve(link, kept.id, publication, signers))
    if publish:
        version = with_registrar(found, lambda link: link.publish_proposal(kept.id))
        if as_json:
            output.print_json({**_as_json(approved), "published": version})
        else:
            output.print_table(("role", "version", "directory"), [(approved.role, *version)])
        return
    print_proposals([approved], as_json=as_json)
    if len(approved.approvals) >= approved.threshold:
        output.next_step(f"zhiwang policy publish --proposal {approved.id} --profile {profile}")


async def _approve(
    link: RegistrarLink, proposal_id: str, publication: Publication, signers: Sequence[Signer]
) -> policy_pb2.Proposal:
    """One call for each signature: each is a step of its own in the log."""
    current = await link.current()
    approved = None
    for signer in signers:
        publication = publishing.countersign(publication, current, signer, time.time())
        approved = await link.approve(proposal_id, publication.metadata)
    if approved is None:
        raise RefusedError(Reason.PROPOSAL_UNSIGNED)
    return approved


def reject(
    proposal: ProposalId,
    profile: output.Profile,
    note: Note = "",
) -> None:
    """Take a proposal away.

    Example: zhiwang policy reject 3f9c2a1b5d7e8f60 --note "the basis ends in June" --profile hrss.toml
    """
    with_registrar(load_profile(profile), lambda link: link.reject(proposal, note))
    output.say(f"提案 {proposal} 已撤回 proposal {proposal} is rejected.")


def rollback(
    department: Annotated[str, typer.Argument(help="Whose document.")],
    profile: output.Profile,
    to: Annotated[int, typer.Option(min=1, help="Version of the directory in which it stood; see `policy history`.")],
    sign: Sign = None,
    note: Note = "",
    yes: Yes = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # the same
) -> None:
    """Publish a department's document as it once was, as a new version; with one signature it is a proposal.

    Example: zhiwang policy rollback hrss --to 41 --sign hrss-li --sign hrss-wu --profile hrss.toml
    """
    found = load_profile(profile)
    signers = signers_of(found, sign or ())
    root_json = (found.root / ROOT_METADATA).read_bytes()

    async def old(link: RegistrarLink) -> tuple[bytes, Directory]:
        past = await link.blocking(lambda: History(root_json, link.fetch).directory(to, [department]))
        if department not in past.sources:
            output.usage_error(f"{department} had published nothing in directory {to}")
        return past.sources[department], await link.directory()

    content, directory = with_registrar(found, old)
    files = [Named(f"{department}/document.toml", content)]
    if not yes:
        show_change(files, directory)
        typer.confirm(f"恢复到名录 {to} 中的内容？ Publish it as it was in directory {to}?", abort=True, err=True)
    note = note or f"rollback to directory {to}"
    done = with_registrar(found, lambda link: publish_or_propose(link, files, signers, note))
    if isinstance(done, policy_pb2.Proposal):
        print_proposals([done], as_json=as_json)
        output.next_step(f"another admin: zhiwang policy approve {done.id} --publish --profile …")
    elif as_json:
        output.print_json({"role": department, "version": done[1], "directory": done[0]})
    else:
        output.print_table(("role", "version", "directory"), [(department, done[1], done[0])])


async def publish_or_propose(
    link: RegistrarLink, files: Sequence[Named], signers: Sequence[Signer], note: str
) -> policy_pb2.Proposal | tuple[int, int]:
    """Publish the first of what these files change, or propose it if they are signed by too few.

    Returns:
        The proposal; or the versions of directory and role that are in force.
    """
    drafted, *others = publishing.draft(files, await link.current(), now=time.time())
    publication = publishing.sign_some(drafted, signers)
    if len({signer.public_key_raw for signer in signers} & drafted.keys) < drafted.threshold:
        return await link.propose(publication, note)
    response = await link.publish(publication)
    for other in others:  # standing suspensions, which new admins sign again; else the department lapses
        await link.publish(publishing.sign_some(other, signers))
    return response.directory_version, response.role_version


def history(
    profile: output.Profile,
    department: Annotated[str, typer.Argument(help="Only this one's; what you may see if left out.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Steps at most; 0 for all.")] = 50,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Every step of the policy, newest first: proposed, approved, rejected, published, by whom and why.

    Read from the registrar's log and proved to be in it; the reading is recorded there.

    Example: zhiwang policy history hrss --profile hrss.toml
    """

    async def read(auditor: Auditor) -> list[tuple[int, audit_pb2.Entry]]:
        query = Query(event="policy_step", owner=department)
        return [found async for found in auditor.search(query, limit=limit, proofs=True)]

    found = with_auditor(load_profile(profile), REGISTRAR, "", read)
    if as_json:
        output.print_json([_step_json(index, entry) for index, entry in found])
        return
    output.print_table(
        ("记录 entry", "时间 time", "步骤 step", "role", "version", "directory", "admin", "proposal", "理由 note"),
        [
            (
                index,
                output.local_time(entry.time.seconds),
                _action(entry.policy_step),
                step.role,
                step.role_version,
                step.directory_version or "",
                output.short_identity(step.admin),
                step.proposal_id,
                printable(step.note),
            )
            for index, entry in found
            for step in (entry.policy_step,)
        ],
    )


def _step_json(index: int, entry: audit_pb2.Entry) -> dict[str, Any]:
    step = entry.policy_step
    return {
        "entry": index,
        "time": datetime.fromtimestamp(entry.time.seconds, UTC).isoformat(),
        "step": _action(step),
        "role": step.role,
        "version": step.role_version,
        "directory": step.directory_version,
        "admin": step.admin,
        "proposal": step.proposal_id,
        "content_hash": step.content_hash.hex(),
        "key_ids": list(step.key_ids),
        "note": step.note,
    }


def _action(step: audit_pb2.PolicyStep) -> str:
    return audit_pb2.PolicyAction.Name(step.action).removeprefix("POLICY_ACTION_")


def who_signs(profile: Profile, named: Sequence[Path]) -> list[IdentityFiles]:
    """The admins whose identities lie there; none named, the profile's own, if that is an admin."""
    if named:
        return [IdentityFiles(directory, profile.root) for directory in named]
    own = IdentityFiles(profile.identity, profile.root)
    if own.identity.kind is not Kind.ADMIN:
        output.usage_error(f"say who signs: --sign; the profile's own identity, {own.identity.short}, is no admin")
    return [own]


def signers_of(profile: Profile, named: Sequence[Path]) -> list[Signer]:
    """The same, as what signs."""
    return [files.signer() for files in who_signs(profile, named)]


def print_proposals(found: Sequence[policy_pb2.Proposal], *, as_json: bool) -> None:
    """Proposals as a table, or as JSON."""
    if as_json:
        output.print_json([_as_json(proposal) for proposal in found])
        return
    output.print_table(
        ("提案 proposal", "role", "version", "已签 signed", "需 of", "至 until", "理由 note"),
        [
            (
                proposal.id,
                proposal.role,
                proposal.role_version,
                " ".join(approval.admin for approval in proposal.approvals),
                proposal.threshold,
                output.local_time(proposal.expire_time.seconds),
                printable(proposal.note),
            )
            for proposal in found
        ],
    )


def _as_json(proposal: policy_pb2.Proposal) -> dict[str, Any]:
    return {
        "id": proposal.id,
        "role": proposal.role,
        "version": proposal.role_version,
        "note": proposal.note,
        "approvals": [{"admin": one.admin, "time": one.time.ToDatetime(UTC).isoformat()} for one in proposal.approvals],
        "threshold": proposal.threshold,
        "until": proposal.expire_time.ToDatetime(UTC).isoformat(),
    }
