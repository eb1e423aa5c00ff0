"""A draft as three files: mapping.toml, document.toml, adapter.toml. Pure.

What is certain enough stands; everything else is commented out such that taking "# " away from a line makes it valid,
with a word on what to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adapters.draft import Candidate, DraftSet

_SUBJECTS = {
    "person": ("该人", "this person"),
    "entity": ("该单位", "this entity"),
    "dwelling": ("该房屋", "this dwelling"),
}

_CELLS = {"integer": "[1]", "decimal": "[1]", "date": "[2000-01-01]"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is, as the mapping says it.

    Attributes:
        department: Whose.
        url: Without a password.
        password_file: File with it.
        hub: Address of the hub; None if nobody has said it.
        root: Pinned root directory, and
        identity: directory of the adapter's certificates, as the profile says them; None likewise.
    """

    department: str
    url: str
    password_file: str | None
    hub: str | None
    root: str | None = None
    identity: str | None = None


def chosen(sets: Sequence[DraftSet]) -> DraftSet | None:
    """The one data set whose `exists` is active, so that a draft can be checked at once."""
    own = [one for one in sets if not one.joined]
    return next((one for one in own if one.certain), own[0] if own else None)


def mapping_text(place: Place, sets: Sequence[DraftSet], left: Sequence[str]) -> str:
    """mapping.toml."""
    lines = [
        "# Drafted from the live schema, guessed by names and by what a sample of values looks like. Go through it",
        "# once: correct what is wrong, and take the leading # away from each attribute that is to be answered, here",
        "# and in document.toml. Then: zhiwang adapter check mapping.toml document.toml",
        "",
        f"department = {_text(place.department)}   # as in this department's certificates",
        "",
        "[database]",
        f"url           = {_text(place.url)}   # an account that only reads",
        *(
            [f"password_file = {_text(place.password_file)}   # its first line; the file is closed to others (0600)"]
            if place.password_file is not None
            else []
            if place.url.startswith("sqlite")
            else ['# password_file = "database.password"   # its first line; the file must be closed to others (0600)']
        ),
        "# connections = 4    # held at most",
    ]
    active = chosen(sets)
    for one in sets:
        lines += ["", "", *_data(one, active=not one.joined)]
        for candidate in one.candidates:
            live = one is active and candidate is one.candidates[0]
            lines += ["", *_commented(_mapped(one, candidate, explained=live), live=live)]
        if one.left:
            columns = ", ".join(f"{_plain(name)} ({_plain(kind)})" for name, kind in one.left)
            lines += ["", f"# No attribute drafted for: {columns}. An expression can convert them (CASE, CAST)."]
    if left:
        lines += [
            "",
            "",
            f"# No subject found in: {', '.join(map(_plain, left))}.",
            "# A table that refers to a person by a number of its own needs a SELECT that joins:",
            "# [data.name_of_it]",
            '# select  = "SELECT p.id_card, p.full_name, q.paid_on FROM payment q JOIN person p ON p.id = q.person_id"',
            '# subject = "id_card"',
        ]
    lines += ["", "", *_probe(place.department, active)]
    return "\n".join(lines) + "\n"


def document_text(place: Place, sets: Sequence[DraftSet]) -> str:
    """document.toml."""
    lines = [
        "# Drafted beside mapping.toml. This file becomes public: two of the department's admins sign it. What stands",
        "# here without a leading # is published; but nobody can ask it until a grant says so.",
        "",
        f"department = {_text(place.department)}",
        f"title      = {{ zh = {_text(place.department)}, en = {_text(place.department)} }}   # its full names",
        "",
        '# system.counter.roles = ["clerk"]   # programs of this department that ask others, and in which roles',
    ]
    active = chosen(sets)
    for one in sets:
        for candidate in one.candidates:
            live = one is active and candidate is one.candidates[0]
            lines += ["", *_commented(_published(one, candidate, explained=live), live=live)]
    owned = active.candidates[0] if active is not None else Candidate("name_of_attribute", "exists")
    lines += [
        "",
        "# Who may ask, for what, where and until when. Without a grant nobody may.",
        "# [[grant]]",
        f"# id         = {_text(owned.name.replace('_', '-') + '-1')}",
        '# role       = "edu/enrolment-clerk"   # a role of the department that asks',
        f"# ask        = {_text(f'{place.department}.{owned.name} {owned.asks}')}",
        '# matter     = "school-enrolment"      # a matter that the centre publishes',
        '# place      = "@self"                 # within the asking system\'s own jurisdiction; or "nbs:440306"',
        '# level      = "district"              # lowest level of a system that may ask',
        "# not_before = 2026-03-01              # 00:00 +08:00",
        "# not_after  = 2027-03-01              # exclusive",
    ]
    return "\n".join(lines) + "\n"


def profile_text(place: Place) -> str:
    """adapter.toml."""
    hub = place.hub or "hub.city:7440"
    return "\n".join(
        (
            "# Who this adapter is and whom it talks to. Paths are relative to this file.",
            f"hub      = [{_text(hub)}]" + ("" if place.hub else "   # write the hub's address"),
            f"root     = {_text(place.root or 'root')}   # ca.pem and root.json, as the centre handed them out",
            f"identity = {_text(place.identity or 'identity')}   # certificates of {place.department}/adapter/NAME",
            'state    = "state"   # made by: zhiwang adapter init',
            'listen   = "127.0.0.1:7442"   # the own log for auditors, health; mTLS',
            'metrics  = "127.0.0.1:7542"',
            "",
            "[adapter]",
            'mapping  = "mapping.toml"',
            'document = "document.toml"',
            "",
        )
    )


