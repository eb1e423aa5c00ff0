"""A matter's rule: from the answers about one case to one verdict. Pure.

A rule never rejects anybody. It says that the case passed, that a person has to look (something could not be
verified), or that a record disagrees with what was claimed, which a person has to look at as well.

Answers are three-valued (Kleene): YES holds, NO does not, everything else is open. "and" is the least, "or" the
greatest, so a case fails only if it would whatever the open answers were.
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


class _Truth(IntEnum):
    """Ordered, so that min is "and" and max is "or"."""

    FAILS = 0
    OPEN = 1
    HOLDS = 2


_TRUTH = {Fact.YES: _Truth.HOLDS, Fact.NO: _Truth.FAILS}
_VERDICT = {
    _Truth.HOLDS: Verdict.PASSED,
    _Truth.OPEN: Verdict.CHECK_BY_HAND,
    _Truth.FAILS: Verdict.DATA_DISAGREES,
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
    by_claim: dict[str, list[Finding]] = {}
    for finding in findings:
        by_claim.setdefault(finding.claim, []).append(finding)
    parts = [_holds(rule, name, by_claim) for name in rule.all]
    for slot, names in rule.some.items():
        ordinals = {
            finding.ordinals[slot]
            for claim in _claims_of(rule, names)
            for finding in by_claim.get(claim, ())
            if slot in finding.ordinals
        }
        one = [min(_holds(rule, name, by_claim, slot, ordinal) for name in names) for ordinal in ordinals]
        parts.append(max(one, default=_Truth.OPEN))
    return _VERDICT[min(parts, default=_Truth.OPEN)]


def _claims_of(rule: Rule, names: Iterable[str]) -> list[str]:
    return [claim for name in names for claim in rule.any.get(name, (name,))]


def _holds(
    rule: Rule, name: str, by_claim: Mapping[str, list[Finding]], slot: str | None = None, ordinal: int = 0
) -> _Truth:
    """Whether a claim, or one claim of an any-group, holds; with a slot, as far as it concerns one subject of it."""
    group = rule.any.get(name)
    if group is not None:
        return max(_holds(rule, claim, by_claim, slot, ordinal) for claim in group)
    facts = [
        finding.fact
        for finding in by_claim.get(name, ())
        if slot is None or finding.ordinals.get(slot) in {None, ordinal}
    ]
    return min((_TRUTH.get(fact, _Truth.OPEN) for fact in facts), default=_Truth.OPEN)


_IDENTITY = frozenset({Predicate.EXISTS, Predicate.EQUALS, Predicate.RELATED})


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
        **{f"rule.some.{slot}": (names, True) for slot, names in rule.some.items()},
    }
    used = {name for names, _ in lists.values() for name in names}
    for key, (names, groups) in lists.items():
        if not names and (key != "rule.all" or not rule.some):
            mistakes.append((key, "names nothing"))
        mistakes += [(key, f"{name} stands twice") for name in sorted(set(names)) if names.count(name) > 1]
        mistakes += [
            (key, f"{name} is no claim" + (" and no any-group" if groups else "") + " of this matter")
            for name in names
            if name not in matter.claims and not (groups and name in rule.any)
        ]
    for name in rule.any:
        if name in matter.claims:
            mistakes.append((f"rule.any.{name}", f"a claim is called {name} too"))
        if name not in used:
            mistakes.append((f"rule.any.{name}", "neither all nor some uses this group, so it decides nothing"))
    return mistakes


def _check_some(matter: Matter, rule: Rule) -> list[tuple[str, str]]:
    mistakes = []
    for slot, names in rule.some.items():
        if slot not in matter.slots:
            mistakes.append((f"rule.some.{slot}", "the matter has no such slot"))
            continue
        mistakes += [
            (f"rule.some.{slot}", f"{name} is not about {slot}")
            for name in _claims_of(rule, names)
            if name in matter.claims and slot not in claim_slots(matter.claims[name])
        ]
    return mistakes


def _check_absent(matter: Matter, rule: Rule) -> list[tuple[str, str]]:
    """`absent` says nothing about somebody who does not exist: it counts only beside a claim that identifies them."""
    places = {"rule.all": rule.all, **{f"rule.some.{slot}": names for slot, names in rule.some.items()}}
    sure = {matter.claims[name].slot for name in rule.all if name in matter.claims and _identifies(matter, name)}
    mistakes = []
    for key, names in places.items():
        beside = {matter.claims[name].slot for name in names if name in matter.claims and _identifies(matter, name)}
        for name in _claims_of(rule, names):
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
    return matter.claims[name].predicate in _IDENTITY
