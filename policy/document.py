"""What a department says: `document.toml`, `suspend.toml` and `emergency.toml`, from TOML to the model.

Every mistake of a file is named by key and line at once. What needs other files to be judged (does this matter exist,
is that department a member) is `crosscheck.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from policy.authorise import local_midnight
from policy.model import (
    SENSITIVITIES,
    Activation,
    Assertion,
    Attribute,
    Document,
    Emergency,
    Grant,
    Referral,
    Suspension,
    Title,
)
from policy.shapes import (
    ActivationFile,
    AssertFile,
    AttributeFile,
    DocumentFile,
    EmergencyFile,
    GrantFile,
    ReferFile,
    SuspendEntry,
    SuspendFile,
    TitleFile,
)
from zhiwang.wire.claims import Ask, Predicate
from zhiwang.wire.tomlfile import FileError, as_findings, load

SCALARS = frozenset({"integer", "decimal", "date", "text", "code"})
"""Types of attributes that are no kind of subject."""

ORDERED = frozenset({"integer", "decimal", "date"})
"""Types that have thresholds."""

ASSURANCES = {"asserted": 1, "authenticated": 2, "certificate": 3}
MAX_CELLS = 1000

SourceFile = Path | bytes
T = TypeVar("T")


class Mistake(NamedTuple):
    """One thing that is wrong, by the path of its key in the file."""

    key: tuple[str | int, ...]
    message: str


def asked(ask: Ask | None, attribute: str | None) -> tuple[str | None, str | None, Predicate | None]:
    """Owner, attribute and predicate of a rule that names either an ask or an attribute or neither."""
    if ask is not None:
        return ask.owner, ask.attribute, ask.predicate
    if attribute is not None:
        owner, _, name = attribute.partition(".")
        return owner, name, None
    return None, None, None


def parse_document(source: SourceFile, *, version: int = 0) -> Document:
    """document.toml.

    Args:
        source: Path or bytes.
        version: Version of the metadata that lists it.

    Raises:
        FileError: With every finding.
    """
    file = load(source, DocumentFile)
    attributes: dict[str, Attribute] = {}
    mistakes: list[Mistake] = []
    for name, entry in file.attribute.items():
        attributes[name] = _attribute(file.department, name, entry, mistakes)
    mistakes += _check_roles(file)
    grants = [_grant(file.department, entry, entry.ask) for entry in file.grant]
    mistakes += _check_grants(file, attributes)
    mistakes += _check_emergencies(file, attributes)
    mistakes += _check_referrals(file)
    mistakes += _check_assertions(file, attributes)
    refuse(source, mistakes)
    return Document(
        department=file.department,
        title=title(file.title),
        suites=file.suites,
        roles=frozen(
            {
                system: frozenset(f"{file.department}/{role}" for role in entry.roles)
                for system, entry in file.system.items()
            }
        ),
        attributes=frozen(attributes),
        grants=tuple(grants),
        assertions=tuple(_assertion(entry) for entry in file.assert_),
        version=version,
        lifted=frozenset(file.lifted),
        emergencies=tuple(_emergency(file.department, entry) for entry in file.emergency),
        referrals=tuple(_referral(entry) for entry in file.refer),
    )


def _attribute(owner: str, name: str, file: AttributeFile, mistakes: list[Mistake]) -> Attribute:
    key = ("attribute", name)
    cells = {
        which: _cells(values, file.type, (*key, which), mistakes)
        for which, values in (("at_least", file.at_least), ("at_most", file.at_most))
    }
    predicates = {Predicate(ask) for ask in file.asks}
    predicates |= {Predicate(which) for which, values in cells.items() if values}
    if not predicates and not file.at_least and not file.at_most:
        mistakes.append(Mistake(key, "cannot be asked: publish asks, at_least or at_most"))
    if len(predicates - set(map(Predicate, cells))) < len(file.asks):
        mistakes.append(Mistake((*key, "asks"), "names a predicate twice"))
    valued = predicates & {Predicate.EQUALS, Predicate.RELATED, Predicate.AT_LEAST, Predicate.AT_MOST}
    if file.type is None and valued:
        mistakes.append(Mistake(key, "needs a type, since values are compared"))
    if Predicate.RELATED in predicates and file.type in SCALARS:
        mistakes.append(Mistake((*key, "type"), "related needs a kind of subject as type"))
    if Predicate.REPORT in predicates and (len(predicates) > 1 or file.type is not None or file.max_age is not None):
        mistakes.append(Mistake(key, "report is of no record: it stands alone, without a type and without a max_age"))
    if file.dates is not None and not file.dates:
        mistakes.append(Mistake((*key, "dates"), "is empty; leave it out to leave dates to the matters"))
    return Attribute(
        owner=owner,
        name=name,
        title=title(file.title),
        subject=file.subject,
        type=file.type or "",
        predicates=frozenset(predicates),
        at_least=cells["at_least"],
        at_most=cells["at_most"],
        dates=None if file.dates is None else frozenset(file.dates),
        sensitivity=file.sensitivity,
        max_age=file.max_age,
        counter=file.counter,
    )


def _cells(values: tuple[Any, ...], kind: str | None, key: tuple[str, ...], mistakes: list[Mistake]) -> tuple[str, ...]:
    """Cells in canonical text; they must rise, so that each stands once and a reader sees the steps."""
    if not values:
        return ()
    if kind not in ORDERED:
        mistakes.append(Mistake(key, "needs type integer, decimal or date"))
        return ()
    if len(values) > MAX_CELLS:
        mistakes.append(Mistake(key, f"has more than {MAX_CELLS} cells"))
        return ()
    try:
        cells = [_cell(value, kind) for value in values]
    except ValueError as error:
        mistakes.append(Mistake(key, str(error)))
        return ()
    if any(first >= second for (first, _), (second, _) in pairwise(cells)):
        mistakes.append(Mistake(key, "must rise from cell to cell"))
    return tuple(text for _, text in cells)


def _cell(value: object, kind: str) -> tuple[Any, str]:
    """What it is ordered by, and its canonical text."""
    if kind == "integer" and type(value) is int:
        return value, str(value)
    if kind == "date" and type(value) is date:
        return value, value.isoformat()
    if kind == "decimal" and type(value) in {int, float, str}:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise ValueError(f"{value!r} is no decimal") from None
        if number.is_finite():
            return number, canonical_decimal(number)
    raise ValueError(f"{value!r} is not of type {kind}")


def canonical_decimal(number: Decimal) -> str:
    """Without exponent, without zeros at the end: 51, 0.5."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def _check_roles(file: DocumentFile) -> Iterable[Mistake]:
    for system, entry in file.system.items():
        for role in sorted({role for role in entry.roles if entry.roles.count(role) > 1}):
            yield Mistake(("system", system, "roles"), f"{role} stands twice")


