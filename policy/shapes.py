"""The shapes of the TOML files: which keys there are, of which type. `docs/files.md` explains every key.

Strict: unknown keys are refused. What one value cannot show by itself is checked where the model is made
(`document.py`, `centre.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PlainValidator, StringConstraints

from policy.model import SENSITIVITIES
from zhiwang.wire.claims import Ask, Claim
from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.header import SUITE
from zhiwang.wire.places import Jurisdiction, Level
from zhiwang.wire.tomlfile import StrictModel

DEFAULT_REFERENCE = "[A-Za-z0-9._/-]{1,64}"
DEFAULT_OFFICIAL = "[A-Za-z0-9._-]{1,32}"
MAX_PATTERN = 100
MAX_STRETCHES = 4
"""Repetitions of open length in a pattern. A pattern is a row of characters and classes without groups, so matching
64 characters against four of them is quick whatever the text."""

T = TypeVar("T")

# Types of values -----------------------------------------------------------------------------------------------------

_ATOM = r"(?:[A-Za-z0-9_/:-]|\\[./_-]|\[[A-Za-z0-9_./:-]+\])"
_SAFE_PATTERN = re.compile(rf"(?:{_ATOM}(?:\{{[0-9]{{1,3}}(?:,[0-9]{{0,3}})?\}}|[?+*])?)+")
_STRETCH = re.compile(r"[+*?]|\{[0-9]+,[0-9]*\}")
_AGE = re.compile(r"([1-9][0-9]{0,4})([dh])")
_SECONDS = {"d": 86_400, "h": 3_600}


def _from_text(parse: Callable[[str], T]) -> PlainValidator:
    def check(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("must be a text")  # noqa: TRY004 # pydantic turns only ValueError into a finding
        try:
            return parse(value)
        except ZhiwangError as error:
            raise ValueError(error.detail or error.reason.value.en) from None

    return PlainValidator(check)


def _pattern(text: str) -> str:
    if len(text) > MAX_PATTERN or _SAFE_PATTERN.fullmatch(text) is None:
        raise ValueError("must be a row of characters and [classes] with {n}, {n,m}, ?, + or *, and nothing else")
    if len(_STRETCH.findall(text)) > MAX_STRETCHES:
        raise ValueError(f"may repeat with open length {MAX_STRETCHES} times at most")
    try:
        re.compile(text, re.ASCII)
    except re.error as error:
        raise ValueError(f"is no pattern: {error.msg}") from None
    return text


def _age(text: str) -> float:
    match = _AGE.fullmatch(text)
    if match is None:
        raise ValueError('must be written "45d" or "12h"')
    return float(match[1]) * _SECONDS[match[2]]


Name = Annotated[str, StringConstraints(pattern=r"^[a-z](?:[a-z0-9_]{0,46}[a-z0-9])?$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z](?:[a-z0-9_-]{0,46}[a-z0-9])?$")]
GrantId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$")]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}/[a-z][a-z0-9_-]{0,47}$")]
OfficialName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}/[A-Za-z0-9._-]{1,32}$")]
AttributeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=400)]
AskText = Annotated[Ask, _from_text(Ask.parse)]
ClaimText = Annotated[Claim, _from_text(Claim.parse)]
PlaceText = Annotated[Jurisdiction, _from_text(Jurisdiction.parse)]
PatternText = Annotated[str, _from_text(_pattern)]
AgeText = Annotated[float, _from_text(_age)]
LevelText = Annotated[Level, _from_text(Level.of_word)]
AssuranceText = Literal["asserted", "authenticated", "certificate"]
Sensitivity = Annotated[int, Field(ge=SENSITIVITIES[0], le=SENSITIVITIES[-1])]


def _places(value: object) -> tuple[Jurisdiction, ...]:
    """For "@self" nothing."""
    if value == "@self":
        return ()
    texts = value if isinstance(value, tuple) else (value,)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError('must be "@self", a place as "nbs:440306", or a list of places')
    try:
        return tuple(Jurisdiction.parse(text) for text in texts)
    except ZhiwangError as error:
        raise ValueError(error.detail or error.reason.value.en) from None


def _day(value: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date without a time, as 2026-03-01")  # noqa: TRY004 # the same
    return value


def _reference_date(value: object) -> date | None:
    return None if value == "today" else _day(value)


Places = Annotated[tuple[Jurisdiction, ...], PlainValidator(_places)]
Day = Annotated[date, PlainValidator(_day)]
ReferenceDate = Annotated[date | None, PlainValidator(_reference_date)]


# Shapes of the files -------------------------------------------------------------------------------------------------


class TitleFile(StrictModel):
    """A text in both languages."""

    zh: Text
    en: Text


class KindFile(StrictModel):
    """A kind of subject that the centre defines itself."""

    scheme: Literal["resident", "uscc", "house", "plain"]
    pattern: PatternText | None = None


class HomeFile(StrictModel):
    """A system of a member."""

    home: PlaceText | None = None


class MemberFile(StrictModel):
    """A member."""

    title: TitleFile
    home: PlaceText
    system: dict[Label, HomeFile] = Field(default_factory=dict)


class DenyFile(StrictModel):
    """A deny of the centre."""

    id: GrantId | None = None
    role: RoleName | None = None
    ask: AskText | None = None
    attribute: AttributeName | None = None
    matter: Label | None = None
    place: PlaceText | None = None


class CentreFile(StrictModel):
    """centre.toml."""

    city: Label
    subject: dict[Name, Literal["resident", "uscc", "house"] | KindFile]
    department: dict[Name, MemberFile]
    deny: tuple[DenyFile, ...] = ()


class RolesFile(StrictModel):
    """A system of the department and the roles in which it may act."""

    roles: tuple[Label, ...]


class AttributeFile(StrictModel):
    """An attribute."""

    title: TitleFile
    subject: Name
    type: Name | None = None
    asks: tuple[Literal["exists", "absent", "equals", "related", "valid"], ...] = ()
    at_least: tuple[Any, ...] = ()
    at_most: tuple[Any, ...] = ()
    dates: tuple[Day, ...] | None = None
    sensitivity: Sensitivity = 3
    max_age: AgeText | None = None
    counter: Text = ""


class GrantFile(StrictModel):
    """A grant."""

    id: GrantId
    role: RoleName
    ask: AskText
    matter: Label
    place: Places = ()
    level: LevelText = Level.COMMUNITY
    sensitivity: tuple[Sensitivity, ...] | None = None
    assurance: AssuranceText = "asserted"
    not_before: Day | None = None
    not_after: Day | None = None


class AssertFile(StrictModel):
    """An assertion."""

    allow: AskText | None = None
    deny: AskText | None = None
    role: RoleName
    matter: Label
    place: PlaceText
    level: LevelText | None = None
    assurance: AssuranceText | None = None


class DocumentFile(StrictModel):
    """document.toml."""

    department: Name
    title: TitleFile
    suites: tuple[Text, ...] = (SUITE,)
    system: dict[Label, RolesFile] = Field(default_factory=dict)
    attribute: dict[Name, AttributeFile] = Field(default_factory=dict)
    grant: tuple[GrantFile, ...] = ()
    assert_: tuple[AssertFile, ...] = Field(default=(), alias="assert")


class SlotFile(StrictModel):
    """A slot that takes several subjects."""

    kind: Name
    up_to: Annotated[int, Field(ge=1, le=16)] = 1


class RuleFile(StrictModel):
    """The rule of a matter."""

    all: tuple[Name, ...] = ()
    any: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    some: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)


class MatterFile(StrictModel):
    """matter.toml."""

    matter: Label
    title: TitleFile
    basis: Text
    requesters: tuple[Name, ...]
    reference_date: ReferenceDate
    reference: PatternText = DEFAULT_REFERENCE
    official: PatternText = DEFAULT_OFFICIAL
    slots: dict[Name, Name | SlotFile]
    claims: dict[Name, ClaimText] = Field(default_factory=dict)
    rule: RuleFile | None = None


class SuspendEntry(StrictModel):
    """One suspension."""

    id: GrantId
    system: RoleName | None = None
    role: RoleName | None = None
    official: OfficialName | None = None
    ask: AskText | None = None
    attribute: AttributeName | None = None
    not_before: Day | None = None
    not_after: Day | None = None


class SuspendFile(StrictModel):
    """suspend.toml."""

    department: Name
    suspend: tuple[SuspendEntry, ...] = ()
