"""From entries of the owner's log to what may be told of one subject. Pure.

A report is for the subject, or for who may speak for it, and must not tell of anybody else. So a row holds only the
questions in which the subject itself stood; a reference of a case in which it was merely compared is another's; and
nothing tells a place below the city: whose home lies there is named without what would tell it, because a report about
a child must not tell one parent where the other lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from adapters.delays import Access, Delays
from adapters.trace import Stand, slot_part, value_part
from policy.model import DepartmentInfo, Directory
from zhiwang.adapter.v1 import subject_pb2
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identity import Identity
from zhiwang.wire.places import Jurisdiction, Level

CITY_DIGITS: Final = 4
"""Of a code, those that name the city."""

ROW_BYTES: Final = 4
"""What a row takes in a report beside its own bytes, at most."""


_LISTINGS: Final = {
    audit_pb2.ROSTER_ACTION_DRAWN: subject_pb2.LISTING_DRAWN,
    audit_pb2.ROSTER_ACTION_INVITED: subject_pb2.LISTING_INVITED,
}


@dataclass(frozen=True, slots=True)
class Names:
    """Whose names tell no place below the city.

    Attributes:
        departments: The members. Who is no member any more is not named: where it was at home is not known.
    """

    departments: Mapping[str, DepartmentInfo]

    @classmethod
    def of(cls, directory: Directory | None) -> Names:
        """By the directory in force; without one nobody is named."""
        return cls({} if directory is None else directory.centre.departments)

    def department(self, name: str) -> bool:
        """Whether a department may be named."""
        info = self.departments.get(name)
        return info is not None and self._tells_nothing(info.home)

    def system(self, department: str, name: str) -> bool:
        """Whether a system may be named."""
        info = self.departments.get(department)
        home = None if info is None else info.systems.get(name)
        return home is not None and self._tells_nothing(home)

    def harmless(self, text: str) -> str:
        """A text, or nothing if it holds the code of a district of the city."""
        cities = "|".join(sorted({info.home.code[:CITY_DIGITS] for info in self.departments.values()}))
        return "" if not cities or re.search(rf"(?:{cities})[0-9]{{2}}", text) else text

    def _tells_nothing(self, home: Jurisdiction) -> bool:
        """Where everybody is at home, as in a district that runs this by itself, a home tells nothing."""
        return home.level is Level.CITY or all(home.covers(info.home) for info in self.departments.values())


def row_of(
    entry: audit_pb2.Entry, index: int, stand: Stand, names: Names, delays: Delays
) -> subject_pb2.Lookups | None:
    """What an entry tells of a subject.

    Args:
        entry: Of the owner's log.
        index: Its place in the log.
        stand: Where in the request the subject stood.
        names: Who may be named.
        delays: The orders in force.

    Returns:
        One row, or None if the entry is about nobody.
    """
    event = entry.WhichOneof("event")
    try:
        if event == "owner_access":
            row = _access(entry.owner_access, stand, names, delays)
        elif event == "subject_read":
            row = _read(entry.subject_read, names, delays)
        elif event in {"roster_step", "people_referred"}:
            row = _listed(getattr(entry, event), names, delays)
        else:
            return None
    except (DecodeError, RefusedError):
        return None
    row.first_time.CopyFrom(entry.time)
    row.last_time.CopyFrom(entry.time)
    row.entries = 1
    row.index = index
    return row


def this_row(header: bytes, now: float, names: Names) -> subject_pb2.Lookups:
    """The row of the request that the report answers, whose entry is not written yet."""
    row = _access(audit_pb2.OwnerAccess(header=header), Stand(0), names, Delays())
    row.first_time.CopyFrom(_timestamp(now))
    row.last_time.CopyFrom(row.first_time)
    row.entries = 1
    row.this_request = True
    return row


def compile_report(
    owner: str, now: float, years: Iterable[int], rows: Iterable[subject_pb2.Lookups], *, whole: bool, max_bytes: int
) -> subject_pb2.SubjectReport:
    """One report of rows: routine jobs in one row each, newest first, as many as fit.

    Args:
        owner: Department whose log it is.
        now: Seconds since the epoch.
        years: Of whose entries the owner can still tell whom they were about.
        rows: In any order.
        whole: Show what is delayed.
        max_bytes: Of the report.
    """
    report = subject_pb2.SubjectReport(owner=owner, time=_timestamp(now), years=years)
    size = report.ByteSize() + ROW_BYTES
    shown = [row for row in rows if whole or not row.delayed]
    for row in sorted(_grouped(shown), key=_age, reverse=True):
        size += row.ByteSize() + ROW_BYTES
        if report.left_out or size > max_bytes:
            report.left_out += 1
        else:
            report.lookups.append(row)
    return report


def _access(access: audit_pb2.OwnerAccess, stand: Stand, names: Names, delays: Delays) -> subject_pb2.Lookups:
    header = sealed_pb2.Header.FromString(access.header)
    system = Identity.parse(header.system)
    place = Jurisdiction.parse(header.jurisdiction)
    asked = _asked(header, stand, frozenset(access.denied_claims))
    row = subject_pb2.Lookups(
        assurance=header.assurance,
        matter=header.matter,
        city=f"{place.system}:{place.code[:CITY_DIGITS]}",
        routine=header.priority == sealed_pb2.PRIORITY_BULK,
        delayed=delays.cover(Access(system.department, header.official, header.matter, header.reference)),
        asked=asked,
    )
    safe = re.compile(rf"(?!.*{place.code[:CITY_DIGITS]}[0-9]{{2}})", re.DOTALL)
    if names.department(system.department):
        row.department = system.department
        if names.system(system.department, system.name):
            row.system = system.name
            row.official = header.official if safe.match(header.official) else ""
            row.role = header.role if safe.match(header.role) else ""
    if any(not one.compared for one in asked) and safe.match(header.reference):
        row.reference = header.reference
    return row


def _asked(header: sealed_pb2.Header, stand: Stand, denied: frozenset[int]) -> list[subject_pb2.Asked]:
    """The questions in which the subject stood, each once."""
    part = stand.part
    found: dict[bytes, subject_pb2.Asked] = {}
    for number, claim in enumerate(header.claims):
        about = not part or bool(part & slot_part(claim.slot))
        with_whom = claim.WhichOneof("compared")
        compared = (with_whom == "compared_slot" and bool(part & slot_part(claim.compared_slot))) or (
            with_whom == "compared_value" and bool(part & value_part(claim.compared_value))
        )
        fate = subject_pb2.FATE_ALLOWED
        if number in denied:
            fate = subject_pb2.FATE_DENIED
        elif stand.refused >> number & 1:
            fate = subject_pb2.FATE_REFUSED
        for stands, is_compared in ((about, False), (compared, True)):
            if stands:
                one = subject_pb2.Asked(
                    attribute=f"{header.owner}.{claim.attribute}",
                    predicate=claim.predicate,
                    cell=claim.cell,
                    compared=is_compared,
                    fate=fate,
                )
                found.setdefault(one.SerializeToString(deterministic=True), one)
    return list(found.values())


def _read(read: audit_pb2.SubjectRead, names: Names, delays: Delays) -> subject_pb2.Lookups:
    reader = Identity.parse(read.reader)
    row = subject_pb2.Lookups(
        read=True,
        reference=names.harmless(read.reference),
        delayed=delays.cover(Access(reader.department, reader.name, "", read.reference)),
    )
    if names.department(reader.department):
        row.department = reader.department
        row.official = names.harmless(reader.name)
    return row


def _listed(step: audit_pb2.RosterStep | audit_pb2.PeopleReferred, names: Names, delays: Delays) -> subject_pb2.Lookups:
    """What the owner itself did with a list in which the subject stands; nightly draws come together in one row."""
    by = Identity.parse(step.by)
    row = subject_pb2.Lookups(
        matter=step.matter,
        reference=names.harmless(step.reference),
        delayed=delays.cover(Access(by.department, step.official, step.matter, step.reference)),
    )
    if isinstance(step, audit_pb2.PeopleReferred):
        recipient = Identity.parse(step.recipient)
        row.listing = subject_pb2.LISTING_REFERRED
        row.why = names.harmless(step.reason)
        row.handed_to = recipient.department if names.department(recipient.department) else ""
    else:
        row.listing = _LISTINGS.get(step.action, subject_pb2.LISTING_UNSPECIFIED)
        row.routine = row.listing == subject_pb2.LISTING_DRAWN
    if names.department(by.department):
        row.department = by.department
        row.official = names.harmless(step.official)
    return row


def _grouped(rows: Iterable[subject_pb2.Lookups]) -> list[subject_pb2.Lookups]:
    """Routine jobs together: the rows that differ in nothing but time and index. All others by themselves."""
    jobs: dict[bytes, subject_pb2.Lookups] = {}
    others: list[subject_pb2.Lookups] = []
    for row in rows:
        if not row.routine:
            others.append(row)
            continue
        alike = _copy(row)
        for name in ("first_time", "last_time", "entries", "index"):
            alike.ClearField(name)
        key = alike.SerializeToString(deterministic=True)
        job = jobs.get(key)
        if job is None:
            jobs[key] = _copy(row)
            continue
        job.entries += row.entries
        if row.first_time.ToNanoseconds() < job.first_time.ToNanoseconds():
            job.first_time.CopyFrom(row.first_time)
        if row.last_time.ToNanoseconds() >= job.last_time.ToNanoseconds():
            job.last_time.CopyFrom(row.last_time)
            job.index = max(job.index, row.index)
    return [*jobs.values(), *others]


def _copy(row: subject_pb2.Lookups) -> subject_pb2.Lookups:
    copy = subject_pb2.Lookups()
    copy.CopyFrom(row)
    return copy


def _age(row: subject_pb2.Lookups) -> tuple[int, bool, int]:
    return row.last_time.ToNanoseconds(), row.this_request, row.index


def _timestamp(now: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMicroseconds(round(now * 1_000_000))
    return moment
