"""The shapes of the TOML files: which keys there are, of which type. `docs/configuration.md` is made from them.

Strict: unknown keys are refused. What one value cannot show by itself is checked where the model is made
(`document.py`, `centre.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, PlainValidator, StringConstraints

from policy.emergencies import MAX_HOURS
from policy.model import SENSITIVITIES
from zhiwang.wire.claims import Ask, Claim
from zhiwang.wire.errors import ZhiwangError
from zhiwang.wire.header import SUITE
from zhiwang.wire.places import Jurisdiction, Level
from zhiwang.wire.tomlfile import Duration, Form, StrictModel
from zhiwang.wire.vkey import ALGORITHM_COSIGNATURE, VerifierKey, VerifierKeyError

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


Name = Annotated[str, StringConstraints(pattern=r"^[a-z](?:[a-z0-9_]{0,46}[a-z0-9])?$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z](?:[a-z0-9_-]{0,46}[a-z0-9])?$")]
GrantId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$")]
EmergencyName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}/[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$")
]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}/[a-z][a-z0-9_-]{0,47}$")]
OfficialName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}/[A-Za-z0-9._-]{1,32}$")]
AttributeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}\.[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=400)]
AskText = Annotated[Ask, _from_text(Ask.parse), Form("an attribute and a predicate, without the threshold")]
ClaimText = Annotated[Claim, _from_text(Claim.parse), Form("a claim, as in claims.md")]
PlaceText = Annotated[
    Jurisdiction, _from_text(Jurisdiction.parse), Form("a place: code system, colon, 4, 6, 9 or 12 digits")
]
PatternText = Annotated[
    str,
    _from_text(_pattern),
    Form(f"a pattern of at most {MAX_PATTERN} characters, with at most {MAX_STRETCHES} repetitions of open length"),
]
LevelText = Annotated[Level, _from_text(Level.of_word), Form(", ".join(f'"{level.word}"' for level in Level))]
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


def _moment(value: object) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None or value.microsecond:
        raise ValueError("must be a time with its offset and without fractions, as 2026-03-01T22:00:00+08:00")
    return int(value.timestamp())


def _reference_date(value: object) -> date | None:
    return None if value == "today" else _day(value)


def _verifier_keys(value: object) -> tuple[VerifierKey, ...]:
    texts = value if isinstance(value, tuple) else (value,)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError('must be a verifier key "NAME+ID+KEY", or a list of them')
    try:
        return tuple(VerifierKey.parse(text, ALGORITHM_COSIGNATURE) for text in texts)
    except VerifierKeyError as error:
        raise ValueError(f"is what `zhiwang witness key` prints: {error}") from None


VerifierKeys = Annotated[
    tuple[VerifierKey, ...], PlainValidator(_verifier_keys), Form("a verifier key, or a list of them")
]
Places = Annotated[
    tuple[Jurisdiction, ...], PlainValidator(_places), Form('"@self", a place, or a list of places', empty='"@self"')
]
Day = Annotated[date, PlainValidator(_day), Form("a day")]
Moment = Annotated[int, PlainValidator(_moment), Form("a time with its offset")]
ReferenceDate = Annotated[date | None, PlainValidator(_reference_date), Form('a day, or "today"')]


# Shapes of the files -------------------------------------------------------------------------------------------------


class TitleFile(StrictModel):
    """A text in both languages.

    Attributes:
        zh: In Chinese.
        en: In English.
    """

    zh: Text
    en: Text


class KindFile(StrictModel):
    """A kind of subject that the centre defines itself.

    Attributes:
        scheme: How its identifiers are checked: residents' numbers, social credit codes, house codes, or by `pattern`
            alone.
        pattern: Of an identifier in canonical form (NFKC, stripped, upper case); for `scheme = "plain"`, which needs
            it.
    """

    scheme: Literal["resident", "uscc", "house", "plain"]
    pattern: PatternText | None = None


class HomeFile(StrictModel):
    """A system of a member.

    Attributes:
        home: Where it may act, within its department's home; that home if left out.
    """

    home: PlaceText | None = None


class AuditorFile(StrictModel):
    """An auditor of a member. Everybody's sees what its department asked or was asked; this widens it.

    Attributes:
        office: Whether it belongs to the audit office, which sees the whole of every log.
        home: A place; it also sees what was asked there, whoever asked.
    """

    office: bool = False
    home: PlaceText | None = None


class MemberFile(StrictModel):
    """A member.

    Attributes:
        title: Name of the department.
        home: The place that it is responsible for.
        system: Its systems, by name.
        auditor: Those of its auditors who see more than the department's own, by name.
    """

    title: TitleFile
    home: PlaceText
    system: dict[Label, HomeFile] = Field(default_factory=dict)
    auditor: dict[Label, AuditorFile] = Field(default_factory=dict)


class DenyFile(StrictModel):
    """A deny of the centre. The keys that are given must all match; at least one must be given.

    Attributes:
        id: Shows in decisions and logs; `deny-N`, by its place in the file, if left out.
        role: Role of a department.
        ask: Attribute and predicate of an owner.
        attribute: Attribute of an owner, in place of `ask`.
        matter: For what is asked.
        place: Where the requester acts, with all that lies in it.
    """

    id: GrantId | None = None
    role: RoleName | None = None
    ask: AskText | None = None
    attribute: AttributeName | None = None
    matter: Label | None = None
    place: PlaceText | None = None


class WitnessFile(StrictModel):
    """A witness: somebody outside of the hub's operator who cosigns the checkpoints of the hub's log.

    Attributes:
        key: Its verifier key, as `zhiwang witness key` prints it; the new and the old one while it changes.
    """

    key: VerifierKeys


class CentreFile(StrictModel):
    """centre.toml: who belongs, what can be asked about, and what nobody may do. Public, signed by the centre.

    Attributes:
        city: The city, as identities name it.
        subject: Kinds of subject by name: the scheme of their identifiers, or a table.
        department: Members by name.
        witness: Witnesses by name. A hub that could choose its own could choose some that look away.
        witness_quorum: How many of them must have cosigned a checkpoint; more than half.
        deny: What is denied to everybody whom it matches, whatever an owner grants.
    """

    city: Label
    subject: dict[Name, Literal["resident", "uscc", "house"] | KindFile]
    department: dict[Name, MemberFile]
    witness: dict[Label, WitnessFile] = Field(default_factory=dict)
    witness_quorum: Annotated[int, Field(ge=1, le=100)] | None = None
    deny: tuple[DenyFile, ...] = ()


class RolesFile(StrictModel):
    """A system of the department and the roles in which it may act.

    Attributes:
        roles: Roles; `clerk` of hrss is written `hrss/clerk` elsewhere.
    """

    roles: tuple[Label, ...]


class AttributeFile(StrictModel):
    """An attribute.

    Attributes:
        title: A full question.
        subject: Kind of subject that it is about.
        type: `integer`, `decimal`, `date`, `text`, `code`, or a kind of subject (then `related`). Needed where values
            are compared.
        asks: Predicates without thresholds. `report`, who asked the department about the subject, stands alone.
        at_least: Thresholds of `at_least`, rising; no others can be asked.
        at_most: Thresholds of `at_most`, rising; no others can be asked.
        dates: Reference dates to which it is open; those of the matters if left out.
        sensitivity: 1 (little) to 5 (most).
        max_age: Age of the data set beyond which nothing is answered; any if left out.
        counter: Where a person disputes an answer.
    """

    title: TitleFile
    subject: Name
    type: Name | None = None
    asks: tuple[Literal["exists", "absent", "equals", "related", "valid", "report"], ...] = ()
    at_least: tuple[Any, ...] = ()
    at_most: tuple[Any, ...] = ()
    dates: tuple[Day, ...] | None = None
    sensitivity: Sensitivity = 3
    max_age: Duration | None = None
    counter: Text = ""


class GrantFile(StrictModel):
    """A grant: who may ask what, for what, where, until when.

    Attributes:
        id: Shows in decisions and logs; unique in the document.
        role: Who may ask: role of a department.
        ask: What may be asked, of this department only.
        matter: For what.
        place: Where the requester must act; `"@self"` is anywhere within its system's own home.
        level: Lowest level of a system's home that is admitted; `"community"` admits all.
        sensitivity: Lowest and highest sensitivity of the attribute at which the grant still holds; `[1, 5]` if left
            out.
        assurance: Least assurance of the official.
        not_before: First day, from 00:00 +08:00; always if left out.
        not_after: Day at whose beginning it ends; never if left out.
    """

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


class EmergencyFile(StrictModel):
    """What is prepared for an emergency; it permits nothing until an admin of one of `admins` opens it.

    Attributes:
        id: Shows in decisions and logs; unique in the document.
        title: What it is for.
        role: Who may ask while it is open: role of a department.
        asks: What may be asked then, of this department only.
        matter: For what.
        place: Where the requester must act; `"@self"` is anywhere within its system's own home.
        level: Lowest level of a system's home that is admitted; `"community"` admits all.
        sensitivity: Lowest and highest sensitivity of the attributes at which it still holds; `[1, 5]` if left out.
        assurance: Least assurance of the official.
        hours: For how long it can be opened at most, 1 to 12.
        admins: Departments whose admins may open it, each of them alone.
        not_before: First day on which it is prepared, from 00:00 +08:00; always if left out.
        not_after: Day at whose beginning it is no longer; never if left out.
    """

    id: GrantId
    title: TitleFile
    role: RoleName
    asks: Annotated[tuple[AskText, ...], Field(min_length=1, max_length=64)]
    matter: Label
    place: Places = ()
    level: LevelText = Level.COMMUNITY
    sensitivity: tuple[Sensitivity, ...] | None = None
    assurance: AssuranceText = "asserted"
    hours: Annotated[int, Field(ge=1, le=MAX_HOURS)]
    admins: Annotated[tuple[Name, ...], Field(min_length=1)]
    not_before: Day | None = None
    not_after: Day | None = None


class ReferFile(StrictModel):
    """That names of the department's own people may be handed to another department; see docs/active.md.

    Attributes:
        id: Shows in the log and in the reports of those who were referred; unique in the document.
        roster: Name of the roster in the mapping whose people they are.
        to: Role of a department: only a system that holds it can be handed names.
        matter: For what; the recipient must be among those who may ask for it.
        basis: The legal basis, in words.
        not_before: First day, from 00:00 +08:00; always if left out.
        not_after: Day at whose beginning it ends; never if left out.
    """

    id: GrantId
    roster: Name
    to: RoleName
    matter: Label
    basis: Text
    not_before: Day | None = None
    not_after: Day | None = None


class AssertFile(StrictModel):
    """A case that must stay allowed, or denied; checked before anything is published. Either `allow` or `deny`.

    Attributes:
        allow: What must stay allowed.
        deny: What must stay denied.
        role: Who asks.
        matter: For what.
        place: Where.
        level: Level of the system's home. Left out: for `allow` the place's own, for `deny` every one.
        assurance: Of the official. Left out: for `allow` the least, for `deny` every one.
    """

    allow: AskText | None = None
    deny: AskText | None = None
    role: RoleName
    matter: Label
    place: PlaceText
    level: LevelText | None = None
    assurance: AssuranceText | None = None


class DocumentFile(StrictModel):
    """document.toml: everything that a department says to others. Public, signed by two of its admins.

    Attributes:
        department: Whose document this is.
        title: Its name, as the centre lists it.
        suites: Cipher suites that it accepts as an owner.
        system: Its systems by name; one without roles may ask nothing.
        attribute: What it can be asked about, by name.
        grant: Who may ask it.
        emergency: Who may ask it in an emergency, for some hours.
        refer: To whom names of its own people may be handed, and for what.
        assert_: Cases that must stay allowed or denied (key `assert`).
        lifted: Ids of this department's suspensions that two admins have lifted.
    """

    department: Name
    title: TitleFile
    lifted: tuple[GrantId, ...] = ()
    suites: tuple[Text, ...] = (SUITE,)
    system: dict[Label, RolesFile] = Field(default_factory=dict)
    attribute: dict[Name, AttributeFile] = Field(default_factory=dict)
    grant: tuple[GrantFile, ...] = ()
    emergency: tuple[EmergencyFile, ...] = ()
    refer: tuple[ReferFile, ...] = ()
    assert_: tuple[AssertFile, ...] = Field(default=(), alias="assert")


class SlotFile(StrictModel):
    """A slot that takes several subjects.

    Attributes:
        kind: Kind of subject.
        up_to: How many subjects it takes at most.
    """

    kind: Name
    up_to: Annotated[int, Field(ge=1, le=16)] = 1


class RuleFile(StrictModel):
    """The rule of a matter. It gives passed, check by hand, or data disagrees; nobody is rejected by it.

    Attributes:
        all: Names of claims and groups; each must hold for every subject of its slots.
        any: Groups by name: one of the claims must hold; used in `all`, `some` or a class of points.
        agree: Groups by name: the claims are sources of one fact, of which one must say so and none deny it.
        some: By slot: all of these claims and groups must hold for one and the same subject of the slot.
    """

    all: tuple[Name, ...] = ()
    any: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    agree: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    some: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)


class PointsClassFile(StrictModel):
    """A class of a table of points.

    Attributes:
        title: What it is called.
        when: Names of claims and groups of the rule; the class fits if all of them hold.
        base: Its points.
    """

    title: TitleFile
    when: tuple[Name, ...]
    base: Annotated[int, Field(ge=0, le=100_000)]


class PointsFile(StrictModel):
    """How many points a case has, where places are given by points.

    Attributes:
        slot: One subject of it counts: of those by whom the rule holds, the one with the most points.
        each: Name of an `at_least` claim about the slot: one more point for each unit, up to the last published cell.
            The claim's own cell is where the search for the number begins.
        every: Names within the classes that must hold for every subject of the slot, whoever counts.
        counting: What counts and what does not, in words for people.
        class_: The classes; the first that fits gives its points.
    """

    slot: Name
    each: Name
    every: tuple[Name, ...] = ()
    counting: TitleFile
    class_: tuple[PointsClassFile, ...] = Field(alias="class")


class MatterFile(StrictModel):
    """matter.toml: a public service for which one asks. Public, signed by the centre.

    Attributes:
        matter: Its name.
        title: What it is called.
        basis: The legal basis, in words.
        basis_until: Day at whose beginning (00:00 +08:00) the basis ends; `policy check` names grants that outlive it.
            It has no end if left out.
        requesters: Departments that may ask for it.
        reference_date: The day as of which every predicate is evaluated; `"today"` is the day in China on which one
            asks.
        reference: Of the requester's reference.
        official: Of the official's id.
        slots: By name: a kind of subject, or a table for several of them; at least one slot.
        claims: Claims by name; the slot may be left out if there is only one.
        rule: What the answers amount to; every claim must hold if left out.
        points: How many points a case has; none if left out.
    """

    matter: Label
    title: TitleFile
    basis: Text
    basis_until: Day | None = None
    requesters: tuple[Name, ...]
    reference_date: ReferenceDate
    reference: PatternText = DEFAULT_REFERENCE
    official: PatternText = DEFAULT_OFFICIAL
    slots: dict[Name, Name | SlotFile]
    claims: dict[Name, ClaimText] = Field(default_factory=dict)
    rule: RuleFile | None = None
    points: PointsFile | None = None


class SuspendEntry(StrictModel):
    """One suspension.

    The keys that are given must all match; one of system, role, official, ask and attribute must be given.

    Attributes:
        id: Shows in decisions and logs; unique here.
        system: `DEPARTMENT/NAME`.
        role: `DEPARTMENT/ROLE`.
        official: `DEPARTMENT/ID`, the id as the requester's headers carry it.
        ask: Attribute and predicate of an owner.
        attribute: Attribute of an owner, in place of `ask`.
        not_before: First day; at once if left out.
        not_after: Day at whose beginning it ends; until it is lifted if left out.
    """

    id: GrantId
    system: RoleName | None = None
    role: RoleName | None = None
    official: OfficialName | None = None
    ask: AskText | None = None
    attribute: AttributeName | None = None
    not_before: Day | None = None
    not_after: Day | None = None


class SuspendFile(StrictModel):
    """suspend.toml: what stops at once.

    Public, signed by one admin, since it can only deny. What stands here goes by its own end, or once two admins have
    lifted it in the document.

    Attributes:
        department: Whose suspensions these are.
        suspend: What is suspended.
    """

    department: Name
    suspend: tuple[SuspendEntry, ...] = ()


class ActivationEntry(StrictModel):
    """An emergency that is open for some hours.

    Attributes:
        id: Shows in decisions and logs; unique here.
        emergency: `OWNER/ID`, as the owner prepared it.
        since: From when on it is open; a time with its offset.
        until: Until when.
        reason: SHA-256 of salt and reason, in hexadecimal; the reason itself stands in the registrar's log.
    """

    id: GrantId
    emergency: EmergencyName
    since: Moment
    until: Moment
    reason: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ActivationFile(StrictModel):
    """emergency.toml: the emergencies that a department's admins have opened; `zhiwang policy activate` makes it.

    Public, signed by one admin. What it opens ends by itself, and is never more than the owner has prepared.

    Attributes:
        department: Whose admins opened them.
        activation: What is open.
    """

    department: Name
    activation: Annotated[tuple[ActivationEntry, ...], Field(max_length=64)] = ()
