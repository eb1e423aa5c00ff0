"""What the directory of an entry's day said: titles, counters, and the grants that let a request through.

`Told` gives it for one entry, and says how far it is proved: of which version it is, whose signatures it carries, and
whether the log itself recorded that version. Where the version is not to be had, names stand for themselves and the
account says why. `read_past` fetches; it blocks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError

from exchange.evidence.plain import printable
from policy.directory import Fetch
from policy.emergencies import RULE
from policy.history import History, PastDirectory
from policy.model import Document
from policy.words import Words
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.identity import Identity
from zhiwang.wire.places import Jurisdiction, Level
from zhiwang.wire.tomllines import key_lines

Access = audit_pb2.HubAccess | audit_pb2.OwnerAccess
Divisions = Callable[[str], str]
"""Gives the name of a division by its code; empty if it has none."""

_LEVELS: Final = {Level.CITY: "市", Level.DISTRICT: "区", Level.STREET: "街道", Level.COMMUNITY: "社区"}


@dataclass(frozen=True, slots=True)
class Past:
    """A version of the directory, or why it is not at hand.

    Attributes:
        directory: Verified; None if it could not be had.
        recorded: Files that prove that the log recorded this version as in force; empty if that was not looked for,
            or the reader may not see it.
        problem: Why there is none, in both languages.
    """

    directory: PastDirectory | None = None
    recorded: dict[str, bytes] = field(default_factory=dict)
    problem: tuple[str, str] = ("", "")


def parties(entry: audit_pb2.Entry) -> tuple[int, set[str], set[str]]:
    """Version of the directory, departments and matters that an access is about; 0 if the entry is none."""
    kind = entry.WhichOneof("event")
    if kind not in {"hub_access", "owner_access"}:
        return 0, set(), set()
    event: Access = getattr(entry, kind)
    try:
        header = sealed_pb2.Header.FromString(event.header)
    except DecodeError:
        return event.directory_version, set(), set()
    departments = {header.owner}
    with suppress(RefusedError):
        departments.add(Identity.parse(header.system).department)
    departments |= {rule.partition("/")[0] for text in event.rule_ids for rule in text.split(",") if "/" in rule}
    return event.directory_version, departments, {header.matter}


def read_past(
    root_json: bytes,
    fetch: Fetch,
    version: int,
    departments: Iterable[str],
    matters: Iterable[str],
    timestamp_hash: bytes = b"",
) -> Past:
    """A version of the directory, or why it is not to be had. Never raises for what a keeper says or lacks.

    Args:
        root_json: The pinned root.
        fetch: Gives files of what was published; not trusted.
        version: Of the directory.
        departments: Whose documents are needed.
        matters: Which are needed.
        timestamp_hash: As the log recorded it when the version came into force; empty if that is not known.
    """
    history = History(root_json, fetch)
    try:
        found = history.directory(version, sorted(departments), sorted(matters))
    except ZhiwangError as error:
        return Past(problem=_problem(error))
    recorded: dict[str, bytes] = {}
    try:
        recorded = history.recorded(version, timestamp_hash) if timestamp_hash else {}
    except ZhiwangError as error:
        # What is not to be had proves nothing. Another directory than the log recorded is a forgery.
        if error.reason is Reason.METADATA_INVALID:
            return Past(problem=_problem(error))
    return Past(found, recorded)


def _problem(error: ZhiwangError) -> tuple[str, str]:
    if error.reason is Reason.FILE_UNKNOWN:
        return (
            "该版名录已不再保存，规则无从取得",
            "this version of the directory is no longer kept, so its rules are gone",
        )
    if error.reason in {Reason.METADATA_INVALID, Reason.DOCUMENT_INVALID}:
        detail = printable(error.detail or "")
        return (f"该版名录未通过核验：{detail}", f"this version of the directory does not verify: {detail}")
    return (
        f"无法取得该版名录：{error.reason.value.zh}",
        f"this version of the directory cannot be had at the moment: {error.reason.name}",
    )


class Told:
    """What the directory of an entry's day says about it.

    Args:
        past: That directory.
        divisions: Names of divisions, which no directory has.
    """

    def __init__(self, past: Past, divisions: Divisions = lambda _code: "") -> None:
        self._past = past
        self._divisions = divisions
        directory = past.directory
        self._words = Words(*([directory] if directory is not None else []), name=self._name)
        self._lines = {owner: _grant_lines(source) for owner, source in getattr(directory, "sources", {}).items()}

    def department(self, name: str) -> dict[str, str]:
        """A department's title."""
        return _pair(*map(printable, self._words.department(name)))

    def matter(self, name: str) -> dict[str, Any]:
        """Title and legal basis of a matter."""
        matter = None if self._past.directory is None else self._past.directory.matters.get(name)
        if matter is None:
            return {"title": _pair(printable(name), printable(name)), "basis": ""}
        return {
            "title": _pair(printable(matter.title.zh), printable(matter.title.en)),
            "basis": printable(matter.basis),
        }

    def question(self, owner: str, attribute: str) -> dict[str, str]:
        """An attribute as the question that it is."""
        found = None if self._past.directory is None else self._past.directory.attribute(owner, attribute)
        if found is None:
            name = printable(f"{owner}.{attribute}")
            return _pair(name, name)
        return _pair(printable(found.title.zh), printable(found.title.en))

    def counter(self, owner: str, attribute: str) -> str:
        """Where an answer is disputed."""
        found = None if self._past.directory is None else self._past.directory.attribute(owner, attribute)
        return "" if found is None else printable(found.counter)

    def place(self, code: str) -> str:
        """A place's name, or at least its level."""
        try:
            return self._name(Jurisdiction.parse(code))
        except RefusedError:
            return ""

    def rule(self, identifier: str) -> dict[str, Any]:
        """A rule by its sentence and by its own lines of the document that had it."""
        owner, _, name = identifier.partition("/")
        document = None if self._past.directory is None else self._past.directory.documents.get(owner)
        grant = next((one for one in document.grants if one.id == name), None) if document is not None else None
        said: dict[str, Any] = {"id": printable(identifier), "sentence": _pair("", ""), "source": "", "line": None}
        if identifier.startswith("+"):
            said["sentence"] = _pair(
                f"另有 {identifier[1:]} 条，记录中未列出", f"{identifier[1:]} more, not named in the entry"
            )
        elif document is not None and name.startswith(RULE):
            said |= self._emergency(owner, document, name)
        elif grant is not None:
            said["sentence"] = _pair(*map(printable, self._words.grant(grant)))
            said["source"], said["line"] = self._lines.get(owner, {}).get(name, ("", None))
        elif document is not None:
            said["sentence"] = _pair("该版文件中没有此规则", "the document of this version has no such rule")
        return said

    def _emergency(self, owner: str, document: Document, name: str) -> dict[str, Any]:
        """What had been prepared, and which opening of it let the request through."""
        prepared, _, opening = name.removeprefix(RULE).partition("/")
        emergency = document.emergency(prepared)
        if emergency is None:
            return {"sentence": _pair("该版文件中没有此规则", "the document of this version has no such rule")}
        said = self._words.emergency(owner, emergency)[0]
        source, line = self._lines.get(owner, {}).get(name[: -len(opening) - 1], ("", None))
        return {
            "sentence": _pair(
                printable(f"{said.zh}；本次启用 {opening}"), printable(f"{said.en}; this was opened as {opening}")
            ),
            "source": source,
            "line": line,
        }

    def as_object(self, kind: str, event: Access) -> dict[str, Any]:
        """By which policy it was decided, and how far that is proved."""
        try:
            owner = sealed_pb2.Header.FromString(event.header).owner
        except DecodeError:
            owner = ""
        directory = self._past.directory
        document = None if directory is None else directory.documents.get(owner)
        stated = event.document_version if isinstance(event, audit_pb2.OwnerAccess) else 0
        verified: list[dict[str, str]] = []
        problem = self._past.problem
        if directory is not None:
            verified.append(
                _pair(
                    "该版名录快照由登记处签名，可追溯至本机锁定的根",
                    "the snapshot of this version is signed by the registrar's key under the pinned root",
                )
            )
        if document is not None:
            verified.append(
                _pair(
                    f"{owner} 的文件由该部门至少两名管理员签名，即快照按散列指定的那一份",
                    f"the document of {owner} is signed by two of its admins at least, and is the one that the "
                    "snapshot names by hash",
                )
            )
            if stated and stated != document.version:
                problem = (
                    f"记录称文件版本为 {stated}，该版名录中为 {document.version}",
                    f"the entry says document version {stated}, and that directory has {document.version}",
                )
            elif stated:
                verified.append(_pair("文件版本与记录一致", "its version is the one that the entry states"))
        if self._past.recorded:
            verified.append(
                _pair(
                    "日志自身记录了该版名录的启用（时间戳散列一致）",
                    "the log itself recorded that this version came into force: the timestamp's hash is the same",
                )
            )
        return {
            "owner": printable(owner),
            "directory_version": event.directory_version,
            "document_version": document.version if document is not None else stated or None,
            "decided_by": "hub" if kind == "hub_access" else "owner",
            "verified": verified,
            "unavailable": _pair(*problem) if any(problem) else None,
        }

    def _name(self, place: Jurisdiction) -> str:
        found = printable(self._divisions(place.code))
        return found or f"{_LEVELS[place.level]} {place.level.word} {place.code}"


def _grant_lines(source: bytes) -> dict[str, tuple[str, int]]:
    """Each grant and prepared emergency of a document as it is written there, and on which line it begins."""
    text = source.decode()
    lines = text.split("\n")
    places = key_lines(text)
    parsed = tomllib.loads(text)
    found = {}
    for table, prefix in (("grant", ""), ("emergency", RULE)):
        for number, grant in enumerate(parsed.get(table, [])):
            begin = places.get((table, number))
            if begin is None:
                continue
            end = next((i for i in range(begin, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
            name = f"{prefix}{grant.get('id', '')}"
            found[name] = ("\n".join(map(printable, lines[begin - 1 : end])).rstrip(), begin)
    return found


def _pair(zh: str, en: str) -> dict[str, str]:
    return {"zh": zh, "en": en}
