"""The search database against a plain filter over every entry, whatever is asked and wherever the follower stands."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import audit_support as support
from adapter_support import ANNA
from audit import lookup, search
from audit.asking import query_of, request_of
from audit.entry import encode_entry
from audit.facts import Facts, facts_of
from audit.query import EVERYTHING, NOTHING, Query, Scope
from audit.search import SearchIndex
from audit.store import LogStore
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.errors import Reason, RefusedError

SYSTEMS = [f"spiffe://shenzhen/{name}" for name in ("edu/system/enrolment", "edu/system/points", "civil/system/cards")]
PLACES = ["nbs:4403", "nbs:440306", "nbs:440306001", "nbs:440305", "other:440306001", "not a place"]
OUTCOMES = [audit_pb2.OUTCOME_ANSWERED, audit_pb2.OUTCOME_DENIED, audit_pb2.OUTCOME_UNAVAILABLE]
BEGIN = 1_790_000_000
SEEDS = range(6)


def follow_all(index: SearchIndex) -> None:
    while index.follow():
        pass


RULES = (
    *("", "hrss/enrolment", "hrss/one,hrss/two", "hrss/emergency") * 3,
    "hrss/emergency/flood/edu-1",
    "police/emergency/fire/edu-2,police/emergency/fire/edu-3",
    "hrss/one,hrss/emergency/flood/edu-1",
    "hrss/one,+3",
)
"""What allowed a claim; a grant may be called emergency."""


def access(chance: random.Random) -> audit_pb2.HubAccess:
    owner = chance.choice(["hrss", "police", "health"])
    header = sealed_pb2.Header(
        system=chance.choice(SYSTEMS),
        official=f"clerk-{chance.randrange(30)}",
        role=chance.choice(["edu/clerk", "civil/clerk"]),
        matter=chance.choice(["school-enrolment", "senior-card"]),
        reference=f"2026-{chance.randrange(60):06d}",
        jurisdiction=chance.choice(PLACES),
        owner=owner,
        claims=[sealed_pb2.ClaimShape(attribute=chance.choice(["months", "age", "card"])) for _ in range(3)],
    )
    outcome = chance.choices(OUTCOMES, [90, 8, 2])[0]
    return audit_pb2.HubAccess(
        header=header.SerializeToString(),
        signature=bytes(64),
        sealed_hash=bytes(32),
        request_root=bytes(32),
        outcome=outcome,
        reason="" if outcome == audit_pb2.OUTCOME_ANSWERED else chance.choice(["NOT_GRANTED", "OWNER_FAILED"]),
        directory_version=chance.randrange(1, 4),
        rule_ids=[chance.choice(RULES) for _ in range(3)],
    )


class Filled:
    """A log with many accesses, its clock set back now and then; and its search database."""

    def __init__(self, directory: Path, seed: int, count: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a test's dice
        self._facts: list[Facts] = []
        self.now = float(BEGIN)
        self.path = directory / "search.db"
        self.store: LogStore = support.make_store(directory / "log.db")
        self.store._clock = lambda: self.now
        self.add(count)
        self.index = SearchIndex(self.path, self.store)

    def add(self, count: int) -> None:
        chance = self.chance
        entries = []
        for _ in range(count):
            self.now += chance.expovariate(1)
            if chance.random() < 0.02:
                self.now -= chance.uniform(0, 60)
            kind = chance.random()
            event: Any = access(chance)
            if kind < 0.1:
                event = audit_pb2.Refusal(reason="OVERLOADED", peer=chance.choice(SYSTEMS), count=3)
            elif kind < 0.2:
                event = support.event()
            entries.append(self.store.new_entry(event))
        with self.store.transaction() as connection:
            appended = self.store.append(connection, entries)
        self.store.committed(appended)

    @property
    def facts(self) -> list[Facts]:
        size = self.store.newest.size
        self._facts += [facts_of(data) for data in self.store.entries(len(self._facts), size - len(self._facts))]
        return self._facts

    def expected(self, query: Query, scope: Scope) -> list[int]:
        facts = self.facts
        return [i for i in range(len(facts) - 1, -1, -1) if query.admits(facts[i]) and scope.admits(facts[i])]

    def found(self, query: Query, scope: Scope = EVERYTHING, page: int = 7) -> list[int]:
        """Every page, to the end."""
        before, found = self.store.newest.size, []
        for _ in range(10_000):
            indexes, before = self.index.search(query, scope, before, page)
            assert len(indexes) <= page
            found += indexes
            if not before:
                return found
        raise AssertionError("a search that does not end")

    def close(self) -> None:
        self.index.close()
        support.close(self.store)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that every one of them is met."""
    monkeypatch.setattr(search, "GROUP", 90)
    for name, value in (("RARE", 20), ("LOOKED_AT", 40), ("CHUNK", 16)):
        monkeypatch.setattr(lookup, name, value)


