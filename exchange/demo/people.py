"""Residents in families: couples, single parents, children of their own and adopted, grandparents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

from exchange.demo import codes, names
from exchange.demo.calendar import ENROLMENT_DAY, some_day, years_before
from exchange.demo.chance import happens
from exchange.demo.model import Dwelling, Family, Person

LOCAL_SHARE = 0.35
"""Share of families whose household is registered in the city."""

SINGLE_SHARE = 0.12
SINGLE_PARENT_SHARE = 0.08
GRANDPARENTS_SHARE = 0.3
FORMER_NAME_SHARE = 0.02
_CHILDREN = (0, 1, 1, 1, 2, 2, 2, 3)
_YOUNGEST_YEARS = 3
_OLDEST_CHILD_YEARS = 19
_SCHOOL_AGE_SHARE = 0.7
_YEAR = timedelta(days=365)


class Registrar:
    """Gives out identifiers: a running number for each day of birth and sex."""

    def __init__(self) -> None:
        self._next: dict[tuple[date, str], int] = defaultdict(int)

    def identifier(self, born: date, sex: str) -> str:
        """Return an identifier that was not given out before."""
        number = self._next[born, sex]
        self._next[born, sex] += 1
        return codes.resident(born, number * 2 + (1 if sex == "M" else 0))


class Populace:
    """Makes families until there are enough people.

    Args:
        rng: Source of everything that is left to chance.
        homes: Where families live, one after another.
    """

    def __init__(self, rng: Random, homes: Iterator[Dwelling]) -> None:
        self._rng = rng
        self._homes = homes
        self._registrar = Registrar()

    def families(self, residents: int) -> tuple[list[Family], list[Person]]:
        """Return families with exactly this many members, and the members."""
        families: list[Family] = []
        people: list[Person] = []
        while len(people) < residents:
            family = self._family(residents - len(people))
            families.append(family)
            people.extend(family.members)
        return families, people

    def _family(self, room: int) -> Family:
        rng = self._rng
        home = next(self._homes)
        local = happens(rng, LOCAL_SHARE)
        kind = rng.random()
        if room < 2 or kind < SINGLE_SHARE:  # noqa: PLR2004 - there is no room for a couple
            adult = self._person(rng.choice("MF"), self._adult_birth(), home, local=local)
            return Family([adult], [], [], local, home)
        wanted = min(rng.choice(_CHILDREN), room - 2)
        eldest = self._eldest_birth()
        mother_born = eldest - rng.randrange(22, 36) * _YEAR - timedelta(days=rng.randrange(365))
        mother = self._person("F", mother_born, home, local=local)
        father_born = mother_born - timedelta(days=rng.randrange(-700, 2500))
        father = self._person("M", father_born, home, local=local)
        children = []
        born = eldest
        for _ in range(wanted):
            child = self._person(rng.choice("MF"), born, home, local=local, father=father)
            child.mother, child.father = mother, father
            children.append(child)
            born += timedelta(days=rng.randrange(550, 1800))
            if born > years_before(ENROLMENT_DAY, _YOUNGEST_YEARS):
                break
        if happens(rng, SINGLE_PARENT_SHARE) and children:
            # The other parent lives elsewhere and is none of the city's residents.
            for child in children:
                child.father = None
            return Family([mother], children, [], local, home)
        mother.spouse, father.spouse = father, mother
        family = Family([mother, father], children, [], local, home)
        if room - 2 - len(children) >= 2 and happens(rng, GRANDPARENTS_SHARE):  # noqa: PLR2004 - both grandparents
            family.elders = self._grandparents(father, home, local=local)
        return family

    def _grandparents(self, father: Person, home: Dwelling, *, local: bool) -> list[Person]:
        rng = self._rng
        grandmother_born = father.born - rng.randrange(21, 33) * _YEAR - timedelta(days=rng.randrange(365))
        grandmother = self._person("F", grandmother_born, home, local=local)
        grandfather_born = grandmother_born - timedelta(days=rng.randrange(-500, 2500))
        grandfather = self._person("M", grandfather_born, home, local=local, surname=names.surname(father.name))
        grandmother.spouse, grandfather.spouse = grandfather, grandmother
        father.mother, father.father = grandmother, grandfather
        return [grandmother, grandfather]

    def _person(
        self,
        sex: str,
        born: date,
        home: Dwelling,
        *,
        local: bool,
        father: Person | None = None,
        surname: str | None = None,
    ) -> Person:
        rng = self._rng
        inherited = surname if father is None else names.surname(father.name)
        person = Person(
            self._registrar.identifier(born, sex), names.person(rng, sex, inherited), sex, born, local, home
        )
        if happens(rng, FORMER_NAME_SHARE):
            person.former_name = names.person(rng, sex, inherited)
        return person

    def _eldest_birth(self) -> date:
        """Return a day of birth of an eldest child, at school age more often than not."""
        if happens(self._rng, _SCHOOL_AGE_SHARE):
            youngest, oldest = 6, 14
        else:
            youngest, oldest = _YOUNGEST_YEARS, _OLDEST_CHILD_YEARS
        return some_day(
            self._rng,
            years_before(ENROLMENT_DAY, oldest + 1) + timedelta(days=1),
            years_before(ENROLMENT_DAY, youngest),
        )

    def _adult_birth(self) -> date:
        return some_day(self._rng, years_before(ENROLMENT_DAY, 75), years_before(ENROLMENT_DAY, 20))
