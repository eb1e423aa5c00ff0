"""Decides by Casbin whether a system may ask something. The only importer of casbin.

One model; one stock enforcer for each (owner, attribute, matter), built when first asked from rules that never change
afterwards; a cache of decisions in front. An `Enforcer` belongs to one snapshot of the directory: a newer snapshot
gets a new one, and whoever holds it swaps one reference (casbin's own `load_policy` in place fails open under
threads). The traps of casbin that shape this file, each with a test in `tests/unit/policy/test_traps.py`:

- An empty rule set can allow: every enforcer carries a sentinel row that never matches.
- A misspelt effect allows and rows of an unknown shape vanish: rows are checked here and loaded all or nothing.
- Comparisons are of text: numbers and times have a fixed width.
- No `eval()`, `regexMatch` or `keyMatch`: places are compared by a function of two parsed codes.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

import casbin
from casbin.model import Model

from certs.identity import Identity, Kind
from policy.emergencies import grants
from policy.model import SENSITIVITIES, Attribute, Deny, Directory, Grant, Suspension
from zhiwang.wire.claims import Predicate
from zhiwang.wire.errors import FatalError, Reason
from zhiwang.wire.places import Jurisdiction, Level

MODEL = """
[request_definition]
r = system, role, home, level, owner, attribute, sensitivity, predicate, jurisdiction, matter, assurance, now, \
official, trace

[policy_definition]
p = id, system, role, official, predicate, place, level, least_sensitive, most_sensitive, assurance, not_before, \
not_after, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = (r.role == p.role || p.role == "*") && (r.predicate == p.predicate || p.predicate == "*") && \
(r.system == p.system || p.system == "*") && (r.official == p.official || p.official == "*") && \
r.now >= p.not_before && r.now < p.not_after && r.level <= p.level && r.assurance >= p.assurance && \
r.sensitivity >= p.least_sensitive && r.sensitivity <= p.most_sensitive && \
placed(p.place, p.eft, r.home, r.jurisdiction) && matched(r.trace, p.id)
"""
"""The language. Owner, attribute and matter choose the enforcer, so that no rule compares them."""

ANY = "*"
SELF = "@self"
ALLOW = "allow"
DENY = "deny"
MAX_DECISIONS = 65_536
"""Decisions that one snapshot's cache holds; the oldest goes first. About 400 bytes each."""

_TIME_WIDTH = 12
_BEGINNING = "0" * _TIME_WIDTH
_END = "9" * _TIME_WIDTH


class Row(NamedTuple):
    """One Casbin rule: the columns of the model's `p`, all text."""

    id: str
    system: str
    role: str
    official: str
    predicate: str
    place: str
    level: str
    least_sensitive: str
    most_sensitive: str
    assurance: str
    not_before: str
    not_after: str
    eft: str


SENTINEL = Row("#", "#", "#", "#", "#", "#", "0", "9", "0", "9", _END, _BEGINNING, DENY)
"""Matches nothing: no role is called so, and its time is empty."""

_PLACE = r"[a-z][a-z0-9_-]*:[0-9]{4,12}"
_SHAPES = Row(
    id=r"[^\x00-\x1f#][^\x00-\x1f]*",
    system=r"\*|[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*",
    role=r"\*|[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*",
    official=r"\*|[a-z][a-z0-9_-]*/[!-~]+",
    predicate=r"\*|" + "|".join(predicate.value for predicate in Predicate),
    place=rf"\*|@self|{_PLACE}(?: {_PLACE})*",
    level="[1-4]",
    least_sensitive="[1-9]",
    most_sensitive="[1-9]",
    assurance="[1-3]",
    not_before=rf"[0-9]{{{_TIME_WIDTH}}}",
    not_after=rf"[0-9]{{{_TIME_WIDTH}}}",
    eft="allow|deny",
)
_STRICT = tuple(re.compile(shape) for shape in _SHAPES)
_STRICT_ROW = re.compile("\n".join(f"(?:{shape})" for shape in _SHAPES))
"""All fields at once, for speed: no shape admits a line break, so nothing can pass for another field."""


_PARSING: Final = threading.Lock()
"""Held while casbin parses its matcher: CPython 3.11 counts the depth of its parser for all threads together, and two
that parse at once can fail with a SystemError (CPython's issue 106905). Cached decisions never come here."""

