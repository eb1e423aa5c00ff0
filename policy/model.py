"""What the directory says, as immutable values. No I/O, no parsing: `document.py` makes these from TOML.

A `Directory` is one verified snapshot of the whole: everything that hub, adapters and agents decide by. Nobody changes
one; a newer snapshot replaces it by one reference. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from zhiwang.wire.claims import Ask, Claim, Predicate
from zhiwang.wire.places import Jurisdiction, Level
from zhiwang.wire.vkey import VerifierKey

SENSITIVITIES = range(1, 6)
"""Sensitivity of an attribute, from 1 (little) to 5 (most)."""

_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Title:
    """A text for people, in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class SubjectKind:
    """A kind of subject and how its identifiers are written.

    Attributes:
        name: For example "person".
        scheme: "resident", "uscc", "house" or "plain".
        pattern: Regular expression of a plain scheme's canonical identifiers; None for the others.
    """

    name: str
    scheme: str
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class AuditorInfo:
    """What the centre says of an auditor.

    Attributes:
        office: Whether it sees the whole of every log.
        home: It also sees what was asked in this place; None for no place.
    """

    office: bool = False
    home: Jurisdiction | None = None


@dataclass(frozen=True, slots=True)
class DepartmentInfo:
    """What the centre says of a member.

    Attributes:
        systems: Home of each of its systems, by name. A system that is not here may ask nothing.
        auditors: Those of its auditors who see more than what the department asked or was asked.
    """

    name: str
    title: Title
    home: Jurisdiction
    systems: Mapping[str, Jurisdiction]
    auditors: Mapping[str, AuditorInfo] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Deny:
    """A rule of the centre; what is None matches everything. At least one is set."""

    id: str
    role: str | None = None
    owner: str | None = None
    attribute: str | None = None
    predicate: Predicate | None = None
    matter: str | None = None
    place: Jurisdiction | None = None

    def concerns(self, role: str, ask: Ask, matter: str) -> bool:
        """Whether it is about this at all, wherever it is asked."""
        return (
            self.role in {None, role}
            and self.owner in {None, ask.owner}
            and self.attribute in {None, ask.attribute}
            and self.predicate in {None, ask.predicate}
            and self.matter in {None, matter}
        )


@dataclass(frozen=True, slots=True)
class Centre:
    """Membership, homes, kinds of subject, denies, and who witnesses the hub's log.

    Attributes:
        witnesses: Keys of each witness, by its name; empty for none.
        witness_quorum: How many of them must have cosigned a checkpoint; 0 without witnesses.
    """

    city: str
    subjects: Mapping[str, SubjectKind]
    departments: Mapping[str, DepartmentInfo]
    denies: tuple[Deny, ...] = ()
    witnesses: Mapping[str, tuple[VerifierKey, ...]] = field(default_factory=lambda: MappingProxyType({}))
    witness_quorum: int = 0

    def home(self, department: str, system: str) -> Jurisdiction | None:
        """Home of a system; None if the centre knows no such system. Its level is the home's."""
        info = self.departments.get(department)
        return None if info is None else info.systems.get(system)

    def auditor(self, department: str, name: str) -> AuditorInfo:
        """What an auditor sees beyond its department's own."""
        info = self.departments.get(department)
        return AuditorInfo() if info is None else info.auditors.get(name, AuditorInfo())


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something that an owner can be asked about, as published.

    Attributes:
        subject: Kind of subject that it is about.
        type: "integer", "decimal", "date", "text", "code", or a kind of subject.
        predicates: How it may be asked at all; grants narrow this further.
        at_least: Published cells of at_least, in canonical text, ascending.
        at_most: The same for at_most.
        dates: Reference dates that it is open to; None leaves that to the matters.
        max_age: Oldest data set that still answers, in seconds; None for any.
        counter: Where a person disputes an answer.
    """

    owner: str
    name: str
    title: Title
    subject: str
    type: str
    predicates: frozenset[Predicate]
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    dates: frozenset[date] | None = None
    sensitivity: int = 3
    max_age: float | None = None
    counter: str = ""

    @property
    def reports(self) -> bool:
        """Whether it is of no record: it stands for who asked the owner about somebody."""
        return Predicate.REPORT in self.predicates

    def cells(self, predicate: Predicate) -> tuple[str, ...]:
        """Published cells of a predicate; empty for those without."""
        if predicate is Predicate.AT_LEAST:
            return self.at_least
        return self.at_most if predicate is Predicate.AT_MOST else ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule of an owner.

    Attributes:
        id: Unique within the document.
        role: Who, e.g. "edu/enrolment-clerk".
        places: Where the asserted jurisdiction must lie; empty for "@self", the asking system's own home.
        level: Lowest level of a system's home that is admitted.
        sensitivity: Lowest and highest sensitivity of the attribute at which the grant still holds.
        assurance: Least assurance of the official (number of the wire's Assurance).
        not_before: First second at which it holds.
        not_after: First second at which it no longer holds.
    """

    id: str
    owner: str
    role: str
    ask: Ask
    matter: str
    places: tuple[Jurisdiction, ...] = ()
    level: Level = Level.COMMUNITY
    sensitivity: tuple[int, int] = (SENSITIVITIES[0], SENSITIVITIES[-1])
    assurance: int = 1
    not_before: int | None = None
    not_after: int | None = None