def _check_ask(ask: Ask, department: str, attributes: Mapping[str, Attribute]) -> str | None:
    if ask.owner != department:
        return f"{ask.owner}.{ask.attribute} is not {department}'s; a department grants only what is its own"
    attribute = attributes.get(ask.attribute)
    if attribute is None:
        return f"this document publishes no attribute {ask.attribute}"
    if ask.predicate not in attribute.predicates:
        return f"{ask.attribute} is not published for {ask.predicate.value}"
    return None


def _check_grants(file: DocumentFile, attributes: Mapping[str, Attribute]) -> Iterable[Mistake]:
    seen: set[str] = set()
    for index, grant in enumerate(file.grant):
        message = _check_ask(grant.ask, file.department, attributes)
        if message:
            yield Mistake(("grant", index, "ask"), message)
        if grant.id in seen:
            yield Mistake(("grant", index, "id"), f"{grant.id} stands twice")
        seen.add(grant.id)
        yield from _check_bounds(("grant", index), grant)


def _check_emergencies(file: DocumentFile, attributes: Mapping[str, Attribute]) -> Iterable[Mistake]:
    seen: set[str] = set()
    for index, entry in enumerate(file.emergency):
        for place, ask in enumerate(entry.asks):
            message = _check_ask(ask, file.department, attributes)
            if message:
                yield Mistake(("emergency", index, "asks", place), message)
        if len(set(entry.asks)) < len(entry.asks):
            yield Mistake(("emergency", index, "asks"), "names a question twice")
        if entry.id in seen:
            yield Mistake(("emergency", index, "id"), f"{entry.id} stands twice")
        seen.add(entry.id)
        yield from _check_bounds(("emergency", index), entry)


def _check_referrals(file: DocumentFile) -> Iterable[Mistake]:
    seen: set[str] = set()
    for index, entry in enumerate(file.refer):
        if entry.to.partition("/")[0] == file.department:
            yield Mistake(("refer", index, "to"), "is this department itself, which has the names already")
        if entry.id in seen:
            yield Mistake(("refer", index, "id"), f"{entry.id} stands twice")
        seen.add(entry.id)
        if entry.not_before and entry.not_after and entry.not_before >= entry.not_after:
            yield Mistake(("refer", index, "not_after"), "is not after not_before")


def _check_bounds(key: tuple[str | int, ...], entry: GrantFile | EmergencyFile) -> Iterable[Mistake]:
    if entry.not_before and entry.not_after and entry.not_before >= entry.not_after:
        yield Mistake((*key, "not_after"), "is not after not_before")
    if entry.sensitivity is not None and not _is_range(entry.sensitivity):
        yield Mistake((*key, "sensitivity"), "must be [lowest, highest]")


def _is_range(pair: tuple[int, ...]) -> bool:
    return len(pair) == len(("lowest", "highest")) and pair[0] <= pair[1]


def _check_assertions(file: DocumentFile, attributes: Mapping[str, Attribute]) -> Iterable[Mistake]:
    for index, entry in enumerate(file.assert_):
        if (entry.allow is None) == (entry.deny is None):
            yield Mistake(("assert", index), "must say either allow or deny")
            continue
        word, ask = ("allow", entry.allow) if entry.allow is not None else ("deny", entry.deny)
        message = _check_ask(ask, file.department, attributes) if ask is not None else None
        if message:
            yield Mistake(("assert", index, word), message)


