"""What requests are decided by at the moment: the directory in force, and an examiner of the document in it.

Also which attributes may not be answered for now: the mapping does not fit the published document, a probe fails, a
column that they use is not what it was, or answers are not what they should be.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Dictionary
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

import structlog

from adapters.answers import AnswerWatch
from adapters.database import Connections, DatabaseError, Lent
from adapters.drift import ColumnWatch
from adapters.kinds import schemes_of
from adapters.ledger import Ledger
from adapters.mapping import Mapping, unfit
from adapters.probes import INTERVAL, Probes, failing_of, proven_by
from adapters.questions import Examiner
from adapters.sql import Source
from policy.directory import DirectoryHolder
from policy.enforcer import Enforcer
from policy.model import Directory, Document
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.identifiers import Scheme

RETRY = 60.0
"""Seconds after which probes are asked again if the database could not be reached."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standpoint:
    """By what a request is decided: one snapshot of the directory, and the examiner of the document in it."""

    enforcer: Enforcer
    examiner: Examiner


@dataclass(frozen=True, slots=True)
class _TakenUp:
    """What of a directory answers depend on, replaced as one.

    Attributes:
        document: The department's document.
        source: The data sets, asked by it.
        schemes: Scheme of each kind of subject.
        unfit: Attributes that it publishes otherwise than they are mapped.
    """

    document: Document
    source: Source
    schemes: Dictionary[str, Scheme]
    unfit: frozenset[str] = frozenset()


class Standpoints:
    """Makes the standpoint of each directory. `current` may be called from any thread.

    Args:
        holder: The directory in force.
        connections: To the department's database; closed here.
        mapping: Of its facts.
        ledger: Makes charges.
        document: The department's own copy of its document, until a directory brings another.
        answers: Knows what is suspended for its answers.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        holder: DirectoryHolder,
        connections: Connections,
        mapping: Mapping,
        ledger: Ledger,
        document: Document,
        answers: AnswerWatch,
        clock: Callable[[], float],
    ) -> None:
        self._holder = holder
        self._connections = connections
        self._mapping = mapping
        self._ledger = ledger
        self._answers = answers
        self._clock = clock
        self._failing: frozenset[str] = frozenset()
        # What has probes is not answered before they were asked.
        self._unasked = frozenset(Claim.parse(probe.claim).attribute for probe in mapping.probe)
        self._columns = ColumnWatch(connections, mapping)
        self._looking = Lock()
        self._reached = True
        source = Source(connections, mapping, document.attributes, clock=clock)
        self._taken_up = _TakenUp(document, source, schemes_of(None))
        self._standpoint: tuple[_TakenUp, Standpoint] | None = None

    def current(self) -> Standpoint:
        """The standpoint of the directory in force.

        Raises:
            RefusedError: DIRECTORY_EXPIRED, if there is none that still holds.
        """
        enforcer, taken_up, made = self._holder.enforcer, self._taken_up, self._standpoint
        if made is None or made[0] is not taken_up or made[1].enforcer is not enforcer:
            made = self._standpoint = taken_up, self._make(enforcer, taken_up)
        return made[1]

    def _make(self, enforcer: Enforcer, taken_up: _TakenUp) -> Standpoint:
        def closed(attribute: str, predicate: Predicate, department: str) -> bool:
            if attribute in taken_up.unfit or self._doubtful(attribute):
                return True
            return self._answers.closed(attribute, predicate, department)

        examiner = Examiner(taken_up.source, self._ledger, taken_up.schemes, closed, self._clock)
        return Standpoint(enforcer, examiner)

    def _doubtful(self, attribute: str) -> bool:
        return attribute in self._failing or attribute in self._unasked or attribute in self._columns.drifted

    @property
    def family(self) -> str:
        """Which database it is, as SQLAlchemy names it."""
        return self._connections.engine.dialect.name

    @property
    def failing(self) -> frozenset[str]:
        """Attributes whose probes fail."""
        return self._failing

    @property
    def drifted(self) -> frozenset[str]:
        """Attributes of which a column is gone or of another type or collation, without a probe that passes over it."""
        return self._columns.drifted

    def refresh(self, directory: Directory) -> None:
        """Take up the department's document and the kinds of subject of a newer directory.

        Attributes that the document publishes otherwise than they are mapped are UNAVAILABLE until one fits again.
        """
        taken_up = replace(self._taken_up, schemes=schemes_of(directory))
        document = directory.documents.get(self._mapping.department)
        if document is None:
            _log.error("the directory has no document of this department; nothing is granted")
        elif document.attributes != taken_up.document.attributes:
            closed, mistakes = unfit(self._mapping, document)
            for mistake in mistakes:
                key = ".".join(map(str, mistake.key))
                _log.error("the mapping does not fit the published document", setting=key, detail=mistake.message)
            for attribute in sorted(taken_up.unfit - closed):
                _log.info("the mapping fits the published document again", attribute=attribute)
            source = Source(self._connections, self._mapping, document.attributes, clock=self._clock)
            taken_up = replace(taken_up, document=document, source=source, unfit=closed)
        self._taken_up = taken_up

    # What the database says of itself; these block.

    def look_at_columns(self) -> None:
        """See whether columns that attributes use are still what they were; ask every probe at once if not."""
        with self._looking:
            try:
                changed = self._columns.look()
            except DatabaseError:
                # Nothing is known; requests will find out for themselves.
                return
            if changed:
                self._probe()

    def look_at_answers(self) -> None:
        """Ask every probe if answers raised an alarm; open what was suspended and has been loaded anew; keep shares.

        Raises:
            OSError: The shares cannot be kept.
        """
        if self._answers.take_alarm():
            self.probe()
        if self._answers.suspended:
            with suppress(DatabaseError), self._taken_up.source.lend() as lent:
                self._answers.lift(lambda attribute: self._loaded(lent, attribute))
        self._answers.save()

    def _loaded(self, lent: Lent, attribute: str) -> int | None:
        """When the data set of an attribute was last loaded whole, if the attribute is otherwise in order."""
        if self._doubtful(attribute):
            return None
        state = self._taken_up.source.loaded(lent, self._mapping.attribute[attribute].data)
        return state.time if state.whole else None

    def probe(self) -> None:
        """Ask every probe, and note whose attributes fail."""
        with self._looking:
            self._probe()

    def _probe(self) -> None:
        try:
            results = Probes(self._taken_up.source, self._taken_up.schemes, self._clock).run()
        except DatabaseError as error:
            # Nothing is new: what failed stays closed, and what was never asked.
            _log.warning("probes could not be asked", outcome=error.outcome.name)
            self._reached = False
            return
        self._reached, self._unasked = True, frozenset()
        failing = failing_of(results)
        for attribute in sorted(self._failing - failing):
            _log.info("probes pass again", attribute=attribute)
        self._failing = failing
        self._columns.accept(proven_by(results, self._mapping))

    @property
    def seconds_to_probe(self) -> float:
        """Until when the probes' results are good."""
        return INTERVAL if self._reached else RETRY

    def database_answers(self) -> bool:
        """Whether every data set can be read."""
        try:
            self._taken_up.source.look()
        except DatabaseError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