@dataclass(frozen=True, slots=True)
class Emergency:
    """What an owner has prepared for an emergency. By itself it permits nothing; see `policy.emergencies`.

    Attributes:
        id: Unique within the document.
        title: What it is for.
        grants: What it permits while it is open, one for each question; their id is the emergency's.
        hours: For how long it can be opened at most.
        admins: Departments whose admins may open it, each of them alone.
    """

    id: str
    title: Title
    grants: tuple[Grant, ...]
    hours: int
    admins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Referral:
    """That an owner may hand names of its own people to another department.

    Attributes:
        id: Unique within the document.
        roster: Of the owner's mapping.
        to: Role that the receiving system must hold, e.g. "civil/senior-clerk".
        basis: The legal basis, in words.
        not_before: First second at which it holds.
        not_after: First second at which it no longer holds.
    """

    id: str
    roster: str
    to: str
    matter: str
    basis: str
    not_before: int | None = None
    not_after: int | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """That an emergency was opened, signed by one admin of a department. Whether it counts is `policy.emergencies`'.

    Attributes:
        department: Whose admin opened it.
        owner: Department that prepared it.
        since: First second at which it is open.
        until: First second at which it is no longer.
        reason_hash: SHA-256 of a salt and the reason, which stand in the registrar's log (`policy.glass`).
    """

    id: str
    department: str
    owner: str
    emergency: str
    since: int
    until: int
    reason_hash: bytes


@dataclass(frozen=True, slots=True)
class Assertion:
    """A case that must stay allowed or denied by an owner's grants.

    Attributes:
        allow: Whether it must be allowed.
        place: Where a system at home there, or above, acts.
        level: Level of that system's home; None means: for an allow the place's own, for a deny every one.
        assurance: Assurance of the official; None means: for an allow the least, for a deny every one.
    """

    allow: bool
    ask: Ask
    role: str
    matter: str
    place: Jurisdiction
    level: Level | None = None
    assurance: int | None = None

    def __str__(self) -> str:
        """For messages."""
        return f'{"allow" if self.allow else "deny"} = "{self.ask}" for {self.role}, {self.matter}, {self.place}'


