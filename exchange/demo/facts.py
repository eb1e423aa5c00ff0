"""What each attribute is, read from the model: the rows that an owner has about a subject.

The words are those of the published questions in `examples/documents`; the books are the model's records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias, TypeVar

from exchange.demo.calendar import month_index, whole_months, whole_years
from exchange.demo.model import Account, City, Lease, Permit, Registration, Title

FOREVER = date.max
_MONTHS_COUNTED = 24
_PARENTS_OF_HEAD = {"51", "52"}
_CHILDREN_OF_HEAD = {"20", "30"}
_MAJORITY = 51
_HEADS = {"01", "10"}
_HEAD = "01"
_RESIDENTIAL = "10"
_COMMERCIAL = "20"

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Interval:
    """From one day to another, both included."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class Row:
    """One row about a subject.

    Attributes:
        value: Number, text, interval or subject; None if it cannot be read.
        name: The subject's name on this book; None if the book has none.
        place: Division code of the record; None if the book is not scoped by place.
    """

    value: Any = True
    name: str | None = None
    place: str | None = None


def _by(records: Iterable[_Record], *subjects: Callable[[_Record], Hashable]) -> dict[Hashable, list[_Record]]:
    index: dict[Hashable, list[_Record]] = defaultdict(list)
    for record in records:
        for subject in subjects:
            index[subject(record)].append(record)
    return index


class Ledgers:
    """The records of a city, by the subject that they are about."""

    def __init__(self, city: City) -> None:
        records = city.records
        self.population = _by(records.population, lambda r: r.person)
        self.members = {person: (house, code) for house in records.households for person, code in house.members}
        self.permits = _by(records.permits, lambda r: r.person)
        self.registrations = _by(records.registrations, lambda r: r.person)
        self.cards = _by(records.cards, lambda r: r.person)
        self.convicted = _by(records.convicted, lambda r: r)
        self.births = _by((r for r in records.births if not r.void), lambda r: r.child)
        self.planning = _by(records.planning, lambda r: r)
        self.only_children = _by(records.only_children, lambda r: r)
        self.vaccinations = _by(records.vaccinations, lambda r: r.child)
        self.deaths = _by(records.deaths, lambda r: r)
        self.accounts = _by(records.accounts, lambda r: r.person)
        self.leases = _by((r for r in records.leases if not r.cancelled), lambda r: r.dwelling)
        self.rentals = _by(records.rentals, lambda r: r.person)
        self.titles = _by(records.titles, lambda r: r.dwelling)
        self.holdings: dict[Hashable, list[Title]] = defaultdict(list)
        for title in records.titles:
            for holder, _ in title.holders:
                self.holdings[holder].append(title)
        self.enrolments = _by(records.enrolments, lambda r: r.child)
        self.locks = _by(records.locks, lambda r: r.dwelling)
        self.degrees = _by(records.degrees, lambda r: r.person)
        self.marriages = _by(records.marriages, lambda r: r.husband, lambda r: r.wife)
        self.adoptions = _by(records.adoptions, lambda r: r.child)
        self.allowances = _by(records.allowances, lambda r: r.person)
        self.senior_cards = _by(records.senior_cards, lambda r: r.person)


Rows: TypeAlias = Callable[[Ledgers, Any, date], Iterable[Row]]


@dataclass(frozen=True, slots=True)
class Fact:
    """How one attribute is known.

    Attributes:
        rows: The owner's rows about a subject as of a day.
        any_row: Whether one true row makes it true; otherwise rows must agree.
        stale: Whether the data set was loaded longer ago than the attribute admits.
    """

    rows: Rows
    any_row: bool = False
    stale: bool = False


# Police.


