"""What a directory allows, as sets: who can ask what, where and when, and what differs between two versions.

The enforcer answers one question; this answers all of them at once, for people. It decides nothing: a test holds it
against the enforcer, question by question. What rules can tell apart is finite: systems and roles that the directory
names, the divisions that its rules name (and everywhere else between them), three assurances, the times at which a
rule begins or ends, and officials who are suspended by name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from policy.emergencies import grants
from policy.model import Deny, Directory, Grant, Suspension
from zhiwang.wire.claims import Ask
from zhiwang.wire.places import Jurisdiction

ASSURANCES: Final = (1, 2, 3)
FOREVER: Final = float("inf")
EVERYBODY: Final = ""
"""The official of a right that holds for every official whom no suspension names."""

EVERYWHERE: Final = Jurisdiction("any", "")
"""No division, but what covers all of them."""

_COMMON: Final = "any"
"""Code system under which codes that are common to all systems are kept here."""
_LENGTHS: Final = (4, 6, 9, 12)


class Key(NamedTuple):
    """Who asks what for which matter.

    Attributes:
        system: For example "edu/enrolment".
        role: Whole, e.g. "edu/enrolment-clerk".
    """

    system: str
    role: str
    ask: Ask
    matter: str


class Spot(NamedTuple):
    """A kind of place that the rules at hand can tell from every other.

    Attributes:
        place: A division.
        elsewhere: Not the division itself, but wherever in it no rule names a division.
    """

    place: Jurisdiction
    elsewhere: bool


class Where(NamedTuple):
    """Places in words.

    Attributes:
        place: A division.
        part: All of it, the division itself only, or what lies in it.
        without: Of what lies in it, not these and what lies in them.
    """

    place: Jurisdiction
    part: Literal["all", "itself", "elsewhere"]
    without: tuple[Jurisdiction, ...] = ()

    def covers(self, place: Jurisdiction) -> bool:
        """Whether a place is one of these."""
        if not self.place.covers(place):
            return False
        itself = len(place.code) == len(self.place.code)
        return self.part == "all" or (
            itself is (self.part == "itself") and not any(other.covers(place) for other in self.without)
        )

    def as_json(self) -> dict[str, Any]:
        """For machines; a code that is common to all systems stands alone."""
        told = [place.code if place.common else str(place) for place in (self.place, *self.without)]
        return {"place": told[0], "part": self.part, "without": told[1:]}


class Span(NamedTuple):
    """A stretch of time: seconds since the epoch, the end not included."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that bears on one key in one directory, but for place, time, assurance and official."""

    home: Jurisdiction
    grants: tuple[Grant, ...]
    denies: tuple[Deny, ...]
    suspensions: tuple[Suspension, ...]

    @property
    def places(self) -> Iterator[Jurisdiction]:
        """Divisions that these rules name."""
        yield self.home
        for grant in self.grants:
            yield from grant.places
        for deny in self.denies:
            if deny.place is not None:
                yield deny.place

    @property
    def times(self) -> Iterator[float]:
        """When these rules begin and end."""
        rules: tuple[Grant | Suspension, ...] = (*self.grants, *self.suspensions)
        for rule in rules:
            for time in (rule.not_before, rule.not_after):
                if time is not None:
                    yield float(time)

    @property
    def officials(self) -> Iterator[str]:
        """Officials who are suspended by name."""
        for suspension in self.suspensions:
            if suspension.official is not None:
                yield suspension.official

    def allowed(self, spots: Iterable[Spot], at: float, assurance: int, official: str) -> frozenset[Spot]:
        """Where it is allowed at a time."""
        if any(_suspends(suspension, at, official) for suspension in self.suspensions):
            return frozenset()
        grants = [grant for grant in self.grants if assurance >= grant.assurance and _within(grant, at)]
        return frozenset(
            spot
            for spot in spots
            if self.home.covers(spot.place)
            and any(grants_at(grant, spot) for grant in grants)
            and not any(_denies(deny, spot) for deny in self.denies)
        )

    def granting(self, at: float, assurance: int) -> tuple[str, ...]:
        """Names of the grants in force."""
        return tuple(
            f"{grant.owner}/{grant.id}" for grant in self.grants if assurance >= grant.assurance and _within(grant, at)
        )


class Right(NamedTuple):
    """Something that is allowed.

    Attributes:
        home: Of the system.
        assurance: Least assurance of the official (number of the wire's Assurance).
        places: Where, in as few words as say it exactly.
        span: For how long the places stay the same.
        rules: The grants that allow it somewhere.
    """

    key: Key
    home: Jurisdiction
    assurance: int
    places: tuple[Where, ...]
    span: Span
    rules: tuple[str, ...]


class Change(NamedTuple):
    """Something that two directories decide otherwise.

    Attributes:
        allowed: Whether it becomes allowed; otherwise it becomes denied.
        home: Of the system, in the directory that allows it.
        assurances: Of the official, at which it changes.
        officials: For whom; empty for everybody. EVERYBODY stands for all whom no suspension names.
        places: Where, in as few words as say it exactly.
        span: When; from the time of comparison on.
    """

    allowed: bool
    key: Key
    home: Jurisdiction
    assurances: tuple[int, ...]
    officials: tuple[str, ...]
    places: tuple[Where, ...]
    span: Span


