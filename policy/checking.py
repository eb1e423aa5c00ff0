"""What is wrong with files before anybody signs them, and what is worth a look: by file, line and rule. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from policy import assertions, crosscheck
from policy.centre import parse_matter
from policy.document import Mistake, parse_document
from policy.lint import lint
from policy.matter_lint import lint_matter, lint_published
from policy.metadata import CENTRE_FILE, MATTERS
from policy.model import Directory
from policy.publishing import Named, classify_all
from policy.rehearse import rehearsed
from zhiwang.policy.v1 import rehearsal_pb2
from zhiwang.wire.tomlfile import FileError, Finding, as_findings, parse

_GRANT: Final = re.compile(r"grant\[(\d{1,6})\]")


class Judged(NamedTuple):
    """A finding and how bad it is.

    Attributes:
        wrong: Whether it must not be published; otherwise it is worth a look.
        rule: Id of the grant that it is about; empty if it is about none.
    """

    wrong: bool
    finding: Finding
    rule: str = ""

    def message(self) -> rehearsal_pb2.Finding:
        """For the wire."""
        severity = rehearsal_pb2.Finding.SEVERITY_ERROR if self.wrong else rehearsal_pb2.Finding.SEVERITY_WARNING
        return rehearsal_pb2.Finding(
            severity=severity,
            file=self.finding.file,
            line=self.finding.line,
            key=self.finding.key,
            rule_id=self.rule,
            message=self.finding.message,
            todo=self.finding.todo,
        )


def check(
    current: Directory | None, files: Sequence[Named], now: float, *, removed: Sequence[str] = ()
) -> list[Judged]:
    """Everything that is wrong with files, then everything that is strange.

    Args:
        current: The directory beside which they are looked at. Without one the files have to be a whole city, or only
            each by itself is looked at.
        files: As they would be published.
        now: Seconds since the epoch.
        removed: Names of matters that go.

    Raises:
        RefusedError: METADATA_INVALID: a file stands twice.
    """
    rules = {file.name: _rules(file.content) for file in files}
    try:
        groups = classify_all(files)
        if current is None and CENTRE_FILE not in groups["centre"]:
            return []
        directory = rehearsed(current, files, removed=removed)
    except FileError as error:
        return [*_judged(error.findings, rules, wrong=True)]
    broken = assertions.failing(directory, now)
    held = set() if current is None else set(assertions.failing(current, now))
    wrong: list[Judged] = []
    strange: list[Judged] = []
    documents = set(groups["document"].values())
    matters = {content for path, content in groups["centre"].items() if path.startswith(MATTERS)}
    for file in files:
        if file.content in matters:
            found = as_findings(file.content, list(lint_matter(parse_matter(file.content), directory)), name=file.name)
            strange += _judged(found, rules, wrong=False)
        if file.content not in documents:
            continue
        document = parse_document(file.content)
        mistakes = crosscheck.check_document(document, directory)
        mistakes += [
            Mistake(("assert", index), f"does not hold: {assertion}")
            for index, assertion in enumerate(document.assertions)
            if (document.department, assertion) in broken
        ]
        wrong += _judged(as_findings(file.content, mistakes, name=file.name), rules, wrong=True)
        found = as_findings(
            file.content, [*lint(document, directory, now), *lint_published(document, directory)], name=file.name
        )
        strange += _judged(found, rules, wrong=False)
    wrong += [
        Judged(
            wrong=True,
            finding=Finding("", 0, "", f"an assertion of {department} would no longer hold: {assertion}"),
        )
        for department, assertion in broken
        if department not in groups["document"] and (department, assertion) not in held
    ]
    return [*wrong, *strange]


def _judged(findings: Iterable[Finding], rules: dict[str, list[str]], *, wrong: bool) -> Iterator[Judged]:
    for finding in findings:
        found = _GRANT.match(finding.key)
        ids = rules.get(finding.file, [])
        number = int(found[1]) if found else len(ids)
        yield Judged(wrong, finding, ids[number] if number < len(ids) else "")


def _rules(content: bytes) -> list[str]:
    """Ids of the grants in a file, in its order, as far as it is one."""
    try:
        grants: Any = parse(content).get("grant", [])
    except FileError:
        return []
    if not isinstance(grants, list):
        return []
    return [str(grant.get("id", ""))[:64] if isinstance(grant, dict) else "" for grant in grants]
