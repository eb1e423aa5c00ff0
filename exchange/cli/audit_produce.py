"""`zhiwang audit produce` and `zhiwang audit check-bundle`: evidence for a court, and whether it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from audit.asking import words_of
from audit.query import Query
from exchange.cli import audit_selecting as select
from exchange.cli.audit_reading import From, Owner, Shard, bar, printable, with_auditor
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile

if TYPE_CHECKING:
    from audit.auditor import Auditor
    from exchange.evidence.checked import Checked
    from exchange.evidence.producing import Produced

MAX_ENTRIES: Final = 10_000
"""Entries of one bundle."""


def produce(
    profile: output.Profile,
    order: Annotated[str, typer.Option(metavar="NO", help="Number of the court's or office's order.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to make; it must not exist.")],
    index: Annotated[
        list[int] | None, typer.Option("--index", min=0, help="An entry by its index. Several times for several.")
    ] = None,
    receipt: Annotated[
        list[Path] | None,
        typer.Option("--receipt", help="A receipt to put in: its file. Several times.", exists=True, dir_okay=False),
    ] = None,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate",
            metavar="PEM",
            help="A requester's signing certificate, so that its signatures can be checked. Several times.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    crl: Annotated[
        Path | None,
        typer.Option(
            "--crl", help="A newer revocation list than that of the entries' day.", exists=True, dir_okay=False
        ),
    ] = None,
    source: From = "",
    owner: Owner = "",
    shard: Shard = "",
    since: Annotated[str, typer.Option(help="Entries of this time or later: 2026-09-01, or 2026-09-01T08:30.")] = "",
    until: Annotated[str, typer.Option(help="Entries before this time.")] = "",
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
    divisions: select.DivisionsFile = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """出具证据  Put entries into a bundle for a court, with proofs, certificates and policy, in words and as data.

    Entries are chosen by the conditions of a search, or one by one with --index; what you may not read is as if it were
    not there. The log records the production before the bundle is whole. Only you can read the files. Entries of
    several years' logs get a bundle for each year, side by side.

    Exit status: 0 if the bundle is there, 1 if no entry was found or something does not hold, 2 for wrong usage.

    Example: zhiwang audit produce --profile auditor.toml --order A-17 --reference 2026-000123 --out evidence
    """
    # Lazily, so that other commands are quick.
    from exchange.cli.audit_directory import divisions_of, past_reader  # noqa: PLC0415
    from exchange.evidence.producing import Inputs, produce_bundles  # noqa: PLC0415

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
    )
    if (query == Query()) != bool(index):
        output.usage_error("say which entries: conditions as for a search, or --index, and not both")
    if out.exists():
        output.usage_error(f"{out} exists; evidence is never written over anything")
    inputs = Inputs(
        order=order,
        query=query,
        indexes=tuple(sorted(set(index or ()))),
        words=words_of(query) if not index else "index=" + ",".join(map(str, sorted(set(index)))),
        out=out,
        profile=loaded,
        receipts=tuple(receipt or ()),
        certificates=tuple(certificate or ()),
        crl=crl,
        divisions=divisions_of(divisions),
        limit=MAX_ENTRIES,
    )

    with bar(visible=not as_json) as progress:

        async def act(auditor: Auditor) -> tuple[Produced, ...]:
            async with past_reader(loaded, source, owner) as past:
                return await produce_bundles(auditor, past, inputs, progress)

        made = with_auditor(loaded, source, owner, act, shard=shard)
    if not made:
        output.say("没有符合条件的记录  No entry that you may read fits.")
        raise typer.Exit(output.FAILED)
    facts = [
        {
            "out": str(one.out),
            "log": one.evidence.checkpoint.origin,
            "entries": len(one.evidence.entries),
            "size": one.evidence.checkpoint.size,
            "cosigned": one.cosigned,
            "production_index": one.index,
            "manifest_sha256": one.manifest_hash.hex(),
        }
        for one in made
    ]
    if as_json:
        output.print_json(facts[0] if len(facts) == 1 else {"out": str(out), "bundles": facts})
        return
    for fact in facts:
        output.print_table(
            ("", ""),
            [
                ("目录 directory", fact["out"]),
                ("日志 log", fact["log"]),
                ("记录 entries", fact["entries"]),
                ("检查点 checkpoint", f"{fact['size']} 条 entries" + ("，已见证 cosigned" if fact["cosigned"] else "")),
                ("出具记录 recorded as", f"#{fact['production_index']}"),
                ("清单散列 SHA-256 of the manifest", fact["manifest_sha256"]),
            ],
        )
    output.next_step(f"zhiwang audit check-bundle {out} --root {loaded.root}")


def check_bundle(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The bundle.", exists=True, file_okay=False)],
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the pinned roots.", exists=True, file_okay=False)
    ],
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Check a bundle of evidence offline, with nothing but the pinned roots: every file, proof and signature in it.

    Of a directory with a bundle for each year all are checked, and that none is missing.

    Exit status: 0 if all of it holds, 1 if not.

    Example: zhiwang audit check-bundle evidence --root root
    """
    from exchange.evidence.parts import check_bundles  # noqa: PLC0415  lazily, so that other commands are quick

    checked = check_bundles(directory, root)
    holds = not any(found.faults for found in checked.values())
    if as_json:
        told = [{"bundle": name, **_facts(found)} for name, found in checked.items()]
        output.print_json(_facts(checked[""]) if "" in checked else {"valid": holds, "bundles": told})
    else:
        for name, found in checked.items():
            _tell(directory / name, found)
        if holds:
            output.say("核验无误。The bundle holds." if "" in checked else "核验无误。The bundles hold.")
    raise typer.Exit(output.OK if holds else output.FAILED)


def _facts(found: Checked) -> dict[str, Any]:
    return {
        "valid": not found.faults,
        "log": found.origin,
        "order": found.order,
        "entries": found.entries,
        "production_index": found.production_index,
        "signatures_checked": found.signatures,
        "witnesses": list(found.witnesses),
        "faults": [{"file": fault.file, "message": fault.message} for fault in found.faults],
        "notes": list(found.notes),
    }


def _tell(directory: Path, found: Checked) -> None:
    for fault in found.faults:
        output.say(f"不符 {printable(f'{fault.file}: {fault.message}')}")
    for note in found.notes:
        output.say(f"提示 note: {printable(note)}")
    output.print_table(
        ("", ""),
        [
            ("目录 directory", printable(str(directory))),
            ("日志 log", printable(found.origin)),
            ("文书编号 order", printable(found.order)),
            ("记录 entries", found.entries),
            ("请求方签名 signatures of requesters checked", found.signatures),
            ("见证 witnesses", ", ".join(map(printable, found.witnesses)) or "无 none"),
            ("不符 faults", len(found.faults)),
        ],
    )
