"""What is true in the example city, and what each department has on record about it, in plain Python.

Records are what a department believes; most agree with the people they are about, and the deliberate troubles are
where they do not. `stores` writes records into schemas, `truth` reads them for the expected answers; neither knows of
the other. None in a value stands for something that the department's database holds but nobody can read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from exchange.demo.places import Places


@dataclass(slots=True, eq=False)
class Dwelling:
    """A dwelling by its 25-digit house code; the first 12 digits are its community."""

    code: str

    @property
    def community(self) -> str:
        """Division code of twelve digits."""
        return self.code[:12]


@dataclass(slots=True, eq=False)
class Person:
    """A resident.

    Attributes:
        identifier: Resident identifier of 18 characters.
        name: In the standard spelling.
        sex: "M" or "F".
        born: Date of birth.
        local: Whether the household is registered in the city.
        home: Where the person lives.
    """

    identifier: str
    name: str
    sex: str
    born: date
    local: bool
    home: Dwelling
    mother: Person | None = None
    father: Person | None = None
    spouse: Person | None = None
    former_name: str = ""


@dataclass(slots=True, eq=False)
class Family:
    """People who live together: the couple or single parent, their children, and the grandparents of one side."""

    adults: list[Person]
    children: list[Person]
    elders: list[Person]
    local: bool
    home: Dwelling

    @property
    def members(self) -> list[Person]:
        """Everybody."""
        return [*self.adults, *self.children, *self.elders]


@dataclass(slots=True, eq=False)
class Company:
    """A company in the market register."""

    code: str
    name: str
    representative: Person
    licensed: date
    expires: date | None
    active: bool
    premises: Dwelling


# Police.


@dataclass(slots=True, eq=False)
class Population:
    """The register of who lives where. `born` is None where the date cannot be read."""

    person: Person
    community: str
    born: date | None


@dataclass(slots=True, eq=False)
class Household:
    """A registered household: its members with their relation to the head (GB/T 4761)."""

    number: str
    community: str
    members: list[tuple[Person, str]]


@dataclass(slots=True, eq=False)
class Permit:
    """A residence permit; `functional` is False when its functions are suspended."""

    person: Person
    community: str
    issued: date
    expires: date
    functional: bool = True


@dataclass(slots=True, eq=False)
class Registration:
    """A registration of residence; `ended` is None while it lasts."""

    person: Person
    community: str
    registered: date
    ended: date | None


@dataclass(slots=True, eq=False)
class Card:
    """An identity card; `expires` is None for one of unlimited validity."""

    person: Person
    issued: date
    expires: date | None


# Health.


@dataclass(slots=True, eq=False)
class Birth:
    """A birth certificate; a parent is None where the paper names none."""

    child: Person
    mother: Person | None
    father: Person | None
    issued: date
    void: bool = False


@dataclass(slots=True, eq=False)
class Vaccination:
    """The state of a child's vaccinations; `completed` is None while some are missing."""

    child: Person
    completed: date | None


# Labour and social security.


@dataclass(slots=True, eq=False)
class Account:
    """A social insurance account. Months are counted as year * 12 + month - 1.

    Attributes:
        person: Whose it is.
        street: Division code of nine digits where the person is registered with the insurance.
        company: Employer.
        first: First month paid.
        last: Last month paid; None while it goes on.
        no_pension: Months in between without pension insurance.
        no_medical: Months in between without medical insurance.
        arrears: Months that were paid in arrears and do not count.
    """

    person: Person
    street: str
    company: Company
    first: int
    last: int | None
    no_pension: set[int] = field(default_factory=set)
    no_medical: set[int] = field(default_factory=set)
    arrears: set[int] = field(default_factory=set)


# Housing.


@dataclass(slots=True, eq=False)
class Lease:
    """A registered lease; `registered` is None where the date cannot be read."""

    dwelling: Dwelling
    lessees: list[Person]
    registered: date | None
    start: date
    end: date
    residential: bool = True
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class PublicRental:
    """A contract of public rental housing."""

    person: Person
    start: date
    end: date


# Real-estate registration.


@dataclass(slots=True, eq=False)
class Title:
    """The title of a dwelling: who holds how many hundredths; None where the share cannot be read."""

    dwelling: Dwelling
    holders: list[tuple[Person, int | None]]
    registered: date


# Education.


@dataclass(slots=True, eq=False)
class Enrolment:
    """A pupil's enrolment; `left` is None while it lasts."""

    child: Person
    entered: date
    left: date | None


@dataclass(slots=True, eq=False)
class PlaceLock:
    """A dwelling by which a school place was given, and until when no other is given by it."""

    dwelling: Dwelling
    until: date


@dataclass(slots=True, eq=False)
class Degree:
    """The highest degree: 1 secondary, 2 college, 3 bachelor, 4 master, 5 doctor."""

    person: Person
    level: int


# Civil affairs.


@dataclass(slots=True, eq=False)
class Marriage:
    """A marriage; `ended` is the day of the divorce."""

    husband: Person
    wife: Person
    registered: date
    ended: date | None


@dataclass(slots=True, eq=False)
class Adoption:
    """An adoption."""

    child: Person
    mother: Person
    father: Person | None
    registered: date


@dataclass(slots=True, eq=False)
class Benefit:
    """A senior card or an allowance, from one day to another."""

    person: Person
    start: date
    end: date


@dataclass(slots=True)
class Records:
    """What the departments have on record."""

    population: list[Population] = field(default_factory=list)
    households: list[Household] = field(default_factory=list)
    permits: list[Permit] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    convicted: list[Person] = field(default_factory=list)
    births: list[Birth] = field(default_factory=list)
    planning: list[Person] = field(default_factory=list)
    only_children: list[Person] = field(default_factory=list)
    vaccinations: list[Vaccination] = field(default_factory=list)
    deaths: list[Person] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    rentals: list[PublicRental] = field(default_factory=list)
    titles: list[Title] = field(default_factory=list)
    enrolments: list[Enrolment] = field(default_factory=list)
    locks: list[PlaceLock] = field(default_factory=list)
    degrees: list[Degree] = field(default_factory=list)
    marriages: list[Marriage] = field(default_factory=list)
    adoptions: list[Adoption] = field(default_factory=list)
    senior_cards: list[Benefit] = field(default_factory=list)
    allowances: list[Benefit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Party:
    """A subject of an application as it was filled in: the person and the name that somebody typed."""

    person: Person
    name: str


@dataclass(slots=True)
class Application:
    """One application for a school place.

    Attributes:
        number: Its reference; no part of it tells who applies.
        district: Where it was made, six digits.
        child: The child.
        guardians: Up to two, as the form says.
        home: The dwelling that the form names.
        trouble: What was planted in it; empty for none. For tests, never printed with a person.
    """

    number: str
    district: str
    child: Party
    guardians: list[Party]
    home: Dwelling
    trouble: str = ""


@dataclass(slots=True)
class City:
    """Everything."""

    places: Places
    today: date
    people: list[Person]
    families: list[Family]
    dwellings: list[Dwelling]
    companies: list[Company]
    records: Records
    applications: list[Application]