@pytest.fixture
def filled(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Filled]:
    filled = Filled(tmp_path, getattr(request, "param", 1), 700)
    yield filled
    filled.close()
    support.check_log(tmp_path / "log.db")


@pytest.mark.parametrize(
    ("rules", "emergency"),
    [
        (["hrss/enrolment", "hrss/emergency/flood/edu-1"], "hrss/flood"),
        (["hrss/one,hrss/emergency/flood/edu-1"], ""),
        (["", "hrss/emergency/flood/edu-1,+3"], "hrss/flood"),
        (["hrss/emergency", "emergency/flood/edu-1"], ""),
        (["hrss/one,+3"], ""),
        ([], ""),
    ],
)
def test_an_access_is_marked_if_an_opened_emergency_alone_allowed_a_claim(rules: list[str], emergency: str) -> None:
    event = access(random.Random(1))  # noqa: S311 - a test's dice
    event.ClearField("rule_ids")
    event.rule_ids.extend(rules)
    assert facts_of(encode_entry(event, nonce=bytes(16), time=1)).emergency == emergency


def random_query(chance: random.Random) -> Query:
    fields: dict[str, Any] = {
        "event": ["hub_access", "refusal", "audit_read", "nothing_such"],
        "department": ["edu", "civil", "audit"],
        "system": SYSTEMS,
        "official": ["clerk-3", "clerk-17", "nobody"],
        "role": ["edu/clerk"],
        "matter": ["school-enrolment", "senior-card"],
        "reference": ["2026-000007", "2026-999999"],
        "place": ["nbs:4403", "nbs:440306", "nbs:440306001", "nbs:440399"],
        "owner": ["hrss", "police"],
        "attribute": ["hrss.months", "police.age", "hrss.nothing"],
        "outcome": ["ANSWERED", "DENIED", "UNAVAILABLE", "REFUSED"],
        "reason": ["NOT_GRANTED", "OVERLOADED"],
        "version": [1, 2],
        "header": ["0" * 12, "f" * 64],
        "emergency": [True],
    }
    chosen = chance.sample(sorted(fields), chance.choice([0, 1, 1, 2, 3]))
    times: dict[str, Any] = {}
    if chance.random() < 0.6:
        times["since"] = (BEGIN + chance.randrange(-10, 800)) * 1_000_000
    if chance.random() < 0.6:
        times["until"] = (BEGIN + chance.randrange(-10, 800)) * 1_000_000
    return Query(**{name: chance.choice(fields[name]) for name in chosen}, **times)


SCOPES = [
    EVERYTHING,
    NOTHING,
    Scope(department="edu"),
    Scope(department="hrss"),
    Scope(place="nbs:440306"),
    Scope(department="civil", place="nbs:440305"),
    Scope(department="unheard-of"),
]


@pytest.mark.parametrize("filled", SEEDS, indirect=True)
def test_a_search_finds_what_a_filter_over_every_entry_finds(filled: Filled, request: pytest.FixtureRequest) -> None:
    chance = random.Random(request.node.name)  # noqa: S311 - a test's dice
    late = [one for one, other in zip(filled.facts[1:], filled.facts, strict=False) if one.time < other.time]
    assert late
    for step in range(5):
        for _ in range(20):
            query, scope = random_query(chance), chance.choice(SCOPES)
            page = chance.choice([1, 3, 7, 1000])
            assert filled.found(query, scope, page) == filled.expected(query, scope), (step, query, scope)
        for digits in (8, 12, 13, 64):
            access = chance.choice([facts for facts in filled.facts if facts.header])
            for query in (Query(header=access.header[:digits]), Query(header=access.header[:digits], owner="hrss")):
                assert filled.found(query) == filled.expected(query, EVERYTHING)
        # The follower takes up a group, or the log grows past it.
        if step % 2:
            filled.add(150)
        filled.index.follow()


def test_the_index_follows_to_the_end_and_is_kept(filled: Filled) -> None:
    follow_all(filled.index)
    size = filled.index.size
    assert size == filled.store.newest.size
    filled.index.close()
    filled.index = SearchIndex(filled.path, filled.store)
    assert filled.index.size == size
    assert filled.found(Query(owner="hrss")) == filled.expected(Query(owner="hrss"), EVERYTHING)


