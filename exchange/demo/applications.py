"""Applications for a school place, and the deliberate troubles in them.

Every sixth application gets the next trouble of `TROUBLES`, so that a hundred applications show each of them. A trouble
changes the application or what a department has on record; `truth` is worked out afterwards and knows of no trouble.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from random import Random
from typing import TypeVar

from exchange.demo import names
from exchange.demo.calendar import ENROLMENT_DAY, month_index, whole_years, years_before
from exchange.demo.chance import happens
from exchange.demo.model import (
    Account,
    Application,
    Birth,
    City,
    Dwelling,
    Family,
    Party,
    Person,
    Population,
)

TROUBLED_EVERY = 6
SCHOOL_YEARS = range(6, 16)
_NAME_SHARE = 0.8
"""Share of subjects whose name was typed; the others are asked about by identifier alone."""

_DAY = timedelta(days=1)
_Record = TypeVar("_Record")


TROUBLES: dict[str, Callable[[Planter, Application], None]] = {}
"""What can be wrong, and how it is planted."""


class NotEnoughChildrenError(ValueError):
    """The city is too small for so many applications; the message says how large it would have to be."""


def _trouble(
    description: str,
) -> Callable[[Callable[[Planter, Application], None]], Callable[[Planter, Application], None]]:
    """Enter a method of Planter into the list of troubles."""

    def register(plant: Callable[[Planter, Application], None]) -> Callable[[Planter, Application], None]:
        TROUBLES[description] = plant
        return plant

    return register


class Planter:
    """Makes the applications of a city and plants the troubles.

    Args:
        rng: Source of everything that is left to chance.
        city: The city; its records are changed.
    """

    def __init__(self, rng: Random, city: City) -> None:
        self._rng = rng
        self._city = city
        records = city.records
        self._population = _by(records.population, lambda record: record.person)
        self._births = _by(records.births, lambda record: record.child)
        self._permits = _by(records.permits, lambda record: record.person)
        self._accounts = _by(records.accounts, lambda record: record.person)
        self._leases = _by(records.leases, lambda record: record.dwelling)
        self._titles = _by(records.titles, lambda record: record.dwelling)

    def applications(self, number: int) -> list[Application]:
        """Return so many applications of different children, numbered from 1.

        Raises:
            NotEnoughChildrenError: The city has fewer children of whom to ask.
        """
        candidates = [
            (family, child)
            for family in self._city.families
            if not family.local
            for child in family.children
            if whole_years(child.born, ENROLMENT_DAY) in SCHOOL_YEARS
        ]
        if number > len(candidates):
            needed = -(-number * len(self._city.people) // max(1, len(candidates)))
            raise NotEnoughChildrenError(
                f"{len(self._city.people)} residents have {len(candidates)} children who could apply; "
                f"{number} applications need about {needed} residents"
            )
        made = []
        kinds = list(TROUBLES)
        for index, (family, child) in enumerate(self._rng.sample(candidates, number)):
            application = self._application(index + 1, family, child)
            if index % TROUBLED_EVERY == TROUBLED_EVERY - 1:
                application.trouble = kinds[index // TROUBLED_EVERY % len(kinds)]
                TROUBLES[application.trouble](self, application)
            made.append(application)
        return made

    def _application(self, number: int, family: Family, child: Person) -> Application:
        return Application(
            f"{ENROLMENT_DAY.year}-{number:06d}",
            family.home.code[:6],
            self._party(child),
            [self._party(adult) for adult in family.adults],
            family.home,
        )

    def _party(self, person: Person) -> Party:
        return Party(person, person.name if happens(self._rng, _NAME_SHARE) else "")

    # What is typed wrongly.

    @_trouble("the child's name is mistyped")
    def _wrong_name(self, application: Application) -> None:
        person = application.child.person
        typed = person.name[:-1] + ("甲" if person.name[-1] != "甲" else "乙")
        application.child = Party(person, typed)

    @_trouble("a guardian's name has another dot")
    def _other_dot(self, application: Application) -> None:
        """Give the first guardian a name with a dot on every book, typed with another dot."""
        person = application.guardians[0].person
        person.name = names.dotted(self._rng, person.sex)
        application.guardians[0] = Party(person, names.with_other_dot(person.name, self._rng))

    @_trouble("the first guardian is a stranger")
    def _wrong_guardian(self, application: Application) -> None:
        stranger = self._rng.choice(self._city.families).adults[0]
        application.guardians[0] = self._party(stranger)

    @_trouble("there is one guardian")
    def _one_guardian(self, application: Application) -> None:
        del application.guardians[1:]

    @_trouble("there is no guardian")
    def _no_guardian(self, application: Application) -> None:
        application.guardians.clear()

    @_trouble("the home lies in another district")
    def _other_home(self, application: Application) -> None:
        """Name a dwelling in another district."""
        elsewhere = [d for d in self._city.dwellings[:500] if not d.code.startswith(application.district)]
        application.home = self._rng.choice(elsewhere)

    # What the departments lack.

    @_trouble("no birth certificate")
    def _no_birth(self, application: Application) -> None:
        self._forget(self._city.records.births, self._births.pop(application.child.person, []))

    @_trouble("no insurance account")
    def _no_account(self, application: Application) -> None:
        for guardian in application.guardians:
            self._forget(self._city.records.accounts, self._accounts.pop(guardian.person, []))

    @_trouble("no residence permit")
    def _no_permit(self, application: Application) -> None:
        self._forget(self._city.records.permits, self._permits.pop(application.guardians[0].person, []))

    @_trouble("no lease")
    def _no_lease(self, application: Application) -> None:
        self._forget(self._city.records.leases, self._leases.pop(application.home, []))

    @staticmethod
    def _forget(records: list[_Record], gone: Iterable[_Record]) -> None:
        for record in gone:
            records.remove(record)

    # What the records say otherwise.

    @_trouble("the child is too young")
    def _too_young(self, application: Application) -> None:
        for record in self._population[application.child.person]:
            record.born = years_before(ENROLMENT_DAY, 5)

    @_trouble("too few insured months")
    def _few_months(self, application: Application) -> None:
        for guardian in application.guardians:
            for account in self._accounts.get(guardian.person, []):
                account.first, account.last = month_index(ENROLMENT_DAY) - 7, None

    @_trouble("a month paid in arrears")
    def _arrears(self, application: Application) -> None:
        for guardian in application.guardians:
            for account in self._accounts.get(guardian.person, []):
                account.arrears.add(month_index(ENROLMENT_DAY) - 4)

    @_trouble("the residence permits have expired")
    def _expired_permit(self, application: Application) -> None:
        for guardian in application.guardians:
            for permit in self._permits.get(guardian.person, []):
                permit.expires = min(permit.expires, ENROLMENT_DAY - 40 * _DAY)
                permit.issued = min(permit.issued, permit.expires - 300 * _DAY)

    @_trouble("a residence permit is suspended")
    def _suspended_permit(self, application: Application) -> None:
        for permit in self._permits.get(application.guardians[0].person, []):
            permit.functional = False

    @_trouble("the lease was registered lately")
    def _late_lease(self, application: Application) -> None:
        for lease in self._leases.get(application.home, []):
            lease.registered = lease.start = ENROLMENT_DAY - 150 * _DAY
            lease.end = ENROLMENT_DAY + 215 * _DAY

    @_trouble("half a title")
    def _half_a_title(self, application: Application) -> None:
        for title in self._titles.get(application.home, []):
            holders = [guardian.person for guardian in application.guardians]
            title.holders = [(holder, 50) for holder in holders]

    @_trouble("the child is registered elsewhere")
    def _elsewhere(self, application: Application) -> None:
        """Have the police register the child in another district."""
        other = next(c for c in self._city.places.communities if not c.startswith(application.district))
        for record in self._population[application.child.person]:
            record.community = other

    # What contradicts itself or cannot be read.

    @_trouble("two birth certificates")
    def _two_births(self, application: Application) -> None:
        """Leave an earlier certificate, with another mother, on the books."""
        child = application.child.person
        stranger = next(f.adults[0] for f in self._city.families if f.adults[0].sex == "F" and not f.children)
        record = Birth(child, stranger, None, child.born + 2 * _DAY)
        self._city.records.births.append(record)
        self._births[child].append(record)

    @_trouble("two dates of birth")
    def _two_ages(self, application: Application) -> None:
        child = application.child.person
        record = Population(child, application.home.community, years_before(ENROLMENT_DAY, 4))
        self._city.records.population.append(record)
        self._population[child].append(record)

    @_trouble("two insurance accounts")
    def _two_accounts(self, application: Application) -> None:
        for guardian in application.guardians:
            accounts = self._accounts.get(guardian.person, [])
            if accounts:
                start = month_index(ENROLMENT_DAY) - 3
                second = Account(guardian.person, accounts[0].street, accounts[0].company, start, None)
                self._city.records.accounts.append(second)
                accounts.append(second)

    @_trouble("the date of birth is unreadable")
    def _unreadable_birthday(self, application: Application) -> None:
        for record in self._population[application.child.person]:
            record.born = None

    @_trouble("the lease's date is unreadable")
    def _unreadable_lease(self, application: Application) -> None:
        for lease in self._leases.get(application.home, []):
            lease.registered = None

    @_trouble("the share is unreadable")
    def _unreadable_share(self, application: Application) -> None:
        for title in self._titles.get(application.home, []):
            title.holders = [(holder, None) for holder, _ in title.holders]


def _by(
    records: Iterable[_Record], subject: Callable[[_Record], Person | Dwelling]
) -> dict[Person | Dwelling, list[_Record]]:
    index: dict[Person | Dwelling, list[_Record]] = defaultdict(list)
    for record in records:
        index[subject(record)].append(record)
    return index
