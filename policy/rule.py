"""A matter's rule: from the answers about one case to one verdict. Pure.

A rule never rejects anybody. It says that the case passed, that a person has to look (something could not be
verified), or that a record disagrees with what was claimed, which a person has to look at as well.

Answers are three-valued (Kleene): YES holds, NO does not, everything else is open. "and" is the least, "or" the
greatest, so a case fails only if it would whatever the open answers were. Then the data disagree: with what was
claimed, or, in an agree-group, one source with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

from policy.model import Matter, Rule
from zhiwang.wire.claims import Claim, Predicate


class Fact(Enum):
    """What is known of one claim about certain subjects."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"  # also for denied: there is no answer


class Verdict(StrEnum):
    """What the rule says of a case."""

    PASSED = "passed"
    CHECK_BY_HAND = "check by hand"
    DATA_DISAGREES = "data disagrees"


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim of the matter, asked about certain subjects of the case.

    Attributes:
        claim: Its name in the matter.
        ordinals: Which subject of each slot it was asked about, by slot; the compared slot counts too.
        fact: What was answered.
    """

    claim: str
    ordinals: Mapping[str, int]
    fact: Fact


Place = tuple[str, int]
"""A slot, and which subject of it."""

Sources = list[Finding]


class Truth(IntEnum):
    """Whether something holds. Ordered, so that min is "and" and max is "or"."""

    FAILS = 0
    OPEN = 1
    HOLDS = 2


_TRUTH = {Fact.YES: Truth.HOLDS, Fact.NO: Truth.FAILS}
_VERDICT = {
    Truth.HOLDS: Verdict.PASSED,
    Truth.OPEN: Verdict.CHECK_BY_HAND,
    Truth.FAILS: Verdict.DATA_DISAGREES,
}


def claim_slots(claim: Claim) -> frozenset[str]:
    """Slots whose subjects a claim involves: its own and a compared one."""
    return frozenset(slot for slot in (claim.slot, claim.compared_slot) if slot is not None)


def evaluate(rule: Rule, findings: Iterable[Finding]) -> Verdict:
    """The verdict of a rule.

    A claim that was not asked, or about whom nobody stands in the slot, is open.

    Args:
        rule: The matter's.
        findings: Every claim of the rule about every subject (or pair of subjects) of its slots.
    """
    known = Known(rule, findings)
    parts = [known.holds(name) for name in rule.all]
    parts += [max(known.some(slot).values(), default=Truth.OPEN) for slot in rule.some]
    return _VERDICT[min(parts, default=Truth.OPEN)]


class Known:
    """What is known of a case, and what holds by it.

    Args:
        rule: Names the groups.
        findings: Of the case.
    """

    def __init__(self, rule: Rule, findings: Iterable[Finding]) -> None:
        self._rule = rule
        self._by_claim: dict[str, list[Finding]] = {}
        for finding in findings:
            self._by_claim.setdefault(finding.claim, []).append(finding)

    def about(self, name: str, slot: str | None = None, ordinal: int = 0) -> list[Finding]:
        """What was found about a claim, or the claims of a group; with a slot, what concerns one subject of it."""
        return [
            finding
            for claim in claims_of(self._rule, (name,))
            for finding in self._by_claim.get(claim, ())
            if slot is None or finding.ordinals.get(slot) in {None, ordinal}
        ]

    def facts(self, group: str, slot: str | None = None, ordinal: int = 0) -> dict[frozenset[Place], list[Sources]]:
        """What the sources of a group said, by whom it is about: subjects of the slots that all of them name.

        Returns:
            By those subjects, for each claim of the group what was found; nothing where a source was not asked.
        """
        said = [self.about(claim, slot, ordinal) for claim in claims_of(self._rule, (group,))]
        slots = [set(one.ordinals) for found in said for one in found]
        common = set.intersection(*slots) if slots else set()
        found = dict[frozenset[Place], list[Sources]]()
        for index, findings in enumerate(said):
            for one in findings:
                subjects = frozenset((slot, number) for slot, number in one.ordinals.items() if slot in common)
                found.setdefault(subjects, [[] for _ in said])[index].append(one)
        return found

    def ordinals(self, slot: str, names: Iterable[str]) -> list[int]:
        """Which subjects of a slot these claims and groups were asked about."""
        return sorted({one.ordinals[slot] for name in names for one in self.about(name) if slot in one.ordinals})

    def holds(self, name: str, slot: str | None = None, ordinal: int = 0) -> Truth:
        """Whether a claim or a group holds; with a slot, as far as it concerns one subject of it."""
        group = self._rule.group(name)
        if group is None:
            found = self.about(name, slot, ordinal)
            return min((truth_of(one.fact) for one in found), default=Truth.OPEN)
        said = [self.holds(claim, slot, ordinal) for claim in group]
        contradicted = name in self._rule.agree and Truth.FAILS in said
        return Truth.FAILS if contradicted else max(said)

    def some(self, slot: str) -> dict[int, Truth]:
        """By subject of a slot: whether all that one of them must fulfil holds for it."""
        names = self._rule.some[slot]
        return {
            ordinal: min(self.holds(name, slot, ordinal) for name in names) for ordinal in self.ordinals(slot, names)
        }


def in_the_way(rule: Rule, findings: Iterable[Finding]) -> list[Finding]:
    """What keeps a case from passing: whatever is not YES in those parts of the rule that do not hold.

    Returns:
        In the rule's order, each once; nothing if the rule holds.
    """
    known = Known(rule, findings)
    found: list[Finding] = []
    for name in rule.all:
        if known.holds(name) is not Truth.HOLDS:
            found += known.about(name)
    for slot, names in rule.some.items():
        each = known.some(slot)
        if Truth.HOLDS in each.values():
            continue
        for ordinal in each:
            for name in names:
                if known.holds(name, slot, ordinal) is not Truth.HOLDS:
                    found += known.about(name, slot, ordinal)
    return once(one for one in found if one.fact is not Fact.YES)


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, in their order."""
    return list({(one.claim, tuple(sorted(one.ordinals.items()))): one for one in findings}.values())