def test_the_index_follows_what_another_process_appends(tmp_path: Path) -> None:
    store = support.make_store(tmp_path / "log.db")
    other = support.reopen(tmp_path / "log.db")
    index = SearchIndex(tmp_path / "search.db", store)
    follow_all(index)
    support.append(other, 7)
    follow_all(index)
    assert index.size == 8
    index.close()
    support.close(store, other)


def test_a_lost_damaged_or_foreign_search_database_is_made_anew(filled: Filled, tmp_path: Path) -> None:
    follow_all(filled.index)
    filled.index.close()
    other = tmp_path / "other"
    other.mkdir()
    stranger = Filled(other, 99, 50)
    follow_all(stranger.index)
    stranger.close()
    for damage in (b"", b"not a database", (other / "search.db").read_bytes()):
        filled.path.write_bytes(damage)
        filled.index = SearchIndex(filled.path, filled.store)
        assert filled.index.size == 0
        follow_all(filled.index)
        assert filled.found(Query(matter="senior-card")) == filled.expected(Query(matter="senior-card"), EVERYTHING)
        filled.index.close()
    filled.path.unlink()
    filled.index = SearchIndex(filled.path, filled.store)
    follow_all(filled.index)
    assert filled.index.size == filled.store.newest.size


def test_a_page_looks_at_a_bounded_number_of_rows_and_says_where_it_stopped(filled: Filled) -> None:
    follow_all(filled.index)
    query = Query(version=3, owner="hrss")
    pages, before = 0, filled.store.newest.size
    while before:
        indexes, before = filled.index.search(query, EVERYTHING, before, 10_000)
        assert len(indexes) <= lookup.LOOKED_AT
        pages += 1
    assert pages > 1


def test_what_is_asked_over_the_wire_is_what_was_meant() -> None:
    chance = random.Random(7)  # noqa: S311 - a test's dice
    for _ in range(200):
        query = random_query(chance)
        assert query_of(request_of(query)) == query


def test_a_condition_that_holds_a_citizens_identifier_is_refused_before_it_is_recorded() -> None:
    conditions: list[dict[str, Any]] = [{"reference": ANNA}, {"official": f"x-{ANNA}"}, {"reason": "a\nb"}]
    headers: list[dict[str, Any]] = [{"header": text} for text in ("abc", "g" * 8, "f" * 65, ANNA.lower(), f"{ANNA}ab")]
    for condition in (*conditions, {"matter": "m" * 300}, *headers):
        with pytest.raises(RefusedError) as refused:
            query_of(request_of(Query(**condition)))
        field = next(iter(condition)).replace("header", "header_hash")
        assert (refused.value.reason, refused.value.field) == (Reason.CONDITION_INVALID, field)
        assert ANNA not in str(refused.value)


def test_pages_tell_a_scoped_reader_of_no_entry_that_it_may_not_read(filled: Filled) -> None:
    follow_all(filled.index)
    scope = Scope(department="civil")
    own = set(filled.expected(Query(), scope))
    others = (Query(system=SYSTEMS[0]), Query(department="edu"), Query(official="clerk-3"), Query(version=2))
    for query in (Query(), *others):
        before = filled.store.newest.size
        while before:
            found, before = filled.index.search(query, scope, before, 3)
            assert set(found) <= own
            # Where a page stops is a place among its own entries, too.
            assert before == 0 or before in own


def test_however_many_entries_are_late_a_page_looks_at_few(tmp_path: Path) -> None:
    filled = Filled(tmp_path, 3, 5)
    filled.now += 1_000_000
    filled.add(1)
    filled.now -= 1_000_000
    filled.add(300)
    follow_all(filled.index)
    until = (BEGIN + 500_000) * 1_000_000
    assert filled.found(Query(until=until)) == filled.expected(Query(until=until), EVERYTHING)
    query = Query(until=until, reason="NOT_GRANTED", version=3)
    pages, before = 0, filled.store.newest.size
    while before:
        found, before = filled.index.search(query, EVERYTHING, before, 10_000)
        assert len(found) <= lookup.LOOKED_AT
        pages += 1
    assert pages > 5
    filled.close()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (audit_pb2.SearchRequest(directory_version=1 << 63), "directory_version"),
        (audit_pb2.SearchRequest(since_time=Timestamp(seconds=10**12)), "since_time"),
        (audit_pb2.SearchRequest(until_time=Timestamp(seconds=-(10**12))), "until_time"),
    ],
)
def test_a_number_beyond_all_is_refused(request_: audit_pb2.SearchRequest, field: str) -> None:
    with pytest.raises(RefusedError) as refused:
        query_of(request_)
    assert (refused.value.reason, refused.value.field) == (Reason.CONDITION_INVALID, field)
