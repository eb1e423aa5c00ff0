"""A context, completed and checked before anything is sealed under it: why one asks, with nothing left open.

Only what would be wrong whoever asked is refused here, with its field. Whether the system may ask is the hub's and the
owner's to say, and theirs to record.
"""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

from exchange.client.case import Case, Context
from exchange.client.plan import Plan, Planner, Prepared
from exchange.client.seal import Purpose
from policy.authorise import follows
from policy.model import Directory
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identifiers import contains_identifier
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.profile import Defaults

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}/[a-z][a-z0-9_-]{0,63}")


class Question(NamedTuple):
    """Why one asks, under one snapshot of the directory.

    Attributes:
        planner: Prepares the cases of its matter.
        purpose: What goes into headers.
        today: The day of asking.
    """

    planner: Planner
    purpose: Purpose
    today: date

    def prepare(self, case: Case) -> Posed:
        """A case that is asked under this question.

        Raises:
            RefusedError: As `Planner.prepare`.
        """
        return Posed(self, self.planner.prepare(case, self.today))


class Posed(NamedTuple):
    """A case of a roster. It keeps its question, since another may be in force by the time that it is asked.

    Attributes:
        question: Whose planner prepared it.
        prepared: The case.
    """

    question: Question
    prepared: Prepared

    @property
    def case(self) -> Case:
        """As the caller gave it."""
        return self.prepared.case

    @property
    def plan(self) -> Plan:
        """Its shape; no two questions of a roster share one."""
        return self.prepared.plan


class Questions:
    """Makes questions; remembers the planners of the newest snapshot.

    Args:
        defaults: The profile's.
    """

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._planners: dict[str, Planner] = {}
        self._newest: Directory | None = None

    def question(self, context: Context, directory: Directory, today: date) -> Question:
        """Complete and check a context.

        Args:
            context: As the caller gave it.
            directory: The snapshot in force.
            today: The day in China.

        Raises:
            RefusedError: MATTER_NOT_ALLOWED, REFERENCE_INVALID, OFFICIAL_INVALID, ROLE_NOT_HELD, JURISDICTION_INVALID
                or DATE_NOT_PUBLISHED, with the field of the context.
        """
        defaults = self._defaults
        planner = self.planner(context.matter or defaults.matter, directory)
        matter = planner.matter
        role = context.role or defaults.role
        if not _ROLE.fullmatch(role):
            raise RefusedError(Reason.ROLE_NOT_HELD, "a role is written department/role", field="context.role")
        official = context.official or defaults.official
        if not follows(matter.official, official) or contains_identifier(official):
            raise RefusedError(Reason.OFFICIAL_INVALID, field="context.official")
        if not follows(matter.reference, context.reference) or contains_identifier(context.reference):
            raise RefusedError(Reason.REFERENCE_INVALID, field="context.reference")
        jurisdiction = context.jurisdiction or defaults.jurisdiction
        try:
            Jurisdiction.parse(jurisdiction)
        except RefusedError as error:
            raise RefusedError(error.reason, error.detail, field="context.jurisdiction") from None
        purpose = Purpose(
            role=role,
            official=official,
            assurance=sealed_pb2.ASSURANCE_ASSERTED,
            reference=context.reference,
            reference_date=self._reference_date(context, matter.reference_date or today),
            jurisdiction=jurisdiction,
            min_policy_version=context.min_policy_version,
        )
        return Question(planner, purpose, today)

    def planner(self, name: str, directory: Directory) -> Planner:
        """The planner of a matter.

        Raises:
            RefusedError: MATTER_NOT_ALLOWED, if there is no such matter.
        """
        if directory is not self._newest:
            # One that is not asked for any more would keep its whole snapshot.
            self._planners.clear()
            self._newest = directory
        planner = self._planners.get(name)
        if planner is None:
            matter = directory.matters.get(name)
            if matter is None:
                raise RefusedError(Reason.MATTER_NOT_ALLOWED, field="context.matter")
            planner = self._planners[name] = Planner(directory, matter)
        return planner

    def _reference_date(self, context: Context, usual: date) -> str:
        if not context.reference_date:
            return usual.isoformat()
        try:
            day = date.fromisoformat(context.reference_date)
        except ValueError:
            raise RefusedError(Reason.DATE_NOT_PUBLISHED, "not a date", field="context.reference_date") from None
        return day.isoformat()