def claims_of(rule: Rule, names: Iterable[str]) -> list[str]:
    """The claims of names that may be groups."""
    return [claim for name in names for claim in rule.group(name) or (name,)]


def truth_of(fact: Fact) -> Truth:
    """What a fact says of its claim."""
    return _TRUTH.get(fact, Truth.OPEN)


IDENTITY = frozenset({Predicate.EXISTS, Predicate.EQUALS, Predicate.RELATED})


def default_rule(claims: Mapping[str, Claim]) -> Rule | None:
    """The rule of a matter that states none: every claim. None if it names no claims."""
    return Rule(all=tuple(claims)) if claims else None


def check_rule(matter: Matter) -> list[tuple[str, str]]:
    """What is wrong with a matter's rule.

    Returns:
        (key, message) for each mistake; keys as in the file, e.g. "rule.any.housed".
    """
    rule = matter.rule
    if rule is None:
        return []
    mistakes = [*_check_names(matter, rule), *_check_some(matter, rule)]
    return mistakes or _check_absent(matter, rule)


def _check_names(matter: Matter, rule: Rule) -> list[tuple[str, str]]:
    mistakes = []
    lists = {
        "rule.all": (rule.all, True),
        **{f"rule.any.{name}": (names, False) for name, names in rule.any.items()},
        **{f"rule.agree.{name}": (names, False) for name, names in rule.agree.items()},
        **{f"rule.some.{slot}": (names, True) for slot, names in rule.some.items()},
    }
    used = {name for names, _ in lists.values() for name in names}
    if matter.points is not None:
        used.update(name for one in matter.points.classes for name in one.when)
    for key, (names, groups) in lists.items():
        if not names and (key != "rule.all" or not rule.some):
            mistakes.append((key, "names nothing"))
        mistakes += [(key, f"{name} stands twice") for name in sorted(set(names)) if names.count(name) > 1]
        mistakes += [
            (key, f"{name} is no claim" + (" and no group" if groups else "") + " of this matter")
            for name in names
            if name not in matter.claims and not (groups and rule.group(name) is not None)
        ]
    for key, name in [*(("any", name) for name in rule.any), *(("agree", name) for name in rule.agree)]:
        place = f"rule.{key}.{name}"
        if name in matter.claims:
            mistakes.append((place, f"a claim is called {name} too"))
        if key == "agree" and name in rule.any:
            mistakes.append((place, f"an any-group is called {name} too"))
        if name not in used:
            mistakes.append((place, "neither all, some nor a class of points uses this group, so it decides nothing"))
    return mistakes


def _check_some(matter: Matter, rule: Rule) -> list[tuple[str, str]]:
    mistakes = []
    for slot, names in rule.some.items():
        if slot not in matter.slots:
            mistakes.append((f"rule.some.{slot}", "the matter has no such slot"))
            continue
        for name in names:
            claims = [claim for claim in claims_of(rule, (name,)) if claim in matter.claims]
            strangers = [claim for claim in claims if slot not in claim_slots(matter.claims[claim])]
            # Of an any-group some may be about another slot alone: a home that is rented, or is this guardian's own.
            if name not in rule.any or len(strangers) == len(claims):
                mistakes += [(f"rule.some.{slot}", f"{claim} is not about {slot}") for claim in strangers]
    return mistakes


def _check_absent(matter: Matter, rule: Rule) -> list[tuple[str, str]]:
    """`absent` says nothing about somebody who does not exist: it counts only beside a claim that identifies them."""
    places = {"rule.all": rule.all, **{f"rule.some.{slot}": names for slot, names in rule.some.items()}}
    sure = {matter.claims[name].slot for name in rule.all if name in matter.claims and _identifies(matter, name)}
    mistakes = []
    for key, names in places.items():
        beside = {matter.claims[name].slot for name in names if name in matter.claims and _identifies(matter, name)}
        for name in claims_of(rule, names):
            claim = matter.claims[name]
            # Within some.SLOT only what is said of that same slot is about the same subject.
            known = sure | (beside & {key.removeprefix("rule.some.")})
            if claim.predicate is Predicate.ABSENT and claim.slot not in known:
                mistakes.append(
                    (
                        key,
                        f"{name} asks for absence: require exists, equals or related about {claim.slot} beside it",
                    )
                )
    return mistakes


def _identifies(matter: Matter, name: str) -> bool:
    return matter.claims[name].predicate in IDENTITY
