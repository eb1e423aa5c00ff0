from __future__ import annotations

from datetime import date

import pytest

from demo_support import TODAY, places
from exchange.demo.calendar import ENROLMENT_DAY, month_index, whole_months, whole_years
from exchange.demo.codes import company as company_code
from exchange.demo.codes import house, resident
from exchange.demo.generate import empty
from exchange.demo.model import (
    Account,
    Birth,
    City,
    Company,
    Dwelling,
    Household,
    Lease,
    Permit,
    Person,
    Population,
    Title,
)
from exchange.demo.truth import NO, UNKNOWN, YES, Question, Truth

HERE, ELSEWHERE = "440306017001", "440305001001"
HOME = Dwelling(house(HERE, 1, 1, 101))


def person(born: date = date(1990, 5, 5), sequence: int = 1, name: str = "王芳") -> Person:
    return Person(resident(born, sequence), name, "M", born, local=False, home=HOME)


@pytest.fixture
def town() -> City:
    return empty(places(), TODAY)


def ask(
    town: City, attribute: str, predicate: str, subject: object, as_of: date = ENROLMENT_DAY, **more: object
) -> str:
    question = Question(attribute, predicate, subject, "440306", **more)  # type: ignore[arg-type]  # a test's shorthand
    return Truth(town, as_of).answer(question)


def test_an_age_is_reached_on_the_birthday_and_not_the_day_before(town: City) -> None:
    child = person(date(2020, 9, 1))
    town.records.population.append(Population(child, HERE, child.born))
    assert ask(town, "police.age", "at_least", child, cell=6) == YES
    assert ask(town, "police.age", "at_least", child, date(2026, 8, 31), cell=6) == NO


def test_records_that_disagree_are_unknown_and_those_that_agree_are_not(town: City) -> None:
    child = person(date(2020, 9, 1))
    town.records.population += [Population(child, HERE, child.born), Population(child, HERE, date(2018, 1, 1))]
    assert ask(town, "police.age", "at_least", child, cell=6) == YES
    town.records.population.append(Population(child, HERE, date(2022, 1, 1)))
    assert ask(town, "police.age", "at_least", child, cell=6) == UNKNOWN


@pytest.mark.parametrize("trouble", ["no record", "elsewhere", "unreadable", "name", "empty slot"])
def test_what_cannot_be_told_is_unknown_and_nothing_tells_it_apart(town: City, trouble: str) -> None:
    child = person(date(2018, 9, 1))
    born = None if trouble == "unreadable" else child.born
    if trouble != "no record":
        town.records.population.append(Population(child, ELSEWHERE if trouble == "elsewhere" else HERE, born))
    subject = None if trouble == "empty slot" else child
    assert ask(town, "police.age", "at_least", subject, cell=6, name="李四" if trouble == "name" else "") == UNKNOWN


def test_middle_dots_are_one_and_nothing_else_is(town: City) -> None:
    child = person(date(2018, 9, 1), name="阿依古丽·买买提")
    town.records.population.append(Population(child, HERE, child.born))
    assert ask(town, "police.age", "at_least", child, cell=6, name="阿依古丽•买买提") == YES
    assert ask(town, "police.age", "at_least", child, cell=6, name="阿依古丽买买提") == UNKNOWN


def test_months_are_counted_back_from_the_last_completed_one(town: City) -> None:
    worker = person()
    employer = Company(company_code(1), "甲", worker, date(2020, 1, 1), None, active=True, premises=HOME)
    account = Account(worker, HERE[:9], employer, month_index(date(2025, 9, 1)), None)
    town.records.accounts.append(account)
    assert ask(town, "hrss.pension_months", "at_least", worker, cell=12) == YES
    assert ask(town, "hrss.pension_months", "at_least", worker, cell=13) == NO
    assert ask(town, "hrss.pension_months", "at_least", worker, date(2026, 8, 31), cell=12) == NO
    account.no_medical.add(month_index(date(2025, 12, 1)))
    assert ask(town, "hrss.insured_months", "at_least", worker, cell=8) == YES
    assert ask(town, "hrss.insured_months", "at_least", worker, cell=9) == NO
    assert ask(town, "hrss.pension_months", "at_least", worker, cell=12) == YES
    account.arrears.add(month_index(date(2026, 8, 1)))
    assert ask(town, "hrss.pension_months", "at_least", worker, cell=6) == NO


