"""What eight departments have on record about families, companies and dwellings before any trouble is planted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from exchange.demo import codes, names
from exchange.demo.calendar import ENROLMENT_DAY, month_index, some_day, whole_years, years_before
from exchange.demo.chance import happens
from exchange.demo.model import (
    Account,
    Adoption,
    Benefit,
    Birth,
    Card,
    Company,
    Degree,
    Dwelling,
    Enrolment,
    Family,
    Household,
    Lease,
    Marriage,
    Permit,
    Person,
    PlaceLock,
    Population,
    PublicRental,
    Records,
    Registration,
    Title,
    Vaccination,
)

_DAY = timedelta(days=1)
_ADULT_YEARS = 18
_WORKING_YEARS = range(19, 60)
_SENIOR_YEARS = 65
_SCHOOL_YEARS = range(6, 15)
_SON, _DAUGHTER, _SPOUSE, _SELF, _FATHER, _MOTHER = "20", "30", "10", "01", "51", "52"
_WHOLE = 100


class Clerks:
    """Writes the records. Every method but `everything` keeps one department's books.

    Args:
        rng: Source of everything that is left to chance.
        families: Who lives in the city.
        companies: Who employs them.
        spare: Dwellings in which no family lives.
    """

    def __init__(self, rng: Random, families: list[Family], companies: list[Company], spare: list[Dwelling]) -> None:
        self._rng = rng
        self._families = families
        self._companies = companies
        self._spare = spare
        self._adults = [adult for family in families for adult in family.adults]
        self._records = Records()

    def everything(self) -> Records:
        """Return all records."""
        for number, family in enumerate(self._families):
            self._police(number, family)
            self._health(family)
            self._civil(family)
            self._insurance(family)
            self._housing(family)
            self._education(family)
        for dwelling in self._spare:
            if self._chance(0.6):
                self._titled(dwelling, [self._rng.choice(self._adults)])
        return self._records

    def _chance(self, share: float) -> bool:
        return happens(self._rng, share)

    def _past(self, longest: int, shortest: int = 0) -> date:
        """Return a day so many days or fewer before the day of enrolment."""
        return ENROLMENT_DAY - timedelta(days=self._rng.randrange(shortest, longest))

    def _police(self, number: int, family: Family) -> None:
        records, community = self._records, family.home.community
        for person in family.members:
            records.population.append(Population(person, community, person.born))
            age = whole_years(person.born, ENROLMENT_DAY)
            if self._chance(0.97):
                issued = max(self._past(3000), person.born + 30 * _DAY)
                unlimited = age >= 46 and self._chance(0.9)  # noqa: PLR2004 - of 46 and older
                years = 5 if age < 16 else 20  # noqa: PLR2004 - of children
                records.cards.append(Card(person, issued, None if unlimited else years_before(issued, -years)))
            if not family.local:
                self._arrival(person, community, adult=age >= _ADULT_YEARS)
        records.convicted.extend(adult for adult in family.adults if self._chance(0.01))
        if family.local:
            records.households.append(Household(f"{440399000000 + number}", community, _household(family)))

    def _arrival(self, person: Person, community: str, *, adult: bool) -> None:
        records = self._records
        registered = max(self._past(4000, 5), person.born)
        if self._chance(0.97):
            records.registrations.append(Registration(person, community, registered, None))
        if self._chance(0.2):
            earlier = years_before(registered, 2)
            records.registrations.append(Registration(person, community, earlier, registered - 200 * _DAY))
        if not adult or not self._chance(0.94):
            return
        # A permit lasts a year and is renewed; the last ones are still on record.
        issued = self._past(360)
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            records.permits.append(Permit(person, community, issued, years_before(issued, -1) - _DAY))
            issued = years_before(issued, 1)

    def _health(self, family: Family) -> None:
        records = self._records
        for child in family.children:
            if self._chance(0.97 if family.local else 0.94):
                issued = child.born + timedelta(days=self._rng.randrange(3, 60))
                records.births.append(Birth(child, child.mother, child.father, issued))
            if self._chance(0.95):
                done = child.born + timedelta(days=self._rng.randrange(700, 1400))
                records.vaccinations.append(Vaccination(child, done if self._chance(0.93) else None))
        if family.children and self._chance(0.9):
            records.planning.extend(family.adults)
        if len(family.children) == 1 and self._chance(0.5):
            records.only_children.append(family.children[0])
        # Two books disagree about a few of the old: health has them dead, the others do not know it.
        records.deaths.extend(elder for elder in family.elders if self._chance(0.02))

    def _civil(self, family: Family) -> None:
        records = self._records
        for couple in (family.adults, family.elders):
            if len(couple) == 2:  # noqa: PLR2004 - a couple
                wife, husband = couple
                latest = min(max(wife.born, husband.born) + 8000 * _DAY, ENROLMENT_DAY)
                married = latest + timedelta(days=self._rng.randrange(700))
                if self._chance(0.05):
                    former = self._rng.choice(self._adults)
                    if former.sex == "M" and former is not husband:
                        start = married - timedelta(days=self._rng.randrange(400, 2500))
                        records.marriages.append(
                            Marriage(former, wife, start, start + timedelta(days=self._rng.randrange(100, 390)))
                        )
                records.marriages.append(Marriage(husband, wife, min(married, ENROLMENT_DAY - 30 * _DAY), None))
        if len(family.adults) == 2 and family.children and self._chance(0.03):  # noqa: PLR2004 - a couple
            self._adopt(family)
        for person in family.adults + family.elders:
            if whole_years(person.born, ENROLMENT_DAY) >= _SENIOR_YEARS and self._chance(0.4):
                issued = self._past(1500)
                records.senior_cards.append(Benefit(person, issued, years_before(issued, -self._rng.choice((3, 10)))))
            if self._chance(0.02):
                start = self._past(900)
                records.allowances.append(Benefit(person, start, years_before(start, -1)))

    def _adopt(self, family: Family) -> None:
        """Make the youngest child an adopted one: the birth certificate names another mother and no father."""
        child = family.children[-1]
        mother, father = family.adults
        stranger = self._rng.choice(self._adults)
        if stranger.sex != "F" or stranger is mother:
            return
        for birth in self._records.births[-len(family.children) :]:
            if birth.child is child:
                birth.mother, birth.father = stranger, None
        self._records.adoptions.append(
            Adoption(child, mother, father, child.born + timedelta(days=self._rng.randrange(100, 900)))
        )

    def _insurance(self, family: Family) -> None:
        records, rng = self._records, self._rng
        end = month_index(ENROLMENT_DAY)
        for person in family.adults:
            records.degrees.append(Degree(person, rng.choice((1, 1, 2, 2, 3, 3, 3, 4, 5))))
            age = whole_years(person.born, ENROLMENT_DAY)
            if age not in _WORKING_YEARS or not self._chance(0.9):
                continue
            months = rng.randrange(1, 13) if self._chance(0.08) else int(rng.triangular(13, 130, 16))
            first = max(end - months, month_index(person.born) + 12 * _ADULT_YEARS)
            last = end - rng.randrange(2, 14) if self._chance(0.04) else None
            account = Account(person, person.home.community[:9], rng.choice(self._companies), first, last)
            recent = range(max(first, end - 24), end)
            if recent and self._chance(0.05):
                account.no_medical.add(rng.choice(recent))
            if recent and self._chance(0.03):
                account.no_pension.add(rng.choice(recent))
            if recent and self._chance(0.03):
                account.arrears.update(rng.choice(recent) for _ in range(2))
            records.accounts.append(account)

    def _housing(self, family: Family) -> None:
        if self._chance(0.6 if family.local else 0.25):
            self._titled(family.home, family.adults)
            return
        owner = self._rng.choice(self._adults)
        self._titled(family.home, [owner])
        if self._chance(0.04):
            start = self._past(2000)
            self._records.rentals.append(PublicRental(family.adults[0], start, years_before(start, -3)))
        if self._chance(0.95):
            self._leased(family)

    def _leased(self, family: Family) -> None:
        rng = self._rng
        age = rng.randrange(20, 360) if self._chance(0.1) else rng.randrange(380, 1500)
        registered = ENROLMENT_DAY - timedelta(days=age)
        start = registered - timedelta(days=rng.randrange(20))
        lessees = family.adults if self._chance(0.8) else family.adults[:1]
        years = age // 365 + rng.choice((1, 1, 2))
        self._records.leases.append(
            Lease(family.home, list(lessees), registered, start, years_before(start, -years) - _DAY)
        )
        if self._chance(0.2):
            former = rng.choice(self._adults)
            begun = years_before(start, 2)
            self._records.leases.append(
                Lease(family.home, [former], begun, begun, start - _DAY, residential=True, cancelled=self._chance(0.3))
            )

    def _titled(self, dwelling: Dwelling, holders: list[Person]) -> None:
        share = _WHOLE // len(holders)
        if len(holders) > 1 and self._chance(0.7):
            first = self._rng.choice((51, 60, 70, 99))
            shares: list[tuple[Person, int | None]] = [(holders[0], first), (holders[1], _WHOLE - first)]
        else:
            shares = [(holder, share) for holder in holders]
        self._records.titles.append(Title(dwelling, shares, self._past(6000, 30)))

    def _education(self, family: Family) -> None:
        records = self._records
        for child in family.children:
            age = whole_years(child.born, ENROLMENT_DAY)
            if age - 1 in _SCHOOL_YEARS and self._chance(0.9):
                entered = date(ENROLMENT_DAY.year - (age - 6), 9, 1)
                left = some_day(self._rng, entered, ENROLMENT_DAY) if self._chance(0.1) else None
                records.enrolments.append(Enrolment(child, entered, left))
        if family.children and self._chance(0.1):
            until = date(ENROLMENT_DAY.year + self._rng.choice((-1, 2, 4)), 8, 31)
            records.locks.append(PlaceLock(family.home, until))


def _household(family: Family) -> list[tuple[Person, str]]:
    """Return a family as the register writes it: a man is the head, if there is one."""
    head = next((adult for adult in family.adults if adult.sex == "M"), family.adults[0])
    members = [(head, _SELF)]
    members.extend((adult, _SPOUSE) for adult in family.adults if adult is not head)
    members.extend((child, _SON if child.sex == "M" else _DAUGHTER) for child in family.children)
    members.extend((elder, _FATHER if elder.sex == "M" else _MOTHER) for elder in family.elders)
    return members


def companies(
    rng: Random, number: int, representatives: Callable[[], Person], premises: Callable[[], Dwelling]
) -> list[Company]:
    """Return companies with valid codes."""
    made = []
    for index in range(number):
        licensed = ENROLMENT_DAY - timedelta(days=rng.randrange(60, 7000))
        expires = None if happens(rng, 0.5) else years_before(licensed, -rng.choice((5, 10, 20)))
        active = happens(rng, 0.93)
        code, name = codes.company(index), names.firm(rng, index)
        made.append(Company(code, name, representatives(), licensed, expires, active, premises()))
    return made
