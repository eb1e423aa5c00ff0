"""`zhiwang policy check` and `diff`: what files would do before anybody signs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.cli import output
from exchange.cli.policy_rights import ASSURANCE_WORDS, MaybeProfile, directory_of, moment, named
from exchange.cli.registrar_link import with_registrar
from policy import assertions, crosscheck, publishing
from policy.differences import Difference, differences
from policy.document import Mistake, parse_document
from policy.lint import lint
from policy.metadata import CENTRE_FILE
from policy.model import Directory
from policy.reach import FOREVER, Change, changes
from policy.rehearse import rehearsed
from policy.words import Words, day_text
from zhiwang.wire.profile import load_profile
from zhiwang.wire.tomlfile import FileError, Finding, as_findings

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
    given = named(files)
    groups = publishing.classify_all(given)
    wrong, strange = _beside(given, groups, profile)
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


def _beside(
    given: Sequence[publishing.Named], groups: dict[str, dict[str, bytes]], profile: Path | None
) -> tuple[list[Finding], list[Finding]]:
    """What is wrong, and what is strange, with these files beside the others."""
    if profile is None and not any(path == CENTRE_FILE for path in groups["centre"]):
        return [], []
    current = None if profile is None else with_registrar(load_profile(profile), lambda link: link.directory())
    directory = rehearsed(current, given)
    now = time.time()
    broken = assertions.failing(directory, now)
    held = set() if current is None else set(assertions.failing(current, now))
    wrong: list[Finding] = []
    strange: list[Finding] = []
    for file in given:
        document = _document(file, groups)
        if document is None:
            continue
        mistakes = crosscheck.check_document(document, directory)
        mistakes += [
            Mistake(("assert", index), f"does not hold: {assertion}")
            for index, assertion in enumerate(document.assertions)
            if (document.department, assertion) in broken
        ]
        wrong += _findings(file, mistakes)
        strange += _findings(file, list(lint(document, directory, now)))
    proposed = set(groups["document"])
    wrong += [
        Finding("", 0, "", f"an assertion of {department} would no longer hold: {assertion}")
        for department, assertion in broken
        if department not in proposed and (department, assertion) not in held
    ]
    return wrong, strange


def _document(file: publishing.Named, groups: dict[str, dict[str, bytes]]) -> Any:
    """The document that a file is; None if it is something else."""
    return parse_document(file.content) if file.content in groups["document"].values() else None


def _findings(file: publishing.Named, mistakes: Sequence[Mistake]) -> list[Finding]:
    return as_findings(file.content, mistakes, name=file.name)


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
    flips = list(changes(before, after, now))
    facts = list(differences(before, after))
    if as_json:
        output.print_json(
            {
                "directory": before.version,
                "changes": [_change_json(change, now, before, after) for change in flips],
                "facts": [fact._asdict() for fact in facts],
            }
        )
    else:
        print_differences(flips, facts, Words(after, before), now)
    if exit_code and (flips or facts):
        raise typer.Exit(output.FAILED)


def print_differences(flips: Sequence[Change], facts: Sequence[Difference], words: Words, now: float) -> None:
    """What changes, as tables: rights in sentences, then every other fact."""
    if flips:
        lost = words.changes((change for change in flips if not change.allowed), now)
        gained = words.changes((change for change in flips if change.allowed), now)
        rows = [("－", f"{sentence.zh}\n{sentence.en}") for sentence in lost]
        rows += [("＋", f"{sentence.zh}\n{sentence.en}") for sentence in gained]
        output.print_table(("", f"权限变化 rights: －{len(lost)} ＋{len(gained)}"), rows)
    else:
        output.say("无人的权限有变化 Nobody's rights change.")
    if facts:
        output.print_table(
            ("其他变化 also", "原 before", "新 after"),
            [(".".join(fact.path), fact.before, fact.after) for fact in facts],
        )


def _change_json(change: Change, now: float, before: Directory, after: Directory) -> dict[str, Any]:
    sentence = Words(after, before).changes([change], now)[0]
    return {
        "allowed": change.allowed,
        "system": change.key.system,
        "home": str(change.home),
        "role": change.key.role,
        "ask": str(change.key.ask),
        "matter": change.key.matter,
        "assurances": [ASSURANCE_WORDS[number] for number in change.assurances],
        "officials": list(change.officials),
        "places": [where.as_json() for where in change.places],
        "from": None if change.span.since <= now else day_text(change.span.since),
        "until": None if change.span.until == FOREVER else day_text(change.span.until),
        "zh": sentence.zh,
        "en": sentence.en,
    }
