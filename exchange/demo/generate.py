"""Makes the example city out of a seed."""

from __future__ import annotations

from datetime import date
from itertools import cycle
from random import Random

from exchange.demo import codes
from exchange.demo.applications import Planter
from exchange.demo.chance import source
from exchange.demo.model import City, Dwelling, Records
from exchange.demo.people import Populace
from exchange.demo.places import Places
from exchange.demo.records import Clerks, companies

DEFAULT_RESIDENTS = 20_000
RESIDENTS_PER_COMPANY = 4
RESIDENTS_PER_DWELLING = 2.5
"""With the default number of residents: 5,000 companies and 8,000 dwellings."""

RESIDENTS_PER_STUDENT = 20
"""A city that is made for so many students has this many residents for each, and more children than it needs."""

_ROOMS_PER_FLOOR = 8


def residents_for(students: int) -> int:
    """Return how many residents a city gets if nobody says it."""
    return max(DEFAULT_RESIDENTS, students * RESIDENTS_PER_STUDENT)


def generate(*, seed: int, residents: int, students: int, places: Places, today: date) -> City:
    """Return a city. The same arguments give the same city; answers as of a past day do not depend on `today`.

    Args:
        seed: Chooses the city.
        residents: Number of people.
        students: Number of applications for a school place.
        places: Divisions on which dwellings stand.
        today: Day of the run, up to which monthly records reach.

    Raises:
        NotEnoughChildrenError: There are fewer children of school age than applications.
    """
    dwellings = _dwellings(source(f"{seed}-dwellings"), int(residents / RESIDENTS_PER_DWELLING), places)
    families, people = Populace(source(f"{seed}-people"), cycle(dwellings)).families(residents)
    rng = source(f"{seed}-companies")
    adults = [adult for family in families for adult in family.adults]
    firms = companies(
        rng, residents // RESIDENTS_PER_COMPANY, lambda: rng.choice(adults), lambda: rng.choice(dwellings)
    )
    spare = dwellings[len(families) :]
    records = Clerks(source(f"{seed}-records"), families, firms, spare).everything()
    city = City(places, today, people, families, dwellings, firms, records, [])
    city.applications = Planter(source(f"{seed}-applications"), city).applications(students)
    return city


def empty(places: Places, today: date) -> City:
    """Return a city in which nobody lives; tests furnish it."""
    return City(places, today, [], [], [], [], Records(), [])


def _dwellings(rng: Random, number: int, places: Places) -> list[Dwelling]:
    """Return dwellings in buildings of up to 32 floors, spread over the communities."""
    made: list[Dwelling] = []
    buildings: dict[str, int] = {}
    while len(made) < number:
        community = rng.choice(places.communities)
        buildings[community] = building = buildings.get(community, 0) + 1
        grid, floors = rng.randrange(1, 20), rng.randrange(2, 33)
        for _ in range(min(rng.randrange(1, 12), number - len(made))):
            room = rng.randrange(1, floors + 1) * 100 + rng.randrange(1, _ROOMS_PER_FLOOR + 1)
            made.append(Dwelling(codes.house(community, grid, building, room)))
    unique = {dwelling.code: dwelling for dwelling in made}
    return list(unique.values()) if len(unique) == number else _filled(unique, number, rng, places)


def _filled(unique: dict[str, Dwelling], number: int, rng: Random, places: Places) -> list[Dwelling]:
    """Replace rooms that were drawn twice."""
    while len(unique) < number:
        code = codes.house(rng.choice(places.communities), 99, len(unique), rng.randrange(101, 3300))
        unique.setdefault(code, Dwelling(code))
    return list(unique.values())
