"""The openings of emergencies, and who has still to review them, as the registrar's log tells. Pure, but for the salt.

Nothing is kept beside the log: `Openings` takes in its steps one after the other, at the registrar when it starts and
whenever it records one, at an admin's from a search. A review is awaited from the opening on, and possible once it has
ended: somebody of the owner, other than who opened it, or an auditor says what was found. Until then the same emergency
is not opened again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Final

from policy.emergencies import APART, REMEMBERED
from policy.model import Activation
from policy.proposals import check_note
from zhiwang.audit.v1 import audit_pb2
from zhiwang.wire.clock import CITY_TIME, timestamp_text
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity, Kind

SALT_SIZE: Final = 16
"""Random bytes before a reason: nobody guesses it from the hash, which is public."""


@dataclass(frozen=True, slots=True)
class Opening:
    """An emergency that was opened.

    Attributes:
        name: Unique everywhere, e.g. "civil-20261127-3f9c2a".
        by: SPIFFE identity of the admin; empty if it was found in force and nobody knows whose request it was.
        reason: Why, in the admin's words.
        reviewed_by: SPIFFE identity; empty until it was reviewed.
        note: What was found, in words.
    """

    name: str
    owner: str
    emergency: str
    department: str
    by: str
    since: int
    until: int
    reason: str
    reviewed_by: str = ""
    note: str = ""

    @property
    def full_name(self) -> str:
        """The emergency, e.g. "health/shelter"."""
        return f"{self.owner}/{self.emergency}"

    def may_be_by(self, person: Identity) -> bool:
        """Whether this one opened it, or may have: of what was found in force, any admin of the department."""
        if self.by:
            return person.uri == self.by
        return person.kind is Kind.ADMIN and person.department == self.department


class Openings:
    """Every opening that stands in the registrar's log.

    Args:
        steps: In the order of the log.
    """

    def __init__(self, steps: Iterable[audit_pb2.EmergencyStep] = ()) -> None:
        self._openings: dict[str, Opening] = {}
        for step in steps:
            self.take(step)

    def take(self, step: audit_pb2.EmergencyStep) -> None:
        """Take in what was recorded."""
        name = f"{step.department}-{step.opening}"
        if step.action == audit_pb2.EMERGENCY_ACTION_OPENED:
            self._openings[name] = Opening(
                name,
                step.owner,
                step.emergency,
                step.department,
                step.by,
                step.since_time.seconds,
                step.until_time.seconds,
                step.note,
            )
        elif step.action == audit_pb2.EMERGENCY_ACTION_WITHDRAWN:
            self._openings.pop(name, None)
        elif step.action == audit_pb2.EMERGENCY_ACTION_REVIEWED and name in self._openings:
            self._openings[name] = replace(self._openings[name], reviewed_by=step.by, note=step.note)

    def __contains__(self, activation: Activation) -> bool:
        """Whether the log has what opens an emergency."""
        return name_of(activation) in self._openings

    def __iter__(self) -> Iterator[Opening]:
        """Oldest first."""
        return iter(self._openings.values())

    @property
    def unreviewed(self) -> list[Opening]:
        """Those that somebody has still to review, oldest first."""
        return [opening for opening in self if not opening.reviewed_by]

    def check_new(self, activation: Activation) -> None:
        """Refuse to open again what nobody has reviewed, or what was opened within the last day.

        Raises:
            RefusedError: EMERGENCY_UNREVIEWED; METADATA_INVALID: an opening was called so before.
        """
        if activation in self:
            raise RefusedError(Reason.METADATA_INVALID, f"an opening called {activation.id} was there before")
        for opening in self:
            if (opening.owner, opening.emergency) != (activation.owner, activation.emergency):
                continue
            if not opening.reviewed_by:
                raise RefusedError(Reason.EMERGENCY_UNREVIEWED, f"zhiwang policy review {opening.name}")
            if abs(activation.since - opening.since) < APART:
                raise RefusedError(Reason.EMERGENCY_UNREVIEWED, f"{opening.name} began less than a day before")

    def to_review(self, name: str, reviewer: Identity, now: float, *, office: bool) -> Opening:
        """An opening that somebody may review.

        Args:
            name: Of the opening.
            reviewer: An admin or an auditor.
            now: Seconds since the epoch.
            office: Whether the centre says that it is of the audit office.

        Raises:
            RefusedError: EMERGENCY_UNKNOWN: there is none, it has been reviewed, or not by this one; EMERGENCY_OPEN:
                somebody can still ask by it.
        """
        opening = self._openings.get(name)
        if opening is None or opening.reviewed_by or opening.may_be_by(reviewer):
            raise RefusedError(Reason.EMERGENCY_UNKNOWN)
        if reviewer.department != opening.owner and not (office and reviewer.kind is Kind.AUDITOR):
            raise RefusedError(Reason.EMERGENCY_UNKNOWN)
        if now < opening.until:
            raise RefusedError(Reason.EMERGENCY_OPEN, f"{name} is open until {timestamp_text(opening.until)}")
        return opening


def emergency_file(department: str, activations: Iterable[Activation], now: float) -> bytes:
    """emergency.toml, without what no reader looks at any more.

    Args:
        department: Whose file it is.
        activations: What its admins have opened.
        now: Seconds since the epoch.
    """
    lines = [f'department = "{department}"']
    for one in activations:
        if one.until + REMEMBERED > now:
            since, until = (datetime.fromtimestamp(moment, CITY_TIME).isoformat() for moment in (one.since, one.until))
            lines += [
                "",
                "[[activation]]",
                f'id = "{one.id}"',
                f'emergency = "{one.owner}/{one.emergency}"',
                f"since = {since}",
                f"until = {until}",
                f'reason = "{one.reason_hash.hex()}"',
            ]
    return ("\n".join(lines) + "\n").encode()


def name_of(activation: Activation) -> str:
    """What an opening is called everywhere; a department's name has no hyphen."""
    return f"{activation.department}-{activation.id}"


def reason_hash(salt: bytes, reason: str) -> bytes:
    """What stands for the reason in the file that everybody can read."""
    return sha256(salt + reason.encode()).digest()


def check_words(text: str) -> str:
    """A reason or a finding in words: there must be one.

    Raises:
        RefusedError: NOTE_INVALID.
    """
    text = check_note(text)
    if not text:
        raise RefusedError(Reason.NOTE_INVALID, "say it in words", field="reason")
    return text


def step_of(
    action: audit_pb2.EmergencyAction.ValueType,
    activation: Activation,
    *,
    by: str = "",
    note: str = "",
    salt: bytes = b"",
    directory_version: int = 0,
) -> audit_pb2.EmergencyStep:
    """What is recorded of an opening."""
    step = audit_pb2.EmergencyStep(
        action=action,
        owner=activation.owner,
        emergency=activation.emergency,
        department=activation.department,
        opening=activation.id,
        by=by,
        note=note,
        salt=salt,
        directory_version=directory_version,
    )
    step.since_time.seconds, step.until_time.seconds = activation.since, activation.until
    return step


def review_of(opening: Opening, reviewer: Identity, note: str) -> audit_pb2.EmergencyStep:
    """What is recorded of a review."""
    step = audit_pb2.EmergencyStep(
        action=audit_pb2.EMERGENCY_ACTION_REVIEWED,
        owner=opening.owner,
        emergency=opening.emergency,
        department=opening.department,
        opening=opening.name.removeprefix(f"{opening.department}-"),
        by=reviewer.uri,
        note=note,
    )
    step.since_time.seconds, step.until_time.seconds = opening.since, opening.until
    return step
