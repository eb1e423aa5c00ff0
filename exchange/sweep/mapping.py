"""Which column of a roster is what: who stands in which slot, what is compared, and which column names the row.

    key    = "申请编号"
    claims = ["child: health.parent related @guardian", "child: police.name equals {儿童姓名}"]
    keep   = ["街道"]

    [[subject]]
    slot       = "child"
    identifier = "儿童身份证号"
    name       = "儿童姓名"

A column in braces stands for its text in each row. Without claims those of the matter are asked. Pure: the file is read
by `zhiwang.wire.tomlfile`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from policy.model import Matter
from zhiwang.wire.claims import Claim
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.tomlfile import StrictModel

Heading = Annotated[str, Field(min_length=1, max_length=128)]

_COLUMN = re.compile(r"\{([^{}]+)\}$")
_STANDING_FOR_TEXT = "x"


class MappingError(Exception):
    """A mapping does not fit; its text says what to change."""


class SubjectColumns(StrictModel):
    """[[subject]]: who stands in a slot.

    Attributes:
        slot: Slot of the matter. Several for one slot give several subjects, in this order.
        identifier: Heading of the column with the identifier.
        name: Heading of the column with the name; without it no name is given.
    """

    slot: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    identifier: Heading
    name: Heading | None = None


class RosterColumns(StrictModel):
    """The file as it is written.

    Attributes:
        key: Heading of the column that names a row in the results; without it the row's number does.
        subject: Who is asked about.
        claims: What is asked; empty for all claims of the matter.
        keep: Headings of columns that are copied into the results.
    """

    key: Heading | None = None
    subject: tuple[SubjectColumns, ...] = ()
    claims: tuple[Annotated[str, Field(min_length=1, max_length=512)], ...] = ()
    keep: tuple[Heading, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        found = [self.key] if self.key is not None else []
        for one in self.subject:
            found += [one.identifier, *([one.name] if one.name is not None else [])]
        found += [template.column for template in map(template_of, self.claims) if template.column is not None]
        return tuple(dict.fromkeys((*found, *self.keep)))

    def as_json(self) -> str:
        """Always the same text for the same mapping."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)

    def as_toml(self) -> str:
        """As a person would write it."""
        lines = [f"key    = {_quoted(self.key)}"] if self.key is not None else []
        lines += [f"claims = [{', '.join(map(_quoted, self.claims))}]"] if self.claims else []
        lines += [f"keep   = [{', '.join(map(_quoted, self.keep))}]"] if self.keep else []
        for one in self.subject:
            lines += ["", "[[subject]]", f"slot       = {_quoted(one.slot)}"]
            lines += [f"identifier = {_quoted(one.identifier)}"]
            lines += [f"name       = {_quoted(one.name)}"] if one.name is not None else []
        return "\n".join(lines)


class Template(NamedTuple):
    """A claim whose compared text may come from a column.

    Attributes:
        text: As it was written.
        claim: Parsed; with a letter for the text of a column.
        head: What stands before that text; the whole claim if there is none.
        column: Heading of the column; None for a claim that is the same in every row.
        only: A slot and which of its subjects in a row; such a claim is asked when something wants it, in a case of
            that subject alone. None for a claim that is asked of every row, about everybody.
    """

    text: str
    claim: Claim
    head: str
    column: str | None
    only: tuple[str, int] | None = None

    def label(self, value: str | None) -> str:
        """The claim of one row."""
        return self.head if self.column is None else f"{self.head}{value}"


def template_of(text: str) -> Template:
    """Read a claim.

    Raises:
        MappingError: It is none.
    """
    found = _COLUMN.search(text)
    head = text[: found.start()] if found is not None else text
    try:
        claim = Claim.parse(f"{head}{_STANDING_FOR_TEXT}" if found is not None else text)
    except RefusedError as error:
        raise MappingError(f"a claim does not follow docs/claims.md: {error.detail}") from None
    if found is not None and claim.text is None:
        raise MappingError("a column in braces stands behind equals or related only")
    return Template(text, claim, head, None if found is None else found[1])


def templates_of(columns: RosterColumns, matter: Matter) -> tuple[Template, ...]:
    """What is asked about each row.

    Raises:
        MappingError: A claim or a subject does not fit the matter, or a comparison stands twice.
    """
    templates = tuple(map(template_of, columns.claims or tuple(str(claim) for claim in matter.claims.values())))
    if not templates:
        raise MappingError("the matter names no claims; say with --claim what to ask")
    only = next(iter(matter.slots)) if len(matter.slots) == 1 else None
    seen = set()
    for template in templates:
        claim = template.claim
        for slot in (claim.slot or only, *([claim.compared_slot] if claim.compared_slot else [])):
            if slot not in matter.slots:
                raise MappingError(f"the claim about {claim.owner}.{claim.attribute} names no slot of the matter")
        place = (claim.slot or only, claim.owner, claim.attribute, claim.predicate, claim.cell, claim.compared_slot)
        if place in seen:
            raise MappingError(f"{claim.owner}.{claim.attribute} {claim.predicate} is asked twice about one subject")
        seen.add(place)
    for slot, count in _counts(columns).items():
        if slot not in matter.slots:
            raise MappingError(f"the matter has no slot {slot}; it has {', '.join(matter.slots)}")
        if count > matter.slots[slot].up_to:
            raise MappingError(f"slot {slot} takes {matter.slots[slot].up_to} subjects, and {count} are mapped")
    if not columns.subject:
        raise MappingError("no column is mapped to a slot")
    return templates


def subjects_from(texts: Sequence[str]) -> tuple[SubjectColumns, ...]:
    """Subjects as options give them, SLOT=HEADING[,HEADING OF THE NAME].

    Raises:
        MappingError: One is not of that form.
    """
    found = []
    for text in texts:
        slot, equals, rest = text.partition("=")
        identifier, _, name = rest.replace("，", ",", 1).partition(",")
        if not (equals and identifier.strip() and re.fullmatch(r"[a-z][a-z0-9_]*", slot)):
            raise MappingError("write --subject SLOT=HEADING[,HEADING OF THE NAME]")
        found.append(SubjectColumns(slot=slot, identifier=identifier.strip(), name=name.strip() or None))
    return tuple(found)


def instances(columns: RosterColumns, matter: Matter, template: Template) -> list[tuple[int, int]]:
    """Ordinals of a claim's subjects and compared subjects, as rows with everybody in their slots have them."""
    counts = _counts(columns)
    only = next(iter(matter.slots)) if len(matter.slots) == 1 else None
    slot, compared = template.claim.slot or only or "", template.claim.compared_slot
    own = counts.get(slot, 0) or 1
    if compared is None:
        return [(ordinal, 0) for ordinal in range(own)]
    others = counts.get(compared, 0) or 1
    alone = slot != compared or own == 1
    return [(ordinal, other) for ordinal in range(own) for other in range(others) if alone or ordinal != other]


def _counts(columns: RosterColumns) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for one in columns.subject:
        counts[one.slot] = counts.get(one.slot, 0) + 1
    return counts


def _quoted(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False)