def _age(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for record in books.population.get(person, ()):
        yield Row(None if record.born is None else whole_years(record.born, day), person.name, record.community)


def _name(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    for record in books.population.get(person, ()):
        yield Row(person.name, person.name, record.community)


def _card(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    for card in books.cards.get(person, ()):
        yield Row(Interval(card.issued, card.expires or FOREVER), person.name)


def _household(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    if person in books.members:
        yield Row(name=person.name)


def _household_district(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    if person in books.members:
        yield Row(books.members[person][0].community[:6], person.name)


def _former_name(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    if person in books.members:
        yield Row(person.former_name or None, person.name)


def _same_household(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    if person in books.members:
        for other, _code in books.members[person][0].members:
            if other is not person:
                yield Row(other, person.name)


def _household_parent(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    if person not in books.members:
        return
    house, code = books.members[person]
    for other, relation in house.members:
        if (code in _CHILDREN_OF_HEAD and relation in _HEADS) or (code == _HEAD and relation in _PARENTS_OF_HEAD):
            yield Row(other, person.name)


def _permit(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    permit: Permit
    for permit in books.permits.get(person, ()):
        if permit.functional:
            yield Row(Interval(permit.issued, permit.expires), person.name, permit.community)


def _lasts(record: Registration, day: date) -> bool:
    return record.registered <= day and (record.ended is None or record.ended >= day)


def _residence_months(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for record in books.registrations.get(person, ()):
        yield Row(whole_months(record.registered, day) if _lasts(record, day) else 0, person.name, record.community)


def _residence_days(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for record in books.registrations.get(person, ()):
        yield Row((day - record.registered).days if _lasts(record, day) else 0, person.name, record.community)


# Health.


def _birth_mother(books: Ledgers, child: Any, _: date) -> Iterator[Row]:
    for birth in books.births.get(child, ()):
        yield Row(birth.mother, child.name)


def _birth_father(books: Ledgers, child: Any, _: date) -> Iterator[Row]:
    for birth in books.births.get(child, ()):
        yield Row(birth.father, child.name)


def _birth_parent(books: Ledgers, child: Any, _: date) -> Iterator[Row]:
    """A certificate that names one parent says nothing of the other: both rows stand, one of them unreadable."""
    for birth in books.births.get(child, ()):
        yield Row(birth.mother, child.name)
        yield Row(birth.father, child.name)


def _vaccinated(books: Ledgers, child: Any, day: date) -> Iterator[Row]:
    for record in books.vaccinations.get(child, ()):
        if record.completed is not None and record.completed <= day:
            yield Row()


# Labour and social security.


def _paid(account: Account, month: int, *, pension: bool, medical: bool) -> bool:
    if month < account.first or (account.last is not None and month > account.last) or month in account.arrears:
        return False
    return not (pension and month in account.no_pension) and not (medical and month in account.no_medical)


def _run(account: Account, day: date, *, pension: bool, medical: bool) -> int:
    """Count months back from the last completed one, as long as each of them was paid in time."""
    month = month_index(day) - 1
    count = 0
    while _paid(account, month - count, pension=pension, medical=medical):
        count += 1
    return count


def _months(*, pension: bool, medical: bool) -> Rows:
    def rows(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
        for account in books.accounts.get(person, ()):
            yield Row(_run(account, day, pension=pension, medical=medical), person.name, account.street)

    return rows


def _insured_of_24(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    last = month_index(day) - 1
    for account in books.accounts.get(person, ()):
        months = range(last - _MONTHS_COUNTED + 1, last + 1)
        count = sum(_paid(account, month, pension=True, medical=True) for month in months)
        yield Row(count, person.name, account.street)


def _employer(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for account in books.accounts.get(person, ()):
        if account.last is None or account.last >= month_index(day) - 1:
            yield Row(account.company, person.name, account.street)


# Housing.


def _in_force(lease: Lease, day: date) -> bool:
    return lease.start <= day <= lease.end


def _lease_months(books: Ledgers, dwelling: Any, day: date) -> Iterator[Row]:
    for lease in books.leases.get(dwelling, ()):
        if not _in_force(lease, day):
            yield Row(0, place=dwelling.community)
        else:
            months = None if lease.registered is None else whole_months(lease.registered, day)
            yield Row(months, place=dwelling.community)


def _lease(books: Ledgers, dwelling: Any, _: date) -> Iterator[Row]:
    for lease in books.leases.get(dwelling, ()):
        yield Row(Interval(lease.start, lease.end), place=dwelling.community)


def _lessee(books: Ledgers, dwelling: Any, day: date) -> Iterator[Row]:
    for lease in books.leases.get(dwelling, ()):
        if _in_force(lease, day):
            for lessee in lease.lessees:
                yield Row(lessee, place=dwelling.community)


def _use(books: Ledgers, dwelling: Any, day: date) -> Iterator[Row]:
    for lease in books.leases.get(dwelling, ()):
        if _in_force(lease, day):
            yield Row(_RESIDENTIAL if lease.residential else _COMMERCIAL, place=dwelling.community)


def _public_rental(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for rental in books.rentals.get(person, ()):
        if rental.start <= day <= rental.end:
            yield Row()


# Real-estate registration.


def _share(books: Ledgers, dwelling: Any, _: date) -> Iterator[Row]:
    for title in books.titles.get(dwelling, ()):
        for _holder, share in title.holders:
            yield Row(share, place=dwelling.community)


def _owner(books: Ledgers, dwelling: Any, _: date) -> Iterator[Row]:
    for title in books.titles.get(dwelling, ()):
        for holder, _share in title.holders:
            yield Row(holder, place=dwelling.community)


def _majority(books: Ledgers, dwelling: Any, _: date) -> Iterator[Row]:
    for title in books.titles.get(dwelling, ()):
        for holder, share in title.holders:
            yield Row(None if share is None else holder if share >= _MAJORITY else "nobody", place=dwelling.community)


def _title_months(books: Ledgers, dwelling: Any, day: date) -> Iterator[Row]:
    for title in books.titles.get(dwelling, ()):
        for _ in title.holders:
            yield Row(whole_months(title.registered, day), place=dwelling.community)


def _home(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    for title in books.holdings.get(person, ()):
        yield Row(name=person.name, place=title.dwelling.community)


# Education.


def _enrolled(books: Ledgers, child: Any, day: date) -> Iterator[Row]:
    for record in books.enrolments.get(child, ()):
        if record.entered <= day and (record.left is None or record.left > day):
            yield Row(name=child.name)


def _place_lock(books: Ledgers, dwelling: Any, day: date) -> Iterator[Row]:
    for lock in books.locks.get(dwelling, ()):
        if lock.until >= day:
            yield Row()


def _degree(books: Ledgers, person: Any, _: date) -> Iterator[Row]:
    for degree in books.degrees.get(person, ()):
        yield Row(degree.level, person.name)


# Civil affairs.


def _married(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for marriage in books.marriages.get(person, ()):
        if marriage.registered <= day and (marriage.ended is None or marriage.ended > day):
            yield Row()


def _divorced(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for marriage in books.marriages.get(person, ()):
        if marriage.ended is not None and marriage.ended <= day:
            yield Row()


def _spouse(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
    for marriage in books.marriages.get(person, ()):
        if marriage.registered <= day and (marriage.ended is None or marriage.ended > day):
            yield Row(marriage.wife if marriage.husband is person else marriage.husband)


def _adoptive_parent(books: Ledgers, child: Any, _: date) -> Iterator[Row]:
    for adoption in books.adoptions.get(child, ()):
        yield Row(adoption.mother)
        if adoption.father is not None:
            yield Row(adoption.father)


def _benefit(book: str) -> Rows:
    def rows(books: Ledgers, person: Any, day: date) -> Iterator[Row]:
        for record in getattr(books, book).get(person, ()):
            if record.start <= day <= record.end:
                yield Row(name=person.name)

    return rows


# Market supervision.


def _licence(_: Ledgers, company: Any, _day: date) -> Iterator[Row]:
    if company.active:
        yield Row(Interval(company.licensed, company.expires or FOREVER), company.name)


def _listed(book: str, *, named: bool = False) -> Rows:
    def rows(books: Ledgers, subject: Any, _: date) -> Iterator[Row]:
        for _record in getattr(books, book).get(subject, ()):
            yield Row(name=subject.name if named else None)

    return rows


FACTS: dict[str, Fact] = {
    "police.age": Fact(_age),
    "police.name": Fact(_name),
    "police.card": Fact(_card),
    "police.household": Fact(_household),
    "police.household_district": Fact(_household_district),
    "police.household_parent": Fact(_household_parent, any_row=True),
    "police.same_household": Fact(_same_household, any_row=True),
    "police.former_name": Fact(_former_name),
    "police.residence_permit": Fact(_permit, any_row=True),
    "police.residence_months": Fact(_residence_months, any_row=True),
    "police.residence_days": Fact(_residence_days, any_row=True),
    "police.conviction": Fact(_listed("convicted", named=True)),
    "health.birth_mother": Fact(_birth_mother),
    "health.birth_father": Fact(_birth_father),
    "health.parent": Fact(_birth_parent, any_row=True),
    "health.family_planning": Fact(_listed("planning", named=True)),
    "health.only_child": Fact(_listed("only_children", named=True)),
    "health.vaccinated": Fact(_vaccinated),
    "health.death": Fact(_listed("deaths", named=True)),
    "hrss.pension_months": Fact(_months(pension=True, medical=False)),
    "hrss.medical_months": Fact(_months(pension=False, medical=True)),
    "hrss.insured_months": Fact(_months(pension=True, medical=True)),
    "hrss.insured_points": Fact(_months(pension=True, medical=True)),
    "hrss.insured_of_24": Fact(_insured_of_24),
    "hrss.employer": Fact(_employer, any_row=True),
    "housing.lease_months": Fact(_lease_months, any_row=True),
    "housing.lease": Fact(_lease, any_row=True),
    "housing.lessee": Fact(_lessee, any_row=True),
    "housing.use": Fact(_use),
    "housing.public_rental": Fact(_public_rental),
    "title.share": Fact(_share, any_row=True),
    "title.owner": Fact(_owner, any_row=True),
    "title.majority": Fact(_majority, any_row=True),
    "title.months": Fact(_title_months, any_row=True),
    "title.homes": Fact(_home),
    "edu.enrolled": Fact(_enrolled),
    "edu.place_lock": Fact(_place_lock),
    "edu.degree": Fact(_degree, stale=True),
    "civil.married": Fact(_married),
    "civil.divorced": Fact(_divorced),
    "civil.spouse": Fact(_spouse),
    "civil.adoptive_parent": Fact(_adoptive_parent, any_row=True),
    "civil.allowance": Fact(_benefit("allowances")),
    "civil.senior_card": Fact(_benefit("senior_cards")),
    "market.licence": Fact(_licence),
    "market.representative": Fact(lambda _, company, __: [Row(company.representative, company.name)]),
    "market.name": Fact(lambda _, company, __: [Row(company.name, company.name)]),
}
"""By attribute. `edu.degree` was loaded too long ago, and everybody's is UNKNOWN."""