def _data(one: DraftSet, *, active: bool) -> list[str]:
    why = "name and values agree" if one.certain else "please look at the values"
    heading = [f"# {_plain(one.title)}: {one.kind} by {_plain(one.subject)}; {why}."]
    if one.joined:
        heading = [f"# {_plain(one.title)} refers to a {one.kind}; several rows of one subject are usual here."]
    elif not one.indexed:
        heading.append(f"# No index begins with {_plain(one.subject)}; `adapter check` prints the CREATE INDEX.")
    lines = [
        f"[data.{one.name}]",
        f"table   = {_text(one.table)}" if one.table is not None else f"select  = {_text(one.select or '')}",
        f"subject = {_text(one.subject)}",
    ]
    if one.named is not None:
        lines.append(f"name    = {_text(one.named)}   # a name that is asked for must be this one")
    if one.region is not None:
        column, sure = one.region
        region = f'region  = {{ column = {_text(column)}, codes = "nbs" }}   # write the column\'s own code system'
        lines.append(region if sure else f"# {region}")
    lines.append(
        f"# loaded = {_text(one.loaded)}   # if this tells when the data set was last loaded; max_age needs it"
        if one.loaded is not None
        else '# loaded = "SELECT max(loaded_at) FROM load_log"   # when the data set was last loaded; max_age needs it'
    )
    return [*heading, *_commented(lines, live=active)]


def _mapped(one: DraftSet, candidate: Candidate, *, explained: bool) -> Iterator[str]:
    yield f"[attribute.{candidate.name}]   # {_plain(candidate.of)}"
    yield f"data  = {_text(one.name)}"
    if candidate.value is not None:
        yield f"value = {_text(candidate.value)}"
    if candidate.valid is not None:
        yield f"valid = {{ from = {_text(candidate.valid[0])}, to = {_text(candidate.valid[1])} }}   # null is UNKNOWN"
    if one.joined or candidate.asks == "related":
        yield 'rows  = "any"'
    if explained:
        yield '# where = "voided = 0"   # only rows that count; all if left out'
        yield '# rows  = "any"          # one true row is YES; "one", the default: rows that disagree are UNKNOWN'


def _published(one: DraftSet, candidate: Candidate, *, explained: bool) -> Iterator[str]:
    zh, en = _question(one, candidate)
    yield f"[attribute.{candidate.name}]   # {_plain(one.title)}: {_plain(candidate.of)}"
    note = "   # the whole question, as an official would ask it" if explained else ""
    yield f"title       = {{ zh = {_text(zh)}, en = {_text(en)} }}{note}"
    yield f"subject     = {_text(one.kind)}"
    if candidate.type:
        yield f"type        = {_text(candidate.type)}"
    if candidate.asks == "at_least":
        yield f"at_least    = {_CELLS[candidate.type]}   # write the thresholds that may be asked for, rising"
    else:
        yield f"asks        = [{_text(candidate.asks)}]"
    yield "sensitivity = 3" + ("               # 1 little to 5 most" if explained else "")
    if explained:
        yield '# max_age   = "45d"           # older data is UNKNOWN; the mapping then needs loaded'
        yield '# counter   = "0755-00000000" # who explains and corrects a wrong answer'


def _question(one: DraftSet, candidate: Candidate) -> tuple[str, str]:
    zh, en = _SUBJECTS[one.kind]
    table, of = _plain(one.title), _plain(candidate.of)
    if candidate.asks == "exists":
        return f"{table} 中是否有{zh}的记录？", f"Is there a record of {en} in {table}?"
    if candidate.asks == "valid":
        return f"基准日{zh}在 {table} 中的记录是否在有效期内？", f"Is the record of {en} in {table} valid on the date?"
    if candidate.asks == "related":
        return f"对方是否为{zh}的 {of}？", f"Is the other one the {of} of {en}?"
    if candidate.asks == "at_least":
        return f"{zh}的 {of} 是否达到 N？", f"Is {of} of {en} at least N?"
    return f"{zh}的 {of} 是否一致？", f"Is this the {of} of {en}?"


def _probe(department: str, active: DraftSet | None) -> list[str]:
    claim = f"{department}.{active.candidates[0].name} exists" if active is not None else f"{department}.NAME exists"
    return [
        "# Questions with known answers, asked at start and every hour, so that somebody notices when a column changes",
        "# its meaning. Put a test subject of your own into the table, and ask about it.",
        "# [[probe]]",
        f"# claim   = {_text(claim)}",
        '# subject = "440399199001010011"',
        '# answer  = "YES"',
    ]


def _commented(lines: Iterable[str], *, live: bool) -> Iterator[str]:
    return (line if live else f"# {line}" for line in lines)


def _plain(name: str) -> str:
    """A name of the database within a comment or a question: on one line, whatever it is."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", name)


def _text(value: str) -> str:
    """A TOML string: as it is between single quotes where that reads better, else with JSON's escapes, which TOML has.

    DEL alone must be escaped besides.
    """
    if ('"' in value or "\\" in value) and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
