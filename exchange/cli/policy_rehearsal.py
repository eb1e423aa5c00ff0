"""`zhiwang policy check` and `diff`: what files would do before anybody signs them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.cli.policy_rights import MaybeProfile, day_of, directory_of, moment, named, place_json
from exchange.cli.registrar_link import with_registrar
from policy import checking
from policy.comparing import Comparison, compare
from policy.rehearse import rehearsed
from zhiwang.policy.v1 import rehearsal_pb2
from zhiwang.wire import output
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import FileError

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", exists=True, dir_okay=False)]


def check(
    files: Files,
    profile: MaybeProfile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for what is only strange, too.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Check files without publishing them: every mistake of each, by line and key.

    With a profile also beside the directory in force: names that nobody has, grants that never match, that others
    make redundant or that outlive their legal basis, and the assertions. Without one the files have to be a whole city
    for that: a centre.toml among them. Exit status 1 if something must not be published.

    Example: zhiwang policy check hrss/document.toml --profile hrss-admin.toml
    """
    current = None if profile is None else with_registrar(load_profile(profile), lambda link: link.directory())
    found = checking.check(current, named(files), time.time())
    wrong = [judged.finding for judged in found if judged.wrong]
    strange = [judged.finding for judged in found if not judged.wrong]
    if as_json:
        output.print_json(
            {"wrong": [str(finding) for finding in wrong], "strange": [str(finding) for finding in strange]}
        )
    else:
        if strange:
            output.print_table(("值得一看 worth a look",), [(str(finding),) for finding in strange])
        if not wrong:
            output.say(f"{len(files)} 个文件没有错误 {len(files)} file(s) hold together.")
    if wrong:
        raise FileError(wrong) if not as_json else typer.Exit(output.FAILED)
    if strange and strict:
        raise typer.Exit(output.FAILED)


def diff(
    files: Files,
    profile: MaybeProfile = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Compare with these files; with the directory in force if left out.", exists=True),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit status 1 if anything differs.")] = False,  # noqa: FBT002 # typer's way
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """What files would change, in sentences: what becomes allowed, what becomes denied, and every other fact.

    Exact: a question that no sentence is about is decided as before. From now on; what is past is not looked at.

    Example: zhiwang policy diff hrss/document.toml --profile hrss-admin.toml
    """
    before = directory_of(profile, against or ()) if profile or against else None
    if before is None:
        output.usage_error("name a --profile, for the directory in force, or files to compare with: --against")
    after = rehearsed(before, named(files))
    now = moment(None)
    found = compare(before, after, now)
    if as_json:
        output.print_json(
            {
                "directory": before.version,
                "changes": [_change_json(change) for change in found.changes],
                "facts": facts_json(found),
            }
        )
    else:
        print_comparison(found)
    if exit_code and (found.changes or found.facts):
        raise typer.Exit(output.FAILED)


def print_comparison(found: Comparison) -> None:
    """What changes, as tables: rights in sentences, then every other fact."""
    if found.sentences:
        rows = [("＋" if one.allowed else "－", f"{one.sentence.zh}\n{one.sentence.en}") for one in found.sentences]
        gained = sum(one.allowed for one in found.sentences)
        lost = len(found.sentences) - gained
        output.print_table(("", f"权限变化 rights: －{lost} ＋{gained}"), rows)
    else:
        output.say("无人的权限有变化 Nobody's rights change.")
    if found.facts:
        output.print_table(
            ("其他变化 also", "原 before", "新 after"),
            [(".".join(fact.path), fact.before, fact.after) for fact in found.facts],
        )


def facts_json(found: Comparison) -> list[dict[str, Any]]:
    """Other facts than rights, for machines."""
    return [{"path": list(fact.path), "before": fact.before, "after": fact.after} for fact in found.facts]


def _change_json(change: rehearsal_pb2.RightChange) -> dict[str, Any]:
    return {
        "allowed": change.allowed,
        "system": change.system,
        "home": change.home,
        "role": change.role,
        "ask": change.ask,
        "matter": change.matter,
        "assurances": list(change.assurances),
        "officials": list(change.officials),
        "places": [place_json(place) for place in change.places],
        "from": day_of(change, "since_time"),
        "until": day_of(change, "until_time"),
        "zh": change.sentence.zh,
        "en": change.sentence.en,
    }