def _emergency(owner: str, file: EmergencyFile) -> Emergency:
    grants = tuple(_grant(owner, file, ask) for ask in file.asks)
    return Emergency(file.id, title(file.title), grants, file.hours, frozenset(file.admins))


def _referral(file: ReferFile) -> Referral:
    return Referral(
        id=file.id,
        roster=file.roster,
        to=file.to,
        matter=file.matter,
        basis=file.basis,
        not_before=None if file.not_before is None else local_midnight(file.not_before),
        not_after=None if file.not_after is None else local_midnight(file.not_after),
    )


def _grant(owner: str, file: GrantFile | EmergencyFile, ask: Ask) -> Grant:
    return Grant(
        id=file.id,
        owner=owner,
        role=file.role,
        ask=ask,
        matter=file.matter,
        places=file.place,
        level=file.level,
        sensitivity=(SENSITIVITIES[0], SENSITIVITIES[-1])
        if file.sensitivity is None
        else (file.sensitivity[0], file.sensitivity[-1]),
        assurance=ASSURANCES[file.assurance],
        not_before=None if file.not_before is None else local_midnight(file.not_before),
        not_after=None if file.not_after is None else local_midnight(file.not_after),
    )


def _assertion(file: AssertFile) -> Assertion:
    ask = file.allow or file.deny
    assert ask is not None  # noqa: S101 # _check_assertions saw to it; this only tells mypy
    return Assertion(
        allow=file.allow is not None,
        ask=ask,
        role=file.role,
        matter=file.matter,
        place=file.place,
        level=file.level,
        assurance=None if file.assurance is None else ASSURANCES[file.assurance],
    )


def parse_suspensions(source: SourceFile) -> tuple[str, tuple[Suspension, ...]]:
    """suspend.toml: the department that it says it is of, and its entries.

    Raises:
        FileError: With every finding.
    """
    file = load(source, SuspendFile)
    mistakes = []
    seen: set[str] = set()
    for index, entry in enumerate(file.suspend):
        given = [key for key in ("system", "role", "official", "ask", "attribute") if getattr(entry, key) is not None]
        if not given:
            mistakes.append(Mistake(("suspend", index), "must name a system, role, official, ask or attribute"))
        if entry.ask is not None and entry.attribute is not None:
            mistakes.append(Mistake(("suspend", index, "attribute"), "stands beside ask, which names one already"))
        if entry.id in seen:
            mistakes.append(Mistake(("suspend", index, "id"), f"{entry.id} stands twice"))
        seen.add(entry.id)
        if entry.not_before and entry.not_after and entry.not_before >= entry.not_after:
            mistakes.append(Mistake(("suspend", index, "not_after"), "is not after not_before"))
    refuse(source, mistakes)
    return file.department, tuple(_suspension(file.department, entry) for entry in file.suspend)


def _suspension(department: str, file: SuspendEntry) -> Suspension:
    owner, attribute, predicate = asked(file.ask, file.attribute)
    return Suspension(
        id=file.id,
        department=department,
        system=file.system,
        role=file.role,
        official=file.official,
        owner=owner,
        attribute=attribute,
        predicate=predicate,
        not_before=None if file.not_before is None else local_midnight(file.not_before),
        not_after=None if file.not_after is None else local_midnight(file.not_after),
    )


def parse_activations(source: SourceFile) -> tuple[str, tuple[Activation, ...]]:
    """emergency.toml: the department that it says it is of, and what its admins have opened.

    Raises:
        FileError: With every finding.
    """
    file = load(source, ActivationFile)
    mistakes = []
    seen: set[str] = set()
    for index, entry in enumerate(file.activation):
        if entry.id in seen:
            mistakes.append(Mistake(("activation", index, "id"), f"{entry.id} stands twice"))
        seen.add(entry.id)
        if entry.since >= entry.until:
            mistakes.append(Mistake(("activation", index, "until"), "is not after since"))
    refuse(source, mistakes)
    found = []
    for entry in file.activation:
        owner, _, name = entry.emergency.partition("/")
        reason = bytes.fromhex(entry.reason)
        found.append(Activation(entry.id, file.department, owner, name, entry.since, entry.until, reason))
    return file.department, tuple(found)


def title(file: TitleFile) -> Title:
    """The model's title."""
    return Title(zh=file.zh, en=file.en)


def frozen(mapping: dict[str, T]) -> Mapping[str, T]:
    """A view that cannot be changed, over a dict that nobody else has."""
    return MappingProxyType(mapping)


def source_bytes(source: SourceFile) -> bytes:
    """The exact bytes of a file."""
    return source if isinstance(source, bytes) else source.read_bytes()


def refuse(source: SourceFile, mistakes: Iterable[Mistake]) -> None:
    """Raises what was found, by key and line; nothing if nothing was.

    Raises:
        FileError: With every finding.
    """
    findings = as_findings(source, mistakes)
    if findings:
        raise FileError(findings)