@dataclass(frozen=True, slots=True)
class Document:
    """What a department says, signed by two of its admins.

    Attributes:
        version: Version of the department's metadata that lists the document.
        suites: Cipher suites that it accepts as an owner.
        roles: Roles of each of its systems, whole ("edu/enrolment-clerk"), by system.
        attributes: By name without the owner.
        lifted: Ids of the department's suspensions that no longer hold.
        emergencies: What it has prepared for emergencies.
        referrals: To whom names of its own people may be handed.
    """

    department: str
    title: Title
    suites: tuple[str, ...]
    roles: Mapping[str, frozenset[str]]
    attributes: Mapping[str, Attribute]
    grants: tuple[Grant, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    version: int = 0
    lifted: frozenset[str] = frozenset()
    emergencies: tuple[Emergency, ...] = ()
    referrals: tuple[Referral, ...] = ()

    def emergency(self, name: str) -> Emergency | None:
        """What was prepared under an id."""
        return next((one for one in self.emergencies if one.id == name), None)


@dataclass(frozen=True, slots=True)
class Suspension:
    """An entry of a department's suspensions: it can only deny.

    It concerns what the department is a party to: requests to it as the owner, and requests of its own systems. What
    is None matches everything; at least one is set.

    Attributes:
        system: For example "edu/enrolment".
        official: For example "edu/clerk-17": department and the official's id in its own numbering.
    """

    id: str
    department: str
    system: str | None = None
    role: str | None = None
    official: str | None = None
    owner: str | None = None
    attribute: str | None = None
    predicate: Predicate | None = None
    not_before: int | None = None
    not_after: int | None = None

    def concerns(self, system: str, role: str, ask: Ask) -> bool:
        """Whether it is about this at all, for whichever official and whenever; a system as "edu/enrolment"."""
        return (
            self.department in {ask.owner, system.partition("/")[0]}
            and self.system in {None, system}
            and self.role in {None, role}
            and self.owner in {None, ask.owner}
            and self.attribute in {None, ask.attribute}
            and self.predicate in {None, ask.predicate}
        )


@dataclass(frozen=True, slots=True)
class MatterSlot:
    """A slot of a matter: which kind of subject, and how many at most."""

    name: str
    kind: str
    up_to: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """How a matter's claims become one verdict; `rule.py` evaluates it.

    Attributes:
        all: Names of claims and any-groups that must hold, each for every subject of its slots.
        any: By group: one of these claims must hold.
        some: By slot: one subject of the slot must make all of these claims and groups hold.
        agree: By group: these claims are sources of one fact. One of them must say so and none may deny it.
    """

    all: tuple[str, ...] = ()
    any: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    some: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    agree: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def group(self, name: str) -> tuple[str, ...] | None:
        """The claims of a group of either kind; None if there is none of the name."""
        return self.any.get(name, self.agree.get(name))


@dataclass(frozen=True, slots=True)
class PointsClass:
    """One class of a table of points.

    Attributes:
        when: Names of claims and groups of the rule; the class fits if all of them hold.
        base: Points of the class.
    """

    title: Title
    when: tuple[str, ...]
    base: int


@dataclass(frozen=True, slots=True)
class Points:
    """How many points a case has; `points.py` works it out.

    Attributes:
        slot: One subject of it counts: of those by whom the rule holds, the one with the most points.
        classes: The first that fits gives its points.
        each: A claim with `at_least` about the slot: one more point for each unit, up to the last published cell.
        every: Names within the classes that must hold for every subject of the slot, whoever counts.
        counting: What counts and what does not, in words for people.
    """

    slot: str
    classes: tuple[PointsClass, ...]
    each: str
    every: frozenset[str]
    counting: Title


@dataclass(frozen=True, slots=True)
class Matter:
    """A public service for which one asks, signed by the centre.

    Attributes:
        basis_until: When the legal basis ends; None if it does not say. Grants should not outlive it.
        requesters: Departments that may ask for it.
        reference_date: The day as of which everything is evaluated; None means the day of asking.
        reference: Pattern of the requester's reference.
        official: Pattern of officials' ids.
        claims: By name.
        rule: None if the matter names no claims.
        points: None if it gives no points.
        version: First 16 bytes of the SHA-256 of its file.
    """

    name: str
    title: Title
    basis: str
    requesters: frozenset[str]
    reference_date: date | None
    reference: str
    official: str
    slots: Mapping[str, MatterSlot]
    claims: Mapping[str, Claim]
    rule: Rule | None
    version: bytes = b""
    basis_until: int | None = None
    points: Points | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """One verified snapshot of everything.

    Attributes:
        version: Version of the TUF snapshot.
        role_versions: Version of each role's metadata, by role ("root", "targets", "hrss", "hrss-suspend", …).
        expires: From then on nobody decides by it.
        documents: By department. A member that has published nothing, or whose signatures lapsed, is missing.
        suspensions: Of all departments.
        matters: By name.
        revoked: Serial numbers of revoked certificates.
        revocation_times: When each of them was revoked.
        revocations_as_of: When the list of them was made; 0 without a list.
        admin_keys: Raw Ed25519 public keys of each department's admins, as the centre delegates.
        lapsed: Departments whose metadata expired or lost its signatures: they neither ask nor answer.
        timestamp_hash: SHA-256 of the timestamp metadata.
        expiries: When signed parts run out, since the epoch: each role by its name, and "crl.pem" at
            its next update. By these people are alarmed; `expires` alone decides.
        activations: Openings of emergencies that count (`policy.emergencies.counting`), at whichever time.
    """

    version: int
    role_versions: Mapping[str, int]
    expires: float
    centre: Centre
    documents: Mapping[str, Document]
    matters: Mapping[str, Matter]
    suspensions: tuple[Suspension, ...] = ()
    revoked: frozenset[int] = frozenset()
    revocation_times: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    revocations_as_of: float = 0.0
    admin_keys: Mapping[str, frozenset[bytes]] = field(default_factory=lambda: MappingProxyType({}))
    lapsed: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    timestamp_hash: bytes = b""
    expiries: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    activations: tuple[Activation, ...] = ()

    def attribute(self, owner: str, name: str) -> Attribute | None:
        """The published attribute, if there is one."""
        document = self.documents.get(owner)
        return None if document is None else document.attributes.get(name)