RULES_TEXT: Final = 256
"""Characters by which an entry of a log names the rules of one claim: two of the longest names."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a system may ask.

    Attributes:
        system: Identity of the asking system, as its certificate names it.
        role: Whole, e.g. "edu/enrolment-clerk".
        owner: Department that owns the attribute.
        attribute: Name without the owner.
        assurance: Number of the wire's Assurance.
        now: Seconds since the epoch.
        official: The official's id in the requester's own numbering.
    """

    system: Identity
    role: str
    owner: str
    attribute: str
    predicate: Predicate
    jurisdiction: Jurisdiction
    matter: str
    assurance: int
    now: float
    official: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided.

    Attributes:
        reason: None if allowed.
        rule_ids: All rules that matched; of an allowed question they are grants. Prefixed with who made the rule
            ("hrss/enrolment-pension", "centre/deny-1"); those that an emergency opened come after the others
            ("health/emergency/shelter/civil-20261127-3f9c2a").
    """

    allowed: bool
    reason: Reason | None
    rule_ids: tuple[str, ...] = ()

    @property
    def rules_text(self) -> str:
        """The rules as an entry of a log names them: as many as fit, then how many more there are.

        One rule suffices to allow, and an entry has to stay below the size that other people's tools read.
        """
        return ",".join(within(self.rule_ids, RULES_TEXT))


def within(names: Sequence[str], size: int) -> tuple[str, ...]:
    """As many names as fit into so many characters with commas between them, then how many more there are: "+17"."""
    ends = list(accumulate(len(name) + 1 for name in names))
    if not ends or ends[-1] - 1 <= size:
        return tuple(names)
    count = bisect_right(ends, size - len(f"+{len(names)}"))
    return (*names[:count], f"+{len(names) - count}")


_NOT_GRANTED = Decision(allowed=False, reason=Reason.NOT_GRANTED)


class Timed(NamedTuple):
    """A decision and the time in which it holds."""

    decision: Decision
    since: float
    until: float


class _Rules(NamedTuple):
    """The enforcer of one (owner, attribute, matter) and the times at which its decisions can flip, ascending."""

    enforcer: Any
    edges: tuple[float, ...]


class Enforcer:
    """Decides by one snapshot of the directory. Safe to call from several threads.

    Args:
        directory: The verified snapshot.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._grants: dict[tuple[str, str, str], list[Grant]] = defaultdict(list)
        for grant in grants(directory):
            self._grants[grant.ask.owner, grant.ask.attribute, grant.matter].append(grant)
        self._officials = frozenset(s.official for s in directory.suspensions if s.official is not None)
        self._rules: dict[tuple[str, str, str], _Rules] = {}
        self._decisions: dict[tuple[object, ...], Timed] = {}
        self._writing = threading.Lock()  # guards growth of the two dicts above; reading needs no lock

    def decide(self, question: Question) -> Decision:
        """Decides, from the cache if the same was asked since the last time at which a rule begins or ends."""
        official = self._suspended_official(question)
        key = (
            question.system,
            question.role,
            question.owner,
            question.attribute,
            question.predicate,
            question.jurisdiction,
            question.matter,
            question.assurance,
            official,
        )
        cached = self._decisions.get(key)
        if cached is not None and cached.since <= question.now < cached.until:
            return cached.decision
        cached = self._decide(question, official)
        with self._writing:
            if len(self._decisions) >= MAX_DECISIONS:
                del self._decisions[next(iter(self._decisions))]
            self._decisions[key] = cached
        return cached.decision

    def _suspended_official(self, question: Question) -> str:
        """The official if some suspension names it, else nothing: so that officials do not multiply decisions."""
        if not self._officials or not question.official:
            return ""
        official = f"{question.system.department}/{question.official}"
        return official if official in self._officials else ""

    def _decide(self, question: Question, official: str) -> Timed:
        """Decides anew. What fails before the rules are asked fails whatever the time is."""
        directory = self.directory
        system = question.system
        home = directory.centre.home(system.department, system.name)
        document = directory.documents.get(system.department)
        attribute = directory.attribute(question.owner, question.attribute)
        matter = directory.matters.get(question.matter)
        held = (
            system.kind is Kind.SYSTEM
            and system.city == directory.centre.city
            and document is not None
            and question.role in document.roles.get(system.name, ())
        )
        if (
            home is None
            or attribute is None
            or matter is None
            or not held
            or system.department not in matter.requesters
            or not home.covers(question.jurisdiction)
        ):
            return Timed(_NOT_GRANTED, float("-inf"), float("inf"))
        return self.ask(
            attribute,
            question.predicate,
            matter=question.matter,
            system=f"{system.department}/{system.name}",
            role=question.role,
            home=home,
            level=home.level,
            jurisdiction=question.jurisdiction,
            assurance=question.assurance,
            official=official,
            now=question.now,
        )

    def ask(
        self,
        attribute: Attribute,
        predicate: Predicate,
        *,
        matter: str,
        system: str,
        role: str,
        home: Jurisdiction,
        level: Level,
        jurisdiction: Jurisdiction,
        assurance: int,
        official: str,
        now: float,
    ) -> Timed:
        """Asks the rules alone, uncached, about a system that need not exist: for assertions and explanations."""
        if predicate not in attribute.predicates:
            return Timed(_NOT_GRANTED, float("-inf"), float("inf"))
        rules = self._rules_of(attribute, matter)
        trace: list[str] = []
        with _PARSING:
            allowed = rules.enforcer.enforce(
                system,
                role,
                str(home),
                str(int(level)),
                attribute.owner,
                attribute.name,
                str(attribute.sensitivity),
                predicate.value,
                str(jurisdiction),
                matter,
                str(assurance),
                fixed_time(now),
                official or "-",
                trace,
            )
        decision = Decision(
            allowed=allowed is True,
            reason=None if allowed is True else Reason.NOT_GRANTED,
            rule_ids=tuple(trace),
        )
        place = bisect_right(rules.edges, now)
        since = rules.edges[place - 1] if place else float("-inf")
        until = rules.edges[place] if place < len(rules.edges) else float("inf")
        return Timed(decision, since, until)

    def _rules_of(self, attribute: Attribute, matter: str) -> _Rules:
        key = (attribute.owner, attribute.name, matter)
        rules = self._rules.get(key)
        if rules is None:
            rules = self._build(attribute, matter)
            with self._writing:  # bounded: published attributes times published matters
                self._rules[key] = rules
        return rules

    def _build(self, attribute: Attribute, matter: str) -> _Rules:
        directory = self.directory
        rows = [grant_row(grant) for grant in self._grants.get((attribute.owner, attribute.name, matter), ())]
        rows += [deny_row(deny) for deny in directory.centre.denies if _concerns(deny, attribute, matter)]
        for suspension in directory.suspensions:
            rows += suspension_rows(suspension, attribute, directory)
        return _Rules(make_enforcer(rows), edges(rows))


