"""What a sweep would do, without asking anything: calls, denials, caps, what runs out meanwhile, and how long it takes.

Denials are decided by the very code by which the hub decides. Caps are an owner's own and private; what stands here are
rows beyond those that an owner has who says nothing, within this roster alone: earlier guesses count as well. Whom a
roster guesses about is held in a private temporary file, under keyed hashes, while this runs.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from certs.owner_keys import VerifiedOwnerKey
from exchange.client.case import Context
from exchange.client.plan import Part, Plan, Prepared
from exchange.client.roster import chunk_size
from exchange.sweep.asking import SweepClient
from exchange.sweep.cases import CaseReader, Trouble, key_hash
from exchange.sweep.rosters import Roster
from exchange.sweep.running import in_groups
from policy.authorise import authorise
from zhiwang.wire import caps
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.header import SALT_SIZE
from zhiwang.wire.records import SubjectRecord

MAX_SHAPES: Final = 1024
"""Shapes of cases that are told apart; a roster has a handful."""

NAMES: Final = "(names)"
"""What stands in a cap for the names of subjects: no attribute is called so."""

_HASH: Final = 12


class Denial(NamedTuple):
    """A claim that would be denied.

    Attributes:
        owner: Department.
        claim: As its attribute and predicate.
        reason: Why.
        rules: Which rules say so.
        rows: In how many rows.
    """

    owner: str
    claim: str
    reason: str
    rules: str
    rows: int


class Cap(NamedTuple):
    """Guesses beyond what an owner admits that says nothing.

    Attributes:
        owner: Department.
        what: `NAMES`, or the attribute whose values are compared.
        cap: How many distinct ones are admitted for one subject.
        subjects: About how many subjects there are more.
    """

    owner: str
    what: str
    cap: int
    subjects: int


class Ending(NamedTuple):
    """Something that runs out.

    Attributes:
        time: Seconds since the epoch.
        remedy: What renews it.
    """

    what: str
    time: float
    remedy: str


class Search(NamedTuple):
    """A search for a number, asked on by the answers.

    Attributes:
        owner: Of the number.
        slot: Whose number it is.
        rounds: How often one subject is asked about, at most, beside the claim by which it begins.
    """

    owner: str
    slot: str
    rounds: int


@dataclass(slots=True)
class SweepPlan:
    """What would happen.

    Attributes:
        rows: Of the roster.
        not_asked: Rows that cannot be asked, by reason.
        calls: Sealed requests to each owner.
        claims: Answers that each owner would give.
        away: Owners that are not attached now.
        denials: What would be denied.
        caps: Where guesses are more than an owner admits that says nothing.
        endings: What runs out, the first first; all of it where the end is unknown, else what ends before it.
        seconds: How long it takes; None if no rate is known.
        search: What is asked on by the answers; None if nothing is.
        searched: How many answers more that can be at most; nobody is searched about who cannot count.
    """

    rows: int = 0
    not_asked: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    claims: Counter[str] = field(default_factory=Counter)
    away: list[str] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    caps: list[Cap] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    seconds: float | None = None
    search: Search | None = None
    searched: int = 0


def plan_sweep(
    client: SweepClient,
    roster: Roster,
    reader: CaseReader,
    context: Context,
    *,
    keys: Mapping[str, VerifiedOwnerKey],
    rate: float | None,
    now: float,
    search: Search | None = None,
) -> SweepPlan:
    """Work a sweep out.

    Args:
        client: As whom it would be asked.
        roster: Who would be asked about.
        reader: Of its rows.
        context: Why.
        keys: The owners' sealing keys.
        rate: Rows a second; None if nobody knows.
        now: Seconds since the epoch.
        search: What is asked on by the answers.

    Raises:
        TableError: The roster cannot be read.
        RefusedError: The context cannot be asked under at all.
    """
    plan = SweepPlan(search=search)
    shapes: dict[int, tuple[Plan, int]] = {}
    with closing(sqlite3.connect("")) as connection:
        guesses = _Guesses(connection)
        for prepared in _prepared(client, roster, reader, context, plan, guesses):
            known = shapes.get(id(prepared.plan), (prepared.plan, 0))
            if known[1] or len(shapes) < MAX_SHAPES:
                shapes[id(prepared.plan)] = known[0], known[1] + 1
            guesses.add(prepared)
            if search is not None:
                plan.searched += search.rounds * len(prepared.subjects.get(search.slot, ()))
        plan.caps = guesses.beyond()
    granting: set[str] = set()
    denied: Counter[tuple[str, str, str, str]] = Counter()
    for shape, count in shapes.values():
        for part in shape.parts:
            plan.calls[part.owner] += -(-count // chunk_size(shape))
            plan.claims[part.owner] += count * part.columns
            rules = _decide(client, part, context, now)
            for claim, (reason, ids) in rules.items():
                if reason is None:
                    granting.update(ids)
                else:
                    denied[part.owner, claim, reason.name, ", ".join(ids)] += count
    keys = {owner: key for owner, key in keys.items() if owner in plan.calls}
    plan.away = sorted(set(plan.calls) - set(keys))
    plan.denials = [Denial(*key, count) for key, count in sorted(denied.items())]
    asked = plan.rows - sum(plan.not_asked.values())
    plan.seconds = asked / rate if rate else None
    end = None if plan.seconds is None else now + plan.seconds
    plan.endings = sorted(
        (one for one in _endings(client, granting, keys) if end is None or one.time < end), key=lambda one: one.time
    )
    return plan


def _prepared(
    client: SweepClient, roster: Roster, reader: CaseReader, context: Context, plan: SweepPlan, guesses: _Guesses
) -> Iterator[Prepared]:
    """Cases of the rows that can be asked; the others are counted."""
    for group in in_groups(roster, reader):
        for record in group:
            plan.rows += 1
            row = reader.read(record)
            if row.case is None:
                plan.not_asked[row.trouble.name if row.trouble is not None else ""] += 1
            elif reader.columns.key is not None and not guesses.first(key_hash(row.key)):
                plan.not_asked[Trouble.KEY_TWICE.name] += 1
            else:
                try:
                    prepared = client.prepare(row.case, context)
                except RefusedError as error:
                    plan.not_asked[error.reason.name] += 1
                else:
                    yield prepared


def _decide(
    client: SweepClient, part: Part, context: Context, now: float
) -> dict[str, tuple[Reason | None, Sequence[str]]]:
    """Of each claim why it would be denied, None if it would not; and by which rules."""
    header = client.header(part, context, now)
    texts = [f"{part.owner}.{one.attribute} {one.predicate} {one.cell}".strip() for one in header.claims]
    reason = Reason.NOT_GRANTED
    if part.known:
        try:
            found = authorise(client.enforcer, header, client.identity, now)
        except RefusedError as error:
            reason = error.reason
        else:
            pairs = zip(texts, found.decisions, strict=True)
            return {text: (None if one.allowed else one.reason, one.rule_ids) for text, one in pairs}
    return dict.fromkeys(texts, (reason, ()))


def _endings(client: SweepClient, granting: set[str], keys: Mapping[str, VerifiedOwnerKey]) -> Iterator[Ending]:
    """Everything on which the sweep depends that runs out by itself."""
    for one in client.expiries():
        yield Ending(one.what, one.time, one.remedy)
    directory = client.directory
    for document in directory.documents.values():
        for grant in document.grants:
            rule = f"{grant.owner}/{grant.id}"
            if rule in granting and grant.not_after is not None:
                yield Ending(f"the grant {rule}", grant.not_after, f"{grant.owner} publishes it anew, for longer")
    for owner, key in keys.items():
        yield Ending(f"the sealing key of {owner}", key.not_after, "its adapter makes the next one by itself")


class _Guesses:
    """Distinct guesses about each subject, in a private temporary file.

    Args:
        connection: To a temporary database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._key = os.urandom(32)
        connection.execute("CREATE TABLE key (hash BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute(
            "CREATE TABLE guess (owner TEXT, what TEXT, subject BLOB, value BLOB, "
            "PRIMARY KEY (owner, what, subject, value)) WITHOUT ROWID"
        )

    def first(self, key: bytes) -> bool:
        """Whether a row's key is new."""
        return self._connection.execute("INSERT OR IGNORE INTO key VALUES (?)", (key,)).rowcount == 1

    def add(self, prepared: Prepared) -> None:
        """The guesses of one row."""
        rows = []
        for part in prepared.plan.parts:
            for slot, ordinal in part.places:
                there = prepared.subjects.get(slot, ())
                if ordinal < len(there) and there[ordinal].name:
                    rows.append((part.owner, NAMES, self._hash(there[ordinal]), self._hash(there[ordinal].name)))
            record = part.record(prepared, bytes(SALT_SIZE))
            for claim in part.header.claims:
                subject = record.subjects[claim.slot]
                value: object = None
                if claim.HasField("compared_slot"):
                    value = record.subjects[claim.compared_slot]
                elif claim.HasField("compared_value"):
                    value = record.values[claim.compared_value]
                if subject is not None and value is not None:
                    rows.append((part.owner, claim.attribute, self._hash(subject), self._hash(value)))
        if rows:
            self._connection.executemany("INSERT OR IGNORE INTO guess VALUES (?, ?, ?, ?)", rows)

    def beyond(self) -> list[Cap]:
        """Where there are more than an owner admits that says nothing."""
        found = self._connection.execute(
            "SELECT owner, what, count(*) FROM (SELECT owner, what FROM guess GROUP BY owner, what, subject "
            "HAVING count(*) > CASE what WHEN ? THEN ? ELSE ? END) GROUP BY owner, what",
            (NAMES, caps.NAMES, caps.VALUES),
        )
        return [Cap(owner, what, caps.NAMES if what == NAMES else caps.VALUES, count) for owner, what, count in found]

    def _hash(self, value: object) -> bytes:
        text = value if isinstance(value, str) else _subject_text(value)
        return blake2b(text.encode(), key=self._key, digest_size=_HASH).digest()


def _subject_text(value: object) -> str:
    if not isinstance(value, SubjectRecord):
        raise TypeError
    return f"{value.kind}\0{value.identifier}"
