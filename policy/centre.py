"""What the centre says: `centre.toml` and `matter.toml`, from TOML to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256

from policy.authorise import local_midnight
from policy.document import SCALARS, Mistake, SourceFile, asked, frozen, refuse, source_bytes, title
from policy.model import (
    AuditorInfo,
    Centre,
    Deny,
    DepartmentInfo,
    Matter,
    MatterSlot,
    Points,
    PointsClass,
    Rule,
    SubjectKind,
)
from policy.points_table import check_points
from policy.rule import check_rule, default_rule
from policy.shapes import CentreFile, DenyFile, KindFile, MatterFile, PointsFile, RuleFile
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.tomlfile import load
from zhiwang.wire.vkey import policy_fault

RESERVED = frozenset({"root", "targets", "snapshot", "timestamp", "matters", "centre"})
"""No department is called so: these are roles and folders of the directory, and the author of its denies."""


def parse_centre(source: SourceFile) -> Centre:
    """centre.toml.

    Raises:
        FileError: With every finding.
    """
    file = load(source, CentreFile)
    mistakes = [*_check_members(file), *_check_kinds(file), *_check_witnesses(file), *_check_denies(file)]
    refuse(source, mistakes)
    return Centre(
        city=file.city,
        subjects=frozen({name: _kind(name, kind) for name, kind in file.subject.items()}),
        departments=frozen(
            {
                name: DepartmentInfo(
                    name=name,
                    title=title(member.title),
                    home=member.home,
                    systems=frozen({system: entry.home or member.home for system, entry in member.system.items()}),
                    auditors=frozen(
                        {auditor: AuditorInfo(entry.office, entry.home) for auditor, entry in member.auditor.items()}
                    ),
                )
                for name, member in file.department.items()
            }
        ),
        denies=tuple(_deny(index, deny) for index, deny in enumerate(file.deny)),
        witnesses=frozen({name: entry.key for name, entry in file.witness.items()}),
        witness_quorum=file.witness_quorum or 0,
    )


def _check_members(file: CentreFile) -> Iterable[Mistake]:
    for name, member in file.department.items():
        if name in RESERVED:
            yield Mistake(("department", name), "is a name that the directory itself uses")
        for system, entry in member.system.items():
            if entry.home is not None and not member.home.covers(entry.home):
                yield Mistake(("department", name, "system", system, "home"), "lies outside the department's home")


def _check_kinds(file: CentreFile) -> Iterable[Mistake]:
    for name, kind in file.subject.items():
        if name in SCALARS:
            yield Mistake(("subject", name), "is the name of a type")
        if isinstance(kind, KindFile) and (kind.scheme == "plain") != (kind.pattern is not None):
            yield Mistake(("subject", name), 'a pattern belongs to scheme = "plain", and to no other')


def _check_witnesses(file: CentreFile) -> Iterable[Mistake]:
    if not file.witness:
        if file.witness_quorum is not None:
            yield Mistake(("witness_quorum",), "asks for witnesses, and there is none")
        return
    if file.witness_quorum is None:
        yield Mistake(("witness",), "needs witness_quorum: how many of them must have cosigned, more than half")
        return
    fault = policy_fault({name: entry.key for name, entry in file.witness.items()}, file.witness_quorum)
    if fault is not None:
        yield Mistake(("witness_quorum",), fault)


def _check_denies(file: CentreFile) -> Iterable[Mistake]:
    seen: set[str] = set()
    for index, deny in enumerate(file.deny):
        if all(getattr(deny, key) is None for key in ("role", "ask", "attribute", "matter", "place")):
            yield Mistake(("deny", index), "denies everything; say at least one of role, ask, attribute, matter, place")
        if deny.ask is not None and deny.attribute is not None:
            yield Mistake(("deny", index, "attribute"), "stands beside ask, which names an attribute already")
        name = deny.id or f"deny-{index + 1}"
        if name in seen:
            yield Mistake(("deny", index, "id"), f"{name} stands twice")
        seen.add(name)


def _kind(name: str, kind: str | KindFile) -> SubjectKind:
    return SubjectKind(name, kind) if isinstance(kind, str) else SubjectKind(name, kind.scheme, kind.pattern)


def _deny(index: int, deny: DenyFile) -> Deny:
    owner, attribute, predicate = asked(deny.ask, deny.attribute)
    return Deny(
        id=deny.id or f"deny-{index + 1}",
        role=deny.role,
        owner=owner,
        attribute=attribute,
        predicate=predicate,
        matter=deny.matter,
        place=deny.place,
    )


def parse_matter(source: SourceFile) -> Matter:
    """matter.toml. Its version is that of its exact bytes.

    Raises:
        FileError: With every finding.
    """
    file = load(source, MatterFile)
    slots = {
        name: MatterSlot(name, slot) if isinstance(slot, str) else MatterSlot(name, slot.kind, slot.up_to)
        for name, slot in file.slots.items()
    }
    mistakes: list[Mistake] = []
    if not file.requesters:
        mistakes.append(Mistake(("requesters",), "is empty; nobody could ask"))
    if not slots:
        mistakes.append(Mistake(("slots",), "is empty; there would be nobody to ask about"))
    claims = {name: _in_slot(name, claim, slots, mistakes) for name, claim in file.claims.items()}
    rule = default_rule(claims) if file.rule is None else _rule(file.rule)
    if file.rule is not None and not claims:
        mistakes.append(Mistake(("rule",), "decides over claims, and the matter names none"))
    if file.rule is not None and not file.rule.all and not file.rule.some:
        mistakes.append(Mistake(("rule",), "requires nothing: say all or some"))
    matter = Matter(
        name=file.matter,
        title=title(file.title),
        basis=file.basis,
        requesters=frozenset(file.requesters),
        reference_date=file.reference_date,
        reference=file.reference,
        official=file.official,
        slots=frozen(slots),
        claims=frozen(claims),
        rule=rule,
        version=sha256(source_bytes(source)).digest()[:16],
        basis_until=None if file.basis_until is None else local_midnight(file.basis_until),
        points=None if file.points is None else _points(file.points),
    )
    if file.points is not None and file.rule is None:
        mistakes.append(Mistake(("points",), "needs a rule: not every claim of a class must hold for everybody"))
    if not mistakes:
        mistakes += [Mistake(tuple(key.split(".")), message) for key, message in check_rule(matter)]
    if not mistakes:
        mistakes += [Mistake(key, message) for key, message in check_points(matter)]
    refuse(source, mistakes)
    return matter


def _in_slot(name: str, claim: Claim, slots: Mapping[str, MatterSlot], mistakes: list[Mistake]) -> Claim:
    """The claim with its slot; it may leave out the only one."""
    if claim.slot is None and len(slots) == 1:
        claim = replace(claim, slot=next(iter(slots)))
    if claim.slot is None:
        mistakes.append(Mistake(("claims", name), "must begin with its slot, since the matter has several"))
    if claim.predicate is Predicate.REPORT:
        mistakes.append(
            Mistake(("claims", name), "report is no claim of a case; it is asked by `zhiwang audit subject`")
        )
    mistakes += [
        Mistake(("claims", name), f"the matter has no slot {slot}")
        for slot in (claim.slot, claim.compared_slot)
        if slot is not None and slot not in slots
    ]
    return claim


def _rule(file: RuleFile) -> Rule:
    return Rule(
        all=file.all,
        any=frozen(dict(file.any)),
        some=frozen(dict(file.some)),
        agree=frozen(dict(file.agree)),
    )


def _points(file: PointsFile) -> Points:
    return Points(
        slot=file.slot,
        classes=tuple(PointsClass(title(one.title), one.when, one.base) for one in file.class_),
        each=file.each,
        every=frozenset(file.every),
        counting=title(file.counting),
    )