def _concerns(deny: Deny, attribute: Attribute, matter: str) -> bool:
    return (
        deny.owner in {None, attribute.owner}
        and deny.attribute in {None, attribute.name}
        and deny.matter in {None, matter}
    )


def grant_row(grant: Grant) -> Row:
    """A grant as a rule."""
    return Row(
        id=f"{grant.owner}/{grant.id}",
        system=ANY,
        role=grant.role,
        official=ANY,
        predicate=grant.ask.predicate.value,
        place=" ".join(map(str, grant.places)) if grant.places else SELF,
        level=str(int(grant.level)),
        least_sensitive=str(grant.sensitivity[0]),
        most_sensitive=str(grant.sensitivity[1]),
        assurance=str(grant.assurance),
        not_before=_BEGINNING if grant.not_before is None else fixed_time(grant.not_before),
        not_after=_END if grant.not_after is None else fixed_time(grant.not_after),
        eft=ALLOW,
    )


def deny_row(deny: Deny) -> Row:
    """A deny of the centre as a rule. Owner, attribute and matter have chosen the enforcer already."""
    return _denying(
        f"centre/{deny.id}",
        role=deny.role,
        predicate=deny.predicate,
        place=None if deny.place is None else str(deny.place),
    )


def suspension_rows(suspension: Suspension, attribute: Attribute, directory: Directory) -> list[Row]:
    """A suspension as rules of one attribute: as its owner's, or about the suspending department's own systems."""
    if suspension.owner not in {None, attribute.owner} or suspension.attribute not in {None, attribute.name}:
        return []
    name = f"{suspension.department}/suspend/{suspension.id}"
    if suspension.department == attribute.owner:
        systems: list[str | None] = [suspension.system]
    elif suspension.system is not None:
        systems = [suspension.system] if suspension.system.startswith(f"{suspension.department}/") else []
    else:
        info = directory.centre.departments.get(suspension.department)
        systems = [] if info is None else [f"{suspension.department}/{system}" for system in info.systems]
    return [
        _denying(
            name,
            system=system,
            role=suspension.role,
            official=suspension.official,
            predicate=suspension.predicate,
            not_before=suspension.not_before,
            not_after=suspension.not_after,
        )
        for system in systems
    ]