class Reach:
    """All that one directory allows. Making one costs one pass over its grants.

    Args:
        directory: Need not be in force.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._grants: dict[tuple[Ask, str], list[Grant]] = defaultdict(list)
        self._by_role: dict[str, set[Key]] = defaultdict(set)
        self._by_attribute: dict[tuple[str, str], set[Key]] = defaultdict(set)
        self._holders: dict[str, list[str]] = defaultdict(list)
        for document in directory.documents.values():
            for system, roles in document.roles.items():
                for role in roles:
                    self._holders[role].append(f"{document.department}/{system}")
        for grant in grants(directory):
            self._grants[grant.ask, grant.matter].append(grant)
            # The systems come later: every role is used by a few of them, and most are not asked about.
            key = Key("", grant.role, grant.ask, grant.matter)
            self._by_role[grant.role].add(key)
            self._by_attribute[grant.ask.owner, grant.ask.attribute].add(key)

    def keys(self, *, owner: str = "", attribute: str = "", system: str = "", role: str = "") -> list[Key]:
        """What some grant is about and some system could use, in order.

        Args:
            owner: Only what this department is asked.
            attribute: Only this attribute of the owner, without the owner's name.
            system: Only what this system asks, e.g. "edu/enrolment".
            role: Only in this role.
        """
        if owner and attribute:
            found = self._by_attribute.get((owner, attribute), set())
        elif role:
            found = self._by_role.get(role, set())
        else:
            held = (name for name, holders in self._holders.items() if system in {"", *holders})
            found = set().union(*(self._by_role.get(name, ()) for name in held))
        return sorted(
            (
                key._replace(system=holder)
                for key in found
                if role in {"", key.role} and owner in {"", key.ask.owner} and attribute in {"", key.ask.attribute}
                for holder in self._holders.get(key.role, ())
                if system in {"", holder}
            ),
            key=_order,
        )

    def holders(self, role: str) -> tuple[str, ...]:
        """Systems that hold a role, by name, e.g. "edu/enrolment"."""
        return tuple(self._holders.get(role, ()))

    def rules(self, key: Key) -> Rules | None:
        """What bears on a key; None if nothing could allow it."""
        directory = self.directory
        department, _, system = key.system.partition("/")
        home = directory.centre.home(department, system)
        attribute = directory.attribute(key.ask.owner, key.ask.attribute)
        matter = directory.matters.get(key.matter)
        document = directory.documents.get(department)
        if (
            home is None
            or attribute is None
            or matter is None
            or document is None
            or key.role not in document.roles.get(system, ())
            or department not in matter.requesters
            or key.ask.predicate not in attribute.predicates
        ):
            return None
        grants = tuple(
            grant
            for grant in self._grants.get((key.ask, key.matter), ())
            if grant.role == key.role
            and home.level <= grant.level
            and grant.sensitivity[0] <= attribute.sensitivity <= grant.sensitivity[1]
        )
        if not grants:
            return None
        return Rules(
            home,
            grants,
            tuple(deny for deny in directory.centre.denies if deny.concerns(key.role, key.ask, key.matter)),
            tuple(entry for entry in directory.suspensions if _bears(entry, key)),
        )

    def rights(self, keys: Iterable[Key], at: float) -> Iterator[Right]:
        """What is allowed at a time, for officials whom no suspension names; what allows nothing is left out."""
        for key in keys:
            rules = self.rules(key)
            if rules is None:
                continue
            spots = spots_of(rules.places, rules.home)
            before: frozenset[Spot] = frozenset()
            for assurance in ASSURANCES:
                places = rules.allowed(spots, at, assurance, EVERYBODY)
                if places and places != before:
                    yield Right(
                        key,
                        rules.home,
                        assurance,
                        outline(places, spots),
                        _steady(rules, spots, at, assurance, places),
                        rules.granting(at, assurance),
                    )
                before = places


def changes(before: Directory, after: Directory, now: float) -> Iterator[Change]:
    """Everything that is decided otherwise by `after`, from `now` on: exactly, each cell once.

    Neighbouring times at which the same places change are one change, and so are assurances.
    """
    old, new = Reach(before), Reach(after)
    for key in sorted({*old.keys(), *new.keys()}, key=_order):
        was, will = old.rules(key), new.rules(key)
        if was != will:
            yield from _changes(key, was, will, now)


def _changes(key: Key, was: Rules | None, will: Rules | None, now: float) -> Iterator[Change]:
    sides = [rules for rules in (was, will) if rules is not None]
    named = [place for rules in sides for place in rules.places]
    spots = frozenset().union(*(spots_of(named, rules.home) for rules in sides))
    edges = sorted({time for rules in sides for time in rules.times if time > now})
    spans = [Span(*pair) for pair in zip([now, *edges], [*edges, FOREVER], strict=True)]
    everybody = sorted({EVERYBODY, *(name for rules in sides for name in rules.officials)})
    for allowed, mine, other in ((False, was, will), (True, will, was)):
        if mine is None:
            continue
        # Gathered from the finest cells: stretches of time first, then assurances, then officials.
        stretches: dict[tuple[str, int, frozenset[Spot]], list[Span]] = defaultdict(list)
        for official in everybody:
            for assurance in ASSURANCES:
                for span in spans:
                    cell = span.since, assurance, official
                    lost = mine.allowed(spots, *cell) - (other.allowed(spots, *cell) if other else frozenset())
                    if lost:
                        _append(stretches[official, assurance, lost], span)
        assurances: dict[tuple[str, frozenset[Spot], Span], list[int]] = defaultdict(list)
        for (official, assurance, places), whole in stretches.items():
            for span in whole:
                assurances[official, places, span].append(assurance)
        officials: dict[tuple[tuple[int, ...], frozenset[Spot], Span], list[str]] = defaultdict(list)
        for (official, places, span), found in assurances.items():
            officials[tuple(found), places, span].append(official)
        for (found_assurances, places, span), who in officials.items():
            yield Change(
                allowed,
                key,
                mine.home,
                found_assurances,
                () if who == everybody else tuple(who),
                outline(places, spots),
                span,
            )


def _order(key: Key) -> tuple[str, ...]:
    return key.role, key.ask.owner, key.ask.attribute, key.ask.predicate.value, key.matter, key.system


def _append(spans: list[Span], span: Span) -> None:
    """Add a later stretch, joined with the last where it follows at once."""
    if spans and spans[-1].until == span.since:
        spans[-1] = Span(spans[-1].since, span.until)
    else:
        spans.append(span)


def _steady(rules: Rules, spots: Collection[Spot], at: float, assurance: int, places: frozenset[Spot]) -> Span:
    """For how long the same places are allowed around a time."""
    edges = [float("-inf"), *sorted(set(rules.times)), FOREVER]
    first = last = bisect_right(edges, at) - 1
    while first > 0 and rules.allowed(spots, edges[first - 1], assurance, EVERYBODY) == places:
        first -= 1
    while last + 2 < len(edges) and rules.allowed(spots, edges[last + 1], assurance, EVERYBODY) == places:
        last += 1
    return Span(edges[first], edges[last + 1])


def spots_of(named: Iterable[Jurisdiction], home: Jurisdiction) -> frozenset[Spot]:
    """All places inside `home` that rules naming these divisions can tell apart."""
    divisions = {_plain(home.system, home.code)}
    for place in named:
        if home.covers(place):
            divisions |= {
                _plain(place.system, place.code[:length])
                for length in _LENGTHS
                if len(home.code) <= length <= len(place.code)
            }
    found = {Spot(division, elsewhere=False) for division in divisions}
    return frozenset(
        found | {Spot(division, elsewhere=True) for division in divisions if len(division.code) < _LENGTHS[-1]}
    )


def outline(places: frozenset[Spot], spots: frozenset[Spot]) -> tuple[Where, ...]:
    """Places in as few words as say them exactly.

    Args:
        places: Some of the spots.
        spots: All of them.
    """
    divisions = sorted({spot.place for spot in spots}, key=lambda place: (place.code, place.system))
    missing = spots - places
    found: list[Where] = []
    for division in divisions:
        if any(where.part == "all" and where.place.covers(division) for where in found):
            continue  # said already by a larger one, which stands before it
        if not any(division.covers(spot.place) for spot in missing):
            found.append(Where(division, "all"))
            continue
        if Spot(division, elsewhere=False) in places:
            found.append(Where(division, "itself"))
        if Spot(division, elsewhere=True) in places:
            below = [other for other in divisions if other != division and division.covers(other)]
            nearest = (other for other in below if not any(upper != other and upper.covers(other) for upper in below))
            found.append(Where(division, "elsewhere", tuple(nearest)))
    return tuple(found)


def _plain(system: str, code: str) -> Jurisdiction:
    place = Jurisdiction(system, code)
    return Jurisdiction(_COMMON, code) if place.common else place


def span_of(rule: Grant | Suspension) -> Span:
    """When a rule holds."""
    return Span(
        float("-inf") if rule.not_before is None else float(rule.not_before),
        FOREVER if rule.not_after is None else float(rule.not_after),
    )


def grants_at(grant: Grant, spot: Spot) -> bool:
    """Whether a grant's place takes in a kind of place."""
    return not grant.places or any(place.covers(spot.place) for place in grant.places)


def _denies(deny: Deny, spot: Spot) -> bool:
    place = deny.place
    return place is None or place.covers(spot.place) or (not spot.elsewhere and spot.place.covers(place))


def _suspends(entry: Suspension, at: float, official: str) -> bool:
    return entry.official in {None, official} and _within(entry, at)


def _within(rule: Grant | Suspension, at: float) -> bool:
    since, until = span_of(rule)
    return since <= at < until


def _bears(entry: Suspension, key: Key) -> bool:
    department = key.system.partition("/")[0]
    # An official is always the requester's own.
    about = entry.official is None or entry.official.partition("/")[0] == department
    return about and entry.concerns(key.system, key.role, key.ask)
