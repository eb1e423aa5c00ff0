"""Questions with known answers, asked of the database at start, every hour, and when columns change.

What fails makes its attribute UNAVAILABLE, never NO.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from datetime import date, datetime

import structlog

from adapters.database import DatabaseError, Lent
from adapters.dialects import spell_list
from adapters.mapping import Mapping, Probe
from adapters.spelling import spell
from adapters.sql import Source
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.clock import CITY_TIME
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identifiers import Scheme
from zhiwang.wire.names import canonical_name, name_spellings
from zhiwang.wire.records import Outcome

INTERVAL = 3600.0
"""Seconds between two rounds."""

_BLIND = frozenset({Predicate.EXISTS, Predicate.ABSENT})
"""Predicates that look at no value."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What became of one probe.

    Attributes:
        index: Of the probe in the mapping.
        attribute: What it is about.
        predicate: How it was asked.
        expected: The answer that must come.
        found: What came: YES, NO, UNKNOWN, or why there was no answer.
    """

    index: int
    attribute: str
    predicate: Predicate
    expected: str
    found: str

    @property
    def passed(self) -> bool:
        """Whether it came as expected."""
        return self.found == self.expected


class Probes:
    """Runs the probes of a mapping and remembers what fails.

    Args:
        source: The department's data sets.
        schemes: Scheme of each kind of subject.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, source: Source, schemes: Dictionary[str, Scheme], clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._schemes = schemes
        self._clock = clock

    def run(self) -> list[ProbeResult]:
        """Ask every probe.

        Raises:
            DatabaseError: The database cannot be reached; nothing is known about any attribute.
        """
        with self._source.lend() as lent:
            return list(self._results(lent))

    def _results(self, lent: Lent) -> Iterator[ProbeResult]:
        for index, probe in enumerate(self._source.mapping.probe):
            claim = Claim.parse(probe.claim)
            published = self._source.attributes.get(claim.attribute)
            if published is None or published.subject not in self._schemes:
                # A newer document has let go of it; the other probes go on.
                yield ProbeResult(index, claim.attribute, claim.predicate, probe.answer, "not published")
                continue
            try:
                found = self._ask(lent, probe, claim).name
            except RefusedError as error:
                found = error.reason.name
            except DatabaseError as error:
                found = error.outcome.name
            except Exception as error:  # noqa: BLE001 - what cannot be proved fails, and the other probes go on
                _log.error("a probe broke", probe=index, attribute=claim.attribute, exc_info=error)
                found = Outcome.FAILED.name
            yield ProbeResult(index, claim.attribute, claim.predicate, probe.answer, found)

    def _ask(self, lent: Lent, probe: Probe, claim: Claim) -> Outcome:
        """One probe, by the very statement that requests use. Place, age and ledger are not probed.

        Raises:
            RefusedError: The probe's identifier or name is not valid.
            DatabaseError: The data set cannot be read.
        """
        today = datetime.fromtimestamp(self._clock(), CITY_TIME).date()
        attribute = self._source.attributes[claim.attribute]
        scheme = self._schemes[attribute.subject]
        identifier = scheme.canonical(probe.subject, today=today)
        names = None
        if probe.name and self._source.mapping.data[self._source.mapping.attribute[claim.attribute].data].name:
            names = spell_list(name_spellings(canonical_name(probe.name)))
        value = claim.cell
        if claim.predicate in {Predicate.EQUALS, Predicate.RELATED}:
            compared = probe.other if probe.other is not None else claim.text
            spelled = spell(attribute.type, compared or "", self._schemes, today)
            value = None if spelled is None else spelled[1]
        plan = self._source.plan(
            self._source.mapping.attribute[claim.attribute].data, ((claim.attribute, claim.predicate),)
        )
        day: date = probe.as_of or today
        row = (scheme.spellings(identifier), names, "", (value,))
        return Outcome(self._source.run(lent, plan, day, [row])[0][0])


def failing_of(results: Iterable[ProbeResult]) -> frozenset[str]:
    """Attributes of which a probe fails; each failure is logged."""
    failed = [result for result in results if not result.passed]
    for result in failed:
        _log.error(
            "probe failed",
            probe=result.index,
            attribute=result.attribute,
            expected=result.expected,
            found=result.found,
        )
    return frozenset(result.attribute for result in failed)


def proven_by(results: Iterable[ProbeResult], mapping: Mapping) -> frozenset[str]:
    """Attributes that their probes show to be in order: all pass, and one reads the value, if there is one."""
    listed = list(results)
    reading = {
        result.attribute
        for result in listed
        if mapping.attribute[result.attribute].reads_nothing or result.predicate not in _BLIND
    }
    return frozenset(reading - {result.attribute for result in listed if not result.passed})
