from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
from stdnum.cn import uscc

from demo_support import TODAY, city, places, shared_city
from exchange.demo.applications import TROUBLES, NotEnoughChildrenError
from exchange.demo.calendar import ENROLMENT_DAY, whole_years
from exchange.demo.codes import UNASSIGNED_DIVISION, company, fifteen, resident
from exchange.demo.generate import DEFAULT_RESIDENTS, residents_for
from exchange.demo.model import City
from exchange.demo.truth import expectations


def fingerprint(made: City) -> list[object]:
    """Everything that a seed decides, without the objects' own identity."""
    people = [(p.identifier, p.name, p.born, p.local, p.home.code, p.former_name) for p in made.people]
    companies = [(c.code, c.name, c.representative.identifier, c.expires, c.active) for c in made.companies]
    accounts = [(a.person.identifier, a.street, a.company.code, a.first, a.last) for a in made.records.accounts]
    titles = [(t.dwelling.code, [(h.identifier, s) for h, s in t.holders], t.registered) for t in made.records.titles]
    applications = [
        (
            a.number,
            a.district,
            a.child.name,
            [(g.person.identifier, g.name) for g in a.guardians],
            a.home.code,
            a.trouble,
        )
        for a in made.applications
    ]
    return [people, companies, accounts, titles, applications, expectations(made, ENROLMENT_DAY)]


def test_the_same_seed_makes_the_same_city_and_another_seed_another() -> None:
    assert fingerprint(city(seed=7)) == fingerprint(city(seed=7))
    assert fingerprint(city(seed=7)) != fingerprint(city(seed=8))


def test_answers_as_of_the_day_of_enrolment_do_not_depend_on_the_day_of_the_run() -> None:
    later = city(today=date(2029, 3, 1))
    assert expectations(later, ENROLMENT_DAY) == expectations(city(), ENROLMENT_DAY)


def test_identifiers_are_valid_unique_and_of_the_unassigned_division() -> None:
    made = shared_city()
    identifiers = [person.identifier for person in made.people]
    assert len(set(identifiers)) == len(identifiers) == 3000
    for person in made.people:
        body, check = person.identifier[:17], person.identifier[17]
        total = sum(
            int(digit) * weight
            for digit, weight in zip(body, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), strict=True)
        )
        assert check == "10X98765432"[total % 11]
        assert body.startswith(UNASSIGNED_DIVISION)
        assert body[6:14] == f"{person.born:%Y%m%d}"
        assert int(body[16]) % 2 == (person.sex == "M")
        assert person.born < TODAY


def test_company_codes_are_valid_by_another_implementation() -> None:
    codes = [made.code for made in shared_city().companies] + [
        company(number) for number in range(99_991, 10**7, 99_991)
    ]
    assert len(set(codes)) == len(codes)
    for code in codes:
        uscc.validate(code)


def test_fifteen_digits_exist_for_the_last_century_only() -> None:
    assert fifteen(resident(date(1960, 5, 6), 12)) == "440399600506012"
    assert fifteen(resident(date(2000, 1, 1), 12)) is None


def test_dwellings_stand_in_real_communities() -> None:
    known = set(places().communities)
    dwellings = shared_city().dwellings
    assert len({dwelling.code for dwelling in dwellings}) == len(dwellings) == 1200
    assert all(len(dwelling.code) == 25 and dwelling.community in known for dwelling in dwellings)


def test_the_default_city_is_as_large_as_promised_and_grows_with_the_students() -> None:
    made = city(residents=DEFAULT_RESIDENTS, students=200)
    assert (len(made.people), len(made.companies), len(made.dwellings)) == (20_000, 5_000, 8_000)
    assert residents_for(200) == DEFAULT_RESIDENTS
    many = 2000
    assert len(city(residents=residents_for(many), students=many).applications) == many


def test_a_city_that_is_too_small_says_how_large_it_would_have_to_be() -> None:
    with pytest.raises(NotEnoughChildrenError, match=r"need about [0-9]+ residents"):
        city(residents=300, students=200)


def test_families_hold_together() -> None:
    made = shared_city()
    for family in made.families:
        for child in family.children:
            assert child.mother in family.adults
            assert child.father is None or child.father in family.adults
            for parent in (child.mother, child.father):
                assert parent is None or whole_years(parent.born, child.born) >= 18
        for person in family.members:
            assert person.spouse is None or person.spouse.spouse is person
            assert person.home is family.home
    kinds = Counter((len(family.adults), bool(family.children), bool(family.elders)) for family in made.families)
    assert {(1, False, False), (1, True, False), (2, False, False), (2, True, False), (2, True, True)} <= set(kinds)
    assert made.records.adoptions
    assert any(marriage.ended for marriage in made.records.marriages)


def test_every_trouble_is_planted_and_changes_what_is_expected() -> None:
    made = city(residents=6000, students=len(TROUBLES) * 6)
    planted = {application.trouble for application in made.applications} - {""}
    assert planted == set(TROUBLES)
    answers = expectations(made, ENROLMENT_DAY)
    harmless = {"a guardian's name has another dot", "there is one guardian"}
    unseen = {"two birth certificates"}
    """The matter asks for either parent, so the other mother's certificate takes nothing away."""
    for application in made.applications:
        own = answers[application.number].answers
        if application.trouble and application.trouble not in harmless | unseen:
            expected = {
                "the child's name is mistyped": [("aged", 0), ("parent", 0)],
                "the first guardian is a stranger": [("parent", 0)],
                "there is no guardian": [("parent", 0), ("permit", 0), ("insured", 0), ("tenant", 0), ("own", 0)],
                "the home lies in another district": [("lease", 0), ("own", 0)],
                "no birth certificate": [("parent", 0)],
                "no insurance account": [("insured", 0)],
                "no residence permit": [("permit", 0)],
                "no lease": [("lease", 0)],
                "the child is too young": [("aged", 0)],
                "too few insured months": [("insured", 0)],
                "a month paid in arrears": [("insured", 0)],
                "the residence permits have expired": [("permit", 0)],
                "a residence permit is suspended": [("permit", 0)],
                "the lease was registered lately": [("lease", 0)],
                "half a title": [("own", 0)],
                "the child is registered elsewhere": [("aged", 0)],
                "two dates of birth": [("aged", 0)],
                "two insurance accounts": [("insured", 0)],
                "the date of birth is unreadable": [("aged", 0)],
                "the lease's date is unreadable": [("lease", 0)],
                "the share is unreadable": [("own", 0)],
            }[application.trouble]
            assert all(own[claim] != "YES" for claim in expected), application.trouble
    assert {"YES", "NO", "UNKNOWN"} == {answer for one in answers.values() for answer in one.answers.values()}
    assert {"passed", "check by hand", "data disagrees"} == {one.ruling for one in answers.values()}