def _denying(
    name: str,
    *,
    system: str | None = None,
    role: str | None = None,
    official: str | None = None,
    predicate: Predicate | None = None,
    place: str | None = None,
    not_before: int | None = None,
    not_after: int | None = None,
) -> Row:
    """A rule that denies whatever it does not narrow."""
    return Row(
        id=name,
        system=system or ANY,
        role=role or ANY,
        official=official or ANY,
        predicate=ANY if predicate is None else predicate.value,
        place=place or ANY,
        level=str(int(Level.COMMUNITY)),
        least_sensitive=str(SENSITIVITIES[0]),
        most_sensitive=str(SENSITIVITIES[-1]),
        assurance="1",
        not_before=_BEGINNING if not_before is None else fixed_time(not_before),
        not_after=_END if not_after is None else fixed_time(not_after),
        eft=DENY,
    )


def fixed_time(now: float) -> str:
    """Whole seconds as text of a fixed width, so that comparing text compares times.

    Rules begin and end at whole seconds, so nothing is lost by rounding down.
    """
    return f"{min(max(int(now), 0), 10**_TIME_WIDTH - 2):0{_TIME_WIDTH}d}"


def edges(rows: Iterable[Row]) -> tuple[float, ...]:
    """Times at which one of these rules begins or ends."""
    times = {text for row in rows for text in (row.not_before, row.not_after)} - {_BEGINNING, _END}
    return tuple(sorted(map(float, times)))


def check_rows(rows: Sequence[Row]) -> None:
    """Refuses the whole set if one row is not as the model wants it.

    Raises:
        FatalError: A field is missing, misspelt or of another width.
    """
    for row in rows:
        if len(row) != len(_STRICT) or not all(isinstance(value, str) for value in row):
            raise FatalError(Reason.DOCUMENT_INVALID, f"a rule is not {len(_STRICT)} texts")
        if _STRICT_ROW.fullmatch("\n".join(row)) is None:
            wrong = [
                name for name, shape, value in zip(Row._fields, _STRICT, row, strict=True) if not shape.fullmatch(value)
            ]
            raise FatalError(Reason.DOCUMENT_INVALID, f"rule {row[0]!r}: not as the model wants it: {', '.join(wrong)}")


def make_enforcer(rows: Sequence[Row]) -> Any:
    """A stock `casbin.Enforcer` over these rows and the sentinel, never changed afterwards.

    Raises:
        FatalError: A row is malformed, or casbin took in another number of rows.
    """
    check_rows(rows)
    model = Model()
    model.load_model_from_text(MODEL)
    # Rows go in as they are: casbin's own loaders split text and skip what they do not know.
    model["p"]["p"].policy = [list(row) for row in (*rows, SENTINEL)]
    enforcer = casbin.Enforcer(model)
    if len(enforcer.get_policy()) != len(rows) + 1:
        raise FatalError(Reason.INTERNAL, "casbin dropped a rule")
    enforcer.add_function("placed", placed)
    enforcer.add_function("matched", matched)
    return enforcer


@lru_cache(maxsize=16_384)
def _parsed(text: str) -> Jurisdiction:
    return Jurisdiction.parse(text)


def placed(place: str, effect: str, home: str, jurisdiction: str) -> bool:
    """Whether a rule's place takes in where the requester acts.

    A grant's place must contain the whole jurisdiction. A deny's place need only overlap it, since otherwise
    asserting a wider jurisdiction would slip past the deny.
    """
    if place == ANY:
        return True
    where = _parsed(jurisdiction)
    if place == SELF:
        return _parsed(home).covers(where)
    codes = map(_parsed, place.split(" "))
    if effect == DENY:
        return any(code.covers(where) or where.covers(code) for code in codes)
    return any(code.covers(where) for code in codes)


def matched(trace: list[str], rule_id: str) -> bool:
    """Notes a rule that matched in everything before; stands last in the matcher. `trace` belongs to one call."""
    trace.append(rule_id)
    return True
