"""What an entry can be searched by. Pure: from the entry's bytes, nothing else.

The header in an access was verified by the process that recorded it; here it is only read. Entries never name a
subject, so neither do facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from google.protobuf.message import DecodeError

from audit.entry import decode_entry
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.identity import Identity

OUTCOME_PREFIX: Final = "OUTCOME_"
ACTION_PREFIX: Final = "POLICY_ACTION_"
EMERGENCY_PREFIX: Final = "EMERGENCY_ACTION_"
ROSTER_PREFIX: Final = "ROSTER_ACTION_"
ANSWERED: Final = "ANSWERED"
DENIED: Final = "DENIED"
REFUSED: Final = "REFUSED"

_ACTORS: Final = {
    "audit_read": "reader",
    "subject_read": "reader",
    "entries_delayed": "by",
    "subject_erased": "by",
    "hold_placed": "placed_by",
    "hold_lifted": "lifted_by",
    "evidence_produced": "produced_by",
}
"""Events that somebody caused, and which of their fields says who."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The searchable side of one entry; empty where an entry says nothing.

    Attributes:
        time: When it was recorded, in microseconds since the epoch.
        event: Kind of the entry, e.g. "hub_access".
        department: Of who asked.
        system: SPIFFE identity of who asked, or who was refused, or read the log.
        official: For whom it asked.
        role: In which role.
        matter: For what.
        reference: Of the case or job.
        place: Asserted jurisdiction, e.g. "nbs:440306".
        owner: Department that was asked.
        attributes: Names of what was asked, each once, as "owner.attribute".
        outcome: ANSWERED, DENIED, UNAVAILABLE or REFUSED; of a step of policy what was done, e.g. PROPOSED.
        reason: Public reason of any other outcome than ANSWERED.
        version: Of the directory by which it was decided; 0 for none.
        header: SHA-256 of the header, in hex: what identifies an access in every log.
        emergency: Opened emergency that alone allowed a claim, or that a step is about, e.g. "health/shelter".
    """

    time: int
    event: str
    department: str = ""
    system: str = ""
    official: str = ""
    role: str = ""
    matter: str = ""
    reference: str = ""
    place: str = ""
    owner: str = ""
    attributes: tuple[str, ...] = ()
    outcome: str = ""
    reason: str = ""
    version: int = 0
    header: str = ""
    emergency: str = ""


def facts_of(data: bytes) -> Facts:
    """The facts of an entry's bytes.

    Raises:
        EntryError: They are no entry.
    """
    return facts_of_entry(decode_entry(data))


def facts_of_entry(entry: audit_pb2.Entry) -> Facts:  # noqa: PLR0911 - one for each kind of event
    """The facts of an entry that was read."""
    time = entry.time.seconds * 1_000_000 + entry.time.nanos // 1000
    event = entry.WhichOneof("event") or ""
    if event == "hub_access":
        hub = entry.hub_access
        outcome = audit_pb2.Outcome.Name(hub.outcome).removeprefix(OUTCOME_PREFIX)
        return _access(time, event, hub, outcome, hub.reason)
    if event == "owner_access":
        owner = entry.owner_access
        outcome = DENIED if len(owner.denied_claims) == owner.claims else ANSWERED
        return _access(time, event, owner, outcome, "")
    if event == "refusal":
        peer = entry.refusal.peer
        return Facts(
            time,
            event,
            _department(peer),
            peer,
            outcome=REFUSED,
            reason=entry.refusal.reason,
            header=entry.refusal.header_hash.hex(),
        )
    if event == "directory_change":
        return Facts(time, event, version=entry.directory_change.directory_version)
    if event == "policy_step":
        return _policy_step(time, entry.policy_step)
    if event == "local_policy_change":
        change = entry.local_policy_change
        return Facts(time, event, owner=change.role.removesuffix("-suspend"), version=change.directory_version)
    if event == "emergency_step":
        return _emergency_step(time, entry.emergency_step)
    if event in {"roster_step", "people_referred"}:
        return _list_step(time, event, getattr(entry, event))
    if event in _ACTORS:
        actor = getattr(getattr(entry, event), _ACTORS[event])
        # A look-up has the reference of the citizen's request, an order to delay that of the case.
        return Facts(time, event, _department(actor), actor, reference=getattr(getattr(entry, event), "reference", ""))
    return Facts(time, event)


def _policy_step(time: int, step: audit_pb2.PolicyStep) -> Facts:
    return Facts(
        time,
        "policy_step",
        _department(step.admin),
        step.admin,
        reference=step.proposal_id,
        owner=step.role.removesuffix("-suspend").removesuffix("-emergency"),
        outcome=audit_pb2.PolicyAction.Name(step.action).removeprefix(ACTION_PREFIX),
        version=step.directory_version,
    )


def _emergency_step(time: int, step: audit_pb2.EmergencyStep) -> Facts:
    return Facts(
        time,
        "emergency_step",
        step.department,
        step.by,
        reference=f"{step.department}-{step.opening}",
        owner=step.owner,
        outcome=audit_pb2.EmergencyAction.Name(step.action).removeprefix(EMERGENCY_PREFIX),
        version=step.directory_version,
        emergency=f"{step.owner}/{step.emergency}",
    )


def _list_step(time: int, event: str, step: audit_pb2.RosterStep | audit_pb2.PeopleReferred) -> Facts:
    department = _department(step.by)
    return Facts(
        time,
        event,
        department,
        step.by,
        step.official,
        role=step.role if isinstance(step, audit_pb2.PeopleReferred) else "",
        matter=step.matter,
        reference=step.reference,
        owner=department,
        outcome=audit_pb2.RosterAction.Name(step.action).removeprefix(ROSTER_PREFIX)
        if isinstance(step, audit_pb2.RosterStep)
        else "REFERRED",
        version=step.directory_version,
    )


def _access(
    time: int, event: str, access: audit_pb2.HubAccess | audit_pb2.OwnerAccess, outcome: str, reason: str
) -> Facts:
    version, emergency = access.directory_version, _emergency(access.rule_ids)
    try:
        header = sealed_pb2.Header.FromString(access.header)
    except DecodeError:
        digest = sha256(access.header).hexdigest()
        return Facts(time, event, outcome=outcome, reason=reason, version=version, header=digest, emergency=emergency)
    return Facts(
        time=time,
        event=event,
        department=_department(header.system),
        system=header.system,
        official=header.official,
        role=header.role,
        matter=header.matter,
        reference=header.reference,
        place=header.jurisdiction,
        owner=header.owner,
        attributes=tuple(dict.fromkeys(f"{header.owner}.{claim.attribute}" for claim in header.claims)),
        outcome=outcome,
        reason=reason,
        version=version,
        header=sha256(access.header).hexdigest(),
        emergency=emergency,
    )


def _emergency(rule_ids: Iterable[str]) -> str:
    """The emergency without which some claim had been denied: what it opens is named behind every other grant."""
    for text in rule_ids:
        owner, _, rule = text.partition(",")[0].partition("/")
        kind, _, name = rule.partition("/")
        if kind == "emergency" and name:
            return f"{owner}/{name.partition('/')[0]}"
    return ""


def _department(uri: str) -> str:
    try:
        return Identity.parse(uri).department
    except RefusedError:
        return ""