def test_any_lease_will_do_and_one_that_cannot_be_read_leaves_it_open(town: City) -> None:
    lessee = person()
    old = Lease(HOME, [lessee], date(2023, 1, 1), date(2023, 1, 1), date(2024, 12, 31))
    town.records.leases.append(old)
    assert ask(town, "housing.lease_months", "at_least", HOME, cell=12) == NO
    assert ask(town, "housing.lessee", "related", HOME, other=lessee) == UNKNOWN
    new = Lease(HOME, [lessee], None, date(2025, 1, 1), date(2027, 12, 31))
    town.records.leases.append(new)
    assert ask(town, "housing.lease_months", "at_least", HOME, cell=12) == UNKNOWN
    new.registered = date(2025, 9, 1)
    assert ask(town, "housing.lease_months", "at_least", HOME, cell=12) == YES
    assert ask(town, "housing.lessee", "related", HOME, other=lessee) == YES
    assert ask(town, "housing.lessee", "related", HOME, other=person(sequence=3)) == NO
    new.cancelled = True
    assert ask(town, "housing.lease_months", "at_least", HOME, cell=12) == NO


def test_a_parent_on_the_certificate_is_a_parent_and_a_blank_leaves_the_other_open(town: City) -> None:
    child, mother, father = person(date(2018, 9, 1)), person(sequence=3), person(sequence=5)
    town.records.births.append(Birth(child, mother, None, date(2018, 9, 3)))
    assert ask(town, "health.parent", "related", child, other=mother) == YES
    assert ask(town, "health.parent", "related", child, other=father) == UNKNOWN
    town.records.births[0].father = father
    assert ask(town, "health.parent", "related", child, other=person(sequence=7)) == NO
    assert ask(town, "health.parent", "related", child, other=None) == UNKNOWN


def test_two_mothers_are_no_mother(town: City) -> None:
    child, mother, other = person(date(2018, 9, 1)), person(sequence=3), person(sequence=5)
    town.records.births.append(Birth(child, mother, None, date(2018, 9, 3)))
    assert ask(town, "health.birth_mother", "related", child, other=mother) == YES
    town.records.births.append(Birth(child, other, None, date(2018, 9, 4)))
    assert ask(town, "health.birth_mother", "related", child, other=mother) == UNKNOWN
    town.records.births[1].void = True
    assert ask(town, "health.birth_mother", "related", child, other=mother) == YES


def test_absence_is_yes_without_a_record_no_with_one_and_never_scoped_by_place(town: City) -> None:
    owner = person(name="王芳")
    assert ask(town, "title.homes", "absent", owner) == YES
    town.records.titles.append(Title(Dwelling(house(ELSEWHERE, 1, 1, 101)), [(owner, 100)], date(2020, 1, 1)))
    assert ask(town, "title.homes", "absent", owner) == NO
    assert ask(town, "title.homes", "exists", owner) == UNKNOWN
    assert ask(town, "title.homes", "absent", owner, name="李四") == UNKNOWN


def test_a_permit_holds_from_its_first_to_its_last_day(town: City) -> None:
    holder = person()
    permit = Permit(holder, HERE, ENROLMENT_DAY, ENROLMENT_DAY)
    town.records.permits.append(permit)
    assert ask(town, "police.residence_permit", "valid", holder) == YES
    assert ask(town, "police.residence_permit", "valid", holder, date(2026, 9, 2)) == NO
    permit.functional = False
    assert ask(town, "police.residence_permit", "valid", holder) == UNKNOWN


def test_parents_by_the_household_register_follow_from_both_relations_to_the_head(town: City) -> None:
    head, wife, son, mother = (person(sequence=number) for number in (1, 3, 5, 7))
    house_ = Household("1", HERE, [(head, "01"), (wife, "10"), (son, "20"), (mother, "52")])
    town.records.households.append(house_)
    parent = "police.household_parent"
    assert ask(town, parent, "related", son, other=head) == ask(town, parent, "related", son, other=wife) == YES
    assert ask(town, parent, "related", head, other=mother) == YES
    assert ask(town, parent, "related", son, other=mother) == NO
    assert ask(town, "police.same_household", "related", mother, other=son) == YES
    assert ask(town, "police.household_district", "equals", son, other="440306") == YES
    assert ask(town, "police.household_district", "equals", son, other="440305") == NO


def test_a_stale_data_set_answers_nothing(town: City) -> None:
    assert ask(town, "edu.degree", "at_least", person(), cell=2) == UNKNOWN


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        (date(2025, 9, 1), date(2026, 9, 1), 12),
        (date(2025, 9, 2), date(2026, 9, 1), 11),
        (date(2026, 1, 31), date(2026, 2, 28), 0),
        (date(2026, 9, 2), date(2026, 9, 1), -1),
    ],
)
def test_whole_months(start: date, end: date, months: int) -> None:
    assert whole_months(start, end) == months


def test_an_age_on_29_february_is_reached_on_1_march() -> None:
    assert whole_years(date(2020, 2, 29), date(2026, 2, 28)) == 5
    assert whole_years(date(2020, 2, 29), date(2026, 3, 1)) == 6
